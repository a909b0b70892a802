"""Files and folders on disk that appear completely or not at all, and free space."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from geoforest.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator
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
def new_folder(path: Path, *, mark: str, what: str) -> Iterator[Path]:
    """Fill a folder under a temporary name, and rename it at the end.

    Parameters
    ----------
    path
        Folder to make. An existing one of the same kind is replaced.
    mark
        Name of a file that every folder of this kind has.
    what
        Name of the kind, for messages.

    Yields
    ------
    pathlib.Path
        The folder to fill.

    Raises
    ------
    OutputError
        When ``path`` exists and is of another kind, or cannot be written to.
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
