"""Writes RAR archives, honest and hostile, as no free tool does. Files are stored, not compressed.

After the technical notes of RARLAB: RAR 5.0 (https://www.rarlab.com/technote.htm) and 4.x.
"""

from __future__ import annotations

import ctypes.util
import stat
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

needs_libarchive = pytest.mark.skipif(
    ctypes.util.find_library("archive") is None,
    reason="the system library libarchive is absent (apt install libarchive13)",
)

_UNIX_5, _UNIX_4 = 1, 3
_SYMLINK = 1


@dataclass(frozen=True)
class Entry:
    """A file in an archive.

    ``size`` is what its header says, when that is not the truth; ``link`` makes it a symbolic
    link; ``mode`` is that of Unix, with the kind of the file.
    """

    name: str
    data: bytes = b""
    size: int | None = None
    link: str | None = None
    mode: int = stat.S_IFREG | 0o644

    @property
    def stated_size(self) -> int:
        return len(self.data) if self.size is None else self.size


def write_rar(path: Path, entries: Iterable[Entry], *, version: int = 5) -> Path:
    """Write an archive of format 4 or 5."""
    parts = _rar5(entries) if version == 5 else _rar4(entries)
    path.write_bytes(b"".join(parts))
    return path


def _rar5(entries: Iterable[Entry]) -> Iterable[bytes]:
    yield b"Rar!\x1a\x07\x01\x00"
    yield _block5(_vint(1) + _vint(0) + _vint(0))
    for entry in entries:
        extra = b"" if entry.link is None else _link5(entry.link.encode())
        kind = _vint(2) + _vint(3 if extra else 2)  # data follow, and extra fields may be there
        sizes = (_vint(len(extra)) if extra else b"") + _vint(len(entry.data))
        yield _block5(kind + sizes + _file5(entry) + extra) + entry.data
    yield _block5(_vint(5) + _vint(0) + _vint(0))


def _block5(body: bytes) -> bytes:
    body = _vint(len(body)) + body
    return struct.pack("<I", zlib.crc32(body)) + body


def _file5(entry: Entry) -> bytes:
    name = entry.name.encode()
    flags = 5 if stat.S_ISDIR(entry.mode) else 4  # a CRC is there
    return b"".join(
        [
            *map(_vint, (flags, entry.stated_size, entry.mode)),
            struct.pack("<I", zlib.crc32(entry.data)),
            *map(_vint, (0, _UNIX_5, len(name))),  # stored
            name,
        ]
    )


def _link5(target: bytes) -> bytes:
    record = b"".join([*map(_vint, (5, _SYMLINK, 0, len(target))), target])
    return _vint(len(record)) + record


def _vint(number: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _rar4(entries: Iterable[Entry]) -> Iterable[bytes]:
    yield b"Rar!\x1a\x07\x00"
    yield _block4(0x73, 0, bytes(6))
    for entry in entries:
        name = entry.name.encode()
        data, size, mode = entry.data, entry.stated_size, entry.mode
        if entry.link is not None:
            data = entry.link.encode()
            size, mode = len(data), stat.S_IFLNK | 0o777
        # Sizes, system, CRC, time, version needed, stored, length of name, mode.
        numbers = (len(data), size, _UNIX_4, zlib.crc32(data), 0, 20, 0x30, len(name), mode)
        yield _block4(0x74, 0x8000, struct.pack("<IIBIIBBHI", *numbers) + name) + data
    yield _block4(0x7B, 0x4000, b"")


def _block4(kind: int, flags: int, header: bytes) -> bytes:
    body = struct.pack("<BHH", kind, flags, 7 + len(header)) + header
    return struct.pack("<H", zlib.crc32(body) & 0xFFFF) + body
