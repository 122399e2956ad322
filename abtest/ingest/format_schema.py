"""Does an answer keep the format it promised? Checks answers against a JSON Schema, with bounds on everything.

An answer must be one JSON value and nothing else: a fence around it, a word before it, a comma too many break the parser
behind it, and so they are no valid format here. Answers that are too long, too deep or take too many steps are not judged
(None), never guessed.

Schemas and answers may be hostile: nothing is fetched (only references inside the file are followed), patterns run on an
engine without backtracking, and the number of steps is limited.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from abtest.errors import SpecError
from abtest.records import GENERATION, AnyRecord, Interaction

LARGEST_SCHEMA = 1024 * 1024
LARGEST_ANSWER = 1024 * 1024
MOST_STEPS = 20_000
"""Keywords of the schema that are applied to one answer; a usual answer takes some dozens."""
_DIGITS = 400
_NAMES = frozenset({"properties", "$defs", "definitions", "dependentSchemas"})
"""Keywords whose keys are names, not keywords."""
_VALUES = frozenset({"enum", "const", "default", "examples"})
_REFUSED = {
    "patternProperties": "name the properties, or leave their values open",
    "$dynamicRef": "use $ref",
}
_Keyword = Callable[[Any, Any, Any, Any], Any]


class _TooManyStepsError(Exception):
    """The answer takes too long to judge."""


class FormatSchema:
    """A JSON Schema that answers are checked against.

    Args:
        schema: The schema, as parsed JSON.
        file: Its name, for messages.

    Raises:
        SpecError: It is no JSON Schema, refers to something outside, or uses what is not checked.
    """

    def __init__(self, schema: Any, *, file: str = "schema") -> None:
        from jsonschema import Draft202012Validator, exceptions, validators
        from referencing import Registry

        if not isinstance(schema, dict):
            raise SpecError("is no JSON Schema: an object is needed", file=file)
        patterns: dict[str, Any] = {}
        for keyword, value in _keywords(schema):
            if keyword in _REFUSED:
                raise SpecError(f"{keyword} is not checked", file=file, key=keyword, hint=_REFUSED[keyword])
            if keyword == "$ref" and not (isinstance(value, str) and value.startswith("#")):
                raise SpecError(
                    f"refers to something outside: {str(value)[:100]!r}",
                    file=file,
                    key="$ref",
                    hint="put it into $defs",
                )
            if keyword == "pattern" and isinstance(value, str):
                patterns[value] = _pattern(value, file)
        base: Any = validators.validator_for(schema, default=Draft202012Validator)
        try:
            base.check_schema(schema)
        except exceptions.SchemaError as error:
            where = "/".join(map(str, error.absolute_path))
            raise SpecError(f"is no JSON Schema: {error.message[:200]}", file=file, key=where or None) from None
        except RecursionError:
            raise SpecError("is nested too deeply", file=file) from None
        self._steps = 0
        own: dict[str, _Keyword] = {"uniqueItems": _unique, "pattern": partial(_matches, patterns)}
        counted = {name: self._counted(own.get(name) or run) for name, run in base.VALIDATORS.items()}
        self._validator: Any = validators.extend(base, counted)(schema, registry=Registry())

    @classmethod
    def from_file(cls, path: str | Path) -> FormatSchema:
        """Read a schema; raises SpecError."""
        file = Path(path)
        try:
            if file.stat().st_size > LARGEST_SCHEMA:
                raise SpecError(f"is larger than {LARGEST_SCHEMA:,} bytes", file=str(path))
            schema = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise SpecError(f"cannot be read: {error.strerror}", file=str(path)) from None
        except (ValueError, RecursionError) as error:
            raise SpecError(f"is no JSON: {str(error).splitlines()[0]}", file=str(path)) from None
        return cls(schema, file=str(path))

    def check(self, answer: str) -> bool | None:
        """Return whether an answer keeps the format; None where that is not judged."""
        from referencing.exceptions import Unresolvable

        if len(answer) > LARGEST_ANSWER:
            return None
        try:
            value = json.loads(answer, parse_constant=_refuse, parse_int=_integer)
        except ValueError:
            return False
        except RecursionError:
            return None
        self._steps = 0
        try:
            return next(self._validator.iter_errors(value), None) is None
        except (_TooManyStepsError, RecursionError, ArithmeticError, Unresolvable):
            return None

    def _counted(self, run: _Keyword) -> _Keyword:
        def step(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
            self._steps += 1
            if self._steps > MOST_STEPS:
                raise _TooManyStepsError
            return run(validator, value, instance, schema)

        return step


@dataclass(frozen=True)
class FormatRule:
    """Answers on a surface (None: on all of them) keep a schema."""

    schema: FormatSchema
    surface: str | None = None


@dataclass(frozen=True)
class FormatChecks:
    """Fills `format_ok` of calls whose log has the answer and does not say; what the log says stays."""

    rules: Sequence[FormatRule]

    def __call__(self, record: AnyRecord) -> AnyRecord:
        """Return the record with `format_ok` filled, or as it was."""
        if not isinstance(record, Interaction) or record.format_ok is not None or record.response_text is None:
            return record
        if record.is_error or (record.operation is not None and record.operation not in GENERATION):
            return record
        for rule in self.rules:
            if rule.surface in (None, record.surface):
                found = rule.schema.check(record.response_text)
                return record if found is None else record.model_copy(update={"format_ok": found})
        return record


def format_checks(given: Sequence[str]) -> FormatChecks | None:
    """Return the checks of `--format-schema [SURFACE=]FILE`; rules with a surface come first. None without any.

    Raises:
        SpecError: A schema that cannot be used.
    """
    rules: list[FormatRule] = []
    for text in given:
        surface, sign, path = text.partition("=")
        if sign and not Path(text).exists():
            rules.append(FormatRule(FormatSchema.from_file(path), surface))
        else:
            rules.append(FormatRule(FormatSchema.from_file(text)))
    return FormatChecks(sorted(rules, key=lambda r: r.surface is None)) if rules else None


# -- keywords ------------------------------------------------------------------------------------------------------------


def _keywords(schema: Any) -> Iterator[tuple[str, Any]]:
    """Yield every keyword of a schema and of the schemas in it."""
    waiting: list[Any] = [schema]
    while waiting:
        here = waiting.pop()
        if isinstance(here, list):
            waiting += here
        elif isinstance(here, dict):
            for key, value in here.items():
                yield str(key), value
                if key in _NAMES and isinstance(value, Mapping):
                    waiting += value.values()
                elif key not in _VALUES:
                    waiting.append(value)


def _pattern(text: str, file: str) -> Any:
    """Return a pattern for an engine whose time is linear in the text."""
    from pydantic_core import SchemaError, SchemaValidator, core_schema

    try:
        return SchemaValidator(core_schema.str_schema(pattern=text))
    except SchemaError:
        raise SpecError(
            f"the pattern {text[:100]!r} cannot be used",
            file=file,
            key="pattern",
            hint="no look-around, no references back",
        ) from None


def _matches(patterns: Mapping[str, Any], validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:  # noqa: ARG001
    from jsonschema import ValidationError

    if isinstance(instance, str) and not patterns[pattern].isinstance_python(instance):
        yield ValidationError("does not match its pattern")


def _unique(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:  # noqa: ARG001
    from jsonschema import ValidationError

    if wanted and isinstance(instance, list):
        items: list[Any] = instance
        if len({_canonical(item) for item in items}) < len(items):
            yield ValidationError("has an item twice")


def _canonical(item: Any) -> str:
    """Return a text that equal values share: 1 and 1.0 are equal, true and 1 are not."""
    return json.dumps(_plain(item), sort_keys=True)


def _plain(item: Any) -> Any:
    if isinstance(item, dict):
        return {k: _plain(v) for k, v in item.items()}
    if isinstance(item, list):
        return [_plain(v) for v in item]
    return int(item) if isinstance(item, float) and item.is_integer() else item


def _integer(text: str) -> int | float:
    return int(text) if len(text) <= _DIGITS else float(text)


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
