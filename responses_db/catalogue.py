"""Price cards from `genai-prices`: a catalogue of published prices that others keep, in the package, read offline.

An entry is named PROVIDER/NAME, such as openai/gpt-4o-mini; the provider is who bills, so one model has an entry with
each host, and NAME may be what a provider's interface calls it, dated suffix and all. The catalogue dates most changes
of a price. What a price card here cannot carry is never guessed:

* the price before the first dated change has no first day there, so its card is in force from UNDATED on;
* a price that rises for long prompts: the card has the price of short ones, and `tier_start` says from where it errs;
* off-peak hours, batch and priority service, cache writes, images, audio, searches: left out, and said in `source`;
* a fee for every call, another price for reasoning tokens: refused, as every cost would be wrong.
"""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from difflib import get_close_matches
from importlib import metadata
from typing import TYPE_CHECKING, Any

from responses_db.errors import LabError

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

UNDATED = date(1970, 1, 1)
"""The first day of a card whose first day the catalogue does not tell."""

CARRIED = {"input_mtok", "cache_read_mtok", "output_mtok"}
EVERY_COST = {"requests_kcount": "a fee for every call", "output_reasoning_mtok": "another price for reasoning tokens"}
"""Prices that are part of every call's cost, which a card of token prices cannot carry."""


@dataclass(frozen=True)
class CatalogueCard:
    """One dated price of a catalogue entry, in USD per million tokens; None is unknown.

    `source` names catalogue, version and entry, and what is not carried. Above `tier_start` input tokens (None: never)
    a call costs more than the card says.
    """

    valid_from: date
    input_usd_per_mtok: float | None
    cached_input_usd_per_mtok: float | None
    output_usd_per_mtok: float | None
    source: str
    tier_start: int | None = None


@dataclass(frozen=True)
class CatalogueEntry:
    """One model at one provider, with its dated cards, oldest first."""

    name: str
    cards: list[CatalogueCard]

    def on(self, day: date) -> CatalogueCard | None:
        """The card in force on a day, if the catalogue has one."""
        return next((card for card in reversed(self.cards) if card.valid_from <= day), None)


def catalogue_version() -> str:
    """As in `source`: the package and its version."""
    return f"genai-prices {metadata.version('genai-prices')}"


def find_entry(name: str) -> CatalogueEntry:
    """The entry PROVIDER/NAME. LabError when there is none, or its prices do not fit a price card."""
    provider_id, slash, model_name = name.partition("/")
    if not slash or not model_name:
        raise LabError(f"{name!r} names no entry of the price catalogue: write PROVIDER/NAME, such as openai/gpt-4o")
    providers = {provider.id: provider for provider in _providers()}
    if provider_id not in providers:
        raise LabError(
            f"the price catalogue ({catalogue_version()}) has no provider {provider_id!r}"
            f"{_nearest(provider_id, list(providers))}; it has {', '.join(sorted(providers))}"
        )
    provider = providers[provider_id]
    model = next((model for model in provider.models if model.id == model_name), None)
    model = model or provider.find_model(model_name.lower(), all_providers=list(providers.values()))
    if model is None:
        raise LabError(
            f"the price catalogue ({catalogue_version()}) has no {name!r}"
            f"{_nearest(model_name, [model.id for model in provider.models])}: "
            f"`xrouter-sim import catalogue --find WORD` looks for one, or write a card of your own"
        )
    return CatalogueEntry(f"{provider.id}/{model.id}", _cards(provider, model))


def search(word: str) -> list[str]:
    """The names of all entries that contain a word, sorted."""
    names = (f"{provider.id}/{model.id}" for provider in _providers() for model in provider.models)
    return sorted(name for name in names if word.lower() in name.lower())


def _providers() -> "list[Provider]":
    from genai_prices.data import providers  # three megabytes of Python: only where it is asked for

    return providers


def _cards(provider: "Provider", model: "ModelInfo") -> list[CatalogueCard]:
    """Dated prices alone: prices of certain hours give way to the standard price."""
    from genai_prices.types import ConditionalPrice, StartDateConstraint

    prices = model.prices if isinstance(model.prices, list) else [ConditionalPrice(prices=model.prices)]
    by_day: dict[date, ModelPrice] = {}
    for price in prices:  # the last that is active wins, so a later one of the same day replaces an earlier one
        if price.constraint is None:
            by_day[UNDATED] = price.prices
        elif isinstance(price.constraint, StartDateConstraint):
            by_day[price.constraint.start_date] = price.prices
    if not by_day:
        raise LabError(f"{provider.id}/{model.id} has no price for the whole day in the catalogue: write a card")
    left_out = ["prices of certain hours"] if len(by_day) < len(prices) else []
    left_out += ["batch and other service tiers"] if model.price_variants else []
    return [_card(f"{provider.id}/{model.id}", day, by_day[day], left_out) for day in sorted(by_day)]


def _card(name: str, day: date, price: "ModelPrice", left_out: list[str]) -> CatalogueCard:
    keys = {key for key, value in vars(price).items() if value is not None and not key.startswith("_")}
    for key in keys & EVERY_COST.keys():
        raise LabError(f"{name} has {EVERY_COST[key]}, which a card of token prices cannot carry: write a card")
    figures = {key: _figure(getattr(price, key, None)) for key in sorted(CARRIED)}
    if figures["input_mtok"][0] is None and figures["output_mtok"][0] is None:
        raise LabError(f"the price catalogue has no price of text tokens for {name}: write a card of your own")
    tiers = [start for _, start in figures.values() if start is not None]
    rising = [f"dearer above {min(tiers):,} input tokens"] if tiers else []
    rest = sorted(keys - CARRIED)
    notes = [
        *(["no first day given"] if day == UNDATED else []),
        *([f"not carried: {', '.join([*rising, *left_out, *rest])}"] if rising or left_out or rest else []),
    ]
    return CatalogueCard(
        valid_from=day,
        input_usd_per_mtok=figures["input_mtok"][0],
        cached_input_usd_per_mtok=figures["cache_read_mtok"][0],
        output_usd_per_mtok=figures["output_mtok"][0],
        source="; ".join([f"{catalogue_version()}, {name}", *notes]),
        tier_start=min(tiers, default=None),
    )


def _figure(price: Any) -> tuple[float | None, int | None]:
    """(USD per million tokens of short prompts, input tokens from which it is another price)."""
    if price is None or isinstance(price, Decimal):
        return None if price is None else float(price), None
    return float(price.base), min((tier.start for tier in price.tiers), default=None)


def _nearest(word: str, among: list[str]) -> str:
    near = get_close_matches(word, among, n=3, cutoff=0.5)
    return f" (the nearest: {', '.join(near)})" if near else ""
