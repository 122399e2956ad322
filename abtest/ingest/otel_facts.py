"""What OpenInference, Langfuse and older instrumentations keep as JSON inside one attribute, as named facts.

`meta:variant` and its like come from metadata and tags; `request:`, `answer:`, `usage:`, `event:` and `input:` describe
the call. They are looked up like attributes, by the names in `otel_span`.
"""

from __future__ import annotations

from typing import Any

from abtest.ingest import labels, langfuse_usage
from abtest.ingest.base import items, mapping, number_or_none, text_or_none
from abtest.ingest.cells import array, pairs, parsed
from abtest.ingest.messages import Answer, answer
from abtest.ingest.otel_span import MODEL, NOT_A_PARAMETER
from abtest.ingest.otlp import Part, unpack

REDACTED = ("__REDACTED__", "<fully masked due to failed mask function>")
"""What OpenInference and Langfuse write instead of content."""

METADATA = ("traceloop.association.properties", "langfuse.trace.metadata", "langfuse.observation.metadata", "metadata")
"""Attributes that hold free metadata, as one JSON text or one attribute a key; later ones win."""

TAGS = ("tag.tags", "langfuse.trace.tags", "langfuse.tags")
JUNK = ("ls_", "lc_", "langgraph_", "resourceAttributes", "scope", "revision_id", "finish_reason")
"""Beginnings of metadata keys that LangChain and Langfuse write themselves."""

PARAMETERS = ("llm.invocation_parameters", "embedding.invocation_parameters", "langfuse.observation.model.parameters")


def metadata(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the free metadata of a span, whatever its dialect."""
    found: dict[str, Any] = {}
    for prefix in METADATA:
        found.update(pairs(attributes.get(prefix)))
        start = f"{prefix}."
        found.update({name[len(start) :]: value for name, value in attributes.items() if name.startswith(start)})
    return found


def tags(attributes: dict[str, Any]) -> list[Any]:
    """Return the tags of a span, whatever its dialect."""
    return [tag for name in TAGS for tag in array(attributes.get(name))]


def has_metadata(attributes: dict[str, Any]) -> bool:
    """Tell whether there is any metadata or tag, which most spans have not."""
    return any(name.startswith(METADATA) or name in TAGS for name in attributes)


def context(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return `meta:<native field>` for what metadata and tags say."""
    if not has_metadata(attributes):
        return {}
    return {f"meta:{name}": value for name, value in labels.context(metadata(attributes), tags(attributes)).items()}


def call(part: Part) -> dict[str, Any]:
    """Return the facts of one model call."""
    found: dict[str, Any] = {}
    parameters = request(part)
    for name in ("model", "stream"):
        found[f"request:{name}"] = parameters.get(name)
    if not parameters.get("model") and part.first(*MODEL) is None:
        found["input:model"] = pairs(part.attributes.get("input.value")).get("model")
    payload = _payload(part)
    said = Answer() if payload is None else answer(payload)
    found |= {
        "answer:": said,
        "answer:choices": isinstance(mapping(payload).get("choices"), list),
        "answer:id": said.response_id,
        "answer:model": said.model,
        "answer:fingerprint": said.fingerprint,
        "answer:finish_reason": said.reason,
    }
    return found | _usage(part) | _events(part)


def request(part: Part) -> dict[str, Any]:
    """Return the parameters of the call that are logged as one JSON text."""
    return next((found for name in PARAMETERS if (found := pairs(part.attributes.get(name)))), {})


def parameters(part: Part) -> dict[str, Any]:
    """Return those parameters whose change is a change of version."""
    return {name: value for name, value in request(part).items() if name not in NOT_A_PARAMETER and value is not None}


def raw_answer(part: Part) -> Answer:
    """Return what the provider answered, where the span holds it whole; an empty `Answer` elsewhere."""
    said = part.first("answer:")
    return said if isinstance(said, Answer) else Answer()


def _payload(part: Part) -> Any:
    """Return OpenInference's `output.value` when it is JSON; None for text, and for what was hidden."""
    content = part.attributes.get("output.value")
    payload = parsed(content) if content not in REDACTED else None
    return payload if isinstance(payload, (dict, list)) else None  # pyright: ignore[reportUnknownVariableType]


def _events(part: Part) -> dict[str, Any]:
    """Return what the events on the span tell: the exception, the finish reason, and older content attributes."""
    found: dict[str, Any] = {}
    for each in items(part.body.get("events")):
        event = mapping(each)
        attributes = unpack(event.get("attributes"))
        name = str(event.get("name"))
        if name == "exception":
            if kind := text_or_none(attributes.get("exception.type")):
                found.setdefault("event:exception.type", kind)
        elif name == "First Token Stream Event":
            found.setdefault("event:first_token", event.get("timeUnixNano"))
        elif name.startswith("gen_ai."):
            if reason := attributes.get("finish_reason"):
                found.setdefault("event:finish_reason", reason)
            for key, value in attributes.items():
                if key.startswith(("gen_ai.prompt", "gen_ai.completion", "gen_ai.input.", "gen_ai.output.")):
                    found.setdefault(key, value)
    return found


def _usage(part: Part) -> dict[str, Any]:
    """Return tokens and costs of Langfuse, and the sum of OpenInference's two costs where the total is not logged."""
    halves = [part.attributes.get(f"llm.cost.{name}") for name in ("prompt", "completion")]
    costs = pairs(part.attributes.get("langfuse.observation.cost_details"))
    found: dict[str, Any] = {"usage:cost": costs.get("total", _sum([*costs.values()] or halves))}
    if usage := pairs(part.attributes.get("langfuse.observation.usage_details")):
        found |= {f"usage:{name}": count for name, count in _tokens(usage).items()}
    return found


def _tokens(usage: dict[str, Any]) -> dict[str, Any]:
    """Return the token columns: Langfuse's own categories are disjoint, OpenAI's details are parts of their sum."""
    asked = mapping(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
    answered = mapping(usage.get("completion_tokens_details") or usage.get("output_tokens_details"))
    if not asked and not answered and "prompt_tokens" not in usage:
        return langfuse_usage.tokens({"usage_details": usage})
    return {
        "input_tokens": usage.get("prompt_tokens", usage.get("input_tokens")),
        "output_tokens": usage.get("completion_tokens", usage.get("output_tokens")),
        "cached_input_tokens": asked.get("cached_tokens"),
        "reasoning_tokens": answered.get("reasoning_tokens"),
    }


def _sum(values: list[Any]) -> float | None:
    """Return the sum of costs; None when one of them is no number."""
    known = [value for each in values if (value := number_or_none(each)) is not None]
    return sum(known) if len(known) == len(values) else None
