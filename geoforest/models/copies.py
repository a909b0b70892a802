"""Copies of bundles: byte for byte into a folder, and a cache of bundles from elsewhere."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from geoforest.errors import BundleError, GeoforestWarning
from geoforest.io.cache import kept_folder
from geoforest.io.publication import new_folder
from geoforest.io.storage import write_durably
from geoforest.models.bundle import CARD_NAME, Bundle, load_bundle

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence


def copy_bundle(bundle: Bundle, folder: Path) -> Bundle:
    """Copy :meth:`Bundle.files` into an existing folder, flushed to disk.

    A warning names what lies beside them and is left out.

    Raises
    ------
    BundleError
        When the bundle changed since it was opened.
    """
    for name, data in bundle.files():
        write_durably(folder / name, data)
    if others := bundle.left_out():
        warnings.warn(
            f"{bundle.path}: {', '.join(others[:3])}{' ...' if len(others) > 3 else ''} "
            f"({len(others)}) not copied: beside the weights only licences, texts, tables and "
            "pictures go along, up to 32 regular files of up to 16 MB",
            GeoforestWarning,
            stacklevel=3,
        )
    copy = load_bundle(folder)
    if (copy.sha256, copy.card) != (bundle.sha256, bundle.card):
        raise BundleError(f"{bundle.path}: changed while it was in use")
    return copy


def save_copy(bundle: Bundle, out: str | os.PathLike[str]) -> Bundle:
    """Copy a bundle to a folder atomically: a reader sees all of it or nothing.

    Parameters
    ----------
    bundle
        A folder or a zip file.
    out
        Folder to write. An existing bundle there is replaced, anything else is refused.

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
    """Open a bundle in the cache; ``make`` writes it there on first use.

    Parameters
    ----------
    key
        Identifies this bundle and its version. None when its version is unknown: then it is made
        each time, and stored by its content.
    make
        Writes the bundle to the folder it is given; it may write other files beside that folder.
    shown
        Where it comes from, for messages.

    Raises
    ------
    BundleError
        When ``make`` wrote no valid bundle; nothing is cached then.
    OutputError
        When the cache cannot be written to.
    """
    made: Bundle | None = None

    def make_and_key(folder: Path) -> Sequence[str]:
        nonlocal made
        try:
            made = make(folder)
        except BundleError as error:
            # The message names a temporary folder, which means nothing to the user.
            raise BundleError(str(error).replace(str(folder.parent), shown)) from error
        return key or (made.sha256, made.card.model_dump_json())

    folder = kept_folder("models", key, make_and_key)
    # A bundle made in this call has just been verified.
    return load_bundle(folder) if made is None else replace(made, path=folder)
