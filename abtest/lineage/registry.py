"""The registry: which manifests may run, under which label; nothing in it is ever changed, and every move is in the ledger.

A manifest is registered once. The same prompt name and version, or the same name, with other content is refused with both
hashes. Labels ("production") move; moving one back is the rollback. A retired manifest must not run any more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import duckdb

from abtest.errors import UsageError
from abtest.lineage.manifest import SHORT, Manifest
from abtest.lineage.registry_file import Registration, read_registrations
from abtest.results import ToDict
from abtest.store import ledger
from abtest.store.store import Store

_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9._/-]{0,99}")
_HEX = re.compile(r"[0-9a-f]{4,64}")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Registered(ToDict):
    """A registered manifest; `registered_us` is the time of the machine's clock, `seq` its ledger entry."""

    manifest: Manifest
    name: str | None
    surface: str | None
    prompt_text: str | None = field(repr=False)
    seq: int
    registered_us: int


@dataclass(frozen=True)
class Move(ToDict):
    """A label was given to a manifest, or moved: `before` is where it stood."""

    seq: int
    at_us: int
    label: str
    manifest_id: str
    before: str | None


@dataclass(frozen=True)
class Registry:
    """The registry as it stands, or stood before an entry of the ledger.

    Attributes:
        manifests: In the order of registration.
        moves: All moves of labels, in order.
        retired: manifest id -> when it was retired (clock), microseconds since 1970.
    """

    manifests: tuple[Registered, ...] = ()
    moves: tuple[Move, ...] = ()
    retired: dict[str, int] = field(default_factory=dict[str, int])

    def __bool__(self) -> bool:
        """Tell whether anything is registered."""
        return bool(self.manifests)

    def labels(self, at_us: int | None = None) -> dict[str, str]:
        """Return label -> manifest id, now or as it was at a time of the clock."""
        return {m.label: m.manifest_id for m in self.moves if at_us is None or m.at_us <= at_us}

    @cached_property
    def by_id(self) -> dict[str, Registered]:
        """Return manifest id -> registered manifest."""
        return {r.manifest.manifest_id: r for r in self.manifests}

    def match(self, running: Manifest, surface: str | None) -> Registered | None:
        """Return what a running manifest is registered as; None when nothing registered can be it.

        Where both know a field they must agree, and they must share what names them: the prompt (its hash, or name and
        version), or the model where the registered one names no prompt. What either side leaves open is not compared. Of
        several, the one that shares most fields, then the newest.
        """
        fitting = [
            r
            for r in self.manifests
            if r.surface in (None, surface)
            and not r.manifest.contradicts(running)
            and _shares_name(r.manifest, running)
        ]
        return max(fitting, key=lambda r: (_shared(r.manifest, running), r.seq), default=None)

    def knows(self, running: Manifest, surface: str | None) -> bool | None:
        """Tell whether a running manifest is registered; None where the log says too little to tell."""
        if self.match(running, surface) is not None:
            return True
        open_ones = [r for r in self.manifests if r.surface in (None, surface) and not r.manifest.contradicts(running)]
        return None if any(_shared(r.manifest, running) for r in open_ones) else False

    def covers(self, running: Manifest, surface: str | None) -> bool:
        """Tell whether the registry is in use here: something is registered for this prompt, or for this surface."""
        prompt = running.fields["prompt_name"]
        return any(
            (r.surface is not None and r.surface == surface)
            or (prompt is not None and r.manifest.fields["prompt_name"] == prompt)
            for r in self.manifests
        )


def registry(store: Store, *, before_seq: int | None = None) -> Registry:
    """Return the registry; `before_seq`: as it was before that entry of the ledger, for a replay."""
    con = store.connection
    limit = 2**62 if before_seq is None else before_seq
    rows = con.execute(
        "select manifest_id, name, surface, body, prompt_text, ledger_seq from registered_manifest where ledger_seq < $seq order by ledger_seq",
        {"seq": limit},
    ).fetchall()
    entries = [e for e in ledger.entries(con, kind="registry") if e.seq < limit] if rows else []
    times = {e.seq: e.recorded_us for e in entries}
    manifests = tuple(
        Registered(Manifest.of(json.loads(body)), name, surface, text, int(seq), times[int(seq)])
        for _, name, surface, body, text, seq in rows
    )
    moves = tuple(
        Move(e.seq, e.recorded_us, e.body["label"], e.body["manifest_id"], e.body["before"])
        for e in entries
        if e.body["action"] == "label"
    )
    retired: dict[str, int] = {}
    for e in entries:
        if e.body["action"] == "retire":
            retired[e.body["manifest_id"]] = e.recorded_us
        elif e.body["action"] == "label":
            retired.pop(e.body["manifest_id"], None)  # who labels it again wants it to run
    return Registry(manifests, moves, retired)


# -- moves -------------------------------------------------------------------------------------------------------------


def register(store: Store, *given: str | Path | Registration) -> list[Registered]:
    """Register manifests, all of them or none; what is registered already stays as it is.

    Args:
        store: A store that is open for writing.
        given: Files (`registry_file`), or registrations.

    Returns:
        The registered manifests, in the order given.

    Raises:
        UsageError: The same name, or the same prompt name and version, is registered with other content.
        SpecError: A file that cannot be read.
    """
    wanted: list[Registration] = []
    for each in given:
        wanted += [each] if isinstance(each, Registration) else read_registrations(each)

    def add() -> None:
        for new in wanted:
            have = registry(store)
            if new.manifest.manifest_id not in have.by_id:
                _refuse_changed(new, have)
                _insert(store, new)
            elif new.name not in (None, have.by_id[new.manifest.manifest_id].name):
                raise UsageError(f"{new.manifest.short} is registered already, under another name", key=new.name)

    _whole(store.connection, add)
    have = registry(store)
    return [have.by_id[new.manifest.manifest_id] for new in wanted]


