"""Which ground belongs to which UTM zone, against geometry."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest
import shapely

from geoforest.arrays.grid import Window
from geoforest.arrays.zones import Zone, ZoneGrid, common

SOUTH = Zone(20, south=True)


def windows_at_borders() -> list[tuple[Zone, float, Window]]:
    found = []
    for zone, size, northing in (
        (SOUTH, 10.0, 9_700_000),
        (SOUTH, 120.0, 8_000_000),
        (Zone(33, south=False), 10.0, 5_300_000),
        (SOUTH, 10.0, 10_000_000),
        (Zone(20, south=False), 120.0, 0),
    ):
        for eastern in (False, True):
            line = zone.meridian(eastern=eastern, bottom=northing - 500, top=northing + 500)
            x = np.interp(northing, line[:, 1], line[:, 0])
            row, col = int(-northing // size), int(x // size)
            found.append((zone, size, Window(row - 7, col - 5, 15, 11)))
    return found


@pytest.mark.parametrize(("zone", "size", "window"), windows_at_borders())
def test_shares_are_those_of_geometry(zone, size, window):
    grid = ZoneGrid(zone, size)
    shares = grid.shares(window)
    transform = grid.transform(window)
    top = transform.f
    ground = zone.territory(top - window.height * size, top)
    for row in range(window.height):
        for col in range(window.width):
            pixel = shapely.box(*(transform @ (col, row + 1)), *(transform @ (col + 1, row)))
            share = shapely.intersection(pixel, ground).area / size**2
            # Within a row the meridian is taken for a line straight up.
            assert shares[row, col] == pytest.approx(share, abs=1e-4 * size)
            assert (shares[row, col] > 0) == (share > 0)


def test_of_two_neighbours_each_pixel_of_ground_is_one_of_theirs():
    """Shares of both, on the ground, add up to the whole."""
    bottom, top = 9_690_000, 9_700_000
    to_degrees = [
        pyproj.Transformer.from_crs(z.epsg, 4326, always_xy=True) for z in (SOUTH, SOUTH.east)
    ]
    one = SOUTH.meridian(eastern=True, bottom=bottom, top=top)
    other = SOUTH.east.meridian(eastern=False, bottom=bottom, top=top)
    there = [
        np.column_stack(move.transform(*line.T))
        for move, line in zip(to_degrees, (one, other), strict=True)
    ]
    n = min(map(len, there))
    assert np.allclose(there[0][:n], there[1][:n], atol=1e-9)
    # Chords of one lie within a tenth of a millimetre of the other's.
    back = pyproj.Transformer.from_crs(SOUTH.east.epsg, SOUTH.epsg, always_xy=True)
    middle = (other[1:] + other[:-1]) / 2
    moved = np.column_stack(back.transform(*middle.T))
    assert shapely.distance(shapely.points(moved), shapely.LineString(one)).max() < 1e-4


def test_inside_a_zone_nothing_is_shared():
    assert ZoneGrid(SOUTH, 10.0).shares(Window(-970_000, 50_000, 20, 20)) is None


def test_neighbours():
    assert Zone(60, south=True).east == Zone(1, south=True)
    assert Zone(20, south=False).across == SOUTH
    assert (SOUTH.epsg, SOUTH.name, Zone(7, south=False).name) == (32720, "20S", "07N")
    assert [Zone.of(pyproj.CRS(code)) for code in (32720, 32607, 4326, 32661)] == [
        SOUTH,
        Zone(7, south=False),
        None,
        None,
    ]


@pytest.mark.parametrize("size", [10.0, 60.0, 120.0])
def test_tiles_cover_the_plane_once(size):
    grid = ZoneGrid(SOUTH, size)
    area = Window(int(-9_750_000 / size), int(480_000 / size), 9_000, 11_000)
    tiles = [common(grid.tile(*tile), area) for tile in grid.tiles(area)]
    assert sum(tile.height * tile.width for tile in tiles) == 9_000 * 11_000
    assert all(
        common(one, other) is None for i, one in enumerate(tiles) for other in tiles[i + 1 :]
    )
    tile = grid.tile(5, 97)
    corner = grid.transform(tile) @ (0, tile.height)
    assert 0 <= corner[0] - 500_000 < size
    assert 0 <= corner[1] - 9_700_000 < size


def test_no_two_pixels_have_one_number():
    rows, cols = np.array([-1_000_000, -1, -1_000_000]), np.array([0, 99_999, 1])
    numbers = [
        ZoneGrid(Zone(number, south), 10.0).ids(rows, cols)
        for number in (1, 20, 60)
        for south in (False, True)
    ]
    every = np.concatenate(numbers)
    assert len(np.unique(every)) == len(every)
    assert (every > 0).all()


@pytest.mark.parametrize("eastern", [False, True])
def test_stretches_of_a_border_are_where_they_say(eastern):
    grid = ZoneGrid(SOUTH, 10.0)
    line = SOUTH.meridian(eastern=eastern, bottom=9_699_000, top=9_701_000)
    x = np.interp(9_700_000, line[:, 1], line[:, 0])
    window = Window(-970_050, int(x // 10) - 20, 100, 40)
    rows, cols, latitudes = grid.border(eastern=eastern, window=window)
    assert (np.diff(latitudes) < 0).all()
    assert len(latitudes) == len(rows) + 1
    assert sorted(set(rows.tolist())) == list(range(-970_050, -969_950))
    # The middle of each stretch, on the meridian, lies in its pixel.
    longitude = -60.0 if eastern else -66.0
    middle = (latitudes[1:] + latitudes[:-1]) / 2
    move = pyproj.Transformer.from_crs(4326, 32720, always_xy=True)
    x, y = move.transform(np.full(len(middle), longitude), middle)
    assert np.array_equal(np.floor(x / 10), cols)
    assert np.array_equal(np.floor(-np.asarray(y) / 10), rows)
