"""What was asked and answered, out of span attributes: structured messages, indexed names, JSON texts.

GenAI conventions keep messages as a JSON text on spans and as structure on events; OpenInference and older
instrumentations spread them over names like `llm.input_messages.0.message.content`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic_core import from_json

from abtest.ingest.base import items, mapping, text_or_none
from abtest.ingest.cells import parsed
from abtest.ingest.messages import answer, prompt
from abtest.ingest.otel_facts import REDACTED, raw_answer
from abtest.ingest.otlp import Part

_INDEXED = {
    "prompt": re.compile(
        r"(?:llm\.input_messages\.(\d{1,4})\.message|gen_ai\.prompt\.(\d{1,4})|llm\.prompts\.(\d{1,4})\.prompt)"
        r"\.(?:content|text|contents\.\d{1,4}\.message_content\.text)"
    ),
    "answer": re.compile(
        r"(?:llm\.output_messages\.(\d{1,4})\.message|gen_ai\.completion\.(\d{1,4})|llm\.choices\.(\d{1,4})\.completion)"
        r"\.(?:content|text|contents\.\d{1,4}\.message_content\.text)"
    ),
}


def asked(part: Part) -> str | None:
    """Return the text of the request, one message a line; None when it is not logged."""
    messages = part.first("gen_ai.input.messages")
    if messages is not None:
        return joined(structured(messages))
    if (text := indexed(part, "prompt")) is not None:
        return text
    content = part.first("gen_ai.prompt", "langfuse.observation.input", "input.value")
    return None if content in REDACTED else prompt(content)


def answered(part: Part) -> str | None:
    """Return the text of the answer; "" for one without text, None when it is not logged."""
    messages = part.first("gen_ai.output.messages")
    if messages is not None:
        return joined(structured(messages))
    if (text := raw_answer(part).text) is not None:
        return text
    if (text := indexed(part, "answer")) is not None:
        return text
    content = part.first("gen_ai.completion", "langfuse.observation.output", "output.value")
    if content in REDACTED:
        return None
    message = parsed(content)
    return answer(message if "role" in mapping(message) else content).text


def refused(part: Part) -> bool | None:
    """Tell whether the model refused, where the span has a place for it; None elsewhere.

    OpenInference keeps the answer of OpenAI's API, refusals of streamed answers included, so an answer there is no
    refusal. GenAI conventions lose refusals in the usual instrumentation, so there only a refusal can be told.
    """
    if any(_is_refusal(message) for message in structured(part.first("gen_ai.output.messages"))):
        return True
    if part.text("gen_ai.completion.0.refusal"):
        return True
    said = raw_answer(part)
    if said.refused is None:
        said = replace(said, refused=_in_langfuse(part))
    if said.refused is not None or said.reason in (None, "content_filter") or not part.first("answer:choices"):
        return said.refused
    return False if said.text or said.reason == "tool" else None


def _in_langfuse(part: Part) -> bool | None:
    output = part.attributes.get("langfuse.observation.output")
    return answer(output).refused if isinstance(output, str) and output not in REDACTED else None


def indexed(part: Part, kind: str) -> str | None:
    """Return the texts under indexed names, one message a line, in the order of their numbers."""
    lines: dict[int, list[tuple[str, str]]] = {}
    for name, value in part.attributes.items():
        if not isinstance(value, str) or value in REDACTED or not name.startswith(("llm.", "gen_ai.")):
            continue
        if match := _INDEXED[kind].fullmatch(name):
            at = next(int(group) for group in match.groups() if group)
            lines.setdefault(at, []).append((name, value))
    if not lines:
        return None
    return "\n".join("".join(text for _, text in sorted(lines[at])) for at in sorted(lines))


def structured(value: Any) -> list[dict[str, Any]]:
    """Return the messages of the GenAI conventions: a JSON string on spans, structured on events."""
    if isinstance(value, str):
        try:
            value = from_json(value)
        except ValueError:
            return []
    return [mapping(message) for message in items(value)]


def joined(messages: Sequence[dict[str, Any]]) -> str | None:
    """Return the text parts of messages, one message a line; "" for one without text, None for no message."""
    if not messages:
        return None
    return "\n".join("".join(_text(mapping(part)) for part in items(message.get("parts"))) for message in messages)


def _text(part: dict[str, Any]) -> str:
    return text_or_none(part.get("content")) or "" if part.get("type") in ("text", "refusal") else ""


def _is_refusal(message: dict[str, Any]) -> bool:
    return any(mapping(part).get("type") == "refusal" for part in items(message.get("parts")))
