"""Rare bad events: the exact rate-ratio test on first events, which needs no event in control (STATISTICS §4)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from abtest.metrics.base import MetricSpec
from abtest.results import Status
from abtest.stats.rate_ratio import log_e_rate_ratio
from abtest.stats.score import StratifiedScore

if TYPE_CHECKING:
    from abtest.analysis.evidence import Evidence

BATCH_REQUESTS = 200
"""Requests at risk that make a batch of the rate-ratio test (measured: 50 to 200 detect alike, 1 or 2 are blind)."""

PAST_MARGIN_Z = 1.0
"""Standard errors by which the estimate must be past the margin before rare events halt (measured in docs/calibration_score.md:
costs nothing in detection, and halves false halts of candidates that are worse than control but within the margin)."""


@dataclass(frozen=True)
class RareEvents:
    """The rate-ratio test on first events: log E of "more events in treatment", and what it counted."""

    log_e: float
    events_control: int
    events_treatment: int
    status: Status


def takes_rate_ratio(spec: MetricSpec) -> bool:
    """Return whether the rate-ratio test is made for a metric: a guardrail on a proportion of bad events."""
    # "The unit has not succeeded yet" is no event: it may still succeed.
    return (
        spec.kind == "proportion"
        and spec.guardrail is not None
        and not (spec.per == "unit" and spec.better == "higher")
    )


def rare_events(evidence: Evidence, j: int, treatment: str) -> RareEvents | None:
    """Return the rate-ratio test for a proportion of bad events (STATISTICS §4); None for other kinds.

    Per unit, an event falls in treatment with the configured share. Per request, a batch (stage and hour) has the share of
    requests that units still event-free sent, because arms may send different numbers of requests.
    """
    spec, experiment = evidence.experiment.metrics[j], evidence.experiment
    if not takes_rate_ratio(spec) or evidence.segment is not None:
        return None  # a unit's first event is known for all traffic, not by level
    if any(s.share is None for s in evidence.strata):
        return RareEvents(0.0, 0, 0, "no_share")
    per_hour: dict[tuple[int, int], list[float]] = {}
    for row in evidence.first_events:
        if row["arm"] in (experiment.control, treatment):
            hour = per_hour.setdefault((row["stage"], row["bucket"]), [0.0, 0.0, 0.0, 0.0])
            side = 1 if row["arm"] == treatment else 0
            hour[side] += int(row[f"event{j}"])
            hour[2 + side] += int(row[f"risk{j}"])
    batches = _merged(per_hour)
    if not batches:
        return RareEvents(0.0, 0, 0, "ok")
    table = np.array([numbers for _, numbers in batches], dtype=float)
    if spec.per == "unit" or experiment.unit == "request":
        share = np.array([evidence.pair_share(evidence.strata[k]) or 0.0 for k, _ in batches])
    else:
        at_risk = table[:, 2] + table[:, 3]
        share = np.divide(table[:, 3], at_risk, out=np.zeros(len(batches)), where=at_risk > 0)
    log_e = log_e_rate_ratio(table[:, 1], table[:, 0], share)
    return RareEvents(float(log_e), int(table[:, 0].sum()), int(table[:, 1].sum()), "ok")


def _merged(per_hour: Mapping[tuple[int, int], Sequence[float]]) -> list[tuple[int, list[float]]]:
    """Merge the hours of a stage until a batch holds enough requests at risk for its share to say something.

    With one request an hour the share of an hour is 0 or 1 and no event could ever count. Where batches end depends on the
    numbers of requests alone, never on events.
    """
    batches: list[tuple[int, list[float]]] = []
    full = True
    for stage, bucket in sorted(per_hour):
        numbers = per_hour[stage, bucket]
        if full or batches[-1][0] != stage:
            batches.append((stage, [0.0, 0.0, 0.0, 0.0]))
        total = batches[-1][1]
        for i, number in enumerate(numbers):
            total[i] += number
        full = total[2] + total[3] >= BATCH_REQUESTS
    return batches


def rare_harm(rare: RareEvents, spec: MetricSpec, score: StratifiedScore, alpha: float) -> bool:
    """Return whether first events prove harm: the exact test rejects "no more than control", and the estimate is past the margin.

    The error guarantee is against a candidate that is no worse than control. The margin enters as a threshold of relevance:
    the estimate must lie past it by one standard error.
    """
    if rare.status != "ok" or spec.guardrail is None or rare.log_e < -math.log(alpha):
        return False
    margin = spec.guardrail.margin
    contrast = score.contrast(margin.value, "relative" if margin.kind == "relative" else "absolute")
    s, v = float(contrast.score[-1]), float(contrast.v[-1])
    return s > 0 and s > PAST_MARGIN_Z * math.sqrt(v)
