"""The map file, checked: every mistake is an error that names the key and says what to write."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from abtest.errors import SpecError, UnknownNameError, did_you_mean
from abtest.ingest.base import mapping
from abtest.ingest.jsonpath import EXAMPLES, JsonPath, compile_path
from abtest.ingest.mapped_field import COUNTS, EPOCHS, FLAGS, NUMBERS, TIMES, FieldMap, same
from abtest.ingest.validate import MODELS

KINDS = tuple(MODELS)
NAMES = {
    kind: tuple(name for name in model.model_fields if name not in ("type", "attributes"))
    for kind, model in MODELS.items()
}
REQUIRED = {
    kind: tuple(name for name, info in model.model_fields.items() if info.is_required())
    for kind, model in MODELS.items()
}
TOP = ("nulls", *KINDS)
OPTIONS = ("path", "value", "default", "values", "scale", "from", "tag_prefix", "join", "at_least", "hash")
Table = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Condition:
    """One line of `when`.

    Attributes:
        path: Where to look.
        among: The values that hold; None when only presence counts.
        exists: Whether a value has to be there.
        negated: Turns the condition round.
    """

    path: JsonPath
    among: tuple[Any, ...] | None = None
    exists: bool = True
    negated: bool = False

    def holds(self, body: dict[str, Any]) -> bool:
        """Tell whether a record fulfils it."""
        value = self.path.find(body)
        if self.among is None:
            return (value is not None) is self.exists
        return any(same(value, each) for each in self.among) is not self.negated


@dataclass(frozen=True, slots=True)
class Rule:
    """Which records it takes, and what becomes of them.

    Attributes:
        when: All of them have to hold.
        kind: The type of record; None when `chooser` tells it for each record.
        chooser: The field `type` of the map.
        fields: What fills which field, by type of record.
        attributes: What is kept beside the columns: path and name.
    """

    when: tuple[Condition, ...]
    kind: str | None
    fields: dict[str, tuple[FieldMap, ...]]
    chooser: FieldMap | None = None
    attributes: tuple[tuple[JsonPath, str], ...] = field(default=())

    def holds(self, body: dict[str, Any]) -> bool:
        """Tell whether a record is one of this rule's."""
        return all(condition.holds(body) for condition in self.when)

    def kind_of(self, body: dict[str, Any], nulls: frozenset[str]) -> str | None:
        """Return the type of the record; None when the map names none for it."""
        if self.kind is not None or self.chooser is None:
            return self.kind
        told = self.chooser.read(body, nulls)
        return told if told in self.fields else None


@dataclass(frozen=True, slots=True)
class Spec:
    """A whole map.

    Attributes:
        rules: All rules; each one that holds gives a record.
        nulls: Texts that mean "no value", such as "-".
    """

    rules: tuple[Rule, ...]
    nulls: frozenset[str]


def read_spec(table: Table, file: str) -> Spec:
    """Check a parsed map file.

    Raises:
        SpecError: Something in it is no map; names file and key.
    """
    return _Reader(file).spec(table)


