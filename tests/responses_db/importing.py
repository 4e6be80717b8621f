"""What the tests of importers do again and again: write a sample, import it, look at the store."""

from pathlib import Path
from typing import Any

from click.testing import CliRunner

from responses_db import ResponseStore
from responses_db.importers import Choices, Imported, import_files
from tests.responses_db.importer_samples import SAMPLES
from xrouter_sim.cli import main

STORED = """
SELECT g.query_id, model_id, sample_index, score, text, cost_usd, input_tokens, output_tokens, reference
FROM graded g JOIN queries USING (query_id) ORDER BY ALL
"""


def stored(db: Path, sql: str = STORED) -> list[tuple[Any, ...]]:
    with ResponseStore(db) as store:
        return store.frame(sql).rows()


def content_hash(db: Path) -> str:
    with ResponseStore(db) as store:
        return store.content_hash()


def sample(form: str, folder: Path) -> Path:
    SAMPLES[form].write(folder)
    return folder / SAMPLES[form].file


def lab(*args: object) -> str:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output
    return result.output


def put(form: str, path: Path, db: Path, **more: Any) -> Imported:
    choices = {name: more.pop(name) for name in list(more) if name in Choices.__dataclass_fields__}
    return import_files(form, [path], db, Choices(**choices), **more)
