"""Open a product, a raster or a folder of bands as a scene."""

from __future__ import annotations

import math
import os
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rasterio.errors import RasterioIOError

from geoforest.arrays.georef import GeoRef
from geoforest.errors import SceneError
from geoforest.io.raster import RASTER_ERRORS, open_raster
from geoforest.io.remote import (
    gdal_path,
    is_remote,
    pure_path,
    reason,
    remote_stamp,
    shown,
)
from geoforest.scenes.bands import (
    BAND_FILES,
    band_files,
    band_folder,
    classification_file,
    raster_bands,
    single_bands,
)
from geoforest.scenes.coding import (
    CodedBands,
    Coding,
    check_type,
    read_type,
    sample_pixels,
    settle_coding,
)
from geoforest.scenes.other_formats import (
    check_has_bands,
    inner_file,
    refuse_zarr,
    snap_folder,
)
from geoforest.scenes.safe.product import is_safe, read_safe, safe_name
from geoforest.scenes.scene import BandSource, Scene, processing_level, sensing_time
from geoforest.scenes.stac.dark_objects import ESA_OFFSET, ESA_SCALE, dark_objects
from geoforest.scenes.stac.item import is_item, read_item
from geoforest.scenes.stamps import absolute, files_behind, is_virtual, stamp
from geoforest.scenes.theia import is_theia, read_theia

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import rasterio

    from geoforest.scenes.product import Product
    from geoforest.types import Factor

# Names of other files of the outputs, which the scene's STAC item <scene id>.json must not take.
_RESERVED = {"job", "summary"}
# With a prefix and a suffix it must still fit into a file name.
_MAX_SCENE_ID_BYTES = 200


def open_scene(
    path: str | Path,
    *,
    wanted: Sequence[str],
    bands: Sequence[int] | None = None,
    scale: Factor | None = None,
    offset: Factor | None = None,
    nodata: float | None = None,
    scene_id: str | None = None,
) -> Scene:
    """Open a product, a raster, or a folder with one file per band, as a scene.

    Parameters
    ----------
    path
        A Sentinel-2 product (see :mod:`geoforest.scenes.safe.product`), a raster that GDAL opens,
        or a folder with files such as ``B02.tif`` ... ``B08.tif``, and optionally ``SCL.tif``;
        each may be a URL, see :mod:`geoforest.io.remote`.
    wanted
        Bands the model needs, in its order, such as ``("B04", "B03", "B02", "B08")``.
    bands
        1-based band numbers of ``wanted``, for a raster whose descriptions do not name them.
    scale, offset
        Reflectance is ``dn * scale + offset``; scalars or one per band. By default from the
        product's metadata, or else from the tags of the raster, for each band its own; without
        any, 1e-4 and 0, or 1 for real numbers of the size of reflectance.
    nodata
        Replaces the nodata values that the product or the raster states.
    scene_id
        Replaces the product's id, or the file's stem.

    Raises
    ------
    SceneError
        When the input cannot be used; names the file, what was found and what was wanted.
    """
    location = os.fspath(path)
    path = shown(gdal_path(location))
    _check_name(path)
    location = snap_folder(location)
    refuse_zarr(location)
    product = read_product(location)
    folder = None if product is not None else band_folder(location)
    if folder is not None:
        refuse_zarr(location, [item.name for item in folder.children() or ()])
    if (folder or product) and bands is not None:
        raise SceneError(f"{path}: has one file per band, which --bands does not apply to")
    if product is not None:
        files = product.files(wanted)
    else:
        files = band_files(folder, wanted) if folder else [location]
    with _errors_of(location), ExitStack() as stack:
        opened = {file: stack.enter_context(_opened(file)) for file in files}
        if folder or product:
            sources = single_bands(opened, wanted)
        else:
            check_has_bands(opened[location])
            sources = raster_bands(location, opened[location], wanted, bands)
        identity = scene_id or (product.product_id if product else scene_name(location))
        _check_scene_id(path, identity)
        scales, offsets = (
            _per_band(value, name, wanted) for value, name in ((scale, "scale"), (offset, "offset"))
        )
        given = {
            name: Coding(factor, shift, nodata)
            for name, factor, shift in zip(wanted, scales, offsets, strict=True)
        }
        scene = _describe(path, identity, sources, opened, given=given, product=product)
    if folder:
        return replace(scene, scene_classification=classification_file(folder))
    return scene if product is None else _with_metadata(scene, product)


