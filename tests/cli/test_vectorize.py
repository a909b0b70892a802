"""Rasters of others to polygons: any value, any CRS or none, world files, each format."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning
from rasterio.features import shapes
from scipy import ndimage

from geoforest import vectorize
from geoforest.errors import GeoforestWarning

# A map of land cover with classes 100, 200 and 300, and a corner that nobody saw.
NOISE = ndimage.gaussian_filter(np.random.default_rng(5).random((90, 120)), 2)
CLASSES = (np.digitize(NOISE, np.quantile(NOISE, [0.3, 0.6])) + 1).astype(np.int16) * 100
CLASSES[:9, :9] = -9999
UTM = Affine(10, 0, 600_000, 0, -10, 9_600_000)
DEGREES = Affine(0.00025, 0, -60.1, 0, -0.00025, -3.2)

READ = {
    ".gpkg": partial(geopandas.read_file, layer="forest_cover"),
    ".fgb": geopandas.read_file,
    ".parquet": geopandas.read_parquet,
}


def written(path: Path, values: np.ndarray = CLASSES, **profile: object) -> Path:
    with rasterio.open(
        path, "w", width=values.shape[1], height=values.shape[0], count=1, dtype=values.dtype,
        **profile,
    ) as target:  # fmt: skip
        target.write(values, 1)
    return path


@pytest.fixture
def classes(tmp_path):
    return written(tmp_path / "classes.tif", crs="EPSG:32720", transform=UTM, nodata=-9999)


def truth(value: int, transform: Affine, connectivity: int = 4) -> list[shapely.Polygon]:
    """GDAL's polygons of a value."""
    mask = value == CLASSES
    found = shapes(mask.astype(np.uint8), mask, connectivity, transform)
    return [shapely.geometry.shape(polygon) for polygon, _ in found]


def test_another_value(geoforest, classes, tmp_path):
    out = tmp_path / "out.gpkg"
    options = ["--value", 300, "--min-area-ha", 0, "--max-vertices", 0]
    done = geoforest("vectorize", classes, "--out", out, *options, "--json")
    assert done.returncode == 0, done.stderr
    found = geopandas.read_file(out, layer="forest_cover")
    expected = truth(300, UTM)
    assert len(found) == len(expected) == json.loads(done.stdout)["patches"]
    assert found["n_pixels"].sum() == (CLASSES == 300).sum()
    assert shapely.union_all(found.geometry).equals(shapely.union_all(expected))
    assert found["scene_id"].unique().tolist() == ["classes"]


def test_what_nobody_saw_is_no_hole(tmp_path):
    """The raster's nodata value is unobserved: a hole around it stays, however small."""
    values = np.full((20, 20), 3, np.int16)
    values[4, 4], values[12, 12] = 1, -9999
    raster = written(tmp_path / "a.tif", values, crs="EPSG:32720", transform=UTM, nodata=-9999)
    frame = vectorize(raster, value=3)
    assert [len(polygon.interiors) for polygon in frame.geometry] == [1]
    assert frame["n_pixels"].tolist() == [399]


@pytest.mark.parametrize("suffix", READ)
def test_touching_corners_by_choice(geoforest, classes, tmp_path, suffix):
    out = tmp_path / f"out{suffix}"
    options = ["--value", 300, "--min-area-ha", 0, "--8-connectivity"]
    assert geoforest("vectorize", classes, "--out", out, *options).returncode == 0
    found = READ[suffix](out)
    patches = ndimage.label(CLASSES == 300, np.ones((3, 3)))[1]
    assert found["patch_id"].nunique() == patches < len(found) == len(truth(300, UTM))
    # Every piece of a patch tells the whole of it.
    whole = found.groupby("patch_id")
    assert np.allclose(whole["area_ha"].sum(), whole["patch_area_ha"].first())
    assert (whole["patch_area_ha"].nunique() == 1).all()


