"""The shadow stage: the candidate answers a copy of real requests that nobody sees; may it go on to the canary?

Reads pairs, judges every metric on them, and applies the same rules as the live stages (`abtest.rollout.rules`), so that harm,
latching, overrides and missing data mean the same. The decision goes into the ledger once; the same input gives the same id.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from abtest.analysis.checks import versions
from abtest.analysis.shadow_judge import judge_item
from abtest.analysis.shadow_more import (
    agreement,
    below_floor,
    calibrations,
    judged_by_model,
    mcnemar_tables,
    noise_floor,
    sampled,
)
from abtest.analysis.shadow_read import ShadowEvidence, can_bet, read_shadow
from abtest.analysis.shadow_results import ShadowMetric
from abtest.analysis.times import to_text
from abtest.results import Analysis, Arm, Check, Decision, Finding, Stage
from abtest.rollout.facts import latched, override_in_force
from abtest.rollout.record import decision_of, record
from abtest.rollout.rules import NO_DATA, Facts, Outcome, conclude
from abtest.rollout.shadow_results import ShadowAnalysis
from abtest.spec import Experiment, canonical_sha256
from abtest.store import ledger
from abtest.store.store import Store

STAGE_KIND = "shadow"


@dataclass(frozen=True)
class Judged:
    """Evidence with everything that is said of it."""

    evidence: ShadowEvidence
    metrics: tuple[ShadowMetric, ...]
    noise: Mapping[str, Any]
    ppi: Mapping[str, Any]
    sampled: Mapping[str, Any]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class _Ran:
    """What the check of versions looks at."""

    experiment: Experiment
    manifests: Sequence[Mapping[str, Any]]


def shadow(
    store: Store,
    experiment: Experiment,
    as_of_us: int | None = None,
    *,
    dry_run: bool = False,
    progress: Callable[[str], None] | None = None,
) -> ShadowAnalysis:
    """Compare the candidate's answers with control's to the same requests, decide about the canary, and record it.

    Args:
        store: An open store; the decision is appended to its ledger unless `dry_run` or the store is read-only.
        experiment: What is asked; exactly one treatment.
        as_of_us: Watermark by event time, microseconds since 1970; default: the newest event.
        dry_run: Say what would be decided; write nothing.
        progress: Called with a word before each slow step.

    Raises:
        SpecError: more than one treatment, or an expression that does not fit its columns.
        LedgerError: the ledger was tampered with; nothing is decided on top of it.
    """
    ledger.verify(store.connection)
    past = ledger.entries(store.connection, experiment=experiment.id, revision=experiment.revision)
    now_us = time.time_ns() // 1000
    judged = judge_shadow(read_shadow(store, experiment, as_of_us=as_of_us, progress=progress))
    standing, halted = override_in_force(past, now_us), latched(past)
    facts = _facts(judged.evidence, now_us if as_of_us is None else None)
    facts = replace(
        facts, latched=None if standing or halted is None else str(halted.body["summary"]), override=standing
    )  # fmt: skip
    analysis = _analysis(judged)
    outcome = _conclude(experiment, judged, analysis, facts)
    dry_run = dry_run or store.read_only
    decision = decision_of(analysis, outcome, past, facts, dry_run)
    answer = _answer(judged, analysis, decision)
    if not dry_run:
        last = next((e for e in reversed(past) if is_shadow(e)), None)
        if last is None or last.decision_id != decision.decision_id:
            record(store, experiment, decision, _body(experiment, judged, decision, answer, facts), past, now_us=now_us)
    return answer


def is_shadow(entry: ledger.Entry) -> bool:
    """Return whether an entry of the ledger is a decision of the shadow stage."""
    return entry.kind == "decision" and entry.body["stage"].get("kind") == STAGE_KIND


def replay_shadow(store: Store, entry: ledger.Entry, before: Sequence[ledger.Entry]) -> dict[str, Any]:
    """Make a shadow decision again, from the spec, the watermark and the last load that its entry names.

    Args:
        store: The store with the logs; opened read-only, or used as one.
        entry: A ledger entry for which `is_shadow` is true.
        before: The ledger's entries of its experiment and revision before it.

    Returns:
        evidence_sha256, policy_sha256, decision, reason and decision_id: the entry's own when nothing was changed since.
    """
    body = entry.body
    experiment = Experiment.from_dict(body["spec"])
    judged = judge_shadow(read_shadow(store, experiment, as_of_us=body["as_of_us"], max_file=int(body["max_file"])))
    facts, analysis = Facts(**body["facts"]), _analysis(judged)
    outcome = _conclude(experiment, judged, analysis, facts)
    return {
        "evidence_sha256": analysis.evidence_sha256,
        "policy_sha256": analysis.policy_sha256,
        "decision": outcome.decision,
        "reason": outcome.reason,
        "decision_id": decision_of(analysis, outcome, before, facts, True).decision_id,
    }


def judge_shadow(evidence: ShadowEvidence) -> Judged:
    """Judge every metric of the evidence, and everything else that pairs tell. Pure."""
    noise, ppi, how = noise_floor(evidence), calibrations(evidence), sampled(evidence)
    floors = {row["metric"]: row["floor"] for row in noise["metrics"]}
    findings: list[Finding] = []
    metrics: list[ShadowMetric] = []
    for item in evidence.plan.items:
        result = judge_item(evidence, item)
        if not item.listed and result.status == "no_data":
            continue
        floor = floors.get(item.spec.name)
        result = replace(result, noise_floor=floor)
        low = below_floor(evidence, item, floor)
        if low is not None:
            pairs = max(evidence.experiment.shadow.pairs or 0, evidence.pairs)
            message = (
                f"{result.metric}: a margin of {low[0]:.4g} is below the noise floor of {low[1]:.4g}: so little cannot be told from the"
                f" models' own noise with {pairs:,} pairs; about {pairs * (low[1] / low[0]) ** 2:,.0f} are needed, or answers repeated more often"
            )
            findings.append(Finding("below_noise_floor", "warning", result.metric, message))
            if result.verdict == "safe":
                result = replace(result, verdict="unknown", status="insufficient", note=message)
        if (
            result.action == "halt"
            and judged_by_model(evidence, item)
            and not _calibrated(ppi.get(item.spec.name), item.spec.sign)
        ):
            result = replace(result, action="hold")
            if result.verdict == "harm":
                findings.append(_uncalibrated(result, ppi.get(item.spec.name)))
        metrics.append(result)
    findings += _sampling_findings(how)
    return Judged(evidence, tuple(metrics), noise, ppi, how, tuple(findings))


# -- parts -------------------------------------------------------------------------------------------------------


def _calibrated(ppi: Mapping[str, Any] | None, sign: int) -> bool:
    """Return whether enough people have labelled answers, and what they would say is worse too, at alpha."""
    if ppi is None or not ppi["enough"]:
        return False
    difference = ppi["difference"]
    bound = difference["lower"] if sign > 0 else difference["upper"]
    return bound is not None and sign * bound > 0


def _uncalibrated(result: ShadowMetric, ppi: Mapping[str, Any] | None) -> Finding:
    why = (
        "no person has labelled any of these answers" if ppi is None
        else f"people have labelled the answers of {ppi['labelled_units']} units, 30 are needed in each arm" if not ppi["enough"]
        else "what people would say is not shown to be worse"
    )  # fmt: skip
    return Finding(
        "uncalibrated_judge",
        "warning",
        result.metric,
        f"{result.metric} is what a judge model says: it holds, it does not halt; {why}",
    )


def _sampling_findings(how: Mapping[str, Any]) -> list[Finding]:
    found: list[Finding] = []
    if how["by"] == "request":
        found.append(Finding(
            "sampled_by_request", "warning", None,
            f"of {how['sessions_with_several']} mirrored sessions with several requests {how['sessions_partly']} were mirrored in part:"
            " mirror whole sessions, single requests leave out what a conversation does",
        ))  # fmt: skip
    if how["later_turns"] and how["turns"] == "first":
        found.append(Finding(
            "off_policy_turns", "info", None,
            f"{how['later_turns']:,} pairs are later turns, asked after control's answers and not the candidate's: they are left out",
        ))  # fmt: skip
    if how["later_turns"] and how["turns"] == "all":
        found.append(Finding(
            "off_policy_turns", "warning", None,
            f"{how['later_turns']:,} pairs are later turns, asked after control's answers and not the candidate's: they count all the same",
        ))  # fmt: skip
    if how["candidate_seen"]:
        found.append(Finding(
            "candidate_seen", "warning", None,
            f"{how['candidate_seen']:,} of the candidate's answers are logged as seen: a replay should say exposed = false, and a fallback"
            " after control's error is no fair pair",
        ))  # fmt: skip
    return found


def _facts(evidence: ShadowEvidence, now_us: int | None) -> Facts:
    first = evidence.facts.get("first_us")
    as_of = evidence.as_of_us
    hours = (as_of - int(first)) / 3.6e9 if first is not None and as_of is not None else 0.0
    age = (now_us - as_of) / 1e6 if now_us is not None and as_of is not None else None
    return Facts(stage_hours=max(hours, 0.0), stage_units=evidence.units, age_seconds=age)


def _analysis(judged: Judged) -> Analysis:
    """Return the pairs as the rules see them: one stage, nobody was split."""
    evidence = judged.evidence
    experiment = evidence.experiment
    first = evidence.facts.get("first_us")
    stage = Stage(0, "shadow", None, STAGE_KIND, to_text(None if first is None else int(first)))
    frozen = {k: dict(v) for k, v in evidence.frozen.items()}
    policy = {"policy": experiment.policy_dict(), "shadow": experiment.shadow.policy(), "frozen": frozen}
    return Analysis(
        experiment=experiment.id, revision=experiment.revision, stage=stage, as_of=to_text(evidence.as_of_us),
        control=experiment.control, arms=tuple(Arm(a, evidence.units, evidence.pairs) for a in experiment.arm_names),
        metrics=tuple(m for m in judged.metrics if m.listed), checks=(_versions(evidence),), alpha=float(experiment.alpha),
        halt_budget=float(experiment.budget.halt), evidence_sha256=evidence.sha256(), policy_sha256=canonical_sha256(policy),
        notes=tuple(_notes(evidence)),
    )  # fmt: skip


def _versions(evidence: ShadowEvidence) -> Check:
    """Return whether each arm's answers come from one model, prompt and index, by the rule of the live stages."""
    return versions.run(_Ran(evidence.experiment, evidence.manifests))  # type: ignore[arg-type] - the two things it looks at


