"""Forest by unit beside a map and a mosaic: figures as those of `area`, and nothing made twice."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import pytest
import shapely

from geoforest import map_scene, map_scenes, mosaic_maps
from geoforest.errors import InputError
from geoforest.maps.units.areas import area_by_unit
from geoforest.maps.verify.run import verify
from geoforest.pipeline.estimate import estimate
from tests.helpers import synthetic
from tests.helpers.synthetic import LocalPredictor, load_local_predictor

LEFT, TOP = 500_000, 8_900_000


def write_zones(path: Path, boxes: dict[str, tuple[float, float, float, float]]) -> Path:
    """Write units by name: metres to the right of and below the scene's corner."""
    outlines = [
        shapely.box(LEFT + left, TOP - bottom, LEFT + right, TOP - top)
        for left, top, right, bottom in boxes.values()
    ]
    frame = geopandas.GeoDataFrame({"name": list(boxes)}, geometry=outlines, crs=32720)
    frame.to_file(path)
    return path


@pytest.fixture
def zones(tmp_path) -> Path:
    """Two units that cover the scene, one of which reaches beyond it, and one far away."""
    return write_zones(
        tmp_path / "zones.gpkg",
        {"A": (0, 0, 705, 1500), "B": (705, 0, 3000, 1500), "C": (300_000, 0, 300_100, 100)},
    )


def load_none(job: object) -> LocalPredictor:
    raise AssertionError("nothing was to be predicted")


def mapped(scene: Path, out: Path, bundle, **settings: object):
    settings = {"load_predictor": load_local_predictor, "halo": 8, **settings}
    return map_scene(scene, out, model=bundle.path, **settings)


def outputs(folder: Path) -> dict[str, str]:
    recorded = json.loads((folder / "job.json").read_text())["outputs"]
    return {name: told["sha256"] for name, told in recorded.items()}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*.*"))
        if path.is_file()
    }


def test_figures_are_those_of_area(scene_path, tiny_bundle, zones, tmp_path):
    scene = scene_path.rename(tmp_path / "S2A_MSIL2A_20230813T143751_N0509_R096_T20LMR.tif")
    made = mapped(scene, tmp_path / "maps", tiny_bundle, zones=zones, by="name")
    assert isinstance(made.folder, Path)
    rows = made.summary["units"]
    assert [row["unit"] for row in rows] == ["A", "B"]
    for kind in ("forest", "observed"):
        total = sum(row[f"{kind}_ha"] for row in rows)
        assert total == pytest.approx(made.summary["hectares"][kind], abs=1e-3)
    assert rows[1]["outside_ha"] == pytest.approx(110 * 1.5, rel=2e-3)
    area_by_unit(made.folder, zones, by="name", out=tmp_path / "area.csv")
    assert (made.folder / "units.csv").read_text() == (tmp_path / "area.csv").read_text()
    assert verify(made.folder) == []
    item = json.loads((made.folder / f"{made.scene_id}.json").read_text())
    assert item["assets"]["forest_by_unit"]["href"] == "./units.csv"
    assert "by name: 1 units beside the map are left out" in made.summary["notes"]
    page = (made.folder / "report.html").read_text()
    assert "<code>zones.gpkg</code>, column <code>name</code>" in page
    assert f'<td class="number">{rows[0]["forest_ha"]:,.1f}</td>' in page
    assert "Map of the units" in page


