"""LangSmith: runs (SDK, API and bulk export), the SDK's batches, and feedback.

Source: langchain-ai/langsmith-sdk (schemas.py; types/run.py, which spells run types in capitals), the bulk export's
field list, and uploads of langsmith 0.15. Root metadata and tags are inherited by the llm run in the SDK already, so a
run is read by itself. Only llm and embedding runs are model calls.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

from abtest.ingest.base import Format, Ignored, Item, digest, items, mapping, parse_object, reject, text_or_none
from abtest.ingest.cells import array, count, elapsed, finite, moment, number, pairs, parsed, text
from abtest.ingest.labels import context, label, rest, scorer_kind
from abtest.ingest.langsmith_multipart import merge
from abtest.ingest.litellm import PARAMETERS
from abtest.ingest.messages import Answer, answer, prompt
from abtest.ingest.validate import from_fields

RUN = frozenset({"id", "run_type", "start_time"})
FEEDBACK = frozenset({"id", "key"})
JUDGED = frozenset({"score", "value", "feedback_source", "comment", "correction"})

JUNK = ("LANGSMITH_", "LANGCHAIN_", "ls_", "lc_", "langgraph_", "__", "_type", "usage_metadata")
"""Beginnings of metadata keys that the SDK, LangChain and LangGraph write."""

SESSION = ("session_id", "thread_id", "conversation_id")
STEP = "seq:step:"
"""LangChain tags each step of a sequence so."""

ERROR = re.compile(r"^\s*(?:[a-z_]\w*\.)*([A-Za-z_]\w{0,99})\(")
STATUS = re.compile(r"\bError code: (\d{3})\b")
JUDGES = ("model", "auto_eval", "evaluator")


class LangSmith(Format):
    """Runs and feedback, one JSON object each; `{"post": [...], "patch": [...]}` batches too."""

    name: ClassVar[str] = "langsmith"
    description: ClassVar[str] = "LangSmith runs (export, API, SDK batches) and feedback, one JSON object each"

    def sniff(self, objects: Sequence[Mapping[str, Any]]) -> float:
        """0.95 times the share of objects that have id, run_type and start_time, or a feedback's id, key and score."""
        return 0.95 * sum(_is_ours(value) for value in objects) / len(objects)

    def read(self, line: bytes, number: int, offset: int) -> Sequence[Item]:
        """Read a run, a feedback, or a batch; of a batch a bad run is rejected alone."""
        body = parse_object(line)
        if isinstance(body, str):
            return (reject(line, number, offset, body),)
        if not _is_batch(body):
            item = _item(body)
            return (reject(line, number, offset, item) if isinstance(item, str) else item,)
        found: list[Item] = []
        for each in _batch(body):
            item = _item(each)
            found.append(reject(json.dumps(each).encode(), number, offset, item) if isinstance(item, str) else item)
        return found or (Ignored(),)


def _is_batch(body: Mapping[str, Any]) -> bool:
    return bool(body) and body.keys() <= {"post", "patch"} and all(isinstance(each, list) for each in body.values())


def _is_ours(value: Mapping[str, Any]) -> bool:
    if _is_batch(value):
        first = mapping(next(iter([*items(value.get("post")), *items(value.get("patch"))]), None))
        return "run_type" in first
    keys = value.keys()
    return keys >= RUN or (keys >= FEEDBACK and bool(keys & JUDGED) and "run_type" not in keys)


