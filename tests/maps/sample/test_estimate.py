"""From labels to hectares: as by hand, and refused where the labels are not sound."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio
import shapely

from geoforest import draw_sample, estimate_area, map_change
from geoforest.arrays.grid import Window
from geoforest.errors import InputError, OutputError
from geoforest.io.storage import file_sha256
from geoforest.maps.sample.draw import choose_pixels
from geoforest.maps.sample.error_matrix import estimates
from tests.helpers.databases import edit_into_log
from tests.helpers.maps import write_map
from tests.helpers.samples import CLEARED, CLOUD, FOREST, GROUND, LATER, label, sql

# What the map takes for other.
MISSED = shapely.box(-62.9955, -2.7220, -62.9945, -2.7125)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_bundle) -> Path:
    out = tmp_path_factory.mktemp("estimate") / "maps"
    return write_map(out, "early", tiny_bundle.path, [FOREST], unseen=[CLOUD], **GROUND)


@pytest.fixture(scope="module")
def truth(folder, tiny_bundle) -> np.ndarray:
    """Mask codes as they ought to be."""
    right = write_map(
        folder.parent, "right", tiny_bundle.path, [FOREST, MISSED], unseen=[CLOUD], **GROUND
    )
    with rasterio.open(right / "forest_mask.tif") as source:
        return source.read(1)


@pytest.fixture
def sample(folder, tmp_path) -> Path:
    return draw_sample(folder, 200, tmp_path / "s.gpkg", seed=1).path


class TestEstimate:
    def test_as_by_hand(self, folder, truth, sample):
        label(sample, truth)
        found = estimate_area(sample, folder)
        points = geopandas.read_file(sample, layer="sample")
        right = truth[points["row"], points["col"]]
        strata = pyogrio.read_dataframe(sample, layer="strata").set_index("code")
        area = {0: 0.0, 1: 0.0}
        variance = 0.0
        for code in (0, 1):
            forest = right[points["stratum"] == code] == 1
            size, n = strata.loc[code, "hectares"], len(forest)
            area[1] += size * forest.mean()
            area[0] += size * (1 - forest.mean())
            variance += size**2 * forest.mean() * (1 - forest.mean()) / (n - 1)
        for each in found.classes:
            assert each.hectares.value == pytest.approx(area[each.code])
            assert each.hectares.standard_error == pytest.approx(variance**0.5)
            assert each.mapped_hectares == pytest.approx(strata.loc[each.code, "hectares"])
        forest = found.classes[1]
        assert forest.users_accuracy.value == 1
        assert forest.producers_accuracy.value < 1
        (note,) = found.notes
        assert note.endswith("so it adds nothing to the intervals, which are too narrow")

    def test_it_is_not_biased_as_the_map_is(self, folder, truth):
        """The map lacks a fifth of the forest; the mean of many estimates lacks none."""
        with rasterio.open(folder / "forest_mask.tif") as source:
            mask = source.read(1)
        strips = [(Window(0, 0, *mask.shape), mask)]
        pixels = np.array([(mask == code).sum() for code in (0, 1)])
        drawn, forest, mapped = np.array([150, 50]), (truth == 1).sum(), (mask == 1).sum()
        values = []
        for seed in range(300):
            totals = dict(enumerate(zip(pixels.tolist(), drawn.tolist(), strict=True)))
            rows, cols, codes = choose_pixels(strips, totals, seed)
            counts = np.zeros((2, 2), np.int64)
            np.add.at(counts, (codes, truth[rows, cols]), 1)
            values.append(estimates(counts, pixels.astype(float), [0, 1]).area[1])
        error = np.std(values) / np.sqrt(len(values))
        assert np.mean(values) == pytest.approx(forest, abs=3 * error)
        assert mapped < forest - 10 * error

    @pytest.mark.parametrize(
        "words", [{0: "0", 1: "1"}, {0: " Other", 1: "FOREST "}, {0: "0.0", 1: "1.0"}]
    )
    def test_words_or_codes(self, folder, truth, sample, tmp_path, words):
        other = Path(shutil.copy(sample, tmp_path / "other.gpkg"))
        label(sample, truth)
        label(other, truth, words)
        assert estimate_area(other).to_dict() == estimate_area(sample).to_dict()

    def test_a_column_of_numbers(self, truth, sample, tmp_path):
        """As another program may have made of it."""
        label(sample, truth, {0: "0", 1: "1"})
        wanted = estimate_area(sample).to_dict()
        points = geopandas.read_file(sample, layer="sample")
        points["reference"] = points["reference"].astype(float)
        pyogrio.write_dataframe(points, sample, layer="sample")
        assert estimate_area(sample).to_dict() == wanted

    def test_perfect_labels_of_a_perfect_map(self, folder, sample):
        with rasterio.open(folder / "forest_mask.tif") as source:
            label(sample, source.read(1))
        found = estimate_area(sample)
        for each in found.classes:
            assert each.hectares.value == pytest.approx(each.mapped_hectares)
            assert each.hectares.standard_error == 0
        assert found.overall_accuracy.value == 1
        assert len(found.notes) == 2

    def test_what_cannot_be_told_is_left_out_and_counted(self, truth, sample):
        label(sample, truth)
        sql(sample, "UPDATE sample SET reference = 'Not interpretable' WHERE sample_id <= 20")
        found = estimate_area(sample)
        assert sum(found.not_interpretable) == 20
        assert sum(map(sum, found.counts)) == 180
        assert any("20 points could not be interpreted" in note for note in found.notes)

    def test_who_stops_early_has_a_sample_all_the_same(self, truth, sample):
        label(sample, truth)
        sql(sample, "UPDATE sample SET reference = NULL WHERE sample_id > 80")
        with pytest.raises(InputError, match=r"120 of 200 points .*the first is sample_id 81"):
            estimate_area(sample)
        found = estimate_area(sample, stopped_early=True)
        assert sum(map(sum, found.counts)) == 80
        assert sum(found.unlabelled) == 120
        assert any("stopped after 80 of 200" in note for note in found.notes)
        sql(sample, "UPDATE sample SET reference = '' WHERE sample_id = 7")
        with pytest.raises(InputError, match=r"sample_id 7.* lie before others"):
            estimate_area(sample, stopped_early=True)

    def test_of_a_comparison(self, folder, tiny_bundle, tmp_path):
        later = write_map(
            tmp_path / "m", "late", tiny_bundle.path, [FOREST - CLEARED], levels=(20, 200),
            acquired=LATER, **GROUND,
        )  # fmt: skip
        change = map_change(folder, later, tmp_path / "change", margin=0.45).folder
        path = draw_sample(change, 200, tmp_path / "s.gpkg").path
        with rasterio.open(change / "forest_change.tif") as source:
            codes = source.read(1)
        assert set(np.unique(codes)) == {0, 1, 4, 255}
        # What the comparison is uncertain of was lost.
        label(path, codes, {0: "stable other", 1: "stable forest", 4: "loss"})
        found = estimate_area(path, change)
        names = [each.name for each in found.classes]
        assert names == ["stable other", "stable forest", "loss", "gain"]
        loss, gain = found.classes[2:]
        assert loss.hectares.value == pytest.approx(found.strata[2].hectares)
        assert (loss.mapped_hectares, loss.users_accuracy) == (0, None)
        assert loss.producers_accuracy.value == 0
        assert gain.hectares.value == 0
        assert gain.producers_accuracy is None
        json.dumps(found.to_dict(), allow_nan=False)
        assert "an unknown share" in found.sentences()
        rows = list(csv.DictReader(io.StringIO(found.to_csv())))
        assert [row["name"] for row in rows] == [*names, "uncertain", "whole map"]


class TestResult:
    def test_json(self, folder, truth, sample):
        label(sample, truth)
        found = estimate_area(sample)
        read = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert read["map"]["scene_id"] == folder.name
        assert "10.1016/j.rse.2014.02.015" in read["method"]
        matrix = read["error_matrix"]
        assert matrix["rows"] == matrix["columns"] == ["other", "forest"]
        assert np.sum(matrix["counts"]) == 200
        assert np.sum(matrix["hectares"], axis=0).tolist() == pytest.approx(
            [each["hectares"]["value"] for each in read["classes"]]
        )
        assert np.sum(matrix["hectares"]) == pytest.approx(read["map"]["hectares"])
        assert [each["labelled"] for each in read["strata"]] == np.sum(matrix["counts"], 1).tolist()

    def test_csv(self, truth, sample, tmp_path):
        label(sample, truth)
        found = estimate_area(sample)
        found.write_csv(tmp_path / "area.csv")
        with (tmp_path / "area.csv").open(newline="") as handle:
            other, forest, whole = csv.DictReader(handle)
        assert (other["name"], forest["name"], whole["name"]) == ("other", "forest", "whole map")
        area = found.classes[1].hectares
        assert float(forest["area_ha"]) == pytest.approx(area.value, abs=1e-4)
        assert area.high == area.value + 1.96 * area.standard_error
        assert float(forest["area_ha_high"]) == pytest.approx(area.high, abs=1e-4)
        assert int(whole["labelled"]) == 200
        assert int(other["labelled_forest"]) == found.counts[0][1] > 0
        assert float(whole["overall_accuracy"]) == pytest.approx(
            found.overall_accuracy.value, rel=1e-5
        )
        assert whole["area_ha"] == forest["overall_accuracy"] == ""
        with pytest.raises(OutputError, match=r"area.csv/area.csv: cannot be written"):
            found.write_csv(tmp_path / "area.csv" / "area.csv")

    def test_the_sample_is_never_written_over(self, truth, sample):
        label(sample, truth)
        before = file_sha256(sample)
        with pytest.raises(OutputError, match=r"\.gpkg: a name that ends in \.csv was wanted"):
            estimate_area(sample).write_csv(sample)
        assert file_sha256(sample) == before

    def test_sentences(self, folder, truth, sample):
        label(sample, truth)
        found = estimate_area(sample)
        first, other, forest, overall, *notes = found.sentences().splitlines()
        assert first == f"From 200 labelled points on {folder.name}:"
        area = found.classes[1].hectares
        assert forest.startswith(
            f"forest: {area.value:,.0f} ha, 95 % interval {area.low:,.0f} to {area.high:,.0f} ha;"
        )
        assert "Of what is mapped as forest, 100 % (100 to 100 %) is forest; of all" in forest
        assert other.startswith("other: ")
        assert overall.startswith("Of its ground the map has ")
        assert len(notes) == len(found.notes)


def labels_into_log(path: Path, first: int, last: int) -> None:
    edit_into_log(
        path,
        "UPDATE sample SET reference = CASE stratum WHEN 1 THEN 'forest' ELSE 'other' END "
        f"WHERE sample_id BETWEEN {first} AND {last}",
    )


class TestLogs:
    """Labels that QGIS saved into the file beside the sample."""

    def test_labels_in_the_log_count(self, folder, sample, tmp_path):
        labels_into_log(sample, 1, 200)
        other = tmp_path / "bang!x" / "s.gpkg"
        other.parent.mkdir()
        for end in ("", "-wal"):
            shutil.copy(f"{sample}{end}", f"{other}{end}")
        for path in (sample, other):
            found = estimate_area(path, folder)
            assert sum(map(sum, found.counts)) == 200
            assert not any("WAL" in note for note in found.notes)
            assert sorted(one.name for one in path.parent.glob("s.gpkg*")) == [
                "s.gpkg", "s.gpkg-wal",
            ]  # fmt: skip

    def test_a_log_that_was_not_copied_is_missed(self, folder, sample):
        labels_into_log(sample, 1, 200)
        Path(f"{sample}-wal").unlink()
        with pytest.raises(
            InputError, match=r"200 of 200 points have no label .* s\.gpkg-wal is not"
        ):
            estimate_area(sample, folder)

    def test_half_of_the_labels_in_it(self, folder, sample):
        labels_into_log(sample, 1, 100)
        sql(sample, "UPDATE sample SET note = note")
        labels_into_log(sample, 101, 200)
        Path(f"{sample}-wal").unlink()
        with pytest.raises(InputError, match=r"100 of 200 points .* s\.gpkg-wal is not beside it"):
            estimate_area(sample, folder)
        found = estimate_area(sample, folder, stopped_early=True)
        assert any("s.gpkg-wal is not beside it" in note for note in found.notes)


class TestMistakes:
    def refused(self, path, sentence, **options):
        before = file_sha256(path)
        with pytest.raises(InputError, match=sentence):
            estimate_area(path, **options)
        assert file_sha256(path) == before
        assert not list(path.parent.glob("*.gpkg-*"))

    def test_labels(self, truth, sample):
        self.refused(sample, "200 of 200 points have no label")
        label(sample, truth)
        sql(sample, "UPDATE sample SET reference = 'wood' WHERE sample_id = 12")
        self.refused(
            sample, "sample_id 12 is labelled 'wood'; one of other, forest, not interpretable"
        )
        sql(sample, "UPDATE sample SET reference = '4' WHERE sample_id = 12")
        self.refused(sample, "sample_id 12 is labelled '4'")
        sql(sample, "UPDATE sample SET reference = '   ' WHERE sample_id = 12")
        self.refused(sample, "1 of 200 points have no label .*sample_id 12")

    def test_fewer_than_two_labels_in_a_stratum(self, truth, sample):
        label(sample, truth)
        ids = geopandas.read_file(sample, layer="sample").query("stratum == 1")["sample_id"]
        left_out = ",".join(map(str, ids[1:]))
        sql(
            sample,
            f"UPDATE sample SET reference = 'not interpretable' WHERE sample_id IN ({left_out})",
        )
        self.refused(sample, r"stratum forest has 1 label\(s\) of a class; at least 2 were wanted")

    @pytest.mark.parametrize(
        ("edit", "sentence"),
        [
            ("DELETE FROM sample WHERE sample_id = 3", "were drawn; label a point"),
            ("UPDATE sample SET sample_id = 4 WHERE sample_id = 3", "sample_id 4 is there twice"),
            ("UPDATE sample SET sample_id = NULL WHERE sample_id = 3", "a point has no sample_id"),
            ("UPDATE sample SET stratum = 7 WHERE sample_id = 3", "points of stratum"),
            ("UPDATE sample SET geom = NULL WHERE sample_id = 3", "one has no place"),
            ("UPDATE sample SET row = row + 1 WHERE sample_id = 3", "3 was moved by 1 pixels"),
            ("UPDATE strata SET hectares = -1", "table strata is not as geoforest wrote it"),
            ("UPDATE strata SET pixels = 'many'", "table strata is not as geoforest wrote it"),
            ("DELETE FROM strata", "table strata is not as geoforest wrote it"),
            ("DELETE FROM map", "table map is not as geoforest wrote it"),
            ("UPDATE map SET pixel_width = 0", "table map is not as geoforest wrote it"),
            ("DROP TABLE strata", "has no table strata"),
            ("ALTER TABLE sample DROP COLUMN reference", "has no column reference"),
        ],
    )
    def test_what_is_no_longer_the_sample(self, truth, sample, edit, sentence):
        label(sample, truth)
        sql(sample, edit)
        if edit.startswith("DROP"):
            for table in ("gpkg_contents", "gpkg_ogr_contents"):
                sql(sample, f"DELETE FROM {table} WHERE table_name = 'strata'")
        self.refused(sample, sentence)

    @pytest.mark.parametrize(
        ("move", "sentence"),
        [
            ((6.0, 0.0), "sample_id 3 was moved by 0.6 pixels"),
            ((0.0, 50_000.0), "sample_id 3 lies outside the map early_MSIL2A_20240701T140000"),
            ((float("inf"), 0.0), "sample_id 3 lies outside the map"),
        ],
    )
    def test_points_in_another_place(self, truth, sample, move, sentence):
        label(sample, truth)
        points = geopandas.read_file(sample, layer="sample")
        place = points.geometry[2]
        points.loc[2, "geometry"] = shapely.Point(place.x + move[0], place.y + move[1])
        pyogrio.write_dataframe(points, sample, layer="sample")
        self.refused(sample, sentence)

    def test_in_another_crs(self, truth, sample):
        label(sample, truth)
        points = geopandas.read_file(sample, layer="sample").to_crs(4326)
        pyogrio.write_dataframe(points, sample, layer="sample")
        self.refused(sample, "sample_id 1 lies outside the map")

    def test_a_point_added(self, truth, sample):
        label(sample, truth)
        points = geopandas.read_file(sample, layer="sample")
        more = points.iloc[[0]].assign(sample_id=999)
        pyogrio.write_dataframe(pd.concat([points, more]), sample, layer="sample")
        self.refused(sample, "points of stratum .* were drawn")

    def test_other_files(self, folder, tmp_path):
        with pytest.raises(InputError, match=r"none.gpkg: no such file"):
            estimate_area(tmp_path / "none.gpkg")
        (tmp_path / "text.gpkg").write_text("labels")
        self.refused(tmp_path / "text.gpkg", "not a file that GDAL can open")
        points = geopandas.GeoDataFrame({"reference": ["forest"]}, geometry=[shapely.Point(0, 0)])
        points.set_crs(4326).to_file(tmp_path / "mine.gpkg", layer="sample")
        self.refused(tmp_path / "mine.gpkg", "has no table strata; the GeoPackage that geoforest")
        points.set_crs(4326).to_file(tmp_path / "mine.geojson")
        self.refused(tmp_path / "mine.geojson", "has no table sample")

    def test_a_sample_of_another_map(self, folder, truth, sample, tiny_bundle, tmp_path):
        label(sample, truth)
        other = write_map(tmp_path / "m", "x", tiny_bundle.path, [MISSED], **GROUND)
        self.refused(sample, "is a sample of another map, early_MSIL2A", map_folder=other)
        self.refused(sample, "no finished map", map_folder=tmp_path)
        strict = write_map(
            tmp_path / "t", "early", tiny_bundle.path, [FOREST], unseen=[CLOUD], threshold=0.6,
            **GROUND,
        )  # fmt: skip
        self.refused(sample, "another map|at threshold 0.5; .* has 0.6", map_folder=strict)
