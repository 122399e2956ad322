"""`--map FILE.toml`: any other NDJSON (JSON, CSV, Parquet), named field by field; and the presets that ship with it.

A map says where each native field stands in a record of the log, as a JSON path or as a table; docs/formats/map.md is
its reference. It cannot read files, call anything or evaluate anything.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from abtest.errors import SpecError, UnknownNameError, did_you_mean
from abtest.ingest.base import Format, Ignored, Item, mapping, parse_object, reject
from abtest.ingest.jsonpath import JsonPath
from abtest.ingest.labels import LIMIT
from abtest.ingest.mapped_field import FieldError, FieldMap
from abtest.ingest.mapped_spec import Rule, Spec, read_spec
from abtest.ingest.validate import from_fields

PRESETS = "presets"
SIZE_LIMIT = 1024 * 1024


class Mapped(Format):
    """The format that a map describes."""

    name = "map"
    description = "any JSON records, by a map of your own"

    def __init__(self, name: str, spec: Spec) -> None:
        """Take a checked map; `name` becomes the `source` of its rows."""
        vars(self).update(name=name, description=f"JSON records by the map {name}")
        self._spec = spec

    def sniff(self, objects: Sequence[Mapping[str, Any]]) -> float:
        """Share of objects that a rule of the map takes. A map is never chosen by itself: it is asked for."""
        return sum(any(rule.holds(mapping(each)) for rule in self._spec.rules) for each in objects) / len(objects)

    def read(self, line: bytes, number: int, offset: int) -> Sequence[Item]:
        """Read one record: each rule that holds gives one; none at all is ignored."""
        body = parse_object(line)
        if isinstance(body, str):
            return (reject(line, number, offset, body),)
        found = [
            item for rule in self._spec.rules if rule.holds(body) and (item := self._build(rule, body)) is not None
        ]
        return [reject(line, number, offset, item) if isinstance(item, str) else item for item in found] or [Ignored()]

    def _build(self, rule: Rule, body: dict[str, Any]) -> Item | str | None:
        """Return the record, the reason why there is none, or None when the map gives it no type."""
        try:
            kind = rule.kind_of(body, self._spec.nulls)
            if kind is None:
                return None
            fields = {each.field: each.read(body, self._spec.nulls) for each in rule.fields[kind]}
        except FieldError as error:
            return f"bad_value: {error}"
        if kind == "interaction":
            fields["attributes"] = {
                name: value for path, name in rule.attributes for name, value in _kept(path, name, body)
            }
        item = from_fields(kind, fields)
        return _named(item, rule.fields[kind]) if isinstance(item, str) else item


def _kept(path: JsonPath, name: str, body: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return what is kept in `attributes`: small and plain values only."""
    value = path.find(body)
    pairs = list(mapping(value).items()) if path.every else [(name, value)]
    return [(key, each) for key, each in pairs if _is_plain(each)]


def _is_plain(value: Any) -> bool:
    return (isinstance(value, str) and 0 < len(value) <= LIMIT) or isinstance(value, (bool, int, float))


def _named(reason: str, fields: Sequence[FieldMap]) -> str:
    """Say in a `missing` reason where the map looked."""
    if not reason.startswith("missing: "):
        return reason
    missing = reason.removeprefix("missing: ").split(", ")
    places = [path.text for each in fields if each.field in missing for path in each.paths]
    return f"{reason} ({', '.join(places)})" if places else reason


def presets() -> list[str]:
    """Return the names of the maps that ship with abtest."""
    folder = resources.files("abtest.ingest").joinpath(PRESETS)
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_map(path: Path) -> Format:
    """Read a map file, or a preset by its name.

    Args:
        path: A TOML file; or the bare name of a preset ("helicone").

    Returns:
        A format for `load(..., fmt=...)`.

    Raises:
        SpecError: The file cannot be read, or says something that is no map; names file and key.
    """
    file = str(path)
    if path.is_file():
        try:
            with path.open("rb") as stream:
                raw = stream.read(SIZE_LIMIT + 1)
        except OSError as error:
            raise SpecError(f"cannot be read: {error.strerror or error}", file=file) from error
        if len(raw) > SIZE_LIMIT:
            raise SpecError("is no map: larger than 1 MB", file=file)
        stem = re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_")
        return Mapped(f"map_{stem}" if stem else "map", _spec(raw, file))
    if file not in presets():
        message = "there is no such map file" if path.suffix or len(path.parts) > 1 else "there is no such map"
        raise UnknownNameError(message, file=file, key="map", hint=did_you_mean(file, presets()))
    return Mapped(file, _spec(resources.files("abtest.ingest").joinpath(PRESETS, f"{file}.toml").read_bytes(), file))


def _spec(raw: bytes, file: str) -> Spec:
    try:
        table = tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise SpecError("is not UTF-8 text", file=file) from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SpecError(f"is no TOML: {error}", file=file) from error
    return read_spec(table, file)
