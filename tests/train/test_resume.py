"""A training that was killed ends with the weights it would have had."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from geoforest.errors import GeoforestError, OutputError
from geoforest.models.bundle import load_bundle
from geoforest.train import loop
from geoforest.train.augmentation import ChipDataset
from geoforest.train.chips import read_split
from geoforest.train.fit import train_model as train
from geoforest.train.resume import open_training, training_identity
from geoforest.train.settings import TrainSettings
from tests.helpers.synthetic import write_chips
from tests.helpers.trainings import OPTIONS

SCRIPT = """
import sys
from geoforest.train.fit import train_model as train
from tests.helpers.trainings import OPTIONS
train(sys.argv[1], sys.argv[2], **OPTIONS)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_chips(tmp_path_factory.mktemp("chips"), {"train": 4, "validation": 2})


def losses(bundle: Path) -> list[tuple[float, float]]:
    history = load_bundle(bundle).card.training["history"]
    return [(epoch["train_loss"], epoch["val_loss"]) for epoch in history]


@pytest.mark.slow
def test_killed_training_ends_with_the_same_weights(data, tmp_path):
    train(data, tmp_path / "whole", **OPTIONS)
    work = tmp_path / ".killed.training"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(data), str(tmp_path / "killed")],
        cwd=Path(__file__).parents[2],
        # Sums in another order would be other weights.
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    deadline = time.monotonic() + 120
    while not (work / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (work / "last.ckpt").exists()
    assert not (tmp_path / "killed").exists()
    told: list[int] = []
    train(data, tmp_path / "killed", **OPTIONS, on_epoch=lambda epoch: told.append(epoch["epoch"]))
    assert told
    assert told[0] > 0
    assert told == list(range(told[0], 4))
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    whole, killed = (load_bundle(tmp_path / name) for name in ("whole", "killed"))
    assert killed.sha256 == whole.sha256
    assert killed.card.metrics == whole.card.metrics
    assert not work.exists()


@pytest.mark.slow
def test_interrupted_after_training_and_before_the_bundle(data, tmp_path):
    """Training again would be an epoch more than patience allows."""
    options = {**OPTIONS, "encoder": "resnet18", "epochs": 8, "learning_rate": 0.3, "patience": 1}
    card = train(data, tmp_path / "whole", **options)
    assert len(card.training["history"]) < 8
    # The folder is in the bundle's way only when it is to be saved.
    out = tmp_path / "stopped"

    def block(epoch):
        out.mkdir(exist_ok=True)
        (out / "in the way").touch()

    with pytest.raises(OutputError, match="no model bundle"):
        train(data, out, **options, on_epoch=block)
    (out / "in the way").unlink()
    out.rmdir()
    told: list[int] = []
    train(data, out, **options, on_epoch=lambda epoch: told.append(epoch["epoch"]))
    assert told == []
    assert losses(out) == losses(tmp_path / "whole")
    assert load_bundle(out).sha256 == load_bundle(tmp_path / "whole").sha256


@pytest.mark.slow
def test_a_resumed_training_with_loader_processes_takes_the_chips_of_its_epoch(data, tmp_path):
    """They begin before Lightning tells of the epoch."""
    options = {**OPTIONS, "encoder": "resnet18", "epochs": 2, "workers": 2}

    def cut(epoch):
        if epoch["epoch"] == 1:
            raise ZeroDivisionError

    train(data, tmp_path / "whole", **options)
    with pytest.raises(ZeroDivisionError):
        train(data, tmp_path / "cut", **options, on_epoch=cut)
    train(data, tmp_path / "cut", **options)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert load_bundle(tmp_path / "cut").sha256 == load_bundle(tmp_path / "whole").sha256


@pytest.mark.slow
def test_a_damaged_checkpoint_costs_an_epoch_and_no_more(data, tmp_path):
    """As a disk leaves it that was full, or a copy that was cut short."""
    options = {**OPTIONS, "encoder": "mobilenet_v2", "epochs": 3}
    train(data, tmp_path / "whole", **options)

    def stop(epoch):
        if epoch["epoch"] == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(data, tmp_path / "cut", **options, on_epoch=stop)
    last = tmp_path / ".cut.training" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:5000])
    told: list[int] = []
    train(data, tmp_path / "cut", **options, on_epoch=lambda epoch: told.append(epoch["epoch"]))
    assert told == [1, 2]
    assert load_bundle(tmp_path / "cut").sha256 == load_bundle(tmp_path / "whole").sha256


