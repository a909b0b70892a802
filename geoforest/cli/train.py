"""``geoforest train``: labelled chips to a model bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geoforest.cli._shared import AsJson, print_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train", no_args_is_help=True)(train_command)


def train_command(
    data: Annotated[
        Path, typer.Argument(help="Folder with train/ and validation/, each images/ and masks/.")
    ],
    out: Annotated[Path, typer.Option(help="Bundle folder to make.")],
    encoder: Annotated[str, typer.Option(help="Any smp encoder.")] = "resnet50",
    encoder_weights: Annotated[
        str, typer.Option(help="imagenet, none, or a .safetensors file.")
    ] = "imagenet",
    bands: Annotated[str, typer.Option(help="Bands of the chips, in order.")] = "B04,B03,B02,B08",
    epochs: Annotated[int, typer.Option(help="At most.")] = 60,
    batch_size: Annotated[int, typer.Option(help="Chips a step.")] = 8,
    learning_rate: Annotated[float, typer.Option(help="Of AdamW.")] = 1e-4,
    freeze_encoder: Annotated[bool, typer.Option(help="Train the decoder only.")] = False,
    patience: Annotated[
        int, typer.Option(help="Epochs without improvement of validation loss; 0 never stops.")
    ] = 5,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Train a U-Net on labelled chips and save it as a bundle.

    **Example:** `geoforest train data/amazon --out models/amazon --encoder se_resnet50`
    """
    from geoforest.train.fit import train

    card = train(
        data,
        out,
        encoder=encoder,
        encoder_weights=None if encoder_weights == "none" else encoder_weights,
        bands=tuple(band.strip() for band in bands.split(",")),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        freeze_encoder=freeze_encoder,
        patience=patience,
        seed=seed,
    )
    if as_json:
        print_json({"out": str(out), **card.model_dump(mode="json")})
    else:
        print(f"{out}: threshold {card.threshold:g}")
        for name, value in card.metrics.items():
            print(f"  {name} {value:.4f}")
