"""Find the file of each band, and of the scene classification layer (SCL), in a product."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from geoforest.errors import SceneError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from geoforest.scenes.safe.metadata import ProductMetadata

_SUFFIXES: Final = (".jp2", ".tif", ".tiff")
_LAYER: Final = re.compile(r"(?:^|_)(B0[1-9]|B1[0-2]|B8A|SCL)(?=_|$)")
_TILE: Final = re.compile(r"(?:^|_)T(\d\d[A-Z]{3})(?=_|$)")
_RESOLUTION: Final = re.compile(r"(?:_|^R)(10|20|60)m$")
_NATIVE_M: Final = {
    **dict.fromkeys(("B02", "B03", "B04", "B08"), 10),
    **dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12", "SCL"), 20),
    **dict.fromkeys(("B01", "B09", "B10"), 60),
}


@dataclass(frozen=True)
class _Image:
    """An image file of one band or layer.

    Attributes
    ----------
    name
        Path relative to the product's root.
    layer
        Band or layer, such as ``B04`` or ``SCL``.
    resolution_m
        Resolution in its name or folder, or else the band's native one.
    granule
        Its folder in ``GRANULE``, or ``""``.
    tile
        MGRS tile in its name or granule, or None.
    listed
        Whether the product's XML lists it.
    """

    name: str
    layer: str
    resolution_m: int
    granule: str
    tile: str | None
    listed: bool


def find_layers(
    location: str,
    names: Iterable[str],
    metadata: ProductMetadata,
    granule: str | None = None,
) -> tuple[dict[str, str], str | None]:
    """Find the file of each band, and of the SCL, at the highest resolution available.

    Files that the product's XML lists are preferred; others count when they are in a usual place
    for bands.

    Parameters
    ----------
    location
        Path of the product, for messages.
    names
        Paths of all files relative to the product's root.
    metadata
        Metadata of the product.
    granule
        The only granule to search; None for all.

    Returns
    -------
    layers : dict of str to str
        File name of each band, and of ``SCL``.
    tile : str or None
        The MGRS tile, such as ``20LMR``.

    Raises
    ------
    SceneError
        When there is no image; when there are images of several granules or tiles, of another tile
        than the metadata, or two of one band; or when the XML lists a path outside the product.
    """
    listed = _listed_names(location, metadata)
    found = [_parse_image(PurePosixPath(name), name in listed) for name in sorted(names)]
    images = [image for image in found if image and granule in (None, image.granule)]
    if not images:
        raise SceneError(
            f"{location}: has no image file of a band, only metadata; files such as "
            "GRANULE/*/IMG_DATA/*_B04.jp2 were wanted"
        )
    granules = sorted({image.granule for image in images})
    if len(granules) > 1:
        raise SceneError(
            f"{location}: has {len(granules)} granules, {granules[0]!r:.80} and others; give the "
            "folder of one of them, unpacked"
        )
    return _highest_resolution(location, images), _common_tile(location, images, metadata)


def _listed_names(location: str, metadata: ProductMetadata) -> set[str]:
    """Return the names that the XML lists for images, with each possible suffix."""
    names = set()
    for image in metadata.images:
        if image.startswith("/") or "\\" in image or ".." in image.split("/"):
            raise SceneError(
                f"{location}: its XML lists the image {image!r:.80}, which leads out of the product"
            )
        names |= {image, *(image + suffix for suffix in _SUFFIXES)}
    return names


def _parse_image(path: PurePosixPath, listed: bool) -> _Image | None:
    """Parse layer, resolution and tile from a path; None when it is not an image of a band."""
    folders = path.parts[:-1]
    # QI_DATA and previews also hold files named after bands. In buckets of single tiles, bands are
    # at the top or in one folder per resolution.
    is_band_folder = "IMG_DATA" in folders or not folders or _RESOLUTION.fullmatch(folders[0])
    layers = _LAYER.findall(path.stem)
    # macOS leaves hidden files beside those it copies.
    if path.name.startswith(".") or path.suffix.lower() not in _SUFFIXES:
        return None
    if not layers or not (listed or is_band_folder):
        return None
    named_m = _RESOLUTION.search(path.stem) or _RESOLUTION.search(path.parent.name)
    granule = folders[1] if folders[:1] == ("GRANULE",) and len(folders) > 1 else ""
    tile = _TILE.search(path.stem) or _TILE.search(granule)
    return _Image(
        name=path.as_posix(),
        layer=layers[-1],
        resolution_m=int(named_m[1]) if named_m else _NATIVE_M[layers[-1]],
        granule=granule,
        tile=tile[1] if tile else None,
        listed=listed,
    )


def _common_tile(location: str, images: Iterable[_Image], metadata: ProductMetadata) -> str | None:
    """Return the one MGRS tile of the images or the metadata; None when it is not known."""
    found = {image.tile for image in images if image.tile}
    if len(found) > 1:
        raise SceneError(
            f"{location}: has image files of {len(found)} MGRS tiles, {', '.join(sorted(found))}; "
            "those of one were wanted"
        )
    if found and metadata.tiles and not found <= metadata.tiles:
        raise SceneError(
            f"{location}: has image files of MGRS tile {found.pop()}, but metadata of "
            f"{', '.join(sorted(metadata.tiles)):.80}"
        )
    known = found or metadata.tiles
    return next(iter(known)) if len(known) == 1 else None


def _highest_resolution(location: str, images: Iterable[_Image]) -> dict[str, str]:
    """Choose the file of each layer at its highest resolution, a listed one first."""
    by_layer: dict[tuple[str, int], list[_Image]] = {}
    for image in images:
        by_layer.setdefault((image.layer, image.resolution_m), []).append(image)
    chosen: dict[str, str] = {}
    for (layer, resolution_m), same in sorted(by_layer.items()):
        if layer in chosen:
            continue
        best = [image for image in same if image.listed] or same
        if len(best) > 1:
            raise SceneError(
                f"{location}: has {len(best)} files for {layer} at {resolution_m} m, "
                f"{best[0].name!r:.120} and others; one was wanted"
            )
        chosen[layer] = best[0].name
    return chosen
