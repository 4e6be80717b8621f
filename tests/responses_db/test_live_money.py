"""Money: what a harvest would cost, the cap that it keeps, and what is known of a call's cost.

The endpoint bills 100 input tokens, of which 40 were cached, and 20 output tokens for an answer: 300 micro-USD.
"""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from responses_db import LabError, ResponseStore
from tests.responses_db.worlds import FlakyEndpoint, completion, endpoint_config, fill, simulated_config
from xrouter_sim.cli import main

CALL_USD = 300e-6
FORTY = [f"ok {n}" for n in range(40)]
NO_PRICE = ""


def head(budget_usd: float, max_tokens: int = 20) -> str:
    return f"budget_usd = {budget_usd}\nmax_tokens = {max_tokens}"


def test_the_cap_is_never_exceeded_and_is_over_all_runs_together(tmp_path: Path, endpoint: FlakyEndpoint) -> None:
    budget = 10.5 * CALL_USD
    done, rows = fill(tmp_path, endpoint, *FORTY, head=head(budget))
    asked = endpoint.asked.total()
    assert 5 <= asked <= 10
    assert done.spent_usd == pytest.approx(asked * CALL_USD)
    assert rows["cost_usd"].sum() <= budget
    assert "the budget of $0.00315 is reached" in done.budget_reached
    assert (done.left, done.tally.failed) == (40 - asked, 0)
    fill(tmp_path, endpoint, *FORTY, head=head(budget))
    assert endpoint.asked.total() <= 10
    done, rows = fill(tmp_path, endpoint, *FORTY, head=head(1.0))
    assert (endpoint.asked.total(), done.left, done.budget_reached) == (40, 0, "")
    assert done.spent_usd == pytest.approx(40 * CALL_USD) == rows["cost_usd"].sum()


def test_what_is_set_aside_grows_with_max_tokens(tmp_path: Path, endpoint: FlakyEndpoint) -> None:
    done, _ = fill(tmp_path, endpoint, *FORTY, head=head(10.5 * CALL_USD, max_tokens=1_000))
    assert endpoint.asked.total() == 0
    assert re.search(r"a call may cost up to \$0.0102 \(a smaller max_tokens lowers that\)", done.budget_reached)


def test_cached_answers_count_though_the_store_is_gone(tmp_path: Path, endpoint: FlakyEndpoint) -> None:
    budget = 10.5 * CALL_USD
    fill(tmp_path, endpoint, *FORTY, head=head(budget))
    asked = endpoint.asked.total()
    (tmp_path / "store.duckdb").unlink()
    done, _ = fill(tmp_path, endpoint, *FORTY, head=head(budget))
    assert done.cached == asked
    assert endpoint.asked.total() <= 10


def test_calls_that_were_cut_off_count_at_the_most_they_can_cost(tmp_path: Path, endpoint: FlakyEndpoint) -> None:
    """A malformed body was billed as likely as not; a 500 was not."""
    done, _ = fill(tmp_path, endpoint, "garbled", "broken", retries=0, head=head(1.0))
    assert done.spent_usd == 0.0
    assert done.lost_usd == pytest.approx((len(json.dumps(endpoint.bodies[0], separators=(",", ":"))) + 64 + 200) / 1e6)
    endpoint.healed = True
    later, _ = fill(tmp_path, endpoint, "garbled", "broken", retries=0, head=head(1.0))
    assert later.lost_usd == done.lost_usd
    assert later.spent_usd == pytest.approx(2 * CALL_USD)


def test_a_model_without_a_price_is_refused_under_a_budget(tmp_path: Path, endpoint: FlakyEndpoint) -> None:
    with pytest.raises(LabError, match=r"flaky-1 has no price, so no budget can hold: give it a `price`"):
        fill(tmp_path, endpoint, "ok", head=head(1.0), model=NO_PRICE)
    assert endpoint.asked.total() == 0
    with ResponseStore(tmp_path / "store.duckdb") as store:
        assert store.frame("SELECT * FROM runs").is_empty()


def test_without_a_price_the_cost_is_what_the_endpoint_says_or_unknown(tmp_path: Path, endpoint: FlakyEndpoint) -> None:
    endpoint.odd = completion("Answer: yes")
    endpoint.odd["usage"]["cost"] = 0.0125
    done, rows = fill(tmp_path, endpoint, "odd", "ok", model=NO_PRICE)
    assert rows["cost_usd"].to_list() == [0.0125, None]
    assert (done.tally.cost_usd, done.tally.unpriced) == (0.0125, 1)


def test_tokens_that_nobody_counted_are_estimated_and_marked(tmp_path: Path, endpoint: FlakyEndpoint) -> None:
    endpoint.odd = completion("Answer: yes")
    del endpoint.odd["usage"]
    done, rows = fill(tmp_path, endpoint, "odd", "ok")
    assert rows["tokens_from"].to_list() == ["estimate", "usage"]
    assert rows["input_tokens"].to_list() == [1, 100]  # three characters
    assert rows["output_tokens"].to_list() == [3, 20]
    assert done.tally.estimated == 1


# `--dry-run` and `--budget` on the command line.


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["harvest", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_dry_run_asks_and_writes_nothing_and_needs_no_key(
    tmp_path: Path, endpoint: FlakyEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLAKY_API_KEY")
    config = endpoint_config(tmp_path, endpoint.url, FORTY, head=head(0.5, max_tokens=100))
    before = sorted(tmp_path.rglob("*"))
    words = run(config, "--db", tmp_path / "store.duckdb", "--dry-run")
    assert "40 calls; nothing was asked. At most $0.0" in words
    assert "the budget is $0.50" in words
    assert endpoint.asked.total() == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_counts_what_is_stored_and_cached_and_learns_from_it(tmp_path: Path, endpoint: FlakyEndpoint) -> None:
    db = tmp_path / "store.duckdb"
    fill(tmp_path, endpoint, *FORTY[:10])
    config = endpoint_config(tmp_path, endpoint.url, FORTY, head="max_tokens = 65536")
    plan = json.loads(run(config, "--db", db, "--dry-run", "--json", "--budget", 3))
    assert plan["budget_usd"] == 3
    (own,) = plan["models"]
    assert (own["model_id"], own["provenance"]) == ("flaky-1", "local")
    assert (own["cells"], own["stored"], own["cached"], own["to_ask"]) == (40, 10, 0, 30)
    assert own["input_tokens"] == 30 * 2  # `ok 17`, at four characters a token
    assert own["likely_usd"] == pytest.approx(30 * (2 + 20 * 10) / 1e6)
    assert own["at_most_usd"] > 30 * 65_536 * 10 / 1e6
    db.unlink()
    (own,) = json.loads(run(config, "--db", db, "--dry-run", "--json"))["models"]
    assert (own["stored"], own["cached"], own["to_ask"], own["likely_usd"]) == (0, 10, 30, None)


def test_simulated_models_keep_a_budget_as_well(tmp_path: Path) -> None:
    """At list price: a rehearsal."""
    config, db = simulated_config(tmp_path, queries=30), tmp_path / "store.duckdb"
    facts = json.loads(run(config, "--db", db, "--budget", 1.5, "--json", "--quiet"))
    assert 0 < facts["cost_usd"] <= 1.5
    assert 0 < facts["left"] < facts["missing"] == 360
    words = run(config, "--db", db, "--budget", 1.5, "--quiet")
    assert "the budget of $1.5 is reached" in words
    assert "go on with a larger --budget" in words