class _Reader:
    """Reads one file; remembers its name for the errors."""

    def __init__(self, file: str) -> None:
        self._file = file

    def spec(self, table: Table) -> Spec:
        nulls = table.get("nulls", [])
        if not isinstance(nulls, list) or not all(isinstance(each, str) for each in nulls):  # pyright: ignore[reportUnknownVariableType]
            raise self._error("nulls", "a list of texts is needed", 'write nulls = ["-"]')
        flat = {key: value for key, value in table.items() if key != "nulls" and not self._is_section(key, value)}
        sections = [
            (key, each) for key, value in table.items() if self._is_section(key, value) for each in _listed(value)
        ]
        rules = [self._rule(kind, each, kind) for kind, each in sections]
        if flat:
            rules.append(self._flat(flat))
        if not rules:
            raise self._error(
                None, "the map is empty", f"needed for an interaction: {', '.join(REQUIRED['interaction'])}"
            )
        return Spec(tuple(rules), frozenset(nulls))  # pyright: ignore[reportUnknownArgumentType]

    def _is_section(self, key: str, value: Any) -> bool:
        return key in KINDS and (
            isinstance(value, dict) or (isinstance(value, list) and all(isinstance(each, dict) for each in value))
        )  # pyright: ignore[reportUnknownVariableType]

    def _flat(self, table: Table) -> Rule:
        """Read fields at the top of the file: of one type of record, or of the type that each record tells."""
        kind = table.get("type", "interaction")
        if isinstance(kind, str) and not kind.startswith("$"):
            if kind not in KINDS:
                raise self._error("type", f"{kind!r} is no type of record", f"write one of {', '.join(KINDS)}")
            return self._rule(kind, {key: value for key, value in table.items() if key != "type"}, "")
        chooser = self._field("type", "type", kind)
        told = set(mapping(chooser.values).values()) | {chooser.default} - {None} if chooser.values else set(KINDS)
        if not told <= set(KINDS):
            raise self._error("type.values", "a value is no type of record", f"known: {', '.join(KINDS)}")
        chooser = FieldMap("type", chooser.paths, values=chooser.values, default=chooser.default or "")
        body = {key: value for key, value in table.items() if key not in ("type", "when", "attributes")}
        union = {name for each in told for name in NAMES[each]}
        self._known(body, union, "")
        rules = {each: self._fields(each, {k: v for k, v in body.items() if k in NAMES[each]}, "") for each in told}
        return Rule(self._when(table, ""), None, rules, chooser, self._attributes(table, ""))

    def _rule(self, kind: str, table: Table, where: str) -> Rule:
        body = {key: value for key, value in table.items() if key not in ("when", "attributes")}
        self._known(body, set(NAMES[kind]), where)
        if kind != "interaction" and "attributes" in table:
            raise self._error(
                _at(where, "attributes"), f"only an interaction has attributes, not {kind}", "leave it out"
            )
        return Rule(
            self._when(table, where),
            kind,
            {kind: self._fields(kind, body, where)},
            None,
            self._attributes(table, where),
        )

    def _known(self, body: Table, names: set[str], where: str) -> None:
        for key in body:
            if key not in names:
                known = sorted({*names, *TOP, "type", "when", "attributes"})
                raise UnknownNameError(
                    f"there is no field {key!r}", file=self._file, key=_at(where, key), hint=did_you_mean(key, known)
                )

    def _fields(self, kind: str, body: Table, where: str) -> tuple[FieldMap, ...]:
        missing = [name for name in REQUIRED[kind] if name not in body]
        if missing:
            raise self._error(
                _at(where, missing[0]), f"{kind} needs {', '.join(missing)}", f'write {missing[0]} = "$.name"'
            )
        return tuple(self._field(name, _at(where, name), value) for name, value in body.items())

    def _field(self, name: str, key: str, value: Any) -> FieldMap:
        if isinstance(value, (str, list)):
            return FieldMap(name, self._paths(key, value))
        if not isinstance(value, dict):
            return FieldMap(name, constant=self._constant(name, key, value))
        table: dict[str, Any] = mapping(value)
        for option in table:
            if option not in OPTIONS:
                raise UnknownNameError(
                    f"there is no option {option!r}",
                    file=self._file,
                    key=f"{key}.{option}",
                    hint=did_you_mean(option, OPTIONS),
                )
        if "value" in table:
            if len(table) > 1:
                raise self._error(
                    key, "a constant has no other options", 'write { value = "..." } or { path = "$..." }'
                )
            return FieldMap(name, constant=self._constant(name, f"{key}.value", table["value"]))
        source = "hash" if "hash" in table else "path"
        if source not in table or {"hash", "path"} <= table.keys():
            raise self._error(key, "exactly one of path, value and hash is needed", EXAMPLES)
        return FieldMap(
            name,
            self._paths(f"{key}.{source}", table[source]),
            default=self._constant(name, f"{key}.default", table.get("default")),
            values=self._values(name, key, table.get("values")),
            scale=self._number(f"{key}.scale", table.get("scale")),
            time_format=self._time_format(name, key, table.get("from")),
            tag_prefix=self._prefixes(key, table.get("tag_prefix")),
            join=self._text(f"{key}.join", table.get("join")),
            at_least=self._number(f"{key}.at_least", table.get("at_least")),
            hashed=source == "hash",
        )

    def _paths(self, key: str, value: Any) -> tuple[JsonPath, ...]:
        texts: list[Any] = value if isinstance(value, list) else [value]
        if not texts:
            raise self._error(key, "an empty list of paths", EXAMPLES)
        return tuple(self._path(key, each) for each in texts)

    def _path(self, key: str, value: Any, *, every: bool = False) -> JsonPath:
        path = compile_path(value) if isinstance(value, str) else f"{value!r} is no JSON path"
        if isinstance(path, str):
            hint = EXAMPLES
            if isinstance(value, str) and not value.startswith("$"):
                hint = f"{EXAMPLES}; a constant is {{ value = {value!r} }}"[:300]
            raise self._error(key, path[:300], hint)
        if path.every and not every:
            raise self._error(key, f"{path.text!r}: only attributes may end in .*", EXAMPLES)
        return path

    def _constant(self, name: str, key: str, value: Any) -> Any:
        """Check a constant by the type of its field, so that not every record fails for it."""
        if value is None:
            return None
        if name in TIMES:
            raise self._error(key, "a time cannot be a constant", EXAMPLES)
        if name in FLAGS:
            good = isinstance(value, bool)
        elif name in NUMBERS or name in COUNTS:
            whole = name in COUNTS
            good = (
                isinstance(value, int if whole else (int, float))
                and not isinstance(value, bool)
                and math.isfinite(value)
            )
        else:
            good = isinstance(value, str) and bool(value)
        if not good:
            kind = "true or false" if name in FLAGS else "a number" if name in NUMBERS or name in COUNTS else "a text"
            raise self._error(key, f"{value!r} is no value of {name}", f"write {kind}")
        return float(value) if name in NUMBERS else value

    def _values(self, name: str, key: str, value: Any) -> dict[str, Any] | None:
        if value is None:
            return None
        table = mapping(value)
        if not table:
            raise self._error(f"{key}.values", "a table is needed", "write values = { good = 1, bad = 0 }")
        return {each: self._constant(name, f"{key}.values.{each}", told) for each, told in table.items()}

    def _number(self, key: str, value: Any) -> float | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self._error(key, f"{value!r} is no number", "write a number such as 1000")
        return value

    def _time_format(self, name: str, key: str, value: Any) -> str:
        if value is None:
            return "iso"
        if name not in TIMES:
            raise self._error(f"{key}.from", "only a time has from", f"fields: {', '.join(sorted(TIMES))}")
        if value != "iso" and value not in EPOCHS:
            raise self._error(f"{key}.from", f"{value!r} is no form of time", f"write one of iso, {', '.join(EPOCHS)}")
        return str(value)

    def _prefixes(self, key: str, value: Any) -> tuple[str, ...]:
        texts: list[Any] = [] if value is None else value if isinstance(value, list) else [value]
        if not all(isinstance(each, str) and each for each in texts):
            raise self._error(f"{key}.tag_prefix", "a text is needed", 'write tag_prefix = "variant:"')
        return tuple(texts)

    def _text(self, key: str, value: Any) -> str | None:
        if value is not None and not isinstance(value, str):
            raise self._error(key, "a text is needed", 'write join = ":"')
        return value

    def _when(self, table: Table, where: str) -> tuple[Condition, ...]:
        told = table.get("when", {})
        if not isinstance(told, dict):
            raise self._error(_at(where, "when"), "a table is needed", 'write when = { "$.event" = "completion" }')
        return tuple(self._condition(_at(where, "when"), path, value) for path, value in mapping(told).items())

    def _condition(self, where: str, text: str, value: Any) -> Condition:
        key = f"{where}.{text}"
        path = self._path(key, text)
        if not isinstance(value, dict):
            return Condition(path, tuple(value) if isinstance(value, list) else (value,))  # pyright: ignore[reportUnknownArgumentType]
        told = mapping(value)
        if list(told) == ["exists"] and isinstance(told["exists"], bool):
            return Condition(path, exists=told["exists"])
        if list(told) == ["not"]:
            return Condition(path, tuple(_listed(told["not"])), negated=True)
        raise self._error(key, "no condition", "write a value, a list of values, { exists = true } or { not = ... }")

    def _attributes(self, table: Table, where: str) -> tuple[tuple[JsonPath, str], ...]:
        told = table.get("attributes", [])
        key = _at(where, "attributes")
        if isinstance(told, dict):
            return tuple((self._path(f"{key}.{name}", each), name) for name, each in mapping(told).items())
        if not isinstance(told, list):
            raise self._error(
                key, "a list of paths or a table of name and path is needed", 'write attributes = ["$.country"]'
            )
        return tuple((path, path.name) for each in _listed(told) for path in [self._path(key, each, every=True)])

    def _error(self, key: str | None, message: str, hint: str) -> SpecError:
        return SpecError(message, file=self._file, key=key, hint=hint)


def _at(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]  # pyright: ignore[reportUnknownVariableType]
