"""What is known about a metric, in words, and how it should look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abtest.display.text import shorten

STATUS_WORDS: Mapping[str, str] = {
    "ok": "known",
    "insufficient": "too little data yet",
    "no_data": "no data",
    "no_share": "traffic share not known",
    "zero_variance": "no variation, cannot be tested",
    "zero_baseline": "baseline is zero, no relative change",
    "unsupported": "cannot be computed here",
}


def status_words(status: object) -> str:
    """Return a status of the closed list in words; another word is returned as it is."""
    return STATUS_WORDS.get(str(status), shorten(status, 40))


def verdict_words(metric: Mapping[str, Any]) -> str:
    """Return what is known about one metric: "harm proven", "safe", "better", "not decided yet", or why nothing is."""
    verdict, role = metric.get("verdict"), metric.get("role")
    if verdict == "harm":
        return "harm proven" if role == "guardrail" else "worse"
    if role == "success":
        if metric.get("superior"):
            return "better"
        if metric.get("status") == "ok":
            return "not shown to be better yet"
    elif verdict == "safe":
        return "safe"
    elif verdict == "inconclusive":
        return "not decided yet"
    if role == "info" and metric.get("status") == "ok":
        return "for information"
    return status_words(metric.get("status")) if metric.get("status") != "ok" else "not known"


def verdict_tone(metric: Mapping[str, Any]) -> str:
    """Return how a verdict should look: "bad", "good", "muted" or "" (neutral)."""
    words = verdict_words(metric)
    tones = {"harm proven": "bad", "worse": "bad", "safe": "good", "better": "good"}
    return tones.get(words, "" if metric.get("status") == "ok" else "muted")
