"""One GenAI span to one interaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic_core import from_json

from abtest.ingest.base import (
    Ignored,
    Item,
    digest,
    finish_reason,
    items,
    mapping,
    number_or_none,
    text_or_none,
    whole_or_none,
)
from abtest.ingest.otlp import Part, failed, is_hex, milliseconds, timestamp, unpack
from abtest.ingest.validate import from_fields
from abtest.records import GENERATION

EMBEDDINGS = "embeddings"
OPERATIONS = (*GENERATION, EMBEDDINGS)

CONTEXT = {
    "experiment_id": ("abtest.experiment", "abtest.experiment_id", "feature_flag.key"),
    "variant": ("abtest.variant", "feature_flag.result.variant", "feature_flag.variant"),
    "unit_id": ("abtest.unit_id", "feature_flag.context.id", "user.id", "enduser.id"),
    "session_id": ("abtest.session_id", "session.id", "gen_ai.conversation.id"),
    "request_id": ("abtest.request_id",),
    "prompt_name": ("abtest.prompt_name", "gen_ai.prompt.name"),
    "prompt_version": ("abtest.prompt_version", "gen_ai.prompt.version"),
    "prompt_sha256": ("abtest.prompt_sha256",),
    "index_id": ("abtest.index_id",),
    "ruleset_version": ("abtest.ruleset_version", "feature_flag.version"),
    "surface": ("abtest.surface",),
    "environment": ("abtest.environment",),
    "embedding_model_version": ("abtest.embedding_model_version",),
}
"""Native field: the attributes that carry it, best first; looked up on the span, then on the spans above it."""

PARAMETERS = tuple(
    f"gen_ai.request.{name}"
    for name in (
        "temperature",
        "top_p",
        "top_k",
        "max_tokens",
        "frequency_penalty",
        "presence_penalty",
        "seed",
        "choice.count",
        "stop_sequences",
        "encoding_formats",
    )
)

CONTENT = (
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
    "gen_ai.tool.",
    "gen_ai.prompt",
    "gen_ai.completion",
    "input.",
    "output.",
    "llm.",
    "traceloop.entity.",
)
"""Beginnings of names that carry what people wrote: never copied to `attributes`."""

TEXT_LIMIT = 256
"""Longer text is content, not a label."""

MAPPED = frozenset(
    {
        *(name for names in CONTEXT.values() for name in names),
        *PARAMETERS,
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "gen_ai.system",
        "gen_ai.request.model",
        "gen_ai.request.stream",
        "gen_ai.response.model",
        "gen_ai.response.id",
        "gen_ai.response.finish_reasons",
        "gen_ai.response.time_to_first_chunk",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.reasoning.output_tokens",
        "openai.response.system_fingerprint",
        "gen_ai.openai.response.system_fingerprint",
        "http.response.status_code",
        "error.type",
    }
)
"""Attributes that become columns; every other plain one is kept in `attributes`."""


class Siblings:
    """The other spans of the same line, by trace: what a span inherits."""

    def __init__(self, line: Sequence[Part]) -> None:
        """Index the spans of one export request."""
        self._spans = {(part.trace_id, part.span_id): part for part in line}
        self._embeddings: dict[str | None, set[str]] = {}
        for part in line:
            if part.attributes.get("gen_ai.operation.name") == EMBEDDINGS and (version := model_version(part)):
                self._embeddings.setdefault(part.trace_id, set()).add(version)

    def lineage(self, part: Part) -> Iterator[Part]:
        """Yield the span, then its parents as far as they are on this line."""
        seen: set[str | None] = set()
        current: Part | None = part
        while current is not None and current.span_id not in seen:
            seen.add(current.span_id)
            yield current
            parent = text_or_none(current.body.get("parentSpanId"))
            current = self._spans.get((part.trace_id, parent.lower())) if parent else None

    def embedding_model(self, part: Part) -> str | None:
        """Return the embedding model of the trace; None when the line has none or several."""
        found = self._embeddings.get(part.trace_id, set())
        return next(iter(found)) if len(found) == 1 else None


def model_version(part: Part) -> str | None:
    """Return the model that answered, else the one that was asked."""
    return part.text("gen_ai.response.model", "gen_ai.request.model")


def events(part: Part) -> Iterator[Part]:
    """Yield the events on a span as parts of their own; they inherit its ids and its user."""
    inherited = {name: part.attributes[name] for name in ("abtest.unit_id", "user.id") if name in part.attributes}
    for each in items(part.body.get("events")):
        event = mapping(each)
        body = {**event, "traceId": part.body.get("traceId"), "spanId": part.body.get("spanId")}
        yield Part(body, {**inherited, **unpack(event.get("attributes"))}, part.resource)


def interaction(part: Part, trace: Siblings) -> Item | str:
    """Turn a span into an interaction; a span that is no model call is ignored, a bad one gives its reason."""
    operation = part.attributes.get("gen_ai.operation.name")
    if operation not in OPERATIONS:
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
        "operation": operation,
        **_models(part, operation, trace),
        **_context(part, trace),
        **_usage(part),
        **_outcome(part, operation),
        "attributes": _rest(part),
    }
    return from_fields("interaction", fields)


def _models(part: Part, operation: str, trace: Siblings) -> dict[str, Any]:
    version = part.text("gen_ai.response.model")
    return {
        "model": part.text("gen_ai.request.model") or version,
        "model_version": version,
        "provider": part.text("gen_ai.provider.name", "gen_ai.system"),
        "provider_response_id": part.text("gen_ai.response.id"),
        "embedding_model_version": model_version(part) if operation == EMBEDDINGS else trace.embedding_model(part),
    }


def _context(part: Part, trace: Siblings) -> dict[str, Any]:
    """Who asked, in which experiment, with which prompt: from the span, else from the nearest span above it."""
    resource = Part({}, part.resource)
    found: dict[str, Any] = {
        "surface": resource.text("service.name"),
        "environment": resource.text("deployment.environment.name", "deployment.environment"),
    }
    lineage = list(trace.lineage(part))
    for name, attributes in CONTEXT.items():
        value = next((text for span in lineage if (text := span.text(*attributes))), None)
        if value is not None:
            found[name] = value
    return found


def _usage(part: Part) -> dict[str, Any]:
    first_chunk = part.first("gen_ai.response.time_to_first_chunk")
    seconds = number_or_none(first_chunk)
    return {
        "latency_ms": milliseconds(part.body),
        "ttft_ms": first_chunk if seconds is None else seconds * 1000,
        "input_tokens": _whole(part, "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
        "output_tokens": _whole(part, "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
        "cached_input_tokens": _whole(part, "gen_ai.usage.cache_read.input_tokens"),
        "reasoning_tokens": _whole(part, "gen_ai.usage.reasoning.output_tokens"),
    }


def _whole(part: Part, *names: str) -> Any:
    """Return the integer; what is none is passed on as it is, so that validation rejects it and says so."""
    value = part.first(*names)
    whole = whole_or_none(value)
    return value if whole is None else whole


def _outcome(part: Part, operation: str) -> dict[str, Any]:
    """How it ended. `refused` stays unknown unless the provider says so: an ordinary answer looks the same."""
    answers = _messages(part.first("gen_ai.output.messages"))
    reasons = part.attributes.get("gen_ai.response.finish_reasons")
    if not isinstance(reasons, list):
        reasons = [reasons] if reasons else [mapping(answer).get("finish_reason") for answer in answers]
    reason = finish_reason(next((each for each in items(reasons) if each), None))
    error = part.text("error.type")
    stream = part.first("gen_ai.request.stream")
    return {
        "finish_reason": reason,
        "refused": True if reason == "refusal" or _has_refusal(answers) else None,
        "is_error": failed(part.body) or error is not None,
        "error_type": error,
        "http_status": _whole(part, "http.response.status_code"),
        "stream": stream if isinstance(stream, bool) else None,
        "system_fingerprint": part.text(
            "openai.response.system_fingerprint", "gen_ai.openai.response.system_fingerprint"
        ),
        "params_sha256": digest({name: part.attributes[name] for name in PARAMETERS if name in part.attributes}),
        "tools_sha256": digest(part.first("gen_ai.tool.definitions")),
        "prompt_text": None if operation == EMBEDDINGS else _text(part.first("gen_ai.input.messages")),
        "response_text": _text(part.first("gen_ai.output.messages")),
    }


def _messages(value: Any) -> list[Any]:
    """Return the messages: a JSON string on spans, structured on events."""
    if isinstance(value, str):
        try:
            value = from_json(value)
        except ValueError:
            return []
    return items(value)


def _has_refusal(messages: Sequence[Any]) -> bool:
    return any(
        mapping(part).get("type") == "refusal" for message in messages for part in items(mapping(message).get("parts"))
    )


def _text(value: Any) -> str | None:
    """Return the text parts of messages, one message a line; "" for an answer without text, None when not logged."""
    messages = _messages(value)
    if not messages:
        return None
    return "\n".join(
        "".join(_part_text(mapping(part)) for part in items(mapping(message).get("parts"))) for message in messages
    )


def _part_text(part: dict[str, Any]) -> str:
    return text_or_none(part.get("content")) or "" if part.get("type") in ("text", "refusal") else ""


def _rest(part: Part) -> dict[str, Any]:
    """Keep what has no column and is plain: short text, numbers, booleans. Contents and lists are not copied."""
    rest = {
        name: value
        for name, value in part.attributes.items()
        if name not in MAPPED
        and isinstance(value, (str, int, float))
        and not name.startswith(CONTENT)
        and not (isinstance(value, str) and len(value) > TEXT_LIMIT)
    }
    if version := part.resource.get("service.version"):
        rest.setdefault("service.version", version)
    return rest
