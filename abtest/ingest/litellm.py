"""LiteLLM: the StandardLoggingPayload that its callbacks receive, one object each.

Source: BerriAI/litellm, litellm/types/utils.py (StandardLoggingPayload) and real payloads of version 1.106 (SDK, Router
and proxy). `response_time` is the time to the first token when streaming, not the duration, so the duration is end
minus start. Who asked, in which experiment: `litellm_context`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from abtest.ingest import litellm_context
from abtest.ingest.base import (
    Format,
    Ignored,
    Item,
    digest,
    finish_reason,
    items,
    mapping,
    parse_object,
    reject,
    rfc3339,
    text_or_none,
    whole_or_none,
)
from abtest.ingest.cells import count, finite, flag, moment, number, pairs, parsed
from abtest.ingest.provider import answer_fields, shape
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
NESTED = ("metadata", "response", "model_parameters", "hidden_params", "error_information")
"""Objects of a payload that are JSON text in a table."""


class LiteLLM(Format):
    """StandardLoggingPayload: NDJSON, a JSON array, one object a file, or a table."""

    name: ClassVar[str] = "litellm"
    description: ClassVar[str] = "LiteLLM StandardLoggingPayload, as its callbacks and log sinks write it"

    def sniff(self, objects: Sequence[Mapping[str, Any]]) -> float:
        """Share of objects with a LiteLLM call id, bare or under `standard_logging_object`."""
        return sum("litellm_call_id" in _payload(mapping(value)) for value in objects) / len(objects)

    def read(self, line: bytes, number: int, offset: int) -> Sequence[Item]:
        """Read one payload."""
        body = parse_object(line)
        item = body if isinstance(body, str) else _interaction(body)
        return (reject(line, number, offset, item) if isinstance(item, str) else item,)


def _payload(body: dict[str, Any]) -> dict[str, Any]:
    """Return the payload; a callback that writes all its `kwargs` has it under `standard_logging_object`."""
    inner = pairs(body.get("standard_logging_object"))
    if not inner:
        return dict(body)
    silent = pairs(pairs(body.get("litellm_params")).get("metadata")).get("is_silent_experiment")
    return inner if silent is None else {**inner, "is_silent_experiment": silent}


def _interaction(body: dict[str, Any]) -> Item | str:
    payload = _payload(body)
    payload |= {name: pairs(payload[name]) for name in NESTED if isinstance(payload.get(name), str)}
    call_type = text_or_none(payload.get("call_type")) or "completion"
    operation = OPERATIONS.get(call_type) or OPERATIONS.get(call_type.removeprefix("a"))
    if operation is None:
        return Ignored()
    try:
        at = _time(payload.get("startTime"))
    except ValueError as error:
        return f"bad_value: startTime: {str(error).removeprefix('startTime: ')}"
    call_id = text_or_none(payload.get("litellm_call_id"))
    response_id = text_or_none(payload.get("id"))
    fields: dict[str, Any] = {
        "interaction_id": call_id and litellm_context.interaction_id(payload, call_id),
        "ts": at,
        "operation": operation,
        "model": text_or_none(payload.get("model")) or text_or_none(payload.get("model_group")),
        "provider": text_or_none(payload.get("custom_llm_provider")),
        "provider_response_id": None if response_id == call_id else response_id,  # a failure repeats the call id
        "trace_id": text_or_none(payload.get("trace_id")),
        "stream": _stream(payload),
        "cache_hit": flag(payload.get("cache_hit")),
        **litellm_context.context(payload),
        **_timing(payload),
        **_usage(payload),
        **_outcome(payload),
    }
    fields["attributes"] |= _mirror(payload, call_type)
    if operation == "embeddings":
        fields |= {"embedding_model_version": fields["model_version"] or fields["model"], "prompt_text": None}
    item = from_fields("interaction", fields)
    if isinstance(item, str):
        return item.replace("missing: interaction_id", "missing: interaction_id (litellm_call_id)", 1)
    return item


def _time(value: object) -> str | None:
    """Return epoch seconds (LiteLLM's float, precise to the microsecond) or ISO text as RFC 3339."""
    seconds = finite(value)
    if seconds is not None:
        return rfc3339(round(seconds * 1_000_000))
    at = moment(value, "startTime")
    return at.isoformat() if at else None


def _stream(payload: dict[str, Any]) -> Any:
    """A stream that broke has no `stream`, but the parameter."""
    if payload.get("stream") in (None, "") and mapping(payload.get("model_parameters")).get("stream") is True:
        return True
    return flag(payload.get("stream"))


def _timing(payload: dict[str, Any]) -> dict[str, Any]:
    start, first, end = (finite(payload.get(key)) for key in ("startTime", "completionStartTime", "endTime"))
    took = finite(payload.get("response_time"))
    if _stream(payload) is True:
        return {"latency_ms": _elapsed(start, end), "ttft_ms": _elapsed(start, first)}
    return {"latency_ms": _elapsed(start, end) if took is None else took * 1000}


def _elapsed(start: float | None, end: float | None) -> float | None:
    """Milliseconds between two epoch seconds, to the microsecond that the log has; None when end precedes start."""
    if start is None or end is None or end < start:
        return None
    return round((end - start) * 1000, 3)


def _usage(payload: dict[str, Any]) -> dict[str, Any]:
    """Token counts and cost. Zero tokens in and out is no count but the default of a call without usage.

    So is then a cost of zero, unless the answer came from the cache. A failed call costs what is logged.
    """
    usage = mapping(mapping(payload.get("metadata")).get("usage_object")) or mapping(
        mapping(payload.get("response")).get("usage")
    )
    entered, produced = count(payload.get("prompt_tokens")), count(payload.get("completion_tokens"))
    unknown = entered in (0, None) and produced in (0, None)
    prompt, completion = mapping(usage.get("prompt_tokens_details")), mapping(usage.get("completion_tokens_details"))
    cost = number(payload.get("response_cost"))
    paid = cost != 0 or payload.get("status") == "failure" or flag(payload.get("cache_hit")) is True
    return {
        "input_tokens": None if unknown else entered,
        "output_tokens": None if unknown else produced,
        "cached_input_tokens": None if unknown else count(prompt.get("cached_tokens")),
        "reasoning_tokens": None if unknown else count(completion.get("reasoning_tokens")),
        "cost_usd": cost if paid or not unknown else None,
    }


def _outcome(payload: dict[str, Any]) -> dict[str, Any]:
    response = mapping(payload.get("response"))
    failed = payload.get("status") == "failure"
    error = mapping(payload.get("error_information"))
    status = whole_or_none(error.get("error_code"))
    parameters = mapping(payload.get("model_parameters"))
    version = text_or_none(response.get("model"))
    if version == payload.get("model_group") and version != payload.get("model"):
        version = None  # the proxy answers with the name of the group, which no provider said
    fields: dict[str, Any] = {
        "model_version": version,
        "params_sha256": digest({name: parameters[name] for name in PARAMETERS if parameters.get(name) is not None}),
        "tools_sha256": digest(parameters.get("tools")),
        "system_fingerprint": text_or_none(response.get("system_fingerprint")),
        "is_error": failed,
        "error_type": (text_or_none(error.get("error_class")) or "unknown") if failed else None,
        "http_status": status if failed and status is not None and 0 < status < 1000 else None,
        "prompt_text": _prompt(payload.get("messages")),
    }
    return fields if failed else fields | _answered(response, payload.get("custom_llm_provider"))


def _answered(response: dict[str, Any], provider: object) -> dict[str, Any]:
    """Finish reason, refusal and text; an answer of the Responses API has its own shape."""
    if shape(response) == "response":
        said = answer_fields(response)
        return {name: said[name] for name in ("finish_reason", "refused", "response_text")}
    choice = mapping(next(iter(items(response.get("choices"))), None))
    message = mapping(choice.get("message"))
    text = text_or_none(message.get("content")) or text_or_none(choice.get("text"))
    text = None if text == REDACTED else text
    reason = finish_reason(choice.get("finish_reason"))
    if reason == "content_filter" and provider == "anthropic":
        reason = "refusal"  # LiteLLM's word for Anthropic's stop_reason "refusal"
    return {"finish_reason": reason, "refused": _refused(message, reason, text), "response_text": text}


def _refused(message: dict[str, Any], reason: str | None, answer: str | None) -> bool | None:
    """True when the model says so, False for an answer or a tool call, None when there is nothing to tell from."""
    if message.get("refusal") or mapping(message.get("provider_specific_fields")).get("refusal") or reason == "refusal":
        return True
    if reason == "content_filter":
        return None
    return False if answer or message.get("tool_calls") or message.get("function_call") else None


def _prompt(messages: object) -> str | None:
    """Return the text of the messages, one a line; None when they are not logged."""
    known = parsed(messages)
    if isinstance(known, str):
        return None if known in ("", REDACTED) else known
    texts = [_content(mapping(message).get("content")) for message in items(known)]
    return "\n".join(texts) if texts and any(text != REDACTED for text in texts) else None


def _mirror(payload: dict[str, Any], call_type: str) -> dict[str, Any]:
    """Return what tells the silent leg of a mirrored request from its primary, for rows that may be either.

    Only the Router's completions are mirrored, and a leg is always `acompletion`; both carry the same messages.
    """
    if call_type not in ("completion", "acompletion") or not payload.get("model_group") or not payload.get("trace_id"):
        return {}
    messages = payload.get("messages")
    if _prompt(messages) is None or (whole := digest(parsed(messages))) is None:
        return {}
    return {"call_type": call_type, "messages_hash": whole[:16]}


def _content(content: object) -> str:
    if isinstance(content, str):
        return content
    return "".join(text_or_none(mapping(part).get("text")) or "" for part in items(content))


FORMAT = LiteLLM()