def _notes(evidence: ShadowEvidence) -> list[str]:
    experiment = evidence.experiment
    notes = [
        f"unit: {experiment.unit}; a unit's differences are added up before anything is squared",
        "the same requests were answered by both arms: differences between requests cancel out",
        "McNemar's tests take single requests as independent: they test only the sharp null that no request changes",
    ]
    if experiment.shadow.method == "betting":
        bets = [i.spec.name for i in evidence.plan.items if i.listed and can_bet(evidence.plan, i)]
        notes.append(f"bets, one a unit: {', '.join(bets) or 'none'}; every other metric by the normal mixture")
    return [*notes, *experiment.default_notes]


def _conclude(experiment: Experiment, judged: Judged, analysis: Analysis, facts: Facts) -> Outcome:
    outcome = conclude(experiment, analysis, facts, judged.findings)
    if judged.evidence.pairs:
        # A spec without a ramp has no next stage by name; after the shadow stage it is a canary all the same.
        words = outcome.summary.replace("from shadow to all traffic", "from shadow to the canary")
        return replace(outcome, summary=words)
    why = _no_pairs(judged.evidence)
    plain = f"the logs hold no call of experiment {experiment.id!r}"
    if outcome.reason == "no_data":
        return replace(
            outcome, summary=f"HOLD at shadow: no data, {why}", exit_code=NO_DATA, needs=("pairs of answers",)
        )
    return replace(outcome, summary=outcome.summary.replace(plain, why))


