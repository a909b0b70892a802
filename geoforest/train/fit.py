"""Train a model from labelled chips to a bundle with threshold and scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from geoforest._version import __version__
from geoforest.arrays.scores import DEFINITION
from geoforest.errors import DataError, InputError, OutputError, checked
from geoforest.io.files import open_place, without_secrets
from geoforest.models.bundle import CARD_NAME, ModelCard, save_bundle
from geoforest.models.copies import save_copy
from geoforest.models.torch_runtime import best_device
from geoforest.scenes.coding import USUAL_SCALE
from geoforest.train.chips import (
    Chip,
    channel_statistics,
    raise_first_fault,
    read_split,
    refuse_labels,
    shape_px,
    split_faults,
    write_statistics,
)
from geoforest.train.initial import initial_network
from geoforest.train.loop import Epoch, OnBatch, OnEpoch, fit
from geoforest.train.resume import open_training, training_identity
from geoforest.train.settings import TrainOptions, TrainSettings
from geoforest.train.thresholds import fit_threshold
from geoforest.train.tracking import Tracker, tracked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from geoforest.arrays.reflectance import BandStatistics

STATISTICS_NAME = "channel_statistics.csv"


@dataclass(frozen=True, eq=False)
class TrainingChips:
    """Chips that were read and checked once, for any number of trainings.

    Attributes
    ----------
    data
        Folder or URL of the set.
    bands
        Names of the bands, in order.
    splits
        Chips of ``train`` and ``validation``.
    statistics
        Mean and standard deviation per band over labelled pixels of ``train``.
    scale
        Reflectance is number x scale.
    """

    data: str | Path
    bands: tuple[str, ...]
    splits: dict[str, list[Chip]]
    statistics: BandStatistics
    scale: float = USUAL_SCALE


def train_model(
    data: str | Path,
    out: str | Path,
    *,
    name: str | None = None,
    about: Mapping[str, Any] | None = None,
    on_epoch: OnEpoch = lambda _epoch: None,
    on_batch: OnBatch | None = None,
    tracker: Tracker | None = None,
    **settings: Unpack[TrainOptions],
) -> ModelCard:
    """Train a U-Net, choose its threshold, evaluate it on validation, and save it as a bundle.

    A killed training leaves its last checkpoint in a hidden folder beside ``out``; the same call
    resumes from it and ends with the same weights as a training that was not interrupted.

    Parameters
    ----------
    data
        Folder, local or on S3, with ``train`` and ``validation``, each with ``images`` and
        ``masks``.
    out
        Bundle folder to create, with weights, card and ``channel_statistics.csv``.
    name
        Name of the model; by default that of the folder.
    about
        Further fields of the card: ``training_data``, ``license``, ``notes``.
    on_epoch
        Called with each epoch as it ends.
    on_batch
        Called with each batch that has been trained on, as
        :class:`geoforest.train.loop.Batch`; not with several devices.
    tracker
        Records settings, epochs, scores and the bundle, as
        :class:`geoforest.train.tracking.WandbTracker` does.
    **settings
        Fields of :class:`geoforest.train.settings.TrainSettings`, such as ``encoder``,
        ``batch_size``, ``freeze_encoder``.

    Returns
    -------
    ModelCard
        Card of the saved bundle.

    Raises
    ------
    DataError
        When the chips cannot be used.
    InputError
        When a setting, the name or ``about`` cannot be used, or the encoder's weights cannot be
        loaded.
    OutputError
        When ``out`` exists and is not a bundle, or another run is training it.
    GeoforestError
        When the training diverged.
    """
    chosen = checked(TrainSettings, dict(settings))
    out = Path(out)
    # Checked before the chips are read, which may take minutes.
    _refuse_other_content(out)
    chips = read_chips(data, chosen.bands, chosen.scale)
    return train_chips(
        chips,
        out,
        chosen,
        name=name,
        about=about,
        on_epoch=on_epoch,
        on_batch=on_batch,
        tracker=tracker,
    )


def train_chips(
    chips: TrainingChips,
    out: Path,
    settings: TrainSettings,
    *,
    name: str | None = None,
    about: Mapping[str, Any] | None = None,
    on_epoch: OnEpoch = lambda _epoch: None,
    on_batch: OnBatch | None = None,
    tracker: Tracker | None = None,
) -> ModelCard:
    """Train on chips that were read before; otherwise as :func:`train`."""
    _refuse_other_content(out)
    _check_batches(chips.data, chips.splits["train"], settings)
    name = name or out.name
    # Made before the training, because it checks name and ``about``.
    card = _card_before_training(name, settings, chips.splits, chips.statistics, about or {})
    network = initial_network(settings)
    recorder = tracker or Tracker()

    def report(epoch: Epoch) -> None:
        recorder.log_epoch(epoch)
        on_epoch(epoch)

    with (
        open_training(out, training_identity(settings, chips.splits)) as work,
        tracked(recorder, settings.model_dump(mode="json"), name=name),
    ):
        history = fit(network, chips.splits, chips.statistics, settings, work, report, on_batch)
        card = _with_history(card, history)
        bundle = save_bundle(work / "bundle", _weights_to_store(network, half=settings.half), card)
        validation = chips.splits["validation"]
        card = fit_threshold(bundle, validation, scale=settings.scale, device=best_device())
        bundle = save_bundle(bundle.path, bundle.state_dict(), card)
        write_statistics(bundle.path / STATISTICS_NAME, settings.bands, chips.statistics)
        bundle = save_copy(bundle, out)
        # A tracker alone would show the loss of the last epoch, not of the best one.
        recorder.log_summary({"val_loss": lowest_loss(card), **card.metrics})
        recorder.log_bundle(bundle, name)
    return card


def read_chips(data: str | Path, bands: Sequence[str], scale: float = USUAL_SCALE) -> TrainingChips:
    """Read the chips of a training, and compute the statistics of its ``train`` split.

    Reflectance is number x scale.

    Raises
    ------
    DataError
        When no settings could train on the chips.
    """
    splits = {
        split: read_split(data, split, n_bands=len(bands), bands=bands, scale=scale)
        for split in ("train", "validation")
    }
    statistics = channel_statistics(splits["train"])
    _check_usable(data, splits, bands, statistics)
    return TrainingChips(data, tuple(bands), splits, statistics, scale)


def lowest_loss(card: ModelCard) -> float:
    """Return the validation loss of the epoch whose weights were kept."""
    losses = [epoch["val_loss"] for epoch in card.training["history"]]
    # None stands for a loss that was not finite.
    return min(float(loss) for loss in losses if loss is not None)


def _refuse_other_content(out: Path) -> None:
    if out.exists() and not (out / CARD_NAME).is_file():
        raise OutputError(f"{out}: exists and is no model bundle; choose another name")


def _weights_to_store(network: torch.nn.Module, *, half: bool) -> dict[str, torch.Tensor]:
    state_dict = network.state_dict()
    if not half:
        return state_dict
    return {
        key: value.half() if value.is_floating_point() else value
        for key, value in state_dict.items()
    }


def _card_before_training(
    name: str,
    settings: TrainSettings,
    chips: Mapping[str, Sequence[Chip]],
    statistics: BandStatistics,
    about: Mapping[str, Any],
) -> ModelCard:
    """Build the card of a model before its training, without history, threshold and metrics."""
    weights = settings.encoder_weights
    in_card = {"architecture", "encoder", "bands", "seed", "window", "scale", "workers"}
    fields = {
        "name": name,
        "architecture": settings.architecture,
        "encoder": settings.encoder,
        "in_channels": len(settings.bands),
        "bands": settings.bands,
        "mean": tuple(statistics.mean.tolist()),
        "std": tuple(statistics.std.tolist()),
        "reflectance_scale": settings.scale,
        "window": settings.window,
        "metrics_definition": DEFINITION,
        "seed": settings.seed,
        "versions": {
            "geoforest": __version__,
            **{
                package: version(package)
                for package in ("torch", "segmentation-models-pytorch", "pytorch-lightning")
            },
        },
        "created": datetime.now(UTC).date().isoformat(),
        "training": {
            **settings.model_dump(mode="json", exclude=in_card),
            "encoder_weights": Path(weights).name if weights else None,
            "chips": {split: len(items) for split, items in chips.items()},
        },
    }
    if twice := sorted(fields.keys() & about.keys()):
        raise InputError(f"{twice[0]}: the training sets it; it cannot stand in `about`")
    return checked(ModelCard, {**about, **fields})


def _with_history(card: ModelCard, history: Sequence[Epoch]) -> ModelCard:
    """Return the card with its epochs; losses that are not finite become None for JSON."""
    epochs = [
        {
            **epoch,
            "train_loss": _number_or_none(epoch["train_loss"]),
            "val_loss": _number_or_none(epoch["val_loss"]),
        }
        for epoch in history
    ]
    return card.model_copy(update={"training": {**card.training, "history": epochs}})


def _number_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _check_usable(
    data: str | Path,
    chips: Mapping[str, Sequence[Chip]],
    bands: Sequence[str],
    statistics: BandStatistics,
) -> None:
    """Refuse chips of unequal shapes or without usable labels before hours of training."""
    folder = open_place(data)
    for split, items in chips.items():
        shapes = ((shape_px(chip.mask), chip.name) for chip in items)
        raise_first_fault(split_faults(folder / split, shapes=shapes))
        refuse_labels(data, split, items)
    raise_first_fault(split_faults(folder / "train", bands=bands, statistics=statistics))


def _check_batches(data: str | Path, chips: Sequence[Chip], settings: TrainSettings) -> None:
    """Refuse batches that leave one value per channel at the deepest layer, for batch norm."""
    rows, cols = chips[0].mask.shape
    n_chips = min(settings.batch_size, math.ceil(len(chips) / settings.devices))
    if n_chips * rows * cols < 2 * 32 * 32:
        raise DataError(
            f"{without_secrets(str(data))}/train: batches of one chip of {rows} x {cols} px are "
            "too little for batch norm; larger batches, more chips or larger ones were wanted"
        )
