"""Files and folders on disk that appear whole or not at all, and belong to one run at a time."""

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
    """Read a JSON object from a file; None when the file is absent or holds something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_durably(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees all of it or none, even after a power cut.

    Several may write the same file at once: each has a partial file of its own.
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
    """Write a JSON object as :func:`write_durably` does, indented for people."""
    write_durably(path, (json.dumps(value, indent=2) + "\n").encode())


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def replace_if_other(path: Path, write: Callable[[Path], None]) -> bool:
    """Make a file, and put it in place where its bytes are other than those that are there.

    Parameters
    ----------
    path
    write
        Makes the file under the name that it is given, of the same suffix.

    Returns
    -------
    bool
        Whether it was put in place.
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
    """Wait until a file is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writable(path: Path, remedy: str = "") -> Iterator[None]:
    """Tell of all that goes wrong in writing a file or folder in one sentence.

    Raises
    ------
    OutputError
        When the operating system refuses, or the disk is full; ``remedy`` ends the sentence.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written to ({error.strerror or error}){remedy}"
        ) from error


def is_of_our_disk(error: BaseException) -> bool:
    """Whether an error is of the disk that is written to: no server, no file read, fails so."""
    return isinstance(error, OSError) and error.errno in _UNWRITABLE


@contextmanager
def new_folder(path: Path, *, mark: str, what: str) -> Iterator[Path]:
    """Fill a folder under another name and put it in place at the end.

    Parameters
    ----------
    path
        Folder to make. One of the same kind that is there already is replaced.
    mark
        File name by which a folder of this kind is known.
    what
        The kind, for messages.

    Yields
    ------
    pathlib.Path
        The folder to fill.

    Raises
    ------
    OutputError
        When ``path`` is something of another kind, or cannot be written to.
    """
    if path.exists() and not (path / mark).is_file():
        raise OutputError(f"{path}: exists and is no {what}; choose another name")
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
        try:
            yield partial
            if path.exists():
                shutil.rmtree(path)
            partial.rename(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def exclusive_lock(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder, which must be there, for one run; the system frees it if the process dies.

    Parameters
    ----------
    folder
        To be held.
    wait
        Until no other run holds it.

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
    """Whether a run holds a folder. Looking takes a shared lock for an instant."""
    try:
        with (folder / "lock").open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _locked(descriptor: int) -> bool:
    # More than one try: whoever only looks holds the lock for an instant, too.
    for _ in range(5):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return True
    return False


def require_space(folder: Path, n_bytes: int) -> None:
    """Refuse a folder whose disk has not ``n_bytes`` free.

    Raises
    ------
    OutputError
        With what is free and what is wanted.
    """
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise OutputError(f"{folder}: {free >> 20:,} MB are free, {n_bytes >> 20:,} MB are wanted")
