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
from typing import TYPE_CHECKING, Any

from geoforest.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

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
    with path.open("w") as handle:
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
