"""The decision as it is answered and as the ledger keeps it: with all that a replay needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from abtest.analysis.evidence import Evidence
from abtest.results import Analysis, Decision, Finding
from abtest.rollout import outbox
from abtest.rollout.rules import Facts, Outcome
from abtest.spec import Experiment, canonical_sha256
from abtest.store import ledger
from abtest.store.store import Store

_SAME_AS_BEFORE = ("decision", "reason", "exit_code", "stage", "policy_sha256")


def decision_of(
    analysis: Analysis, outcome: Outcome, past: Sequence[ledger.Entry], facts: Facts, dry_run: bool
) -> Decision:
    """Return the decision. Its id is the sha256 of evidence, policy and what was concluded: the same input gives the same id.

    Args:
        analysis: The evidence, judged.
        outcome: What the rules made of it.
        facts: The clocks of the stage, which `next` tells beside what is waited for.
        past: The ledger's entries of this experiment and revision before this decision.
        dry_run: Whether nothing is written.
    """
    decision_id = canonical_sha256({
        "experiment": analysis.experiment, "revision": analysis.revision, "evidence": analysis.evidence_sha256,
        "policy": analysis.policy_sha256, "decision": outcome.decision, "reason": outcome.reason,
    })  # fmt: skip
    decided = [e for e in past if e.kind == "decision" and e.decision_id != decision_id]
    eta = outcome.eta_hours if outcome.decision == "hold" else None
    return Decision(
        experiment=analysis.experiment, revision=analysis.revision, stage=analysis.stage,
        decision=outcome.decision, reason=outcome.reason, summary=_loud(outcome, _with_eta(outcome, eta)), findings=outcome.findings,
        metrics=analysis.metrics, as_of=analysis.as_of, decision_id=decision_id, policy_sha256=analysis.policy_sha256,
        previous_decision_id=decided[-1].decision_id if decided else None,
        dry_run=dry_run, checks=analysis.checks, exit_code=outcome.exit_code,
        next={"eta_hours": eta, "needs": list(outcome.needs), "stage_hours": facts.stage_hours, "stage_units": facts.stage_units},
    )  # fmt: skip


def body_of(
    experiment: Experiment,
    decision: Decision,
    evidence: Evidence,
    facts: Facts,
    extra: Sequence[Finding],
    history: Sequence[tuple[int, float]],
    evidence_sha256: str,
) -> dict[str, Any]:
    """Return what the ledger keeps of a decision: what was said, and everything by which it can be made again.

    Args:
        experiment: The spec it was made by.
        decision: What was decided.
        evidence: What it was made from; its watermark and the last load are kept.
        facts: What the rules knew besides the evidence.
        extra: Findings that came from elsewhere.
        history: The split that abtest itself wrote, as `read` got it.
        evidence_sha256: Hash of the evidence.
    """
    return {
        "decision": decision.decision, "reason": decision.reason, "summary": decision.summary, "exit_code": decision.exit_code,
        "stage": decision.stage.to_dict(), "as_of": decision.as_of, "as_of_us": evidence.as_of_us, "max_file": evidence.max_file,
        "evidence_sha256": evidence_sha256, "policy_sha256": decision.policy_sha256,
        "findings": [f.to_dict() for f in decision.findings], "extra": [f.to_dict() for f in extra],
        "facts": asdict(facts), "history": [list(row) for row in history], "next": dict(decision.next),
        "spec": experiment.model_dump(mode="json", exclude={"halt"}, exclude_none=True, exclude_defaults=True),
    }  # fmt: skip


def record(
    store: Store,
    experiment: Experiment,
    decision: Decision,
    body: Mapping[str, Any],
    past: Sequence[ledger.Entry],
    *,
    again_after_us: int | None = None,
    now_us: int = 0,
) -> bool:
    """Append the decision once, and the messages to send in the same transaction: recomputing it adds nothing.

    Args:
        store: Open for writing.
        experiment: Says where messages go.
        decision: What was decided.
        body: See `body_of`.
        past: The ledger's entries of this experiment and revision before this decision.
        again_after_us: A decision on newer evidence that says what the last entry says is kept only after so long (`watch`
            decides every few seconds); None: always.
        now_us: The clock.

    Returns:
        Whether an entry was added.
    """
    last = next((e for e in reversed(past) if e.kind == "decision"), None)
    new = last is None or last.decision_id != decision.decision_id
    if new and last is not None and again_after_us is not None and now_us - last.recorded_us < again_after_us:
        new = not _says_the_same(last.body, body)
    con = store.connection
    with outbox.atomic(con):
        if new:
            ledger.append(
                con, "decision", decision.experiment, decision.revision, body, decision_id=decision.decision_id
            )
        outbox.enqueue(store, experiment, decision, past)
    return new


def _says_the_same(last: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
    def said(one: Mapping[str, Any]) -> list[Any]:
        stage: Mapping[str, Any] = one["stage"]
        codes = sorted((f["code"], f["severity"], f["metric"] or "") for f in one["findings"])
        return [*(one[k] for k in _SAME_AS_BEFORE if k != "stage"), stage["index"], stage["share"], codes]

    return said(last) == said(body)


def _with_eta(outcome: Outcome, eta: float | None) -> str:
    if eta is None or outcome.reason != "inconclusive":
        return outcome.summary
    span = f"{eta:.0f} hours" if eta < 72 else f"{eta / 24:.0f} days"
    return f"{outcome.summary} (about {span} more at this pace)" if eta >= 0.5 else outcome.summary


def _loud(outcome: Outcome, summary: str) -> str:
    """Say first that a halt does not work: whoever reads one sentence must read this one."""
    loud = next((f.message for f in outcome.findings if f.code == "halt_not_effective"), None)
    return summary if loud is None else f"HALT IS NOT EFFECTIVE: {loud}. {summary}"
