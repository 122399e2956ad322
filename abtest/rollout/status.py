"""Every experiment in one row: what was decided last, since when, what it waits for, what does not work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abtest.analysis.times import to_text
from abtest.results import Decision
from abtest.store import ledger
from abtest.store.store import Store

SCHEMA = "abtest.status/1"


def experiments_of(store: Store) -> list[dict[str, Any]]:
    """Return one row an experiment and revision, as the ledger knows it, sorted by both.

    Each has experiment, revision, stage, decision, reason, summary, exit_code, as_of, decision_id, since (when this was first
    decided), eta_hours, needs, halt (null, or what the logs said of it: waiting, halt_confirmed, halt_not_effective) and
    problem (null, or what `watch` could not do for it since).
    """
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for entry in ledger.entries(store.connection):
        key = (entry.experiment, entry.revision)
        if entry.kind == "decision":
            rows[key] = _row(entry, rows.get(key))
        elif entry.kind == "watch" and key in rows:
            _watched(rows[key], entry.body)
    return [rows[key] for key in sorted(rows)]


def said_now(
    rows: Sequence[Mapping[str, Any]], decisions: Sequence[tuple[Decision, str | None]]
) -> list[dict[str, Any]]:
    """Return the rows with what was decided just now, which need not be in the ledger yet, and since when it is so."""
    known = {(row["experiment"], row["revision"]): dict(row) for row in rows}
    for decision, since in decisions:
        now = {
            "experiment": decision.experiment, "revision": decision.revision, "stage": decision.stage.to_dict(),
            "decision": decision.decision, "reason": decision.reason, "summary": decision.summary, "exit_code": decision.exit_code,
            "as_of": decision.as_of, "decision_id": decision.decision_id, "eta_hours": decision.next["eta_hours"],
            "needs": list(decision.next["needs"]),
        }  # fmt: skip
        key = (decision.experiment, decision.revision)
        known[key] = {"since": since, "halt": None, "problem": None, **known.get(key, {}), **now}
    return [known[key] for key in sorted(known)]


def _row(entry: ledger.Entry, known: Mapping[str, Any] | None) -> dict[str, Any]:
    body = entry.body
    same = known is not None and (known["decision"], known["reason"]) == (body["decision"], body["reason"])
    halted = body["decision"] == "halt"
    was_halted = known is not None and known["decision"] == "halt"
    waits: Mapping[str, Any] = body.get("next") or {}
    return {
        "experiment": entry.experiment, "revision": entry.revision, "stage": body["stage"], "decision": body["decision"],
        "reason": body["reason"], "summary": body["summary"], "exit_code": body.get("exit_code"), "as_of": body["as_of"],
        "decision_id": entry.decision_id, "since": known["since"] if same and known else to_text(entry.recorded_us),
        "eta_hours": waits.get("eta_hours"), "needs": list(waits.get("needs") or ()),
        "halt": (known["halt"] if was_halted and known else "waiting") if halted else None,
        "problem": known["problem"] if known else None,
    }  # fmt: skip


def _watched(row: dict[str, Any], body: Mapping[str, Any]) -> None:
    event = body.get("event")
    if event in ("halt_confirmed", "halt_not_effective") and row["decision"] == "halt":
        row["halt"] = event
    elif event == "failed":
        row["problem"] = body["message"]
    elif event == "recovered":
        row["problem"] = None
