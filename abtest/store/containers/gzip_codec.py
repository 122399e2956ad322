"""gzip, read by Python: DuckDB takes a file with a wrong checksum."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from typing import BinaryIO, ClassVar

from abtest.store.containers.base import CHUNK, Codec, DamagedError


class Gzip(Codec):
    """gzip of one or several members; checksum and length are checked."""

    name: ClassVar[str] = "gzip"
    magic: ClassVar[bytes] = b"\x1f\x8b"
    suffixes: ClassVar[tuple[str, ...]] = (".gz",)

    def chunks(self, raw: BinaryIO) -> Iterator[bytes]:
        """Yield at most `CHUNK` bytes at a time."""
        stream = gzip.GzipFile(fileobj=raw)
        try:
            while chunk := stream.read(CHUNK):
                yield chunk
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DamagedError(str(error)) from error


CODEC = Gzip()
