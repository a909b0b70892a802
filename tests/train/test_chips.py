"""Chips from folders and buckets: the same arrays, and each fault by the name of its file."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil

from geoforest.arrays.reflectance import BandStatistics
from geoforest.errors import DataError
from geoforest.io.files import open_place
from geoforest.train.chips import (
    Chip,
    channel_statistics,
    decode_raster,
    read_split,
    write_statistics,
)
from tests.helpers import synthetic
from tests.helpers.chips import cut, rewrite, upload
from tests.helpers.servers import s3_bucket, s3_server
from tests.helpers.synthetic import write_chips


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def s3(address, monkeypatch) -> Any:
    return s3_bucket(monkeypatch, address, "chips")


@pytest.fixture
def data(tmp_path) -> Path:
    return write_chips(tmp_path / "set", {"train": 3, "validation": 1})


def test_a_bucket_gives_what_its_folder_gives(data, s3):
    rewrite(data / "train" / "images" / "0.tif", synthetic.digital_numbers((64, 64)), nodata=300)
    here, there = (read_split(place, "train", n_bands=4) for place in (data, upload(s3, data)))
    assert [chip.name for chip in there] == ["0", "1", "2"]
    for ours, theirs in zip(here, there, strict=True):
        assert (ours.dn == theirs.dn).all()
        assert ours.dn.dtype == theirs.dn.dtype == np.uint16
        assert (ours.mask == theirs.mask).all()
    assert (here[0].mask == 255).any()


def test_a_fault_in_a_bucket_has_its_url(data, s3):
    (data / "train" / "masks" / "1.tif").unlink()
    url = upload(s3, data)
    with pytest.raises(DataError, match=rf"^{url}/train/images/1\.tif: image without mask"):
        read_split(url, "train", n_bands=4)
    with pytest.raises(DataError, match=rf"^{url}/test/images: no such folder; images/ and"):
        read_split(url, "test", n_bands=4)


def test_names_that_gdal_might_misread(data):
    for kind in ("images", "masks"):
        (data / "train" / kind / "0.tif").rename(data / "train" / kind / "a b%20#é?.TIF")
    assert [chip.name for chip in read_split(data, "train", n_bands=4)] == ["1", "2", "a b%20#é?"]


def test_links_and_other_files_beside_the_chips(data, tmp_path):
    images = data / "train" / "images"
    shutil.move(images / "0.tif", tmp_path / "elsewhere.tif")
    (images / "0.tif").symlink_to(tmp_path / "elsewhere.tif")
    (images / "0.tif.aux.xml").write_text("<PAMDataset/>")
    (images / "readme.txt").write_text("chips")
    assert len(read_split(data, "train", n_bands=4)) == 3


def test_masks_of_0_and_255_alone_are_ambiguous(data):
    for path in (data / "train" / "masks").glob("*.tif"):
        rewrite(path, np.resize(np.array([0, 255], np.uint8), (1, 64, 64)))
    message = r"train/masks: codes 0 and 255 only, so that 255 may be meant as forest; 0 other, 1"
    with pytest.raises(DataError, match=message):
        read_split(data, "train", n_bands=4)
    # One mask that has 1 shows what 255 stands for.
    rewrite(path, np.ones((1, 64, 64), np.uint8))
    assert len(read_split(data, "train", n_bands=4)) == 3


def test_a_split_without_forest_can_be_read(data):
    rewrite(data / "validation" / "masks" / "0.tif", np.zeros((1, 64, 64), np.uint8))
    assert not read_split(data, "validation", n_bands=4)[0].mask.any()


@pytest.mark.parametrize("nodata", [0, None])
def test_chips_are_judged_as_scenes_are(data, nodata):
    dn = synthetic.digital_numbers((64, 64))
    dn[:, :, :20] = 0
    dn[:, :, 18:20], dn[0, :, 20:23] = 1, 0  # a fringe, and a smaller footprint
    dn[:, 40, 50] = 20, 30, 0, 40  # water
    dn[1, 50, 50], dn[:, 10, 60] = 65_535, 12_000
    rewrite(data / "train" / "images" / "0.tif", dn, nodata=nodata)
    chip = read_split(data, "train", n_bands=4, bands=synthetic.BANDS)[0]
    expected = np.ones((64, 64), bool)
    expected[:, :23] = expected[50, 50] = False
    assert (chip.observed == expected).all()
    assert (chip.mask[~expected] == 255).all()
    assert chip.dn[:, 10, 60].tolist() == [10_000] * 4
    assert chip.dn.max() == 10_000


def test_the_scale_of_chips_is_heeded(data):
    reflectance = synthetic.digital_numbers((64, 64), dtype="float32")
    reflectance[:, 5, 5], reflectance[:, 6, 6] = 1.5, -9999
    for path in (data / "train" / "images").iterdir():
        rewrite(path, reflectance)
    chip = read_split(data, "train", n_bands=4, scale=1.0)[0]
    assert np.argwhere(~chip.observed).tolist() == [[6, 6]]
    assert chip.dn[:, 5, 5] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: shutil.copy(t / "images/1.tif", t / "images/1.tiff"), r"1\.tiff: has the name"),
        (lambda t: (t / "images" / "1.tif").write_bytes(b""), r"1\.tif: not a raster .*empty"),
        (lambda t: cut(t / "images" / "1.tif"), r"images/1\.tif: not a raster"),
        (lambda t: as_vrt(t / "images" / "1.tif"), r"images/1\.tif: not a raster .*'1\.tif'"),
        (lambda t: rewrite(t / "masks" / "1.tif", np.full((1, 64, 64), 2.5)), r"1\.tif: code 2\.5"),
        (
            lambda t: rewrite(t / "images" / "1.tif", np.ones((4, 60, 64), np.uint16)),
            r"masks/1\.tif: shape \(1, 64, 64\), \(1, 60, 64\) wanted",
        ),
    ],
)
def test_faults_have_the_name_of_the_file(data, spoil, message):
    spoil(data / "train")
    with pytest.raises(DataError, match=message) as caught:
        read_split(data, "train", n_bands=4)
    assert "\n" not in str(caught.value)
    assert "vsimem" not in str(caught.value)


def as_vrt(path: Path) -> None:
    """A file that GDAL would open, and that makes it open another one."""
    path.rename(path.with_suffix(".source"))
    rasterio.shutil.copy(path.with_suffix(".source"), path, driver="VRT")


class TestWhatFilesState:
    """Tags and masks inside a chip mean what they mean in a scene."""

    def image(self, data: Path, name: str = "0") -> Path:
        return data / "train" / "images" / f"{name}.tif"

    def test_an_internal_mask(self, data):
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            for kind, place in (("images", (3, 4)), ("masks", (5, 6))):
                inside = np.full((64, 64), 255, np.uint8)
                inside[place] = 0
                with rasterio.open(data / "train" / kind / "0.tif", "r+") as target:
                    target.write_mask(inside)
        chip = read_split(data, "train", n_bands=4)[0]
        assert np.argwhere(~chip.observed).tolist() == [[3, 4]]
        assert np.argwhere(chip.mask == 255).tolist() == [[3, 4], [5, 6]]

    @pytest.mark.parametrize(("scale", "offset"), [(1e-4, -0.1), (2.75e-5, -0.2)])
    def test_scale_and_offset(self, data, scale, offset):
        plain = read_split(data, "train", n_bands=4)
        for chip in plain:
            coded = np.round((chip.dn * 1e-4 - offset) / scale).astype("uint16")
            rewrite(self.image(data, chip.name), coded)
            with rasterio.open(self.image(data, chip.name), "r+") as target:
                target.scales, target.offsets = [scale] * 4, [offset] * 4
        for chip, wanted in zip(read_split(data, "train", n_bands=4), plain, strict=True):
            assert chip.dn.dtype == np.float32
            assert np.allclose(chip.dn, wanted.dn, atol=0.3)
        in_percent = read_split(data, "train", n_bands=4, scale=0.01)[0]
        assert np.allclose(in_percent.dn, plain[0].dn / 100, atol=0.003)

    def test_tags_that_say_what_is_wanted_change_nothing(self, data):
        with rasterio.open(self.image(data), "r+") as target:
            target.scales = [1e-4] * 4
        assert read_split(data, "train", n_bands=4)[0].dn.dtype == np.uint16

    @pytest.mark.parametrize("kind", ["uint32", "int32", "float64"])
    def test_wide_numbers(self, data, kind):
        for chip in read_split(data, "train", n_bands=4):
            rewrite(self.image(data, chip.name), chip.dn.astype(kind))
        assert {chip.dn.dtype.name for chip in read_split(data, "train", n_bands=4)} == {"float32"}

    def test_reflectance_itself_is_refused_unless_that_is_the_scale(self, data):
        for chip in read_split(data, "train", n_bands=4):
            rewrite(self.image(data, chip.name), (chip.dn / 1e4).astype("float32"))
        with pytest.raises(DataError, match=r"0\.tif: its values are of the size of reflectance"):
            read_split(data, "train", n_bands=4)
        assert read_split(data, "train", n_bands=4, scale=1.0)[0].dn.max() < 1

    def test_complex_numbers(self, data):
        rewrite(self.image(data), np.ones((4, 64, 64), np.complex64))
        with pytest.raises(DataError, match=r"0\.tif: is of complex64; .*gdal_translate"):
            read_split(data, "train", n_bands=4)


def test_georeference_is_read(data):
    path = data / "train" / "images" / "0.tif"
    raster = decode_raster(open_place(path), path.read_bytes())
    assert raster.crs == rasterio.CRS.from_string(synthetic.UTM_20S)
    assert raster.bounds == (500_000, 8_899_360, 500_640, 8_900_000)


def test_statistics_are_written_with_their_bands(tmp_path):
    rng = np.random.default_rng(0)
    chips = [
        Chip(
            str(n),
            rng.integers(0, 9000, (2, 32, 32)),
            rng.choice([0, 1, 255], (32, 32)),
            np.ones((32, 32), bool),
        )
        for n in range(3)
    ]
    statistics = channel_statistics(chips)
    path = tmp_path / "statistics.csv"
    write_statistics(path, ("B04", "B08"), statistics)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["band", "mean", "std", "count"]
    assert [row["band"] for row in rows] == ["B04", "B08"]
    assert [float(row["mean"]) for row in rows] == pytest.approx(statistics.mean, rel=1e-5)
    assert [float(row["std"]) for row in rows] == pytest.approx(statistics.std, rel=1e-5)
    assert {int(row["count"]) for row in rows} == {sum(int(c.labelled.sum()) for c in chips)}
    assert [item.name for item in tmp_path.iterdir()] == ["statistics.csv"]


def test_statistics_of_another_number_of_bands(tmp_path):
    statistics = BandStatistics.of(np.ones((3, 1, 1)), np.array([[True]]))
    with pytest.raises(ValueError, match="zip"):
        write_statistics(tmp_path / "a.csv", ("B04", "B08"), statistics)
    assert not list(tmp_path.iterdir())
