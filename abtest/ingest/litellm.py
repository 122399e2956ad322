"""LiteLLM: the StandardLoggingPayload that its callbacks receive, one object a line.

Source: BerriAI/litellm, litellm/types/utils.py (StandardLoggingPayload) and real payloads of version 1.106.
`response_time` is the time to the first token when streaming, not the duration, so the duration is end minus start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from abtest.ingest.base import (
    Format,
    Ignored,
    Item,
    digest,
    finish_reason,
    items,
    mapping,
    number_or_none,
    parse_object,
    reject,
    rfc3339,
    text_or_none,
    whole_or_none,
)
from abtest.ingest.validate import from_fields

OPERATIONS = {
    "completion": "chat",
    "responses": "chat",
    "anthropic_messages": "chat",
    "text_completion": "text_completion",
    "generate_content": "generate_content",
    "generate_content_stream": "generate_content",
    "embedding": "embeddings",
}
"""Call types (without the `a` of the async twin) that are model calls; others (files, batches, images) are ignored."""

ALIASES = {
    "experiment_id": ("experiment_id", "experiment", "exp"),
    "variant": ("variant",),
    "unit_id": ("unit_id", "user_id"),
    "prompt_name": ("prompt_name",),
    "prompt_version": ("prompt_version",),
    "prompt_sha256": ("prompt_sha256",),
    "surface": ("surface", "feature"),
    "environment": ("environment",),
    "request_id": ("request_id",),
    "session_id": ("session_id",),
    "ruleset_version": ("ruleset_version",),
    "index_id": ("index_id",),
    "embedding_model_version": ("embedding_model_version",),
}
"""Native field: its names in `spend_logs_metadata`, `requester_metadata` and as `name:value` request tags."""

PARAMETERS = (
    "temperature",
    "top_p",
    "top_k",
    "max_tokens",
    "max_completion_tokens",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "stop",
    "n",
    "response_format",
    "reasoning_effort",
)
"""Parameters whose change is a change of version."""

REDACTED = "redacted-by-litellm"


class LiteLLM(Format):
    """StandardLoggingPayload as NDJSON."""

    name: ClassVar[str] = "litellm"
    description: ClassVar[str] = "LiteLLM StandardLoggingPayload, one object a line"

    def sniff(self, objects: Sequence[Mapping[str, Any]]) -> float:
        """Sure when the objects carry a LiteLLM call id."""
        return sum("litellm_call_id" in value for value in objects) / len(objects)

    def read(self, line: bytes, number: int, offset: int) -> Sequence[Item]:
        """Read one payload."""
        payload = parse_object(line)
        item = payload if isinstance(payload, str) else _interaction(payload)
        return (reject(line, number, offset, item) if isinstance(item, str) else item,)


def _interaction(payload: dict[str, Any]) -> Item | str:
    call_type = text_or_none(payload.get("call_type")) or "completion"
    operation = OPERATIONS.get(call_type) or OPERATIONS.get(call_type.removeprefix("a"))
    if operation is None:
        return Ignored()
    try:
        at = _time(payload.get("startTime"))
    except ValueError as error:
        return f"bad_value: startTime: {error}"
    call_id = text_or_none(payload.get("litellm_call_id"))
    response_id = text_or_none(payload.get("id"))
    fields: dict[str, Any] = {
        "interaction_id": call_id,
        "ts": at,
        "operation": operation,
        "model": text_or_none(payload.get("model")) or text_or_none(payload.get("model_group")),
        "provider": text_or_none(payload.get("custom_llm_provider")),
        "provider_response_id": None if response_id == call_id else response_id,  # a failure repeats the call id
        "trace_id": text_or_none(payload.get("trace_id")),
        "stream": payload.get("stream"),
        "cache_hit": payload.get("cache_hit"),
        "cost_usd": payload.get("response_cost"),
        **_context(payload),
        **_timing(payload),
        **_usage(payload),
        **_outcome(payload),
    }
    if operation == "embeddings":
        fields |= {"embedding_model_version": fields["model_version"] or fields["model"], "prompt_text": None}
    item = from_fields("interaction", fields)
    if isinstance(item, str):
        return item.replace("missing: interaction_id", "missing: interaction_id (litellm_call_id)", 1)
    return item


def _time(value: object) -> str | None:
    """Return epoch seconds (LiteLLM's float, precise to the microsecond) as RFC 3339; text is passed on."""
    if isinstance(value, str):
        return value
    seconds = number_or_none(value)
    return None if seconds is None else rfc3339(round(seconds * 1_000_000))


def _timing(payload: dict[str, Any]) -> dict[str, Any]:
    start, first, end = (number_or_none(payload.get(key)) for key in ("startTime", "completionStartTime", "endTime"))
    took = number_or_none(payload.get("response_time"))
    if payload.get("stream") is True:
        return {"latency_ms": _elapsed(start, end), "ttft_ms": _elapsed(start, first)}
    return {"latency_ms": _elapsed(start, end) if took is None else took * 1000}


def _elapsed(start: float | None, end: float | None) -> float | None:
    """Milliseconds between two epoch seconds, to the microsecond that the log has; None when end precedes start."""
    if start is None or end is None or end < start:
        return None
    return round((end - start) * 1000, 3)


def _context(payload: dict[str, Any]) -> dict[str, Any]:
    """Experiment, variant, unit, prompt: from the metadata, else from tags like `variant:control`."""
    metadata = mapping(payload.get("metadata"))
    spend, requester = mapping(metadata.get("spend_logs_metadata")), mapping(metadata.get("requester_metadata"))
    tagged, other_tags = _tags(payload.get("request_tags"))
    sources = [source for source in (spend, requester, tagged) if source]
    found: dict[str, Any] = {}
    for field, names in ALIASES.items():
        values = (_label(source.get(name)) for source in sources for name in names)
        found[field] = next((value for value in values if value), None)
    user = text_or_none(payload.get("end_user")) or text_or_none(mapping(payload.get("model_parameters")).get("user"))
    found["unit_id"] = user or found["unit_id"] or text_or_none(metadata.get("user_api_key_end_user_id"))
    found["session_id"] = text_or_none(payload.get("session_id")) or found["session_id"]
    known = {name for names in ALIASES.values() for name in names}
    rest = {k: v for source in (requester, spend) for k, v in source.items() if k not in known and _label(v)}
    found["attributes"] = {**rest, "request_tags": other_tags} if other_tags else rest
    return found


def _label(value: object) -> str | None:
    """Return a short text or number as text: metadata may hold a version as a number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and 0 < len(value) <= 256 else None


def _tags(tags: object) -> tuple[dict[str, str], list[str]]:
    """Split request tags into `name:value` pairs with a name we know, and the rest."""
    known = {name for names in ALIASES.values() for name in names}
    named: dict[str, str] = {}
    rest: list[str] = []
    for tag in items(tags):
        if not isinstance(tag, str):
            continue
        name, colon, value = tag.partition(":")
        if colon and name.strip() in known:
            named.setdefault(name.strip(), value.strip())
        else:
            rest.append(tag)
    return named, rest


def _usage(payload: dict[str, Any]) -> dict[str, Any]:
    """Token counts. A call that failed without usage says 0, which is a default and not a count."""
    usage = mapping(mapping(payload.get("metadata")).get("usage_object")) or mapping(
        mapping(payload.get("response")).get("usage")
    )
    unknown = payload.get("status") == "failure" and not usage
    prompt, completion = mapping(usage.get("prompt_tokens_details")), mapping(usage.get("completion_tokens_details"))
    return {
        "input_tokens": None if unknown else payload.get("prompt_tokens"),
        "output_tokens": None if unknown else payload.get("completion_tokens"),
        "cached_input_tokens": prompt.get("cached_tokens"),
        "reasoning_tokens": completion.get("reasoning_tokens"),
    }


def _outcome(payload: dict[str, Any]) -> dict[str, Any]:
    response = mapping(payload.get("response"))
    choice = mapping(next(iter(items(response.get("choices"))), None))
    message = mapping(choice.get("message"))
    failed = payload.get("status") == "failure"
    error = mapping(payload.get("error_information"))
    status = whole_or_none(error.get("error_code"))
    answer = message.get("content")
    answer = None if answer == REDACTED else text_or_none(answer)
    reason = finish_reason(choice.get("finish_reason"))
    parameters = mapping(payload.get("model_parameters"))
    return {
        "model_version": text_or_none(response.get("model")),
        "params_sha256": digest({name: parameters[name] for name in PARAMETERS if parameters.get(name) is not None}),
        "tools_sha256": digest(parameters.get("tools")),
        "system_fingerprint": text_or_none(response.get("system_fingerprint")),
        "finish_reason": reason,
        "is_error": failed,
        "error_type": (text_or_none(error.get("error_class")) or "unknown") if failed else None,
        "http_status": status if failed and status is not None and 0 < status < 1000 else None,
        "refused": None if failed else _refused(message, reason, answer),
        "prompt_text": _prompt(payload.get("messages")),
        "response_text": answer,
    }


def _refused(message: dict[str, Any], reason: str | None, answer: str | None) -> bool | None:
    """True when the model says so, False for an answer or a tool call, None when there is nothing to tell from."""
    if message.get("refusal") or mapping(message.get("provider_specific_fields")).get("refusal") or reason == "refusal":
        return True
    if reason == "content_filter":
        return None
    return False if answer or message.get("tool_calls") or message.get("function_call") else None


def _prompt(messages: object) -> str | None:
    """Return the text of the messages, one a line; None when they are not logged."""
    if isinstance(messages, str):
        return None if messages == REDACTED else messages
    texts = [_content(mapping(message).get("content")) for message in items(messages)]
    return "\n".join(texts) if texts else None


def _content(content: object) -> str:
    if isinstance(content, str):
        return content
    return "".join(text_or_none(mapping(part).get("text")) or "" for part in items(content))


FORMAT = LiteLLM()
