"""Clouds by the network of ukis-csmask: what it sees, and that no shard shows in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

import geoforest
from geoforest.arrays.clouds import CLEAR, CLOUD
from geoforest.arrays.grid import Window
from geoforest.errors import InputError
from geoforest.scenes.clouds.ukis import open_csmask
from geoforest.scenes.open import open_scene
from geoforest.scenes.synthetic import make_scene, write_scene
from geoforest.types import NO_OBSERVATION
from tests.helpers.synthetic import BANDS, load_local_predictor

SHAPE = (850, 790)


def test_without_the_extra_it_is_named(scene_path, tmp_path, tiny_bundle, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r'pip install "geoforest\[clouds\]"'):
        geoforest.map_scene(
            scene_path, tmp_path / "out", model=str(tiny_bundle.path), halo=8, cloud_mask="ukis"
        )
    assert not (tmp_path / "out").exists()


def test_a_band_it_needs_and_the_model_does_not(scene_path):
    scene = open_scene(scene_path, wanted=BANDS[:3], bands=(1, 2, 3))
    with pytest.raises(InputError, match="without B08"):
        open_csmask(scene)


@pytest.fixture(scope="module")
def cloudy(tmp_path_factory) -> Path:
    """A synthetic scene with clouds, their shadows, and a swath's edge."""
    pytest.importorskip("onnxruntime")
    path = tmp_path_factory.mktemp("cloudy") / "scene.tif"
    write_scene(make_scene(3, SHAPE), path)
    return path


def test_every_window_of_a_scene_gets_the_same_answer(cloudy):
    network = open_csmask(open_scene(cloudy, wanted=BANDS))
    assert network.factor == 3
    whole = network.read_codes(Window(0, 0, *SHAPE))
    assert set(np.unique(whole)) == {CLEAR, CLOUD}
    # Windows that begin and end inside of squares, and at the edges of the network's cores.
    for window in (Window(100, 200, 331, 77), Window(575, 0, 275, 790), Window(849, 789, 1, 1)):
        assert (network.read_codes(window) == whole[window.slices]).all()


def test_it_sees_what_the_package_sees(cloudy):
    from ukis_csmask.mask import CSmask

    with rasterio.open(cloudy) as source:
        dn = source.read()
    rows, cols = (side // 3 * 3 for side in SHAPE)
    squares = dn[:, :rows, :cols].reshape(4, rows // 3, 3, cols // 3, 3).mean(axis=(2, 4)) * 1e-4
    theirs = CSmask(
        np.moveaxis(squares, 0, -1).astype(np.float32),
        band_order=["red", "green", "blue", "nir"],
        product_level="l2a",
        providers=["CPUExecutionProvider"],
    ).csm[..., 0]
    ours = open_csmask(open_scene(cloudy, wanted=BANDS)).read_codes(Window(0, 0, rows, cols))[
        1::3, 1::3
    ]
    seen = (dn != 0).all(axis=0)[:rows, :cols].reshape(rows // 3, 3, cols // 3, 3).all(axis=(1, 3))
    assert ((theirs > 0) & seen).mean() > 0.01
    assert ((ours == CLOUD) == (theirs > 0))[seen].mean() > 0.99


def test_clouds_of_the_network_are_masked_the_same_for_every_shard_size(
    cloudy, tmp_path, tiny_bundle
):
    made = [
        geoforest.map_scene(
            cloudy,
            tmp_path / str(shard),
            model=str(tiny_bundle.path),
            load_predictor=load_local_predictor,
            window=128,
            halo=8,
            shard=shard,
            cloud_mask="ukis",
            products=frozenset({"mask"}),
        )
        for shard in (336, 1000)
    ]
    assert made[0].mask.read_bytes() == made[1].mask.read_bytes()
    assert made[0].summary["cloud_mask"]["by"] == "ukis"
    with rasterio.open(made[0].mask) as source:
        unobserved = source.read(1) == NO_OBSERVATION
    network = open_csmask(open_scene(cloudy, wanted=BANDS))
    assert unobserved[network.read_codes(Window(0, 0, *SHAPE)) == CLOUD].all()
    assert made[0].summary["cloud_masked_percent"] > 0
