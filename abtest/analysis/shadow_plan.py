"""What the shadow stage measures: the metrics of the spec, what is always worth a look, and the parts that calibrate a judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from abtest.metrics.base import Measure, MetricSpec
from abtest.spec import Experiment
from abtest.store.shadow import PairMeasure

Row = Mapping[str, Any]
MOST_SCORES = 10
"""Scores that are no metric of the spec and are shown all the same, those with most rows first."""
SIMILARITY = "embedding_similarity"
"""Attribute or score that says how near the candidate's answer is to the one that was seen."""
_TOO_LARGE = "all that the spec does not name, because some of it is too large to be added up exactly"
_EXTRAS: tuple[dict[str, Any], ...] = (
    {"name": "refused", "kind": "proportion", "event": "refused", "better": "lower"},
    {"name": "format_ok", "kind": "proportion", "event": "format_ok", "better": "higher"},
    {"name": "is_error", "kind": "proportion", "event": "is_error", "better": "lower"},
    {"name": "latency_ms", "kind": "mean", "value": "latency_ms", "better": "lower"},
    {"name": "cost_usd", "kind": "mean", "value": "cost", "better": "lower"},
    {"name": "output_tokens", "kind": "mean", "value": "output_tokens", "better": "lower"},
    {"name": "response_chars", "kind": "mean", "value": "response_chars", "better": "lower"},
)  # fmt: skip


@dataclass(frozen=True)
class Item:
    """One metric of the comparison.

    Attributes:
        spec: The metric.
        listed: Whether the spec has it; others are for information.
        at: Its place among the measures.
        parts: Places of the further contrasts of a distribution.
        judge, human: Places of the same score given by a judge, and of what people said; None where there is no judge's score.
        excluded: Why the question makes no sense for an answer that nobody saw; empty when it does.
    """

    spec: MetricSpec
    listed: bool
    at: int
    parts: tuple[int, ...] = ()
    judge: int | None = None
    human: int | None = None
    excluded: str = ""


@dataclass(frozen=True)
class Plan:
    """All that is measured: the items, the measures they stand on, where the answers' similarity is, and what is not shown."""

    items: tuple[Item, ...]
    measures: tuple[PairMeasure, ...]
    similarity: tuple[int, ...]
    left_out: tuple[str, ...]

    def with_limits(self, limits: Mapping[int, tuple[float, float]]) -> Plan:
        """Return the plan with the thresholds of its quantiles."""
        measures = tuple(replace(m, limits=limits.get(j)) for j, m in enumerate(self.measures))
        return replace(self, measures=measures)


def plan_of(experiment: Experiment, scores: Sequence[Row], *, only: bool = False) -> Plan:
    """Return what to measure.

    Args:
        experiment: The spec.
        scores: Names of the scores in the store, by who gave them: name, scorer_kind, n.
        only: The metrics of the spec and nothing else: what is shown besides must never be in the way of a decision.
    """
    kinds: dict[str, dict[str, int]] = {}
    for row in scores:
        kinds.setdefault(str(row["name"]), {})[str(row["scorer_kind"])] = int(row["n"])
    more, left_out = ([], [_TOO_LARGE]) if only else _more_metrics(experiment, kinds)
    whole = _with_metrics(experiment, more)
    measures: list[PairMeasure] = []
    items: list[Item] = []

    def add(*added: Measure, one_sided: bool = False) -> tuple[int, ...]:
        start = len(measures)
        measures.extend(PairMeasure(m, one_sided=one_sided) for m in added)
        return tuple(range(start, len(measures)))

    for number, spec in enumerate(whole.metrics):
        at, *parts = add(spec.measure(), *spec.parts())
        measure, judge, human = spec.measure(), None, None
        excluded = _excluded(spec, measure, kinds)
        if (
            measure.score
            and not excluded
            and measure.scorer_kind in (None, "judge")
            and "judge" in kinds.get(measure.score, {})
        ):
            label = experiment.shadow.labels.get(spec.name, measure.score)
            judge, human = add(
                replace(measure, scorer_kind="judge"), replace(measure, score=label, scorer_kind="human")
            )
        items.append(Item(spec, number < len(experiment.metrics), at, tuple(parts), judge, human, excluded))
    similarity = () if only else _similarity(whole, add, kinds)
    return Plan(tuple(items), tuple(measures), similarity, tuple(left_out))


def _similarity(experiment: Experiment, add: Any, kinds: Mapping[str, Any]) -> tuple[int, ...]:
    sources: list[dict[str, Any]] = [{"value": f"TRY_CAST(attributes ->> '{SIMILARITY}' AS DOUBLE)"}]
    if SIMILARITY in kinds:
        sources.append({"score": SIMILARITY})
    metrics = [{"name": f"similarity_{i}", "kind": "mean", "better": "higher", **s} for i, s in enumerate(sources)]
    made = _with_metrics(experiment, metrics, only=True)
    return tuple(add(m.measure(), one_sided=True)[0] for m in made.metrics)


def _more_metrics(
    experiment: Experiment, kinds: Mapping[str, Mapping[str, int]]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the metrics that are shown besides those of the spec, and the scores there was no room for."""
    names = {m.name for m in experiment.metrics}
    asked = {m.measure().score for m in experiment.metrics} | set(experiment.shadow.labels.values()) | {SIMILARITY}
    same = {_what(m.measure()) for m in experiment.metrics if m.kind in ("proportion", "mean")}
    more = [e for e in _EXTRAS if e["name"] not in names and e["name"] not in same]
    # What users click is said of the answer they saw; the other has none.
    counts = {n: sum(c for kind, c in k.items() if kind != "user") for n, k in kinds.items()}
    scores = sorted((n for n, c in counts.items() if c and n not in asked), key=lambda n: (-counts[n], n))
    used = {*names, *(e["name"] for e in more)}
    for score in scores[:MOST_SCORES]:
        name = "score_" + "".join(c if (c.isalnum() and c.isascii()) or c in "_.-" else "_" for c in score)[:90]
        while name in used:
            name += "_"
        used.add(name)
        more.append({"name": name, "kind": "mean", "score": score, "better": "higher"})
    return more, scores[MOST_SCORES:]


def _what(measure: Measure) -> str:
    """Return the column that is measured as it is; empty for anything else."""
    text = measure.numerator.sql("i").strip("()") if measure.numerator else ""
    return next((c for c in measure.columns if text == f'"i"."{c}"'), "")


def _with_metrics(experiment: Experiment, metrics: Sequence[Mapping[str, Any]], *, only: bool = False) -> Experiment:
    """Return the experiment with further metrics: read like those of a file, so that prices and names mean the same."""
    data = experiment.model_dump(mode="json", exclude={"halt", "shadow"}, exclude_none=True, exclude_defaults=True)
    keep = [] if only else list(data["metrics"])
    return Experiment.from_dict({**data, "metrics": [*keep, *metrics]})


def _excluded(spec: MetricSpec, measure: Measure, kinds: Mapping[str, Mapping[str, int]]) -> str:
    """Return why a metric says nothing about answers that nobody saw; empty when it does."""
    by_users = measure.scorer_kind == "user" or measure.absent_is_zero
    if measure.score and measure.scorer_kind is None:
        by_users = by_users or set(kinds.get(measure.score, {})) == {"user"}
    if by_users:
        return "nobody saw the candidate's answers, so no user can have reacted to them: judged from the canary on"
    if spec.kind == "count" and getattr(spec, "event", None) is None:
        return "both arms answer the same requests: how many there are is judged from the canary on"
    return ""
