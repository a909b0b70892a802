"""Locks of folders, and file systems that cannot lock: shares (CIFS, NFS), mounted buckets."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
import warnings
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from geoforest.errors import GeoforestWarning, OutputError
from geoforest.io.storage import held

if TYPE_CHECKING:
    from collections.abc import Iterator

_TRIES = 5


@contextmanager
def exclusive_lock(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Lock an existing folder for one run; the system releases it if the process dies.

    Where its file system cannot lock, a file on this machine is locked in its place, with a
    warning: only runs on this machine are then kept apart.

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
    with ExitStack() as opened:
        try:
            handle = path.open("w")
            opened.enter_context(held(handle))
            free = _lock(handle, wait=wait)
        except OSError as error:
            # A refusal of the lock; the file itself could be opened, or the message would name it.
            if error.filename is not None:
                raise
            warnings.warn(
                f"{folder}: this file system cannot lock ({error.strerror}); start no other run "
                "with this folder on another machine meanwhile",
                GeoforestWarning,
                stacklevel=2,
            )
            stand_in = open(_stand_in(folder), "a", opener=_no_link)  # noqa: SIM115 (held closes it)
            opened.enter_context(held(stand_in))
            free = _lock(stand_in, wait=wait)
        if not free:
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
        return _held(folder / "lock")
    except FileNotFoundError:
        return False
    except OSError:
        try:
            return _held(_stand_in(folder))
        except OSError:
            return False


def locks_records(folder: Path) -> bool:
    """Check whether parts of files in a folder can be locked, which SQLite needs to write or read.

    A folder that cannot be written to counts as one.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as handle:
            try:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
    except OSError:
        return True
    return True


@contextmanager
def lockable(path: Path) -> Iterator[Path]:
    """Yield where to make an SQLite file that a caller then copies: the path itself, if possible.

    Where its file system cannot lock, that is a file of the same suffix on this machine.
    """
    if locks_records(path.parent):
        yield path
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / f"made{path.suffix}"


def _lock(handle: IO[str], *, wait: bool) -> bool:
    """Lock an open file; False when another process holds it."""
    if wait:
        fcntl.flock(handle, fcntl.LOCK_EX)
        return True
    # Several tries: `is_locked` of another process holds the lock for an instant.
    for _ in range(_TRIES):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return True
    return False


def _held(path: Path) -> bool:
    with path.open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _no_link(path: str, flags: int) -> int:
    # Anybody may write into the folder of temporary files.
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _stand_in(folder: Path) -> Path:
    """Return the file on this machine that is locked in place of a folder."""
    # Not in TMPDIR, which batch systems set for each job.
    home = Path("/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir())
    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]
    return home / f"geoforest-{os.getuid()}-{name}.lock"
