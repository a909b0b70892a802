"""The starter bundle says what it must of itself, and its script begins where it says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from geoforest.models.registry import bundled_path, open_model
from geoforest.models.unet import build_unet

SCRIPT = Path(__file__).parents[2] / "scripts" / "train_starter.py"


def test_the_card_is_complete_and_frank():
    bundle = open_model()
    card = bundle.card
    assert sum(path.stat().st_size for path in bundled_path().iterdir()) < 45e6
    scores = {"f1", "iou", "precision", "recall", "accuracy"}
    assert card.metrics.keys() >= {
        f"validation_{aggregation}{score}"
        for aggregation in ("", "per_image_", "weighted_")
        for score in scores
    }
    assert card.metrics["validation_ece"] <= card.metrics["validation_ece_uncalibrated"]
    assert 0.9 < card.metrics["validation_f1"] < 1
    curve = {point.threshold: point.f1 for point in card.threshold_curve}
    assert max(curve.values()) <= card.metrics["validation_f1"] + 1e-9
    assert abs(max(curve, key=curve.__getitem__) - card.threshold) < 0.1
    for words in ("not an Amazon product", "unstated licence", "NDVI", "0.852"):
        assert words in card.notes
    assert "S2GLC" in card.training_data
    assert "Apache-2.0" in card.license
    assert (bundled_path() / "LICENSE.txt").read_text().lstrip().startswith("Apache License")
    assert card.seed is not None
    assert card.window == 512
    assert card.training["history"]
    assert {str(value.dtype) for value in bundle.state_dict().values()} == {
        "torch.float16",
        "torch.int64",
    }


@pytest.fixture(scope="module")
def script() -> ModuleType:
    for package in ("onnx", "ukis_csmask"):
        pytest.importorskip(package, reason="the initial weights come with geoforest[starter]")
    spec = importlib.util.spec_from_file_location("train_starter", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_initial_weights_fit_the_network_with_bands_in_our_order(script, tmp_path):
    script.initial_weights(tmp_path / "start.safetensors")
    weights = load_file(tmp_path / "start.safetensors")
    expected = build_unet(script.ENCODER, 4, "UnetFullResolution").state_dict()
    # Those of the encoder's unused head, and counters, are not in the file.
    absent = {k for k in expected if k.startswith(("encoder.", "decoder.")) and k not in weights}
    unused = ("encoder._conv_head.", "encoder._bn1.")
    assert all(k.startswith(unused) or "num_batches" in k for k in absent)
    assert all(expected[key].shape == value.shape for key, value in weights.items())
    stem = {
        tensor.name: torch.from_numpy(np.array(script.numpy_helper.to_array(tensor)))
        for tensor in script.onnx.load(
            str(script.files("ukis_csmask") / "model_4b_l2a.onnx")
        ).graph.initializer
        if "_conv_stem" in tensor.name
    }["model.encoder._conv_stem.weight"]
    # Blue, green, red, near infrared there; red, green, blue, near infrared here.
    ours = weights["encoder._conv_stem.weight"]
    assert torch.equal(ours[:, 0], stem[:, 2])
    assert torch.equal(ours[:, 2], stem[:, 0])
    assert torch.equal(ours[:, [1, 3]], stem[:, [1, 3]])


def test_the_licence_of_the_initial_weights_is_kept(script, tmp_path):
    script.copy_license(tmp_path)
    assert "Apache License" in (tmp_path / "LICENSE.txt").read_text()
