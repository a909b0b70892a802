"""Sentinel-2 products of level 1C and 2A in ESA's SAFE format: folders and zip archives."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from geoforest.errors import SceneError
from geoforest.scenes.coding import Coding
from geoforest.scenes.other_formats import kind_of_archive
from geoforest.scenes.product import MAGIC, MAGIC_BYTES, Product
from geoforest.scenes.safe.files import ProductFiles, folder_files, zip_files, zip_names
from geoforest.scenes.safe.layers import find_layers
from geoforest.scenes.safe.metadata import MAX_XML_BYTES, ProductMetadata, parse_product_metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# The name today, before December 2016, and in buckets of single tiles, which have the product's
# metadata beside the tile's.
_PRODUCT_XML: Final = re.compile(
    r"MTD_MSIL(1C|2A)\.xml|S2[A-D]_[A-Z]{4}_MTD_SAFL(1C|2A)_\w+\.xml|product_metadata\.xml",
    re.IGNORECASE,
)
_TILE_FILES: Final = {"metadata.xml", "tileInfo.json"}
_SIDECARS: Final = (".aux.xml", ".aux", ".msk", ".ovr")


@dataclass(frozen=True)
class _ProductPlace:
    """The place of a product on disk.

    Attributes
    ----------
    name
        Name of the product, from its folder or archive.
    container
        The folder or the zip archive.
    root
        Folder in the archive, ``""`` for its top.
    metadata
        Names of the product's metadata files in the root.
    granule
        The only granule to read; None for all.
    """

    name: str
    container: Path
    root: str
    metadata: tuple[str, ...]
    granule: str | None = None

    def files(self) -> ProductFiles:
        if self.container.is_dir():
            return folder_files(self.container)
        return zip_files(self.container, self.root)


def is_safe(location: str) -> bool:
    """Return whether a location is a SAFE product, even a damaged one.

    Parameters
    ----------
    location
        A SAFE folder, a folder that contains one, a metadata file such as ``MTD_MSIL2A.xml``, one
        granule of a product from before December 2016, the folder of a single tile with its
        ``metadata.xml`` and ``tileInfo.json``, or any zip archive.
    """
    path = Path(location)
    if path.is_file():
        return path.suffix.lower() == ".zip" or _PRODUCT_XML.fullmatch(path.name) is not None
    try:
        return path.is_dir() and _locate_in_folder(path) is not None
    except SceneError:
        return True


def safe_name(location: str) -> str | None:
    """Return the id of a product by its folder or archive name; None when it is not a product.

    The folder and the archive of a product give the same id.
    """
    try:
        return _locate(location).name if is_safe(location) else None
    except SceneError:
        return None


def product_metadata(location: str) -> tuple[str, bytes, ProductMetadata] | None:
    """Return name, XML and parsed metadata of a product; None without metadata of just one.

    Raises
    ------
    SceneError
        When they cannot be read.
    """
    place = _locate(location)
    if len(place.metadata) != 1:
        return None
    files = place.files()
    content = files.read_whole(place.metadata[0], MAX_XML_BYTES)
    return place.name, content, parse_product_metadata(content, files.path(place.metadata[0]))


def read_safe(location: str) -> Product:
    """Read the metadata of a product, and find the files of its bands.

    Raises
    ------
    SceneError
        When the metadata are missing, broken or ambiguous, when there are no band files or files of
        several tiles or granules, or when an archive is not safe to read.
    """
    place = _locate(location)
    files = place.files()
    if not place.metadata:
        raise SceneError(_no_metadata(location, files.names))
    if len(place.metadata) > 1:
        raise SceneError(
            f"{location}: has the metadata of {len(place.metadata)} products: "
            f"{', '.join(place.metadata)}; one was wanted"
        )
    xml = files.path(place.metadata[0])
    metadata = parse_product_metadata(files.read_whole(place.metadata[0], MAX_XML_BYTES), xml)
    layers, tile = find_layers(location, files.names, metadata, place.granule)
    for name in layers.values():
        _check_format(files, name)
        if place.container.is_file():
            _refuse_sidecars(files, name)
    paths = {layer: files.path(name) for layer, name in layers.items()}
    scene_classification = paths.pop("SCL", None)
    return Product(
        product_id=place.name,
        location=location,
        bands=paths,
        codings={
            band: Coding(1 / metadata.quantification, offset, metadata.nodata)
            for band, offset in _offsets(xml, paths, metadata).items()
        },
        saturated=metadata.saturated,
        acquired=metadata.acquired,
        processing_level=metadata.level,
        scene_classification=scene_classification,
        metadata=(xml,),
        facts=_facts(metadata, tile),
        notes=tuple(_notes(xml, metadata)),
    )


def _locate(location: str) -> _ProductPlace:
    path = Path(location).absolute()
    if path.is_file():
        if path.suffix.lower() == ".zip":
            return _locate_in_zip(path)
        folder = path.parent
        return _ProductPlace(_without_suffix(folder.resolve().name), folder, "", (path.name,))
    place = _locate_in_folder(path)
    assert place is not None
    return place


def _locate_in_folder(folder: Path) -> _ProductPlace | None:
    folder = folder.absolute()
    name = _without_suffix(folder.resolve().name)
    try:
        items = sorted(folder.iterdir())
    except OSError as error:
        raise SceneError(f"{folder}: cannot be listed ({error.strerror or error})") from error
    if metadata := _product_xmls(item.name for item in items):
        return _ProductPlace(name, folder, "", metadata)
    product = folder.parent.parent
    if folder.parent.name == "GRANULE" and (
        metadata := _product_xmls(item.name for item in product.iterdir())
    ):
        return _ProductPlace(name, product, "", metadata, granule=folder.name)
    inside = [item for item in items if item.suffix.upper() == ".SAFE" and item.is_dir()]
    if len(inside) > 1:
        raise SceneError(_several_products(str(folder), [item.name for item in inside]))
    if inside:
        return _locate_in_folder(inside[0])
    names = {item.name for item in items}
    if folder.suffix.upper() == ".SAFE" or "GRANULE" in names or names >= _TILE_FILES:
        return _ProductPlace(name, folder, "", ())
    return None


def _locate_in_zip(archive: Path) -> _ProductPlace:
    names = zip_names(archive)
    folders: dict[str, list[str]] = {}
    for name in sorted(names):
        parent, _, last = name.rpartition("/")
        if _product_xmls([last]):
            folders.setdefault(parent, []).append(last)
    if not folders:
        raise SceneError(_no_metadata(str(archive), names))
    if len(folders) > 1:
        raise SceneError(_several_products(str(archive), list(folders)))
    ((root, metadata),) = folders.items()
    return _ProductPlace(
        _without_suffix(PurePosixPath(root).name or archive.name), archive, root, tuple(metadata)
    )


def _product_xmls(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if _PRODUCT_XML.fullmatch(name))


def _without_suffix(name: str) -> str:
    """Remove ``.zip`` and ``.SAFE`` from a name."""
    for suffix in (".zip", ".safe"):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    return name


def _several_products(location: str, products: list[str]) -> str:
    shown = ", ".join(f"{name!r:.80}" for name in products[:3])
    more = ", ..." if len(products) > 3 else ""
    return f"{location}: holds {len(products)} products, {shown}{more}; give one of them"


def _no_metadata(location: str, names: frozenset[str]) -> str:
    if (kind := kind_of_archive(names)) is not None:
        return f"{location}: {kind}"
    if names >= _TILE_FILES:
        return (
            f"{location}: has the metadata of the tile, but not of its product, which alone tell "
            "scale and offset; put them beside it as product_metadata.xml"
        )
    return (
        f"{location}: has no product metadata, which tell scale and offset; MTD_MSIL1C.xml or "
        "MTD_MSIL2A.xml was wanted"
    )


def _check_format(files: ProductFiles, name: str) -> None:
    # GDAL detects formats by content: a virtual raster named .jp2 could open any file.
    if not files.read_start(name, MAGIC_BYTES).startswith(MAGIC):
        raise SceneError(f"{files.path(name)}: is neither JPEG 2000 nor TIFF inside")


def _refuse_sidecars(files: ProductFiles, name: str) -> None:
    """Refuse files that GDAL reads beside an image and that may refer to any file or address.

    Only in archives: in a folder they are most likely the user's own, such as QGIS statistics.
    """
    stem = name.rpartition(".")[0].lower()
    for other in files.names:
        if other.lower().startswith(f"{stem}.") and other.lower().endswith(_SIDECARS):
            raise SceneError(
                f"{files.path(other)}: no product has such a file, and GDAL would go where it "
                "says; pack the archive again without it"
            )


def _offsets(xml: str, bands: Iterable[str], metadata: ProductMetadata) -> dict[str, float]:
    for band in bands:
        if band not in metadata.add_offset:
            raise SceneError(f"{xml}: gives an offset for some bands, but none for {band}")
    return {band: metadata.add_offset[band] / metadata.quantification for band in bands}


def _facts(metadata: ProductMetadata, tile: str | None) -> Mapping[str, Any]:
    facts = {
        "product_id": metadata.product_id,
        "mgrs_tile": tile,
        "orbit": metadata.orbit,
        "processing_baseline": metadata.processing_baseline,
        "cloud_percent": metadata.cloud_percent,
    }
    return {name: value for name, value in facts.items() if value is not None}


def _notes(xml: str, metadata: ProductMetadata) -> Iterator[str]:
    baseline = metadata.processing_baseline
    if baseline is None:
        yield f"{xml}: names no processing baseline; scale and offset are as it gives them"
    # ESA's toolbox writes 99.99.
    elif "04.00" <= baseline < "90.00" and not any(metadata.add_offset.values()):
        yield (
            f"{xml}: gives no offset, which products of baseline {baseline} have; 0 was taken, and "
            "reflectance is too high by 0.1 where that is wrong"
        )
