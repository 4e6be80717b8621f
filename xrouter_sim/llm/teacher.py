"""Who demonstrates routing for the warm start: optimal and near-optimal policies on the training queries.

The teacher knows each arm's chance of being right (`Chances`) and today's prices, as the bounds do. With each behaviour
it does what is best within that behaviour; `noise` makes it near-optimal.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, get_args

import numpy as np

from responses_db import LabError
from xrouter_sim.engine.semantics import NO_CALL, Final, Outcome
from xrouter_sim.envs.episode_text import TextEpisode
from xrouter_sim.replay import Floats, Ints, Replay

Behaviour = Literal["single", "escalate", "parallel", "direct"]
BEHAVIOURS: tuple[Behaviour, ...] = get_args(Behaviour)

WRONG = 8
"""How many wrong answers a question is taken to have, each as likely: then two that agree are rarely wrong alike."""

WIDEST = 3
"""Most arms that are called at once."""

CANDIDATES = 6
"""Of how many arms, the best single ones, sets for a parallel call are made."""


@dataclass(frozen=True)
class Shares:
    """How often each behaviour is demonstrated; relative weights."""

    single: float = 0.5
    escalate: float = 0.3
    parallel: float = 0.2
    direct: float = 0.0

    def draw(self, rng: np.random.Generator, among: Collection[Behaviour] = BEHAVIOURS) -> Behaviour:
        """One of these behaviours; any of them where none has a share."""
        weights = np.array([getattr(self, name) if name in among else 0.0 for name in BEHAVIOURS])
        if not weights.sum():
            weights = np.array([float(name in among) for name in BEHAVIOURS])
        return BEHAVIOURS[int(rng.choice(len(BEHAVIOURS), p=weights / weights.sum()))]

    def __post_init__(self) -> None:
        weights = (self.single, self.escalate, self.parallel, self.direct)
        if min(weights) < 0 or sum(weights) <= 0:
            raise LabError("shares of behaviours are 0 or more, and not all 0")


@dataclass(frozen=True)
class Chances:
    """What the teacher knows of training queries, each [Q, A]: the chance of being right, the mean cost in USD, and the
    chance of being right once there is an answer to read (who gives up shows it)."""

    right: Floats
    usd: Floats
    right_if_read: Floats
    together: "Together | None" = None
    """What arms are worth together; without it they are taken to err independently."""

    @classmethod
    def of(cls, replay: Replay, queries: Ints, knowledge: float) -> "Chances":
        """`knowledge` in [0, 1]: 0 knows the rates of a query's domain, 1 the query's own answers, as the bounds do.

        In between they are mixed: imitating somebody who knows what one cannot see teaches guessing.
        """
        right, usd = replay.mean_score.copy(), replay.mean_cost.copy()
        read = np.ones_like(right)
        for domain in np.unique(replay.domains[queries]):
            rows = queries[replay.domains[queries] == domain]
            right[rows] = knowledge * right[rows] + (1 - knowledge) * right[rows].mean(axis=0)
            usd[rows] = usd[rows].mean(axis=0)
            known = replay.sample_mask[rows]
            read[rows] = ((replay.answer[rows] >= 0) & known).sum(axis=(0, 2)) / np.maximum(known.sum(axis=(0, 2)), 1)
        right = np.clip(right, 0.01, 0.99)
        if_read = np.clip(right / np.maximum(read, 0.01), 0.01, 0.99)
        return cls(right, usd, if_read, Together(replay, queries, if_read, knowledge))

    def of_set(self, query: int, arms: tuple[int, ...]) -> float:
        """The chance that the most trusted answer is right when these arms are asked."""
        if self.together is None:
            return chance_of_best(self.right[query, list(arms)])
        return self.together.right(query, tuple(sorted(arms)))


class Together:
    """How often the most trusted answer of several arms is right, measured on training queries.

    Models err alike: a vote of three is worth less than independent errors would make it.
    """

    def __init__(self, replay: Replay, queries: Ints, if_read: Floats, knowledge: float) -> None:
        self.replay, self.if_read, self.knowledge = replay, if_read, knowledge
        self.rows = {domain: queries[replay.domains[queries] == domain] for domain in np.unique(replay.domains)}
        self.known: dict[tuple[str, tuple[int, ...]], Floats] = {}

    def right(self, query: int, arms: tuple[int, ...]) -> float:
        """In [0, 1]; a query's own answers and its domain's mixed by `knowledge`, as `Chances.of` mixes them."""
        domain = str(self.replay.domains[query])
        rows = self.rows[domain]
        if (domain, arms) not in self.known:
            self.known[domain, arms] = self._measured(rows, arms)
        taken = self.known[domain, arms]
        own = taken[rows == query]
        mean = float(taken.mean())
        return float(self.knowledge * own[0] + (1 - self.knowledge) * mean) if len(own) else mean

    def _measured(self, rows: Ints, arms: tuple[int, ...]) -> Floats:
        """Of each query, the mean score of the most trusted answer over samples, [n]."""
        at = np.ix_(rows, np.array(arms))
        answer, p = self.replay.answer[at], self.if_read[at][:, :, None]
        alike = (answer[:, :, None] == answer[:, None]) & (answer[:, None] >= 0)  # [n, arms, arms, samples]
        trust = np.where(alike, np.log(p)[:, None], np.log((1 - p) / WRONG)[:, None]).sum(axis=2)
        best = np.where(answer >= 0, trust, -np.inf).argmax(axis=1)[:, None]
        score = np.take_along_axis(self.replay.score[at], best, axis=1)[:, 0]
        read, samples = (answer >= 0).any(axis=1), self.replay.sample_mask[at].all(axis=1)
        earned: Floats = np.where(read & samples, score, 0.0).sum(axis=1) / np.maximum(samples.sum(axis=1), 1)
        return earned


@dataclass(frozen=True)
class Step:
    """What to do in one turn: arms to call and a Final, or a text to answer with."""

    calls: tuple[int, ...] = ()
    final: int = Final.CONTINUE
    text: str | None = None


class Teacher:
    """Demonstrates one episode: `steps` yields a step, and goes on when the environment has carried it out."""

    def __init__(
        self,
        chances: Chances,
        noise: float,
        seed: int,
        answers: dict[int, str] | None = None,
        margin: float = 1.0,
    ) -> None:
        """`noise`: the chance that a called arm is drawn from the pool at random. `answers`: what a direct answer to a
        query says. `margin`: how much less reward a behaviour may promise than the best one and still be shown."""
        self.chances, self.noise, self.answers, self.margin = chances, noise, answers or {}, margin
        self.rng = np.random.default_rng(seed)

    def behaviour(self, env: TextEpisode, shares: Shares) -> Behaviour:
        """Draw one of those that pay on the query of an episode that begins."""
        state = _State(env, self.chances)
        worth: dict[Behaviour, float] = {
            "single": state.best_arm()[1],
            "escalate": state.best_opening()[1],
            "parallel": state.set_worth(state.best_set()),
        }
        worth = {name: value for name, value in worth.items() if getattr(shares, name)} or worth
        paying: list[Behaviour] = [name for name, value in worth.items() if value >= max(worth.values()) - self.margin]
        if state.query in self.answers:
            paying.append("direct")
        return shares.draw(self.rng, paying)

    def steps(self, env: TextEpisode, behaviour: Behaviour) -> Iterator[Step]:
        state = _State(env, self.chances)
        if behaviour == "direct" and (text := self.answers.get(state.query)) is not None:
            yield Step(text=text)
            return
        if behaviour == "parallel":
            arms = self._disturbed(state, state.best_set())
            yield Step(arms, Final.VOTE if len(arms) > 2 else Final.CONTINUE)  # two that differ have no majority
        elif behaviour == "escalate":
            yield Step(self._disturbed(state, (state.best_opening()[0],)))
        while not env._done:
            state = _State(env, self.chances)
            slot, worth = state.best_response()
            arm, hoped = state.best_arm()
            if arm == NO_CALL and slot is None:
                return
            if slot is not None and (arm == NO_CALL or worth >= hoped):
                yield Step(final=slot)
            elif behaviour == "single" or state.last_turn:
                yield Step(self._disturbed(state, (arm,)), Final.ADOPT)
            else:
                yield Step(self._disturbed(state, (arm,)))

    def _disturbed(self, state: "_State", arms: tuple[int, ...]) -> tuple[int, ...]:
        free = [int(arm) for arm in np.flatnonzero(state.callable) if arm not in arms]
        drawn = [
            free.pop(self.rng.integers(len(free))) if free and self.rng.random() < self.noise else arm for arm in arms
        ]
        return tuple(drawn)


class _State:
    """An episode as the teacher sees it. Spending is in units of a right answer's worth."""

    def __init__(self, env: TextEpisode, chances: Chances) -> None:
        self.chances, episodes, simulator = chances, env.episodes, env.simulator
        seen, arms = simulator.observe(episodes), simulator.replay.model_of_arm
        self.query = int(episodes.query[0])
        self.unread = 1 - chances.right[self.query] / chances.right_if_read[self.query]
        self.p, self.p_if_read = chances.right[self.query], chances.right_if_read[self.query]
        scale = float(episodes.penalty[0]) / simulator.cost_unit
        self.spending = chances.usd[self.query] * seen.price[0][arms] * scale
        self.left = max(0.0, 1.0 - float(episodes.cost[0]) * scale)
        called = seen.arm[0]
        self.slots = [slot for slot in range(int(episodes.n_slots[0])) if called[slot] != NO_CALL]
        self.callable = seen.on_offer[0][arms].copy()
        self.callable[called[called != NO_CALL]] = False
        self.arm, self.answer, self.outcome = called, seen.answer[0], seen.outcome[0]
        self.last_turn = bool(seen.last_turn[0])
        if int(episodes.n_slots[0]) >= simulator.profile.client.max_calls:
            self.callable[:] = False

    def best_arm(self) -> tuple[int, float]:
        """Which arm to call and take, and what that is worth; NO_CALL where none can be called."""
        worth = np.where(self.callable, self.p * np.maximum(self.left - self.spending, 0.0), -1.0)
        worth -= 1e-9 * self.spending
        arm = int(worth.argmax())
        return (arm, float(worth[arm])) if self.callable.any() else (NO_CALL, 0.0)

    def best_opening(self) -> tuple[int, float]:
        """The arm to call first if a second one is called where it gives no answer, and what that is worth."""
        arms = np.flatnonzero(self.callable)
        first, second = np.meshgrid(arms, arms, indexing="ij")
        one = self.p[first] * np.maximum(self.left - self.spending[first], 0)
        both = np.maximum(self.left - self.spending[first] - self.spending[second], 0)
        worth = one + np.where(first == second, 0.0, self.unread[first] * self.p[second] * both)
        return int(first.flat[worth.argmax()]), float(worth.max())

    def best_set(self) -> tuple[int, ...]:
        """The two or three arms whose most trusted answer is worth most."""
        worth = self.p * np.maximum(self.left - self.spending, 0.0)
        arms = [int(arm) for arm in np.argsort(-worth, kind="stable") if self.callable[arm]][:CANDIDATES]
        sets = [chosen for size in range(2, WIDEST + 1) for chosen in combinations(arms, size)] or [tuple(arms)]
        return max(sets, key=self.set_worth)

    def set_worth(self, arms: tuple[int, ...]) -> float:
        """Of calling them at once and taking the answer trusted most."""
        left = self.left - sum(self.spending[arm] for arm in arms)
        return max(float(left), 0.0) * self.chances.of_set(self.query, arms)

    def best_response(self) -> tuple[int | None, float]:
        """The response to trust most, and what ending with it is worth; None where there is no usable one."""
        usable = [slot for slot in self.slots if self.outcome[slot] == Outcome.OK and self.answer[slot] >= 0]
        if not usable:
            return None, 0.0
        answers = [int(self.answer[slot]) for slot in usable]
        trust = trusted(answers, self.p_if_read[[int(self.arm[slot]) for slot in usable]])
        best = int(np.argmax([trust[answer] for answer in answers]))
        return usable[best], trust[answers[best]] * self.left


