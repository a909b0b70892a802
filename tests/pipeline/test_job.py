"""What stands on disk of a job: fingerprints, and folders of earlier versions."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from affine import Affine
from rasterio.crs import CRS

from geoforest import map_scene, verify
from geoforest.arrays.grid import Grid
from geoforest.errors import OutputError
from geoforest.maps.finished import read_finished, recorded_scene
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


def test_a_job_has_the_fingerprint_it_has_had_since_the_rules_for_unobserved_pixels():
    assert (
        fixed_job().fingerprint
        == "b4be355f5964f5cc67c348f574d84bf5719e366be766fe3f8be0daadfe4a15fa"
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


def files(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.*") if path.is_file()}


@pytest.mark.parametrize("run", ["finished", "half"])
def test_a_folder_of_0_1_0_is_another_job_and_stays_as_it_is(written, run):
    """Its shards were made by other rules of what was observed, and are never mixed with new."""
    before = files(written / run)
    with pytest.raises(OutputError, match="made by an earlier version, whose rules for unobserved"):
        map_scene(written / "scene.tif", written / run, **OPTIONS)
    assert {name: files(written / run).get(name) for name in before} == before
    result = map_scene(written / "scene.tif", written / run, overwrite=True, **OPTIONS)
    assert (result.summary["shards"], result.summary["reused_shards"]) == (4, 0)


def test_a_finished_folder_of_0_1_0_can_be_used(written):
    folder = written / "finished" / "scene"
    assert verify(folder) == []
    finished = read_finished(folder)
    scene = recorded_scene(finished)
    assert scene is not None
    assert scene.saturated is None
