"""Find the scenes in a folder or a bucket."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final

from geoforest.errors import InputError
from geoforest.io.files import Place, open_place, version_in
from geoforest.io.remote import is_url
from geoforest.scenes.bands import BAND_FILES
from geoforest.scenes.newest import newest_scenes
from geoforest.scenes.open import scene_name
from geoforest.scenes.safe.product import is_safe
from geoforest.scenes.scene import band_name
from geoforest.scenes.stac.item import is_item

_MAX_ITEM_BYTES: Final = 4 << 20


def find_scenes(folder: str) -> dict[str, str]:
    """List the scenes in a folder without opening them.

    Parameters
    ----------
    folder
        A path, or a URL such as ``s3://bucket/prefix``. Scenes are rasters and folders with one
        file per band; on disk also SAFE products and STAC items. Names that begin with a dot, and
        all other files, are ignored.

    Returns
    -------
    dict
        Location of each scene by its id, sorted by id. Of an acquisition that is there under
        several processing baselines, only the newest; a warning names the others.

    Raises
    ------
    InputError
        When there is no such folder, or two scenes in it have the same id. A product beside its
        archive, and pixels beside their STAC item, count as one scene.
    DataError
        When it cannot be listed: no permission, no credentials or no network.
    """
    place = open_place(folder)
    children = place.children()
    if children is None:
        raise InputError(f"{place}: no such folder; one with scenes was wanted")
    found: dict[str, str] = {}
    for child in children:
        if child.name.startswith(".") or not _is_scene(child):
            continue
        scene_id = scene_name(str(child))
        if scene_id in found and (preferred := _preferred(found[scene_id], str(child))):
            found[scene_id] = preferred
            continue
        if scene_id in found:
            raise InputError(f"{child}: has the scene id of {found[scene_id]}; rename one of them")
        found[scene_id] = str(child)
    newest = set(newest_scenes(found.values()))
    return {scene_id: found[scene_id] for scene_id in sorted(found) if found[scene_id] in newest}


def scene_stamp(location: str) -> str:
    """Return a hash of the names, sizes and versions of a scene's files.

    The version is the ETag or the time of modification. The hash of a scene that is still being
    copied changes from one call to the next.

    Parameters
    ----------
    location
        Location of the scene, as from :func:`find_scenes`.

    Raises
    ------
    DataError
        When it cannot be listed.
    """
    files = open_place(location).everything()
    states = sorted((path, str(one.get("size")), version_in(one)) for path, one in files.items())
    return hashlib.sha256(repr(states).encode()).hexdigest()[:16]


def _is_scene(child: Place) -> bool:
    location = str(child)
    if child.suffix in BAND_FILES:
        return True
    if not is_url(location) and is_item(location):
        return _is_stac_document(Path(location))
    if not is_url(location) and is_safe(location):
        return True
    return child.is_folder() and any(
        item.suffix in BAND_FILES and band_name(item.stem) for item in child.children() or ()
    )


def _preferred(*locations: str) -> str | None:
    """Return the better location of one scene: a folder over its zip, pixels over a STAC item."""
    plain = [one for one in locations if not one.lower().endswith((".zip", ".json", ".geojson"))]
    return plain[0] if len(plain) == 1 else None


def _is_stac_document(path: Path) -> bool:
    """Return whether a JSON file is a STAC item, and not an area of interest or other JSON."""
    try:
        if path.stat().st_size > _MAX_ITEM_BYTES:
            return False
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    is_item = isinstance(document, dict) and document.get("type") == "Feature"
    return is_item and "stac_version" in document
