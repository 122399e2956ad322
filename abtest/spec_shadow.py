"""The keys of the shadow stage in the experiment file: `[shadow]`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from abtest.errors import SpecError, UnknownNameError, did_you_mean
from abtest.metrics.base import MetricSpec, Name, ScoreName, Strict


class Shadow(Strict):
    """How pairs of answers to the same request are compared before anybody sees the candidate's.

    turns: later turns of a conversation were asked after control's answers, never after the candidate's: "first" leaves them out.
    method: "mixture" (the normal mixture; every metric) or "betting" (exact, one bet a unit; scores with bounds and proportions).
    pairs: how many pairs are planned; a margin that so many cannot tell from the model's own noise is refused at once.
    labels: metric -> name of the human score that says what its judge is worth; default: the same name, given by humans.
    """

    turns: Annotated[Literal["first", "all"], Field(description="which turns of a conversation count")] = "first"
    method: Annotated[Literal["mixture", "betting"], Field(description="betting is exact, for bounded values")] = (
        "mixture"
    )
    pairs: Annotated[int | None, Field(ge=1, lt=2**31, description="how many pairs are planned")] = None
    labels: Annotated[Mapping[Name, ScoreName], Field(description="metric -> name of the human score")] = Field(
        default_factory=dict
    )

    def policy(self) -> dict[str, Any]:
        """Return what decides, for the hash of the policy of a shadow decision."""
        return self.model_dump(mode="json")


def check_shadow(shadow: Shadow, metrics: Iterable[MetricSpec]) -> None:
    """Refuse labels of a metric that does not exist, or that no judge can score.

    Raises:
        SpecError: with the key, and what to write instead.
    """
    known = {m.name: m for m in metrics}
    for name in shadow.labels:
        if name not in known:
            raise UnknownNameError(
                f"no such metric: {name!r}", key="shadow.labels", hint=did_you_mean(name, known or ["(none)"])
            )
        if known[name].measure().score is None:
            raise SpecError(
                f"{name} is no score: people's labels calibrate what a judge says", key=f"shadow.labels.{name}",
                hint="name a metric with score = ...",
            )  # fmt: skip
