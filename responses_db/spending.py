"""The budget at the start of a harvest: what the answers that are there have cost."""

from collections.abc import Sequence
from pathlib import Path

from responses_db.admission import most_usd, no_price
from responses_db.budget import Budget, SpendingNotes
from responses_db.cells import Cell, all_cells
from responses_db.harvest_config import HarvestConfig
from responses_db.store import ResponseStore


def open_budget(config: HarvestConfig, cells: Sequence[Cell], store: ResponseStore, cache: Path) -> Budget | None:
    """The budget, less what the config's answers in the store have cost; None when the config has none.

    Raises LabError when a model that is to be asked has no price.
    """
    if config.budget_usd is None:
        return None
    for model in {cell.model.model_id: cell.model for cell in cells}.values():
        if model.price is None or model.price.most(1, 1) is None:
            raise no_price(model)
    model_ids = [model.model_id for provider in config.providers for model in provider.models]
    budget = Budget(config.budget_usd, SpendingNotes(cache, model_ids))
    budget.spend(stored_usd(config, store))
    return budget


def stored_usd(config: HarvestConfig, store: ResponseStore) -> float:
    """USD that the config's answers in the store have cost at the config's prices. What nobody knows counts in full."""
    sql = """SELECT query_id, model_id, prompt_style, sample_index, input_tokens, output_tokens, cached_input_tokens
        FROM responses WHERE status <> 'failed'"""
    tokens = {tuple(row[:4]): row[4:] for row in store.frame(sql).iter_rows()}
    usd = 0.0
    for cell in all_cells(config, None):
        if (counts := tokens.get(cell.key)) and cell.model.price:
            known = cell.model.price.cost(*counts)
            usd += most_usd(cell, cell.request()) if known is None else known
    return usd
