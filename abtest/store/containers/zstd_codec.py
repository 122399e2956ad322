"""zstd. The package's stream reader takes a cut-off file for a whole one, so frames are walked here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, ClassVar

from abtest.store.containers.base import CHUNK, Codec, DamagedError

FEED = 1024
"""Bytes unpacked at once. 4 bytes can stand for 128 KB: more at a time would not be bounded memory."""


class Zstd(Codec):
    """zstd of one or several frames; every frame must end, and fit its checksum when it has one."""

    name: ClassVar[str] = "zstd"
    magic: ClassVar[bytes] = b"\x28\xb5\x2f\xfd"
    suffixes: ClassVar[tuple[str, ...]] = (".zst", ".zstd")

    def chunks(self, raw: BinaryIO) -> Iterator[bytes]:
        """Yield about `CHUNK` bytes at a time."""
        parts: list[bytes] = []
        size = 0
        for part in _unpacked(raw):
            parts.append(part)
            size += len(part)
            if size >= CHUNK:
                yield b"".join(parts)
                parts, size = [], 0
        if parts:
            yield b"".join(parts)


def _unpacked(raw: BinaryIO) -> Iterator[bytes]:
    import zstandard

    unpacker = zstandard.ZstdDecompressor()
    frame = None
    try:
        while packed := raw.read(FEED):
            while packed:
                frame = frame or unpacker.decompressobj()
                if part := frame.decompress(packed):
                    yield part
                packed = b""
                if frame.eof:
                    packed, frame = frame.unused_data, None
    except zstandard.ZstdError as error:
        raise DamagedError(str(error)) from error
    if frame is not None:
        raise DamagedError("it ends before its last frame does")


CODEC = Zstd()
