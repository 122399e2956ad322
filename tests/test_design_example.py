"""The experiment file of the design page, as it stands there, is a valid spec."""

from __future__ import annotations

import tomllib

from abtest.spec import Experiment

DESIGN = """
#:schema ./abtest.schema.json
id = "support-bot-sonnet-swap"
revision = 1                       # evidence and a latched halt belong to (id, revision)
unit = "user"                      # what was randomised: user | session | request
control = "baseline"
treatments = ["candidate"]         # decide takes exactly one; analyze any number
alpha = 0.05                       # intervals, promote, ship

[budget]                           # errors spent once over all looks, stages and guardrails
halt = 0.01
sample_ratio = 0.01

[population]
where = "surface = 'support'"
per_request = "last"               # retries and agent sub-calls of one request_id: last | sum | first

[arms.baseline]                    # an arm may be derived from the manifest when logs carry no variant
model = "gpt-4o-2024-08-06"
prompt_version = "v12"
[arms.candidate]
model = "claude-sonnet-4-5"
prompt_version = "v13"

[[metrics]]
name = "refusal_rate"
kind = "proportion"                # proportion | mean | ratio | quantile | count
event = "refused"                  # a boolean column or expression ("latency_ms > 2000 AND NOT is_error")
per = "request"                    # call | request (default) | unit: what is counted; always clustered by unit
better = "lower"
[metrics.guardrail]                # inline tables mean the same
margin = { points = 0.01 }         # proportions: points or relative; others: absolute (in the metric's unit) or relative
action = "halt"                    # halt | hold

[[metrics]]
name = "latency_p99"
kind = "quantile"
value = "latency_ms"
q = 0.99
better = "lower"
guardrail = { margin = { relative = 0.40 }, action = "halt" }

[[metrics]]
name = "cost_per_success"
kind = "ratio"
numerator = "cost_usd"
denominator = "CASE WHEN NOT is_error AND format_ok THEN 1 ELSE 0 END"
better = "lower"
guardrail = { margin = { relative = 0.10 }, action = "hold" }

[[metrics]]
name = "helpfulness"
kind = "mean"
score = "helpfulness"              # from the score table; judge, human, user or code
bounds = [0, 1]
better = "higher"
success = { mde = { absolute = 0.02 } }
covariate = "pre"                  # CUPED from the unit's own history before first exposure

[sequential]
method = "anytime"                 # anytime | horizon | group_sequential | fixed

[[ramp]]                           # a stage's key is its index, its label is "canary 5 %"
stage = "shadow"
[[ramp]]
stage = "canary"
share = 0.01
min_hours = 24
min_units = 500
[[ramp]]
stage = "canary"
share = 0.05
[[ramp]]
stage = "ab"
share = 0.5
max_days = 21

[traffic]
control = "external"               # external | abtest (abtest writes the shares into the flag file)
[[allocation]]                     # external only: the history of the split; each row starts a stage
at = 2026-11-01T00:00:00Z
share = 0.01                       # of the treatment

[halt]
flag = { file = "flags.json", key = "support-model", format = "flagd" }   # optional: variants = { candidate = "candidate-model" }
webhook = { url = "https://hooks.example.com/abtest", secret_env = "ABTEST_WEBHOOK_SECRET" }
"""


def test_it_is_valid():
    experiment = Experiment.from_dict(tomllib.loads(DESIGN))
    assert [m.name for m in experiment.guardrails] == ["refusal_rate", "latency_p99", "cost_per_success"]
    assert [s.label for s in experiment.ramp] == ["shadow", "canary 1 %", "canary 5 %", "A/B 50 %"]
    halting = [m for m in experiment.guardrails if m.guardrail and m.guardrail.action == "halt"]
    assert sum(experiment.halt_alpha(m) for m in halting) == 0.01
