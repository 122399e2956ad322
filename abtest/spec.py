"""What is asked: one experiment, read from TOML, with errors that name the file, the key, and what to write instead."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import reduce
from ipaddress import ip_address
from itertools import pairwise
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AwareDatetime, Field, PrivateAttr, TypeAdapter, ValidationError, field_validator, model_validator

from abtest.errors import SpecError, did_you_mean
from abtest.metrics.base import MetricSpec, Name, Positive, Strict, kinds
from abtest.metrics.expressions import Expression, parse

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
    min_units: Annotated[int, Field(ge=0)] = 0
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


class Freshness(Strict):
    """How old the newest row may be, by the clock of the machine; without it only `watch` judges staleness."""

    max_age: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?[smhd]$", description="90s, 30m, 6h, 2d")]

    @property
    def seconds(self) -> float:
        """Return it in seconds."""
        return float(self.max_age[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[self.max_age[-1]]


class Policy(Strict):
    """What to do when time runs out."""

    on_timeout: Literal["hold", "halt", "promote_if_harmless"] = "hold"


class Experiment(Strict):
    """Everything that is asked about one release. `Experiment.from_toml(path)` reads it."""

    id: Identifier
    revision: Annotated[int, Field(ge=1)] = 1
    description: str = ""
    unit: Literal["user", "session", "request"] = "user"
    control: Name
    treatments: Annotated[list[Name], Field(min_length=1)]
    alpha: Alpha = 0.05
    start: AwareDatetime | None = None
    end: AwareDatetime | None = None
    warm_up_units: Annotated[int, Field(ge=30)] = 200
    budget: Budget = Budget()
    population: Population = Population()
    arms: Mapping[str, ArmManifest] = Field(default_factory=dict)
    metrics: Annotated[list[AnyMetric], Field(min_length=1)]  # type: ignore[valid-type]
    sequential: Sequential = Sequential()
    ramp: Sequence[RampStage] = ()
    traffic: Traffic = Traffic()
    allocation: Sequence[Allocation] = ()
    halt: Halt = Halt()
    policy: Policy = Policy()
    freshness: Freshness | None = None

    _folder: Path = PrivateAttr(default_factory=Path)

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        _unique("treatments", self.treatments)
        if self.control in self.treatments:
            raise ValueError(f"treatments: {self.control!r} is the control already")
        _unique("metrics", [m.name for m in self.metrics])
        for arm in self.arms:
            if arm not in self.arm_names:
                raise ValueError(f"arms.{arm}: no such arm; {did_you_mean(arm, self.arm_names)}")
        shares = [s.share for s in self.ramp if s.share is not None]
        if any(b <= a for a, b in pairwise(shares)):
            raise ValueError(f"ramp: shares must grow from stage to stage, these are {shares}")
        if any(s.stage == "shadow" for s in self.ramp[1:]):
            raise ValueError("ramp: a shadow stage comes first")
        if any(b.at <= a.at for a, b in pairwise(self.allocation)):
            raise ValueError("allocation: rows must be in order of time")
        if len(self.treatments) * max([a.share for a in self.allocation] + shares, default=0) >= 1:
            raise ValueError("the treatments' shares leave nothing for control")
        if self.start and self.end and self.end <= self.start:
            raise ValueError("end must come after start")
        if self.population.where:
            self.where_expression()
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

    def where_expression(self) -> Expression | None:
        """Return the population filter, checked."""
        return parse(self.population.where, key="population.where", want="boolean") if self.population.where else None

    def halt_alpha(self, metric: MetricSpec) -> float:
        """Return this guardrail's share of the halt budget (weights over treatments x halt guardrails; STATISTICS §9)."""
        halting = [m for m in self.guardrails if m.guardrail and m.guardrail.action == "halt"]
        if not metric.guardrail:
            return self.budget.halt
        # A `hold` guardrail spends nothing of the budget; its harm bound is shown at an equal share.
        total = sum(m.guardrail.weight for m in halting if m.guardrail) or metric.guardrail.weight
        total = max(total, metric.guardrail.weight)
        return self.budget.halt * metric.guardrail.weight / total / len(self.treatments)

    def policy_dict(self) -> dict[str, Any]:
        """Return what decides, canonically: everything but descriptions and the actuators' addresses."""
        data = self.model_dump(mode="json", exclude={"description", "halt"})
        for metric in data["metrics"]:
            metric.pop("description", None)
        return data

    def policy_sha256(self, frozen: Mapping[str, Any] | None = None) -> str:
        """Return the hash of the policy and its frozen constants."""
        return canonical_sha256({"policy": self.policy_dict(), "frozen": frozen or {}})

    # -- reading -------------------------------------------------------------------------------------------------

    @classmethod
    def from_toml(cls, path: str | Path) -> Experiment:
        """Read an experiment file; raises SpecError with file, key and hint."""
        file = Path(path)
        try:
            data = tomllib.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise SpecError("no such file", file=str(path), hint="`abtest init DIR` writes a starter file") from None
        except IsADirectoryError:
            raise SpecError("this is a folder, an experiment file is needed", file=str(path)) from None
        except UnicodeDecodeError:
            raise SpecError("not a text file", file=str(path), hint="an experiment file is TOML in UTF-8") from None
        except OSError as error:
            raise SpecError(f"cannot be read: {error.strerror}", file=str(path)) from None
        except tomllib.TOMLDecodeError as error:
            raise SpecError(f"not TOML: {error}", file=str(path)) from None
        experiment = cls.from_dict(data, file=str(path))
        experiment._folder = file.parent  # noqa: SLF001 - our own; pydantic keeps private attributes out of the constructor
        return experiment

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, file: str | None = None) -> Experiment:
        """Check a mapping with the keys of the TOML file; raises SpecError."""
        try:
            return cls.model_validate(dict(data))
        except ValidationError as error:
            raise _spec_error(error, data, file) from None
        except SpecError as error:
            error.file = error.file or file
            raise


