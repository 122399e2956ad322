"""What is asked: one experiment, read from TOML, with errors that name the file, the key, and what to write instead."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property, reduce
from itertools import pairwise
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, PrivateAttr, ValidationError, field_validator, model_validator
from sqlglot.expressions.core import Expr as Node

from abtest.errors import SpecError, did_you_mean
from abtest.metrics.base import Duration, Measure, MetricSpec, Name, Positive, Strict, kinds, quoted
from abtest.metrics.catalog import default_sentence, resolved
from abtest.metrics.expressions import Expression, parse
from abtest.metrics.prices import Prices, cost_tree, read_book
from abtest.metrics.segments import Segment, check_levels, split_level
from abtest.spec_command import CommandTarget
from abtest.spec_errors import spec_error
from abtest.spec_file import read_toml
from abtest.spec_format import AnswerFormat
from abtest.spec_policy import Freshness, Policy, check_policy
from abtest.spec_shadow import Shadow, check_shadow
from abtest.spec_urls import is_loopback as is_loopback  # noqa: PLC0414 - actuators ask this module
from abtest.spec_urls import safe_url

Share = Annotated[float, Field(gt=0, lt=1)]
Alpha = Annotated[float, Field(gt=0, lt=0.5)]
Identifier = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^\S(.*\S)?$")]

AnyMetric = Annotated[reduce(or_, kinds().values()), Field(discriminator="kind")]  # type: ignore[valid-type]


class Budget(Strict):
    """Errors spent once over all looks, stages and guardrails."""

    halt: Alpha = 0.01
    sample_ratio: Alpha = 0.01


class Population(Strict):
    """Which rows count. Shadow rows (`exposed = false`) and calls that are no generation never do."""

    where: str | None = None
    per_request: Literal["last", "sum", "first"] = "last"
    max_contamination: Annotated[float, Field(ge=0, le=1)] = 0.01


class ArmManifest(Strict):
    """What an arm runs; tells arms apart when logs carry no variant, and finds versions mixed inside an arm."""

    model: str | None = None
    prompt_name: str | None = None
    prompt_version: str | None = None
    prompt_sha256: str | None = None
    embedding_model_version: str | None = None
    index_id: str | None = None
    ruleset_version: str | None = None

    @property
    def declared(self) -> dict[str, str]:
        """Return the fields that were given."""
        return {k: v for k, v in self.model_dump().items() if v is not None}


class Sequential(Strict):
    """Which kind of error guarantee."""

    method: Literal["anytime", "fixed"] = "anytime"

    @field_validator("method", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if value in ("horizon", "group_sequential"):
            raise ValueError(f"{value!r} is not connected to decisions in this version; write 'anytime'")
        return value


class RampStage(Strict):
    """One step of the release; its key is its index, its label is for people."""

    stage: Literal["shadow", "canary", "ab"]
    share: Share | None = None
    min_hours: Annotated[float, Field(ge=0)] = 0.0
    min_units: Annotated[int, Field(ge=0, lt=2**31)] = 0
    max_days: Positive | None = None

    @model_validator(mode="after")
    def _share_where_live(self) -> RampStage:
        if self.stage == "shadow" and self.share is not None:
            raise ValueError("a shadow stage has no share: nobody sees its answers")
        if self.stage != "shadow" and self.share is None:
            raise ValueError(f"a {self.stage} stage needs share = 0.05 (the treatment's share of traffic)")
        return self

    @property
    def label(self) -> str:
        """Return "canary 5 %"."""
        name = {"shadow": "shadow", "canary": "canary", "ab": "A/B"}[self.stage]
        return name if self.share is None else f"{name} {self.share * 100:g} %"


class Allocation(Strict):
    """A row of the history of the split: from `at` on, each treatment gets `share`."""

    at: AwareDatetime
    share: Share


class Traffic(Strict):
    """Who changes the split: another system, or abtest through the flag file."""

    control: Literal["external", "abtest"] = "external"


class FlagTarget(Strict):
    """A flag file that a halt rewrites."""

    file: str
    key: str
    format: Literal["flagd"] = "flagd"
    variants: Mapping[str, str] = Field(default_factory=dict)


class Webhook(Strict):
    """Who is told of a halt, by a signed message (Standard Webhooks 1.0.0); the secret itself stays outside this file."""

    url: Annotated[str, Field(description="https, or http to this machine")]
    secret_env: Annotated[str, Field(description="name of the environment variable that holds the secret")]

    @field_validator("url")
    @classmethod
    def _safe(cls, value: str) -> str:
        return safe_url(value)

    @field_validator("secret_env")
    @classmethod
    def _a_name(cls, value: str) -> str:
        if value.startswith("whsec_") or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            # The value is not repeated: it may be the secret.
            raise ValueError('not the name of an environment variable; write secret_env = "ABTEST_WEBHOOK_SECRET"')
        return value


class Halt(Strict):
    """What a halt does beyond saying so."""

    flag: FlagTarget | None = None
    webhook: Webhook | None = None
    command: CommandTarget | None = None
    confirm_within: Annotated[
        Duration, Field(description="the treatment may still have calls for so long after a halt")
    ] = "5m"


class Experiment(Strict):
    """Everything that is asked about one release. `Experiment.from_toml(path)` reads it."""

    id: Identifier
    revision: Annotated[int, Field(ge=1, lt=2**31)] = 1
    description: str = ""
    unit: Literal["user", "session", "request"] = "user"
    control: Name
    treatments: Annotated[list[Name], Field(min_length=1)]
    alpha: Alpha = 0.05
    start: AwareDatetime | None = None
    end: AwareDatetime | None = None
    warm_up_units: Annotated[int, Field(ge=30, lt=2**31)] = 200
    budget: Budget = Budget()
    population: Population = Population()
    arms: Mapping[str, ArmManifest] = Field(default_factory=dict)
    metrics: Annotated[list[AnyMetric], Field(min_length=1)]  # type: ignore[valid-type]
    prices: Prices = Prices()
    segments: Annotated[Sequence[Segment], Field(max_length=20)] = ()
    sequential: Sequential = Sequential()
    ramp: Sequence[RampStage] = ()
    traffic: Traffic = Traffic()
    allocation: Sequence[Allocation] = ()
    halt: Halt = Halt()
    policy: Policy = Policy()
    freshness: Freshness | None = None
    format: AnswerFormat | None = None
    shadow: Shadow = Shadow()

    _folder: Path = PrivateAttr(default_factory=Path)
    _derived: Mapping[str, Node] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_catalogue(cls, data: Any) -> Any:
        """Write out the metrics that are named from the catalogue."""
        metrics = data.get("metrics") if isinstance(data, Mapping) else None
        if not isinstance(metrics, (list, tuple)):
            return data
        return {**data, "metrics": [resolved(metric, i) for i, metric in enumerate(metrics)]}

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        _unique("treatments", self.treatments)
        if self.control in self.treatments:
            raise SpecError(f"{self.control!r} is the control already", key="treatments")
        _unique("metrics", [m.name for m in self.metrics])
        for arm in self.arms:
            if arm not in self.arm_names:
                raise SpecError(f"no such arm: {quoted(arm)}", key="arms", hint=did_you_mean(arm[:100], self.arm_names))
        shares = [s.share for s in self.ramp if s.share is not None]
        if any(b <= a for a, b in pairwise(shares)):
            raise SpecError(f"shares must grow from stage to stage, these are {quoted(shares)}", key="ramp")
        if any(s.stage == "shadow" for s in self.ramp[1:]):
            raise SpecError("a shadow stage comes first", key="ramp")
        if any(b.at <= a.at for a, b in pairwise(self.allocation)):
            raise SpecError("rows must be in order of time", key="allocation")
        if len(self.treatments) * max([a.share for a in self.allocation] + shares, default=0) >= 1:
            key = "allocation" if self.allocation else "ramp"
            raise SpecError("the treatments' shares leave nothing for control", key=key)
        if self.start and self.end and self.end <= self.start:
            raise SpecError("it must come after start", key="end")
        self._derived = {"cost": cost_tree(self.prices)}
        for metric in self.metrics:
            metric.bind(self._derived)
        self.where_expression()
        _unique("segments", [s.key for s in self.segments])
        for segment in self.segments:
            segment.expression(self._derived)
        for metric in self.guardrails:
            check_levels(metric, self.segments)
        check_policy(self.policy, self.freshness, self.guardrails, shadow=any(s.stage == "shadow" for s in self.ramp))
        check_shadow(self.shadow, self.metrics)
        return self

    # -- derived -------------------------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """Return the folder that relative paths in the spec start from: the file's own, else the current one."""
        return self._folder

    @property
    def arm_names(self) -> list[str]:
        """Return control first, then the treatments."""
        return [self.control, *self.treatments]

    @property
    def guardrails(self) -> list[MetricSpec]:
        """Return the metrics with a guardrail."""
        return [m for m in self.metrics if m.guardrail]

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """Return what the scan measures: one a metric, in their order, then the parts of metrics that have some."""
        parts = (part for metric in self.metrics for part in metric.parts())
        return (*(metric.measure() for metric in self.metrics), *parts)

    def parts_of(self, j: int) -> tuple[int, ...]:
        """Return the places of a metric's parts among `measures`."""
        start = len(self.metrics) + sum(len(metric.parts()) for metric in self.metrics[:j])
        return tuple(range(start, start + len(self.metrics[j].parts())))

    def guarded_levels(self, key: str) -> list[str]:
        """Return the levels of a segment key that are guardrails, sorted."""
        listed = {split_level(text) for m in self.guardrails if m.guardrail for text in m.guardrail.segments}
        return sorted(level for name, level in listed if name == key)

    def level_sql(self, segment: Segment, levels: Sequence[str] | None = None) -> str:
        """Return the expression of a call's level (see `Segment.level_sql`)."""
        return segment.level_sql(levels, self._derived)

    def where_expression(self) -> Expression | None:
        """Return the population filter, checked."""
        where = self.population.where
        if where is None:
            return None
        return parse(where, key="population.where", want="boolean", derived=self._derived)

    @property
    def default_notes(self) -> list[str]:
        """Return in sentences what the spec left to others: defaults of the catalogue, and where costs come from."""
        notes = [sentence for metric in self.metrics if (sentence := default_sentence(metric))]
        if any("cost_usd" in m.measure().columns for m in self.metrics):
            notes.append(self.prices.sentence())
        return notes

    def halt_alpha(self, metric: MetricSpec) -> float:
        """Return one test's share of the halt budget: weights over treatments x halt guardrails x their tests (STATISTICS §9).

        A guardrail with `segments` makes several tests, one on all traffic and one a level; each has the weight of the guardrail.
        """
        halting = [m for m in self.guardrails if m.guardrail and m.guardrail.action == "halt"]
        if not metric.guardrail:
            return self.budget.halt
        # A `hold` guardrail spends nothing of the budget; its harm bound is shown at an equal share.
        own = metric.guardrail.weight * metric.guardrail.tests
        total = max(sum(m.guardrail.weight * m.guardrail.tests for m in halting if m.guardrail), own)
        return self.budget.halt * metric.guardrail.weight / total / len(self.treatments)

    def policy_dict(self) -> dict[str, Any]:
        """Return what decides, canonically: everything but descriptions, sources and the actuators' addresses."""
        data = self.model_dump(
            mode="json",
            exclude={
                "description": True,
                "halt": True,
                "format": True,
                "shadow": True,
                "prices": {"file": True, "sha256": True, "model": {"__all__": {"source"}}},
            },
        )
        for metric in data["metrics"]:
            # Where a default came from decides nothing; what it is does.
            metric.pop("description", None)
            metric.pop("catalogue", None)
            # A key that asks for nothing is as good as none: policies from before it have the same hash.
            if metric["mature_after"] is None:
                del metric["mature_after"]
            if metric["guardrail"] and not metric["guardrail"]["segments"]:
                del metric["guardrail"]["segments"]
        data["policy"] = self.policy.hashed()
        guarded = [s for s in self.segments if self.guarded_levels(s.key)]
        del data["segments"]  # what is only looked at decides nothing
        return {**data, "segments": [{"name": s.key, "by": s.by} for s in guarded]} if guarded else data

    def policy_sha256(self, frozen: Mapping[str, Any] | None = None) -> str:
        """Return the hash of the policy and its frozen constants."""
        return canonical_sha256({"policy": self.policy_dict(), "frozen": frozen or {}})

    # -- reading -------------------------------------------------------------------------------------------------

    @classmethod
    def from_toml(cls, path: str | Path) -> Experiment:
        """Read an experiment file; raises SpecError with file, key and hint."""
        data = read_toml(path, kind="an experiment file", hint="`abtest init DIR` writes a starter file")
        experiment = cls._checked(data, str(path), Path(path).parent, reread=True)
        experiment._folder = Path(path).parent  # noqa: SLF001 - our own; pydantic keeps private attributes out of the constructor
        return experiment

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, file: str | None = None) -> Experiment:
        """Check a mapping with the keys of the TOML file; raises SpecError.

        A price book named in it is read from the current folder, unless its rows (and sha256) are there already.
        """
        return cls._checked(data, file, Path(), reread=False)

    @classmethod
    def _checked(cls, data: Mapping[str, Any], file: str | None, folder: Path, *, reread: bool) -> Experiment:
        # Whoever calls from Python may pass anything.
        if not isinstance(data, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SpecError("a mapping with the keys of an experiment file is needed", file=file)
        try:
            complete = dict(data)
            if isinstance(complete.get("prices"), Mapping):
                complete["prices"] = read_book(complete["prices"], folder, reread=reread)
            return cls.model_validate(complete)
        except ValidationError as error:
            raise spec_error(error, data, file, cls) from None
        except SpecError as error:
            error.file = error.file or file
            raise


def _unique(key: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise SpecError(f"{name!r} is there twice", key=key)
        seen.add(name)


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys, no spaces and no NaN: the text that hashes are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False, default=str)


def canonical_sha256(value: Any) -> str:
    """Return the sha256 of the canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the experiment file, for completion in editors."""
    from abtest.spec_schema import schema_of

    return schema_of(Experiment)
