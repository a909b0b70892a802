"""What a zip archive may be that pretends to hold a product."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest

from geoforest.errors import SceneError
from geoforest.scenes.open import open_scene, scene_name
from geoforest.scenes.safe import files as product_files
from geoforest.scenes.safe.files import folder_files, zip_files, zip_names
from tests.helpers.safe import make_safe, zip_safe
from tests.helpers.synthetic import BANDS, digital_numbers

XML = "MTD_MSIL2A.xml"
# Where fields lie in an entry of a zip archive's directory, and how.
FLAGS, METHOD, PACKED, UNPACKED = (8, "<H"), (10, "<H"), (20, "<L"), (24, "<L")
IN_DIRECTORY = b"PK\x01\x02"


@pytest.fixture
def archive(tmp_path) -> Path:
    root = make_safe(tmp_path, digital_numbers((40, 50)))
    return zip_safe(root, tmp_path / "a.zip", method=zipfile.ZIP_DEFLATED)


def patch(archive: Path, field: tuple[int, str], value: int, name: str = XML) -> None:
    """Change what the archive's directory says of a file."""
    data = bytearray(archive.read_bytes())
    entry = data.rindex(IN_DIRECTORY, 0, data.rindex(name.encode()))
    struct.pack_into(field[1], data, entry + field[0], value)
    archive.write_bytes(data)


def rename(archive: Path, new: str, old: str = XML) -> None:
    """Give a file a name of the same length that :mod:`zipfile` would not write."""
    assert len(new) == len(old)
    archive.write_bytes(archive.read_bytes().replace(old.encode(), new.encode()))


def refused(archive: Path, match: str) -> None:
    assert scene_name(archive)
    with pytest.raises(SceneError, match=match) as caught:
        open_scene(archive, wanted=BANDS)
    assert archive.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_honest(archive):
    assert len(open_scene(archive, wanted=BANDS).bands) == 4


LEADING_OUT = ("../../evil.xml", "/etc/evil.xml", "a\\b\\evil.xml", "C:/evil.xml", "a//evil.xml")


@pytest.mark.parametrize("name", LEADING_OUT)
def test_name_that_leads_out(archive, name):
    with zipfile.ZipFile(archive, "a") as target:
        target.writestr("x" * len(name), "")
    rename(archive, name, "x" * len(name))
    refused(archive, "leads out of the archive")


@pytest.mark.parametrize("character", ["\0", "\n", "\x1b"])
def test_name_that_is_not_printable(archive, character):
    rename(archive, f"MTD_MSIL2A{character}xml")
    refused(archive, "leads out of the archive, or is not printable")


def test_one_name_twice(archive):
    with zipfile.ZipFile(archive, "a") as target:
        target.writestr("other_name.txt", "")
        target.writestr("second_one.txt", "")
    rename(archive, "other_name.txt", "second_one.txt")
    refused(archive, "a file twice under one name")


def test_more_files_than_a_product_has(archive, monkeypatch):
    monkeypatch.setattr(product_files, "MAX_FILES", 5)
    refused(archive, "more than 5 files; refused as a bomb")


def test_declared_size_of_a_bomb(archive):
    patch(archive, UNPACKED, 3 << 30)
    refused(archive, "has 3221225472 bytes unpacked; refused as a bomb")


def test_declared_sizes_of_a_bomb(archive, monkeypatch):
    monkeypatch.setattr(product_files, "MAX_TOTAL_BYTES", 1000)
    refused(archive, r"\d+ bytes unpacked; refused as a bomb")


def test_files_over_each_other(archive):
    patch(archive, PACKED, archive.stat().st_size)
    refused(archive, "lie over each other; refused as a bomb")


def test_real_size_of_a_bomb(archive):
    """Ten thousand times what is read of it, under a harmless size in the directory."""
    with zipfile.ZipFile(archive) as source:
        entries = {name: source.read(name) for name in source.namelist()}
    (xml,) = (name for name in entries if name.endswith(XML))
    entries[xml] += b" " * (64 << 20)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in entries.items():
            target.writestr(name, data)
    refused(archive, "has more than 8388608 bytes")
    patch(archive, UNPACKED, 4000)
    refused(archive, r"MTD_MSIL2A.xml: cannot be read \(Bad CRC")


def test_encrypted(archive):
    patch(archive, FLAGS, 1)
    refused(archive, "is encrypted")


def test_method_that_gdal_cannot_unpack(archive):
    patch(archive, METHOD, zipfile.ZIP_LZMA)
    refused(archive, "packed by method 14; stored or deflated")


def test_broken_stream(archive):
    data = bytearray(archive.read_bytes())
    start = data.index(XML.encode()) + len(XML)
    data[start : start + 40] = b"\xff" * 40
    archive.write_bytes(data)
    refused(archive, r"MTD_MSIL2A.xml: cannot be read")


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.999])
def test_cut_off(archive, kept):
    data = archive.read_bytes()
    archive.write_bytes(data[: int(kept * len(data)) if kept < 1 else kept])
    refused(archive, "no zip archive, or cut off")


def test_no_product_in_it(tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("readme.txt", "hello")
    refused(archive, "has no product metadata.*MTD_MSIL2A.xml was wanted")
    with zipfile.ZipFile(archive, "w"):
        pass
    refused(archive, "has no product metadata")


@pytest.mark.parametrize("suffix", [".jp2.ovr", ".jp2.aux.xml", ".JP2.MSK", ".aux"])
def test_file_beside_an_image_that_names_others(archive, suffix):
    """GDAL would open an overview or mask there, even one that reads a file of this machine."""
    image = open_scene(archive, wanted=BANDS).bands[0].path.removeprefix(f"/vsizip/{archive}/")
    with zipfile.ZipFile(archive, "a") as target:
        target.writestr(image.removesuffix(".jp2") + suffix, "<VRTDataset/>")
    refused(archive, "no product has such a file")


def test_nothing_is_unpacked(archive, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    open_scene(archive, wanted=BANDS)
    assert sorted(tmp_path.rglob("*")) == before


def test_folder_of_more_files_than_a_product_has(tmp_path, monkeypatch):
    for number in range(6):
        (tmp_path / f"{number}").write_text("")
    assert folder_files(tmp_path).names == {f"{number}" for number in range(6)}
    monkeypatch.setattr(product_files, "MAX_FILES", 5)
    with pytest.raises(SceneError, match="more than 5 files"):
        folder_files(tmp_path)


def test_names_below_a_folder_of_an_archive(archive):
    root = next(iter(zip_names(archive))).split("/")[0]
    files = zip_files(archive, root)
    assert XML in files.names
    assert files.path(XML) == f"/vsizip/{archive}/{root}/{XML}"
    assert files.read_start(XML, 5) == b"<?xml"
    with pytest.raises(SceneError, match="has more than 5 bytes"):
        files.read_whole(XML, 5)
