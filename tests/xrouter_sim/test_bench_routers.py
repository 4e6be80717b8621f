"""`xrouter-sim bench routers`: every run whole or not at all, and one comparison of all of them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from responses_db import LabError
from tests.xrouter_sim.tiny import tiny_replay
from xrouter_sim.bench import routers as bench
from xrouter_sim.bench.router_figures import figures_of
from xrouter_sim.bench.routers import Plan, Told, run_all
from xrouter_sim.bench.unseen import Unseen, calibration_queries, extended, restricted
from xrouter_sim.cli import main
from xrouter_sim.engine.episodes import Observation
from xrouter_sim.engine.profile import Prices, Profile
from xrouter_sim.engine.semantics import Action
from xrouter_sim.evaluation.bench import decide
from xrouter_sim.evaluation.groups import by_domain, groups_of
from xrouter_sim.evaluation.runs import load_run
from xrouter_sim.pipeline import TWINS, Ground, make
from xrouter_sim.replay import Ints, Replay, cost_unit
from xrouter_sim.routers import FITTED_ONCE, ROUTERS
from xrouter_sim.routers.base import Router
from xrouter_sim.routers.blind import SUFFIX, PriceBlind
from xrouter_sim.routers.fixed import Random

QUICK = {"table": ROUTERS["table"], "random": ROUTERS["random"], "oracle": ROUTERS["oracle"]}


@pytest.fixture(autouse=True)
def few_routers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bench of what is quick to fit."""
    monkeypatch.setattr(bench, "ROUTERS", QUICK)
    monkeypatch.setattr(bench, "BASELINES", tuple(QUICK))
    monkeypatch.setattr(bench, "query_features", lambda *_: None)


def plan_of(store: Path, out: Path, **more: Any) -> Plan:
    given: dict[str, Any] = {"routers": ("table",), "seeds": 2, "profiles": ("calm", "prices")}
    return Plan(store, out, **given | more)


