"""What an ingest did: the counts that add up, and the JSON contract `abtest.ingest/1`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Completed = tuple[str, int, bytes]
TABLES = ("interaction", "assignment", "score")


@dataclass
class FileCount:
    """The counts of one file under way; `records` is the sum of its five disjoint parts."""

    path: str
    file_id: int
    source: str = ""
    container: str = ""
    parent: int | None = None
    root: int | None = None
    start_byte: int = 0
    end_number: int = 0
    sha256: str = ""
    head: str = ""
    tail: str = ""
    bytes: int = 0
    lines: int = 0
    inserted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    ignored: int = 0
    reasons: Counter[str] = field(default_factory=Counter[str])
    completed: list[Completed] = field(default_factory=list[Completed])
    """Path, byte offset and bytes of what was quarantined as truncated and is whole now."""

    @property
    def quarantined(self) -> int:
        """Rejected lines and records; conflicts are counted apart."""
        return sum(self.reasons.values())

    @property
    def records(self) -> int:
        """Everything that was not blank."""
        return self.inserted + self.duplicates + self.conflicts + self.quarantined + self.ignored


@dataclass(frozen=True)
class FailedFile:
    """A file that could not be read whole; nothing of it is in the store."""

    file: str
    message: str


@dataclass(frozen=True)
class IngestReport:
    """What one ingest did; records = inserted + duplicates + conflicts + quarantined + ignored.

    Attributes:
        files: Files looked at, skipped and failed ones included.
        skipped_files: Files whose content is in the store already.
        lines: Lines of the files that were loaded, blank ones included.
        records: Records in them: lines, or the spans and events in a line.
        inserted: Rows that are new in the store.
        duplicates: Records that are in the store already, with the same content.
        conflicts: Records whose id is in the store with other content: quarantined, the first one stays.
        quarantined: Lines and records that were rejected, conflicts not included.
        ignored: Records that are no model call, assignment or score.
        by_table: Rows inserted, by table.
        reasons: Rejected records by reason code, conflicts included.
        sources: Files loaded, by format.
        scores: Scores that found their interaction in this load (resolved), that have several to choose from
            (ambiguous), and all in the store that still wait for theirs, ambiguous ones included (waiting).
        seconds: Wall-clock time.
        failed_files: Files that could not be read whole.
        twins: By how many the calls are fewer than the rows inserted: the same calls, logged twice.
        twin_conflicts: Pairs that share an id of the call and are left apart (two variants, two calls of one source).
        shadow_legs: Rows that turned out to be silent legs of mirrored requests and carry no mark; they do not count.
        kept_out: Records that are counted as ignored because they were pruned or their unit was forgotten.
        waiting_lines: Unfinished last lines of files that may still grow: not taken yet, not rejected.
        waiting_files: Files that cannot be read yet, but are still being written.
    """

    files: int
    skipped_files: int
    lines: int
    records: int
    inserted: int
    duplicates: int
    conflicts: int
    quarantined: int
    ignored: int
    by_table: Mapping[str, int]
    reasons: Mapping[str, int]
    sources: Mapping[str, int]
    scores: Mapping[str, int]
    seconds: float
    failed_files: tuple[FailedFile, ...] = ()
    waiting_lines: int = 0
    waiting_files: int = 0
    twins: int = 0
    twin_conflicts: int = 0
    shadow_legs: int = 0
    kept_out: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def exit_code(self) -> int:
        """0, or 40 when a file could not be read whole."""
        return 40 if self.failed_files else 0

    def to_dict(self) -> dict[str, Any]:
        """Return the `abtest.ingest/1` object."""
        return {
            "schema": "abtest.ingest/1",
            "files": self.files,
            "skipped_files": self.skipped_files,
            "lines": self.lines,
            "records": self.records,
            "inserted": self.inserted,
            "duplicates": self.duplicates,
            "conflicts": self.conflicts,
            "quarantined": self.quarantined,
            "ignored": self.ignored,
            "by_table": dict(self.by_table),
            "reasons": dict(self.reasons),
            "sources": dict(self.sources),
            "scores": dict(self.scores),
            "seconds": self.seconds,
            "failed_files": [{"file": f.file, "message": f.message} for f in self.failed_files],
            "waiting_lines": self.waiting_lines,
            "waiting_files": self.waiting_files,
            "twins": self.twins,
            "twin_conflicts": self.twin_conflicts,
            "shadow_legs": self.shadow_legs,
            "kept_out": dict(self.kept_out),
        }


@dataclass
class Totals:
    """Sums over the files of one ingest."""

    loaded: list[FileCount] = field(default_factory=list[FileCount])
    skipped: int = 0
    empty: int = 0
    empty_lines: int = 0
    failed: list[FailedFile] = field(default_factory=list[FailedFile])
    waiting_lines: int = 0
    waiting_files: int = 0
    by_table: Counter[str] = field(default_factory=Counter[str])
    scores: Counter[str] = field(default_factory=Counter[str])

    def report(self, seconds: float) -> IngestReport:
        """Add everything up."""
        reasons: Counter[str] = Counter()
        for file in self.loaded:
            reasons.update(file.reasons)
        conflicts = sum(file.conflicts for file in self.loaded)
        if conflicts:
            reasons["conflict"] = conflicts
        return IngestReport(
            files=len(self.loaded) + self.skipped + self.empty + len(self.failed) + self.waiting_files,
            skipped_files=self.skipped,
            lines=sum(file.lines for file in self.loaded) + self.empty_lines,
            records=sum(file.records for file in self.loaded),
            inserted=sum(file.inserted for file in self.loaded),
            duplicates=sum(file.duplicates for file in self.loaded),
            conflicts=conflicts,
            quarantined=sum(file.quarantined for file in self.loaded),
            ignored=sum(file.ignored for file in self.loaded),
            by_table={table: self.by_table[table] for table in TABLES},
            reasons=dict(sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))),
            sources=dict(sorted(Counter(file.source for file in self.loaded).items())),
            scores={key: self.scores[key] for key in ("resolved", "ambiguous", "waiting")},
            seconds=round(seconds, 3),
            failed_files=tuple(self.failed),
            waiting_lines=self.waiting_lines,
            waiting_files=self.waiting_files,
            twins=self.scores["twins"],
            twin_conflicts=self.scores["twin_conflicts"],
            shadow_legs=self.scores["shadow_legs"],
            kept_out={key: self.scores[key] for key in ("pruned", "forgotten")},
        )
