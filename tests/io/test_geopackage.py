from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pytest
from affine import Affine
from geopandas.testing import assert_geodataframe_equal

from geoforest.arrays.polygons.polygons import polygons_of_mask
from geoforest.errors import WriteError
from geoforest.io import geopackage
from geoforest.io.geopackage import write_geopackage

UTM = ("EPSG:32720", Affine(10, 0, 500_000, 0, -10, 8_900_000))
LAEA = "+proj=laea +lat_0=-5 +lon_0=-60 +datum=WGS84 +units=m"
ATTRIBUTES = {
    "scene_id": "S2A_x",
    "acquired": datetime(2024, 7, 1, 14, 30, tzinfo=UTC),
    "model": "starter",
    "threshold": 0.5,
}


def frame(forest: bool = True, grid: tuple[str, Affine] = UTM, **changes: object):
    rng = np.random.default_rng(5)
    mask = (rng.random((40, 50)) < 0.6).astype(np.uint8) * forest
    crs, transform = grid
    attributes = {**ATTRIBUTES, **changes}
    return polygons_of_mask(
        mask.astype(np.uint8), transform=transform, crs=crs, min_area_ha=0, attributes=attributes
    ).frame


def rows(path: Path, query: str) -> list[tuple]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(query).fetchall()


@pytest.mark.parametrize("forest", [True, False])
@pytest.mark.parametrize("acquired", [ATTRIBUTES["acquired"], None])
def test_it_reads_back_as_it_was_written(tmp_path, forest, acquired):
    written = frame(forest, acquired=acquired)
    path = tmp_path / "deep" / "forest.gpkg"
    write_geopackage([written], path)
    info = pyogrio.read_info(path, layer="forest_cover")
    assert info["geometry_type"] == "Polygon"
    assert info["features"] == len(written)
    assert list(info["fields"]) == list(written.columns[:-1])
    kinds = dict(rows(path, "SELECT name, type FROM pragma_table_info('forest_cover')"))
    assert kinds["patch_id"] == kinds["n_pixels"] == "INTEGER"
    assert kinds["area_ha"] == kinds["mean_probability"] == kinds["threshold"] == "REAL"
    assert kinds["scene_id"] == kinds["model"] == "TEXT"
    assert kinds["acquired"] == "DATETIME"
    back = geopandas.read_file(path, layer="forest_cover")
    assert back.crs == written.crs
    if forest:
        # With no time at all a reader cannot know the column's time zone.
        ignored = ["acquired"] if acquired is None else []
        assert_geodataframe_equal(
            back.drop(columns=ignored), written.drop(columns=ignored), check_dtype=False
        )
        assert back["acquired"].isna().all() == (acquired is None)


@pytest.mark.parametrize("forest", [True, False])
def test_equal_input_gives_equal_bytes_wherever_and_whenever(tmp_path, forest, monkeypatch):
    write_geopackage([frame(forest)], tmp_path / "one.gpkg")
    monkeypatch.setenv("TZ", "Asia/Jakarta")
    with closing(sqlite3.connect(":memory:")) as clock:
        second = clock.execute("SELECT strftime('%s','now')").fetchone()
        while clock.execute("SELECT strftime('%s','now')").fetchone() == second:
            pass
    write_geopackage([frame(forest)], tmp_path / "other" / "two.gpkg")
    one, two = tmp_path / "one.gpkg", tmp_path / "other" / "two.gpkg"
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("forest", [True, False])
def test_the_layer_is_a_sound_database_with_an_index(tmp_path, forest):
    path = tmp_path / "forest.gpkg"
    write_geopackage([frame(forest)], path, description="Forest cover of a test.")
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    assert rows(path, "PRAGMA foreign_key_check") == []
    n = len(frame(forest))
    assert rows(path, "SELECT count(*) FROM rtree_forest_cover_geom") == [(n,)]
    assert rows(path, "SELECT extension_name FROM gpkg_extensions") == [("gpkg_rtree_index",)]
    contents = rows(
        path, "SELECT table_name, data_type, identifier, description FROM gpkg_contents"
    )
    assert contents == [
        ("forest_cover", "features", "forest cover (model)", "Forest cover of a test."),
        ("layer_styles", "attributes", "layer_styles", ""),
    ]


def test_the_spatial_index_answers(tmp_path):
    path = tmp_path / "forest.gpkg"
    written = frame()
    write_geopackage([written], path)
    box = (500_100, 8_899_800, 500_200, 8_899_900)
    found = geopandas.read_file(path, layer="forest_cover", bbox=box)
    assert 0 < len(found) < len(written)
    assert set(found["patch_id"]) == set(written.cx[box[0] : box[2], box[1] : box[3]]["patch_id"])


