"""Copies of bundles: byte for byte into a folder, and a cache of those from elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from geoforest.errors import BundleError
from geoforest.io.cache import kept_folder
from geoforest.io.storage import new_folder, write_durably
from geoforest.models.bundle import CARD_NAME, Bundle, load_bundle

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence


def copy_bundle(bundle: Bundle, folder: Path) -> Bundle:
    """Write :meth:`Bundle.files` into a folder that is there, flushed to its disk.

    Raises
    ------
    BundleError
        When the bundle changed since it was opened.
    """
    for name, data in bundle.files():
        write_durably(folder / name, data)
    copy = load_bundle(folder)
    if (copy.sha256, copy.card) != (bundle.sha256, bundle.card):
        raise BundleError(f"{bundle.path}: changed while it was in use")
    return copy


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
        copy = copy_bundle(bundle, folder)
    return replace(copy, path=Path(out))


def cached_bundle(
    key: Sequence[str] | None, make: Callable[[Path], Bundle], *, shown: str
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
    OutputError
        When the cache cannot be written to.
    """
    made: Bundle | None = None

    def make_it(folder: Path) -> Sequence[str]:
        nonlocal made
        try:
            made = make(folder)
        except BundleError as error:
            # The folder that it speaks of is about to go.
            raise BundleError(str(error).replace(str(folder.parent), shown)) from error
        return key or (made.sha256, made.card.model_dump_json())

    folder = kept_folder("models", key, make_it)
    # What was made here has been verified.
    return load_bundle(folder) if made is None else replace(made, path=folder)
