"""Exact bounds on one replay: what routers that know more than any router can would earn (docs/bounds.md).

    oracle ≥ foresight ≥ informed sequential ≥ informed single ≥ luck-corrected oracle ≥ best per domain ≥ best fixed

in mean reward at any λ, and from the second to the fourth on every query. Each bound is a pure function of `Cells`,
the very arrays that the engine steps on, the cost penalty λ and the unit of cost in USD.
"""

from collections.abc import Callable

from xrouter_sim.bounds.base import NO_ARM, Bound, Cells
from xrouter_sim.bounds.oracles import Dice, cross_fitted, dice, foresight, luck_corrected_oracle, oracle
from xrouter_sim.bounds.regret import regret, regrets
from xrouter_sim.bounds.sequential import informed_sequential, verified_cascade
from xrouter_sim.bounds.single import ZeroRouter, best_fixed, best_per_domain, informed_single, zero_router
from xrouter_sim.bounds.weitzman import weitzman
from xrouter_sim.replay import Floats, Ints, Replay

BOUNDS: tuple[Callable[[Cells, float, float], Bound], ...] = (
    oracle,
    foresight,
    informed_sequential,
    informed_single,
    luck_corrected_oracle,
    best_per_domain,
    best_fixed,
)
"""Bounds on the success-gated reward, the highest first."""

__all__ = [
    "BOUNDS",
    "NO_ARM",
    "Bound",
    "Cells",
    "Dice",
    "ZeroRouter",
    "all_bounds",
    "best_fixed",
    "best_per_domain",
    "cross_fitted",
    "dice",
    "foresight",
    "informed_sequential",
    "informed_single",
    "luck_corrected_oracle",
    "oracle",
    "regret",
    "regrets",
    "verified_cascade",
    "weitzman",
    "zero_router",
]


def all_bounds(
    replay: Replay, queries: Ints, penalty: float, unit: float, price: Floats | None = None
) -> dict[str, Bound]:
    """Every bound on these queries ([n] indices) at λ = `penalty` ≥ 0, by name, the highest first; `unit` in USD.

    λ = 0 is the lexicographic objective: the best score, then the least cost. `price`: factors on the price card.
    """
    cells = Cells.of(replay, queries, price)
    return {bound.name: bound for bound in (find(cells, penalty, unit) for find in BOUNDS)}
