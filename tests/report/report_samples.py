"""Results as the analysis and the rollout would give them, written by hand: no randomness, no store."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from abtest.report import Entry
from abtest.results import (
    Action,
    Analysis,
    Arm,
    Check,
    Decision,
    Finding,
    MetricResult,
    SeriesPoint,
    Stage,
)

START = datetime(2026, 11, 18, 9, tzinfo=UTC)
HOSTILE = (
    "<script>alert(1)</script>|`x`|</style>]]>[a](javascript:alert(1))"
    "\u202egnp.exe\u202c \u05e9\u05dc\u05d5\u05dd \U0001f469\u200d\U0001f680\x00\x1b[31m\ud800"
)
"""HTML, Markdown, direction overrides, Hebrew, an emoji of three parts, NUL, a terminal escape, half a pair."""


def hour(n: int) -> str:
    return (START + timedelta(hours=n)).isoformat().replace("+00:00", "Z")


def series(
    hours: int, effect: float, noise: float, stages: tuple[int, ...] = (0, 24), *, sign: int = 1, scale: float = 1.0
) -> tuple[SeriesPoint, ...]:
    """A sequence that settles on `effect`: the interval shrinks with the root of the number of units.

    `scale` turns the metric's unit into the unit of the margin, `sign` is -1 where higher is better.
    """
    points = []
    for i in range(hours):
        n = 40 + 55 * i
        radius = noise * math.sqrt(math.log(40 + n) / n)
        value = effect * (1 - 0.5 * math.exp(-i / 9)) + 0.35 * radius * math.sin(i / 5)
        harm = sign * value * scale
        points.append(
            SeriesPoint(
                at=hour(i),
                stage=sum(i >= s for s in stages),
                n_control=19 * n,
                n_treatment=n,
                estimate=value,
                ci_lower=value - radius,
                ci_upper=value + radius,
                harm_lower=harm - 1.1 * radius * scale,
                harm_upper=harm + 0.8 * radius * scale,
                log_e_value=0.01 * i,
            )
        )
    return tuple(points)


STAGES = ({"index": 1, "label": "canary 1 %"}, {"index": 2, "label": "canary 5 %"})


def metric(name: str, kind: str, role: str, better: str, unit: str, **fields: Any) -> MetricResult:
    values: dict[str, Any] = {
        "control": "baseline",
        "treatment": "candidate",
        "method": "normal_mixture",
        "n_control": 52_310,
        "n_treatment": 2_748,
        "alpha": 0.05,
        "harm_alpha": 0.0025 if role == "guardrail" else None,
        "status": "ok",
        "rows": 171_204,
        "stages": STAGES,
    }
    return closed(MetricResult(name, kind, role, better, unit, **{**values, **fields}))


def closed(result: MetricResult) -> MetricResult:
    """Give the last point of the series the numbers of the result, as the analysis does."""
    if not result.series or result.details:
        return result
    names = ("estimate", "ci_lower", "ci_upper", "harm_lower", "harm_upper")
    last = replace(result.series[-1], **{name: getattr(result, name) for name in names})
    return replace(result, series=(*result.series[:-1], last))


REFUSALS = metric(
    "refusal_rate", "proportion", "guardrail", "lower", "share",
    control_value=0.0210, treatment_value=0.0521, estimate=0.0311, std_error=0.0048,
    ci_lower=0.0190, ci_upper=0.0461, relative_estimate=1.48, relative_ci_lower=0.86, relative_ci_upper=2.31,
    pvalue=2.1e-9, log_e_value=17.2, margin=0.01, margin_kind="points", harm_lower=0.0187, harm_upper=0.0420,
    harm_log_e_value=8.4, verdict="harm", action="halt", series=series(50, 0.0311, 0.30),
)  # fmt: skip
LATENCY = metric(
    "latency_p99", "quantile", "guardrail", "lower", "ms",
    control_value=2140.0, treatment_value=2262.0, estimate=122.0, ci_lower=-64.0, ci_upper=310.0,
    relative_estimate=0.057, relative_ci_lower=-0.03, relative_ci_upper=0.145, margin=0.40, margin_kind="relative",
    harm_lower=-0.05, harm_upper=0.16, verdict="safe", action="halt", pvalue=0.31,
    series=series(50, -0.006, 0.09), method="quantile_exceedance",
    details={"series_unit": "exceedance", "threshold": 2140.0},
)  # fmt: skip
COST = metric(
    "cost_per_success", "ratio", "guardrail", "lower", "usd",
    control_value=0.01240, treatment_value=0.01315, estimate=0.00075, ci_lower=-0.00031, ci_upper=0.00181,
    relative_estimate=0.06, relative_ci_lower=-0.025, relative_ci_upper=0.148, margin=0.10, margin_kind="relative",
    harm_lower=-0.03, harm_upper=0.152, verdict="inconclusive", action="hold", pvalue=0.22,
    rows_missing=412, note="Cost winsorised at $0.41 (99.9 % of control history): 38 rows touched.",
    series=series(50, 0.00075, 0.016, scale=1 / 0.0124),
)  # fmt: skip
HELPFUL = metric(
    "helpfulness", "mean", "success", "higher", "",
    control_value=0.712, treatment_value=0.719, estimate=0.0071, ci_lower=-0.011, ci_upper=0.025,
    relative_estimate=0.01, relative_ci_lower=-0.015, relative_ci_upper=0.035, pvalue=0.44, verdict="inconclusive",
    superior=False, rows=8_120, rows_missing=163_084,
    note="CUPED on the unit's own history; Holm over 2 success metrics.",
    series=series(50, 0.0071, 0.28),
)  # fmt: skip
LENGTH = metric(
    "output_tokens_p50", "quantile", "info", "lower", "tokens", control_value=312.0, treatment_value=287.0,
    estimate=-25.0, ci_lower=-31.0, ci_upper=-18.0, relative_estimate=-0.08, verdict="unknown",
)  # fmt: skip
THUMBS = metric(
    "thumbs_down_rate", "proportion", "guardrail", "lower", "share", status="insufficient", n_control=0, n_treatment=0,
    margin=0.02, margin_kind="points", action="hold", method="", rows=0, harm_alpha=None, alpha=None,
)  # fmt: skip

CANARY = Stage(2, "canary 5 %", 0.05, "canary", hour(24))
ARMS = (Arm("baseline", 52_310, 163_900), Arm("candidate", 2_748, 8_650))
CHECKS = (
    Check("sample_ratio", "ok", 0.62, "5.01 % of units are in candidate, 5 % expected"),
    Check("contamination", "ok", None, "14 of 55,058 units (0.03 %) were seen in both arms and are left out"),
    Check("mixed_manifest", "ok", None, "one prompt and one model in each arm"),
    Check("freshness", "warning", None, "the newest row is 3 hours older than the evidence"),
)


def halted() -> Entry:
    metrics = (REFUSALS, LATENCY, COST, THUMBS, HELPFUL, LENGTH)
    analysis = Analysis(
        "support-bot-sonnet-swap", 1, CANARY, hour(49), "baseline", ARMS, metrics, CHECKS,
        evidence_sha256="9c" * 32, policy_sha256="4e" * 32,
        notes=("CUPED was used for helpfulness only.", "Segments are for information and decide nothing."),
    )  # fmt: skip
    summary = "HALT at canary 5 %: refusal_rate +3.1 pp [+1.9, +4.6] is past its margin of +1 pp"
    decision = Decision(
        "support-bot-sonnet-swap", 1, CANARY, "halt", "harm", summary,
        (
            Finding("unresolved_rows", "warning", None, "412 rows have no cost and count for no cost metric."),
            Finding("harm", "critical", "refusal_rate", "refusal_rate: harm of +1.9 pp is proven, margin +1 pp."),
            Finding("insufficient", "info", "thumbs_down_rate", "thumbs_down_rate: no score has arrived yet."),
        ),
        metrics, hour(49), "a1" * 32, "4e" * 32, "b2" * 32, exit_code=20, checks=CHECKS,
        actions=(
            Action("flag", "done", "flags.json: support-model now gives candidate 0, baseline 100"),
            Action("webhook", "done", "https://hooks.example.com/abtest answered 200"),
        ),
    )  # fmt: skip
    history: list[dict[str, Any]] = [
        {"decision": "hold", "as_of": hour(n), "stage": {"index": 1, "label": "canary 1 %"}, "revision": 1,
         "summary": "HOLD at canary 1 %: 24 hours are not over yet", "decision_id": f"h{n}", "policy_sha256": "4e" * 32}
        for n in range(1, 24)
    ]  # fmt: skip
    history.append(
        {"decision": "promote", "as_of": hour(24), "stage": {"index": 1, "label": "canary 1 %"}, "revision": 1,
         "summary": "PROMOTE from canary 1 %: all guardrails are safe", "decision_id": "p24"}
    )  # fmt: skip
    history += [
        {"decision": "halt", "as_of": hour(n), "stage": {"index": 2, "label": "canary 5 %"}, "revision": 1,
         "summary": summary, "decision_id": f"x{n}", "policy_sha256": "4e" * 32}
        for n in range(32, 49)
    ]  # fmt: skip
    return Entry(analysis, decision, tuple(reversed(history)))


def healthy() -> Entry:
    refusals = closed(replace(
        REFUSALS, treatment_value=0.0214, estimate=0.0004, ci_lower=-0.0041, ci_upper=0.0050, harm_lower=-0.0052,
        harm_upper=0.0043, verdict="safe", pvalue=0.9, relative_estimate=0.019, relative_ci_lower=-0.18,
        relative_ci_upper=0.26, series=series(50, 0.0004, 0.09),
    ))  # fmt: skip
    cost = closed(replace(COST, estimate=-0.0021, ci_lower=-0.0029, ci_upper=-0.0013, relative_estimate=-0.169,
                   relative_ci_lower=-0.23, relative_ci_upper=-0.10, harm_lower=-0.25, harm_upper=-0.11, verdict="safe",
                   treatment_value=0.0103, series=series(50, -0.0021, 0.012, scale=1 / 0.0124)))  # fmt: skip
    helpful = closed(replace(HELPFUL, superior=True, estimate=0.031, ci_lower=0.012, ci_upper=0.05, pvalue=0.0004,
                             treatment_value=0.743, relative_estimate=0.0435, relative_ci_lower=0.017,
                             relative_ci_upper=0.07, series=series(50, 0.031, 0.26)))  # fmt: skip
    metrics = (refusals, LATENCY, cost, helpful)
    analysis = Analysis("search-answers-haiku", 3, CANARY, hour(49), "baseline", ARMS, metrics, CHECKS[:3])
    decision = Decision(
        "search-answers-haiku", 3, CANARY, "promote", "all_safe",
        "PROMOTE from canary 5 %: all 3 guardrails are safe", (), metrics, hour(49), "c3" * 32, "d4" * 32,
    )  # fmt: skip
    return Entry(
        analysis, decision, ({"decision": "halt", "revision": 2, "as_of": hour(-90), "summary": "HALT: cost"},)
    )


def holding() -> Entry:
    checks = (Check("sample_ratio", "failed", 1e-7, "3.9 % of units are in candidate, 5 % expected"), *CHECKS[1:])
    metrics = (replace(LATENCY, verdict="inconclusive"), COST)
    analysis = Analysis("onboarding-prompt-v9", 1, CANARY, hour(49), "baseline", ARMS, metrics, checks)
    findings = (Finding("sample_ratio", "error", None, "The arms have not the sizes that were configured."),)
    decision = Decision(
        "onboarding-prompt-v9", 1, CANARY, "hold", "sample_ratio", "HOLD: the sample ratio is off (p = 1e-7)",
        findings, metrics, hour(49), "e5" * 32, "f6" * 32, exit_code=30,
    )  # fmt: skip
    return Entry(analysis, decision)


def unknown() -> Entry:
    """Everything that can be None is None."""
    nothing = MetricResult("csat", "mean", "guardrail", "higher", "", "baseline", "candidate", margin=0.1,
                           margin_kind="absolute", action="halt", status="zero_variance")  # fmt: skip
    success = replace(nothing, metric="nps", role="success", margin=None, margin_kind=None, status="zero_baseline")
    stage = Stage(0, "shadow")
    analysis = Analysis("unknowns", 1, stage, None, "baseline", (), (nothing, success),
                        (Check("sample_ratio", "no_share"),))  # fmt: skip
    decision = Decision("unknowns", 1, stage, "hold", "no_data", "HOLD: no data yet", (), (nothing, success), None,
                        "0" * 64, "1" * 64, exit_code=40)  # fmt: skip
    return Entry(analysis, decision)


def empty() -> Entry:
    return Entry(Analysis("nothing-yet", 1, Stage(0, ""), None, "control", (), (), ()))


def hostile() -> Entry:
    """Every text is hostile or very long."""
    long = HOSTILE + "A" * 10_000
    point = SeriesPoint(long, 0, 1, 1, 0.1, 0.0, 0.2, 0.3, 0.4)
    bad = MetricResult(
        long, long, "guardrail", long, long, long, long, 0.1, 0.2, long, 1, 1, 0.1, 0.1, 0.0, 0.2, alpha=0.05,
        margin=0.1, margin_kind=long, harm_lower=0.2, harm_upper=0.3, verdict="harm", action=long, status="ok",
        note=long, segment=long, stages=({"index": 0, "label": long},), series=(point,), details={long: long},
    )  # fmt: skip
    drawn = replace(bad, series=(replace(point, at=hour(0)), replace(point, at=hour(1), stage=1)))
    metrics = (
        bad,
        drawn,
        replace(bad, role="success"),
        replace(bad, role=long),
        replace(bad, verdict=long, status=long),
    )
    stage = Stage(1, long, 0.05, long, long)
    checks = (Check(long, long, 0.5, long, {long: long}),)
    analysis = Analysis(long, 1, stage, long, long, (Arm(long, 1, 1), Arm(long, 2, 2)), metrics, checks,
                        evidence_sha256=long, policy_sha256=long, notes=(long,))  # fmt: skip
    findings = (Finding(long, "critical", long, long),)
    decision = Decision(long, 1, stage, "halt", long, long, findings, metrics, long, long, long, long, False,
                        (Action(long, "done", long), Action(long, "failed", long)), {"eta_hours": 1, "needs": [long]},
                        checks, 20)  # fmt: skip
    return Entry(analysis, decision, ({"decision": long, "as_of": long, "stage": long, "summary": long, long: long},
                                      {"decision": "halt", "stage": {"label": long}, "revision": long}))  # fmt: skip
