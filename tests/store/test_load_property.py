"""Whatever happens to the files between two loads, the store ends as if one whole file had been loaded once.

Logs are written, cut at any byte and continued, rotated by renaming or by copy and truncate, packed, copied, split,
concatenated, reordered; loads come in between, at any moment.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from load_samples import check

from abtest.store.files import load_sql, sql_root
from abtest.store.load import load
from abtest.store.load_report import TABLES

EXAMPLES = int(os.environ.get("ABTEST_FUZZ_EXAMPLES", "1000")) if os.environ.get("ABTEST_FUZZ") else 25


def record(n: int) -> bytes:
    """Return the n-th line: calls, and among them assignments, scores of calls, late ones too, and bad lines."""
    ts = f"2026-11-01T10:{n // 60 % 60:02}:{n % 60:02}Z"
    match n % 7:
        case 2:
            value: Any = {"type": "assignment", "experiment_id": "e", "unit_id": f"u{n}", "variant": "a", "ts": ts}
        case 3:  # of a call before it
            value = {"type": "score", "score_id": f"s{n}", "ts": ts, "name": "q", "scorer_kind": "user", "value": 1.0}
            value["interaction_id"] = f"i{n - 2}"
        case 4:  # of a call after it
            value = {"type": "score", "score_id": f"s{n}", "ts": ts, "name": "q", "scorer_kind": "user", "value": 0.5}
            value["interaction_id"] = f"i{n + 1}"
        case 6:
            # A file of nothing but text would be no log at all; this begins like one.
            return (f'{{"bad": line {n}', f'{{"interaction_id": "x{n}", "latncy_ms": 1}}')[n % 2].encode() + b"\n"
        case _:
            value = {"interaction_id": f"i{n}", "ts": ts, "model": "m é", "unit_id": f"u{n % 5}", "latency_ms": n / 3}
    return json.dumps(value, ensure_ascii=n % 2 == 0).encode() + b"\n"


class Logs:
    """A folder of logs and the writers at work in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: list[bytes] = []
        self.rest: dict[Path, bytes] = {}
        self.count = 0

    def name(self, suffix: str) -> Path:
        self.count += 1
        return self.folder / f"file-{self.count}{suffix}"

    def append(self, path: Path, data: bytes) -> None:
        with path.open("ab") as stream:
            stream.write(data)

    def write(self, rng: random.Random) -> None:
        """A writer adds lines; the last one may not be whole yet."""
        path = self.folder / f"live-{rng.randint(0, 1)}.ndjson"
        self.append(path, self.rest.pop(path, b""))
        new = [record(len(self.written) + n) for n in range(rng.randint(1, 9))]
        self.written += new
        data = b"".join(new)
        cut = len(data) - rng.choice([0, 0, 1, rng.randint(0, len(new[-1]) - 1)])
        self.append(path, data[:cut])
        if data[cut:]:
            self.rest[path] = data[cut:]

    def live(self, rng: random.Random) -> Path | None:
        found = sorted(path for path in self.folder.glob("live-*.ndjson") if path.stat().st_size)
        return rng.choice(found) if found else None

    def rename(self, rng: random.Random) -> None:
        """The writer finishes its line in the renamed file, a while later."""
        if path := self.live(rng):
            new = self.name(rng.choice([".ndjson", ".ndjson.1"]))
            path.rename(new)
            if rest := self.rest.pop(path, b""):
                self.rest[new] = rest

    def copy_and_truncate(self, rng: random.Random) -> None:
        """The writer must not be in the middle of a line: nothing could put that together again."""
        if path := self.live(rng):
            self.append(path, self.rest.pop(path, b""))
            shutil.copyfile(path, self.name(".ndjson"))
            path.write_bytes(b"")

    def pack(self, rng: random.Random) -> None:
        """A rotated file is replaced by its packed copy."""
        finished = sorted(path for path in self.folder.glob("file-*.ndjson*") if path not in self.rest)
        plain = [path for path in finished if path.suffix not in (".gz", ".zst")]
        if plain:
            path = rng.choice(plain)
            suffix, pack = rng.choice([(".gz", gzip.compress), (".zst", zstandard.compress)])
            self.name(f".ndjson{suffix}").write_bytes(pack(path.read_bytes()))
            path.unlink()

    def copy(self, rng: random.Random) -> None:
        """A second copy of a file as it is now, unfinished line included; later both may be there."""
        if path := self.live(rng):
            data = path.read_bytes()
            self.name(".ndjson.gz").write_bytes(gzip.compress(data))

    def split(self, rng: random.Random) -> None:
        """Lines that were written already, in other files: a part of them, reordered, repeated, as an array too."""
        some = rng.sample(self.written, rng.randint(0, len(self.written)))
        some += rng.choices(some, k=2) if some else []
        at = rng.randint(0, len(some))
        for part in (some[:at], some[at:]):
            self.name(".ndjson").write_bytes(b"".join(part))
        sound = [each.rstrip() for each in some if not each.startswith(b'{"bad"')]
        if rng.random() < 0.3:
            self.name(".json").write_bytes(b"[" + b",\n".join(sound) + b"]")

    def concatenate(self, rng: random.Random) -> None:
        paths = sorted(path for path in self.folder.glob("*.ndjson") if path not in self.rest)
        rng.shuffle(paths)
        self.name(".ndjson").write_bytes(b"".join(path.read_bytes() for path in paths[:3]))

    def finish(self) -> None:
        """All writers end their lines."""
        for path, rest in self.rest.items():
            self.append(path, rest)
        self.rest = {}


