"""Samples of maps: fair, without repetition, reproducible, whatever the strips."""

from __future__ import annotations

import errno
import json
import re
import shutil
import zipfile
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pyproj
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geoforest import draw_sample, map_change
from geoforest.arrays.area import PixelTable
from geoforest.arrays.georef import GeoRef
from geoforest.arrays.grid import Window
from geoforest.errors import InputError, OutputError, WriteError
from geoforest.io.storage import file_sha256
from geoforest.maps.sample.draw import allocate, choose_pixels
from geoforest.maps.sample.file import read_sample
from geoforest.maps.sample.strata import read_stratified
from tests.helpers.maps import write_map
from tests.helpers.samples import CLEARED, CLOUD, FOREST, GROUND, LATER


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_bundle) -> Path:
    out = tmp_path_factory.mktemp("sampling") / "maps"
    return write_map(out, "early", tiny_bundle.path, [FOREST], unseen=[CLOUD], **GROUND)


@pytest.fixture(scope="module")
def change(folder, tiny_bundle) -> Path:
    later = write_map(
        folder.parent, "late", tiny_bundle.path, [FOREST - CLEARED],
        acquired=LATER, **GROUND,
    )  # fmt: skip
    return map_change(folder, later, folder.parents[1] / "change").folder


@pytest.fixture(scope="module")
def mask(folder) -> np.ndarray:
    with rasterio.open(folder / "forest_mask.tif") as source:
        return source.read(1)


def places(points: geopandas.GeoDataFrame) -> list[tuple[float, float]]:
    return list(zip(points.geometry.x, points.geometry.y, strict=True))