def run(*arguments: object) -> tuple[int, str, str]:
    words = ["bench", "routers", *(str(each) for each in arguments)]
    result = CliRunner().invoke(main, words, catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def benched(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, bench.Outcome]:
    """A bench of every part: two seeds, two worlds, a model held out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "ROUTERS", QUICK)
        patch.setattr(bench, "BASELINES", tuple(QUICK))
        patch.setattr(bench, "query_features", lambda *_: None)
        plan = plan_of(tiny_store, tmp_path_factory.mktemp("bench"), unseen=Unseen("large", (0, 20)))
        return plan, run_all(plan, Told())


def test_there_is_a_run_for_each_router_and_seed(benched: tuple[Plan, bench.Outcome]) -> None:
    plan, outcome = benched
    assert not outcome.failed
    names = ["always_giant", "always_large", "always_medium", "always_small", "table", "random", "oracle"]
    assert [folder.name for folder in outcome.finished] == [f"{name}-seed{seed}" for name in names for seed in (0, 1)]
    for folder in outcome.finished:
        loaded = load_run(folder)
        assert set(loaded.panels) == {loaded.router}
        assert set(loaded.decisions["seed"]) == {loaded.manifest["seed"]}
    assert load_run(plan.out / "always_giant-seed1").router == "always:giant"


def test_what_a_seed_does_not_change_is_fitted_once_and_said_to_be(benched: tuple[Plan, bench.Outcome]) -> None:
    plan, _ = benched
    made = {folder.name: json.loads((folder / "manifest.json").read_text()) for folder in plan.out.iterdir()}
    assert made["table-seed0"]["fitted_once"]
    assert made["table-seed1"]["fitted_once"]
    assert made["table-seed0"]["seconds"]["train"] == made["table-seed1"]["seconds"]["train"]
    assert not made["random-seed1"]["fitted_once"]
    assert made["random-seed1"]["microseconds_a_decision"]["batched"] > 0


@pytest.mark.parametrize("name", sorted(FITTED_ONCE))
def test_routers_that_are_fitted_once_fit_alike_for_every_seed(name: str) -> None:
    replay = tiny_replay(90)
    train, test = replay.indices("train"), replay.indices("test")
    frames = []
    for seed in (0, 1):
        router = make(name, replay)
        router.fit(replay, train, cost_unit(replay, train), seed)
        frames.append(decide([router], replay, test, Profile(), (0.0, 1.0), 0, cost_unit(replay, train), 4096))
    assert frames[0].equals(frames[1])


def test_the_joint_figures_have_every_router_its_peers_and_its_time(benched: tuple[Plan, bench.Outcome]) -> None:
    _, outcome = benched
    found = figures_of(outcome.finished, {"both": ["sums", "words"]}, 100)
    json.dumps(found, allow_nan=False)
    routers = found["routers"]
    assert set(routers) == {"always:giant", "always:large", "always:medium", "always:small", *QUICK}
    peer = found["best_peer"]["reward 1"]
    assert peer not in ("oracle", "rl")
    assert routers[peer]["reward"]["1"]["value"] == max(
        row["reward"]["1"]["value"] for name, row in routers.items() if name != "oracle"
    )
    over = routers["oracle"]["over_best_peer"]["reward 1"]
    gain = routers["oracle"]["reward"]["1"]["value"] - routers[peer]["reward"]["1"]["value"]
    assert over["value"] == pytest.approx(gain)
    assert over["low"] > 0
    assert "reward 1" not in routers[peer]["over_best_peer"]
    assert routers["table"]["seeds"] == 2
    assert routers["table"]["fit_seconds"] >= 0
    assert set(found["robustness"]) == {"calm", "prices"}
    domains = found["domains"]["table"]
    assert domains["groups"]["both"]["value"] == pytest.approx(
        np.mean([figure["value"] for figure in domains["domains"].values()])
    )


def test_what_prices_take_is_told_beside_what_they_take_from_the_blind(benched: tuple[Plan, bench.Outcome]) -> None:
    plan, outcome = benched
    told = figures_of(outcome.finished, {}, 100)["prices"]["prices"]["table"]
    other = load_run(plan.out / "table-seed0").robustness
    assert other is not None
    twins = pl.read_parquet(plan.out / "table-seed0" / TWINS)
    assert set(twins["router"]) == {"table" + SUFFIX}

    def earned(frame: pl.DataFrame, profile: str) -> float:
        mean = frame.filter(pl.col("profile") == profile, pl.col("setting") == 1.0)["reward"].mean()
        assert isinstance(mean, float)
        return mean

    assert earned(twins, "calm") == earned(other, "calm"), "at list prices the twin is the router"
    frames = [
        pl.concat([pl.read_parquet(plan.out / f"table-seed{seed}" / file) for seed in (0, 1)])
        for file in ("robustness.parquet", TWINS)
    ]
    lost, blind = (earned(frame, "calm") - earned(frame, "prices") for frame in frames)
    assert told["lost"]["value"] == pytest.approx(lost)
    assert told["lost_blind"]["value"] == pytest.approx(blind)


def test_the_price_blind_twin_acts_as_if_prices_were_listed() -> None:
    replay = tiny_replay(90)
    train, test = replay.indices("train"), replay.indices("test")
    unit = cost_unit(replay, train)
    table = make("table", replay)
    table.fit(replay, train, unit, 0)
    wild = Profile(prices=Prices(sigma=2.0))
    seeing, blind = (
        decide([router], replay, test, wild, (1.0,), 0, unit, 4096) for router in (table, PriceBlind(table))
    )
    listed = decide([table], replay, test, Profile(), (1.0,), 0, unit, 4096)
    assert blind["answered_by"].equals(listed["answered_by"])
    assert not seeing["answered_by"].equals(listed["answered_by"])


def test_a_model_that_is_met_with_all_queries_brings_the_whole_gain(benched: tuple[Plan, bench.Outcome]) -> None:
    _, outcome = benched
    unseen = figures_of(outcome.finished, {}, 100)["unseen"]
    assert unseen["model"] == "large"
    assert list(unseen["routers"]) == ["table"], "the others have no predictions of their own to calibrate"
    met = unseen["routers"]["table"]
    assert list(met) == ["0", "20", "full"]
    assert met["full"]["gain"]["value"] != 0


def test_a_calibrated_router_reads_the_new_model_on_its_calibration_queries_alone() -> None:
    replay = tiny_replay(120)
    train = replay.indices("train")
    ground = Ground(replay, train, replay.indices("test"), cost_unit(replay, train), (1.0,))
    arms = np.array([True, True, False])
    known = make("table", replay)
    known.fit(restricted(replay, arms), train, ground.unit, 0)
    few = calibration_queries(train, 10, seed=3)
    met = extended(known, "table", arms, ground, few, 0)
    changed = replace(replay, score=replay.score.copy(), memo={})
    hidden = np.setdiff1d(np.arange(120), few)
    changed.score[hidden, 2] = 1.0 - changed.score[hidden, 2]
    again = extended(known, "table", arms, replace(ground, replay=changed), few, 0)
    assert np.array_equal(met.predicted_score, again.predicted_score)
    assert np.array_equal(met.predicted_score[:, :2], known.predicted_score)
    for domain in ("easy", "hard"):
        mine = few[replay.domains[few] == domain]
        expected = replay.mean_score[mine, 2].mean()
        assert met.predicted_score[replay.domains == domain, 2] == pytest.approx(expected)


def test_a_smaller_calibration_is_a_part_of_a_larger_one_and_seeds_differ() -> None:
    train = np.arange(100, 200)
    few, more = calibration_queries(train, 10, 0), calibration_queries(train, 40, 0)
    assert len(few) == 10
    assert set(few) < set(more) <= set(train)
    assert set(calibration_queries(train, 10, 1)) != set(few)


def test_finished_runs_are_kept_and_the_others_made(tiny_store: Path, tmp_path: Path) -> None:
    plan = plan_of(tiny_store, tmp_path, profiles=(), seeds=1)
    run_all(plan, Told())
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/manifest.json")}
    (tmp_path / "table-seed0" / "manifest.json").unlink()
    outcome = run_all(replace(plan, resume=True, seeds=2), Told())
    assert outcome.skipped == len(written) - 1
    assert len(outcome.finished) == 2 * len(written)
    for path, time in written.items():
        assert (path.stat().st_mtime_ns == time) == (path.parent.name != "table-seed0")


def test_runs_are_neither_lost_nor_taken_for_others(tiny_store: Path, tmp_path: Path) -> None:
    plan = plan_of(tiny_store, tmp_path, profiles=(), seeds=1)
    run_all(plan, Told())
    with pytest.raises(LabError, match="holds finished runs: go on with --resume, or start anew with --overwrite"):
        run_all(plan, Told())
    with pytest.raises(LabError, match=r"always_giant-seed0 was made with other profiles: give the same"):
        run_all(replace(plan, resume=True, profiles=("stormy",)), Told())
    assert run_all(replace(plan, overwrite=True), Told()).skipped == 0


class Stumbles(Random):
    """A router with a fault."""

    name = "stumbles"

    def act(self, observation: Observation) -> Action:
        raise ZeroDivisionError("a fault")


class Interrupts(Random):
    """A router that is being fitted as the user presses Ctrl-C, the first time."""

    name = "interrupts"
    interrupted = False

    def fit(self, replay: Replay, queries: Ints, cost_unit: float, seed: int) -> None:
        if not Interrupts.interrupted:
            Interrupts.interrupted = True
            raise KeyboardInterrupt
        super().fit(replay, queries, cost_unit, seed)


def with_router(monkeypatch: pytest.MonkeyPatch, maker: Callable[[], Router], name: str) -> None:
    from xrouter_sim import pipeline

    more = QUICK | {name: maker}
    monkeypatch.setattr(bench, "ROUTERS", more)
    monkeypatch.setattr(pipeline, "ROUTERS", more)


def test_a_router_that_fails_is_named_and_the_others_go_on(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_router(monkeypatch, Stumbles, "stumbles")
    options = ("--db", tiny_store, "--out", tmp_path, "--seeds", 1, "--profiles", "none", "--replicates", 100)
    code, printed, _ = run(*options, "--routers", "stumbles,table", "--json")
    assert code == 1
    found = json.loads(printed)
    (why,) = found["failed"].values()
    assert why.startswith("ZeroDivisionError: a fault (test_bench_routers.py, line ")
    assert "table" in found["routers"]
    assert "stumbles" not in found["routers"]
    assert not (tmp_path / "stumbles-seed0" / "manifest.json").exists()


def test_a_bench_that_was_stopped_goes_on(tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_router(monkeypatch, Interrupts, "interrupts")
    options = ("--db", tiny_store, "--out", tmp_path, "--seeds", 1, "--profiles", "none", "--replicates", 100)
    code, _, said = run(*options, "--routers", "interrupts", "--quiet")
    assert code == 130
    assert "Go on with the same command and --resume" in said
    code, printed, said = run(*options, "--routers", "interrupts", "--resume", "--json")
    assert code == 0, said
    found = json.loads(printed)
    assert found["runs_from_before"] == found["runs"] - 1
    assert "interrupts" in found["routers"]
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert "<svg" in (tmp_path / "curves.svg").read_text()
    assert json.loads((tmp_path / "figures.json").read_text())["routers"] == found["routers"]


def test_without_costs_a_bench_has_accuracy_and_says_what_it_leaves_out(tiny_store: Path, tmp_path: Path) -> None:
    code, printed, said = run(
        *("--db", tiny_store, "--out", tmp_path, "--seeds", 1, "--accuracy-only", "--groups", "words=words"),
        *("--replicates", 100, "--routers", "table", "--profiles", "calm,prices", "--json"),
    )
    assert code == 0, said + printed
    found = json.loads(printed)
    assert found["cost_unit_usd"] is None
    assert found["settings"] == [0.0]
    assert set(found["left_out"]) == {"profile prices"}
    for name, row in found["routers"].items():
        assert row["aiq"]["value"] is row["cost_per_1000_usd"]["value"] is None, name
        assert row["reward"]["0"] == row["accuracy"], name
    assert found["domains"]["table"]["groups"]["words"] == found["domains"]["table"]["domains"]["words"]


def test_the_table_is_for_reading(tiny_store: Path, tmp_path: Path) -> None:
    code, printed, said = run(
        *("--db", tiny_store, "--out", tmp_path, "--seeds", 1, "--routers", "table", "--replicates", 100, "--quiet"),
        *("--held-out", "small", "--calibration", "0,8", "--profiles", "calm,stormy"),
    )
    assert code == 0, said
    for words in ("Δ AIQ", "best peer by aiq", "Reward at λ = 1 in other worlds", "part at 8", "lost blind"):
        assert words in printed, words


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        (("--routers", "no-such"), "no router 'no-such'"),
        (("--profiles", "no-such"), "no profile 'no-such'"),
        (("--held-out", "no-such"), "--held-out no-such"),
        (("--groups", "in"), "write NAME=DOMAIN,DOMAIN"),
        (("--held-out", "small", "--calibration", "few"), "write whole numbers"),
    ],
)
def test_a_mistake_is_said_before_anything_is_made(
    tiny_store: Path, tmp_path: Path, option: tuple[str, ...], complaint: str
) -> None:
    code, _, said = run("--db", tiny_store, "--out", tmp_path, "--seeds", 1, *option)
    assert code == 1
    assert complaint in said
    assert not list(tmp_path.iterdir())


def test_groups_are_named_once_and_of_known_domains(benched: tuple[Plan, bench.Outcome]) -> None:
    plan, _ = benched
    with pytest.raises(LabError, match="stands twice"):
        groups_of(["a=x", "a=y"])
    with pytest.raises(LabError, match=r"no test query is of colours \(there are sums, words\)"):
        by_domain(load_run(plan.out / "table-seed0").panels, {"a": ["colours"]}, at=1.0)