def _no_pairs(evidence: ShadowEvidence) -> str:
    near, experiment = evidence.near, evidence.experiment
    candidate, control = int(near.get("treatment_requests", 0)), int(near.get("control_requests", 0))
    treatment = experiment.treatments[0]
    matched, nobody = (int(evidence.facts.get(name, 0)) for name in ("matched", "no_unit"))
    if matched:
        why = f"{nobody:,} have no {experiment.unit}" if nobody else "all are later turns of a conversation"
        return f"{matched:,} requests were answered by both arms, but {why}"
    if not candidate:
        return f"no answer of {treatment} that nobody saw (exposed = false), and none to a request that {experiment.control} answered"
    if not control:
        return f"{candidate:,} requests were answered by {treatment}, none of them by {experiment.control} under the same request_id"
    return f"{candidate:,} requests were answered by {treatment}, and none of {experiment.control}'s answers to them was seen by anybody"


def _answer(judged: Judged, analysis: Analysis, decision: Decision) -> ShadowAnalysis:
    evidence = judged.evidence
    notes = list(analysis.notes)
    if evidence.plan.left_out:
        notes.append(f"in the logs and not shown: {', '.join(evidence.plan.left_out)}")
    return ShadowAnalysis(
        experiment=decision.experiment, revision=decision.revision, stage=decision.stage, control=analysis.control,
        treatment=evidence.experiment.treatments[0], pairs=evidence.pairs, units=evidence.units, sampled=judged.sampled,
        decision=decision.decision, reason=decision.reason, summary=decision.summary, findings=decision.findings,
        metrics=judged.metrics, agreement=agreement(evidence), mcnemar=tuple(mcnemar_tables(evidence)), noise_floor=judged.noise,
        ppi=judged.ppi, as_of=decision.as_of, decision_id=decision.decision_id, policy_sha256=decision.policy_sha256,
        evidence_sha256=analysis.evidence_sha256, previous_decision_id=decision.previous_decision_id, dry_run=decision.dry_run,
        needs=tuple(decision.next["needs"]), notes=tuple(notes), exit_code=decision.exit_code,
    )  # fmt: skip


