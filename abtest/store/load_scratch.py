"""A temporary folder that does not outlive its process: logs may hold prompts, and a killed load cannot clean up."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

PREFIX = "abtest-load-"


@contextmanager
def scratch() -> Generator[Path]:
    """Yield a new folder, removed at the end; folders of loads that were killed are removed first."""
    _sweep(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name:
        folder = Path(name)
        # Locked before it gets the name by which others look for it, so that nobody finds it unlocked.
        with (folder / "lock.new").open("w", encoding="utf-8") as lock:
            _try_lock(lock)
            (folder / "lock.new").rename(folder / "lock")
            yield folder


def _sweep(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            with (folder / "lock").open("r", encoding="utf-8") as lock:
                if _try_lock(lock):
                    shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # another user's, or not ready yet
            continue


def _try_lock(lock: TextIO) -> bool:
    """Lock a file until it is closed or the process dies; False when another process has it."""
    if sys.platform == "win32":  # no flock there; nothing is swept
        return False
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
