"""What answers say about who is right: tables of log-odds, fitted on training queries.

For an arm i in a domain, by how much do the log-odds that it is right change

* given which option it chose (models lean towards some letters, so a letter against the habit says more),
* given that it agrees with arm j, differs from it, or cannot be compared since one of them gave no answer,
* and given that two other arms, j and k, agree or differ;

and how often two arms agree: what a second opinion is worth follows from that.

Their sums and means over all answers at hand count what models have in common twice: they are inputs of the policy
network, which learns how far to trust them. Every figure is shrunk towards that of all domains, and that towards no
change, as if SHRINKAGE further queries had shown none: so a few calibration queries do for a new arm.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xrouter_sim.engine.randomness import Purpose, draw
from xrouter_sim.features import OPTIONS, answer_options
from xrouter_sim.replay import Floats, Ints, Replay
from xrouter_sim.routers.prior import FOLDS

SHRINKAGE = 8.0
"""Queries' worth of no change that is mixed into each figure."""

EXTREME = 3.0
"""Most that one figure may change the log-odds."""


@dataclass(frozen=True)
class Odds:
    """Tables T × …, and for every query of the replay the table to read.

    A training query reads the table that was fitted on the other folds: a policy trained on tables that know a query's
    own grades would trust them too much. Other queries read the table of all training queries in their domain, or that
    of all domains where theirs is new.
    """

    table: Ints  # [Q] row of the arrays below
    option: Floats  # [T, A, OPTIONS + 1] log-odds given the option chosen; 0 is no option read
    agrees: Floats  # [T, A, A] log-odds of the first arm given that the second one agrees
    differs: Floats  # [T, A, A]
    apart: Floats  # [T, A, A] and given that one of the two gave no answer
    meet: Floats  # [T, A, A] how often two arms give one answer, in [0, 1]
    part: Floats  # [T, A, A] how often they give two different ones
    if_met: Floats  # [T, A, A, A] log-odds of the third arm given that the other two agree
    if_not: Floats  # [T, A, A, A] and given that they differ


