"""Two models (or two prompt styles) on the queries that both answered: the paired figures of each query."""

import polars as pl

from responses_db.errors import LabError
from responses_db.store import ResponseStore

RIGHT = 0.5
"""An answer counts as right from this score on (its mean, where a query was answered several times)."""

SIDE_SQL = """
SELECT query_id, prompt_style, avg(coalesce(score, 0)) AS score, avg(cost_usd) AS cost_usd,
    count(*) FILTER (cost_usd IS NULL) AS unpriced, count(*) FILTER (status = 'failed') AS failed,
    count(*) FILTER (score IS NULL AND status <> 'failed') AS ungraded,
    arg_min(text, sample_index) AS text, arg_min(answer, sample_index) AS answer, count(*) AS responses
FROM graded WHERE model_id = ? GROUP BY ALL
"""


def split_arm(name: str, store: ResponseStore) -> tuple[str, str | None]:
    """A model, and a prompt style where the name is MODEL/STYLE. Raises LabError for one without a response."""
    known = store.frame("SELECT DISTINCT model_id, prompt_style FROM responses ORDER BY ALL")
    models = known["model_id"].unique(maintain_order=True).to_list()
    if name in models:
        return name, None
    model, _, style = name.rpartition("/")
    if known.filter(model_id=model, prompt_style=style).is_empty():
        raise LabError(f"{store.path} has no response of {name!r}; it has {', '.join(models[:8])}")
    return model, style


def pairs(store: ResponseStore, a: str, b: str, style: str | None = None) -> pl.DataFrame:
    """One row a query (and prompt style) that both have a response to, in the order of their names.

    `a` and `b` are models, or MODEL/STYLE to compare two styles. Without a style, all that both models have are taken,
    each paired with itself. Columns: query_id, prompt_style, domain, question, reference, and for each side x: score_x
    (mean over samples; failed and ungraded answers count 0), cost_usd_x (mean, null when none is known), unpriced_x,
    failed_x, ungraded_x, responses_x, text_x and answer_x (of the first sample).
    Raises LabError when a side is unknown or nothing is shared.
    """
    (model_a, style_a), (model_b, style_b) = split_arm(a, store), split_arm(b, store)
    side_a, side_b = _side(store, model_a, style_a or style), _side(store, model_b, style_b or style)
    if style_a or style_b:
        on = ["query_id"]
        _one_style(side_a, a, style_a or style)
        _one_style(side_b, b, style_b or style)
        side_b = side_b.drop("prompt_style")
    else:
        on = ["query_id", "prompt_style"]
    both = side_a.join(side_b, on=on, suffix="_b")
    both = both.rename({name: f"{name}_a" for name in side_a.columns if name not in ("query_id", "prompt_style")})
    if both.is_empty():
        within = f" under {style!r}" if style else ""
        raise LabError(f"{store.path}: {a} and {b} have no query in common{within}; see `xrouter-sim store coverage`")
    queries = store.frame("SELECT query_id, domain, question, reference FROM queries")
    return both.join(queries, on="query_id").sort(on)


def _side(store: ResponseStore, model: str, style: str | None) -> pl.DataFrame:
    side = store.frame(SIDE_SQL, [model])
    return side if style is None else side.filter(prompt_style=style)


def _one_style(side: pl.DataFrame, name: str, style: str | None) -> None:
    if style is None and side["prompt_style"].n_unique() > 1:
        styles = ", ".join(f"{name}/{found}" for found in side["prompt_style"].unique().sort())
        raise LabError(f"{name} has several prompt styles, the other side is one: say which ({styles})")
