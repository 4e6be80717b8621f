"""What the pages under docs/ say of the project is so: names, columns, links, commands and their options."""

import re
import shlex
from pathlib import Path

import click
import pytest

from xrouter_sim.cli import main
from xrouter_sim.evaluation.decisions import SCHEMA
from xrouter_sim.routers import ROUTERS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def commands(text: str) -> list[str]:
    """The `xrouter-sim` lines of the shell blocks, continued lines joined, comments and assignments left out."""
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)).replace("\\\n", " ")
    return [line.split(" #")[0] for line in blocks.splitlines() if re.match(r"xrouter-sim ", line)]


@pytest.mark.parametrize("page", NAMES)
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", path.read_text("utf-8")):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("page", NAMES)
def test_commands_and_their_options_are_there(page: str) -> None:
    for line in commands((ROOT / page).read_text("utf-8")):
        words = shlex.split(line)[1:]
        command: click.Command = main
        context = click.Context(main)
        while isinstance(command, click.Group) and words:
            found = command.get_command(context, words[0])
            assert found is not None, f"no command {words[0]!r}: {line}"
            command, words = found, words[1:]
        if words[:1] == ["llm"]:
            from xrouter_sim.cli.train_llm import train_llm as command
        known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
        for word in words:
            if word.startswith("--"):
                assert word.split("=")[0] in known | {"--help"}, f"no option {word}: {line}"


def test_every_router_has_its_place_among_the_families() -> None:
    table = (ROOT / "docs" / "routers" / "README.md").read_text("utf-8")
    for name in ROUTERS:
        assert f"`{name}`" in table


def test_every_column_of_a_decision_is_explained() -> None:
    page = (ROOT / "docs" / "formats.md").read_text("utf-8")
    for column in SCHEMA:
        assert f"`{column}`" in page
    for name in SCHEMA["calls"].inner.fields:  # type: ignore[attr-defined]
        assert f"`{name.name}`" in page
