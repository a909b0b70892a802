"""Train the starter bundle again: ``python scripts/train_starter.py DATA --out BUNDLE``.

Initial weights are those of a U-Net that DLR trained to find clouds in four-band Sentinel-2
scenes, from the PyPI package ukis-csmask (Apache-2.0): its encoder was trained on red, green, blue
and near infrared at 10 m. All weights are then trained on DATA in two stages. The first uses flips
and turns, and learns what forest looks like. The second flips chips about the main diagonal only,
and so learns where the labels put the edge of forest: in this set they lie about half a pixel up
and left of their images. Both change brightness and paste rectangles of other chips, so that the
model copes with other light and other landscapes. Needs ``pip install geoforest[starter]``; on two
CPU cores it takes about 50 minutes.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from importlib.metadata import files as package_files
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from safetensors.torch import save_file

from geoforest.io.storage import write_durably
from geoforest.models.bundle import CARD_NAME, ModelCard, load_bundle
from geoforest.train.fit import train_model

ENCODER = "efficientnet-b4"
STAGES: tuple[dict[str, Any], ...] = (
    {
        "epochs": 30,
        "learning_rate": 6e-4,
        "weight_decay": 0.01,
        "augmentation": "strong",
        "averaging": 0.99,
        "seed": 20,
    },
    {
        "epochs": 14,
        "learning_rate": 4e-4,
        "weight_decay": 0.02,
        "augmentation": "transpose",
        "averaging": 0.99,
        "seed": 22,
    },
)
# Red, green, blue, near infrared; the package's bands are blue, green, red, near infrared.
BAND_ORDER = [2, 1, 0, 3]

ABOUT = {
    "training_data": (
        "260 chips of 256 x 256 px at 10 m, four bands, Sentinel-2 L2A, Europe; forest is "
        "broadleaf and coniferous tree cover of S2GLC 2017; a subset of the 2021 Preligens "
        "land-cover challenge. The labels come without a stated licence."
    ),
    "license": (
        "Apache-2.0 (LICENSE.txt beside this file): weights changed from those of ukis-csmask "
        "1.0.0, German Aerospace Center (DLR), Apache-2.0. The training labels state no licence."
    ),
    "notes": (
        "A starter, not an Amazon product: it was trained on European labels of unstated licence, "
        "to make the tool usable out of the box. Train on labels of your own region before you "
        "trust its hectares: in a scene of Thailand and Laos it finds most stands of trees and "
        "takes some green fields for them, and on bytes stretched for display, which are no "
        "reflectance, it finds next to nothing. Epoch, threshold and metrics are all of the same "
        "54 validation chips, in one pass, without test-time augmentation; the best NDVI threshold "
        "with a green cut, chosen on the same chips, has F1 0.852. Nine errors in ten lie within "
        "two pixels of a forest edge. The labels of this set lie about half a pixel (5 m) up and "
        "left of their images, and this model has learnt that: so does its mask. Tried before, F1 "
        "on the same chips: a plain U-Net 0.910; with the skip connection at full resolution and "
        "flips and turns, which keep the mask centred, 0.918 (0.922 once the labels' offset is "
        "taken out); the same with the offset taken out in training, 0.917 (0.923); a first stage "
        "without changes of brightness and pasted rectangles, then the second stage, 0.924, which "
        "found a third of the trees in the scene of Thailand and Laos."
    ),
}


def initial_weights(path: Path) -> None:
    """Write the weights of the cloud network as safetensors, with bands in our order."""
    model = onnx.load(str(files("ukis_csmask") / "model_4b_l2a.onnx"))
    weights = {
        tensor.name.removeprefix("model."): torch.from_numpy(
            np.array(numpy_helper.to_array(tensor))
        )
        for tensor in model.graph.initializer
        if tensor.name.startswith(("model.encoder.", "model.decoder."))
    }
    stem = "encoder._conv_stem.weight"
    weights[stem] = weights[stem][:, BAND_ORDER].contiguous()
    save_file(weights, path)


def finish(bundle: Path, first: ModelCard) -> None:
    """Add the first stage to the card, and the licence of the initial weights to the bundle."""
    opened = load_bundle(bundle)
    history = {"seed": first.seed, "metrics": first.metrics, **first.training}
    training = {**opened.card.training, "first_stage": history}
    card = opened.card.model_copy(update={"training": training})
    write_durably(bundle / CARD_NAME, (card.model_dump_json(indent=2) + "\n").encode())
    copy_license(bundle)


def copy_license(bundle: Path) -> None:
    """Copy the licence of the initial weights into the bundle, as the licence requires."""
    (license_file,) = (
        file for file in package_files("ukis-csmask") or [] if file.name == "LICENSE"
    )
    shutil.copyfile(license_file.locate(), bundle / "LICENSE.txt")


def train_stage(data: Path, out: Path, start: Path, stage: dict[str, Any]) -> ModelCard:
    """Train all weights, starting from those in ``start``."""
    return train_model(
        data,
        out,
        architecture="UnetFullResolution",
        encoder=ENCODER,
        encoder_weights=str(start),
        batch_size=8,
        schedule="one-cycle",
        gradient_clip=1.0,
        loss="dice+bce",
        patience=0,
        precision="bf16-mixed",
        half=True,
        name="geoforest-starter",
        about=ABOUT,
        on_epoch=lambda epoch: print(epoch, flush=True),
        **stage,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with train/ and validation/")
    parser.add_argument("--out", type=Path, required=True, help="bundle folder to make")
    parser.add_argument("--first-stage", type=Path, help="bundle of the first stage, if at hand")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        first = arguments.first_stage
        if first is None:
            first = Path(folder) / "first-stage"
            start = Path(folder) / "ukis-csmask-1.0.0.safetensors"
            initial_weights(start)
            report(train_stage(arguments.data, first, start, STAGES[0]))
        # The card names the file.
        weights = Path(folder) / "geoforest-starter-first-stage.safetensors"
        shutil.copyfile(first / "model.safetensors", weights)
        report(train_stage(arguments.data, arguments.out, weights, STAGES[1]))
        finish(arguments.out, load_bundle(first).card)


def report(card: ModelCard) -> None:
    for name, value in card.metrics.items():
        print(f"{name} {value:.4f}")
    print(f"threshold {card.threshold:g}", flush=True)


if __name__ == "__main__":
    main()
