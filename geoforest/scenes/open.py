"""Open a product, a raster or a folder of bands as a scene."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioIOError

from geoforest.arrays.georef import GeoRef
from geoforest.errors import SceneError
from geoforest.io.raster import open_raster
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
from geoforest.scenes.safe.product import is_safe, read_safe, safe_name
from geoforest.scenes.scene import BandSource, Scene, processing_level, sensing_time
from geoforest.scenes.stac.item import is_item, read_item
from geoforest.scenes.stamps import absolute, files_behind, is_virtual, stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import rasterio

    from geoforest.scenes.product import Product
    from geoforest.types import Factor

_DTYPES = ("uint8", "uint16", "int16", "float32")
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
        product's metadata, or 1e-4 and 0 when there is none.
    nodata
        Replaces the file's own nodata value.
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
    product = read_product(location)
    folder = None if product is not None else band_folder(location)
    if (folder or product) and bands is not None:
        raise SceneError(f"{path}: has one file per band, which --bands does not apply to")
    if product is not None:
        files = product.files(wanted)
    else:
        files = band_files(folder, wanted) if folder else [location]
    with ExitStack() as stack:
        opened = {file: stack.enter_context(_opened(file)) for file in files}
        if folder or product:
            sources = single_bands(opened, wanted)
        else:
            sources = raster_bands(location, opened[location], wanted, bands)
        identity = scene_id or (product.product_id if product else scene_name(location))
        _check_scene_id(path, identity)
        own_scale, own_offset, own_nodata = _product_scaling(product, wanted)
        scene = _describe(
            path,
            identity,
            sources,
            opened,
            scale=own_scale if scale is None else _per_band(scale, "scale", wanted),
            offset=own_offset if offset is None else _per_band(offset, "offset", wanted),
            nodata=own_nodata if nodata is None else nodata,
        )
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
    (is_item, read_item),
)


def _product_scaling(
    product: Product | None, wanted: Sequence[str]
) -> tuple[tuple[float, ...], tuple[float, ...], float | None]:
    """Return scale and offset of each wanted band, and nodata; the defaults without a product."""
    if product is None:
        return (1e-4,) * len(wanted), (0.0,) * len(wanted), None
    scale = tuple(product.scale[name] for name in wanted)
    return scale, tuple(product.offset[name] for name in wanted), product.nodata


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
        facts=dict(product.facts),
        notes=(*scene.notes, *product.notes),
    )


def scene_name(path: str | Path) -> str:
    """Return the default id of a scene: the product's, the file's stem, or the folder's name."""
    if is_remote(str(path)):
        pure = pure_path(path)
        return pure.stem if pure.suffix.lower() in BAND_FILES else pure.name
    if (product := safe_name(os.fspath(path))) is not None:
        return product
    path = Path(path)
    return path.resolve().name if path.is_dir() else path.stem


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
def _opened(path: str) -> Iterator[rasterio.DatasetReader]:
    if is_remote(path):
        # Checked first, because GDAL does not explain why a remote file fails.
        remote_stamp(path)
    elif not (is_virtual(path) or Path(path).exists()):
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
    scale: tuple[float, ...],
    offset: tuple[float, ...],
    nodata: float | None,
) -> Scene:
    first = opened[sources[0].path]
    for source in opened.values():
        _check_grid(source, first)
    files = files_behind(opened)
    dtype = first.dtypes[sources[0].index - 1]
    for band in sources:
        _check_dtype(opened[band.path], band, dtype)
    bands = tuple(_with_validity(band, opened[band.path], sources, nodata) for band in sources)
    untagged = all(band.nodata is None and band.mask_index is None for band in bands)
    zero_is_nodata = untagged and dtype != "float32"
    notes = (
        (f"{path}: no nodata tag or mask: pixels that are 0 in all bands count as unobserved",)
        if zero_is_nodata
        else ()
    )
    return Scene(
        scene_id=scene_id,
        bands=bands,
        crs=first.crs,
        transform=first.transform,
        shape=first.shape,
        dtype=dtype,
        scale=scale,
        offset=offset,
        zero_is_nodata=zero_is_nodata,
        acquired=sensing_time(scene_id) or _acquired(path, first),
        processing_level=next(filter(None, map(processing_level, _product_ids(path))), None),
        files=tuple(map(stamp, files)),
        notes=notes,
    )


def _check_grid(source: rasterio.DatasetReader, first: rasterio.DatasetReader) -> None:
    if source.crs is None:
        raise SceneError(f"{shown(source.name)}: has no CRS; a georeferenced raster is wanted")
    georef, wanted = (GeoRef.of(one, shown(one.name), error=SceneError) for one in (source, first))
    if georef != wanted:
        raise SceneError(
            f"{shown(source.name)}: its grid ({_grid_text(source)}) differs from that of "
            f"{shown(first.name)} ({_grid_text(first)}); all bands must be on one grid"
        )


def _grid_text(source: rasterio.DatasetReader) -> str:
    t = source.transform
    return (
        f"{source.height} x {source.width} px of {t.a!r} x {-t.e!r} from ({t.c!r}, {t.f!r}), "
        f"{source.crs.to_string()[:40]}"
    )


def _check_dtype(source: rasterio.DatasetReader, band: BandSource, first: str) -> None:
    dtype = source.dtypes[band.index - 1]
    if dtype not in _DTYPES:
        raise SceneError(
            f"{shown(source.name)}: band {band.index} is {dtype}; one of {', '.join(_DTYPES)} is "
            "wanted"
        )
    if dtype != first:
        raise SceneError(
            f"{shown(source.name)}: band {band.index} is {dtype}, another band {first}; one type "
            "is wanted"
        )


def _with_validity(
    band: BandSource,
    source: rasterio.DatasetReader,
    sources: Sequence[BandSource],
    nodata: float | None,
) -> BandSource:
    """Add the nodata value and the mask to a band; a band the model uses is never its alpha."""
    used = {other.index for other in sources if other.path == band.path}
    alphas = [
        index
        for index, colour in zip(source.indexes, source.colorinterp, strict=True)
        if colour == ColorInterp.alpha and index not in used
    ]
    flags = source.mask_flag_enums[band.index - 1]
    mask_index = None
    if alphas:
        mask_index = alphas[0]
    elif MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
        mask_index = 0
    tag = source.nodatavals[band.index - 1]
    return replace(
        band,
        # The job and its workers must find the file from any working folder.
        path=absolute(band.path),
        nodata=tag if nodata is None else nodata,
        mask_index=mask_index,
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


def _per_band(value: Factor, name: str, wanted: Sequence[str]) -> tuple[float, ...]:
    if isinstance(value, int | float):
        return (float(value),) * len(wanted)
    if len(value) == 1:
        return (float(value[0]),) * len(wanted)
    if len(value) != len(wanted):
        raise SceneError(
            f"--{name} gives {len(value)} numbers; one, or one for each of {', '.join(wanted)}, "
            "is wanted"
        )
    return tuple(float(number) for number in value)