def read_product(location: str) -> Product | None:
    """Read the metadata of a product; None when the location is not a product.

    Raises
    ------
    SceneError
        When it is a product whose metadata cannot be used.
    """
    for is_one, read in _PRODUCTS:
        if is_one(location):
            return read(location)
    return None


# How to recognise and how to read each kind of product.
_PRODUCTS: tuple[tuple[Callable[[str], bool], Callable[[str], Product]], ...] = (
    (is_safe, read_safe),
    (is_theia, read_theia),
    (is_item, read_item),
)


def _with_metadata(scene: Scene, product: Product) -> Scene:
    """Add what is known from the product's metadata only."""
    stamps = {*scene.files, *map(stamp, product.metadata)}
    return replace(
        scene,
        acquired=product.acquired or scene.acquired,
        processing_level=product.processing_level or scene.processing_level,
        files=tuple(sorted(stamps)),
        scene_classification=product.scene_classification,
        saturated=product.saturated,
        facts={**scene.facts, **product.facts},
        notes=(*scene.notes, *product.notes),
    )


def scene_name(path: str | Path) -> str:
    """Return the default id of a scene: the product's, the file's stem, or the folder's name."""
    if is_remote(str(path)):
        pure = pure_path(path)
        return pure.stem if pure.suffix.lower() in BAND_FILES else pure.name
    if (product := safe_name(os.fspath(path))) is not None:
        return product
    with suppress(SceneError):
        path = inner_file(os.fspath(path)) or path
    path = Path(path)
    name = path.resolve().name if path.is_dir() else path.stem
    # SNAP names the folder of bands so, beside its header.
    return name.removesuffix(".data") if path.is_dir() else name


