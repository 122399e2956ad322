"""One span of a model call to one interaction, whatever its dialect."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from abtest.ingest import labels, otel_facts
from abtest.ingest import otel_span as names
from abtest.ingest.base import Ignored, Item, items, mapping, whole_or_none
from abtest.ingest.otel_events import named
from abtest.ingest.otel_outcome import content, is_error, outcome, usage
from abtest.ingest.otlp import Part, as_text, is_hex, timestamp, unpack
from abtest.ingest.validate import from_fields

UNKNOWN = ""
"""The operation of a span that is a model call and does not say of which kind."""

LOOKED_FOR = {
    "ts": "startTimeUnixNano",
    "model": "gen_ai.request.model, llm.model_name, embedding.model_name or langfuse.observation.model.name",
}
"""Native field that a call cannot be without: where it was looked for."""

KINDS = {"chat": "chat", "completion": "text_completion", "embedding": names.EMBEDDINGS}


_PLACES = {
    name: (field, rank)
    for field, own in names.CONTEXT.items()
    for rank, name in enumerate(
        (
            *(name for name in own if name not in names.GENERAL),
            f"meta:{field}",
            *(name for name in own if name in names.GENERAL),
        )
    )
}
"""Attribute or fact: the native field that it carries, and how many names go before it."""


def with_facts(part: Part) -> Part:
    """Return the span with what its metadata and tags say; a model call also with the facts of the call."""
    facts = otel_facts.context(part.attributes)
    if operation_of(part) is not None:
        facts |= otel_facts.call(part)
    if not facts:
        return part
    own = {name: value for name, value in part.attributes.items() if value is not None and value != ""}
    return replace(part, facts=facts | own)


def operation_of(part: Part) -> str | None:
    """Return the operation of a model call, `UNKNOWN` for a call of unknown kind, None for any other span."""
    kind = part.attributes.get(names.KIND_OPENINFERENCE)
    if isinstance(kind, str):
        if kind.upper() == "LLM":
            old = "llm.prompts.0.prompt.text" in part.attributes or "llm.choices.0.completion.text" in part.attributes
            return "text_completion" if old else "chat"
        return names.EMBEDDINGS if kind.upper() == "EMBEDDING" else None
    kind = part.attributes.get(names.KIND_LANGFUSE)
    if isinstance(kind, str):
        return {"generation": "chat", "embedding": names.EMBEDDINGS}.get(kind.lower())
    if names.KIND_GENAI in part.attributes:
        name = part.attributes[names.KIND_GENAI]
        return name if isinstance(name, str) and name in names.OPERATIONS else None
    if names.KIND_TRACELOOP in part.attributes:
        return KINDS.get(str(part.attributes[names.KIND_TRACELOOP]))
    has_model = part.text("gen_ai.request.model", "gen_ai.response.model")
    counted = part.first("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "gen_ai.usage.output_tokens")
    return UNKNOWN if has_model and counted is not None and "traceloop.span.kind" not in part.attributes else None


class Siblings:
    """The other spans of the same line, by trace: what a span inherits, and who logged the same call above it."""

    def __init__(self, line: Sequence[Part]) -> None:
        """Index the spans of one export request."""
        self._spans = {(part.trace_id, part.span_id): part for part in line}
        self._embeddings: dict[str | None, set[str]] = {}
        self._answers: dict[tuple[str | None, str], list[Part]] = {}
        for part in line:
            if operation_of(part) == names.EMBEDDINGS and (version := embedding_model(part)):
                self._embeddings.setdefault(part.trace_id, set()).add(version)
            if operation_of(part) is not None and (answer := part.text(*names.RESPONSE_ID)):
                self._answers.setdefault((part.trace_id, answer), []).append(part)

    def lineage(self, part: Part) -> Iterator[Part]:
        """Yield the span, then its parents as far as they are on this line."""
        seen: set[str | None] = set()
        current: Part | None = part
        while current is not None and current.span_id not in seen:
            seen.add(current.span_id)
            yield current
            current = self.parent(current)

    def parent(self, part: Part) -> Part | None:
        """Return the span above, when it is on this line."""
        above = part.parent_id
        return self._spans.get((part.trace_id, above)) if above and above != part.span_id else None

    def embedding_model(self, part: Part) -> str | None:
        """Return the embedding model of the trace; None when the line has none or several."""
        found = self._embeddings.get(part.trace_id, set())
        return next(iter(found)) if len(found) == 1 else None

    def is_echo(self, part: Part, operation: str) -> bool:
        """Tell whether another span of the line is the same call, logged by another layer (SDK inside instrumentation).

        It is when the span above is a model call of the same kind, and the two do not name different answers; or when
        a span of the same trace and time names the same answer and tells more (OpenInference, Langfuse).
        """
        own = part.text(*names.RESPONSE_ID)
        above = self.parent(part)
        if above is not None and operation_of(above) in (operation, UNKNOWN) and _model(above) is not None:
            in_circle = any(span.span_id == part.span_id for span in self.lineage(above))
            return not in_circle and (own is None or above.text(*names.RESPONSE_ID) in (None, own))
        if own is None or _is_rich(part):
            return False
        return any(_is_rich(other) and _overlap(part, other) for other in self._answers[part.trace_id, own])


def _is_rich(part: Part) -> bool:
    return names.KIND_OPENINFERENCE in part.attributes or names.KIND_LANGFUSE in part.attributes


def _overlap(one: Part, other: Part) -> bool:
    times = [
        whole_or_none(part.body.get(key)) or 0
        for part in (one, other)
        for key in ("startTimeUnixNano", "endTimeUnixNano")
    ]
    return times[0] <= times[3] and times[2] <= times[1]


def embedding_model(part: Part) -> str | None:
    """Return the model of an embeddings span: the one that answered, else the one that was asked."""
    return part.text("gen_ai.response.model", "llm.response.model_name", *names.MODEL_EITHER, *names.MODEL)


def interaction(part: Part, trace: Siblings) -> Item | str:
    """Turn a span into an interaction; a span that is no model call is ignored, a bad one gives its reason."""
    operation = operation_of(part)
    if operation is None or trace.is_echo(part, operation):
        return Ignored()
    trace_id, span_id = part.trace_id, part.span_id
    if not is_hex(trace_id, 32) or not is_hex(span_id, 16):
        return "bad_value: traceId, spanId: 32 and 16 hexadecimal digits are needed"
    try:
        at = timestamp(part.body, "startTimeUnixNano")
    except ValueError as error:
        return f"bad_value: startTimeUnixNano: {error}"
    fields: dict[str, Any] = {
        "interaction_id": f"{trace_id}:{span_id}",
        "ts": at,
        "trace_id": trace_id,
        "span_id": span_id,
        "operation": operation or None,
        **_models(part, operation, trace),
        **_context(part, trace),
        **usage(part),
        **outcome(part),
        **content(part, operation),
        "attributes": _rest(part),
    }
    return named(from_fields("interaction", fields), LOOKED_FOR)


def _model(part: Part) -> str | None:
    return part.text(*names.MODEL, *names.MODEL_VERSION, *names.MODEL_EITHER)


def _models(part: Part, operation: str, trace: Siblings) -> dict[str, Any]:
    version = part.text(*names.MODEL_VERSION)
    if version is None and not is_error(part):
        version = part.text(*names.MODEL_EITHER)
    embedding = embedding_model(part) if operation == names.EMBEDDINGS else trace.embedding_model(part)
    return {
        "model": _model(part),
        "model_version": version,
        "provider": part.text(*names.PROVIDER),
        "provider_response_id": part.text(*names.RESPONSE_ID),
        "embedding_model_version": embedding,
    }


def _context(part: Part, trace: Siblings) -> dict[str, Any]:
    """Who asked, in which experiment, with which prompt: from the span, else from the nearest span above it."""
    resource = Part({}, part.resource)
    service = resource.text("service.name")
    if service is None or service.startswith("unknown_service"):  # the SDK's word for "not set"
        service = resource.text("openinference.project.name")
    found: dict[str, Any] = {
        "surface": service,
        "environment": resource.text("deployment.environment.name", "deployment.environment"),
    }
    lineage = list(trace.lineage(part))
    for span in reversed(lineage):
        found |= _carried(span)
    return found | _plain_fields(lineage)


def _carried(span: Part) -> dict[str, str]:
    """Return the native fields that one span carries, each from its best name."""
    best: dict[str, tuple[int, str]] = {}
    for name, value in (span.attributes if span.facts is None else span.facts).items():
        if (place := _PLACES.get(name)) and (text := as_text(value)):
            field, rank = place
            if field not in best or rank < best[field][0]:
                best[field] = (rank, text)
    return {field: text for field, (_, text) in best.items()}


def _plain_fields(lineage: Sequence[Part]) -> dict[str, Any]:
    """Return the fields that only `abtest.*` attributes carry; what is no boolean or number is left to validation."""
    found: dict[str, Any] = {}
    for name in (*names.FLAGS, *names.NUMBERS):
        value = next((v for span in lineage if (v := span.first(f"abtest.{name}")) is not None), None)
        if value is None:
            continue
        if name in names.FLAGS:
            found[name] = {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value
        else:
            found[name] = value if (whole := whole_or_none(value)) is None else whole
    return found


def _rest(part: Part) -> dict[str, Any]:
    """Keep what has no column and is plain: short text, numbers, booleans. Contents and lists are not copied."""
    rest = {
        name: value for name, value in part.attributes.items() if name not in names.MAPPED and _is_plain(name, value)
    }
    if otel_facts.has_metadata(part.attributes):
        rest |= labels.rest(otel_facts.metadata(part.attributes), otel_facts.tags(part.attributes), otel_facts.JUNK)
    for name, value in (
        ("service.version", part.resource.get("service.version")),
        ("release", part.attributes.get("langfuse.release")),
    ):
        if value and _is_label(value):
            rest.setdefault(name, value)
    return rest


def _is_plain(name: str, value: Any) -> bool:
    return _is_label(value) and not name.startswith(names.CONTENT)


def _is_label(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= names.TEXT_LIMIT
    return isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value))


def events(part: Part) -> Iterator[Part]:
    """Yield the events on a span as parts of their own; they inherit its ids and its user."""
    inherited: Mapping[str, Any] = {
        name: part.attributes[name] for name in ("abtest.unit_id", "user.id") if name in part.attributes
    }
    for each in items(part.body.get("events")):
        event = mapping(each)
        body = {**event, "traceId": part.body.get("traceId"), "spanId": part.body.get("spanId")}
        yield Part(body, {**inherited, **unpack(event.get("attributes"))}, part.resource)
