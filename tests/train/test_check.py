"""Everything that is wrong with a set is found, in one go, and nothing else."""

from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from geoforest.errors import DataError
from geoforest.train.check import DataCheck, Finding, SplitCount, check_data
from tests.helpers import synthetic
from tests.helpers.chips import cut, rewrite, upload
from tests.helpers.servers import s3_bucket, s3_server

N_CHIPS = {"train": 4, "validation": 2, "test": 1}


def place(number: int) -> Affine:
    """Chips side by side."""
    return synthetic.TRANSFORM @ Affine.translation(64 * number, 0)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A set with nothing wrong: chips of all splits lie side by side on the ground."""
    folder = tmp_path_factory.mktemp("sound")
    numbers = iter(range(100))
    for split, count in N_CHIPS.items():
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for index, number in zip(range(count), numbers, strict=False):
            dn = synthetic.digital_numbers((64, 64), seed=number)
            for kind, values in (("images", dn), ("masks", (dn[:1] < 550).astype("uint8"))):
                path = folder / split / kind / f"{index}.tif"
                rewrite(path, values, transform=place(number))
    return folder


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def data(sound, tmp_path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "set"))


def pixels(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read()


def change(
    path: Path, function: Callable[[np.ndarray], np.ndarray | None], **profile: object
) -> None:
    """Change the pixels of a file, and keep its place unless ``profile`` has another."""
    with rasterio.open(path) as source:
        values, georeference = source.read(), {"crs": source.crs, "transform": source.transform}
    changed = function(values)
    rewrite(path, values if changed is None else changed, **{**georeference, **profile})


def change_all(folder: Path, function: Callable[[np.ndarray], np.ndarray]) -> None:
    for path in folder.iterdir():
        change(path, function)


def told(check: DataCheck, data: Path) -> list[tuple[str, str, str]]:
    return [
        (finding.level, str(Path(finding.where).relative_to(data)), finding.what)
        for finding in check.findings
    ]


def test_nothing_is_found_in_a_sound_set(sound):
    progress = []
    check = check_data(sound, progress=lambda *step: progress.append(step))
    assert check.findings == []
    assert not check.failed
    assert list(check.splits) == ["train", "validation", "test"]
    assert {name: count.chips for name, count in check.splits.items()} == N_CHIPS
    forest = sum(int(pixels(path).sum()) for path in (sound / "train" / "masks").iterdir())
    assert check.splits["train"] == SplitCount(4, 4 * 64 * 64, forest)
    assert check.splits["train"].forest_percent == pytest.approx(100 * forest / (4 * 64 * 64))
    assert progress[:2] == [("train", 1, 4), ("train", 2, 4)]


def not_finite(values: np.ndarray) -> None:
    values[0, 0, 0], values[:, 1, 1] = np.nan, np.inf


def set_peak(values: np.ndarray) -> None:
    values[1, 3, 3] = 65535


def constant(values: np.ndarray) -> None:
    values[2] = 7


ONE_FAULT = [
    (
        lambda d: (d / "train/masks/3.tif").unlink(),
        ("error", "train/images/3.tif", "image without mask of the same name"),
    ),
    (
        lambda d: (d / "test/images/0.tif").rename(d / "test/images/0.png"),
        ("error", "test/images", "no GeoTIFF chips"),
    ),
    (lambda d: cut(d / "train/images/3.tif"), ("error", "train/images/3.tif", "not a raster")),
    (lambda d: cut(d / "train/masks/3.tif"), ("error", "train/masks/3.tif", "not a raster")),
    (lambda d: shutil.rmtree(d / "train"), ("error", "train", "no such folder")),
    (lambda d: shutil.rmtree(d / "validation"), ("error", "validation", "no such folder")),
    (
        lambda d: shutil.rmtree(d / "train/masks"),
        ("error", "train/masks", "no such folder; images/ and masks/ were wanted"),
    ),
    (
        lambda d: change(d / "train/images/3.tif", lambda dn: dn[:3]),
        ("error", "train/images/3.tif", "3 bands, 4 were wanted"),
    ),
    (
        lambda d: change(d / "train/masks/3.tif", lambda mask: mask[:, :32]),
        ("error", "train/masks/3.tif", "shape (1, 32, 64), (1, 64, 64) wanted"),
    ),
    (
        lambda d: change(d / "train/masks/3.tif", lambda mask: mask * 3),
        ("error", "train/masks/3.tif", "code 3; 0 other, 1 forest, 255 unknown were wanted"),
    ),
    (
        lambda d: change(d / "train/images/3.tif", set_peak),
        ("warning", "train/images/3.tif", "values up to 65535; reflectance x 10000 seldom"),
    ),
    (
        lambda d: change(d / "train/images/3.tif", constant),
        ("warning", "train/images/3.tif", "band B02 is 7 everywhere"),
    ),
    (
        lambda d: change(d / "train/images/3.tif", np.zeros_like),
        ("warning", "train/images/3.tif", "every pixel is 0"),
    ),
    (
        lambda d: change(d / "train/images/3.tif", np.zeros_like, nodata=0),
        ("warning", "train/images/3.tif", "not one observed pixel"),
    ),
    (
        lambda d: change(d / "train/masks/3.tif", lambda mask: mask, transform=place(9)),
        ("warning", "train/masks/3.tif", "lies elsewhere on the ground than "),
    ),
    (
        lambda d: change(d / "test/masks/0.tif", np.zeros_like),
        ("warning", "test/masks", "no forest at all"),
    ),
    (
        lambda d: change_all(d / "validation/masks", np.zeros_like),
        ("error", "validation/masks", "no forest at all; both classes were wanted"),
    ),
    (
        lambda d: change_all(d / "validation/masks", np.ones_like),
        ("error", "validation/masks", "nothing but forest; both classes were wanted"),
    ),
    (
        lambda d: change(d / "test/masks/0.tif", lambda mask: mask * 255),
        ("error", "test/masks", "codes 0 and 255 only, so that 255 may be meant as forest"),
    ),
    (
        lambda d: change(d / "test/masks/0.tif", lambda mask: np.full_like(mask, 255)),
        ("error", "test/masks", "not one labelled pixel"),
    ),
]


@pytest.mark.parametrize(("spoil", "finding"), ONE_FAULT)
def test_one_fault_is_one_finding(data, spoil, finding):
    spoil(data)
    check = check_data(data)
    ((level, where, what),) = told(check, data)
    assert (level, where) == finding[:2]
    assert what.startswith(finding[2])
    assert "\n" not in what
    assert check.failed == (level == "error")


def test_the_test_split_may_be_absent(data):
    shutil.rmtree(data / "test")
    check = check_data(data)
    assert check.findings == []
    assert list(check.splits) == ["train", "validation"]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_sizes(data):
    def larger(values: np.ndarray) -> np.ndarray:
        return np.pad(values, ((0, 0), (0, 16), (0, 32)), mode="reflect")

    for kind in ("images", "masks"):
        change(data / "train" / kind / "3.tif", larger, crs=None)
    assert told(check_data(data), data)[:2] == [
        ("error", "train/images/3.tif", "80 x 96 px; multiples of 32 were wanted"),
        (
            "error",
            "train",
            (
                f"chips of several shapes: 64 x 64 px (3, such as {data}/train/images/0.tif), "
                f"80 x 96 px (1, such as {data}/train/images/3.tif); one was wanted"
            ),
        ),
    ]


class TestFloats:
    def test_reflectance_is_told_once_a_split(self, data):
        for path in (data / "train" / "images").iterdir():
            change(path, lambda dn: (dn / 10_000).astype("float32"))
        types, scale = sorted(told(check_data(data), data))
        assert types[:2] == ("warning", ".")
        assert types[2].startswith("images of several types: float32 (4, such as ")
        assert scale[:2] == ("warning", "train/images")
        assert scale[2].endswith(
            "as reflectance 0 to 1 has; digital numbers (reflectance x 10000) were wanted"
        )

    def test_digital_numbers_may_be_floats(self, data):
        for path in data.glob("*/images/*.tif"):
            change(path, lambda dn: dn.astype("float32"))
        assert check_data(data).findings == []

    def test_nan_and_infinity(self, data):
        for path in data.glob("*/images/*.tif"):
            change(path, lambda dn: dn.astype("float32"))
        change(data / "train/images/1.tif", not_finite)
        check = check_data(data)
        what = "2 px are NaN or infinite; they count as not observed"
        assert told(check, data) == [("warning", "train/images/1.tif", what)]
        assert check.splits["train"].labelled_px == 4 * 64 * 64 - 2


def test_types_mixed_in_a_split(data):
    change(data / "train/images/3.tif", lambda dn: dn.astype("int16"))
    error, warning = told(check_data(data), data)
    assert error == ("error", "train/images", "chips of types int16, uint16; one was wanted")
    assert warning[2].startswith("images of several types: uint16 (6, such as ")


class TestCopies:
    def copy(self, data: Path, source: str, target: str) -> None:
        """Copy pixels, not bytes and not the place."""
        change(data / target, lambda dn: pixels(data / source), compress="lzw")

    def test_within_a_split(self, data):
        self.copy(data, "train/images/0.tif", "train/images/2.tif")
        what = f"the same pixels as {data}/train/images/0.tif"
        assert told(check_data(data), data) == [("warning", "train/images/2.tif", what)]

    def test_between_splits(self, data):
        self.copy(data, "train/images/0.tif", "validation/images/1.tif")
        self.copy(data, "train/images/0.tif", "test/images/0.tif")
        same = f"the same pixels as {data}/train/images/0.tif"
        check = check_data(data)
        assert told(check, data) == [
            ("error", "validation/images/1.tif", f"{same}: validation leaks into train"),
            ("error", "test/images/0.tif", f"{same}: test leaks into train"),
        ]
        assert check.failed


class TestGround:
    def put(self, data: Path, name: str, **profile: object) -> None:
        for kind in ("images", "masks"):
            change(data / name.format(kind), lambda values: values, **profile)

    def test_footprints_that_overlap_between_splits(self, data):
        self.put(data, "validation/{}/1.tif", transform=place(1) @ Affine.translation(2, 5))
        assert told(check_data(data), data) == [
            (
                "warning",
                "validation/images/1.tif",
                (
                    "its ground overlaps that of 2 chip(s) of other splits, such as "
                    f"{data}/train/images/1.tif"
                ),
            )
        ]

    def test_footprints_that_overlap_within_a_split(self, data):
        self.put(data, "train/{}/1.tif", transform=place(0))
        assert check_data(data).findings == []

    def test_another_crs_is_other_ground(self, data):
        self.put(data, "validation/{}/1.tif", transform=place(1), crs="EPSG:32721")
        ((level, where, what),) = told(check_data(data), data)
        assert (level, where) == ("warning", ".")
        assert what == (
            f"images of several CRS: EPSG:32720 (6, such as {data}/train/images/0.tif), "
            f"EPSG:32721 (1, such as {data}/validation/images/1.tif)"
        )

    @pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
    def test_without_any_crs(self, data):
        for path in data.rglob("*.tif"):
            change(path, lambda values: values, crs=None)
        assert check_data(data).findings == []


def test_all_faults_are_found_at_once(data):
    spoilt = [spoil for spoil, _ in ONE_FAULT[:1] + ONE_FAULT[8:10]]
    spoilt[0](data)
    (data / "train/images/4.tif").write_text("x")
    (data / "train/masks/4.tif").write_text("x")
    change(data / "train/masks/2.tif", lambda mask: mask[:, :32] * 9)
    change(data / "validation/masks/0.tif", lambda mask: mask * 2)
    shutil.rmtree(data / "test/masks")
    assert [(level, where) for level, where, _ in told(check_data(data), data)] == [
        ("error", "train/images/3.tif"),
        ("error", "train/masks/2.tif"),
        ("error", "train/masks/2.tif"),
        ("error", "train/images/4.tif"),
        ("error", "train/masks/4.tif"),
        ("error", "validation/masks/0.tif"),
        ("error", "test/masks"),
    ]


def test_three_bands(data):
    for path in data.glob("*/images/*.tif"):
        change(path, lambda dn: dn[:3])
    assert check_data(data, bands=("B04", "B03", "B02")).findings == []
    assert len(check_data(data).findings) == 7


def test_pixels_of_one_chip_at_a_time(tmp_path):
    side = 512
    for kind in ("images", "masks"):
        (tmp_path / "train" / kind).mkdir(parents=True)
    for number in range(12):
        dn = np.full((4, side, side), number + 1, np.uint16)
        dn[:, : side // 2] = 9
        rewrite(tmp_path / "train" / "images" / f"{number}.tif", dn)
        mask = np.zeros((1, side, side), np.uint8)
        rewrite(tmp_path / "train" / "masks" / f"{number}.tif", mask)
    tracemalloc.start()
    check_data(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * 4 * side * side * 2


class TestS3:
    def test_a_bucket_is_judged_as_its_folder(self, data, address, monkeypatch):
        (data / "train/masks/3.tif").unlink()
        change(data / "train/masks/2.tif", lambda mask: mask * 3)
        shutil.copy(data / "train/images/0.tif", data / "validation/images/0.tif")
        url = upload(s3_bucket(monkeypatch, address, "chips"), data)
        here, there = check_data(data), check_data(url)
        assert len(here.findings) == 5
        assert there.findings == [
            Finding(f.level, f.where.replace(str(data), url), f.what.replace(str(data), url))
            for f in here.findings
        ]
        assert there.splits == here.splits

    def test_no_bucket(self, address, monkeypatch):
        s3_bucket(monkeypatch, address, "chips")
        assert [str(finding) for finding in check_data("s3://nowhere/set").findings] == [
            f"error: s3://nowhere/set/{split}: no such folder; images/ and masks/ in it were wanted"
            for split in ("train", "validation")
        ]

    def test_a_bucket_that_cannot_be_asked(self, address, monkeypatch):
        s3_bucket(monkeypatch, address, "chips")
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        with pytest.raises(DataError, match=r"^s3://chips/set/train: cannot be read \(NoCred"):
            check_data("s3://chips/set")


@pytest.mark.slow
@pytest.mark.real_data
def test_real_sets(real_data):
    europe = check_data(real_data / "labelled" / "europe-rgbn")
    assert not europe.failed
    assert {name: count.chips for name, count in europe.splits.items()} == {
        "train": 260,
        "validation": 54,
    }
    amazon = check_data(real_data / "labelled" / "amazon-rgb", bands=("B04", "B03", "B02"))
    # One of its masks is three columns too wide.
    assert [finding.what for finding in amazon.findings] == [
        "shape (1, 512, 515), (1, 512, 512) wanted",
        "no such folder; images/ and masks/ in it were wanted",
    ]
