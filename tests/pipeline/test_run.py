"""The whole job on small scenes: bytes, states, georeference, resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import geopandas
import numpy as np
import pystac
import pytest
import rasterio
import rasterio.features
from affine import Affine
from rio_cogeo.cogeo import cog_validate

import geoforest
from geoforest.arrays.stitch import mask_from_probability, quantise
from geoforest.errors import IncompleteError, OutputError
from geoforest.io.locks import is_locked
from geoforest.pipeline import run as pipeline
from geoforest.pipeline.run import map_scenes
from geoforest.report import layers, quicklook
from geoforest.scenes.open import open_scene
from geoforest.scenes.read import read_decimated
from tests.helpers import synthetic
from tests.helpers.jobs import PRODUCTS, products, read, run, run_without_model
from tests.helpers.synthetic import LocalPredictor, load_local_predictor


@pytest.mark.slow
def test_same_bytes_for_every_shard_size_and_order_of_runs(scene_path, tmp_path, tiny_bundle):
    made = [
        products(run(scene_path, tmp_path / f"out{shard}", tiny_bundle, shard=shard))
        for shard in (48, 96, 1000)
    ]
    assert made[0] == made[1] == made[2]
    again = products(run(scene_path, tmp_path / "again", tiny_bundle, shard=48))
    assert again == made[0]


@pytest.mark.slow
def test_network_gives_the_same_bytes_for_every_shard_size(scene_path, tmp_path, tiny_bundle):
    made = [
        products(
            geoforest.map_scene(
                scene_path,
                tmp_path / f"{shard}",
                model=str(tiny_bundle.path),
                halo=8,
                shard=shard,
                batch_size=3,
            )
        )
        for shard in (48, 1000)
    ]
    assert made[0] == made[1]


def test_windows_leave_no_trace_when_the_halo_is_wide_enough(scene_path, tmp_path, tiny_bundle):
    with rasterio.open(scene_path) as source:
        dn = source.read()
    valid = (dn != 0).all(axis=0)
    # The whole scene at once, padded as the grid pads it.
    pad = LocalPredictor.radius
    padded = np.pad(dn, ((0, 0), (pad, pad), (pad, pad)), mode="reflect")
    padded_valid = np.pad(valid, pad, mode="reflect")
    whole = LocalPredictor()(padded[None], valid=padded_valid[None])[0][pad:-pad, pad:-pad]
    for window in (32, 64):
        result = run(scene_path, tmp_path / f"w{window}", tiny_bundle, window=window)
        assert (read(result.probability) == quantise(whole, valid)).all()


def test_three_states_from_reader_to_polygons(scene_path, tmp_path, tiny_bundle):
    result = run(scene_path, tmp_path / "out", tiny_bundle)
    with rasterio.open(scene_path) as source:
        unobserved = (source.read() == 0).any(axis=0)
    mask, stored = read(result.mask), read(result.probability)
    assert ((mask == 255) == unobserved).all()
    assert ((stored == 255) == unobserved).all()
    assert set(np.unique(mask)) == {0, 1, 255}
    assert (mask == mask_from_probability(stored, result.summary["threshold"])).all()
    summary = result.summary
    assert summary["pixels"]["no_observation"] == unobserved.sum() == 1200
    assert summary["observed_percent"] == pytest.approx(100 * (1 - 1200 / mask.size), abs=1e-3)
    frame = geopandas.read_file(result.polygons, layer="forest_cover")
    burned = rasterio.features.rasterize(
        frame.geometry, out_shape=mask.shape, transform=synthetic.TRANSFORM
    )
    assert (burned[unobserved] == 0).all()
    assert ((burned == 1) == (mask == 1)).all()


def test_polygons_lie_on_the_scene_and_have_the_area_of_the_mask(scene_path, tmp_path, tiny_bundle):
    result = run(scene_path, tmp_path / "out", tiny_bundle)
    frame = geopandas.read_file(result.polygons, layer="forest_cover")
    forest_px = int((read(result.mask) == 1).sum())
    assert frame.area.sum() == pytest.approx(forest_px * 100, rel=1e-12)
    assert frame["n_pixels"].sum() == forest_px == result.summary["polygons"]["polygon_px"]
    left, bottom, right, top = frame.total_bounds
    with rasterio.open(scene_path) as source:
        assert left >= source.bounds.left
        assert bottom >= source.bounds.bottom
        assert right <= source.bounds.right
        assert top <= source.bounds.top
    assert result.summary["hectares"]["forest"] == pytest.approx(frame["area_ha"].sum(), abs=1e-3)


def test_rasters_are_cogs_on_the_grid_of_the_scene(scene_path, tmp_path, tiny_bundle):
    result = run(scene_path, tmp_path / "out", tiny_bundle)
    with rasterio.open(scene_path) as scene:
        for path in (result.mask, result.probability):
            valid, errors, warnings = cog_validate(path, strict=True)
            assert valid, (errors, warnings)
            with rasterio.open(path) as product:
                assert product.shape == scene.shape
                assert product.crs == scene.crs
                assert product.transform == scene.transform
                assert product.nodata == 255
    with rasterio.open(result.probability) as product:
        assert product.scales == (0.004,)
    with rasterio.open(result.mask) as product:
        assert product.colormap(1)[1][:3] == (27, 120, 55)
    assert "<Category>forest</Category>" in Path(f"{result.mask}.aux.xml").read_text()


def test_outputs_say_what_they_are(tmp_path, tiny_bundle):
    name = "S2B_MSIL2A_20200223T032739_N9999_R018_T48QUE_20230924T183543"
    dn = synthetic.digital_numbers((70, 80))
    scene = synthetic.write_raster(tmp_path / f"{name}.tif", dn, nodata=0)
    result = run(scene, tmp_path / "out", tiny_bundle)
    frame = geopandas.read_file(result.polygons, layer="forest_cover")
    assert (frame["scene_id"] == name).all()
    assert str(frame["acquired"].iloc[0]) == "2020-02-23 03:27:39+00:00"
    assert frame["model"].iloc[0] == tiny_bundle.model_id
    item = pystac.Item.from_file(str(result.folder / f"{name}.json"))
    assert item.datetime is not None
    assert item.datetime.isoformat() == "2020-02-23T03:27:39+00:00"
    assert set(item.assets) == {
        "forest_mask", "forest_probability", "forest_polygons", "summary", "report"
    }  # fmt: skip
    job = json.loads((result.folder / "job.json").read_text())
    assert set(job["outputs"]) >= {*PRODUCTS, "summary.json", "report.html"}
    assert not (result.folder / ".geoforest-work").exists()
    assert "<img" in (result.folder / "report.html").read_text()


# rioxarray multiplies transforms in the old way.
@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_open_gives_a_lazy_dataset(scene_path, tmp_path, tiny_bundle):
    dataset = run(scene_path, tmp_path / "out", tiny_bundle).open()
    probability = dataset["probability"].to_numpy()
    assert np.isnan(probability).sum() == 1200
    assert 0 <= np.nanmin(probability) < np.nanmax(probability) <= 1
    assert set(np.unique(dataset["mask"])) == {0, 1, 255}


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (77, 1), (65, 129)])
def test_any_size(shape, tmp_path, tiny_bundle):
    scene = synthetic.write_raster(tmp_path / "odd.tif", synthetic.digital_numbers(shape), nodata=0)
    result = run(scene, tmp_path / "out", tiny_bundle)
    assert read(result.mask).shape == shape
    assert (read(result.mask) != 255).all()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_types(dtype, tmp_path, tiny_bundle):
    dn = synthetic.digital_numbers((90, 90), dtype=dtype)
    scene = synthetic.write_raster(tmp_path / "scene.tif", dn)
    scale = {"uint8": 40e-4, "int16": 1e-4, "float32": 1.0}[dtype]
    result = run(scene, tmp_path / "out", tiny_bundle, scale=(scale,))
    share = (read(result.mask) == 1).mean()
    assert 0.3 < share < 0.7
    assert result.summary["warnings"] == []


def test_geographic_crs(tmp_path, tiny_bundle):
    transform = rasterio.Affine(1e-4, 0, -60, 0, -1e-4, -10)
    dn = synthetic.digital_numbers((90, 90))
    scene = synthetic.write_raster(
        tmp_path / "scene.tif", dn, crs="EPSG:4326", transform=transform, nodata=0
    )
    result = run(scene, tmp_path / "out", tiny_bundle)
    frame = geopandas.read_file(result.polygons, layer="forest_cover")
    geod = frame.crs.get_geod()
    true = sum(abs(geod.geometry_area_perimeter(shape)[0]) for shape in frame.geometry) / 1e4
    assert frame["area_ha"].sum() == pytest.approx(true, rel=1e-5)


def test_scene_without_an_observed_pixel(tmp_path, tiny_bundle):
    scene = synthetic.write_raster(
        tmp_path / "dark.tif", np.zeros((4, 70, 70), np.uint16), nodata=0
    )
    result = run(scene, tmp_path / "out", tiny_bundle)
    assert (read(result.mask) == 255).all()
    assert len(geopandas.read_file(result.polygons, layer="forest_cover")) == 0
    assert result.summary["windows"] == 0
    assert result.summary["forest_percent"] is None
    assert any("no pixel was observed" in note for note in result.summary["notes"])


def test_nan_and_infinity_are_not_observed(tmp_path, tiny_bundle):
    dn = synthetic.digital_numbers((70, 70), dtype="float32")
    dn[0, 3, 4], dn[2, 5, 6], dn[3, 7, 8] = np.nan, np.inf, -np.inf
    scene = synthetic.write_raster(tmp_path / "scene.tif", dn)
    result = run(scene, tmp_path / "out", tiny_bundle, scale=(1.0,))
    unobserved = np.argwhere(read(result.mask) == 255).tolist()
    assert unobserved == [[3, 4], [5, 6], [7, 8]]


def test_area_of_interest_limits_the_work(tmp_path, tiny_bundle):
    dn = synthetic.digital_numbers((200, 200))
    scene = synthetic.write_raster(tmp_path / "scene.tif", dn, nodata=0)
    everywhere = run(scene, tmp_path / "all", tiny_bundle)
    # 40 x 30 pixels, in another CRS, so that it has to be reprojected.
    x, y = synthetic.TRANSFORM @ (100, 120)
    box = geopandas.GeoSeries.from_xy([x], [y], crs=synthetic.UTM_20S).buffer(150, cap_style=3)
    aoi = tmp_path / "aoi.geojson"
    box.to_crs(4326).to_file(aoi)
    made = [
        run(scene, tmp_path / f"aoi{shard}", tiny_bundle, aoi=aoi, shard=shard)
        for shard in (48, 192)
    ]
    assert products(made[0]) == products(made[1])
    mask = read(made[0].mask)
    inside = np.zeros(mask.shape, bool)
    inside[105:135, 85:115] = True
    assert ((mask != 255) == inside).all()
    assert (mask[inside] == read(everywhere.mask)[inside]).all()
    assert made[0].summary["windows"] < everywhere.summary["windows"]
    assert made[0].summary["observed_percent"] == 100


@pytest.mark.parametrize("killed_before", ["forest.gpkg", "forest_mask.tif", "job.json"])
def test_a_run_killed_while_publishing_loses_no_prediction(
    scene_path, tmp_path, tiny_bundle, monkeypatch, killed_before
):
    """``job.json`` is away while the products are replaced: a copy of it must do."""
    folder = run(scene_path, tmp_path / "out", tiny_bundle).folder
    replace = Path.replace

    def killed(self, target):
        if Path(target) == folder / killed_before:
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        run_without_model(scene_path, tmp_path / "out", tiny_bundle, threshold=0.8)
    monkeypatch.undo()
    assert not (folder / "job.json").exists()
    result = run_without_model(scene_path, tmp_path / "out", tiny_bundle, threshold=0.8)
    fresh = run(scene_path, tmp_path / "fresh", tiny_bundle, threshold=0.8, min_area_ha=0.5)
    assert products(result) == products(fresh)
    assert not (folder / ".geoforest-work").exists()


def test_another_threshold_needs_no_prediction(scene_path, tmp_path, tiny_bundle):
    first = run(scene_path, tmp_path / "out", tiny_bundle)
    probability = first.probability.read_bytes()

    second = run_without_model(scene_path, tmp_path / "out", tiny_bundle, threshold=0.8)
    assert second.probability.read_bytes() == probability
    stored = read(second.probability)
    assert (read(second.mask) == mask_from_probability(stored, 0.8)).all()
    assert second.summary["reused_shards"] == second.summary["shards"] == 4
    fresh = run(scene_path, tmp_path / "fresh", tiny_bundle, threshold=0.8, min_area_ha=0.5)
    assert products(fresh) == products(second)


def test_only_the_products_that_were_asked_for(scene_path, tmp_path, tiny_bundle):
    result = run(scene_path, tmp_path / "out", tiny_bundle, products=frozenset({"mask"}))
    names = {path.name for path in result.folder.iterdir()}
    assert names == {
        "forest_mask.tif", "forest_mask.tif.aux.xml", "forest_mask.qml", "summary.json", "job.json"
    }  # fmt: skip


def test_outputs_of_another_job_are_refused(scene_path, tmp_path, tiny_bundle):
    first = products(run(scene_path, tmp_path / "out", tiny_bundle))
    with pytest.raises(OutputError, match=r"another job \(other halo\).*--overwrite"):
        run(scene_path, tmp_path / "out", tiny_bundle, halo=4)
    kept = {name: (tmp_path / "out" / "scene" / name).read_bytes() for name in PRODUCTS}
    assert kept == first
    run(scene_path, tmp_path / "out", tiny_bundle, halo=4, overwrite=True)


def test_damaged_shards_are_made_again(scene_path, tmp_path, tiny_bundle):
    undisturbed = products(run(scene_path, tmp_path / "whole", tiny_bundle))
    result = run(scene_path, tmp_path / "out", tiny_bundle, keep_work=True)
    for name in (*PRODUCTS, "job.json"):
        (result.folder / name).unlink()
    shards = sorted((result.folder / ".geoforest-work" / "shards").glob("*.tif"))
    assert len(shards) == 4
    shards[0].write_bytes(shards[0].read_bytes()[:-40])
    with rasterio.open(shards[1], "r+") as target:
        values = target.read(1)
        values[0, 0] ^= 1
        target.write(values, 1)
    shards[2].write_bytes(shards[3].read_bytes())
    again = run(scene_path, tmp_path / "out", tiny_bundle)
    assert again.summary["reused_shards"] == 1
    assert products(again) == undisturbed


def test_failed_shards_are_named_and_the_rest_is_kept(tmp_path, tiny_bundle):
    dn = synthetic.digital_numbers((192, 192))
    path = synthetic.write_raster(
        tmp_path / "scene.tif", dn, nodata=0, tiled=True, blockxsize=48, blockysize=48
    )
    good = path.read_bytes()
    with rasterio.open(path) as source:
        offset = int(source.get_tag_item("BLOCK_OFFSET_3_3", "TIFF", bidx=1))
        size = int(source.get_tag_item("BLOCK_SIZE_3_3", "TIFF", bidx=1))
    stamp = path.stat()
    path.write_bytes(good[:offset] + bytes(size) + good[offset + size :])
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with pytest.raises(IncompleteError, match=r"1 of 4 shards failed \(first r00001_c00001: /"):
        run(path, tmp_path / "out", tiny_bundle)
    folder = tmp_path / "out" / "scene"
    assert not any((folder / name).exists() for name in (*PRODUCTS, "job.json"))
    path.write_bytes(good)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    result = run(path, tmp_path / "out", tiny_bundle)
    assert result.summary["reused_shards"] == 3
    assert products(result) == products(run(path, tmp_path / "whole", tiny_bundle))


SCRIPT = """
import sys, time
import geoforest
from geoforest.pipeline import run as pipeline
from tests.helpers.synthetic import LocalPredictor

