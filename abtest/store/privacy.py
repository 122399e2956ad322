"""Privacy on the way in: text is dropped (`--redact`), unit ids are replaced by keyed hashes (`--hash-units`).

Both happen right after validation, before anything is written to disk. What stays with `--redact`: every number and id,
`prompt_sha256` and `response_chars` (derived from the text when the log has none; the digest of a prompt text stands in the
attribute `prompt_text_sha256`), attributes up to `LONG` characters.
What goes: prompt_text, response_text, the explanation of a score, longer attributes (their length stays).

Rejected lines are kept as their outline only, with either option: keys, shape, truth values, the length of each text, and
the digest of the bytes. That is enough to see what is wrong, and to find the line in the log; it cannot be retried.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from abtest.errors import UsageError
from abtest.ingest.base import RAW_LIMIT, Reject, parse_object
from abtest.records import AnyRecord, Assignment, Interaction, Score

KEY_VARIABLE = "ABTEST_UNIT_KEY"
SHORTEST_KEY = 16
LONG = 256
"""An attribute longer than this is text."""

OUTLINE = b'{"abtest.outline":'
"""How the outline of a rejected line begins."""

_SETTING = "unit_ids"
_KEY_LENGTH = 64
_DEPTH = 20
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")


@dataclass(frozen=True)
class Privacy:
    """What happens to each record between validation and store; pure, and safe to send to another process.

    Attributes:
        redact: Drop text.
        key: Replace unit ids by their HMAC-SHA256 under this key; None leaves them as they are.
        sessions: Replace session ids too.
    """

    redact: bool = False
    key: bytes | None = None
    sessions: bool = False

    def __call__(self, record: AnyRecord) -> AnyRecord:
        """Return the record as it may be stored."""
        changed: dict[str, Any] = {}
        if self.redact:
            changed |= _without_text(record)
        if self.key is not None and not isinstance(record, Score):
            changed |= self._hashed(record, changed.get("attributes"))
        return record.model_copy(update=changed) if changed else record

    def raw(self, line: bytes) -> bytes:
        """Return what is kept of a rejected line."""
        head = b'%b"bytes":%d,"sha256":"%b"' % (
            b'{"abtest.outline":true,', len(line), hashlib.sha256(line).hexdigest().encode(),
        )  # fmt: skip
        value = parse_object(line, allow_nan=True)
        if isinstance(value, str):
            return head + b"}"
        text = json.dumps(_outline(value, 0), ensure_ascii=True, separators=(",", ":")).encode()
        return head + b"}" if len(text) + len(head) + 12 > RAW_LIMIT else head + b',"record":' + text + b"}"

    def detail(self, text: str) -> str:
        """Return the detail of a reject without what it quotes from the log."""
        return _QUOTED.sub("[...]", text)

    def hash(self, value: str) -> str:
        """Return the hash that stands for an id; the same id and key give the same one, always."""
        assert self.key is not None
        return hmac.new(self.key, value.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()

    @property
    def remembered(self) -> str:
        """What a store remembers about its unit ids: which key, without giving it away."""
        mark = self.hash("abtest:which-key")[:16]
        return f"hmac-sha256:{mark}{'+sessions' if self.sessions else ''}"

    def _hashed(self, record: Interaction | Assignment, attributes: Mapping[str, Any] | None) -> dict[str, Any]:
        plain = {record.unit_id} if record.unit_id else set()
        changed: dict[str, Any] = {}
        if record.unit_id:
            changed["unit_id"] = self.hash(record.unit_id)
        if not isinstance(record, Interaction):
            return changed
        if self.sessions and record.session_id:
            plain.add(record.session_id)
            changed["session_id"] = self.hash(record.session_id)
        given = record.attributes if attributes is None else attributes
        if plain and given:
            # A copy of the id among the attributes would give it away.
            changed["attributes"] = {name: self._hide(value, plain) for name, value in given.items()}
        return changed

    def _hide(self, value: Any, plain: set[str]) -> Any:
        if isinstance(value, dict):
            return {name: self._hide(each, plain) for name, each in value.items()}
        if isinstance(value, list):
            return [self._hide(each, plain) for each in value]
        return self.hash(str(value)) if not isinstance(value, bool) and str(value) in plain else value


def hidden(reject: Reject, transform: object) -> Reject:
    """Return a reject as it may be stored under a transform."""
    if not isinstance(transform, Privacy):
        return reject
    detail = transform.detail(reject.detail)
    reason = f"{reject.code}: {detail}" if detail else reject.code
    return Reject(reject.line, reject.offset, transform.raw(reject.raw), reason)


def privacy(
    *,
    redact: bool = False,
    hash_units: bool = False,
    hash_sessions: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Privacy | None:
    """Return the transform for these options; None when there is nothing to do.

    Raises:
        UsageError: Hashing is asked for and `ABTEST_UNIT_KEY` is not set, or is too short to keep anybody out.
    """
    if not (redact or hash_units or hash_sessions):
        return None
    if not (hash_units or hash_sessions):
        return Privacy(redact=True)
    key = (os.environ if environment is None else environment).get(KEY_VARIABLE, "")
    if len(key) < SHORTEST_KEY:
        what = f"is shorter than {SHORTEST_KEY} characters" if key else "is not set"
        hint = "make one with `openssl rand -hex 32`, keep it: the same key gives the same ids"
        raise UsageError(f"{KEY_VARIABLE} {what}", key=KEY_VARIABLE, hint=hint)
    return Privacy(redact=redact, key=key.encode(), sessions=hash_sessions)


def remembered(con: duckdb.DuckDBPyConnection) -> str | None:
    """Return how the store's unit ids are hashed; None when they are plain, or there are none yet."""
    row = con.execute("SELECT value FROM setting WHERE name = $name", {"name": _SETTING}).fetchone()
    return str(row[0]) if row else None


