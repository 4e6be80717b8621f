"""The threshold cascade (FrugalGPT, Chen et al., arXiv 2305.05176): ask a cheap arm, keep its answer if it looks good.

Arms L_1, …, L_m are asked in turn; L_i's answer stands if its score is at least a threshold, the last one's anyway
(their §3). The score is `PostHoc`'s chance that the answer is right given those before it. Arms and threshold are
chosen for every λ, in each large domain, by their mean reward on the training queries. Chosen among hundreds, a chain
may owe its place to luck: how long one may be, at each λ, is decided by what choices made on some training queries earn
on the others. At today's prices the best of the chosen chains, and of single arms, is taken.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import ClassVar, NamedTuple

import numpy as np

from xrouter_sim.engine.episodes import Observation
from xrouter_sim.engine.semantics import NO_CALL, Action, Final
from xrouter_sim.replay import Bools, Floats, Ints, Replay
from xrouter_sim.reward import SETTINGS, reward
from xrouter_sim.routers.base import Kind, Router, callable_arms
from xrouter_sim.routers.posthoc import Drawn, PostHoc, draw_responses, seen_so_far, shortlist
from xrouter_sim.routers.prior import FOLDS

CHAIN = 3
CANDIDATES = 8
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.96, 0.98)
"""One for all arms of a chain: the scores are chances, so they mean the same for each."""
PENALTIES = np.array(SETTINGS)
"""λ for which chains are chosen; others take the nearest one's length."""


class Plan(NamedTuple):
    """A chain with its threshold, and how it fares on n training queries."""

    chain: tuple[int, ...]
    threshold: float
    score: Floats  # [n]
    called: Floats  # [n, A] 1 where the arm is called


