"""`xrouter-sim bounds`: a table that a person understands, and the same figures as JSON."""

import json

import pytest
from click.testing import CliRunner

from xrouter_sim.cli import main


def test_the_table_has_a_line_for_each_bound_and_says_what_it_knows(tiny_store) -> None:
    shown = CliRunner().invoke(main, ["bounds", "--db", str(tiny_store), "--penalty", "0.5"])
    assert shown.exit_code == 0, shown.output
    assert "20 queries (test), 4 arms" in shown.output
    for line in ("oracle  ", "informed sequential", "luck-corrected oracle", "best fixed", "every stored response"):
        assert line in shown.output
    assert "One answer a cell" in shown.output


def test_json_has_the_figures_with_their_intervals(tiny_store) -> None:
    command = ["bounds", "--db", str(tiny_store), "--split", "all", "--penalty", "0", "--json"]
    facts = json.loads(CliRunner().invoke(main, command).stdout)
    assert facts["queries"] == 60
    assert facts["best_fixed_arm"] == "giant"
    found = facts["bounds"]
    assert found["oracle"]["reward"]["value"] == pytest.approx(found["oracle"]["score"])
    assert found["oracle"]["score"] > found["best fixed"]["score"]
    assert found["best fixed"]["over_best_fixed"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert found["informed sequential"]["exact_share"] == 1.0
    assert sum(table["queries"] for table in facts["dice"]) == 60
    assert facts["zero_router"]["score"][-1] == pytest.approx(found["best fixed"]["score"])


def test_an_unknown_split_is_one_line(tiny_store) -> None:
    shown = CliRunner().invoke(main, ["bounds", "--db", str(tiny_store), "--split", "dev"])
    assert shown.exit_code == 1
    assert "no queries in split 'dev' (it has test, train)" in shown.output
