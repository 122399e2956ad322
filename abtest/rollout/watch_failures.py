"""What did not work in a tick: told once when it begins and once when it ends, however many ticks it lasts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from abtest.errors import AbtestError
from abtest.results import ToDict
from abtest.store import ledger

STORE, LOGS, PUBLISH, MESSAGES = "@store", "@logs", "@publish", "@messages"
"""Scopes of failures that are not of one experiment; others are named like the experiment."""


@dataclass(frozen=True)
class Failure(ToDict):
    """Something that did not work.

    Attributes:
        scope: The experiment, or @store, @logs, @publish, @messages.
        code: Code of the error.
        message: One line.
        exit_code: What a command that ends with it exits with.
    """

    scope: str
    code: str
    message: str
    exit_code: int = 1

    @classmethod
    def of(cls, scope: str, error: Exception) -> Failure:
        """Make it of an error; one that is none of ours is a crash, which a watch survives and tells."""
        if isinstance(error, AbtestError):
            return cls(scope, error.code, str(error), error.exit_code)
        return cls(scope, "crash", f"{type(error).__name__}: {error}".splitlines()[0], 1)


Note = tuple[str, int, Mapping[str, Any]]
"""An entry for the ledger: experiment, revision, body."""


@dataclass
class Failures:
    """The failures that last, and what the ledger has to be told of them.

    Attributes:
        tell: Called with one line when a failure begins or ends.
        now: Those of the tick under way.
        notes: Entries for the ledger, written when the store can be opened.
    """

    tell: Callable[[str], None]
    now: list[Failure] = field(default_factory=list[Failure])
    notes: list[Note] = field(default_factory=list[Note])
    _before: list[Failure] = field(default_factory=list[Failure])
    _lasting: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])

    def begin_tick(self) -> None:
        """Begin a new tick: failures of the one before end, unless they come again or are carried over."""
        self._before, self.now = self.now, []

    def carry(self, scope: str) -> None:
        """Keep what failed in the tick before: nothing was tried again in this one."""
        self.now += [f for f in self._before if f.scope == scope and f not in self.now]

    def add(self, failure: Failure, revision: int = 0) -> None:
        """Note a failure of this tick."""
        self.now.append(failure)
        code, ticks = self._lasting.get(failure.scope, ("", 0))
        if code != failure.code:
            self.tell(f"{_name(failure.scope)}: FAILED, {failure.message}")
            body = {"event": "failed", "scope": failure.scope, "code": failure.code, "message": failure.message}
            self.notes.append((_experiment(failure.scope), revision, body))
        self._lasting[failure.scope] = (failure.code, ticks + 1)

    def worked(self, scope: str, revision: int = 0) -> None:
        """Note that something works: a failure that lasted has ended."""
        if any(f.scope == scope for f in self.now) or scope not in self._lasting:
            return
        code, ticks = self._lasting.pop(scope)
        self.tell(f"{_name(scope)}: works again after {ticks:,} failed ticks")
        body = {"event": "recovered", "scope": scope, "code": code, "failed_ticks": ticks}
        self.notes.append((_experiment(scope), revision, body))

    def resume(self, past: Sequence[ledger.Entry]) -> None:
        """Take over the failures that another watch, one before this one perhaps, left behind."""
        open_ones: dict[str, str] = {}
        for body in (e.body for e in past if e.kind == "watch"):
            if body.get("event") == "failed":
                open_ones[body["scope"]] = body["code"]
            elif body.get("event") == "recovered":
                open_ones.pop(body["scope"], None)
        for scope, code in open_ones.items():
            self._lasting.setdefault(scope, (code, 0))

    @property
    def lasting(self) -> bool:
        """Return whether something does not work."""
        return bool(self._lasting)


def _experiment(scope: str) -> str:
    return "" if scope.startswith("@") else scope


def _name(scope: str) -> str:
    return {STORE: "store", LOGS: "logs", PUBLISH: "published files", MESSAGES: "messages"}.get(scope, scope)