@pytest.mark.parametrize("suffix", READ)
def test_degrees_have_true_areas_and_another_crs_keeps_them(geoforest, tmp_path, suffix):
    raster = written(tmp_path / "a.tif", crs="EPSG:4326", transform=DEGREES, nodata=-9999)
    out = tmp_path / f"out{suffix}"
    options = ["--value", 300, "--min-area-ha", 0]
    assert geoforest("vectorize", raster, "--out", out, *options).returncode == 0
    degrees = READ[suffix](out)
    moved = [*options, "--crs", "EPSG:6933"]
    assert geoforest("vectorize", raster, "--out", out, *moved).returncode == 0
    flat = READ[suffix](out)
    assert degrees.crs.to_epsg() == 4326
    assert flat.crs.to_epsg() == 6933
    # A CRS of equal areas is the judge.
    assert np.allclose(flat.area.sort_values() / 1e4, degrees["area_ha"].sort_values(), rtol=1e-4)
    assert flat["area_ha"].sum() == degrees["area_ha"].sum()


def test_a_world_file_without_a_crs(geoforest, tmp_path):
    values = (CLASSES // 100).clip(0).astype(np.uint8)
    with pytest.warns(NotGeoreferencedWarning):
        raster = written(tmp_path / "a.png", values, driver="PNG")
    (tmp_path / "a.pgw").write_text("10\n0\n0\n-10\n600005\n9599995\n")
    out = tmp_path / "out.gpkg"
    done = geoforest("vectorize", raster, "--out", out, "--value", 3)
    assert done.returncode == 0
    assert "a.png: has no CRS, so areas and lengths are in pixels" in done.stderr
    found = geopandas.read_file(out, layer="forest_cover")
    assert found.crs is None
    assert shapely.union_all(found.geometry).equals(shapely.union_all(truth(300, UTM)))
    assert found["area_px"].tolist() == found["n_pixels"].tolist()
    assert "area_ha" not in found


def test_neither_crs_nor_place(tmp_path):
    values = np.array([[0, 1], [0, 1]], np.uint8)
    with pytest.warns(NotGeoreferencedWarning):
        raster = written(tmp_path / "a.png", values, driver="PNG")
    with pytest.warns() as said:
        frame = vectorize(raster)
    assert [warning.category for warning in said] == [GeoforestWarning]
    # As QGIS draws it: rows grow downwards.
    assert frame.total_bounds.tolist() == [1, -2, 2, 0]
    assert frame["perimeter_px"].tolist() == [6]


def test_simplified(geoforest, classes, tmp_path):
    frames = []
    for name, simplify in {"exact": [], "smooth": ["--simplify", 2]}.items():
        out = tmp_path / f"{name}.gpkg"
        options = ["--value", 300, "--min-area-ha", 0, *simplify]
        assert geoforest("vectorize", classes, "--out", out, *options).returncode == 0
        frames.append(geopandas.read_file(out, layer="forest_cover"))
    exact, smooth = frames
    assert exact["area_ha"].tolist() == smooth["area_ha"].tolist()
    corners = [shapely.get_num_coordinates(frame.geometry).sum() for frame in frames]
    assert corners[1] < 0.6 * corners[0]
    assert smooth.is_valid.all()


@pytest.mark.parametrize(
    ("profile", "options", "sentence"),
    [
        ({}, [], "of int16; one of uint8 (or --value, of whole numbers) was wanted"),
        ({}, ["--value", -9999], "--value -9999 is its nodata value"),
        ({}, ["--value", 1, "--threshold", 0.5], "--value and --threshold: one of them"),
        ({}, ["--value", 300, "--crs", "EPSG:999999"], "CRS 'EPSG:999999': not known"),
        ({}, ["--value", 300, "--simplify", -1], "--simplify -1.0: 0 or more was wanted"),
        ({"crs": None}, ["--value", 300, "--crs", "EPSG:4326"], "has no CRS, and so cannot"),
        ({"transform": UTM @ Affine.rotation(30)}, ["--value", 300], "is rotated or not north-up"),
        (
            {"transform": UTM @ Affine.scale(1, -1)},
            ["--value", 300],
            "0.0, 10.0, 9600000.0) is rotated or not north-up",
        ),
    ],
)
def test_mistakes(geoforest, tmp_path, profile, options, sentence):
    profile = {"crs": "EPSG:32720", "transform": UTM, "nodata": -9999} | profile
    raster = written(tmp_path / "a.tif", **profile)
    done = geoforest("vectorize", raster, "--out", tmp_path / "new" / "out.gpkg", *options)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert sorted(tmp_path.iterdir()) == [raster]
