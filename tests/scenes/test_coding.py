"""What the numbers of bands mean: options before metadata, these before tags, these before guesses.

Forest of these scenes has little red, so a wrong scale, offset or nodata value moves the map.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio

from geoforest.arrays.grid import Window
from geoforest.errors import SceneError
from geoforest.scenes.coding import sample_pixels
from geoforest.scenes.open import open_scene
from geoforest.scenes.read import read_decimated, read_window
from tests.helpers import stac
from tests.helpers.safe import make_safe
from tests.helpers.synthetic import BANDS, digital_numbers, write_raster

WHOLE = Window(0, 0, 40, 50)
LANDSAT = 2.75e-5, -0.2


@pytest.fixture
def dn() -> np.ndarray:
    return digital_numbers((40, 50))


def tag(path: Path, scale: float, offset: float) -> Path:
    with rasterio.open(path, "r+") as target:
        target.scales, target.offsets = [scale] * target.count, [offset] * target.count
    return path


def folder_of(tmp_path: Path, dn: np.ndarray, **profiles: dict[str, object]) -> Path:
    folder = tmp_path / "bands"
    folder.mkdir()
    for name, band in zip(BANDS, dn, strict=True):
        profile = {"nodata": 0, **profiles.get(name, {})}
        kind = str(profile.pop("stored", "uint16"))
        write_raster(folder / f"{name}.tif", band[None].astype(kind), descriptions=None, **profile)
    return folder


class TestScaleAndOffset:
    @pytest.mark.parametrize(("scale", "offset"), [(1e-4, -0.1), LANDSAT, (1e-3, 0.0)])
    def test_tags_of_a_raster_are_used_and_said(self, tmp_path, dn, scale, offset):
        path = tag(write_raster(tmp_path / "a.tif", dn), scale, offset)
        scene = open_scene(path, wanted=BANDS)
        assert (scene.scale, scene.offset) == ((scale,) * 4, (offset,) * 4)
        assert f"its tags state (B04, B03, B02, B08: DN x {scale:g}" in " ".join(scene.notes)

    def test_each_band_of_a_folder_has_its_own(self, tmp_path, dn):
        folder = folder_of(tmp_path, dn)
        for name in BANDS[1:]:
            tag(folder / f"{name}.tif", 1e-4, -0.1)
        scene = open_scene(folder, wanted=BANDS)
        assert (scene.scale, scene.offset) == ((1e-4,) * 4, (0.0, -0.1, -0.1, -0.1))
        assert "(B04: DN x 0.0001 (no tags); B03, B02, B08: DN x 0.0001 -0.1)" in scene.notes[0]

    def test_options_come_before_tags_each_for_itself(self, tmp_path, dn):
        path = tag(write_raster(tmp_path / "a.tif", dn), *LANDSAT)
        scene = open_scene(path, wanted=BANDS, scale=1e-4)
        assert (scene.scale, scene.offset) == ((1e-4,) * 4, (-0.2,) * 4)
        scene = open_scene(path, wanted=BANDS, scale=1e-4, offset=(0, 1, 2, 3))
        assert (scene.scale, scene.offset) == ((1e-4,) * 4, (0, 1, 2, 3))
        assert not any("tags" in note and "scale" in note for note in scene.notes)

    def test_an_offset_that_pixels_show_applied_is_said(self, tmp_path, dn):
        for name, values, told in (("a.tif", dn, True), ("b.tif", dn + 1000, False)):
            path = tag(write_raster(tmp_path / name, values), 1e-4, -0.1)
            scene = open_scene(path, wanted=BANDS)
            assert scene.offset == (-0.1,) * 4
            assert told == any("look as if it had been applied before" in n for n in scene.notes)

    @pytest.mark.parametrize("numbers", [(0.0, 5.0), (float("nan"), 0.0), (1.0, float("inf"))])
    def test_tags_that_mean_nothing_are_refused(self, tmp_path, dn, numbers):
        path = tag(write_raster(tmp_path / "a.tif", dn), *numbers)
        with pytest.raises(SceneError, match=r"a\.tif: the tags of band 1 state scale .* offset"):
            open_scene(path, wanted=BANDS)
        assert open_scene(path, wanted=BANDS, scale=1e-4, offset=0).scale == (1e-4,) * 4

    @pytest.mark.parametrize("stored", ["float32", "float64"])
    def test_reflectance_itself_is_recognised(self, tmp_path, dn, stored):
        values = (dn / 1e4).astype(stored)
        values[:, :15] = -9999
        path = write_raster(tmp_path / "a.tif", values)
        scene = open_scene(path, wanted=BANDS)
        assert scene.scale == (1.0,) * 4
        assert "size of reflectance" in scene.notes[0]
        assert open_scene(path, wanted=BANDS, scale=1e-4).scale == (1e-4,) * 4
        # Digital numbers as real numbers stay such.
        other = write_raster(tmp_path / "b.tif", dn.astype(stored))
        assert open_scene(other, wanted=BANDS).scale == (1e-4,) * 4

    def test_a_product_whose_rasters_say_otherwise(self, tmp_path, dn):
        safe = make_safe(tmp_path, dn)
        for file in safe.rglob("*_B04*"):
            tag(file, 1e-3, 0.0)
        scene = open_scene(safe, wanted=BANDS)
        assert scene.scale == (1e-4,) * 4
        (told,) = [note for note in scene.notes if "scale" in note]
        assert "metadata state scale 0.0001 for B04, the rasters' own tags 0.001" in told


class TestNodata:
    def test_each_band_of_a_folder_has_its_own(self, tmp_path, dn):
        dn[1, 3, 4], dn[0, 5, 6] = 7, 0
        folder = folder_of(tmp_path, dn, B04={"nodata": None}, B03={"nodata": 7})
        scene = open_scene(folder, wanted=BANDS)
        assert [band.nodata for band in scene.bands] == [None, 7, 0, 0]
        assert not read_window(scene, WHOLE)[1][3, 4]

    def item(self, folder: Path, dn: np.ndarray, stated: object, **profile: object) -> Path:
        """An item that states no scale or offset, and this nodata value, if any."""
        document = stac.item(stac.planetary_computer)
        for name, band in zip(BANDS, dn, strict=True):
            write_raster(folder / f"{name}.tif", band[None], descriptions=None, **profile)
            document["assets"][name]["raster:bands"] = (
                [] if stated is None else [{"nodata": stated}]
            )
        return stac.write_item(folder, document)

    def test_an_item_without_any_leaves_that_of_the_raster(self, tmp_path, dn):
        signed = dn.astype("int16")
        signed[:, :20], signed[2, 30, 30] = -32768, 0
        scene = open_scene(self.item(tmp_path, signed, None, nodata=-32768), wanted=BANDS)
        assert {band.nodata for band in scene.bands} == {-32768}
        valid = read_window(scene, WHOLE)[1]
        assert not valid[:20].any()
        assert valid[20:].all()
        # Unobserved pixels are no evidence of an offset.
        assert scene.facts["offset_check"]["darkest_red_dn"] > 0

    def test_an_item_and_a_raster_without_any_have_that_of_esa(self, tmp_path, dn):
        scene = open_scene(self.item(tmp_path, dn, None), wanted=BANDS)
        assert {band.nodata for band in scene.bands} == {0}

    def test_an_item_that_contradicts_its_rasters(self, tmp_path, dn):
        signed = dn.astype("int16")
        signed[:, 3, 4], signed[:, 5, 6] = -32768, 0
        scene = open_scene(self.item(tmp_path, signed, 0, nodata=-32768), wanted=BANDS)
        assert np.argwhere(~read_window(scene, WHOLE)[1]).tolist() == [[3, 4], [5, 6]]
        told = "state nodata 0 for B04, B03, B02, B08, the rasters' own tags -32768"
        assert told in " ".join(scene.notes)

    def test_the_offset_that_rasters_of_an_item_state(self, tmp_path, dn):
        item = self.item(tmp_path, dn + 1000, None, nodata=0)
        for name in BANDS:
            tag(tmp_path / f"{name}.tif", 1e-4, -0.1)
        scene = open_scene(item, wanted=BANDS)
        assert (scene.scale, scene.offset) == ((1e-4,) * 4, (-0.1,) * 4)
        assert scene.facts["offset_check"]["offset_stated"] == -0.1
        assert not any("states no scale" in note for note in scene.notes)
        for name in BANDS:
            tag(tmp_path / f"{name}.tif", *LANDSAT)
        assert open_scene(item, wanted=BANDS).offset == (-0.2,) * 4

    def test_each_band_of_an_item_has_its_own(self, tmp_path, dn):
        path = self.item(tmp_path, dn, 0)
        document = json.loads(path.read_text())
        document["assets"]["B08"]["raster:bands"] = [{"nodata": 5}]
        path.write_text(json.dumps(document))
        scene = open_scene(path, wanted=BANDS)
        assert [band.nodata for band in scene.bands] == [0, 0, 0, 5]


class TestTypes:
    @pytest.mark.parametrize(
        ("stored", "nodata"),
        [
            ("float64", -1.7976931348623157e308),
            ("float64", float("nan")),
            ("uint32", 4294967295),
            ("int32", -2147483648),
            ("int64", -9999),
            ("uint64", 0),
        ],
    )
    def test_wide_numbers_are_read_as_float32(self, tmp_path, dn, stored, nodata):
        wide = dn.astype(stored)
        wide[:, 3, 4] = nodata
        scene = open_scene(write_raster(tmp_path / "a.tif", wide, nodata=nodata), wanted=BANDS)
        assert (scene.dtype, scene.scale) == ("float32", (1e-4,) * 4)
        for values, valid in (read_window(scene, WHOLE), read_decimated(scene, 50)):
            assert values.dtype == np.float32
            assert np.argwhere(~valid).tolist() == [[3, 4]]
            assert np.array_equal(values[:, valid], dn[:, valid])

    def test_in_another_order_of_bands(self, tmp_path, dn):
        path = write_raster(tmp_path / "a.tif", dn.astype("float64"), descriptions=BANDS[::-1])
        values, _ = read_window(open_scene(path, wanted=BANDS), WHOLE)
        assert np.array_equal(values, dn[::-1])

    def test_wide_integers_without_a_tag_take_zero_in_all_bands_as_unobserved(self, tmp_path, dn):
        dn[:, 1, 1] = 0
        scene = open_scene(write_raster(tmp_path / "a.tif", dn.astype("uint32")), wanted=BANDS)
        assert np.argwhere(~read_window(scene, WHOLE)[1]).tolist() == [[1, 1]]

    def test_a_folder_of_float64_and_float32(self, tmp_path, dn):
        folder = folder_of(
            tmp_path,
            dn,
            B04={"stored": "float64"},
            **{name: {"stored": "float32"} for name in BANDS[1:]},
        )
        values, _ = read_window(open_scene(folder, wanted=BANDS), WHOLE)
        assert np.array_equal(values, dn)

    def test_types_that_are_not_read_alike_are_refused(self, tmp_path, dn):
        folder = folder_of(tmp_path, dn, B08={"stored": "float32"})
        with pytest.raises(SceneError, match=r"float32, another band uint16.*gdal_translate"):
            open_scene(folder, wanted=BANDS)

    def test_an_offset_that_needs_more_digits_is_refused(self, tmp_path, dn):
        path = write_raster(tmp_path / "a.tif", dn + 2e9)
        tag(path, 1e-4, -2e5)
        with pytest.raises(SceneError, match="float64 with offset -200000, too large for float32"):
            open_scene(path, wanted=BANDS)


def sampled(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return sample_pixels(source)


def test_a_large_raster_is_sampled_in_few_places(tmp_path):
    """Without overviews: the same few pixels each time, from all over the raster."""
    values = np.arange(2100 * 2100, dtype="float32").reshape(1, 2100, 2100)
    path = write_raster(tmp_path / "a.tif", values, descriptions=None, tiled=True)
    picked = sampled(path)
    assert picked.size == 512 * 512
    assert np.array_equal(picked, sampled(path))
    rows, cols = np.divmod(picked, 2100)
    for places in (rows, cols):
        assert np.unique(places // 525).size == 4


def test_a_small_raster_is_sampled_whole(tmp_path):
    dn = digital_numbers((40, 50))[:1]
    path = write_raster(tmp_path / "a.tif", dn, descriptions=None)
    assert np.array_equal(sampled(path), dn[0])
    dn[0, 3, 4] = 7
    path = write_raster(tmp_path / "b.tif", dn, descriptions=None, nodata=7)
    assert np.argwhere(np.isnan(sampled(path))).tolist() == [[3, 4]]