class Cascade(Router):
    """Walks a chain of arms until an answer looks good enough."""

    name = "cascade"
    kind: ClassVar[Kind] = "sequential"
    reads = ("query text", "domain", "pool", "prices", "penalty", "answers", "errors")
    longest: Ints  # [len(PENALTIES)] arms in a chain at most
    chains: Ints  # [P, CHAIN] arms of each plan that was chosen for some λ and domain, NO_CALL behind the last
    thresholds: Floats  # [P]
    worth: Floats  # [groups, P] mean score
    bill: Floats  # [groups, P, A] USD at list price of each arm, weighted by the score that it led to

    def fit(self, replay: Replay, queries: Ints, cost_unit: float, seed: int) -> None:
        self.cost_unit, self.model_of_arm = cost_unit, replay.model_of_arm
        self.posthoc = PostHoc.fit(replay, queries, cost_unit, seed)
        drawn = draw_responses(replay, queries, seed)
        group, fold = self.posthoc.group[queries], self.posthoc.fold[queries]
        plans = list(self._plans(drawn, shortlist(drawn, group, CANDIDATES)))
        cell = np.equal.outer(group * FOLDS + fold, np.arange(self.posthoc.groups * FOLDS)).astype(np.float64)
        paid = ((plan.called * drawn.cost).sum(axis=1) for plan in plans)
        earned = [
            reward(plan.score, cost, PENALTIES[:, None], cost_unit) @ cell
            for plan, cost in zip(plans, paid, strict=True)
        ]
        shape = (len(plans), len(PENALTIES), self.posthoc.groups, FOLDS)
        chosen = self._choose(plans, np.stack(earned).reshape(shape))
        self._keep([plans[number] for number in chosen], drawn, group)

    def _plans(self, drawn: Drawn, candidates: list[int]) -> Iterator[Plan]:
        """Every single arm, then every chain of candidates, the dearer arm later, with every threshold."""
        arms = np.arange(drawn.score.shape[1])
        for arm in arms:
            yield Plan((int(arm),), 0.0, drawn.score[:, arm], np.tile(arms == arm, (len(drawn.score), 1)) * 1.0)
        looks = {
            chain: self.posthoc(drawn.seen.only(np.isin(arms, chain)))[:, chain[-1]]
            for length in range(1, CHAIN)
            for chain in combinations(candidates, length)
        }
        for length in range(2, CHAIN + 1):
            for chain in combinations(candidates, length):
                for threshold in THRESHOLDS:
                    yield _walked(chain, threshold, [looks[chain[:place]] for place in range(1, length)], drawn)

    def _choose(self, plans: list[Plan], earned: Floats) -> Ints:
        """Numbers of the plans that are best for some λ and domain; `earned` [P, λ, groups, FOLDS] are sums."""
        length = np.array([len(plan.chain) for plan in plans])
        values = np.empty((CHAIN, len(PENALTIES)))
        for most in range(1, CHAIN + 1):
            sums = earned[length <= most]
            best_elsewhere = (sums.sum(axis=3, keepdims=True) - sums).argmax(axis=0)
            values[most - 1] = np.take_along_axis(sums, best_elsewhere[None], axis=0)[0].sum(axis=(1, 2))
        # What holds at a λ should hold at its neighbours: three figures are less noisy than one.
        around = np.pad(values, ((0, 0), (1, 1)), mode="edge")
        self.longest = 1 + (around[:, :-2] + around[:, 1:-1] + around[:, 2:]).argmax(axis=0)
        allowed = length[:, None] <= self.longest
        best = np.where(allowed[:, :, None], earned.sum(axis=3), -np.inf).argmax(axis=0)
        return np.unique([*np.flatnonzero(length == 1), *best.flat])

    def _keep(self, plans: list[Plan], drawn: Drawn, group: Ints) -> None:
        self.chains = np.array([[*plan.chain, *[NO_CALL] * (CHAIN - len(plan.chain))] for plan in plans])
        self.thresholds = np.array([plan.threshold for plan in plans])
        members = np.equal.outer(np.arange(self.posthoc.groups), group).astype(np.float64)
        members[members.sum(axis=1) == 0] = 1.0  # a domain that was not met is like all of them
        members /= members.sum(axis=1, keepdims=True)
        self.worth = np.stack([members @ plan.score for plan in plans], axis=1)
        bills = [members @ (plan.score[:, None] * plan.called * drawn.cost) for plan in plans]
        self.bill = np.stack(bills, axis=1)

    def act(self, observation: Observation) -> Action:
        rows = np.arange(len(observation))
        seen, slot = seen_so_far(observation, len(self.model_of_arm))
        quality = self.posthoc(seen)
        value = self._value(observation)
        may_call = callable_arms(observation, self.model_of_arm)
        plan = np.where(self._on_offer(observation), value, -np.inf).argmax(axis=1)
        newest = (observation.arm != NO_CALL).sum(axis=1) - 1
        arm = observation.arm[rows, newest]
        looks_good = observation.ok[rows, newest] & (quality[rows, arm] >= self.thresholds[plan])
        chain = self.chains[plan]
        left = (chain != NO_CALL) & may_call[rows[:, None], chain]
        # The next arm of the chain; behind its end, while nothing usable has come, the best single arm that is left.
        other = np.where(may_call, value[:, : may_call.shape[1]], -np.inf).argmax(axis=1)
        following = np.where(left.any(axis=1), chain[rows, left.argmax(axis=1)], other)
        usable = seen.ok.any(axis=1)
        stops = usable & (looks_good | ~left.any(axis=1) | observation.last_turn)
        answer = np.where(looks_good, newest, slot[rows, np.where(seen.ok, quality, -1.0).argmax(axis=1)])
        ends = (left.sum(axis=1) <= 1) | observation.last_turn
        final = np.where(stops, answer, np.where(ends, int(Final.ADOPT), int(Final.CONTINUE)))
        return Action(np.where(stops | ~may_call.any(axis=1), NO_CALL, following)[:, None], final)

    def _value(self, observation: Observation) -> Floats:
        """[B, P] what each plan earns on queries like this one at today's prices; single arms come first, in order."""
        group = self.posthoc.group[observation.query]
        price = observation.price[:, self.model_of_arm]
        worth = self.worth[group]
        cost = np.einsum("bpa,ba->bp", self.bill[group], price) / np.maximum(worth, 1e-9)
        value = reward(worth, cost, observation.penalty[:, None], self.cost_unit) - 1e-9 * cost / self.cost_unit
        setting = np.abs(observation.penalty[:, None] - PENALTIES).argmin(axis=1)
        too_long = (self.chains != NO_CALL).sum(axis=1) > self.longest[setting][:, None]
        return np.where(too_long, -np.inf, value)

    def _on_offer(self, observation: Observation) -> Bools:
        """[B, P] whether all arms of a plan are."""
        offered = observation.on_offer[:, self.model_of_arm]
        every: Bools = (offered[:, self.chains] | (self.chains == NO_CALL)).all(axis=2)
        return every


def _walked(chain: tuple[int, ...], threshold: float, looks: list[Floats], drawn: Drawn) -> Plan:
    """How a chain fares, given the scores [n] of the answers of all its arms but the last."""
    called = np.zeros_like(drawn.score)
    goes_on = np.ones(len(called), np.bool_)
    score = np.zeros(len(called))
    for place, arm in enumerate(chain):
        called[goes_on, arm] = 1.0
        last = place == len(chain) - 1
        stops = goes_on if last else goes_on & drawn.seen.ok[:, arm] & (looks[place] >= threshold)
        score[stops] = drawn.score[stops, arm]
        goes_on = goes_on & ~stops
    return Plan(chain, threshold, score, called)
