"""``geoforest train``: labelled chips to a model bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geoforest.cli._shared import (
    AsJson,
    Wandb,
    print_json,
    say,
    split_project,
    warnings_said,
)
from geoforest.errors import InputError

if TYPE_CHECKING:
    from geoforest.models.bundle import ModelCard
    from geoforest.train.loop import Epoch


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train", no_args_is_help=True)(train_command)


def train_command(
    data: Annotated[
        str,
        typer.Argument(
            help="Folder, local or s3://, with train/ and validation/, each images/ and masks/."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Bundle folder to make.")],
    encoder: Annotated[str, typer.Option(help="Any smp encoder.")] = "resnet50",
    architecture: Annotated[
        str, typer.Option(help="Unet, or UnetFullResolution with a skip from the image.")
    ] = "Unet",
    encoder_weights: Annotated[
        str, typer.Option(help="imagenet, none, or a .safetensors file.")
    ] = "imagenet",
    bands: Annotated[str, typer.Option(help="Bands of the chips, in order.")] = "B04,B03,B02,B08",
    epochs: Annotated[int, typer.Option(help="At most.")] = 60,
    batch_size: Annotated[int, typer.Option(help="Chips a step.")] = 8,
    accumulate: Annotated[int, typer.Option(help="Steps whose gradients are added up.")] = 1,
    learning_rate: Annotated[float, typer.Option(help="Of AdamW.")] = 1e-4,
    weight_decay: Annotated[float, typer.Option(help="Of AdamW.")] = 0.01,
    schedule: Annotated[str, typer.Option(help="constant, cosine or one-cycle.")] = "constant",
    gradient_clip: Annotated[
        float | None,
        typer.Option(help="Norm that the gradient of a step is cut down to; by default none."),
    ] = None,
    loss: Annotated[str, typer.Option(help="dice, or dice+bce.")] = "dice",
    augmentation: Annotated[
        str, typer.Option(help="none; d4: flips and quarter turns; strong; transpose.")
    ] = "d4",
    freeze_encoder: Annotated[
        bool, typer.Option("--freeze-encoder", help="Train the decoder only.")
    ] = False,
    encoder_bn: Annotated[
        str, typer.Option(help="Batch-norm statistics of the encoder: update or frozen.")
    ] = "update",
    patience: Annotated[
        int, typer.Option(help="Epochs without improvement of validation loss; 0 never stops.")
    ] = 5,
    averaging: Annotated[
        float | None, typer.Option(help="Decay, a step, of a moving average of the weights.")
    ] = None,
    precision: Annotated[str, typer.Option(help="32-true, bf16-mixed or 16-mixed.")] = "32-true",
    half: Annotated[bool, typer.Option("--half", help="Store weights as float16.")] = False,
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic", help="Refuse CUDA kernels that vary between runs."),
    ] = False,
    devices: Annotated[int, typer.Option(help="GPUs.")] = 1,
    workers: Annotated[
        int | None, typer.Option(help="Processes that load chips; by default as the device needs.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    window: Annotated[
        int, typer.Option(help="Pixels a side that the model is to map with, for its card.")
    ] = 512,
    scale: Annotated[float, typer.Option(help="Reflectance of the chips is DN x scale.")] = 1e-4,
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
    from geoforest.train.fit import train
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
        "bands": tuple(band.strip() for band in bands.split(",")),
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
    with warnings_said():
        card = train(data, out, on_epoch=say_epoch, tracker=tracker, **settings)
    if as_json:
        print_json({"out": str(out), **card.model_dump(mode="json")})
    else:
        print(f"{out}: threshold {card.threshold:g}, temperature {card.temperature:g}")
        print_metrics(card)


def say_epoch(epoch: Epoch) -> None:
    """Print the losses of an epoch, on stderr."""
    say(
        f"epoch {epoch['epoch'] + 1}: training loss {epoch['train_loss']:.4f}, "
        f"validation loss {epoch['val_loss']:.4f}"
    )


def print_metrics(card: ModelCard) -> None:
    """Print the scores of a card, one a line."""
    for name, value in card.metrics.items():
        print(f"  {name} {value:.4f}")
