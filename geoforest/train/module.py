"""The training step: U-Net, Dice loss, AdamW, for PyTorch Lightning."""

from __future__ import annotations

from typing import Any, Final

import pytorch_lightning as pl
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own idiom)
from torch.nn.modules.batchnorm import _BatchNorm

from geoforest.config import EncoderNorm, Loss, Schedule
from geoforest.models.unet import decode, encoder_of
from geoforest.train.augmentation import Sample
from geoforest.types import FOREST, NO_OBSERVATION

# Encoder features of validation chips that are kept rather than computed anew each epoch.
_MAX_CACHED_BYTES: Final = 4 << 30


class SegmentationModule(pl.LightningModule):
    """A network that gives logits, trained on batches of ``(image, mask)``.

    Parameters
    ----------
    network
        ``(n, band, row, col)`` to logits ``(n, 1, row, col)``.
    loss
        ``dice``, or ``dice+bce``: the sum of Dice and binary cross-entropy. Both take logits;
        Dice's ``smooth`` is 1e-6, over all pixels of a batch at once.
    learning_rate, weight_decay
        Of AdamW.
    schedule
        ``constant``; ``cosine`` down to 0 over the whole training; ``one-cycle`` over the whole
        training (Smith and Topin 2019).
    freeze_encoder
        Train the decoder only: nothing is back-propagated through the encoder.
    encoder_bn
        ``update``: batch-norm layers of the encoder use and update batch statistics in training,
        even of a frozen encoder, as in the reference system. ``frozen``: they keep the statistics
        that they came with. A frozen encoder with frozen statistics gives a validation chip the
        same features in every epoch: they are computed once.
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
            "binary", from_logits=True, smooth=1e-6, ignore_index=NO_OBSERVATION
        )
        self._features = _FeatureCache()
        self._features_are_constant = freeze_encoder and encoder_bn == "frozen"
        if freeze_encoder:
            encoder_of(network).requires_grad_(False)

    def train(self, mode: bool = True) -> SegmentationModule:
        """Set training mode, in which a frozen batch norm stays as it is."""
        super().train(mode)
        if self._encoder_bn == "frozen":
            for layer in encoder_of(self.network).modules():
                if isinstance(layer, _BatchNorm):
                    layer.eval()
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, 1, row, col)``, float32."""
        logits: torch.Tensor = self.network(images.contiguous(memory_format=torch.channels_last))
        return logits.float()

    def training_step(self, batch: Sample, _: int) -> torch.Tensor:
        """Loss of a training batch."""
        images, masks = batch
        loss = self.loss(self(images), masks)
        self._log_mean("train_loss", loss, len(images))
        return loss

    def validation_step(self, batch: Sample, index: int) -> None:
        """Loss of a validation batch."""
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
        self._log_mean("val_loss", self.loss(logits, masks), len(images))

    def loss(self, logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Loss of logits ``(n, 1, row, col)``; pixels of mask code 255 do not count."""
        loss: torch.Tensor = self._dice(logits, masks[:, None].long())
        if self._loss == "dice+bce":
            labelled = masks != NO_OBSERVATION
            truth = (masks == FOREST).float()
            entropy = F.binary_cross_entropy_with_logits(logits[:, 0], truth, reduction="none")
            loss = loss + (entropy * labelled).sum() / labelled.sum().clamp(min=1)
        return loss

    def _log_mean(self, name: str, loss: torch.Tensor, n_chips: int) -> None:
        """Let Lightning take the mean over an epoch's chips, on all devices."""
        self.log(name, loss, on_step=False, on_epoch=True, batch_size=n_chips, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """AdamW over what is trained, and the schedule."""
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


class _FeatureCache:
    """Encoder features by validation batch, up to a number of bytes; the rest is not kept."""

    def __init__(self) -> None:
        self._kept: dict[int, list[torch.Tensor]] = {}
        self._bytes = 0

    def get(self, index: int) -> list[torch.Tensor] | None:
        return self._kept.get(index)

    def keep(self, index: int, features: list[torch.Tensor]) -> None:
        size = sum(feature.numel() * feature.element_size() for feature in features)
        if self._bytes + size <= _MAX_CACHED_BYTES:
            self._kept[index] = list(features)
            self._bytes += size
