"""The metric catalogue: metrics that are ready to name in a spec, each with its definition and its defaults in the open.

`[[metrics]] use = "refusal_rate"` becomes the metric that is written out below; every key may be given instead, and
`guardrail = true` (or `success = true`) takes the default margin. The resolved metric keeps which keys were defaults.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from abtest.display.numbers import format_margin
from abtest.display.text import shorten
from abtest.errors import SpecError, UnknownNameError, did_you_mean
from abtest.metrics.base import MetricSpec, kinds, quoted
from abtest.metrics.catalog_entries import ENTRIES

_ALTERNATIVES = ({"event"}, {"value"}, {"score", "scorer_kind", "absent"})
"""Keys that say where the numbers come from: giving one of a set drops the catalogue's defaults of the other sets."""
_MEASURED = {"event", "value", "score", "scorer_kind", "numerator", "denominator", "q", "absent"}
"""Keys that change what is measured."""


@dataclass(frozen=True)
class Entry:
    """One metric of the catalogue.

    Attributes:
        name: What `use` names; also the metric's name unless the spec gives another.
        definition: One sentence that says what is counted over what.
        logged: What must be in the logs.
        keys: The metric as a spec would have it: kind, better, per, unit and the keys of the kind.
        margin: Default margin of a guardrail, e.g. {"points": 0.01}.
        action: Default action of a guardrail.
        mde: Default smallest improvement worth finding; empty for a metric that has no better side.
        needs: Keys that the spec must give, because nothing sensible can be assumed.
    """

    name: str
    definition: str
    logged: str
    keys: Mapping[str, Any]
    margin: Mapping[str, float]
    action: str
    mde: Mapping[str, float]
    needs: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return it as `abtest metrics --json` shows it."""
        shown = dict(self.keys)
        return {
            "name": self.name, "kind": shown.pop("kind"), "better": shown.pop("better"), "per": shown.pop("per", "request"),
            "unit": shown.pop("unit", ""), "definition": self.definition, "logged": self.logged, "keys": shown,
            "guardrail": {"margin": dict(self.margin), "action": self.action}, "success": {"mde": dict(self.mde)} if self.mde else None,
            "needs": list(self.needs),
        }  # fmt: skip

    def margin_text(self) -> str:
        """Return the default margin in the direction of harm: "+1 pp", "+40 %"."""
        return margin_words(self.margin, str(self.keys["better"]), str(self.keys.get("unit", "")))


@cache
def entries() -> dict[str, Entry]:
    """Return the catalogue by name, in the order in which it is shown."""
    return {entry.name: entry for entry in (Entry(**fields) for fields in ENTRIES)}


def margin_words(margin: Mapping[str, Any], better: str, unit: str) -> str:
    """Return a margin for people."""
    kind, value = next((k, v) for k, v in margin.items() if v is not None)
    kinds = {"points": "proportion", "relative": "mean", "absolute": "mean"}
    text = format_margin(
        {"margin": value, "margin_kind": kind, "better": better, "kind": kinds[kind], "unit": unit if kind == "absolute" else ""}
    )  # fmt: skip
    return f"{text} of control" if kind == "relative" else text


def expand(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a metric of the spec with `use` replaced by what the catalogue says.

    Args:
        data: The metric's table, with `use`.
        key: Where it stands in the spec, for errors.

    Raises:
        UnknownNameError: the catalogue has no such metric.
        SpecError: a key that the spec must give is missing, or another kind is asked for.
    """
    entry = _entry(data["use"], key)
    given = {k: v for k, v in data.items() if k not in ("use", "catalogue")}
    if given.get("kind", entry.keys["kind"]) != entry.keys["kind"]:
        raise SpecError(
            f"{entry.name} is a {entry.keys['kind']}", key=f"{key}.kind", hint="leave kind out, or leave use out"
        )
    for need in entry.needs:
        if need not in given:
            raise SpecError("this key is missing", key=f"{key}.{need}", hint=f"{entry.name} needs it: {entry.logged}")
    dropped = _dropped(given)
    # What measures something else has another unit, and the definition does not describe it.
    own = not given.keys() & (_MEASURED - set(entry.needs))
    used = {k: v for k, v in entry.keys.items() if k not in given and k not in dropped and (own or k != "unit")}
    metric = {"name": entry.name, **({"description": entry.definition} if own else {}), **used, **given}
    defaults = [k for k in used if k not in ("kind", "unit")]
    if not entry.mde and given.get("success", False) is not False:
        raise SpecError(
            f"{entry.name} has no better side, so it is no success metric", key=f"{key}.success", hint="write guardrail = true"
        )  # fmt: skip
    for role, what in (
        ("guardrail", {"margin": entry.margin, "action": entry.action}),
        ("success", {"mde": entry.mde}),
    ):
        defaults += _role(metric, role, what)
    return {**metric, "catalogue": {"entry": entry.name, "defaults": defaults}}


