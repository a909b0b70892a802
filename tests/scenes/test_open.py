"""What inputs are taken for, and what is said of those that cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.enums import ColorInterp

from geoforest.arrays.clouds import CLEAR
from geoforest.arrays.grid import Window, preview_lattice
from geoforest.errors import ReadError, SceneError
from geoforest.io import raster
from geoforest.scenes.clouds.mask import cloud_mask
from geoforest.scenes.open import open_scene
from geoforest.scenes.read import read_decimated, read_window
from tests.helpers import synthetic
from tests.helpers.synthetic import BANDS, digital_numbers, write_raster

WHOLE = Window(0, 0, 40, 50)


@pytest.fixture
def dn() -> np.ndarray:
    return digital_numbers((40, 50))


def test_bands_are_found_by_description_in_the_wanted_order(tmp_path, dn):
    path = write_raster(tmp_path / "a.tif", dn, descriptions=("nir", "Band 2", "B3 (green)", "RED"))
    scene = open_scene(path, wanted=BANDS)
    assert [band.index for band in scene.bands] == [4, 3, 2, 1]
    values, valid = read_window(scene, WHOLE)
    assert (values == dn[::-1]).all()
    assert valid.all()


def test_bands_are_given_by_number(tmp_path, dn):
    path = write_raster(tmp_path / "a.tif", dn, descriptions=None)
    scene = open_scene(path, wanted=BANDS, bands=(2, 1, 4, 3))
    assert (read_window(scene, WHOLE)[0] == dn[[1, 0, 3, 2]]).all()


def folder_of_bands(tmp_path: Path, dn: np.ndarray, **changes) -> Path:
    folder = tmp_path / "S2A_MSIL2A_20210804T142741_N0301_R053_T20LMR"
    folder.mkdir()
    for name, band in zip(BANDS, dn, strict=True):
        write_raster(folder / f"{name}.tif", band[None], descriptions=None, **changes.get(name, {}))
    write_raster(folder / "cloud_mask.tif", dn[:1], descriptions=None)
    return folder


def test_a_folder_with_one_file_a_band(tmp_path, dn):
    scene = open_scene(folder_of_bands(tmp_path, dn), wanted=BANDS)
    assert scene.scene_id == "S2A_MSIL2A_20210804T142741_N0301_R053_T20LMR"
    assert scene.acquired is not None
    assert scene.acquired.isoformat() == "2021-08-04T14:27:41+00:00"
    assert len(scene.files) == 4
    assert (read_window(scene, WHOLE)[0] == dn).all()


@pytest.mark.parametrize("driver", ["JP2OpenJPEG", "COG"])
def test_other_drivers(tmp_path, dn, driver):
    plain = write_raster(tmp_path / "a.tif", dn)
    options = {"QUALITY": 100, "REVERSIBLE": "YES"} if driver == "JP2OpenJPEG" else {}
    other = tmp_path / ("b.jp2" if driver == "JP2OpenJPEG" else "b.tif")
    rasterio.shutil.copy(plain, other, driver=driver, **options)
    scene = open_scene(other, wanted=BANDS, bands=(1, 2, 3, 4))
    assert (read_window(scene, WHOLE)[0] == dn).all()


def test_vrt(tmp_path, dn):
    plain = write_raster(tmp_path / "a.tif", dn)
    rasterio.shutil.copy(plain, tmp_path / "a.vrt", driver="VRT")
    scene = open_scene(tmp_path / "a.vrt", wanted=BANDS)
    assert {Path(name).name for name, *_ in scene.files} == {"a.vrt", "a.tif"}
    assert (read_window(scene, WHOLE)[0] == dn).all()


def test_each_file_is_opened_once(tmp_path, dn, monkeypatch):
    plain = write_raster(tmp_path / "a.tif", dn)
    rasterio.shutil.copy(plain, tmp_path / "a.vrt", driver="VRT")
    folder = folder_of_bands(tmp_path, dn)
    reader, opened = raster._Reader, []

    def counted(path, *arguments, **named):
        opened.append(Path(path).name)
        return reader(path, *arguments, **named)

    monkeypatch.setattr(raster, "_Reader", counted)
    open_scene(plain, wanted=BANDS)
    assert opened == ["a.tif"]
    opened.clear()
    open_scene(tmp_path / "a.vrt", wanted=BANDS)
    assert sorted(opened) == ["a.tif", "a.vrt"]
    opened.clear()
    open_scene(folder, wanted=BANDS)
    assert sorted(opened) == sorted(f"{name}.tif" for name in BANDS)


class TestRounding:
    """Transforms as programs round them: taken for what they mean, everywhere."""

    TURNED = rasterio.Affine(10, 1e-12, 500_000, -1e-12, -10, 8_900_000)

    def test_a_rotation_of_a_raster(self, tmp_path, dn):
        path = write_raster(tmp_path / "a.tif", dn, transform=self.TURNED)
        with rasterio.open(path) as source:
            assert source.transform.b != 0
        assert open_scene(path, wanted=BANDS).transform == synthetic.TRANSFORM

    @pytest.mark.parametrize("width", [10 + 2e-12, 9.9999999998])
    def test_the_pixels_of_one_band(self, tmp_path, dn, width):
        transform = rasterio.Affine(width, 0, 500_000, 0, -10, 8_900_000)
        folder = folder_of_bands(tmp_path, dn, B08={"transform": transform})
        assert open_scene(folder, wanted=BANDS).transform == synthetic.TRANSFORM

    def test_the_classification(self, tmp_path, dn):
        folder = folder_of_bands(tmp_path, dn)
        layer = np.full((1, 20, 25), 4, np.uint8)
        transform = self.TURNED @ rasterio.Affine.scale(2)
        write_raster(folder / "SCL.tif", layer, descriptions=None, transform=transform)
        scene, clouds = cloud_mask(open_scene(folder, wanted=BANDS))
        assert clouds is not None
        assert (clouds.source.read_codes(Window(0, 0, *scene.shape)) == CLEAR).all()


class TestValidity:
    def test_nodata_tag(self, tmp_path, dn):
        dn[2, 5, 6] = 7
        scene = open_scene(write_raster(tmp_path / "a.tif", dn, nodata=7), wanted=BANDS)
        assert np.argwhere(~read_window(scene, WHOLE)[1]).tolist() == [[5, 6]]

    def test_nodata_option_replaces_the_tag(self, tmp_path, dn):
        dn[2, 5, 6], dn[1, 7, 8] = 7, 9
        path = write_raster(tmp_path / "a.tif", dn, nodata=7)
        scene = open_scene(path, wanted=BANDS, nodata=9)
        assert np.argwhere(~read_window(scene, WHOLE)[1]).tolist() == [[7, 8]]

    def test_mask_band(self, tmp_path, dn):
        path = write_raster(tmp_path / "a.tif", dn)
        mask = np.full((40, 50), 255, np.uint8)
        mask[3, 4] = 0
        with rasterio.open(path, "r+") as target:
            target.write_mask(mask)
        scene = open_scene(path, wanted=BANDS)
        assert np.argwhere(~read_window(scene, WHOLE)[1]).tolist() == [[3, 4]]
        assert any(name.endswith(".msk") for name, *_ in scene.files) or len(scene.files) == 1

    def test_alpha_band(self, tmp_path, dn):
        alpha = np.full((1, 40, 50), 255, np.uint16)
        alpha[0, 9, 9] = 0
        path = write_raster(
            tmp_path / "a.tif", np.concatenate([dn, alpha]), descriptions=(*BANDS, "alpha")
        )
        with rasterio.open(path, "r+") as target:
            target.colorinterp = [ColorInterp.gray, *[ColorInterp.undefined] * 3, ColorInterp.alpha]
        scene = open_scene(path, wanted=BANDS)
        assert np.argwhere(~read_window(scene, WHOLE)[1]).tolist() == [[9, 9]]

    def test_a_used_band_is_never_alpha(self, tmp_path):
        dn = digital_numbers((40, 50), dtype="uint8")
        dn[3, 2, 2] = 0  # near infrared of dark water
        path = write_raster(tmp_path / "a.tif", dn, photometric="RGB", alpha="yes")
        with rasterio.open(path) as source:
            assert source.colorinterp[3] == ColorInterp.alpha
        assert read_window(open_scene(path, wanted=BANDS), WHOLE)[1].all()

    def test_untagged_integers_take_zero_in_all_bands_as_unobserved(self, tmp_path, dn):
        dn[:, 1, 1] = 0
        dn[0, 2, 2] = 0
        scene = open_scene(write_raster(tmp_path / "a.tif", dn), wanted=BANDS)
        assert np.argwhere(~read_window(scene, WHOLE)[1]).tolist() == [[1, 1]]
        assert any("0 in all bands" in note for note in scene.notes)

    def test_untagged_floats_keep_zero(self, tmp_path, dn):
        dn = dn.astype("float32")
        dn[:, 1, 1] = 0
        dn[1, 2, 2] = np.nan
        scene = open_scene(write_raster(tmp_path / "a.tif", dn), wanted=BANDS)
        assert np.argwhere(~read_window(scene, WHOLE)[1]).tolist() == [[2, 2]]


def test_decimated(tmp_path, dn):
    scene = open_scene(write_raster(tmp_path / "a.tif", dn), wanted=BANDS)
    values, valid = read_decimated(scene, 25)
    assert values.shape == (4, 20, 25)
    assert valid.shape == (20, 25)


class TestRefused:
    """One clear sentence each: the file, what was found, what was wanted."""

    def refused(self, path: Path, match: str, **options) -> None:
        with pytest.raises(SceneError, match=match) as caught:
            open_scene(path, wanted=BANDS, **options)
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_missing_file(self, tmp_path):
        self.refused(tmp_path / "none.tif", "no such file")

    def test_not_a_raster(self, tmp_path):
        path = tmp_path / "a.tif"
        path.write_text("hello")
        self.refused(path, "not a raster")

    def test_truncated(self, tmp_path):
        whole = write_raster(tmp_path / "whole.tif", digital_numbers((300, 300)))
        path = tmp_path / "a.tif"
        rasterio.shutil.copy(whole, path)  # a copy has its directory in front of its blocks
        path.write_bytes(path.read_bytes()[:-2000])
        self.refused(path, r"truncated: the file has \d+ bytes, but a block .* ends at \d+")

    def test_truncated_before_its_directory(self, tmp_path):
        path = write_raster(tmp_path / "a.tif", digital_numbers((300, 300)))
        path.write_bytes(path.read_bytes()[:-2000])
        self.refused(path, "not a raster that GDAL can open")

    def test_truncated_source_of_a_vrt(self, tmp_path):
        path = write_raster(tmp_path / "a.tif", digital_numbers((300, 300)))
        rasterio.shutil.copy(path, tmp_path / "b.vrt", driver="VRT")
        path.write_bytes(path.read_bytes()[:-2000])
        with pytest.raises(SceneError, match=r"a\.tif: cannot be read"):
            open_scene(tmp_path / "b.vrt", wanted=BANDS)

    def test_missing_band(self, tmp_path, dn):
        path = write_raster(tmp_path / "a.tif", dn[:3], descriptions=BANDS[:3])
        self.refused(path, r"B08 is missing: its 3 band\(s\) are B04, B03, B02")

    def test_bands_without_names(self, tmp_path, dn):
        path = write_raster(tmp_path / "a.tif", dn, descriptions=None)
        self.refused(path, r"B04 is missing.*--bands 1,2,3,4")

    def test_band_twice(self, tmp_path, dn):
        path = write_raster(tmp_path / "a.tif", dn[[0, 0, 1, 2, 3]], descriptions=("B04", *BANDS))
        self.refused(path, "B04 is there twice")

    def test_wrong_band_numbers(self, tmp_path, dn):
        path = write_raster(tmp_path / "a.tif", dn)
        self.refused(path, "asks for band 5, the file has 4", bands=(1, 2, 3, 5))
        self.refused(path, "gives 3 band numbers, the model needs 4", bands=(1, 2, 3))

    def test_missing_band_file(self, tmp_path, dn):
        folder = folder_of_bands(tmp_path, dn)
        (folder / "B08.tif").unlink()
        self.refused(folder, "B08 is missing")

    def test_two_files_for_a_band(self, tmp_path, dn):
        folder = folder_of_bands(tmp_path, dn)
        (folder / "B08.tif").rename(folder / "T20LMR_B08_10m.tif")
        write_raster(folder / "T20LMR_B08_20m.tif", dn[:1], descriptions=None)
        self.refused(folder, r"2 files for band B08: T20LMR_B08_10m.tif, T20LMR_B08_20m.tif")

    @pytest.mark.parametrize(
        "change",
        [
            {"transform": synthetic.TRANSFORM @ rasterio.Affine.translation(1, 0)},
            {"crs": "EPSG:32721"},
        ],
    )
    def test_bands_on_other_grids(self, tmp_path, dn, change):
        folder = folder_of_bands(tmp_path, dn, B08=change)
        with pytest.raises(SceneError, match=r"B\d\d\.tif: its grid .* differs from that of"):
            open_scene(folder, wanted=BANDS)

    def test_band_of_another_size(self, tmp_path, dn):
        folder = folder_of_bands(tmp_path, dn)
        write_raster(folder / "B08.tif", dn[:1, ::2, ::2], descriptions=None)
        with pytest.raises(SceneError, match=r"20 x 25 px.*40 x 50 px|40 x 50 px.*20 x 25 px"):
            open_scene(folder, wanted=BANDS)

    def test_no_crs(self, tmp_path, dn):
        with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
            path = write_raster(tmp_path / "a.tif", dn, crs=None)
        self.refused(path, "has no CRS")

    def test_rotated(self, tmp_path, dn):
        transform = synthetic.TRANSFORM @ rasterio.Affine.rotation(10)
        path = write_raster(tmp_path / "a.tif", dn, transform=transform)
        self.refused(path, "rotated or not north-up")

    def test_a_fiftieth_of_a_pixel_is_rotated(self, tmp_path, dn):
        transform = synthetic.TRANSFORM @ rasterio.Affine.shear(0, np.degrees(0.02 / 50))
        self.refused(write_raster(tmp_path / "a.tif", dn, transform=transform), "rotated")

    def test_south_up(self, tmp_path, dn):
        transform = rasterio.Affine(10, 0, 0, 0, 10, 0)
        path = write_raster(tmp_path / "a.tif", dn, transform=transform)
        self.refused(path, "not north-up")

    def test_type(self, tmp_path, dn):
        path = write_raster(tmp_path / "a.tif", dn.astype("complex64"))
        self.refused(path, "band 1 is complex64; .* wanted .*gdal_translate -ot Float32")

    def test_scale_of_the_wrong_length(self, tmp_path, dn):
        with pytest.raises(SceneError, match="--scale gives 3 numbers"):
            open_scene(write_raster(tmp_path / "a.tif", dn), wanted=BANDS, scale=(1, 2, 3))

    def test_scene_id_with_a_path(self, tmp_path, dn):
        self.refused(write_raster(tmp_path / "a.tif", dn), "cannot name a folder", scene_id="../b")


def test_unreadable_block_names_the_file_and_the_place(tmp_path, dn):
    path = write_raster(tmp_path / "a.tif", digital_numbers((64, 64)), tiled=True, blockxsize=32,
                        blockysize=32)  # fmt: skip
    scene = open_scene(path, wanted=BANDS)
    with rasterio.open(path) as source:
        offset = int(source.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1))
    data = bytearray(path.read_bytes())
    data[offset : offset + 50] = bytes(50)
    path.write_bytes(data)
    with pytest.raises(ReadError, match=r"a\.tif: rows 32 to 64, columns 0 to 64"):
        read_window(scene, Window(32, 0, 32, 64))
    read_window(scene, Window(0, 0, 32, 64))


def test_a_picture_is_of_the_nearest_pixels(tmp_path, monkeypatch):
    """With strips that do not divide the scene, and whatever the order of bands."""
    dn = digital_numbers((101, 50))
    dn[:, 3] = 0
    scene = open_scene(write_raster(tmp_path / "a.tif", dn, nodata=0), wanted=BANDS[::-1])
    monkeypatch.setattr("geoforest.scenes.read._STRIP_ROWS", 7)
    values, valid = read_decimated(scene, 25)
    rows, cols = preview_lattice((101, 50), 25)
    assert values.shape == (4, 25, 12)
    assert np.array_equal(values, dn[::-1][:, rows][..., cols])
    assert np.array_equal(valid, (dn != 0).all(axis=0)[rows][:, cols])
