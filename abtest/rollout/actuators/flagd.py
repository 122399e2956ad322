"""Halt through a flagd flag file, the JSON that OpenFeature's flagd providers read in FILE mode.

Two things make a written halt no halt, and both are silent: a provider reloads only when the file's mtime is **above**
the one it remembers, and it keeps its last good flags, the canary, when the new file is torn or malformed. So the file
is replaced whole (a temporary file in the same folder, fsync, rename, fsync of the folder), its mtime is forced above
the old one even where that lies in the future, and both are read back.

Because the file is replaced and not edited in place, a container must mount its *folder*: a mount of the single file
keeps showing the old one. Two cases are left to the check that traffic really stops (`halt_confirmed`): a client that
remembers a later mtime from a file which somebody has since replaced by an older one, and a foreign writer that
strikes between the last comparison and the rename.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from abtest.errors import ActuatorError, did_you_mean
from abtest.results import Action
from abtest.rollout.actuators._flagd_rules import Change, halted, refusal, shared
from abtest.rollout.actuators._json_text import patch, same
from abtest.rollout.actuators.base import ActuatorOutcome, HaltRequest, Request, ShareRequest, register

_ATTEMPTS = 5
_PAUSE_SECONDS = 0.05
_STEP_NS = 1_000_000  # clients compare mtimes as float seconds, which near 2e9 are 0.24 µs apart
_COARSE_STEP_NS = 2_000_000_000  # the coarsest clock of a file system in use (FAT)
_CHANGED_KEYS = ("state", "defaultVariant", "targeting", "metadata")


class _ChangedMeanwhileError(Exception):
    """Somebody else wrote the file between our reading and our replacing it."""


@dataclass(frozen=True)
class _Snapshot:
    """The file as it was read; `path` is where a symlink ends."""

    path: Path
    data: bytes
    stat: os.stat_result

    @property
    def identity(self) -> tuple[int, int, int, bytes]:
        return self.stat.st_ino, self.stat.st_size, self.stat.st_mtime_ns, self.data


@register
@dataclass(frozen=True)
class FlagdFile:
    """One flag in one flagd flag file.

    Attributes:
        path: The flag file, JSON; a symlink is followed.
        key: Key of the flag under `flags`.
        variants: Arm name to the flag's variant name; an arm that is missing here has its own name.
    """

    name: ClassVar[str] = "flagd"

    path: Path | str
    key: str
    variants: Mapping[str, str] = field(default_factory=dict[str, str])

    def check(self, arms: Sequence[str] = ()) -> tuple[str, ...]:
        """Look whether a halt would work, without touching the file; return what is worth a warning.

        Args:
            arms: The experiment's arms; the flag must have a variant for each.

        Raises:
            ActuatorError: The file or flag cannot be used, or the folder cannot be written to.
        """
        snapshot, _, document = self._load()
        flag = self._flag(document)
        for arm in dict.fromkeys([*self.variants, *arms]):
            self._variant(flag, arm)
        if not os.access(snapshot.path.parent, os.W_OK | os.X_OK):
            raise self._read_only(snapshot.path.parent)
        warnings = list(self._warnings(snapshot, document))
        if flag.get("state") != "ENABLED":
            warnings.append(f"flag {self.key!r} is {flag.get('state')}: every caller gets its own code default")
        return tuple(warnings)

    def halt(self, request: HaltRequest, *, dry_run: bool = False) -> ActuatorOutcome:
        """Give everybody the control: weight 0 for the treatments, and no rule left that reaches them.

        The flag stays ENABLED (DISABLED would give every caller the default in its own code). Its metadata says which
        decision did it; clients see that with every evaluation. The outcome's `original` holds what was replaced.

        Raises:
            ActuatorError: The file could not be changed and is as it was; or, said in the message, it was changed and
                its mtime then moved back, so that clients would not see it.
        """

        def change(flag: dict[str, Any], evaluators: Mapping[str, Any]) -> Change:
            control, treatments = self._arms(flag, request)
            return halted(flag, control, frozenset(treatments), evaluators)

        return self._act(request, change, dry_run=dry_run)

    def set_share(self, request: ShareRequest, *, dry_run: bool = False) -> ActuatorOutcome:
        """Set the treatment's weight in every fractional of the flag, exactly and in integers.

        Raises:
            ActuatorError: Not one treatment, not a share, rules that split something else, or the file could not be
                changed; it is as it was.
        """

        def change(flag: dict[str, Any], evaluators: Mapping[str, Any]) -> Change:
            control, treatments = self._arms(flag, request)
            if len(treatments) != 1:
                raise ActuatorError(f"a share is for one treatment, not for {len(treatments)}")
            return shared(flag, control, treatments[0], request.share, evaluators)

        return self._act(request, change, dry_run=dry_run)

    def _act(
        self, request: Request, change: Callable[[dict[str, Any], Mapping[str, Any]], Change], *, dry_run: bool
    ) -> ActuatorOutcome:
        """Read, change and replace the file; start again when somebody else wrote to it meanwhile."""
        for attempt in range(_ATTEMPTS):
            time.sleep(_PAUSE_SECONDS * attempt)
            try:
                return self._try(request, change, dry_run=dry_run)
            except _ChangedMeanwhileError:
                continue
            except RecursionError:
                raise self._error("its targeting is nested too deeply to follow", "simplify the rule") from None
        raise self._too_busy()

    def _try(
        self, request: Request, change: Callable[[dict[str, Any], Mapping[str, Any]], Change], *, dry_run: bool
    ) -> ActuatorOutcome:
        snapshot, text, document = self._load()
        flag = self._flag(document)
        evaluators = document.get("$evaluators")
        try:
            changed = change(flag, evaluators if isinstance(evaluators, dict) else {})
        except ActuatorError as error:
            raise self._error(error.message, error.hint) from None
        new = changed.flag | {"metadata": _metadata(flag, request)}
        if same(new, flag):
            return ActuatorOutcome(Action(self.name, "already_done", f"{self._where} already says so"))
        document["flags"] = document["flags"] | {self.key: new}
        notes = "; ".join([*changed.notes, *self._warnings(snapshot, document)]) or "metadata set"
        original = {key: flag[key] for key in _CHANGED_KEYS if key in flag}
        if dry_run:
            return ActuatorOutcome(Action(self.name, "dry_run", f"would change {self._where}: {notes}"), original)
        try:
            _replace(snapshot, patch(text, document).encode())
        except OSError as error:
            raise self._write_error(error, snapshot.path) from error
        return ActuatorOutcome(Action(self.name, "done", f"{self._where}: {notes}"), original)

    @property
    def _where(self) -> str:
        return f"{self.key!r} in {self.path}"

    def _error(self, message: str, hint: str | None = None, *, key: str | None = None) -> ActuatorError:
        return ActuatorError(message, file=str(self.path), key=self.key if key is None else key, hint=hint)

    def _too_busy(self) -> ActuatorError:
        return self._error(
            f"changed {_ATTEMPTS} times while it was being replaced", "stop the other writer, then retry"
        )

    def _read_only(self, folder: Path) -> ActuatorError:
        return self._error(
            f"no new file can be written into {folder}",
            "the file is replaced, not edited, so its folder must be writable (in a container: mount the folder)",
        )

    def _write_error(self, error: OSError, path: Path) -> ActuatorError:
        if isinstance(error, PermissionError) or error.errno in (errno.EBUSY, errno.EROFS):  # EBUSY: a mounted file
            return self._read_only(path.parent)
        return self._error(
            f"could not be replaced: {error.strerror or error}", "look at the disk and its permissions, then retry"
        )

    def _read(self) -> _Snapshot:
        """Return the file's bytes and their stat, taken from one open file."""
        path = Path(os.path.realpath(self.path))
        if path.suffix in (".yaml", ".yml") or Path(self.path).suffix in (".yaml", ".yml"):
            raise self._error("is YAML", "only JSON flag files can be changed; convert it and point flagd at that")
        try:
            with path.open("rb") as file:
                return _Snapshot(path, file.read(), os.fstat(file.fileno()))
        except FileNotFoundError:
            near = did_you_mean(path.name, [p.name for p in path.parent.glob("*.json")]) if path.parent.is_dir() else ""
            raise self._error("no such file", near if near != "known: " else "its folder has no JSON file") from None
        except IsADirectoryError:
            raise self._error("is a folder", "name the JSON file in it") from None
        except OSError as error:
            raise self._error(f"cannot be read: {error.strerror or error}") from error

    def _load(self) -> tuple[_Snapshot, str, dict[str, Any]]:
        """Return file, text and JSON; a file that is being written in place gets a moment to become whole."""
        snapshot = self._read()
        for _ in range(_ATTEMPTS):
            try:
                text = snapshot.data.decode()
                document = json.loads(text)
                break
            except (ValueError, RecursionError) as error:
                time.sleep(_PAUSE_SECONDS)
                before, snapshot = snapshot, self._read()
                if snapshot.identity == before.identity:
                    raise self._malformed(error) from None
        else:
            raise self._too_busy()
        if not isinstance(document, dict) or not isinstance(document.get("flags"), dict):
            hint = 'a flagd file is {"flags": {"some-key": {"state": "ENABLED", ...}}}'
            raise self._error('has no "flags" object', hint, key="flags")
        return snapshot, text, document

    def _malformed(self, error: Exception) -> ActuatorError:
        what = str(error).partition(":")[0]
        if isinstance(error, json.JSONDecodeError):
            what = f"{error.msg}, line {error.lineno} column {error.colno}"
        return self._error(f"is not JSON: {what}", "clients keep the last good flags until it is repaired")

    def _flag(self, document: Mapping[str, Any]) -> dict[str, Any]:
        flags: dict[str, Any] = document["flags"]
        if self.key not in flags:
            raise self._error("no such flag", did_you_mean(self.key, flags) if flags else "the file has no flags")
        flag = flags[self.key]
        if not isinstance(flag, dict) or not isinstance(flag.get("variants"), dict):
            raise self._error("has no variants", 'a flag needs "variants": {"baseline": ..., "candidate": ...}')
        return flag

    def _variant(self, flag: Mapping[str, Any], arm: str) -> str:
        variant = self.variants.get(arm, arm)
        if variant not in flag["variants"]:
            hint = f"{did_you_mean(variant, flag['variants'])} map it with variants = {{ {arm} = ... }}"
            raise self._error(f"has no variant {variant!r} for arm {arm!r}", hint)
        return variant

    def _arms(self, flag: Mapping[str, Any], request: Request) -> tuple[str, list[str]]:
        control = self._variant(flag, request.control)
        treatments = [self._variant(flag, arm) for arm in request.treatments]
        if control in treatments:
            raise self._error(f"control and treatment are the same variant {control!r}", "map each arm to its own")
        return control, treatments

    def _warnings(self, snapshot: _Snapshot, document: Mapping[str, Any]) -> list[str]:
        """Return what could keep clients from seeing a change, although the file is fine."""
        found: list[str] = []
        reason = refusal(document)
        if reason is not None:
            found.append(f"clients may refuse the file and keep their last good flags: {reason}")
        if snapshot.stat.st_mtime_ns > time.time_ns() + _COARSE_STEP_NS:
            found.append("its mtime lies in the future; until then clients do not see edits that set no later one")
        return found


