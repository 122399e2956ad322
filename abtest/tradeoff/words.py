"""The answer in sentences: the verdict, its reason, what it hinges on, and what the reader must know about the numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from abtest.display import NOTHING, format_effect, format_share
from abtest.stats.break_even import BreakEven
from abtest.tradeoff.economics import volume_of
from abtest.tradeoff.judge import Case, Ruling
from abtest.tradeoff.legs import Interval, Leg
from abtest.tradeoff.results import Comparison, VerdictName
from abtest.tradeoff_spec import TradeoffSpec


@dataclass(frozen=True)
class Answer:
    """The verdict on all techniques together."""

    verdict: VerdictName
    choice: str | None
    reason: str
    needs_tasks: int | None
    hinges_on: tuple[str, ...]


def answer(spec: TradeoffSpec, comparisons: Sequence[Comparison]) -> Answer:
    """Return the verdict: the best technique that is proven, else the baseline when all others are ruled out, else open."""
    winners = [c for c in comparisons if c.verdict == "switch"]
    several = len(comparisons) > 1
    if winners:
        best = max(winners, key=_worth)
        others = f"; proven too: {', '.join(c.technique for c in winners if c is not best)}" if len(winners) > 1 else ""
        reason = f"{best.technique} instead of {spec.baseline}: {best.reason}{others}"
        return Answer(_kind(spec, best.technique), best.technique, reason, None, _hinges([best], several))
    if all(c.verdict == "keep" for c in comparisons):
        reason = f"stay with {spec.baseline}: " + "; ".join(f"{c.technique}: {c.reason}" for c in comparisons)
        return Answer(_kind(spec, spec.baseline), spec.baseline, reason, None, _hinges(comparisons, several))
    undecided = [c for c in comparisons if c.verdict == "undecided"]
    needs = [c.needs_tasks for c in undecided]
    reason = "; ".join(f"{c.technique}: {c.reason}" for c in undecided)
    total = None if None in needs else max(n for n in needs if n is not None)
    return Answer("not_yet_decidable", None, reason, total, _hinges(undecided, several))


def _worth(comparison: Comparison) -> float:
    found = comparison.saving_a_month.value
    return found if found is not None else (comparison.saving.value or 0.0)


def _kind(spec: TradeoffSpec, arm: str) -> VerdictName:
    return "fine_tune" if spec.arms[arm].technique == "fine_tune" else "prompt"


def _hinges(comparisons: Sequence[Comparison], several: bool) -> tuple[str, ...]:
    return tuple(f"{c.technique}: {h}" if several else h for c in comparisons for h in c.hinges_on)


# -- one technique -----------------------------------------------------------------------------------------------


def reason_of(spec: TradeoffSpec, case: Case, ruling: Ruling) -> str:
    """Return why the verdict on a technique is what it is."""
    if case.doubt:
        return case.doubt
    words = {leg.name: _leg_words(spec, case, leg) for leg in ruling.legs}
    if ruling.verdict == "switch":
        return "; ".join(words[leg.name][0] for leg in ruling.legs)
    if ruling.verdict == "keep":
        worst = min(
            (leg for leg in ruling.legs if leg.pvalue_fails is not None), key=lambda leg: leg.pvalue_fails or 0.0
        )
        return words[worst.name][1]
    level = case.clock.alpha / ruling.factors[0]
    still = [leg for leg in ruling.legs if leg.pvalue_holds is None or leg.pvalue_holds > level]
    return "not proven either way yet: " + "; ".join(words[leg.name][2] for leg in still)


def _leg_words(spec: TradeoffSpec, case: Case, leg: Leg) -> tuple[str, str, str]:
    """Return what a leg says when it holds, when it fails, and while it is open."""
    if leg.status != "ok":
        return (leg.note, leg.note, f"{leg.name}: {leg.note or leg.status}")
    if leg.name == "quality":
        margin = f"its margin ({_margin(spec)})"
        return (
            f"{spec.quality.metric} is not worse by more than {margin}",
            f"{spec.quality.metric} is worse by more than {margin}",
            f"whether {spec.quality.metric} stays within {margin}",
        )
    if leg.name == "latency":
        budget = f"the budget of {spec.latency.budget:g}" if spec.latency else "the budget"
        name = spec.latency.metric if spec.latency else "latency"
        return f"{name} is within {budget}", f"{name} is over {budget}", f"whether {name} is within {budget}"
    now, at = case.inputs.tasks_a_month, ""
    if now is not None and case.inputs.fixed() != 0:
        at = f" at {now:,.0f} tasks a month (break-even: {volume(volume_of(case.inputs, case.money, case.clock))})"
    return f"it is cheaper{at}", f"it is not cheaper{at}", f"whether it is cheaper{at}"


def _margin(spec: TradeoffSpec) -> str:
    margin = spec.quality.margin
    value = margin.value * 100
    return (
        f"{value:g} pp"
        if margin.kind == "points"
        else f"{value:g} %"
        if margin.kind == "relative"
        else f"{margin.value:g}"
    )


# -- numbers -----------------------------------------------------------------------------------------------------


def usd(value: float | None, places: int | None = None) -> str:
    """Return an amount with three digits, or with so many decimals: "$1,234", "$0.00123"."""
    if value is None:
        return NOTHING
    decimals = decimals_of(value, 3) if places is None else places
    body = f"{abs(value):,.{decimals}f}"
    return f"{'-' if value < 0 and body.strip('0.,') else ''}${body}"


def decimals_of(value: float, digits: int) -> int:
    """Return how many decimals show a number with so many digits."""
    if value == 0:
        return 0
    return min(max(digits - 1 - math.floor(math.log10(abs(value))), 0), 9)


def usd_interval(found: Interval) -> str:
    """Return an amount with its interval, all with the decimals that half its width needs."""
    if found.value is None:
        return NOTHING
    if found.lower is None or found.upper is None:
        return usd(found.value)
    places = decimals_of((found.upper - found.lower) / 2, 2)
    return f"{usd(found.value, places)} [{usd(found.lower, places)}, {usd(found.upper, places)}]"


def count(value: float | None) -> str:
    """Return a number of tasks with three digits: "46,200"."""
    if value is None:
        return NOTHING
    if value == 0:
        return "0"
    step = 10 ** max(math.floor(math.log10(abs(value))) - 2, 0)
    return f"{round(value / step) * step:,.0f}"


def amount(value: float | None) -> str:
    """Return a number of a spec without needless digits."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def effect(found: Interval, kind: str, unit: str = "") -> str:
    """Return a difference of a metric with its interval."""
    shown = {"kind": "proportion" if kind == "quantile" else kind, "unit": unit}
    return format_effect({**shown, "estimate": found.value, "ci_lower": found.lower, "ci_upper": found.upper})


