"""Generalised outlines of a mosaic, for maps of the whole area."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyproj

from geoforest.arrays.georef import GeoRef
from geoforest.arrays.polygons.polygons import PolygonStream
from geoforest.arrays.polygons.reproject import reprojected
from geoforest.io.cog import read_strips
from geoforest.io.geopackage import write_geopackage
from geoforest.io.raster import open_raster
from geoforest.types import FOREST, NO_OBSERVATION, OTHER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

OVERVIEW_LAYER: Final = "forest_overview"

# A cell is forest from half its ground on; patches and clearings below a square km are left out.
_FOREST_PERCENT = 50
_MIN_AREA_HA = 100.0
_SIMPLIFY_CELLS = 2.0


def write_overview(path: Path, fraction: Path, attributes: Mapping[str, Any]) -> None:
    """Write the outlines of ground that is mostly forest.

    Parameters
    ----------
    path
        GeoPackage to write, in longitude and latitude.
    fraction
        See :func:`geoforest.maps.mosaic.cells.write_fraction`.
    attributes
        Columns that are the same in each row.
    """
    with open_raster(fraction) as source:
        georef = GeoRef.of(source, fraction)
    with PolygonStream(
        georef,
        min_area_ha=_MIN_AREA_HA,
        simplify_px=_SIMPLIFY_CELLS,
        attributes=dict(attributes),
        folder=path.parent,
    ) as stream:
        for _, percent in read_strips(fraction):
            mask = np.where(percent >= _FOREST_PERCENT, FOREST, OTHER).astype(np.uint8)
            mask[percent == NO_OBSERVATION] = NO_OBSERVATION
            stream.add(mask)
        degrees, cell_m = pyproj.CRS.from_epsg(4326), georef.transform.a
        frames = (
            reprojected(frame.drop(columns="mean_probability"), degrees, tolerance=cell_m / 10)
            for frame in stream.frames()
        )
        write_geopackage(frames, path, layer=OVERVIEW_LAYER)