def fit_odds(replay: Replay, queries: Ints) -> Odds:
    """Fit on `queries` ([n] training indices) and the answers stored for them."""
    fold = draw(0, Purpose.FOLD, np.arange(len(queries))) % FOLDS
    names = np.unique(replay.domains[queries])
    place = np.searchsorted(names, replay.domains).clip(max=len(names) - 1)
    domain = np.where(names[place] == replay.domains, place, len(names))  # the last stands for all domains
    options = answer_options(replay)
    table, parts = domain.copy(), []
    for number, held_out in enumerate([None, *range(FOLDS)]):
        rows = queries if held_out is None else queries[fold != held_out]
        if held_out is not None:
            table[queries[fold == held_out]] += number * (len(names) + 1)
        parts.append(_fit(replay, options, rows, [rows[domain[rows] == place] for place in range(len(names))]))
    return Odds(table, **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def smoothed_grades(replay: Replay, queries: Ints) -> Floats:
    """[n, A] for training queries, what the answers of all arms together say of each grade, in [0, 1].

    A grade is one throw of a coin; what eleven answers say of it is nearer to the coin. A policy is to be paid by the
    expectation given all that it could ever see, which has the same mean as the grades and a third of their variance or
    less (Rao–Blackwell), so few training queries go further. Ridge regression on the option chosen and on who agrees,
    cross-fitted; where answers tell nothing, a domain's grades stay as they are.
    """
    fold = draw(0, Purpose.FOLD, np.arange(len(queries))) % FOLDS
    options = answer_options(replay)[queries, :, 0]
    answer, grade = replay.answer[queries, :, 0], replay.mean_score[queries]
    smoothed = grade.copy()
    for domain in np.unique(replay.domains[queries]):
        rows = np.flatnonzero(replay.domains[queries] == domain)
        if len(rows) < LEAST_TO_SMOOTH or (answer[rows] < 0).all():
            continue
        has = answer[rows] >= 0
        agree = has[:, :, None] & has[:, None, :] & (answer[rows, :, None] == answer[rows, None, :])
        for arm in range(replay.arms):
            votes = agree[:, arm].sum(axis=1)
            parts = [np.eye(OPTIONS + 1)[options[rows, arm]], agree[:, arm], has, np.eye(replay.arms + 1)[votes]]
            smoothed[rows, arm] = _cross_fitted_ridge(np.hstack(parts), grade[rows, arm], fold[rows])
    return np.clip(smoothed, 0.0, 1.0)


LEAST_TO_SMOOTH = 50
"""Queries of a domain below which its grades are left as they are."""

RIDGE = 10.0


def _cross_fitted_ridge(inputs: Floats, target: Floats, fold: npt.NDArray[np.generic]) -> Floats:
    """[n] predictions of target [n] from inputs [n, F], each from a fit on the other folds."""
    predicted = target.copy()
    for held_out in np.unique(fold):
        known, asked = fold != held_out, fold == held_out
        centre, mean = inputs[known].mean(axis=0), target[known].mean()
        centred = inputs[known] - centre
        square = centred.T @ centred + RIDGE * np.eye(inputs.shape[1])
        weights = np.linalg.solve(square, centred.T @ (target[known] - mean))
        predicted[asked] = mean + (inputs[asked] - centre) @ weights
    return predicted


Tables = dict[str, Floats]


def _fit(replay: Replay, options: npt.NDArray[np.int8], rows: Ints, by_domain: list[Ints]) -> Tables:
    """Each table with a row a domain, and then one for all domains."""
    everywhere = _tables(_counts(replay, options, rows), None)
    tables = [_tables(_counts(replay, options, members), everywhere) for members in by_domain]
    return {name: np.stack([*(table[name] for table in tables), everywhere[name]]) for name in everywhere}


def _counts(replay: Replay, options: npt.NDArray[np.int8], rows: Ints) -> Tables:
    """Sums over queries and samples: how often something was seen, and how much of it was right."""
    arms = np.arange(replay.arms)
    sums: Tables = {}
    for k in range(replay.score.shape[2]):
        seen = replay.sample_mask[rows, :, k].astype(np.float64)
        score, answer = replay.score[rows, :, k] * seen, replay.answer[rows, :, k]
        chosen = np.eye(OPTIONS + 1)[options[rows, :, k]] * seen[:, :, None]
        has = (answer >= 0) & (seen > 0)
        both = (has[:, :, None] & has[:, None, :]).astype(np.float64)
        both[:, arms, arms] = 0.0
        agree = both * (answer[:, :, None] == answer[:, None, :])
        differ, right = both - agree, score[:, :, None]
        apart = seen[:, :, None] * seen[:, None, :] - both
        apart[:, arms, arms] = 0.0
        found = {
            "n": seen.sum(axis=0),
            "right": score.sum(axis=0),
            "option": chosen.sum(axis=0),
            "option_right": (chosen * right).sum(axis=0),
            "agree": agree.sum(axis=0),
            "agree_right": (agree * right).sum(axis=0),
            "differ": differ.sum(axis=0),
            "differ_right": (differ * right).sum(axis=0),
            "apart": apart.sum(axis=0),
            "apart_right": (apart * right).sum(axis=0),
            "pairs": seen.T @ seen,
            "met_right": np.tensordot(agree, score, (0, 0)),
            "not_right": np.tensordot(differ, score, (0, 0)),
        }
        sums = {name: sums.get(name, 0.0) + value for name, value in found.items()}
    return sums


def _tables(counts: Tables, towards: Tables | None) -> Tables:
    """The tables of `Odds`, shrunk towards others, or towards no change."""
    mean = np.clip((counts["right"] + 1.0) / (counts["n"] + 2.0), 0.02, 0.98)[:, None]
    base = np.log(mean / (1.0 - mean))

    def shrunk(right: Floats, n: Floats, expected: Floats) -> Floats:
        rate: Floats = (right + SHRINKAGE * expected) / (n + SHRINKAGE)
        return rate

    def change(name: str, table: str) -> Floats:
        shift = towards[table] if towards else np.zeros_like(counts[name])
        rate = shrunk(counts[f"{name}_right"], counts[name], 1.0 / (1.0 + np.exp(-base - shift))).clip(0.01, 0.99)
        shifted: Floats = np.clip(np.log(rate / (1.0 - rate)) - base, -EXTREME, EXTREME)
        return shifted

    third = base[:, 0]

    def third_arm(n: Floats, right: Floats, table: str) -> Floats:
        shift = towards[table] if towards else np.zeros_like(right)
        rate = shrunk(right, n[:, :, None], 1.0 / (1.0 + np.exp(-third - shift))).clip(0.01, 0.99)
        shifted: Floats = np.clip(np.log(rate / (1.0 - rate)) - third, -EXTREME, EXTREME)
        return shifted

    def rate(name: str, table: str) -> Floats:
        usual = towards[table] if towards else counts[name] / np.maximum(counts["pairs"], 1.0)
        return shrunk(counts[name], counts["pairs"], usual)

    return {
        "option": change("option", "option"),
        "agrees": change("agree", "agrees"),
        "differs": change("differ", "differs"),
        "apart": change("apart", "apart"),
        "meet": rate("agree", "meet"),
        "part": rate("differ", "part"),
        "if_met": third_arm(counts["agree"], counts["met_right"], "if_met"),
        "if_not": third_arm(counts["differ"], counts["not_right"], "if_not"),
    }
