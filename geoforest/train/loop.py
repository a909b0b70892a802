"""Training loop in PyTorch Lightning, with checkpoints from which a killed run resumes."""

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
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from torch.utils.data import DataLoader

from geoforest.compute.machine import usable_cores
from geoforest.errors import GeoforestError
from geoforest.train.augmentation import ChipDataset, EpochSampler, Sample
from geoforest.train.checkpoints import (
    BEST_NAME,
    LAST_NAME,
    CheckpointFiles,
    load_checkpoint,
    recover,
    remove_checkpoints,
)
from geoforest.train.loaders import batch_bytes, deaths_explained, require_shared_memory
from geoforest.train.module import SegmentationModule
from geoforest.types import NO_OBSERVATION

if TYPE_CHECKING:
    from geoforest.arrays.reflectance import BandStatistics
    from geoforest.train.chips import Chip
    from geoforest.train.settings import TrainSettings

_MAX_WORKERS = 8
# For one batch; a process that hangs would otherwise be waited for forever.
_LOADER_SECONDS = 300


class Epoch(TypedDict):
    """Losses of one epoch, and the learning rate at its end.

    ``train_loss`` is the mean over chips of their batches' losses, while the weights changed;
    ``val_loss`` is the loss of all validation pixels at once, and ``val_f1`` their F1 score of
    forest at a probability of 0.5. ``epoch`` counts from 0.
    """

    epoch: int
    train_loss: float
    val_loss: float
    val_f1: float
    learning_rate: float


OnEpoch = Callable[[Epoch], None]
"""Called with each epoch as it ends, but not with epochs that an earlier run finished."""


class Batch(NamedTuple):
    """How far a training is: ``done`` of the ``batches`` of an epoch, which counts from 0."""

    epoch: int
    epochs: int
    done: int
    batches: int

    @property
    def share(self) -> float:
        """Share of all epochs that is done, 0 to 1."""
        return (self.epoch + self.done / self.batches) / self.epochs


OnBatch = Callable[[Batch], None]
"""Called with each batch that has been trained on; not with several devices."""


def fit(
    network: torch.nn.Module,
    chips: Mapping[str, Sequence[Chip]],
    statistics: BandStatistics,
    settings: TrainSettings,
    folder: Path,
    on_epoch: OnEpoch,
    on_batch: OnBatch | None = None,
) -> list[Epoch]:
    """Train ``network`` in place and leave the weights of the best epoch in it.

    Parameters
    ----------
    network
        Returns logits ``(n, 1, row, col)``.
    chips
        Chips of ``train`` and ``validation``, all of one shape.
    statistics
        Mean and standard deviation per band of the training chips.
    settings
        Settings of the training.
    folder
        Folder of checkpoints; training resumes from one that is there.
    on_epoch
        Called with each epoch as it ends.
    on_batch
        Called with each batch.

    Returns
    -------
    list of Epoch
        All epochs, those of earlier runs included.

    Raises
    ------
    GeoforestError
        When the training diverged: no validation loss is finite. The checkpoints are removed.
        Or when a process that loads chips died; checkpoints are kept.
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
    recover(folder, _History.__qualname__)
    history = _History(settings.seed, on_epoch, last, on_batch)
    if not _is_over(history.epochs, settings):
        _train(module, chips, statistics, settings, folder, history)
        if settings.devices > 1:
            # Other processes counted the epochs: the checkpoint has them.
            history.restore(last)
            history.report()
    if not any(np.isfinite(epoch["val_loss"]) for epoch in history.epochs):
        # A run that resumed from them would diverge again.
        remove_checkpoints(folder)
        raise GeoforestError(
            "training diverged: the validation loss was no number after any epoch; a lower "
            f"learning rate than {settings.learning_rate:g} or clipped gradients may help"
        )
    module.load_state_dict(load_checkpoint(folder / BEST_NAME)["state_dict"])
    return history.epochs


def _is_over(epochs: Sequence[Epoch], settings: TrainSettings) -> bool:
    """Return whether a training is complete with these epochs, or stopped early.

    A run may have been killed after its last epoch: resuming would train one epoch too many. The
    rule is that of Lightning's early stopping.
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
    """Train from the last checkpoint, or from the start."""
    last = folder / LAST_NAME
    first_epoch = len(history.epochs)
    train, validation = (
        _loader(split, chips[split], statistics, settings, first_epoch)
        for split in ("train", "validation")
    )
    require_shared_memory(train.num_workers * settings.devices, batch_bytes(chips, settings))
    with _silenced_lightning():
        trainer = _trainer(settings, folder, history)
        with _interruptible(trainer), deaths_explained(), _loaders_answer():
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
    # Lightning starts loading before it sets the sampler's epoch.
    sampler = EpochSampler(len(chips), seed=settings.seed, epoch=first_epoch) if training else None
    chips_per_device = math.ceil(len(chips) / settings.devices)
    return DataLoader(
        dataset,
        num_workers=workers,
        persistent_workers=workers > 0,
        timeout=_LOADER_SECONDS if workers else 0,
        pin_memory=on_gpu,
        batch_size=settings.batch_size,
        sampler=sampler,
        # A last batch may be a single chip, which has no batch statistics.
        drop_last=training and chips_per_device > settings.batch_size,
    )


