"""Who answers. A new kind of provider is one new file with a `read` function and one line in PROVIDERS;
a package of your own announces its `read` as an entry point of `xrouter_sim.providers`."""

from collections.abc import Callable

from responses_db.plugins import plugins
from responses_db.providers import openai
from responses_db.providers.base import Endpoint, Model, Price, Provider
from responses_db.providers.local import provider as local
from responses_db.providers.simulated import provider as simulated
from responses_db.toml_table import Table

__all__ = ["PROVIDERS", "Endpoint", "Model", "Price", "Provider"]

PROVIDERS: dict[str, Callable[[Table, int], Provider]] = {
    "simulated": simulated.read,
    "openai": openai.read,
    "local": local.read,
}
PROVIDERS |= plugins("providers", PROVIDERS)
"""Kind of a [[providers]] table → what reads it, given the table and the config's seed."""
