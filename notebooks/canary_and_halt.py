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
# # A canary, watched and halted
#
# A candidate gets 20 % of the traffic of a support bot. For an hour all is well; then it begins to refuse requests. We let
# `watch` look every ten minutes, on a clock of our own so that this takes seconds: logs come in, it decides, it writes the flag
# file, and it looks in the logs whether the candidate's traffic has really stopped.

# %%
import json
import random
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import altair as alt

import abtest as ab
from abtest.store import ledger

alt.renderers.enable("svg")  # static pictures, no network

folder = Path(tempfile.mkdtemp())
(folder / "logs").mkdir()
_ = (folder / "experiment.toml").write_text("""
id = "support-bot"
control = "baseline"
treatments = ["candidate"]

[[metrics]]
name = "refusal_rate"
kind = "proportion"
event = "refused"
better = "lower"
guardrail = { margin = { points = 0.02 }, action = "halt" }

[[metrics]]
name = "latency"
kind = "mean"
value = "latency_ms"
better = "lower"
guardrail = { margin = { relative = 0.2 }, action = "halt" }

[[ramp]]
stage = "canary"
share = 0.2
min_hours = 12
[[ramp]]
stage = "ab"
share = 0.5

[halt]
flag = { file = "flags.json", key = "support-model" }
confirm_within = "5m"
""")

# %% [markdown]
# The flag file is what the service reads, through any OpenFeature client with flagd.

# %%
flags = folder / "flags.json"
_ = flags.write_text(
    json.dumps(
        {
            "flags": {
                "support-model": {
                    "state": "ENABLED",
                    "variants": {"baseline": "gpt-4o", "candidate": "claude-sonnet-4-5"},
                    "defaultVariant": "baseline",
                    "targeting": {"fractional": [{"var": "targetingKey"}, ["candidate", 20], ["baseline", 80]]},
                }
            }
        }
    )
)


def candidate_weight() -> int:
    flag = json.loads(flags.read_text())["flags"]["support-model"]
    return dict(pair for pair in flag["targeting"]["fractional"] if isinstance(pair, list))["candidate"]


candidate_weight()

# %% [markdown]
# ## The service
#
# Ten minutes of traffic: the flag says who gets the candidate, and what happened goes into the log.

# %%
TEN_MINUTES = 600.0
rng = random.Random(7)
calls = folder / "logs" / "calls.jsonl"


def serve(start: float, *, bad: bool) -> None:
    """Write the log of ten minutes; the candidate refuses 3 % of the requests, and 12 % when it is bad."""
    share, lines = candidate_weight() / 100, []
    for n in range(500):
        variant = "candidate" if rng.random() < share else "baseline"
        chance = 0.12 if bad and variant == "candidate" else 0.03
        at = datetime.fromtimestamp(start + rng.uniform(1, 590), tz=UTC)
        call = {
            "interaction_id": f"{start:.0f}-{n}", "ts": at.isoformat(), "model": "m", "unit_id": f"user-{start:.0f}-{n}",
            "experiment_id": "support-bot", "variant": variant, "refused": rng.random() < chance, "latency_ms": rng.gauss(900, 80),
        }  # fmt: skip
        lines.append(json.dumps(call))
    with calls.open("a") as log:
        log.write("\n".join(lines) + "\n")


# %% [markdown]
# ## The watch
#
# `abtest watch experiment.toml --logs logs/` in a terminal does the same, for ever. Here we call it one tick at a time.

# %%
start, seen = datetime(2026, 11, 1, tzinfo=UTC).timestamp(), []
for step in range(13):
    serve(start + step * TEN_MINUTES, bad=step >= 6)
    now = int((start + (step + 1) * TEN_MINUTES) * 1e6)
    result = ab.watch(
        folder / "experiment.toml", folder / "logs", db=folder / "abtest.duckdb", max_ticks=1, clock=lambda at=now: at
    )
    decision = result.decisions[0]
    metric = decision.metrics[0]
    seen.append(
        {"minutes": 10 * (step + 1), "decision": decision.decision, "candidate weight": candidate_weight(),
         "points": 100 * (metric.estimate or 0), "low": 100 * (metric.ci_lower or 0), "high": 100 * (metric.ci_upper or 0)}
    )  # fmt: skip

result

# %%
decision

# %% [markdown]
# Looking every ten minutes costs nothing: the band is a confidence sequence, so the false-alarm rate holds over all looks together.
# It was halted before the whole band had passed the margin of 2 points, because refusals are rare: units that had one are counted in
# both arms, and so many more of them in the candidate's are no chance.

# %%
halted_at = next(row["minutes"] for row in seen if row["decision"] == "halt")
base = alt.Chart(alt.Data(values=seen)).encode(x=alt.X("minutes:Q", title="minutes since the canary began"))
band = base.mark_area(opacity=0.25).encode(
    y=alt.Y("low:Q", title="refusals, candidate - baseline, points"), y2="high:Q"
)
line = base.mark_line(point=True).encode(y="points:Q")
rules = alt.Chart(alt.Data(values=[{"at": 60, "what": "it turns bad"}, {"at": halted_at, "what": "halted"}]))
moments = rules.mark_rule(strokeDash=[4, 3]).encode(x="at:Q")
words = rules.mark_text(align="left", dx=4, dy=-120).encode(x="at:Q", text="what:N")
(band + line + moments + words).properties(width=620, height=280)

# %% [markdown]
# ## Did the traffic stop?
#
# A flag file that says 0 is not yet a candidate without traffic. The ledger has the whole story: decided, carried out, and confirmed by the logs.

# %%
with ab.Store(folder / "abtest.duckdb") as store:
    ledger.verify(store.connection)
    story = [
        (e.kind, e.body.get("decision") or e.body.get("event") or e.body["status"])
        for e in ledger.entries(store.connection)
    ]
    confirmed = next(e.body for e in ledger.entries(store.connection, kind="watch"))
print(story)
print(
    f"{confirmed['event']}: last call {confirmed['seconds']:.1f} s after the halt, {confirmed['control_units']} users of baseline since"
)
assert candidate_weight() == 0
assert decision.decision == "halt"
assert confirmed["event"] == "halt_confirmed"

# %% [markdown]
# Rows that came after the halt are no evidence any more, so the analysis still shows what halted it:

# %%
with ab.Store(folder / "abtest.duckdb", read_only=True) as store:
    again = ab.decide(store, ab.Experiment.from_toml(folder / "experiment.toml"))
again

# %% [markdown]
# Readers who have no DuckDB get a small copy at each tick, replaced whole:

# %%
status = json.loads((folder / "abtest.duckdb.published" / "status.json").read_text())
{key: status["experiments"][0][key] for key in ("experiment", "decision", "since", "halt")}
