"""Hectares by unit beside a map and a mosaic, from the command line."""

from __future__ import annotations

import json

import geopandas
import pytest
import shapely

from tests.helpers.commands import refused


@pytest.fixture
def zones(tmp_path):
    path = tmp_path / "zones.gpkg"
    outlines = [shapely.box(500_000, 8_898_500, 501_000, 8_900_000), shapely.box(0, 0, 10, 10)]
    geopandas.GeoDataFrame({"name": ["A", "B"]}, geometry=outlines, crs=32720).to_file(path)
    return path


def test_map_and_mosaic(geoforest, scene_path, tiny_bundle, zones, tmp_path):
    by_unit = ("--zones", zones, "--by", "name")
    model = ("--model", tiny_bundle.path, "--halo", 8, "--runtime", "torch", "--device", "cpu")
    done = geoforest("map", scene_path, "--out", tmp_path / "maps", *model, *by_unit)
    assert done.returncode == 0, done.stderr
    assert "  1 units\n" in done.stdout
    again = geoforest("map", scene_path, "--out", tmp_path / "maps", *model, *by_unit, "--json")
    assert [row["unit"] for row in json.loads(again.stdout)["units"]] == ["A"]
    area = geoforest("area", tmp_path / "maps" / "scene", *by_unit, "--json")
    assert json.loads(area.stdout)["units"] == json.loads(again.stdout)["units"]
    mosaic = geoforest("mosaic", tmp_path / "maps", "--out", tmp_path / "basin", *by_unit)
    assert mosaic.returncode == 0, mosaic.stderr
    assert "  1 units\n" in mosaic.stdout
    assert geoforest("verify", tmp_path / "maps").returncode == 0


@pytest.mark.parametrize(
    ("command", "options", "sentence"),
    [
        (["map"], ["--by", "name"], "--zones and --by: a vector file and its field were wanted"),
        (
            ["map", "--dry-run"],
            ["--zones", "https://host/z.gpkg", "--by", "name"],
            "https://host/z.gpkg: is a URL",
        ),
        (["mosaic"], ["--zones", "no.shp", "--by", "name"], "no.shp: no such file (--zones)"),
    ],
)
def test_mistakes(geoforest, scene_path, tmp_path, command, options, sentence):
    """Each sentence of them is held by tests/maps/units."""
    done = geoforest(*command, scene_path, "--out", tmp_path / "out", *options)
    refused(done, sentence)
    assert not (tmp_path / "out").exists()
