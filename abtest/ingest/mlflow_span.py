"""One span of an MLflow trace to one interaction."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from abtest.ingest import labels
from abtest.ingest.base import (
    Ignored,
    Item,
    digest,
    items,
    mapping,
    rfc3339,
    text_or_none,
    whole_or_none,
)
from abtest.ingest.cells import array, count, number, pairs
from abtest.ingest.messages import answer, prompt
from abtest.ingest.provider import PARAMETERS, answer_fields, tokens
from abtest.ingest.validate import from_fields

CALLS = {"LLM": "chat", "CHAT_MODEL": "chat", "EMBEDDING": "embeddings"}
"""Types of spans that are model calls; every other span is ignored."""

JUNK = ("mlflow.",)
FAILED = "STATUS_CODE_ERROR"
STATUS = re.compile(r"\bError code: ([1-5]\d\d)\b")
"""How the SDKs of OpenAI and Anthropic begin the message of an HTTP error."""

TEXT_MODEL = ("model", "mlflow.llm.model", "gen_ai.request.model", "ai.model.name")


@dataclass(frozen=True, slots=True)
class Span:
    """A span with its ids in hex and its attributes decoded.

    Attributes:
        body: The JSON object as it stands in the file.
        attributes: Its attributes, out of their JSON texts.
        span_id: 16 hex digits; None when it is no id.
        parent_id: The same of its parent.
    """

    body: dict[str, Any]
    attributes: dict[str, Any]
    span_id: str | None
    parent_id: str | None

    @property
    def operation(self) -> str | None:
        """Either chat or embeddings; None when the span is no model call."""
        return CALLS.get(str(self.attributes.get("mlflow.spanType")))

    @property
    def model(self) -> str | None:
        """The model that was asked."""
        asked = next((text for name in TEXT_MODEL if (text := text_or_none(self.attributes.get(name)))), None)
        return asked or text_or_none(mapping(self.attributes.get("mlflow.spanInputs")).get("model"))


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace: what all of its spans share.

    Attributes:
        name: MLflow's id of the trace, `tr-...`.
        trace_id: The OpenTelemetry id, 32 hex digits; MLflow's own where it is of another form.
        info: The JSON object `info`.
        spans: All spans.
        wrappers: Ids of call spans with another call inside: the inner one is the call.
    """

    name: str
    trace_id: str
    info: dict[str, Any]
    spans: tuple[Span, ...]
    wrappers: frozenset[str]

    @staticmethod
    def of(document: dict[str, Any]) -> Trace | str:
        """Read {"info": ..., "data": {"spans": [...]}}; returns the reason as text when it is none."""
        info = mapping(document.get("info"))
        name = text_or_none(info.get("trace_id"))
        if name is None:
            return "missing: info.trace_id"
        spans = tuple(_span(mapping(each)) for each in array(pairs(document.get("data")).get("spans")))
        return Trace(name, hex_id(name.removeprefix("tr-"), 16) or name, info, spans, _wrappers(spans))

    @property
    def calls(self) -> list[Span]:
        """The spans that are answers of a model (no embeddings)."""
        return [span for span in self.spans if span.operation == "chat" and span.span_id not in self.wrappers]


def _span(body: dict[str, Any]) -> Span:
    attributes = {name: _decoded(value) for name, value in pairs(body.get("attributes")).items() if value is not None}
    return Span(body, attributes, hex_id(body.get("span_id"), 8), hex_id(body.get("parent_span_id"), 8))


def _wrappers(spans: tuple[Span, ...]) -> frozenset[str]:
    """Find the call spans that hold another call of the same kind: both tell of the same call."""
    by_id = {span.span_id: span for span in spans if span.span_id}
    found: set[str] = set()
    for span in spans:
        seen: set[str | None] = {span.span_id}
        name = span.parent_id if span.operation else None
        while name is not None and name not in seen and name in by_id:
            seen.add(name)
            if by_id[name].operation == span.operation:
                found.add(name)
            name = by_id[name].parent_id
    return frozenset(found)


