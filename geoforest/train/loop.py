"""The training loop: PyTorch Lightning, with checkpoints from which a killed run goes on."""

from __future__ import annotations

import logging
import math
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from torch.utils.data import DataLoader

from geoforest.compute.machine import usable_cores
from geoforest.errors import GeoforestError
from geoforest.train.augmentation import ChipDataset, EpochSampler, Sample
from geoforest.train.module import SegmentationModule
from geoforest.train.resume import BEST_NAME, LAST_NAME
from geoforest.types import NO_OBSERVATION

if TYPE_CHECKING:
    from geoforest.arrays.reflectance import BandStatistics
    from geoforest.train.chips import Chip
    from geoforest.train.settings import TrainSettings

_MAX_WORKERS = 8


class Epoch(TypedDict):
    """Losses of one epoch, and the learning rate at its end.

    ``train_loss`` is the mean over the chips of their batches' losses, while the weights moved;
    ``val_loss`` is the loss of all validation pixels at once.
    """

    epoch: int
    train_loss: float
    val_loss: float
    learning_rate: float


OnEpoch = Callable[[Epoch], None]
"""Told of each epoch as it ends; an epoch that an earlier run finished is not told again."""


def fit(
    network: torch.nn.Module,
    chips: Mapping[str, Sequence[Chip]],
    statistics: BandStatistics,
    settings: TrainSettings,
    folder: Path,
    on_epoch: OnEpoch,
) -> list[Epoch]:
    """Train ``network`` in place and leave the weights of the best epoch in it.

    Parameters
    ----------
    network
        Gives logits.
    chips
        By split, ``train`` and ``validation``; all of one shape.
    statistics
        Of the training chips.
    settings
        How to train.
    folder
        For checkpoints; where one is there already, training goes on from it.
    on_epoch
        Told of each epoch.

    Returns
    -------
    list of Epoch
        All epochs, those of earlier runs included.

    Raises
    ------
    GeoforestError
        When the training diverged: no epoch has a validation loss. The last checkpoint is removed.
    """
    pl.seed_everything(settings.seed, workers=True, verbose=False)
    module = SegmentationModule(
        network,
        loss=settings.loss,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        schedule=settings.schedule,
        freeze_encoder=settings.freeze_encoder,
        encoder_bn=settings.encoder_bn,
    )
    last = folder / LAST_NAME
    history = _History(settings.seed, on_epoch, last)
    if not _is_over(history.epochs, settings):
        _train(module, chips, statistics, settings, folder, history)
        if settings.devices > 1:
            # The epochs were counted in other processes: the checkpoint has them.
            history.restore(last)
            history.tell()
    if not any(np.isfinite(epoch["val_loss"]) for epoch in history.epochs):
        # Going on from here would help nobody.
        last.unlink()
        raise GeoforestError(
            "training diverged: the validation loss was no number after any epoch; a lower "
            f"learning rate than {settings.learning_rate:g} or clipped gradients may help"
        )
    module.load_state_dict(_checkpoint(folder / BEST_NAME)["state_dict"])
    return history.epochs


def _is_over(epochs: Sequence[Epoch], settings: TrainSettings) -> bool:
    """Whether a training ended with these epochs, of its own accord or early.

    A run may have been killed after its last epoch: training again would be one epoch too many.
    The rule of early stopping is Lightning's.
    """
    if len(epochs) >= settings.epochs:
        return True
    if not epochs or not settings.patience:
        return False
    losses = [epoch["val_loss"] for epoch in epochs]
    since_best = len(losses) - 1 - int(np.argmin(losses))
    return since_best >= settings.patience or not np.isfinite(losses[-1])


def _train(
    module: SegmentationModule,
    chips: Mapping[str, Sequence[Chip]],
    statistics: BandStatistics,
    settings: TrainSettings,
    folder: Path,
    history: _History,
) -> None:
    """Train from the last checkpoint on, or from the start."""
    last = folder / LAST_NAME
    first_epoch = len(history.epochs)
    train, validation = (
        _loader(split, chips[split], statistics, settings, first_epoch)
        for split in ("train", "validation")
    )
    with _quiet():
        trainer = _trainer(settings, folder, history)
        with _interruptible(trainer):
            trainer.fit(
                module,
                train,
                validation,
                ckpt_path=str(last) if last.exists() else None,
                weights_only=True,
            )


