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
# # What routers do
#
# **Claim.** The trained router asks in parallel, and looks at answers and asks again, each where it pays; it does not always
# ask the strongest model, and whom it asks depends on the question's domain. (xRouter, arXiv 2510.08439, section 5, reports that switching on
# intermediate results and parallel calls would not come.)
#
# Reads `runs/demo`, its test queries.

# %%
import altair as alt
import numpy as np
import polars as pl
from common import RUN, check, kept

from xrouter_sim.evaluation.metrics import BEHAVIOURS, selection_entropy
from xrouter_sim.evaluation.runs import load_run
from xrouter_sim.evaluation.summary import summarise

run = load_run(RUN)
summary = summarise(run)
rl = summary["rl"]

# %%
went = pl.DataFrame(
    [
        {"λ": point.setting, "behaviour": name, "share": share, "order": BEHAVIOURS.index(name)}
        for point in rl.points
        for name, share in point.behaviour.items()
    ]
)
colours = ["#56b4e9", "#d55e00", "#009e73", "#cc79a7", "#999999"]
behaviours = (
    alt.Chart(went)
    .mark_area()
    .encode(
        x=alt.X("λ:Q", scale=alt.Scale(type="symlog", constant=0.1), axis=alt.Axis(values=[0, 0.5, 2, 10, 80])),
        y=alt.Y("share:Q", stack="normalize", title="share of episodes", axis=alt.Axis(format="%")),
        color=alt.Color("behaviour:N", scale=alt.Scale(domain=list(BEHAVIOURS), range=colours), title=None),
        order="order:Q",
    )
    .properties(width=250, height=240, title="How episodes go, by λ")
)
asked = pl.DataFrame(
    [
        {"domain": domain, "model": model, "share": share}
        for domain, models in rl.calls_by_domain.items()
        for model, share in models.items()
        if share > 0
    ]
)
models = (
    alt.Chart(asked)
    .mark_bar()
    .encode(
        y=alt.Y("domain:N", title=None),
        x=alt.X("share:Q", stack="normalize", title="share of calls at λ = 1", axis=alt.Axis(format="%")),
        color=alt.Color("model:N", scale=alt.Scale(scheme="tableau10"), title=None),
    )
    .properties(width=250, height=240, title="Whom it asks, by domain")
)
kept(
    alt.hconcat(behaviours, models, title="The router rl. SIMULATED").resolve_scale(color="independent"),
    "06-what-routers-do",
)

# %%
escalates = {point.setting: point.behaviour.get("escalate", 0.0) for point in rl.points}
names = sorted({model for models in rl.calls_by_domain.values() for model in models})
overall = np.array([np.mean([models.get(name, 0.0) for models in rl.calls_by_domain.values()]) for name in names])
numbers = {
    "most escalation at any λ": max(escalates.values()),
    "entropy of calls (nats over ln models)": float(selection_entropy(overall, len(run.manifest["store"]["models"]))),
    "largest share of one model": float(overall.max()),
}
print(numbers)
check("06", run.manifest["store"]["content_hash"], numbers, tolerance=0.05)

# %% [markdown]
# **What it shows.** Where money hardly counts the router asks two models at once and reads both; as it counts more, it asks one,
# looks at the answer and goes on in up to a third of its episodes; where money is all, it asks one cheap model and stops. No
# model gets the bulk of its calls, and domains differ in whom they are sent to: where cheap models are good, the dear one is
# not asked. Both behaviours that would not come by training on live calls come here.
