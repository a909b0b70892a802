"""The area of interest: every polygon of its file counts, and a file beside the scene says why."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely

from geoforest.arrays.grid import Grid, Window
from geoforest.errors import InputError
from geoforest.scenes.aoi import read_aoi
from geoforest.scenes.open import open_scene
from tests.helpers import synthetic

SIDE = 60


@pytest.fixture
def scene(tmp_path):
    path = synthetic.write_raster(
        tmp_path / "scene.tif", synthetic.digital_numbers((SIDE, SIDE)), nodata=0
    )
    return open_scene(path, wanted=("B04", "B03", "B02", "B08"))


def pixels(scene, row: int, col: int, height: int, width: int) -> shapely.Polygon:
    left, top = scene.transform @ (col, row)
    right, bottom = scene.transform @ (col + width, row + height)
    return shapely.box(left, bottom, right, top)


def write(path: Path, shapes, crs, **options) -> Path:
    geopandas.GeoSeries(list(shapes), crs=crs).to_file(path, **options)
    return path


def inside(path: Path, scene) -> np.ndarray:
    grid = Grid((SIDE, SIDE), window=SIDE, halo=0)
    return read_aoi(path, scene).inside(grid, Window(0, 0, SIDE, SIDE))


def test_collections_layers_and_overlapping_parts(scene, tmp_path):
    wanted = np.zeros((SIDE, SIDE), bool)
    wanted[:10, :10] = wanted[20:30, 20:30] = wanted[40:50, 40:50] = wanted[45:55, 45:55] = True
    first = shapely.GeometryCollection([pixels(scene, 0, 0, 10, 10), shapely.Point(0, 0)])
    both = shapely.MultiPolygon([pixels(scene, 40, 40, 10, 10), pixels(scene, 45, 45, 10, 10)])
    path = write(tmp_path / "aoi.gpkg", [first, both], scene.crs, layer="north")
    write(path, [pixels(scene, 20, 20, 10, 10)], scene.crs, layer="south")
    write(path, [shapely.Point(0, 0)], scene.crs, layer="camps")
    assert (inside(path, scene) == wanted).all()
    assert read_aoi(path, scene).notes == (
        f"{path}: 1 features that are no polygons are left out",
        f"{path}: the polygons of all its 2 layers are taken: north, south",
    )


def test_beside_the_scene(scene, tmp_path):
    shape = geopandas.GeoSeries([pixels(scene, 0, 0, 10, 10)], crs=scene.crs).to_crs(4326).iloc[0]
    swapped = shapely.transform(shape, lambda points: points[:, ::-1])
    path = write(tmp_path / "swapped.geojson", [swapped], 4326)
    with pytest.raises(
        InputError,
        match=r"swapped\.geojson: does not touch scene scene, whose bounds are .*; its bounds are "
        r".* in EPSG:4326; with x and y swapped it would touch the scene",
    ):
        read_aoi(path, scene)
    path = write(tmp_path / "metres.geojson", [pixels(scene, 0, 0, 10, 10)], 4326)
    with pytest.raises(
        InputError,
        match=r"are no degrees, and its CRS is EPSG:4326 .*; its bounds are .* in EPSG:4326; taken "
        r"as EPSG:32720 it would touch the scene",
    ):
        read_aoi(path, scene)