def _loader(
    split: str,
    chips: Sequence[Chip],
    statistics: BandStatistics,
    settings: TrainSettings,
    first_epoch: int = 0,
) -> DataLoader[Sample]:
    training = split == "train"
    dataset = ChipDataset(
        chips if training else _in_equal_shares(chips, settings.devices),
        mean=statistics.mean,
        std=statistics.std,
        augmentation=settings.augmentation if training else "none",
        seed=settings.seed,
    )
    workers = settings.workers
    on_gpu = torch.cuda.is_available()
    if workers is None:
        workers = min(_MAX_WORKERS, usable_cores()) if on_gpu else 0
    # Lightning begins to load before it tells the sampler of the epoch.
    sampler = EpochSampler(len(chips), seed=settings.seed, epoch=first_epoch) if training else None
    chips_a_device = math.ceil(len(chips) / settings.devices)
    return DataLoader(
        dataset,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=on_gpu,
        batch_size=settings.batch_size,
        sampler=sampler,
        # A last batch of one chip has no batch statistics.
        drop_last=training and chips_a_device > settings.batch_size,
    )


def _in_equal_shares(chips: Sequence[Chip], devices: int) -> list[Chip]:
    """Fill chips up with unlabelled ones, which count nothing, to as many on each device.

    Lightning would fill up with the first chips again, which would count twice.
    """
    unlabelled = replace(chips[0], mask=np.full_like(chips[0].mask, NO_OBSERVATION))
    return [*chips, *[unlabelled] * (-len(chips) % devices)]


def _trainer(settings: TrainSettings, folder: Path, history: _History) -> pl.Trainer:
    callbacks: list[pl.Callback] = [history, *_checkpoints(folder)]
    if settings.patience:
        callbacks.append(EarlyStopping("val_loss", patience=settings.patience))
    if settings.averaging is not None:
        callbacks.append(EMAWeightAveraging(decay=settings.averaging))
    return pl.Trainer(
        max_epochs=settings.epochs,
        accelerator="auto",
        devices=settings.devices,
        # Other processes than this one train on several devices: it lives on to save the model.
        strategy="ddp_spawn" if settings.devices > 1 else "auto",
        precision=settings.precision,
        accumulate_grad_batches=settings.accumulate,
        deterministic=settings.deterministic,
        gradient_clip_val=settings.gradient_clip,
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
    )


def _checkpoints(folder: Path) -> list[pl.Callback]:
    """Keep the best epoch and the last one, in this order, so that the last knows the best."""
    # Whole checkpoints, not weights alone: only there does Lightning put the averaged weights,
    # whose validation loss is the one monitored, in place of the current ones. At the end of an
    # epoch, when the history has it.
    return [
        ModelCheckpoint(
            folder,
            filename=Path(name).stem,
            monitor=monitor,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        for name, monitor in ((BEST_NAME, "val_loss"), (LAST_NAME, None))
    ]


class _History(pl.Callback):
    """Keeps the losses of each epoch, and makes each step's randomness its own.

    What a network draws by chance in training, such as paths to leave out, would otherwise depend
    on where a run was interrupted.
    """

    def __init__(self, seed: int, on_epoch: OnEpoch, checkpoint: Path) -> None:
        self.epochs: list[Epoch] = []
        self._seed = seed
        self._on_epoch: OnEpoch | None = on_epoch
        self.restore(checkpoint)
        self._told = len(self.epochs)

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        step = trainer.fit_loop.total_batch_idx
        torch.manual_seed(int(np.random.SeedSequence([self._seed, step]).generate_state(1)[0]))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = trainer.callback_metrics
        self.epochs.append(
            Epoch(
                epoch=trainer.current_epoch,
                train_loss=float(metrics["train_loss"]),
                val_loss=float(metrics["val_loss"]),
                learning_rate=float(trainer.optimizers[0].param_groups[0]["lr"]),
            )
        )
        self.tell()

    def restore(self, checkpoint: Path) -> None:
        """Take up the epochs of a checkpoint, where there is one."""
        if checkpoint.exists():
            self.load_state_dict(_checkpoint(checkpoint)["callbacks"][self.state_key])

    def tell(self) -> None:
        """Tell of the epochs that nobody was told of."""
        if self._on_epoch is not None:
            for epoch in self.epochs[self._told :]:
                self._on_epoch(epoch)
            self._told = len(self.epochs)

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": [dict(epoch) for epoch in self.epochs]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs = state_dict["epochs"]

    def __getstate__(self) -> dict[str, Any]:
        # Whoever listens does so in this process, not in those of other devices.
        return {**self.__dict__, "_on_epoch": None}


def _checkpoint(path: Path) -> dict[str, Any]:
    """Open a checkpoint; of its tensors only those that are used are read."""
    loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return loaded


@contextmanager
def _quiet() -> Iterator[None]:
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # How many there are is our own decision.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        # Of Lightning's own doing.
        warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*deprecated")
        # The checkpoints of this very training are what is wanted.
        warnings.filterwarnings("ignore", ".*Checkpoint directory .* exists and is not empty.*")
        yield


@contextmanager
def _interruptible(trainer: pl.Trainer) -> Iterator[None]:
    """Let Ctrl-C through as what it is; Lightning ends the process and ignores further ones."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        if not trainer.interrupted:
            raise
        signal.signal(signal.SIGINT, handler)
        print(file=sys.stderr)
        raise KeyboardInterrupt from None
