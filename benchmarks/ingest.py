"""The speed and the memory of an ingest, against DuckDB's own typed `read_json` into a file.

Both sides run in fresh processes, in turns, on the same rows of about 1.7 KB; a ratio is that of one turn. DuckDB alone
checks nothing, knows no duplicates and keeps no ledger; it stores what it reads, texts too, unless the row says so.
"""

import gzip
import json
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from abtest.store.files import load_sql
from benchmarks.options import Options, table
from benchmarks.stats_speed import spread

TARGET_RATIO = 0.6
TARGET_ROWS = 70_000
TARGET_MB = 1024
ROWS = 300_000
QUICK_ROWS = 30_000
BAD_EVERY = 100


# --- the rows --------------------------------------------------------------------------------------------------------


def write_rows(path: Path, rows: int, seed: int = 502) -> None:
    """Write calls of a support bot with prompts and answers, as compact NDJSON."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyzé", k=rng.randint(2, 9))) for _ in range(4000)]
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            file.write(json.dumps(row(rng, words, number, rows // 8), ensure_ascii=False, separators=(",", ":")) + "\n")


def row(rng: random.Random, words: list[str], number: int, users: int) -> dict[str, Any]:
    """Return one call."""
    user = rng.randrange(users)
    at = datetime(2026, 9, 21, tzinfo=UTC) + timedelta(milliseconds=10 * number)
    return {
        "type": "interaction", "interaction_id": f"{rng.getrandbits(128):032x}",
        "ts": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "model": "claude-sonnet-4-5", "unit_id": f"user-{user}", "experiment_id": "support-bot-sonnet-swap",
        "variant": "candidate" if user % 2 else "baseline", "request_id": f"req_{rng.getrandbits(64):016x}",
        "turn": rng.randint(1, 6), "session_id": f"s-{user}-{number % 5}", "trace_id": f"{rng.getrandbits(128):032x}",
        "span_id": f"{rng.getrandbits(64):016x}", "provider_response_id": f"msg_{rng.getrandbits(80):020x}",
        "surface": rng.choice(("support", "search", "mail")), "environment": "prod", "operation": "chat",
        "provider": "anthropic", "model_version": "claude-sonnet-4-5-20250929", "prompt_name": "support",
        "prompt_version": f"v{number // 100_000}", "latency_ms": round(rng.lognormvariate(6.5, 0.6), 3),
        "ttft_ms": round(rng.lognormvariate(5, 0.4), 3), "input_tokens": rng.randint(200, 4000),
        "cached_input_tokens": rng.randint(0, 200), "output_tokens": rng.randint(20, 900),
        "cost_usd": round(rng.random() * 0.02, 6), "finish_reason": "stop", "refused": rng.random() < 0.02,
        "format_ok": True, "is_error": False, "stream": True, "http_status": 200,
        "prompt_text": " ".join(rng.choices(words, k=42)),
        "response_text": " ".join(rng.choices(words, k=60)) + '\n* said: "thanks"\n' + " ".join(rng.choices(words, k=20)),
        "attributes": {"country": rng.choice(("de", "fr", "us")), "plan": rng.choice(("free", "pro")), "tier": 2},
    }  # fmt: skip


def spoil(clean: Path, path: Path) -> None:
    """Write the rows again with one in a hundred broken: cut off, a wrong type, an unknown key, in turns."""
    faults: list[Callable[[bytes], bytes]] = [
        lambda line: line[: len(line) // 2],
        lambda line: line.replace(b'"turn":', b'"turn":"x","turm":', 1),
        lambda line: line.replace(b'"latency_ms":', b'"latency_ms":-', 1),
    ]
    with clean.open("rb") as source, path.open("wb") as target:
        for number, line in enumerate(source):
            is_bad = number % BAD_EVERY == BAD_EVERY - 1
            fault = faults[number // BAD_EVERY % len(faults)]
            target.write(fault(line.rstrip(b"\n")) + b"\n" if is_bad else line)


def deliver_again(clean: Path, path: Path) -> None:
    """Write the rows again behind a new one: the file is new, its rows are not."""
    with clean.open("rb") as source, path.open("wb") as target:
        first = source.readline()
        target.write(first.replace(b'"interaction_id":"', b'"interaction_id":"new-', 1) + first)
        for line in source:
            target.write(line)


def pack(clean: Path, path: Path) -> None:
    """Write the rows again as gzip, at the level of most log shippers."""
    with clean.open("rb") as source, gzip.open(path, "wb", compresslevel=1) as target:
        for line in source:
            target.write(line)


# --- the two sides, each in a process of its own ---------------------------------------------------------------------

OURS = """
import json, resource, sys, time
from abtest.store.store import Store
path, db, keep_text = sys.argv[1], sys.argv[2], sys.argv[3] == "text"
with Store(db) as store:
    start = time.perf_counter()
    report = store.ingest(path, keep_text=keep_text)
    seconds = time.perf_counter() - start
