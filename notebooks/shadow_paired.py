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
# # Shadow: the same requests, answered twice
#
# Before any user sees the candidate, it answers a copy of real requests. Nobody is split into groups: every request is its own
# control. What is hard about a request is hard for both arms and cancels out, so that far fewer answers are needed.
#
# We write a small log as a gateway would write it: control's answers were seen (`exposed` is true by default), the candidate's
# were not (`exposed = false`), and both carry the same `request_id`.

# %%
import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import altair as alt
import numpy as np

import abtest as ab

alt.renderers.enable("svg")  # static pictures, no network

rng = np.random.default_rng(4)
start = datetime(2026, 11, 2, 8, tzinfo=UTC)
rows = []
for user in range(500):
    patience = rng.normal()
    for k in range(rng.integers(1, 5)):
        request, hard = f"r{user}-{k}", rng.normal()
        for arm, slower, refusals in (("baseline", 0.0, 0.04), ("candidate", 0.03, 0.04)):
            # 60 % of what is refused is refused by both: it is the request, not the model
            refused = rng.random() < refusals if hard < 1.3 else rng.random() < 0.35
            rows.append(
                {
                    "interaction_id": f"{request}:{arm}", "ts": (start + timedelta(minutes=user, seconds=20 * k)).isoformat(),
                    "experiment_id": "model-swap", "variant": arm, "model": f"model-{arm}", "request_id": request,
                    "exposed": arm == "baseline", "unit_id": f"u{user}", "session_id": f"s{user}", "refused": bool(refused),
                    "latency_ms": float(np.exp(6.3 + 0.3 * patience + 0.4 * hard + 0.15 * rng.normal() + slower)),
                    "output_tokens": int(max(180 + 60 * hard + 8 * rng.normal(), 1)), "finish_reason": "stop",
                }
            )  # fmt: skip
            quality = float(np.clip(0.7 - 0.1 * hard + 0.08 * rng.normal() + (0.02 if arm == "candidate" else 0), 0, 1))
            judge = {"type": "score", "name": "helpfulness", "scorer_kind": "judge", "value": quality}
            rows.append(
                {**judge, "score_id": f"{request}:{arm}:j", "ts": rows[-1]["ts"], "interaction_id": f"{request}:{arm}"}
            )
            if user < 120 and k == 0:  # people label a few answers, too
                human = {**judge, "scorer_kind": "human", "value": float(np.clip(quality + 0.1 * rng.normal(), 0, 1))}
                rows.append(
                    {
                        **human,
                        "score_id": f"{request}:{arm}:h",
                        "ts": rows[-1]["ts"],
                        "interaction_id": f"{request}:{arm}",
                    }
                )

folder = Path(tempfile.mkdtemp())
(folder / "shadow.jsonl").write_text("\n".join(map(json.dumps, rows)))
store = ab.Store(folder / "abtest.duckdb")
report = store.ingest(folder / "shadow.jsonl")
report.inserted, report.quarantined

# %% [markdown]
# ## What is asked
#
# The spec is that of the whole release. The shadow stage reads the same guardrails; the first stage of the ramp says that there
# is one, and what comes next.

# %%
experiment = ab.Experiment.from_dict({
    "id": "model-swap", "control": "baseline", "treatments": ["candidate"],
    "metrics": [
        {"name": "refusal_rate", "kind": "proportion", "event": "refused", "better": "lower", "guardrail": {"margin": {"points": 0.04}}},
        {"name": "latency_mean", "kind": "mean", "value": "latency_ms", "better": "lower", "guardrail": {"margin": {"relative": 0.1}}},
        {"name": "latency_p90", "kind": "quantile", "value": "latency_ms", "q": 0.9, "better": "lower",
         "guardrail": {"margin": {"relative": 0.4}}},
        {"name": "helpfulness", "kind": "mean", "score": "helpfulness", "scorer_kind": "judge", "bounds": [0, 1], "better": "higher",
         "guardrail": {"margin": {"absolute": 0.03}, "action": "hold"}},
    ],
    "ramp": [{"stage": "shadow"}, {"stage": "canary", "share": 0.01}],
})  # fmt: skip
shadow = ab.shadow(store, experiment)
shadow

# %% [markdown]
# **Change (paired)** is the anytime-valid interval of the difference; **Unpaired** is what the same answers would say if two
# separate groups had given them. **Gain** is how many times more answers those groups would need.

# %%
shadow.to_polars().select("metric", "pairs", "estimate", "ci_lower", "ci_upper", "correlation", "gain", "verdict")

# %% [markdown]
# All guardrails at a glance, each in multiples of its margin:

# %%
shadow.plot()

# %% [markdown]
# ## What else pairs tell
#
# How often both answers say the same, and McNemar's table of the requests that only one arm refused. Its tests take single requests
# as independent: they test that *no request changes*, which is more than "the rate is the same".

# %%
{name: row["rate"] for name, row in shadow.agreement.items() if row and row.get("rate") is not None}

# %%
shadow.mcnemar[0]

# %% [markdown]
# A judge model scored every answer, people only some. PPI++ joins the two: the judge's scores make the estimate narrow, the people's
# labels make it honest.

# %%
people = shadow.ppi["helpfulness"]["treatment"]
labels_only = (
    np.std([r["value"] for r in rows if r.get("scorer_kind") == "human"]) * 3.92 / np.sqrt(people["n_labelled"])
)
print(f"people would say {people['value']:.3f} [{people['lower']:.3f}, {people['upper']:.3f}]")
print(
    f"width {people['upper'] - people['lower']:.3f}, from {people['n_labelled']} labels alone about {labels_only:.3f}"
)

# %% [markdown]
# ## The decision
#
# It is in the ledger, once: asking again with the same logs gives the same id. On the command line the same is
# `abtest shadow experiment.toml`, with exit code 0 for promote, 10 for hold, 20 for halt and 40 without pairs.

# %%
again = ab.shadow(store, experiment)
print(shadow.summary)
assert again.decision_id == shadow.decision_id

# %%
store.close()
