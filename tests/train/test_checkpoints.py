"""Checkpoints are whole or not there, and damaged ones give way to those before them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from geoforest.errors import GeoforestWarning, WriteError
from geoforest.train.checkpoints import CheckpointFiles, load_checkpoint, recover
from tests.helpers.full_disk import survive_full_disks
from tests.helpers.kills import survive_each_kill

LOSSES = (0.5, 0.3, 0.4)


def checkpoint(epoch: int) -> dict:
    epochs = [{"epoch": number, "val_loss": LOSSES[number]} for number in range(epoch + 1)]
    weights = torch.full((50, 50), float(epoch))
    return {"epoch": epoch, "callbacks": {"_History": {"epochs": epochs}}, "weights": weights}


def save(folder: Path, epoch: int) -> None:
    """Save as Lightning does at the end of an epoch."""
    if LOSSES[epoch] == min(LOSSES[: epoch + 1]):
        CheckpointFiles().save_checkpoint(checkpoint(epoch), folder / "best.ckpt")
    CheckpointFiles().save_checkpoint(checkpoint(epoch), folder / "last.ckpt")


def epochs(folder: Path) -> tuple[int, int] | None:
    """Epochs of the last and of the best checkpoint, after recovery."""
    recover(folder, "_History")
    if not (folder / "last.ckpt").exists():
        return None
    last, best = (load_checkpoint(folder / f"{name}.ckpt") for name in ("last", "best"))
    return last["epoch"], best["epoch"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
@pytest.mark.parametrize(
    ("saved", "damaged", "found"),
    [
        (2, ["last.ckpt"], (1, 1)),
        (1, ["last.ckpt"], (0, 0)),
        (1, ["best.ckpt"], (0, 0)),
        (1, ["last.ckpt", "best.ckpt"], (0, 0)),
        (2, ["last-before.ckpt"], (2, 1)),
        (0, ["last.ckpt"], None),
    ],
)
def test_damaged_ones(tmp_path, damage, saved, damaged, found):
    for epoch in range(saved + 1):
        save(tmp_path, epoch)
    for name in damaged:
        damage(tmp_path / name)
    if found is None and damage is not Path.unlink:
        with pytest.warns(GeoforestWarning, match="checkpoints are damaged"):
            assert epochs(tmp_path) is None
    else:
        assert epochs(tmp_path) == found


def test_the_best_epoch_lost_means_to_begin_again(tmp_path):
    for epoch in range(3):
        save(tmp_path, epoch)
    flip(tmp_path / "best.ckpt")
    with pytest.warns(GeoforestWarning, match="the training begins again"):
        assert epochs(tmp_path) is None


def test_nothing_lies_in_the_folder_of_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    (tmp_path / "work").mkdir()
    save(tmp_path / "work", 0)
    assert epochs(tmp_path / "work") == (0, 0)


class Saving:
    """The end of the second epoch."""

    def __init__(self, folder: Path) -> None:
        self.home = folder

    def prepare(self) -> None:
        shutil.rmtree(self.home)
        self.home.mkdir()
        save(self.home, 0)

    def act(self) -> None:
        save(self.home, 1)

    def check(self) -> None:
        assert epochs(self.home) in ((0, 0), (1, 1))
        self.act()
        assert epochs(self.home) == (1, 1)


@pytest.mark.slow
def test_killed_at_any_step_one_is_whole(tmp_path):
    (tmp_path / "home").mkdir()
    assert survive_each_kill(Saving, tmp_path / "home") >= 6


class OnFullDisk:
    """One checkpoint."""

    error = WriteError

    def write(self, folder: Path) -> None:
        CheckpointFiles().save_checkpoint(checkpoint(0), folder / "last.ckpt")

    def read(self, folder: Path) -> bytes:
        return (folder / "last.ckpt").read_bytes()


@pytest.mark.slow
def test_a_full_disk(tmp_path):
    assert survive_full_disks(OnFullDisk, tmp_path) > 0
