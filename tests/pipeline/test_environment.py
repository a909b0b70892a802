"""The same job makes the same map in every environment, and workers see what the driver saw."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio

from geoforest.scenes.open import open_scene
from geoforest.scenes.sight import first_difference, look_at
from tests.helpers import synthetic
from tests.helpers.jobs import products, read, run

SHAPE = (100, 120)
SEEN = np.full(SHAPE, 255, np.uint8)
SEEN[:25] = 0


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A scene whose mask lies in a file of its own."""
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False):
        path = synthetic.write_raster(tmp_path / "scene.tif", synthetic.digital_numbers(SHAPE))
        with rasterio.open(path, "r+") as target:
            target.write_mask(SEEN)
    assert (tmp_path / "scene.tif.msk").exists()
    return path


def test_gdal_settings_of_cloud_users(scene, tmp_path, tiny_bundle, monkeypatch):
    wanted = run(scene, tmp_path / "a", tiny_bundle)
    assert ((read(wanted.mask) == 255) == (SEEN == 0)).all()
    monkeypatch.setenv("GDAL_DISABLE_READDIR_ON_OPEN", "EMPTY_DIR")
    monkeypatch.setenv("GDAL_PAM_ENABLED", "NO")
    monkeypatch.setenv("GTIFF_IGNORE_READ_ERRORS", "YES")
    found = run(scene, tmp_path / "b", tiny_bundle)
    assert products(found) == products(wanted)
    jobs = [json.loads((one.folder / "job.json").read_text()) for one in (wanted, found)]
    assert jobs[0]["fingerprint"] == jobs[1]["fingerprint"]


def _lose_the_mask(path: Path) -> None:
    Path(f"{path}.msk").unlink()


def _gain_nodata(path: Path) -> None:
    with rasterio.open(path, "r+") as target:
        target.nodata = 300


def _grow(path: Path) -> None:
    with path.open("ab") as handle:
        handle.write(b"\0")


@pytest.mark.parametrize(
    ("change", "named"), [(_lose_the_mask, "mask"), (_gain_nodata, "nodata"), (_grow, "bytes")]
)
def test_another_view_of_a_scene_is_told(scene, tmp_path, change, named):
    described = open_scene(scene, wanted=synthetic.BANDS)
    there = look_at(described)
    assert first_difference(look_at(described), there) is None
    change(scene)
    told = first_difference(look_at(described), there)
    assert told is not None
    assert told.startswith(f"{scene}: {named} is ")