def _in_equal_shares(chips: Sequence[Chip], devices: int) -> list[Chip]:
    """Return the chips, padded with unlabelled ones to equal numbers per device.

    Unlabelled chips do not count. Lightning would repeat the first chips, which would count twice.
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
        # Several devices train in processes of their own, and this one stays to save the model.
        strategy="ddp_spawn" if settings.devices > 1 else "auto",
        precision=settings.precision,
        accumulate_grad_batches=settings.accumulate,
        deterministic=settings.deterministic,
        gradient_clip_val=settings.gradient_clip,
        callbacks=callbacks,
        plugins=[CheckpointFiles()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
    )


def _checkpoints(folder: Path) -> list[pl.Callback]:
    """Build callbacks that keep the best epoch and the last, which then records the best."""
    # Whole checkpoints, not only weights: Lightning stores the averaged weights, which the
    # monitored validation loss belongs to, in whole checkpoints only. Saved at the end of the
    # training epoch, when the history has that epoch.
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
    """Losses of each epoch; it also seeds each step by its number.

    Otherwise random choices of the network, such as dropped paths, would depend on where a run
    was interrupted.
    """

    def __init__(
        self,
        seed: int,
        on_epoch: OnEpoch,
        checkpoint: Path,
        on_batch: OnBatch | None = None,
    ) -> None:
        self.epochs: list[Epoch] = []
        self._on_batch = on_batch
        self._seed = seed
        self._on_epoch: OnEpoch | None = on_epoch
        self.restore(checkpoint)
        self._n_reported = len(self.epochs)

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        step = trainer.fit_loop.total_batch_idx
        torch.manual_seed(int(np.random.SeedSequence([self._seed, step]).generate_state(1)[0]))

    def on_train_batch_end(
        self, trainer: pl.Trainer, _module: Any, _outputs: Any, _batch: Any, index: int
    ) -> None:
        if self._on_batch is not None:
            epochs, batches = trainer.max_epochs or 1, int(trainer.num_training_batches)
            self._on_batch(Batch(trainer.current_epoch, epochs, index + 1, batches))

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        metrics = trainer.callback_metrics
        self.epochs.append(
            Epoch(
                epoch=trainer.current_epoch,
                train_loss=float(metrics["train_loss"]),
                val_loss=float(metrics["val_loss"]),
                val_f1=float(metrics["val_f1"]),
                learning_rate=float(trainer.optimizers[0].param_groups[0]["lr"]),
            )
        )
        self.report()

    def restore(self, checkpoint: Path) -> None:
        """Load the epochs of a checkpoint, if it exists."""
        if checkpoint.exists():
            self.load_state_dict(load_checkpoint(checkpoint)["callbacks"][self.state_key])

    def report(self) -> None:
        """Call ``on_epoch`` for each epoch it has not seen yet."""
        if self._on_epoch is not None:
            for epoch in self.epochs[self._n_reported :]:
                self._on_epoch(epoch)
            self._n_reported = len(self.epochs)

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": [dict(epoch) for epoch in self.epochs]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs = state_dict["epochs"]

    def __getstate__(self) -> dict[str, Any]:
        # The callbacks belong to this process; those of other devices do not call them.
        return {**self.__dict__, "_on_epoch": None, "_on_batch": None}


@contextmanager
def _silenced_lightning() -> Iterator[None]:
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # The number of workers is chosen on purpose.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        # Lightning's own code causes it.
        warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*deprecated")
        # The checkpoints there are those that this training resumes from.
        warnings.filterwarnings("ignore", ".*Checkpoint directory .* exists and is not empty.*")
        yield


@contextmanager
def _loaders_answer() -> Iterator[None]:
    """Convert the timeout of a loader process to an error of ours."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader timed out" not in str(error):
            raise
        raise GeoforestError(
            f"a process that loads chips did not answer for {_LOADER_SECONDS} s; the same command "
            "goes on from the last epoch, and --workers 0 loads without other processes"
        ) from error


@contextmanager
def _interruptible(trainer: pl.Trainer) -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C; Lightning would exit and ignore further ones."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        if not trainer.interrupted:
            raise
        signal.signal(signal.SIGINT, handler)
        sys.stderr.write("\n")
        raise KeyboardInterrupt from None