def _metadata(flag: Mapping[str, Any], request: Request) -> dict[str, Any]:
    """Return the flag's metadata with the decision in it."""
    old = flag.get("metadata")
    return (old if isinstance(old, dict) else {}) | {
        "abtest.decision_id": request.decision_id,
        "abtest.policy_sha256": request.policy_sha256,
        "abtest.experiment": request.experiment,
    }


def _replace(old: _Snapshot, data: bytes) -> None:
    """Replace a file whole, durably, with a later mtime; nothing is left behind when that fails.

    Raises:
        _ChangedMeanwhileError: The file is no longer, or did not stay, what we think it is.
        OSError: It cannot be written.
    """
    folder = old.path.parent
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{old.path.name}.", suffix=".abtest")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            # The owner matters when root rewrites a file that only its application may read.
            with contextlib.suppress(PermissionError):
                os.fchown(handle, old.stat.st_uid, old.stat.st_gid)
            os.fchmod(handle, stat.S_IMODE(old.stat.st_mode))
            _set_later_mtime(handle, old.stat)
            os.fsync(handle)
        try:
            with old.path.open("rb") as file:
                now = _Snapshot(old.path, file.read(), os.fstat(file.fileno()))
        except FileNotFoundError as error:
            raise _ChangedMeanwhileError from error
        if now.identity != old.identity:
            raise _ChangedMeanwhileError
        Path(temporary).replace(old.path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    # The new file is in place; that some network file systems cannot sync a folder does not undo it.
    with contextlib.suppress(OSError):
        _sync_folder(folder)
    if old.path.read_bytes() != data:
        raise _ChangedMeanwhileError
    if not old.path.stat().st_mtime > old.stat.st_mtime:
        raise OSError("its mtime did not move up, so clients will not read it")


def _set_later_mtime(handle: int, old: os.stat_result) -> None:
    """Set the mtime to now, or just above the old one when that is later; a coarse clock needs a larger step."""
    for step in (_STEP_NS, _COARSE_STEP_NS):
        now = time.time_ns()
        os.utime(handle, ns=(now, max(now, old.st_mtime_ns + step)))
        if os.fstat(handle).st_mtime > old.st_mtime:
            return
    raise OSError("the file system does not keep a later mtime")


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
