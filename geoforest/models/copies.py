"""Copies of bundles: byte for byte into a folder, and a cache of those from elsewhere."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from geoforest.errors import BundleError
from geoforest.models.bundle import CARD_NAME, WEIGHTS_NAME, Bundle, load_bundle
from geoforest.storage import new_folder, write_durably

# A plain name that is not hidden: a zip may hold others, which lead elsewhere.
_BESIDE = re.compile(r"[\w-][\w .-]*")
_MAX_BESIDE_BYTES = 16 << 20


def copy_bundle(bundle: Bundle, folder: Path) -> None:
    """Write a bundle's files into a folder that is there, flushed to its disk.

    What lies beside weights and card goes with them, such as the text of a licence: files of at
    most 16 MB, no folders.

    Raises
    ------
    BundleError
        When the bundle changed since it was opened.
    """
    for name, data in _files(bundle.path):
        write_durably(folder / name, data)
    copy = load_bundle(folder)
    if (copy.sha256, copy.card) != (bundle.sha256, bundle.card):
        raise BundleError(f"{bundle.path}: changed while it was in use")


def save_copy(bundle: Bundle, out: str | os.PathLike[str]) -> Bundle:
    """Copy a bundle to a folder in one step: a reader sees all of it or nothing.

    Parameters
    ----------
    bundle
        A folder or a zip file.
    out
        Folder to make. A bundle that is there already is replaced, anything else is refused.

    Raises
    ------
    OutputError
        When ``out`` holds something other than a bundle, or cannot be written to.
    BundleError
        When the bundle changed since it was opened.
    """
    with new_folder(Path(out), mark=CARD_NAME, what="model bundle") as folder:
        copy_bundle(bundle, folder)
    return load_bundle(out)


def cached_bundle(
    key: Sequence[str] | None, make: Callable[[Path], object], *, shown: str
) -> Bundle:
    """Open a bundle in the cache, which is made on first use.

    Parameters
    ----------
    key
        What tells this bundle from any other, its version included. None where nobody can tell:
        then it is made each time, and kept under its content.
    make
        Makes the bundle folder it is given, and may put other files beside it.
    shown
        Where it comes from, for messages.

    Raises
    ------
    BundleError
        When what was made is no good bundle; nothing is kept then.
    """
    models = cache_folder() / "models"
    folder = None if key is None else models / cache_digest(key)
    if folder is not None and folder.is_dir():
        return load_bundle(folder)
    models.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=models) as partial:
        fresh = Path(partial) / "bundle"
        try:
            make(fresh)
            made = load_bundle(fresh)
        except BundleError as error:
            # The folder that it speaks of is about to go.
            raise BundleError(str(error).replace(partial, shown)) from error
        folder = folder or models / cache_digest((made.sha256, made.card.model_dump_json()))
        try:
            fresh.rename(folder)
        except OSError:
            # Another process may have been faster.
            if not folder.is_dir():
                raise
    return load_bundle(folder)


def cache_folder() -> Path:
    """``GEOFOREST_CACHE``, or ``geoforest`` in the user's cache; all in it can be had again."""
    chosen = os.environ.get("GEOFOREST_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "geoforest"


def cache_digest(key: Sequence[str]) -> str:
    """Name in the cache for what these words tell from anything else."""
    return hashlib.sha256("\0".join(key).encode()).hexdigest()[:32]


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each file that is copied."""
    if path.is_dir():
        for item in path.iterdir():
            if item.is_file() and _is_copied(item.name, item.stat().st_size):
                yield item.name, item.read_bytes()
        return
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if _is_copied(info.filename, info.file_size):
                yield info.filename, archive.read(info)


def _is_copied(name: str, size: int) -> bool:
    is_part = name in (WEIGHTS_NAME, CARD_NAME)
    return is_part or (_BESIDE.fullmatch(name) is not None and size <= _MAX_BESIDE_BYTES)
