"""Langfuse: the blob storage export (observations_v2, observations, scores, traces) and the SDK's list of scores.

Source: langfuse/langfuse-docs, blob-storage-export-fields, and the export's own queries (langfuse/langfuse,
events.ts). Times have no zone and are UTC. Unset text is "". The public API's camel case names are taken too.
A row depends on itself only: legacy `observations` rows have no user, tags or session, because these are in `traces`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from abtest.ingest import langfuse_usage
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
    text_or_none,
)
from abtest.ingest.cells import array, count, finite, moment, pairs, parsed, text
from abtest.ingest.labels import context, rest, scorer_kind, snake
from abtest.ingest.litellm import PARAMETERS
from abtest.ingest.messages import Answer, answer, prompt
from abtest.ingest.validate import from_fields

CALLS = {"GENERATION": "chat", "EMBEDDING": "embeddings"}
"""Observation types that are model calls; spans, tools, agents, events and the rest are ignored."""

OWN = "langfuse"
"""Environments that begin so are Langfuse's own (its judges, its prompt experiments): no answers of the product."""

JUNK = ("resourceAttributes", "scopeAttributes", "attributes", "scope", "ls_", "lc_", "langfuse_", "finish_reason")
"""Beginnings of metadata keys that SDKs and the server write."""

INHERITED = ("attributes.", "langfuse.trace.metadata.", "langfuse.observation.metadata.")
"""Where the server keeps attributes of spans that other instrumentations made."""

OBSERVATION = frozenset({"id", "trace_id", "type", "start_time"})
OBSERVED = frozenset({"parent_observation_id", "project_id", "usage_details"})
SCORE = frozenset({"id", "name", "value", "timestamp"})
SCORED = frozenset({"trace_id", "observation_id", "session_id", "dataset_run_id"})
TRACE = frozenset({"id", "timestamp", "public", "bookmarked"})
MANIFEST = frozenset({"project_id", "export_source", "files", "max_timestamp"})

CAMEL = frozenset({"traceId", "startTime", "observationId", "sessionId", "datasetRunId", "projectId"})
"""Names of the public API and the SDK; a row with one of them is spelled so throughout."""

STATUS = re.compile(r"\bError code: (\d{3})\b")
ERROR_CLASS = re.compile(r"^([A-Za-z_][\w.]{0,99}(?:Error|Exception|Timeout|Warning|Interrupt))\b")


class Langfuse(Format):
    """Export rows and the SDK's scores, one JSON object a row."""

    name: ClassVar[str] = "langfuse"
    description: ClassVar[str] = "Langfuse blob storage export (observations, scores) and the SDK's score list"

    def sniff(self, objects: Sequence[Mapping[str, Any]]) -> float:
        """0.95 times the share of objects with the key columns of an observation, a score, a trace or a manifest."""
        return 0.95 * sum(_kind(_snaked(_first(value))) != "" for value in objects) / len(objects)

    def read(self, line: bytes, number: int, offset: int) -> Sequence[Item]:
        """Read one row, or a page of the public API (`{"data": [...], "meta": {...}}`)."""
        row = parse_object(line)
        if isinstance(row, str):
            return (reject(line, number, offset, row),)
        if _is_page(row):
            return [self._placed(mapping(each), number, offset) for each in items(row["data"])] or (Ignored(),)
        item = _item(row)
        return (reject(line, number, offset, item) if isinstance(item, str) else item,)

    @staticmethod
    def _placed(row: dict[str, Any], number: int, offset: int) -> Item:
        item = _item(row)
        return reject(json.dumps(row).encode(), number, offset, item) if isinstance(item, str) else item


def _is_page(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("data"), list) and row.keys() <= {"data", "meta"}


