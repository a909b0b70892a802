"""The training step: what is frozen stays, what is constant is computed once."""

from __future__ import annotations

import pytest
import torch

from geoforest.models.unet import build_unet
from geoforest.train.module import EpochLoss, SegmentationModule, _cache_limit

IMAGES = torch.linspace(-2, 2, 2 * 4 * 64 * 64).reshape(2, 4, 64, 64).sin()
MASKS = (IMAGES[:, 0] > 0).to(torch.uint8)


def make(architecture="Unet", **options) -> SegmentationModule:
    torch.manual_seed(0)
    return SegmentationModule(build_unet("resnet18", 4, architecture), **options).train()


def encoder_statistics(module: SegmentationModule) -> torch.Tensor:
    return module.network.encoder.bn1.running_mean.clone()


@pytest.mark.parametrize("freeze", [True, False])
def test_batch_norm_of_the_encoder_updates_as_in_the_reference_or_stays(freeze):
    for encoder_bn, moves in (("update", True), ("frozen", False)):
        module = make(freeze_encoder=freeze, encoder_bn=encoder_bn)
        before = encoder_statistics(module)
        module(IMAGES)
        assert torch.equal(before, encoder_statistics(module)) != moves
        # The decoder's own statistics always move.
        assert module.network.decoder.blocks[0].conv1[1].training


def test_nothing_is_propagated_through_a_frozen_encoder():
    module = make(freeze_encoder=True)
    features = module.network.encoder(IMAGES)
    assert all(feature.grad_fn is None for feature in features)
    module.loss(module(IMAGES), MASKS).backward()
    assert all(p.grad is None for p in module.network.encoder.parameters())
    assert any(p.grad is not None for p in module.network.decoder.parameters())


@pytest.mark.parametrize("architecture", ["Unet", "UnetFullResolution"])
def test_constant_features_of_validation_are_computed_once(architecture, monkeypatch):
    module = make(architecture, freeze_encoder=True, encoder_bn="frozen").eval()
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    calls, losses = [], []
    module.network.encoder.register_forward_hook(lambda *_: calls.append(1))
    with torch.inference_mode():
        for _ in range(3):
            module.validation_loss.reset()
            module.validation_step((IMAGES, MASKS), 0)
            losses.append(module.validation_loss.compute())
        whole = module.loss(module(IMAGES), MASKS)
    assert len(calls) == 2
    assert losses[0] == losses[1] == losses[2]
    assert losses[0] == pytest.approx(float(whole), rel=1e-5)


def test_changing_features_of_validation_are_not_kept(monkeypatch):
    module = make(freeze_encoder=True, encoder_bn="update").eval()
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    calls = []
    module.network.encoder.register_forward_hook(lambda *_: calls.append(1))
    with torch.inference_mode():
        for _ in range(3):
            module.validation_step((IMAGES, MASKS), 0)
    assert len(calls) == 3


def test_features_are_kept_up_to_a_number_of_bytes(monkeypatch):
    monkeypatch.setattr("geoforest.train.module._MAX_CACHED_BYTES", 2_000_000)
    module = make(freeze_encoder=True, encoder_bn="frozen").eval()
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    with torch.inference_mode():
        for index in range(4):
            module.validation_step((IMAGES, MASKS), index)
    kept = [index for index in range(4) if module._features.get(index) is not None]
    assert kept == [0, 1]


def test_on_a_gpu_features_leave_half_of_what_is_free(monkeypatch):
    for free, room in ((3 << 30, 3 << 29), (80 << 30, 4 << 30)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 80 << 30))
        assert _cache_limit(torch.device("cuda", 0)) == room
    assert _cache_limit(torch.device("cpu")) == 4 << 30


def test_dice_is_that_of_its_definition():
    module = make()
    logits = IMAGES[:, :1] * 3
    p, t = torch.sigmoid(logits[:, 0]), (MASKS == 1).float()
    dice = 2 * (p * t).sum() / (p.sum() + t.sum())
    assert module.loss(logits, MASKS).item() == pytest.approx(1 - dice.item(), rel=1e-5)


@pytest.mark.parametrize("loss", ["dice", "dice+bce"])
def test_the_validation_loss_is_that_of_all_pixels_whatever_the_batches(loss):
    """Of four chips one has no forest, and one hardly a label."""
    logits = torch.linspace(-4, 4, 4 * 32 * 32).reshape(4, 1, 32, 32).sin() * 3
    masks = (logits[:, 0] > 1).to(torch.uint8)
    masks[1] = 0
    masks[2, 1:] = 255
    whole = float(make(loss=loss).loss(logits, masks))
    for size in (1, 2, 3, 4):
        metric = EpochLoss(loss)
        for batch in zip(logits.split(size), masks.split(size), strict=True):
            metric.update(*batch)
        assert float(metric.compute()) == pytest.approx(whole, rel=1e-5)


def test_finding_forest_where_there_is_none_is_no_perfect_loss():
    metric = EpochLoss("dice")
    metric.update(torch.full((1, 1, 32, 32), 3.0), torch.zeros(1, 32, 32, dtype=torch.uint8))
    assert metric.compute() > 0.99
