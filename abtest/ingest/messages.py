"""What a model was asked and what it answered, from the payloads that observability tools store.

Understood: OpenAI chat completions, completions, responses and single messages; Anthropic messages; LangChain
generations and serialised messages; lists of messages; `{"output": ...}` wrappers; plain text.

`refused` is known only where the payload has a place for it: a `refusal` key (even null), Anthropic's `stop_reason`,
typed parts of the Responses API. Wrappers that lose refusals (a streamed answer joined from its chunks) leave it
unknown, because a rate over the answers that are left would always be zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from abtest.ingest.base import finish_reason, items, mapping, text_or_none
from abtest.ingest.cells import parsed

DEPTH = 3
"""Wrappers that are opened at most."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of a model; what the payload does not say is None.

    Attributes:
        text: The text; "" for an answer without text (a tool call, a refusal).
        refused: Whether the model refused, where the payload can tell.
        reason: Normalised finish reason.
        response_id: The provider's id.
        model: The model that answered.
        fingerprint: OpenAI's system fingerprint.
        usage: The provider's token counts, as they stand.
    """

    text: str | None = None
    refused: bool | None = None
    reason: str | None = None
    response_id: str | None = None
    model: str | None = None
    fingerprint: str | None = None
    usage: dict[str, Any] | None = None


def answer(payload: Any, depth: int = DEPTH) -> Answer:
    """Read an answer; an empty `Answer` when the payload is of no shape that is known."""
    if isinstance(payload, str):
        inner = parsed(payload)
        if isinstance(inner, str):
            return Answer(text=inner) if inner else Answer()
        found = answer(inner, depth)
        return Answer(text=payload) if found == Answer() else found  # a model may answer in JSON of its own
    if isinstance(payload, list):
        return _last(items(payload), depth)  # pyright: ignore[reportUnknownArgumentType]
    return _object(mapping(payload), depth)


def _object(body: dict[str, Any], depth: int) -> Answer:
    head = Answer(
        response_id=text_or_none(body.get("id")),
        model=text_or_none(body.get("model")),
        fingerprint=text_or_none(body.get("system_fingerprint")),
        usage=mapping(body.get("usage")) or None,
    )
    if isinstance(body.get("choices"), list):
        return _choice(head, mapping(next(iter(items(body["choices"])), None)))
    if isinstance(body.get("generations"), list):
        return _generation(body)
    if isinstance(body.get("output"), list) and ("status" in body or body.get("object") == "response"):
        return _response(head, body)
    if "content" in body or "refusal" in body or "tool_calls" in body:
        return _message(head if "stop_reason" in body else Answer(), body)
    inner = next((body[key] for key in ("messages", "message", "output") if body.get(key) is not None), None)
    if inner is None or depth == 0:
        return Answer()
    found = answer(inner, depth - 1)
    return replace(found, usage=found.usage or head.usage)


def _last(entries: list[Any], depth: int) -> Answer:
    """Read the last message of a list; a list of content parts is one message."""
    if not entries or depth == 0:
        return Answer()
    last = mapping(entries[-1])
    if "type" in last and "text" in last and "role" not in last:
        return Answer(text=content(entries))
    return answer(entries[-1], depth - 1)


def _choice(head: Answer, choice: dict[str, Any]) -> Answer:
    """OpenAI: chat has a message, the older completions have text."""
    reason = finish_reason(choice.get("finish_reason"))
    if "message" not in choice:
        return replace(head, text=choice["text"] if isinstance(choice.get("text"), str) else None, reason=reason)
    return _message(replace(head, reason=reason), mapping(choice["message"]))


def _message(head: Answer, message: dict[str, Any]) -> Answer:
    """One message of OpenAI or Anthropic."""
    stop = text_or_none(message.get("stop_reason"))
    reason = finish_reason(stop) or head.reason
    text = content(message.get("content")) or ""
    refusal = text_or_none(message.get("refusal"))
    said = bool(text) or bool(message.get("tool_calls")) or bool(message.get("function_call")) or reason == "tool"
    known = "refusal" in message or stop is not None
    return replace(
        head,
        text=refusal if refusal and not text else text,
        refused=_refused(bool(refusal), reason, known and said),
        reason=reason,
    )


def _refused(refusal: bool, reason: str | None, answered: bool) -> bool | None:
    if refusal or reason == "refusal":
        return True
    return False if answered and reason != "content_filter" else None


def _response(head: Answer, body: dict[str, Any]) -> Answer:
    """OpenAI's Responses API: a list of typed items."""
    entries = [mapping(entry) for entry in items(body["output"])]
    parts = [mapping(part) for entry in entries for part in items(entry.get("content"))]
    refusals = [text for part in parts if (text := text_or_none(part.get("refusal")))]
    called = any(str(entry.get("type", "")).endswith("_call") for entry in entries)
    cut = text_or_none(mapping(body.get("incomplete_details")).get("reason"))
    reason = finish_reason("max_tokens" if cut == "max_output_tokens" else cut)
    if reason is None and body.get("status") == "completed":
        reason = "tool" if called and not parts else "stop"
    text = "".join(text_or_none(part.get("text")) or "" for part in parts)
    return replace(
        head,
        text=text or "".join(refusals),
        refused=_refused(bool(refusals), reason, bool(text) or called),
        reason=reason,
    )


