"""The newest processing of each acquisition in a list of scenes, before they are opened."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from geoforest.errors import GeoforestError, GeoforestWarning
from geoforest.io.files import is_web
from geoforest.io.remote import is_remote, pure_path, shown
from geoforest.scenes.acquisition import (
    acquisition_of_name,
    newest_of_each,
    replaced_sentence,
    same_passes,
)
from geoforest.scenes.safe.acquisition import safe_acquisition
from geoforest.scenes.safe.product import is_safe, safe_name
from geoforest.scenes.stac.acquisition import item_acquisition
from geoforest.scenes.stac.item import is_item

if TYPE_CHECKING:
    from collections.abc import Iterable

    from geoforest.scenes.acquisition import Acquisition

_Location = TypeVar("_Location", str, Path, str | Path)

_MAX_ITEM_BYTES: Final = 4 << 20
# Tile and day in the ids of catalogues, such as S2B_20LMR_20230813_0_L2A.
_TILE_AND_DAY: Final = (re.compile(r"(?<![A-Z0-9])T?(\d\d[A-Z]{3})_"), re.compile(r"_(20\d{6})"))


def newest_scenes(locations: Iterable[_Location]) -> list[_Location]:
    """Return scenes without older processings of the same acquisitions; a warning names these.

    Parameters
    ----------
    locations
        Paths and URLs of scenes. Names of products tell which acquisition they are, and so do STAC
        items. Where several are one, their metadata are read, too: a newer product that does not
        cover the ground of an older one does not replace it. Other scenes, and those that cannot be
        read, are returned as they are.
    """
    listed = list(locations)
    if len(listed) < 2:
        return listed
    texts = [os.fspath(one) for one in listed]
    asked = _items_to_ask(texts)
    known = [_acquisition(text, asked=text in asked) for text in texts]
    for members in same_passes(known):
        for index in members if len(members) > 1 else ():
            known[index] = _exact(texts[index]) or known[index]
    kept, replaced = newest_of_each(zip(listed, known, strict=True))
    if replaced:
        sentence = replaced_sentence(replaced, lambda one: shown(os.fspath(one)))
        warnings.warn(sentence, GeoforestWarning, stacklevel=3)
    return kept


def _items_to_ask(texts: list[str]) -> set[str]:
    """Return the items on the web of which another in the list has the same tile and day."""
    keys = {text: _tile_and_day(text) for text in texts if is_web(text) and is_item(text)}
    counts = Counter(key for key in keys.values() if key is not None)
    return {text for text, key in keys.items() if key is not None and counts[key] > 1}


def _tile_and_day(location: str) -> tuple[str, ...] | None:
    try:
        name = pure_path(location).name.upper()
    except GeoforestError:
        return None
    found = [pattern.search(name) for pattern in _TILE_AND_DAY]
    return tuple(one[1] for one in found if one) if all(found) else None


def _acquisition(location: str, *, asked: bool) -> Acquisition | None:
    """Return what names and items tell of a scene; None where it cannot be told, or read."""
    try:
        if is_item(location):
            return _item(location) if asked or not is_web(location) else None
        if is_remote(location):
            return acquisition_of_name(pure_path(location).name)
        if is_safe(location):
            name = safe_name(location)
            return (name and acquisition_of_name(name)) or safe_acquisition(location)
        return acquisition_of_name(Path(location).name)
    # What is wrong with a scene is said when it is opened.
    except (GeoforestError, ArithmeticError, AttributeError, LookupError, OSError):
        return None
    except (RecursionError, TypeError, ValueError):
        return None


def _exact(location: str) -> Acquisition | None:
    """Return what the metadata of a SAFE product tell, too; None for other scenes."""
    try:
        is_product = not is_remote(location) and not is_item(location) and is_safe(location)
        return safe_acquisition(location) if is_product else None
    except (GeoforestError, OSError):
        return None


def _item(location: str) -> Acquisition | None:
    if is_web(location):
        from geoforest.scenes.stac.catalogue import CatalogueIO

        return item_acquisition(CatalogueIO().read_json(location))
    path = Path(location)
    if path.stat().st_size > _MAX_ITEM_BYTES:
        return None
    return item_acquisition(json.loads(path.read_bytes()))
