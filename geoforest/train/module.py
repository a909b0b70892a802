"""Training and validation steps for PyTorch Lightning: U-Net, Dice loss, AdamW."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytorch_lightning as pl
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own idiom)
from torch.nn.modules.batchnorm import _BatchNorm
from torchmetrics import Metric

from geoforest.models.unet import decode, encoder_of
from geoforest.types import FOREST, NO_OBSERVATION

if TYPE_CHECKING:
    from geoforest.train.augmentation import Sample
    from geoforest.train.settings import EncoderNorm, Loss, Schedule

_SMOOTH: Final = 1e-6
# Limit of the cache of encoder features of validation chips.
_MAX_CACHED_BYTES: Final = 4 << 30


class SegmentationModule(pl.LightningModule):
    """Network that returns logits, trained on batches of ``(image, mask)``.

    Parameters
    ----------
    network
        Maps images ``(n, band, row, col)`` to logits ``(n, 1, row, col)``.
    loss
        ``dice``, or ``dice+bce``: the sum of Dice and binary cross-entropy. Both take logits;
        Dice's ``smooth`` is 1e-6. It is taken over all pixels of a batch in training, and over
        all pixels of the split in validation; see :class:`EpochLoss`.
    learning_rate, weight_decay
        Arguments of AdamW.
    schedule
        ``constant``; ``cosine`` down to 0 over the whole training; ``one-cycle`` over the whole
        training (Smith and Topin 2019).
    freeze_encoder
        Train the decoder only: no gradient passes through the encoder.
    encoder_bn
        ``update``: batch-norm layers of the encoder use and update batch statistics in training,
        even in a frozen encoder, as in the reference system. ``frozen``: they keep their initial
        statistics. With a frozen encoder and frozen statistics, the features of a validation chip
        are the same in every epoch and computed once.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        *,
        loss: Loss = "dice",
        learning_rate: float = 1e-4,
        weight_decay: float = 0.01,
        schedule: Schedule = "constant",
        freeze_encoder: bool = False,
        encoder_bn: EncoderNorm = "update",
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self._loss = loss
        self._learning_rate = learning_rate
        self._weight_decay = weight_decay
        self._schedule = schedule
        self._encoder_bn = encoder_bn
        self._dice = smp.losses.DiceLoss(
            "binary", from_logits=True, smooth=_SMOOTH, ignore_index=NO_OBSERVATION
        )
        self.validation_loss = EpochLoss(loss)
        self.validation_f1 = EpochF1()
        self._features = _FeatureCache()
        self._features_are_constant = freeze_encoder and encoder_bn == "frozen"
        if freeze_encoder:
            encoder_of(network).requires_grad_(False)

    def train(self, mode: bool = True) -> SegmentationModule:
        """Set training mode, in which frozen batch norm stays in evaluation mode."""
        super().train(mode)
        if self._encoder_bn == "frozen":
            for layer in encoder_of(self.network).modules():
                if isinstance(layer, _BatchNorm):
                    layer.eval()
        return self

    def on_train_start(self) -> None:
        """Set training mode, because Lightning leaves each layer in its current mode."""
        self.train()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute logits ``(n, 1, row, col)``, float32."""
        logits: torch.Tensor = self.network(images.contiguous(memory_format=torch.channels_last))
        return logits.float()

    def training_step(self, batch: Sample, _: int) -> torch.Tensor:
        """Compute and log the loss of a training batch."""
        images, masks = batch
        loss = self.loss(self(images), masks)
        # Lightning averages over the chips of an epoch, on all devices.
        self.log(
            "train_loss", loss, on_step=False, on_epoch=True, batch_size=len(images), sync_dist=True
        )
        return loss

    def validation_step(self, batch: Sample, index: int) -> None:
        """Add a batch to the validation loss."""
        images, masks = batch
        if self._features_are_constant:
            features = self._features.get(index)
            if features is None:
                encoder = encoder_of(self.network)
                features = encoder(images.contiguous(memory_format=torch.channels_last))
                self._features.keep(index, features)
            logits = decode(self.network, images, features).float()
        else:
            logits = self(images)
        self.validation_loss.update(logits, masks)
        self.validation_f1.update(logits, masks)
        self.log("val_loss", self.validation_loss, on_step=False, on_epoch=True)
        self.log("val_f1", self.validation_f1, on_step=False, on_epoch=True)

    def loss(self, logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Compute the loss of logits ``(n, 1, row, col)``; pixels of mask code 255 do not count."""
        loss: torch.Tensor = self._dice(logits, masks[:, None].long())
        if self._loss == "dice+bce":
            labelled = masks != NO_OBSERVATION
            loss = loss + _entropy(logits, masks, labelled) / labelled.sum().clamp(min=1)
        return loss

    def configure_optimizers(self) -> Any:
        """Build AdamW for the trainable parameters, and the schedule."""
        trained = [p for p in self.network.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            trained, lr=self._learning_rate, weight_decay=self._weight_decay
        )
        if self._schedule == "constant":
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        schedule: torch.optim.lr_scheduler.LRScheduler
        if self._schedule == "cosine":
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        else:
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimizer, self._learning_rate, total_steps=steps, pct_start=0.15
            )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class EpochLoss(Metric):
    """Loss of all pixels of an epoch at once, over all batches and devices.

    The mean of batch losses would depend on the batch size: Dice is a ratio, and is not defined
    for a batch without forest.

    Parameters
    ----------
    loss
        As for :class:`SegmentationModule`.
    """

    # Four sums: overlap, probability plus truth, cross-entropy, labelled pixels.
    sums: torch.Tensor

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self._loss = loss
        self.add_state("sums", torch.zeros(4), dist_reduce_fx="sum")

    def update(self, logits: torch.Tensor, masks: torch.Tensor) -> None:
        """Add a batch: logits ``(n, 1, row, col)``, masks ``(n, row, col)``; 255 is left out."""
        labelled = masks != NO_OBSERVATION
        truth = (masks == FOREST).float()
        probability = torch.sigmoid(logits[:, 0]) * labelled
        self.sums += torch.stack(
            [
                (probability * truth).sum(),
                probability.sum() + truth.sum(),
                _entropy(logits, masks, labelled),
                labelled.sum(),
            ]
        )

    def compute(self) -> torch.Tensor:
        """Compute the loss of all batches that were added."""
        overlap, total, entropy, pixels = self.sums
        dice: torch.Tensor = 1 - (2 * overlap + _SMOOTH) / (total + _SMOOTH)
        return dice + entropy / pixels.clamp(min=1) if self._loss == "dice+bce" else dice


