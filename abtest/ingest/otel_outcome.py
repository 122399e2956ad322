"""How a model call went: durations, tokens, cost, how it ended, what was asked and answered."""

from __future__ import annotations

import re
from typing import Any

from abtest.ingest import otel_facts, otel_text
from abtest.ingest import otel_span as names
from abtest.ingest.base import (
    digest,
    epoch_micros,
    finish_reason,
    items,
    mapping,
    number_or_none,
    text_or_none,
    whole_or_none,
)
from abtest.ingest.cells import moment, parsed
from abtest.ingest.otlp import Part, elapsed, failed, milliseconds

STATUS_IN_TEXT = re.compile(r"\bError code: (\d{3})\b")
"""How the SDKs of OpenAI and Anthropic begin the message of an HTTP error."""

ERROR_CLASS = re.compile(r"([A-Za-z_][\w.]{0,99}(?:Error|Exception|Timeout))\b")


def usage(part: Part) -> dict[str, Any]:
    """Return durations, tokens and cost. What is there and is no number is left to validation, which rejects it."""
    return {
        "latency_ms": milliseconds(part.body),
        "ttft_ms": _first_token(part),
        "input_tokens": _whole(part, *names.INPUT_TOKENS),
        "output_tokens": _whole(part, *names.OUTPUT_TOKENS),
        "cached_input_tokens": _whole(part, *names.CACHED_TOKENS),
        "reasoning_tokens": _whole(part, *names.REASONING_TOKENS),
        "cost_usd": _number(part.first(*names.COST)),
    }


def _first_token(part: Part) -> Any:
    """Milliseconds to the first piece of the answer: logged as such, else from the time when it came."""
    chunk = part.first(*names.FIRST_CHUNK_S)
    if chunk is not None:
        seconds = number_or_none(chunk)
        return chunk if seconds is None else seconds * 1000
    start = part.body.get("startTimeUnixNano")
    if (found := elapsed(start, part.first("event:first_token"))) is not None:
        return found
    begun = whole_or_none(start)
    try:
        came = moment(parsed(part.first(names.ANSWER_BEGUN)), "completion_start_time")
    except ValueError:
        return None
    return None if came is None or begun is None else elapsed(begun // 1000, epoch_micros(came), per=1000)


def _number(value: Any) -> Any:
    """Return a number, also from text; what is none is passed on as it is, so that validation rejects it."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _whole(part: Part, *names: str) -> Any:
    """Return the integer; what is none is passed on as it is, so that validation rejects it and says so."""
    value = part.first(*names)
    whole = whole_or_none(value)
    return value if whole is None else whole


def is_error(part: Part) -> bool:
    """Tell whether the call failed, by the status of the span, its error type or Langfuse's level."""
    level = part.attributes.get("langfuse.observation.level")
    return failed(part.body) or part.text("error.type") is not None or level == "ERROR"


def outcome(part: Part) -> dict[str, Any]:
    """How it ended. `refused` stays unknown unless the log can tell: an ordinary answer may look the same."""
    reason = _finish_reason(part)
    wrong = is_error(part)
    stream = part.first(*names.STREAM)
    streamed = True if part.first("event:first_token", names.ANSWER_BEGUN) is not None else None
    return {
        "finish_reason": reason,
        "refused": True if reason == "refusal" else None if wrong else otel_text.refused(part),
        "is_error": wrong,
        "error_type": part.text(*names.ERROR) or _error_class(part) if wrong else None,
        "http_status": _status(part, wrong),
        "stream": stream if isinstance(stream, bool) else streamed,
        "system_fingerprint": part.text(*names.FINGERPRINT),
        "params_sha256": _parameters(part),
        "tools_sha256": digest(_tools(part)),
    }


def _finish_reason(part: Part) -> str | None:
    found = parsed(part.first(*names.FINISH))
    if not found:
        found = [message.get("finish_reason") for message in otel_text.structured(part.first("gen_ai.output.messages"))]
    reasons: list[Any] = items(found) or [found]
    return finish_reason(next((each for each in reasons if each), None))


def _message(part: Part) -> str:
    """Return what the status of the span says."""
    said = text_or_none(mapping(part.body.get("status")).get("message"))
    return said or part.text("langfuse.observation.status_message") or ""


def _status(part: Part, wrong: bool) -> Any:
    """Return the HTTP status: logged, else as it stands in the error message of the SDKs."""
    status = _whole(part, *names.STATUS)
    if status is not None or not wrong:
        return status
    found = STATUS_IN_TEXT.search(_message(part))
    return int(found.group(1)) if found else None


def _error_class(part: Part) -> str | None:
    """Return the class of the exception with which the message begins."""
    found = ERROR_CLASS.match(_message(part))
    return found.group(1) if found else None


def _parameters(part: Part) -> str | None:
    own = {name: part.attributes[name] for name in names.PARAMETERS if name in part.attributes}
    return digest(own or otel_facts.parameters(part))


def _tools(part: Part) -> Any:
    definitions = part.first("gen_ai.tool.definitions")
    if definitions is not None:
        return definitions
    found = {
        name: value
        for name, value in part.attributes.items()
        if name.startswith("llm.tools.") or (name.startswith("llm.request.functions.") and isinstance(value, str))
    }
    return dict(sorted(found.items()))


def content(part: Part, operation: str) -> dict[str, Any]:
    """Return prompt and answer; those of an embeddings call are no conversation."""
    if operation == names.EMBEDDINGS:
        return {"refused": None}
    answer = otel_text.answered(part)
    return {"prompt_text": otel_text.asked(part), "response_text": None if is_error(part) and not answer else answer}