def _check_name(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise SceneError(f"{path!r}: its name is no valid text; rename it") from error


def _check_scene_id(path: str, scene_id: str) -> None:
    reason = None
    if scene_id in {"", ".", ".."} or "/" in scene_id or "\\" in scene_id:
        reason = "cannot name a folder"
    elif not scene_id.isprintable() or len(scene_id.encode()) > _MAX_SCENE_ID_BYTES:
        reason = f"is not printable, or has more than {_MAX_SCENE_ID_BYTES} bytes"
    elif scene_id in _RESERVED:
        reason = "is the name of another file of the outputs"
    if reason:
        raise SceneError(f"{path}: scene id {scene_id!r} {reason}; give --scene-id")


@contextmanager
def _errors_of(location: str) -> Iterator[None]:
    """Convert what GDAL finds wrong with a raster after it has opened it."""
    try:
        yield
    except RASTER_ERRORS as error:
        raise SceneError(
            f"{shown(gdal_path(location))}: is damaged and cannot be read "
            f"({reason(error, location)})"
        ) from error


@contextmanager
def _opened(path: str) -> Iterator[rasterio.DatasetReader]:
    if is_remote(path):
        # Checked first, because GDAL does not explain why a remote file fails.
        remote_stamp(path)
    elif not (is_virtual(path) or Path(inner_file(path) or path).exists()):
        raise SceneError(f"{path}: no such file or folder")
    try:
        source = open_raster(path)
    except RasterioIOError as error:
        raise SceneError(
            f"{shown(path)}: not a raster that GDAL can open ({reason(error, path)})"
        ) from error
    with source:
        yield source


def _describe(
    path: str,
    scene_id: str,
    sources: list[BandSource],
    opened: Mapping[str, rasterio.DatasetReader],
    *,
    given: Mapping[str, Coding],
    product: Product | None,
) -> Scene:
    first = opened[sources[0].path]
    for source in opened.values():
        _check_grid(source, first)
    files = files_behind(opened)
    stored = [opened[band.path].dtypes[band.index - 1] for band in sources]
    for band in sources:
        check_type(opened[band.path], band, stored[0])
    coded = settle_coding(
        path,
        sources,
        opened,
        given=given,
        stated=None if product is None else product.codings,
        usual_nodata=None if product is None else product.usual_nodata,
    )
    untagged = all(band.nodata is None and band.mask_index is None for band in coded.bands)
    zero_is_nodata = untagged and all(np.issubdtype(kind, np.integer) for kind in stored)
    notes = coded.notes if product else (*coded.notes, *_applied_twice(path, coded, opened))
    if zero_is_nodata:
        notes += (
            f"{path}: no nodata tag or mask: pixels that are 0 in all bands count as unobserved",
        )
    return Scene(
        scene_id=scene_id,
        bands=coded.bands,
        crs=first.crs,
        transform=GeoRef.of(first, shown(first.name), error=SceneError).transform,
        shape=first.shape,
        dtype=read_type(stored[0]) or stored[0],
        scale=coded.scale,
        offset=coded.offset,
        zero_is_nodata=zero_is_nodata,
        acquired=sensing_time(scene_id) or _acquired(path, first),
        processing_level=next(filter(None, map(processing_level, _product_ids(path))), None),
        files=tuple(map(stamp, files)),
        # The tag that scenes of geoforest.scenes.synthetic have.
        facts={"synthetic": True} if first.tags().get("SYNTHETIC") == "YES" else {},
        notes=notes,
    )


def _applied_twice(
    path: str, coded: CodedBands, opened: Mapping[str, rasterio.DatasetReader]
) -> Iterator[str]:
    """Yield a note when ESA's offset is to be applied, and pixels show that it was already."""
    names = [band.name for band in coded.bands]
    if not {"B04", "B08"} <= set(names):
        return
    red = names.index("B04")
    if not (
        math.isclose(coded.scale[red], ESA_SCALE) and math.isclose(coded.offset[red], ESA_OFFSET)
    ):
        return
    # The sources of coded bands have absolute paths, the opened files those that were given.
    by_path = {absolute(name): source for name, source in opened.items()}
    pair = [coded.bands[names.index(name)] for name in ("B04", "B08")]
    try:
        seen = dark_objects(
            *(sample_pixels(by_path[band.path], band.index) for band in pair), nodata=0.0
        )
    except RasterioIOError:
        # The run itself names the block that cannot be read.
        return
    if seen is not None and seen.offset_applied:
        yield (
            f"{path}: offset {ESA_OFFSET:g} is applied, but its pixels look as if it had been "
            f"applied before ({seen}); if so, give --offset 0"
        )


def _check_grid(source: rasterio.DatasetReader, first: rasterio.DatasetReader) -> None:
    if source.crs is None:
        raise SceneError(f"{shown(source.name)}: has no CRS; a georeferenced raster is wanted")
    georef, wanted = (GeoRef.of(one, shown(one.name), error=SceneError) for one in (source, first))
    if not georef.is_grid_of(wanted):
        raise SceneError(
            f"{shown(source.name)}: its grid ({georef}) differs from that of "
            f"{shown(first.name)} ({wanted}); all bands must be on one grid"
        )


def _product_ids(path: str) -> tuple[str, str]:
    """Return the two names that may hold a product's id: the scene's and its folder's."""
    pure = pure_path(path)
    return pure.stem, pure.parent.name


def _acquired(path: str, source: rasterio.DatasetReader) -> datetime | None:
    """Find the acquisition time in the product's name, or else in GDAL's IMAGERY metadata."""
    for named in map(sensing_time, _product_ids(path)):
        if named is not None:
            return named
    text = source.tags(ns="IMAGERY").get("ACQUISITIONDATETIME", "")
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        return None


def _per_band(value: Factor | None, name: str, wanted: Sequence[str]) -> list[float | None]:
    """Return an option's number for each band; None for all when it was not given."""
    numbers = [value] if value is None or isinstance(value, int | float) else list(value)
    if len(numbers) not in {1, len(wanted)}:
        raise SceneError(
            f"--{name} gives {len(numbers)} numbers; one, or one for each of {', '.join(wanted)}, "
            "is wanted"
        )
    each = numbers * len(wanted) if len(numbers) == 1 else numbers
    return [None if number is None else float(number) for number in each]
