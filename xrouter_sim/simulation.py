"""Play one router in a simulated world and say how it did: what `xrouter-sim simulate` does."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from responses_db import LabError
from xrouter_sim.costs import Costs
from xrouter_sim.engine.arrays import Array, arrays
from xrouter_sim.engine.episodes import ATTEMPTS, CACHED, EMPTY, OUTCOME, TURN, Episodes, Observation, field_of
from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.recording import TracedSimulator, store_texts
from xrouter_sim.engine.rollout import BLOCK, play
from xrouter_sim.engine.semantics import Action, Outcome
from xrouter_sim.engine.simulator import Simulator
from xrouter_sim.engine.trace import EpisodeTrace, action_words
from xrouter_sim.evaluation.bench import world_of
from xrouter_sim.evaluation.statistics import Bootstrap, figure
from xrouter_sim.pipeline import make
from xrouter_sim.replay import Floats, Ints, Replay, cost_unit
from xrouter_sim.routers.base import Router
from xrouter_sim.routers.oracle import Oracle
from xrouter_sim.routers.rl import RLRouter
from xrouter_sim.training import checkpoint

Say = Callable[[str], None]


@dataclass(frozen=True)
class Setting:
    """What to play, where, and how often."""

    router: str
    db: Path
    run: Path | None
    """Folder of a trained rl router."""
    profile: str
    seed: int
    penalty: float
    """λ"""
    split: str
    episodes: int | None
    """None: one for each query of the split."""
    backend: str
    traces: int
    """How many of the first episodes to trace."""
    costs: Costs = field(default_factory=Costs)

    def __post_init__(self) -> None:
        if self.costs.accuracy_only and self.penalty > 0:
            raise LabError(f"--accuracy-only leaves costs out, so --penalty {self.penalty:g} has nothing to weigh")
        if self.costs.accuracy_only and self.traces:
            raise LabError("a trace tells bills, and --accuracy-only has none: leave out --trace or state costs")


@dataclass(frozen=True)
class Outcomes:
    """Figures to print, and the traces that were asked for."""

    figures: dict[str, Any]
    traces: list[EpisodeTrace]


def simulate(setting: Setting, say: Say) -> Outcomes:
    """Fit the router on the training queries and play it. Raises LabError for what the user can mend."""
    Profile.load(setting.profile)  # a wrong name is said before a store is read
    xp = arrays(setting.backend)
    say(f"reading {setting.db}")
    replay = Replay.load(setting.db, setting.costs)
    profile = world_of(replay, setting.profile)
    train, queries = replay.indices("train"), replay.indices(setting.split)
    unit = cost_unit(replay, train)
    say(f"fitting {setting.router} on {len(train):,} training queries")
    router = fitted(setting.router, replay, train, unit, setting.seed, setting.run)
    count = setting.episodes or len(queries)
    simulator: Simulator = Simulator(replay, profile, setting.seed, unit)
    on_backend = simulator if xp.name == "numpy" else BehindNumpy(simulator, setting.backend)
    say(f"playing {count:,} episodes")
    episodes = played(router, on_backend, queries, count, setting.penalty)
    facts = {
        "router": router.name,
        "db": str(setting.db),
        "content_hash": replay.store["content_hash"],
        "provenance": replay.store["provenance"],
        "costs": setting.costs.facts(),
        "split": setting.split,
        "queries": min(count, len(queries)),
        "profile": profile.name,
        "profile_settings": profile.as_dict(),
        "seed": setting.seed,
        "penalty": setting.penalty,
        "cost_unit_usd": unit if replay.priced else None,
        "backend": on_backend.xp.name,
    }
    traces = []
    if setting.traces:
        say(f"tracing the first {min(count, setting.traces):,}")
        traces = traced(router, simulator, queries, count, setting.penalty, setting.traces)
    return Outcomes(facts | figures_of(episodes, simulator), traces)


def fitted(name: str, replay: Replay, train: Ints, unit: float, seed: int, run: Path | None) -> Router:
    """A router that is ready to act. Raises LabError on an unknown name, and on a run that is not the router's."""
    router = make(name, replay)
    if not isinstance(router, RLRouter):
        if run is not None:
            raise LabError(f"--run is for rl: {name} is fitted here and now, on the training queries")
        router.fit(replay, train, unit, seed)
        return router
    if run is None:
        raise LabError("rl needs a trained network: give the folder of `xrouter-sim train rl` as --run")
    if not (run / checkpoint.FILE).is_file():
        raise LabError(f"{run} holds no {checkpoint.FILE}: train with `xrouter-sim train rl --out {run}`")
    facts = checkpoint.read_facts(run)
    if facts["store_hash"] != replay.store["content_hash"]:
        raise LabError(f"{run} was trained on another store: give that one as --db, or train on this one")
    router.fit(replay, train, unit, facts["config"]["seed"])
    try:
        router.network.load_state_dict(checkpoint.best_weights(run))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise LabError(f"{run / checkpoint.FILE} does not fit this program ({reason}): train anew") from error
    return router


def played(router: Router, simulator: Simulator, queries: Ints, count: int, penalty: float) -> Episodes:
    """Episodes 0 to `count` − 1, going through the queries in turn."""
    if isinstance(router, Oracle):
        router.watch(simulator)
    key = np.arange(count)
    episodes = play(router.act, simulator, queries[key % len(queries)], key, np.full(count, penalty))
    return replace(episodes, lanes=np.asarray(episodes.lanes))  # the one array that `play` leaves on the backend