def _decoded(value: Any) -> Any:
    """Return what an attribute's JSON text says; text that is no JSON stays as it is."""
    if not isinstance(value, str):
        return value
    try:
        return from_json(value, allow_inf_nan=False)
    except ValueError:
        return value


def hex_id(value: object, size: int) -> str | None:
    """Return an id of `size` bytes in hex: from hex (also with 0x) or base64; None when it is neither."""
    text = text_or_none(value)
    if text is None:
        return None
    plain = text.lower().removeprefix("0x")
    if len(plain) == 2 * size and all(char in "0123456789abcdef" for char in plain):
        return plain
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw.hex() if len(raw) == size else None


def interaction(span: Span, trace: Trace) -> Item | str:
    """Turn a span into an interaction; no call, a wrapper of a call, or an unfinished one is ignored."""
    operation = span.operation
    if operation is None or span.span_id in trace.wrappers:
        return Ignored()
    if span.span_id is None:
        return "bad_value: span_id: 8 bytes in base64 or hex are needed"
    start, end = (whole_or_none(span.body.get(f"{name}_time_unix_nano")) for name in ("start", "end"))
    if end is None and trace.info.get("state") in ("IN_PROGRESS", None) and not _failed(span):
        return Ignored()
    try:
        at = None if start is None else rfc3339(start // 1000)
    except ValueError as error:
        return f"bad_value: start_time_unix_nano: {error}"
    fields: dict[str, Any] = {
        "interaction_id": f"{trace.name}:{span.span_id}",
        "ts": at,
        "trace_id": trace.trace_id,
        "span_id": span.span_id,
        "latency_ms": (end - start) / 1e6 if start and end and end >= start else None,
        "ttft_ms": _first_chunk(span, start),
        **_outcome(span, operation),
        **_context(span, trace, operation),
    }
    item = from_fields("interaction", fields)
    return item.replace("missing: model", "missing: model (span attribute model)", 1) if isinstance(item, str) else item


def _failed(span: Span) -> bool:
    return mapping(span.body.get("status")).get("code") == FAILED


def _refused_in_pieces(span: Span) -> bool:
    """Tell whether a piece of the stream is a refusal: MLflow's joined answer leaves it out."""
    for each in items(span.body.get("events")):
        value = pairs(mapping(mapping(each).get("attributes")).get("mlflow.chunk.value"))
        delta = mapping(mapping(next(iter(items(value.get("choices"))), None)).get("delta"))
        if delta.get("refusal") or str(value.get("type")).startswith("response.refusal"):
            return True
    return False


def _first_chunk(span: Span, start: int | None) -> float | None:
    """Milliseconds to the first piece of a streamed answer."""
    for each in items(span.body.get("events")):
        event = mapping(each)
        if str(event.get("name")).startswith("mlflow.chunk."):
            at = whole_or_none(event.get("time_unix_nano"))
            return (at - start) / 1e6 if at and start and at >= start else None
    return None


def _outcome(span: Span, operation: str) -> dict[str, Any]:
    """What came of the call: from the logged answer, and from MLflow's own attributes, which win for the counts."""
    attributes = span.attributes
    asked, body = mapping(attributes.get("mlflow.spanInputs")), attributes.get("mlflow.spanOutputs")
    failed = _failed(span)
    said = answer_fields(mapping(body))
    if not said and body is not None and not failed:
        plain = answer(body)
        said = {
            "finish_reason": plain.reason,
            "refused": plain.refused,
            "response_text": plain.text,
            "provider_response_id": plain.response_id,
            "model_version": plain.model,
            **tokens(plain.usage or {}),
        }
    usage = mapping(attributes.get("mlflow.chat.tokenUsage"))
    cost = mapping(attributes.get("mlflow.llm.cost"))
    kind, status = _error(span) if failed else (None, None)
    version = text_or_none(attributes.get("mlflow.llm.model"))
    stream = attributes.get("stream", asked.get("stream"))
    given = {**mapping(attributes.get("invocation_params")), **asked, **attributes}
    parameters = {name: given.get(name) for name in PARAMETERS}
    fields = {
        **said,
        "operation": operation if operation == "embeddings" else said.get("operation", "chat"),
        "model": span.model or said.get("model_version"),
        "provider": text_or_none(attributes.get("mlflow.llm.provider"))
        or text_or_none(attributes.get("mlflow.message.format")),
        "model_version": said.get("model_version") or (None if failed or version == span.model else version),
        "stream": stream if isinstance(stream, bool) else None,
        "cost_usd": number(cost.get("total_cost")),
        "params_sha256": digest({name: value for name, value in parameters.items() if value is not None}),
        "tools_sha256": digest(attributes.get("mlflow.chat.tools") or asked.get("tools")),
        "prompt_text": None if operation == "embeddings" else prompt(asked),
    }
    if usage:
        fields |= {name: value for name, value in _usage(usage).items() if value is not None}
    if failed or fields.get("is_error"):
        fields |= {"is_error": True, "error_type": kind or fields.get("error_type"), "http_status": status}
        fields |= {"finish_reason": None, "refused": None}
    elif attributes.get("mlflow.message.format") == "langchain":
        fields["refused"] = None  # LangChain writes every refusal as null
    elif stream is True and _refused_in_pieces(span):
        fields["refused"] = True
    return fields


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    """MLflow's counts: input includes cached tokens, whatever the provider says."""
    return {
        "input_tokens": count(usage.get("input_tokens")),
        "output_tokens": count(usage.get("output_tokens")),
        "cached_input_tokens": count(usage.get("cache_read_input_tokens")),
    }


def _error(span: Span) -> tuple[str, int | None]:
    """Return the type of the exception, and the HTTP status that its message names."""
    message = str(mapping(span.body.get("status")).get("message"))
    kind = None
    for each in items(span.body.get("events")):
        event = mapping(each)
        if event.get("name") == "exception":
            details = mapping(event.get("attributes"))
            kind = text_or_none(details.get("exception.type"))
            message = str(details.get("exception.message"))
    status = STATUS.search(message)
    return kind or "unknown", int(status[1]) if status else None


def _context(span: Span, trace: Trace, operation: str) -> dict[str, Any]:
    """Who asked, in which experiment, with which prompt: span attributes, then tags, then metadata of the trace."""
    info = trace.info
    tags, metadata = pairs(info.get("tags")), pairs(info.get("trace_metadata"))
    found = {**labels.context(metadata, []), **labels.context(tags, []), **labels.context(span.attributes, [])}
    asked = mapping(span.attributes.get("mlflow.spanInputs"))
    found.setdefault("unit_id", _first(metadata.get("mlflow.trace.user"), asked.get("user")))
    found.setdefault("session_id", _first(metadata.get("mlflow.trace.session")))
    linked = array(tags.get("mlflow.linkedPrompts"))
    if len(linked) == 1:
        found.setdefault("prompt_name", labels.label(mapping(linked[0]).get("name")))
        found.setdefault("prompt_version", labels.label(mapping(linked[0]).get("version")))
    kept = {**labels.rest(metadata, [], JUNK), **labels.rest(tags, [], JUNK)}
    client = text_or_none(info.get("client_request_id"))
    if client and len(trace.calls) == 1 and operation == "chat":
        found.setdefault("request_id", client)
    elif client:
        kept.setdefault("client_request_id", client)
    versions = {model for each in trace.spans if each.operation == "embeddings" and (model := each.model)}
    if operation == "embeddings":
        found["embedding_model_version"] = span.model
    elif len(versions) == 1:
        found.setdefault("embedding_model_version", versions.pop())
    return {**found, "attributes": kept}


def _first(*values: object) -> str | None:
    return next((text for value in values if (text := text_or_none(value))), None)
