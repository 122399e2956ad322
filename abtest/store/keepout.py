"""What must not come in again: rows from before the prune watermark, and what belongs to a forgotten unit.

The ledger of files already skips the content that was loaded once. This is for the same records in other files: a log
that was exported again, concatenated, or comes late. They are counted as `ignored`.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections import Counter
from collections.abc import Sequence

import duckdb

from abtest.store.files import load_sql
from abtest.store.load_report import TABLES, FileCount

_PRUNED = "pruned_before_us"
_SALT = "forget_salt"
NEVER = -(2**62)
_TEXTS = re.compile(r'"((?:[^"\\]|\\.)*)"')
_WORDS = re.compile(r"""[^\s"',:{}\[\]\\]+""")


def watermark(con: duckdb.DuckDBPyConnection) -> int | None:
    """Return the time before which everything was pruned, in microseconds since 1970; None when nothing ever was."""
    value = _setting(con, _PRUNED)
    return None if value is None else int(value)


def raise_watermark(con: duckdb.DuckDBPyConnection, before_us: int) -> None:
    """Remember that everything before a time was pruned; the watermark only goes up."""
    have = watermark(con)
    if have is None or before_us > have:
        con.execute("DELETE FROM setting WHERE name = $name", {"name": _PRUNED})
        con.execute(
            "INSERT INTO setting (name, value) VALUES ($name, $value)", {"name": _PRUNED, "value": str(before_us)}
        )


def salt(con: duckdb.DuckDBPyConnection, *, make: bool = False) -> str | None:
    """Return the store's salt for the hashes of what was forgotten; `make` one when there is none."""
    value = _setting(con, _SALT)
    if value is None and make:
        value = secrets.token_hex(16)
        con.execute("INSERT INTO setting (name, value) VALUES ($name, $value)", {"name": _SALT, "value": value})
    return value


def forgotten_hash(salted: str, kind: str, value: str) -> str:
    """Return the hash under which a forgotten id is remembered; the same as `sha256(concat(...))` in sql/load."""
    return hashlib.sha256(f"{salted}:{kind}:{value}".encode("utf-8", "surrogatepass")).hexdigest()


def apply(con: duckdb.DuckDBPyConnection, files: Sequence[FileCount], by_table: Counter[str]) -> Counter[str]:
    """Delete what a load brought and must stay out, inside its transaction; returns pruned and forgotten.

    Rejected lines that name a forgotten unit, or one of its calls, lose their bytes; file, line and reason stay.
    """
    counts: Counter[str] = Counter()
    before, salted = watermark(con), salt(con)
    if before is None and salted is None:
        return counts
    by_id = {file.file_id: file for file in files}
    before = NEVER if before is None else before
    params = {"first": files[0].file_id, "before": before, "salt": salted or ""}
    for table in TABLES:
        removed = con.execute(load_sql(f"load/keep_out_{table}"), params).fetchall()
        for file_id, _ in removed:
            by_id[file_id].inserted -= 1
            by_id[file_id].ignored += 1
        by_table[table] -= len(removed)
        counts.update("pruned" if at_us < before else "forgotten" for _, at_us in removed)
    if counts:
        con.execute(load_sql("load/keep_out_text"), {"first": params["first"]})
    if salted is not None:
        _blank_rejects(con, files[0].file_id, salted)
    return counts


def _blank_rejects(con: duckdb.DuckDBPyConnection, first: int, salted: str) -> None:
    """Drop the bytes of the rejected lines of this load that hold a forgotten id: as a JSON text, or between marks."""
    query = "SELECT kind, hash FROM forgotten WHERE kind IN ('unit', 'call')"
    known = {(str(kind), str(digest)) for kind, digest in con.execute(query).fetchall()}
    lines = con.execute("SELECT quarantine_id, raw FROM quarantine WHERE file_id >= ? AND raw IS NOT NULL", [first])
    gone: list[int] = []
    for number, raw in lines.fetchall():
        text = bytes(raw).decode("utf-8", "replace")
        words = {_unescaped(word) for word in _TEXTS.findall(text)} | set(_WORDS.findall(text))
        if any((kind, forgotten_hash(salted, kind, word)) in known for word in words for kind in ("unit", "call")):
            gone.append(int(number))
    if gone:
        con.execute(
            "UPDATE quarantine SET raw = NULL, detail = NULL WHERE quarantine_id IN (SELECT UNNEST($ids))",
            {"ids": gone},
        )


def _unescaped(text: str) -> str:
    """Return what a JSON text says; as it is when it is none."""
    if "\\" not in text:
        return text
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:
        return text


def _setting(con: duckdb.DuckDBPyConnection, name: str) -> str | None:
    row = con.execute("SELECT value FROM setting WHERE name = $name", {"name": name}).fetchone()
    return str(row[0]) if row else None
