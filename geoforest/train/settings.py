"""Settings of a training run, checked once at the edge of the program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

from pydantic import BaseModel, ConfigDict, Field, field_validator

from geoforest.models.architectures import Architecture, Encoder
from geoforest.train.descriptions import TRAIN_SETTINGS

if TYPE_CHECKING:
    from collections.abc import Sequence

Augmentation = Literal["none", "d4", "strong", "transpose"]
EncoderNorm = Literal["update", "frozen"]
Loss = Literal["dice", "dice+bce"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Schedule = Literal["constant", "cosine", "one-cycle"]


class TrainSettings(BaseModel):
    """Settings of the training of a U-Net. Unknown names are refused.

    Each field is an option of ``geoforest train``, a keyword of ``geoforest.train_model``,
    and a parameter that a sweep may vary.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    architecture: Architecture = Field(default="Unet", description=TRAIN_SETTINGS["architecture"])
    encoder: Encoder = Field(default="resnet50", description=TRAIN_SETTINGS["encoder"])
    encoder_weights: str | None = Field(
        default="imagenet", description=TRAIN_SETTINGS["encoder_weights"]
    )
    bands: tuple[str, ...] = Field(
        default=("B04", "B03", "B02", "B08"), min_length=1, description=TRAIN_SETTINGS["bands"]
    )
    epochs: int = Field(default=60, ge=1, description=TRAIN_SETTINGS["epochs"])
    batch_size: int = Field(default=8, ge=1, description=TRAIN_SETTINGS["batch_size"])
    accumulate: int = Field(default=1, ge=1, description=TRAIN_SETTINGS["accumulate"])
    learning_rate: float = Field(default=1e-4, gt=0, description=TRAIN_SETTINGS["learning_rate"])
    weight_decay: float = Field(default=0.01, ge=0, description=TRAIN_SETTINGS["weight_decay"])
    schedule: Schedule = Field(default="constant", description=TRAIN_SETTINGS["schedule"])
    gradient_clip: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description=TRAIN_SETTINGS["gradient_clip"]
    )
    loss: Loss = Field(default="dice", description=TRAIN_SETTINGS["loss"])
    augmentation: Augmentation = Field(default="d4", description=TRAIN_SETTINGS["augmentation"])
    freeze_encoder: bool = Field(default=False, description=TRAIN_SETTINGS["freeze_encoder"])
    encoder_bn: EncoderNorm = Field(default="update", description=TRAIN_SETTINGS["encoder_bn"])
    patience: int = Field(default=5, ge=0, description=TRAIN_SETTINGS["patience"])
    averaging: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description=TRAIN_SETTINGS["averaging"]
    )
    precision: Precision = Field(default="32-true", description=TRAIN_SETTINGS["precision"])
    half: bool = Field(default=False, description=TRAIN_SETTINGS["half"])
    deterministic: bool = Field(default=False, description=TRAIN_SETTINGS["deterministic"])
    devices: int = Field(default=1, ge=1, description=TRAIN_SETTINGS["devices"])
    workers: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description=TRAIN_SETTINGS["workers"]
    )
    # The largest seed that NumPy and Lightning take.
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description=TRAIN_SETTINGS["seed"])
    window: int = Field(default=512, ge=32, multiple_of=32, description=TRAIN_SETTINGS["window"])
    scale: float = Field(default=1e-4, gt=0, description=TRAIN_SETTINGS["scale"])

    @field_validator("encoder_weights")
    @classmethod
    def _none_is_a_word(cls, value: str | None) -> str | None:
        # A configuration file and the command line cannot pass None.
        return None if value == "none" else value


class TrainOptions(TypedDict, total=False):
    """Keywords of ``geoforest.train_model``, for type checkers: fields of :class:`TrainSettings`.

    Meanings are in :mod:`geoforest.train.descriptions`.
    """

    architecture: Architecture
    encoder: str
    encoder_weights: str | None
    bands: Sequence[str]
    epochs: int
    batch_size: int
    accumulate: int
    learning_rate: float
    weight_decay: float
    schedule: Schedule
    gradient_clip: float | None
    loss: Loss
    augmentation: Augmentation
    freeze_encoder: bool
    encoder_bn: EncoderNorm
    patience: int
    averaging: float | None
    precision: Precision
    half: bool
    deterministic: bool
    devices: int
    workers: int | None
    seed: int
    window: int
    scale: float
