"""Anthropic objects as they come back: Messages and Message Batches result lines; bare or wrapped.

A Message carries no time, so a bare one is rejected with the advice to wrap it. `input_tokens` leaves the cache out:
fresh, cache-write and cache-read tokens are added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from abtest.ingest import provider_log
from abtest.ingest.base import Format, Item, mapping
from abtest.ingest.provider import shape


class Anthropic(Format):
    """One Message, one batch result line or one wrapped line each."""

    name: ClassVar[str] = "anthropic"
    description: ClassVar[str] = "Anthropic Messages and batch results, wrapped with a time"

    def sniff(self, objects: Sequence[Mapping[str, Any]]) -> float:
        """0.98 for a Message, a batch result or a wrapped one, 0.6 for an error body; mean over all objects."""
        return sum(_likeness(mapping(value)) for value in objects) / len(objects)

    def read(self, line: bytes, number: int, offset: int) -> Sequence[Item]:
        """Read one line."""
        return provider_log.read(line, number, offset)


def _likeness(value: dict[str, Any]) -> float:
    if provider_log.is_wrapped(value):
        inner = mapping(value.get("response"))
        theirs = value.get("provider") == "anthropic" or mapping(value.get("error")).get("type") == "error"
        return 0.98 if _is_answer(inner) or theirs else 0.0
    if _is_answer(value):
        return 0.98
    return 0.6 if value.get("type") == "error" and mapping(value.get("error")) else 0.0


def _is_answer(value: dict[str, Any]) -> bool:
    return shape(value) == "message" or ("custom_id" in value and "type" in mapping(value.get("result")))


FORMAT = Anthropic()
