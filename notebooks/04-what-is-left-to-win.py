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
# # What is left to win, and why
#
# **Claim.** The oracle's lead over routers is mostly luck that nobody can foresee. Knowing each arm's *chance* on the
# very question would bring much; knowing the domain brings nearly all of what routers get today.
#
# Reads `runs/demo` and its store; bounds are exact (docs/bounds.md).

# %%
import altair as alt
import numpy as np
import polars as pl
from common import ACCENT, DB, QUIET, RUN, SECOND, check, kept, said

from xrouter_sim.bounds import all_bounds
from xrouter_sim.evaluation.runs import load_run
from xrouter_sim.evaluation.statistics import Bootstrap, figure
from xrouter_sim.replay import Replay

run, replay = load_run(RUN), Replay.load(DB)
panel = run.panels["rl"]
place = {name: number for number, name in enumerate(replay.query_ids)}
queries = np.array([place[name] for name in panel.queries])
unit = run.manifest["cost_unit_usd"]
bounds = all_bounds(replay, queries, 1.0, unit)
bootstrap = Bootstrap(len(queries))

# %%
rows = []
for name, bound in bounds.items():
    earned = figure(bootstrap.means(bound.reward))
    rows.append({"what": name, "kind": "bound", "reward": earned.value, "low": earned.low, "high": earned.high})
for name in ("rl", "cascade", "table"):
    other = run.panels[name]
    earned = figure(bootstrap.means(other.reward[:, other.nearest(1.0)].mean(axis=0)))
    rows.append({"what": name, "kind": "router", "reward": earned.value, "low": earned.low, "high": earned.high})
frame = pl.DataFrame(rows).sort("reward", descending=True)
shown = alt.Chart(frame).encode(
    y=alt.Y("what:N", sort=frame["what"].to_list(), title=None),
    color=alt.Color("kind:N", scale=alt.Scale(domain=["bound", "router"], range=[QUIET, ACCENT]), title=None),
)
bars = shown.mark_bar().encode(x=alt.X("reward:Q", title="reward at λ = 1"))
ends = (
    alt.Chart(frame)
    .mark_rule(color=SECOND)
    .encode(y=alt.Y("what:N", sort=frame["what"].to_list()), x="low:Q", x2="high:Q")
)
kept(
    (bars + ends).properties(width=480, height=280, title="Bounds and routers, with 95% intervals. SIMULATED"),
    "04-what-is-left-to-win",
)

# %%
rl = panel.reward[:, panel.nearest(1.0)].mean(axis=0)
regret = {name: figure(bootstrap.means(bound.reward - rl)) for name, bound in bounds.items()}
for name, value in regret.items():
    print(f"{name:<24} regret of rl {said(value)}")
numbers = {f"{row['what']}": row["reward"] for row in rows}
check("04", run.manifest["store"]["content_hash"], numbers, tolerance=0.02)

# %% [markdown]
# **What it shows.** The clairvoyant oracle earns far more than any router. But take luck out of it (guess among many models,
# and one of them is right by chance), and what is left lies within the interval of what the trained router earns. Between
# the two stands what a router would earn that knew every arm's chance on this very question: that is what features of the
# question would have to tell, and do not.
