"""Training from end to end: chips in, a judged model bundle out."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from geoforest import __version__
from geoforest.errors import DataError, InputError, OutputError
from geoforest.models.bundle import Bundle, ModelCard, ThresholdPoint, save_bundle
from geoforest.models.unet import Architecture, build_unet
from geoforest.reflectance import BandStatistics
from geoforest.train.chips import Augmentation, Chip, ChipDataset, channel_statistics, read_split
from geoforest.train.evaluate import probability_histogram
from geoforest.train.metrics import DEFINITION, ProbabilityHistogram
from geoforest.types import PROBABILITY_STEPS

if TYPE_CHECKING:
    from geoforest.train.module import Loss, Schedule

_CURVE_STEP = PROBABILITY_STEPS // 50


def train(
    data: str | Path,
    out: str | Path,
    *,
    architecture: Architecture = "Unet",
    encoder: str = "resnet50",
    encoder_weights: str | None = "imagenet",
    bands: Sequence[str] = ("B04", "B03", "B02", "B08"),
    epochs: int = 60,
    batch_size: int = 8,
    learning_rate: float = 1e-4,
    weight_decay: float = 0.01,
    schedule: Schedule = "constant",
    loss: Loss = "dice",
    augmentation: Augmentation = "d4",
    freeze_encoder: bool = False,
    patience: int = 5,
    averaging: float | None = None,
    precision: str = "32-true",
    half: bool = False,
    seed: int = 0,
    name: str | None = None,
    window: int = 512,
    scale: float = 1e-4,
    about: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> ModelCard:
    """Train a U-Net, choose its threshold, judge it on validation, and save it as a bundle.

    Parameters
    ----------
    data
        Folder with ``train`` and ``validation``, each with ``images`` and ``masks``.
    out
        Bundle folder to make.
    architecture
        See :func:`geoforest.models.unet.build_unet`.
    encoder, encoder_weights
        An smp encoder; ``imagenet`` fetches its weights from their hub, a path names a
        ``.safetensors`` file with weights of the whole network or of its encoder, None is random.
    bands
        Of the chips, in order.
    epochs, batch_size, learning_rate, weight_decay, schedule, loss, freeze_encoder
        See :class:`geoforest.train.module.SegmentationModule`.
    augmentation
        See :class:`geoforest.train.chips.ChipDataset`.
    patience
        Stop after so many epochs without improvement of validation loss; 0 never stops early.
        The weights of the best epoch are kept.
    averaging
        Decay of an exponential moving average of the weights, a step; None takes the weights as
        they are.
    precision
        Of Lightning's trainer: ``32-true``, ``bf16-mixed`` ...
    half
        Store weights as float16. Threshold and metrics are of the weights as stored.
    seed
        Of weights, order and augmentation.
    name, window, about
        Of the card: ``about`` may give training_data, license and notes.
    scale
        Reflectance is ``dn * scale``.
    progress
        Show Lightning's bar.

    Returns
    -------
    ModelCard
        As saved.

    Raises
    ------
    DataError
        When the chips cannot be used.
    InputError
        When the encoder's weights cannot be had.
    """
    if Path(out).exists() and not (Path(out) / "model.json").is_file():
        raise OutputError(f"{out}: exists and is no model bundle; choose another name")
    chips = {
        split: read_split(data, split, n_bands=len(bands)) for split in ("train", "validation")
    }
    statistics = channel_statistics(chips["train"])
    _check_usable(data, chips, bands, statistics)
    import pytorch_lightning as pl

    pl.seed_everything(seed, workers=True, verbose=False)
    network = build_unet(encoder, len(bands), architecture)
    _load_initial(network, encoder, encoder_weights, len(bands))
    history = _fit(
        network,
        chips,
        work=Path(out),
        mean=statistics.mean,
        std=statistics.std,
        epochs=epochs,
        batch_size=batch_size,
        augmentation=augmentation,
        patience=patience,
        averaging=averaging,
        precision=precision,
        progress=progress,
        module={
            "loss": loss,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "schedule": schedule,
            "freeze_encoder": freeze_encoder,
        },
    )
    card = ModelCard(
        **(about or {}),
        name=name or Path(out).name,
        architecture=architecture,
        encoder=encoder,
        in_channels=len(bands),
        bands=tuple(bands),
        mean=tuple(statistics.mean.tolist()),
        std=tuple(statistics.std.tolist()),
        reflectance_scale=scale,
        window=window,
        metrics_definition=DEFINITION,
        seed=seed,
        versions={
            "geoforest": __version__,
            **{
                package: version(package)
                for package in ("torch", "segmentation-models-pytorch", "pytorch-lightning")
            },
        },
        created=datetime.now(UTC).date().isoformat(),
        training={
            "chips": {split: len(items) for split, items in chips.items()},
            "encoder_weights": Path(encoder_weights).name if encoder_weights else None,
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "schedule": schedule,
            "loss": loss,
            "augmentation": augmentation,
            "freeze_encoder": freeze_encoder,
            "patience": patience,
            "averaging": averaging,
            "precision": precision,
            "history": history,
        },
    )
    state_dict = network.state_dict()
    if half:
        state_dict = {
            key: value.half() if value.is_floating_point() else value
            for key, value in state_dict.items()
        }
    return judge(save_bundle(out, state_dict, card), chips["validation"], scale=scale).card


def judge(bundle: Bundle, chips: Sequence[Chip], *, scale: float = 1e-4) -> Bundle:
    """Choose the threshold of best F1 on chips, and save it with curve and metrics in the card."""
    from geoforest.models.torch_runtime import TorchPredictor

    histogram = probability_histogram(TorchPredictor(bundle), chips, scale=scale)
    threshold = histogram.best_threshold()
    card = bundle.card.model_copy(
        update={
            "threshold": threshold,
            "threshold_curve": tuple(_curve(histogram)),
            "metrics": {
                f"validation_{name}": value
                for name, value in histogram.at(round(threshold * PROBABILITY_STEPS))
                .scores()
                .items()
            },
        }
    )
    return save_bundle(bundle.path, bundle.state_dict(), card)


def _check_usable(
    data: str | Path,
    chips: Mapping[str, Sequence[Chip]],
    bands: Sequence[str],
    statistics: BandStatistics,
) -> None:
    """Find what would only fail after hours: shapes that make no batch, nothing to learn from."""
    for split, items in chips.items():
        shapes = sorted({chip.mask.shape for chip in items})
        if len(shapes) > 1:
            odd = next(chip.name for chip in items if chip.mask.shape == shapes[1])
            raise DataError(
                f"{Path(data) / split}: chips of several shapes ({shapes[0]}, and {shapes[1]} as "
                f"{odd}); one was wanted"
            )
        if not any(chip.valid.any() for chip in items):
            raise DataError(f"{Path(data) / split}/masks: not one labelled pixel (all are 255)")
    for band, mean, spread in zip(bands, statistics.mean, statistics.std, strict=True):
        # A constant has a spread of rounding errors only.
        if not spread > 1e-6 * abs(mean):
            raise DataError(f"{Path(data)}/train/images: band {band} has one value everywhere")


def _curve(histogram: ProbabilityHistogram) -> list[ThresholdPoint]:
    points = []
    for step in range(_CURVE_STEP, PROBABILITY_STEPS + 1, _CURVE_STEP):
        scores = histogram.at(step).scores()
        points.append(
            ThresholdPoint(
                threshold=step / PROBABILITY_STEPS,
                precision=scores["precision"],
                recall=scores["recall"],
                f1=scores["f1"],
            )
        )
    return points


def _load_initial(
    network: torch.nn.Module, encoder: str, weights: str | None, in_channels: int
) -> None:
    if weights is None:
        return
    if weights == "imagenet":
        import segmentation_models_pytorch as smp

        try:
            pretrained = smp.Unet(encoder, encoder_weights="imagenet", in_channels=in_channels)
        except Exception as error:  # the hub's client raises many kinds
            raise InputError(
                f"ImageNet weights of {encoder} cannot be fetched ({type(error).__name__}); "
                "give a .safetensors file, or none"
            ) from error
        network.load_state_dict(
            {f"encoder.{key}": value for key, value in pretrained.encoder.state_dict().items()},
            strict=False,
        )
        return
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        loaded = load_file(weights)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{weights}: not a safetensors file ({error})") from error
    expected = network.state_dict()
    fitting = {
        key: value
        for key, value in loaded.items()
        if key in expected and expected[key].shape == value.shape
    }
    if not any(key.startswith("encoder.") for key in fitting):
        raise InputError(f"{weights}: holds no weights of Unet({encoder!r})'s encoder")
    network.load_state_dict(fitting, strict=False)


def _fit(
    network: torch.nn.Module,
    chips: dict[str, list[Chip]],
    *,
    work: Path,
    mean: np.ndarray,
    std: np.ndarray,
    epochs: int,
    batch_size: int,
    augmentation: Augmentation,
    patience: int,
    averaging: float | None,
    precision: str,
    progress: bool,
    module: dict[str, Any],
) -> list[dict[str, float]]:
    """Train ``network`` in place and leave the best epoch's weights in it.

    Checkpoints, four times the weights in size, live in a temporary folder beside ``work``.
    """
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint

    from geoforest.train.module import LossHistory, SegmentationModule

    loaders = {
        split: DataLoader(
            ChipDataset(
                items,
                mean=mean,
                std=std,
                augmentation=augmentation if split == "train" else "none",
            ),
            batch_size=batch_size,
            shuffle=split == "train",
            # A last batch of one chip has no batch statistics.
            drop_last=split == "train" and len(items) > batch_size,
        )
        for split, items in chips.items()
    }
    history = LossHistory()
    work.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{work.name}.training-", dir=work.parent) as folder:
        # Whole checkpoints, not weights alone: only there does Lightning put the averaged weights,
        # whose validation loss is the one monitored, in place of the current ones.
        best = ModelCheckpoint(folder, monitor="val_loss", save_top_k=1)
        callbacks: list[pl.Callback] = [history, best]
        if patience:
            callbacks.append(EarlyStopping("val_loss", patience=patience))
        if averaging is not None:
            callbacks.append(EMAWeightAveraging(decay=averaging))
        logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
        with warnings.catch_warnings():
            # Chips are in memory: more loader processes would only copy them.
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            trainer = pl.Trainer(
                max_epochs=epochs,
                accelerator="auto",
                devices=1,
                precision=precision,  # type: ignore[arg-type]
                gradient_clip_val=1.0,
                callbacks=callbacks,
                logger=False,
                enable_progress_bar=progress,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                default_root_dir=folder,
            )
            lightning = SegmentationModule(network, **module)
            trainer.fit(lightning, loaders["train"], loaders["validation"])
        state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
        lightning.load_state_dict(state["state_dict"])
    return history.epochs