def stored_unit(con: duckdb.DuckDBPyConnection, unit_id: str, environment: Mapping[str, str] | None = None) -> str:
    """Return a unit's id as this store holds it.

    Raises:
        UsageError: The store's ids are hashed, and the key is missing or another one.
    """
    have = remembered(con)
    if have is None:
        return unit_id
    made = privacy(hash_units=True, hash_sessions=have.endswith("+sessions"), environment=environment)
    assert made is not None
    if made.remembered != have:
        raise UsageError(f"the unit ids of this store were hashed with another {KEY_VARIABLE}", key=KEY_VARIABLE)
    return made.hash(unit_id)


def check(con: duckdb.DuckDBPyConnection, transform: object) -> None:
    """Refuse to mix hashed and plain unit ids in one store, and remember the choice; once at the start of each load.

    Raises:
        UsageError: The store holds the other kind, or ids hashed with another key.
    """
    wanted = transform.remembered if isinstance(transform, Privacy) and transform.key is not None else None
    have = remembered(con)
    if wanted == have:
        return
    if wanted is None:
        raise UsageError(
            "the unit ids of this store are hashed, plain ones cannot be mixed in",
            key="--hash-units",
            hint=f"set {KEY_VARIABLE} and add --hash-units{' --hash-sessions' if str(have).endswith('+sessions') else ''}",
        )
    if have is not None:
        same_key = have.partition("+")[0] == wanted.partition("+")[0]
        message = "differs in --hash-sessions" if same_key else f"were hashed with another {KEY_VARIABLE}"
        raise UsageError(f"the unit ids of this store {message}", key="--hash-units", hint="use the one it began with")
    if _has_units(con):
        raise UsageError(
            "this store holds plain unit ids, hashed ones cannot be mixed in",
            key="--hash-units",
            hint="ingest the logs into a new store with --hash-units",
        )
    con.execute("INSERT INTO setting (name, value) VALUES ($name, $value)", {"name": _SETTING, "value": wanted})


def _has_units(con: duckdb.DuckDBPyConnection) -> bool:
    query = (
        "SELECT EXISTS (SELECT 1 FROM interaction WHERE unit_id IS NOT NULL OR session_id IS NOT NULL)"
        " OR EXISTS (SELECT 1 FROM assignment)"
    )
    row = con.execute(query).fetchone()
    return bool(row and row[0])


def _without_text(record: AnyRecord) -> dict[str, Any]:
    """Return the fields of a record that change when its text goes."""
    if isinstance(record, Score):
        return {"explanation": None} if record.explanation is not None else {}
    if not isinstance(record, Interaction):
        return {}
    changed: dict[str, Any] = {}
    if record.prompt_text is not None:
        changed["prompt_text"] = None
    if record.response_text is not None:
        changed["response_text"] = None
        if record.response_chars is None:
            changed["response_chars"] = len(record.response_text)
    attributes = {name: _short(value) for name, value in record.attributes.items()}
    if record.prompt_text is not None and record.prompt_sha256 is None:
        # Not prompt_sha256: that column says which prompt (template) ran, and every call would be a version of its own.
        attributes["prompt_text_sha256"] = hashlib.sha256(
            record.prompt_text.encode("utf-8", "surrogatepass")
        ).hexdigest()
    if attributes != record.attributes:
        changed["attributes"] = attributes
    return changed


def _is_long(value: Any) -> bool:
    return len(value if isinstance(value, str) else json.dumps(value)) > LONG


def _short(value: Any) -> Any:
    if not _is_long(value):
        return value
    return f"[{len(value)} characters]" if isinstance(value, str) else f"[{len(json.dumps(value))} bytes of JSON]"


def _outline(value: Any, depth: int) -> Any:
    """Return the shape of a JSON value: keys and truth values stay, texts become their length, numbers a mark."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return f"[{len(value)} characters]"
    if isinstance(value, (int, float)):
        return "[number]"
    if depth >= _DEPTH:
        return "[deeper]"
    if isinstance(value, list):
        return [_outline(each, depth + 1) for each in value]
    return {
        (name if len(name) <= _KEY_LENGTH else f"[key of {len(name)} characters]"): _outline(each, depth + 1)
        for name, each in value.items()
    }
