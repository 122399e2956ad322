"""OpenAI objects as they come back: Chat Completions, Responses, embeddings, batch output lines; bare or wrapped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from abtest.ingest import provider_log
from abtest.ingest.base import Format, Item, items, mapping
from abtest.ingest.provider import shape

SHAPES = ("chat", "text", "response", "embeddings")


class OpenAI(Format):
    """One answer, one page of stored answers, one batch output line or one wrapped line each."""

    name: ClassVar[str] = "openai"
    description: ClassVar[str] = "OpenAI answers and batch output lines, bare or wrapped with a time"

    def sniff(self, objects: Sequence[Mapping[str, Any]]) -> float:
        """0.97 for an answer or batch line, 0.96 for any other wrapped line, 0.6 for an error body; mean over all."""
        return sum(_likeness(mapping(value)) for value in objects) / len(objects)

    def read(self, line: bytes, number: int, offset: int) -> Sequence[Item]:
        """Read one line."""
        return provider_log.read(line, number, offset)


def _likeness(value: dict[str, Any]) -> float:
    if provider_log.is_wrapped(value):
        inner = mapping(value.get("response"))
        return 0.97 if _is_answer(inner) or value.get("provider") == "openai" else 0.96
    if _is_answer(value):
        return 0.97
    page = items(value.get("data")) if value.get("object") == "list" else []
    if page and all(shape(mapping(each)) in SHAPES for each in page):
        return 0.97
    error = mapping(value.get("error"))
    return 0.6 if "message" in error and "type" in error and "type" not in value else 0.0


def _is_answer(value: dict[str, Any]) -> bool:
    batched = "custom_id" in value and "response" in value and "error" in value
    return batched or shape(value) in SHAPES or value.get("object") == "chat.completion.chunk"


FORMAT = OpenAI()
