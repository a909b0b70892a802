"""Files that an earlier run wrote: as written, opened by another program, or edited by hand."""

from __future__ import annotations

import shutil
import sqlite3
import warnings
from contextlib import suppress
from itertools import chain, count
from typing import TYPE_CHECKING, Any, Final, Literal

from geoforest.errors import GeoforestWarning, InputError
from geoforest.io.sqlite import (
    content_sha256,
    journals,
    read_database,
    settled,
    sha256_of_pages,
)
from geoforest.io.storage import file_sha256, flush

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

# GeoPackages of ours have this time of change, so that equal content gives equal bytes.
PINNED_TIME: Final = "2000-01-01T00:00:00.000Z"
State = Literal["as written", "opened", "changed"]


def record_of(path: Path) -> dict[str, Any]:
    """Return what is recorded of a finished file: ``sha256``, ``bytes``, and that of databases.

    A GeoPackage has ``content_sha256``, too; see :func:`content_sha256`.
    """
    recorded = {"sha256": file_sha256(path), "bytes": path.stat().st_size}
    if path.suffix == ".gpkg":
        recorded["content_sha256"] = sha256_of_pages(path)
    return recorded


def state_of(path: Path, recorded: Mapping[str, Any]) -> State:
    """Compare a file with what :func:`record_of` returned when it was written.

    Returns
    -------
    str
        ``opened`` is a database that another program has or had open, with the same content.
    """
    same = file_sha256(path) == recorded.get("sha256")
    beside = any(one.is_file() for one in journals(path)[:2])
    if path.suffix != ".gpkg" or (same and not beside):
        return "as written" if same else "changed"
    content = recorded.get("content_sha256")
    if content is None and same:  # recorded by an earlier version
        content = sha256_of_pages(path)
    with suppress(InputError):
        if content is not None and content_sha256(path) == content:
            return "opened"
    return "changed"


def recorded_files(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the :func:`record_of` files, by their names below a folder."""
    return {name: record_of(folder / name) for name in names}


def is_recorded(path: Path, recorded: object) -> bool:
    """Check whether a file is there and has the content that :func:`record_of` saw."""
    return isinstance(recorded, dict) and path.is_file() and state_of(path, recorded) != "changed"


def replace_if_other(path: Path, write: Callable[[Path], None]) -> bool:
    """Write a file, but replace an existing one only if the content differs.

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
        if path.is_file() and state_of(path, record_of(partial)) != "changed":
            return False
        flush(partial)
        if path.suffix == ".gpkg":
            set_aside_edited(path)
        partial.replace(path)
        return True
    finally:
        partial.unlink(missing_ok=True)


def set_aside_edited(path: Path) -> None:
    """Prepare the place of a GeoPackage for a new one: keep an older one of ours that was edited.

    It is copied beside it, with what its journals hold, and a warning says so.
    """
    if path.is_file() and was_edited(path):
        kept = name_for_edited(path, {one.name for one in path.parent.iterdir()})
        keep_copy(path, path.with_name(kept))
        warnings.warn(edited_note(path, kept), GeoforestWarning, stacklevel=2)
    # Journals belong to the old file, which another program may have open.
    for journal in journals(path):
        journal.unlink(missing_ok=True)


def keep_copy(path: Path, kept: Path) -> None:
    """Copy a file, of a database with what its journals hold, in one step."""
    partial = kept.with_name(f".{kept.name}.partial")
    with settled(path) as plain:
        shutil.copyfile(plain.path, partial)
    flush(partial)
    partial.replace(kept)


def name_for_edited(path: Path, taken: Collection[str]) -> str:
    """Return a new name for a file that was edited.

    Examples
    --------
    >>> from pathlib import Path
    >>> name_for_edited(Path("forest.gpkg"), {"forest.gpkg", "forest_edited.gpkg"})
    'forest_edited_2.gpkg'
    """
    ends = chain([""], (f"_{number}" for number in count(2)))
    names = (f"{path.stem}_edited{end}{path.suffix}" for end in ends)
    return next(name for name in names if name not in taken)


def edited_note(path: object, kept: str) -> str:
    """Return the sentence that tells of an edited file."""
    return f"{path}: was edited since it was made; the edited file was kept as {kept}"


def was_edited(path: Path) -> bool:
    """Check whether a program changed features of a GeoPackage of ours: GDAL notes the time."""
    try:
        with read_database(path) as database:
            rows = database.execute("SELECT last_change FROM gpkg_contents").fetchall()
    except (InputError, sqlite3.Error):
        return False
    return any(time != PINNED_TIME for (time,) in rows)
