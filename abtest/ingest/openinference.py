"""OpenInference (Arize Phoenix and its instrumentations): spans named `llm.*`, read by the OpenTelemetry reader.

Source: Arize-ai/openinference, spec/semantic_conventions.md and spec/annotations.md. The spans come as OTLP/JSON, as OTLP
protobuf, as protobuf's own JSON with base64 ids, or as the SDK's console form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from abtest.ingest import otel
from abtest.ingest.base import Format, Item
from abtest.ingest.otel_span import KIND_OPENINFERENCE


class OpenInference(Format):
    """OpenTelemetry spans of which at least one says `openinference.span.kind`."""

    name: ClassVar[str] = "openinference"
    description: ClassVar[str] = "OpenInference spans: OTLP/JSON export requests, or the SDK's console form"

    def sniff(self, objects: Sequence[Mapping[str, Any]]) -> float:
        """0.95 times the share of OpenTelemetry objects when a span among them has its kind, else 0."""
        return 0.95 * otel.share(objects) if any(otel.holds(value, KIND_OPENINFERENCE) for value in objects) else 0.0

    def read(self, line: bytes, number: int, offset: int) -> Sequence[Item]:
        """Read one export request or one console span."""
        return otel.read(line, number, offset)


FORMAT = OpenInference()
