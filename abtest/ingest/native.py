"""The native format of abtest: one interaction, assignment or score a line, with the names of `abtest.records`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from abtest.ingest.base import Format, Item, reject
from abtest.ingest.validate import MODELS, from_json


class Native(Format):
    """NDJSON in abtest's own names."""

    name: ClassVar[str] = "native"
    description: ClassVar[str] = "abtest's own NDJSON: interaction, assignment and score records"
    is_native: ClassVar[bool] = True

    def sniff(self, objects: Sequence[Mapping[str, Any]]) -> float:
        """Share of the keys that are names of the record type, 0 without any id of ours."""
        return sum(map(_likeness, objects)) / len(objects)

    def read(self, line: bytes, number: int, offset: int) -> Sequence[Item]:
        """Validate the line; one record or one reject."""
        record = from_json(line)
        if isinstance(record, str):
            return (reject(line, number, offset, record),)
        return (record,)


def _likeness(value: Mapping[str, Any]) -> float:
    kind = value.get("type", "interaction")
    model = MODELS.get(kind) if isinstance(kind, str) else None
    if model is None or not value:
        return 0.0
    return sum(key in model.model_fields for key in value) / len(value)


FORMAT = Native()
