"""Training on generated chips: it learns, it repeats itself, and it refuses bad data."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from geoforest.arrays.scores import Counts
from geoforest.arrays.stitch import mask_from_probability, quantise
from geoforest.errors import DataError, GeoforestError, InputError, OutputError
from geoforest.models.bundle import load_bundle
from geoforest.models.torch_runtime import TorchPredictor
from geoforest.models.unet import UnetFullResolution, build_unet
from geoforest.train import loop
from geoforest.train.augmentation import ChipDataset
from geoforest.train.chips import channel_statistics, read_split
from geoforest.train.fit import lowest_loss
from geoforest.train.fit import train_model as train
from geoforest.train.initial import initial_network
from geoforest.train.loop import Epoch
from geoforest.train.module import SegmentationModule
from geoforest.train.settings import TrainSettings
from tests.helpers import synthetic
from tests.helpers.synthetic import write_chips
from tests.helpers.trainings import SHORT


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_chips(tmp_path_factory.mktemp("chips"), {"train": 8, "validation": 3})


def validation_loss(data: Path, model: Path) -> float:
    """Loss of a stored network on all validation chips at once."""
    bundle = load_bundle(model)
    network = build_unet(bundle.card.encoder, 4)
    network.load_state_dict(bundle.state_dict())
    dataset = ChipDataset(
        read_split(data, "validation", n_bands=4),
        mean=np.array(bundle.card.mean),
        std=np.array(bundle.card.std),
    )
    images, masks = (torch.stack(parts) for parts in zip(*dataset, strict=True))
    module = SegmentationModule(network).eval()
    with torch.inference_mode():
        return float(module.loss(module(images), masks))


@pytest.mark.slow
def test_it_learns_and_says_what_it_learnt(data, tmp_path):
    card = train(
        data,
        tmp_path / "model",
        encoder="resnet18",
        encoder_weights=None,
        architecture="UnetFullResolution",
        epochs=12,
        batch_size=4,
        learning_rate=2e-3,
        schedule="one-cycle",
        loss="dice+bce",
        averaging=0.8,
        patience=0,
        half=True,
    )
    assert card.metrics["validation_f1"] > 0.93
    assert len(card.training["history"]) == 12
    bundle = load_bundle(tmp_path / "model")
    assert bundle.state_dict()["skip.0.weight"].dtype == torch.float16
    counts = Counts()
    for chip in read_split(data, "validation", n_bands=4):
        stored = quantise(TorchPredictor(bundle)(chip.dn[None])[0], chip.observed)
        counts += Counts.of(chip.mask, mask_from_probability(stored, card.threshold))
    assert counts.scores()["f1"] == card.metrics["validation_f1"]
    chips = read_split(data, "train", n_bands=4)
    pixels = np.concatenate([chip.dn.reshape(4, -1) for chip in chips], axis=1).astype(float)
    assert card.mean == pytest.approx(pixels.mean(axis=1))
    assert card.std == pytest.approx(pixels.std(axis=1))


@pytest.mark.slow
def test_one_seed_gives_one_model(data, tmp_path):
    first, second, other = (
        train(data, tmp_path / name, **SHORT, seed=seed, augmentation="strong")
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    hashes = [load_bundle(tmp_path / name).sha256 for name in "abc"]
    assert hashes[0] == hashes[1] != hashes[2]
    assert first.metrics == second.metrics
    losses = [card.training["history"] for card in (first, second, other)]
    assert losses[0] == losses[1] != losses[2]


def test_a_model_appears_with_its_statistics_or_not_at_all(data, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("geoforest.train.fit.write_statistics", full)
        with pytest.raises(OSError, match="No space left"):
            train(data, tmp_path / "m", **SHORT)
    assert not (tmp_path / "m").exists()
    train(data, tmp_path / "m", **SHORT)
    names = {path.name for path in (tmp_path / "m").iterdir()}
    assert names == {"model.json", "model.safetensors", "channel_statistics.csv"}


@pytest.mark.slow
def test_loader_processes_change_no_weight(data, tmp_path):
    for name, workers in (("none", 0), ("two", 2)):
        train(data, tmp_path / name, **SHORT, augmentation="strong", workers=workers)
    hashes = [load_bundle(tmp_path / name).sha256 for name in ("none", "two")]
    assert hashes[0] == hashes[1]


@pytest.mark.slow
def test_several_devices_train_one_model(data, tmp_path):
    """On a machine without GPUs they are processes, through the same path.

    Three validation chips make no equal shares for two of them, and count once each.
    """
    told = []
    options = {**SHORT, "batch_size": 2, "epochs": 2, "accumulate": 2}
    card = train(data, tmp_path / "m", **options, devices=2, on_epoch=told.append)
    assert [epoch["epoch"] for epoch in told] == [0, 1]
    assert card.training["history"] == told
    assert validation_loss(data, tmp_path / "m") == pytest.approx(lowest_loss(card), rel=1e-4)


def test_a_frozen_encoder_keeps_its_weights(data, tmp_path):
    torch.manual_seed(5)
    initial = build_unet(SHORT["encoder"], 4).state_dict()
    weights = tmp_path / "initial.safetensors"
    save_file(initial, weights)
    options = {**SHORT, "encoder_weights": str(weights), "learning_rate": 1e-2}
    train(data, tmp_path / "frozen", **options, freeze_encoder=True)
    trained = load_bundle(tmp_path / "frozen").state_dict()
    moved = {
        key
        for key, value in trained.items()
        if not torch.equal(value, initial[key]) and "running" not in key and "num_" not in key
    }
    assert moved
    assert not any(key.startswith("encoder.") for key in moved)


@pytest.mark.parametrize("encoder_bn", ["update", "frozen"])
def test_statistics_of_the_encoder_move_or_stay_and_its_loss_is_that_of_the_weights(
    data, tmp_path, encoder_bn
):
    torch.manual_seed(5)
    initial = build_unet(SHORT["encoder"], 4).state_dict()
    save_file(initial, tmp_path / "initial.safetensors")
    options = {**SHORT, "epochs": 2, "encoder_weights": str(tmp_path / "initial.safetensors")}
    card = train(
        data, tmp_path / "m", **options, freeze_encoder=True, encoder_bn=encoder_bn, patience=0
    )
    trained = load_bundle(tmp_path / "m").state_dict()
    moved = {
        key for key in trained if "running" in key and not torch.equal(trained[key], initial[key])
    }
    assert any(key.startswith("decoder.") for key in moved)
    assert any(key.startswith("encoder.") for key in moved) == (encoder_bn == "update")
    assert validation_loss(data, tmp_path / "m") == pytest.approx(lowest_loss(card), rel=1e-4)


@pytest.mark.slow
def test_training_stops_early_and_keeps_the_best_epoch(data, tmp_path):
    # A rate this high cannot improve for long.
    card = train(data, tmp_path / "m", **{**SHORT, "epochs": 30}, learning_rate=0.3, patience=2)
    losses = [epoch["val_loss"] for epoch in card.training["history"]]
    assert len(losses) < 30
    assert len(losses) - 1 - int(np.argmin(losses)) == 2


def test_three_bands(tmp_path):
    data = write_chips(tmp_path / "rgb", {"train": 4, "validation": 2}, bands=3)
    card = train(data, tmp_path / "m", **SHORT, bands=("B04", "B03", "B02"))
    assert card.in_channels == 3
    predictor = TorchPredictor(load_bundle(tmp_path / "m"))
    assert predictor(np.ones((1, 3, 64, 64), np.uint8)).shape == (1, 64, 64)
    with pytest.raises(InputError, match=r"\(n, 3, row, col\) was wanted"):
        predictor(np.ones((1, 4, 64, 64), np.uint8))


def test_the_full_resolution_network_sees_single_pixels():
    torch.manual_seed(0)
    network = UnetFullResolution("resnet18", 4).eval()
    image = torch.zeros(1, 4, 64, 64)
    changed = image.clone()
    changed[0, :, 33, 35] = 1
    with torch.inference_mode():
        assert network(image).shape == (1, 1, 64, 64)
        skipped = (network.skip(changed) - network.skip(image)).abs().sum(dim=1)[0]
    rows, cols = torch.nonzero(skipped, as_tuple=True)
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (31, 35, 33, 37)


def test_augmentation_keeps_image_and_mask_together(data):
    chips = read_split(data, "train", n_bands=4)
    statistics = channel_statistics(chips)
    torch.manual_seed(0)
    for augmentation in ("d4", "strong", "transpose"):
        dataset = ChipDataset(
            chips, mean=statistics.mean, std=statistics.std, augmentation=augmentation
        )
        seen = [dataset[epoch, 0] for epoch in range(12)]
        plain = dataset._chips[0].mask
        assert any(not torch.equal(mask, torch.from_numpy(plain)) for _, mask in seen)
        for image, mask in seen:
            # Forest is dark in red, whichever way the chip is turned.
            red = image[0]
            assert red[mask == 1].mean() < red[mask == 0].mean() - 1


def test_unknown_and_unobserved_pixels_are_left_out(data, tmp_path):
    copy = Path(shutil.copytree(data, tmp_path / "copy"))
    image, mask = (copy / "train" / kind / "0.tif" for kind in ("images", "masks"))
    dn = synthetic.digital_numbers((64, 64), seed=0)
    dn[:, :10] = 0
    synthetic.write_raster(image, dn, descriptions=None, nodata=0)
    codes = (dn[:1] < 550).astype("uint8")
    codes[:, 20:30] = 255
    synthetic.write_raster(mask, codes, descriptions=None)
    chip = read_split(copy, "train", n_bands=4)[0]
    rows = np.arange(64)
    assert (chip.observed.all(axis=1) == (rows >= 10)).all()
    assert (chip.labelled.all(axis=1) == ~np.isin(rows, [*range(10), *range(20, 30)])).all()
    sample, codes = ChipDataset([chip], mean=np.full(4, 9.0), std=np.ones(4))[0]
    assert (sample[:, :10] == 0).all()
    # What was seen and has no label counts nowhere, and is shown to the network as in a scene.
    assert (sample[:, 20:30].numpy() == dn[:, 20:30].astype(np.float32) - 9).all()
    assert (codes[20:30] == 255).all()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: (t / "masks" / "3.tif").unlink(), r"images/3\.tif: image without mask"),
        (lambda t: (t / "images" / "3.tif").unlink(), r"masks/3\.tif: mask without image"),
        (lambda t: shutil.rmtree(t / "masks"), r"masks: no such folder"),
        (lambda t: (t / "images" / "3.tif").write_text("x"), r"images/3\.tif: not a raster"),
        (lambda t: rewrite(t / "masks" / "3.tif", 1, 64, 7), r"masks/3\.tif: code 7"),
        (lambda t: rewrite(t / "masks" / "3.tif", 1, 32, 1), r"masks/3\.tif: shape \(1, 32, 32\)"),
        (lambda t: rewrite(t / "images" / "3.tif", 3, 64, 9), r"images/3\.tif: 3 bands, 4 were"),
        (lambda t: rewrite(t / "images" / "3.tif", 4, 64, 9), r"types uint16, uint8"),
    ],
)
def test_bad_data_is_named(data, tmp_path, spoil, message):
    copy = Path(shutil.copytree(data, tmp_path / "copy"))
    spoil(copy / "train")
    with pytest.raises(DataError, match=message):
        train(copy, tmp_path / "model", **SHORT)
    assert not (tmp_path / "model").exists()


def rewrite(path: Path, bands: int, side: int, value: int) -> None:
    values = np.full((bands, side, side), value, np.uint8)
    synthetic.write_raster(path, values, descriptions=None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bands": ("B04", "B04", "B02", "B08")}, "a band is named twice"),
        ({"name": "n" * 300}, "name = 'nnn.*at most 200"),
        ({"about": {"notez": "mine"}}, "notez = 'mine': Extra inputs are not permitted"),
        ({"about": {"seed": 3}}, "seed: the training sets it"),
        ({"seed": 99999999999}, "seed = 99999999999: .*less than or equal"),
        ({"gradient_clip": 0}, "gradient_clip = 0"),
    ],
)
def test_what_no_card_could_say_is_refused_before_the_training(data, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        train(data, tmp_path / "m", **SHORT, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_diverges_says_so_and_leaves_nothing(data, tmp_path):
    with pytest.raises(GeoforestError, match=r"diverged: .* than 1e\+30 or clipped"):
        train(data, tmp_path / "m", **SHORT, learning_rate=1e30)
    assert list(tmp_path.iterdir()) == []


def test_an_epoch_without_a_loss_is_passed_over(data, tmp_path, monkeypatch):
    epochs: list[Epoch] = []

    step = SegmentationModule.validation_step

    def spoilt(module: SegmentationModule, batch, index):
        step(module, batch, index)
        if module.current_epoch == 1:
            nothing = torch.full((1, 1, 32, 32), torch.nan)
            module.validation_loss.update(nothing, torch.zeros(1, 32, 32))

    monkeypatch.setattr(SegmentationModule, "validation_step", spoilt)
    card = train(data, tmp_path / "m", **{**SHORT, "epochs": 3}, patience=0, on_epoch=epochs.append)
    losses = [epoch["val_loss"] for epoch in epochs]
    assert np.isnan(losses).tolist() == [False, True, False]
    # JSON has no NaN: None in the file, and in the card that is given back.
    assert [epoch["val_loss"] for epoch in card.training["history"]] == [losses[0], None, losses[2]]
    assert load_bundle(tmp_path / "m").card == card
    assert lowest_loss(card) == min(losses[0], losses[2])


def test_clipped_gradients_are_a_setting(tmp_path):
    history = loop._History(0, print, tmp_path / "no checkpoint")
    for clip in (None, 0.5):
        trainer = loop._trainer(TrainSettings(gradient_clip=clip), tmp_path, history)
        assert trainer.gradient_clip_val == clip


def test_the_last_batch_is_dropped_only_where_a_device_has_another(data):
    chips = read_split(data, "train", n_bands=4)[:5]
    statistics = channel_statistics(chips)
    for devices, batch_size, dropped in ((1, 4, True), (1, 5, False), (2, 4, False), (2, 2, True)):
        settings = TrainSettings(devices=devices, batch_size=batch_size, workers=0)
        assert loop._loader("train", chips, statistics, settings).drop_last == dropped


class TestInitialWeights:
    """A file must hold the whole encoder that is asked for."""

    def settings(
        self, tmp_path: Path, weights: dict[str, torch.Tensor], **options
    ) -> TrainSettings:
        path = tmp_path / "initial.safetensors"
        save_file({key: value.contiguous() for key, value in weights.items()}, path)
        return TrainSettings(**{"encoder": "resnet18", **options}, encoder_weights=str(path))

    @pytest.mark.parametrize(
        ("held", "wanted", "message"),
        [
            ("resnet18", "resnet34", r"holds 100 of the 180 tensors .* 0 that do not fit it"),
            ("resnet34", "resnet18", r"holds 100 of the 100 tensors .* [0-9]+ that do not fit it"),
            ("resnet34", "resnet50", r"holds [0-9]+ of the 265 tensors of the encoder 'resnet50'"),
        ],
    )
    def test_another_encoder(self, tmp_path, held, wanted, message):
        settings = self.settings(tmp_path, build_unet(held, 4).state_dict(), encoder=wanted)
        with pytest.raises(InputError, match=message):
            initial_network(settings)

    def test_what_an_encoder_never_calls_may_be_absent(self, tmp_path):
        torch.manual_seed(7)
        whole = build_unet("efficientnet-b0", 4).state_dict()
        unused = ("encoder._conv_head.", "encoder._bn1.")
        weights = {
            key: value
            for key, value in whole.items()
            if not key.startswith(unused) and "num_batches" not in key
        }
        settings = self.settings(tmp_path, weights, encoder="efficientnet-b0")
        network = initial_network(settings)
        assert network.training
        taken = network.state_dict()
        assert all(torch.equal(taken[key], value) for key, value in weights.items())
        del weights["encoder._blocks.3._bn1.bias"]
        settings = self.settings(tmp_path, weights, encoder="efficientnet-b0")
        with pytest.raises(InputError, match=r"first .* is encoder\._blocks\.3\._bn1\.bias"):
            initial_network(settings)

    def test_weights_that_are_no_numbers(self, tmp_path):
        weights = build_unet("resnet18", 4).state_dict()
        weights["encoder.bn1.weight"][3] = float("nan")
        with pytest.raises(InputError, match=r"encoder\.bn1\.weight holds NaN"):
            initial_network(self.settings(tmp_path, weights))

    def test_the_first_convolution_is_spread_over_other_bands(self, tmp_path):
        weights = build_unet("resnet18", 3).state_dict()
        taken = initial_network(self.settings(tmp_path, weights)).state_dict()
        first = weights["encoder.conv1.weight"]
        assert torch.equal(taken["encoder.conv1.weight"], first[:, [0, 1, 2, 0]] * 0.75)


def test_other_mistakes(data, tmp_path):
    with pytest.raises(InputError, match=r"none\.safetensors: not a safetensors file"):
        train(data, tmp_path / "m", **{**SHORT, "encoder_weights": "none.safetensors"})
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    weights = str(tmp_path / "foreign.safetensors")
    options = {**SHORT, "encoder": "resnet18", "encoder_weights": weights}
    with pytest.raises(InputError, match="holds 0 of the 100 tensors of the encoder 'resnet18'"):
        train(data, tmp_path / "m", **options)
    (tmp_path / "full").mkdir()
    with pytest.raises(OutputError, match="no model bundle"):
        train(data, tmp_path / "full", **SHORT)
