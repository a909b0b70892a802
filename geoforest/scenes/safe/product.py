"""Sentinel-2 products as ESA packs them: SAFE folders and their zip archives, level 1C and 2A."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from geoforest.errors import SceneError
from geoforest.scenes.product import Product
from geoforest.scenes.safe.files import ProductFiles, folder_files, zip_files, zip_names
from geoforest.scenes.safe.layers import find_layers
from geoforest.scenes.safe.metadata import MAX_XML_BYTES, ProductMetadata, parse_product_metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# Today's name, the one before December 2016, and the one in buckets of single tiles, where the
# product's metadata lie beside those of the tile.
_PRODUCT_XML: Final = re.compile(
    r"MTD_MSIL(1C|2A)\.xml|S2[A-D]_[A-Z]{4}_MTD_SAFL(1C|2A)_\w+\.xml|product_metadata\.xml",
    re.IGNORECASE,
)
_TILE_FILES: Final = {"metadata.xml", "tileInfo.json"}
# JPEG 2000, as a file and bare; TIFF and BigTIFF in both byte orders.
_MAGIC: Final = (
    *(b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    *(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
)
_SIDECARS: Final = (".aux.xml", ".aux", ".msk", ".ovr")


@dataclass(frozen=True)
class _Place:
    """Where a product is.

    Attributes
    ----------
    name
        Of the product, as a folder or an archive is named.
    container
        The folder, or the zip archive.
    root
        Folder in the archive; ``""`` is its top.
    metadata
        Names of files with the product's metadata, below the root.
    granule
        The only one to read, of a product of several.
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
    """Whether this is a SAFE product, or was meant as one.

    Parameters
    ----------
    location
        A SAFE folder, a folder with a SAFE folder in it, ``MTD_MSIL2A.xml`` or its like, one of the
        granules of a product of before December 2016, the folder of one tile with its
        ``metadata.xml`` and ``tileInfo.json``, or any zip archive.
    """
    path = Path(location)
    if path.is_file():
        return path.suffix.lower() == ".zip" or _PRODUCT_XML.fullmatch(path.name) is not None
    try:
        return path.is_dir() and _in_folder(path) is not None
    except SceneError:
        return True


def safe_name(location: str) -> str | None:
    """Id of a product, from its folder or archive alone; None where it is none.

    Folder and archive of a product have the same.
    """
    try:
        return _place(location).name if is_safe(location) else None
    except SceneError:
        return None


def read_safe(location: str) -> Product:
    """Read the metadata of a product, and find its bands.

    Raises
    ------
    SceneError
        When the metadata are missing, broken or ambiguous, there are no band files, those of more
        than one tile or granule, or an archive that no honest product is.
    """
    place = _place(location)
    files = place.files()
    if not place.metadata:
        raise SceneError(_no_metadata(location, files.names))
    if len(place.metadata) > 1:
        raise SceneError(
            f"{location}: has the metadata of {len(place.metadata)} products: "
            f"{', '.join(place.metadata)}; one was wanted"
        )
    xml = files.path(place.metadata[0])
    metadata = parse_product_metadata(files.whole(place.metadata[0], MAX_XML_BYTES), xml)
    layers, tile = find_layers(location, files.names, metadata, place.granule)
    for name in layers.values():
        _check_format(files, name)
        if place.container.is_file():
            _check_alone(files, name)
    paths = {layer: files.path(name) for layer, name in layers.items()}
    scene_classification = paths.pop("SCL", None)
    return Product(
        product_id=place.name,
        location=location,
        bands=paths,
        scale=dict.fromkeys(paths, 1 / metadata.quantification),
        offset=_offsets(xml, paths, metadata),
        nodata=metadata.nodata,
        acquired=metadata.acquired,
        processing_level=metadata.level,
        scene_classification=scene_classification,
        metadata=(xml,),
        facts=_facts(metadata, tile),
        notes=tuple(_notes(xml, metadata)),
    )


def _place(location: str) -> _Place:
    path = Path(location).absolute()
    if path.is_file():
        if path.suffix.lower() == ".zip":
            return _in_zip(path)
        folder = path.parent
        return _Place(_bare(folder.resolve().name), folder, "", (path.name,))
    place = _in_folder(path)
    assert place is not None
    return place


def _in_folder(folder: Path) -> _Place | None:
    folder = folder.absolute()
    name = _bare(folder.resolve().name)
    try:
        items = sorted(folder.iterdir())
    except OSError as error:
        raise SceneError(f"{folder}: cannot be listed ({error.strerror or error})") from error
    if metadata := _product_xmls(item.name for item in items):
        return _Place(name, folder, "", metadata)
    product = folder.parent.parent
    if folder.parent.name == "GRANULE" and (
        metadata := _product_xmls(item.name for item in product.iterdir())
    ):
        return _Place(name, product, "", metadata, granule=folder.name)
    inside = [item for item in items if item.suffix.upper() == ".SAFE" and item.is_dir()]
    if len(inside) > 1:
        raise SceneError(_several(str(folder), [item.name for item in inside]))
    if inside:
        return _in_folder(inside[0])
    names = {item.name for item in items}
    if folder.suffix.upper() == ".SAFE" or "GRANULE" in names or names >= _TILE_FILES:
        return _Place(name, folder, "", ())
    return None


def _in_zip(archive: Path) -> _Place:
    names = zip_names(archive)
    folders: dict[str, list[str]] = {}
    for name in sorted(names):
        parent, _, last = name.rpartition("/")
        if _product_xmls([last]):
            folders.setdefault(parent, []).append(last)
    if not folders:
        raise SceneError(_no_metadata(str(archive), names))
    if len(folders) > 1:
        raise SceneError(_several(str(archive), list(folders)))
    ((root, metadata),) = folders.items()
    return _Place(_bare(PurePosixPath(root).name or archive.name), archive, root, tuple(metadata))


def _product_xmls(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if _PRODUCT_XML.fullmatch(name))


def _bare(name: str) -> str:
    """Take ``.zip`` and ``.SAFE`` off a name."""
    for suffix in (".zip", ".safe"):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    return name


def _several(location: str, products: list[str]) -> str:
    shown = ", ".join(f"{name!r:.80}" for name in products[:3])
    more = ", ..." if len(products) > 3 else ""
    return f"{location}: holds {len(products)} products, {shown}{more}; give one of them"


def _no_metadata(location: str, names: frozenset[str]) -> str:
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
    # GDAL goes by content, not by name: what is a virtual raster inside would open any file.
    if not files.start(name, 12).startswith(_MAGIC):
        raise SceneError(f"{files.path(name)}: is neither JPEG 2000 nor TIFF inside")


def _check_alone(files: ProductFiles, name: str) -> None:
    """Refuse what GDAL reads beside an image, and which may name any file or address.

    In a folder it is most likely the user's own, such as statistics that QGIS keeps.
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
    # 99.99 is what the toolbox writes.
    elif "04.00" <= baseline < "90.00" and not any(metadata.add_offset.values()):
        yield (
            f"{xml}: gives no offset, which products of baseline {baseline} have; 0 was taken, and "
            "reflectance is too high by 0.1 where that is wrong"
        )