def _body(
    experiment: Experiment, judged: Judged, decision: Decision, answer: ShadowAnalysis, facts: Facts
) -> dict[str, Any]:
    """Return what the ledger keeps: the decision, all by which it can be made again, and a page of numbers for the report."""
    evidence = judged.evidence
    leave = {"series", "stages", "details", "paired", "unpaired", "note"}
    rows: Sequence[dict[str, Any]] = [m.to_dict() for m in judged.metrics if m.listed]
    numbers = [{k: v for k, v in row.items() if k not in leave} for row in rows]
    return {
        "decision": decision.decision, "reason": decision.reason, "summary": decision.summary, "exit_code": decision.exit_code,
        "stage": decision.stage.to_dict(), "as_of": decision.as_of, "as_of_us": evidence.as_of_us, "max_file": evidence.max_file,
        "evidence_sha256": answer.evidence_sha256, "policy_sha256": decision.policy_sha256,
        "findings": [f.to_dict() for f in decision.findings], "extra": [], "facts": asdict(facts), "history": [],
        "next": dict(decision.next),
        "shadow": {"pairs": answer.pairs, "units": answer.units, "sampled": dict(answer.sampled), "metrics": numbers},
        "spec": experiment.model_dump(mode="json", exclude={"halt"}, exclude_none=True, exclude_defaults=True),
    }  # fmt: skip
