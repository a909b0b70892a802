"""Names, files and numbers that nobody expects, and what must come of them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import zipfile
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import shapely
import torch
from affine import Affine

import geoforest
from geoforest.errors import GeoforestError, InputError, OutputError, SceneError
from geoforest.io.geopackage import layers
from geoforest.io.sqlite import journals
from geoforest.models.bundle import Bundle, save_bundle
from tests.helpers import synthetic
from tests.helpers.jobs import products, read, run, run_without_model
from tests.helpers.synthetic import load_local_predictor

STAC_NAME = "S2B_MSIL2A_20200223T032739_N9999_R018_T48QUE_20230924T183543"


@pytest.fixture
def scene(tmp_path) -> Path:
    return synthetic.write_raster(
        tmp_path / "scene.tif", synthetic.digital_numbers((100, 120)), nodata=0
    )


class TestNumbers:
    def test_huge_fill_values_are_not_observed(self, tmp_path, tiny_bundle):
        values = synthetic.digital_numbers((100, 120), dtype="float32")
        values[:, 40:44, 50:54] = np.finfo(np.float32).min
        path = synthetic.write_raster(tmp_path / "a.tif", values)
        mask = read(run(path, tmp_path / "out", tiny_bundle, scale=1).mask)
        assert ((mask == 255) == (np.abs(values) > 1e20).any(axis=0)).all()

    def test_a_model_that_gives_no_number_is_no_map(self, scene, tmp_path, tiny_bundle):
        weights = tiny_bundle.state_dict()
        # Each weight is a number; what they add up to is none.
        head = weights["segmentation_head.0.weight"]
        head[:] = 3e38 * torch.sign(torch.randn(head.shape))
        weights["decoder.blocks.4.conv2.1.weight"][:] = 1e30
        broken = save_bundle(tmp_path / "broken", weights, tiny_bundle.card)
        with pytest.raises(GeoforestError, match="is no number: its weights are bad"):
            geoforest.map_scene(scene, tmp_path / "out", model=broken.path, device="cpu", halo=8)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        "settings",
        [
            {"scale": float("nan")},
            {"scale": 0},
            {"offset": float("inf")},
            {"scale": ()},
            {"min_area_ha": float("inf")},
            {"threshold": float("nan")},
            {"products": ","},
            {"products": ()},
            {"window": 64, "halo": 40},
            {"device": "mps"},
        ],
    )
    def test_settings_that_cannot_be_meant(self, scene, tmp_path, tiny_bundle, settings):
        with pytest.raises(InputError) as caught:
            run(scene, tmp_path / "out", tiny_bundle, **settings)
        assert len(str(caught.value)) < 120
        assert not (tmp_path / "out").exists()

    def test_settings_as_python_users_write_them(self, scene, tmp_path, tiny_bundle):
        result = geoforest.map_scene(
            scene,
            tmp_path / "out",
            model=tiny_bundle.path,
            load_predictor=load_local_predictor,
            scale=1e-4,
            offset=0,
            nodata=float("nan"),
            products="mask,probability",
            halo=8,
        )
        assert result.mask.exists()
        assert not result.polygons.exists()


def nested(scene: Path) -> Path:
    """Make a virtual raster of a virtual raster of a scene."""
    inner, outer = scene.with_name("inner.vrt"), scene.with_name("outer.vrt")
    rasterio.shutil.copy(scene, inner, driver="VRT")
    outer.write_text(inner.read_text().replace(scene.name, inner.name))
    return outer


class TestFiles:
    def test_what_lies_behind_virtual_rasters_counts(self, scene, tmp_path, tiny_bundle):
        outer = nested(scene)
        run(outer, tmp_path / "out", tiny_bundle)
        run_without_model(outer, tmp_path / "out", tiny_bundle)
        changed = synthetic.digital_numbers((100, 120), seed=4)
        synthetic.write_raster(scene, changed, nodata=0)
        with pytest.raises(OutputError, match=r"another job \(other files\)"):
            run(outer, tmp_path / "out", tiny_bundle)

    def test_a_source_that_is_missing_is_named_with_who_needs_it(self, scene, tmp_path):
        outer = nested(scene)
        scene.unlink()
        with pytest.raises(SceneError, match=r"scene\.tif: no such file, and .*inner\.vrt needs"):
            geoforest.map_scene(outer, tmp_path / "out")

    def test_rasters_in_archives(self, scene, tmp_path, tiny_bundle):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.write(scene, "deep/scene.tif")
        inside = f"/vsizip/{tmp_path}/a.zip/deep/scene.tif"
        virtual = tmp_path / "v.vrt"
        rasterio.shutil.copy(inside, virtual, driver="VRT")
        plain = run(scene, tmp_path / "plain", tiny_bundle)
        for path in (inside, virtual):
            result = run(path, tmp_path / "out", tiny_bundle)
            assert (read(result.mask) == read(plain.mask)).all()
            stamps = json.loads((result.folder / "job.json").read_text())["identity"]["files"]
            size = (tmp_path / "a.zip").stat().st_size
            assert [inside, size] in [stamp[:2] for stamp in stamps]

    def test_band_numbers_are_not_for_folders(self, tmp_path):
        with pytest.raises(SceneError, match="--bands does not apply"):
            geoforest.map_scene(tmp_path, tmp_path / "out", bands=(1, 2, 3, 4))

    def test_files_that_macos_leaves_are_no_bands(self, tmp_path, tiny_bundle):
        folder = tmp_path / "bands"
        folder.mkdir()
        dn = synthetic.digital_numbers((70, 70))
        for band, values in zip(synthetic.BANDS, dn, strict=True):
            synthetic.write_raster(folder / f"{band}.tif", values[None], descriptions=None)
            (folder / f"._{band}.tif").write_bytes(b"\x00\x05\x16\x07")
        assert run(folder, tmp_path / "out", tiny_bundle).mask.exists()
        with pytest.raises(OutputError, match="is the scene itself"):
            run(folder, tmp_path, tiny_bundle)

    def test_grids_that_differ_by_a_hair_are_told_apart(self, tmp_path):
        folder = tmp_path / "bands"
        folder.mkdir()
        for number, band in enumerate(synthetic.BANDS):
            synthetic.write_raster(
                folder / f"{band}.tif",
                np.ones((1, 40, 40), np.uint16),
                descriptions=None,
                transform=Affine(10, 0, 500_000 + 0.2 * number, 0, -10, 8_900_000),
            )
        with pytest.raises(SceneError, match=r"500000\.[246]\d*, .*differs from .*500000\.0, "):
            geoforest.map_scene(folder, tmp_path / "out")


class TestNames:
    @pytest.mark.parametrize("name", ["run$x_$", "森林 mapa", "a!b", "mean(50%)", "it's"])
    def test_any_name_of_a_file_will_do(self, scene, tmp_path, tiny_bundle, name):
        folder = tmp_path / f"in {name}"
        folder.mkdir()
        path = folder / f"{name}.tif"
        shutil.copyfile(scene, path)
        result = run(path, tmp_path / f"out {name}", tiny_bundle)
        assert result.scene_id == name
        assert layers(result.polygons) == ["forest_cover"]
        with contextlib.closing(sqlite3.connect(result.polygons)) as database:
            count = database.execute("SELECT count(*) FROM forest_cover").fetchone()
        assert count == (result.summary["polygons"]["parts"],)
        assert not any(item.name.startswith(".") for item in result.folder.iterdir())

    @pytest.mark.parametrize("name", ["job", "summary", "a/b", "..", "tab\there", "x" * 201])
    def test_names_that_cannot_be(self, scene, tmp_path, tiny_bundle, name):
        with pytest.raises(SceneError, match="give --scene-id"):
            run(scene, tmp_path / "out", tiny_bundle, scene_id=name)
        assert not (tmp_path / "out").exists()

    def test_names_that_are_no_text(self, tmp_path):
        path = os.fsdecode(b"\xff.tif")
        with pytest.raises(SceneError, match="no valid text"):
            geoforest.map_scene(path, tmp_path)


class TestFolders:
    def test_asking_for_other_products_loses_none(self, scene, tmp_path, tiny_bundle):
        first = products(run(scene, tmp_path / "out", tiny_bundle))
        result = run_without_model(
            scene, tmp_path / "out", tiny_bundle, products="polygons", min_area_ha=0
        )
        assert products(result) == first
        # They follow the threshold that is asked for, all of them.
        result = run_without_model(
            scene, tmp_path / "out", tiny_bundle, products="polygons", threshold=0.7, min_area_ha=0
        )
        fresh = run(scene, tmp_path / "fresh", tiny_bundle, threshold=0.7)
        assert products(result) == products(fresh)

    def test_a_card_that_changed_its_threshold(self, scene, tmp_path, tiny_bundle):
        copy = save_bundle(tmp_path / "model", tiny_bundle.state_dict(), tiny_bundle.card)
        run(scene, tmp_path / "out", copy)
        card = copy.card.model_copy(update={"threshold": 0.7})
        changed: Bundle = save_bundle(copy.path, copy.state_dict(), card)
        result = run_without_model(scene, tmp_path / "out", changed, min_area_ha=0)
        assert products(result) == products(run(scene, tmp_path / "fresh", changed))
        assert geoforest.vectorize(result.probability)["threshold"].eq(0.7).all()

    def test_the_item_of_another_scene_does_not_stay(self, scene, tmp_path, tiny_bundle):
        dated = shutil.copyfile(scene, tmp_path / f"{STAC_NAME}.tif")
        result = run(dated, tmp_path / "out", tiny_bundle, scene_id="A")
        assert (result.folder / "A.json").exists()
        run(scene, tmp_path / "out", tiny_bundle, scene_id="A", overwrite=True)
        assert not (result.folder / "A.json").exists()

    def test_a_hostile_record_of_outputs_removes_nothing_else(self, scene, tmp_path, tiny_bundle):
        result = run(scene, tmp_path / "out", tiny_bundle)
        (tmp_path / "precious").touch()
        job = json.loads((result.folder / "job.json").read_text())
        job["outputs"]["../../precious"] = job["outputs"][str(tmp_path / "precious")] = {}
        (result.folder / "job.json").write_text(json.dumps(job))
        run(scene, tmp_path / "out", tiny_bundle, halo=4, overwrite=True)
        assert (tmp_path / "precious").exists()

    def test_the_journal_of_a_killed_reader_does_not_harm_a_new_file(
        self, scene, tmp_path, tiny_bundle
    ):
        result = run(scene, tmp_path / "out", tiny_bundle)
        for rewrite in (
            lambda: run(scene, tmp_path / "out", tiny_bundle, threshold=0.7),
            lambda: geoforest.vectorize_to_file(result.probability, result.polygons, threshold=0.3),
        ):
            leave_journal(result.polygons)
            rewrite()
            with sqlite3.connect(result.polygons) as database:
                assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            database.close()
            assert not any(path.exists() for path in journals(result.polygons))


def leave_journal(path: Path) -> None:
    """Leave the files of a program that had a database open and was killed."""
    copy = path.with_name("copy.gpkg")
    shutil.copyfile(path, copy)
    database = sqlite3.connect(copy)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE of_qgis (a)")
    database.commit()
    kept = {journal: journal.read_bytes() for journal in journals(copy) if journal.exists()}
    shutil.copyfile(copy, path)
    database.close()
    for journal, data in kept.items():
        Path(str(journal).replace("copy.gpkg", path.name)).write_bytes(data)
    copy.unlink()
    assert Path(f"{path}-wal").stat().st_size


class TestAreaOfInterest:
    @pytest.mark.parametrize(
        "box", [(-180, -90, 180, 90), (-180, -60, 180, 30), (-150, -60, 20, 60)]
    )
    def test_larger_than_the_projection_can_hold(self, scene, tmp_path, tiny_bundle, box):
        aoi = tmp_path / "aoi.gpkg"
        geopandas.GeoSeries([shapely.box(*box)], crs=4326).to_file(aoi)
        result = run(scene, tmp_path / "out", tiny_bundle, aoi=aoi)
        assert (read(result.mask) == read(run(scene, tmp_path / "b", tiny_bundle).mask)).all()

    @pytest.mark.filterwarnings("ignore:Non closed ring")
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_a_geometry_that_is_none(self, scene, tmp_path, tiny_bundle):
        aoi = tmp_path / "aoi.geojson"
        ring = [[-57, -10], [-56, -10]]
        aoi.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
        with pytest.raises(InputError, match=r"aoi\.geojson"):
            run(scene, tmp_path / "out", tiny_bundle, aoi=aoi)

    def test_our_own_polygons(self, scene, tmp_path, tiny_bundle):
        first = run(scene, tmp_path / "out", tiny_bundle)
        inside = run(scene, tmp_path / "inside", tiny_bundle, aoi=first.polygons)
        assert (read(inside.mask) == np.where(read(first.mask) == 1, 1, 255)).all()


class TestVectorizeTarget:
    @pytest.fixture
    def raster(self, tmp_path) -> Path:
        values = np.array([[[0, 1, 1]]], np.uint8)
        return synthetic.write_raster(tmp_path / "m.tif", values, descriptions=None)

    def refused(self, raster: Path, out: Path, message: str) -> None:
        before = out.read_bytes() if out.exists() else None
        with pytest.raises(OutputError, match=message):
            geoforest.vectorize_to_file(raster, out, min_area_ha=0)
        assert (out.read_bytes() if out.exists() else None) == before

    def test_of_another_kind(self, raster, tmp_path):
        self.refused(raster, raster, r"ends in \.gpkg, \.parquet, \.fgb was wanted")
        self.refused(raster, tmp_path / "v.geojson", r"ends in \.gpkg, \.parquet, \.fgb was wanted")

    def test_the_input_under_a_disguise(self, raster, tmp_path):
        disguised = raster.rename(tmp_path / "m.gpkg")
        self.refused(disguised, disguised, "exists and is no GeoPackage of the one layer")

    def test_a_file_of_somebody_else(self, raster, tmp_path):
        other = tmp_path / "other.gpkg"
        geopandas.GeoSeries([shapely.box(0, 0, 1, 1)], crs=4326).to_file(other, layer="roads")
        self.refused(raster, other, "exists and is no GeoPackage of the one layer")

    def test_its_own_earlier_result(self, raster, tmp_path):
        for _ in range(2):
            geoforest.vectorize_to_file(raster, tmp_path / "a.gpkg", min_area_ha=0)
        assert layers(tmp_path / "a.gpkg") == ["forest_cover"]

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -1])
    def test_areas_that_are_none(self, raster, value):
        with pytest.raises(InputError, match="0 or more was wanted"):
            geoforest.vectorize(raster, min_area_ha=value)

    def test_foreign_tags(self, raster):
        with rasterio.open(raster, "r+") as target:
            target.update_tags(ACQUIRED="2020:01:01 10:00", THRESHOLD="0,5")
        frame = geoforest.vectorize(raster, min_area_ha=0)
        assert frame["acquired"].isna().all()
        assert frame["threshold"].isna().all()


def test_a_resumed_run_tells_the_threads_it_had(scene, tmp_path, tiny_bundle):
    class StopError(GeoforestError):
        pass

    work = tmp_path / "out" / "scene" / ".geoforest-work"

    def stop(stage: str, done: int, total: int) -> None:
        if any(work.glob("shards/r*.tif")):
            raise StopError

    with pytest.raises(StopError):
        geoforest.map_scene(
            scene,
            tmp_path / "out",
            progress=stop,
            model=tiny_bundle.path,
            load_predictor=load_local_predictor,
            halo=8,
            shard=48,
        )
    recorded = json.loads((work / "job.json").read_text())
    recorded["runtime"]["threads"] = 7
    (work / "job.json").write_text(json.dumps(recorded))
    summary = run(scene, tmp_path / "out", tiny_bundle, shard=48).summary
    assert summary["runtime"]["threads"] == 7
    assert summary["reused_shards"] > 0
