"""From published figures to simulated models: ability and cost of each model in each domain.

The figures are LLMRouterBench's (arXiv 2601.07206, Tables 9 and 10): accuracy, queries and total cost of 13 flagship
models on 10 benchmarks. A domain of the simulated world stands for a few of those benchmarks (BENCHMARKS):

* ability     x(model) = mean over the domain's benchmarks of logit(accuracy), then
              θ(model, domain) = (x(model) − mean of x) / standard deviation of x, both over all 13 models
  so 0 is the average flagship, 1 is one standard deviation better, and a benchmark's own difficulty drops out;
* cost        USD a query = mean over the benchmarks of total cost / number of queries, times COST_SCALE.
  Output tokens are chosen so that a call under the first prompt style costs this on average, at the model's own price.
"""

import csv
import math
import tomllib
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import resources
from statistics import fmean, pstdev
from typing import Any

from responses_db.errors import LabError
from responses_db.providers.base import Model, Price
from responses_db.query import digest

SOURCE = "LLMRouterBench, arXiv 2601.07206, Tables 9 and 10"

BENCHMARKS = {
    "arithmetic": ("AIME", "LiveMathBench"),
    "logic": ("GPQA-Diamond", "MMLU-Pro"),
    "algorithmic": ("LiveCodeBench",),
    "language_games": ("SimpleQA", "ArenaHard"),
}
"""What each domain of the simulated world stands for."""

COST_SCALE = 1.0
"""Simulated over published cost per query: 1, the published figure itself."""

CLIP = 0.02
"""Accuracies are kept this far from 0 and 1 before the logit."""


@dataclass(frozen=True)
class SimulatedModel:
    """What the simulated world knows of a model. By domain: `ability` in standard deviations, `cost_usd` a query."""

    model_id: str
    published: str
    price: Price
    reasoner: bool
    tokens_per_s: float
    ability: dict[str, float]
    cost_usd: dict[str, float]


@cache
def simulated_models() -> dict[str, SimulatedModel]:
    """All simulated models by id, from the two data files beside this module."""
    table = tomllib.loads(_read("models.toml"))
    valid_from, source = table.pop("valid_from"), table.pop("source")
    return {model_id: _model(model_id, row, valid_from, source) for model_id, row in table.items()}


def chosen_models(model_ids: list[str], where: str) -> list[Model]:
    """The simulated models of these ids, as models on offer. LabError for an unknown id."""
    known = simulated_models()
    for model_id in model_ids:
        if model_id not in known:
            raise LabError(f"{where}: no simulated model {model_id!r}; there are {', '.join(known)}")
    return [Model(m, m, known[m].price, _facts(known[m])) for m in model_ids]


def _facts(model: SimulatedModel) -> dict[str, Any]:
    return {
        "simulated": True,
        "calibrated_to": f"{model.published} in {SOURCE}",
        "ability": {domain: round(value, 4) for domain, value in model.ability.items()},
        "published_cost_usd_per_query": {domain: round(value, 8) for domain, value in model.cost_usd.items()},
    }


def _model(model_id: str, row: dict[str, Any], valid_from: date, source: str) -> SimulatedModel:
    price = Price(row["input"], row["output"], row.get("cached_input"), valid_from, f"{source}, {row['listed_as']}")
    figures = _figures()
    published = row["published"]
    ability, cost_usd = {}, {}
    for domain, benchmarks in BENCHMARKS.items():
        ability[domain] = _standing(domain)[published]
        cost_usd[domain] = fmean(figures[b][published][1] for b in benchmarks) * COST_SCALE
    return SimulatedModel(model_id, published, price, row["reasoner"], row["tokens_per_s"], ability, cost_usd)


@cache
def data_digest() -> str:
    """Hash of what both data files say; comments may change."""
    return digest(_figures(), tomllib.loads(_read("models.toml")))


@cache
def _figures() -> dict[str, dict[str, tuple[float, float]]]:
    """Benchmark → model → (accuracy, USD a query)."""
    figures: dict[str, dict[str, tuple[float, float]]] = {}
    for row in csv.DictReader(_read("calibration.csv").splitlines()):
        cost = float(row["total_cost_usd"]) / int(row["n_queries"])
        figures.setdefault(row["benchmark"], {})[row["model"]] = float(row["accuracy"]), cost
    return figures


@cache
def _standing(domain: str) -> dict[str, float]:
    """Published model → θ in this domain."""
    rows = [_figures()[benchmark] for benchmark in BENCHMARKS[domain]]
    x = {model: fmean(_logit(row[model][0]) for row in rows) for model in rows[0]}
    mean, deviation = fmean(x.values()), pstdev(x.values())
    return {model: (value - mean) / deviation for model, value in x.items()}


def _logit(accuracy: float) -> float:
    accuracy = min(max(accuracy, CLIP), 1 - CLIP)
    return math.log(accuracy / (1 - accuracy))


def _read(name: str) -> str:
    return resources.files("responses_db.providers.simulated").joinpath(name).read_text("utf-8")