def _first(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the first row of a page; anything else is a row itself."""
    return mapping(next(iter(items(row["data"])), None)) if _is_page(row) else row


def _snaked(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row with the export's names; of two spellings the export's own counts."""
    if CAMEL.isdisjoint(row):
        return dict(row)
    return {**{snake(name): value for name, value in row.items()}, **row}


def _kind(row: Mapping[str, Any]) -> str:
    """Name what the row is by its columns; "" for none of Langfuse's."""
    keys = row.keys()
    if keys >= OBSERVATION and keys & OBSERVED:
        return "observation"
    if keys >= SCORE and keys & SCORED and "start_time" not in keys:
        return "score"
    if keys >= TRACE:
        return "trace"
    return "manifest" if keys >= MANIFEST else ""


def _item(row: dict[str, Any]) -> Item | str:
    row = _snaked(row)
    try:
        match _kind(row):
            case "observation":
                return _observation(row)
            case "score":
                return _score(row)
            case "":
                return f"not_langfuse: its keys are {', '.join(list(row)[:6])}"[:300]
            case _:
                return Ignored()
    except ValueError as error:  # a time that is none
        return f"bad_value: {error}"


def _observation(row: dict[str, Any]) -> Item | str:
    kind = row["type"]
    if not isinstance(kind, str):
        return "bad_value: type: text is needed"
    operation = CALLS.get(kind.upper())
    if operation is None:
        return Ignored()
    output = answer(row.get("output"))
    if not _finished(row, output):
        return Ignored()
    start = moment(row["start_time"], "start_time")
    identifier = text_or_none(row["id"])
    environment = text(row.get("environment"))
    model = text(row.get("provided_model_name")) or text(row.get("model"))
    tags = array(row.get("tags"))
    metadata = _metadata(row)
    fields: dict[str, Any] = {
        "interaction_id": identifier,
        "ts": start.isoformat() if start else None,
        "trace_id": text_or_none(row.get("trace_id")),
        "span_id": identifier,
        "operation": "evaluation" if environment and environment.startswith(OWN) else operation,
        "model": model,
        "provider": text(metadata.get("ls_provider")) or text(metadata.get("gen_ai.provider.name")),
        "environment": environment,
        **langfuse_usage.timing(row),
        **langfuse_usage.tokens(row),
        "cost_usd": langfuse_usage.cost(row),
        **_context(row, metadata, tags),
        **_outcome(row, metadata, output),
        "attributes": _attributes(row, metadata, tags),
    }
    if operation == "embeddings":
        fields |= {"embedding_model_version": model, "prompt_text": None, "response_text": None, "refused": None}
    return _named(from_fields("interaction", fields))


def _finished(row: dict[str, Any], output: Answer) -> bool:
    """Tell whether the call is over: it has an end, or what only the end brings (an answer, output tokens, an error).

    A row without any of these is exported while it runs; taking it would make the finished row a conflict.
    """
    if row.get("end_time") not in (None, "") or _level(row) == "ERROR" or output != Answer():
        return True
    produced = langfuse_usage.tokens(row)["output_tokens"]
    return produced is not None and produced != 0


def _level(row: dict[str, Any]) -> str:
    level = row.get("level")
    return level.upper() if isinstance(level, str) else ""


def _metadata(row: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata with what is nested under the server's own keys brought to the top."""
    own = pairs(row.get("metadata"))
    found: dict[str, Any] = {}
    for name, value in (*pairs(own.get("attributes")).items(), *own.items()):
        short = name
        for prefix in INHERITED:
            short = short.removeprefix(prefix)
        if short != name or name not in own:
            found.setdefault(short, value)
    return {**found, **own}


def _context(row: dict[str, Any], metadata: dict[str, Any], tags: list[Any]) -> dict[str, Any]:
    """Experiment, variant, unit, prompt: from metadata, tags and Langfuse's own columns."""
    found = context(metadata, tags)
    version = text(row.get("prompt_version")) or text(row.get("version"))
    fallback = {
        "unit_id": text(row.get("user_id")),
        "session_id": text(row.get("session_id")),
        "surface": text(row.get("trace_name")),
        "prompt_name": text(row.get("prompt_name")),
        "prompt_version": version,
    }
    found.pop("environment", None)  # its own column
    return {**{name: value for name, value in fallback.items() if value}, **found}


def _attributes(row: dict[str, Any], metadata: dict[str, Any], tags: list[Any]) -> dict[str, Any]:
    own = pairs(row.get("metadata"))
    kept = rest({name: value for name, value in metadata.items() if name in own}, tags, JUNK)
    for name, column in (("observation_name", "name"), ("release", "release")):
        if (value := text(row.get(column))) and len(value) <= 256:
            kept.setdefault(name, value)
    return kept


def _outcome(row: dict[str, Any], metadata: dict[str, Any], output: Answer) -> dict[str, Any]:
    """How it ended, and what was said. `refused` is told only by outputs that have a place for it."""
    failed = _level(row) == "ERROR"
    message = text_or_none(row.get("status_message")) if failed else None
    status = STATUS.search(message) if message else None
    kind = ERROR_CLASS.match(message) if message else None
    named = kind.group(1) if kind else text(metadata.get("error.type"))
    asked = parsed(row.get("input"))
    parameters = pairs(row.get("model_parameters"))
    reasons = items(parsed(metadata.get("gen_ai.response.finish_reasons")))
    tools = parsed(row.get("tool_definitions")) or mapping(asked).get("tools")
    return {
        "model_version": output.model or text(metadata.get("gen_ai.response.model")),
        "provider_response_id": output.response_id or text(metadata.get("gen_ai.response.id")),
        "system_fingerprint": output.fingerprint,
        "finish_reason": output.reason or finish_reason(next(iter(reasons), metadata.get("finish_reason"))),
        "refused": None if failed else output.refused,
        "stream": True if row.get("completion_start_time") not in (None, "") else None,
        "is_error": failed,
        "error_type": (named or (status.group(1) if status else "unknown")) if failed else None,
        "http_status": int(status.group(1)) if status else None,
        "params_sha256": digest({name: parameters[name] for name in PARAMETERS if parameters.get(name) is not None}),
        "tools_sha256": digest(tools),
        "prompt_text": prompt(asked),
        "response_text": output.text,
    }


def _score(row: dict[str, Any]) -> Item | str:
    """One score. Scores of a session or a dataset run name no call and are ignored; so are corrected outputs."""
    trace, observation = text_or_none(row.get("trace_id")), text_or_none(row.get("observation_id"))
    kind = row.get("data_type")
    if kind == "CORRECTION" or not (trace or observation):
        return Ignored()
    at, made = moment(row["timestamp"], "timestamp"), moment(row.get("created_at"), "created_at")
    changed = moment(row.get("updated_at"), "updated_at")
    name = text_or_none(row["name"])
    metadata = pairs(row.get("metadata"))
    fields: dict[str, Any] = {
        "score_id": text_or_none(row["id"]),
        "ts": at.isoformat() if at else None,
        "updated_at": changed.isoformat() if changed and changed > (made or at or changed) else None,
        "name": name,
        "scorer_kind": _scorer(row, metadata, name),
        "scorer_id": text(metadata.get("scorer_id")) or text(row.get("author_user_id")),
        "trace_id": trace,
        "span_id": observation if trace else None,
        "interaction_id": None if trace else observation,
        "explanation": text_or_none(row.get("comment")),
        **_judged(row, kind),
    }
    return _named(from_fields("score", fields))


def _scorer(row: dict[str, Any], metadata: dict[str, Any], name: str | None) -> str:
    match row.get("source"):
        case "ANNOTATION":
            return "human"
        case "EVAL":
            return "judge"
        case _:  # API, or the SDK's own list: anybody may have called it
            return scorer_kind(name, metadata.get("abtest.scorer_kind") or metadata.get("scorer_kind"))


def _judged(row: dict[str, Any], kind: Any) -> dict[str, Any]:
    """Return value or label. A category's `value` is only its index, and 0 for text: the label counts."""
    value = row["value"]
    words = text_or_none(row.get("string_value"))
    if kind in ("CATEGORICAL", "TEXT"):
        return {"label": words or text_or_none(value)}
    if kind not in ("NUMERIC", "BOOLEAN") and finite(value) is None and isinstance(value, str):
        return {"label": words or text_or_none(value)}
    if isinstance(value, bool):
        value = int(value)
    number = finite(value)
    return {"value": count(value) if number is None else number}


def _named(item: Item | str) -> Item | str:
    """Say in a `missing` reason which column was looked for."""
    if not isinstance(item, str) or not item.startswith("missing: "):
        return item
    names = {"interaction_id": "id", "score_id": "id", "ts": "start_time or timestamp", "model": "provided_model_name"}
    asked = [names[key] for key in item.removeprefix("missing: ").split("; ")[0].split(", ") if key in names]
    return f"{item} ({', '.join(asked)})" if asked else item


FORMAT = Langfuse()
