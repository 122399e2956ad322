"""The objects that OpenAI and Anthropic send and receive, wherever a log keeps them.

Sources: the models of the SDKs openai 2.54 and 3.54 (`ChatCompletion`, `Completion`, `Response`,
`CreateEmbeddingResponse`) and anthropic 2.12 (`Message`). Text, refusal and finish reason are read by `messages`.
"""

from __future__ import annotations

from typing import Any

from abtest.ingest.base import digest, items, mapping, text_or_none, whole_or_none
from abtest.ingest.cells import count
from abtest.ingest.messages import answer, prompt

PARAMETERS = (
    "temperature",
    "top_p",
    "top_k",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "stop",
    "stop_sequences",
    "n",
    "response_format",
    "reasoning_effort",
    "reasoning",
    "thinking",
    "tool_choice",
    "dimensions",
)
"""Parameters of a request whose change is a change of version."""

UNFINISHED = ("queued", "in_progress")
"""States of an OpenAI response that is no answer yet."""


def shape(body: dict[str, Any]) -> str | None:
    """Return what kind of answer it is: chat, text, response, message, embeddings; None when it is none of them."""
    kind = body.get("object")
    if kind == "list":
        first: Any = next(iter(items(body.get("data"))), None)
        return "embeddings" if mapping(first).get("object") == "embedding" else None
    if body.get("type") == "message" and body.get("role") == "assistant":
        return "message"
    return {"chat.completion": "chat", "text_completion": "text", "response": "response"}.get(str(kind))


def answer_fields(body: dict[str, Any]) -> dict[str, Any]:
    """Return the native fields that an answer object holds; empty when its shape is unknown."""
    kind = shape(body)
    if kind is None:
        return {}
    said = answer({**body, "output": items(body.get("output"))} if kind == "response" else body)
    model = text_or_none(body.get("model"))
    fields: dict[str, Any] = {
        "operation": {"text": "text_completion", "embeddings": "embeddings"}.get(kind, "chat"),
        "model_version": model,
        "provider_response_id": text_or_none(body.get("id")),
        "finish_reason": said.reason,
        "refused": said.refused,
        "response_text": said.text,
        "system_fingerprint": said.fingerprint,
        **tokens(mapping(body.get("usage"))),
    }
    if kind == "embeddings":
        fields["embedding_model_version"] = model
    if kind == "response":
        error = mapping(body.get("error"))
        if body.get("status") == "failed" or error:
            fields |= {"is_error": True, "error_type": text_or_none(error.get("code")) or "unknown"}
            fields |= {"finish_reason": None, "refused": None}
    return fields


def request_fields(request: dict[str, Any]) -> dict[str, Any]:
    """Return the native fields of the body that was sent: requested model, parameters, tools, prompt."""
    stream = request.get("stream")
    first = prompt(request.get("system") or request.get("instructions"))
    rest = prompt(request)
    return {
        "model": text_or_none(request.get("model")),
        "stream": stream if isinstance(stream, bool) else None,
        "params_sha256": digest({name: request[name] for name in PARAMETERS if request.get(name) is not None}),
        "tools_sha256": digest(request.get("tools")),
        "prompt_text": "\n".join(text for text in (first, rest) if text) or None,
    }


def tokens(usage: dict[str, Any]) -> dict[str, Any]:
    """Return the token counts in the spelling of Chat Completions, Responses or Anthropic.

    Input includes cached tokens, output includes reasoning. Anthropic's `input_tokens` leaves the cache out, so fresh,
    cache-write and cache-read tokens are added.
    """
    sent = mapping(usage.get("prompt_tokens_details")) or mapping(usage.get("input_tokens_details"))
    made = mapping(usage.get("completion_tokens_details")) or mapping(usage.get("output_tokens_details"))
    if "cache_read_input_tokens" in usage and "prompt_tokens" not in usage:
        entered, cached = _with_cache(usage), usage["cache_read_input_tokens"]
    else:
        entered, cached = usage.get("prompt_tokens", usage.get("input_tokens")), sent.get("cached_tokens")
    thought = made.get("reasoning_tokens")
    return {
        "input_tokens": count(entered),
        "output_tokens": count(usage.get("completion_tokens", usage.get("output_tokens"))),
        "cached_input_tokens": count(cached),
        "reasoning_tokens": count(made.get("thinking_tokens") if thought is None else thought),
    }


def _with_cache(usage: dict[str, Any]) -> Any:
    """Add the three counts; one that is no count is passed on, so that validation rejects it."""
    if usage.get("input_tokens") is None:
        return None
    counts = [usage.get(f"{kind}input_tokens") or 0 for kind in ("", "cache_creation_", "cache_read_")]
    known = [whole_or_none(value) for value in counts]
    bad = next((value for value, whole in zip(counts, known, strict=True) if whole is None or whole < 0), None)
    return sum(whole for whole in known if whole is not None) if bad is None else bad