class Slow(LocalPredictor):
    def __call__(self, *args, **kwargs):
        time.sleep(0.05)
        return super().__call__(*args, **kwargs)

def load(job):
    return Slow()

load.__module__, load.__qualname__ = "tests.helpers.synthetic", "load_local_predictor"
geoforest.map_scene(sys.argv[1], sys.argv[2], load_predictor=load, model=sys.argv[3],
                    halo=8, shard=48, min_area_ha=0.0)
"""


@pytest.mark.slow
def test_killed_run_resumes_to_the_same_bytes(tmp_path, tiny_bundle):
    dn = synthetic.digital_numbers((300, 300))
    scene = synthetic.write_raster(tmp_path / "scene.tif", dn, nodata=0)
    undisturbed = products(run(scene, tmp_path / "whole", tiny_bundle))
    shards = tmp_path / "out" / "scene" / ".geoforest-work" / "shards"
    command = [sys.executable, "-c", SCRIPT, scene, tmp_path / "out", tiny_bundle.path]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(list(map(str, command)), cwd=root)
    deadline = time.monotonic() + 60
    while len(list(shards.glob("r*.tif"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = len(list(shards.glob("r*.tif")))
    assert 5 <= finished < 49
    assert not (tmp_path / "out" / "scene" / "forest_mask.tif").exists()
    result = run(scene, tmp_path / "out", tiny_bundle, shard=48)
    assert finished - 1 <= result.summary["reused_shards"] <= finished
    assert products(result) == undisturbed


def test_second_run_into_the_same_folder_is_refused(scene_path, tmp_path, tiny_bundle):
    import fcntl

    run(scene_path, tmp_path / "out", tiny_bundle, keep_work=True)
    lock = tmp_path / "out" / "scene" / ".geoforest-work" / "lock"
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="another geoforest run"):
            run(scene_path, tmp_path / "out", tiny_bundle)


def test_far_values_are_reported(tmp_path, tiny_bundle):
    dn = synthetic.digital_numbers((70, 70)) + 1000
    scene = synthetic.write_raster(tmp_path / "offset.tif", dn, nodata=0)
    (warning,) = run(scene, tmp_path / "out", tiny_bundle).summary["warnings"]
    assert "offset.tif" not in warning
    assert "+1000 offset" in warning
    assert "B02 mean reflectance" in warning
    mended = run(scene, tmp_path / "mended", tiny_bundle, offset=(-0.1,))
    assert mended.summary["warnings"] == []
    unit = synthetic.digital_numbers((70, 70), dtype="float32")
    scene = synthetic.write_raster(tmp_path / "unit.tif", unit)
    taken = run(scene, tmp_path / "out", tiny_bundle).summary
    assert taken["warnings"] == []
    assert "of the size of reflectance, so scale 1 is taken" in taken["notes"][0]


def test_a_scene_the_model_was_not_trained_for_is_reported(tmp_path, tiny_bundle):
    dn = synthetic.digital_numbers((70, 70))
    scene = synthetic.write_raster(
        tmp_path / "S2A_MSIL1C_20200801T142741_N0209_R053_T20LMR_20200801T160000.tif",
        dn,
        nodata=0,
        transform=Affine(60, 0, 500_000, 0, -60, 8_900_000),
    )
    gsd, level = run(scene, tmp_path / "out", tiny_bundle).summary["warnings"]
    assert "pixels are 60.0 m on the ground, the model was trained at 10 m" in gsd
    assert "processing level is L1C, the model was trained on L2A" in level


def test_the_job_is_the_same_from_whatever_folder_it_is_started(
    scene_path, tmp_path, tiny_bundle, monkeypatch
):
    run(scene_path, tmp_path / "out", tiny_bundle)
    monkeypatch.chdir(tmp_path)
    result = run_without_model(Path("scene.tif"), Path("out"), tiny_bundle)
    assert result.summary["reused_shards"] == 4


def test_the_picture_is_of_what_the_shards_have_read(tmp_path, tiny_bundle, monkeypatch):
    """The scene is read once; with another threshold, when no shard is, it is read for that."""
    dn = synthetic.digital_numbers((330, 1000))
    dn[:, :20] = 0
    path = synthetic.write_raster(tmp_path / "scene.tif", dn, nodata=0)
    drawn, reads = [], []

    def draw(scene, probability, mask, polygons, seen):
        drawn.append(seen)
        return scene_layers(scene, probability, mask, polygons, seen)

    def decimate(scene):
        reads.append(scene)
        return decimated(scene)

    scene_layers, decimated = layers.scene_layers, quicklook.decimated
    monkeypatch.setattr(layers, "scene_layers", draw)
    monkeypatch.setattr(quicklook, "decimated", decimate)
    run(path, tmp_path / "out", tiny_bundle)
    assert reads == []
    run(path, tmp_path / "out", tiny_bundle, threshold=0.3)
    assert len(reads) == 1
    expected = read_decimated(open_scene(path, wanted=tiny_bundle.card.bands), 800)
    assert expected[0].shape == (4, 264, 800)
    for seen in drawn:
        for found, wanted in zip(seen, expected, strict=True):
            assert np.array_equal(found, wanted)


def test_interrupted_while_the_model_is_loaded_nothing_is_left(
    scene_path, tmp_path, tiny_bundle, monkeypatch
):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("geoforest.pipeline.engine.Pool.add", interrupted)
    # Whoever holds the error holds its frames: the folder must not wait for them to be freed.
    with pytest.raises(KeyboardInterrupt) as held:
        run(scene_path, tmp_path / "out", tiny_bundle)
    assert not (tmp_path / "out").exists(), held
    monkeypatch.undo()
    assert run(scene_path, tmp_path / "out", tiny_bundle).mask.exists()


def test_few_scenes_are_begun_at_once(tmp_path, tiny_bundle, monkeypatch):
    """Each holds its folder and open files until its products are made."""
    monkeypatch.setattr(pipeline, "SCENES_AT_ONCE", 3)
    paths = [
        synthetic.write_raster(tmp_path / f"{n}.tif", synthetic.digital_numbers((40, 50)), nodata=0)
        for n in range(8)
    ]
    out = tmp_path / "out"
    most = 0

    def begun(scene_id):
        nonlocal most
        locked = [path for path in out.glob("*/.geoforest-work") if is_locked(path)]
        most = max(most, len(locked))
        return lambda stage, done, total: None

    results = list(
        map_scenes(
            paths, out, progress=begun, model=tiny_bundle.path, load_predictor=load_local_predictor,
            products="mask", halo=8,
        )
    )  # fmt: skip
    assert {result.scene_id for result in results} == {str(n) for n in range(8)}
    assert most <= 3


class _SlowPredictor(LocalPredictor):
    def __call__(self, *args, **kwargs) -> np.ndarray:
        time.sleep(0.2)
        return super().__call__(*args, **kwargs)


def test_progress_counts_windows_inside_a_shard(scene_path, tmp_path, tiny_bundle):
    steps: dict[str, list[tuple[int, int]]] = {}
    result = geoforest.map_scene(
        scene_path, tmp_path / "out", model=str(tiny_bundle.path), products="mask", halo=8,
        batch_size=1, progress=lambda stage, *step: steps.setdefault(stage, []).append(step),
        load_predictor=lambda job: _SlowPredictor(),
    )  # fmt: skip
    assert result.summary["shards"] == 1
    assert result.summary["windows"] == result.summary["planned_windows"] == 16
    assert steps["prepare"] == [(0, 1), (1, 1)]
    done = [done for done, total in steps["predict"] if total == 16]
    assert done[0] == 0
    assert done[-1] == 16
    assert done == sorted(done)
    assert len(set(done) - {0, 16}) >= 3
    assert list(steps)[:2] == ["prepare", "predict"]


def test_windows_without_an_observed_pixel_are_planned_and_not_predicted(tmp_path, tiny_bundle):
    dn = synthetic.digital_numbers((96, 96))
    dn[:, :, :48] = 0
    scene = synthetic.write_raster(tmp_path / "half.tif", dn, nodata=0)
    summary = run(scene, tmp_path / "out", tiny_bundle).summary
    assert (summary["windows"], summary["planned_windows"]) == (2, 4)
