"""Chips that read well and yet cannot be trained on are refused before the training."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import rasterio

from geoforest.arrays.reflectance import BandStatistics
from geoforest.errors import DataError
from geoforest.train.check import check_data
from geoforest.train.chips import Chip
from geoforest.train.fit import _check_batches, _check_usable
from geoforest.train.fit import train_model as train
from geoforest.train.settings import TrainSettings
from tests.helpers import synthetic
from tests.helpers.synthetic import write_chips
from tests.helpers.trainings import SHORT


def _change_all(folder: Path, change) -> None:
    for path in folder.glob("*.tif"):
        with rasterio.open(path) as source:
            values = source.read()
        synthetic.write_raster(path, change(values), descriptions=None)


def _one_larger_chip(data: Path) -> None:
    dn = synthetic.digital_numbers((96, 64), seed=1)
    synthetic.write_raster(data / "train" / "images" / "1.tif", dn, descriptions=None)
    mask = (dn[:1] < 550).astype("uint8")
    synthetic.write_raster(data / "train" / "masks" / "1.tif", mask, descriptions=None)


def _no_labels(data: Path) -> None:
    _change_all(data / "validation" / "masks", lambda mask: np.full_like(mask, 255))


def _no_forest(data: Path) -> None:
    _change_all(data / "validation" / "masks", np.zeros_like)


def _nothing_but_forest(data: Path) -> None:
    _change_all(data / "train" / "masks", np.ones_like)


def _constant_band(data: Path) -> None:
    def change(dn: np.ndarray) -> np.ndarray:
        dn[2] = 7
        return dn

    _change_all(data / "train" / "images", change)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            _one_larger_chip,
            (
                r"train: chips of several shapes: 64 x 64 px \(1, such as 0\), "
                r"96 x 64 px \(1, such as 1\); one was wanted"
            ),
        ),
        (_no_labels, r"validation/masks: not one labelled pixel"),
        (_no_forest, r"validation/masks: no forest at all; both classes were wanted"),
        (_nothing_but_forest, r"train/masks: nothing but forest; both classes were wanted"),
        (_constant_band, r"train/images: band B02 has one value everywhere"),
    ],
)
def test_they_are_refused_and_nothing_is_left(tmp_path, spoil, message):
    data = write_chips(tmp_path / "chips", {"train": 2, "validation": 1})
    spoil(data)
    with pytest.raises(DataError, match=message) as refused:
        train(data, tmp_path / "model", **SHORT)
    assert [path.name for path in tmp_path.iterdir()] == ["chips"]
    # What training refuses, `data check` finds, in the same words but for the names of examples.
    (error,) = (one for one in check_data(data).findings if one.level == "error")
    told = re.sub(r"such as [^)]*/(\d)\.tif", r"such as \1", f"{error.where}: {error.what}")
    assert told == str(refused.value)


def test_a_batch_of_one_value_a_channel_is_refused(tmp_path):
    """Where the network is deepest a chip of 32 px is one pixel, which has no spread."""
    data = write_chips(tmp_path / "chips", {"train": 1, "validation": 1})
    for split in ("train", "validation"):
        for kind in ("images", "masks"):
            _change_all(data / split / kind, _corner_with_both_classes)
    with pytest.raises(DataError, match="chips/train: batches of one chip of 32 x 32 px are too"):
        train(data, tmp_path / "model", **SHORT)
    assert [path.name for path in tmp_path.iterdir()] == ["chips"]


def _corner_with_both_classes(values: np.ndarray) -> np.ndarray:
    return values[:, 16:48, 16:48]


def test_messages_do_not_show_the_secrets_of_a_url():
    chip = Chip(
        "0", np.ones((1, 32, 32)), np.eye(32, dtype=np.uint8), np.ones((32, 32), dtype=bool)
    )
    other = Chip("1", np.ones((1, 64, 32)), np.ones((64, 32), np.uint8), np.ones((64, 32), bool))
    forest = Chip("2", chip.dn, np.ones((32, 32), np.uint8), chip.observed)
    settings = TrainSettings(bands=("B04",), batch_size=1)
    for call in (
        lambda url: _check_usable(url, {"train": [chip, other]}, ("B04",), BandStatistics()),
        lambda url: _check_usable(url, {"train": [forest]}, ("B04",), BandStatistics()),
        lambda url: _check_usable(
            url, {"train": [chip]}, ("B04",), BandStatistics.of(chip.dn, chip.labelled)
        ),
        lambda url: _check_batches(url, [chip], settings),
    ):
        with pytest.raises(DataError, match=r"^memory://set/train") as caught:
            call("memory://me:s3cr3t@set?sig=s3cr3t")
        assert "s3cr3t" not in str(caught.value)