def volume(found: BreakEven) -> str:
    """Return a break-even volume in words."""
    low, high = (None if v is None else count(v) for v in (found.lower, found.upper))
    if found.status == "ok":
        return f"{count(found.value)} [{low or '0'}, {high}]" if found.value is not None else f"at most {high}"
    if found.status == "unbounded":
        return f"at least {low}, perhaps never" if low else "not known"
    if found.status == "below":
        return f"pays up to {low or '0'} to {high or 'any volume'}"
    return {"never": "never pays", "always": "always pays"}.get(found.status, "not known")


# -- notes -------------------------------------------------------------------------------------------------------


_SAVING = (
    "cost per success is the cost of all attempts over successful tasks; a saving is what one task of the baseline costs less what "
    "the technique needs for the same successes"
)


def notes_of(spec: TradeoffSpec, rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what a reader must know."""
    alpha = format_share(float(spec.alpha))
    kind = (
        "anytime-valid (looking as often as one likes is safe)"
        if spec.sequential.method == "anytime"
        else "for one look at a declared time, not for repeated looks"
    )
    adjusted = f", adjusted by Holm over {len(spec.techniques)} techniques" if len(spec.techniques) > 1 else ""
    notes = [
        f"intervals and tests are {kind}; a wrong switch at most {alpha}, a wrong stay at most {alpha}{adjusted}",
        f"unit: {spec.unit}; every variance is clustered by it",
        _SAVING,
        spec.prices.sentence(),
    ]
    if spec.population.failed_calls == "free":
        notes.append("failed calls without cost and tokens are taken as free ([population] failed_calls)")
    later = {arm: int(row["later_turns"]) for arm, row in rows.items() if int(row["later_turns"])}
    if later:
        notes.append("later turns of conversations: " + ", ".join(f"{arm} {n:,}" for arm, n in sorted(later.items())))
    no_unit = sum(int(row["no_unit"]) for row in rows.values())
    if no_unit:
        notes.append(f"{no_unit:,} tasks have no {spec.unit} and count only where a paired task names it")
    return notes
