"""Loader processes that die, or could not live, are one sentence."""

from __future__ import annotations

import os
import shutil
import signal
from collections import namedtuple

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from geoforest.errors import GeoforestError
from geoforest.train.fit import train_model
from geoforest.train.loaders import (
    SHARED_MEMORY,
    batch_bytes,
    deaths_explained,
    require_shared_memory,
)
from geoforest.train.settings import TrainSettings
from tests.helpers.synthetic import write_chips
from tests.helpers.trainings import SHORT

needs_shared_memory = pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="not on this system")
Usage = namedtuple("Usage", "total used free")


class Deadly(Dataset[torch.Tensor]):
    """Its process ends by a signal, as by a bus error or for want of memory."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __len__(self) -> int:
        return 4

    def __getitem__(self, _: int) -> torch.Tensor:
        os.kill(os.getpid(), self.number)
        return torch.zeros(1)


@pytest.mark.parametrize(
    ("number", "match"),
    [
        (signal.SIGBUS, "too little shared memory; wanted: .*--shm-size"),
        (signal.SIGKILL, "ended by the signal Killed, perhaps for want of memory"),
    ],
)
def test_a_process_that_dies(number, match):
    with pytest.raises(GeoforestError, match=match) as caught, deaths_explained():
        list(DataLoader(Deadly(number), num_workers=1))
    assert "--workers 0" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("error", "match"),
    [
        (
            RuntimeError(
                "unable to write to file </torch_123_456_0>: No space left on device (28)"
            ),
            "too little shared memory",
        ),
        (
            OSError(
                "Caught OSError in DataLoader worker process 0.\nOriginal Traceback:\n"
                "OSError: [Errno 28] No space left on device"
            ),
            "too little shared memory",
        ),
        (RuntimeError("received 0 items of ancdata"), "too many open files"),
        (
            RuntimeError("DataLoader worker (pid(s) 12, 13) exited unexpectedly"),
            "a process that loads chips ended, perhaps for want of memory",
        ),
    ],
)
def test_other_signs_of_it(error, match):
    with pytest.raises(GeoforestError, match=match), deaths_explained():
        raise error


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), OSError(28, "No space left on device", "last.ckpt")]
)
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error)) as caught, deaths_explained():
        raise error
    assert caught.value is error


@needs_shared_memory
def test_too_little_is_said_before_the_training(tmp_path, monkeypatch):
    data = write_chips(tmp_path / "chips", {"train": 4, "validation": 2})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 18, 0, 1 << 18))
    match = r"0\.3 MB are free, and the 2 processes .* share 1\.1 MB"
    with pytest.raises(GeoforestError, match=match):
        train_model(data, tmp_path / "m", workers=2, **SHORT)
    assert not (tmp_path / "m").exists()
    require_shared_memory(0, 1 << 40)


def test_the_bytes_of_a_batch():
    class Chip:
        dn = np.zeros((4, 64, 64), np.uint16)
        mask = np.zeros((64, 64), np.uint8)

    settings = TrainSettings(batch_size=3)
    assert batch_bytes({"train": [Chip()]}, settings) == 3 * 64 * 64 * (4 * 4 + 1)
