"""Small logs of a shadow stage: control's answers that users saw, and the candidate's that nobody saw, to the same requests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from abtest.spec import Experiment
from abtest.store.store import Store

START = datetime(2026, 11, 1, tzinfo=UTC)
CONTROL, CANDIDATE = "base", "cand"
Record = dict[str, Any]


def at(seconds: float) -> str:
    """Return a moment of the log."""
    return (START + timedelta(seconds=seconds)).isoformat()


def call(request: str, arm: str, *, seconds: float = 0.0, ident: str | None = None, **fields: Any) -> Record:
    """Return one call; None leaves a field out. Control's are seen by the user, the candidate's are not."""
    row: Record = {
        "interaction_id": ident or f"{request}:{arm}", "ts": at(seconds), "model": "m-base" if arm == CONTROL else "m-cand",
        "experiment_id": "swap", "variant": arm, "request_id": request, "exposed": arm == CONTROL, **fields,
    }  # fmt: skip
    return {k: v for k, v in row.items() if v is not None}


def score(
    target: str, name: str, value: float, *, kind: str = "judge", seconds: float = 0.0, number: int = 0
) -> Record:
    """Return a score of one call."""
    return {
        "type": "score", "score_id": f"{target}:{name}:{kind}:{number}", "ts": at(seconds), "name": name, "scorer_kind": kind,
        "scorer_id": f"{kind}-{number}", "value": value, "interaction_id": target,
    }  # fmt: skip


def ingest(path: Path, *files: Iterable[Mapping[str, Any]], **options: Any) -> Store:
    """Return a store with these records, a file each."""
    store = Store(path / "abtest.duckdb")
    add(store, path, *files, **options)
    return store


def add(store: Store, path: Path, *files: Iterable[Mapping[str, Any]], **options: Any) -> None:
    """Load further files into a store."""
    for records in files:
        number = len(list(path.glob("log_*.jsonl")))
        file = path / f"log_{number:03d}.jsonl"
        file.write_text("\n".join(json.dumps(r) for r in records) + "\n")
        report = store.ingest(file, **options)
        assert not report.quarantined, report


def spec(*metrics: Mapping[str, Any], **keys: Any) -> Experiment:
    """Return an experiment of the two arms."""
    data = {"id": "swap", "control": CONTROL, "treatments": [CANDIDATE], "metrics": list(metrics), **keys}
    return Experiment.from_dict(data)


REFUSAL = {
    "name": "refusal_rate", "kind": "proportion", "event": "refused", "better": "lower", "guardrail": {"margin": {"points": 0.05}},
}  # fmt: skip
LATENCY = {
    "name": "latency", "kind": "mean", "value": "latency_ms", "better": "lower", "guardrail": {"margin": {"relative": 0.1}},
}  # fmt: skip


def simple(
    seed: int, users: int = 120, *, effect: float = 0.0, refusals: tuple[float, float] = (0.05, 0.05), requests: int = 4, **fields: Any
) -> list[Record]:  # fmt: skip
    """Return the log of users with 1 to `requests` requests each, with an effect on log latency and on refusals."""
    rng = np.random.default_rng(seed)
    rows: list[Record] = []
    for u in range(users):
        own = rng.normal()
        for k in range(int(rng.integers(1, requests + 1))):
            request, hard, seconds = f"r{u}-{k}", rng.normal(), 600 * u + 10 * k
            for arm, shift, refusal in ((CONTROL, 0.0, refusals[0]), (CANDIDATE, effect, refusals[1])):
                latency = float(np.exp(6 + 0.3 * own + 0.3 * hard + 0.2 * rng.normal() + shift))
                rows.append(call(
                    request, arm, seconds=seconds + (arm == CANDIDATE), unit_id=f"u{u}", session_id=f"s{u}",
                    latency_ms=round(latency, 3), refused=bool(rng.random() < refusal), **fields,
                ))  # fmt: skip
    return rows
