"""What stands beside the decision and decides nothing: metrics, segments, error categories, format by turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abtest.metrics.base import MetricSpec
from abtest.metrics.quantile import QuantileMetric
from abtest.tradeoff.contrasts import Contrast, difference, level
from abtest.tradeoff.legs import Clock, Interval
from abtest.tradeoff.moments import BASELINE, TECHNIQUE, Sides, added, ratio_gradient
from abtest.tradeoff.read import Mode, Reader, Task, metric_tasks
from abtest.tradeoff.results import Ceiling, Drift, MetricRow

MAX_LEVELS = 20
_FEWER = 0.25
_PROMPTS = ("prompt", "many_shot")


def metric_rows(
    sides: Sides, reader: Reader, clock: Clock, *, paired: bool, segment: str | None = None
) -> list[MetricRow]:
    """Return both levels and the difference of every metric; a quantile's is the share of tasks above the budget."""
    rows: list[MetricRow] = []
    for j, metric in enumerate(reader.metrics):
        x, y = f"x{j}", f"y{j}"
        if (BASELINE, x) not in sides.totals:
            continue
        rows.append(
            MetricRow(
                _name(metric, reader),
                metric.kind,
                metric.better,
                _unit(metric),
                _level(sides, BASELINE, x, y),
                _level(sides, TECHNIQUE, x, y),
                clock.interval(difference(sides, x, y, paired=paired)),
                segment,
            )
        )
    return rows


def _name(metric: MetricSpec, reader: Reader) -> str:
    budget = reader.spec.latency.budget if reader.spec.latency else 0
    return f"{metric.name}: above {budget:g}" if isinstance(metric, QuantileMetric) else metric.name


def _unit(metric: MetricSpec) -> str:
    return "proportion" if metric.kind in ("proportion", "quantile") else metric.unit


def _level(sides: Sides, side: int, x: str, y: str) -> float | None:
    found = sides.level(side, x, y)
    return None if found is None else float(found)


def segment_rows(
    reader: Reader, technique: str, quality: int, clock: Clock, *, mode: Mode, first_turns: bool
) -> list[MetricRow]:
    """Return the quality by level of every segment, the levels with most units first; exploratory."""
    rows: list[MetricRow] = []
    tasks = metric_tasks(quality, reader.measures[quality])
    for k, segment in enumerate(reader.spec.segments):
        found = reader.sides(
            technique, {tuple(t.name for t in tasks): tasks}, mode=mode, first_turns=first_turns, segment=k
        )
        named = [(level, s) for level, s in found.items() if level is not None]
        for name, sides in sorted(named, key=lambda item: (-sum(item[1].units), item[0]))[:MAX_LEVELS]:
            rows += metric_rows(sides, reader, clock, paired=mode == "paired", segment=f"{segment.key}={name}")
    return rows


def error_rows(reader: Reader, success: int) -> list[dict[str, Any]]:
    """Return failed tasks by technique and category, the most frequent first."""
    found = reader.rows("tradeoff_category", arms=reader.arms, told=f"y{success}", succeeded=f"x{success}")
    return sorted(
        ({"arm": r["arm"], "category": r["category"], "tasks": int(r["tasks"])} for r in found),
        key=lambda r: (r["arm"], -r["tasks"], r["category"]),
    )


def ceiling(
    reader: Reader, errors: Sequence[Mapping[str, Any]], success: int, clock: Clock, modes: Mapping[str, Mode]
) -> Ceiling:
    """Return whether the same kind of error leads in every prompt variant, and whether any variant has fewer of it."""
    spec = reader.spec
    prompts = [a for a in (spec.baseline, *spec.techniques) if spec.arms[a].technique in _PROMPTS]
    tops = {a: next((str(r["category"]) for r in errors if r["arm"] == a), None) for a in prompts}
    if len(prompts) < 2 or spec.arms[spec.baseline].technique not in _PROMPTS:
        return Ceiling(
            "one_prompt", tops.get(spec.baseline), note="one prompt variant says nothing about the ceiling of prompting"
        )
    top = tops[spec.baseline]
    if top is None or set(tops.values()) != {top}:
        return Ceiling("no", top, note="the prompt variants fail in different ways")
    changes: dict[str, Interval] = {}
    rate = 0.0
    for arm in prompts[1:]:
        known = f"{{a}}.y{success} = 1"
        failed = (
            f"case when {{a}}.x{success} = 0 and coalesce({{a}}.category, '(no name)') = $category then 1 else 0 end"
        )
        tasks = [Task("errors", failed, known, values={"category": top}), Task("told", "1", known)]
        sides = reader.sides(arm, {("errors", "told"): tasks}, mode=modes[arm])[None]
        changes[arm] = clock.interval(difference(sides, "errors", "told", paired=modes[arm] == "paired"))
        rate = float(sides.level(BASELINE, "errors", "told") or 0.0)
    if any(c.upper is not None and c.upper < 0 for c in changes.values()):
        return Ceiling("no", top, changes, f"a prompt variant has fewer errors of kind {top!r}")
    if all(c.lower is not None and c.lower > -_FEWER * rate for c in changes.values()):
        note = f"prompting has hit its ceiling: errors of kind {top!r} lead in every variant, and none can have a quarter fewer of them"
        return Ceiling("hit", top, changes, note)
    note = f"errors of kind {top!r} lead in every prompt variant, and none is proven to have fewer of them"
    return Ceiling("suspected", top, changes, note)


def drift(reader: Reader, clock: Clock) -> list[Drift]:
    """Return how the share of well-formed answers changes with the turns of a conversation; nothing without later turns."""
    j = len(reader.metrics)  # the reader adds format_ok behind the metrics
    rows = reader.rows("tradeoff_turn", arms=reader.arms, told=f"y{j}", valid=f"x{j}")
    told = [r for r in rows if r["answers"]]
    if not any(r["turn"] > 1 for r in told):
        return []
    tasks = [
        Task(f"{name}_{what}", text, condition)
        for name, turns in (("first", "{a}.turn = 1"), ("later", "{a}.turn > 1"))
        for condition in (f"{turns} and {{a}}.y{j} = 1",)
        for what, text in (("valid", f"{{a}}.x{j}"), ("told", "1"))
    ]
    out: list[Drift] = []
    for technique in reader.spec.techniques:
        sides = reader.sides(technique, {tuple(t.name for t in tasks): tasks}, mode="all")[None]
        arms = ((TECHNIQUE, technique),) if out else ((BASELINE, reader.spec.baseline), (TECHNIQUE, technique))
        for side, arm in arms:
            turns = tuple(
                {"turn": int(r["turn"]), "answers": int(r["answers"]), "valid": int(r["valid"])}
                for r in sorted(told, key=lambda r: r["turn"]) if r["arm"] == arm
            )  # fmt: skip
            out.append(Drift(arm, turns, clock.interval(_change(sides, side))))
    return out


def _change(sides: Sides, side: int) -> Contrast:
    if not sides.totals[side, "first_told"] or not sides.totals[side, "later_told"]:
        return Contrast(None, problem="no later turns")
    first, later = level(sides, side, "first_valid", "first_told"), level(sides, side, "later_valid", "later_told")
    value = (later.value or 0.0) - (first.value or 0.0)
    if later.problem:
        return Contrast(value, problem=later.problem)
    minus = {c: -w for c, w in ratio_gradient(sides, side, "first_valid", "first_told").items()}
    gradient = added(ratio_gradient(sides, side, "later_valid", "later_told"), minus)
    return Contrast(value, sides.variance(gradient), float(sides.units[side]))
