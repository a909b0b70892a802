"""Files and folders that commands leave: made beside their place, and put there in one step.

A killed run leaves the old result or the new one, and a hidden folder beside it, which the next run
of the same command removes.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import uuid
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Final

from geoforest.errors import OutputError
from geoforest.io.storage import flush, held, writable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOCK_NAME: Final = "lock"
_BEFORE_NAME: Final = "before"
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2


@contextmanager
def staging(path: Path) -> Iterator[Path]:
    """Make a hidden folder beside ``path`` for one run, and remove those of runs that died.

    A lock, which the system releases when the process dies, tells the living from the dead. On a
    file system without locks nothing of other runs is removed.

    Parameters
    ----------
    path
        File or folder that will be made. Its parent is created.

    Yields
    ------
    pathlib.Path
        The folder, on the file system of ``path``; it is removed in the end.

    Raises
    ------
    OSError
        When the folder cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder, lock = _make_locked(path)
    with held(lock):
        try:
            for other in _others(path):
                if other != folder:
                    _remove_dead(other, path)
            yield folder
        finally:
            _remove(folder)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Write a file under a temporary name of the same suffix, flush it, and rename it at the end.

    Parameters
    ----------
    path
        File to make; an existing one is replaced.

    Yields
    ------
    pathlib.Path
        The file to write.

    Raises
    ------
    OSError
        When the file cannot be made.
    """
    with staging(path) as folder:
        made = folder / path.name
        yield made
        flush(made)
        made.replace(path)
        _flush_folder(path.parent)


def write_file(path: Path, data: bytes) -> None:
    """Write the whole content of a file by :func:`new_file`."""
    with new_file(path) as made:
        made.write_bytes(data)


@contextmanager
def new_folder(path: Path, *, mark: str, what: str) -> Iterator[Path]:
    """Fill a folder under a temporary name, flush it, and put it in its place at the end.

    Parameters
    ----------
    path
        Folder to make. An existing one of the same kind is replaced in one step.
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
    refuse_other_folder(path, mark=mark, what=what)
    with writable(path), staging(path) as folder:
        made = folder / path.name
        made.mkdir()
        yield made
        _flush_tree(made)
        _put_in_place(made, path, folder / _BEFORE_NAME)
        _flush_folder(path.parent)


def died_before(path: Path) -> bool:
    """Return whether a run died while it had a :func:`staging` folder for ``path``."""
    return any(map(_is_dead, _others(path)))


def refuse_other_folder(path: Path, *, mark: str, what: str) -> None:
    """Refuse a path that exists and is of another kind; see :func:`new_folder`.

    Raises
    ------
    OutputError
        When it is.
    """
    if path.exists() and not (path / mark).is_file():
        raise OutputError(f"{path}: exists and is no {what}; choose another name")


def _put_in_place(made: Path, path: Path, before: Path) -> None:
    """Replace a folder by another one; the old one stays under the name of either."""
    if not path.exists():
        made.rename(path)
    elif not _exchange(made, path):
        # Should the process die in between, the next run takes the old folder back.
        path.rename(before)
        made.rename(path)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; return False where the system cannot."""
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if exchange is None:
        return False
    names = [os.fsencode(one.absolute()), os.fsencode(other.absolute())]
    return int(exchange(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE)) == 0


def _make_locked(path: Path) -> tuple[Path, IO[bytes]]:
    """Make a folder with a locked file in it."""
    while True:
        folder = path.with_name(f"{_prefix(path)}{uuid.uuid4().hex[:12]}")
        folder.mkdir()
        # Until it is locked, another run may take it for that of a dead one.
        with suppress(FileNotFoundError):
            lock = (folder / _LOCK_NAME).open("wb")
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            if (folder / _LOCK_NAME).exists():
                return folder, lock
            lock.close()


def _others(path: Path) -> list[Path]:
    """List the staging folders of all runs."""
    if not path.parent.is_dir():
        return []
    return [one for one in path.parent.iterdir() if one.name.startswith(_prefix(path))]


def _is_dead(folder: Path) -> bool:
    try:
        with (folder / _LOCK_NAME).open("rb+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _prefix(path: Path) -> str:
    return f".{path.name}.partial-"


def _remove_dead(folder: Path, path: Path) -> None:
    """Remove the staging folder of another run if that run died."""
    try:
        with (folder / _LOCK_NAME).open("rb+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not path.exists() and (folder / _BEFORE_NAME).exists():
                (folder / _BEFORE_NAME).rename(path)
            _remove(folder)
    except FileNotFoundError:
        # Its run died before it had a lock, or has just begun, and then makes another one.
        with suppress(OSError):
            folder.rmdir()
    except OSError:  # it is locked: its run lives; or nothing can be
        pass


def _remove(folder: Path) -> None:
    """Remove a staging folder, the lock last: without it nobody could tell that its run died."""
    with suppress(OSError):
        for item in folder.iterdir():
            if item.is_dir() and not item.is_symlink():
                shutil.rmtree(item, ignore_errors=True)
            elif item.name != _LOCK_NAME:
                item.unlink(missing_ok=True)
        (folder / _LOCK_NAME).unlink(missing_ok=True)
        folder.rmdir()


def _flush_tree(folder: Path) -> None:
    for item in folder.rglob("*"):
        if item.is_file():
            flush(item)
        else:
            _flush_folder(item)
    _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    # Not every file system can; the name is then as safe as it gets.
    with suppress(OSError):
        flush(folder)
