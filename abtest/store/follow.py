"""Following logs that grow: take what is new, wait, again, until told to stop.

Each tick opens the store, takes what is new and lets go of it, so that other commands get in between. `abtest ingest
--follow` and `abtest watch` are built on it.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from abtest.errors import AbtestError, LogReadError
from abtest.store.load_files import expand
from abtest.store.load_report import IngestReport
from abtest.store.store import Store

Stamp = tuple[int, int, int]

RETRY_SECONDS = 10.0
"""How often a file that is not finished is looked at again although it has not changed."""


@dataclass
class Follower:
    """Takes what is new in some paths, one tick after the other.

    Args:
        db: The store file; it is opened for each tick that finds something.
        paths: Files, folders and globs; they may be empty, or come later.
        options: What `Store.ingest` takes besides paths (source, keep_text, ...).
        wait: Seconds to wait for another process to let go of the store.
    """

    db: Path
    paths: Sequence[str | Path]
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    wait: float = 30.0
    _seen: dict[str, Stamp] = field(default_factory=dict[str, Stamp])
    _again_at: float | None = None

    def tick(self) -> IngestReport | None:
        """Take what is new; None when nothing has changed since the last tick: the store is not opened then.

        Raises:
            AbtestError: The store could not be opened or written; the next tick tries the same again.
        """
        there, found = self._look()
        due = self._again_at is not None and time.monotonic() >= self._again_at
        if found == self._seen and not due:
            return None
        with Store(self.db, wait=self.wait) as store:
            report = store.ingest(*there, final=False, **self.options) if there else None
        # The state before the read: what was written meanwhile makes a difference at the next tick.
        self._seen = found
        # An unfinished last line is taken when its file stays quiet for long.
        waits = report is not None and (report.waiting_lines > 0 or report.waiting_files > 0)
        self._again_at = time.monotonic() + RETRY_SECONDS if waits else None
        return report

    def _look(self) -> tuple[list[str | Path], dict[str, Stamp]]:
        """Return the paths under which there is something, and how each file looks."""
        there: list[str | Path] = []
        found: dict[str, Stamp] = {}
        for given in self.paths:
            try:
                files = expand([given])
            except LogReadError:  # nothing there yet
                continue
            there.append(given)
            for each in files:
                try:
                    stat = each.path.stat()
                except OSError:  # rotated away between the two looks
                    continue
                found[each.key] = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        return there, found


def follow(
    tick: Callable[[], Any],
    *,
    every: float,
    stop: threading.Event,
    max_ticks: int | None = None,
    on_error: Callable[[AbtestError], None] | None = None,
) -> int:
    """Call `tick` every `every` seconds until `stop` is set or `max_ticks` were made; returns the number of ticks.

    A tick that is late is not made up for. An `AbtestError` is handed to `on_error`, and the next tick comes all the same.

    Args:
        tick: What to do each time; `Follower.tick`, or a function that calls it and goes on from there.
        every: Seconds from the start of one tick to the start of the next.
        stop: Set it to stop; a tick under way is finished first.
        max_ticks: Stop after so many.
        on_error: Called with what went wrong in a tick.
    """
    made = 0
    while not stop.is_set():
        started = time.monotonic()
        try:
            tick()
        except AbtestError as error:
            if on_error is not None:
                on_error(error)
        made += 1
        if max_ticks is not None and made >= max_ticks:
            break
        stop.wait(max(0.0, every - (time.monotonic() - started)))
    return made


@contextmanager
def stop_on_signals() -> Generator[threading.Event]:
    """Yield an event that SIGTERM and SIGINT set, so that a loop ends after the tick under way; a second one ends at once."""
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