def _batch(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the runs of a batch, each post with its patch."""
    runs: dict[str, dict[str, Any]] = {}
    for each in [*items(body.get("post")), *items(body.get("patch"))]:
        run = mapping(each)
        key = text_or_none(run.get("id")) or f"#{len(runs)}"
        runs[key] = merge(runs.get(key, {}), run)
    yield from runs.values()


def _item(body: dict[str, Any]) -> Item | str:
    try:
        if "run_type" in body:
            return _run(body)
        if body.keys() >= FEEDBACK and body.keys() & JUDGED:
            return _feedback(body)
    except ValueError as error:  # a time that is none
        return f"bad_value: {error}"
    if "dotted_order" in body:
        return "missing: run_type (a patch whose post is in another file)"
    return f"not_langsmith: its keys are {', '.join(list(body)[:6])}"[:300]


def _run(run: dict[str, Any]) -> Item | str:
    kind = run["run_type"]
    if not isinstance(kind, str):
        return "bad_value: run_type: text is needed"
    if kind.lower() not in ("llm", "embedding"):
        return Ignored()
    start, end = moment(run.get("start_time"), "start_time"), moment(run.get("end_time"), "end_time")
    if end is None and not text_or_none(run.get("error")):
        return Ignored()  # still running: the SDK sends it again, complete, as a patch
    extra = pairs(run.get("extra"))
    metadata = {**pairs(extra.get("metadata")), **pairs(run.get("metadata"))}
    inputs, outputs = pairs(run.get("inputs")), pairs(run.get("outputs"))
    given = {**pairs(extra.get("invocation_params")), **inputs}
    output = Answer() if _error(run) else answer(outputs)
    identifier = text_or_none(run.get("id"))
    model = _model(metadata, given) or output.model or text_or_none(outputs.get("model"))
    fields: dict[str, Any] = {
        "interaction_id": identifier,
        "ts": start.isoformat() if start else None,
        "trace_id": text_or_none(run.get("trace_id")),
        "span_id": identifier,
        "operation": _operation(kind, metadata),
        "provider": text(metadata.get("ls_provider")),
        "model": model,
        "latency_ms": elapsed(start, end),
        **_streaming(run, start, given),
        **_usage(run, metadata, output.usage or pairs(outputs.get("usage"))),
        **_context(run, metadata),
        **_outcome(run, {**_declared(metadata), **given}, output),
        "prompt_text": prompt(inputs),
    }
    if kind.lower() == "embedding":
        version = text_or_none(outputs.get("model")) or model
        fields |= {"embedding_model_version": version, "prompt_text": None, "response_text": None, "refused": None}
    return _named(from_fields("interaction", fields))


def _model(metadata: dict[str, Any], given: dict[str, Any]) -> str | None:
    named = (metadata.get("ls_model_name"), given.get("model"), given.get("model_name"), metadata.get("model"))
    return next((name for value in named if (name := text_or_none(value))), None)


def _declared(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters that the SDK repeats in the metadata: all that a patch without its inputs has."""
    return {name: value for name in ("temperature", "max_tokens") if (value := metadata.get(f"ls_{name}")) is not None}


def _operation(kind: str, metadata: dict[str, Any]) -> str:
    if kind.lower() == "embedding":
        return "embeddings"
    return "text_completion" if metadata.get("ls_model_type") == "llm" else "chat"


def _error(run: dict[str, Any]) -> str | None:
    return text_or_none(run.get("error")) or text_or_none(run.get("error_preview"))


def _streaming(run: dict[str, Any], start: datetime | None, given: dict[str, Any]) -> dict[str, Any]:
    """Time to the first token: the server's, else that of the first `new_token` event, which only streams have.

    LangChain's own `stream` parameter is false for calls that it streams, so only a true one counts.
    """
    first = moment(run.get("first_token_time"), "first_token_time")
    if first is None:
        events = (mapping(event) for event in array(run.get("events")))
        at = next((event.get("time") for event in events if event.get("name") == "new_token"), None)
        first = moment(at, "events.time")
    streamed = first is not None or given.get("stream") is True
    return {"ttft_ms": elapsed(start, first), "stream": True if streamed else None}


def _usage(run: dict[str, Any], metadata: dict[str, Any], raw: dict[str, Any]) -> dict[str, Any]:
    """Tokens and cost: the server's, else what the SDK counted, else what the provider said.

    The server writes 0 for both counts when it knows none; no call has neither input nor output.
    """
    told = pairs(metadata.get("usage_metadata")) or pairs(pairs(run.get("outputs")).get("usage_metadata"))
    details = _details(run.get("prompt_token_details")) or pairs(told.get("input_token_details"))
    thought = _details(run.get("completion_token_details")) or pairs(told.get("output_token_details"))
    entered, produced = count(run.get("prompt_tokens")), count(run.get("completion_tokens"))
    served = not (entered in (0, None) and produced in (0, None))
    if not served:
        entered = _count(told, "input_tokens") if told else _count(raw, "prompt_tokens", "input_tokens")
        produced = _count(told, "output_tokens") if told else _count(raw, "completion_tokens", "output_tokens")
    cost = number(run.get("total_cost"))
    if cost is None or (not served and finite(cost) == 0):
        cost = number(told.get("total_cost"))
    known = finite(cost)
    return {
        "input_tokens": entered,
        "output_tokens": produced,
        "cached_input_tokens": _count(details or mapping(raw.get("prompt_tokens_details")), *CACHED),
        "reasoning_tokens": _count(thought or mapping(raw.get("completion_tokens_details")), *THOUGHT),
        "cost_usd": cost if known is None else known,
    }


CACHED, THOUGHT = ("cache_read", "cached_tokens"), ("reasoning", "reasoning_tokens")


def _details(value: Any) -> dict[str, Any]:
    """Return a breakdown of tokens; the newer API wraps it in `raw`."""
    details = pairs(value)
    return pairs(details["raw"]) if "raw" in details else details


def _count(source: dict[str, Any], *names: str) -> Any:
    return next((count(source[name]) for name in names if source.get(name) is not None), None)


def _context(run: dict[str, Any], metadata: dict[str, Any]) -> dict[str, Any]:
    """Experiment, variant, unit, prompt; the rest of the metadata as attributes, without copies of parameters."""
    tags = [tag for tag in array(run.get("tags")) if not (isinstance(tag, str) and tag.startswith(STEP))]
    found = context(metadata, tags)
    sessions = [metadata.get(name) for name in SESSION] + [run.get("thread_id")]
    session = next((value for each in sessions if (value := label(each))), None)
    surface = text(run.get("session_name"))
    parameters = {*PARAMETERS, *pairs(pairs(run.get("extra")).get("invocation_params")), *SESSION}
    kept = rest({name: value for name, value in metadata.items() if name not in parameters}, tags, JUNK)
    if (name := text(run.get("name"))) and len(name) <= 256:
        kept.setdefault("run_name", name)
    own = {"session_id": session, "surface": surface}
    return {**{key: value for key, value in own.items() if value}, **found, "attributes": kept}


def _outcome(run: dict[str, Any], given: dict[str, Any], output: Answer) -> dict[str, Any]:
    error = _error(run)
    failed = error is not None or str(run.get("status")).lower() == "error"
    kind = ERROR.match(error) if error else None
    status = STATUS.search(error[:2000]) if error else None
    return {
        "model_version": output.model,
        "provider_response_id": output.response_id,
        "system_fingerprint": output.fingerprint,
        "finish_reason": output.reason,
        "refused": None if failed else output.refused,
        "is_error": failed,
        "error_type": (kind.group(1) if kind else "unknown") if failed else None,
        "http_status": int(status.group(1)) if status else None,
        "params_sha256": digest({name: given[name] for name in PARAMETERS if given.get(name) is not None}),
        "tools_sha256": digest(parsed(given.get("tools"))),
        "response_text": output.text,
    }


def _feedback(body: dict[str, Any]) -> Item | str:
    """One feedback. Without a run it names no call; with a comment or a correction alone it judges nothing.

    The SDK may leave out the trace: then the run is taken for the root, whose id is the trace's.
    """
    run, trace = text_or_none(body.get("run_id")), text_or_none(body.get("trace_id"))
    judged = _judged(body)
    if not (run or trace) or not judged:
        return Ignored()
    made, changed = moment(body.get("created_at"), "created_at"), moment(body.get("modified_at"), "modified_at")
    made = made or changed
    source = pairs(body.get("feedback_source"))
    name = text_or_none(body["key"])
    fields: dict[str, Any] = {
        "score_id": text_or_none(body["id"]),
        "ts": made.isoformat() if made else None,
        "updated_at": changed.isoformat() if changed and made and changed > made else None,
        "name": name,
        "scorer_kind": _scorer(source, name),
        "scorer_id": _scorer_id(body, source),
        "trace_id": trace or run,
        "span_id": run,
        "explanation": text_or_none(body.get("comment")),
        **judged,
    }
    return _named(from_fields("score", fields))


def _judged(body: dict[str, Any]) -> dict[str, Any]:
    """Return value and label, or the error of an evaluator that failed; empty when there is neither."""
    if body.get("error") is True or pairs(body.get("extra")).get("error") is True:
        return {"error_type": "evaluator_error"}
    score, value = body.get("score"), parsed(body.get("value"))
    if score is None or score == "":
        score = value if isinstance(value, (bool, int, float)) else None
    words = value if isinstance(value, str) else None
    if isinstance(value, (dict, list)) and value:
        words = json.dumps(value, sort_keys=True, ensure_ascii=False)
    found: dict[str, Any] = {}
    if score is not None:
        known = finite(int(score) if isinstance(score, bool) else score)
        found["value"] = number(score) if known is None else known
    if words:
        found["label"] = words
    return found


def _scorer(source: dict[str, Any], name: str | None) -> str:
    kind, metadata = source.get("type"), pairs(source.get("metadata"))
    if kind == "app":
        return "human"
    if kind in JUDGES or metadata.get("model") or "__run" in metadata:
        return "judge"
    return scorer_kind(name, metadata.get("abtest.scorer_kind") or metadata.get("scorer_kind"))


def _scorer_id(body: dict[str, Any], source: dict[str, Any]) -> str | None:
    """Return who scored. A preference of a pairwise comparison is one per comparison, so that is part of it."""
    metadata = pairs(source.get("metadata"))
    named = (metadata.get("scorer_id"), metadata.get("model"), source.get("user_id"), source.get("user_name"))
    who = next((name for value in named if (name := text(value))), None)
    comparison = text_or_none(body.get("comparative_experiment_id"))
    return f"{who or 'comparative'}@{comparison}" if comparison else who


def _named(item: Item | str) -> Item | str:
    """Say in a `missing` reason which key was looked for."""
    if not isinstance(item, str) or not item.startswith("missing: "):
        return item
    names = {
        "interaction_id": "id",
        "score_id": "id",
        "ts": "start_time or created_at",
        "model": "extra.metadata.ls_model_name",
        "name": "key",
    }
    asked = [names[key] for key in item.removeprefix("missing: ").split("; ")[0].split(", ") if key in names]
    return f"{item} ({', '.join(asked)})" if asked else item


FORMAT = LangSmith()
