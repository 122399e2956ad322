"""Which inputs the verdict hinges on: each is turned alone, up and down, until the verdict on the technique changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

from abtest.tradeoff.economics import Inputs
from abtest.tradeoff.judge import Case, Ruling, verdict_at
from abtest.tradeoff.results import ArmVerdict, Flip
from abtest.tradeoff.words import amount

_REACH, _STEPS = 1000.0, 30
_NEAR = 2.0
"""An input that turns the verdict within this factor is one that it hinges on."""

_Turn = tuple[str, float, float, Callable[[float], Inputs]]
"""Name, value now, where to start when it is zero, and the inputs with another value."""


def flips(case: Case, ruling: Ruling) -> tuple[Flip, ...]:
    """Return the nearest value up and down of every input at which the verdict changes, the nearest first."""
    if case.doubt:
        return ()
    found = [flip for turn in _turns(case.inputs) for up in (True, False) if (flip := _nearest(case, ruling, turn, up))]
    return tuple(sorted(found, key=lambda f: math.inf if f.factor is None else abs(math.log(f.factor))))


def hinges(found: tuple[Flip, ...], ruling: Ruling, without_cache: ArmVerdict) -> tuple[str, ...]:
    """Return in words which inputs turn the verdict within a factor of 2."""
    words = [
        f"{f.input}: {f.verdict} {'from' if f.factor > 1 else 'at or below'} {amount(f.at)} (now {amount(f.now)})"
        for f in found
        if f.factor is not None and f.now is not None and 1 / _NEAR <= f.factor <= _NEAR
    ]
    if without_cache != ruling.verdict:
        words.append(f"prompt caching: {without_cache} if cached tokens cost what others do")
    return tuple(words)


def _turns(inputs: Inputs) -> Iterator[_Turn]:
    """Yield every input that can be turned."""
    costs = inputs.costs

    def cost(name: str) -> Callable[[float], Inputs]:
        return lambda v: replace(inputs, costs=costs.model_copy(update={name: v}))

    if inputs.tasks_a_month is not None:
        yield "tasks a month", inputs.tasks_a_month, 1.0, lambda v: replace(inputs, tasks_a_month=v)
    yield "training", costs.training, 1.0, cost("training")
    if costs.evaluation:
        yield "evaluation", costs.evaluation, 1.0, cost("evaluation")
    if costs.labels and costs.usd_per_label:
        yield "labels", costs.labels, 1.0, cost("labels")
    yield "hosting a month", costs.hosting_a_month, 1.0, cost("hosting_a_month")
    if costs.months_until_retraining is not None:
        yield "months until retraining", costs.months_until_retraining, 1.0, cost("months_until_retraining")
    yield "horizon in months", inputs.months, 1.0, lambda v: replace(inputs, months=v)
    yield "price of its calls, times today's", inputs.price, 1.0, lambda v: replace(inputs, price=v)
    yield (
        "price of the baseline's calls, times today's",
        inputs.baseline_price,
        1.0,
        lambda v: replace(inputs, baseline_price=v),
    )
    yield "quality margin", inputs.margin, 1.0, lambda v: replace(inputs, margin=v)


def _nearest(case: Case, ruling: Ruling, turn: _Turn, up: bool) -> Flip | None:
    """Return the value nearest to the present one at which the verdict is another."""
    name, now, start, make = turn
    if now == 0 and not up:
        return None
    base = now or start

    def verdict(value: float) -> ArmVerdict:
        return verdict_at(case, ruling.factors, make(value))

    if now and verdict(now) != ruling.verdict:
        return None  # the adjustment of several techniques is at its edge: nothing can be said by turning one alone
    step = _REACH ** (1 / _STEPS)
    last = now
    for i in range(1, _STEPS + 1 if now else 2 * _STEPS + 1):
        value = base * step ** (i if up else -i)
        if verdict(value) != ruling.verdict:
            at = _edge(verdict, last, value, ruling.verdict)
            return Flip(name, now, at, at / now if now else None, verdict(at))
        last = value
    return None


def _edge(verdict: Callable[[float], ArmVerdict], same: float, other: float, now: ArmVerdict) -> float:
    """Return the value between two at which the verdict changes, to four digits."""
    for _ in range(40):
        middle = math.sqrt(same * other) if same > 0 else (same + other) / 2
        if verdict(middle) == now:
            same = middle
        else:
            other = middle
        if abs(other - same) <= 1e-4 * abs(other):
            break
    return other
