"""Every figure of a router as a pure function, a module an idea.

`curves`: hulls, areas and frontiers of cost and quality. `peers`: the scores of published benchmarks of routers.
`behaviours`: what routers do. `calibration`: whether predicted chances come true. A missing cost, score or prediction
(nan) is an error everywhere: ValueError, never a zero and never a row less.
"""

from xrouter_sim.evaluation.metrics.behaviours import (
    BEHAVIOURS,
    TRAITS,
    behaviour,
    invalid_actions,
    selection_entropy,
    shares,
    traits,
)
from xrouter_sim.evaluation.metrics.calibration import Bin, brier, expected_calibration_error, reliability
from xrouter_sim.evaluation.metrics.curves import (
    Array,
    Front,
    aiq,
    aiq_code_form,
    cost_to_reach,
    ndch,
    pareto_front,
    zero_router,
)
from xrouter_sim.evaluation.metrics.peers import (
    apgr,
    arena_score,
    call_performance_threshold,
    cost_save,
    optimal_accuracy,
    optimal_choice,
    performance_gain,
    performance_gap_recovered,
    quality_neutral_cost,
)

__all__ = [
    "BEHAVIOURS",
    "TRAITS",
    "Array",
    "Bin",
    "Front",
    "aiq",
    "aiq_code_form",
    "apgr",
    "arena_score",
    "behaviour",
    "brier",
    "call_performance_threshold",
    "cost_save",
    "cost_to_reach",
    "expected_calibration_error",
    "invalid_actions",
    "ndch",
    "optimal_accuracy",
    "optimal_choice",
    "pareto_front",
    "performance_gain",
    "performance_gap_recovered",
    "quality_neutral_cost",
    "reliability",
    "selection_entropy",
    "shares",
    "traits",
    "zero_router",
]
