"""A trained run on the tiny store, and providers on loopback."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from xrouter_sim.cli import main

pytest.importorskip("fastapi", reason="needs the extra `serve`")


@pytest.fixture(scope="session")
def run_folder(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/responses.duckdb and runs/table, a trained `table` router."""
    folder = tmp_path_factory.mktemp("serving")
    (folder / "data").mkdir()
    shutil.copy(tiny_store, folder / "data" / "responses.duckdb")
    arguments = ["train", "table", "--db", str(folder / "data/responses.duckdb"), "--out", str(folder / "runs/table")]
    done = CliRunner().invoke(main, [*arguments, "--quiet"])
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def providers(tmp_path: Path) -> Callable[..., Path]:
    """Writes a providers.toml for endpoints: model → (base URL)."""

    def write(**urls: str) -> Path:
        tables = [
            f'[[providers]]\nkind = "openai"\nname = "{model}"\nbase_url = "{url}"\nconcurrency = 64\n'
            f'[[providers.models]]\nname = "{model}"\n'
            'price = { input = 1.0, output = 4.0, valid_from = 2026-01-01, source = "the test" }\n'
            for model, url in urls.items()
        ]
        path = tmp_path / "providers.toml"
        head = (
            'max_tokens = 100\n[prompt_styles]\ndefault = ""\nplain = ""\n[client]\nbackoff_s = 0.01\ntimeout_s = 5\n'
        )
        path.write_text(head + "\n".join(tables))
        return path

    return write
