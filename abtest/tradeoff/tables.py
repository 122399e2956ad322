"""The answer as tables: text for a terminal, HTML for a notebook and for the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from abtest.display import NOTHING, Cell, Column, Table, escape_html, format_share, shorten
from abtest.tradeoff.words import amount, effect, usd, usd_interval, volume

if TYPE_CHECKING:
    from abtest.tradeoff.results import ArmFacts, Comparison, Tradeoff

VERDICTS = {"prompt": "PROMPT", "fine_tune": "FINE-TUNE", "not_yet_decidable": "NOT YET DECIDABLE"}
_TONES = {"switch": "good", "keep": "muted", "undecided": "warn"}


def headline(found: Tradeoff) -> str:
    """Return verdict and reason on one line."""
    more = ""
    if found.verdict == "not_yet_decidable":
        more = (
            f"; about {found.needs_tasks:,} more tasks a technique would decide it, if today's estimates are true"
            if found.needs_tasks
            else "; how many tasks would decide it cannot be said"
        )
    return f"{VERDICTS[found.verdict]}: {found.reason}{more}"


def hinge_lines(found: Tradeoff) -> list[str]:
    """Return which inputs turn the verdict within a factor of 2, or how far away the nearest is that does."""
    if found.hinges_on:
        return [f"hinges on {h}" for h in found.hinges_on]
    turned = [(f, c.technique) for c in found.comparisons for f in c.flips[:1]]
    if not turned:
        return []
    flip, technique = min(turned, key=lambda item: abs(math.log(item[0].factor)) if item[0].factor else math.inf)
    of = f" of {technique}" if len(found.comparisons) > 1 else ""
    return [
        f"no input turns it within a factor of 2; nearest: {flip.input}{of} at {amount(flip.at)} (now {amount(flip.now)}): {flip.verdict}"
    ]


def techniques_table(found: Tradeoff) -> Table:
    """Return the table of techniques, the baseline first."""
    right = [
        Column(name, "right")
        for name in ("Tasks", "Calls a task", "Success", "Cost a task", "Cost a success", "Cached", "Fixed a month")
    ]
    rows = [_facts_row(found.comparisons[0].baseline, "baseline")]
    rows += [_facts_row(c.facts, c.verdict) for c in found.comparisons]
    data = [_flat(found.comparisons[0].baseline, None), *(_flat(c.facts, c) for c in found.comparisons)]
    return Table(["Technique", "Is", *right, "Verdict"], rows, title="Techniques", data=data)


def _facts_row(facts: ArmFacts, verdict: str) -> list[Any]:
    rate = facts.success_rate
    attempts = None if facts.attempts is None else f"{facts.attempts:.2f}"
    shown = NOTHING if rate.value is None else f"{rate.value * 100:.1f} %"
    return [
        facts.name, facts.technique.replace("_", "-"), facts.tasks, attempts, shown, usd(facts.cost_per_task.value),
        usd_interval(facts.cost_per_success), NOTHING if facts.cached_share is None else format_share(round(facts.cached_share, 3)),
        usd(facts.fixed_a_month), Cell(verdict, _TONES.get(verdict, "")),
    ]  # fmt: skip


def _flat(facts: ArmFacts, comparison: Comparison | None) -> dict[str, Any]:
    """Return the raw numbers of a technique for `to_polars`."""
    per = facts.cost_per_success
    row: dict[str, Any] = {
        "name": facts.name, "technique": facts.technique, "units": facts.units, "tasks": facts.tasks,
        "success_rate": facts.success_rate.value, "cost_per_task": facts.cost_per_task.value, "cost_per_success": per.value,
        "cost_per_success_lower": per.lower, "cost_per_success_upper": per.upper, "fixed_a_month": facts.fixed_a_month,
        "verdict": "baseline" if comparison is None else comparison.verdict,
    }  # fmt: skip
    for name in ("saving", "saving_a_month", "break_even"):
        value = None if comparison is None else getattr(comparison, name)
        row |= {
            name: value and value.value,
            f"{name}_lower": value and value.lower,
            f"{name}_upper": value and value.upper,
        }
    row["break_even_status"] = comparison and comparison.break_even.status
    return row


def comparison_table(found: Tradeoff) -> Table:
    """Return the comparison with the baseline, a row a technique."""
    quality = next((m for m in found.comparisons[0].metrics if m.difference == found.comparisons[0].quality), None)
    kind = quality.kind if quality else "mean"
    unit = quality.unit if quality else ""
    columns = [
        "Against the baseline",
        "Quality",
        "Saving a task",
        "Break-even, tasks a month",
        "Saving a month",
        "Pays back",
    ]
    rows = [
        [
            c.technique, effect(c.quality, kind, unit), usd_interval(c.saving), volume(c.break_even), usd_interval(c.saving_a_month),
            NOTHING if c.payback_months is None else f"{c.payback_months:.1f} months",
        ]
        for c in found.comparisons
    ]  # fmt: skip
    now = "not known" if found.tasks_a_month is None else f"{found.tasks_a_month:,.0f}"
    return Table(
        columns,
        rows,
        notes=[f"volume: {now} tasks a month ({found.volume_from}); horizon {found.horizon_months:g} months"],
    )


def legs_table(found: Tradeoff) -> Table:
    """Return the conditions of every technique and how far each is proven."""
    words = {
        "quality": "quality within margin",
        "cost": "cheaper, fixed costs included",
        "latency": "latency within budget",
    }
    rows: list[list[Any]] = []
    for c in found.comparisons:
        for leg in c.legs:
            state, tone = _leg_state(leg.pvalue_holds, leg.pvalue_fails, found.alpha)
            rows.append(
                [
                    c.technique,
                    words[leg.name],
                    Cell(state if leg.status == "ok" else leg.note, tone),
                    _p(leg.pvalue_holds),
                    _p(leg.pvalue_fails),
                ]
            )
    return Table(["Technique", "Must hold", "State", Column("p holds", "right"), Column("p fails", "right")], rows)


def _leg_state(holds: float | None, fails: float | None, alpha: float) -> tuple[str, str]:
    if holds is not None and holds <= alpha:
        return "proven", "good"
    return ("proven not to", "bad") if fails is not None and fails <= alpha else ("open", "warn")


def _p(value: float | None) -> str:
    return NOTHING if value is None else "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def scenario_table(comparison: Comparison) -> Table:
    """Return how the break-even moves."""
    columns = ["If", Column("Is", "right"), "Break-even, tasks a month", "Saving a month", "Pays back"]
    rows = [
        [
            s.what, amount(s.value), volume(s.break_even), usd_interval(s.saving_a_month),
            NOTHING if s.payback_months is None else f"{s.payback_months:.1f} months",
        ]
        for s in comparison.scenarios
    ]  # fmt: skip
    return Table(columns, rows, title=f"{comparison.technique}: how the break-even moves")


def flip_table(comparison: Comparison) -> Table:
    """Return which inputs turn the verdict, and at which value."""
    columns = ["Input", Column("Now", "right"), Column("Turns at", "right"), "Verdict then"]
    rows = [[f.input, amount(f.now), amount(f.at), f.verdict] for f in comparison.flips]
    notes = []
    if comparison.without_cache not in (None, comparison.verdict):
        notes = [f"without the discount on cached tokens: {comparison.without_cache}"]
    return Table(
        columns, rows, title=f"{comparison.technique}: what would turn the verdict ({comparison.verdict})", notes=notes
    )


def metric_table(comparison: Comparison, *, segments: bool) -> Table:
    """Return the metrics beside, of all traffic or by segment."""
    chosen = comparison.segments if segments else comparison.metrics
    rows = [
        [
            shorten(f"{m.metric} ({m.segment})" if m.segment else m.metric, 60), _value(m.baseline, m.kind),
            _value(m.technique, m.kind), effect(m.difference, m.kind, m.unit),
        ]
        for m in chosen
    ]  # fmt: skip
    title = f"{comparison.technique}: {'by segment (exploratory)' if segments else 'beside'}"
    columns = ["Metric", Column("Baseline", "right"), Column("Technique", "right"), Column("Difference", "right")]
    return Table(columns, rows, title=title)


def _value(value: float | None, kind: str) -> str:
    if value is None:
        return NOTHING
    return f"{value * 100:.2f} %" if kind in ("proportion", "quantile") else f"{value:,.4g}"


def error_table(found: Tradeoff) -> Table:
    """Return failed tasks by category and technique."""
    arms = [found.baseline, *(c.technique for c in found.comparisons)]
    counts: dict[str, dict[str, int]] = {}
    for row in found.errors:
        counts.setdefault(str(row["category"]), {})[str(row["arm"])] = int(row["tasks"])
    ordered = sorted(counts, key=lambda c: (-sum(counts[c].values()), c))
    rows = [[shorten(c, 40), *(counts[c].get(a, 0) for a in arms)] for c in ordered[:10]]
    notes = [found.ceiling.note] if found.ceiling and found.ceiling.status != "one_prompt" else []
    return Table(["Failed tasks", *(Column(shorten(a, 30), "right") for a in arms)], rows, notes=notes)


def drift_table(found: Tradeoff) -> Table:
    """Return well-formed answers by turn of the conversation."""
    columns = [
        "Well-formed answers",
        *(Column("6 on" if t == 6 else f"turn {t}", "right") for t in range(1, 7)),
        "Later - first",
    ]
    rows = [[d.arm, *(_turn(d.turns, t) for t in range(1, 7)), effect(d.change, "proportion")] for d in found.drift]
    return Table(columns, rows)


def _turn(turns: tuple[Mapping[str, Any], ...], turn: int) -> str:
    for row in turns:
        if row["turn"] == turn and row["answers"]:
            return f"{row['valid'] / row['answers'] * 100:.1f} %"
    return NOTHING


def tables(found: Tradeoff) -> list[Table]:
    """Return all tables that have something to say, in their order."""
    out = [techniques_table(found), comparison_table(found), legs_table(found)]
    for c in found.comparisons:
        out += [flip_table(c), scenario_table(c), metric_table(c, segments=False), metric_table(c, segments=True)]
    out += [error_table(found), drift_table(found)]
    return [t for t in out if t.rows]


def to_text(found: Tradeoff) -> str:
    """Return the whole answer for a terminal."""
    lines = [headline(found), *(f"  {h}" for h in hinge_lines(found)), f"  {found.design}: {found.confidence}"]
    lines += [f"! {c.name}: {c.detail}" for c in found.checks if c.status in ("failed", "warning")]
    for table in tables(found):
        lines += ["", table.to_text()]
    return "\n".join([*lines, "", *(f"- {note}" for note in found.notes)])


def to_html(found: Tradeoff) -> str:
    """Return the whole answer for a notebook."""
    head = f"<p><b>{escape_html(headline(found))}</b></p>"
    head += "".join(f"<p>{escape_html(h)}</p>" for h in hinge_lines(found))
    head += f"<p>{escape_html(found.design)}: {escape_html(found.confidence)}</p>"
    notes = "".join(f"<p>{escape_html(note)}</p>" for note in found.notes)
    return head + "".join(t.to_html(styled=True) for t in tables(found)) + notes
