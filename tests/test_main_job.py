"""The main job from end to end, as `make train-sim` does it, on little data: harvest, train, evaluate, report."""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

ROOT = Path(__file__).resolve().parents[1]


def xrouter_sim(*arguments: str, folder: Path) -> str:
    command = [sys.executable, "-m", "xrouter_sim", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the main job has run on 60 queries."""
    folder = tmp_path_factory.mktemp("main-job")
    config = str(ROOT / "experiments" / "harvest" / "demo.toml")
    xrouter_sim("harvest", config, "--db", "data/responses.duckdb", "--limit", "60", "--quiet", folder=folder)
    xrouter_sim("train", "rl", "--db", "data/responses.duckdb", "--updates", "2", "--quiet", folder=folder)
    xrouter_sim("report", "runs/demo", "--out", "report.html", folder=folder)
    return folder


def test_the_store_holds_every_answer_and_says_that_it_is_simulated(folder: Path) -> None:
    info = json.loads(xrouter_sim("store", "info", "--json", folder=folder))
    assert info["counts"]["queries"] == 60
    assert info["coverage"]["share"] == 1.0
    assert info["provenance"] == {"simulated": info["counts"]["responses"]}


def test_the_run_compares_the_router_with_every_baseline_on_the_same_queries(folder: Path) -> None:
    decisions = pl.read_parquet(folder / "runs" / "demo" / "decisions.parquet")
    routers = set(decisions["router"])
    assert {"rl", "random", "cheapest", "table", "knn", "cascade", "oracle"} <= routers
    assert sum(router.startswith("always:") for router in routers) >= 8
    counts = decisions.group_by("router", "setting").agg(pl.col("query_id").n_unique())
    assert counts["query_id"].n_unique() == 1


def test_the_figures_come_as_json_with_intervals(folder: Path) -> None:
    out = json.loads(xrouter_sim("evaluate", "runs/demo", "--json", folder=folder))
    text = json.dumps(out)
    assert '"low"' in text
    assert "simulated" in text.lower()


def test_the_report_is_one_page_that_fetches_nothing_and_says_simulated(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert "simulated" in page.lower()
    assert "<script src=" not in page
    assert '<link rel="stylesheet"' not in page


def test_a_second_harvest_does_nothing_new(folder: Path) -> None:
    config = str(ROOT / "experiments" / "harvest" / "demo.toml")
    said = xrouter_sim("harvest", config, "--db", "data/responses.duckdb", "--limit", "60", folder=folder)
    assert "nothing new" in said.lower()
