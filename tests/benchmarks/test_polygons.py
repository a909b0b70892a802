"""The benchmarks of polygons at small sizes: the mask is what it claims, the routes agree."""

from __future__ import annotations

import sqlite3
import subprocess
import sys

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from scipy import ndimage

from benchmarks.masks import STRIP_PX, mask_strips, write_mask
from benchmarks.polygons import (
    ROUTES,
    TITLES,
    assert_equal,
    compare,
    python_with_gdal,
    run,
    table,
)
from benchmarks.polygons_memory import grow


def whole(size: int, **options: int) -> np.ndarray:
    return np.concatenate(list(mask_strips(size, 7, **options)))


def test_strips_do_not_show():
    assert np.array_equal(whole(600), whole(600, rows=600))
    assert np.array_equal(whole(600), whole(600, rows=77))


def test_a_mask_is_as_scenes_give_it():
    mask = whole(1500)
    assert set(np.unique(mask)) == {0, 1, 255}
    assert 0.02 < (mask == 255).mean() < 0.06
    assert 0.3 < (mask == 1).mean() < 0.7
    labels, n_patches = ndimage.label(mask == 1)
    assert n_patches > 500
    # Percolation: one patch holds a good part of the forest, and has holes by the hundred.
    pixels = np.bincount(labels.ravel())[1:]
    assert pixels.max() > 0.2 * pixels.sum()
    largest = labels == pixels.argmax() + 1
    assert ndimage.label(~largest, np.ones((3, 3)))[1] > 100


def test_another_seed_gives_another_mask():
    other = np.concatenate(list(mask_strips(300, 8)))
    assert not np.array_equal(whole(300), other)


def test_a_written_mask_reads_back(tmp_path):
    size = STRIP_PX + 40
    write_mask(tmp_path / "mask.tif", size)
    with rasterio.open(tmp_path / "mask.tif") as source:
        assert source.profile["tiled"]
        assert source.compression.name == "deflate"
        assert np.array_equal(source.read(1), whole(size))


@pytest.fixture(scope="module")
def mask(tmp_path_factory):
    path = tmp_path_factory.mktemp("mask") / "mask.tif"
    write_mask(path, 1200)  # four tiles of the route by tiles
    return path


@pytest.fixture(scope="module")
def our_polygons(mask):
    ROUTES["ours"](mask, out := mask.with_name("ours.gpkg"))
    return out


@pytest.mark.parametrize("route", ["shapes", "dissolve"])
def test_routes_agree(mask, our_polygons, route, tmp_path):
    ROUTES[route](mask, tmp_path / "other.gpkg")
    assert_equal(str(our_polygons), str(tmp_path / "other.gpkg"))


def test_gdal_agrees(mask, our_polygons, tmp_path):
    if (python := python_with_gdal()) is None:
        pytest.skip("no Python here has osgeo")
    job = "import sys; from pathlib import Path; from benchmarks.polygons import gdal; "
    job += "gdal(*map(Path, sys.argv[1:]))"
    run(python, job, mask, tmp_path / "other.gpkg")
    assert_equal(str(our_polygons), str(tmp_path / "other.gpkg"))


@pytest.mark.parametrize(
    ("pixels", "told"),
    [
        ((1, 2), "2 polygons, not 3"),
        ((1, 2, 4), "7 px, not 6"),
        ((2, 2, 2), "polygons of other sizes"),
    ],
)
def test_polygons_that_differ_are_seen(tmp_path, pixels, told):
    paths = []
    for name, sizes in (("wanted", (1, 2, 3)), ("found", pixels)):
        frame = geopandas.GeoDataFrame(
            geometry=[shapely.box(0, 0, 10 * n, 10) for n in sizes], crs="EPSG:32720"
        )
        frame.to_file(tmp_path / f"{name}.gpkg", engine="pyogrio")
        paths.append(str(tmp_path / f"{name}.gpkg"))
    with pytest.raises(AssertionError, match=told):
        assert_equal(*paths)


def test_a_missing_index_is_seen(tmp_path):
    frame = geopandas.GeoDataFrame(geometry=[shapely.box(0, 0, 10, 10)], crs="EPSG:32720")
    frame.to_file(tmp_path / "bare.gpkg", engine="pyogrio", SPATIAL_INDEX="NO")
    with pytest.raises(sqlite3.OperationalError, match="no such table: rtree"):
        assert_equal(str(tmp_path / "bare.gpkg"))


def test_a_comparison_measures_each_route(tmp_path):
    found = compare(tmp_path, 300, ["ours", "shapes"])
    assert found["polygons"] >= 5
    for one in found["routes"].values():
        assert 0 < one["seconds"] < one["process_seconds"]
        assert 20 < one["base_mb"] <= one["peak_mb"]
    lines = table(found["routes"])
    assert [line.split("|")[1].strip() for line in lines[2:]] == [TITLES["ours"], TITLES["shapes"]]


def test_a_grown_mask_is_counted(tmp_path):
    found = grow(tmp_path, 300)
    assert found["polygons"] >= found["patches"] >= 5
    assert found["peak_mb"] >= found["base_mb"]


def test_a_route_that_fails_fails_the_run(tmp_path):
    with pytest.raises(subprocess.CalledProcessError):
        run(sys.executable, "raise SystemExit(3)")
