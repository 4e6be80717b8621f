"""AutoMix (Aggarwal, Madaan et al., NeurIPS 2024, arXiv 2310.12963): a cheap model answers, the answer is verified, and
a meta-verifier, which knows how far to trust the verification, decides whether a dearer model is asked.

The POMDP. What is hidden is which arms of the chain are right, a state s. What is observed is each verification's
outcome, discretised. The belief over states starts as the training queries' frequencies in the domain, and follows

    b(s | o_1) ∝ b(s) · P(o_1 | s),    b(s | o_1, o_2) ∝ b(s | o_1) · P(o_2 | o_1, s)

with both tables counted on training queries. Keeping an answer is worth the reward it is expected to earn; asking the
next arm what the best choice after its verification is. A chain has three arms at most, so this is worked out exactly.
The other meta-verifier of the paper is a threshold on the verification.

What differs from the paper: it lets the small model verify itself, in eight samples of a few-shot prompt. No store here
holds such samples, so the verification is `PostHoc`'s chance that the answer is right: by the response itself, by the
answers that came before, and, where that pays, by agreement with an independent cheap arm, the verifier, which is
called along with the first arm and paid for. Chain and verifier are chosen for every λ, in each large domain, on a cut
of the training queries, while the tables rest on the others; one arm alone is a chain too. What is maximised is the
reward here, not quality − λ · cost. The chain is chosen at list prices: today's count for what is asked after the first
answer alone, as the paper's chain is fixed beforehand.
"""

from collections.abc import Iterator
from itertools import combinations, product
from typing import ClassVar

import numpy as np

from xrouter_sim.engine.episodes import Observation
from xrouter_sim.engine.randomness import Purpose, draw
from xrouter_sim.engine.semantics import NO_CALL, Action, Final
from xrouter_sim.replay import Bools, Floats, Ints, Replay
from xrouter_sim.reward import SETTINGS, reward
from xrouter_sim.routers.base import Kind, Router, callable_arms
from xrouter_sim.routers.beliefs import BINS, UNKNOWN, Beliefs, Bill, Chain
from xrouter_sim.routers.posthoc import Drawn, PostHoc, Seen, draw_responses, seen_so_far, shortlist
from xrouter_sim.routers.smoothers import simplest_within_one_standard_error

LONGEST = 3
CANDIDATES = 6
VERIFIERS = 3
"""Arms in a chain, arms that chains are made of, and how many of the cheapest of these may verify."""

ONE_IN = 3
"""Training queries of which one is in the cut that chains are chosen on."""

FEW = 30
"""Queries of a domain in the cut, below which the choice is made on all of them."""

PENALTIES = np.array(SETTINGS)
"""λ for which chains are chosen; others take the nearest one's."""


