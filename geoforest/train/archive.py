"""Unpack chosen files of an untrusted RAR archive with libarchive."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from geoforest.errors import DataError, InputError, WriteError
from geoforest.io.storage import require_space

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# Only these formats: other readers of libarchive open further files that the archive names.
_FORMATS: Final = {b"Rar!\x1a\x07\x00": "rar", b"Rar!\x1a\x07\x01\x00": "rar5"}
_BLOCK: Final = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Limits that no honest archive of the set exceeds.

    Attributes
    ----------
    entries
        Number of files and folders, wanted or not.
    file_bytes, total_bytes
        Size of one wanted file and of all of them, unpacked.
    name_length
        Characters of a name, its folders included.
    """

    entries: int = 20_000
    file_bytes: int = 64 << 20
    total_bytes: int = 16 << 30
    name_length: int = 255


@dataclass(frozen=True)
class Unpacked:
    """SHA-256 (hexadecimal) and size in bytes of an unpacked file."""

    sha256: str
    bytes: int


def require_libarchive() -> Any:
    """Import and return libarchive.

    Raises
    ------
    InputError
        When the Python package or the system library is absent, with how to install it.
    """
    try:
        import libarchive
    except ImportError as error:
        raise InputError(
            'unpacking needs the Python package libarchive-c: pip install "geoforest[fetch]"'
        ) from error
    except (OSError, AttributeError, TypeError) as error:  # ctypes raises these, by system
        raise InputError(
            "unpacking needs the system library libarchive: apt install libarchive13, "
            "brew install libarchive, or conda install libarchive"
        ) from error
    return libarchive


def unpack_rar(
    archive: Path,
    target: Path,
    place: Callable[[str], str | None],
    *,
    limits: Limits = Limits(),
) -> dict[str, Unpacked]:
    """Unpack the wanted regular files to the paths that ``place`` returns.

    All headers are checked before the first byte is written.

    Parameters
    ----------
    archive
        RAR 4 or 5.
    target
        Empty folder for the files; subfolders are created.
    place
        Function from a name in the archive, with ``/``, to a path below ``target``, or None for
        a file that is not wanted.
    limits
        An archive that exceeds them is refused.

    Returns
    -------
    dict of str to Unpacked
        Digest and size by path below ``target``.

    Raises
    ------
    DataError
        When the file is not a RAR archive, is damaged, or holds names that lead out of it, links,
        devices, one file twice, or more than the limits.
    InputError
        When libarchive is absent.
    OutputError
        When the disk has too little room.
    WriteError
        When the disk is full while files are written.
    """
    with _open_archive(archive) as entries:
        declared = [entry.size for entry, _ in _wanted_entries(archive, entries, place, limits)]
    if sum(declared) > limits.total_bytes:
        raise DataError(f"{archive}: {sum(declared)} bytes unpacked; refused as a bomb")
    require_space(target, sum(declared))
    with _open_archive(archive) as entries:
        return {
            path: _write_entry(archive, entry, target / path)
            for entry, path in _wanted_entries(archive, entries, place, limits)
        }


@contextmanager
def _open_archive(archive: Path) -> Iterator[Any]:
    libarchive = require_libarchive()
    with archive.open("rb") as handle:
        start = handle.read(max(map(len, _FORMATS)))
    kind = next((name for magic, name in _FORMATS.items() if start.startswith(magic)), None)
    if kind is None:
        raise DataError(f"{archive}: not a RAR archive")
    try:
        with libarchive.file_reader(str(archive), format_name=kind, filter_name="none") as entries:
            yield entries
    except libarchive.ArchiveError as error:
        raise DataError(
            f"{archive}: damaged, or of a kind that libarchive cannot read ({error.msg!r})"
        ) from error


def _wanted_entries(
    archive: Path, entries: Any, place: Callable[[str], str | None], limits: Limits
) -> Iterator[tuple[Any, str]]:
    """Yield wanted entries and their paths; refuse the archive at the first bad entry."""
    taken: set[str] = set()
    for number, entry in enumerate(entries):
        name = _safe_name(archive, entry, limits)
        if number >= limits.entries:
            raise DataError(f"{archive}: more than {limits.entries} entries; refused as a bomb")
        if entry.isdir:
            continue
        if entry.islnk or not entry.isreg:
            raise DataError(f"{archive}: {name!r} is a link or a device; regular files were wanted")
        path = place(name)
        if path is None:
            continue
        # Some file systems do not distinguish upper and lower case.
        if path.casefold() in taken:
            raise DataError(f"{archive}: {name!r} is there twice")
        taken.add(path.casefold())
        if entry.size is None or not 0 <= entry.size <= limits.file_bytes:
            raise DataError(
                f"{archive}: {name!r}: its size is {entry.size}; at most {limits.file_bytes} bytes "
                "were wanted"
            )
        yield entry, path


def _safe_name(archive: Path, entry: Any, limits: Limits) -> str:
    raw = entry.pathname
    if not isinstance(raw, str) or len(raw) > limits.name_length:
        raise DataError(f"{archive}: a name in it is too long, or cannot be read: {raw!r:.80}")
    name = raw.replace("\\", "/")
    if name.startswith("/") or name[1:2] == ":" or ".." in name.split("/") or "\0" in name:
        raise DataError(f"{archive}: the name {raw!r} leads out of the archive")
    return name


def _write_entry(archive: Path, entry: Any, path: Path) -> Unpacked:
    """Write one entry; refuse one that is longer or shorter than its header says."""
    digest, written = hashlib.sha256(), 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as target:
            for block in entry.get_blocks(_BLOCK):
                written += len(block)
                if written > entry.size:
                    break
                target.write(block)
                digest.update(block)
            target.flush()
            os.fsync(target.fileno())
    except OSError as error:
        raise WriteError(f"{path}: cannot be written ({error.strerror or error})") from error
    if written != entry.size:
        raise DataError(f"{archive}: {path.name!r} is not as long as its header says")
    return Unpacked(digest.hexdigest(), written)
