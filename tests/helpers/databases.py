"""GeoPackages as other programs leave them: edited, in WAL mode, with their log and without."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

_TRIGGERS = ("ST_IsEmpty", "ST_MinX", "ST_MaxX", "ST_MinY", "ST_MaxY")


def connect(path: Path) -> sqlite3.Connection:
    """Open a GeoPackage with the functions that its triggers call."""
    database = sqlite3.connect(path)
    for name in _TRIGGERS:
        database.create_function(name, 1, lambda geometry: 0)
    return database


def edit(path: Path, *statements: str) -> None:
    """Edit as a program that closes the file when it is done."""
    with closing(connect(path)) as database, database:
        for statement in statements:
            database.execute(statement)


def look(path: Path) -> None:
    """Open and close as QGIS does: into WAL mode and back."""
    with closing(connect(path)) as database:
        assert database.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
        database.execute("SELECT count(*) FROM gpkg_contents").fetchone()
        assert database.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)


def edit_into_log(path: Path, *statements: str) -> None:
    """Edit as a program that was killed: the edits are in the log beside the file."""
    copy = path.with_name("being-edited.gpkg")
    shutil.copyfile(path, copy)
    with closing(connect(copy)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA wal_autocheckpoint = 0")
        for statement in statements:
            database.execute(statement)
        database.commit()
        shutil.copyfile(copy, path)
        shutil.copyfile(f"{copy}-wal", f"{path}-wal")
    for one in copy.parent.glob(f"{copy.name}*"):
        one.unlink()


def files_beside(path: Path) -> list[str]:
    return sorted(one.name for one in path.parent.glob(f"{path.name}*"))
