"""The outbox: messages about halts, kept in the store until the webhook or the command of the spec has accepted them.

A message is written in the transaction of its decision's ledger entry and sent afterwards, so a crash in between loses
nothing: the next `abtest decide` of any experiment in the store sends it. A crash between the receiver's answer and our
note of it sends the message twice, with the same id. That is "at least once"; what was noted as accepted is never sent again.

One halt is one message to each: however often a standing halt is decided again, with whatever new evidence, nothing more
is sent. It ends with a decision that is no halt (after an override or in a new revision); the next halt is a new message.
A halt after which traffic goes on is told once more, as another event.

`abtest decide` and `abtest watch` send while the store is closed (`abtest.rollout.deliver`): a receiver that hangs keeps
nobody out. What the outbox says of a command is only that one is to be told: which program that is, the spec says.
"""

from __future__ import annotations

import random
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb

from abtest.analysis.times import to_text
from abtest.metrics.base import duration_seconds
from abtest.results import Action, Decision
from abtest.rollout.actuators.command import CommandHook
from abtest.rollout.actuators.webhook import HALTED, NOT_EFFECTIVE, Answer, WebhookEndpoint, event_body, message_id
from abtest.spec import Experiment
from abtest.store import ledger
from abtest.store.store import Store

COMMAND = "command:"
"""What stands in a message's `url` when it is for the command of its experiment's spec."""
Endpoint = WebhookEndpoint | CommandHook

_FIRST_WAIT, _LONGEST_WAIT = 5.0, 3600.0
_LONGEST_ASKED = 86_400.0  # a receiver may not silence a halt for longer than a day

_COLUMNS = (
    "event_id, experiment, revision, decision_id, url, secret_env, body, attempts, next_us, delivered_us, problem"
)


@dataclass(frozen=True)
class Queued:
    """A message of the outbox, delivered or not.

    Attributes:
        event_id: The `webhook-id`, or what a command finds in `ABTEST_EVENT_ID`.
        experiment: Id of the experiment that was halted.
        revision: Its revision.
        decision_id: The decision that halted it.
        url: Where it goes; `command:` for a command.
        secret_env: Name of the environment variable with the secret; empty for a command.
        body: The JSON text.
        attempts: How often it was sent.
        next_us: Not before this moment again, in microseconds since 1970.
        delivered_us: When it was accepted; None while it waits.
        problem: What the last attempt met.
    """

    event_id: str
    experiment: str
    revision: int
    decision_id: str
    url: str
    secret_env: str
    body: str
    attempts: int
    next_us: int
    delivered_us: int | None
    problem: str | None


@dataclass(frozen=True)
class Attempt:
    """What came of sending a message.

    Attributes:
        message: The message.
        endpoint: Where it was sent.
        answer: The last answer; None when nothing could be sent.
        tries: How often it was sent.
        problem: Why nothing could be sent.
    """

    message: Queued
    endpoint: Endpoint
    answer: Answer | None
    tries: int = 1
    problem: str | None = None


@contextmanager
def atomic(con: duckdb.DuckDBPyConnection) -> Generator[None]:
    """Write all that happens inside, or nothing."""
    con.begin()
    try:
        yield
    except BaseException:
        con.rollback()
        raise
    con.commit()


def endpoints_of(experiment: Experiment) -> tuple[Endpoint, ...]:
    """Return who is told of a halt, as the spec says."""
    webhook, command = experiment.halt.webhook, experiment.halt.command
    found: list[Endpoint] = []
    if webhook is not None:
        found.append(WebhookEndpoint(webhook.url, webhook.secret_env))
    if command is not None:
        found.append(CommandHook(tuple(command.argv), duration_seconds(command.timeout), experiment.folder))
    return tuple(found)


def endpoint_of(message: Queued, experiments: Sequence[Experiment]) -> Endpoint | None:
    """Return where a message goes; None for the command of an experiment that is not at hand.

    Nothing that stands in a store is ever started: a command comes from a spec that the caller has read.
    """
    if message.url != COMMAND:
        return WebhookEndpoint(message.url, message.secret_env)
    hooks = [h for e in experiments if e.id == message.experiment for h in endpoints_of(e)]
    return next((h for h in hooks if isinstance(h, CommandHook)), None)


