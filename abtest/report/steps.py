"""What to do now: the next step for people, from the decision, its reason and what the actuators did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abtest.display import shorten
from abtest.report.context import NO_DATA, NOT_TRUSTED, Context

_NOTICES = ("webhook",)
"""Actuators that tell and do not switch: their failure leaves the release stopped."""

_HOLDS: Mapping[str, str] = {
    "harm_hold": "Do not widen. Find out why the release is worse; the hold ends when the metric recovers.",
    "deterioration": "Do not ship. Find out why a success metric is worse than in control.",
    "no_guardrails": "Add a guardrail to the experiment file: without one nothing can be called safe.",
}


def what_to_do(context: Context) -> str:
    """Return the next step in one to three sentences."""
    steps = {"halt": _after_halt, "hold": _on_hold, "promote": _after_promote, "ship": _after_ship}
    step = steps.get(context.verdict or "")
    return step(context) if step else "Run abtest decide on this experiment."


def stop_failed(context: Context) -> bool:
    """Return whether a halt did not take effect: what should switch failed, or the release still gets traffic."""
    return bool(_failed_switches(context)) or context.has_finding("halt_not_effective")


def _after_halt(context: Context) -> str:
    name = context.treatment
    if stop_failed(context):
        failed = _failed_switches(context)
        reason = f"{', '.join(failed)} failed" if failed else "it still gets traffic"
        return f"Take {name} out of traffic by hand now: {reason}."
    if context.dry_run:
        return f"Nothing was changed. Take {name} out of traffic, or decide again without the dry run."
    done = [*_actions(context, "done"), *_actions(context, "already_done")]
    steps = [f"The stop was carried out ({', '.join(done)})."] if done else []
    steps += [f"{', '.join(failed)} failed: tell who must know." for failed in (_actions(context, "failed"),) if failed]
    steps += [
        f"Make sure that {name} gets no more traffic.",
        "Mend it and start a new revision; this one stays stopped.",
    ]
    return " ".join(steps)


def _on_hold(context: Context) -> str:
    decision = context.decision or {}
    if decision.get("exit_code") == NOT_TRUSTED:
        return "Do not read the effects yet. Mend what the findings name, then decide again."
    if decision.get("exit_code") == NO_DATA:
        return "Check that logs arrive and that they name this experiment and its arms."
    if decision.get("reason") in _HOLDS:
        return _HOLDS[decision["reason"]]
    following: Mapping[str, Any] = decision.get("next") or {}
    needs = "; ".join(_need_words(need) for need in following.get("needs") or ())
    eta = _hours(following.get("eta_hours"))
    wait = f"Keep the share and wait {eta}." if eta else "Keep the share and wait."
    return f"{wait} Open: {needs}." if needs else wait


def _after_promote(context: Context) -> str:
    done = _actions(context, "done")
    if done:
        return f"The share of {context.treatment} was raised ({', '.join(done)})."
    return f"Raise the share of {context.treatment}: to the next stage, or to all traffic after the last one."


def _after_ship(context: Context) -> str:
    return f"Give {context.treatment} all traffic."


def _failed_switches(context: Context) -> list[str]:
    return [name for name in _actions(context, "failed") if not any(notice in name for notice in _NOTICES)]


def _actions(context: Context, status: str) -> list[str]:
    actions: list[dict[str, Any]] = (context.decision or {}).get("actions", [])
    return [shorten(a["actuator"], 40) for a in actions if a["status"] == status]


def _need_words(need: Any) -> str:
    if isinstance(need, Mapping):
        return ", ".join(f"{key} {value}" for key, value in need.items())
    return shorten(need, 160).rstrip(".")


def _hours(hours: Any) -> str:
    """Return a duration: "about 40 minutes", "about 7 hours"; from two days on in days; "" when it is not known."""
    if isinstance(hours, bool) or not isinstance(hours, (int, float)) or hours < 0:
        return ""
    sizes = (("day", 24.0, 2.0), ("hour", 1.0, 1.0), ("minute", 1 / 60, 0.0))
    word, size = next((word, size) for word, size, least in sizes if hours / size >= least)
    count = max(round(hours / size), 1)
    return f"about {count:,} {word}" + ("" if count == 1 else "s")