def label(store: Store, name: str, manifest: str) -> Move:
    """Give a label to a registered manifest; a label that stands elsewhere moves, and the ledger knows both places.

    Args:
        store: A store that is open for writing.
        name: The label, for example "production".
        manifest: A registered manifest: the beginning of its id, its name, its prompt version, or a label.

    Raises:
        UsageError: No such manifest, several of them, or a name that is no label.
    """
    if not _LABEL.fullmatch(name):
        raise UsageError(f"{name[:100]!r} is no label", key="NAME", hint="letters, digits, . _ / -; a letter first")
    have = registry(store)
    if any(r.name == name for r in have.manifests):
        raise UsageError(f"{name!r} is the name of a manifest, it cannot move", key="NAME", hint="take another label")
    target = find(have, manifest).manifest.manifest_id
    before = have.labels().get(name)
    if before == target:
        return [m for m in have.moves if m.label == name][-1]
    entry = _note(store.connection, {"action": "label", "label": name, "manifest_id": target, "before": before})
    return Move(entry.seq, entry.recorded_us, name, target, before)


def retire(store: Store, manifest: str) -> Registered:
    """Retire a registered manifest: from now on its calls are a finding. Labelling it again takes that back.

    Raises:
        UsageError: No such manifest, or it carries a label.
    """
    have = registry(store)
    found = find(have, manifest)
    ident = found.manifest.manifest_id
    standing = sorted(name for name, at in have.labels().items() if at == ident)
    if standing and ident not in have.retired:
        raise UsageError(f"{found.manifest.short} is {standing[0]!r}", key="MANIFEST", hint="move the label first")
    if ident not in have.retired:
        _note(store.connection, {"action": "retire", "manifest_id": ident})
    return found


def find(have: Registry, text: str) -> Registered:
    """Return the registered manifest that a text means: a label, a name, the beginning of an id, a prompt version.

    Raises:
        UsageError: There is none, or there are several.
    """
    at = have.labels().get(text)
    if at is not None:
        return have.by_id[at]
    named = [r for r in have.manifests if r.name == text]
    by_id = [r for r in have.manifests if _HEX.fullmatch(text) and r.manifest.manifest_id.startswith(text)]
    versions = [r for r in have.manifests if r.manifest.fields["prompt_version"] == text]
    found = named or by_id or versions
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"{text[:100]!r} is not registered", key="MANIFEST", hint="`abtest versions register FILE`")
    raise UsageError(f"{text[:100]!r} means several manifests", key="MANIFEST", hint=_ids(r.manifest for r in found))


# -- parts -------------------------------------------------------------------------------------------------------------


def _refuse_changed(new: Registration, have: Registry) -> None:
    """Refuse other content under a name, or under a prompt's name and version, that stands for something already."""
    if new.name is not None and new.name in have.labels():
        raise UsageError(f"{new.name!r} is a label, and labels move", key=new.name, hint="take another name")
    fields = new.manifest.fields
    for old in have.manifests:
        theirs = old.manifest.fields
        if new.name is not None and old.name == new.name:
            raise UsageError(
                f"{new.name!r} is registered as {old.manifest.manifest_id}, this is {new.manifest.manifest_id}",
                key=new.name,
                hint="registered manifests never change: take a new name",
            )
        same = all(fields[k] == theirs[k] for k in ("prompt_name", "prompt_version")) and fields["prompt_version"]
        hashes = (theirs["prompt_sha256"], fields["prompt_sha256"])
        if same and None not in hashes and hashes[0] != hashes[1]:
            raise UsageError(
                f"prompt version {fields['prompt_version']!r} is registered with the content {hashes[0]}, this is {hashes[1]}",
                key=fields["prompt_name"],
                hint="a changed prompt is a new version",
            )


def _insert(store: Store, new: Registration) -> None:
    ident = new.manifest.manifest_id
    entry = _note(
        store.connection,
        {
            "action": "register",
            "manifest_id": ident,
            "name": new.name,
            "surface": new.surface,
            "fields": new.manifest.known,
        },
    )
    store.connection.execute(
        "insert into registered_manifest values (?, ?, ?, ?, ?, ?)",
        [ident, new.name, new.surface, new.manifest.canonical, new.prompt_text, entry.seq],
    )


def _note(con: duckdb.DuckDBPyConnection, body: dict[str, object]) -> ledger.Entry:
    return ledger.append(con, "registry", "", 0, body)


def _whole(con: duckdb.DuckDBPyConnection, work: Callable[[], _T]) -> _T:
    con.begin()
    try:
        done = work()
        con.commit()
    except BaseException:
        con.rollback()
        raise
    return done


def _shares_name(registered: Manifest, running: Manifest) -> bool:
    ours, theirs = registered.fields, running.fields
    if ours["prompt_sha256"] is not None and ours["prompt_sha256"] == theirs["prompt_sha256"]:
        return True
    if ours["prompt_version"] is not None:
        return ours["prompt_version"] == theirs["prompt_version"]
    if ours["prompt_name"] is not None:
        return ours["prompt_name"] == theirs["prompt_name"]
    return ours["prompt_sha256"] is None and ours["model"] is not None and ours["model"] == theirs["model"]


def _shared(a: Manifest, b: Manifest) -> int:
    return sum(x is not None and x == y for x, y in zip(a.values, b.values, strict=True))


def _ids(manifests: Iterable[Manifest]) -> str:
    return ", ".join(f"{m.manifest_id[:SHORT]} ({m.words})" for m in manifests)
