"""What a watch looks at from tick to tick: the spec files, the log folders, the store file."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from abtest.errors import AbtestError, SpecError
from abtest.spec import Experiment
from abtest.store.follow import RETRY_SECONDS, Follower, Stamp
from abtest.store.load_report import IngestReport
from abtest.store.store import Store


def stamp_of(path: Path) -> Stamp | None:
    """Return how a file looks; None when it is not there."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


@dataclass
class SpecFile:
    """An experiment file that may be edited while it is watched, or an experiment that was made in Python.

    Attributes:
        experiment: As it was last read without an error.
        path: The file; None for an experiment from Python.
        problem: Why the file cannot be used as it stands now; `experiment` is what it said before.
    """

    experiment: Experiment
    path: Path | None = None
    problem: AbtestError | None = None
    _stamps: tuple[Stamp | None, ...] = ()

    @classmethod
    def of(cls, given: str | Path | Experiment) -> SpecFile:
        """Read a spec; raises SpecError."""
        if isinstance(given, Experiment):
            return cls(given)
        made = cls(Experiment.from_toml(given), Path(given))
        made._stamps = made._look()
        return made

    def reread(self) -> list[str] | None:
        """Read the file again when it has changed; when it is wrong now, `problem` says why.

        Returns:
            None when there is nothing new; else the keys of the policy that were changed (none: only addresses or words).
        """
        if self.path is None or (stamps := self._look()) == self._stamps:
            return None
        self._stamps, old = stamps, self.experiment
        try:
            new = Experiment.from_toml(self.path)
        except AbtestError as error:
            self.problem = error
            return None
        if new.id != old.id:
            words = f"the id was changed from {old.id!r} to {new.id!r}"
            self.problem = SpecError(words, file=str(self.path), key="id", hint="start another watch for it")
            return None
        self.experiment, self.problem = new, None
        before, after = old.policy_dict(), new.policy_dict()
        return sorted(k for k in {**before, **after} if before.get(k) != after.get(k))

    def _look(self) -> tuple[Stamp | None, ...]:
        assert self.path is not None
        book = self.experiment.prices.file
        return stamp_of(self.path), stamp_of(self.experiment.folder / book) if book else None


@dataclass
class LogFolders(Follower):
    """The logs, taken in a store that the caller has opened, so that one tick opens it once."""

    _looked: tuple[list[str | Path], dict[str, Stamp]] = field(default_factory=lambda: ([], {}))

    def changed(self) -> bool:
        """Look at the folders; return whether something has to be read."""
        self._looked = self._look()
        due = self._again_at is not None and time.monotonic() >= self._again_at
        return self._looked[1] != self._seen or due

    def take(self, store: Store) -> IngestReport | None:
        """Read what `changed` has seen; None when there is nothing at all.

        Raises:
            AbtestError: It could not be read or written; the next tick tries the same again.
        """
        there, found = self._looked
        report = store.ingest(*there, final=False, **self.options) if there else None
        # The state before the read: what was written meanwhile makes a difference at the next tick.
        self._seen = found
        waits = report is not None and (report.waiting_lines > 0 or report.waiting_files > 0)
        self._again_at = time.monotonic() + RETRY_SECONDS if waits else None
        return report


def store_stamps(db: Path) -> tuple[Stamp | None, ...]:
    """Return how the store file looks: another process that writes, an override for instance, changes it."""
    return stamp_of(db), stamp_of(db.with_name(f"{db.name}.wal"))
