"""The scene of a map in true colour: all its pixels, wherever the virtual raster lies."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio

from geoforest.io.true_colour import bands_on_disk
from tests import synthetic
from tests.test_pipeline import run

NAMES = ("B04", "B03", "B02")


@pytest.fixture(scope="module")
def home(tiny_bundle, tmp_path_factory) -> Path:
    """A scene with a part unobserved, and its map."""
    home = tmp_path_factory.mktemp("a & b")
    dn = synthetic.digital_numbers((90, 130))
    dn[:, :30, :20] = 0
    scene = synthetic.write_raster(home / "scene.tif", dn, nodata=0)
    run(scene, home / "maps", tiny_bundle)
    return home


@pytest.fixture
def folder(home, tmp_path) -> Path:
    return Path(shutil.copytree(home / "maps" / "scene", tmp_path / "scene"))


def edit(folder: Path, change) -> None:
    job = json.loads((folder / "job.json").read_text())
    change(job["identity"]["bands"])
    (folder / "job.json").write_text(json.dumps(job))


def pixels(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read(out_dtype="int64")


def red_green_blue(scene: Path) -> np.ndarray:
    with rasterio.open(scene) as source:
        return source.read([source.descriptions.index(name) + 1 for name in NAMES])


def test_it_is_the_scene(home, tmp_path):
    found = bands_on_disk(home / "maps" / "scene")
    labels = home / "labels"
    labels.mkdir()
    (labels / "s.vrt").write_bytes(found.vrt(labels / "s.vrt"))
    with rasterio.open(labels / "s.vrt") as seen, rasterio.open(home / "scene.tif") as scene:
        assert (seen.shape, seen.transform, seen.crs) == (scene.shape, scene.transform, scene.crs)
        assert seen.dtypes == scene.dtypes[:3]
        assert not seen.dataset_mask()[:30, :20].any()
        assert seen.dataset_mask()[30:].all()
    assert (pixels(labels / "s.vrt") == red_green_blue(home / "scene.tif")).all()
    moved = Path(shutil.copytree(home, tmp_path / "moved"))
    (moved / "scene.tif").rename(moved / "kept.tif")
    with pytest.raises(rasterio.errors.RasterioIOError):
        # It names the scene beside it, not the first one.
        pixels(moved / "labels" / "s.vrt")
    (moved / "kept.tif").rename(moved / "scene.tif")
    assert (pixels(moved / "labels" / "s.vrt") == red_green_blue(moved / "scene.tif")).all()
    assert str(home).encode() not in found.vrt(labels / "s.vrt")


def test_behind_a_link(home, tmp_path):
    (tmp_path / "far" / "labels").mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "far" / "labels")
    (link / "s.vrt").write_bytes(bands_on_disk(home / "maps" / "scene").vrt(link / "s.vrt"))
    assert (pixels(link / "s.vrt") == red_green_blue(home / "scene.tif")).all()


def test_the_stretch_is_of_what_was_seen(home):
    low, high = bands_on_disk(home / "maps" / "scene").stretch
    colours = red_green_blue(home / "scene.tif")
    assert (low, high) == pytest.approx(np.percentile(colours[colours > 0], [1, 98]))


def test_bands_in_files_of_their_own(home, folder, tmp_path):
    colours = red_green_blue(home / "scene.tif")
    for name, band in zip(NAMES, colours, strict=True):
        synthetic.write_raster(tmp_path / f"{name}.tif", band[None], descriptions=None)

    def change(bands: list) -> None:
        for band in bands:
            if band[0] in NAMES:
                band[1:3] = [str(tmp_path / f"{band[0]}.tif"), 1]

    edit(folder, change)
    (tmp_path / "s.vrt").write_bytes(bands_on_disk(folder).vrt(tmp_path / "s.vrt"))
    assert (pixels(tmp_path / "s.vrt") == colours).all()
    with rasterio.open(tmp_path / "B02.tif", "r+") as band:
        band.transform = band.transform @ band.transform.translation(1, 0)
    assert bands_on_disk(folder) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda bands: bands.clear(),
        lambda bands: bands.pop(next(i for i, band in enumerate(bands) if band[0] == "B02")),
        lambda bands: bands[0].__setitem__(1, "/vsizip/none.zip/a.tif"),
        lambda bands: bands[0].__setitem__(1, "https://host/a.tif"),
        lambda bands: bands[0].__setitem__(1, 5),
        lambda bands: bands[0].__setitem__(2, 9),
        lambda bands: bands[0].append("more"),
    ],
)
def test_none_where_the_bands_are_not_there(folder, change):
    assert bands_on_disk(folder) is not None
    edit(folder, change)
    assert bands_on_disk(folder) is None


def test_none_without_a_record_or_where_it_is_no_raster(folder, tmp_path):
    assert bands_on_disk(tmp_path) is None
    (tmp_path / "a.tif").write_text("no raster")
    edit(folder, lambda bands: bands[0].__setitem__(1, str(tmp_path / "a.tif")))
    assert bands_on_disk(folder) is None
