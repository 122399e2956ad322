"""Baselines to calibrate on, and pseudo-arms written out as logs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from abtest.analysis.resample import Baseline
from abtest.analysis.resample_harm import Run
from abtest.analysis.resample_sums import Ramp
from abtest.analysis.times import parse_moment, to_text
from abtest.spec import Experiment
from abtest.store.query import HOUR_US
from abtest.store.store import Store

RAMP = [
    {"stage": "canary", "share": 0.1, "min_hours": 6},
    {"stage": "canary", "share": 0.25, "min_hours": 6},
    {"stage": "ab", "share": 0.5},
]
METRICS: list[dict[str, Any]] = [
    {"name": "refusal_rate", "kind": "proportion", "event": "refused", "better": "lower",
     "guardrail": {"margin": {"points": 0.03}}},
    {"name": "format_validity", "kind": "proportion", "event": "format_ok", "better": "higher",
     "guardrail": {"margin": {"points": 0.03}, "action": "hold"}},
    {"name": "cost", "kind": "mean", "value": "cost_usd", "better": "lower", "guardrail": {"margin": {"relative": 0.2}}},
]  # fmt: skip
MORE: list[dict[str, Any]] = [
    {"name": "any_error", "kind": "proportion", "event": "is_error", "per": "unit", "better": "lower",
     "guardrail": {"margin": {"relative": 0.5}}},
    {"name": "latency_p50", "kind": "quantile", "value": "latency_ms", "q": 0.5, "better": "lower",
     "guardrail": {"margin": {"relative": 0.3}}},
    {"name": "requests", "kind": "count", "better": "higher", "guardrail": {"margin": {"relative": 0.2}, "action": "hold"}},
    {"name": "tokens_per_dollar", "kind": "ratio", "numerator": "output_tokens", "denominator": "cost_usd", "better": "higher"},
    {"name": "length", "kind": "distribution", "value": "response_chars", "better": "lower",
     "guardrail": {"margin": {"points": 0.15}, "action": "hold"}},
    {"name": "helpfulness", "kind": "mean", "score": "helpfulness", "better": "higher", "success": {"mde": {"absolute": 0.05}}},
    {"name": "latency_late", "kind": "mean", "value": "latency_ms", "better": "lower", "mature_after": "90m", "covariate": "pre"},
]  # fmt: skip


def spec_of(**changes: Any) -> Experiment:
    """Return the policy that the tests replay; keys that are None are left out."""
    data = {
        "id": "support-bot-sonnet-swap", "control": "baseline", "treatments": ["candidate"], "metrics": METRICS, "ramp": RAMP,
        "population": {"where": "surface = 'support'"}, **changes,
    }  # fmt: skip
    return Experiment.from_dict({k: v for k, v in data.items() if v is not None})


def write_pseudo_logs(logs: Path, out: Path, run: Run, ramp: Ramp, numbers: Mapping[str, int]) -> None:
    """Write the control arm's records with the variants of a run; the attempts of a request belong to the last one's hour."""
    records = [json.loads(line) for file in sorted(logs.glob("*.jsonl")) for line in file.read_text().splitlines()]
    calls = [r for r in records if r["type"] == "interaction" and r.get("variant") == "baseline"]
    heads: dict[str, int] = {}
    for r in calls:
        heads[r["request_id"]] = max(heads.get(r["request_id"], 0), parse_moment(r["ts"], key="ts") // HOUR_US)
    variant: dict[str, str] = {}  # by request and by call
    with out.open("w") as file:
        for r in calls:
            hour = heads[r["request_id"]] - run.baseline.first_hour
            share = ramp.shares[int(np.searchsorted(ramp.starts, hour, side="right")) - 1]
            treated = run.place[numbers[r["unit_id"]]] < share
            r["variant"] = "candidate" if treated else "baseline"
            variant[r["request_id"]] = variant[r["interaction_id"]] = r["variant"]
            file.write(json.dumps(r) + "\n")
        for r in records:
            target = r.get("request_id") or r.get("interaction_id")
            if r["type"] == "score" and target in variant:
                file.write(json.dumps({**r, "variant": variant[target]}) + "\n")


def unit_numbers(store: Store) -> dict[str, int]:
    """Return the numbers that the last reading gave to the units."""
    return dict(store.connection.execute("select unit_id, unit_no from calibrate_unit").fetchall())


def with_allocation(experiment: Experiment, baseline: Baseline, ramp: Ramp) -> Experiment:
    """Return the policy with the split of a replay written down, as an operator would."""
    rows = [
        {"at": to_text((baseline.first_hour + start) * HOUR_US), "share": share}
        for start, share in zip(ramp.starts, ramp.shares, strict=True)
    ]
    data = experiment.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return Experiment.from_dict({**data, "allocation": rows})


def clustered_store(folder: Path, *, users: int = 300, per_user: int = 10, alike: float = 0.3, seed: int = 1) -> Path:
    """Return a store of users whose calls are alike (intra-class correlation `alike`), all in control, three days."""
    rng = np.random.default_rng(seed)
    rate = rng.beta(0.2 * (1 / alike - 1), 0.8 * (1 / alike - 1), users)
    start = 1_794_000_000_000_000 // HOUR_US * HOUR_US
    lines: list[str] = []
    for k in range(users * per_user):
        user = k % users
        lines.append(json.dumps({
            "type": "interaction", "interaction_id": f"i{k}", "ts": to_text(start + int(rng.integers(0, 72 * HOUR_US))), "model": "m",
            "unit_id": f"u{user}", "session_id": f"s{user}", "request_id": f"r{k}", "experiment_id": "swap", "variant": "baseline",
            "refused": bool(rng.random() < rate[user]),
        }))  # fmt: skip
    (folder / "logs.jsonl").write_text("\n".join(lines))
    with Store(folder / "abtest.duckdb") as store:
        store.ingest(folder / "logs.jsonl")
    return folder / "abtest.duckdb"


def clustered_spec(**changes: Any) -> Experiment:
    """Return a policy for it: refusals may rise by three points."""
    metric = {"name": "refusal_rate", "kind": "mean", "value": "CASE WHEN refused THEN 1 ELSE 0 END", "better": "lower",
              "guardrail": {"margin": {"absolute": 0.03}}}  # fmt: skip
    return Experiment.from_dict({
        "id": "swap", "control": "baseline", "treatments": ["candidate"], "metrics": [metric],
        "ramp": [{"stage": "ab", "share": 0.5}], **changes,
    })  # fmt: skip
