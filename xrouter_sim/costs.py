"""Where the store does not know what a response cost: refuse, look at accuracy alone, or take a stated cost a call."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

from responses_db import LabError
from xrouter_sim.reward import SETTINGS

Kind = Literal["known", "nominal", "none"]

PLACEHOLDER_USD = 1.0
"""What the arrays hold for every call under `accuracy_only`: equal for all, so that no choice hangs on it, and not 0,
so that nothing looks free. It is never written down: figures of cost are null."""


@dataclass(frozen=True)
class Costs:
    """What a user says about unknown costs. By default nothing: then an unknown cost is an error.

    Raises LabError for a combination or an amount that means nothing.
    """

    accuracy_only: bool = False
    """Leave costs out altogether: λ = 0 only, and every figure of cost is null."""
    nominal: Mapping[str, float] = field(default_factory=dict)
    """USD a call for models whose cost is unknown. Known costs stay as they are."""

    def __post_init__(self) -> None:
        if self.accuracy_only and self.nominal:
            raise LabError("--accuracy-only leaves costs out, --nominal-cost states them: give one of the two")
        for model, usd in self.nominal.items():
            if not 0 < usd < inf:
                raise LabError(f"--nominal-cost {model}={usd:g}: a cost a call must be above 0 and finite")

    @property
    def kind(self) -> Kind:
        return "none" if self.accuracy_only else "nominal" if self.nominal else "known"

    @property
    def settings(self) -> tuple[float, ...]:
        """λ at which routers can be compared."""
        return (0.0,) if self.accuracy_only else SETTINGS

    def facts(self) -> dict[str, Any]:
        """For manifests and JSON."""
        return {"kind": self.kind} | ({"nominal_usd_a_call": dict(self.nominal)} if self.nominal else {})


def nominal_costs(pairs: Iterable[str]) -> dict[str, float]:
    """`MODEL=USD` texts as USD by model. Raises LabError on what is no such pair.

    >>> nominal_costs(["gpt-4=0.01", "a=b=0.5"])
    {'gpt-4': 0.01, 'a=b': 0.5}
    """
    found: dict[str, float] = {}
    for pair in pairs:
        model, separator, usd = pair.rpartition("=")
        try:
            amount = float(usd)
        except ValueError:
            separator = ""
        if not (separator and model):
            raise LabError(f"--nominal-cost {pair}: write MODEL=USD, as in gpt-4=0.01")
        if model in found:
            raise LabError(f"--nominal-cost {model} is given twice: state one cost")
        found[model] = amount
    return found


def cost_words(facts: Mapping[str, Any] | None) -> str:
    """What a reader of cost figures must know, in one sentence; empty where costs are the store's own.

    `facts` is what `Costs.facts` gave, as a manifest keeps it under `store.costs`.
    """
    kind = (facts or {}).get("kind", "known")
    if kind == "none":
        return "Costs are unknown and left out: accuracy alone, at λ = 0."
    if kind == "nominal":
        stated = ", ".join(f"{model} {usd:g}" for model, usd in (facts or {})["nominal_usd_a_call"].items())
        return f"Costs are nominal where the store has none, stated and not billed, in USD a call: {stated}."
    return ""
