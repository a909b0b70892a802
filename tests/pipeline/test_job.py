"""What stands on disk of a job: fingerprints and folders of earlier versions stay valid."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from affine import Affine
from rasterio.crs import CRS

from geoforest import map_scene
from geoforest.arrays.grid import Grid
from geoforest.models.bundle import Bundle
from geoforest.pipeline.job import Job
from geoforest.pipeline.runtime import Runtime
from geoforest.scenes.scene import BandSource, Scene
from tests.helpers import synthetic

WRITTEN = Path(__file__).parents[1] / "fixtures" / "written-by-0.1.0.zip"
# A fingerprint holds the path of the scene: the folder has to lie where it lay when it was made.
HOME = Path("/var/tmp/geoforest-written-by-0.1.0")
SCENE_TIME_NS = 1_700_000_000_000_000_000
OPTIONS = {
    "model": str(HOME / "model.zip"),
    "device": "cpu",
    "runtime": "torch",
    "precision": "float32",
    "batch_size": 2,
    "window": 64,
    "halo": 8,
    "shard": 48,
    "products": "mask,probability",
}


def fixed_job() -> Job:
    bands = tuple(
        BandSource(name, "/data/scene.tif", index, 0.0, None)
        for index, name in enumerate(synthetic.BANDS, start=1)
    )
    scene = Scene(
        scene_id="scene",
        bands=bands,
        crs=CRS.from_epsg(32720),
        transform=Affine(10, 0, 500_000, 0, -10, 8_900_000),
        shape=(96, 96),
        dtype="uint16",
        scale=(1e-4,) * 4,
        offset=(0.0,) * 4,
        files=(("/data/scene.tif", 56_584, SCENE_TIME_NS),),
    )
    bundle = Bundle(path=Path("/models/tiny"), card=synthetic.card(), sha256="0" * 64)
    runtime = Runtime("torch", "cuda:1", "float32", 2, 4)
    return Job(scene, Grid(scene.shape, 64, 8, 1), bundle, runtime)


def test_a_job_has_the_fingerprint_it_always_had():
    assert (
        fixed_job().fingerprint
        == "ed534152965dbdbea38f394ec868da83bb8266121c7f344ee21365f0f11a92d9"
    )


@pytest.fixture
def written() -> Iterator[Path]:
    """Put folders that version 0.1.0 wrote back to where it wrote them."""
    if HOME.exists():
        shutil.rmtree(HOME)
    with zipfile.ZipFile(WRITTEN) as archive:
        archive.extractall(HOME.parent)
    os.utime(HOME / "scene.tif", ns=(SCENE_TIME_NS, SCENE_TIME_NS))
    yield HOME
    shutil.rmtree(HOME)


def test_a_finished_folder_of_0_1_0_is_already_done(written):
    folder = written / "finished" / "scene"
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    result = map_scene(written / "scene.tif", written / "finished", **OPTIONS)
    assert result.summary == json.loads((folder / "summary.json").read_text())
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_half_done_folder_of_0_1_0_goes_on_where_it_was(written):
    result = map_scene(written / "scene.tif", written / "half", **OPTIONS)
    assert (result.summary["shards"], result.summary["reused_shards"]) == (4, 3)
    for name in ("forest_mask.tif", "forest_probability.tif"):
        made, wanted = (written / run / "scene" / name for run in ("half", "finished"))
        assert made.read_bytes() == wanted.read_bytes()