def enqueue(store: Store, experiment: Experiment, decision: Decision, past: Sequence[ledger.Entry]) -> None:
    """Put the messages about a halt into the outbox, once; call it in the transaction of the decision's ledger entry.

    Without a webhook or command in the spec, or for another decision, nothing is written, except that messages which
    still wait follow an address or secret that was changed in the spec.

    Args:
        store: Open for writing.
        experiment: Says where the messages go.
        decision: What was decided; sent without the series of its metrics, which no reader of a message needs.
        past: The ledger's entries of this experiment and revision, before this decision or with it.
    """
    con, target = store.connection, experiment.halt.webhook
    if target is not None:
        con.execute(
            """update outbox set url = $url, secret_env = $secret_env, next_us = 0
            where experiment = $experiment and delivered_us is null and url <> $command
              and (url <> $url or secret_env <> $secret_env)""",
            {"url": target.url, "secret_env": target.secret_env, "experiment": experiment.id, "command": COMMAND},
        )
    for endpoint in endpoints_of(experiment):
        for kind, ident in _events(endpoint, decision, past):
            if _find(con, ident) is None:
                where = (endpoint.url, endpoint.secret_env) if isinstance(endpoint, WebhookEndpoint) else (COMMAND, "")
                con.execute(
                    """insert into outbox (event_id, experiment, revision, decision_id, url, secret_env, body, created_us, attempts, next_us)
                    values (?, ?, ?, ?, ?, ?, ?, ?, 0, 0)""",
                    [ident, decision.experiment, decision.revision, decision.decision_id, *where, _body(decision, kind), _now_us()],
                )  # fmt: skip


def due(
    store: Store, experiments: Sequence[Experiment] = (), *, first: str | None = None, lease_seconds: float = 0.0
) -> list[Queued]:
    """Return what is to be sent now: of every experiment in the store, and commands of the given ones.

    Args:
        store: Open for writing.
        experiments: Specs that were read; their commands can be started.
        first: The experiment whose messages go first.
        lease_seconds: For so long nobody else sends them; after a crash they are due again then.
    """
    con, now = store.connection, _now_us()
    found = [
        w
        for w in waiting(store)
        if w.next_us <= now and endpoint_of(w, experiments) is not None and not _gone(con, w.url)
    ]
    if lease_seconds and found:
        until = now + int(lease_seconds * 1e6)
        con.executemany("update outbox set next_us = ? where event_id = ?", [[until, w.event_id] for w in found])
    return sorted(found, key=lambda w: (w.experiment != first, w.next_us, w.event_id))


def release(store: Store, messages: Sequence[Queued]) -> None:
    """Make messages that were taken but not sent due again."""
    for message in messages:
        store.connection.execute(
            "update outbox set next_us = ? where event_id = ?", [message.next_us, message.event_id]
        )


def waiting(store: Store) -> list[Queued]:
    """Return the messages that no receiver has accepted yet, the oldest first."""
    rows = store.connection.execute(
        f"select {_COLUMNS} from outbox where delivered_us is null order by created_us, event_id"  # noqa: S608 - a constant
    ).fetchall()
    return [Queued(*row) for row in rows]


def enable(store: Store, url: str) -> None:
    """Send again to an address that had answered 410 Gone."""
    store.connection.execute("delete from outbox_gone where url = ?", [url])


def note(store: Store, attempt: Attempt) -> None:
    """Write down what came of an attempt; what is final goes into the ledger too."""
    con, message, answer, now = store.connection, attempt.message, attempt.answer, _now_us()
    if answer is None:
        # Not the receiver's fault: due again as soon as the secret, or the program, is there.
        con.execute(
            "update outbox set problem = ?, next_us = 0 where event_id = ?", [attempt.problem, message.event_id]
        )
        return
    accepted, gone = answer.outcome == "accepted", answer.outcome == "gone"
    attempts = message.attempts + attempt.tries
    next_us = now + int(_wait(attempts, answer.retry_after) * 1e6)
    with atomic(con):
        con.execute(
            "update outbox set attempts = ?, next_us = ?, delivered_us = ?, problem = ? where event_id = ?",
            [attempts, next_us, now if accepted else None, None if accepted else answer.detail, message.event_id],
        )
        if gone:
            con.execute("insert into outbox_gone values (?, ?)", [message.url, now])
        if accepted or gone:
            endpoint = attempt.endpoint
            action = Action(endpoint.name, "done" if accepted else "failed", f"{endpoint.where}: {answer.detail}")
            body = {**action.to_dict(), "event_id": message.event_id, "attempts": attempts}
            ledger.append(con, "action", message.experiment, message.revision, body, decision_id=message.decision_id)


