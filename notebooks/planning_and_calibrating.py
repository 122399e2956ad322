# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Before the release: how long, and can the halt be trusted?
#
# The policy is written, the candidate waits. Two questions can be answered from the logs that are already there: how many days will
# each stage take, and how often would this policy stop a release that is fine? We take simulated logs of a week and a half.

# %%
import tempfile
from pathlib import Path

import altair as alt

import abtest as ab
from abtest.simulate import simulate, write

alt.renderers.enable("svg")  # static pictures, no network

folder = Path(tempfile.mkdtemp())
write(simulate("healthy", users=2000, seed=3), folder)
store = ab.Store(folder / "abtest.duckdb")
store.ingest(folder / "logs").inserted

# %% [markdown]
# The policy: two guardrails, one metric that should become better, three stages.

# %%
experiment = ab.Experiment.from_dict({
    "id": "support-bot-sonnet-swap",
    "control": "baseline",
    "treatments": ["candidate"],
    "population": {"where": "surface = 'support'"},
    "metrics": [
        {"name": "refusal_rate", "kind": "proportion", "event": "refused", "better": "lower",
         "guardrail": {"margin": {"points": 0.03}}},
        {"name": "cost", "kind": "mean", "value": "cost_usd", "better": "lower",
         "guardrail": {"margin": {"relative": 0.2}}},
        {"name": "helpfulness", "kind": "mean", "score": "helpfulness", "better": "higher",
         "success": {"mde": {"absolute": 0.05}}},
    ],
    "ramp": [
        {"stage": "canary", "share": 0.1, "min_hours": 24},
        {"stage": "canary", "share": 0.25, "min_hours": 24},
        {"stage": "ab", "share": 0.5},
    ],
})  # fmt: skip

# %% [markdown]
# ## How long?
#
# Variance, clustering by user and traffic come from the logs. "Typical" is what half of the releases that change nothing take,
# "planned" what eight in ten take.

# %%
planned = ab.plan(store, experiment)
planned

# %% [markdown]
# A curve is the smallest difference that a metric can resolve by then, as a multiple of its margin (or MDE). Below the dashed line it is
# decided. Dotted lines are the starts of stages.

# %%
planned.plot()

# %% [markdown]
# What would make the first stage shorter?

# %%
[(s["what"], round(s["days"], 1)) for s in planned.stages[0].shorten]

# %% [markdown]
# ## Can the halt be trusted?
#
# The same policy on the same users, put into pseudo-arms again and again. Without harm, every halt is a mistake. (Here 16 runs and a look
# every six hours, so that the notebook is quick; 200 runs and hourly looks are the default.)

# %%
found = ab.calibrate(
    store, experiment, runs=16, harmed_runs=4, every_hours=6, inject={"refusal_rate": [1, 4], "cost": [4]}
)
found

# %%
found.plot("detection")

# %%
found.plot("halts")

# %% [markdown]
# The table as a frame, for questions of your own:

# %%
found.to_polars().select("metric", "multiple", "detected_share", "median_hours", "median_units", "promoted_share")

# %%
assert found.false_halts.lower <= found.nominal
assert planned.stages[0].typical <= planned.stages[0].days
store.close()