def new_store() -> Any:
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'; SET threads = 1")
    for migration in sorted((sql_root() / "migrations").glob("*.sql")):
        con.execute(load_sql(f"migrations/{migration.stem}"))
    return SimpleNamespace(connection=con)


def contents(store: Any) -> dict[str, list[tuple[Any, ...]]]:
    """Return everything that a load brings, apart from when and where it came from."""
    found = {
        table: store.connection.execute(f"SELECT * EXCLUDE (file_id) FROM {table} ORDER BY ALL").fetchall()
        for table in TABLES
    }
    query = "SELECT score_id, interaction_id FROM score_target WHERE until_file = (SELECT max(until_file) FROM score_target) ORDER BY ALL"
    found["targets"] = store.connection.execute(query).fetchall()
    query = "SELECT DISTINCT reason, detail, raw FROM quarantine WHERE reason <> 'truncated' ORDER BY ALL"
    found["quarantine"] = store.connection.execute(query).fetchall()
    return found


STEPS: list[Callable[[Logs, random.Random], None]] = [
    Logs.write, Logs.write, Logs.write, Logs.rename, Logs.copy_and_truncate, Logs.pack, Logs.copy, Logs.split,
    Logs.concatenate,
]  # fmt: skip


@settings(max_examples=EXAMPLES)
@given(
    seed=st.integers(0, 2**32),
    steps=st.lists(
        st.tuples(st.sampled_from(range(len(STEPS))), st.sampled_from([None, None, True, False])), max_size=14
    ),
)
def test_any_history_ends_in_the_same_store(
    tmp_path_factory: pytest.TempPathFactory, seed: int, steps: list[tuple[int, bool | None]]
) -> None:
    rng = random.Random(seed)
    folder = tmp_path_factory.mktemp("history")
    logs = Logs(folder)
    logs.write(rng)
    store = new_store()
    loaded = 0
    for step, final in steps:
        STEPS[step](logs, rng)
        if final is not None:
            report = check(store, load(store.connection, [folder], final=final))
            assert report.failed_files == ()
            loaded += report.inserted
            if rng.random() < 0.1:
                store.connection.execute("DELETE FROM file_state")
    logs.finish()
    report = check(store, load(store.connection, [folder]))
    assert report.failed_files == ()
    loaded += report.inserted
    again = check(store, load(store.connection, [folder]))
    assert (again.inserted, again.duplicates) == (0, 0)

    expected = new_store()
    (folder / "all.txt").write_bytes(b"".join(logs.written))
    once = check(expected, load(expected.connection, [folder / "all.txt"]))
    assert contents(store) == contents(expected)
    assert loaded == once.inserted
    # What is left as truncated is the end of a copy that was made in the middle of a line.
    truncated = store.connection.execute("SELECT path, raw FROM quarantine WHERE reason = 'truncated'").fetchall()
    for path, raw in truncated:
        assert path.endswith(".gz")
        assert any(each.startswith(raw) for each in logs.written)
    store.connection.close()
    expected.connection.close()
    shutil.rmtree(folder)
