"""Every error that abtest raises on purpose.

    AbtestError                    exit 1   base class; carries code, message, file, key, hint
    ├── UsageError                 exit 2   the call itself is wrong (unknown scenario, bad timestamp)
    ├── SpecError                  exit 2   the experiment file: unknown key, impossible value
    │   └── UnknownNameError       exit 2   a column or metric that does not exist
    ├── InvalidInputError          exit 2   numbers no statistic can take (also a ValueError)
    ├── LogReadError               exit 40  a log file that cannot be read whole
    ├── NoDataError                exit 40  nothing to analyse or to show
    ├── StoreError                 exit 40  the DuckDB file
    │   ├── StoreLockedError       exit 40  held by another process
    │   ├── StoreVersionError      exit 2   written by a newer abtest
    │   ├── UnsupportedByEngine    exit 2   what an SQL engine cannot do exactly
    │   └── TooManyVersionsError   exit 40  a field that should name a version has another value in every call
    ├── LedgerError                exit 30  the decision ledger does not verify
    └── ActuatorError              exit 2   flag file, webhook or hook could not act

Every message is one line that says what is wrong; `hint` says what to write instead.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class AbtestError(Exception):
    """Base of all errors; `str(error)` is one line for people, `to_dict()` the JSON contract `abtest.error/1`."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(
        self, message: str, *, file: str | None = None, key: str | None = None, hint: str | None = None
    ) -> None:
        """Keep the parts apart, so that the command line can print them and JSON can carry them."""
        super().__init__(message)
        self.message = message
        self.file = file
        self.key = key
        self.hint = hint

    def __str__(self) -> str:
        """Return file, key, message and hint on one line."""
        where = ": ".join(part for part in (self.file, self.key) if part)
        text = f"{where}: {self.message}" if where else self.message
        return f"{text} ({self.hint})" if self.hint else text

    def to_dict(self) -> dict[str, str | None]:
        """Return the `abtest.error/1` object."""
        return {
            "schema": "abtest.error/1",
            "code": self.code,
            "message": self.message,
            "file": self.file,
            "key": self.key,
            "hint": self.hint,
        }


class UsageError(AbtestError):
    """The call itself is wrong."""

    code = "usage"
    exit_code = 2


class SpecError(AbtestError):
    """The experiment file is wrong."""

    code = "spec"
    exit_code = 2


class UnknownNameError(SpecError):
    """A metric, column or arm that does not exist."""

    code = "unknown_name"


class InvalidInputError(AbtestError, ValueError):
    """Arguments that no statistic can take: a negative count, alpha outside (0, 1)."""

    code = "invalid_input"
    exit_code = 2


class LogReadError(AbtestError):
    """A log file could not be read whole."""

    code = "log_read"
    exit_code = 40


class NoDataError(AbtestError):
    """There is nothing to analyse or to show."""

    code = "no_data"
    exit_code = 40


class StoreError(AbtestError):
    """The store cannot be used."""

    code = "store"
    exit_code = 40


class StoreLockedError(StoreError):
    """Another process holds the store."""

    code = "store_locked"


class StoreVersionError(StoreError):
    """The store was written by a newer abtest."""

    code = "store_version"
    exit_code = 2


class UnsupportedByEngine(StoreError):  # noqa: N818 - the name is part of the contract
    """An SQL engine cannot compute this exactly."""

    code = "unsupported_by_engine"
    exit_code = 2


class TooManyVersionsError(StoreError):
    """A field that should name a version has another value in every call."""

    code = "too_many_versions"


class LedgerError(AbtestError):
    """The decision ledger does not verify."""

    code = "ledger"
    exit_code = 30


class ActuatorError(AbtestError):
    """A flag file, webhook or command hook could not act."""

    code = "actuator"
    exit_code = 2


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to `name`, or None when nothing is close."""
    close = difflib.get_close_matches(name.lower(), {k.lower(): k for k in known}, n=1, cutoff=0.55)
    return next((k for k in known if k.lower() == close[0]), None) if close else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint: the nearest known name, else the list of all of them."""
    names = list(known)
    best = nearest(name, names)
    return f"did you mean {best!r}?" if best else f"known: {', '.join(sorted(names))}"
