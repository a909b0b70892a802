"""Masks that went through lossy compression are told from masks, and never taken silently."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.io import MemoryFile
from scipy.ndimage import binary_dilation

from geoforest.errors import DataError, GeoforestWarning
from geoforest.train.check import check_data
from geoforest.train.chips import read_split
from geoforest.train.codes import CodeCounts, code_fault, lossy_compression
from tests.helpers.chips import rewrite
from tests.helpers.synthetic import write_chips

Mask = np.ndarray


def through_jpeg(values: Mask, quality: int = 75) -> Mask:
    """Values ``(1, row, col)`` as a JPEG file keeps them."""
    profile = {"driver": "JPEG", "height": values.shape[1], "width": values.shape[2], "count": 1}
    with warnings.catch_warnings(), MemoryFile() as memory:
        warnings.simplefilter("ignore")
        with memory.open(**profile, dtype="uint8", QUALITY=quality) as target:
            target.write(values)
        with memory.open() as source:
            return source.read()


def with_artefacts(mask: Mask) -> Mask:
    """Forest is 255; of what a JPEG left at its edges, only single pixels of 1 remain."""
    values = mask * np.uint8(255)
    edge = binary_dilation(mask[0]) & (mask[0] == 0)
    rows, cols = np.nonzero(edge)
    values[0, rows[::5], cols[::5]] = 1
    return values


@pytest.fixture
def data(tmp_path) -> Path:
    return write_chips(tmp_path / "chips", {"train": 3, "validation": 2})


def change(data: Path, made: Callable[[Mask], Mask], **profile: object) -> None:
    """Make the masks of ``train`` anew."""
    rows, cols = np.indices((64, 64))
    for number, path in enumerate(sorted((data / "train" / "masks").glob("*.tif"))):
        mask = ((rows - 20) ** 2 + (cols - 20 - 5 * number) ** 2 < 300).astype("uint8")[None]
        rewrite(path, made(mask), **profile)


def found(data: Path, level: str) -> list[tuple[str, str]]:
    return [
        (finding.where.removeprefix(f"{data}/"), finding.what)
        for finding in check_data(data).findings
        if finding.level == level
    ]


@pytest.mark.parametrize(
    "made",
    [
        lambda mask: through_jpeg(mask * np.uint8(255)),
        lambda mask: through_jpeg(mask * np.uint8(255), quality=95),
        lambda mask: np.where(with_artefacts(mask) == 1, 254, mask * 255).astype("uint8"),
    ],
)
def test_values_of_lossy_compression_are_named_with_their_histogram(data, made):
    change(data, made)
    match = r"masks/0\.tif: code \d+ \(found 0 on \d+ %, .*%.*\), .* lossy compression such as JPEG"
    with pytest.raises(DataError, match=match):
        read_split(data, "train", n_bands=4)
    errors = found(data, "error")
    assert [where for where, _ in errors] == [f"train/masks/{number}.tif" for number in range(3)]
    assert all("lossy compression such as JPEG" in what for _, what in errors)


@pytest.mark.parametrize("factor", [1, 255])
def test_a_mask_file_that_is_jpeg_inside(data, factor):
    """Whatever its values: a mask of 0 and 1 comes back as one of other places."""
    change(data, lambda mask: mask * np.uint8(factor), compress="JPEG")
    match = r"masks/0\.tif: is compressed with JPEG, which changes codes \(found 0 on"
    with pytest.raises(DataError, match=match):
        read_split(data, "train", n_bands=4)
    assert len(found(data, "error")) == 3


def test_artefacts_are_no_forest(data):
    """The codes 0, 1 and 255 are right, but what they mean is not."""
    change(data, with_artefacts)
    match = r"train/masks: 255 is compact and 1 lies scattered \(0 on .*such as JPEG"
    with pytest.warns(GeoforestWarning, match=match):
        read_split(data, "train", n_bands=4)
    warned = dict(found(data, "warning"))
    assert "255 is compact and 1 lies scattered" in warned["train/masks"]


@pytest.mark.parametrize(
    "made",
    [
        lambda mask: mask,
        # Cloud over half the chip, with forest beside it.
        lambda mask: np.where(np.indices(mask.shape)[2] > 40, 255, mask).astype("uint8"),
        # Forest in strips of three pixels, and as much unknown.
        lambda mask: np.where(np.indices(mask.shape)[2] % 8 < 3, 1, 255 * mask).astype("uint8"),
    ],
)
def test_honest_masks(data, made):
    change(data, made)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_split(data, "train", n_bands=4)
    assert not [what for _, what in found(data, "warning") if "JPEG" in what]


def test_other_codes_are_not_blamed_on_compression():
    assert code_fault(np.array([[[0, 1, 2, 3]]]), None) == (
        "code 2; 0 other, 1 forest, 255 unknown were wanted"
    )
    assert code_fault(np.array([[[0, 1, 255]]]), None) is None
    assert CodeCounts().scattered_forest() is None


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"compress": "JPEG"}, "JPEG"),
        ({"compress": "DEFLATE"}, None),
        ({"compress": "LERC", "MAX_Z_ERROR": 2}, "LERC"),
        ({"compress": "LERC"}, None),
        ({}, None),
    ],
)
def test_compression_by_its_tags(tmp_path, options, name):
    try:
        rewrite(tmp_path / "a.tif", np.zeros((1, 64, 64), "uint8"), **options)
    except rasterio.errors.RasterioError:
        pytest.skip("GDAL is built without this compression")
    with rasterio.open(tmp_path / "a.tif") as source:
        assert lossy_compression(source.tags(ns="IMAGE_STRUCTURE")) == name
