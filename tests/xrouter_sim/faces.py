"""What tests of the engine's faces share: a finished episode as plain arrays, and one face driven as another is."""

from collections.abc import Iterable, Sequence

import numpy as np

from xrouter_sim.engine.episodes import EMPTY, Episodes
from xrouter_sim.engine.semantics import NO_CALL, Action, Final
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.envs.tools import FINALS, ToolRoutingEnv
from xrouter_sim.replay import Replay

ENDED = {"ending": Final.CONTINUE, "final": Final.NONE, "score": 0.0, "reward": 0.0}
"""What counts only once an episode is done, and what stands for it until then."""


def trace_of(episodes: Episodes) -> dict[str, np.ndarray]:
    """What happened in B episodes: [B, L] words, costs and times (EMPTY and 0 where no response is), all else [B]."""
    slots = {"words": (episodes.slots, EMPTY), "costs": (episodes.slot_cost, 0.0), "times": (episodes.slot_time, 0.0)}
    n_slots, done = np.asarray(episodes.n_slots), np.asarray(episodes.done)
    filled = np.asarray(episodes.lanes)[:, None] < n_slots
    trace = {name: np.where(filled, np.asarray(values), nothing).T for name, (values, nothing) in slots.items()}
    trace |= {"n_slots": n_slots + 0, "done": done + False}
    trace |= {name: np.asarray(getattr(episodes, name)) + 0 for name in ("turn", "cost", "time")}
    return trace | {name: np.where(done, np.asarray(getattr(episodes, name)), unset) for name, unset in ENDED.items()}


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray], *, but: Sequence[str] = ()) -> None:
    """Bit by bit."""
    assert one.keys() == other.keys()
    differ = [name for name in one if name not in but and not np.array_equal(one[name], other[name])]
    assert not differ, {name: (one[name], other[name]) for name in differ}


def played(
    simulator: Simulator,
    query: int,
    key: int,
    penalty: float,
    steps: Iterable[tuple[Sequence[int], int]],
    *,
    budget: float | None = None,
    deadline: float | None = None,
) -> Episodes:
    """One episode played by the engine itself, with these actions: (arms called, final)."""
    limits = {name: np.array([limit]) for name, limit in (("budget", budget), ("deadline", deadline)) if limit}
    episodes = simulator.reset(np.array([query]), np.array([key]), np.array([penalty]), **limits)
    for calls, final in steps:
        simulator.step(episodes, Action(np.array([calls], np.int64).reshape(1, -1), np.array([int(final)])))
    return episodes


def through_tools(env: ToolRoutingEnv, calls: Sequence[int], final: int, answer: str = "Answer: 0") -> str | None:
    """The tool call that stands for an action, carried out; None, and nothing done, for an action that has none.

    Calls may go with CONTINUE, ADOPT and the votes, other endings stand alone. DIRECT answers with `answer`.
    """
    arms = [arm for arm in calls if arm != NO_CALL]
    then = {value: name for name, value in FINALS.items()}
    if arms:
        styles = env.simulator.replay.prompt_styles
        models = [env._names[arm // len(styles)] for arm in arms]
        asked = [styles[arm % len(styles)] for arm in arms]
        return env.call_models(models, asked, then[Final(final)]) if final in then else None
    if final >= 0:
        return env.select_response(final + 1)
    alone = {
        Final.NONE: lambda: str(env.get_reward()),
        Final.VOTE: env.majority_vote,
        Final.WEIGHTED_VOTE: env.weighted_vote,
        Final.DIRECT: lambda: env.answer(answer),
    }
    return alone[Final(final)]() if final in alone else None


class CodeTexts:
    """Stands in for texts where a replay has none: a response reads `Answer: CODE`, and so does a right answer."""

    def __init__(self, replay: Replay) -> None:
        self.replay = replay

    def messages(self, query: int) -> list[dict[str, str]]:
        return [{"role": "user", "content": self.replay.questions[query]}]

    def response(self, query: int, arm: int, sample: int) -> str | None:
        return f"Answer: {self.replay.answer[query, arm, sample]}"

    def card(self, model: int) -> tuple[float, float] | None:
        return None

    def can_grade(self, query: int) -> bool:
        return True

    def grade(self, query: int, text: str) -> float:
        same = self.replay.answer[query] == int(text.removeprefix("Answer:"))
        return float(self.replay.score[query][same].max(initial=0.0))
