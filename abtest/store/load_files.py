"""From what the user names to bytes: files, folders, globs and stdin; plain or packed, checked and limited."""

from __future__ import annotations

import glob
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

from abtest.errors import LogReadError
from abtest.store.containers.base import CHUNK, DOCUMENT_LIMIT, HEAD_BYTES, Codec, DamagedError
from abtest.store.containers.registry import codec_of, codecs, containers

STDIN = "-"
OTHER_KINDS = {
    b"PK\x03\x04": "a zip file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}
PARQUET = b"PAR1"
MAX_EXPANSION = 500.0
"""Real logs shrink to a tenth or a sixtieth, with the same long prompt in every row to a three-hundredth; a bomb of gzip
to a thousandth, one of zstd to much less."""

MAX_BYTES = 1 << 40
SMALL = 64 * 1024 * 1024
"""Up to here nothing counts as a bomb."""

_ROTATION = r"(?:[.-]\d[\dT:_.-]*)?"
"""What rotation puts behind a name: app.jsonl.1, app.jsonl-20261123, app.jsonl.2026-11-23_10-05."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Limits:
    """When a packed file is refused.

    Attributes:
        max_expansion: Content may be so many times larger than the file; asked of more than 64 MB of content.
        max_bytes: Content may have so many bytes.
    """

    max_expansion: float = MAX_EXPANSION
    max_bytes: int = MAX_BYTES


@dataclass(frozen=True, slots=True)
class Found:
    """A file to load.

    Attributes:
        path: As the user would write it.
        key: Its real path; "-" for stdin.
        named: False when a search found it: it may be gone again.
    """

    path: Path
    key: str
    named: bool


def suffixes() -> list[str]:
    """Return the endings by which folders are searched, rotation and packing left out."""
    return sorted({suffix for container in containers().values() for suffix in container.suffixes})


def is_log_name(name: str) -> bool:
    """Tell whether a file of this name in a folder is taken for a log: a known ending, also rotated or packed."""
    return _log_name().search(name) is not None


@cache
def _log_name() -> re.Pattern[str]:
    packed = "|".join(re.escape(suffix) for codec in codecs().values() for suffix in codec.suffixes)
    plain = "|".join(map(re.escape, suffixes()))
    return re.compile(rf"(?:{plain}){_ROTATION}(?:{packed})?$|(?:{packed})$", re.IGNORECASE)


def expand(paths: Sequence[str | Path]) -> list[Found]:
    """Return the files that `paths` (files, folders, globs, "-") stand for, each once, searches in sorted order.

    Raises:
        LogReadError: A path that does not exist, a glob or folder with no log file in it.
    """
    found: dict[str, Found] = {}
    for given in paths:
        for each in _expand(str(given)):
            found.setdefault(each.key, each)
    return list(found.values())


def _expand(given: str) -> list[Found]:
    if given == STDIN:
        return [Found(Path(STDIN), STDIN, named=True)]
    path = Path(given)
    if path.is_dir():
        files = _search(path)
        if not files:
            raise LogReadError("no log file in this folder", file=given, hint=f"looked for {', '.join(suffixes())}")
        return files
    if path.exists():
        return [Found(path, str(path.resolve()), named=True)]
    if glob.has_magic(given):
        matches = sorted(p for p in map(Path, glob.glob(given, recursive=True)) if p.is_file())  # noqa: PTH207 - absolute globs
        if matches:
            return [Found(p, str(p.resolve()), named=False) for p in matches]
        raise LogReadError("no file matches", file=given, hint="quote the pattern; ** goes into folders")
    raise LogReadError("there is no such file", file=given, hint=f"you are in {Path.cwd()}")


def _search(folder: Path) -> list[Found]:
    """Find the logs under a folder. Only links cost a system call each: a folder of thousands has to be cheap."""
    found: list[Found] = []
    places = [(folder, str(folder.resolve()))]
    matched: dict[str, bool] = {}
    while places:
        place, real = places.pop()
        try:
            entries = list(os.scandir(place))
        except OSError as error:
            if isinstance(error, FileNotFoundError) and place != folder:
                continue  # removed since its parent was read
            raise _unreadable(str(place), error) from error
        for entry in entries:
            name = entry.name
            if entry.is_dir(follow_symlinks=False):
                places.append((place / name, os.path.join(real, name)))  # noqa: PTH118 - pathlib is slow by the thousand
                continue
            if name not in matched:
                matched[name] = is_log_name(name)
            if matched[name] and entry.is_file():
                key = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(real, name)  # noqa: PTH118
                found.append(Found(Path(entry.path), key, named=False))
    return sorted(found, key=lambda each: str(each.path).replace(os.sep, "\0"))


def spooled(found: Found, folder: Path) -> LogFile | None:
    """Copy stdin or a pipe into a folder, and return it as a file; None for what is a file already."""
    if found.key != STDIN and (found.path.is_file() or not found.path.exists()):
        return None
    copy = folder / f"input-{len(list(folder.iterdir()))}"
    with copy.open("wb") as target:
        try:
            if found.key == STDIN:
                shutil.copyfileobj(sys.stdin.buffer, target, CHUNK)
            else:
                with found.path.open("rb") as source:
                    shutil.copyfileobj(source, target, CHUNK)
        except OSError as error:
            raise _unreadable(str(found.path), error) from error
    file = LogFile(copy, found.key, name=str(found.path))
    file.is_scratch = True
    return file


class LogFile:
    """One log file: its unpacked bytes, and what they are.

    Every read error (missing rights, wrong checksum, cut-off gzip, bomb) is a LogReadError that names the file.

    Attributes:
        path: Where it lies; for stdin, where it was put.
        name: As the user named it.
        key: What the ledger calls it: its real path, or "-".
        size: Bytes on disk when it was looked at; a plain file is read up to there.
        mtime_ns: When it was changed.
        inode: Device and inode, which survive a renaming.
        looked_ns: When that was looked up.
        limits: When its content is refused.
        progress: Whom to tell how far reading is.
        is_scratch: True for a copy of what can be read only once.
    """

    def __init__(self, path: Path, key: str, *, name: str | None = None, limits: Limits | None = None) -> None:
        """Look at the file's state only; nothing is read yet."""
        self.path = path
        self.key = key
        self.name = name or str(path)
        self.limits = limits or Limits()
        self.progress: Progress | None = None
        self.is_scratch = False
        self.looked_ns = time.time_ns()
        self._head: bytes | None = None
        self._codec: Codec | None = None
        self._raw_head: bytes | None = None
        try:
            state = path.stat()
        except OSError as error:
            raise _unreadable(self.name, error) from error
        self.size = state.st_size
        self.mtime_ns = state.st_mtime_ns
        self.inode = f"{state.st_dev}:{state.st_ino}"

    @property
    def codec(self) -> Codec | None:
        """How it is packed; the first bytes are read for it."""
        if self._raw_head is None:
            try:
                with self.path.open("rb") as stream:
                    self._raw_head = stream.read(8)
            except OSError as error:
                raise _unreadable(self.name, error) from error
            self._codec = codec_of(self._raw_head)
            self._refuse_wrong_suffix(self._raw_head)
        return self._codec

    @property
    def stem(self) -> str:
        """The name in lower case, without packing and rotation: what is left ends in what it says it is."""
        name = self.path.name if self.key != STDIN else STDIN
        name = name.lower()
        for codec in codecs().values():
            for suffix in codec.suffixes:
                name = name.removesuffix(suffix)
        return re.sub(rf"(\.[a-z]+){_ROTATION}$", r"\1", name)

    def head(self) -> bytes:
        """Return the first 64 KB of the content.

        Raises:
            LogReadError: It begins like a kind of file that is no log.
        """
        if self._head is None:
            parts: list[bytes] = []
            have = 0
            for chunk in self._content(0, report=False):
                parts.append(chunk)
                have += len(chunk)
                if have >= HEAD_BYTES:
                    break
            self._head = b"".join(parts)[:HEAD_BYTES]
            self._refuse_other_kinds(self._head)
        return self._head

    def chunks(self, start: int = 0, *, report: bool = False) -> Iterator[bytes]:
        """Yield the unpacked content from a byte offset; `report` calls the progress function after each chunk."""
        self.head()
        return self._content(start, report=report)

    def whole(self) -> bytes | None:
        """Return the content; None when it is larger than `DOCUMENT_LIMIT`."""
        parts: list[bytes] = []
        size = 0
        for chunk in self.chunks():
            size += len(chunk)
            if size > DOCUMENT_LIMIT:
                return None
            parts.append(chunk)
        return b"".join(parts)

    def produced(self, size: int, read: int | None = None) -> None:
        """Check how much came out of how much (the whole file unless said); raises LogReadError past the limits."""
        read = max(self.size if read is None else read, 1)
        if size > self.limits.max_bytes:
            raise LogReadError(
                f"has more than {self.limits.max_bytes:,} bytes when unpacked",
                file=self.name,
                hint="if you trust it, raise max_bytes",
            )
        if size > SMALL and size > self.limits.max_expansion * read:
            raise LogReadError(
                f"grows to more than {self.limits.max_expansion:g} times its size when unpacked"
                f" ({size:,} bytes out of {read:,}): a decompression bomb?",
                file=self.name,
                hint="if you trust it, raise max_expansion",
            )

    def _content(self, start: int, *, report: bool) -> Iterator[bytes]:
        codec = self.codec
        try:
            with self.path.open("rb") as raw:
                for chunk in self._plain(raw, start) if codec is None else self._unpacked(codec, raw, start):
                    yield chunk
                    if report and self.progress:
                        self.progress(self.name, raw.tell(), max(self.size, raw.tell()))
        except DamagedError as error:
            kind = codec.name if codec else "it"
            raise LogReadError(
                f"{kind} is damaged: {error}", file=self.name, hint="copy it again; nothing of it was taken"
            ) from error
        except OSError as error:
            raise _unreadable(self.name, error) from error

    def _plain(self, raw: BinaryIO, start: int) -> Iterator[bytes]:
        """Read up to the size at first sight: what is appended meanwhile belongs to the next look."""
        raw.seek(start)
        left = self.size - start
        while left > 0 and (chunk := raw.read(min(CHUNK, left))):
            left -= len(chunk)
            yield chunk

    def _unpacked(self, codec: Codec, raw: BinaryIO, start: int) -> Iterator[bytes]:
        made = 0
        for chunk in codec.chunks(raw):
            made += len(chunk)
            self.produced(made, raw.tell())
            if made > start:
                yield chunk[max(0, len(chunk) - (made - start)) :]

    def _refuse_wrong_suffix(self, head: bytes) -> None:
        for codec in codecs().values():
            if head and self.path.suffix.lower() in codec.suffixes and codec is not self._codec:
                raise LogReadError(
                    f"is named {self.path.suffix} and is no {codec.name} file",
                    file=self.name,
                    hint="rename it when it is plain",
                )

    def _refuse_other_kinds(self, head: bytes) -> None:
        for magic, kind in OTHER_KINDS.items():
            if head.startswith(magic):
                raise LogReadError(f"is {kind}", file=self.name, hint="convert it to UTF-8 NDJSON, plain, gzip or zstd")
        if self._codec is not None and head.startswith(PARQUET):
            raise LogReadError(
                f"is Parquet inside {self._codec.name}", file=self.name, hint="unpack it; Parquet is packed already"
            )
        if self._codec is not None and codec_of(head) is not None:
            raise LogReadError("is packed twice", file=self.name, hint="unpack it once")


def _unreadable(name: str, error: OSError) -> LogReadError:
    return LogReadError(f"cannot be read: {error.strerror or error}", file=name)
