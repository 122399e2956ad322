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
# # A first experiment in five minutes
#
# A support bot moves to another model behind a ramp: 1 % of the users, then 5 %, then 20 %. Is the release safe, is it better,
# and what would have stopped it? We take simulated logs, because there the truth is known, and treat them as if they were yours.

# %%
import json
import tempfile
from pathlib import Path

import altair as alt

import abtest as ab
from abtest.simulate import simulate, write

alt.renderers.enable("svg")  # static pictures, no network

folder = Path(tempfile.mkdtemp())
write(simulate("refusal-regression", users=8000, seed=3), folder)
sorted(p.name for p in folder.iterdir())

# %% [markdown]
# ## Logs into the store
#
# The store is one DuckDB file. Every record goes in once; what cannot be read goes into quarantine with its reason.

# %%
store = ab.Store(folder / "abtest.duckdb")
report = store.ingest(folder / "logs")
report.inserted, report.duplicates, report.quarantined

# %% [markdown]
# Reading the same files again inserts nothing.

# %%
again = store.ingest(folder / "logs")
again.inserted, again.skipped_files

# %% [markdown]
# ## What is asked
#
# One TOML file says which metrics may not get worse, by how much, and what happens then.

# %%
experiment = ab.Experiment.from_toml(folder / "experiment.toml")
[(m.name, m.role, m.guardrail.margin.kind if m.guardrail else "") for m in experiment.metrics]

# %% [markdown]
# ## The analysis: a table
#
# Every interval is *anytime-valid*: it holds at this look and at all the looks before and after it together. Variances are
# clustered by user, and the stages of the ramp are compared one by one, never pooled.

# %%
analysis = ab.analyze(store, experiment)
analysis

# %% [markdown]
# The same numbers as a polars frame, for questions of your own:

# %%
analysis.to_polars().select("metric", "estimate", "ci_lower", "ci_upper", "harm_upper", "margin", "verdict")

# %% [markdown]
# All guardrails at a glance: the bar is the harm that the data still allow, in multiples of each margin. In the shaded part the
# release does too much harm.

# %%
analysis.plot()

# %% [markdown]
# One metric over time. The band is the confidence sequence; the release was provably harmful as soon as the whole band had
# passed the margin, and looking every hour to find that moment costs nothing.

# %%
analysis.metric("refusal_rate").plot()

# %% [markdown]
# Could the comparison itself be wrong? The checks look at the assignment: sample ratio, users in both arms, mixed versions.

# %%
[(check.name, check.status) for check in analysis.checks]

# %% [markdown]
# ## The decision
#
# `decide` applies the rules, writes the decision into the ledger, and acts: the candidate's weight in the flag file is now zero.

# %%
decision = ab.decide(store, experiment)
decision

# %%
flag = json.loads((folder / "flags.json").read_text())["flags"]["support-model"]
flag["targeting"]["fractional"][1:], flag["metadata"]["abtest.decision_id"] == decision.decision_id

# %% [markdown]
# And the truth? The simulation knows it.

# %%
truth = json.loads((folder / "truth.json").read_text())
refusals = truth["metrics"]["refusal_rate"]
result = analysis.metric("refusal_rate")
print(
    f"true effect {refusals['effect']:+.4f}, estimated {result.estimate:+.4f} [{result.ci_lower:+.4f}, {result.ci_upper:+.4f}]"
)
assert decision.decision == truth["expected"]["decision"] == "halt"

# %%
store.close()
