"""SQLite files, such as GeoPackages, read whole: with what programs left in their journals."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import tempfile
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from geoforest.errors import InputError
from geoforest.io.locks import locks_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MAGIC: Final = b"SQLite format 3\0"
_HEADER_BYTES: Final = 100
# Version of the journal: 1 is a rollback journal, 2 a write-ahead log.
_JOURNAL: Final = slice(18, 20)
# Counter of changes, and which library wrote last: to open a file may change them.
_COUNTERS: Final = (slice(24, 28), slice(92, 100))
_TRIES, _PAUSE_S = 5, 0.2


@dataclass(frozen=True)
class Settled:
    """A file that holds all that was saved to it.

    Attributes
    ----------
    path
        The file itself, or a temporary copy into which its journals were merged.
    note
        Sentence for the user when saved changes may be missing, otherwise empty.
    """

    path: Path
    note: str


def journals(path: Path) -> list[Path]:
    """List the files that SQLite keeps beside a database while it is in use."""
    return [Path(f"{path}{suffix}") for suffix in ("-journal", "-wal", "-shm")]


@contextmanager
def settled(path: Path) -> Iterator[Settled]:
    """Make a file readable whole, and leave nothing beside it; other files are left as they are.

    SQLite in WAL mode saves into a file beside the database. Programs that may not write there,
    or that find the database alone, read it without these changes and say nothing.

    Parameters
    ----------
    path
        Any file. A database with journals is copied with them into a temporary folder.

    Raises
    ------
    InputError
        When it cannot be read, is damaged, or another program does not stop writing it.
    """
    if path.is_dir():
        yield Settled(path, "")
        return
    try:
        with path.open("rb") as handle:
            header = handle.read(_HEADER_BYTES)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    beside = [one for one in journals(path)[:2] if one.is_file() and one.stat().st_size]
    logs = 2 in header[_JOURNAL]
    if not header.startswith(_MAGIC) or not (logs or beside):
        yield Settled(path, "")
        return
    log = Path(f"{path}-wal")
    note = ""
    if logs and not log.exists():
        note = (
            f"{path}: was left in SQLite's WAL mode, and {log.name} is not beside it; if it was "
            "copied while another program, such as QGIS, had it open, the last edits are missing: "
            "save and close it there, and copy it again"
        )
    with tempfile.TemporaryDirectory(prefix="geoforest-") as name:
        copy = Path(name) / path.name
        try:
            _copy_together([path, *beside], Path(name))
            with closing(sqlite3.connect(copy)) as database:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                database.execute("PRAGMA journal_mode = DELETE")
        except OSError as error:
            raise InputError(
                f"{path}: is in use, and cannot be copied to {name} to be read "
                f"({error.strerror or error}); close it in other programs"
            ) from error
        except sqlite3.Error as error:
            raise InputError(f"{path}: is damaged as a database ({error})") from error
        yield Settled(copy, note)


def _copy_together(paths: Sequence[Path], folder: Path) -> None:
    """Copy files at one moment: again when another program wrote meanwhile."""

    def stamps() -> list[tuple[int, int]]:
        return [(one.stat().st_size, one.stat().st_mtime_ns) for one in paths]

    for _ in range(_TRIES):
        before = stamps()
        for one in paths:
            shutil.copyfile(one, folder / one.name)
        if stamps() == before:
            return
        time.sleep(_PAUSE_S)
    raise InputError(f"{paths[0]}: another program is writing it; close it there first")


@contextmanager
def read_database(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database for reading, with what its journals hold; see :func:`settled`.

    It can also be read where the file system cannot lock.
    """
    with settled(path) as plain:
        options = "mode=ro" if locks_records(plain.path.parent) else "mode=ro&nolock=1"
        uri = f"{plain.path.absolute().as_uri()}?{options}"
        with closing(sqlite3.connect(uri, uri=True)) as database:
            yield database


def content_sha256(path: Path) -> str:
    """Compute the SHA-256 of a database without what changes when a program only opens it.

    Left out are the header's journal mode, counters of changes and version of the library;
    journals beside it are taken in. Other files are hashed as they are.

    Raises
    ------
    InputError
        When :func:`settled` raises it.
    """
    with settled(path) as plain:
        return sha256_of_pages(plain.path)


def sha256_of_pages(path: Path) -> str:
    """Compute the SHA-256 of :func:`content_sha256` of a file alone, without its journals."""
    with path.open("rb") as handle:
        header = bytearray(handle.read(_HEADER_BYTES))
        if header.startswith(_MAGIC) and len(header) == _HEADER_BYTES:
            header[_JOURNAL] = b"\1\1"
            for place in _COUNTERS:
                header[place] = bytes(place.stop - place.start)
        digest = hashlib.sha256(header)
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
