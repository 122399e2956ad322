"""How files looked when all of their content was known, so that a look at unchanged ones costs a stat each."""

from __future__ import annotations

import time
from dataclasses import dataclass

import duckdb

from abtest.store.files import load_sql
from abtest.store.load_files import LogFile

QUIET_SECONDS = 300
"""A file that was not changed for so long is taken to be finished."""

_FINE_NS = 100_000_000
_COARSE_NS = 2_100_000_000
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class State:
    """A row of `file_state`; see the migration."""

    path: str
    inode: str
    size: int
    mtime_ns: int
    looked_ns: int
    file_id: int | None
    waiting: bool


class States:
    """The states of a store, and the changes of the load under way."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        """Read them all."""
        self._con = con
        query = "SELECT path, inode, size, mtime_ns, looked_ns, file_id, waiting FROM file_state"
        self._by_path = {row[0]: State(*row) for row in con.execute(query).fetchall()}
        self._by_inode: dict[str, list[State]] = {}
        for state in self._by_path.values():
            self._by_inode.setdefault(state.inode, []).append(state)
        self._changed: dict[str, State] = {}

    def unchanged(self, file: LogFile, *, final: bool) -> bool:
        """Tell by its stat alone that a file holds nothing new.

        A file changed within the resolution of its time stamps before the last look may have changed after it, too, so
        that such a look does not count.
        """
        state = self._same(file, final=final)
        if state is None:
            return False
        resolution = _COARSE_NS if state.mtime_ns % _SECOND_NS == 0 else _FINE_NS
        return state.mtime_ns < state.looked_ns - resolution

    def settled(self, file: LogFile, file_id: int | None, *, final: bool) -> bool:
        """Tell whether a file whose content goes up to a piece was seen to hold nothing more than that.

        What follows the piece then (an unfinished line) was dealt with at the last look.
        """
        state = self._same(file, final=final)
        return state is not None and state.file_id == file_id

    def is_waiting(self, file: LogFile) -> bool:
        """Tell whether an unfinished end was left in the file at the last look."""
        state = self._by_path.get(file.key)
        return state is not None and state.waiting

    def _same(self, file: LogFile, *, final: bool) -> State | None:
        """Return the state of the last look, if the stat is the same and nothing waits that is due now."""
        state = self._by_path.get(file.key)
        if state is None or (state.inode, state.size, state.mtime_ns) != (file.inode, file.size, file.mtime_ns):
            return None
        return None if state.waiting and (final or not is_recent(file)) else state

    def candidates(self, file: LogFile) -> list[int | None]:
        """Return the last pieces that this file held under this name, or under another one before it was moved."""
        states = [*self._by_inode.get(file.inode, [])]
        if state := self._by_path.get(file.key):
            states.append(state)
        return [state.file_id for state in states]

    def note(self, file: LogFile, file_id: int | None, *, waiting: bool) -> None:
        """Remember that the content up to a piece is all there is; to be saved with `save`."""
        if file.is_scratch:
            return
        state = State(file.key, file.inode, file.size, file.mtime_ns, file.looked_ns, file_id, waiting)
        self._changed[file.key] = state
        self._by_path[file.key] = state

    def forget(self, keys: set[str]) -> None:
        """Forget what was noted of files that were not stored after all."""
        for key in keys & self._changed.keys():
            del self._changed[key], self._by_path[key]

    def save(self) -> None:
        """Write the changes, in a transaction of their own: they say nothing that a new look would not find again."""
        if not self._changed:
            return
        states = list(self._changed.values())
        self._con.begin()
        try:
            self._con.execute(
                "DELETE FROM file_state WHERE path IN (SELECT UNNEST($paths))", {"paths": list(self._changed)}
            )
            self._con.execute(
                load_sql("load/insert_state"),
                {
                    "paths": [state.path for state in states],
                    "inodes": [state.inode for state in states],
                    "sizes": [state.size for state in states],
                    "mtimes": [state.mtime_ns for state in states],
                    "looks": [state.looked_ns for state in states],
                    "files": [-1 if state.file_id is None else state.file_id for state in states],
                    "waits": [state.waiting for state in states],
                },
            )
            self._con.commit()
        except BaseException:
            self._con.rollback()
            raise
        self._changed = {}


def is_recent(file: LogFile, *, packed: bool = False) -> bool:
    """Tell whether a file may still grow: it was changed in the last minutes, by any clock.

    What a packed file holds does not grow, so only `packed` asks whether one may still be being written.
    """
    return (packed or file.codec is None) and abs(time.time_ns() - file.mtime_ns) < QUIET_SECONDS * _SECOND_NS
