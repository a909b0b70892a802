"""Cache of downloaded, converted and measured files; all of it can be made again."""

from __future__ import annotations

import hashlib
import os
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from geoforest.io.publication import staging
from geoforest.io.storage import writable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


def kept_folder(
    kind: str, key: Sequence[str] | None, make: Callable[[Path], Sequence[str]]
) -> Path:
    """Return the path of a folder in the cache, which is made on first use.

    Parameters
    ----------
    kind
        Subfolder of the cache.
    key
        Words that identify the content; None where ``make`` alone knows them.
    make
        Makes the folder at the given path, may write other files beside it, returns the key.

    Raises
    ------
    OutputError
        When the cache cannot be written to.
    """
    home = cache_folder() / kind
    with writable(home, "; set GEOFOREST_CACHE to a folder that can be"):
        if key is not None and (kept := home / cache_digest(key)).is_dir():
            return kept
        with staging(home / "made") as partial:
            fresh = partial / "made"
            kept = home / cache_digest(make(fresh))
            try:
                fresh.rename(kept)
            except OSError:
                # Another process may have made the same folder.
                if not kept.is_dir():
                    raise
    return kept


def cache_folder() -> Path:
    """Return ``GEOFOREST_CACHE``, or ``geoforest`` in the user's cache folder."""
    chosen = os.environ.get("GEOFOREST_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "geoforest"


def cache_digest(key: Sequence[str]) -> str:
    """Return the folder name, 32 hex digits, for the words that identify its content."""
    return hashlib.sha256("\0".join(key).encode()).hexdigest()[:32]


def installed(packages: Iterable[str]) -> list[str]:
    """List name and version of each package, as words for :func:`cache_digest`."""
    return [f"{name} {_version(name)}" for name in packages]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"
