"""What docs/extending.md shows is code that runs: every part of it is used as the page says."""

import re
import shlex
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

import responses_db.plugins as plugins
from responses_db import LabError, graders, providers, tasks
from xrouter_sim.bench.endpoint import Behaviour, running_endpoint
from xrouter_sim.cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text("utf-8")
FILES = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```", PAGE, re.M | re.S))


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the page's files, importable while the test runs."""
    for name, code in FILES.items():
        (tmp_path / name).write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in FILES:
        sys.modules.pop(Path(name).stem, None)


def announced(monkeypatch: pytest.MonkeyPatch, **groups: dict[str, str]) -> None:
    """Entry points as an installed package would have them."""
    points = EntryPoints(
        EntryPoint(name, value, f"xrouter_sim.{kind}")
        for kind, parts in groups.items()
        for name, value in parts.items()
    )
    monkeypatch.setattr(plugins, "entry_points", lambda group: points.select(group=group))


def test_its_routers_train_and_compare(here: Path, tiny_store: Path) -> None:
    (here / "data").mkdir()
    (here / "data" / "responses.duckdb").write_bytes(tiny_store.read_bytes())
    commands = [line for line in blocks("sh")[0].splitlines() if "bench routers" not in line]
    assert len(commands) == 3
    for command in commands:
        result = CliRunner().invoke(main, shlex.split(command)[1:])
        assert result.exit_code == 0, f"{command}\n{result.output}"
    for name in ("by-length", "asks-two"):
        decisions = pl.read_parquet(here / "runs" / name / "decisions.parquet").filter(pl.col("router") == name)
        assert (decisions["final"] != "none").all()
    assert decisions["calls"].list.len().max() == 3  # two at once, and the dearest where they differ
    assert decisions["calls"].list.len().min() == 2


def test_its_task_grader_and_provider_harvest(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project,) = (block for block in blocks("toml") if "[project]" in block)
    groups: dict[str, dict[str, str]] = {}
    for kind, lines in re.findall(r'\[project.entry-points."xrouter_sim.(\w+)"\]\n((?:[^\n\[]+\n?)+)', project):
        groups[kind] = dict(re.findall(r'^([\w-]+) = "(.*)"$', lines, re.M))
    announced(monkeypatch, **groups)
    for kind, registry in (("graders", graders.GRADERS), ("tasks", tasks.TASKS), ("providers", providers.PROVIDERS)):
        for name, part in plugins.plugins(kind, registry).items():
            monkeypatch.setitem(registry, name, part)
    assert set(plugins.plugins("routers", ())) == {"by-length"}
    config = next(block for block in blocks("toml") if block.startswith("# gateway.toml"))
    with running_endpoint(Behaviour()) as url:
        Path("gateway.toml").write_text(config.replace("http://127.0.0.1:8000/v1", url))
        command = next(block for block in blocks("sh") if "harvest gateway.toml" in block)
        result = CliRunner().invoke(main, shlex.split(command)[1:])
        assert result.exit_code == 0, result.output
    query = "SELECT DISTINCT scores.grader, model_id FROM responses JOIN scores USING (response_id)"
    asked = CliRunner().invoke(main, ["store", "sql", query, "--db", "data/gateway.duckdb", "--json"])
    assert "within-ten-percent" in asked.output
    assert "gateway-large" in asked.output


def test_a_router_of_a_file_must_be_one(here: Path, tiny_store: Path) -> None:
    Path("bad.py").write_text(
        "class Nothing: pass\n\nclass Fails:\n    def __init__(self): raise TypeError('needs more')\n"
    )
    Path("broken.py").write_text("import nowhere_to_be_found\n")
    wrong = {
        "missing.py:Mine": "no such file",
        "bad.py:Mine": "has no 'Mine': it defines Nothing, Fails",
        "bad.py:Nothing": "is no router: derive it from",
        "bad.py:Fails": "without arguments",
        "broken.py:Mine": "fails when it is imported: ModuleNotFoundError",
    }
    for name, said in wrong.items():
        result = CliRunner().invoke(main, ["train", name, "--db", str(tiny_store), "--out", "out"])
        assert result.exit_code == 1
        assert said in result.output
        assert "Traceback" not in result.output


def test_a_name_that_is_taken_or_a_part_that_is_broken_is_said(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    announced(monkeypatch, routers={"table": "mine:ByLength"})
    with pytest.raises(LabError, match=r"'table' in xrouter_sim\.routers, a name that is taken"):
        plugins.plugins("routers", ("table",))
    announced(monkeypatch, routers={"other": "not_there:Other"})
    with pytest.raises(LabError, match=r"'other' of a package \(not_there:Other\) cannot be imported"):
        plugins.plugins("routers", ())


@pytest.mark.parametrize("path", re.findall(r"\]\(([\w./-]+)\)", PAGE))
def test_its_links_lead_somewhere(path: str) -> None:
    assert (ROOT / "docs" / path).exists()
