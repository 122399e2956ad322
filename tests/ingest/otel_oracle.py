"""Expected records of OpenTelemetry files, taken out of the official protobuf classes without the code under test.

JSON is parsed by protobuf itself (hexadecimal ids turned into base64 first, as OTLP/JSON and protobuf's JSON differ
there); attributes are looked up one by one, as a person with the conventions in hand would.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

REASONS = {"tool_calls": "tool", "tool_use": "tool", "end_turn": "stop", "max_tokens": "length"}


def requests(path: Path) -> Iterator[Any]:
    """Yield the trace and log requests of a file, .pb or one JSON text a line."""
    if path.suffix == ".pb":
        kind = ExportLogsServiceRequest if "logs" in path.name else ExportTraceServiceRequest
        request = kind()
        request.ParseFromString(path.read_bytes())
        yield request
        return
    for line in path.read_bytes().splitlines():
        body = json.loads(line)
        if "resourceSpans" in body:
            yield ParseDict(_base64_ids(body), ExportTraceServiceRequest(), ignore_unknown_fields=True)
        elif "resourceLogs" in body:
            yield ParseDict(_base64_ids(body), ExportLogsServiceRequest(), ignore_unknown_fields=True)


def _base64_ids(value: Any) -> Any:
    if isinstance(value, list):
        return [_base64_ids(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: base64.b64encode(bytes.fromhex(each)).decode()
        if key in ("traceId", "spanId", "parentSpanId") and isinstance(each, str) and not each.endswith("=")
        else _base64_ids(each)
        for key, each in value.items()
    }


def plain(value: Any) -> Any:
    """Return an AnyValue as a Python value."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(each) for each in value.array_value.values]
    return getattr(value, kind) if kind else None


def attributes(holder: Any) -> dict[str, Any]:
    return {pair.key: plain(pair.value) for pair in holder.attributes}


def spans(request: Any) -> Iterator[tuple[Any, dict[str, Any], dict[str, Any]]]:
    """Yield (span, its attributes, those of its resource)."""
    for group in getattr(request, "resource_spans", ()):
        for scope in group.scope_spans:
            for span in scope.spans:
                yield span, attributes(span), attributes(group.resource)


