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
# # Which prompt is running at 2 am?
#
# A support bot moves to another prompt and another model behind a ramp. At two in the morning somebody asks what the users are
# getting, since when, and what changed. The logs know. We take simulated ones, and treat them as if they were yours.

# %%
import tempfile
from pathlib import Path

import altair as alt

import abtest as ab
from abtest.lineage.diff import diff
from abtest.lineage.registry import label, register, registry
from abtest.lineage.registry_file import registration
from abtest.simulate import simulate, write

alt.renderers.enable("svg")  # static pictures, no network

folder = Path(tempfile.mkdtemp())
write(simulate("refusal-regression", users=2500, seed=3), folder)
store = ab.Store(folder / "abtest.duckdb")
store.ingest(folder / "logs").inserted

# %% [markdown]
# ## Now, and then
#
# Every prompt, model and configuration that answered in the last hour, with its share of what users saw. On the command line it
# is `abtest versions`.

# %%
ab.versions(store)

# %% [markdown]
# The same for any minute of the past: the third night, when the canary was young. (`abtest versions --at ... --last 6h`)

# %%
ab.versions(store, at="2026-11-12T02:00:00Z", last="6h", surface="support")

# %% [markdown]
# What changed in the whole time: a version that appears, disappears, comes back or takes over is told, with the fields that differ.

# %%
[(c.at, c.kind, c.message) for c in ab.versions(store, last="10d", surface="support").changes]

# %% [markdown]
# ## What may run
#
# A manifest that is registered never changes: the same version with other words is refused. Labels move, and moving one back is
# the rollback; every move is in the ledger. (`abtest versions register FILE`, `abtest versions label production v12`)

# %%
OLD = "You answer support questions.\nReturn strictly valid JSON.\nBe brief."
NEW = "You answer support questions.\nReturn clean, parseable JSON.\nBe brief."
register(
    store,
    registration({"prompt_name": "answer", "prompt_version": "v12", "prompt_text": OLD, "model": "gpt-4o-2024-08-06"}),
    registration({"prompt_name": "answer", "prompt_version": "v13", "prompt_text": NEW, "model": "claude-sonnet-4-5"}),
)
label(store, "production", "v13")
label(store, "production", "v12")
[(move.label, registry(store).by_id[move.manifest_id].manifest.words) for move in registry(store).moves]

# %%
try:
    register(
        store, registration({"prompt_name": "answer", "prompt_version": "v13", "prompt_text": NEW + " Never guess."})
    )
except ab.AbtestError as error:
    print(error)

# %% [markdown]
# What is the difference? Two words, and a parser that breaks without an error in any log.

# %%
ids = [r.manifest.short for r in registry(store).manifests]
diff(store, *ids)

# %% [markdown]
# ## Beside the metrics
#
# The timeline puts changes of versions beside changes of metrics: hourly shares, watched by detectors that cry wolf once a year
# or less often. (`abtest versions timeline --out timeline.svg`)

# %%
timeline = ab.timeline(store, surface="support")
timeline

# %%
timeline.plot()

# %% [markdown]
# ## What it means for the release
#
# Versions that should not be (a prompt version with two contents, another model answering than was asked for, a retired prompt
# that still runs) are findings of the decision. Here every arm ran what it should: the harm is the candidate's own.

# %%
from abtest.lineage.findings import release_findings

experiment = ab.Experiment.from_toml(folder / "experiment.toml")
release_findings(store, experiment)

# %%
ab.analyze(store, experiment)
