"""Outline forest in a stored probability or mask; neither a model nor torch is needed."""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

import numpy as np
from affine import Affine

from geoforest.arrays.georef import GeoRef
from geoforest.arrays.polygons.polygons import PolygonCounts, PolygonStream, check_rules, together
from geoforest.arrays.polygons.reproject import checked_crs, reprojected
from geoforest.arrays.stitch import mask_from_probability
from geoforest.errors import GeoforestWarning, InputError, OutputError, ReadError
from geoforest.io.cog import read_strips
from geoforest.io.geopackage import LAYER, layers
from geoforest.io.raster import RASTER_ERRORS, open_raster
from geoforest.io.remote import shown
from geoforest.io.vectors import FORMATS, write_polygons
from geoforest.types import (
    FOREST,
    NO_OBSERVATION,
    OTHER,
    PROBABILITY_STEPS,
    Array,
    Mask,
    StoredProbability,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import geopandas
    import rasterio

_Value = TypeVar("_Value")
# Largest error of an edge after reprojection.
_TOLERANCE_PX = 0.01


class PolygonRules(TypedDict, total=False):
    """Keywords of :func:`vectorize`, see :class:`geoforest.arrays.polygons.polygons.PolygonStream`.

    Attributes
    ----------
    min_area_ha
        Minimum mapping unit of patches and holes, ha; default 0.5, 0 keeps all.
    max_vertices
        A patch with more vertices is cut; default 100,000, 0 never cuts.
    corners_touch
        Whether pixels that touch only at a corner are one patch; default False.
    simplify_px
        Size of the details that vanish, pixels; default 0.
    """

    min_area_ha: float
    max_vertices: int
    corners_touch: bool
    simplify_px: float


def vectorize(
    raster: str | Path,
    *,
    threshold: float | None = None,
    value: int | None = None,
    **rules: Unpack[PolygonRules],
) -> geopandas.GeoDataFrame:
    """Outline forest in a stored probability or mask; all polygons are held in memory.

    Parameters
    ----------
    raster
        ``forest_probability.tif`` or ``forest_mask.tif``, or a single-band uint8 raster of mask
        codes (0 other, 1 forest, 255 no observation). Without a CRS areas are in pixels, and a
        warning says so.
    threshold
        Threshold of a probability, 0 to 1; by default the one that the model's card recommends.
    value
        Outline this value instead of forest, in any single-band raster of whole numbers. Its
        nodata value, if it has one, means no observation.
    **rules
        ``min_area_ha`` (0.5; 0 keeps all), ``max_vertices`` (100,000; 0 never cuts),
        ``corners_touch`` (False), ``simplify_px`` (0); see :class:`PolygonRules`.

    Returns
    -------
    geopandas.GeoDataFrame
        One row per polygon; see :meth:`geoforest.arrays.polygons.polygons.PolygonStream.frames`.

    Raises
    ------
    InputError
        When the raster is of another kind, or has a rotated grid.
    """
    _check_on_disk(raster)
    with _stream(_open_source(Path(raster), threshold, value), rules) as stream:
        return together(stream.frames())


def vectorize_to_file(
    raster: str | Path,
    out: str | Path,
    *,
    threshold: float | None = None,
    value: int | None = None,
    crs: Any = None,
    **rules: Unpack[PolygonRules],
) -> PolygonCounts:
    """Write the polygons that :func:`vectorize` returns, as a stream, however many they are.

    Simplified polygons are held in memory: about 0.2 kB per vertex of the exact outlines.

    Parameters
    ----------
    raster, threshold, value, **rules
        As for :func:`vectorize`.
    out
        GeoPackage (.gpkg), GeoParquet (.parquet) or FlatGeobuf (.fgb) to write; an existing one is
        replaced.
    crs
        CRS of the polygons, as pyproj accepts it; by default the raster's. Edges that would bend
        get more points. Areas stay those of the pixels.

    Returns
    -------
    PolygonCounts
        Numbers of patches, polygons and pixels.

    Raises
    ------
    InputError
        When :func:`vectorize` would raise it, or a raster without CRS is to be reprojected.
    OutputError
        When ``out`` cannot be written, has another suffix, or holds something else.
    WriteError
        When writing fails midway.
    """
    _check_on_disk(raster, out)
    out = Path(out)
    _check_out(out, Path(raster))
    source = _open_source(Path(raster), threshold, value)
    target = None if crs is None else checked_crs(crs)
    if target is not None and source.georef.crs is None:
        raise InputError(f"{raster}: has no CRS, and so cannot be brought to {target.name!r}")
    present = next(path for path in out.absolute().parents if path.exists())
    with _stream(source, rules, present) as stream:
        frames = stream.frames()
        if target is not None:
            tolerance = _TOLERANCE_PX * source.georef.transform.a
            frames = (reprojected(frame, target, tolerance=tolerance) for frame in frames)
        write_polygons(frames, out)
        return stream.counts()


def _stream(source: _Source, rules: PolygonRules, folder: Path | None = None) -> PolygonStream:
    check_rules(
        min_area_ha=rules.get("min_area_ha", 0),
        max_vertices=rules.get("max_vertices", 0),
        simplify_px=rules.get("simplify_px", 0),
    )
    if source.georef.crs is None:
        warnings.warn(
            f"{source.path}: has no CRS, so areas and lengths are in pixels, and no patch or hole "
            "is too small",
            GeoforestWarning,
            stacklevel=3,
        )
    stream = PolygonStream(source.georef, attributes=source.attributes, folder=folder, **rules)
    try:
        for mask, probability in source.strips():
            stream.add(mask, probability)
    except BaseException:
        stream.close()
        raise
    return stream


def _check_on_disk(*locations: str | Path) -> None:
    for location in map(str, locations):
        if "://" in location:
            raise InputError(
                f"{shown(location)}: is a URL; vectorize reads and writes files on disk"
            )


def _check_out(out: Path, raster: Path) -> None:
    """Check before the work that the output can be written and destroys nothing else."""
    kind = out.suffix.lower()
    if kind not in FORMATS:
        raise OutputError(f"{out}: a name that ends in {', '.join(FORMATS)} was wanted")
    if out.exists():
        if kind != ".gpkg" and out.is_file() and not out.samefile(raster):
            return
        if not out.is_file() or out.samefile(raster) or layers(out) != [LAYER]:
            raise OutputError(
                f"{out}: exists and is no GeoPackage of the one layer {LAYER}; choose another name"
            )
    else:
        present = next(path for path in out.absolute().parents if path.exists())
        if not present.is_dir() or not os.access(present, os.W_OK):
            raise OutputError(f"{out}: cannot be written ({present} is not a writable folder)")


@dataclass(frozen=True)
class _Source:
    """A raster, and how its pixels become a mask."""

    path: Path
    georef: GeoRef
    attributes: dict[str, Any]
    to_mask: Callable[[Array], tuple[Mask, StoredProbability | None]]

    def strips(self) -> Iterator[tuple[Mask, StoredProbability | None]]:
        """Read mask and stored probability in strips of rows, from top to bottom."""
        try:
            for _, values in read_strips(self.path):
                yield self.to_mask(values)
        except (*RASTER_ERRORS, MemoryError) as error:
            raise ReadError(f"{self.path}: cannot be read to its end ({error})") from error


def _open_source(path: Path, threshold: float | None, value: int | None) -> _Source:
    if not path.exists():
        raise InputError(f"{path}: no such file")
    try:
        with open_raster(path) as source:
            georef = _georef(source, path)
            _check_band(source, path, value)
            tags, scale, nodata = source.tags(), source.scales[0], source.nodata
    except RASTER_ERRORS as error:
        raise InputError(f"{path}: not a raster that GDAL can read ({error})") from error
    attributes: dict[str, Any] = {
        "scene_id": tags.get("SCENE_ID", path.stem),
        "acquired": _parse_tag(datetime.fromisoformat, tags.get("ACQUIRED")),
        "model": tags.get("MODEL", ""),
    }
    if value is not None:
        if threshold is not None:
            raise InputError("--value and --threshold: one of them, for another kind of raster")
        if value == nodata:
            raise InputError(f"{path}: --value {value} is its nodata value; another was wanted")
        attributes["threshold"] = math.nan
        of_value = partial(_mask_of_value, value=value, nodata=nodata)
        return _Source(path, georef, attributes, of_value)
    if abs(scale - 1 / PROBABILITY_STEPS) < 1e-9:
        chosen = _chosen_threshold(path, threshold, _parse_tag(float, tags.get("MODEL_THRESHOLD")))
        attributes["threshold"] = chosen
        of_probability = partial(_mask_of_probability, path, threshold=chosen)
        return _Source(path, georef, attributes, of_probability)
    if threshold is not None:
        raise InputError(f"{path}: is a mask, which takes no --threshold; give the probability")
    recorded = _parse_tag(float, tags.get("THRESHOLD"))
    attributes["threshold"] = math.nan if recorded is None else recorded
    return _Source(path, georef, attributes, partial(_mask_of_codes, path))


def _mask_of_value(values: Array, value: int, nodata: float | None) -> tuple[Mask, None]:
    mask = (values == value).astype(np.uint8)
    if nodata is not None:
        mask[values == nodata] = NO_OBSERVATION
    return mask, None


def _mask_of_probability(
    path: Path, values: Array, threshold: float
) -> tuple[Mask, StoredProbability]:
    if (unexpected := _unexpected(values, range(PROBABILITY_STEPS + 1))) is not None:
        raise InputError(f"{path}: stored probability {unexpected}; 0 to 250 or 255 was wanted")
    return mask_from_probability(values, threshold), values


def _mask_of_codes(path: Path, values: Array) -> tuple[Mask, None]:
    if (unexpected := _unexpected(values, (OTHER, FOREST))) is not None:
        raise InputError(
            f"{path}: value {unexpected}; a mask of 0, 1 and 255, or a probability with scale "
            f"{1 / PROBABILITY_STEPS:g}, was wanted; --value outlines another value"
        )
    return values, None


def _parse_tag(kind: Callable[[str], _Value], text: str | None) -> _Value | None:
    """Parse the value of a tag; return None when another program wrote something else."""
    try:
        return None if text is None else kind(text)
    except ValueError:
        return None


def _georef(source: rasterio.DatasetReader, path: Path) -> GeoRef:
    if source.crs is None and source.transform == Affine.identity():
        # Without a position, rows still grow downwards, as QGIS draws them.
        return GeoRef(source.shape, Affine(1, 0, 0, 0, -1, 0), None)
    return GeoRef.of(source, path)


def _check_band(source: rasterio.DatasetReader, path: Path, value: int | None) -> None:
    kind = source.dtypes[0]
    fits = kind == "uint8" if value is None else np.issubdtype(np.dtype(kind), np.integer)
    if source.count != 1 or not fits:
        wanted = "uint8" if value is None else "whole numbers"
        if value is None and np.issubdtype(np.dtype(kind), np.integer):
            wanted += " (or --value, of whole numbers)"
        raise InputError(f"{path}: {source.count} band(s) of {kind}; one of {wanted} was wanted")


def _chosen_threshold(path: Path, given: float | None, recorded: float | None) -> float:
    chosen = recorded if given is None else given
    if chosen is None:
        raise InputError(f"{path}: no threshold is recorded in it; give --threshold")
    if not 0 <= chosen <= 1:
        raise InputError(f"threshold {chosen}: 0 to 1 was wanted")
    return chosen


def _unexpected(values: Array, allowed: Any) -> int | None:
    """Find the smallest value that is neither allowed nor 255; None when there is none."""
    from geoforest.arrays.kernels.pixels import count_pixels

    counts = count_pixels(values, 256)
    counts[[*allowed, NO_OBSERVATION]] = 0
    found = np.flatnonzero(counts)
    return int(found[0]) if found.size else None