def test_other_zones_change_no_other_product(scene_path, tiny_bundle, zones, tmp_path):
    bare = mapped(scene_path, tmp_path / "maps", tiny_bundle)
    assert isinstance(bare.folder, Path)
    assert bare.summary["units"] is None
    before = outputs(bare.folder)
    assert "units.csv" not in before
    with_zones = mapped(
        scene_path, tmp_path / "maps", tiny_bundle, zones=zones, by="name",
    )  # fmt: skip
    assert len(with_zones.summary["units"]) == 2
    assert with_zones.summary["reused_shards"] == with_zones.summary["shards"]
    after = outputs(bare.folder)
    assert {name for name in after if after[name] != before.get(name)} == {
        "summary.json", "report.html", "units.csv",
    }  # fmt: skip
    stamp = (bare.folder / "units.csv").stat().st_mtime_ns
    mapped(scene_path, tmp_path / "maps", tiny_bundle, zones=zones, by="name")
    assert (bare.folder / "units.csv").stat().st_mtime_ns == stamp
    write_zones(zones, {"A": (0, 0, 1900, 1500)})
    other = mapped(scene_path, tmp_path / "maps", tiny_bundle, zones=zones, by="name")
    assert [row["unit"] for row in other.summary["units"]] == ["A"]
    mapped(scene_path, tmp_path / "maps", tiny_bundle)
    assert not (bare.folder / "units.csv").exists()
    assert outputs(bare.folder).keys() == before.keys()


def test_each_scene_has_the_units_that_it_touches(tiny_bundle, tmp_path):
    scenes = []
    for number in range(3):
        dn = synthetic.digital_numbers((64, 64), seed=number)
        transform = synthetic.TRANSFORM.translation(5_000 * number, 0) @ synthetic.TRANSFORM
        path = tmp_path / f"scene{number}.tif"
        scenes.append(synthetic.write_raster(path, dn, transform=transform))
    zones = write_zones(
        tmp_path / "zones.gpkg", {"both": (300, 0, 5300, 640), "first": (0, 0, 300, 640)}
    )
    results = map_scenes(
        scenes, tmp_path / "maps", model=tiny_bundle.path, load_predictor=load_local_predictor,
        halo=8, zones=zones, by="name",
    )  # fmt: skip
    made = {result.scene_id: result for result in results}
    found = {name: [row["unit"] for row in one.summary["units"]] for name, one in made.items()}
    assert found == {"scene0": ["both", "first"], "scene1": ["both"], "scene2": []}
    lonely = made["scene2"]
    assert (
        f"{zones}: no unit touches the map, so there is no table of units"
        in (lonely.summary["notes"])
    )
    assert not (lonely.folder / "units.csv").exists()
    assert "Forest by unit" not in (lonely.folder / "report.html").read_text()


def test_units_that_all_lie_beside_are_refused_before_the_work(
    scene_path, tiny_bundle, zones, tmp_path
):
    """Latitude before longitude, as some services send it: the sentence says so."""
    swapped = tmp_path / "swapped.geojson"
    frame = geopandas.read_file(zones).iloc[:2].to_crs(4326)
    frame.geometry = shapely.transform(frame.geometry.to_numpy(), lambda xy: xy[:, ::-1])
    frame.to_file(swapped)
    sentence = r"swapped\.geojson: no unit touches .* with x and y swapped it would touch the map"
    made = mapped(scene_path, tmp_path / "maps", tiny_bundle)
    folders = sorted(tmp_path.rglob("*"))
    asked = {"zones": swapped, "by": "name"}
    with pytest.raises(InputError, match=sentence):
        mapped(scene_path, tmp_path / "o", tiny_bundle, load_predictor=load_none, **asked)
    with pytest.raises(InputError, match=sentence):
        mosaic_maps([tmp_path / "maps"], tmp_path / "basin", **asked)
    with pytest.raises(InputError, match=sentence):
        list(estimate([scene_path], {"model": tiny_bundle.path, "halo": 8, **asked}))
    with pytest.raises(InputError, match=sentence):
        area_by_unit(made.folder, swapped, by="name")
    assert sorted(tmp_path.rglob("*")) == folders