def trusted(answers: list[int], p: Any) -> dict[int, float]:
    """The chance that each answer is right, of arms that are right with chances p, independently, and else give one of
    WRONG other answers.

    >>> {answer: round(chance, 2) for answer, chance in trusted([7, 7, 3], [0.6, 0.6, 0.6]).items()}
    {7: 0.88, 3: 0.07}
    """
    chances = np.asarray(p, np.float64)
    given = np.array(answers)
    # Of each candidate, and of none: what the arms that gave it, and those that gave another, make of it.
    wrong = np.log((1 - chances) / WRONG)
    candidates = list(dict.fromkeys(answers))
    likely = np.array([np.where(given == answer, np.log(chances), wrong).sum() for answer in candidates])
    none = wrong.sum() + np.log(max(WRONG + 1 - len(candidates), 1))
    weight = np.exp(likely - likely.max())
    return dict(zip(candidates, (weight / (weight.sum() + np.exp(none - likely.max()))).tolist(), strict=True))


def chance_of_best(p: Floats) -> float:
    """The chance that the most trusted answer is right, of arms that err independently and never alike.

    >>> round(chance_of_best(np.array([0.7, 0.7, 0.7])), 3), round(chance_of_best(np.array([0.9, 0.2])), 3)
    (0.847, 0.9)
    """
    total = 0.0
    for pattern in range(2 ** len(p)):
        right = np.array([bool(pattern >> place & 1) for place in range(len(p))])
        chance = float(np.where(right, p, 1 - p).prod())
        if right.sum() >= 2:
            total += chance
        elif right.sum() == 1:  # all differ: the arm trusted most is taken
            total += chance * float(right[int(np.argmax(p))])
    return total
