"""Footprints and areas in longitude and latitude, also across the antimeridian, also broken ones.

GeoJSON wants shapes that are cut where they cross 180 degrees; catalogues and drawing programs
often do not cut them. An edge longer than 180 degrees is therefore taken to go the other way round
the globe, across the antimeridian.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import shapely
import shapely.affinity
from shapely.geometry import shape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shapely.geometry.base import BaseGeometry

    from geoforest.types import Array

_TURN: Final = 360.0
_POLE: Final = 90.0


def read_footprint(geometry: dict[str, Any]) -> tuple[BaseGeometry, bool]:
    """Read the GeoJSON geometry of an item.

    Returns
    -------
    footprint : shapely geometry
        Valid, within longitudes -180 to 180.
    repaired : bool
        Whether it crossed itself or was otherwise invalid.

    Raises
    ------
    ValueError, TypeError, LookupError, AttributeError, shapely.errors.ShapelyError
        When it is no geometry with numbers.
    """
    found = shape(geometry)
    if found.is_empty or not np.isfinite(shapely.get_coordinates(found)).all():
        raise ValueError("its geometry has no coordinates, or some that are no numbers")
    return on_globe(found), _is_broken(geometry, found)


def on_globe(geometry: BaseGeometry) -> BaseGeometry:
    """Cut a geometry at the antimeridian, and make it valid.

    Parameters
    ----------
    geometry
        In degrees. A polygon whose edges are longer than 180 degrees, or whose longitudes lie
        beyond 180, crosses the antimeridian; one around a pole contains it. Other kinds of geometry
        are not cut.

    Examples
    --------
    >>> fiji = shapely.Polygon([(179, -18), (-179, -18), (-179, -17), (179, -17)])
    >>> [part.bounds for part in on_globe(fiji).geoms]
    [(-180.0, -18.0, -179.0, -17.0), (179.0, -18.0, 180.0, -17.0)]
    """
    parts = [_cut(part) for part in _polygons(geometry)]
    others = [
        part
        for part in shapely.get_parts(geometry)
        if part.geom_type not in {"Polygon", "MultiPolygon", "GeometryCollection"}
    ]
    found: BaseGeometry = shapely.union_all([*parts, *others])
    return found


def crosses_antimeridian(geometry: BaseGeometry) -> bool:
    """Return whether :func:`on_globe` would cut one of the polygons."""
    return any(
        bool(part.area) and not _is_cut_already(part) and _unrolled(part) is not None
        for part in _polygons(geometry)
    )


def search_boxes(area: BaseGeometry) -> list[tuple[float, float, float, float]]:
    """Return the boxes with which to search for an area that :func:`on_globe` returned.

    One for each side where the area lies on both sides of the antimeridian: a box around both would
    go round the globe, and not all servers read one whose west is greater than its east.
    """
    west, south, east, north = area.bounds
    if east - west <= _TURN / 2:
        return [(west, south, east, north)]
    halves = (shapely.box(-180, -90, 0, 90), shapely.box(0, -90, 180, 90))
    parts = [area.intersection(half) for half in halves]
    return [part.bounds for part in parts if not part.is_empty]


def _polygons(geometry: BaseGeometry) -> Iterator[BaseGeometry]:
    for part in shapely.get_parts(geometry):
        if part.geom_type == "Polygon" and not part.is_empty:
            yield part
        elif part.geom_type in {"MultiPolygon", "GeometryCollection"}:
            yield from _polygons(part)


def _cut(polygon: BaseGeometry) -> BaseGeometry:
    unrolled = None if _is_cut_already(polygon) else _unrolled(polygon)
    if unrolled is None:
        return shapely.make_valid(polygon)
    west, _, east, _ = unrolled.bounds
    turns = range(int(np.floor((west + 180) / _TURN)), int(np.ceil((east + 180) / _TURN)) or 1)
    pieces = [
        shapely.affinity.translate(
            unrolled.intersection(shapely.box(turn * _TURN - 180, -90, turn * _TURN + 180, 90)),
            -turn * _TURN,
        )
        for turn in turns
    ]
    found: BaseGeometry = shapely.union_all([piece for piece in pieces if piece.area])
    return found


def _is_cut_already(polygon: BaseGeometry) -> bool:
    coordinates = shapely.get_coordinates(polygon)[:, 0]
    steps = [np.abs(np.diff(shapely.get_coordinates(ring)[:, 0])) for ring in _rings(polygon)]
    longest = max(float(step.max()) for step in steps)
    return longest <= _TURN / 2 and bool((np.abs(coordinates) <= 180).all())


def _unrolled(polygon: BaseGeometry) -> BaseGeometry | None:
    """Return a polygon with continuous longitudes; None when it has no area in this way.

    The outline of the whole globe, from -180 to 180, has none.
    """
    shell, *holes = (_unrolled_ring(ring) for ring in _rings(polygon))
    middle = (shell[:, 0].min() + shell[:, 0].max()) / 2
    for hole in holes:
        away = middle - (hole[:, 0].min() + hole[:, 0].max()) / 2
        hole[:, 0] += _TURN * np.round(away / _TURN)
    found: BaseGeometry = shapely.make_valid(shapely.Polygon(shell, holes))
    return found if found.area else None


def _unrolled_ring(ring: BaseGeometry) -> Array:
    points: Array = shapely.get_coordinates(ring)
    points[:, 0] = np.unwrap(points[:, 0], period=_TURN)
    if abs(points[-1, 0] - points[0, 0]) > _TURN / 2:
        # It goes round a pole, which is part of the polygon.
        pole = np.copysign(_POLE, points[:, 1].mean())
        corners = [(points[-1, 0], pole), (points[0, 0], pole), tuple(points[0])]
        points = np.vstack([points, corners])
    return points


def _rings(polygon: BaseGeometry) -> Iterator[BaseGeometry]:
    rings = shapely.get_rings(polygon)
    yield from rings


def _is_broken(geometry: dict[str, Any], found: BaseGeometry) -> bool:
    """Return whether a footprint crosses itself, or one of its rings is not closed."""
    if geometry.get("type") == "Polygon" and any(
        list(ring[0]) != list(ring[-1]) for ring in geometry["coordinates"]
    ):
        return True
    if geometry.get("type") == "MultiPolygon" and any(
        list(ring[0]) != list(ring[-1]) for part in geometry["coordinates"] for ring in part
    ):
        return True
    # Edges that go the wrong way round the globe may cross others there.
    return any(not part.is_valid and _is_cut_already(part) for part in _polygons(found))
