"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from xrouter_sim.costs import Costs

DB = click.option(
    "--db",
    type=click.Path(path_type=Path),
    default=Path("data/responses.duckdb"),
    show_default=True,
    help="The store, one DuckDB file.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of words.")


def costs_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--accuracy-only` and `--nominal-cost`, given to the command as `accuracy_only` and `nominal_cost`."""
    nominal = click.option(
        "--nominal-cost",
        multiple=True,
        metavar="MODEL=USD",
        help="A stated cost a call, for a model whose cost the store does not know; repeat it for each such model.",
    )
    only = click.option(
        "--accuracy-only",
        is_flag=True,
        help="Leave costs out, for a store that does not know them: λ = 0 alone, figures of cost are null.",
    )
    return only(nominal(command))


def stated_costs(accuracy_only: bool, nominal_cost: tuple[str, ...]) -> "Costs":
    """What those two options say. Raises LabError where they contradict each other or make no sense."""
    from xrouter_sim.costs import Costs, nominal_costs

    return Costs(accuracy_only, nominal_costs(nominal_cost))
