from __future__ import annotations

import numpy as np
import pyproj
import pytest
import rasterio.crs
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Polygon

from geoforest.arrays.area import PixelTable
from geoforest.arrays.georef import GeoRef
from geoforest.errors import InputError

# Name -> (CRS, transform): a Sentinel-2 tile at 20 m, or about its size.
GRIDS = {
    "utm, central meridian": ("EPSG:32720", Affine(20, 0, 445_000, 0, -20, 9_300_000)),
    "utm, zone edge": ("EPSG:32720", Affine(20, 0, 166_000, 0, -20, 9_990_000)),
    "utm, north, zone edge": ("EPSG:32633", Affine(20, 0, 730_000, 0, -20, 6_700_000)),
    "degrees at 60": ("EPSG:4326", Affine(2e-4, 0, 24.0, 0, -2e-4, 60.5)),
    "web mercator": ("EPSG:3857", Affine(20, 0, -6_700_000, 0, -20, 8_000_000)),
    "equal area": ("EPSG:3035", Affine(20, 0, 4_300_000, 0, -20, 3_200_000)),
}
SHAPE = (5490, 5490)


def geodesic_m2(crs: str, transform: Affine, rows: tuple[int, int], cols: tuple[int, int]) -> float:
    """Area of a rectangle of pixels, its sides followed by short geodesics."""
    n = 1 + max(1, (rows[1] - rows[0]) // 4, (cols[1] - cols[0]) // 4)
    down, across = np.linspace(*rows, n), np.linspace(*cols, n)
    top, bottom = np.full(n, rows[0]), np.full(n, rows[1])
    left, right = np.full(n, cols[0]), np.full(n, cols[1])
    row = np.concatenate([top, down[1:], bottom[1:], down[::-1][1:]])
    col = np.concatenate([across, right[1:], across[::-1][1:], left[1:]])
    x, y = transform.c + transform.a * col, transform.f + transform.e * row
    projection = pyproj.CRS(crs)
    lonlat = pyproj.Transformer.from_crs(projection, projection.geodetic_crs, always_xy=True)
    outline = Polygon(np.column_stack(lonlat.transform(x, y)))
    area, _ = projection.get_geod().geometry_area_perimeter(outline)
    return abs(area)


@pytest.fixture(params=list(GRIDS), scope="module")
def grid(request: pytest.FixtureRequest) -> tuple[str, Affine, PixelTable]:
    crs, transform = GRIDS[request.param]
    return crs, transform, PixelTable.build(GeoRef(SHAPE, transform, crs))


def test_the_sum_over_a_scene_is_its_geodesic_area(grid):
    crs, transform, table = grid
    total = sum(
        table.area_m2(slice(row, min(row + 549, SHAPE[0])), slice(0, SHAPE[1])).sum()
        for row in range(0, SHAPE[0], 549)
    )
    expected = geodesic_m2(crs, transform, (0, SHAPE[0]), (0, SHAPE[1]))
    assert total == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("at", [(0, 0), (128, 130), (2700, 2745), (5390, 5390), (5390, 0)])
def test_the_sum_over_any_small_rectangle_is_its_geodesic_area(grid, at):
    crs, transform, table = grid
    row, col = at
    total = table.area_m2(slice(row, row + 100), slice(col, col + 100)).sum()
    expected = geodesic_m2(crs, transform, (row, row + 100), (col, col + 100))
    assert total == pytest.approx(expected, rel=1e-6)


def test_projected_area_would_have_been_wrong():
    crs, transform = GRIDS["utm, central meridian"]
    centre = PixelTable.build(GeoRef(SHAPE, transform, crs)).pixel_area_m2()
    assert centre == pytest.approx(400 * 1.0008, rel=1e-4)
    crs, transform = GRIDS["utm, zone edge"]
    edge = PixelTable.build(GeoRef(SHAPE, transform, crs)).area_m2(slice(0, 1), slice(0, 1))[0, 0]
    assert edge == pytest.approx(400 * 0.998, rel=1e-3)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_pixel_has_one_value_in_whatever_rectangle(data):
    crs, transform = GRIDS[data.draw(st.sampled_from(sorted(GRIDS)))]
    shape = (700, 530)
    table = PixelTable.build(GeoRef(shape, transform, crs))
    whole = table.area_m2(slice(0, shape[0]), slice(0, shape[1]))
    sides = []
    for side in shape:
        start = data.draw(st.integers(0, side - 1))
        sides.append(slice(start, data.draw(st.integers(start + 1, side))))
    rows, cols = sides
    piece = table.area_m2(rows, cols)
    assert piece.dtype == np.float64
    assert np.array_equal(piece, whole[rows, cols])


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 3)])
def test_small_grids(shape):
    crs, transform = GRIDS["utm, zone edge"]
    table = PixelTable.build(GeoRef(shape, transform, crs))
    total = table.area_m2(slice(0, shape[0]), slice(0, shape[1])).sum()
    assert total == pytest.approx(geodesic_m2(crs, transform, (0, shape[0]), (0, shape[1])), 1e-6)


