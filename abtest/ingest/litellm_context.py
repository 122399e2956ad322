"""Who asked LiteLLM, in which experiment, for which request; and whether anybody saw the answer.

What survives into a payload: tags, `spend_logs_metadata`, `requester_metadata` (proxy), custom `x-` headers (proxy),
`user`. Retries and fallbacks of one request share its trace id; so does the silent leg of a mirrored request
(`silent_model`), which carries the caller's tags and, in the payload, no mark of its own: it needs one of those below.
"""

from __future__ import annotations

import re
from typing import Any

from abtest.ingest import labels
from abtest.ingest.base import mapping, text_or_none, whole_or_none
from abtest.ingest.cells import array, flag, pairs

SILENT = "is_silent_experiment"
"""LiteLLM's own mark in `kwargs["litellm_params"]["metadata"]`; a callback has to copy it."""

SHADOW_NAME = re.compile(r"(?<![a-z])(shadow|silent)(?![a-z])", re.IGNORECASE)
UUID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$", re.IGNORECASE)
HEADER = "x-abtest-"
OWN_TAGS = ("User-Agent:", "Credential:")
"""Beginnings of tags that the proxy adds."""

JUNK = frozenset({"used_client_oauth_token", "trace_id", SILENT, "exposed", "abtest.exposed"})


def interaction_id(payload: dict[str, Any], call_id: str) -> str:
    """Return the id of the row. The proxy keeps one call id over all attempts: a failed one then gets an id of its own.

    The SDK and its Router draw a new call id for each attempt.
    """
    proxied = text_or_none(mapping(payload.get("metadata")).get("user_api_key_request_route"))
    return f"{call_id}:failed" if proxied and payload.get("status") == "failure" else call_id


def context(payload: dict[str, Any]) -> dict[str, Any]:
    """Return the native fields of a payload that say who, where and for which request, and the user's own attributes.

    In order of trust: `spend_logs_metadata`, `requester_metadata`, headers `x-abtest-...`, tags. The unit is the end
    user before all of them.
    """
    metadata = mapping(payload.get("metadata"))
    spend, requester = pairs(metadata.get("spend_logs_metadata")), pairs(metadata.get("requester_metadata"))
    own = {**_headers(pairs(metadata.get("requester_custom_headers"))), **requester, **spend}
    tags = [tag for tag in array(payload.get("request_tags")) if not str(tag).startswith(OWN_TAGS)]
    shadow = _shadow(payload, own, tags)
    found = labels.context(own, tags if shadow is None else tags[::-1])  # a deployment's tags come last
    user = text_or_none(payload.get("end_user")) or text_or_none(mapping(payload.get("model_parameters")).get("user"))
    found["unit_id"] = user or found.get("unit_id") or text_or_none(metadata.get("user_api_key_end_user_id"))
    found["session_id"] = text_or_none(payload.get("session_id")) or found.get("session_id")
    found.setdefault("request_id", _request(payload, requester))
    prompt = mapping(metadata.get("prompt_management_metadata"))
    found.setdefault("prompt_name", text_or_none(prompt.get("prompt_id")))
    if shadow is not None:
        found |= {"exposed": False, "variant": shadow}
    headers = mapping(mapping(payload.get("hidden_params")).get("additional_headers"))
    retries, fallbacks = (
        whole_or_none(headers.get(f"x-litellm-attempted-{name}")) for name in ("retries", "fallbacks")
    )
    if retries is not None and retries >= 0:
        found["attempt"] = retries + 1
    kept = labels.rest({name: value for name, value in own.items() if name not in JUNK}, [])
    if other := [tag for tag in labels.rest({}, tags).get("tags", []) if _mark(tag) is None]:
        kept["request_tags"] = other
    if group := text_or_none(payload.get("model_group")):
        kept["model_group"] = group
    if fallbacks:
        kept["attempted_fallbacks"] = fallbacks
    return {**found, "attributes": kept}


def _headers(headers: dict[str, Any]) -> dict[str, Any]:
    """Return `x-abtest-variant: b` as `abtest.variant`; other headers are not kept."""
    return {
        f"abtest.{name.lower().removeprefix(HEADER).replace('-', '_')}": value
        for name, value in headers.items()
        if name.lower().startswith(HEADER)
    }


def _request(payload: dict[str, Any], requester: dict[str, Any]) -> str | None:
    """Return the trace id where it stands for one request: then its attempts and its silent leg share it.

    LiteLLM draws a UUID for each request of a Router. A session id takes the place of the trace id, silently, so the
    trace is trusted only where it is told apart from the session (`request_correlation_in_logs`), or is a UUID that the
    caller did not send, in a conversation that has no answers yet.
    """
    trace, session = text_or_none(payload.get("trace_id")), text_or_none(payload.get("session_id"))
    if trace is None or not UUID.match(trace) or not text_or_none(payload.get("model_group")):
        return None
    if session:
        return trace if session != trace else None
    if trace in (requester.get("session_id"), requester.get("trace_id")):
        return None
    answered = any(mapping(message).get("role") == "assistant" for message in array(payload.get("messages")))
    return None if answered else trace


def _mark(tag: object) -> tuple[str, str] | None:
    """Return name and value of a tag that marks a shadow leg: `shadow:NAME`, `exposed:false`."""
    parts = re.split(r"[:=]", tag, maxsplit=1) if isinstance(tag, str) else []
    name = parts[0].strip().removeprefix("abtest.") if parts else ""
    return (name, parts[1].strip()) if len(parts) == 2 and name in ("shadow", "exposed") else None


def _shadow(payload: dict[str, Any], own: dict[str, Any], tags: list[Any]) -> str | None:
    """Return the arm of a leg that nobody saw; None for the user's own traffic.

    Marks: a tag `shadow:NAME` or `exposed:false`; `exposed = false` or LiteLLM's own `is_silent_experiment` in any
    metadata; a model group whose name says shadow or silent. The caller's tags are copied to the leg, so its arm is
    that of the mark, else of a variant tag after the mark or after the caller's, else the model group.
    """
    marks = [(place, mark) for place, tag in enumerate(tags) if (mark := _mark(tag))]
    named = [value for _, (name, value) in marks if name == "shadow" and value]
    hidden = [place for place, (name, value) in marks if name == "exposed" and value.lower() in ("false", "0")]
    group = text_or_none(payload.get("model_group")) or ""
    sources = (payload, mapping(payload.get("metadata")), own)
    told = any(flag(each.get(SILENT)) is True for each in sources) or any(
        flag(own.get(name)) is False for name in ("exposed", "abtest.exposed")
    )
    if not (named or hidden or told or SHADOW_NAME.search(group)):
        return None
    if named:
        return named[-1]
    arms = [(place, arm) for place, tag in enumerate(tags) if (arm := labels.context({}, [tag]).get("variant"))]
    after = [arm for place, arm in arms if hidden and place > hidden[0]]
    if after:
        return after[-1]
    if len({arm for _, arm in arms}) > 1:
        return arms[-1][1]
    return group or text_or_none(payload.get("model")) or "shadow"