def logs(request: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
    for group in getattr(request, "resource_logs", ()):
        for scope in group.scope_logs:
            for record in scope.log_records:
                yield record, attributes(record)


def calls(path: Path) -> list[dict[str, Any]]:
    """Return what is expected of each model call in a file; only fields that the dialect has are in."""
    return [
        expected
        for request in requests(path)
        for span, own, resource in spans(request)
        if (expected := _call(span, own, resource)) is not None
    ]


def _call(span: Any, own: dict[str, Any], resource: dict[str, Any]) -> dict[str, Any] | None:
    if own.get("openinference.span.kind") in ("LLM", "EMBEDDING"):
        said = _openinference(span, own)
    elif own.get("langfuse.observation.type") in ("generation", "embedding"):
        said = _langfuse(own)
    elif own.get("gen_ai.operation.name") in ("chat", "embeddings") and "openinference.span.kind" not in own:
        said = _genai(own)
    else:
        return None
    return {
        "interaction_id": f"{span.trace_id.hex()}:{span.span_id.hex()}",
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "ts_us": span.start_time_unix_nano // 1000,
        "latency_ms": (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6,
        "is_error": span.status.code == 2,
        "http_status": _status(span.status.message) if span.status.code == 2 else own.get("http.response.status_code"),
        **({"session_id": own["session.id"]} if "session.id" in own else {}),  # else from the span above
        **said,
    }


def _status(message: str) -> int | None:
    head = message.split("Error code: ")
    return int(head[1][:3]) if len(head) > 1 else None


def _genai(own: dict[str, Any]) -> dict[str, Any]:
    reasons = own.get("gen_ai.response.finish_reasons") or []
    if not reasons and "gen_ai.output.messages" in own:
        reasons = [message.get("finish_reason") for message in json.loads(own["gen_ai.output.messages"])]
    reason = reasons[0] if reasons else own.get("anthropic.message.stop_reason")
    said = {
        "operation": own["gen_ai.operation.name"],
        "model": own.get("gen_ai.request.model"),
        "model_version": own.get("gen_ai.response.model"),
        "provider": own.get("gen_ai.provider.name"),
        "provider_response_id": own.get("gen_ai.response.id"),
        "input_tokens": own.get("gen_ai.usage.input_tokens"),
        "output_tokens": own.get("gen_ai.usage.output_tokens"),
        "finish_reason": REASONS.get(reason, reason),
        "error_type": own.get("error.type"),
        "refused": True if reason == "refusal" else None,
        "cost_usd": None,
    }
    if "abtest.variant" in own:  # else it may come from the span above
        said |= {"variant": own["abtest.variant"], "experiment_id": own.get("abtest.experiment")}
        said |= {"unit_id": own.get("abtest.unit_id"), "prompt_version": own.get("abtest.prompt_version")}
    else:
        del said["provider"]
    return said


def _openinference(span: Any, own: dict[str, Any]) -> dict[str, Any]:
    asked = json.loads(own.get("llm.invocation_parameters") or own.get("embedding.invocation_parameters") or "{}")
    metadata = json.loads(own.get("metadata", "{}"))
    thrown = [plain(a.value) for e in span.events for a in e.attributes if a.key == "exception.type"]
    answered = own.get("llm.response.model_name") or own.get("llm.model_name") or own.get("embedding.model_name")
    first = [event.time_unix_nano for event in span.events if event.name == "First Token Stream Event"]
    is_error = span.status.code == 2
    reason = own.get("llm.finish_reason")
    said = {
        "operation": _operation(own),
        "model": own.get("llm.request.model_name") or asked.get("model") or answered,
        "provider": own.get("llm.provider") or own.get("llm.system"),
        "input_tokens": own.get("llm.token_count.prompt"),
        "output_tokens": own.get("llm.token_count.completion"),
        "cached_input_tokens": own.get("llm.token_count.prompt_details.cache_read"),
        "reasoning_tokens": own.get("llm.token_count.completion_details.reasoning"),
        "error_type": thrown[0] if thrown and is_error else None,
        "variant": metadata.get("variant"),
        "experiment_id": metadata.get("experiment_id") or metadata.get("experiment"),
        "unit_id": own.get("user.id"),
        "prompt_version": own.get("llm.prompt_template.version"),
        "ttft_ms": (first[0] - span.start_time_unix_nano) / 1e6 if first else None,
    }
    if not is_error:
        said["model_version"] = answered
    if reason:
        said["finish_reason"] = REASONS.get(reason, reason)
    raw = own.get("output.value", "")
    if "generations" in raw:  # LangChain: the answer inside names the model that answered
        said.pop("model_version", None)
    if raw.startswith("{"):
        payload = json.loads(raw)
        if own.get("llm.system") and _operation(own) == "chat" and "generations" not in payload:
            said["provider_response_id"] = payload.get("id")
            said["refused"] = _refused(payload)
    return said


def _operation(own: dict[str, Any]) -> str:
    if own["openinference.span.kind"] == "EMBEDDING":
        return "embeddings"
    return "text_completion" if any(name.startswith("llm.prompts.") for name in own) else "chat"


def _refused(payload: dict[str, Any]) -> bool | None:
    if "choices" in payload:
        message, reason = payload["choices"][0].get("message", {}), payload["choices"][0].get("finish_reason")
        if message.get("refusal"):
            return True
        return None if reason in (None, "content_filter") else False
    if "stop_reason" in payload:
        return payload["stop_reason"] == "refusal"
    return any(part.get("type") == "refusal" for item in payload["output"] for part in item.get("content", []))


def _langfuse(own: dict[str, Any]) -> dict[str, Any]:
    usage = json.loads(own.get("langfuse.observation.usage_details", "{}"))
    cost = json.loads(own.get("langfuse.observation.cost_details", "{}"))
    metadata = {
        name.rpartition("metadata.")[2]: json.loads(value)
        for name, value in sorted(own.items(), reverse=True)
        if ".metadata." in name
    }
    managed = own.get("langfuse.observation.prompt.version")
    said = {
        "operation": {"generation": "chat", "embedding": "embeddings"}[own["langfuse.observation.type"]],
        "model": own["langfuse.observation.model.name"],
        "variant": metadata["variant"],
        "experiment_id": metadata["experiment"],
        "unit_id": own["user.id"],
        "prompt_version": str(managed) if managed else metadata.get("prompt_version") or own.get("langfuse.version"),
        "is_error": own.get("langfuse.observation.level") == "ERROR",
        "output_tokens": usage.get("output", usage.get("completion_tokens")),
        "cost_usd": cost.get("total", sum(cost.values()) if cost else None),
        "refused": None,
        "prompt_name": own.get("langfuse.observation.prompt.name"),
    }
    message = own.get("langfuse.observation.status_message", "")
    said["http_status"] = _status(message)
    if "prompt_tokens" in usage:
        said["input_tokens"] = usage["prompt_tokens"]
        said["cached_input_tokens"] = usage["prompt_tokens_details"]["cached_tokens"]
    elif usage:  # disjoint categories
        said["input_tokens"] = sum(count for name, count in usage.items() if "input" in name)
    return said
