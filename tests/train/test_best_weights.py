"""The bundle holds the weights that had the best validation loss, averaged or not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geoforest.models.bundle import load_bundle
from geoforest.models.unet import build_unet
from geoforest.train.augmentation import ChipDataset
from geoforest.train.chips import read_split
from geoforest.train.fit import train_model as train
from geoforest.train.module import SegmentationModule
from tests.helpers.synthetic import write_chips


@pytest.mark.slow
@pytest.mark.parametrize("averaging", [None, 0.5])
def test_the_stored_weights_have_the_best_validation_loss(tmp_path, averaging):
    data = write_chips(tmp_path / "chips", {"train": 6, "validation": 3})
    card = train(
        data,
        tmp_path / "model",
        encoder="resnet18",
        encoder_weights=None,
        epochs=4,
        batch_size=2,
        # High enough that averaged and current weights differ a lot.
        learning_rate=1e-3,
        loss="dice+bce",
        patience=0,
        averaging=averaging,
        seed=3,
    )
    losses = [epoch["val_loss"] for epoch in card.training["history"]]
    network = build_unet("resnet18", 4)
    network.load_state_dict(load_bundle(tmp_path / "model").state_dict())
    chips = ChipDataset(
        read_split(data, "validation", n_bands=4), mean=np.array(card.mean), std=np.array(card.std)
    )
    images, masks = (torch.stack(parts) for parts in zip(*chips, strict=True))
    module = SegmentationModule(network, loss="dice+bce").eval()
    with torch.inference_mode():
        loss = float(module.loss(module(images), masks))
    assert loss == pytest.approx(min(losses), rel=1e-4)


def test_pixels_without_a_label_do_not_count_in_the_loss():
    torch.manual_seed(0)
    network = torch.nn.Conv2d(4, 1, 1)
    images, masks = torch.randn(2, 4, 32, 32), torch.randint(0, 2, (2, 32, 32)).to(torch.uint8)
    masks[:, :10] = 255
    changed = images.clone()
    changed[:, :, :10] = 100
    for loss in ("dice", "dice+bce"):
        module = SegmentationModule(network, loss=loss)

        def loss_of(images, module=module):
            return module.loss(module(images), masks)

        assert loss_of(images) == loss_of(changed)
        changed[:, :, 10] = 100
        assert loss_of(images) != loss_of(changed)
        changed[:, :, 10] = images[:, :, 10]