class EpochF1(Metric):
    """F1 score of forest at a probability of 0.5, of all pixels of an epoch at once."""

    # Three counts: forest in both, forest predicted, forest in truth.
    counts: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(3, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, logits: torch.Tensor, masks: torch.Tensor) -> None:
        """Add a batch: logits ``(n, 1, row, col)``, masks ``(n, row, col)``; 255 is left out."""
        predicted = (logits[:, 0] >= 0) & (masks != NO_OBSERVATION)
        truth = masks == FOREST
        self.counts += torch.stack([(predicted & truth).sum(), predicted.sum(), truth.sum()])

    def compute(self) -> torch.Tensor:
        """Compute the score of all batches that were added; 0 where there is no forest at all."""
        both, predicted, truth = self.counts
        score: torch.Tensor = 2 * both / (predicted + truth).clamp(min=1)
        return score


def _entropy(logits: torch.Tensor, masks: torch.Tensor, labelled: torch.Tensor) -> torch.Tensor:
    """Compute the sum of the binary cross-entropy over labelled pixels."""
    truth = (masks == FOREST).float()
    entropy = F.binary_cross_entropy_with_logits(logits[:, 0], truth, reduction="none")
    return (entropy * labelled).sum()


class _FeatureCache:
    """Encoder features by validation batch, as many as fit a limit in bytes."""

    def __init__(self) -> None:
        self._kept: dict[int, list[torch.Tensor]] = {}
        self._bytes = 0
        self._room: int | None = None

    def get(self, index: int) -> list[torch.Tensor] | None:
        return self._kept.get(index)

    def keep(self, index: int, features: list[torch.Tensor]) -> None:
        if self._room is None:
            self._room = _cache_limit(features[0].device)
        size = sum(feature.numel() * feature.element_size() for feature in features)
        if self._bytes + size <= self._room:
            self._kept[index] = list(features)
            self._bytes += size


def _cache_limit(device: torch.device) -> int:
    """Return the bytes that features may take: on a GPU at most half of the free memory."""
    if device.type != "cuda":
        return _MAX_CACHED_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    return min(_MAX_CACHED_BYTES, free // 2)
