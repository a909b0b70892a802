"""What is this input? Opens a raster or a folder of bands and describes it as a scene."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

from geoforest.errors import SceneError
from geoforest.io.geotiff import check_not_truncated
from geoforest.predict import Factor
from geoforest.scene import BandSource, Scene, band_name, processing_level, sensing_time

_DTYPES = ("uint8", "uint16", "int16", "float32")
_BAND_FILES = {".tif", ".tiff", ".jp2", ".vrt", ".img"}


def open_scene(
    path: str | Path,
    *,
    wanted: Sequence[str],
    bands: Sequence[int] | None = None,
    scale: Factor = 1e-4,
    offset: Factor = 0.0,
    nodata: float | None = None,
    scene_id: str | None = None,
) -> Scene:
    """Describe a raster, or a folder with one file a band, as a scene.

    Parameters
    ----------
    path
        A raster that GDAL opens, or a folder with files such as ``B02.tif`` ... ``B08.tif``.
    wanted
        Bands the model needs, in its order, such as ``("B04", "B03", "B02", "B08")``.
    bands
        1-based band numbers of ``wanted``, for a raster whose descriptions do not name them.
    scale, offset
        Reflectance is ``dn * scale + offset``; scalars or one per band.
    nodata
        Replaces the file's own nodata value.
    scene_id
        Replaces the file's stem.

    Raises
    ------
    SceneError
        With the file, what was found and what was wanted.
    """
    path = Path(path)
    folder = path.is_dir()
    sources = _band_files(path, wanted) if folder else _raster_bands(path, wanted, bands)
    identity = scene_id or (path.resolve().name if folder else path.stem)
    if identity in {"", ".", ".."} or "/" in identity or "\\" in identity or "\0" in identity:
        raise SceneError(f"{path}: scene id {identity!r} cannot name a folder; give --scene-id")
    return _describe(
        path,
        identity,
        sources,
        scale=_per_band(scale, "scale", wanted),
        offset=_per_band(offset, "offset", wanted),
        nodata=nodata,
    )


@contextmanager
def _opened(path: str | Path) -> Iterator[rasterio.DatasetReader]:
    if not Path(path).exists():
        raise SceneError(f"{path}: no such file or folder")
    with ExitStack() as stack, warnings.catch_warnings():
        # A missing georeference gets a sentence of its own further on.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            source = stack.enter_context(rasterio.open(path))
        except RasterioIOError as error:
            raise SceneError(f"{path}: not a raster that GDAL can open ({error})") from error
        yield source


def _raster_bands(
    path: Path, wanted: Sequence[str], bands: Sequence[int] | None
) -> list[BandSource]:
    with _opened(path) as source:
        names = [band_name(text or "") for text in source.descriptions]
        if bands is None:
            bands = _bands_by_description(path, names, wanted)
        elif len(bands) != len(wanted):
            raise SceneError(
                f"{path}: --bands gives {len(bands)} band numbers, the model needs {len(wanted)}: "
                f"{', '.join(wanted)}"
            )
        for index in bands:
            if not 1 <= index <= source.count:
                raise SceneError(
                    f"{path}: --bands asks for band {index}, the file has {source.count}"
                )
        return [
            BandSource(name, str(path), index) for name, index in zip(wanted, bands, strict=True)
        ]


def _bands_by_description(
    path: Path, names: Sequence[str | None], wanted: Sequence[str]
) -> list[int]:
    missing = [name for name in wanted if name not in names]
    if missing:
        found = ", ".join(name or "without a name" for name in names)
        raise SceneError(
            f"{path}: band {missing[0]} is missing: its {len(names)} band(s) are {found}, and "
            f"{', '.join(wanted)} are wanted; if they are there, give their numbers in this "
            "order with --bands, such as --bands 1,2,3,4"
        )
    twice = [name for name in wanted if names.count(name) > 1]
    if twice:
        raise SceneError(f"{path}: band {twice[0]} is there twice; choose with --bands")
    return [names.index(name) + 1 for name in wanted]


def _band_files(folder: Path, wanted: Sequence[str]) -> list[BandSource]:
    candidates: dict[str, list[Path]] = {name: [] for name in wanted}
    for item in sorted(folder.iterdir()):
        name = band_name(item.stem)
        if item.suffix.lower() in _BAND_FILES and name in candidates:
            candidates[name].append(item)
    for name, files in candidates.items():
        if not files:
            raise SceneError(
                f"{folder}: band {name} is missing: one file a band was wanted, named such as "
                f"{name}.tif, for {', '.join(wanted)}"
            )
        if len(files) > 1:
            raise SceneError(
                f"{folder}: {len(files)} files for band {name}: "
                f"{', '.join(file.name for file in files)}; one was wanted"
            )
    for files in candidates.values():
        with _opened(files[0]) as source:
            if source.count != 1:
                raise SceneError(f"{files[0]}: has {source.count} bands, one was wanted")
    return [BandSource(name, str(files[0]), 1) for name, files in candidates.items()]


def _describe(
    path: Path,
    scene_id: str,
    sources: list[BandSource],
    *,
    scale: tuple[float, ...],
    offset: tuple[float, ...],
    nodata: float | None,
) -> Scene:
    with ExitStack() as stack:
        opened = {
            name: stack.enter_context(_opened(name)) for name in {band.path for band in sources}
        }
        first = opened[sources[0].path]
        for source in opened.values():
            _check_grid(source, first)
            check_not_truncated(source)
        for band in sources:
            _check_dtype(opened[band.path], band, first.dtypes[sources[0].index - 1])
        bands = tuple(_with_validity(band, opened[band.path], sources, nodata) for band in sources)
        dtype = first.dtypes[sources[0].index - 1]
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
            acquired=_acquired(path, first),
            processing_level=next(filter(None, map(processing_level, _product_ids(path))), None),
            files=_stamps(opened.values()),
            notes=notes,
        )


def _check_grid(source: rasterio.DatasetReader, first: rasterio.DatasetReader) -> None:
    if source.crs is None:
        raise SceneError(f"{source.name}: has no CRS; a georeferenced raster is wanted")
    t = source.transform
    if t.b or t.d or t.a <= 0 or t.e >= 0:
        raise SceneError(
            f"{source.name}: its transform {tuple(t)[:6]} is rotated or not north-up; "
            "warp it first, for example with gdalwarp"
        )
    if (source.shape, source.crs, t) != (first.shape, first.crs, first.transform):
        raise SceneError(
            f"{source.name}: its grid ({_grid_text(source)}) differs from that of {first.name} "
            f"({_grid_text(first)}); all bands must be on one grid"
        )


def _grid_text(source: rasterio.DatasetReader) -> str:
    return (
        f"{source.height} x {source.width} px of {source.res[0]:g}, {source.crs.to_string()[:40]}"
    )


def _check_dtype(source: rasterio.DatasetReader, band: BandSource, first: str) -> None:
    dtype = source.dtypes[band.index - 1]
    if dtype not in _DTYPES:
        raise SceneError(
            f"{source.name}: band {band.index} is {dtype}; one of {', '.join(_DTYPES)} is wanted"
        )
    if dtype != first:
        raise SceneError(
            f"{source.name}: band {band.index} is {dtype}, another band {first}; one type is wanted"
        )


def _with_validity(
    band: BandSource,
    source: rasterio.DatasetReader,
    sources: Sequence[BandSource],
    nodata: float | None,
) -> BandSource:
    """Add the nodata value and the mask; a band the model uses is never taken for alpha."""
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
        # The job is the same, and workers find the file, from whatever folder they were started.
        path=str(Path(band.path).absolute()),
        nodata=tag if nodata is None else nodata,
        mask_index=mask_index,
    )


def _product_ids(path: Path) -> tuple[str, str]:
    """Where a product's id may stand: the name of the scene, or of the folder it lies in."""
    absolute = path.absolute()
    return absolute.stem, absolute.parent.name


def _acquired(path: Path, source: rasterio.DatasetReader) -> datetime | None:
    """Time in the product's name, else the one in GDAL's metadata domain for it."""
    for named in map(sensing_time, _product_ids(path)):
        if named is not None:
            return named
    text = source.tags(ns="IMAGERY").get("ACQUISITIONDATETIME", "")
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        return None


def _stamps(opened: Iterable[rasterio.DatasetReader]) -> tuple[tuple[str, int, int], ...]:
    paths = sorted({Path(name).absolute() for source in opened for name in source.files})
    status = {path: path.stat() for path in paths}
    return tuple((str(path), status[path].st_size, status[path].st_mtime_ns) for path in paths)


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
