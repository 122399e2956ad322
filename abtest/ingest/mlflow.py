"""MLflow 3 traces: `Trace.to_dict()`, `to_json()`, rows of `search_traces`; their assessments as scores.

Source: real traces of mlflow 3.17 (mlflow/entities/trace.py, mlflow/tracing/constant.py). Span ids are base64, span
attributes are JSON texts. The ids of interactions are `<trace id>:<span id in hex>`; the column `trace_id` has the
OpenTelemetry id, which is MLflow's without its `tr-`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from abtest.ingest import mlflow_scores, mlflow_span
from abtest.ingest.base import Format, Ignored, Item, mapping, parse_object, reject
from abtest.ingest.cells import array, pairs
from abtest.ingest.mlflow_span import Trace

COLUMNS = frozenset({"trace_id", "state", "request_time", "trace_metadata"})
"""What every row of `search_traces` has."""


class MLflow(Format):
    """One trace an object: its model calls, and its assessments."""

    name: ClassVar[str] = "mlflow"
    description: ClassVar[str] = "MLflow 3 traces with their assessments, also rows of search_traces"

    def sniff(self, objects: Sequence[Mapping[str, Any]]) -> float:
        """Share of objects that are a trace (`info` with a trace id) or a row with the columns of `search_traces`."""
        return sum(_is_trace(mapping(value)) for value in objects) / len(objects)

    def read(self, line: bytes, number: int, offset: int) -> Sequence[Item]:
        """Read one trace; a bad span or assessment is rejected alone, its neighbours go in."""
        body = parse_object(line)
        if isinstance(body, str):
            return (reject(line, number, offset, body),)
        trace = Trace.of(_document(body))
        if isinstance(trace, str):
            return (reject(line, number, offset, trace),)
        found = [(span.body, mlflow_span.interaction(span, trace)) for span in trace.spans]
        found += mlflow_scores.scores(trace)
        if not found:
            return (Ignored(),)
        return [
            reject(json.dumps(raw, separators=(",", ":")).encode(), number, offset, item)
            if isinstance(item, str)
            else item
            for raw, item in found
        ]


def _is_trace(value: dict[str, Any]) -> bool:
    info = mapping(value.get("info"))
    return ("trace_id" in info and "data" in value) or value.keys() >= COLUMNS


def _document(body: dict[str, Any]) -> dict[str, Any]:
    """Return info and data. A row of `search_traces` has the whole trace as JSON text, else its parts as columns."""
    if "info" in body:
        return body
    whole = pairs(body.get("trace"))
    if "info" in whole:
        return whole
    info = {
        "trace_id": body.get("trace_id"),
        "client_request_id": body.get("client_request_id"),
        "state": body.get("state"),
        "trace_metadata": pairs(body.get("trace_metadata")),
        "tags": pairs(body.get("tags")),
        "assessments": array(body.get("assessments")),
    }
    return {"info": info, "data": {"spans": array(body.get("spans"))}}


FORMAT = MLflow()
