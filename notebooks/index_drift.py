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
# # Half an index speaks another language
#
# A re-index with a new embedding model stopped half way. Nothing fails, no error is logged; answers just get worse. Here is how it is
# found with and without version labels, what it costs, and how the new index should have been introduced.
#
# The embeddings are real: 240 docstrings of the Python library as documents, their first sentences as 120 queries, embedded by
# all-MiniLM-L6-v2 and by the same network cut after three layers, another vector space of the same size.

# %%
import tempfile
from pathlib import Path

import altair as alt
import numpy as np

import abtest as ab
from abtest.lineage.index_checks import record_check
from abtest.lineage.index_findings import index_findings
from abtest.simulate import simulate, write

alt.renderers.enable("svg")  # static pictures, no network

# The vectors lie in a checkout of abtest; tests/lineage/make_index_vectors.py has made them.
data = np.load(Path(ab.__file__).parents[1] / "tests" / "lineage" / "fixtures" / "index_vectors.npz")


def unit(rows):
    rows = rows.astype(float)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


names = [str(n) for n in data["names"]]
documents, cut_documents = unit(data["documents"]), unit(data["documents_cut"])
queries, cut_queries = unit(data["queries"]), unit(data["queries_cut"])
half = documents.copy()
half[::2] = cut_documents[::2]  # the re-index that stopped

# %% [markdown]
# ## Where versions are known
#
# The export of the index names the embedding model of each row.

# %%
export = [
    {
        "id": name,
        "embedding_model_version": "minilm@1" if i % 2 else "minilm@2",
        "updated_at": f"2026-11-{1 if i % 2 else 9:02d}T00:00:00Z",
    }
    for i, name in enumerate(names)
]
ab.index_drift(export)

# %% [markdown]
# ## Where they are not
#
# Nobody wrote versions down, but the vectors are there. We embed a random sample of 60 documents with today's model. A text embedded
# twice by one model has cosine 1; the others are from somewhere else.

# %%
rng = np.random.default_rng(7)
sample = [{"id": names[i], "vector": documents[i].tolist()} for i in rng.choice(len(names), 60, replace=False)]
bare = [{"id": name, "vector": vector.tolist()} for name, vector in zip(names, half, strict=True)]
ab.index_drift(bare, probes=sample)

# %% [markdown]
# ## The provider changes without a word
#
# Eight pinned texts are embedded every hour and compared with their stored vectors. After 60 hours the provider has another model.

# %%
readings = [
    {"probe_id": names[i], "ts": f"2026-11-{2 + hour // 24:02d}T{hour % 24:02d}:00:00Z", "stored_vector": documents[i].tolist(),
     "vector": (documents if hour < 60 else cut_documents)[i].tolist()}
    for hour in range(72) for i in range(8)
]  # fmt: skip
changed = ab.index_drift(probes=readings)
changed

# %%
changed.plot()

# %% [markdown]
# ## What does the half index cost?
#
# The golden queries know which document answers them. Both indexes are asked; the difference is paired, query by query, with an interval
# that holds however often you look.

# %%
golden = [{"query_id": name, "relevant": [name]} for name in names[: len(queries)]]


def ask(query_vectors, index_vectors, milliseconds):
    ranks = np.argsort(-(query_vectors @ index_vectors.T), axis=1)[:, :10]
    return [
        {"query_id": names[i], "ids": [names[j] for j in row], "latency_ms": milliseconds + i % 7}
        for i, row in enumerate(ranks)
    ]


packed = np.rint(documents * 127 / np.abs(documents).max(axis=1, keepdims=True))
packed /= np.linalg.norm(packed, axis=1, keepdims=True)
runs = {
    "half": ask(queries, half, 20),
    "cut model": ask(cut_queries, cut_documents, 11),
    "as bytes": ask(queries, packed, 14),
}
comparison = ab.index_compare(golden, {"in use": ask(queries, documents, 20)}, runs, margin=0.05)
comparison

# %%
comparison.plot()

# %% [markdown]
# The half index and the small model are stopped; storing vectors as bytes is as good. With three candidates the p-values are adjusted,
# so that picking the best of them costs nothing. A hundred and twenty queries cannot promise more than a margin of a few per cent:
# the sentence says how many would.
#
# ## Holding a release
#
# A look that is recorded holds the releases that use the index, until a newer look is healthy.

# %%
folder = Path(tempfile.mkdtemp())
write(simulate("healthy", users=600, seed=3), folder)
store = ab.Store(folder / "abtest.duckdb")
store.ingest(folder / "logs")
experiment = ab.Experiment.from_toml(folder / "experiment.toml")
look = ab.index_drift({"support-kb-2026-10": bare}, probes=sample, store=store)
record_check(store, look)
found = index_findings(store, experiment, store.newest_us(), store.last_file())
ab.decide(store, experiment, findings=found, dry_run=True)

# %%
store.close()
assert look.exit_code == 30
assert [c.decision for c in comparison.candidates] == ["halt", "halt", "promote"]