def test_coarse_pixels_get_a_finer_table():
    transform = Affine(0.05, 0, -60, 0, -0.05, 65)
    table = PixelTable.build(GeoRef((100, 100), transform, "EPSG:4326"))
    total = table.area_m2(slice(0, 100), slice(0, 100)).sum()
    zone = np.linspace(-60, -55, 5001)
    outline = np.concatenate(
        [
            np.column_stack([zone, np.full_like(zone, 65)]),
            np.column_stack([zone[::-1], np.full_like(zone, 60)]),
        ]
    )
    expected, _ = pyproj.Geod(ellps="WGS84").geometry_area_perimeter(Polygon(outline))
    assert total == pytest.approx(abs(expected), rel=1e-6)


def there_and_back(table, cols, rows) -> float:
    """Length of a line along a row or a column, twice."""
    points = np.array([[cols[i], rows[i]] for i in (0, 1, 0)], np.int32)
    (length,) = table.perimeters(points, np.array([0, 3]), np.array([0, 1]))
    return length


def test_lengths_follow_the_ground(grid):
    crs, transform, table = grid
    rows = np.array([100, 100, 5000, 5000, 100])
    cols = np.array([200, 5100, 5100, 200, 200])
    lengths = [there_and_back(table, cols[i : i + 2], rows[i : i + 2]) / 2 for i in range(4)]
    projection = pyproj.CRS(crs)
    lonlat = pyproj.Transformer.from_crs(projection, projection.geodetic_crs, always_xy=True)
    for i in range(4):
        row, col = np.linspace(rows[i], rows[i + 1], 2000), np.linspace(cols[i], cols[i + 1], 2000)
        lon, lat = lonlat.transform(
            transform.c + transform.a * col, transform.f + transform.e * row
        )
        assert lengths[i] == pytest.approx(projection.get_geod().line_length(lon, lat), rel=1e-6)
    short = there_and_back(table, [200, 201], [100, 100]) / 2
    lon, lat = lonlat.transform(
        transform.c + transform.a * np.array([200, 201]),
        transform.f + transform.e * np.array([100, 100]),
    )
    assert short == pytest.approx(projection.get_geod().line_length(lon, lat), rel=1e-6)


@pytest.mark.parametrize("hectares", [0.0, 0.005, 0.5, 1.0, 3.3])
def test_the_minimum_mapping_unit_is_the_smallest_count_that_reaches_it(hectares):
    for crs, transform in GRIDS.values():
        table = PixelTable.build(GeoRef(SHAPE, transform, crs))
        centre = table.area_m2(slice(2745, 2746), slice(2745, 2746))[0, 0]
        count = table.minimum_mapping_unit_px(hectares)
        assert count * centre >= hectares * 1e4 * (1 - 1e-8)
        assert count == 0 or (count - 1) * centre < hectares * 1e4


def test_an_exact_ratio_is_not_rounded_up():
    crs, transform = GRIDS["utm, zone edge"]
    table = PixelTable.build(GeoRef(SHAPE, transform, crs))
    for count in range(200):
        assert table.minimum_mapping_unit_px(count * table.pixel_area_m2() / 1e4) == count


def test_a_raster_of_the_whole_earth_has_a_bounded_table():
    transform = Affine(0.0025, 0, -180, 0, -0.0025, 90)
    table = PixelTable.build(GeoRef((72_000, 144_000), transform, "EPSG:4326"))
    assert 1_000_000 < table.area.size < 5_000_000
    equator = table.area_m2(slice(36_000, 36_001), slice(5, 6))[0, 0]
    assert equator == pytest.approx(0.0025**2 * 111_319.49 * 110_574.3, rel=1e-4)


def test_any_kind_of_crs_object_serves():
    transform = GRIDS["utm, zone edge"][1]
    window = slice(0, 10), slice(0, 10)
    tables = [
        PixelTable.build(GeoRef(SHAPE, transform, crs)).area_m2(*window)
        for crs in ("EPSG:32720", pyproj.CRS(32720), rasterio.crs.CRS.from_epsg(32720))
    ]
    assert np.array_equal(tables[0], tables[1])
    assert np.allclose(tables[0], tables[2], rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("transform", "crs", "shape", "wanted"),
    [
        (Affine(10, 1, 0, 0, -10, 0), "EPSG:32720", (5, 5), "north-up"),
        (Affine(10, 0, 0, 0, 10, 0), "EPSG:32720", (5, 5), "north-up"),
        (Affine(10, 0, 0, 0, -10, 0), "EPSG:32720", (0, 5), "filled"),
        (Affine(10, 0, 9e9, 0, -10, 0), "EPSG:3035", (5, 5), "domain"),
        (Affine(10, 0, 0, 0, -10, 0), 'LOCAL_CS["site",UNIT["metre",1]]', (5, 5), "ellipsoid"),
    ],
)
def test_what_has_no_ground_area_is_refused(transform, crs, shape, wanted):
    with pytest.raises(InputError, match=wanted):
        PixelTable.build(GeoRef(shape, transform, crs))
