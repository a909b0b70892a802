"""Mosaics of maps with known forest: areas, patches across tiles and zones, what is made anew."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyproj
import pystac
import pytest
import rasterio
import shapely
from PIL import Image
from rio_cogeo import cog_validate
from scipy import ndimage

from geoforest import mosaic_maps
from geoforest.errors import InputError, OutputError, ReadError
from geoforest.maps.verify.run import verify
from tests.helpers.maps import write_map

GEOD = pyproj.Geod(ellps="WGS84")
# Pixels are large, so that a tile has few of them; a patch has as many as one of 0.5 ha at 10 m.
SIZE_M, MIN_AREA_HA = 40.0, 8.0
# Where zones 20 and 21 and two tiles of each meet, at 9,700,000 m north.
LONGITUDE, LATITUDE = -60.0, -2.7102


def disc(east_px: float, north_px: float, radius_px: float) -> shapely.Polygon:
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    x = LONGITUDE + (east_px + radius_px * np.cos(angle)) * SIZE_M / 111_190
    y = LATITUDE + (north_px + radius_px * np.sin(angle)) * SIZE_M / 110_570
    return shapely.Polygon(np.column_stack([x, y]))


def mosaic(maps, out: Path, **options: object):
    return mosaic_maps(maps, out, **{"min_area_ha": MIN_AREA_HA, **options})


def hectares(polygon: shapely.Polygon) -> float:
    return abs(GEOD.geometry_area_perimeter(shapely.orient_polygons(polygon))[0]) / 1e4


FOREST = [
    disc(10, 10, 120) - disc(-60, 20, 25),  # across both borders, with a clearing
    disc(-180, 150, 30),
    disc(170, -120, 40),
    disc(2, -190, 6),  # across the meridian
    disc(-1, 190, 4.5),  # 63 px, of which neither half alone has 50
    disc(150, 150, 3),  # too small
]
KEPT = FOREST[:5]
WEST = {"epsg": 32720, "left": 823_400, "shape": (240, 420), "size": SIZE_M}
EAST = {"epsg": 32721, "left": 159_000, "shape": (240, 420), "size": SIZE_M}
ALONE = {"epsg": 32720, "left": 500_000, "top": 9_700_000, "shape": (64, 64), "size": SIZE_M}


@pytest.fixture(scope="module")
def maps(tmp_path_factory, tiny_bundle) -> Path:
    """Six maps, three of each zone, that overlap their neighbours."""
    out = tmp_path_factory.mktemp("basin") / "maps"
    for number, top in enumerate((9_710_400, 9_704_400, 9_698_400)):
        write_map(out, f"W{number}", tiny_bundle.path, FOREST, top=top, **WEST)
        write_map(out, f"E{number}", tiny_bundle.path, FOREST, top=top, **EAST)
    return out


@pytest.fixture(scope="module")
def made(maps) -> Path:
    return mosaic([maps], maps.parent / "mosaic").folder


def read(folder: Path, zone: str) -> geopandas.GeoDataFrame:
    return geopandas.read_file(folder / f"forest_{zone}.gpkg", layer="forest_cover")


def every(folder: Path) -> geopandas.GeoDataFrame:
    """Polygons of both zones, in the CRS of the first."""
    frames = [read(folder, zone).to_crs(32720) for zone in ("20S", "21S")]
    return pd.concat(frames, ignore_index=True)


def summary(folder: Path) -> dict:
    return json.loads((folder / "mosaic.json").read_text())


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "mosaic.json"
    }


@pytest.mark.slow
def test_total_area_is_the_true_one(made):
    """In both zones together, each piece of ground once."""
    found = summary(made)["hectares"]
    assert found["forest"] == pytest.approx(sum(map(hectares, FOREST)), rel=1e-3)
    polygons = every(made)["area_ha"].sum()
    assert polygons == pytest.approx(sum(map(hectares, KEPT)), rel=1e-3)


def test_patches_are_whole_across_tiles_and_zones(made):
    polygons = every(made)
    for truth in KEPT:
        inside = truth.representative_point()
        (place,) = geopandas.GeoSeries([inside], crs=4326).to_crs(32720)
        found = polygons[polygons.contains(place)]
        assert len(found) == 1
        assert found["patch_area_ha"].iloc[0] == pytest.approx(hectares(truth), rel=0.01, abs=0.5)
        patch = polygons[polygons["patch_id"] == found["patch_id"].iloc[0]]
        assert patch["area_ha"].sum() == pytest.approx(found["patch_area_ha"].iloc[0], rel=1e-9)
    assert polygons["patch_id"].nunique() == len(polygons) == len(KEPT)
    assert summary(made)["polygons"]["across_zones"] == 3
    assert polygons.is_valid.all()
    # Merged ones lie in one zone, and their outlines have no seam where the meridian runs.
    assert polygons.geometry.union_all().area == pytest.approx(polygons.area.sum(), rel=1e-9)


def test_large_patches_stay_parts_that_touch(maps, tmp_path):
    made = mosaic([maps], tmp_path / "mosaic", max_vertices=60).folder
    one, other = read(made, "20S"), read(made, "21S").to_crs(32720)
    shared = set(one["patch_id"]) & set(other["patch_id"])
    assert len(shared) == 1
    (number,) = shared
    parts = [frame[frame["patch_id"] == number] for frame in (one, other)]
    left, right = (part.geometry.union_all() for part in parts)
    assert shapely.distance(left, right) < 1e-3
    assert shapely.intersection(left, right).area < 0.1
    # They touch along all of the meridian that has forest on both sides.
    strip = shapely.intersection(left.buffer(1e-3), right.buffer(1e-3))
    assert strip.bounds[3] - strip.bounds[1] == pytest.approx(240 * SIZE_M, abs=4 * SIZE_M)
    areas = pd.concat([part[["area_ha", "patch_area_ha"]] for part in parts])
    assert areas["area_ha"].sum() == pytest.approx(areas["patch_area_ha"].iloc[0], rel=1e-9)
    assert areas["patch_area_ha"].nunique() == 1
    assert areas["patch_area_ha"].iloc[0] == pytest.approx(hectares(FOREST[0]), rel=0.01)


def test_pieces_of_tiles_add_up_to_patches(made):
    table = pd.read_parquet(made / "pieces.parquet")
    pieces = [
        geopandas.read_parquet(path).assign(tile=path.stem)
        for path in sorted((made / "pieces").glob("*.parquet"))
    ]
    assert {piece["tile"].iloc[0]: len(piece) for piece in pieces if len(piece)} == (
        table["tile"].value_counts().to_dict()
    )
    every_piece = pd.concat([piece.drop(columns="geometry") for piece in pieces])
    joined = table.merge(every_piece, on=["piece_id", "tile"], validate="one_to_one")
    assert len(joined) == len(table)
    by_patch = joined.groupby("patch_id")
    assert np.allclose(by_patch["area_ha"].sum(), by_patch["patch_area_ha"].first(), rtol=1e-9)
    assert set(table["patch_id"]) == set(every(made)["patch_id"])
    # The patch on the corner of four tiles has a piece in each.
    assert by_patch.size().max() == 4


def test_rasters(made):
    for zone in ("20S", "21S"):
        with rasterio.open(made / f"forest_mask_{zone}.vrt") as source:
            mask = source.read(1)
            assert source.colormap(1)[1] == (27, 120, 55, 255)
        with rasterio.open(made / f"observations_{zone}.vrt") as source:
            count = source.read(1)
            assert source.nodata == 0
        with rasterio.open(made / f"forest_probability_{zone}.vrt") as source:
            stored = source.read(1)
            assert source.scales == (0.004,)
        assert np.array_equal(mask == 255, count == 0)
        assert np.array_equal(mask == 255, stored == 255)
        assert np.array_equal(mask == 1, (stored >= 125) & (stored <= 250))
        assert set(np.unique(count).tolist()) == {0, 1, 2}
    for path in (made / "tiles").glob("*/*.tif"):
        if path.name != "cells.tif":
            assert cog_validate(path)[0], path
    assert cog_validate(made / "forest_fraction.tif")[0]


def test_the_fraction(made):
    with rasterio.open(made / "forest_fraction.tif") as source:
        percent = source.read(1)
        assert source.crs.to_epsg() == 6933
        assert source.res == (400, 400)
        places = [
            FOREST[0].representative_point(),
            FOREST[2].centroid,
            shapely.Point(-60.07, LATITUDE),
        ]
        move = pyproj.Transformer.from_crs(4326, 6933, always_xy=True)
        at = [source.index(*move.transform(place.x, place.y)) for place in places]
    assert [int(percent[place]) for place in at] == [100, 100, 0]
    seen = percent != 255
    cell_ha = 400 * 400 / 1e4
    # A cell at the edge of what was seen counts wholly here.
    forest = percent[seen].sum() / 100 * cell_ha
    assert forest == pytest.approx(sum(map(hectares, FOREST)), rel=0.01)


def test_the_overview(made):
    frame = geopandas.read_file(made / "overview.gpkg", layer="forest_overview")
    assert frame.crs.to_epsg() == 4326
    large = sorted(map(hectares, FOREST))[-3:]
    assert np.allclose(sorted(frame["area_ha"]), large, rtol=0.1)


def test_the_catalogue_is_valid(made):
    collection = pystac.Collection.from_file(str(made / "collection.json"))
    collection.validate()
    items = list(collection.get_items())
    assert sorted(item.id for item in items) == sorted(
        path.name for path in (made / "tiles").iterdir()
    )
    for item in items:
        properties = item.properties
        assert properties["proj:code"] == f"EPSG:327{item.id[:2]}"
        assert properties["proj:shape"] == [2500, 2500]
        assert properties["proj:transform"][0] == SIZE_M
        # The schema of the extension cannot be had without a network; STAC's own is in pystac.
        item.stac_extensions = []
        item.validate()
        assert item.get_root().id == collection.id
        for asset in item.assets.values():
            assert Path(asset.get_absolute_href()).is_file()
        assert str(made) not in json.dumps(item.to_dict(transform_hrefs=False)["assets"])


def test_the_report_stands_alone(made):
    page = (made / "report.html").read_text()
    found = summary(made)
    assert f"{found['hectares']['forest']:,.0f} ha" in page
    assert "<td>20S</td>" in page
    assert "data:image/png;base64," in page
    assert "http://" not in page


def test_pictures_of_the_report_are_of_one_place_and_true_to_it(made):
    """Areas are those of the rasters, and a disc is round, on cells that are none such squares."""
    page = (made / "report.html").read_text()
    images = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
        for data in re.findall('src="data:image/png;base64,([^"]+)"', page)
    ]
    probability, forest, count = images
    assert probability.shape == forest.shape == count.shape
    unseen = (probability == 0x9A).all(axis=-1)
    assert np.array_equal(unseen, (count == 0x9A).all(axis=-1))
    sure = probability[..., 0] > 100  # yellow
    told = summary(made)["hectares"]
    found = (sure & ~unseen).sum() / (~unseen).sum()
    assert found == pytest.approx(told["forest"] / told["observed"], rel=0.01)
    labels, _ = ndimage.label(sure & ~unseen)
    heights, widths = np.transpose(
        [[part.stop - part.start for part in parts] for parts in ndimage.find_objects(labels)]
    )
    large = widths > 40
    assert large.sum() == 3
    assert np.allclose(heights[large] / widths[large], 1, atol=0.05)
    # Maps overlap in strips, of two maps each, and at the border of zones not at all.
    twice = (count == (0x6B, 0xAE, 0xD6)).all(axis=-1)
    with rasterio.open(made / "observations_20S.vrt") as source:
        counts = source.read(1)
    assert twice.sum() / (~unseen).sum() == pytest.approx(
        (counts == 2).sum() / (counts > 0).sum(), rel=0.03
    )


@pytest.mark.slow
def test_failed_checks_of_maps_are_told(maps, tmp_path):
    copy = Path(shutil.copytree(maps, tmp_path / "maps"))
    path = sorted(copy.iterdir())[0] / "summary.json"
    told = json.loads(path.read_text())
    told["quality"]["verdicts"] = [{"check": "seams", "passed": False, "sentence": "squares"}]
    path.write_text(json.dumps(told))
    made = mosaic([copy], tmp_path / "mosaic")
    assert f"{told['scene_id']}: squares" in made.summary["warnings"]
    assert "squares" in (made.folder / "report.html").read_text()


@pytest.mark.slow
def test_order_of_maps_does_not_matter(maps, made, tmp_path):
    folders = sorted(maps.iterdir(), reverse=True)
    other = mosaic(folders, tmp_path / "mosaic").folder
    assert files(other) == files(made)


def test_the_same_again_does_nothing(maps, made):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*.tif")}
    result = mosaic([maps], made)
    assert result.summary["rewritten"] == {
        "tiles": [], "removed_tiles": [], "pieces": [], "zones": [], "table": False,
    }  # fmt: skip
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*.tif")} == before
    assert result.summary["hectares"] == summary(made)["hectares"]


@pytest.mark.slow
def test_a_seventh_scene_touches_its_own_tile_alone(maps, made, tiny_bundle, tmp_path):
    folder = Path(shutil.copytree(made, tmp_path / "mosaic"))
    seventh = write_map(
        tmp_path / "maps", "W7", tiny_bundle.path, [*FOREST, disc(-300, 200, 10)],
        epsg=32720, left=819_000, top=9_709_600, shape=(200, 120), size=SIZE_M,
        acquired=datetime(2024, 8, 1, tzinfo=UTC),
    )  # fmt: skip
    before = files(folder)
    result = mosaic([maps, seventh], folder)
    assert result.summary["rewritten"] == {
        "tiles": ["20S_E08_N97"],
        "removed_tiles": [],
        "pieces": ["20S_E08_N97"],
        "zones": ["20S"],
        "table": True,
    }
    changed = {name for name, data in files(folder).items() if before.get(name) != data}
    assert not [name for name in changed if "21S" in name or "N96" in name]
    # And without it everything is as it was.
    mosaic([maps], folder)
    assert files(folder) == before


def test_a_verdict_that_changes_rewrites_the_piece_and_not_its_tile(tiny_bundle, tmp_path):
    """A patch on the line between two tiles, of which one alone is too small."""
    patch = disc(-200, 0, 5)
    ground = {"epsg": 32720, "left": 819_000, "shape": (100, 280), "size": SIZE_M}
    south = write_map(tmp_path / "maps", "S", tiny_bundle.path, [patch], top=9_700_000, **ground)
    alone = mosaic([south], tmp_path / "mosaic")
    assert alone.summary["polygons"]["pieces"] == 0
    north = write_map(tmp_path / "maps", "N", tiny_bundle.path, [patch], top=9_704_000, **ground)
    both = mosaic([south, north], tmp_path / "mosaic")
    assert both.summary["rewritten"]["tiles"] == ["20S_E08_N97"]
    assert both.summary["rewritten"]["pieces"] == ["20S_E08_N96", "20S_E08_N97"]
    assert both.summary["polygons"]["pieces"] == 2


def test_what_was_left_half_made_is_made_again(maps, made, tmp_path):
    folder = Path(shutil.copytree(made, tmp_path / "mosaic"))
    lost = folder / "tiles" / "21S_E01_N96"
    lost.rename(lost.with_name(".21S_E01_N96.partial"))
    (folder / "mosaic.json").unlink()
    result = mosaic([maps], folder)
    assert result.summary["rewritten"]["tiles"] == ["21S_E01_N96"]
    assert files(folder) == files(made)


@pytest.mark.parametrize(
    ("rule", "expected"), [("mean", [90, 20]), ("latest", [160, 20]), ("clearest", [20, 20])]
)
def test_rules(tiny_bundle, tmp_path, rule, expected):
    """Two dates of one place; the later one has a hole, which the earlier one fills."""
    box = shapely.box(-64, -3, -62, -2)
    hole = shapely.box(-62.995, -2.722, -62.985, -2.714)
    maps = [
        write_map(tmp_path / "maps", "early", tiny_bundle.path, [], levels=(20, 20), **ALONE),
        write_map(
            tmp_path / "maps", "late", tiny_bundle.path, [box], levels=(20, 160), unseen=[hole],
            acquired=datetime(2024, 9, 1, tzinfo=UTC), **ALONE,
        ),
    ]  # fmt: skip
    made = mosaic(maps, tmp_path / "mosaic", rule=rule).folder
    with rasterio.open(made / "forest_probability_20S.vrt") as source:
        seen = source.read(1, window=source.window(500_000, 9_697_440, 502_560, 9_700_000))
    assert np.unique(seen).tolist() == sorted(set(expected))
    with rasterio.open(maps[1] / "forest_probability.tif") as source:
        unseen = source.read(1) == 255
    assert unseen.any()
    assert (seen[unseen] == expected[1]).all()
    assert (seen[~unseen] == expected[0]).all()


def test_across_the_equator(tiny_bundle, tmp_path):
    patch = shapely.Point(-63, 0).buffer(0.012)
    south = write_map(
        tmp_path / "maps", "S", tiny_bundle.path, [patch],
        epsg=32720, left=496_000, top=10_004_000, shape=(200, 200), size=SIZE_M,
    )  # fmt: skip
    north = write_map(
        tmp_path / "maps", "N", tiny_bundle.path, [patch],
        epsg=32620, left=496_000, top=4_000, shape=(200, 200), size=SIZE_M,
    )  # fmt: skip
    result = mosaic([south, north], tmp_path / "mosaic")
    assert result.summary["zones"] == ["20N", "20S"]
    assert result.summary["polygons"]["across_zones"] == 1
    frame = geopandas.read_file(result.folder / "forest_20N.gpkg", layer="forest_cover")
    assert len(frame) == result.summary["polygons"]["polygons"] == 1
    assert frame["area_ha"].iloc[0] == pytest.approx(hectares(patch), rel=0.01)
    # Both maps saw the ground on both sides; each counts on its own.
    observed = 200 * 200 * SIZE_M**2 / 1e4
    assert result.summary["hectares"]["observed"] == pytest.approx(observed, rel=2e-3)


@pytest.mark.slow
def test_across_the_antimeridian(tiny_bundle, tmp_path):
    y = 8_100_000
    move = pyproj.Transformer.from_crs(32760, 4326, always_xy=True)
    line = pyproj.Transformer.from_crs(4326, 32760, always_xy=True)
    latitude = move.transform(800_000, y)[1]
    x = round(line.transform(180.0, latitude)[0] / SIZE_M) * SIZE_M
    parts = [
        shapely.box(179.98, latitude - 0.012, 180.2, latitude + 0.012),
        shapely.box(-180.2, latitude - 0.012, -179.988, latitude + 0.012),
    ]
    maps = [
        write_map(tmp_path / "maps", "W", tiny_bundle.path, parts[:1], epsg=32760,
                  left=x - 4_800, top=y + 4_000, shape=(200, 150), size=SIZE_M),
        write_map(tmp_path / "maps", "E", tiny_bundle.path, parts[1:], epsg=32701,
                  left=1_000_000 - x - 1_200, top=y + 4_000, shape=(200, 150), size=SIZE_M),
    ]  # fmt: skip
    result = mosaic(maps, tmp_path / "mosaic")
    assert result.summary["zones"] == ["01S", "60S"]
    assert result.summary["polygons"]["across_zones"] == 1
    expected = hectares(shapely.box(179.98, latitude - 0.012, 180.012, latitude + 0.012))
    areas = [
        geopandas.read_file(result.folder / f"forest_{zone}.gpkg", layer="forest_cover")
        for zone in result.summary["zones"]
    ]
    assert sum(frame["area_ha"].sum() for frame in areas) == pytest.approx(expected, rel=0.02)


def test_grids_that_are_off_by_part_of_a_pixel(tiny_bundle, tmp_path):
    forest = [shapely.box(-63.0, -3, -62, -2)]
    ground = {**ALONE, "top": 9_700_020, "left": 500_002}
    one = write_map(tmp_path / "maps", "a", tiny_bundle.path, forest, **ground)
    result = mosaic([one], tmp_path / "mosaic")
    assert result.summary["notes"] == [
        (
            "a_MSIL2A_20240701T140000: its grid was moved by -2.0 m to the right and -20.0 m down, "
            "to the common one of 40 m"
        )
    ]


def test_area_of_interest(maps, made, tmp_path):
    aoi = tmp_path / "aoi.gpkg"
    box = shapely.box(-60.08, -2.71, -59.996, -2.67)
    geopandas.GeoSeries([box], crs=4326).to_file(aoi)
    result = mosaic([maps], tmp_path / "mosaic", aoi=aoi)
    assert {tile[:3] for tile in result.summary["rewritten"]["tiles"]} == {"20S", "21S"}
    observed = result.summary["hectares"]["observed"]
    assert observed == pytest.approx(hectares(box), rel=0.02)
    assert observed < summary(made)["hectares"]["observed"] / 3


class TestMistakes:
    @pytest.fixture
    def one(self, tiny_bundle, tmp_path) -> Path:
        return self.write(tmp_path, tiny_bundle, "one")

    def write(self, folder, bundle, name, **changes):
        ground = {**ALONE, **changes}
        return write_map(folder / "maps", name, bundle.path, [], **ground)

    def refused(self, tmp_path, maps, sentence, **options):
        with pytest.raises(InputError, match=sentence):
            mosaic(maps, tmp_path / "mosaic", **options)
        assert not (tmp_path / "mosaic").exists()

    def test_no_map(self, tmp_path):
        self.refused(tmp_path, [tmp_path / "none"], "none: no finished map")
        self.refused(tmp_path, [], "no maps")
        self.refused(tmp_path, [], "--min-area-ha -1: 0 or more was wanted", min_area_ha=-1)
        self.refused(tmp_path, [], "--max-vertices -1: 0 or more was wanted", max_vertices=-1)

    def test_a_map_without_probability(self, tiny_bundle, tmp_path):
        bare = self.write(tmp_path, tiny_bundle, "bare", products="mask")
        self.refused(tmp_path, [bare], "bare.*: no finished map with forest_probability.tif")

    def test_a_map_that_is_not_what_it_was(self, one, tmp_path):
        with (one / "forest_probability.tif").open("ab") as handle:
            handle.write(b"more")
        self.refused(tmp_path, [one], "is not the file that job.json names")

    def test_twice(self, one, tmp_path):
        other = Path(shutil.copytree(one, tmp_path / "copy"))
        self.refused(tmp_path, [one, other], "scene 'one.*' is there twice")

    def test_other_sizes_of_pixels(self, one, tiny_bundle, tmp_path):
        other = self.write(tmp_path, tiny_bundle, "other", size=20.0)
        self.refused(tmp_path, [one, other], "pixels of 20.0 m")

    def test_sizes_that_differ_by_rounding_are_one(self, one, tiny_bundle, tmp_path):
        right = ALONE["left"] + SIZE_M * ALONE["shape"][1]
        other = self.write(tmp_path, tiny_bundle, "other", size=SIZE_M - 2e-10, left=right)
        made = mosaic([one, other], tmp_path / "mosaic")
        assert not any("moved" in note for note in made.summary["notes"])
        single = mosaic([one], tmp_path / "single")
        seen = [run.summary["hectares"]["observed"] for run in (made, single)]
        assert seen[0] == pytest.approx(2 * seen[1], rel=1e-3)

    def test_degrees(self, tiny_bundle, tmp_path):
        other = self.write(tmp_path, tiny_bundle, "d", epsg=4326, left=-60, top=-3, size=0.0001)
        self.refused(tmp_path, [other], "lies in EPSG:4326; a UTM zone of WGS 84 was wanted")

    def test_other_models(self, one, tiny_bundle, tmp_path):
        from geoforest.models.bundle import save_bundle
        from tests.helpers import synthetic

        state = {name: value * 1.01 for name, value in tiny_bundle.state_dict().items()}
        bundle = save_bundle(tmp_path / "other", state, synthetic.card(name="other"))
        other = self.write(tmp_path, bundle, "two")
        self.refused(tmp_path, [one, other], "made by model other.*--mixed-models")
        assert mosaic([one, other], tmp_path / "mosaic", mixed_models=True).folder.is_dir()

    def test_other_thresholds(self, one, tiny_bundle, tmp_path):
        other = self.write(tmp_path, tiny_bundle, "two", threshold=0.6)
        self.refused(tmp_path, [one, other], "threshold 0.6, that of .* is 0.5")
        mosaic([one, other], tmp_path / "mosaic", threshold=0.55)

    def test_a_folder_of_something_else(self, one, tmp_path):
        (tmp_path / "mosaic").mkdir()
        (tmp_path / "mosaic" / "thesis.txt").write_text("mine")
        with pytest.raises(OutputError, match="holds something else than a mosaic"):
            mosaic([one], tmp_path / "mosaic")

    def test_an_area_beside_the_maps(self, one, tmp_path):
        aoi = tmp_path / "aoi.gpkg"
        geopandas.GeoSeries([shapely.box(10, 50, 11, 51)], crs=4326).to_file(aoi)
        self.refused(tmp_path, [one], "no tile of any zone is touched", aoi=aoi)


def test_a_mosaic_that_stops_among_its_tiles_is_none_until_it_is_finished(tiny_bundle, tmp_path):
    forest = [shapely.box(-63.0, -3, -62, -2)]
    one, two = (
        write_map(tmp_path / "maps", name, tiny_bundle.path, forest, **ALONE) for name in "ab"
    )
    folder = mosaic([one], tmp_path / "mosaic").folder
    torn = two / "forest_probability.tif"
    whole = torn.read_bytes()
    with rasterio.open(torn) as source:
        block = int(source.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
    torn.write_bytes(whole[:block] + bytes(9) + whole[block + 9 :])
    with pytest.raises(ReadError, match=r"forest_probability\.tif: cannot be read"):
        mosaic([one, two], folder)
    assert not (folder / "mosaic.json").exists()
    (problem,) = verify(folder)
    assert "unfinished" in str(problem)
    torn.write_bytes(whole)
    mosaic([one, two], folder)
    assert verify(folder) == []
