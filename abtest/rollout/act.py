"""Carries a decision out through the flag file; the ledger knows of every change before it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abtest.display import format_share
from abtest.errors import ActuatorError
from abtest.results import Action, Decision
from abtest.rollout.actuators import actuator_type
from abtest.rollout.actuators.base import ActuatorOutcome, HaltRequest, ShareRequest, TrafficActuator
from abtest.rollout.facts import allocation_history, halt_began, open_share
from abtest.rollout.rules import next_stage
from abtest.spec import Experiment
from abtest.store import ledger
from abtest.store.store import Store

_CHANGE = ("share", "at_us", "from_share", "from_us", "reason", "policy_sha256")
"""What the ledger keeps of a change of the share, besides what every action has."""


def flag_of(experiment: Experiment) -> TrafficActuator | None:
    """Return the actuator of the spec's flag file; None when it names none."""
    target = experiment.halt.flag
    if target is None:
        return None
    made = actuator_type(target.format)(path=experiment.folder / target.file, key=target.key, variants=target.variants)  # type: ignore[call-arg]
    assert isinstance(made, TrafficActuator)
    return made


def flag_problem(experiment: Experiment, decision: Decision) -> ActuatorError | None:
    """Find out now that a halt could not be carried out, not on the night it is needed."""
    flag = flag_of(experiment)
    if flag is None:
        return None
    try:
        flag.check(experiment.arm_names)
    except ActuatorError as error:
        if decision.decision == "halt":
            error.hint = f"{error.hint or 'mend it'}; the decision is: {decision.summary}"
        return error
    return None


def act(
    store: Store,
    experiment: Experiment,
    decision: Decision,
    past: Sequence[ledger.Entry],
    *,
    at_us: int,
    since_us: int,
    dry_run: bool,
) -> tuple[Action, ...]:
    """Stop the treatment, or write the next share; nothing for other decisions, or without a flag file.

    Args:
        store: Open for writing, unless `dry_run`.
        experiment: Names the flag file.
        decision: What to carry out.
        past: The ledger's entries of this experiment and revision before this decision.
        at_us: The clock: when it is done.
        since_us: Since when the present share stands.
        dry_run: Only say what would be done.

    Raises:
        ActuatorError: It could not be done; the flag file is as it was.
    """
    flag = flag_of(experiment)
    if flag is None:
        return ()
    if decision.decision == "halt":
        return (_halt(store, experiment, decision, past, flag, at_us=at_us, dry_run=dry_run),)
    following = next_stage(experiment, decision.stage)
    if decision.decision != "promote" or experiment.traffic.control != "abtest" or following is None:
        return ()
    assert following.share is not None  # `next_stage` looks for shares
    change = {
        "share": following.share, "at_us": at_us, "from_share": decision.stage.share, "from_us": since_us,
        "reason": decision.reason,
    }  # fmt: skip
    return (_promote(store, experiment, decision, past, flag, change, dry_run=dry_run),)


def settle(store: Store, experiment: Experiment, past: Sequence[ledger.Entry]) -> list[ledger.Entry]:
    """Return the ledger's entries with the end of a change of the share that a crash interrupted: made, or dropped.

    The flag says which: it carries the decision's id. What was not made is not made up for here; the same evidence
    promotes again, other evidence may not.
    """
    entries, flag, note = list(past), flag_of(experiment), open_share(past)
    if note is None or flag is None or store.read_only:
        return entries
    change = {k: note.body[k] for k in _CHANGE}
    request = ShareRequest(
        note.experiment, note.revision, str(note.decision_id), str(note.body["policy_sha256"]), experiment.control,
        tuple(experiment.treatments), float(note.body["share"]),
    )  # fmt: skip
    try:
        made = flag.set_share(request, dry_run=True).action.status == "already_done"
    except ActuatorError:
        return entries  # the file cannot be read now; the next decision looks again
    detail = "was made before an interruption" if made else "was interrupted before it was made"
    body = {"actuator": flag.name, "status": "done" if made else "dropped", "detail": detail, **change}
    entries.append(
        ledger.append(store.connection, "action", note.experiment, note.revision, body, decision_id=note.decision_id)
    )
    return entries


# -- parts -------------------------------------------------------------------------------------------------------


def _halt(
    store: Store, experiment: Experiment, decision: Decision, past: Sequence[ledger.Entry], flag: TrafficActuator,
    *, at_us: int, dry_run: bool,
) -> Action:  # fmt: skip
    began = halt_began(past)
    ident = str(began.decision_id) if began is not None else decision.decision_id
    notes = [e for e in past if e.kind == "action" and e.decision_id == ident and e.body["actuator"] == flag.name]
    begun = notes[-1] if notes and notes[-1].body["status"] == "begun" else None
    policy = str(began.body["policy_sha256"]) if began is not None else decision.policy_sha256
    request = HaltRequest(**_request(experiment, ident, policy))
    outcome = flag.halt(request, dry_run=True)
    if dry_run:
        return outcome.action
    if outcome.action.status == "already_done":
        if begun is not None:  # a crash fell between the flag file and our note of it
            made = Action(flag.name, "done", "was made before an interruption")
            _note(store, decision, ActuatorOutcome(made, begun.body["original"]), ident, {"at_us": begun.body["at_us"]})
        return outcome.action
    # The ledger knows what the flag said before it is changed: a crash in between loses nothing.
    if begun is None:
        _note(store, decision, outcome, ident, {"status": "begun", "at_us": at_us})
    outcome = flag.halt(request)
    _note(store, decision, outcome, ident, {"at_us": at_us})
    return outcome.action


def _promote(
    store: Store, experiment: Experiment, decision: Decision, past: Sequence[ledger.Entry], flag: TrafficActuator,
    change: Mapping[str, Any], *, dry_run: bool,
) -> Action:  # fmt: skip
    written = [e for e in past if e.kind == "action" and "share" in e.body and e.body["status"] == "done"]
    last = written[-1] if written else None
    overrides = [e for e in past if e.kind == "override"]
    if last is not None and decision.reason == "override" and last.seq > overrides[-1].seq:
        return Action(flag.name, "already_done", "this override has promoted by one stage")
    standing = allocation_history(past)[-1][1] if last is not None else 0.0
    if standing > change["share"]:
        return Action(flag.name, "already_done", f"the share is {format_share(standing)} already")
    ident, policy = decision.decision_id, decision.policy_sha256
    if last is not None and standing == change["share"]:
        # Until rows of the new stage come, the old one is promoted again and again: what was written stays as it is.
        ident, policy = str(last.decision_id), str(last.body["policy_sha256"])
    request = ShareRequest(**_request(experiment, ident, policy), share=change["share"])
    outcome = flag.set_share(request, dry_run=True)
    if dry_run or outcome.action.status == "already_done":
        return outcome.action
    more = {**change, "policy_sha256": policy}
    _note(store, decision, outcome, ident, {**more, "status": "begun"})
    outcome = flag.set_share(request)
    _note(store, decision, outcome, ident, more)
    return outcome.action


def _request(experiment: Experiment, ident: str, policy: str) -> dict[str, Any]:
    return {
        "experiment": experiment.id, "revision": experiment.revision, "decision_id": ident, "policy_sha256": policy,
        "control": experiment.control, "treatments": tuple(experiment.treatments),
    }  # fmt: skip


def _note(
    store: Store, decision: Decision, outcome: ActuatorOutcome, ident: str, more: Mapping[str, Any]
) -> ledger.Entry:
    body = {**outcome.action.to_dict(), "original": outcome.original, **more}
    return ledger.append(store.connection, "action", decision.experiment, decision.revision, body, decision_id=ident)
