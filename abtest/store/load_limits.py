"""Bounds what DuckDB takes for a load: whatever the file and the machine, the process stays below 1 GB."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import duckdb

MEMORY_BYTES = 480 * 1024 * 1024
"""Beyond it DuckDB uses the disk."""

MOST_THREADS = 4
"""Each one that reads JSON has buffers of its own."""

_UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "PiB": 1 << 50}
_SETTINGS = "current_setting('memory_limit'), current_setting('threads'), current_setting('preserve_insertion_order')"


@contextmanager
def limited(con: duckdb.DuckDBPyConnection) -> Generator[None]:
    """Within the block, lower the limits of the database where they are higher, and keep rows in the order of lines."""
    row = con.execute(f"SELECT {_SETTINGS}").fetchone()
    assert row
    memory, threads, is_ordered = _bytes(str(row[0])), int(row[1]), bool(row[2])
    changes = {
        "memory_limit": (f"{MEMORY_BYTES}B", f"{memory}B", memory > MEMORY_BYTES),
        "threads": (MOST_THREADS, threads, threads > MOST_THREADS),
        "preserve_insertion_order": (True, is_ordered, not is_ordered),
    }
    needed = {name: (low, before) for name, (low, before, is_needed) in changes.items() if is_needed}
    for name, (low, _) in needed.items():
        con.execute(f"SET {name} = '{low}'")
    try:
        yield
    finally:
        for name, (_, before) in needed.items():
            con.execute(f"SET {name} = '{before}'")


def _bytes(text: str) -> int:
    """Read a size as DuckDB writes it, like "18.9 GiB": cut to one digit, so the middle of what that may have been."""
    number, _, unit = text.partition(" ")
    return int((float(number) + 0.05) * _UNITS[unit])
