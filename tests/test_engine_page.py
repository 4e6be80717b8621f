"""What docs/engine.md shows can be done as it is shown."""

import asyncio
import re
import shlex
import shutil
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from responses_db.providers.base import Endpoint, Model, Price
from responses_db.providers.openai import OpenAIProvider
from responses_db.query import Query
from xrouter_sim.bench.endpoint import Behaviour, running_endpoint
from xrouter_sim.cli import main
from xrouter_sim.engine.semantics import Action, Final

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "engine.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)


def test_its_commands_run_in_order(tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    shutil.copy(tiny_store, tmp_path / "data" / "responses.duckdb")
    (profile,) = blocks("toml")
    (tmp_path / "mine.toml").write_text(profile)
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(commands) == 4
    for command in commands:
        name, *arguments = shlex.split(command.replace("--trials 200", "--trials 10"))
        assert name == "xrouter-sim"
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, f"{command}\n{result.output}"
        assert result.stdout


def test_its_live_episode_runs() -> None:
    (code,) = blocks("python")
    namespace: dict = {}
    exec(code, namespace)
    price = Price(1.0, 4.0, None, date(2026, 1, 1), "the test")

    class Router:
        @staticmethod
        def act(seen: object) -> Action:
            return Action.call(np.array([0]), Final.ADOPT)

    with running_endpoint(Behaviour()) as url:
        provider = OpenAIProvider("loopback", Endpoint(url), [Model("a", "a", price)], {}, concurrency=2)
        query = Query("q", "live", "sums", [{"role": "user", "content": "40 + 2?"}], "40 + 2?", "42", "numeric", "test")
        trace = asyncio.run(namespace["ask_live"]([provider], query, Router(), 0.01))
    assert trace.end.score == 1.0
    assert trace.engine == "live"


@pytest.mark.parametrize("path", re.findall(r"\]\(([\w./-]+)\)", PAGE))
def test_its_links_lead_somewhere(path: str) -> None:
    assert (ROOT / "docs" / path).exists()
