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
# # Fine-tune or prompt?
#
# A support bot runs on a large model with a long prompt. A small model was fine-tuned for the same task, and both answered the same
# 2,000 requests. The small one is cheaper a call, but somebody has to train it, label for it, and host it. From which volume
# on does it pay, and does the answer hold?

# %%
import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import altair as alt
import numpy as np

import abtest as ab

alt.renderers.enable("svg")  # static pictures, no network
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## Logs
#
# Simulated here, so that the truth is known: the large model solves 91 % of the tasks, the small one 90.5 %. Four fifths of the large model's
# input comes out of the prompt cache. One call in ten fails and is tried again.

# %%
rng = np.random.default_rng(11)
start = datetime(2026, 11, 1, tzinfo=UTC)
models = {"large_prompt": ("large", 0.91, 0.8), "small_tuned": ("small", 0.905, 0.0)}


def answers(user: int, task: int, hard: float):
    for arm, (model, success, cached) in models.items():
        tries = 1 + int(rng.random() < 0.1)
        for attempt in range(tries):
            last = attempt == tries - 1
            tokens = int(rng.poisson(3000 if arm == "large_prompt" else 400))
            yield {
                "type": "interaction", "interaction_id": f"{arm}-{user}-{task}-{attempt}", "request_id": f"{user}-{task}",
                "experiment_id": "support-small", "variant": arm, "unit_id": f"user{user}", "model": model, "exposed": False,
                "ts": (start + timedelta(minutes=user, seconds=10 * task + attempt)).isoformat(), "attempt": attempt,
                "input_tokens": tokens, "cached_input_tokens": int(tokens * cached), "output_tokens": int(rng.poisson(150)),
                "latency_ms": float(rng.gamma(8, 110 if arm == "large_prompt" else 60)), "is_error": not last,
                "format_ok": bool(hard < success) if last else None, "refused": bool(rng.random() < 0.01),
            }  # fmt: skip


calls = [call for user in range(500) for task in range(4) for call in answers(user, task, rng.random())]
(folder / "eval.ndjson").write_text("".join(json.dumps(c) + "\n" for c in calls))
store = ab.Store(folder / "abtest.duckdb")
store.ingest(folder / "eval.ndjson").inserted

# %% [markdown]
# ## What is asked
#
# `abtest tradeoff --example` prints this file with comments. Costs are given for each technique, prices as a dated price book: what a cached token
# costs decides a lot.

# %%
question = {
    "id": "support-small",
    "baseline": "large_prompt",
    "arms": {"large_prompt": {"technique": "prompt"}, "small_tuned": {"technique": "fine_tune"}},
    "metrics": [
        {"name": "solved", "kind": "proportion", "event": "format_ok AND NOT is_error", "better": "higher"},
        {"use": "latency_p95"},
        {"use": "refusal_rate"},
    ],
    "quality": {"metric": "solved", "margin": {"points": 0.02}},
    "latency": {"metric": "latency_p95", "budget": 1500},
    "costs": {
        "small_tuned": {
            "training": 1500, "evaluation": 300, "labels": 4000, "usd_per_label": 0.3, "hosting_a_month": 600,
            "months_until_retraining": 6,
        }
    },
    "volume": {"tasks_a_month": 300_000},
    "prices": {
        "model": [
            {"name": "large", "since": "2026-01-01", "input": 2.5, "cached_input": 1.25, "output": 10.0, "source": "made up"},
            {"name": "small", "since": "2026-01-01", "input": 0.3, "cached_input": 0.3, "output": 1.2, "source": "made up"},
        ]
    },
}  # fmt: skip
answer = ab.tradeoff(store, ab.TradeoffSpec.from_dict(question))
answer

# %% [markdown]
# The picture: what a month costs at each volume. The small model starts higher (training, labels, hosting) and climbs slower; the green bar
# under the crossing is the interval of the break-even volume.

# %%
answer.plot()

# %%
pays = answer.comparison("small_tuned").break_even
print(f"break-even: {pays.value:,.0f} tasks a month, 95 % interval {pays.lower:,.0f} to {pays.upper:,.0f}")
assert answer.verdict == "fine_tune"

# %% [markdown]
# ## What would turn it?
#
# Each input is turned alone, up and down, until the verdict changes.

# %%
[(f.input, f.now, round(f.at, 3), f.verdict) for f in answer.comparison("small_tuned").flips[:5]]

# %% [markdown]
# A provider that takes 90 % off cached tokens, instead of half, is such a turn: the same logs, another price book.

# %%
large, small = question["prices"]["model"]
cheaper = {
    **question,
    "prices": {"model": [{**large, "cached_input": 0.25}, small]},
    "volume": {"tasks_a_month": 200_000},
}
before = ab.tradeoff(store, ab.TradeoffSpec.from_dict({**question, "volume": {"tasks_a_month": 200_000}}))
after = ab.tradeoff(store, ab.TradeoffSpec.from_dict(cheaper))
print(before.verdict, "->", after.verdict)
assert (before.verdict, after.verdict) == ("fine_tune", "prompt")
print(after.reason)

# %%
store.close()
