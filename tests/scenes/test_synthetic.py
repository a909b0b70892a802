"""The synthetic scene: the same for a seed, plausible in its numbers, honest about itself."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio

from geoforest.scenes.open import open_scene
from geoforest.scenes.synthetic import (
    ACQUIRED,
    BANDS,
    make_chips,
    make_scene,
    write_chips,
    write_scene,
)
from geoforest.train.check import SPLITS, check_data


@pytest.fixture(scope="module")
def scene():
    return make_scene(7, (700, 900))


def test_a_seed_decides_everything(scene):
    again, other = make_scene(7, (700, 900)), make_scene(8, (700, 900))
    assert (again.dn == scene.dn).all()
    assert (again.truth == scene.truth).all()
    assert (other.truth != scene.truth).mean() > 0.1


def test_states_and_values(scene):
    assert scene.dn.dtype == np.uint16
    assert scene.dn.shape == (4, 700, 900)
    beyond = (scene.dn == 0).any(axis=0)
    assert (beyond == (scene.dn == 0).all(axis=0)).all()
    assert 0.03 < beyond.mean() < 0.12
    assert (scene.truth[beyond] == 255).all()
    shares = {code: (scene.truth == code).mean() for code in (0, 1, 255)}
    assert sum(shares.values()) == pytest.approx(1)
    assert shares[1] > 0.3
    assert shares[0] > 0.15


def test_spectra_are_those_of_their_cover(scene):
    red, green, blue, nir = scene.dn.astype(float)
    forest, other = scene.truth == 1, scene.truth == 0
    assert 100 < red[forest].mean() < 300 < red[other].mean()
    assert 2800 < nir[forest].mean() < 3600
    assert blue[forest].mean() < green[forest].mean()
    ndvi = (nir[forest] - red[forest]) / (nir[forest] + red[forest])
    assert ndvi.mean() > 0.8


@pytest.mark.parametrize("shape", [(256, 256), (300, 777)])
def test_other_shapes(shape):
    assert make_scene(1, shape).truth.shape == shape


def test_too_small():
    with pytest.raises(ValueError, match="at least 256"):
        make_scene(1, (255, 400))


def test_the_file_says_that_it_is_synthetic(scene, tmp_path):
    path = tmp_path / "scene.tif"
    write_scene(scene, path)
    with rasterio.open(path) as source:
        assert source.tags()["SYNTHETIC"] == "YES"
        assert source.crs == scene.crs
        assert source.transform == scene.transform
        assert (source.read() == scene.dn).all()
    assert open_scene(path, wanted=BANDS).acquired == ACQUIRED


def test_chips_are_clear():
    images, masks = make_chips(3, 5, 128)
    assert images.shape == (5, 4, 128, 128)
    assert (images > 0).all()
    assert set(np.unique(masks)) == {0, 1}


def test_written_chips_can_be_trained_on(tmp_path):
    for seed, split in enumerate(("train", "validation", "test")):
        write_chips(tmp_path / split, seed=seed, n_chips=3, side=64)
    check = check_data(tmp_path)
    assert not check.findings
    assert {name: count.chips for name, count in check.splits.items()} == dict.fromkeys(SPLITS, 3)
