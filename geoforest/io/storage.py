"""Files and folders on disk that appear completely or not at all, and locks of folders."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from geoforest.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

_CHECKSUM = "checksum"
_PREFIX = "of this document: "
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object from a file; None when it is absent or holds no JSON object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_durably(path: Path, data: bytes) -> None:
    """Write a file so that readers see all of it or none, even after a power cut.

    Several processes may write the same file: each has its own partial file.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.partial")
    try:
        with partial.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write an indented JSON object by :func:`write_durably`."""
    write_durably(path, (json.dumps(value, indent=2) + "\n").encode())


def sealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document with its checksum, by which :func:`is_unchanged` knows it again."""
    return {**document, _CHECKSUM: _checksum(document)}


def is_unchanged(document: Mapping[str, Any]) -> bool:
    """Check the checksum of a document. One of an earlier version, without a checksum, passes."""
    if _CHECKSUM in document:
        return bool(document[_CHECKSUM] == _checksum(document))
    return not is_sealed(document)


def is_sealed(document: Mapping[str, Any]) -> bool:
    """Check whether a document has a checksum, whatever became of the name of the field."""
    return any(str(value).startswith(_PREFIX) for value in document.values())


def _checksum(document: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in document.items() if name != _CHECKSUM}
    # As it is when it has been written and read.
    text = json.dumps(json.loads(json.dumps(rest)), sort_keys=True)
    return _PREFIX + hashlib.sha256(text.encode()).hexdigest()


def recorded_files(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return SHA-256 and size of files, by their names below a folder."""
    paths = {name: folder / name for name in names}
    return {
        name: {"sha256": file_sha256(path), "bytes": path.stat().st_size}
        for name, path in paths.items()
    }


def is_recorded(path: Path, recorded: object) -> bool:
    """Check whether a file is there, and is the one that :func:`recorded_files` saw."""
    return (
        isinstance(recorded, dict)
        and path.is_file()
        and path.stat().st_size == recorded.get("bytes")
        and file_sha256(path) == recorded.get("sha256")
    )


def file_sha256(path: Path) -> str:
    """Compute the SHA-256 of a file, in hex digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def replace_if_other(path: Path, write: Callable[[Path], None]) -> bool:
    """Write a file, but replace an existing one only if the bytes differ.

    Parameters
    ----------
    path
        File to write.
    write
        Writes the file to the given path, which has the same suffix.

    Returns
    -------
    bool
        Whether the file is new or was replaced.
    """
    partial = path.with_name(f".{path.stem}.new{path.suffix}")
    try:
        write(partial)
        if path.is_file() and file_sha256(path) == file_sha256(partial):
            return False
        flush(partial)
        partial.replace(path)
        return True
    finally:
        partial.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Flush a file to the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writable(path: Path, remedy: str = "") -> Iterator[None]:
    """Convert every OSError of the block, which writes a file or folder, to an OutputError.

    Raises
    ------
    OutputError
        When the operating system refuses, or the disk is full; the message ends in ``remedy``.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written to ({error.strerror or error}){remedy}"
        ) from error


def is_of_our_disk(error: BaseException) -> bool:
    """Check whether an error comes from a full or read-only disk, not from a server or a read."""
    return isinstance(error, OSError) and error.errno in _UNWRITABLE


# Files of the locks that this process holds. A process that it forks, such as one that loads chips,
# would hold them as well, and keep them when this one is killed.
_LOCKS: set[IO[Any]] = set()


def _close_locks() -> None:
    for handle in _LOCKS:
        handle.close()
    _LOCKS.clear()


os.register_at_fork(after_in_child=_close_locks)


@contextmanager
def held(handle: IO[Any]) -> Iterator[None]:
    """Hold the lock of an open file in this process alone, and close the file in the end."""
    _LOCKS.add(handle)
    try:
        yield
    finally:
        _LOCKS.discard(handle)
        handle.close()


@contextmanager
def exclusive_lock(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Lock an existing folder for one run; the system releases it if the process dies.

    Parameters
    ----------
    folder
        Folder to lock.
    wait
        Whether to wait until no other run holds it.

    Raises
    ------
    OutputError
        When another run holds it.
    """
    path = folder / "lock"
    handle = path.open("w")
    with held(handle):
        if wait:
            fcntl.flock(handle, fcntl.LOCK_EX)
        elif not _locked(handle.fileno()):
            raise OutputError(
                f"{folder}: another geoforest run is writing here; wait for it, "
                "or choose another --out"
            )
        if not path.exists():
            raise OutputError(f"{folder}: another run has just finished here; run again")
        yield


def is_locked(folder: Path) -> bool:
    """Check whether a run holds a folder. The check takes a shared lock for an instant."""
    try:
        with (folder / "lock").open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _locked(descriptor: int) -> bool:
    # Several tries: `is_locked` of another process holds the lock for an instant.
    for _ in range(5):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return True
    return False


def require_space(folder: Path, n_bytes: int) -> None:
    """Check that the disk of a folder has ``n_bytes`` free.

    Raises
    ------
    OutputError
        When it has less.
    """
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise OutputError(f"{folder}: {free >> 20:,} MB are free, {n_bytes >> 20:,} MB are wanted")
