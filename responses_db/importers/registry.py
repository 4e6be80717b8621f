"""The importers there are. Nothing heavy is imported here, so that `xrouter-sim import --help` is quick.

A new importer is one new file with a `FORM` and one line in IMPORTERS: that gives `xrouter-sim import NAME`, with the
file's docstring for its help.
"""

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module, resources
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from responses_db.importers.base import Form

SPLIT_CHOICES = ("source", "hash", "train", "validation", "test")


@dataclass(frozen=True)
class Choices:
    """What the user decides about an import.

    `split`: `source` takes the source's own splits and hashes where it has none; `hash` always hashes; a split's name
    puts all queries there. `test_share` and `seed` are for the hash. `dataset` replaces the form's own name.
    """

    split: str = "source"
    test_share: float = 0.3
    seed: int = 0
    dataset: str | None = None
    trust_pickle: bool = False
    costs: Path | None = None


@dataclass(frozen=True)
class Importer:
    """A published form. `summary` is one sentence: what it is and who publishes it."""

    name: str
    summary: str
    options: Sequence[str] = ()  # more options of its command, by their name in the CLI

    @property
    def form(self) -> "Form":
        form: Form = import_module(f"responses_db.importers.{self.name}").FORM
        return form

    @property
    def help(self) -> str:
        """The docstring of the importer's file, read without running it."""
        source = resources.files("responses_db.importers").joinpath(f"{self.name}.py").read_text("utf-8")
        return ast.get_docstring(ast.parse(source)) or self.summary


IMPORTERS = {
    importer.name: importer
    for importer in [
        Importer("tidy", "The tidy form, Parquet or CSV: one row a response."),
        Importer("routerbench", "RouterBench: 11 models, costs and answers, wide CSV, Parquet or pickle.", ["pickle"]),
        Importer("routellm", "RouteLLM's MMLU and GSM8K answers of a strong and a weak model, CSV."),
        Importer("routerdc", "RouterDC's scores of seven open models, JSON."),
        Importer("routerarena", "RouterArena's cached results of many models, JSONL.", ["costs"]),
        Importer("llmrouterbench", "LLMRouterBench's records of 33 models on 21 benchmarks, JSON or tar.gz."),
        Importer("embedllm", "EmbedLLM's right and wrong answers of 112 open models, CSV."),
        Importer("sprout", "SPROUT, the data of CARROT: 13 models and their token counts, Parquet."),
    ]
}
