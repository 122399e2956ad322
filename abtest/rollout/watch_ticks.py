"""One watch, tick by tick: what is new, is anything to be decided, what came of it, who has to know."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from abtest.analysis.times import to_text
from abtest.errors import AbtestError, ActuatorError, LogReadError, UsageError
from abtest.results import Decision, Finding
from abtest.rollout import outbox, publish
from abtest.rollout.confirm import confirm
from abtest.rollout.decide import Decided, Findings, Watching, check_decidable, decide_fully
from abtest.rollout.deliver import take_due, tell_closed
from abtest.rollout.record import record
from abtest.rollout.status import SCHEMA, experiments_of, said_now
from abtest.rollout.watch_failures import LOGS, MESSAGES, PUBLISH, STORE, Failure, Failures
from abtest.rollout.watch_inputs import LogFolders, SpecFile, store_stamps
from abtest.rollout.watch_result import WatchResult
from abtest.spec import Experiment
from abtest.store import ledger
from abtest.store.store import Store

RECORD_AGAIN_US = 3_600_000_000
"""A decision on new rows that says what the last entry of the ledger says is recorded once an hour, not every few seconds."""
SILENT_SECONDS = 3600.0
"""Logs that were flowing are stale after this, where the spec has no `[freshness] max_age` of its own."""
_LIVE_SECONDS = 86_400.0
"""Logs whose newest call was this old or older when the watch began are history: that they stand still says nothing."""
_WAIT_SECONDS = 5.0
_TELLING = ("webhook", "command", "outbox")
_TOLD_AGAIN_US = 5_000_000
"""While messages wait, the outbox is looked at this often, although each message is sent less and less often."""


@dataclass
class Watched:
    """One experiment from tick to tick.

    Attributes:
        file: Its spec.
        done: The last decision, with what it was made from.
        decision: The same with what was told.
        due_us: When it has to be decided again though nothing is new; None: never.
        newest_us: Its newest call.
        moved_us: When that last moved; None for logs that stood still all the time.
        shown: What was told last.
        since: Since when that is so.
    """

    file: SpecFile
    done: Decided | None = None
    decision: Decision | None = None
    due_us: int | None = None
    newest_us: int | None = None
    moved_us: int | None = None
    shown: tuple[Any, ...] = ()
    since: str | None = None

    @property
    def experiment(self) -> Experiment:
        """Return the spec in force."""
        return self.file.experiment


@dataclass
class Watcher:
    """A watch, tick by tick; `watch` runs it.

    Attributes:
        specs: The experiments.
        logs: Where the rows come from.
        db: The store.
        folder: Where each tick is published.
        dry_run: Take rows, decide, say what would be done, change nothing else.
        findings: Further findings for each decision (see `decide`).
        tell: Called with one line for each change.
        every: Seconds between ticks, for the heartbeat.
        clock: The time in microseconds since 1970.
    """

    specs: Sequence[Watched]
    logs: LogFolders
    db: Path
    folder: Path
    dry_run: bool = False
    findings: Findings = ()
    tell: Callable[[str], None] = lambda _: None
    every: float = 10.0
    clock: Callable[[], int] = lambda: time.time_ns() // 1000
    ticks: int = 0
    failed_ticks: int = 0
    inserted: int = 0
    last_error: Failure | None = None
    _failures: Failures = field(init=False)
    _stamps: tuple[Any, ...] | None = None
    _rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    _rows_seq: int = -1
    _messages_us: int | None = None
    _foreign: bool = False
    _again: bool = True
    _tried: list[Watched] = field(default_factory=list[Watched])
    _started_us: int = 0

    def __post_init__(self) -> None:
        """Refuse two specs of one experiment, where each would undo the other, and specs that cannot be decided about."""
        for w in self.specs:
            check_decidable(w.experiment)
        ids = [w.experiment.id for w in self.specs]
        twice = next((i for i in ids if ids.count(i) > 1), None)
        if twice is not None:
            raise UsageError(f"experiment {twice!r} is there twice", key="SPEC", hint="give each experiment once")
        self._failures = Failures(self._say)
        self._started_us = self.clock()
        publish.tidy(self.folder)

    # -- a tick --------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Look once; whatever happens is told and recorded, nothing is raised."""
        self.ticks += 1
        self._failures.begin_tick()
        now_us = self.clock()
        edited = self._reread()
        asked = self._asked(now_us) or edited
        self._tried = []
        if self.logs.changed() or asked:
            decided = self._decide_all(now_us, asked)
        else:
            decided = []
            self._failures.carry(MESSAGES)
        for w in self.specs:
            if w not in self._tried:
                self._failures.carry(w.experiment.id)
        self._publish(decided, now_us)
        failed = self._failures.now
        self.failed_ticks += bool(failed)
        self.last_error = failed[-1] if failed else self.last_error
        self._again = bool(self._failures.notes) or any(f.scope in (STORE, LOGS) for f in failed)

    def close(self) -> None:
        """Record the last decisions, so that every id that was shown last is in the ledger, and publish that this is the end."""
        open_ones = [] if self.dry_run else [w for w in self.specs if w.done is not None and not w.done.recorded]
        if open_ones or self._failures.notes:
            try:
                with Store(self.db, wait=_WAIT_SECONDS) as store:
                    for w in open_ones:
                        assert w.done is not None
                        e = w.experiment
                        past = ledger.entries(store.connection, experiment=e.id, revision=e.revision)
                        record(store, e, w.done.decision, w.done.body, past)
                    self._write_notes(store)
            except AbtestError as error:
                self._say(f"the last decision could not be recorded: {error}")
        self._publish([], self.clock(), stopped=True)

    def result(self) -> WatchResult:
        """Return what has come of it so far."""
        return WatchResult(
            ticks=self.ticks, failed_ticks=self.failed_ticks,
            decisions=tuple(w.decision for w in self.specs if w.decision is not None),
            failing=tuple(self._failures.now), last_error=self.last_error, inserted=self.inserted, dry_run=self.dry_run,
        )  # fmt: skip

    # -- is there anything to do? --------------------------------------------------------------------------------

    def _reread(self) -> bool:
        """Read specs that were edited; return whether one of them is another now."""
        edited = False
        for w in self.specs:
            changed, e = w.file.reread(), w.experiment
            if w.file.problem is not None:
                self._failures.add(Failure.of(e.id, w.file.problem), e.revision)
            if changed is None:
                continue
            edited = True
            if changed:
                digest = e.policy_sha256()
                self._say(f"{e.id}: the policy was edited ({', '.join(changed)}); policy {digest[:16]} is in force")
                body = {"event": "policy_changed", "changed": changed, "policy_sha256": digest}
                self._failures.notes.append((e.id, e.revision, body))
        return edited

    def _asked(self, now_us: int) -> bool:
        """Return whether something else than new rows asks for a decision: a failure, another writer, a clock."""
        clocks = [w.due_us for w in self.specs] + [self._messages_us]
        self._foreign = self._foreign or store_stamps(self.db) != self._stamps
        return self._again or self._foreign or any(at is not None and at <= now_us for at in clocks)

    # -- with the store ------------------------------------------------------------------------------------------

    def _decide_all(self, now_us: int, asked: bool) -> list[Watched]:
        """Take rows and decide, in one opening of the store; then send, with the store closed. Returns what was decided."""
        decided: list[Watched] = []
        due: list[outbox.Queued] = []
        experiments = [w.experiment for w in self.specs]
        try:
            with Store(self.db, wait=_WAIT_SECONDS) as store:
                if self._foreign:  # on a ledger that somebody tampered with nothing is decided
                    ledger.verify(store.connection)
                    self._failures.resume(ledger.entries(store.connection, kind="watch"))
                    self._foreign, self._rows_seq = False, -1
                self._failures.worked(STORE)
                self._take(store)
                self._tried = [w for w in self.specs if asked or not self._rests(store, w)]
                decided = [w for w in self._tried if self._decide(store, w, self.clock())]
                self._write_notes(store)
                due = [] if self.dry_run else take_due(store, experiments)
                self._look_at_ledger(store)
                self._messages_us = self._next_message(store, experiments, now_us)
        except (AbtestError, duckdb.Error, OSError) as error:
            self._failures.add(Failure.of(STORE, error))
        # As we left it: what anybody writes from now on, while messages are sent too, is seen at the next tick.
        self._stamps = store_stamps(self.db)
        made: Sequence[Decision] = [w.done.decision for w in decided if w.done is not None]
        try:
            made = tell_closed(self.db, due, experiments, made)
        except (AbtestError, duckdb.Error, OSError) as error:
            self._failures.add(Failure.of(MESSAGES, error))
        for w, decision in zip(decided, made, strict=True):
            w.decision = decision
            self._show(w, now_us)
        self._look_at_messages(decided)
        return decided

    def _look_at_ledger(self, store: Store) -> None:
        """Read what is published of the ledger, when it has grown."""
        row = store.connection.execute("select coalesce(max(seq), 0) from ledger").fetchone()
        if row is not None and row[0] != self._rows_seq:
            self._rows, self._rows_seq = experiments_of(store), int(row[0])

    def _take(self, store: Store) -> None:
        try:
            report = self.logs.take(store)
        except (AbtestError, duckdb.Error, OSError) as error:
            self._failures.add(Failure.of(LOGS, error))
            return
        self.inserted += report.inserted if report else 0
        for failed in report.failed_files if report else ():
            self._failures.add(
                Failure(LOGS, LogReadError.code, f"{failed.file}: {failed.message}", LogReadError.exit_code)
            )
        self._failures.worked(LOGS)

    def _rests(self, store: Store, w: Watched) -> bool:
        """Return whether new rows decide nothing: the release is halted, and they are only looked at for traffic that goes on."""
        e, done = w.experiment, w.done
        if done is None or not done.closed:
            return False
        try:
            past = ledger.entries(store.connection, experiment=e.id, revision=e.revision)
            seen = confirm(
                store, e, done.scan, past, share=done.analysis.stage.share, now_us=self.clock(), write=not self.dry_run
            )
        except (AbtestError, duckdb.Error):
            return False  # the decision meets the same and tells it
        return seen is not None and not seen.new

    def _decide(self, store: Store, w: Watched, now_us: int) -> bool:
        """Decide one experiment; what goes wrong there is no matter of the others."""
        e = w.experiment
        try:
            done = decide_fully(
                store, e, dry_run=self.dry_run, findings=self.findings, deliver=False, now_us=now_us,
                watching=Watching(RECORD_AGAIN_US, lambda newest_us: self._silence(w, now_us, newest_us)),
            )  # fmt: skip
        except Exception as error:
            self._failures.add(Failure.of(e.id, error), e.revision)
            w.due_us = now_us  # again at the next tick
            return False
        w.done = done
        self._look_at_clocks(w, done, now_us)
        for broken in (a for a in done.decision.actions if a.status == "failed"):
            self._failures.add(Failure(e.id, ActuatorError.code, broken.detail, ActuatorError.exit_code), e.revision)
            w.due_us = now_us
        self._failures.worked(e.id, e.revision)
        if self.dry_run and done.decision.decision == "halt" and w.shown[:1] != ("halt",):
            body = {"event": "would_halt", "summary": done.decision.summary, "decision_id": done.decision.decision_id}
            self._failures.notes.append((e.id, e.revision, body))
        return True

    def _look_at_messages(self, decided: Sequence[Watched]) -> None:
        """Tell which messages were not accepted; they are sent again at times of their own."""
        told = [(w, a) for w in decided if w.decision is not None for a in w.decision.actions if a.actuator in _TELLING]
        for w, action in told:
            if action.status == "failed":
                words = f"{w.experiment.id}: {action.actuator} {action.detail}"
                self._failures.add(Failure(MESSAGES, ActuatorError.code, words, ActuatorError.exit_code))
        if told:
            self._failures.worked(MESSAGES)
        else:
            self._failures.carry(MESSAGES)

    def _write_notes(self, store: Store) -> None:
        while self._failures.notes:
            experiment, revision, body = self._failures.notes[0]
            ledger.append(store.connection, "watch", experiment, revision, body)
            self._failures.notes.pop(0)

    def _next_message(self, store: Store, experiments: Sequence[Experiment], now_us: int) -> int | None:
        """Return when to look at the messages again."""
        waits = [m.next_us for m in outbox.waiting(store) if outbox.endpoint_of(m, experiments) is not None]
        # What is sent now is looked at again soon, whatever comes of it.
        return None if self.dry_run or not waits else min(max(min(waits), now_us), now_us + _TOLD_AGAIN_US)

    # -- clocks --------------------------------------------------------------------------------------------------

    def _silence(self, w: Watched, now_us: int, newest_us: int | None) -> Sequence[Finding]:
        """Judge whether logs that were flowing have stopped; a spec with `[freshness]` has its own rule for that."""
        if newest_us is None:
            return ()
        if w.newest_us is None:
            w.moved_us = min(newest_us, now_us) if now_us - newest_us < _LIVE_SECONDS * 1e6 else None
        elif newest_us > w.newest_us:
            w.moved_us = now_us
        w.newest_us = newest_us
        if w.experiment.freshness is not None or w.moved_us is None:
            return ()
        silent = (now_us - w.moved_us) / 1e6
        if silent <= SILENT_SECONDS:
            return ()
        words = f"the logs were flowing and have stopped: no call of this experiment for {silent / 3600:.1f} hours"
        return (Finding("stale", "error", None, words),)

    def _look_at_clocks(self, w: Watched, done: Decided, now_us: int) -> None:
        """Find the moment at which it has to be decided again though nothing is new."""
        e, moments = w.experiment, list[float]()
        if e.freshness is not None and w.newest_us is not None:
            limits = [e.freshness.seconds, *([e.policy.halt_age] if e.policy.halt_age is not None else [])]
            moments += [w.newest_us + (limit + 1) * 1e6 for limit in limits]
        elif w.moved_us is not None:
            moments.append(w.moved_us + (SILENT_SECONDS + 1) * 1e6)
        if done.facts.override is not None:
            moments.append(float(done.facts.override["expires_us"]))
        w.due_us = min((round(m) for m in moments if m > now_us), default=None)

    # -- telling -------------------------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        self.tell(text)

    def _show(self, w: Watched, now_us: int) -> None:
        """Tell a decision when it is another than the one before, and what was done."""
        decision, done = w.decision, w.done
        assert decision is not None
        assert done is not None
        key = (decision.decision, decision.reason, decision.stage.index, decision.stage.share)
        halt = done.confirmation.state if done.confirmation else None
        if key != w.shown[:4]:
            w.since = to_text(now_us // 1_000_000 * 1_000_000)
            self._say(f"{decision.experiment}: {decision.summary}")
            for action in decision.actions:
                if action.status != "failed":  # failures have a line of their own
                    self._say(f"{decision.experiment}: {action.actuator} {action.status}, {action.detail}")
        if halt in ("halt_confirmed", "halt_not_effective") and halt != (w.shown[4] if w.shown else None):
            message = next((f.message for f in decision.findings if f.code == halt), "")
            self._say(f"{decision.experiment}: {halt.replace('_', ' ').upper()}, {message}")
        w.shown = (*key, halt)

    def _publish(self, decided: Sequence[Watched], now_us: int, *, stopped: bool = False) -> None:
        """Replace the published files: of the experiments that were decided, and the heartbeat."""
        at = to_text(now_us)
        try:
            for w in decided:
                assert w.done is not None
                assert w.decision is not None
                data = {"schema": "abtest.published/1", "published_at": at, "decision": w.decision.to_dict(),
                        "analysis": w.done.analysis.to_dict()}  # fmt: skip
                publish.put(self.folder, publish.file_of(w.experiment.id), data)
            rows = said_now(self._rows, [(w.decision, w.since) for w in self.specs if w.decision is not None])
            heart = self._heartbeat(now_us, stopped=stopped)
            publish.put(
                self.folder, publish.STATUS, {"schema": SCHEMA, "experiments": rows, "watch": heart, "published_at": at}
            )
            self._failures.worked(PUBLISH)
        except AbtestError as error:
            self._failures.add(Failure.of(PUBLISH, error))

    def _heartbeat(self, now_us: int, *, stopped: bool) -> dict[str, Any]:
        failed = self._failures.now
        last = failed[-1] if failed else self.last_error
        return {
            "pid": os.getpid(), "host": socket.gethostname(), "started": to_text(self._started_us), "last_tick": to_text(now_us),
            "last_tick_us": now_us, "every": self.every, "ticks": self.ticks, "failed_ticks": self.failed_ticks + bool(failed and not stopped),
            "inserted": self.inserted, "failing": [f.to_dict() for f in failed], "last_error": last.to_dict() if last else None,
            "dry_run": self.dry_run, "stopped": stopped,
        }  # fmt: skip
