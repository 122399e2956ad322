"""The processes that check pieces of a log, one a core; without them the loader checks in its own process.

`python -m abtest.store.load_workers` is one of them: it answers until its loader closes the pipe, or is gone.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import subprocess
import sys
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import IO, Self

from abtest.errors import StoreError
from abtest.store.load_gate import Passed, Piece, check

MOST_WORKERS = 4
"""With more, DuckDB is what a load waits for."""


_LENGTH = struct.Struct("<Q")


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers:
    """Checks pieces in other processes; they start with the first piece and end with the block.

    Args:
        count: How many processes; by default one a core, none where there is only one core. Without, or on demand,
            pieces are checked here.
    """

    def __init__(self, count: int | None = None) -> None:
        usual = cores()
        self._count = count if count is not None else min(usual, MOST_WORKERS) if usual > 1 else 0
        self._threads = ThreadPoolExecutor(max(self._count, 1), thread_name_prefix="abtest-gate")
        self._processes: list[_Worker] = []
        self._idle: SimpleQueue[_Worker] = SimpleQueue()

    def __enter__(self) -> Self:
        """Start nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes; what they have not checked by now is not wanted."""
        for worker in self._processes:
            worker.end()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._processes:
            worker.close()

    def submit(self, piece: Piece, *, here: bool = False) -> Future[Passed]:
        """Have a piece checked, `here` in this very process."""
        if here or not (self._processes or self._start()):
            return _done(piece)
        return self._threads.submit(self._ask, piece)

    def _start(self) -> bool:
        """Start the processes; False where there are to be none, or none can be started."""
        try:
            for _ in range(self._count):
                self._processes.append(_Worker())
                self._idle.put(self._processes[-1])
        except OSError:  # the system allows no more: the others will do
            self._count = len(self._processes)
        return bool(self._processes)

    def _ask(self, piece: Piece) -> Passed:
        worker = self._idle.get()
        try:
            return worker.ask(piece)
        finally:
            self._idle.put(worker)


class _Worker:
    """One process."""

    def __init__(self) -> None:
        # The child has to find this very package, however its parent found it; -P: not one in the current folder.
        folder = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "abtest.store.load_workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )

    def ask(self, piece: Piece) -> Passed:
        """Check a piece; raises StoreError when the process is gone or fails."""
        process = self._process
        assert process.stdin
        assert process.stdout
        try:
            _send(process.stdin, piece)
            answer = _receive(process.stdout)
        except (OSError, EOFError, ValueError) as error:  # ValueError: the pipe was closed, the load is over
            raise StoreError(
                f"a process that checked log lines ended (exit {process.wait()})",
                hint="nothing of this file was stored; when memory is short, free some, then run it again",
            ) from error
        if isinstance(answer, Passed):
            return answer
        raise StoreError(f"a process that checked log lines failed: {answer}")

    def end(self) -> None:
        """End the process; an answer that is under way is lost."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Close the pipes; what could not be sent any more is not wanted."""
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if stream:
                    stream.close()


def _done(piece: Piece) -> Future[Passed]:
    future: Future[Passed] = Future()
    try:
        future.set_result(check(piece))
    except Exception as error:
        future.set_exception(error)
    return future


# --- the other end ---------------------------------------------------------------------------------------------------


def _send(stream: IO[bytes], message: object) -> None:
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def _receive(stream: IO[bytes]) -> object:
    """Read one message; raises EOFError when the other end is gone."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (size,) = _LENGTH.unpack(head)
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return pickle.loads(data)  # noqa: S301 - the other end is our own child or parent


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the loader's to handle
    answers = sys.stdout.buffer
    sys.stdout = sys.stderr  # a stray print must not look like an answer
    while True:
        try:
            piece = _receive(sys.stdin.buffer)
        except EOFError:
            return
        try:
            assert isinstance(piece, Piece)
            _send(answers, check(piece))
        except Exception:  # whatever it is, the loader has to know
            _send(answers, traceback.format_exc())


if __name__ == "__main__":
    _main()
