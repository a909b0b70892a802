"""Make the starter bundle again: ``python workflows/train_starter.py DATA --out BUNDLE``.

Initial weights are a U-Net that DLR trained to find clouds in four-band Sentinel-2 scenes, from
the PyPI package ukis-csmask (Apache-2.0): an encoder that has seen red, green, blue and near
infrared at 10 m. All of it is then trained on DATA. Needs ``pip install geoforest[starter]``.
"""

from __future__ import annotations

import argparse
import tempfile
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from safetensors.torch import save_file

from geoforest.train.fit import train

ENCODER = "efficientnet-b4"
# The package's bands are blue, green, red, near infrared.
BAND_ORDER = [2, 1, 0, 3]

ABOUT = {
    "training_data": (
        "260 chips of 256 x 256 px at 10 m, four bands, Sentinel-2 L2A, Europe; forest is "
        "broadleaf and coniferous tree cover of S2GLC 2017; a subset of the 2021 Preligens "
        "land-cover challenge. The labels come without a stated licence."
    ),
    "license": "MIT for the weights; begun from ukis-csmask 1.0.0 (Apache-2.0)",
    "notes": (
        "A starter, not an Amazon product: it was trained on European labels of unstated licence, "
        "to make the tool usable out of the box. Train on labels of your own region before you "
        "trust its hectares. Threshold and metrics are of the 54 validation chips, in one pass, "
        "without test-time augmentation; the best NDVI threshold with a green cut, chosen on the "
        "same chips, has F1 0.852."
    ),
}


def initial_weights(path: Path) -> None:
    """Write encoder and decoder of the cloud network as safetensors, bands in our order."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with train/ and validation/")
    parser.add_argument("--out", type=Path, required=True, help="bundle folder to make")
    parser.add_argument("--epochs", type=int, default=30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder) / "ukis-csmask-1.0.0.safetensors"
        initial_weights(start)
        card = train(
            arguments.data,
            arguments.out,
            architecture="UnetFullResolution",
            encoder=ENCODER,
            encoder_weights=str(start),
            epochs=arguments.epochs,
            batch_size=8,
            learning_rate=6e-4,
            schedule="one-cycle",
            loss="dice+bce",
            augmentation="d4",
            patience=0,
            averaging=0.99,
            precision="bf16-mixed",
            half=True,
            seed=20,
            name="geoforest-starter",
            about=ABOUT,
            progress=True,
        )
    for name, value in card.metrics.items():
        print(f"{name} {value:.4f}")
    print(f"threshold {card.threshold:g}")


if __name__ == "__main__":
    main()
