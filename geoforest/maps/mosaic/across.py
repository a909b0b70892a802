"""Maps on the grid of another zone: where they reach, and their pixels there, by the nearest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyproj
import shapely
from rasterio.errors import RasterioIOError

from geoforest.arrays.grid import Window
from geoforest.arrays.zones import Zone
from geoforest.errors import ReadError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import rasterio
    from numpy.typing import NDArray

    from geoforest.arrays.zones import Floats, ZoneGrid
    from geoforest.maps.mosaic.placed import PlacedMap
    from geoforest.types import Shape, StoredProbability

    _Observation = tuple[slice, slice, StoredProbability]

# Over 640 m lines of one zone are straight in another to within a few centimetres.
_NODE_M: Final = 640.0
_MOST_NODE_PX: Final = 64
_BLOCK: Final = (512, 2048)
# Sides of a map bend in another zone: as many chords follow them to within a decimetre.
_CHORDS: Final = 128


def outline_in(one: PlacedMap, zone: Zone) -> shapely.Polygon | None:
    """Return the outline of a map in the coordinates of any zone; None too far from the zone."""
    move = pyproj.Transformer.from_crs(one.grid.zone.epsg, zone.epsg, always_xy=True)
    points = np.column_stack(move.transform(*_sides(one).T))
    return shapely.Polygon(points) if np.isfinite(points).all() else None


def degrees_around(one: PlacedMap) -> tuple[float, float, float, float]:
    """Return west, south, east and north of a map, degrees; east may be above 180."""
    longitudes, latitudes = one.grid.zone.to_lonlat.transform(*_sides(one).T)
    centre = 6.0 * one.grid.zone.number - 183.0
    longitudes = (np.asarray(longitudes) - centre + 180) % 360 - 180 + centre
    return longitudes.min(), min(latitudes), longitudes.max(), max(latitudes)


def zones_reached(one: PlacedMap) -> list[Zone]:
    """Return the other zones whose ground a map reaches."""
    west, south, east, north = degrees_around(one)
    first, last = int((west + 180) // 6), int((east + 180) // 6)
    numbers = {n % 60 + 1 for n in range(first - 1, last + 2)}
    near = (Zone(number, south=south) for number in numbers for south in (False, True))
    return sorted(
        zone
        for zone in near
        if zone != one.grid.zone
        and any(
            band.south < north and band.north > south and overlap(band.west, band.east, west, east)
            for band in zone.bands
        )
    )


def read_across(
    source: rasterio.DatasetReader,
    one: PlacedMap,
    grid: ZoneGrid,
    window: Window,
    wanted: NDArray[np.bool_] | None = None,
) -> Iterator[_Observation]:
    """Yield the pixels of a map on the grid of another zone, block by block.

    A pixel has the value of the map's pixel that holds its centre.

    Parameters
    ----------
    source
        Stored probability of the map.
    one
        The map.
    grid, window
        Grid of the other zone, and the pixels of it.
    wanted
        Pixels of the window that are wanted; blocks without any are left out.

    Raises
    ------
    ReadError
        When the map cannot be read.
    """
    move = pyproj.Transformer.from_crs(grid.zone.epsg, one.grid.zone.epsg, always_xy=True)
    for row in range(0, window.height, _BLOCK[0]):
        for col in range(0, window.width, _BLOCK[1]):
            shape = min(_BLOCK[0], window.height - row), min(_BLOCK[1], window.width - col)
            place = slice(row, row + shape[0]), slice(col, col + shape[1])
            if wanted is not None and not wanted[place].any():
                continue
            block = Window(window.row_off + row, window.col_off + col, *shape)
            stored = _nearest(source, one, move, grid, block)
            if stored is not None:
                yield (*place, stored)


def _nearest(
    source: rasterio.DatasetReader,
    one: PlacedMap,
    move: pyproj.Transformer,
    grid: ZoneGrid,
    block: Window,
) -> StoredProbability | None:
    """Return the pixels of a map on a block of another grid; None where it has none."""
    step = int(np.clip(_NODE_M / grid.size, 1, _MOST_NODE_PX))
    rows = np.arange(0, block.height + step, step)
    cols = np.arange(0, block.width + step, step)
    at_cols, at_rows = np.meshgrid(cols + 0.5, rows + 0.5)
    x, y = move.transform(*(grid.transform(block) @ (at_cols, at_rows)))
    if not (np.isfinite(x) & np.isfinite(y)).all():
        return None
    size, home = one.grid.size, one.window
    down, right = -np.asarray(y) / size - home.row_off, np.asarray(x) / size - home.col_off
    if down.max() < 0 or right.max() < 0 or down.min() > home.height or right.min() > home.width:
        return None
    row, col = (
        np.floor(_between(nodes, step, block.shape)).astype(np.int32) for nodes in (down, right)
    )
    inside = (row >= 0) & (row < home.height) & (col >= 0) & (col < home.width)
    if not inside.any():
        return None
    top, left = int(row[inside].min()), int(col[inside].min())
    height, width = int(row[inside].max()) + 1 - top, int(col[inside].max()) + 1 - left
    try:
        values = source.read(1, window=Window(top, left, height, width).slices)
    except RasterioIOError as error:
        raise ReadError(f"{one.path}: cannot be read ({error})") from error
    row, col = np.clip(row - top, 0, height - 1), np.clip(col - left, 0, width - 1)
    stored: StoredProbability = np.where(inside, values[row, col], np.uint8(255))
    return stored


def _between(nodes: Floats, step: int, shape: Shape) -> Floats:
    """Interpolate values at every ``step``-th pixel to all pixels."""
    (down, below), (across, right) = (divmod(np.arange(n), step) for n in shape)
    share = right / step
    lines = nodes[:, across] * (1 - share) + nodes[:, across + 1] * share
    share = (below / step)[:, None]
    values: Floats = lines[down] * (1 - share) + lines[down + 1] * share
    return values


def _sides(one: PlacedMap) -> Floats:
    """Return points along the sides of a map in the coordinates of its zone, ``(n, 2)``, m."""
    at = one.grid.transform(one.window)
    left, top = at @ (0, 0)
    right, bottom = at @ (one.window.width, one.window.height)
    chord = max(right - left, top - bottom) / _CHORDS
    outline = shapely.segmentize(shapely.box(left, bottom, right, top), chord)
    points: Floats = shapely.get_coordinates(outline)
    return points


def overlap(west: Any, east: Any, low: float, high: float) -> Any:
    """Check whether ranges of longitudes overlap another one, on any turn around the earth."""
    found = [(west + turn < high) & (east + turn > low) for turn in (-360, 0, 360)]
    return found[0] | found[1] | found[2]
