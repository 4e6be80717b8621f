"""What to harvest: a TOML file with tasks, prompt styles and providers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from responses_db.errors import LabError
from responses_db.providers import PROVIDERS, Provider
from responses_db.query import Query
from responses_db.tasks import TASKS, interleave
from responses_db.toml_table import Table, read_toml


@dataclass(frozen=True)
class HarvestConfig:
    """A checked config. `prompt_styles` are system prompts by name ("" sends none); `raw` is the file as read.

    `budget_usd` caps what all answers of the config together may cost; None for no cap.
    """

    queries: list[Query]
    prompt_styles: dict[str, str]
    providers: list[Provider]
    samples: int
    max_tokens: int
    raw: dict[str, Any]
    budget_usd: float | None = None


def read_config(path: Path) -> HarvestConfig:
    """Read the config and draw its queries (seconds, for large ones). LabError for the first mistake found."""
    table = read_toml(path)
    seed = table.integer("seed", 0)
    samples = table.integer("samples", 1, least=1, most=2**31 - 1)
    max_tokens = table.integer("max_tokens", 65_536, least=1, most=2**31 - 1)
    budget_usd = table.number("budget_usd", None)
    styles = read_prompt_styles(table)
    task_tables, providers = table.tables("tasks"), read_providers(table, seed)
    table.finish()
    queries = interleave(TASKS[row.text("kind", among=TASKS)].read(row, seed, path.parent) for row in task_tables)
    return HarvestConfig(queries, styles, providers, samples, max_tokens, dict(table.values), budget_usd)


def read_providers(table: Table, seed: int) -> list[Provider]:
    """The [[providers]] tables. LabError for the first mistake found."""
    providers = [PROVIDERS[row.text("kind", among=PROVIDERS)](row, seed) for row in table.tables("providers")]
    _check_models(providers, table)
    return providers


def read_prompt_styles(table: Table) -> dict[str, str]:
    """[prompt_styles]: system prompts by name, "" for none."""
    styles = table.mapping("prompt_styles", {"plain": ""})
    for name, prompt in styles.items():
        if not isinstance(prompt, str):
            raise table.fail(f'prompt style {name!r} must be a system prompt in quotes, or "" for none')
    if not styles:
        raise table.fail('[prompt_styles] is empty: write for example plain = ""')
    return dict(styles)


def _check_models(providers: list[Provider], table: Table) -> None:
    seen = set[str]()
    for model in (model for provider in providers for model in provider.models):
        if model.model_id in seen:
            raise LabError(f"{table.where}: model {model.model_id!r} stands twice: give one of them another `id`")
        seen.add(model.model_id)
