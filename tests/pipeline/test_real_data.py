"""The bundled starter on real data, where it is at hand."""

from __future__ import annotations

import geopandas
import numpy as np
import pytest
import rasterio

import geoforest
from geoforest.models.registry import open_model
from geoforest.models.torch_runtime import TorchPredictor
from geoforest.train.chips import read_split
from geoforest.train.evaluate import evaluate

pytestmark = [pytest.mark.real_data, pytest.mark.slow]


def test_the_card_of_the_starter_tells_the_truth(real_data):
    bundle = open_model()
    chips = read_split(real_data / "labelled" / "europe-rgbn", "validation", n_bands=4)
    scores = evaluate(TorchPredictor(bundle), chips).scores(bundle.card.threshold)
    for name, value in bundle.card.metrics.items():
        if name != "validation_ece_uncalibrated":
            assert value == pytest.approx(scores[name.removeprefix("validation_")], abs=2e-3)
    # The pixel baseline that makes a model worth its cost.
    assert scores["f1"] > 0.852 + 0.04


def test_a_real_scene_with_one_file_a_band(real_data, tmp_path):
    (folder,) = (real_data / "scenes" / "major-tom").iterdir()
    result = geoforest.map_scene(folder, tmp_path)
    summary = result.summary
    assert summary["acquired"] == "2020-02-23T03:27:39+00:00"
    assert summary["windows"] == 9
    assert summary["warnings"] == []
    with rasterio.open(folder / "B04.tif") as red, rasterio.open(folder / "B08.tif") as nir:
        r, n = red.read(1).astype(float), nir.read(1).astype(float)
    with rasterio.open(result.mask) as source:
        mask = source.read(1)
    ndvi = (n - r) / (n + r)
    assert ndvi[mask == 1].mean() > ndvi[mask == 0].mean() + 0.1
    frame = geopandas.read_file(result.polygons, layer="forest_cover")
    assert frame["n_pixels"].sum() == summary["polygons"]["polygon_px"]
    assert frame["patch_area_ha"].min() >= 0.5 * (1 - 1e-3)


def test_a_tropical_scene_in_bytes(real_data, tmp_path):
    scene = real_data / "scenes" / "mahakam-mangrove" / "scene.tif"
    result = geoforest.map_scene(scene, tmp_path, scale=(12e-4,), products=frozenset({"mask"}))
    with rasterio.open(scene) as source:
        # Its fourth band is tagged as alpha by GDAL, yet it is near infrared.
        unobserved = (source.read() == 0).any(axis=0)
    with rasterio.open(result.mask) as source:
        assert ((source.read(1) == 255) == unobserved).all()
    assert np.isclose(result.summary["observed_percent"], 100 * (1 - unobserved.mean()), atol=0.01)
    # Its windows show as squares, and the map says so.
    quality = result.summary["quality"]
    assert quality["seam_ratio"] > 1.5 * quality["seam_limit"]
    assert any("windows show as squares" in warning for warning in result.summary["warnings"])
