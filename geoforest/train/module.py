"""The training step: U-Net, Dice loss, AdamW, for PyTorch Lightning."""

from __future__ import annotations

from typing import Any, Literal

import pytorch_lightning as pl
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own idiom)

from geoforest.types import FOREST, NO_OBSERVATION

Loss = Literal["dice", "dice+bce"]
Schedule = Literal["constant", "one-cycle"]


class SegmentationModule(pl.LightningModule):
    """A network that gives logits, trained on batches of ``(image, mask)``.

    Parameters
    ----------
    network
        ``(n, band, row, col)`` to logits ``(n, 1, row, col)``.
    loss
        ``dice``, or ``dice+bce``: the sum of Dice and binary cross-entropy. Both take logits.
    learning_rate, weight_decay
        Of AdamW.
    schedule
        ``constant``, or ``one-cycle`` over the whole training (Smith and Topin 2019).
    freeze_encoder
        Train the decoder only.
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
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self._loss = loss
        self._learning_rate = learning_rate
        self._weight_decay = weight_decay
        self._schedule = schedule
        self._dice = smp.losses.DiceLoss(
            "binary", from_logits=True, smooth=1e-6, ignore_index=NO_OBSERVATION
        )
        if freeze_encoder:
            network.encoder.requires_grad_(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, 1, row, col)``, float32."""
        logits: torch.Tensor = self.network(images.contiguous(memory_format=torch.channels_last))
        return logits.float()

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        """Loss of a training batch."""
        loss = self._batch_loss(batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch[0]))
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> None:
        """Loss of a validation batch."""
        self.log("val_loss", self._batch_loss(batch), batch_size=len(batch[0]))

    def configure_optimizers(self) -> Any:
        """AdamW over what is trained, and the schedule."""
        trained = [p for p in self.network.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            trained, lr=self._learning_rate, weight_decay=self._weight_decay
        )
        if self._schedule == "constant":
            return optimizer
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            self._learning_rate,
            total_steps=int(self.trainer.estimated_stepping_batches),
            pct_start=0.15,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _batch_loss(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        images, masks = batch
        logits = self(images)[:, 0]
        loss: torch.Tensor = self._dice(logits[:, None], masks[:, None].long())
        if self._loss == "dice+bce":
            labelled = masks != NO_OBSERVATION
            truth = (masks == FOREST).float()
            entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
            loss = loss + (entropy * labelled).sum() / labelled.sum().clamp(min=1)
        return loss


class LossHistory(pl.Callback):
    """Keeps the losses of each epoch, for the card."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take down an epoch; validation has been run by now."""
        losses = {
            name: float(trainer.callback_metrics[name]) for name in ("train_loss", "val_loss")
        }
        self.epochs.append({"epoch": trainer.current_epoch, **losses})
