"""The outbox: messages about halts, kept in the store until the webhook has accepted them.

A message is written in the transaction of its decision's ledger entry and sent afterwards, so a crash in between loses
nothing: the next `abtest decide` of any experiment in the store sends it. A crash between the receiver's answer and our
note of it sends the message twice, with the same `webhook-id`. That is "at least once".

One halt is one message: however often a standing halt is decided again, with whatever new evidence, nothing more is
sent. It ends with a decision that is no halt (after an override or in a new revision); the next halt is a new message.
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
from abtest.errors import ActuatorError
from abtest.results import Action, Decision
from abtest.rollout.actuators.webhook import (
    TIMEOUT_SECONDS,
    Answer,
    Message,
    WebhookEndpoint,
    halted_body,
    message_id,
)
from abtest.spec import Experiment
from abtest.store import ledger
from abtest.store.store import Store

LONGEST_SECONDS = 8.0
"""How long one delivery round may take; the store is open for writing all that time."""
_TRIES = 2  # in one round
_SECOND_TRY_AFTER = 0.5
_LEAST_TIMEOUT = 0.2
_FIRST_WAIT, _LONGEST_WAIT = 5.0, 3600.0
_LONGEST_ASKED = 86_400.0  # a receiver may not silence a halt for longer than a day

_COLUMNS = (
    "event_id, experiment, revision, decision_id, url, secret_env, body, attempts, next_us, delivered_us, problem"
)


@dataclass(frozen=True)
class Queued:
    """A message of the outbox, delivered or not.

    Attributes:
        event_id: The `webhook-id`.
        experiment: Id of the experiment that was halted.
        revision: Its revision.
        decision_id: The decision that halted it.
        url: Where it goes.
        secret_env: Name of the environment variable with the secret.
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


def enqueue(store: Store, experiment: Experiment, decision: Decision, past: Sequence[ledger.Entry]) -> None:
    """Put the message about a halt into the outbox, once; call it in the transaction of the decision's ledger entry.

    Without a webhook in the spec, or for another decision, nothing is written, except that messages which still wait
    follow an address or secret that was changed in the spec.

    Args:
        store: Open for writing.
        experiment: Says where the message goes.
        decision: What was decided; sent without the series of its metrics, which no reader of a message needs.
        past: The ledger's entries of this experiment and revision, before this decision or with it.
    """
    target = experiment.halt.webhook
    if target is None:
        return
    con = store.connection
    con.execute(
        """update outbox set url = $url, secret_env = $secret_env, next_us = 0
        where experiment = $experiment and delivered_us is null and (url <> $url or secret_env <> $secret_env)""",
        {"url": target.url, "secret_env": target.secret_env, "experiment": experiment.id},
    )
    ident = _event_id(decision, past)
    if ident is None or _find(con, ident) is not None:
        return
    con.execute(
        """insert into outbox (event_id, experiment, revision, decision_id, url, secret_env, body, created_us, attempts, next_us)
        values (?, ?, ?, ?, ?, ?, ?, ?, 0, 0)""",
        [ident, decision.experiment, decision.revision, decision.decision_id, target.url, target.secret_env, _body(decision), _now_us()],
    )  # fmt: skip


def deliver_due(store: Store, *, first: str | None = None, seconds: float = LONGEST_SECONDS) -> tuple[str, ...]:
    """Send what is due, of every experiment in the store; what is not accepted stays and waits longer each time.

    Never raises for a receiver that fails or a secret that is missing; `waiting(store)` tells why a message still waits.

    Args:
        store: Open for writing.
        first: The experiment whose messages go first.
        seconds: How long the whole round may take.

    Returns:
        The ids of the messages that were accepted.
    """
    until, con = time.monotonic() + seconds, store.connection
    due = [w for w in waiting(store) if w.next_us <= _now_us()]
    accepted, silent = list[str](), set[str]()
    for message in sorted(due, key=lambda w: (w.experiment != first, w.next_us, w.event_id)):
        # An address that failed a moment ago, or asked for no more, is not asked again for the next message.
        if message.url in silent or _gone(con, message.url) or until - time.monotonic() < _LEAST_TIMEOUT:
            continue
        if _deliver(con, message, until):
            accepted.append(message.event_id)
        else:
            silent.add(message.url)
    return tuple(accepted)


def waiting(store: Store) -> list[Queued]:
    """Return the messages that no receiver has accepted yet, the oldest first."""
    rows = store.connection.execute(
        f"select {_COLUMNS} from outbox where delivered_us is null order by created_us, event_id"  # noqa: S608 - a constant
    ).fetchall()
    return [Queued(*row) for row in rows]


def enable(store: Store, url: str) -> None:
    """Send again to an address that had answered 410 Gone."""
    store.connection.execute("delete from outbox_gone where url = ?", [url])


def tell(store: Store, experiment: Experiment, decision: Decision, past: Sequence[ledger.Entry]) -> tuple[Action, ...]:
    """Send what is due, this experiment's messages first, and return what has become of the message about this halt.

    Args:
        store: Open for writing.
        experiment: Says where the message goes.
        decision: What was decided; when it is no halt, there is no action, but what waits is sent all the same.
        past: As for `enqueue`.
    """
    accepted = deliver_due(store, first=experiment.id)
    ident, endpoint = _event_id(decision, past), _endpoint(experiment)
    found = _find(store.connection, ident) if ident and endpoint else None
    if found is None or endpoint is None:
        return ()
    if found.delivered_us is None:
        return (Action(endpoint.name, "failed", _not_yet(store.connection, found, endpoint)),)
    return (Action(endpoint.name, "done" if ident in accepted else "already_done", _accepted(found)),)


