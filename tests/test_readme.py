"""Every command in the README runs as printed.

Three kinds, so that the test takes seconds and not minutes:

* `make TARGET`: the target must be there and make must know how to reach it (`make -n`). CI runs `make test` itself.
* What `make train-sim` is made of: must be printed exactly as make runs it. tests/test_main_job.py runs that job.
* Every other command: is run, in the README's order, in a folder that holds what the README speaks of.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```", README, re.M | re.S) for line in block.splitlines() if line
]


def make_prints(target: str) -> list[str]:
    """The commands that make would run for a target, with an environment set up already."""
    done = subprocess.run(
        ["make", "-n", "-o", ".venv/.stamp-setup", target], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [line.strip().removeprefix(".venv/bin/") for line in done.stdout.splitlines()]


MAKE = [command for command in COMMANDS if command.startswith("make ")]
MAIN_JOB = [command for command in COMMANDS if command in make_prints("train-sim")]
OTHERS = [command for command in COMMANDS if command not in MAKE + MAIN_JOB]


@pytest.mark.parametrize("command", MAKE)
def test_make_commands_have_a_target(command: str) -> None:
    assert make_prints(command.removeprefix("make "))


def test_the_two_commands_and_the_main_job_by_hand_are_there() -> None:
    assert MAKE == ["make train-sim", "make test"]
    job = [line for line in make_prints("train-sim") if line.startswith("xrouter-sim ")]
    assert job == MAIN_JOB


@pytest.fixture(scope="module")
def folder(tiny_parquet: Path, tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the README's reader stands: after the main job, with a file of their own. Small stand-ins for both."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "data").mkdir()
    shutil.copy(tiny_parquet, folder / "answers.parquet")
    shutil.copy(tiny_store, folder / "data" / "responses.duckdb")
    shutil.copytree(ROOT / "experiments", folder / "experiments")
    run("xrouter-sim train table --db data/responses.duckdb --out runs/demo --quiet", folder)
    return folder


def run(command: str, folder: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    shell = ["bash", "-euo", "pipefail", "-c", command]
    done = subprocess.run(
        shell, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stderr}"


def test_the_other_commands_run_in_order(folder: Path) -> None:
    assert OTHERS
    for command in OTHERS:
        assert command.startswith("xrouter-sim ")
        run(command, folder)
    assert (folder / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize("path", re.findall(r"\]\(([\w./-]+)\)", README))
def test_links_and_the_picture_lead_somewhere(path: str) -> None:
    if path == "docs/frontier.svg" and not (ROOT / path).exists():
        pytest.skip("the picture is drawn from the first run")
    assert (ROOT / path).is_file()


@pytest.mark.parametrize("command", re.findall(r"`(xrouter-sim [a-z ]*--help)`", README))
def test_help_that_the_readme_points_to(command: str, tmp_path: Path) -> None:
    run(command, tmp_path)