from abtest.store.load_workers import cores
own, child = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps({"rows": report.records, "seconds": seconds, "mb": (own + child * cores()) / 1024}))
"""

BARE = """
import json, resource, sys, time
import duckdb
path, db, columns = sys.argv[1:]
read = f"read_json('{path}', format = 'newline_delimited', auto_detect = false, columns = {{{columns}}})"
with duckdb.connect(db) as con:
    con.execute("SET TimeZone = 'UTC'")
    con.execute("SET enable_progress_bar = false")  # it would be drawn on stdout
    con.execute(f"CREATE TABLE calls AS SELECT * FROM {read} LIMIT 0")
    start = time.perf_counter()
    rows = con.execute(f"INSERT INTO calls SELECT * FROM {read}").fetchone()[0]
    con.execute("CHECKPOINT")
    seconds = time.perf_counter() - start
print(json.dumps({"rows": rows, "seconds": seconds,
                  "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


@dataclass(frozen=True)
class Run:
    """What one side did: rows, seconds without the start of the process, the most memory it and its children had."""

    rows: int
    seconds: float
    mb: float

    @property
    def krows(self) -> float:
        """Thousand rows a second."""
        return self.rows / self.seconds / 1000


def run_side(code: str, *arguments: str) -> Run:
    """Run one side in a fresh process."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return Run(**json.loads(done.stdout))


def typed_columns(*, texts: bool) -> str:
    """Return the columns of the native format with the types under which the store reads them."""
    found = re.findall(r"'([a-z]\w*)': '(\w+)'", load_sql("load/stage_interaction"))
    types = {**dict(found), "ts": "TIMESTAMPTZ"}
    return ", ".join(f"'{name}': '{kind}'" for name, kind in types.items() if texts or not name.endswith("_text"))


def stores(folder: Path) -> Generator[str]:
    """Yield the names of databases that do not exist; the one before is removed."""
    for number in count():
        path = folder / f"{number}.duckdb"
        try:
            yield str(path)
        finally:
            path.unlink(missing_ok=True)


# --- the table -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One line of the table: a file, and how each side reads it."""

    name: str
    file: str
    beside: str
    texts: bool = False
    bare_texts: bool = True
    first: str | None = None


CASES = (
    Case(f"clean (target {TARGET_RATIO}, {TARGET_ROWS // 1000})", "clean.jsonl", "clean.jsonl"),
    Case("clean, DuckDB without the texts", "clean.jsonl", "clean.jsonl", bare_texts=False),
    Case("clean, texts kept", "clean.jsonl", "clean.jsonl", texts=True),
    Case("1 % bad rows, DuckDB on clean ones", "bad.jsonl", "clean.jsonl"),
    Case("rows that are in the store already", "again.jsonl", "clean.jsonl", first="clean.jsonl"),
    Case("gzip", "clean.jsonl.gz", "clean.jsonl.gz"),
)


def run(options: Options) -> str:
    """Return the table of speeds and memory."""
    rounds, rows = (2, QUICK_ROWS) if options.quick else (7, ROWS)
    with tempfile.TemporaryDirectory(prefix="abtest-benchmark-") as name:
        folder = Path(name)
        clean = folder / "clean.jsonl"
        write_rows(clean, rows)
        spoil(clean, folder / "bad.jsonl")
        deliver_again(clean, folder / "again.jsonl")
        pack(clean, folder / "clean.jsonl.gz")
        size = clean.stat().st_size / rows
        lines = [measured(case, folder, rounds) for case in CASES]
    head = (
        f"{rows:,} rows of {size:,.0f} bytes, {rounds} turns",
        "thousand rows a second",
        "DuckDB alone",
        "times DuckDB's speed",
        f"peak MB (target {TARGET_MB})",
    )
    return table(head, lines)


def measured(case: Case, folder: Path, rounds: int) -> list[str]:
    """Return one line of the table."""
    ours: list[Run] = []
    bare: list[Run] = []
    names = stores(folder)
    for _ in range(rounds):
        columns = typed_columns(texts=case.bare_texts)
        bare.append(run_side(BARE, str(folder / case.beside), next(names), columns))
        db = next(names)
        if case.first:
            run_side(OURS, str(folder / case.first), db, "no text")
        ours.append(run_side(OURS, str(folder / case.file), db, "text" if case.texts else "no text"))
    names.close()
    return [
        case.name,
        spread([run.krows for run in ours]).text(".1f"),
        spread([run.krows for run in bare]).text(".1f"),
        spread([mine.krows / theirs.krows for mine, theirs in zip(ours, bare, strict=True)]).text(".2f"),
        f"{max(run.mb for run in ours):,.0f}",
    ]
