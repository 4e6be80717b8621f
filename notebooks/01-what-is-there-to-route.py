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
# # What is there to route?
#
# **Claim.** Prices differ by a factor of eighty, no model is the best everywhere, and the dearest is nowhere needed for
# most questions. Where all three hold, a router has something to win.
#
# Reads the store alone, and of that the training queries.

# %%
import altair as alt
import numpy as np
import polars as pl
from common import ACCENT, DB, check, kept

from xrouter_sim.replay import Replay

replay = Replay.load(DB)
train = replay.indices("train")
print(replay.store["provenance"], "·", f"{len(train):,} training queries · {len(replay.arm_names)} arms")

# %% [markdown]
# The two dials of every arm (a model with a prompt style): what a thousand answers cost, and how many are right.

# %%
score, cost = replay.mean_score[train], replay.mean_cost[train]
arms = pl.DataFrame({"arm": replay.arm_names, "accuracy": score.mean(axis=0), "usd": 1000 * cost.mean(axis=0)})
arms = arms.sort("usd")
arms

# %% [markdown]
# By domain, each arm's accuracy less that of the domain's best arm.

# %%
domains = replay.domains[train]
rows = []
for domain in np.unique(domains):
    by_arm = score[domains == domain].mean(axis=0)
    rows += [
        {"domain": str(domain), "arm": name, "behind": float(value - by_arm.max())}
        for name, value in zip(replay.arm_names, by_arm, strict=True)
    ]
gaps = pl.DataFrame(rows)
base = alt.Chart(gaps).encode(
    x=alt.X("arm:N", sort=arms["arm"].to_list(), title="arm, the cheapest first", axis=alt.Axis(labelAngle=-40)),
    y=alt.Y("domain:N", title=None),
)
tiles = base.mark_rect().encode(
    color=alt.Color("behind:Q", scale=alt.Scale(scheme="oranges", reverse=True), title="behind the best")
)
best = base.transform_filter("datum.behind > -1e-9").mark_point(color=ACCENT, shape="diamond", size=70, filled=True)
kept(
    (tiles + best).properties(
        width=560, height=240, title="Accuracy behind the domain's best arm (diamond). SIMULATED"
    ),
    "01-what-is-there-to-route",
)

# %%
best_arm = {str(d): int(score[domains == d].mean(axis=0).argmax()) for d in np.unique(domains)}
overall = int(score.mean(axis=0).argmax())
enough = (score[:, arms["usd"].arg_min() :] > 0).any(axis=1)
dearest = replay.arm_names.index(arms["arm"][-1])
cheaper = np.delete(score, dearest, axis=1).max(axis=1) >= score[:, dearest]
figures = {
    "dearest over cheapest": arms["usd"][-1] / arms["usd"][0],
    "domains where another arm is best": sum(arm != overall for arm in best_arm.values()),
    "queries where a cheaper arm does as well as the dearest": float(cheaper.mean()),
}
print(figures)
check("01", replay.store["content_hash"], figures, tolerance=1e-6)

# %% [markdown]
# **What it shows.** The dearest arm costs eighty times what the cheapest one does and is the best in few domains or none;
# on nearly all questions some cheaper arm does as well. Which one that is depends on the domain, and within a domain on
# the question. (Knowing it for a single question takes luck as well as skill: see notebook 04.)
