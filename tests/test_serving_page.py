"""What docs/serving.md shows can be done as it is shown."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("fastapi", reason="needs the extra `serve`")

from tests.xrouter_sim.serving.served_process import serving
from xrouter_sim.cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "serving.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)


def test_its_commands_and_its_client_run_in_order(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "responses.duckdb").write_bytes(tiny_store.read_bytes())
    (code,) = blocks("python")
    namespace: dict = {}
    served = 0
    for line in (line for block in blocks("sh") for line in block.splitlines()):
        name, *arguments = shlex.split(line)
        assert name == "xrouter-sim"
        if arguments[0] == "serve":
            with serving(tmp_path, *arguments[1:], key=None) as at:
                exec(code.replace("8484", str(at.port)), namespace)
                question = "Question 41 about words?\nA) one\nB) two\nC) three\nD) four"
                answer = namespace["ask"](question, "xrouter-sim/lambda=0")
                assert answer.router_metadata["lambda"] == 0
            served += 1
            continue
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, f"{line}\n{result.output}"
    assert served == 1


@pytest.mark.parametrize("path", re.findall(r"\]\(([\w./-]+)\)", PAGE))
def test_its_links_lead_somewhere(path: str) -> None:
    assert (ROOT / "docs" / path).exists()
