"""Polygons from a stored raster, probability or mask: no model and no torch needed."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import rasterio
from rasterio.errors import RasterioIOError

from geoforest.errors import InputError, OutputError
from geoforest.io.geopackage import LAYER, layers, write_geopackage
from geoforest.polygons import Polygons
from geoforest.polygons import vectorize as vectorize_array
from geoforest.stitch import mask_from_probability
from geoforest.types import FOREST, NO_OBSERVATION, OTHER, PROBABILITY_STEPS, Array, Mask

if TYPE_CHECKING:
    import geopandas

_Value = TypeVar("_Value")


def vectorize(
    raster: str | Path,
    out: str | Path | None = None,
    *,
    threshold: float | None = None,
    min_area_ha: float = 0.5,
    max_vertices: int = 100_000,
) -> geopandas.GeoDataFrame:
    """Forest-cover polygons of a stored probability or mask.

    Parameters
    ----------
    raster
        ``forest_probability.tif`` or ``forest_mask.tif``, or a single-band uint8 raster of mask
        codes (0 other, 1 forest, 255 no observation).
    out
        GeoPackage to write; an existing file is replaced. None writes nothing.
    threshold
        For a probability; by default the one the model's card recommends.
    min_area_ha
        Minimum mapping unit for patches and for holes, in hectares; 0 keeps all.
    max_vertices
        A patch with more is written in parts on a fixed grid; 0 never cuts.

    Returns
    -------
    geopandas.GeoDataFrame
        One row a polygon; see :func:`geoforest.polygons.vectorize`.

    Raises
    ------
    InputError
        When the raster is neither, or has no CRS or a rotated grid.
    OutputError
        When ``out`` lies where nothing can be written.
    WriteError
        When it cannot be written whole.
    """
    return vectorize_raster(
        raster, out, threshold=threshold, min_area_ha=min_area_ha, max_vertices=max_vertices
    ).frame


def vectorize_raster(
    raster: str | Path,
    out: str | Path | None = None,
    *,
    threshold: float | None = None,
    min_area_ha: float = 0.5,
    max_vertices: int = 100_000,
) -> Polygons:
    """As :func:`vectorize`, with the accounting of pixels beside the polygons."""
    if out is not None:
        _check_target(Path(out), Path(raster))
    for name, value in (("--min-area-ha", min_area_ha), ("--max-vertices", max_vertices)):
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"{name} {value}: 0 or more was wanted")
    stored = _read(Path(raster), threshold)
    polygons = vectorize_array(
        stored.mask,
        transform=stored.transform,
        crs=stored.crs,
        probability=stored.probability,
        min_area_ha=min_area_ha,
        max_vertices=max_vertices,
        attributes=stored.attributes,
    )
    if out is not None:
        write_geopackage(polygons.frame, Path(out))
    return polygons


def _check_target(out: Path, raster: Path) -> None:
    """Find before the work what would only fail, or destroy something, after it."""
    if out.suffix.lower() != ".gpkg":
        raise OutputError(f"{out}: a GeoPackage, whose name ends in .gpkg, was wanted")
    if out.exists():
        if not out.is_file() or out.samefile(raster) or layers(out) != [LAYER]:
            raise OutputError(
                f"{out}: exists and is no GeoPackage of the one layer {LAYER}; choose another name"
            )
    else:
        present = next(path for path in out.absolute().parents if path.exists())
        if not present.is_dir() or not os.access(present, os.W_OK):
            raise OutputError(f"{out}: cannot be written ({present} is no folder to write to)")


@dataclass(frozen=True)
class _Stored:
    mask: Mask
    probability: Array | None
    transform: Any
    crs: Any
    attributes: dict[str, Any]


def _read(path: Path, threshold: float | None) -> _Stored:
    if not path.exists():
        raise InputError(f"{path}: no such file")
    try:
        with rasterio.open(path) as source:
            _check(source, path)
            values, tags = source.read(1), source.tags()
            scale, transform, crs = source.scales[0], source.transform, source.crs
    except RasterioIOError as error:
        raise InputError(f"{path}: not a raster that GDAL can read ({error})") from error
    attributes: dict[str, Any] = {
        "scene_id": tags.get("SCENE_ID", path.stem),
        "acquired": _parsed(datetime.fromisoformat, tags.get("ACQUIRED")),
        "model": tags.get("MODEL", ""),
    }
    if abs(scale - 1 / PROBABILITY_STEPS) < 1e-9:
        chosen = _chosen_threshold(path, threshold, _parsed(float, tags.get("MODEL_THRESHOLD")))
        if (strange := _strange(values, range(PROBABILITY_STEPS + 1))) is not None:
            raise InputError(f"{path}: stored probability {strange}; 0 to 250 or 255 was wanted")
        mask = mask_from_probability(values, chosen)
        return _Stored(mask, values, transform, crs, {**attributes, "threshold": chosen})
    if threshold is not None:
        raise InputError(f"{path}: is a mask, which takes no --threshold; give the probability")
    if (strange := _strange(values, (OTHER, FOREST))) is not None:
        raise InputError(
            f"{path}: value {strange}; a mask of 0, 1 and 255, or a probability with scale "
            f"{1 / PROBABILITY_STEPS:g}, was wanted"
        )
    recorded = _parsed(float, tags.get("THRESHOLD"))
    attributes["threshold"] = math.nan if recorded is None else recorded
    return _Stored(values, None, transform, crs, attributes)


def _parsed(kind: Callable[[str], _Value], text: str | None) -> _Value | None:
    """Value of a tag; None where another program wrote something else there."""
    try:
        return None if text is None else kind(text)
    except ValueError:
        return None


def _check(source: rasterio.DatasetReader, path: Path) -> None:
    if source.count != 1 or source.dtypes[0] != "uint8":
        raise InputError(
            f"{path}: {source.count} band(s) of {source.dtypes[0]}; one of uint8 was wanted"
        )
    t = source.transform
    if source.crs is None or t.b or t.d or t.a <= 0 or t.e >= 0:
        raise InputError(f"{path}: a north-up raster with a CRS was wanted")


def _chosen_threshold(path: Path, given: float | None, recorded: float | None) -> float:
    chosen = recorded if given is None else given
    if chosen is None:
        raise InputError(f"{path}: no threshold is recorded in it; give --threshold")
    if not 0 <= chosen <= 1:
        raise InputError(f"threshold {chosen}: 0 to 1 was wanted")
    return chosen


def _strange(values: Array, allowed: Any) -> int | None:
    """First value that is neither allowed nor 255."""
    counts = np.zeros(256, np.int64)
    for row in values:  # of the whole at once, bincount would make a copy eight times the size
        counts += np.bincount(row, minlength=256)
    counts[[*allowed, NO_OBSERVATION]] = 0
    found = np.flatnonzero(counts)
    return int(found[0]) if found.size else None