def safe_url(url: str) -> str:
    """Return the address of a webhook, unchanged; raises ValueError when a message must not be sent there."""
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("an address has no spaces and only ASCII characters; write the name of the host in punycode")
    parts = urlsplit(url)
    host, port = parts.hostname, parts.port
    if parts.username is not None or parts.password is not None:
        raise ValueError("no user or password in the address: it is kept in the store; the message is signed instead")
    if not host or port == 0:
        raise ValueError('not an address; write url = "https://hooks.example.com/abtest"')
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise ValueError("must start with https:// (http:// only to 127.0.0.1, ::1 or localhost)")
    return url


def is_loopback(host: str) -> bool:
    """Return whether a host name or address can only mean this machine."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _unique(key: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{key}: {name!r} is there twice")
        seen.add(name)


def _spec_error(error: ValidationError, data: Mapping[str, Any], file: str | None) -> SpecError:
    """Turn the first pydantic error into one line; unknown keys first, because they explain missing ones."""
    problems = sorted(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
    first = problems[0]
    key, model = _locate(first["loc"], data)
    more = f"; and {len(problems) - 1} more problem{'s' if len(problems) > 2 else ''}" if len(problems) > 1 else ""
    kind, message, hint = first["type"], first["msg"], None
    if kind == "extra_forbidden":
        message = "unknown key"
        hint = did_you_mean(str(first["loc"][-1]), _field_names(model)) if model else None
    elif kind == "missing":
        message = "this key is missing"
    elif kind.startswith("union_tag"):
        key, message = f"{key}.kind", "a metric needs a kind"
        given = re.search(r"tag '([^']*)' found", first["msg"])
        hint = did_you_mean(given.group(1), kinds()) if given else f"one of {', '.join(kinds())}"
        message = f"{given.group(1)!r} is no metric kind" if given else message
    elif kind == "literal_error":
        given, known = first["input"], re.findall(r"'([^']*)'", first["msg"])
        message, hint = f"{given!r} is not possible here", did_you_mean(str(given), known)
    else:
        message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
        message = f"{message[:1].lower()}{message[1:]}" if kind != "value_error" else message
        if "input" in first and isinstance(first["input"], (str, int, float, bool)) and kind != "value_error":
            message += f", this is {first['input']!r}"
    return SpecError(f"{message}{more}", file=file, key=key or None, hint=hint)


def _locate(loc: tuple[int | str, ...], data: Mapping[str, Any]) -> tuple[str, type[Strict] | None]:
    """Return the key as a person would write it (metrics by name) and the model that holds its last part."""
    parts: list[str] = []
    model: type[Strict] | None = Experiment
    here: Any = data
    for position, step in enumerate(loc):
        if position == 2 and loc[0] == "metrics" and step in kinds():
            model = kinds()[str(step)]  # pydantic names the kind; a person does not write it
            continue
        here = (
            here[step]
            if isinstance(here, (list, tuple)) and isinstance(step, int) and step < len(here)
            else (here.get(step) if isinstance(here, Mapping) else None)
        )
        if isinstance(step, int):
            name = here.get("name") if isinstance(here, Mapping) else None
            parts[-1:] = [f"{parts[-1]}.{name}" if isinstance(name, str) else f"{parts[-1]}[{step}]"] if parts else []
            continue
        parts.append(step)
        if position < len(loc) - 1:
            model = _child(model, step)
    return ".".join(parts), model


def _child(model: type[Strict] | None, field: str) -> type[Strict] | None:
    if model is None or field not in model.model_fields:
        return model  # a name in a table of tables ([arms.candidate]) keeps the table's model
    stack: list[Any] = [model.model_fields[field].annotation]
    while stack:
        annotation = stack.pop()
        if isinstance(annotation, type) and issubclass(annotation, Strict):
            return annotation
        stack.extend(get_args(annotation))
    return None


def _field_names(model: type[Strict]) -> list[str]:
    return list(model.model_fields)


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys, no spaces and no NaN: the text that hashes are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False, default=str)


def canonical_sha256(value: Any) -> str:
    """Return the sha256 of the canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the experiment file, for completion in editors."""
    schema = TypeAdapter(Experiment).json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "abtest.schema.json", **schema}