def would_tell(
    store: Store, experiment: Experiment, decision: Decision, past: Sequence[ledger.Entry]
) -> tuple[Action, ...]:
    """Return what `tell` would say in a dry run; nothing is written or sent."""
    ident, endpoint = _event_id(decision, past), _endpoint(experiment)
    if ident is None or endpoint is None:
        return ()
    found = _find(store.connection, ident)
    if found is not None and found.delivered_us is not None:
        return (Action(endpoint.name, "already_done", _accepted(found)),)
    return (Action(endpoint.name, "dry_run", endpoint.would_tell()),)


# -- parts -------------------------------------------------------------------------------------------------------


def _endpoint(experiment: Experiment) -> WebhookEndpoint | None:
    target = experiment.halt.webhook
    return WebhookEndpoint(target.url, target.secret_env) if target else None


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


def _body(decision: Decision) -> str:
    data: dict[str, Any] = decision.to_dict()
    for metric in data["metrics"]:
        del metric["series"]
    return halted_body(data)


def _find(con: duckdb.DuckDBPyConnection, ident: str) -> Queued | None:
    row = con.execute(f"select {_COLUMNS} from outbox where event_id = ?", [ident]).fetchone()  # noqa: S608 - a constant
    return Queued(*row) if row else None


def _gone(con: duckdb.DuckDBPyConnection, url: str) -> bool:
    return con.execute("select 1 from outbox_gone where url = ? limit 1", [url]).fetchone() is not None


def _deliver(con: duckdb.DuckDBPyConnection, message: Queued, until: float) -> bool:
    """Send one message, once more soon after when it failed; note every attempt. Returns whether it was accepted."""
    attempts = message.attempts
    for number in range(1, _TRIES + 1):
        timeout = min(TIMEOUT_SECONDS, until - time.monotonic())
        if timeout < _LEAST_TIMEOUT:
            return False
        try:
            endpoint = WebhookEndpoint(message.url, message.secret_env)
            answer = endpoint.send(Message(message.event_id, message.body), timeout=timeout)
        except ActuatorError as error:
            # Not the receiver's fault: due again as soon as the secret is there.
            con.execute("update outbox set problem = ? where event_id = ?", [str(error), message.event_id])
            return False
        attempts += 1
        _note(con, message, endpoint, answer, attempts)
        if answer.outcome != "failed" or answer.retry_after is not None:
            return answer.outcome == "accepted"
        if number < _TRIES:
            time.sleep(min(_spread(_SECOND_TRY_AFTER), max(until - time.monotonic(), 0.0)))
    return False


def _note(
    con: duckdb.DuckDBPyConnection, message: Queued, endpoint: WebhookEndpoint, answer: Answer, attempts: int
) -> None:
    """Write down what came of an attempt; what is final goes into the ledger too."""
    now = _now_us()
    accepted, gone = answer.outcome == "accepted", answer.outcome == "gone"
    with atomic(con):
        con.execute(
            "update outbox set attempts = ?, next_us = ?, delivered_us = ?, problem = ? where event_id = ?",
            [
                attempts,
                now + int(_wait(attempts, answer.retry_after) * 1e6),
                now if accepted else None,
                None if accepted else answer.detail,
                message.event_id,
            ],
        )
        if gone:
            con.execute("insert into outbox_gone values (?, ?)", [message.url, now])
        if accepted or gone:
            action = Action(endpoint.name, "done" if accepted else "failed", f"{endpoint.where}: {answer.detail}")
            body = {**action.to_dict(), "event_id": message.event_id, "attempts": attempts}
            ledger.append(con, "action", message.experiment, message.revision, body, decision_id=message.decision_id)


def _wait(attempts: int, asked: float | None) -> float:
    """Return the seconds until the next attempt: doubled each time, spread, and never sooner than the receiver asked."""
    wait = _spread(min(_FIRST_WAIT * 2.0 ** min(attempts - 1, 20), _LONGEST_WAIT))
    return max(wait, min(asked or 0.0, _LONGEST_ASKED))


def _spread(seconds: float) -> float:
    """Return between half and all of it, so that many senders do not come back at the same moment."""
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, keeps no secret


def _accepted(found: Queued) -> str:
    where = WebhookEndpoint(found.url, found.secret_env).where
    return f"{where} accepted {found.event_id} at {to_text((found.delivered_us or 0) // 1_000_000 * 1_000_000)}"


def _not_yet(con: duckdb.DuckDBPyConnection, found: Queued, endpoint: WebhookEndpoint) -> str:
    if _gone(con, found.url):
        return f"{endpoint.where} answered 410 Gone: it is not told any more; give another url in the spec"
    when = f", not before {to_text(found.next_us // 1_000_000 * 1_000_000)}" if found.next_us > _now_us() else ""
    tried = f"{found.attempts} attempts, the last: " if found.attempts > 1 else ""
    return f"{endpoint.where} was not told: {tried}{found.problem or 'no time left'}; the next `abtest decide` tries again{when}"


def _now_us() -> int:
    return time.time_ns() // 1000
