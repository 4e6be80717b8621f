"""A store that does not know its costs: nothing is free by accident, and no figure of cost is made up."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from responses_db import LabError, ResponseStore
from responses_db.importers import land, tidy
from xrouter_sim.cli import main
from xrouter_sim.costs import PLACEHOLDER_USD, Costs, cost_words, nominal_costs
from xrouter_sim.evaluation import bench
from xrouter_sim.pipeline import make
from xrouter_sim.replay import Replay, cost_unit

UNPRICED = ("small", "giant")
NOMINAL = {"small": 0.01, "giant": 1.0}


def store_of(rows: pl.DataFrame, folder: Path) -> Path:
    rows.write_parquet(folder / "rows.parquet")
    with ResponseStore(folder / "s.duckdb", write=True) as store:
        land(tidy.read(folder / "rows.parquet"), store, {"form": "tidy", "path": folder / "rows.parquet"})
    return folder / "s.duckdb"


@pytest.fixture(scope="module")
def unpriced(tiny_rows: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny store without what `small` and `giant` cost."""
    unknown = pl.col("model").is_in(UNPRICED)
    columns = ("cost_usd", "prompt_tokens", "completion_tokens")
    rows = tiny_rows.with_columns(pl.when(~unknown).then(pl.col(name)).alias(name) for name in columns)
    return store_of(rows, tmp_path_factory.mktemp("unpriced"))


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, [str(each) for each in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_an_unknown_cost_is_refused_and_both_ways_out_are_named(unpriced: Path) -> None:
    with pytest.raises(LabError, match=r"cost unknown for giant, small.*--accuracy-only.*--nominal-cost MODEL=USD"):
        Replay.load(unpriced)


def test_a_nominal_cost_fills_in_what_is_unknown_and_leaves_what_is_known(unpriced: Path, tiny_store: Path) -> None:
    replay, full = Replay.load(unpriced, Costs(nominal=NOMINAL)), Replay.load(tiny_store)
    for arm, model in enumerate(replay.model_ids):
        expected = NOMINAL[model] if model in NOMINAL else full.cost_usd[:, arm]
        assert np.all(replay.cost_usd[:, arm] == expected), model
    assert replay.priced
    assert replay.store["costs"] == {"kind": "nominal", "nominal_usd_a_call": NOMINAL}


@pytest.mark.parametrize(
    ("stated", "complaint"),
    [
        ({"small": 0.01}, r"cost unknown for giant \(60 responses\)"),
        (NOMINAL | {"tiny": 1.0}, "no such model"),
        (NOMINAL | {"large": 1.0}, "knows what it cost"),
    ],
)
def test_each_unknown_cost_is_stated_and_no_other(unpriced: Path, stated: dict[str, float], complaint: str) -> None:
    with pytest.raises(LabError, match=complaint):
        Replay.load(unpriced, Costs(nominal=stated))


@pytest.mark.parametrize("pair", ["gpt-4", "=1", "gpt-4=cheap", "gpt-4="])
def test_a_nominal_cost_is_a_model_and_an_amount(pair: str) -> None:
    with pytest.raises(LabError, match="write MODEL=USD"):
        nominal_costs([pair])


@pytest.mark.parametrize("usd", [0.0, -1.0, float("inf"), float("nan")])
def test_a_nominal_cost_is_above_0(usd: float) -> None:
    with pytest.raises(LabError, match="must be above 0 and finite"):
        Costs(nominal={"gpt-4": usd})


def test_a_model_has_one_nominal_cost() -> None:
    with pytest.raises(LabError, match="given twice"):
        nominal_costs(["a=1", "a=2"])


def test_the_two_ways_out_exclude_each_other() -> None:
    with pytest.raises(LabError, match="give one of the two"):
        Costs(accuracy_only=True, nominal=NOMINAL)


def test_without_costs_every_call_weighs_the_same_and_nothing_is_told(unpriced: Path) -> None:
    replay = Replay.load(unpriced, Costs(accuracy_only=True))
    assert not replay.priced
    assert np.all(replay.cost_usd == PLACEHOLDER_USD)
    train = replay.indices("train")
    router = make("table", replay)
    router.fit(replay, train, cost_unit(replay, train), 0)
    stormy = bench.world_of(replay, "stormy")
    frame = bench.decide([router], replay, replay.indices("test"), stormy, (0.0,), 0, 1.0, 64)
    calls = frame.explode("calls")["calls"].struct
    for column in (frame["cost_usd"], calls.field("cost"), calls.field("price")):
        assert column.null_count() == len(column)
    assert (frame["reward"] == frame["score"]).all()


def test_without_costs_equal_arms_are_told_apart_by_name(tiny_rows: pl.DataFrame, tmp_path: Path) -> None:
    """Were the store's own costs still at work, `giant` would lose the tie to the cheaper ones."""
    replay = Replay.load(store_of(tiny_rows.with_columns(score=pl.lit(1.0)), tmp_path), Costs(accuracy_only=True))
    train = replay.indices("train")
    for name in ("table", "knn", "oracle"):
        router = make(name, replay)
        router.fit(replay, train, cost_unit(replay, train), 0)
        frame = bench.decide(
            [router], replay, replay.indices("test"), bench.world_of(replay, "calm"), (0.0,), 0, 1.0, 64
        )
        assert set(frame["answered_by"]) == {"giant"}, name


def test_a_run_without_costs_has_none_in_any_figure(unpriced: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, _, complaint = run("train", "table", "--db", unpriced, "--out", out, "--accuracy-only", "--quiet")
    assert code == 0, complaint
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["cost_unit_usd"] is None
    assert manifest["settings"] == [0.0]
    assert manifest["store"]["costs"] == {"kind": "none"}
    assert "cheapest" not in manifest["kinds"]


def test_simulate_and_bounds_leave_costs_out(unpriced: Path) -> None:
    code, printed, complaint = run("simulate", "table", "--db", unpriced, "--accuracy-only", "--json")
    assert code == 0, complaint
    found = json.loads(printed)
    assert found["usd_per_1k"] is found["cost_unit_usd"] is None
    assert found["penalty"] == 0.0
    assert found["reward"] == found["accuracy"]
    code, printed, complaint = run("bounds", "--db", unpriced, "--accuracy-only", "--json")
    assert code == 0, complaint
    found = json.loads(printed)
    assert found["cost_unit_usd"] is None
    assert {row["cost_usd"] for row in found["bounds"].values()} == {None}
    assert found["zero_router"]["cost_usd"] is None


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("simulate", "table", "--penalty", 1), "has nothing to weigh"),
        (("simulate", "table", "--trace", "trace.jsonl"), "a trace tells bills"),
        (("bounds", "--penalty", 1), "nothing to weigh"),
        (("bounds", "--unit", 1), "nothing to weigh"),
    ],
)
def test_what_needs_costs_is_refused_without_them(unpriced: Path, command: tuple[object, ...], reason: str) -> None:
    code, _, complaint = run(*command, "--db", unpriced, "--accuracy-only")
    assert code == 1
    assert reason in complaint


def test_nominal_costs_are_called_nominal(unpriced: Path) -> None:
    stated = [part for model, usd in NOMINAL.items() for part in ("--nominal-cost", f"{model}={usd}")]
    code, printed, complaint = run("simulate", "table", "--db", unpriced, *stated)
    assert code == 0, complaint
    assert "Costs are nominal where the store has none" in " ".join(printed.split())
    assert cost_words({"kind": "known"}) == cost_words(None) == ""
