"""``geoforest map`` of SAFE products, end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio

from tests.helpers.safe import BAND_IDS, make_safe, zip_safe
from tests.helpers.synthetic import digital_numbers

NAME = "S2A_MSIL2A_20230804T142741_N0509_R053_T20LMR_20230804T201005"


@pytest.fixture
def dn() -> np.ndarray:
    dn = digital_numbers((150, 190))
    dn[:, :40, :30] = 0
    return dn


@pytest.fixture
def mapped(geoforest, tiny_bundle, tmp_path):
    """Map into a folder of its own; gives the mask and the summary."""

    def run(scene: Path, out: str) -> tuple[np.ndarray, dict]:
        done = geoforest("map", scene, "--out", tmp_path / out, "--model", tiny_bundle.path,
                         "--halo", 8, "--shard", 96, "--products", "mask", "--json")  # fmt: skip
        assert done.returncode == 0, done.stderr
        (folder,) = (path for path in (tmp_path / out).iterdir() if path.is_dir())
        with rasterio.open(folder / "forest_mask.tif") as source:
            return source.read(1), json.loads((folder / "summary.json").read_text())

    return run


def test_folder_and_archive_give_one_mask(mapped, tmp_path, dn):
    shifted = np.where(dn > 0, dn + 1000, 0).astype("uint16")
    root = make_safe(tmp_path, shifted, offsets=dict.fromkeys(BAND_IDS, -1000))
    mask, summary = mapped(root, "folder")
    assert ((mask == 255) == (dn[0] == 0)).all()
    assert {0, 1} < set(np.unique(mask))
    assert summary["scene_id"] == NAME
    assert summary["acquired"] == "2023-08-04T14:27:41.024000+00:00"
    assert summary["source"] == {
        "product_id": NAME,
        "mgrs_tile": "20LMR",
        "orbit": 53,
        "processing_baseline": "05.09",
        "cloud_percent": 12.5,
        "processing_level": "L2A",
        "scale": [1e-4] * 4,
        "offset": [-0.1] * 4,
    }
    packed, of_archive = mapped(zip_safe(root, tmp_path / "a.zip", method=8), "archive")
    assert (packed == mask).all()
    assert of_archive["scene_id"] == NAME
    assert of_archive["source"] == summary["source"]


def test_products_of_before_and_after_the_offset_give_one_mask(mapped, tmp_path, dn):
    before = make_safe(tmp_path, dn, baseline="03.01")
    shifted = np.where(dn > 0, dn + 1000, 0).astype("uint16")
    after = make_safe(tmp_path, shifted, offsets=dict.fromkeys(BAND_IDS, -1000))
    assert (mapped(before, "before")[0] == mapped(after, "after")[0]).all()


def test_product_twice(geoforest, tmp_path, dn):
    root = make_safe(tmp_path, dn)
    archive = zip_safe(root, tmp_path / "download.zip")
    done = geoforest("map", root, archive, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert f"scene id '{NAME}' is there twice" in done.stderr
    assert not (tmp_path / "out").exists()


def test_broken_product(geoforest, tiny_bundle, tmp_path, dn):
    root = make_safe(tmp_path, dn)
    (root / "MTD_MSIL2A.xml").write_text("<a>")
    done = geoforest("map", root, "--out", tmp_path / "out", "--model", tiny_bundle.path)
    assert done.returncode == 2
    assert "MTD_MSIL2A.xml: broken or forbidden XML" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_newest_baseline_is_mapped_alone(geoforest, tiny_bundle, tmp_path, dn):
    """From a pattern, a list, and one by one."""
    for baseline in ("02.14", "05.09"):
        make_safe(tmp_path / "in", dn, baseline=baseline)
    products = sorted((tmp_path / "in").iterdir())
    (tmp_path / "list.txt").write_text("\n".join(map(str, products)))
    for given in ([tmp_path / "in" / "*.SAFE"], [f"@{tmp_path / 'list.txt'}"], products):
        done = geoforest("map", *given, "--out", tmp_path / "out", "--model", tiny_bundle.path,
                         "--halo", 8, "--shard", 96, "--products", "mask", "--json")  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("replaced by a newer processing of the same acquisition") == 1
        assert [json.loads(line)["scene_id"] for line in done.stdout.splitlines()] == [NAME]
        assert [path.name for path in (tmp_path / "out").iterdir()] == [NAME]