def traced(
    router: Router, simulator: Simulator, queries: Ints, count: int, penalty: float, most: int
) -> list[EpisodeTrace]:
    """Traces of the first `most` episodes, with texts. Whole blocks are played, so that they go as without a trace."""
    replay = simulator.replay
    recorder = TracedSimulator(replay, simulator.profile, simulator.seed, simulator.cost_unit, most=most)
    count = min(count, -(-most // BLOCK) * BLOCK)
    episodes = played(router, recorder, queries, count, penalty)
    shown = [replay.query_ids[query] for query in np.unique(episodes.query[:most])]
    return recorder.traces(episodes, router.name, store_texts(replay.store["path"], shown))


class BehindNumpy(Simulator):
    """A simulator on another backend that takes and gives NumPy arrays, for routers that are written in NumPy."""

    def __init__(self, twin: Simulator, backend: str) -> None:
        """`twin` is the same simulator on NumPy."""
        super().__init__(twin.replay, twin.profile, twin.seed, twin.cost_unit, xp=arrays(backend))
        self.twin = twin

    def reset(
        self,
        query: Array,
        key: Array,
        penalty: Array,
        first_row: int = 0,
        budget: Array | None = None,
        deadline: Array | None = None,
    ) -> Episodes:
        put = self.xp.put_in
        limits = (None if values is None else put(values) for values in (budget, deadline))
        return super().reset(put(query), put(key), put(penalty), first_row, *limits)

    def observe(self, episodes: Episodes, rows: Array | slice = slice(None)) -> Observation:
        seen = super().observe(episodes, rows if isinstance(rows, slice) else self.xp.put_in(rows))
        values = {name: value.cpu().numpy() for name, value in vars(seen).items() if name != "simulator"}
        return Observation(simulator=self.twin, **values)

    def step(self, episodes: Episodes, action: Action) -> None:
        super().step(episodes, Action(self.xp.put_in(action.calls), self.xp.put_in(action.final)))


# --- figures ----------------------------------------------------------------------------------------------------------


def figures_of(episodes: Episodes, simulator: Simulator) -> dict[str, Any]:
    """What the episodes came to. Means have 95% intervals, resampled over queries; shares are in [0, 1]."""
    replay, words = simulator.replay, episodes.words()
    filled = words != EMPTY
    models = np.array(replay.model_ids)[replay.model_of_arm]
    answered = episodes.final >= 0
    by = episodes.arm[np.arange(len(episodes)), np.maximum(episodes.final, 0)][answered]
    names = [outcome.name.lower() for outcome in Outcome]
    calls = {"outcome": field_of(words, OUTCOME)[filled], "attempts": field_of(words, ATTEMPTS)[filled]}
    called_in = np.where(filled, field_of(words, TURN), -1)
    latency = replay.latency_s[np.unique(episodes.query)][replay.sample_mask[np.unique(episodes.query)]]
    mean = _Means(episodes.query)
    return {
        "episodes": len(episodes),
        "accuracy": mean(episodes.score),
        "reward": mean(episodes.reward),
        "usd_per_1k": mean(1000.0 * episodes.cost) if replay.priced else None,
        "seconds": _quantiles(episodes.time),
        "latency_known": bool(np.isfinite(latency).all()),
        "calls_per_episode": mean(filled.sum(axis=1).astype(np.float64)),
        "calls": int(filled.sum()),
        "episodes_by_calls": _shares(filled.sum(axis=1).tolist()),
        "escalated": float((called_in.max(axis=1, initial=-1) > 0).mean()),
        "calls_by_outcome": _shares([names[outcome] for outcome in calls["outcome"].tolist()]),
        "calls_tried_again": float((calls["attempts"] > 1).mean()) if filled.any() else 0.0,
        "calls_from_cache": float((field_of(words, CACHED)[filled] == 1).mean()) if filled.any() else 0.0,
        "endings": _shares([action_words(int(ending))[0] for ending in episodes.ending]),
        "unanswered": float((~answered).mean()),
        "answered_by": _shares(models[by].tolist()),
    }


class _Means:
    """Means over episodes with intervals: several episodes of a query are one observation, not several."""

    def __init__(self, query: Ints) -> None:
        _, self.place, self.count = np.unique(query, return_inverse=True, return_counts=True)
        self.bootstrap = Bootstrap(len(self.count))

    def __call__(self, values: Floats) -> dict[str, float | None]:
        total = np.bincount(self.place, weights=values)
        # A ratio of means, since the last round may reach only some of the queries.
        rows = self.bootstrap.means(total) / self.bootstrap.means(self.count.astype(np.float64))
        return figure(rows).to_json()


def _quantiles(seconds: Floats) -> dict[str, float]:
    levels = {"median": 0.5, "p90": 0.9, "p99": 0.99, "most": 1.0}
    return {name: float(np.quantile(seconds, level)) for name, level in levels.items()}


def _shares(values: list[Any]) -> dict[str, float]:
    """Each value's share, the most frequent first."""
    ordered = sorted(Counter(values).items(), key=lambda item: (-item[1], str(item[0])))
    return {str(value): count / len(values) for value, count in ordered}
