"""From what the user names to bytes: files, folders and globs; plain or gzip, checked."""

from __future__ import annotations

import glob
import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from abtest.errors import LogReadError
from abtest.ingest import Format, detect, get
from abtest.ingest.base import parse_object
from abtest.ingest.lines import LineReader

SUFFIXES = (".jsonl", ".ndjson", ".json", ".gz")
CHUNK = 1 << 20
SAMPLE_LINES = 20
SAMPLE_BYTES = 1 << 18
DOCUMENT_LIMIT = 64 * 1024 * 1024
"""A file that is one JSON value has to fit in memory; a larger one must be one object a line."""

GZIP = b"\x1f\x8b"
OTHER_KINDS = {
    b"PAR1": "a Parquet file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"PK\x03\x04": "a zip file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}

Progress = Callable[[str, int, int], None]


def expand(paths: Sequence[str | Path]) -> list[Path]:
    """Return the files that `paths` (files, folders, globs) stand for, each once, folders and globs in sorted order.

    Raises:
        LogReadError: A path that does not exist, a glob or folder with no log file in it.
    """
    found: dict[Path, Path] = {}
    for given in paths:
        for path in _expand(str(given)):
            found.setdefault(path.resolve(), path)
    return list(found.values())


def _expand(given: str) -> list[Path]:
    path = Path(given)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
        if not files:
            raise LogReadError("no log file in this folder", file=given, hint=f"looked for {', '.join(SUFFIXES)}")
        return files
    if path.exists():
        return [path]
    if glob.has_magic(given):
        files = sorted(p for p in map(Path, glob.glob(given, recursive=True)) if p.is_file())  # noqa: PTH207 - absolute globs
        if files:
            return files
        raise LogReadError("no file matches", file=given, hint="quote the pattern; ** goes into folders")
    raise LogReadError("there is no such file", file=given, hint=f"you are in {Path.cwd()}")


class LogFile:
    """One log file: its decompressed bytes, and what they are.

    Every read error (missing rights, wrong checksum, cut-off gzip) is a LogReadError that names the file.
    """

    def __init__(self, path: Path, progress: Progress | None = None) -> None:
        """Look at the size only; nothing is read yet."""
        self.path = path
        self.name = str(path)
        self._progress = progress
        try:
            self.size = path.stat().st_size
            with path.open("rb") as stream:
                self._head = stream.read(4)
        except OSError as error:
            raise LogReadError(f"cannot be read: {error.strerror}", file=self.name) from error
        self.is_gzip = self._head.startswith(GZIP)

    def chunks(self, *, report: bool = False) -> Iterator[bytes]:
        """Yield the decompressed content; `report` calls the progress function after each chunk."""
        self._refuse_other_kinds()
        try:
            with self.path.open("rb") as raw:
                stream = gzip.GzipFile(fileobj=raw) if self.is_gzip else raw
                while chunk := stream.read(CHUNK):
                    yield chunk
                    if report and self._progress:
                        self._progress(self.name, raw.tell(), max(self.size, raw.tell()))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise LogReadError(
                f"gzip is damaged: {error}", file=self.name, hint="copy it again; nothing of it was taken"
            ) from error
        except OSError as error:
            raise LogReadError(f"cannot be read: {error.strerror or error}", file=self.name) from error

    def length_hint(self) -> int:
        """Return the length of the content modulo 2^32; of a gzip of several members only the last one's."""
        if not self.is_gzip:
            return self.size % 2**32
        try:
            with self.path.open("rb") as stream:
                stream.seek(-4, 2)
                return int.from_bytes(stream.read(4), "little")
        except OSError:
            return -1  # shorter than a gzip can be: reading it will say so

    def digest(self) -> str:
        """Return the SHA-256 of the decompressed content."""
        sha = hashlib.sha256()
        for chunk in self.chunks():
            sha.update(chunk)
        return sha.hexdigest()

    def sample(self) -> list[bytes]:
        """Return the first lines that are not blank."""
        found: list[bytes] = []
        size = 0
        for line in LineReader(self.chunks()):
            if text := line.strip():
                found.append(text)
                size += len(text)
            if len(found) >= SAMPLE_LINES or size >= SAMPLE_BYTES:
                break
        return found

    def whole(self) -> bytes | None:
        """Return the content; None when it is larger than `DOCUMENT_LIMIT`."""
        parts: list[bytes] = []
        size = 0
        for chunk in self.chunks(report=True):
            size += len(chunk)
            if size > DOCUMENT_LIMIT:
                return None
            parts.append(chunk)
        return b"".join(parts)

    def choose(self, texts: Sequence[bytes], source: str) -> Format:
        """Return the format: the one named, else the one that fits the first lines.

        A file without any JSON object in its first lines is no log, unless it begins like one: then its lines are
        quarantined one by one as broken native ones (a file whose writer has just begun).
        """
        objects = [value for text in texts if isinstance(value := parse_object(text), dict)]
        if not objects and any(b"\x00" in text for text in texts):
            raise LogReadError("is a binary file", file=self.name, hint="logs are text, one JSON object a line")
        if source != "auto":
            return get(source)
        if not objects and texts[0].startswith(b"{"):
            return get("native")
        return detect(objects, file=self.name)

    def _refuse_other_kinds(self) -> None:
        for magic, kind in OTHER_KINDS.items():
            if self._head.startswith(magic):
                raise LogReadError(f"is {kind}", file=self.name, hint="convert it to UTF-8 NDJSON, plain or gzip")
        if self.path.suffix == ".gz" and self._head and not self.is_gzip:
            raise LogReadError("is named .gz and is no gzip file", file=self.name, hint="rename it when it is plain")
