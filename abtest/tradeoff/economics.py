"""Fixed costs over the horizon, break-even, totals: plain arithmetic over a saving a task and its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from abtest.results import ToDict
from abtest.stats.break_even import BreakEven, break_even
from abtest.tradeoff.contrasts import Contrast, Money
from abtest.tradeoff.legs import Clock, Interval
from abtest.tradeoff_spec import Costs


@dataclass(frozen=True)
class Inputs:
    """What the economics of one technique depend on besides the logs; what sensitivity turns.

    Attributes:
        costs, baseline: Fixed costs of technique and baseline.
        months: The horizon.
        tasks_a_month: Volume; None when it is not known.
        price, baseline_price: Factor on what the calls of each cost.
        margin: The quality margin, in its unit.
    """

    costs: Costs
    baseline: Costs
    months: float
    tasks_a_month: float | None
    margin: float
    price: float = 1.0
    baseline_price: float = 1.0

    def fixed(self) -> float:
        """Return the further fixed cost a month of the technique over the baseline."""
        return fixed_a_month(self.costs, self.months) - fixed_a_month(self.baseline, self.months)

    def saving(self, found: Money) -> Contrast:
        """Return the saving a task at these prices."""
        return found.saving(self.baseline_price, self.price)

    def slack(self, found: Money) -> Contrast:
        """Return the saving a task beyond what the fixed costs ask of it at this volume."""
        saving, fixed = self.saving(found), self.fixed()
        if saving.value is None or fixed == 0:
            return saving
        if self.tasks_a_month is None:
            return Contrast(None, problem="the volume is not known: give [volume] tasks_a_month")
        return replace(saving, value=saving.value - fixed / self.tasks_a_month)


def trainings(costs: Costs, months: float) -> int:
    """Return how often the technique is trained within the horizon: at its start, and whenever the task has moved on."""
    if costs.months_until_retraining is None:
        return 1
    return max(1, math.ceil(months / costs.months_until_retraining - 1e-9))


def one_off(costs: Costs) -> float:
    """Return what one training costs, its labels and its evaluation included."""
    return costs.training + costs.evaluation + costs.labels * costs.usd_per_label


def fixed_a_month(costs: Costs, months: float) -> float:
    """Return fixed cost a month: trainings spread over the horizon, and hosting."""
    return one_off(costs) * trainings(costs, months) / months + costs.hosting_a_month


@dataclass(frozen=True)
class Scenario(ToDict):
    """The break-even under other circumstances than the spec's."""

    what: str
    value: float | None
    tasks_a_month: float | None
    fixed_a_month: float
    break_even: BreakEven
    saving_a_month: Interval
    payback_months: float | None


def volume_of(inputs: Inputs, found: Money, clock: Clock) -> BreakEven:
    """Return the break-even volume in tasks a month."""
    saving = inputs.saving(found)
    if saving.value is None or saving.error is None:
        return break_even(inputs.fixed(), None, None, alpha=clock.alpha)
    critical = clock.critical(saving.units)
    return break_even(inputs.fixed(), saving.value, saving.error, alpha=clock.alpha, critical=critical)


def saving_a_month(inputs: Inputs, found: Money, clock: Clock) -> Interval:
    """Return what the technique saves a month at the volume, fixed costs included."""
    if inputs.tasks_a_month is None:
        return Interval(None, alpha=clock.alpha, status="no_data", note="the volume is not known")
    saving, volume = clock.interval(inputs.saving(found)), inputs.tasks_a_month
    if saving.value is None:
        return saving
    ends = [None if v is None else v * volume - inputs.fixed() for v in (saving.value, saving.lower, saving.upper)]
    error = None if saving.std_error is None else saving.std_error * volume
    return replace(saving, value=ends[0], lower=ends[1], upper=ends[2], std_error=error)


def payback(inputs: Inputs, found: Money) -> float | None:
    """Return months until the first training is paid back; None when it never is (or is not before the next training)."""
    saving, volume = inputs.saving(found).value, inputs.tasks_a_month
    spent = one_off(inputs.costs) - one_off(inputs.baseline)
    if saving is None or volume is None:
        return None
    monthly = saving * volume - (inputs.costs.hosting_a_month - inputs.baseline.hosting_a_month)
    if monthly <= 0:
        return None
    months = max(spent, 0.0) / monthly
    until = min(inputs.costs.months_until_retraining or inputs.months, inputs.months)
    return months if months <= until else None


def scenarios(inputs: Inputs, found: Money, clock: Clock) -> tuple[Scenario, ...]:
    """Return how the break-even moves with traffic, task stability and the number of labels."""
    rows: list[tuple[str, float | None, Inputs]] = []
    if inputs.tasks_a_month is not None:
        rows += [
            ("tasks a month", inputs.tasks_a_month * f, replace(inputs, tasks_a_month=inputs.tasks_a_month * f))
            for f in (0.5, 1.0, 2.0, 10.0)
        ]
    if one_off(inputs.costs) > 0:
        given = inputs.costs.months_until_retraining
        stable = sorted({m for m in (1.0, 3.0, 6.0, inputs.months, given) if m is not None and m <= inputs.months})
        rows += [("months until retraining", m, _with(inputs, months_until_retraining=m)) for m in stable]
    if inputs.costs.labels > 0 and inputs.costs.usd_per_label > 0:
        rows += [
            ("labels", inputs.costs.labels * f, _with(inputs, labels=inputs.costs.labels * f))
            for f in (0.5, 1.0, 2.0, 4.0)
        ]
    return tuple(
        Scenario(
            what, value, each.tasks_a_month, each.fixed(), volume_of(each, found, clock), saving_a_month(each, found, clock),
            payback(each, found),
        )
        for what, value, each in rows
    )  # fmt: skip


def _with(inputs: Inputs, **changes: float) -> Inputs:
    return replace(inputs, costs=inputs.costs.model_copy(update=changes))