@pytest.mark.slow
def test_a_loader_process_that_hangs_is_not_waited_for_forever(data, tmp_path, monkeypatch):
    get = ChipDataset.__getitem__

    def hang(self, key):
        if isinstance(key, tuple) and key[0] == 1:
            time.sleep(1000)
        return get(self, key)

    monkeypatch.setattr(ChipDataset, "__getitem__", hang)
    monkeypatch.setattr(loop, "_LOADER_SECONDS", 5)
    options = {**OPTIONS, "encoder": "mobilenet_v2", "epochs": 2, "workers": 1}
    with pytest.raises(GeoforestError, match="--workers 0 loads without other processes"):
        train(data, tmp_path / "hung", **options)
    monkeypatch.undo()
    told: list[int] = []
    train(data, tmp_path / "hung", **options, on_epoch=lambda epoch: told.append(epoch["epoch"]))
    assert told == [1]


@pytest.mark.slow
def test_killed_at_the_very_end_it_trains_no_epoch_more(data, tmp_path, monkeypatch):
    """Neither after its last epoch, nor when it stopped early."""
    options = {**OPTIONS, "encoder": "resnet18", "learning_rate": 0.3, "averaging": None}
    fit = loop._train

    def fit_and_die(*arguments):
        fit(*arguments)
        raise KeyboardInterrupt

    for name, changed, n_epochs in (
        ("early", {"epochs": 9, "patience": 1, "schedule": "constant"}, None),
        ("late", {"epochs": 2, "patience": 0}, 2),
    ):
        monkeypatch.setattr(loop, "_train", fit_and_die)
        epochs: list[int] = []
        with pytest.raises(KeyboardInterrupt):
            train(
                data,
                tmp_path / name,
                **{**options, **changed},
                on_epoch=lambda epoch, epochs=epochs: epochs.append(epoch["epoch"]),
            )
        assert len(epochs) == n_epochs if n_epochs else len(epochs) < 9
        monkeypatch.setattr(loop, "_train", fit)
        told: list[dict] = []
        card = train(data, tmp_path / name, **{**options, **changed}, on_epoch=told.append)
        assert told == []
        assert [epoch["epoch"] for epoch in card.training["history"]] == epochs


def test_checkpoints_of_another_training_are_not_taken_up(tmp_path):
    out = tmp_path / "model"

    def interrupted(found: str | None) -> None:
        with open_training(out, {"seed": 1}) as folder:
            last = folder / "last.ckpt"
            assert (last.read_text() if last.exists() else None) == found
            last.write_text("1")
            raise KeyboardInterrupt

    for found in (None, "1"):
        with pytest.raises(KeyboardInterrupt):
            interrupted(found)
    with open_training(out, {"seed": 2}) as folder:
        assert not (folder / "last.ckpt").exists()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_before_the_first_checkpoint(tmp_path):
    with pytest.raises(ZeroDivisionError), open_training(tmp_path / "model", {}):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_two_trainings_of_one_model_at_once_are_refused(tmp_path):
    with (
        open_training(tmp_path / "model", {}),
        pytest.raises(OutputError, match="another geoforest run"),
        open_training(tmp_path / "model", {}),
    ):
        pass


def test_the_identity_has_settings_weights_and_pixels(data, tmp_path):
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"1")
    chips = {"train": read_split(data, "train", n_bands=4)}
    first = training_identity(TrainSettings(encoder_weights=str(weights)), chips)
    assert first == training_identity(TrainSettings(encoder_weights=str(weights)), chips)
    assert first != training_identity(TrainSettings(encoder_weights=str(weights), seed=1), chips)
    moved = weights.rename(tmp_path / "moved.safetensors")
    assert first == training_identity(TrainSettings(encoder_weights=str(moved)), chips)
    for other in (None, "imagenet"):
        assert first != training_identity(TrainSettings(encoder_weights=other), chips)
    weights.write_bytes(b"2")
    assert first != training_identity(TrainSettings(encoder_weights=str(weights)), chips)
    weights.write_bytes(b"1")
    chips["train"][0].mask[3, 3] ^= 1
    assert first != training_identity(TrainSettings(encoder_weights=str(weights)), chips)
