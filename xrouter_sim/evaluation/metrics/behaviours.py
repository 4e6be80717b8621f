"""What routers do: how episodes went, whom they call, how evenly, and what they ask for in vain."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xrouter_sim.evaluation.metrics.curves import Array

BEHAVIOURS = ("single call", "escalate", "parallel", "direct", "none")
"""The ways an episode can go; each episode goes exactly one of them (see `behaviour`)."""

TRAITS = ("escalate", "parallel", "select", "vote", "none")
"""What an episode can have about it; an episode may have several of them, or none (see `traits`)."""


def behaviour(calls: ArrayLike, turns: ArrayLike, final: ArrayLike) -> NDArray[np.int64]:
    """How each episode went, as an index into BEHAVIOURS: exactly one an episode, the first that holds of

    * none: it ended without an answer, whatever was called;
    * direct: the router answered itself;
    * parallel: some turn called several models;
    * escalate: it called in more than one turn, one model a turn;
    * single call: the rest.

    `calls`: number of calls; `turns`: number of turns with a call; `final`: text, as in the decisions file. All (…).

    >>> went = behaviour([1, 2, 3, 0, 1], [1, 2, 2, 0, 1], ["call", "select", "vote", "direct", "none"])
    >>> [BEHAVIOURS[i] for i in went]
    ['single call', 'escalate', 'parallel', 'direct', 'none']
    """
    calls, turns, final = np.asarray(calls), np.asarray(turns), np.asarray(final)
    conditions = [final == "none", final == "direct", calls > turns, turns > 1]
    order = [BEHAVIOURS.index(name) for name in ("none", "direct", "parallel", "escalate")]
    return np.select(conditions, order, default=BEHAVIOURS.index("single call")).astype(np.int64)


def traits(calls: ArrayLike, turns: ArrayLike, final: ArrayLike) -> dict[str, NDArray[np.bool_]]:
    """What each episode has about it, one boolean array (…) for each of TRAITS; they may overlap.

    escalate: calls in more than one turn; parallel: a turn with several calls; select: an earlier response was chosen
    as final; vote: the final answer was made from several; none: no answer. Arguments as in `behaviour`.

    >>> {k: v.tolist() for k, v in traits([3], [2], ["vote"]).items() if v.any()}
    {'escalate': [True], 'parallel': [True], 'vote': [True]}
    """
    calls, turns, final = np.asarray(calls), np.asarray(turns), np.asarray(final)
    return {
        "escalate": turns > 1,
        "parallel": calls > turns,
        "select": final == "select",
        "vote": final == "vote",
        "none": final == "none",
    }


def shares(groups: ArrayLike, names: ArrayLike, amounts: ArrayLike) -> dict[str, dict[str, float]]:
    """Each name's share of its group's amounts, in [0, 1], adding up to 1 in every group with a positive sum.

    For model shares by domain: `groups` the calls' domains, `names` their models, `amounts` ones (share of calls) or
    USD (share of cost); all (N,). A group whose amounts add up to nothing has only zeros.

    >>> shares(["math", "math", "code"], ["a", "b", "a"], [3.0, 1.0, 2.0])
    {'code': {'a': 1.0, 'b': 0.0}, 'math': {'a': 0.75, 'b': 0.25}}
    """
    rows, row = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    columns, column = np.unique(np.asarray(names, dtype=str), return_inverse=True)
    table = np.zeros((len(rows), len(columns)))
    np.add.at(table, (row, column), np.asarray(amounts, dtype=float))
    sums = table.sum(axis=1, keepdims=True)
    parts = (table / np.where(sums > 0, sums, 1.0)).tolist()
    models = [str(name) for name in columns]
    return {str(group): dict(zip(models, line, strict=True)) for group, line in zip(rows, parts, strict=True)}


def selection_entropy(shares: ArrayLike, models: int | None = None) -> Array:
    """How evenly answers come from the pool: the entropy of the shares (…, M), 0 for one model, 1 for all alike.

    In units of log M, where M is the number of `models` in the pool (default: of shares), so pools of any size compare.
    Shares are scaled to add up to 1; nan where they are all 0. A router that always takes the same model changes its
    choice under no disturbance: read robustness beside this.

    >>> selection_entropy([[1.0, 0.0], [0.5, 0.5], [0.9, 0.1]]).round(4).tolist()
    [0.0, 1.0, 0.469]
    """
    part = np.asarray(shares, dtype=float)
    total = part.sum(axis=-1, keepdims=True)
    part = part / np.where(total > 0, total, 1.0)
    of = models or part.shape[-1]
    entropy: Array = -(part * np.log(np.where(part > 0, part, 1.0))).sum(axis=-1) / (np.log(of) if of > 1 else 1.0)
    return np.where(total[..., 0] > 0, np.maximum(entropy, 0.0), np.nan)


def invalid_actions(unavailable: ArrayLike, final: ArrayLike) -> NDArray[np.bool_]:
    """Which episodes had an invalid action: a call of a model that was not on offer, or an end without an answer.

    `unavailable`: number of such calls; `final`: text, as in the decisions file. All (…).

    >>> invalid_actions([0, 2, 0], ["call", "call", "none"]).tolist()
    [False, True, True]
    """
    invalid: NDArray[np.bool_] = (np.asarray(unavailable) > 0) | (np.asarray(final) == "none")
    return invalid
