"""Tell a program of a halt: the decision as JSON on its stdin, no shell, a time limit, its exit status for the record.

0 means told. Everything else is tried again by `abtest.rollout.outbox`, so the program may be started more than once for
one halt; `ABTEST_EVENT_ID` is the same each time. Once it has ended with 0 it is not started again for that halt.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar

from abtest.errors import ActuatorError
from abtest.results import Action
from abtest.rollout.actuators.base import ActuatorOutcome, HaltRequest, register
from abtest.rollout.actuators.webhook import HALTED, Answer, Message, message_id

_LAST_WORDS = 2000
"""Bytes of stderr that are looked at for the last line."""


@register
@dataclass(frozen=True)
class CommandHook:
    """A program that is told of a halt. What it does with it is its own business.

    Attributes:
        argv: The program and its arguments. A program with a slash is looked for from `folder` on, others in PATH.
        timeout: Seconds after which it is ended, with all that it has started.
        folder: Where it runs: the folder of the spec.
    """

    name: ClassVar[str] = "command"

    argv: tuple[str, ...]
    timeout: float = 10.0
    folder: Path = Path()

    @property
    def where(self) -> str:
        """Return the program, for people; its arguments may hold what is nobody's business."""
        return self.argv[0]

    def check(self, arms: Sequence[str] = ()) -> tuple[str, ...]:  # noqa: ARG002 - a command knows no arms
        """Look whether the program is there, without starting it.

        Args:
            arms: Not used: the command is about the whole experiment.

        Raises:
            ActuatorError: There is no such program, or it may not be started.
        """
        self._program()
        return ()

    def halt(self, request: HaltRequest, *, dry_run: bool = False) -> ActuatorOutcome:
        """Start the program once with a request instead of a whole decision.

        `abtest decide` does not come this way: its outbox gives the whole decision and tries again.

        Raises:
            ActuatorError: The program could not be started, or did not end with 0 in time.
        """
        if dry_run:
            return ActuatorOutcome(Action(self.name, "dry_run", self.would_tell()))
        message = Message(message_id(request.decision_id), json.dumps({"type": HALTED, "data": request.to_dict()}))
        answer = self.send(message)
        if answer.outcome != "accepted":
            raise ActuatorError(f"{self.where}: {answer.detail}", key="argv", hint="the program did not take it")
        return ActuatorOutcome(Action(self.name, "done", f"{self.where}: {answer.detail}"))

    def would_tell(self) -> str:
        """Return the sentence of a dry run; it names what would keep the program from starting."""
        try:
            self.check()
        except ActuatorError as error:
            return f"would run {self.where}; {error}"
        return f"would run {self.where}"

    def send(self, message: Message) -> Answer:
        """Start the program and wait for its end: `message.body` is an event, its `data` goes to stdin.

        The program finds the event's type and id in `ABTEST_EVENT` and `ABTEST_EVENT_ID`. Its stdout is dropped; the last
        line of its stderr goes into the answer when it fails.

        Raises:
            ActuatorError: There is no such program; nothing was started.
        """
        program = self._program()
        event = json.loads(message.body)
        environment = {**os.environ, "ABTEST_EVENT": str(event["type"]), "ABTEST_EVENT_ID": message.id}
        # Files, not pipes: a program that reads nothing, or leaves a child behind that holds a pipe, keeps nobody waiting.
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
            given.write(json.dumps(event["data"]).encode())
            given.seek(0)
            started = time.monotonic()
            try:
                process = subprocess.Popen(  # noqa: S603 - no shell; the spec names the program
                    [program, *self.argv[1:]], stdin=given, stdout=subprocess.DEVNULL, stderr=said, cwd=self.folder,
                    env=environment, start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                return Answer("failed", f"could not be started: {error.strerror or error}")
            try:
                status = process.wait(self.timeout)
            except BaseException as error:
                _end(process)
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                return Answer("failed", f"did not end within {self.timeout:g} s and was ended")
            seconds = time.monotonic() - started
            if status == 0:
                return Answer("accepted", f"exit status 0 after {seconds:.1f} s")
            return Answer("failed", f"{_how_it_ended(status)} after {seconds:.1f} s{_last_line(said)}")

    def _program(self) -> str:
        first = self.argv[0]
        path = str((self.folder / first).absolute()) if os.sep in first else first
        found = shutil.which(path)
        if found is None:
            what = "may not be executed" if os.sep in first and Path(path).is_file() else "no such program"
            hint = "chmod +x" if what.startswith("may") else 'argv = ["./on-halt.sh"] is looked for beside the spec'
            raise ActuatorError(f"{what}: {first!r}", key="halt.command.argv", hint=hint)
        return found


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the program's session: it, and what it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _how_it_ended(status: int) -> str:
    return f"exit status {status}" if status > 0 else f"ended by signal {-status}"


def _last_line(said: IO[bytes]) -> str:
    size = said.seek(0, os.SEEK_END)
    said.seek(max(0, size - _LAST_WORDS))
    lines = said.read().decode("utf-8", "replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    text = "".join(c if c.isprintable() else "?" for c in last)[:200]
    return f": {text}" if text else ""
