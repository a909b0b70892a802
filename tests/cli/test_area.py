"""The command that measures forest by unit."""

from __future__ import annotations

import json

import geopandas
import rasterio
import shapely

from tests.helpers.maps import write_map
from tests.helpers.samples import label


def test_area(geoforest, tiny_bundle, tmp_path):
    forest = [shapely.box(-63.1, -2.7145, -62.9, -2.6)]
    made = write_map(
        tmp_path / "maps", "a", tiny_bundle.path, forest, epsg=32720, left=500_000, top=9_700_000,
        shape=(64, 64),
    )  # fmt: skip
    boxes = [shapely.box(500_000, 9_699_500, 500_300, 9_700_000), shapely.box(0, 0, 10, 10)]
    zones = tmp_path / "zones.gpkg"
    geopandas.GeoDataFrame({"name": ["A", "B"]}, geometry=boxes, crs=32720).to_file(zones)
    out, figure = tmp_path / "units.csv", tmp_path / "units.png"
    call = ("area", made, "--zones", zones, "--by", "name")
    done = geoforest(*call, "--out", out, "--figure", figure)
    assert done.returncode == 0, done.stderr
    head, row = done.stdout.splitlines()
    assert head.split()[:3] == ["unit", "total", "ha"]
    assert row.split()[:2] == ["A", "15.0"]
    first, *others = done.stderr.splitlines()
    assert first == f"note: {zones}: 1 units beside the map are left out"
    # What the map's own users were told.
    assert any("clouds are not masked" in note for note in others)
    assert out.read_text().startswith("unit,total_ha,observed_ha,forest_ha,")
    assert figure.read_bytes().startswith(b"\x89PNG")
    found = json.loads(geoforest(*call, "--json").stdout)
    assert 0 < found["units"][0]["forest_percent"] < 100
    wrong = geoforest("area", made, "--zones", zones, "--by", "nome")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith(f"geoforest: {zones}: no field 'nome'")


def test_a_sample_and_its_estimate(geoforest, tiny_bundle, tmp_path):
    forest = [shapely.box(-63.1, -2.7145, -62.9975, -2.6)]
    made = write_map(
        tmp_path / "maps", "a", tiny_bundle.path, forest, epsg=32720, left=500_000, top=9_700_000,
        shape=(64, 64),
    )  # fmt: skip
    path = tmp_path / "sample.gpkg"
    drawn = geoforest("area", made, "--sample", 120, "--out", path)
    assert drawn.returncode == 0, drawn.stderr
    assert str(path) in drawn.stdout
    early = geoforest("area", made, "--estimate", path)
    assert early.returncode == 2
    with rasterio.open(made / "forest_mask.tif") as mask:
        label(path, mask.read(1))
    told = geoforest("area", made, "--estimate", path, "--out", tmp_path / "area.csv")
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("From 120 labelled points on a_MSIL2A")
    assert (tmp_path / "area.csv").exists()
    labelled = path.read_bytes()
    over = geoforest("area", made, "--estimate", path, "--out", path)
    assert over.returncode == 2
    assert over.stderr == f"geoforest: {path}: a name that ends in .csv was wanted\n"
    assert path.read_bytes() == labelled
    found = json.loads(geoforest("area", made, "--estimate", path, "--json").stdout)
    assert found["method"]


def test_one_of_three(geoforest, tmp_path):
    for options in ([], ["--sample", 3, "--estimate", "x"], ["--zones", "z"], ["--sample", 3]):
        done = geoforest("area", tmp_path, *options)
        assert done.returncode == 2
        assert "was wanted" in done.stderr
