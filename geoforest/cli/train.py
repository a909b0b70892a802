"""``geoforest train``: train a model bundle on labelled chips."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geoforest.cli._shared import (
    AsJson,
    Wandb,
    print_json,
    split_project,
    warnings_said,
    words,
)
from geoforest.cli._training import training_feedback
from geoforest.errors import InputError
from geoforest.train.descriptions import TRAIN_SETTINGS

if TYPE_CHECKING:
    from geoforest.models.bundle import ModelCard


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train", no_args_is_help=True)(train_command)


def _setting(name: str, *flags: str) -> Any:
    """Return the option of a setting, with the setting's description as help."""
    return typer.Option(*flags, help=TRAIN_SETTINGS[name])


def train_command(
    data: Annotated[
        str,
        typer.Argument(
            help="Folder, local or s3://, with train/ and validation/, each images/ and masks/."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Bundle folder to write.")],
    encoder: Annotated[str, _setting("encoder")] = "resnet50",
    architecture: Annotated[str, _setting("architecture")] = "Unet",
    encoder_weights: Annotated[str, _setting("encoder_weights")] = "imagenet",
    bands: Annotated[str, _setting("bands")] = "B04,B03,B02,B08",
    epochs: Annotated[int, _setting("epochs")] = 60,
    batch_size: Annotated[int, _setting("batch_size")] = 8,
    accumulate: Annotated[int, _setting("accumulate")] = 1,
    learning_rate: Annotated[float, _setting("learning_rate")] = 1e-4,
    weight_decay: Annotated[float, _setting("weight_decay")] = 0.01,
    schedule: Annotated[str, _setting("schedule")] = "constant",
    gradient_clip: Annotated[float | None, _setting("gradient_clip")] = None,
    loss: Annotated[str, _setting("loss")] = "dice",
    augmentation: Annotated[str, _setting("augmentation")] = "d4",
    freeze_encoder: Annotated[bool, _setting("freeze_encoder", "--freeze-encoder")] = False,
    encoder_bn: Annotated[str, _setting("encoder_bn")] = "update",
    patience: Annotated[int, _setting("patience")] = 5,
    averaging: Annotated[float | None, _setting("averaging")] = None,
    precision: Annotated[str, _setting("precision")] = "32-true",
    half: Annotated[bool, _setting("half", "--half")] = False,
    deterministic: Annotated[bool, _setting("deterministic", "--deterministic")] = False,
    devices: Annotated[int, _setting("devices")] = 1,
    workers: Annotated[int | None, _setting("workers")] = None,
    seed: Annotated[int, _setting("seed")] = 0,
    window: Annotated[int, _setting("window")] = 512,
    scale: Annotated[float, _setting("scale")] = 1e-4,
    wandb: Wandb = None,
    link: Annotated[
        str | None,
        typer.Option(
            metavar="COLLECTION",
            help="With --wandb: collection of a registry to link the model to, such as "
            "wandb-registry-model/forest.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a U-Net on labelled chips and save it as a bundle.

    A killed training goes on where it was when the same command is given again.

    **Example:** `geoforest train data/amazon --out models/amazon --encoder se_resnet50
    --freeze-encoder --batch-size 4`
    """
    from geoforest.train.fit import train_model
    from geoforest.train.tracking import WandbTracker

    tracker = None
    if wandb is not None:
        entity, project = split_project(wandb)
        tracker = WandbTracker(project, entity=entity, target=link)
    elif link is not None:
        raise InputError("--link: goes with --wandb ENTITY/PROJECT")
    settings: dict[str, Any] = {
        "encoder": encoder,
        "architecture": architecture,
        "encoder_weights": encoder_weights,
        "bands": words(bands),
        "epochs": epochs,
        "batch_size": batch_size,
        "accumulate": accumulate,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "schedule": schedule,
        "gradient_clip": gradient_clip,
        "loss": loss,
        "augmentation": augmentation,
        "freeze_encoder": freeze_encoder,
        "encoder_bn": encoder_bn,
        "patience": patience,
        "averaging": averaging,
        "precision": precision,
        "half": half,
        "deterministic": deterministic,
        "devices": devices,
        "workers": workers,
        "seed": seed,
        "window": window,
        "scale": scale,
    }
    with warnings_said(), training_feedback(epochs) as feedback:
        card = train_model(
            data,
            out,
            on_epoch=feedback.epoch,
            on_batch=feedback.batch,
            tracker=tracker,
            **settings,
        )
    if as_json:
        print_json({"out": str(out), **card.model_dump(mode="json")})
    else:
        print(f"{out}: threshold {card.threshold:g}, temperature {card.temperature:g}")
        print_metrics(card)


def print_metrics(card: ModelCard) -> None:
    """Print the scores of a card, one per line."""
    for name, value in card.metrics.items():
        print(f"  {name} {value:.4f}")