def resolved(metric: Any, index: int) -> Any:
    """Return a metric with `use` written out; what is no table is left to the model to refuse."""
    if not isinstance(metric, Mapping):
        return metric
    name = metric.get("name")
    key = f"metrics.{name}" if isinstance(name, str) and re.fullmatch(r"[\w.-]{1,100}", name) else f"metrics[{index}]"
    if "use" in metric:
        return expand(metric, key)
    if not isinstance(metric.get("kind", ""), str):
        raise SpecError(
            f"{quoted(metric['kind'])} is no metric kind", key=f"{key}.kind", hint=f"known: {', '.join(kinds())}"
        )
    return metric


def default_sentence(metric: MetricSpec) -> str | None:
    """Return which of a metric's settings are defaults of the catalogue, with their values; None for a metric of the spec's own."""
    if metric.catalogue is None:
        return None
    words: list[str] = []
    for name in metric.catalogue.defaults:
        if name == "guardrail.margin" and metric.guardrail:
            margin = margin_words(metric.guardrail.margin.model_dump(), metric.better, metric.unit)
            words.append(f"margin {margin}")
        elif name == "success.mde" and metric.success:
            margin = metric.success.mde
            words.append(f"mde {margin.kind} {margin.value:g}")
        elif name == "guardrail.action" and metric.guardrail:
            words.append(f"action {metric.guardrail.action}")
        elif name in type(metric).model_fields:
            words.append(f"{name} {shorten(str(getattr(metric, name)), 80)}")
    which = f"catalogue metric {metric.catalogue.entry}"
    return (
        f"{metric.name}: {which}; its defaults: {', '.join(words)}"
        if words
        else f"{metric.name}: {which}, every key given"
    )


def _entry(use: object, key: str) -> Entry:
    known = entries()
    if isinstance(use, str) and use in known:
        return known[use]
    hint = did_you_mean(use, known) if isinstance(use, str) else f"known: {', '.join(known)}"
    if not hint.startswith("known"):
        hint += " `abtest metrics` lists them"
    raise UnknownNameError(f"the catalogue has no metric {quoted(use)}", key=f"{key}.use", hint=hint)


def _dropped(given: Mapping[str, Any]) -> set[str]:
    """Return the catalogue's keys that what was given takes the place of."""
    chosen = [keys for keys in _ALTERNATIVES if any(k in given for k in keys & {"event", "value", "score"})]
    return {k for keys in _ALTERNATIVES for k in keys if keys not in chosen} if chosen else set()


def _role(metric: dict[str, Any], role: str, what: Mapping[str, Any]) -> list[str]:
    """Fill the defaults of a guardrail or a success metric into `metric`; return which keys were filled."""
    given = metric.get(role)
    if given is False:
        del metric[role]
        return []
    if given is True:
        given = {}
    if not isinstance(given, Mapping):
        return []  # absent, or wrong: the model says how
    filled = {k: (dict(v) if isinstance(v, Mapping) else v) for k, v in what.items() if k not in given}
    metric[role] = {**filled, **given}
    return [f"{role}.{k}" for k in filled]
