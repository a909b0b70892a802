"""Damaged inputs end in one sentence, whatever is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely

from geoforest.arrays.grid import Window
from geoforest.io.polygon_files import read_outline
from geoforest.maps.finished import read_finished
from geoforest.maps.status import status
from geoforest.maps.units.read import read_units
from geoforest.maps.vectorize import vectorize
from geoforest.maps.verify.run import verify
from geoforest.models.bundle import load_bundle
from geoforest.scenes.open import open_scene
from geoforest.scenes.read import read_decimated, read_window, release
from geoforest.train.sweep_config import read_sweep
from tests.helpers import safe, stac, synthetic
from tests.helpers.mutations import Target, read_damaged

N = 40


def read_scene(path: Path) -> None:
    scene = open_scene(path, wanted=synthetic.BANDS)
    try:
        read_window(scene, Window(0, 0, 64, 64))
        if max(scene.shape) < 10_000:
            read_decimated(scene, 40)
    finally:
        release(scene)


def raster(folder: Path, **profile: object) -> Target:
    dn = synthetic.digital_numbers((150, 190))
    path = synthetic.write_raster(folder / "scene.tif", dn, nodata=0, **profile)
    return Target(path, lambda: read_scene(path), slice(0, 1500))


def strips(folder: Path) -> Target:
    return raster(folder)


def big_strips(folder: Path) -> Target:
    return raster(folder, BIGTIFF="YES", blockysize=1)


def tiles(folder: Path) -> Target:
    return raster(folder, tiled=True, blockxsize=64, blockysize=64, interleave="pixel")


def mask(folder: Path) -> Target:
    values = np.zeros((1, 90, 80), np.uint8)
    values[0, 20:60, 20:60] = 1
    path = synthetic.write_raster(folder / "mask.tif", values, descriptions=None)
    return Target(path, lambda: vectorize(path), slice(0, 700))


def zones(folder: Path) -> Target:
    boxes = [shapely.box(at, 0, at + 1, 1) for at in range(3)]
    frame = geopandas.GeoDataFrame({"name": ["a", "b", "c"]}, geometry=boxes, crs=4326)
    path = folder / "zones.gpkg"
    frame.to_file(path)

    def read() -> None:
        read_outline(path)
        read_units(path, "name")

    return Target(path, read, slice(0, None))


def item(folder: Path) -> Target:
    path = stac.write_scene(folder)
    return Target(path, lambda: read_scene(path))


def product(folder: Path) -> Target:
    offsets = dict.fromkeys(safe.BAND_IDS, -1000)
    root = safe.make_safe(folder, synthetic.digital_numbers((40, 40)), offsets=offsets)
    (xml,) = root.glob("MTD*.xml")
    return Target(xml, lambda: read_scene(root))


def card(folder: Path) -> Target:
    from geoforest.models.bundle import save_bundle
    from geoforest.models.unet import build_unet

    network = build_unet("mobilenet_v2", 4)
    bundle = save_bundle(folder / "model", network.state_dict(), synthetic.card())
    return Target(bundle.path / "model.json", lambda: load_bundle(bundle.path))


def sweep(folder: Path) -> Target:
    path = folder / "sweep.yaml"
    path.write_text(
        "name: a\nmethod: random\nrun_cap: 4\nmetric: {name: val_loss, goal: minimize}\n"
        "parameters:\n  learning_rate: {min: 1e-5, max: 0.1, distribution: log_uniform_values}\n"
        "  batch_size: {values: [4, 8]}\n  encoder: {value: resnet18}\n"
    )
    return Target(path, lambda: read_sweep(path))


def records(folder: Path) -> Target:
    values = np.zeros((1, 20, 20), np.uint8)
    for name in ("forest_mask.tif", "forest_probability.tif"):
        synthetic.write_raster(folder / name, values, descriptions=None)
    outputs = {
        name: {"sha256": "0", "bytes": (folder / name).stat().st_size}
        for name in ("forest_mask.tif", "forest_probability.tif")
    }
    job = {
        "fingerprint": "f", "identity": {"files": [["a", 1, 2]], "bands": [["a", 1, "B04"]]},
        "scene_id": "s", "model": "m", "threshold": 0.5, "outputs": outputs,
        "prediction": {"gaps": {}},
    }  # fmt: skip
    summary = {
        "acquired": "2024-07-01T14:00:00+00:00", "observed_percent": 90.0, "gaps": {}, "shards": 4,
        "pixels": {"forest": 0, "other": 400, "no_observation": 0}, "shape": [20, 20], "crs": "x",
    }  # fmt: skip
    path = folder / "job.json"
    (folder / "summary.json").write_text(json.dumps(summary))
    path.write_text(json.dumps(job))

    def read() -> None:
        read_finished(folder)
        verify(folder)
        status(folder)

    return Target(path, read)


@pytest.mark.slow
def test_one_sentence(tmp_path):
    targets = strips, big_strips, tiles, mask, zones, item, product, card, sweep, records
    read_damaged(targets, tmp_path, N)


def test_a_scene_whose_strips_lie_nowhere(tmp_path):
    from geoforest.errors import SceneError

    path = synthetic.write_raster(
        tmp_path / "big.tif", synthetic.digital_numbers((60, 50)), BIGTIFF="YES", blockysize=1
    )
    data = bytearray(path.read_bytes())
    directory = int.from_bytes(data[8:16], "little")
    for entry in range(int.from_bytes(data[directory : directory + 8], "little")):
        at = directory + 8 + 20 * entry
        if int.from_bytes(data[at : at + 2], "little") == 273:  # StripOffsets
            data[at + 12 : at + 20] = (1 << 40).to_bytes(8, "little")
    path.write_bytes(data)
    with pytest.raises(SceneError, match=r"big\.tif: "):
        read_scene(path)


@pytest.mark.parametrize(
    "transform",
    [
        rasterio.Affine(1e-300, 0, 500_000, 0, -1e-300, 9e6),
        rasterio.Affine(10, 0, 1e300, 0, -10, 9e6),
        rasterio.Affine(1e300, 0, 0, 0, -1e300, 0),
        rasterio.Affine(10, 0, float("nan"), 0, -10, 9e6),
        rasterio.Affine(float("inf"), 0, 0, 0, -10, 9e6),
    ],
)
def test_a_raster_nowhere_on_earth(tmp_path, transform):
    from geoforest.errors import InputError

    values = np.ones((1, 20, 30), np.uint8)
    path = synthetic.write_raster(
        tmp_path / "m.tif", values, descriptions=None, transform=transform
    )
    with pytest.raises(InputError, match=r"m\.tif: its transform"):
        vectorize(path, min_area_ha=0)
