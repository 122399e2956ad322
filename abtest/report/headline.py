"""The one line that everybody reads: what was decided, since when, why, and what to do now."""

from __future__ import annotations

from collections.abc import Mapping

from abtest.display import shorten
from abtest.report.context import NO_DATA, NOT_TRUSTED, Context
from abtest.report.model import Headline
from abtest.report.steps import stop_failed, what_to_do

_LOOKS: Mapping[str | None, tuple[str, str, str]] = {
    "halt": ("Stopped", "bad", "\u2715"),
    "hold": ("On hold", "warn", "\u2016"),
    "promote": ("Safe to widen", "good", "\u2713"),
    "ship": ("Ready to ship", "good", "\u2713"),
    None: ("Not decided", "muted", "?"),
}
_UNPROVEN: Mapping[tuple[str, str], str] = {
    ("promote", "override"): "Widen by override",
    ("ship", "override"): "Ship by override",
    ("promote", "timeout"): "Widen: no harm shown in time",
}
"""A decision that does not rest on proof is not called safe: (decision, reason) -> words."""


def headline(context: Context, anchor: str) -> Headline:
    """Return the line of one experiment for the board."""
    words, tone, mark = look(context)
    return Headline(
        anchor=anchor,
        experiment=shorten(context.analysis["experiment"], 80),
        revision=context.analysis["revision"],
        decision=context.verdict,
        words=words,
        tone=tone,
        mark=mark,
        stage=shorten(context.stage["label"], 40),
        since=context.since(),
        why=why(context),
        todo=what_to_do(context),
    )


def look(context: Context) -> tuple[str, str, str]:
    """Return the decision in words, its tone and its sign."""
    words, tone, mark = _LOOKS.get(context.verdict, _LOOKS[None])
    decision = context.decision
    if decision is None:
        return words, tone, mark
    unproven = _UNPROVEN.get((str(context.verdict), decision["reason"]))
    if unproven:
        return unproven, "warn", mark
    if context.verdict == "halt":
        if stop_failed(context):
            words = "Stop did not work"
        elif context.dry_run:
            words = "Would be stopped (dry run)"
    elif context.verdict == "hold" and decision["exit_code"] == NOT_TRUSTED:
        words = "On hold: data not trusted"
    elif context.verdict == "hold" and decision["exit_code"] == NO_DATA:
        words, tone = "On hold: no data", "muted"
    return words, tone, mark


def why(context: Context) -> str:
    """Return the decision's sentence, or why there is none."""
    if context.decision is not None:
        return shorten(context.decision["summary"], 400)
    if not any(m["status"] == "ok" for m in context.metrics):
        return "There is no evidence yet, and nothing was decided."
    return "The evidence was analysed, but nothing was decided on it yet."