def test_a_page_has_the_units_with_most_forest(tiny_bundle, tmp_path):
    dn = synthetic.digital_numbers((64, 640))
    dn[0], dn[3] = 250, 3300
    scene = synthetic.write_raster(tmp_path / "wood.tif", dn)
    boxes = {f"unit {n:02}": (100 * n, 0, 100 * n + 99 - n, 640) for n in range(64)}
    zones = write_zones(tmp_path / "zones.gpkg", boxes)
    made = mapped(scene, tmp_path / "maps", tiny_bundle, zones=zones, by="name")
    page = (made.folder / "report.html").read_text()
    rows = made.summary["units"]
    assert len(rows) == 64
    assert page.count("<td>unit ") == 50
    assert page.index("<td>unit 00") < page.index("<td>unit 49")
    rest = sum(row["forest_ha"] for row in rows[50:])
    assert f"14 more units have {rest:,.1f} ha of forest together." in page
    assert len((made.folder / "units.csv").read_text().splitlines()) == 65


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"by": "nome"}, "no field 'nome'"),
        ({"by": None}, "--zones and --by: a vector file and its field were wanted"),
        ({"zones": None}, "--zones and --by: a vector file and its field were wanted"),
        ({"zones": "https://host/z.gpkg"}, r"https://host/z\.gpkg: is a URL"),
        ({"zones": "none.gpkg"}, "none.gpkg"),
    ],
)
def test_bad_units_are_refused_before_the_work(
    scene_path, tiny_bundle, zones, tmp_path, settings, sentence
):
    settings = {"zones": zones, "by": "name", **settings}
    there = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=sentence):
        mapped(scene_path, tmp_path / "maps", tiny_bundle, load_predictor=load_none, **settings)
    with pytest.raises(InputError, match=sentence):
        mosaic_maps([tmp_path], tmp_path / "basin", **settings)
    with pytest.raises(InputError, match=sentence):
        list(estimate([scene_path], {"model": tiny_bundle.path, **settings}))
    assert sorted(tmp_path.iterdir()) == there


@pytest.mark.slow
def test_a_mosaic(scene_path, tiny_bundle, zones, tmp_path):
    mapped(scene_path, tmp_path / "maps", tiny_bundle)
    bare = mosaic_maps([tmp_path / "maps"], tmp_path / "basin")
    assert bare.summary["units"] is None
    before = contents(bare.folder)
    told = mosaic_maps([tmp_path / "maps"], bare.folder, zones=zones, by="name").summary
    assert told["rewritten"] == {
        "tiles": [], "removed_tiles": [], "pieces": [], "zones": [], "table": False,
    }  # fmt: skip
    assert [row["unit"] for row in told["units"]] == ["A", "B"]
    assert "by name: 1 units beside the map are left out" in told["notes"]
    total = sum(row["forest_ha"] for row in told["units"])
    assert total == pytest.approx(told["hectares"]["forest"], rel=1e-6)
    area_by_unit(bare.folder, zones, by="name", out=tmp_path / "area.csv")
    assert (bare.folder / "units.csv").read_text() == (tmp_path / "area.csv").read_text()
    assert "Forest by unit" in (bare.folder / "report.html").read_text()
    assert json.loads((bare.folder / "mosaic.json").read_text())["units"] == told["units"]
    mosaic_maps([tmp_path / "maps"], bare.folder)
    after = contents(bare.folder)
    assert after.keys() == before.keys()
    assert [name for name in after if after[name] != before[name]] == ["mosaic.json"]


@pytest.mark.slow
def test_a_mosaic_that_is_cut_off_is_not_taken_for_another(
    scene_path, tiny_bundle, zones, tmp_path, monkeypatch
):
    """The table of other units is there already, and what would say so is not."""
    mapped(scene_path, tmp_path / "maps", tiny_bundle)
    folder = mosaic_maps([tmp_path / "maps"], tmp_path / "basin", zones=zones, by="name").folder
    table = (folder / "units.csv").read_text()
    other = write_zones(tmp_path / "other.gpkg", {"D": (0, 0, 500, 500)})

    def fail(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("geoforest.maps.mosaic.products.write_json", fail)
        with pytest.raises(KeyboardInterrupt):
            mosaic_maps([tmp_path / "maps"], folder, zones=other, by="name")
    assert (folder / "units.csv").read_text() != table
    mosaic_maps([tmp_path / "maps"], folder, zones=zones, by="name")
    assert (folder / "units.csv").read_text() == table
