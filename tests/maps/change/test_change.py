"""Change between maps of known forest: exact, and refused where it would mean nothing."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st
from rasterio.features import rasterize
from rio_cogeo import cog_validate

from geoforest import map_change
from geoforest.arrays.area import PixelTable
from geoforest.arrays.georef import GeoRef
from geoforest.errors import InputError, OutputError
from geoforest.maps.change.codes import change_codes
from geoforest.maps.verify.run import verify
from tests.helpers.databases import edit, edit_into_log, look
from tests.helpers.maps import write_map

GROUND = {"epsg": 32720, "left": 500_000, "top": 9_700_000, "shape": (120, 150)}
AFTER = datetime(2024, 9, 1, 14, tzinfo=UTC)
FOREST = shapely.box(-63.0, -2.7220, -62.9885, -2.7125)
CLEARED = shapely.box(-62.9975, -2.7190, -62.9950, -2.7160)
GROWN = shapely.box(-62.9880, -2.7190, -62.9870, -2.7160)
CLOUD = shapely.box(-62.9930, -2.7150, -62.9910, -2.7135)


@pytest.fixture(scope="module")
def maps(tmp_path_factory, tiny_bundle) -> tuple[Path, Path]:
    out = tmp_path_factory.mktemp("dates") / "maps"
    early = write_map(out, "early", tiny_bundle.path, [FOREST], **GROUND)
    late = write_map(
        out, "late", tiny_bundle.path, [FOREST - CLEARED, GROWN], unseen=[CLOUD], acquired=AFTER,
        **GROUND,
    )  # fmt: skip
    return early, late


@pytest.fixture(scope="module")
def made(maps) -> Path:
    return map_change(*maps, maps[0].parents[1] / "change").folder


def masks(maps: tuple[Path, Path]) -> list[np.ndarray]:
    found = []
    for folder in maps:
        with rasterio.open(folder / "forest_mask.tif") as source:
            found.append(source.read(1))
    return found


PIXEL = st.sampled_from([0, 50, 99, 100, 101, 124, 125, 126, 149, 150, 151, 250, 255])


@given(PIXEL, PIXEL, st.sampled_from([0.0, 0.1, 0.2]))
def test_each_pair_of_values_by_the_rule(was, now, margin):
    (code,) = change_codes(
        np.array([was], np.uint8), np.array([now], np.uint8), thresholds=(0.5, 0.5), margin=margin
    )
    forest = [value >= 125 for value in (was, now)]
    steps = round(margin * 250)
    clear = all(value >= 125 + steps or value < 125 - steps for value in (was, now))
    if 255 in (was, now):
        assert code == 255
    elif forest[0] == forest[1]:
        assert code == int(forest[0])
    elif not clear:
        assert code == 4
    else:
        assert code == (2 if forest[0] else 3)


def test_the_raster_is_exact(maps, made):
    was, now = masks(maps)
    with rasterio.open(made / "forest_change.tif") as source:
        codes = source.read(1)
        assert source.nodata == 255
        assert source.colormap(1)[2] == (197, 27, 125, 255)
        assert source.tags()["EARLIER"].startswith("early")
    expected = np.where(was == 1, np.where(now == 1, 1, 2), np.where(now == 1, 3, 0))
    expected[(was == 255) | (now == 255)] = 255
    assert np.array_equal(codes, expected)
    assert set(np.unique(codes).tolist()) == {0, 1, 2, 3, 255}
    assert cog_validate(made / "forest_change.tif")[0]


def test_hectares_are_true_ground(maps, made):
    with rasterio.open(made / "forest_change.tif") as source:
        codes, table = source.read(1), PixelTable.build(GeoRef.of(source, source.name))
    area = table.area_m2(slice(0, codes.shape[0]), slice(0, codes.shape[1])) / 1e4
    found = json.loads((made / "change.json").read_text())
    for name, code in (("stable_other", 0), ("stable_forest", 1), ("loss", 2), ("gain", 3)):
        assert found["hectares"][name] == pytest.approx(area[codes == code].sum(), abs=1e-3)
        assert found["pixels"][name] == (codes == code).sum()
    assert found["pixels"]["uncertain"] == 0
    forest = found["hectares"]["stable_forest"] + found["hectares"]["loss"]
    assert found["loss_percent_of_forest"] == pytest.approx(
        100 * found["hectares"]["loss"] / forest, abs=1e-3
    )


def test_polygons_of_loss_and_gain(made):
    frame = geopandas.read_file(made / "forest_change.gpkg", layer="forest_change")
    with rasterio.open(made / "forest_change.tif") as source:
        codes, transform = source.read(1), source.transform
    assert sorted(frame["change"]) == ["gain", "loss"]
    assert frame["date_from"].unique().tolist() == ["2024-07-01"]
    assert frame["date_to"].unique().tolist() == ["2024-09-01"]
    for kind, code in (("loss", 2), ("gain", 3)):
        own = frame[frame["change"] == kind]
        burnt = rasterize(own.geometry, codes.shape, transform=transform)
        assert np.array_equal(burnt == 1, codes == code)
    styles = geopandas.read_file(made / "forest_change.gpkg", layer="layer_styles")
    assert "categorizedSymbol" in styles["styleQML"].iloc[0]


def test_the_report_stands_alone(made):
    page = (made / "report.html").read_text()
    assert "</b>of forest lost" in page
    assert "2024-07-01" in page
    assert page.count("<figure>") == 3
    assert "data:image/png;base64," in page
    assert "uncertain" in page
    assert "http://" not in page
    assert 'src="h' not in page


def test_what_users_of_the_maps_were_told_reaches_users_of_the_comparison(maps, tmp_path):
    """Neither map has a cloud mask; and one has a warning of its own."""
    copies = [Path(shutil.copytree(one, tmp_path / one.name)) for one in maps]
    summary = json.loads((copies[1] / "summary.json").read_text())
    summary["warnings"] = [f"{summary['scene_id']}: seams show"]
    (copies[1] / "summary.json").write_text(json.dumps(summary))
    told = map_change(*copies, tmp_path / "change")
    assert f"{summary['scene_id']}: seams show" in told.summary["warnings"]
    for one in copies:
        assert [w for w in told.summary["warnings"] if one.name in w and "not masked" in w]
    assert "seams show" in (told.folder / "report.html").read_text()


def test_what_flickers_near_the_threshold_is_kept_apart(tiny_bundle, tmp_path):
    out = tmp_path / "maps"
    early = write_map(out, "a", tiny_bundle.path, [FOREST], levels=(20, 130), **GROUND)
    late = write_map(
        out, "b", tiny_bundle.path, [FOREST], levels=(20, 120), acquired=AFTER, **GROUND
    )
    apart = map_change(early, late, tmp_path / "apart").summary["pixels"]
    assert apart["loss"] == 0 < apart["uncertain"]
    counted = map_change(early, late, tmp_path / "counted", margin=0).summary["pixels"]
    assert counted["uncertain"] == 0
    assert counted["loss"] == apart["uncertain"]


def test_hectares_by_unit(maps, tmp_path):
    left = shapely.box(499_000, 9_690_000, 500_700, 9_710_000)
    right = shapely.box(500_700, 9_690_000, 510_000, 9_710_000)
    zones = tmp_path / "zones.gpkg"
    frame = geopandas.GeoDataFrame({"name": ["A", "B"]}, geometry=[left, right], crs=32720)
    frame.to_file(zones)
    made = map_change(*maps, tmp_path / "change", zones=zones, by="name")
    units = made.summary["units"]
    assert [unit["unit"] for unit in units] == ["A", "B"]
    for kind, area in made.summary["hectares"].items():
        assert sum(unit[f"{kind}_ha"] for unit in units) == pytest.approx(area, abs=1e-3)
    table = (made.folder / "units.csv").read_text().splitlines()
    assert table[0].startswith("unit,stable_other_ha,stable_forest_ha,loss_ha,gain_ha")
    assert "Hectares by unit" in (made.folder / "report.html").read_text()
    with pytest.raises(InputError, match="--zones and --by"):
        map_change(*maps, tmp_path / "other", zones=zones)


@pytest.mark.parametrize("change", [edit, edit_into_log])
def test_an_earlier_comparison_with_edits_is_not_replaced(maps, made, tmp_path, change):
    out = Path(shutil.copytree(made, tmp_path / "change"))
    look(out / "forest_change.gpkg")
    map_change(*maps, out)
    change(out / "forest_change.gpkg", "UPDATE forest_change SET model = 'mine'")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(OutputError, match=r"forest_change\.gpkg: was edited since it was made"):
        map_change(*maps, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    Path(f"{out}/forest_change.gpkg-wal").unlink(missing_ok=True)
    shutil.copy(made / "forest_change.gpkg", out)
    (out / "labels.gpkg").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"labels\.gpkg: is not of geoforest, and would be lost"):
        map_change(*maps, out)
    (out / "labels.gpkg").unlink()
    map_change(*maps, out)
    assert verify(out) == []


def test_an_earlier_comparison_is_replaced_and_nothing_else(maps, tmp_path):
    out = tmp_path / "change"
    first = map_change(*maps, out)
    assert map_change(*maps, out, margin=0).summary["margin"] == 0 != first.summary["margin"]
    assert [path.name for path in tmp_path.iterdir()] == ["change"]
    (tmp_path / "mine").mkdir()
    with pytest.raises(OutputError, match="exists and is no comparison"):
        map_change(*maps, tmp_path / "mine")


class TestMistakes:
    def refused(self, tmp_path, maps, sentence, **options):
        with pytest.raises(InputError, match=sentence):
            map_change(*maps, tmp_path / "change", **options)
        assert not (tmp_path / "change").exists()

    def test_dates_swapped(self, maps, tmp_path):
        self.refused(tmp_path, maps[::-1], "not after .*the earlier map was wanted first")
        self.refused(tmp_path, (maps[0], maps[0]), "the earlier map was wanted first")

    def test_no_map(self, maps, tmp_path):
        self.refused(tmp_path, (maps[0], tmp_path), "no finished map")
        bare = Path(shutil.copytree(maps[1], tmp_path / "bare"))
        (bare / "job.json").unlink()
        self.refused(tmp_path, (maps[0], bare), "bare: no finished map")

    @pytest.mark.parametrize(
        "edit",
        [
            lambda job: {**job, "outputs": 5},
            lambda job: {**job, "outputs": dict.fromkeys(job["outputs"], "x")},
            lambda job: {name: value for name, value in job.items() if name != "model"},
        ],
    )
    def test_a_record_that_was_edited(self, maps, tmp_path, edit):
        odd = Path(shutil.copytree(maps[1], tmp_path / "odd"))
        job = json.loads((odd / "job.json").read_text())
        (odd / "job.json").write_text(json.dumps(edit(job)))
        self.refused(tmp_path, (maps[0], odd), r"odd: its job\.json or summary\.json is damaged")

    def test_another_grid(self, maps, tiny_bundle, tmp_path):
        ground = {**GROUND, "left": 500_010}
        other = write_map(tmp_path / "m", "x", tiny_bundle.path, [], acquired=AFTER, **ground)
        told = r"120 x 150 px of 10.0 x 10.0 from \(500010.0, 9700000.0\)"
        self.refused(tmp_path, (maps[0], other), told)

    def test_a_grid_that_differs_by_rounding_is_the_same(self, maps, tiny_bundle, tmp_path):
        ground = {**GROUND, "size": 10 + 2e-12}
        other = write_map(tmp_path / "m", "x", tiny_bundle.path, [], acquired=AFTER, **ground)
        assert map_change(maps[0], other, tmp_path / "change").summary

    def test_another_threshold(self, maps, tiny_bundle, tmp_path):
        other = write_map(
            tmp_path / "m", "x", tiny_bundle.path, [], acquired=AFTER, threshold=0.6, **GROUND
        )
        self.refused(tmp_path, (maps[0], other), "threshold 0.6, that of .* is 0.5")
        map_change(maps[0], other, tmp_path / "asked", threshold=0.55)

    def test_another_model(self, maps, tiny_bundle, tmp_path):
        from geoforest.models.bundle import save_bundle
        from tests.helpers import synthetic

        state = {name: value * 1.01 for name, value in tiny_bundle.state_dict().items()}
        bundle = save_bundle(tmp_path / "other", state, synthetic.card(name="other"))
        other = write_map(tmp_path / "m", "x", bundle.path, [], acquired=AFTER, **GROUND)
        self.refused(tmp_path, (maps[0], other), "made by model other.*--mixed-models")
        map_change(maps[0], other, tmp_path / "asked", mixed_models=True)

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ({"margin": 0.6}, "--margin 0.6: 0 to 0.5"),
            ({"threshold": 2}, "--threshold 2: 0 to 1"),
            ({"min_area_ha": -1}, "--min-area-ha -1: 0 or more"),
            ({"min_area_ha": float("nan")}, "--min-area-ha nan: 0 or more"),
            ({"max_vertices": -5}, "--max-vertices -5: 0 or more"),
        ],
    )
    def test_settings(self, maps, tmp_path, options, sentence):
        self.refused(tmp_path, maps, sentence, **options)
