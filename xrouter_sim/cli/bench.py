"""`xrouter-sim bench …`: what a part of the lab costs, as a ratio to a reference measured in the same run."""

import json
from collections.abc import Mapping

import click


@click.group("bench")
def bench_group() -> None:
    """Measure the lab on this machine: every figure is a ratio to a reference measured in the same run."""


def print_figures(figures: Mapping[str, object], as_json: bool) -> None:
    """One JSON object, or one line a figure."""
    if as_json:
        click.echo(json.dumps(figures))
        return
    width = max(map(len, figures))
    for name, value in figures.items():
        click.echo(f"{name:<{width}}  {value:,.4g}" if isinstance(value, float) else f"{name:<{width}}  {value}")