def told(
    store: Store, experiment: Experiment, decision: Decision, past: Sequence[ledger.Entry], accepted: Sequence[str] = ()
) -> tuple[Action, ...]:
    """Return what has become of the messages about this halt; nothing when it is no halt.

    Args:
        store: An open store.
        experiment: Says who is to be told.
        decision: What was decided.
        past: As for `enqueue`.
        accepted: Ids of the messages that were accepted just now.
    """
    actions: list[Action] = []
    for endpoint in endpoints_of(experiment):
        for _, ident in _events(endpoint, decision, past):
            found = _find(store.connection, ident)
            if found is not None and found.delivered_us is None:
                actions.append(Action(endpoint.name, "failed", _not_yet(store.connection, found, endpoint)))
            elif found is not None:
                status = "done" if ident in accepted else "already_done"
                actions.append(Action(endpoint.name, status, _accepted(found, endpoint)))
    return tuple(actions)


def would_tell(
    store: Store, experiment: Experiment, decision: Decision, past: Sequence[ledger.Entry]
) -> tuple[Action, ...]:
    """Return what telling would say in a dry run; nothing is written or sent."""
    actions: list[Action] = []
    for endpoint in endpoints_of(experiment):
        for _, ident in _events(endpoint, decision, past):
            found = _find(store.connection, ident)
            if found is not None and found.delivered_us is not None:
                actions.append(Action(endpoint.name, "already_done", _accepted(found, endpoint)))
            else:
                actions.append(Action(endpoint.name, "dry_run", endpoint.would_tell()))
    return tuple(actions)


# -- parts -------------------------------------------------------------------------------------------------------


def _events(endpoint: Endpoint, decision: Decision, past: Sequence[ledger.Entry]) -> list[tuple[str, str]]:
    """Return (type, id) of the events that this decision is about: the halt that stands, and that it does not work."""
    ident = _event_id(decision, past)
    if ident is None:
        return []
    if isinstance(endpoint, CommandHook):
        ident = f"cmd_{ident.removeprefix('msg_')}"
    events = [(HALTED, ident)]
    if any(f.code == "halt_not_effective" for f in decision.findings):
        events.append((NOT_EFFECTIVE, f"{ident}_not_effective"))
    return events


def _event_id(decision: Decision, past: Sequence[ledger.Entry]) -> str | None:
    """Return the id of the message about the halt that stands with this decision; None when it is no halt."""
    if decision.decision != "halt":
        return None
    decided = [(e.body["decision"], str(e.decision_id)) for e in past if e.kind == "decision"]
    began: list[str] = []
    halted = False
    for name, ident in [*decided, ("halt", decision.decision_id)]:
        if name == "halt" and not halted:
            began.append(ident)
        halted = name == "halt"
    # The same evidence after an override that expired gives the same decision, but it is another halt.
    return message_id(began[-1], began.count(began[-1]))


def _body(decision: Decision, kind: str = HALTED) -> str:
    data: dict[str, Any] = decision.to_dict()
    for metric in data["metrics"]:
        del metric["series"]
    return event_body(data, kind)


def _find(con: duckdb.DuckDBPyConnection, ident: str) -> Queued | None:
    row = con.execute(f"select {_COLUMNS} from outbox where event_id = ?", [ident]).fetchone()  # noqa: S608 - a constant
    return Queued(*row) if row else None


def _gone(con: duckdb.DuckDBPyConnection, url: str) -> bool:
    return con.execute("select 1 from outbox_gone where url = ? limit 1", [url]).fetchone() is not None


def _wait(attempts: int, asked: float | None) -> float:
    """Return the seconds until the next attempt: doubled each time, spread, and never sooner than the receiver asked."""
    wait = spread(min(_FIRST_WAIT * 2.0 ** min(attempts - 1, 20), _LONGEST_WAIT))
    return max(wait, min(asked or 0.0, _LONGEST_ASKED))


def spread(seconds: float) -> float:
    """Return between half and all of it, so that many senders do not come back at the same moment."""
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, keeps no secret


def _accepted(found: Queued, endpoint: Endpoint) -> str:
    return (
        f"{endpoint.where} accepted {found.event_id} at {to_text((found.delivered_us or 0) // 1_000_000 * 1_000_000)}"
    )


def _not_yet(con: duckdb.DuckDBPyConnection, found: Queued, endpoint: Endpoint) -> str:
    if _gone(con, found.url):
        return f"{endpoint.where} answered 410 Gone: it is not told any more; give another url in the spec"
    when = f", not before {to_text(found.next_us // 1_000_000 * 1_000_000)}" if found.next_us > _now_us() else ""
    tried = f"{found.attempts} attempts, the last: " if found.attempts > 1 else ""
    return f"{endpoint.where} was not told: {tried}{found.problem or 'no time left'}; the next `abtest decide` tries again{when}"


def _now_us() -> int:
    return time.time_ns() // 1000
