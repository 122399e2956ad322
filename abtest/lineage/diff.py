"""Two manifests side by side: what differs, and how the text of the prompt changed."""

from __future__ import annotations

import difflib
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from abtest.display import Table, shorten
from abtest.errors import UsageError
from abtest.lineage.manifest import SHORT, Manifest
from abtest.lineage.registry import Registry, registry
from abtest.lineage.seen import Asked, history
from abtest.results import ToDict
from abtest.store.query import Query, fill, query
from abtest.store.store import Store

LONGEST_DIFF = 2_000
"""Lines of a prompt that are compared; difflib takes too long on more."""
_HEX = re.compile(r"[0-9a-f]{4,64}")


@dataclass(frozen=True)
class Side(ToDict):
    """One side of the comparison; `text_from`: registry, logs, or None when no text is stored."""

    manifest_id: str
    words: str
    manifest: Mapping[str, str | None]
    text_from: str | None = None


@dataclass(frozen=True)
class Difference(ToDict):
    """What differs between two manifests: `abtest.versions_diff/1`.

    Attributes:
        a, b: The two.
        fields: field -> [value of a, value of b] where they differ.
        text_diff: Unified diff of the prompts, line by line; None where a text is missing.
        note: Why there is no diff of the text; empty when there is one.
    """

    a: Side
    b: Side
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    text_diff: Sequence[str] | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract `abtest.versions_diff/1`."""
        return {"schema": "abtest.versions_diff/1", **super().to_dict()}

    def __repr__(self) -> str:
        lines = [
            f"a  {self.a.manifest_id[:12]}  {shorten(self.a.words, 100)}",
            f"b  {self.b.manifest_id[:12]}  {shorten(self.b.words, 100)}",
            "",
        ]
        lines.append(self._table().to_text() if self.fields else "every field is the same")
        lines += ["", *(map(_printable, self.text_diff) if self.text_diff is not None else [self.note])]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Show the fields and the diff in a notebook."""
        text = "\n".join(map(_printable, self.text_diff)) if self.text_diff is not None else self.note
        return f"{self._table().to_html(styled=True)}<pre>{html.escape(text)}</pre>"

    def _table(self) -> Table:
        return Table(("field", "a", "b"), [[name, *pair] for name, pair in self.fields.items()])


def diff(store: Store, a: str, b: str, *, at_us: int | None = None, surface: str | None = None) -> Difference:
    """Compare two manifests, each named by the beginning of its id, a label, its name or its prompt version.

    Args:
        store: An open store.
        a: One of them.
        b: The other.
        at_us: Labels and calls as they were at this moment; default: now, and everything.
        surface: Look among the calls of this surface only.

    Raises:
        UsageError: A name that means nothing, or several manifests.
    """
    have = registry(store)
    ran = _ran(store, at_us, surface)
    sides = [_resolve(text, have, ran, at_us) for text in (a, b)]
    texts = [_text(store, m, have) for m in sides]
    left, right = (Side(m.manifest_id, m.words, m.fields, text[1]) for m, text in zip(sides, texts, strict=True))
    fields = {name: list(pair) for name, pair in sides[0].changes_to(sides[1]).items()}
    first, second = texts[0][0], texts[1][0]
    if first is None or second is None:
        missing = " and ".join(n for n, (t, _) in zip("ab", texts, strict=True) if t is None)
        note = f"no prompt text is stored for {missing}: register it with prompt_file, or ingest with --keep-text"
        return Difference(left, right, fields, None, note)
    lines = [text.splitlines() for text in (first, second)]
    if max(map(len, lines)) > LONGEST_DIFF:
        return Difference(left, right, fields, None, f"the prompts have more than {LONGEST_DIFF} lines")
    made = difflib.unified_diff(lines[0], lines[1], left.manifest_id[:SHORT], right.manifest_id[:SHORT], lineterm="")
    return Difference(left, right, fields, list(made))


def _ran(store: Store, at_us: int | None, surface: str | None) -> dict[Manifest, int]:
    """Return manifest -> calls of everything that ran."""
    rows = history(store, Asked(2**61 if at_us is None else at_us, store.last_file(), surface=surface))
    calls: dict[Manifest, int] = {}
    for r in rows:
        calls[r.manifest] = calls.get(r.manifest, 0) + r.calls
    return calls


def _resolve(text: str, have: Registry, ran: Mapping[Manifest, int], at_us: int | None) -> Manifest:
    at = have.labels(at_us).get(text)
    if at is not None:
        return have.by_id[at].manifest
    named = [r.manifest for r in have.manifests if r.name == text]
    known = dict.fromkeys([*(r.manifest for r in have.manifests), *ran])
    by_id = [m for m in known if _HEX.fullmatch(text) and m.manifest_id.startswith(text)]
    versions = [m for m in known if m.fields["prompt_version"] == text]
    found = named or by_id or _without_parts(versions)
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(
            f"{text[:100]!r} is no manifest here", key="--diff", hint="`abtest versions --last 30d` shows their ids"
        )
    listed = ", ".join(
        f"{m.short} ({m.words}, {ran.get(m, 0):,} calls)" for m in sorted(found, key=lambda m: -ran.get(m, 0))[:6]
    )
    raise UsageError(f"{text[:100]!r} means {len(found)} manifests", key="--diff", hint=f"name one by its id: {listed}")


def _without_parts(manifests: Sequence[Manifest]) -> list[Manifest]:
    return [m for m in manifests if not any(m.is_part_of(other) for other in manifests)]


def _text(store: Store, m: Manifest, have: Registry) -> tuple[str | None, str | None]:
    """Return the prompt's text and where it is from: the registry, else the earliest call whose text was kept."""
    digest = m.fields["prompt_sha256"]
    for r in have.manifests:
        same = digest is not None and r.manifest.fields["prompt_sha256"] == digest
        if r.prompt_text is not None and (r.manifest == m or same):
            return r.prompt_text, "registry"
    names = [n for n in ("prompt_name", "prompt_version", "prompt_sha256") if m.fields[n] is not None]
    if not names or (m.fields["prompt_version"] is None and digest is None):
        return None, None
    sql, values = text_query({n: str(m.fields[n]) for n in names})
    row = store.connection.execute(sql, values).fetchone()
    return (str(row[0]), "logs") if row and row[0] is not None else (None, None)


def text_query(fields: Mapping[str, str]) -> Query:
    """Return the query of the prompt text of the earliest call with these fields whose text was kept."""
    more = "".join(f'\n      and i."{name}" = ${name}' for name in fields)
    return query(fill("versions_text", more=more), {"start": 0, "as_of": 2**62, **fields})


def _printable(line: str) -> str:
    """Return a line without control characters and direction overrides; its spaces stay."""
    return "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in line)
