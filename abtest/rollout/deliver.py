"""Sends what waits in the outbox, if possible while the store is closed: a receiver that hangs must keep nobody out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from abtest.errors import ActuatorError, StoreError
from abtest.results import Action, Decision
from abtest.rollout import outbox
from abtest.rollout.actuators.command import CommandHook
from abtest.rollout.actuators.webhook import TIMEOUT_SECONDS, Answer, Message
from abtest.rollout.outbox import Attempt, Endpoint, Queued
from abtest.spec import Experiment
from abtest.store import ledger
from abtest.store.store import Store

LONGEST_SECONDS = 8.0
"""How long one round of messages may take while the store is closed; commands have their own time limits."""
OPEN_SECONDS = 2.0
"""The same where the caller holds the store open all that time (`abtest.decide` in Python)."""
_TRIES = 2  # in one round
_SECOND_TRY_AFTER = 0.5
_LEAST_TIMEOUT = 0.2


def deliver_due(
    store: Store,
    experiments: Sequence[Experiment] = (),
    *,
    first: str | None = None,
    seconds: float = OPEN_SECONDS,
) -> tuple[str, ...]:
    """Send what is due while the store stays open; what is not accepted stays and waits longer each time.

    Never raises for a receiver that fails or a secret that is missing; `outbox.waiting(store)` tells why a message waits.

    Args:
        store: Open for writing.
        experiments: Specs that were read; their commands can be started.
        first: The experiment whose messages go first.
        seconds: How long the whole round may take.

    Returns:
        The ids of the messages that were accepted.
    """
    accepted: list[str] = []

    def noted(attempt: Attempt) -> None:
        outbox.note(store, attempt)
        if attempt.answer is not None and attempt.answer.outcome == "accepted":
            accepted.append(attempt.message.event_id)

    send(outbox.due(store, experiments, first=first), experiments, noted, seconds=seconds)
    return tuple(accepted)


def tell(store: Store, experiment: Experiment, decision: Decision, past: Sequence[ledger.Entry]) -> tuple[Action, ...]:
    """Send what is due, this experiment's messages first, and return what has become of the messages about this halt.

    Args:
        store: Open for writing.
        experiment: Says who is to be told.
        decision: What was decided; when it is no halt, there is no action, but what waits is sent all the same.
        past: As for `outbox.enqueue`.
    """
    accepted = deliver_due(store, (experiment,), first=experiment.id)
    return outbox.told(store, experiment, decision, past, accepted)


def take_due(store: Store, experiments: Sequence[Experiment]) -> list[Queued]:
    """Return what is due and keep it for this process, so that it can be sent after the store is closed."""
    return outbox.due(store, experiments, lease_seconds=_lease(experiments))


def tell_closed(
    path: Path,
    taken: Sequence[Queued],
    experiments: Sequence[Experiment],
    decisions: Sequence[Decision],
    *,
    wait: float = 5.0,
) -> tuple[Decision, ...]:
    """Send while the store is closed, note what came of it, and return the decisions with those actions.

    Args:
        path: The store, closed by this process.
        taken: What `take_due` returned.
        experiments: Specs that were read: those of the decisions are among them.
        decisions: What was decided.
        wait: Seconds to wait for another process to let go of the store.
    """
    specs = {e.id: e for e in experiments}
    halted = any(d.decision == "halt" and not d.dry_run and outbox.endpoints_of(specs[d.experiment]) for d in decisions)
    if not taken and not halted:
        return tuple(decisions)
    attempts: list[Attempt] = []
    send(taken, experiments, attempts.append)
    try:
        with Store(path, wait=wait) as store:
            _note_all(store, taken, attempts)
            accepted = [a.message.event_id for a in attempts if a.answer and a.answer.outcome == "accepted"]
            return tuple(_with_actions(store, specs[d.experiment], d, accepted) for d in decisions)
    except StoreError as error:
        # What was sent is not noted, and is sent once more: at least once.
        busy = Action("outbox", "failed", f"what came of the messages was not noted: {error.message}")
        return tuple(replace(d, actions=(*d.actions, busy)) for d in decisions)


def send(
    messages: Sequence[Queued],
    experiments: Sequence[Experiment],
    noted: Callable[[Attempt], None],
    *,
    seconds: float = LONGEST_SECONDS,
) -> None:
    """Send messages one after the other; `noted` gets what came of each.

    Args:
        messages: What is due.
        experiments: Specs that were read; their commands can be started.
        noted: Called after each message.
        seconds: How long all messages to webhooks may take together.
    """
    until, silent = time.monotonic() + seconds, set[str]()
    for message in messages:
        endpoint = outbox.endpoint_of(message, experiments)
        # An address that failed a moment ago, or asked for no more, is not asked again for the next message.
        if endpoint is None or (message.url in silent and message.url != outbox.COMMAND):
            continue
        attempt = _command(message, endpoint) if isinstance(endpoint, CommandHook) else _post(message, endpoint, until)
        if attempt is None:
            continue
        if attempt.answer is None or attempt.answer.outcome != "accepted":
            silent.add(message.url)
        noted(attempt)


# -- parts -------------------------------------------------------------------------------------------------------


def _note_all(store: Store, taken: Sequence[Queued], attempts: Sequence[Attempt]) -> None:
    for attempt in attempts:
        outbox.note(store, attempt)
    sent = {a.message.event_id for a in attempts}
    outbox.release(store, [m for m in taken if m.event_id not in sent])


def _command(message: Queued, endpoint: CommandHook) -> Attempt:
    try:
        return Attempt(message, endpoint, endpoint.send(Message(message.event_id, message.body)))
    except ActuatorError as error:
        return Attempt(message, endpoint, None, 0, str(error))


def _post(message: Queued, endpoint: Endpoint, until: float) -> Attempt | None:
    """Send one message, once more soon after when it failed; None when there is no time left."""
    assert not isinstance(endpoint, CommandHook)
    answer: Answer | None = None
    for number in range(1, _TRIES + 1):
        timeout = min(TIMEOUT_SECONDS, until - time.monotonic())
        if timeout < _LEAST_TIMEOUT:
            return None if answer is None else Attempt(message, endpoint, answer, number - 1)
        try:
            answer = endpoint.send(Message(message.event_id, message.body), timeout=timeout)
        except ActuatorError as error:
            return Attempt(message, endpoint, None, 0, str(error))
        if answer.outcome != "failed" or answer.retry_after is not None or number == _TRIES:
            return Attempt(message, endpoint, answer, number)
        time.sleep(min(outbox.spread(_SECOND_TRY_AFTER), max(until - time.monotonic(), 0.0)))
    raise AssertionError("the loop returns")


def _with_actions(store: Store, experiment: Experiment, decision: Decision, accepted: Sequence[str]) -> Decision:
    if decision.dry_run:
        return decision
    past = ledger.entries(store.connection, experiment=experiment.id, revision=experiment.revision)
    return replace(decision, actions=(*decision.actions, *outbox.told(store, experiment, decision, past, accepted)))


def _lease(experiments: Sequence[Experiment]) -> float:
    commands = [h.timeout for e in experiments for h in outbox.endpoints_of(e) if isinstance(h, CommandHook)]
    return LONGEST_SECONDS + sum(commands) + 5.0
