"""What decides when the data do not: time that runs out, logs that stop, scores that may not halt."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from abtest.errors import SpecError
from abtest.metrics.base import Duration, MetricSpec, Strict, duration_seconds


class Freshness(Strict):
    """How old the newest row may be, by the clock of the machine; without it only `watch` judges staleness."""

    max_age: Duration

    @property
    def seconds(self) -> float:
        """Return it in seconds."""
        return duration_seconds(self.max_age)


class Policy(Strict):
    """What to do when time runs out or the logs stop."""

    on_timeout: Literal["hold", "halt", "promote_if_harmless"] = "hold"
    on_stale: Literal["hold", "halt"] = "hold"
    on_stale_after: Annotated[
        Duration | None, Field(description='with on_stale = "halt": the age of the newest row from which on it halts')
    ] = None

    @model_validator(mode="after")
    def _says_when(self) -> Policy:
        if self.on_stale == "halt" and self.on_stale_after is None:
            raise ValueError('on_stale = "halt" needs on_stale_after = "6h": logs that stop hold first, and halt then')
        if self.on_stale == "hold" and self.on_stale_after is not None:
            raise ValueError('on_stale_after goes with on_stale = "halt"')
        return self

    @property
    def halt_age(self) -> float | None:
        """Return the age of the newest row, in seconds, from which on the release is halted; None: it is only held."""
        return duration_seconds(self.on_stale_after) if self.on_stale == "halt" and self.on_stale_after else None

    def hashed(self) -> dict[str, Any]:
        """Return what enters the policy's hash; a key that asks for nothing is as good as none, so that old hashes stay."""
        asked = self.model_dump(mode="json")
        return asked if self.halt_age is not None else {"on_timeout": self.on_timeout}


def halts_by_judge(metric: MetricSpec) -> bool:
    """Return whether the score of a judge model is asked to halt the release."""
    judged = getattr(metric, "scorer_kind", None) == "judge"
    return judged and metric.guardrail is not None and metric.guardrail.action == "halt"


def check_policy(
    policy: Policy, freshness: Freshness | None, guardrails: Iterable[MetricSpec], *, shadow: bool
) -> None:
    """Refuse what could not be kept.

    Args:
        policy: The policy of the spec.
        freshness: `[freshness]`, or None.
        guardrails: The metrics with a guardrail.
        shadow: The ramp begins with a shadow stage, where people's labels may calibrate a judge.

    Raises:
        SpecError: logs that stop should halt, but nobody said how old is too old; a judge's score should halt and nothing in
            the ramp could calibrate it (STATISTICS §10: without that it may hold a release, never halt it).
    """
    if policy.halt_age is not None:
        if freshness is None:
            hint = 'write [freshness] and max_age = "1h"'
            raise SpecError("on_stale needs to know how old is too old", key="policy.on_stale", hint=hint)
        if policy.halt_age < freshness.seconds:
            hint = f"at least {freshness.max_age}"
            raise SpecError("a halt cannot come before the hold", key="policy.on_stale_after", hint=hint)
    for metric in guardrails:
        if halts_by_judge(metric) and not shadow:
            raise SpecError(
                "the score of a judge may hold a release, not halt it: nobody has checked the judge",
                key=f"metrics.{metric.name}.guardrail.action",
                hint='write action = "hold", or guard a human, user or code score',
            )
