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
# # One world for all: why comparisons here are sharp
#
# **Claim.** Routers that meet the same draws (prices, samples, failures, by a counter-based generator) can be compared
# with far fewer queries than routers that each meet a world of their own.
#
# Reads `runs/demo`, its test queries, at λ = 1.

# %%
import altair as alt
import numpy as np
import polars as pl
from common import ACCENT, QUIET, RUN, check, kept

from xrouter_sim.evaluation.runs import load_run

run = load_run(RUN)
at = {name: panel.reward[:, panel.nearest(1.0)].mean(axis=0) for name, panel in run.panels.items()}
others = [name for name in ("cascade", "table", "knn", "cheapest", "random", "oracle") if name in at]

# %% [markdown]
# The interval of a difference follows from the variance of the difference, query by query, where the comparison is paired,
# and from the sum of two variances where it is not.

# %%
rows = []
for name in others:
    paired = np.var(at["rl"] - at[name], ddof=1)
    unpaired = np.var(at["rl"], ddof=1) + np.var(at[name], ddof=1)
    half = 1.96 / np.sqrt(len(at["rl"]))
    rows += [
        {"router": name, "how": "paired: the same world", "half": half * np.sqrt(paired), "ratio": unpaired / paired},
        {"router": name, "how": "unpaired", "half": half * np.sqrt(unpaired), "ratio": unpaired / paired},
    ]
frame = pl.DataFrame(rows)
chart = (
    alt.Chart(frame)
    .mark_bar()
    .encode(
        y=alt.Y("router:N", sort=others, title="rl against"),
        yOffset="how:N",
        x=alt.X("half:Q", title="half width of the 95% interval of the difference in reward"),
        color=alt.Color("how:N", scale=alt.Scale(range=[ACCENT, QUIET]), title=None, legend=alt.Legend(orient="top")),
    )
    .properties(width=460, height=260, title="What a common world is worth. SIMULATED")
)
kept(chart, "07-one-world-for-all")

# %%
numbers = {name: float(frame.filter(pl.col("router") == name)["ratio"][0]) for name in others}
print(
    {name: round(value, 2) for name, value in numbers.items()}, "times as many queries would be needed without pairing"
)
check("07", run.manifest["store"]["content_hash"], numbers, tolerance=0.15)

# %% [markdown]
# **What it shows.** Against routers that often choose alike, an unpaired comparison would need several times as many queries
# for the same interval; against one that chooses at random it hardly matters. Training gains by the same: a group of
# episodes in one world differs only by what the router did.
