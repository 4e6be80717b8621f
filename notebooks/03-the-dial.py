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
# # One dial: λ
#
# **Claim.** A moderate cost penalty balances accuracy and cost: as λ rises, cost falls steeply at first while accuracy
# hardly does; beyond a knee it is the other way round (xRouter, arXiv 2510.08439, finds the same of training at different
# λ; here one network is told λ).
#
# Reads `runs/demo`, its test queries.

# %%
import altair as alt
import numpy as np
import polars as pl
from common import ACCENT, RUN, SECOND, check, kept, said

from xrouter_sim.evaluation.runs import load_run
from xrouter_sim.evaluation.statistics import Bootstrap, figure, figures

run = load_run(RUN)
panel = run.panels["rl"]
bootstrap = Bootstrap(len(panel.queries))
settings = np.array(panel.settings, dtype=float)
accuracy = bootstrap.means(panel.score.mean(axis=0))  # [replicates, λ]
usd = 1000 * bootstrap.means(panel.cost.mean(axis=0))

# %% [markdown]
# The knee is where the curve of accuracy against cost lies furthest above the line between its ends
# (Satopää et al., "Finding a kneedle in a haystack", 2011), found anew in each resample of the queries.

# %%
x = (usd - usd.min(axis=1, keepdims=True)) / np.ptp(usd, axis=1, keepdims=True)
y = (accuracy - accuracy.min(axis=1, keepdims=True)) / np.ptp(accuracy, axis=1, keepdims=True)
at = (y - x).argmax(axis=1)
rows = np.arange(len(at))
knee = figure(settings[at])
there = {"accuracy": figure(accuracy[rows, at]), "USD/1k": figure(usd[rows, at])}
print("knee at λ =", said(knee, 2), {name: said(value) for name, value in there.items()})

# %%
frame = pl.DataFrame(
    [
        {
            "λ": float(setting),
            "figure": name,
            "value": each.value / scale,
            "low": each.low / scale,
            "high": each.high / scale,
        }
        for name, table, scale in (
            ("accuracy", accuracy, 1.0),
            ("cost, as a part of that at λ = 0", usd, float(usd[0, 0])),
        )
        for setting, each in zip(settings, figures(table), strict=True)
    ]
)
shown = alt.Chart(frame).encode(
    x=alt.X(
        "λ:Q",
        scale=alt.Scale(type="symlog", constant=0.1),
        title="λ",
        axis=alt.Axis(values=[0, 0.1, 0.5, 1, 2, 5, 10, 20, 80]),
    ),
    color=alt.Color("figure:N", scale=alt.Scale(range=[ACCENT, SECOND]), title=None, legend=alt.Legend(orient="top")),
)
chart = shown.mark_area(opacity=0.18).encode(y=alt.Y("low:Q", title=None), y2="high:Q") + shown.mark_line(
    point=True
).encode(y="value:Q")
rule = alt.Chart(pl.DataFrame({"λ": [knee.value]})).mark_rule(strokeDash=[4, 3]).encode(x="λ:Q")
kept(
    (chart + rule).properties(width=520, height=300, title="What the dial does; the knee is dashed. SIMULATED"),
    "03-the-dial",
)

# %%
rises = int((np.diff(usd[0]) > 0).sum())
numbers = {
    "knee": knee.value,
    "accuracy at the knee": there["accuracy"].value,
    "cost at the knee": there["USD/1k"].value,
    "accuracy at 0": accuracy[0, 0],
    "cost at 0": usd[0, 0],
    "steps of λ at which cost rises": rises,
}
print(numbers)
check("03", run.manifest["store"]["content_hash"], numbers, tolerance=0.15)

# %% [markdown]
# **What it shows.** From λ = 0 to the knee most of the cost goes and little of the accuracy; beyond it every further
# saving is paid for in right answers. Where the knee lies is known only roughly, as its interval says: several λ around it
# are equally good compromises.
