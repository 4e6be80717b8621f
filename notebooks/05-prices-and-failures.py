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
# # When prices move and calls fail
#
# **Claim.** Routers that read prices and retry keep most of their reward in worlds they were not fitted in; a router that
# always calls the same model keeps its choice and loses its reward.
#
# Reads `runs/demo`, its test queries in other worlds (`robustness.parquet`), at λ = 1.

# %%
import altair as alt
import polars as pl
from common import RUN, check, kept, said

from xrouter_sim.evaluation.robustness import robustness
from xrouter_sim.evaluation.runs import load_run

run = load_run(RUN)
best = "always:" + max(
    (name for name in run.panels if name.startswith("always:")), key=lambda name: run.panels[name].score.mean()
).removeprefix("always:")
wanted = ["rl", "cascade", "table", "knn", best]
found = [row for row in robustness(run) if row.router in wanted]
profiles = list(dict.fromkeys(row.profile for row in found))
print(run.manifest["store"]["provenance"], profiles)

# %%
frame = pl.DataFrame(
    [
        {"router": row.router, "world": row.profile, "kept": row.kept.value, "reward": row.reward.value}
        for row in found
        if row.kept.value is not None
    ]
)
base = alt.Chart(frame).encode(
    x=alt.X("world:N", sort=profiles, title=None, axis=alt.Axis(labelAngle=0)),
    y=alt.Y("router:N", sort=wanted, title=None),
)
tiles = base.mark_rect().encode(color=alt.Color("kept:Q", scale=alt.Scale(scheme="blues"), title="reward kept"))
text = base.mark_text(fontSize=12).encode(
    text=alt.Text("kept:Q", format=".2f"),
    color=alt.condition("datum.kept > 0.96", alt.value("white"), alt.value("black")),
)
kept(
    (tiles + text).properties(width=420, height=200, title="Part of the calm reward that is kept, λ = 1. SIMULATED"),
    "05-prices-and-failures",
)

# %%
for row in found:
    if row.kept.value is not None and row.router in ("rl", best):
        print(
            f"{row.router:<24} {row.profile:<10} kept {said(row.kept)}  no answer {said(row.no_answer)}  same choice {said(row.same_choice)}"
        )
numbers = {f"{row.router} {row.profile}": row.kept.value for row in found if row.kept.value is not None}
check("05", run.manifest["store"]["content_hash"], numbers, tolerance=0.02)

# %% [markdown]
# **What it shows.** Failures cost every router a few percent: they are retried, and what is lost is lost by all. Under
# changed prices routers that read them change their choices and keep, or gain, reward, since somewhere something is on
# sale; a fixed model keeps its choices. The matrix tells how much of its own calm reward each keeps; who earns most is
# in the report.
