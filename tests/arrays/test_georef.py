"""Georeferences: what is derived from one, and which grids are refused."""

import pickle

import pytest
import rasterio
from affine import Affine
from rasterio.transform import array_bounds

from geoforest.arrays.georef import GeoRef, check_grid
from geoforest.arrays.grid import Window
from geoforest.errors import InputError, SceneError

TRANSFORM = Affine(10, 0, 500_000, 0, -20, 8_900_000)
GEOREF = GeoRef((30, 40), TRANSFORM, "EPSG:32720")
NOT_NORTH_UP = [
    TRANSFORM @ Affine.rotation(30),
    TRANSFORM @ Affine.shear(10),
    # By a fiftieth of a pixel from one side to the other.
    Affine(10, 0.2 / 30, 500_000, 0, -20, 8_900_000),
    Affine(10, 0, 500_000, -0.4 / 40, -20, 8_900_000),
    Affine(10, float("nan"), 500_000, 0, -20, 8_900_000),
    TRANSFORM @ Affine.scale(1, -1),
    TRANSFORM @ Affine.scale(-1, 1),
    Affine.identity(),
]


def test_bounds_are_those_of_rasterio():
    assert GEOREF.bounds == array_bounds(30, 40, TRANSFORM)


def test_a_window_lies_where_its_pixels_do():
    georef = GEOREF.window(Window(3, 5, 7, 11))
    assert georef.shape == (7, 11)
    assert georef.transform @ (0, 0) == TRANSFORM @ (5, 3)
    assert georef.transform @ (11, 7) == TRANSFORM @ (16, 10)
    assert georef.crs == GEOREF.crs


def test_other_pixels_of_the_same_ground():
    georef = GEOREF.resampled((10, 16))
    assert georef.bounds == GEOREF.bounds
    assert (georef.transform.a, georef.transform.e) == (25, -60)


def test_equal_grids_are_equal_and_travel():
    assert GeoRef((30, 40), TRANSFORM, "EPSG:32720") == GEOREF
    assert pickle.loads(pickle.dumps(GEOREF)) == GEOREF
    for other in (
        GeoRef((30, 41), TRANSFORM, "EPSG:32720"),
        GeoRef((30, 40), TRANSFORM @ Affine.translation(0, 1), "EPSG:32720"),
        GeoRef((30, 40), TRANSFORM, "EPSG:32721"),
    ):
        assert other != GEOREF


@pytest.mark.parametrize("transform", NOT_NORTH_UP)
def test_a_grid_that_is_not_north_up_is_refused(transform):
    with pytest.raises(
        InputError, match=r"grid: its transform .* is (rotated or not north-up|damaged)"
    ):
        GeoRef((30, 40), transform, None)


def test_a_rotation_that_is_rounding_is_removed():
    georef = GeoRef((30, 40), Affine(10, 1e-12, 500_000, -1e-12, -20, 8_900_000), "EPSG:32720")
    assert georef == GEOREF


@pytest.mark.parametrize("move", [2e-12, 2e-10, 1e-3, -1e-3])
def test_grids_that_differ_by_rounding_are_one(move):
    other = Affine(10 + move, 0, 500_000 + move, 0, -20 - move, 8_900_000 - move)
    assert GEOREF.is_grid_of(GeoRef((30, 40), other, "EPSG:32720"))


@pytest.mark.parametrize(
    "other",
    [
        GeoRef((30, 40), Affine(10, 0, 500_000.2, 0, -20, 8_900_000), "EPSG:32720"),
        GeoRef((30, 40), Affine(10.005, 0, 500_000, 0, -20, 8_900_000), "EPSG:32720"),
        GeoRef((30, 40), Affine(10, 0, 500_000, 0, -20.01, 8_900_000), "EPSG:32720"),
        GeoRef((31, 40), TRANSFORM, "EPSG:32720"),
        GeoRef((30, 40), TRANSFORM, "EPSG:32721"),
    ],
)
def test_grids_that_differ_by_a_fiftieth_of_a_pixel_are_two(other):
    assert not GEOREF.is_grid_of(other)
    assert str(GEOREF) != str(other)


@pytest.mark.parametrize(
    ("width", "height", "side"),
    [
        (10, 10, 10),
        (10 + 2e-12, 10 - 2e-10, 10),
        (9.9999999998, 9.9999999998, 10),
        (119.87, 119.87, 119.87),
        (10 / 3, 10 / 3, 10 / 3),
        (9.999, 9.999, 9.999),
        (10, 20, None),
        (10, 10.01, None),
    ],
)
def test_the_side_of_square_pixels(width, height, side):
    transform = Affine(width, 0, 500_000, 0, -height, 8_900_000)
    assert GeoRef((300, 400), transform, "EPSG:32720").square_side == side


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_an_empty_grid_is_refused(shape):
    with pytest.raises(InputError, match="a filled grid was wanted"):
        GeoRef(shape, TRANSFORM, None)


def test_that_of_a_raster_names_it_in_errors(tmp_path):
    for name, transform in (("good", TRANSFORM), ("bad", NOT_NORTH_UP[0])):
        with rasterio.open(
            tmp_path / name, "w", driver="GTiff", height=30, width=40, count=1, dtype="uint8",
            crs="EPSG:32720", transform=transform,
        ):  # fmt: skip
            pass
    with rasterio.open(tmp_path / "good") as source:
        assert GeoRef.of(source, "a.tif") == GeoRef(
            (30, 40), TRANSFORM, rasterio.CRS.from_epsg(32720)
        )
    with (
        rasterio.open(tmp_path / "bad") as source,
        pytest.raises(SceneError, match=r"^a\.tif: its"),
    ):
        GeoRef.of(source, "a.tif", error=SceneError)
    with pytest.raises(SceneError, match=r"^a\.tif: its"):
        check_grid((30, 40), NOT_NORTH_UP[0], "a.tif", error=SceneError)
