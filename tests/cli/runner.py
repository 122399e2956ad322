"""Runs the command line in this process, or in one of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from abtest.cli.main import run


@dataclass(frozen=True)
class Result:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)


def call(capsys: pytest.CaptureFixture[str], *argv: object) -> Result:
    capsys.readouterr()
    code = run([str(a) for a in argv])
    captured = capsys.readouterr()
    return Result(code, captured.out, captured.err)


def spawn(*argv: object, cwd: Path | None = None) -> Result:
    done = subprocess.run(
        [sys.executable, "-m", "abtest.cli.main", *map(str, argv)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)
