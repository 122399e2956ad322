"""Real embeddings for the tests (fixtures/index_vectors.npz, see make_index_vectors.py), and files made of them."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FIXTURE = Path(__file__).parent / "fixtures" / "index_vectors.npz"
START_US = 1_793_577_600_000_000  # 2026-11-02T00:00:00Z
HOUR_US = 3_600_000_000


def unit(vectors):
    rows = np.asarray(vectors, dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@dataclass
class Embedded:
    """The same texts by two models: `a` is all-MiniLM-L6-v2, `b` the same network cut after three layers."""

    names: list
    a: np.ndarray
    b: np.ndarray
    queries_a: np.ndarray
    queries_b: np.ndarray

    @property
    def golden(self):
        """Each query's relevant document is the docstring that it begins."""
        return [{"query_id": name, "relevant": [name]} for name in self.names[: len(self.queries_a)]]

    def half(self, every=2):
        """An index that a re-index with the other model left half way."""
        mixed = self.a.copy()
        mixed[::every] = self.b[::every]
        return mixed

    def index(self, vectors, versions=None, **more):
        rows = []
        for i, name in enumerate(self.names):
            version = {} if versions is None else {"embedding_model_version": versions[i]}
            rows.append({"id": name, "vector": vectors[i].tolist(), **version, **{k: v[i] for k, v in more.items()}})
        return rows

    def sample(self, vectors, chosen):
        """Documents embedded anew: the model's own rounding noise stays."""
        noise = np.random.default_rng(len(chosen)).normal(0, 1e-5, vectors.shape)
        return [{"id": self.names[i], "vector": (vectors[i] + noise[i]).tolist()} for i in chosen]

    def probes(self, rounds, texts=6, noise=1e-5, seed=0):
        """Readings of pinned texts, hour by hour; `rounds` has the vectors that answer in each of them."""
        rng = np.random.default_rng(seed)
        return [
            {"probe_id": self.names[i], "ts": at(hour), "stored_vector": self.a[i].tolist(),
             "vector": (vectors[i] + rng.normal(0, noise, vectors.shape[1])).tolist()}
            for hour, vectors in enumerate(rounds) for i in range(texts)
        ]  # fmt: skip

    def run(self, queries, documents, k=10, **more):
        """What a brute-force cosine index retrieves."""
        ranks = np.argsort(-(queries @ documents.T), axis=1, kind="stable")[:, :k]
        return [
            {"query_id": self.names[i], "ids": [self.names[j] for j in row], **{key: f(i) for key, f in more.items()}}
            for i, row in enumerate(ranks)
        ]


def embedded():
    found = np.load(FIXTURE)
    vectors = [unit(found[key]) for key in ("documents", "documents_cut", "queries", "queries_cut")]
    return Embedded([str(n) for n in found["names"]], *vectors)


def at(hour, minute=0):
    day, hour = divmod(hour, 24)
    return f"2026-11-{2 + day:02d}T{hour:02d}:{minute:02d}:00Z"


def calls(
    count, *, version, index_id="kb", variant="control", hours=(0, 48), name="c", experiment="swap", attributes=None
):
    """Logged calls, spread over hours."""
    rows = []
    for i in range(count):
        hour = hours[0] + (hours[1] - hours[0]) * i / count
        rows.append({
            "type": "interaction", "interaction_id": f"{name}-{variant}-{version}-{index_id}-{i}", "ts": at(int(hour), int(60 * (hour % 1))),
            "model": "m", "unit_id": f"u-{variant}-{i}", "experiment_id": experiment, "variant": variant, "surface": "support",
            "embedding_model_version": version, "index_id": index_id, **({"attributes": attributes} if attributes else {}),
        })  # fmt: skip
    return [{k: v for k, v in row.items() if v is not None} for row in rows]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def codes(result):
    return [(f.code, f.severity) for f in result.findings]
