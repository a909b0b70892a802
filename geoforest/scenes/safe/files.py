"""Files of an untrusted product, in a folder or in a zip archive that stays packed."""

from __future__ import annotations

import os
import zipfile
import zlib
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from geoforest.errors import SceneError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# No real product exceeds these limits: one of 15 tiles has some 2,000 files, and the largest, a
# band of 10980 x 10980 px unpacked to four bytes per pixel, has 482 MB.
MAX_FILES: Final = 20_000
MAX_FILE_BYTES: Final = 1 << 30
MAX_TOTAL_BYTES: Final = 32 << 30
# The methods that GDAL, too, can unpack while it reads.
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED_OR_PATCHED: Final = 0x1 | 0x20 | 0x40
# ValueError: names that are not UTF-8, or negative offsets in the archive.
_UNREADABLE: Final = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class ProductFiles:
    """The files below the root of a product.

    Attributes
    ----------
    root
        Path of the root for GDAL and for messages.
    names
        Paths of the files relative to the root, with ``/``.
    """

    root: str
    names: frozenset[str]
    _opened: Callable[[str], AbstractContextManager[IO[bytes]]]

    def path(self, name: str) -> str:
        """Return the path of a file for GDAL."""
        return f"{self.root}/{name}"

    def read_start(self, name: str, most_bytes: int) -> bytes:
        """Read at most the first ``most_bytes`` of a file, without trusting its stated size.

        Raises
        ------
        SceneError
            When it cannot be read or unpacked.
        """
        try:
            with self._opened(name) as source:
                return source.read(most_bytes)
        except _UNREADABLE as error:
            raise SceneError(f"{self.path(name)}: cannot be read ({error!s:.80})") from error

    def read_whole(self, name: str, most_bytes: int) -> bytes:
        """Read a file of at most ``most_bytes``.

        Raises
        ------
        SceneError
            When it cannot be read, or is larger.
        """
        data = self.read_start(name, most_bytes + 1)
        if len(data) > most_bytes:
            raise SceneError(
                f"{self.path(name)}: has more than {most_bytes} bytes; a smaller file was wanted"
            )
        return data


def folder_files(root: Path) -> ProductFiles:
    """List the files of a folder and its subfolders; links to folders are not followed.

    Raises
    ------
    SceneError
        When there are more than :data:`MAX_FILES`.
    """
    names: set[str] = set()
    for folder, _, files in os.walk(root):
        names |= {(Path(folder) / file).relative_to(root).as_posix() for file in files}
        if len(names) > MAX_FILES:
            raise SceneError(f"{root}: more than {MAX_FILES} files; one product was wanted")
    return ProductFiles(str(root), frozenset(names), lambda name: (root / name).open("rb"))


def zip_names(archive: Path) -> frozenset[str]:
    """List the files of a zip archive after checking all its entries.

    Raises
    ------
    SceneError
        When it is not a zip archive, is truncated or exceeds the limits, or when it has names that
        lead out of it, duplicate names, encrypted files, or files that overlap each other.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            entries = zipped.infolist()
    except (*_UNREADABLE, NotImplementedError) as error:
        raise SceneError(f"{archive}: no zip archive, or cut off ({error!s:.80})") from error
    if len(entries) > MAX_FILES:
        raise SceneError(f"{archive}: more than {MAX_FILES} files; refused as a bomb")
    for entry in entries:
        _check_entry(archive, entry)
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > MAX_TOTAL_BYTES:
        raise SceneError(f"{archive}: {unpacked} bytes unpacked; refused as a bomb")
    if sum(entry.compress_size for entry in entries) > archive.stat().st_size:
        raise SceneError(f"{archive}: files in it lie over each other; refused as a bomb")
    if len({entry.filename for entry in entries}) < len(entries):
        raise SceneError(f"{archive}: holds a file twice under one name")
    return frozenset(entry.filename for entry in entries if not entry.is_dir())


def zip_files(archive: Path, root: str) -> ProductFiles:
    """List the files below a folder of a zip archive; ``root`` is ``""`` for the top.

    Raises
    ------
    SceneError
        As for :func:`zip_names`.
    """
    prefix = f"{root}/" if root else ""
    names = {name.removeprefix(prefix) for name in zip_names(archive) if name.startswith(prefix)}

    @contextmanager
    def opened(name: str) -> Iterator[IO[bytes]]:
        with zipfile.ZipFile(archive) as zipped, zipped.open(prefix + name) as source:
            yield source

    path = f"/vsizip/{archive}/{root}".rstrip("/")
    return ProductFiles(path, frozenset(names), opened)


def _check_entry(archive: Path, entry: zipfile.ZipInfo) -> None:
    name = entry.orig_filename
    parts = name.removesuffix("/").split("/")
    outside = "\\" in name or ".." in parts or "" in parts or name[1:2] == ":"
    if outside or not name.isprintable():
        raise SceneError(
            f"{archive}: the name {name!r:.80} leads out of the archive, or is not printable"
        )
    if entry.flag_bits & _ENCRYPTED_OR_PATCHED:
        raise SceneError(f"{archive}: {name!r:.80} is encrypted, or a patch to another file")
    if entry.compress_type not in _METHODS:
        raise SceneError(
            f"{archive}: {name!r:.80} is packed by method {entry.compress_type}; stored or "
            "deflated files were wanted"
        )
    if entry.file_size > MAX_FILE_BYTES:
        raise SceneError(
            f"{archive}: {name!r:.80} has {entry.file_size} bytes unpacked; refused as a bomb"
        )
