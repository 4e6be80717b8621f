"""`xrouter-sim simulate` and `xrouter-sim trace show`: what they print is what happened."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result

from xrouter_sim.cli import main
from xrouter_sim.engine.profile import Profile
from xrouter_sim.engine.trace import EpisodeTrace, read_traces
from xrouter_sim.evaluation import bench
from xrouter_sim.pipeline import make
from xrouter_sim.replay import Replay, cost_unit

ANSI = "\x1b["


def call(*arguments: object, color: bool = False) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments], color=color, env={"COLUMNS": "100"})


def figures(*arguments: object) -> dict:
    result = call("simulate", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def complaint(*arguments: object) -> str:
    result = call(*arguments)
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    return result.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def traced(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path, list[EpisodeTrace]]:
    """The cascade on a stormy day, every episode traced."""
    path = tmp_path_factory.mktemp("traces") / "out.jsonl"
    found = figures(
        *("cascade", "--db", tiny_store, "--profile", "stormy", "--penalty", 0.5),
        *("--episodes", 300, "--trace", path, "--trace-all"),
    )
    return found, path, list(read_traces(path))


def test_the_figures_are_those_of_the_traces(traced: tuple[dict, Path, list[EpisodeTrace]]) -> None:
    found, _, traces = traced
    assert found["episodes"] == found["traced"] == len(traces) == 300
    assert found["reward"]["value"] == pytest.approx(np.mean([trace.end.reward for trace in traces]))
    assert found["accuracy"]["value"] == pytest.approx(np.mean([trace.end.score for trace in traces]))
    assert found["usd_per_1k"]["value"] == pytest.approx(1000 * np.mean([trace.cost_usd for trace in traces]))
    assert found["seconds"]["most"] == pytest.approx(max(trace.time_s for trace in traces))
    calls = [each for trace in traces for each in trace.calls]
    assert found["calls"] == len(calls)
    assert found["calls_by_outcome"]["ok"] == pytest.approx(np.mean([each.outcome == "ok" for each in calls]))
    assert found["calls_tried_again"] == pytest.approx(np.mean([len(each.attempts) > 1 for each in calls]))
    assert found["escalated"] == pytest.approx(np.mean([len(trace.turns) > 1 for trace in traces]), abs=0.02)
    assert found["unanswered"] == pytest.approx(np.mean([trace.end.slot is None for trace in traces]))
    assert found["reward"]["low"] < found["reward"]["value"] < found["reward"]["high"]


def test_it_plays_what_train_plays(tiny_store: Path) -> None:
    replay = Replay.load(tiny_store)
    train, test = replay.indices("train"), replay.indices("test")
    unit, router = cost_unit(replay, train), make("table", replay)
    router.fit(replay, train, unit, 4)
    decided = bench.decide([router], replay, test, Profile.load("failures"), (1.0,), 4, unit, 4096)
    found = figures("table", "--db", tiny_store, "--profile", "failures", "--seed", 4)
    assert found["reward"]["value"] == pytest.approx(decided["reward"].mean(), abs=1e-12)
    assert found["usd_per_1k"]["value"] == pytest.approx(1000 * decided["cost_usd"].mean(), abs=1e-12)


def test_no_figure_depends_on_the_backend(tiny_store: Path) -> None:
    arguments = ("cascade", "--db", tiny_store, "--profile", "stormy")
    one, other = figures(*arguments), figures(*arguments, "--backend", "torch")
    assert one.pop("backend") == "numpy"
    assert other.pop("backend") == "torch:cpu"
    assert one == other


def test_the_first_episodes_are_traced_with_their_texts(tiny_store: Path, tmp_path: Path) -> None:
    found = figures("random", "--db", tiny_store, "--trace", tmp_path / "x.jsonl", "--trace-first", 3)
    traces = list(read_traces(tmp_path / "x.jsonl"))
    assert [trace.episode for trace in traces] == [0, 1, 2]
    assert found["traced"] == 3
    rows = pl.DataFrame([{"q": each.query_id, "text": each.calls[0].text} for each in traces])
    assert rows["text"].str.contains("[ABCD]").all()
    assert all(trace.end.answer in tuple("ABCD") for trace in traces)
    assert {trace.label for trace in traces} == {"simulated episode over imported answers"}


def test_a_summary_for_a_person(tiny_store: Path, tmp_path: Path) -> None:
    result = call(
        "simulate", "table", "--db", tiny_store, "--profile", "stormy+prices", "--trace", tmp_path / "x.jsonl"
    )
    assert result.exit_code == 0
    assert "table under stormy+prices, seed 0" in result.stdout
    assert "imported from a published data set" in result.stdout
    assert "the store knows no latencies" in " ".join(result.stdout.split())
    assert f"xrouter-sim trace show {tmp_path / 'x.jsonl'}" in result.stdout
    for name in ("accuracy", "cost", "reward", "time", "calls", "outcomes", "endings", "answered by"):
        assert re.search(rf"(?m)^{name} +\S", result.stdout), name
    assert ANSI not in result.stdout


def test_a_trained_router_is_played_with_its_best_weights(tiny_store: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert call("train", "rl", "--db", tiny_store, "--out", run, "--updates", 1, "--quiet").exit_code == 0
    found = figures("rl", "--db", tiny_store, "--run", run)
    decided = pl.read_parquet(run / "decisions.parquet").filter(pl.col("router") == "rl", pl.col("setting") == 1.0)
    assert found["reward"]["value"] == pytest.approx(decided["reward"].mean(), abs=1e-12)
    assert found["usd_per_1k"]["value"] == pytest.approx(1000 * decided["cost_usd"].mean(), abs=1e-12)
    other = tmp_path / "other.duckdb"
    shutil.copy(tiny_store, other)
    import duckdb

    with duckdb.connect(str(other)) as con:
        con.execute("UPDATE scores SET score = 1 - score")
    assert "trained on another store" in complaint("simulate", "rl", "--db", other, "--run", run)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nobody",), "no router 'nobody'"),
        (("rl",), "give the folder of `xrouter-sim train rl` as --run"),
        (("rl", "--run", "nowhere"), "holds no checkpoint"),
        (("table", "--run", "nowhere"), "--run is for rl"),
        (("table", "--profile", "foul"), "no profile 'foul'"),
        (("table", "--split", "dev"), "no queries in split 'dev'"),
        (("table", "--trace", "nowhere/x.jsonl"), "no folder nowhere"),
    ],
)
def test_what_a_user_can_mend(tiny_store: Path, arguments: tuple[str, ...], says: str) -> None:
    assert says in complaint("simulate", *arguments, "--db", tiny_store)


def test_an_episode_is_shown_in_a_hundred_columns(traced: tuple[dict, Path, list[EpisodeTrace]]) -> None:
    _, path, traces = traced
    result = call("trace", "show", path, "--only", "failed", "--only", "escalated", "--most", 0)
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 100
    assert ANSI not in result.stdout
    shown = re.findall(r"(?m)^── episode (\d+)", result.stdout)
    assert shown
    for trace in traces:
        failed = any(each.outcome != "ok" for one in trace.calls for each in one.attempts)
        assert (str(trace.episode) in shown) == (failed and sum(bool(turn.calls) for turn in trace.turns) > 1)


def test_one_episode_shows_its_question_pool_retries_and_verdict(
    traced: tuple[dict, Path, list[EpisodeTrace]],
) -> None:
    _, path, traces = traced
    trace = next(each for each in traces if any(len(one.attempts) == 3 for one in each.calls) and each.end.score == 1)
    text = call("trace", "show", path, "--episode", trace.episode).stdout
    assert f"── episode {trace.episode} · {trace.query_id} " in text
    assert "cascade · λ 0.5 · stormy · seed 0" in text
    assert trace.question.split("\n")[0] in text
    for offer in trace.pool:
        assert offer.model in text
    assert len(re.findall(r"waited \d", text)) >= 2
    assert re.search(r"[█▒]", text)
    assert f"answers with {trace.end.slot + 1}, {trace.end.model}: {trace.end.answer}  right" in text
    assert f"reward {trace.end.reward:.4f}" in text
    assert ANSI in call("trace", "show", path, "--episode", trace.episode, color=True).stdout


def test_parallel_calls_are_bracketed_and_marks_tell_right_from_wrong(tmp_path: Path) -> None:
    from tests.xrouter_sim.test_trace import STORMY, anything, traced
    from xrouter_sim.engine.trace import write_traces

    _, traces = traced(anything, STORMY, deadline=20.0)
    write_traces(traces, tmp_path / "x.jsonl")
    text = call("trace", "show", tmp_path / "x.jsonl", "--most", 0).stdout
    assert max(map(len, text.splitlines())) <= 100
    for sign in ("┌ 1", "├ 2", "└ 3", "✓", "✗", "3 calls in parallel", "not on offer", "over the limit", "deadline 20"):
        assert sign in text, sign


def test_episodes_of_a_query_as_json_and_a_query_that_is_not_there(
    traced: tuple[dict, Path, list[EpisodeTrace]],
) -> None:
    _, path, traces = traced
    query = traces[7].query_id
    lines = call("trace", "show", path, "--query", query, "--most", 0, "--json").stdout.splitlines()
    assert [EpisodeTrace.from_json(line) for line in lines] == [trace for trace in traces if trace.query_id == query]
    assert "no episode is like that" in complaint("trace", "show", path, "--query", "gone")
    assert "no trace at" in complaint("trace", "show", path.with_name("gone.jsonl"))


def test_pairing_is_worth_all_where_two_routers_are_one_and_something_where_they_are_not(tiny_store: Path) -> None:
    arguments = ("--db", tiny_store, "--trials", 30, "--json")
    same = json.loads(call("bench", "pairing", "table", "table", *arguments).stdout)
    assert same["paired_vs_unpaired"] == same["paired_vs_unpaired_worlds"] == 0.0
    two = json.loads(call("bench", "pairing", "table", "knn", *arguments).stdout)
    low, high = two["paired_vs_unpaired_interval"]
    assert 0 < low <= two["paired_vs_unpaired"] <= high < 1
    assert two["standard_error_paired"] < two["standard_error_unpaired"]
    assert two["profile"] == "stormy"
    calm = json.loads(call("bench", "pairing", "always:small", "always:giant", *arguments, "--profile", "calm").stdout)
    assert calm["paired_vs_unpaired_worlds"] is None, "one answer a cell, no failures: every world is the same"
    assert calm["paired_vs_unpaired"] > 0