class AutoMix(Router):
    """Asks, verifies, and goes on where by what it believes that pays."""

    name = "automix"
    kind: ClassVar[Kind] = "sequential"
    reads = ("query text", "domain", "pool", "prices", "penalty", "answers", "errors")
    thresholds: ClassVar[tuple[int, ...]] = (0,)
    chains: list[Chain]
    beliefs: list[Beliefs]  # of each chain
    chosen: Ints  # [len(PENALTIES), groups] the number of a chain

    def fit(self, replay: Replay, queries: Ints, cost_unit: float, seed: int) -> None:
        self.cost_unit, self.model_of_arm = cost_unit, replay.model_of_arm
        self.posthoc = PostHoc.fit(replay, queries, cost_unit, seed)
        drawn = draw_responses(replay, queries, seed)
        group, groups = self.posthoc.group[queries], self.posthoc.groups
        cut = draw(seed, Purpose.SPLIT, np.arange(len(queries))) % ONE_IN == 0
        looks: dict[tuple[int, ...], Floats] = {}
        self.chains, self.beliefs, earned = [], [], []
        for chain in self._possible(shortlist(drawn, group, CANDIDATES), replay.arms):
            chance, score = self._verifications(chain, drawn, looks), drawn.score[:, list(chain.arms)]
            known = Beliefs.fit(chance[~cut], score[~cut], group[~cut], groups)
            earned.append(self._earned(chain, known, chance[cut], drawn, np.flatnonzero(cut)))
            self.chains.append(chain)
            self.beliefs.append(Beliefs.fit(chance, score, group, groups))
        self._choose(np.array(earned), group[cut])

    def _possible(self, candidates: list[int], arms: int) -> Iterator[Chain]:
        """Single arms, then every chain of candidates, the dearer arm later, with every verifier and threshold."""
        for arm in range(arms):
            yield Chain((arm,))
        for length in range(2, LONGEST + 1):
            for chain in combinations(candidates, length):
                cheap = [arm for arm in candidates[:VERIFIERS] if arm not in chain]
                for verifier, threshold in product((NO_CALL, *cheap), self.thresholds):
                    yield Chain(chain, verifier, threshold)

    def _verifications(self, chain: Chain, drawn: Drawn, looks: dict[tuple[int, ...], Floats]) -> Floats:
        """[n, m − 1] chance of each answer of the chain but the last's; NaN where there is none."""
        chance = np.empty((len(drawn.score), len(chain.arms) - 1))
        for stage, arm in enumerate(chain.arms[:-1]):
            asked = chain.before(stage)
            if asked not in looks:
                looks[asked] = self.posthoc(drawn.seen.only(np.isin(np.arange(drawn.score.shape[1]), asked)))
            chance[:, stage] = np.where(drawn.seen.ok[:, arm], looks[asked][:, arm], np.nan)
        return chance

    def _earned(self, chain: Chain, beliefs: Beliefs, chance: Floats, drawn: Drawn, rows: Ints) -> Floats:
        """[λ, n] reward of walking the chain on training queries, given as rows [n] of what was drawn."""
        arms, query, each = np.array(chain.arms), drawn.seen.query[rows], np.arange(len(rows))
        cost, score = drawn.cost[rows][:, arms], drawn.score[rows][:, arms]
        expected, group = self.posthoc.prior.cost[query][:, arms], self.posthoc.group[query]
        outcomes = [beliefs.outcome(stage, column) for stage, column in enumerate(chance.T)]
        earned = np.empty((len(PENALTIES), len(rows)))
        for number, penalty in enumerate(np.repeat(PENALTIES[:, None], len(rows), axis=1)):
            at, spent = np.zeros(len(rows), np.int64), drawn.cost[rows][:, list(chain.before(0))].sum(axis=1)
            for stage in range(len(arms) - 1):
                bill = Bill(spent, expected, penalty, self.cost_unit)
                best = self.values(chain, beliefs, group, outcomes[: stage + 1], bill).argmax(axis=1)
                best = np.where(outcomes[stage] == UNKNOWN, stage + 1, best)
                target = np.where(at == stage, best, at)
                spent = spent + np.where(target > at, cost[each, target], 0.0)
                at = target
            earned[number] = reward(score[each, at], spent, penalty, self.cost_unit)
        return earned

    def values(self, chain: Chain, beliefs: Beliefs, group: Ints, outcomes: list[Ints], bill: Bill) -> Floats:
        """[B, m] of keeping the answer that was verified last, and of asking each later arm; −∞ for earlier ones."""
        return beliefs.values(group, outcomes, bill)

    def _choose(self, earned: Floats, group: Ints) -> None:
        """The simplest chain within one standard error of the best, at a λ and its neighbours, in each domain.

        `earned` [chains, λ, n].
        """
        effort = np.array([len(chain.before(len(chain.arms))) for chain in self.chains])
        around = np.pad(earned, ((0, 0), (1, 1), (0, 0)), mode="edge")
        loss = -(around[:, :-2] + around[:, 1:-1] + around[:, 2:]) / 3.0
        self.chosen = np.empty((len(PENALTIES), self.posthoc.groups), np.int64)
        for setting, number in np.ndindex(*self.chosen.shape):
            members = group == number if (group == number).sum() >= FEW else np.ones_like(group, np.bool_)
            some = loss[:, setting, members]
            order = np.lexsort((some.mean(axis=1), effort))
            self.chosen[setting, number] = order[simplest_within_one_standard_error(some[order])]

    def act(self, observation: Observation) -> Action:
        seen, slot = seen_so_far(observation, len(self.model_of_arm))
        may_call = callable_arms(observation, self.model_of_arm)
        cost = self.posthoc.prior.cost[observation.query] * observation.price[:, self.model_of_arm]
        score = self.posthoc.prior.score[observation.query]
        worth = reward(score, cost, observation.penalty[:, None], self.cost_unit)
        # Behind the chain's end, while nothing usable has come: the best single arm, or else what the verifier said.
        arm, some = np.where(may_call, worth, -np.inf).argmax(axis=1), slot.max(axis=1)
        stuck, asks, ends = ~may_call.any(axis=1), np.ones(len(slot), np.bool_), np.ones(len(slot), np.bool_)
        answer, verifier = np.where(some >= 0, some, int(Final.ADOPT)), np.full(len(slot), NO_CALL)
        setting = np.abs(observation.penalty[:, None] - PENALTIES).argmin(axis=1)
        number = self.chosen[setting, self.posthoc.group[observation.query]]
        for each in np.unique(number):
            chain, rows = self.chains[each], np.flatnonzero(number == each)
            arms, last = np.array(chain.arms), len(chain.arms) - 1
            stage, target = self._walk(each, seen.rows(rows), may_call[rows], cost[rows], observation, rows)
            known = target <= last
            there = rows[known]
            arm[there] = arms[target[known]]
            asks[there], ends[there] = (target > stage)[known], (target == last)[known]
            answer[there] = np.where(asks[there], int(Final.ADOPT), slot[there, arm[there]])
            if chain.verifier != NO_CALL:
                first = (observation.turn[there] == 0) & ~ends[there] & may_call[there, chain.verifier]
                verifier[there[first]] = chain.verifier
        asks &= ~stuck
        goes_on = asks & ~ends & ~observation.last_turn
        calls = np.stack([np.where(asks, arm, NO_CALL), verifier], axis=1)
        return Action(calls, np.where(goes_on, int(Final.CONTINUE), np.where(asks, int(Final.ADOPT), answer)))

    def _walk(
        self, number: int, seen: Seen, may_call: Bools, cost: Floats, observation: Observation, rows: Ints
    ) -> tuple[Ints, Ints]:
        """The place [n] in a chain of the last usable answer (−1 none), and that of the arm whose answer is to be had:
        the same one's, a later one's, or behind the end where none is left. For the rows [n] of an observation."""
        chain, beliefs = self.chains[number], self.beliefs[number]
        arms, last = np.array(chain.arms), len(chain.arms) - 1
        place, is_open = np.arange(last + 1), may_call[:, arms]
        stage = np.where(seen.ok[:, arms], place, -1).max(axis=1)
        target = np.where((stage < 0) | (stage == last), np.where(is_open, place, last + 1).min(axis=1), stage)
        target = np.where(stage == last, last, target)
        for at in range(last):
            here = np.flatnonzero((stage == at) & ~observation.last_turn[rows])
            if len(here):
                part, row = seen.rows(here), rows[here]
                bill = Bill(observation.cost[row], cost[here][:, arms], observation.penalty[row], self.cost_unit)
                outcomes = [self._outcome(chain, beliefs, each, part) for each in range(at + 1)]
                values = self.values(chain, beliefs, self.posthoc.group[part.query], outcomes, bill)
                target[here] = np.where(is_open[here] | (place == at), values, -np.inf).argmax(axis=1)
        return stage, target

    def _outcome(self, chain: Chain, beliefs: Beliefs, stage: int, seen: Seen) -> Ints:
        """[n] of the verification of an arm's answer, as it was before later arms answered."""
        arm = chain.arms[stage]
        asked = seen.only(np.isin(np.arange(seen.ok.shape[1]), chain.before(stage)))
        return beliefs.outcome(stage, np.where(seen.ok[:, arm], self.posthoc(asked)[:, arm], np.nan))


class ThresholdAutoMix(AutoMix):
    """With a threshold for meta-verifier: an answer is kept from some outcome of its verification on."""

    name = "automix-threshold"
    thresholds = tuple(range(1, BINS))

    def values(self, chain: Chain, beliefs: Beliefs, group: Ints, outcomes: list[Ints], bill: Bill) -> Floats:
        """[B, m] as above: not worths but an order, in which the next arm comes before later ones."""
        place, stage = np.arange(len(chain.arms)), len(outcomes) - 1
        values = np.tile(np.where(place < stage, -np.inf, -place.astype(np.float64)), (len(group), 1))
        values[:, stage] = np.where(outcomes[stage] >= chain.threshold, 0.0, -len(place) - 1.0)
        return values