def _generation(body: dict[str, Any]) -> Answer:
    """LangChain: generations of generations, each with text, what the provider said, and a serialised message."""
    first: Any = next(iter(items(body["generations"])), None)
    if isinstance(first, list):
        first = next(iter(items(first)), None)  # pyright: ignore[reportUnknownArgumentType]
    generation = mapping(first)
    message = mapping(generation.get("message"))
    kwargs = mapping(message.get("kwargs")) or message
    said = {
        **mapping(body.get("llm_output")),
        **mapping(generation.get("generation_info")),
        **mapping(kwargs.get("response_metadata")),
    }
    merged = {**mapping(kwargs.get("additional_kwargs")), **kwargs}
    if isinstance(said.get("stop_reason"), str):
        merged["stop_reason"] = said["stop_reason"]
    identifier = text_or_none(said.get("id"))
    head = Answer(
        reason=finish_reason(said.get("finish_reason")),
        response_id=None if identifier and identifier.startswith(("lc_run--", "run-")) else identifier,
        model=text_or_none(said.get("model_name")) or text_or_none(said.get("model")),
        fingerprint=text_or_none(said.get("system_fingerprint")),
        usage=mapping(said.get("token_usage")) or mapping(said.get("usage")) or None,
    )
    if not kwargs:
        text = generation.get("text")
        return replace(head, text=text if isinstance(text, str) else None)
    return _message(head, merged)


def content(value: Any) -> str | None:
    """Return the text of a message's content: text itself, or its text parts joined; None when there is none."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return None
    return "".join(_part(part) for part in items(value))  # pyright: ignore[reportUnknownArgumentType]


def _part(part: Any) -> str:
    return part if isinstance(part, str) else text_or_none(mapping(part).get("text")) or ""


def prompt(payload: Any, depth: int = DEPTH) -> str | None:
    """Return the text that was asked, one message a line; None when the payload holds none."""
    if isinstance(payload, str):
        inner = parsed(payload)
        found = inner if isinstance(inner, str) else prompt(inner, depth)
        return found or payload or None
    if isinstance(payload, list):
        lines = [line for entry in items(payload) if (line := _asked(entry, depth)) is not None]  # pyright: ignore[reportUnknownArgumentType]
        return "\n".join(lines) or None
    body = mapping(payload)
    keys = ("messages", "input", "prompt", "prompts", "text", "question")
    inner = next((body[key] for key in keys if body.get(key)), None)
    return None if inner is None or depth == 0 else prompt(inner, depth - 1)


def _asked(entry: Any, depth: int) -> str | None:
    """Return the text of one message; LangChain serialises it under `kwargs`, and nests lists of messages."""
    if isinstance(entry, str):
        return entry
    if isinstance(entry, list):
        return prompt(entry, depth - 1) if depth else None
    message = mapping(mapping(entry).get("kwargs")) or mapping(entry)
    if "content" in message:
        return content(message["content"]) or ""
    return text_or_none(message.get("text"))
