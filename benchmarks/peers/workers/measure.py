"""Wall time of a call, and the most memory that this process has had; needs nothing but Python."""

import time
from pathlib import Path


def timed(call):
    """Return (seconds, answer)."""
    start = time.perf_counter()
    answer = call()
    return time.perf_counter() - start, answer


def peak_mb():
    """Return the peak of the resident memory in MB, None where /proc does not tell.

    getrusage() would do, but it starts with what the parent had when it forked.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1000
