"""Ground beyond the borders of its map's zone: each piece that any map observed counts once."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import shapely

from geoforest import mosaic_maps
from geoforest.errors import InputError
from geoforest.maps.mosaic import plan
from geoforest.maps.mosaic.ground import disagreement
from geoforest.maps.units.areas import area_by_unit
from geoforest.maps.verify.run import verify
from tests.helpers.maps import write_map

GEOD = pyproj.Geod(ellps="WGS84")
# Pixels are large, so that a tile has few of them.
SIZE_M, SIDE_PX = 100.0, 64
SIDE_M = SIZE_M * SIDE_PX
EVERYWHERE = shapely.box(-180, -80, 180, 84)


def ground_ha(*boxes: tuple[int, float, float]) -> float:
    """Ground of the union of maps on the ellipsoid, given by EPSG code and upper left corner."""
    shapes = []
    for epsg, left, top in boxes:
        move = pyproj.Transformer.from_crs(epsg, 4326, always_xy=True)
        box = shapely.segmentize(shapely.box(left, top - SIDE_M, left + SIDE_M, top), SIDE_M / 16)
        shapes.append(shapely.transform(box, lambda p, move=move: np.array(move.transform(*p.T)).T))
    parts = shapely.get_parts(shapely.union_all(shapes))
    return sum(abs(GEOD.geometry_area_perimeter(part)[0]) for part in parts) / 1e4


@pytest.fixture
def made(tiny_bundle, tmp_path):
    """Make a mosaic of maps, given by EPSG code and upper left corner, that are all forest."""

    maps: dict[tuple[int, float, float], Path] = {}

    def make(*boxes: tuple[int, float, float], **options: object):
        for epsg, left, top in boxes:
            if (epsg, left, top) not in maps:
                maps[epsg, left, top] = write_map(
                    tmp_path / "maps", f"m{len(maps)}", tiny_bundle.path, [], levels=(230, 230),
                    epsg=epsg, left=left, top=top, shape=(SIDE_PX, SIDE_PX), size=SIZE_M,
                )  # fmt: skip
        some = [maps[box] for box in boxes]
        return mosaic_maps(some, tmp_path / "mosaic", min_area_ha=8.0, **options)

    return make


def check_against(result, *boxes: tuple[int, float, float], rel: float = 2e-3) -> None:
    """All products agree: hectares, polygons, pieces, units and the check of the mosaic."""
    told, expected_ha, sum_ha = result.summary, ground_ha(*boxes), sum(map(ground_ha, boxes))
    assert told["hectares"]["observed"] == pytest.approx(expected_ha, rel=rel)
    assert told["hectares"]["forest"] == told["hectares"]["observed"]
    assert told["ground"]["union_ha"] == pytest.approx(expected_ha, rel=rel)
    assert told["ground"]["sum_ha"] == pytest.approx(sum_ha, rel=1e-3)
    assert not [one for one in told["warnings"] if " ha " in one]
    frames = [
        geopandas.read_file(result.folder / f"forest_{zone}.gpkg", layer="forest_cover")
        for zone in told["zones"]
    ]
    polygons = sum(frame["area_ha"].sum() for frame in frames)
    assert polygons == pytest.approx(told["hectares"]["forest"], rel=1e-3)
    pieces = sum(
        geopandas.read_parquet(path)["area_ha"].sum()
        for path in (result.folder / "pieces").glob("*.parquet")
    )
    assert pieces == pytest.approx(polygons, rel=1e-6)
    zones = result.folder.parent / "units.gpkg"
    unit = geopandas.GeoDataFrame({"name": ["all"]}, geometry=[EVERYWHERE], crs=4326)
    unit.to_file(zones)
    (row,) = area_by_unit(result.folder, zones, by="name").rows()
    assert row["observed_ha"] == pytest.approx(told["hectares"]["observed"], rel=1e-6)
    with rasterio.open(result.folder / "forest_fraction.tif") as source:
        percent = source.read(1)
        assert percent[percent != 255].min() == 100
    assert verify(result.folder) == []


# The meridian of 60 W lies at x 833,480 here.
INSIDE, ACROSS, BEYOND = ((32720, x, 9_700_000.0) for x in (827_000.0, 832_000.0, 839_000.0))


def test_beyond_the_meridian_of_a_zone_without_maps_of_the_next(made):
    result = made(INSIDE, ACROSS, BEYOND)
    assert result.summary["zones"] == ["20S", "21S"]
    check_against(result, INSIDE, ACROSS, BEYOND)


def test_ground_that_the_next_zone_has_in_part(made):
    """Its own map prevails where it observed, and the rest is taken from the zone beside it."""
    there = (32721, 168_000.0, 9_700_600.0)
    result = made(ACROSS, BEYOND, there)
    check_against(result, ACROSS, BEYOND, there, rel=5e-3)
    with rasterio.open(result.folder / "observations_21S.vrt") as source:
        assert source.read(1).max() == 1


def test_two_zones_away(made):
    """A project in the zone of its centre, as exports of whole countries are."""
    far = (32720, 1_620_000.0, 8_900_000.0)
    near = (32720, 1_620_000.0 + SIDE_M, 8_900_000.0)
    result = made(far, near)
    assert result.summary["zones"] == ["22S"]
    check_against(result, far, near, rel=5e-3)


@pytest.mark.parametrize(
    ("given", "beside"),
    [
        ((32620, 500_000.0, -1_100_000.0), (32720, 500_000.0 + SIDE_M, 8_900_000.0)),
        ((32720, 500_000.0, 10_020_000.0), (32620, 500_000.0 + SIDE_M, 20_000.0)),
    ],
)
def test_northings_of_the_other_hemisphere(made, given, beside):
    result = made(given, beside)
    assert result.summary["zones"] == ["20S" if given[0] == 32620 else "20N"]
    assert result.summary["notes"] == []
    assert result.summary["polygons"]["patches"] == 1
    check_against(result, given, beside, rel=1e-4)


def test_a_map_across_the_equator_in_one_zone(made):
    box = (32620, 500_000.0, 1_200.0)
    result = made(box)
    assert result.summary["zones"] == ["20N", "20S"]
    assert result.summary["polygons"]["patches"] == 1
    check_against(result, box, rel=1e-4)


def test_both_hemispheres_count_as_maps_of_one_grid(made):
    north, south = (32620, 500_000.0, 1_200.0), (32720, 500_000.0, 10_000_000.0)
    result = made(north, south)
    check_against(result, north, south, rel=1e-4)
    with rasterio.open(result.folder / "observations_20S.vrt") as source:
        counts = source.read(1)
    assert (counts == 2).sum() == 52 * SIDE_PX
    assert (counts == 1).sum() == 12 * SIDE_PX


def corner(epsg: int, longitude: float, latitude: float) -> tuple[int, float, float]:
    move = pyproj.Transformer.from_crs(4326, epsg, always_xy=True)
    x, y = move.transform(longitude, latitude)
    return epsg, round(x / SIZE_M) * SIZE_M, round(y / SIZE_M) * SIZE_M


@pytest.mark.parametrize(
    ("epsg", "longitude", "latitude", "zones"),
    [
        (32632, 4.5, 60.0, ["32N"]),  # 32V is wide
        (32631, 4.5, 60.0, ["32N"]),  # 31V is narrow
        (32631, 8.0, 75.0, ["31N"]),  # 31X, 33X, 35X and 37X are wide
        (32632, 8.0, 75.0, ["31N"]),  # 32X, 34X and 36X are none
        (32634, 20.5, 78.0, ["33N"]),
        (32632, 4.5, 56.01, ["31N", "32N"]),  # across a parallel that is a border
        (32633, 11.9, 72.01, ["32N", "33N"]),
    ],
)
def test_zones_around_norway_and_svalbard(made, epsg, longitude, latitude, zones):
    box = corner(epsg, longitude, latitude)
    result = made(box)
    assert result.summary["zones"] == zones
    check_against(result, box, rel=4e-3)
    assert result.summary["polygons"]["patches"] == 1
    assert result.summary["polygons"]["polygons"] == 1


def test_clouds_of_a_zones_own_map_are_filled_from_the_next(tiny_bundle, tmp_path):
    """Observed is what any map observed: a hole in one is no hole where the other saw it."""
    hole = shapely.box(-59.99, -2.75, -59.97, -2.72)
    ground = {"shape": (SIDE_PX, SIDE_PX), "size": SIZE_M, "top": 9_700_000.0}
    own = write_map(
        tmp_path / "maps", "own", tiny_bundle.path, [], epsg=32721, left=166_400, **ground,
        unseen=[hole],
    )  # fmt: skip
    other = write_map(
        tmp_path / "maps", "other", tiny_bundle.path, [], epsg=32720, left=834_000,
        levels=(230, 230), **ground,
    )  # fmt: skip
    told = mosaic_maps([own, other], tmp_path / "mosaic", min_area_ha=0).summary
    lost = mosaic_maps([own], tmp_path / "alone", min_area_ha=0).summary
    hole_ha = abs(GEOD.geometry_area_perimeter(hole)[0]) / 1e4
    boxes = (32721, 166_400.0, 9_700_000.0), (32720, 834_000.0, 9_700_000.0)
    assert told["hectares"]["observed"] == pytest.approx(ground_ha(*boxes), rel=5e-3)
    assert lost["hectares"]["observed"] == pytest.approx(ground_ha(boxes[0]) - hole_ha, rel=5e-3)
    assert told["hectares"]["forest"] == pytest.approx(
        hole_ha + ground_ha(*boxes) - ground_ha(boxes[0]), rel=0.03
    )


def test_one_more_map_rewrites_only_tiles_with_ground_of_its_own(made, tiny_bundle, tmp_path):
    boxes = [INSIDE, (32721, 166_600.0, 9_700_000.0)]
    made(*boxes)
    result = made(*boxes, (32720, 824_000.0, 9_700_000.0))
    assert {name[:3] for name in result.summary["rewritten"]["tiles"]} == {"20S"}
    assert verify(result.folder) == []


def test_ground_that_is_lost_is_told(made, monkeypatch):
    """The check does not rely on what decides the tiles."""
    monkeypatch.setattr(plan, "tiles_across", lambda one: [])
    result = made(INSIDE, ACROSS)
    lost = ground_ha(INSIDE, ACROSS) - result.summary["hectares"]["observed"]
    (warning,) = [one for one in result.summary["warnings"] if "not in the mosaic" in one]
    assert warning.startswith(f"{lost:,.0f}"[:2])
    (problem,) = verify(result.folder)
    assert warning in str(problem)
    assert warning in (result.folder / "report.html").read_text()


def test_a_map_that_is_left_out_whole_is_refused(made, monkeypatch):
    monkeypatch.setattr(plan, "tiles_across", lambda one: [])
    with pytest.raises(InputError, match=r"m1.*: none of its ground would be in the mosaic"):
        made(INSIDE, BEYOND)


def test_maps_beside_the_area_of_interest_are_named(made, tmp_path):
    aoi = tmp_path / "aoi.gpkg"
    x = pyproj.Transformer.from_crs(32720, 4326, always_xy=True).transform(828_000, 9_698_500)
    geopandas.GeoSeries([shapely.Point(x).buffer(0.003)], crs=4326).to_file(aoi)
    result = made(INSIDE, BEYOND, aoi=aoi)
    assert [note for note in result.summary["notes"] if "1 maps lie beside it" in note]
    assert result.summary["ground"]["union_ha"] == pytest.approx(
        result.summary["hectares"]["observed"], rel=1e-6
    )


def test_what_disagrees():
    ground = {"union_ha": 100.0, "sum_ha": 120.0, "tolerance_ha": 1.0}
    assert disagreement(99.5, ground) is None
    assert disagreement(90.0, ground).startswith("10.0 ha are not in the mosaic")
    assert disagreement(110.0, ground).startswith("10.0 ha too many are in the mosaic")


@pytest.mark.parametrize("damage", ["digit", "kind", "checksum"])
def test_damaged_figures_of_the_ground_are_measured_again(made, damage):
    result = made(INSIDE, ACROSS)
    path = result.folder / "ground.json"
    good = path.read_text()
    document = json.loads(good)
    (first, *_) = document["tiles"]
    if damage == "digit":
        document["tiles"][first]["union_ha"] += 100
    elif damage == "kind":
        document["tiles"] = [1]
    else:
        del document["checksum"]
        document["tiles"][first]["union_ha"] += 100
    path.write_text(json.dumps(document))
    assert any("ground.json" in str(problem) for problem in verify(result.folder))
    again = made(INSIDE, ACROSS)
    assert path.read_text() == good
    assert again.summary["ground"] == result.summary["ground"]


def test_a_mosaic_of_an_earlier_version_is_made_anew(made):
    result = made(INSIDE, ACROSS)
    path = result.folder / "mosaic.json"
    old = json.loads(path.read_text())
    # Nor had its records checksums.
    for name in ("ground", "checksum", "outputs"):
        del old[name]
    old["question"]["tiles"] = dict.fromkeys(old["question"]["tiles"], "old")
    path.write_text(json.dumps(old))
    for tile in (result.folder / "tiles").glob("*/tile.json"):
        record = {**json.loads(tile.read_text()), "digest": "old"}
        del record["checksum"]
        tile.write_text(json.dumps(record))
    (problem,) = verify(result.folder)
    assert "was made by an earlier geoforest, which left out ground" in str(problem)
    again = made(INSIDE, ACROSS)
    assert len(again.summary["rewritten"]["tiles"]) == again.summary["tiles"]
    assert verify(again.folder) == []


class TestBaselines:
    OLD = "S2A_MSIL2A_20240701T140000_N0400_R053_T20LMR_20240701T190000"
    NEW = "S2A_MSIL2A_20240701T140000_N0510_R053_T20LMR_20241111T010203"
    NEXT = "S2A_MSIL2A_20240711T140000_N0510_R053_T20LMR_20240711T190000"

    def write(self, bundle, out: Path, name: str, level: int) -> Path:
        return write_map(
            out, name, bundle.path, [], levels=(level, level),
            epsg=32720, left=600_000.0, top=9_000_000.0, shape=(32, 32), size=SIZE_M,
        )  # fmt: skip

    @pytest.mark.parametrize("rule", ["mean", "latest"])
    def test_only_the_newest_of_one_acquisition_counts(self, tiny_bundle, tmp_path, rule):
        out = tmp_path / "maps"
        levels = {self.OLD: 10, self.NEW: 200}
        maps = [self.write(tiny_bundle, out, *one) for one in levels.items()]
        result = mosaic_maps(maps, tmp_path / "mosaic", rule=rule)
        told = result.summary
        assert told["scenes"] == [self.NEW]
        (note,) = [one for one in told["notes"] if "left out" in one]
        assert note.startswith(self.OLD)
        assert self.NEW in note
        assert "05.10" in note
        with rasterio.open(result.folder / "forest_probability_20S.vrt") as source:
            values = source.read(1)
        assert set(np.unique(values).tolist()) == {200, 255}
        assert told["ground"]["sum_ha"] == pytest.approx(told["ground"]["union_ha"])

    def test_other_days_and_other_products_of_one_baseline_stay(self, tiny_bundle, tmp_path):
        out = tmp_path / "maps"
        second = self.NEW.replace("20241111T010203", "20241111T010204")
        names = [self.NEW, second, self.NEXT]
        maps = [self.write(tiny_bundle, out, name, 200) for name in names]
        told = mosaic_maps(maps, tmp_path / "mosaic").summary
        assert told["scenes"] == sorted(names)
        assert not [one for one in told["notes"] if "left out" in one]


def test_what_users_of_the_maps_were_told_reaches_users_of_the_mosaic(made, tmp_path):
    result = made(INSIDE, ACROSS, BEYOND)
    path = tmp_path / "maps"
    for number, folder in enumerate(sorted(path.iterdir())):
        summary = json.loads((folder / "summary.json").read_text())
        summary["warnings"] = [f"{summary['scene_id']}: warning {number}", "a sentence of all"]
        (folder / "summary.json").write_text(json.dumps(summary))
    again = mosaic_maps([path], result.folder, min_area_ha=8.0)
    warnings = again.summary["warnings"]
    assert again.summary["rewritten"]["tiles"] == []
    assert "m0_MSIL2A_20240701T140000: warning 0" in warnings
    assert warnings.count("a sentence of all") == 1
    assert sum("clouds are not masked" in one for one in warnings) == 3
    assert "warning 2" in (result.folder / "report.html").read_text()
    zones = tmp_path / "units.gpkg"
    geopandas.GeoDataFrame({"name": ["a"]}, geometry=[EVERYWHERE], crs=4326).to_file(zones)
    notes = area_by_unit(result.folder, zones, by="name").notes
    assert "m0_MSIL2A_20240701T140000: warning 0" in notes
    alone = area_by_unit(sorted(path.iterdir())[0], zones, by="name").notes
    assert "m0_MSIL2A_20240701T140000: warning 0" in alone


def test_a_shift_that_is_none_is_told_as_none(tiny_bundle, tmp_path):
    """Corners of a pixel's thousandth beside the grid, on either side of it."""
    ground = {"epsg": 32720, "shape": (32, 32), "size": 10.0}
    for number, (left, top) in enumerate(
        [(500_000.000001, 9_000_000.000001), (499_999.999999, 8_999_999.999999)]
    ):
        one = write_map(
            tmp_path / "maps", f"m{number}", tiny_bundle.path, [], left=left, top=top, **ground,
            acquired=datetime(2024, 7, 1 + number, tzinfo=UTC),
        )  # fmt: skip
        placed = plan.read_map(one)
        assert placed.shift_m == (0.0, 0.0)
        assert (placed.window.row_off, placed.window.col_off) == (-900_000, 50_000)


@pytest.mark.parametrize("top", [-1_100_004.0, -1_100_005.0, -1_100_006.0])
def test_grids_north_of_zero_are_rounded_like_those_south_of_it(tiny_bundle, tmp_path, top):
    """The nearest grid, half a pixel upwards: also where numbers of rows change their sign."""
    ground = {"epsg": 32620, "left": 500_000.0, "shape": (32, 32), "size": 10.0}
    placed = plan.read_map(
        write_map(tmp_path / "maps", "m", tiny_bundle.path, [], top=top, **ground)
    )
    assert placed.grid.zone.name == "20S"
    assert abs(placed.shift_m[1]) <= 5.0
    assert placed.window.row_off == -round((10_000_000 + top + 0.5) / 10)