class TestAllocation:
    @given(st.lists(st.integers(2, 10**8), min_size=1, max_size=6), st.data())
    def test_it_adds_up(self, pixels, data):
        n = data.draw(st.integers(2 * len(pixels), min(sum(pixels), 10**6)))
        least = data.draw(st.integers(2, 200))
        points = allocate(pixels, n, least)
        assert sum(points) == n
        floor = min(least, n // len(pixels))
        for got, size in zip(points, pixels, strict=True):
            assert min(floor, size) <= got <= size

    def test_rare_classes_get_fifty_and_the_rest_their_share(self):
        assert allocate([1000, 2000, 300_000, 700_000], 1000) == [50, 50, 270, 630]
        assert allocate([300_000, 700_000], 1000) == [300, 700]

    def test_too_few_for_fifty_each_are_spread_evenly(self):
        assert allocate([10, 10_000, 1_000_000], 30) == [10, 10, 10]

    def test_all_pixels_of_a_tiny_stratum(self):
        assert allocate([7, 1_000_000], 500) == [7, 493]
        assert allocate([7, 20], 27) == [7, 20]


CODES = np.random.default_rng(1).choice([0, 1, 255], (37, 41), p=[0.6, 0.3, 0.1])
TOTALS = {code: (int((code == CODES).sum()), n) for code, n in ((0, 60), (1, 200))}


class TestChoice:
    def drawn(self, height: int, seed: int = 3) -> list[tuple[int, int, int]]:
        strips = (
            (Window(row, 0, min(height, 37 - row), 41), CODES[row : row + height])
            for row in range(0, 37, height)
        )
        return list(
            zip(*(each.tolist() for each in choose_pixels(strips, TOTALS, seed)), strict=True)
        )

    def test_of_the_right_codes_and_each_once(self):
        found = self.drawn(8)
        assert len(set(found)) == 260
        assert all(CODES[row, col] == code for row, col, code in found)
        assert sum(code for *_, code in found) == 200

    def test_strips_of_any_height_give_the_same(self):
        assert self.drawn(1) == self.drawn(8) == self.drawn(37)

    def test_the_seed_decides(self):
        assert self.drawn(8) != self.drawn(8, seed=4)

    def test_the_order_is_random(self):
        """A first part has about the mix of the whole, and is from everywhere."""
        first = self.drawn(8)[:130]
        assert 85 < sum(code for *_, code in first) < 115
        assert min(row for row, *_ in first) < 3 < 33 < max(row for row, *_ in first)

    def test_each_pixel_is_as_likely(self):
        """Chi-square of 3000 draws of 5 out of 60 pixels; its mean 59, standard deviation 11."""
        codes = np.zeros((6, 10), np.uint8)
        hits = np.zeros((6, 10))
        for seed in range(3000):
            rows, cols, _ = choose_pixels([(Window(0, 0, 6, 10), codes)], {0: (60, 5)}, seed)
            hits[rows, cols] += 1
        expected = 3000 * 5 / 60
        # Drawn without replacement, counts vary a little less than a multinomial's.
        assert 25 < ((hits - expected) ** 2 / expected).sum() < 95


class TestFile:
    def test_points_are_pixels_of_their_stratum(self, folder, mask, tmp_path):
        made = draw_sample(folder, 160, tmp_path / "s.gpkg", seed=5)
        points = geopandas.read_file(made.path, layer="sample")
        with rasterio.open(folder / "forest_mask.tif") as source:
            assert points.crs == source.crs
            values = [each[0] for each in source.sample(places(points))]
            pixels = zip(points["row"], points["col"], strict=True)
            assert places(points) == [source.xy(row, col) for row, col in pixels]
        assert points["stratum"].tolist() == values
        assert points["sample_id"].tolist() == list(range(1, 161))
        assert points[["reference", "confidence", "note"]].isna().all(axis=None)
        names = points.groupby("stratum_name")["stratum"].unique()
        assert {name: codes.tolist() for name, codes in names.items()} == {
            "other": [0], "forest": [1],
        }  # fmt: skip
        assert {each.name: each.points for each in made.strata} == (
            points["stratum_name"].value_counts().to_dict()
        )

    def test_strata_have_true_hectares(self, folder, mask, tmp_path):
        made = draw_sample(folder, 120, tmp_path / "s.gpkg")
        with rasterio.open(folder / "forest_mask.tif") as source:
            table = PixelTable.build(GeoRef.of(source, source.name))
        area = table.area_m2(slice(0, 120), slice(0, 150)) / 1e4
        strata = pyogrio.read_dataframe(made.path, layer="strata").set_index("code")
        for code in (0, 1):
            assert strata.loc[code, "pixels"] == (mask == code).sum()
            assert strata.loc[code, "hectares"] == pytest.approx(area[mask == code].sum())
        assert (mask == 255).any()
        assert strata["hectares"].sum() != pytest.approx((mask != 255).sum() / 100, rel=1e-4)

    def test_the_map_is_known_by_its_checksum(self, folder, tmp_path):
        draw_sample(folder, 120, tmp_path / "s.gpkg", seed=9)
        origin = read_sample(tmp_path / "s.gpkg").origin
        outputs = json.loads((folder / "job.json").read_text())["outputs"]
        assert origin.sha256 == outputs["forest_probability.tif"]["sha256"]
        assert (origin.threshold, origin.seed, origin.change) == (0.5, 9, False)
        assert origin.scene_id == folder.name

    def test_identical_bytes(self, folder, tmp_path):
        for name in ("a", "b"):
            draw_sample(folder, 120, tmp_path / f"{name}.gpkg", seed=2)
        assert file_sha256(tmp_path / "a.gpkg") == file_sha256(tmp_path / "b.gpkg")
        draw_sample(folder, 120, tmp_path / "c.gpkg", seed=3)
        assert file_sha256(tmp_path / "c.gpkg") != file_sha256(tmp_path / "a.gpkg")

    def test_the_mask_is_not_needed(self, folder, tmp_path):
        copy = Path(shutil.copytree(folder, tmp_path / "copy"))
        (copy / "forest_mask.tif").unlink()
        draw_sample(copy, 120, tmp_path / "a.gpkg")
        draw_sample(folder, 120, tmp_path / "b.gpkg")
        assert file_sha256(tmp_path / "a.gpkg") == file_sha256(tmp_path / "b.gpkg")

    def test_of_a_comparison(self, change, tmp_path):
        made = draw_sample(change, 200, tmp_path / "s.gpkg")
        assert [each.name for each in made.strata] == ["stable other", "stable forest", "loss"]
        points = geopandas.read_file(made.path, layer="sample")
        with rasterio.open(change / "forest_change.tif") as source:
            values = [each[0] for each in source.sample(places(points))]
        assert points["stratum"].tolist() == values
        assert made.strata[2].points == 50
        origin = read_sample(made.path).origin
        assert origin.change
        assert origin.threshold is None

    def test_a_name_that_is_odd(self, folder, tmp_path):
        path = tmp_path / "new" / "wow! [a]%20.gpkg"
        draw_sample(folder, 120, path)
        assert {each.name for each in path.parent.iterdir()} == {
            path.name, "wow! [a]%20.qgz", "wow! [a]%20_scene.tif",
        }  # fmt: skip
        assert read_sample(path).strata == draw_sample(folder, 120, tmp_path / "a.gpkg").strata
        assert file_sha256(path) == file_sha256(draw_sample(folder, 120, tmp_path / "b.gpkg").path)

    def test_both_dates_of_a_comparison_are_there_to_look_at(self, folder, change, tmp_path):
        (late,) = folder.parent.glob("late*")
        pictures = [folder / "quicklook.tif", late / "quicklook.tif"]
        for picture in pictures:
            picture.touch()
        try:
            drawn = draw_sample(change, 200, tmp_path / "s.gpkg")
        finally:
            for picture in pictures:
                picture.unlink()
        with zipfile.ZipFile(drawn.project) as archive:
            text = archive.read("s.qgs").decode()
        sources = re.findall("<datasource>(.*)</datasource>", text)
        assert sources[0] == "./s.gpkg|layername=sample"
        assert [(tmp_path / source).resolve() for source in sources[1:]] == [
            tmp_path / "s_later.tif", pictures[1], tmp_path / "s_earlier.tif", pictures[0],
        ]  # fmt: skip
        assert str(tmp_path) not in text
        assert "forest_change" not in text

    def test_without_its_project_there_is_no_sample(self, folder, tmp_path, monkeypatch):
        def full(*arguments):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("geoforest.maps.sample.draw._qgis_project", full)
        with pytest.raises(WriteError, match="No space left"):
            draw_sample(folder, 120, tmp_path / "s.gpkg")
        assert not list(tmp_path.iterdir())


class TestMistakes:
    def refused(self, tmp_path, folder, sentence, *, n=120, **options):
        with pytest.raises(InputError, match=sentence):
            draw_sample(folder, n, tmp_path / "s.gpkg", **options)
        assert not (tmp_path / "s.gpkg").exists()

    def test_sizes(self, folder, tmp_path):
        self.refused(tmp_path, folder, "--sample 3: at least 4 was wanted", n=3)
        self.refused(tmp_path, folder, "--sample 18001: .* has 17,8.. observed pixels", n=18_001)
        self.refused(tmp_path, folder, "--seed -1: 0 or more", seed=-1)
        self.refused(tmp_path, folder, "--min-per-stratum 1: 2 or more", min_per_stratum=1)

    def test_no_map(self, folder, tmp_path):
        self.refused(tmp_path, tmp_path / "none", "none: no finished map")
        bare = Path(shutil.copytree(folder, tmp_path / "bare"))
        (bare / "job.json").unlink()
        self.refused(tmp_path, bare, "bare: no finished map")

    def test_a_comparison_without_its_raster(self, change, tmp_path):
        bare = Path(shutil.copytree(change, tmp_path / "bare"))
        (bare / "forest_change.tif").unlink()
        self.refused(tmp_path, bare, "no finished comparison")
        (bare / "change.json").write_text("{}")
        self.refused(tmp_path, bare, "no finished comparison")

    def test_nothing_seen(self, tiny_bundle, tmp_path):
        everywhere = shapely.box(-63.1, -2.8, -62.9, -2.6)
        blind = write_map(tmp_path / "m", "x", tiny_bundle.path, [], unseen=[everywhere], **GROUND)
        self.refused(tmp_path, blind, "no pixel of it was observed")

    def test_a_stratum_of_one_pixel(self, tiny_bundle, tmp_path):
        move = pyproj.Transformer.from_crs(32720, 4326, always_xy=True)
        pixel = shapely.box(500_403, 9_699_703, 500_407, 9_699_707)
        spot = shapely.transform(pixel, lambda xy: np.column_stack(move.transform(*xy.T)))
        one = write_map(tmp_path / "m", "x", tiny_bundle.path, [spot], **GROUND)
        self.refused(tmp_path, one, "one pixel is forest; a stratum of at least 2")

    def test_where_nothing_can_be_written(self, folder, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(WriteError, match=r"file/s.gpkg: cannot be written"):
            draw_sample(folder, 120, tmp_path / "file" / "s.gpkg")
        assert [each.name for each in tmp_path.iterdir()] == ["file"]

    def test_labels_are_never_written_over(self, folder, tmp_path):
        draw_sample(folder, 120, tmp_path / "s.gpkg")
        before = file_sha256(tmp_path / "s.gpkg")
        with pytest.raises(OutputError, match="exists, and may hold labels"):
            draw_sample(folder, 120, tmp_path / "s.gpkg", seed=1)
        assert file_sha256(tmp_path / "s.gpkg") == before
        (tmp_path / "other.qgz").touch()
        with pytest.raises(OutputError, match=r"other.qgz: exists, and is another project"):
            draw_sample(folder, 120, tmp_path / "other.gpkg")
        assert not (tmp_path / "other.gpkg").exists()
        with pytest.raises(OutputError, match=r"ends in .gpkg"):
            draw_sample(folder, 120, tmp_path / "s.shp")


def test_two_dates_of_one_scene_id_are_both_looked_at(tmp_path, tiny_bundle):
    early = write_map(tmp_path / "2020", "one", tiny_bundle.path, [FOREST], **GROUND)
    late = write_map(
        tmp_path / "2024", "one", tiny_bundle.path, [FOREST - CLEARED],
        acquired=LATER, **GROUND,
    )  # fmt: skip
    same = late.with_name(early.name)
    late.rename(same)
    for name in ("job.json", "summary.json"):
        path = same / name
        path.write_text(path.read_text().replace(late.name, early.name))
    source = read_stratified(map_change(early, same, tmp_path / "change").folder)
    assert list(source.maps) == [f"{early.name} (earlier)", f"{early.name} (later)"]
    assert [folder.resolve() for folder in source.maps.values()] == [early, same]
