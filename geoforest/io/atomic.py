"""Folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geoforest.errors import OutputError


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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written to ({error.strerror or error})") from error
    try:
        yield partial
        if path.exists():
            shutil.rmtree(path)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
