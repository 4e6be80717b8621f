# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Near the best model's accuracy, at a part of its cost
#
# **Claim.** A router trained in the simulator reaches the accuracy of the best single model at about half of its cost.
# (xRouter, arXiv 2510.08439, reports near the best model's accuracy at about one eighth of its cost on Olympiad problems:
# another pool, real answers.)
#
# Reads `runs/demo`, its test queries.

# %%
import altair as alt
import polars as pl
from common import ACCENT, QUIET, RUN, SECOND, check, kept, said

from xrouter_sim.evaluation.runs import load_run
from xrouter_sim.evaluation.summary import summarise

run = load_run(RUN)
summary = summarise(run)
print(run.manifest["store"]["provenance"], "·", f"{summary.queries} test queries · best single: {summary.best_model}")

# %%
names = ["rl", "cascade", "table"]
rows = [
    {
        "router": name,
        "usd": point.cost_per_1000_usd.value,
        "accuracy": point.accuracy.value,
        "low": point.accuracy.low,
        "high": point.accuracy.high,
        "λ": point.setting,
    }
    for name in names
    for point in summary[name].points
]
singles = [
    {
        "arm": row.router.removeprefix("always:"),
        "usd": row.points[0].cost_per_1000_usd.value,
        "accuracy": row.points[0].accuracy.value,
    }
    for row in summary.routers
    if row.router.startswith("always:")
]
lines, dots = pl.DataFrame(rows).sort("router", "usd"), pl.DataFrame(singles)
x = alt.X("usd:Q", scale=alt.Scale(type="log", nice=False), title="cost of 1,000 queries (USD)")
y = alt.Y("accuracy:Q", scale=alt.Scale(zero=False), title="accuracy")
colour = alt.Color("router:N", scale=alt.Scale(domain=names, range=[ACCENT, SECOND, QUIET]), title="router")
band = (
    alt.Chart(lines.filter(pl.col("router") == "rl"))
    .mark_area(opacity=0.18, color=ACCENT)
    .encode(x=x, y="low:Q", y2="high:Q")
)
curve = alt.Chart(lines).mark_line(point=True).encode(x=x, y=y, color=colour, order="usd:Q")
point = alt.Chart(dots).mark_point(color="#555555", shape="square").encode(x=x, y=y, tooltip="arm:N")
kept(
    (band + curve + point).properties(
        width=520, height=340, title="Routers (lines) and single arms (squares). SIMULATED"
    ),
    "02-near-the-best-at-half-the-cost",
)

# %%
shares = {name: summary[name].cost_share_to_reach for name in names}
for name, share in shares.items():
    print(
        name,
        {
            part: said(figure, 2) if figure.value is not None and figure.high is not None else figure
            for part, figure in share.items()
        },
    )
figures = {
    f"{name} at {part:.0%}": figure.value
    for name, share in shares.items()
    for part, figure in share.items()
    if figure.value is not None
}
check("02", run.manifest["store"]["content_hash"], figures, tolerance=0.1)

# %% [markdown]
# **What it shows.** Measured against the most accurate single arm, the trained router reaches 99% of its accuracy at about
# half of its cost and all of it at a little more. The intervals are wide: the last percent of accuracy is a handful of
# queries. It is not one eighth: this pool's best model is not so far ahead of the others in price.
