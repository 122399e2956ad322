"""OpenTelemetry spans and log records of model calls, flag evaluations and judgements, whatever dialect names them.

Sources of the names: see `otel_span`. No convention has a variant, an experiment, a unit or a prompt version together,
so these come from `abtest.*` attributes (baggage copied to spans), from the feature-flag attributes, from metadata and
tags of OpenInference and Langfuse, or from `user.id`.

A record depends on its own line only. What its trace holds on other lines (the embeddings span, the parent with the
user) is looked up only on the same line: a file that grew is read again, and a row must then come out the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from abtest.ingest import otel_call, otel_console, otel_events
from abtest.ingest.base import Format, Ignored, Item, mapping, parse_object, reject
from abtest.ingest.otlp import LISTS, Part, envelope, parts


class OTel(Format):
    """OTLP/JSON: one export request of traces, logs or metrics a line; or the SDK's console form, one span an object."""

    name: ClassVar[str] = "otel"
    description: ClassVar[str] = "OpenTelemetry spans and events: OTLP/JSON export requests, or the SDK's console form"

    def sniff(self, objects: Sequence[Mapping[str, Any]]) -> float:
        """0.9 times the share of OTLP envelopes and console records: a format that knows what is in them is surer."""
        return 0.9 * share(objects)

    def read(self, line: bytes, number: int, offset: int) -> Sequence[Item]:
        """Read one export request; a bad span or event is rejected alone, its neighbours go in."""
        return read(line, number, offset)


def share(objects: Sequence[Mapping[str, Any]]) -> float:
    """Return the share of objects that are OTLP envelopes or records of the console exporters."""
    return sum(_is_ours(value) for value in objects) / len(objects)


def _is_ours(value: Mapping[str, Any]) -> bool:
    if otel_console.is_span(value) or otel_console.is_log(value) or otel_console.METRIC_KEY in value:
        return True
    return any(key in LISTS for key in envelope(dict(value)))


def spans(value: Mapping[str, Any]) -> Iterator[Part]:
    """Yield the spans of one JSON object, whether envelope or console form."""
    if otel_console.is_span(value):
        yield otel_console.span(value)
    else:
        yield from parts(envelope(dict(value)), "resourceSpans")


def read(line: bytes, number: int, offset: int) -> Sequence[Item]:
    """Read one line of any OpenTelemetry form; shared by the formats that travel in it."""
    value = parse_object(line)
    if isinstance(value, str):
        return (reject(line, number, offset, value),)
    value = envelope(value)
    is_console = otel_console.is_span(value) or otel_console.is_log(value)
    if "resourceSpans" in value or otel_console.is_span(value):
        found = _spans([otel_call.with_facts(part) for part in spans(value)])
    elif "resourceLogs" in value:
        found = [(partial(_alone, "resourceLogs", part), _log(part)) for part in parts(value, "resourceLogs")]
    elif is_console:
        found = [(partial(bytes, line), _log(otel_console.log(value)))]
    elif "resourceMetrics" in value or otel_console.METRIC_KEY in value or not value:
        return (Ignored(),)  # aggregated: cannot be split by unit
    else:
        return (reject(line, number, offset, f"not_otlp: its keys are {', '.join(list(value)[:5])}"[:300]),)
    return [
        reject(line if is_console else raw(), number, offset, item) if isinstance(item, str) else item
        for raw, item in found
    ]


def _alone(kind: str, part: Part, trace: otel_call.Siblings | None = None) -> bytes:
    """Return an export request with this span or log record alone, so that it can be read again without its batch.

    The spans above it stay with it when they only lend it their context.
    """
    scopes, leaves = LISTS[kind]
    above = trace.lineage(part) if trace else ()
    lenders = [each.body for each in above if each is not part and otel_call.operation_of(each) is None]
    group = {"resource": {"attributes": part.resource}, scopes: [{leaves: [part.body, *lenders]}]}
    return json.dumps({kind: [group]}, separators=(",", ":")).encode()


def _spans(line: list[Part]) -> list[tuple[Callable[[], bytes], Item | str]]:
    """Read the spans of one line, what judges them, and the events on them; each with the bytes for a reject of it."""
    trace = otel_call.Siblings(line)
    found: list[tuple[Callable[[], bytes], Item | str]] = []
    for part in line:
        raw = partial(_alone, "resourceSpans", part, trace)
        found.append((raw, otel_call.interaction(part, trace)))
        found.extend((raw, item) for item in otel_events.judgements(part))
        for event in otel_call.events(part):
            item = otel_events.event(event, str(event.body.get("name", "")))
            if not isinstance(item, Ignored):  # other span events belong to their span
                found.append((raw, item))
    return found


def _log(part: Part) -> Item | str:
    name = part.body.get("eventName") or part.attributes.get("event.name")
    return otel_events.event(part, str(name))


def holds(value: Mapping[str, Any], attribute: str) -> bool:
    """Tell whether a span of this object has the attribute."""
    return any(attribute in mapping(part.attributes) for part in spans(value))


FORMAT = OTel()