def test_qgis_finds_its_style(tmp_path):
    path = tmp_path / "forest.gpkg"
    write_geopackage([frame()], path)
    columns = [column[1] for column in rows(path, "PRAGMA table_info(layer_styles)")]
    assert columns == [
        "id", "f_table_catalog", "f_table_schema", "f_table_name", "f_geometry_column",
        "styleName", "styleQML", "styleSLD", "useAsDefault", "description", "owner", "ui",
        "update_time",
    ]  # fmt: skip
    found = rows(
        path,
        "SELECT f_table_catalog, f_table_schema, f_table_name, f_geometry_column, useAsDefault, "
        "update_time, styleQML FROM layer_styles",
    )
    assert len(found) == 1
    assert found[0][:6] == ("", "", "forest_cover", "geom", 1, "2000-01-01T00:00:00.000Z")
    style = ElementTree.fromstring(found[0][6].split("\n", 1)[1])
    options = {o.get("name"): o.get("value") for o in style.iterfind(".//layer/Option/Option")}
    red, green, blue = map(int, options["color"].split(",")[:3])
    assert green > max(red, blue)
    assert 0 < float(style.findtext("layerOpacity", "")) < 1


def test_a_layer_and_a_style_of_ones_own(tmp_path):
    path = tmp_path / "forest.gpkg"
    write_geopackage([frame()], path, layer="mine", style_qml="<qgis/>")
    assert [name for name, _ in pyogrio.list_layers(path)] == ["mine", "layer_styles"]
    assert rows(path, "SELECT f_table_name, styleQML FROM layer_styles") == [("mine", "<qgis/>")]


@pytest.mark.parametrize(
    "grid",
    [
        ("EPSG:4326", Affine(1e-4, 0, -60, 0, -1e-4, -5)),
        ("EPSG:3857", Affine(10, 0, -6_700_000, 0, -10, -500_000)),
        (LAEA, Affine(10, 0, 0, 0, -10, 0)),
    ],
    ids=["degrees", "web mercator", "no EPSG code"],
)
def test_any_crs(tmp_path, grid):
    path = tmp_path / "forest.gpkg"
    written = frame(grid=grid)
    write_geopackage([written], path)
    back = geopandas.read_file(path, layer="forest_cover")
    assert back.crs.to_epsg() == written.crs.to_epsg()
    assert back.crs.equals(written.crs, ignore_axis_order=True)
    assert back.geometry.geom_equals_exact(written.geometry, 0).all()


def test_an_old_file_is_replaced_whole(tmp_path):
    path = tmp_path / "forest.gpkg"
    write_geopackage([frame()], path, layer="old")
    write_geopackage([frame(forest=False)], path)
    assert [name for name, _ in pyogrio.list_layers(path)] == ["forest_cover", "layer_styles"]
    assert [found.name for found in tmp_path.iterdir()] == ["forest.gpkg"]


@pytest.mark.parametrize("stage", ["_write_layer", "add_style"])
@pytest.mark.parametrize("error", [OSError("disk full"), sqlite3.OperationalError("disk full")])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, stage, error):
    path = tmp_path / "forest.gpkg"
    write_geopackage([frame(forest=False)], path)
    before = path.read_bytes()
    work = getattr(geopackage, stage)

    def fail(*args: object) -> None:
        work(*args)
        raise error

    monkeypatch.setattr(geopackage, stage, fail)
    with pytest.raises(WriteError, match=r"forest\.gpkg: cannot be written \(disk full\)"):
        write_geopackage([frame()], path)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["forest.gpkg"]


def test_a_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "taken").write_text("x")
    with pytest.raises(WriteError, match="taken"):
        write_geopackage([frame()], tmp_path / "taken" / "forest.gpkg")


def test_the_pinned_date_is_not_left_behind(tmp_path):
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
    write_geopackage([frame()], tmp_path / "forest.gpkg")
    assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") is None


def test_many_attributes_and_missing_numbers(tmp_path):
    path = tmp_path / "forest.gpkg"
    write_geopackage([frame(threshold=float("nan"), scene_id="São Félix / Ñ")], path)
    back = geopandas.read_file(path, layer="forest_cover")
    assert (back["scene_id"] == "São Félix / Ñ").all()
    assert back["threshold"].isna().all()
    assert pd.api.types.is_integer_dtype(back["patch_id"])
