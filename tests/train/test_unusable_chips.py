"""Chips that read well and yet cannot be trained on are refused before the training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from geoforest.errors import DataError
from geoforest.train.fit import train
from tests import synthetic
from tests.train.test_fit import SHORT, write_chips


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


def _constant_band(data: Path) -> None:
    def change(dn: np.ndarray) -> np.ndarray:
        dn[2] = 7
        return dn

    _change_all(data / "train" / "images", change)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_one_larger_chip, r"train: chips of several shapes \(\(64, 64\), and \(96, 64\) as 1\)"),
        (_no_labels, r"validation/masks: not one labelled pixel"),
        (_constant_band, r"train/images: band B02 has one value everywhere"),
    ],
)
def test_they_are_refused_and_nothing_is_left(tmp_path, spoil, message):
    data = write_chips(tmp_path / "chips", {"train": 2, "validation": 1})
    spoil(data)
    with pytest.raises(DataError, match=message):
        train(data, tmp_path / "model", **SHORT)
    assert [path.name for path in tmp_path.iterdir()] == ["chips"]
