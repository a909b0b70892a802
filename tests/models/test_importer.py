"""Checkpoints as people have them become bundles, and what was done to them is said."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file

from geoforest.errors import BundleError, InputError
from geoforest.models.bundle import Bundle
from geoforest.models.importer import import_weights
from geoforest.models.torch_runtime import TorchPredictor
from geoforest.models.unet import build_unet
from tests.helpers import synthetic

ENCODER = "mobilenet_v2"
LAST = "takes 4 bands (B04, B03, B02, B08) and gives one class, forest"
BANDS = ["B04", "B03", "B02", "B08"]
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def weights() -> Tensors:
    torch.manual_seed(0)
    return build_unet(ENCODER, 4).state_dict()


def prefixed(prefix: str, weights: Tensors) -> Tensors:
    return {prefix + name: value for name, value in weights.items()}


def taken(path: Path, content: Any, **chosen: Any) -> tuple[Bundle, list[str]]:
    """Import what ``torch.save`` or safetensors writes; return the bundle and what was said."""
    (save_file if path.suffix == ".safetensors" else torch.save)(content, path)
    notes: list[str] = []
    bundle = import_weights(
        path,
        path.with_name("out"),
        **{
            "encoder": ENCODER,
            "bands": BANDS,
            "mean": [600.0, 600, 400, 2900],
            "std": [300.0, 300, 200, 600],
            "on_note": notes.append,
            **chosen,
        },
    )
    return bundle, notes


def refused(path: Path, content: Any, match: str, **chosen: Any) -> None:
    with pytest.raises(BundleError, match=match) as caught:
        taken(path, content, **chosen)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert not path.with_name("out").exists()


def lightning(weights: Tensors) -> dict[str, Any]:
    return {
        "epoch": 3,
        "pytorch-lightning_version": "2.1.0",
        "state_dict": {**prefixed("model.", weights), "criterion.pos_weight": torch.ones(1)},
        "hyper_parameters": {"lr": 1e-4},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []}],
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.1)}},
    }


def compiled_part(weights: Tensors) -> Tensors:
    return {
        name.replace("encoder.", "encoder._orig_mod."): value for name, value in weights.items()
    }


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.pt", dict, []),
        (
            "a.ckpt",
            lightning,
            [
                "takes 'state_dict' of the file",
                "strips 'model.' before the names",
                "drops what is no part of the network: criterion.pos_weight",
            ],
        ),
        (
            "a.pth",
            lambda w: {"model": {"state_dict": w}, "args": argparse.Namespace(lr=1), "best": 0.5},
            ["takes 'model.state_dict' of the file"],
        ),
        ("a.pt", lambda w: prefixed("module.", w), ["strips 'module.' before the names"]),
        (
            "a.safetensors",
            lambda w: prefixed("net._orig_mod.module.", w),
            ["strips 'net._orig_mod.module.' before the names"],
        ),
        ("a.pt", compiled_part, ["strips '_orig_mod.' before the names"]),
        (
            "a.pt",
            lambda w: {**w, "loss_fn.weight": torch.ones(2), "mean": torch.zeros(4)},
            ["drops what is no part of the network: loss_fn.weight, mean"],
        ),
        (
            "a.pt",
            lambda w: {**prefixed("module.", w), "n_averaged": torch.tensor(5)},
            [
                "strips 'module.' before the names",
                "drops what is no part of the network: n_averaged",
            ],
        ),
        (
            "a.pt",
            lambda w: {
                "ema_state_dict": {name: value + 1 for name, value in w.items()},
                "model_state_dict": w,
            },
            ["takes 'model_state_dict' of the file, not 'ema_state_dict'"],
        ),
        (
            "a.pt",
            lambda w: {name: value.double() for name, value in w.items()},
            ["weights of float64 are kept as float32"],
        ),
    ],
)
def test_weights_are_found_where_people_put_them(
    tmp_path, weights, name: str, content: Callable[[Tensors], Any], said: list[str]
):
    bundle, notes = taken(tmp_path / name, content(weights))
    assert notes == [*said, LAST]
    stored = bundle.state_dict()
    assert stored.keys() == weights.keys()
    assert all(torch.equal(stored[one].to(value.dtype), value) for one, value in weights.items())


def test_half_precision_is_kept_and_maps(tmp_path, weights):
    half = {n: v.half() if v.is_floating_point() else v for n, v in weights.items()}
    bundle, notes = taken(tmp_path / "a.pt", half)
    assert notes == ["weights of float16 are kept as float16", LAST]
    probability = TorchPredictor(bundle)(np.full((1, 4, 64, 64), 500, np.uint16))
    assert np.isfinite(probability).all()


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_no_numbers(tmp_path, weights, value):
    name = "decoder.blocks.1.conv1.0.weight"
    bad = {**weights, name: weights[name].clone()}
    bad[name][0, 0, 0, 0] = value
    refused(tmp_path / "a.pt", prefixed("model.", bad), f"{name} holds NaN or infinite values")


def of(architecture: str, encoder: str = ENCODER, **chosen: Any) -> Tensors:
    chosen = {"encoder_weights": None, "in_channels": 4, "classes": 1, **chosen}
    network: torch.nn.Module = getattr(smp, architecture)(encoder, **chosen)
    return network.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "match"),
    [
        (lambda: of("Unet", "mobilenet_v2", in_channels=6), "takes 6 bands, and 4 are named"),
        (lambda: of("Unet", classes=2), "it gives 2 classes, and one was wanted, forest$"),
        (lambda: of("Unet", in_channels=3, classes=5), "takes 3 bands.*; it gives 5 classes"),
        (lambda: of("Unet", "resnet18"), "it is a Unet of resnet18; give --encoder resnet18$"),
        (lambda: of("UnetPlusPlus"), "it is a UnetPlusPlus of mobilenet_v2, and a Unet was"),
        (lambda: prefixed("model.", of("FPN", "resnet18")), "it is a FPN of resnet18"),
        (lambda: build_unet(ENCODER, 4, "UnetFullResolution").state_dict(), "UnetFullResolution"),
        (lambda: of("Unet", decoder_channels=(128, 64, 32, 16, 8)), "tensors have another shape"),
        (lambda: {"inc.double_conv.0.weight": torch.zeros(8, 4, 3, 3)}, "not those of segmenta"),
        (lambda: {"epoch": 3}, "holds dict without tensors, a plain state dict was wanted"),
        (lambda: [torch.zeros(3)], "holds list without tensors"),
        (lambda: torch.nn.Conv2d(4, 1, 1), r"Conv2d, which could run code.*weights_only=False"),
    ],
)
def test_what_is_no_such_network_is_named(tmp_path, content, match):
    refused(tmp_path / "a.pt", content(), match)


def test_several_networks(tmp_path, weights):
    both = {**prefixed("student.", weights), **prefixed("teacher.", weights)}
    refused(tmp_path / "a.pt", both, "holds 2 networks, under 'student.' and 'teacher.'")
    refused(tmp_path / "a.pt", {"a": weights, "b": weights}, "holds 2 networks, under 'a' and 'b'")


def test_layers_beside_the_network_may_count(tmp_path, weights):
    content = {**prefixed("model.", weights), "refine.weight": torch.zeros(1, 1, 3, 3)}
    refused(tmp_path / "a.pt", content, r"1 tensor\(s\) beside the network.*refine\.weight")


def test_the_encoder_is_suggested(tmp_path, weights):
    with pytest.raises(InputError, match="give --encoder mobilenet_v2, which its tensors fit"):
        taken(tmp_path / "a.ckpt", lightning(weights), encoder=None)


def test_files_that_are_not_read(tmp_path):
    path = tmp_path / "large.pt"
    with path.open("wb") as handle:
        handle.truncate(1 << 42)
    wanted = {"bands": list(synthetic.BANDS), "mean": [1.0] * 4, "std": [1.0] * 4}
    with pytest.raises(BundleError, match="has more than"):
        import_weights(path, tmp_path / "out", encoder=ENCODER, **wanted)
    with pytest.raises(BundleError, match="is no regular file"):
        import_weights(tmp_path, tmp_path / "out", encoder=ENCODER, **wanted)
