"""Polygons in another CRS, with points where a straight edge would bend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from geoforest.errors import InputError

if TYPE_CHECKING:
    import geopandas

Floats = NDArray[np.float64]

# Bend over length: about a thousandth for an edge as long as a scene, a half for a torn one.
_TORN = 0.25
_SIDE_PARTS = 64


def checked_crs(crs: Any) -> pyproj.CRS:
    """Parse a CRS that a user wrote.

    Raises
    ------
    InputError
        When it is unknown.
    """
    try:
        return pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError as error:
        raise InputError(
            f"CRS {crs!r}: not known; an EPSG code such as EPSG:4326 was wanted"
        ) from error


def reprojected(
    frame: geopandas.GeoDataFrame, crs: pyproj.CRS, *, tolerance: float
) -> geopandas.GeoDataFrame:
    """Move polygons to another CRS.

    The points inserted along an edge depend only on its two ends, not on their order: polygons
    that share an edge still share it, to the last bit.

    Parameters
    ----------
    frame
        Polygons, with a CRS.
    crs
        CRS of the result.
    tolerance
        Largest distance of an edge from the exact line, in units of the frame's CRS.

    Returns
    -------
    geopandas.GeoDataFrame
        The same rows; exteriors counter-clockwise.

    Raises
    ------
    InputError
        When a polygon leaves the domain of the CRS, or is torn where the CRS begins and ends.
    """
    if frame.empty:
        return frame.to_crs(crs)
    move = pyproj.Transformer.from_crs(frame.crs, crs, always_xy=True)
    _, points, (ring_ends, polygon_ends) = shapely.to_ragged_array(frame.geometry.to_numpy())
    # Edges from each point to the next; from the end of a ring to the next there is none.
    starts, ends = points[:-1], points[1:]
    swapped = (starts[:, 0] > ends[:, 0]) | (
        (starts[:, 0] == ends[:, 0]) & (starts[:, 1] > ends[:, 1])
    )
    low = np.where(swapped[:, None], ends, starts)
    high = np.where(swapped[:, None], starts, ends)
    pieces = _pieces(low, high, move, tolerance, crs)
    pieces[ring_ends[1:-1] - 1] = 1
    first = np.concatenate([[0], np.cumsum(pieces)])
    edge = np.repeat(np.arange(len(pieces)), pieces)
    step = np.arange(first[-1]) - first[edge]
    # Steps are counted from the lower end.
    step = np.where(swapped[edge], pieces[edge] - step, step)
    dense = low[edge] + (high - low)[edge] * (step / pieces[edge])[:, None]
    # Rounding must not move the ends.
    dense[step == 0] = low[edge[step == 0]]
    dense[step == pieces[edge]] = high[edge[step == pieces[edge]]]
    dense = np.concatenate([dense, points[-1:]])
    moved = _moved(move, dense, crs)
    geometries = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON,
        moved,
        (np.append(first, first[-1] + 1)[ring_ends], polygon_ends),
    )
    made = frame.set_geometry(shapely.orient_polygons(geometries), crs=None)
    return made.set_crs(crs, allow_override=True)


def surroundings(box: shapely.Geometry, crs: Any, there: Any) -> tuple[float, ...] | None:
    """Return the bounds of a box in another CRS, with a margin, to clip polygons before projecting.

    Most projections cannot hold polygons of half the world.

    Parameters
    ----------
    box, crs
        The box and its CRS.
    there
        The other CRS.

    Returns
    -------
    tuple of float or None
        ``(left, bottom, right, top)``; None where the box leaves the domain of the other CRS.
    """
    import geopandas

    left, bottom, right, top = box.bounds
    outline = shapely.segmentize(box, max(right - left, top - bottom) / _SIDE_PARTS)
    bounds = geopandas.GeoSeries([outline], crs=crs).to_crs(there).total_bounds
    if not np.isfinite(bounds).all():
        return None
    margin = 0.1 * max(bounds[2] - bounds[0], bounds[3] - bounds[1])
    return tuple(map(float, bounds + np.array([-margin, -margin, margin, margin])))


def _pieces(
    low: Floats, high: Floats, move: pyproj.Transformer, tolerance: float, crs: pyproj.CRS
) -> NDArray[np.int64]:
    """Count the pieces that each edge must be cut in."""
    a, b = _moved(move, low, crs), _moved(move, high, crs)
    middle = _moved(move, (low + high) / 2, crs)
    bend = np.hypot(*(middle - (a + b) / 2).T)
    length, length_after = np.hypot(*(high - low).T), np.hypot(*(b - a).T)
    # A torn edge leaves the map at one side and comes back at the other.
    if (bend > _TORN * length_after).any():
        raise InputError(
            f"CRS {crs.name!r}: polygons are torn where it begins and ends; another CRS was wanted"
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = bend / (tolerance * length_after / length)
    # The bend falls with the square of the number of pieces.
    ratio = np.nan_to_num(ratio, nan=0.0, posinf=0.0)
    pieces: NDArray[np.int64] = np.clip(np.ceil(np.sqrt(ratio)), 1, 10_000).astype(np.int64)
    return pieces


def _moved(move: pyproj.Transformer, points: Floats, crs: pyproj.CRS) -> Floats:
    moved = np.column_stack(move.transform(points[:, 0], points[:, 1]))
    if not np.isfinite(moved).all():
        raise InputError(
            f"CRS {crs.name!r}: polygons leave its domain; one that holds them all was wanted"
        )
    return moved
