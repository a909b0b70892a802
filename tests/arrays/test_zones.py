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


def windows_at_uneven_borders() -> list[tuple[Zone, float, Window]]:
    """Corners and sides of the zones around Norway and Svalbard."""
    found = []
    for number, longitude, latitude, size in (
        (31, 3.0, 56.0, 10.0),
        (32, 3.0, 56.0, 10.0),
        (31, 4.5, 56.0, 40.0),
        (32, 4.5, 56.0, 40.0),
        (31, 1.0, 56.0, 10.0),
        (32, 3.0, 60.0, 10.0),
        (31, 9.0, 72.0, 10.0),
        (32, 7.0, 72.0, 40.0),
        (33, 9.0, 72.0, 10.0),
        (33, 20.9, 72.0, 10.0),
        (34, 20.9, 72.0, 10.0),
        (35, 33.0, 75.0, 10.0),
        (37, 33.0, 75.0, 10.0),
    ):
        zone = Zone(number, south=False)
        x, y = zone.to_lonlat.transform(longitude, latitude, direction="INVERSE")
        found.append((zone, size, Window(int(-y // size) - 7, int(x // size) - 5, 15, 11)))
    return found


@pytest.mark.parametrize(
    ("zone", "size", "window"), [*windows_at_borders(), *windows_at_uneven_borders()]
)
def test_shares_are_those_of_geometry(zone, size, window):
    grid = ZoneGrid(zone, size)
    shares = grid.shares(window)
    transform = grid.transform(window)
    top = transform.f
    ground = zone.territory(top - window.height * size, top)
    if shares is None:
        shares = np.ones(window.shape)
    assert grid.owns_any(window) == bool((shares > 0).any())
    for row in range(window.height):
        for col in range(window.width):
            pixel = shapely.box(*(transform @ (col, row + 1)), *(transform @ (col + 1, row)))
            share = shapely.intersection(pixel, ground).area / size**2
            # Within a row the meridian is taken for a line straight up; at the corner of a
            # parallel, with a meridian at a slope, the share of one pixel is less exact.
            corner = zone.is_uneven and 0 < share < 1
            assert shares[row, col] == pytest.approx(share, abs=0.02 if corner else 1e-4 * size)
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


def test_around_norway_and_svalbard_each_place_has_one_zone():
    """As the military grid has it: 32V wide, 31V narrow, 32X, 34X and 36X not there."""
    longitude, latitude = np.meshgrid(np.arange(-5.5, 48, 1.5), np.arange(50.5, 84, 0.5))
    owners = [
        (number, band)
        for number in (30, *range(31, 39))
        for band in Zone(number, south=False).bands
    ]
    count = np.zeros(longitude.shape, np.int64)
    for _, band in owners:
        inside = (longitude >= band.west) & (longitude < band.east)
        count += inside & (latitude >= band.south) & (latitude < band.north)
    assert (count == 1).all()

    def zone_at(x: float, y: float) -> list[int]:
        return [n for n, b in owners if b.west <= x < b.east and b.south <= y < b.north]

    places = {(4, 60): 32, (2, 60): 31, (4, 50): 31, (4, 66): 31, (8, 75): 31, (10, 75): 33}
    places |= {(20, 75): 33, (22, 75): 35, (32, 75): 35, (34, 75): 37, (41, 75): 37, (10, 70): 32}
    assert {place: zone_at(*place) for place in places} == {k: [v] for k, v in places.items()}


def test_a_parallel_between_zones_has_one_pixel_of_each_side_at_each_place():
    upper, lower = Zone(32, south=False), Zone(31, south=False)
    borders = upper.borders(lower)
    assert {(one.at, one.start, one.end, one.is_meridian) for one in borders} == {
        (6, 0, 56, True), (3, 56, 64, True), (6, 64, 72, True),
        (56, 3, 6, False), (64, 3, 6, False), (72, 6, 9, False),
    }  # fmt: skip
    assert set(lower.borders(upper)) == set(borders)
    (border,) = [one for one in borders if one.at == 56]
    along = []
    for zone in (upper, lower):
        grid = ZoneGrid(zone, 10.0)
        x, y = zone.to_lonlat.transform([4.5, 4.52], [56.0, 56.0], direction="INVERSE")
        window = Window(int(-max(y) // 10) - 5, int(min(x) // 10), 30, 120)
        rows, cols, where = grid.pixels_along(border, window)
        assert (np.diff(where) < 0).all()
        middle = (where[1:] + where[:-1]) / 2
        x, y = zone.to_lonlat.transform(middle, np.full(len(middle), 56.0), direction="INVERSE")
        # A chord of the line lies within a millimetre of it.
        assert (np.abs(np.asarray(x) / 10 - cols - 0.5) < 0.5002).all()
        assert (np.abs(-np.asarray(y) / 10 - rows - 0.5) < 0.5002).all()
        along.append((where[-1], where[0]))
    assert all(low < 4.5 < 4.52 < high for low, high in along)


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
    west, east = ([*SOUTH.borders(Zone(n, south=True))] for n in (19, 21))
    (border,) = east if eastern else west
    rows, cols, latitudes = grid.pixels_along(border, window)
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
