"""`tradeoff`: reads the logs, compares every technique with the baseline, and gives one answer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from abtest.analysis.times import to_text
from abtest.errors import NoDataError
from abtest.metrics.quantile import QuantileMetric
from abtest.store.store import Store
from abtest.tradeoff import beside
from abtest.tradeoff.contrasts import Contrast, budget_slack, difference, level, money, quality_slack
from abtest.tradeoff.design import Found, checks, find, monthly_tasks, overall
from abtest.tradeoff.economics import Inputs, fixed_a_month, payback, saving_a_month, scenarios, volume_of
from abtest.tradeoff.judge import Case, Ruling, further_tasks, rule, without_cache
from abtest.tradeoff.legs import Clock
from abtest.tradeoff.moments import BASELINE, TECHNIQUE, Sides
from abtest.tradeoff.read import MONEY, Reader, Task, metric_tasks, money_tasks
from abtest.tradeoff.results import ArmFacts, Comparison, Tradeoff
from abtest.tradeoff.sensitivity import flips, hinges
from abtest.tradeoff.words import answer, notes_of, reason_of
from abtest.tradeoff_spec import TradeoffSpec


def tradeoff(store: Store, spec: TradeoffSpec, *, as_of_us: int | None = None, max_file: int | None = None) -> Tradeoff:
    """Answer "fine-tune or prompt?" from the logs; nothing is written to the store.

    Args:
        store: An open store.
        spec: What is asked (`TradeoffSpec.from_toml`).
        as_of_us: Cut by event time, microseconds since 1970; default: the newest event in the store.
        max_file: Ignore what was loaded after this file.

    Raises:
        NoDataError: the store has no task of these techniques.
        SpecError: an expression that does not fit its columns.
    """
    newest = store.newest_us()
    if newest is None:
        raise NoDataError("the store has no events", hint="`abtest ingest PATH...` reads logs")
    reader = Reader(
        store, spec, as_of_us=newest if as_of_us is None else as_of_us,
        max_file=store.last_file() if max_file is None else max_file,
    )  # fmt: skip
    rows = reader.design()
    if not rows:
        hint = f"no call has experiment_id {spec.logged_as!r} and one of the arms {', '.join(spec.arms)}"
        raise NoDataError("there is no task of these techniques", hint=hint)
    return _Tradeoff(reader, rows).answer()


class _Tradeoff:
    """The comparison of all techniques of one spec."""

    def __init__(self, reader: Reader, rows: Mapping[str, Mapping[str, Any]]) -> None:
        self.reader, self.spec, self.rows = reader, reader.spec, rows
        names = [m.name for m in reader.metrics]
        self.quality = names.index(self.spec.quality.metric)
        self.success = names.index(self.spec.success_metric.name)
        self.latency = names.index(self.spec.latency.metric) if self.spec.latency else None
        self.clock = Clock(self.spec.sequential, float(self.spec.alpha))
        self.found = {t: find(reader, rows, t) for t in self.spec.techniques}
        self.checks = checks(self.spec, rows, self.found)
        given = self.spec.volume.tasks_a_month
        self.volume = given if given is not None else monthly_tasks(rows)
        self.volume_from = "given" if given is not None else "the rate of the live logs" if self.volume else "not known"

    def answer(self) -> Tradeoff:
        """Return the whole answer."""
        spec = self.spec
        sides = {t: self._sides(t) for t in spec.techniques}
        cases = {t: self._case(t, sides[t]) for t in spec.techniques}
        rulings = dict(zip(cases, rule(list(cases.values()), self.clock.alpha), strict=True))
        comparisons = tuple(self._comparison(t, sides[t], cases[t], rulings[t]) for t in spec.techniques)
        design, confidence = overall(list(self.found.values()))
        errors = beside.error_rows(self.reader, self.success)
        said = answer(spec, comparisons)
        return Tradeoff(
            id=spec.id, revision=spec.revision, experiment=spec.logged_as, as_of=to_text(self.reader.scan.as_of_us),
            alpha=self.clock.alpha, method=spec.sequential.method, baseline=spec.baseline, verdict=said.verdict, choice=said.choice,
            reason=said.reason, needs_tasks=said.needs_tasks, hinges_on=said.hinges_on, design=design, confidence=confidence,
            tasks_a_month=self.volume, volume_from=self.volume_from, horizon_months=float(spec.horizon.months),
            comparisons=comparisons, checks=tuple(self.checks), errors=tuple(errors),
            ceiling=beside.ceiling(
                self.reader, errors, self.success, self.clock, {t: f.mode for t, f in self.found.items()}
            ),
            drift=tuple(beside.drift(self.reader, self.clock)), notes=tuple(notes_of(spec, self.rows)),
            policy_sha256=spec.policy_sha256(),
        )  # fmt: skip

    # -- one technique -------------------------------------------------------------------------------------------

    def _sides(self, technique: str) -> Sides:
        tasks: dict[tuple[str, ...], list[Task]] = {MONEY: money_tasks(self.success)}
        for j in range(len(self.reader.metrics)):
            columns = metric_tasks(j, self.reader.measures[j])
            tasks[tuple(c.name for c in columns)] = columns
        found = self.found[technique]
        return self.reader.sides(technique, tasks, mode=found.mode, first_turns=found.first_turns)[None]

    def _case(self, technique: str, sides: Sides) -> Case:
        spec, paired = self.spec, self._paired(technique)
        metric = self.reader.metrics[self.quality]
        shares = spec.comparison.shares
        share = None
        if technique in shares and spec.baseline in shares:
            share = shares[technique] / (shares[technique] + shares[spec.baseline])

        @cache  # turning other inputs asks for the same margin many times
        def quality(margin: float) -> Contrast:
            given = spec.quality.margin
            asked = given.model_copy(update={given.kind: margin})
            return quality_slack(sides, metric, self.quality, asked, paired=paired, share=share)

        latency = None
        if spec.latency is not None and self.latency is not None:
            timed = self.reader.metrics[self.latency]
            q = timed.q if isinstance(timed, QuantileMetric) else None
            latency = budget_slack(sides, self.latency, spec.latency.budget, q)
        inputs = Inputs(
            spec.costs_of(technique),
            spec.costs_of(spec.baseline),
            float(spec.horizon.months),
            self.volume,
            spec.quality.margin.value,
        )
        return Case(
            money=money(sides, paired=paired), flat=money(sides, paired=paired, cost="flat"), quality=quality, latency=latency,
            inputs=inputs, clock=self.clock, units=sides.both if paired else min(sides.units), doubt=self._doubt(technique),
        )  # fmt: skip

    def _paired(self, technique: str) -> bool:
        return self.found[technique].mode == "paired"

    def _doubt(self, technique: str) -> str:
        """Return why this comparison decides nothing."""
        found: Found = self.found[technique]
        ratio = next((c for c in self.checks if c.name == "sample_ratio" and c.status == "failed"), None)
        if found.untrusted or ratio is None or found.mode == "paired":
            return found.untrusted
        return f"the split is not what it should be ({ratio.detail})"

    def _comparison(self, technique: str, sides: Sides, case: Case, ruling: Ruling) -> Comparison:
        paired, found, clock = self._paired(technique), self.found[technique], self.clock
        turned = flips(case, ruling)
        bare = without_cache(case, ruling)
        # Of tasks: what is asked for more of is a task that both sides can tell.
        tasks = min(sides.totals[side, f"y{self.quality}"] for side in (BASELINE, TECHNIQUE))
        tasks = tasks // sides.scales[f"y{self.quality}"]
        needs = further_tasks(case, ruling, tasks)
        volume = volume_of(case.inputs, case.money, clock)
        x, y = f"x{self.quality}", f"y{self.quality}"
        return Comparison(
            technique=technique, design=found.name, facts=self._facts(technique, TECHNIQUE, sides),
            baseline=self._facts(self.spec.baseline, BASELINE, sides),
            quality=clock.interval(difference(sides, x, y, paired=paired)), saving=clock.interval(case.money.saving()),
            legs=ruling.legs, break_even=volume, saving_a_month=saving_a_month(case.inputs, case.money, clock),
            payback_months=payback(case.inputs, case.money), pvalue_switch=ruling.switch, pvalue_keep=ruling.keep,
            verdict=ruling.verdict, reason=reason_of(self.spec, case, ruling), needs_tasks=needs,
            hinges_on=hinges(turned, ruling, bare), flips=turned, without_cache=bare,
            scenarios=scenarios(case.inputs, case.money, clock),
            metrics=tuple(beside.metric_rows(sides, self.reader, clock, paired=paired)),
            segments=tuple(
                beside.segment_rows(
                    self.reader, technique, self.quality, clock, mode=found.mode, first_turns=found.first_turns
                )
            ),
        )  # fmt: skip

    def _facts(self, arm: str, side: int, sides: Sides) -> ArmFacts:
        row = self.rows.get(arm)
        tokens = int(row["input_tokens"]) if row else 0
        tasks = int(row["requests"]) if row else 0
        return ArmFacts(
            name=arm, technique=self.spec.arms[arm].technique, units=sides.units[side], tasks=tasks,
            attempts=int(row["attempts"]) / tasks if row and tasks else None,
            no_cost=int(row["no_cost"]) / tasks if row and tasks else None,
            cached_share=int(row["cached_tokens"]) / tokens if row and tokens else None,
            cost_per_task=self.clock.interval(level(sides, side, "cost", "tasks")),
            success_rate=self.clock.interval(level(sides, side, "solved", "tasks")),
            cost_per_success=self.clock.interval(level(sides, side, "cost", "solved")),
            fixed_a_month=fixed_a_month(self.spec.costs_of(arm), float(self.spec.horizon.months)),
        )  # fmt: skip
