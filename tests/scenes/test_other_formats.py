"""Inputs as other programs write them: taken, or named as what they are with the way out."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from scipy.io import netcdf_file

from geoforest.arrays.clouds import CLEAR, CLOUD
from geoforest.arrays.grid import Window
from geoforest.errors import SceneError
from geoforest.pipeline.run import SceneFailure, map_scenes
from geoforest.scenes.clouds.mask import cloud_mask
from geoforest.scenes.find import find_scenes
from geoforest.scenes.open import open_scene
from geoforest.scenes.read import read_window
from tests.helpers import stac
from tests.helpers.synthetic import BANDS, UTM_20S, digital_numbers, write_raster

WHOLE = Window(0, 0, 40, 50)


@pytest.fixture
def dn() -> np.ndarray:
    return digital_numbers((40, 50))


def refused(path: object, match: str, **options) -> None:
    with pytest.raises(SceneError, match=match) as caught:
        open_scene(str(path), wanted=BANDS, **options)
    assert "\n" not in str(caught.value)


class TestSnap:
    def make(self, folder: Path, dn: np.ndarray) -> Path:
        root = folder / "resampled.data"
        root.mkdir()
        (folder / "resampled.dim").write_text("<Dimap_Document/>")
        layers = {name.replace("0", ""): band / 1e4 for name, band in zip(BANDS, dn, strict=True)}
        layers |= {f"view_zenith_{name}": np.full((40, 50), 5.0) for name in list(layers)}
        for name, values in layers.items():
            file = root / f"{name}.img"
            write_raster(
                file,
                values[None].astype("float32"),
                descriptions=None,
                driver="ENVI",
                compress=None,
            )
        classes = np.full((1, 40, 50), 4, np.uint8)
        classes[:, :10] = 9
        write_raster(
            root / "quality_scene_classification.img", classes, descriptions=None, driver="ENVI",
            compress=None,
        )  # fmt: skip
        return root

    def test_the_folder_and_its_header_are_one_scene(self, tmp_path, dn):
        root = self.make(tmp_path, dn)
        for location in (root, root.with_suffix(".dim")):
            scene, clouds = cloud_mask(open_scene(location, wanted=BANDS))
            assert (scene.scene_id, scene.scale) == ("resampled", (1.0,) * 4)
            assert clouds is not None
            codes = clouds.source.read_codes(WHOLE)
            assert (codes[:10] == CLOUD).all()
            assert (codes[10:] == CLEAR).all()
            values, _ = read_window(scene, WHOLE)
            assert np.allclose(values, dn / 1e4)
        assert find_scenes(str(tmp_path)) == {"resampled": str(root)}

    def test_angles_are_no_band(self, tmp_path, dn):
        root = self.make(tmp_path, dn)
        (root / "B4.img").unlink()
        refused(root, "band B04 is missing")

    def test_a_name_that_is_the_band_wins(self, tmp_path, dn):
        root = self.make(tmp_path, dn)
        write_raster(root / "B4_old.img", dn[:1], descriptions=None, driver="ENVI", compress=None)
        assert Path(open_scene(root, wanted=BANDS).bands[0].path).name == "B4.img"

    def test_a_header_without_its_folder(self, tmp_path):
        (tmp_path / "a.dim").write_text("<Dimap_Document/>")
        refused(tmp_path / "a.dim", r"a\.dim: is the header of a SNAP product.*a\.data")


class TestNetcdf:
    def make(self, folder: Path, dn: np.ndarray) -> Path:
        path = folder / "cube.nc"
        with netcdf_file(path, "w") as to:
            for name, size in (("y", 40), ("x", 50)):
                to.createDimension(name, size)
                axis = to.createVariable(name, "f8", (name,))
                steps = 10 * (np.arange(size) + 0.5)
                axis[:] = 8_900_000 - steps if name == "y" else 500_000 + steps
                axis.standard_name = f"projection_{name}_coordinate"
                axis.units = "m"
            crs = to.createVariable("crs", "i4", ())
            crs.crs_wkt = crs.spatial_ref = rasterio.CRS.from_string(UTM_20S).to_wkt()
            for name, band in zip(BANDS, dn, strict=True):
                values = to.createVariable(name, "i2", ("y", "x"))
                values.grid_mapping = "crs"
                values._FillValue = np.int16(-32768)
                values.scale_factor, values.add_offset = 1e-4, -0.1
                values[:] = band
        return path

    def test_a_file_of_sub_datasets_is_called_that(self, tmp_path, dn):
        path = self.make(tmp_path, dn)
        refused(path, r"cube\.nc: holds 4 sub-datasets \(B04, B03, B02, B08\).*gdalbuildvrt -separ")

    def test_a_sub_dataset_is_no_missing_file(self, tmp_path, dn):
        path = self.make(tmp_path, dn)
        refused(f"NETCDF:{path}:B04", r"its 1 band\(s\) are B04.*VRT \(gdalbuildvrt -separate")
        refused(f'NETCDF:"{tmp_path}/none.nc":B04', "no such file")

    def test_a_virtual_raster_over_sub_datasets(self, tmp_path, dn, monkeypatch):
        path = self.make(tmp_path, dn)
        sources = [f'NETCDF:"{path}":{name}' for name in BANDS]
        with rasterio.open(sources[0]) as source:
            rasterio.shutil.copy(source, tmp_path / "one.vrt", driver="VRT")
        text = (tmp_path / "one.vrt").read_text()
        head, band, tail = text.partition("<VRTRasterBand")
        band, end, tail = tail.partition("</VRTRasterBand>")
        bands = [
            f"<VRTRasterBand{band}{end}".replace('band="1"', f'band="{number}"').replace(
                "B04", name
            )
            for number, name in enumerate(BANDS, 1)
        ]
        (tmp_path / "all.vrt").write_text(head + "".join(bands) + tail)
        scene = open_scene(tmp_path / "all.vrt", wanted=BANDS)
        assert {name for name, *_ in scene.files} == {str(tmp_path / "all.vrt"), str(path)}
        # SciPy writes the numbers as float32.
        assert scene.scale == pytest.approx((1e-4,) * 4)
        assert scene.offset == pytest.approx((-0.1,) * 4)
        assert {band.nodata for band in scene.bands} == {-32768}
        monkeypatch.chdir("/")
        assert np.array_equal(read_window(scene, WHOLE)[0], dn)

    @pytest.mark.parametrize(
        ("name", "told"),
        [
            ("SENTINEL2_L2A:/data/MTD_MSIL2A.xml:10m:EPSG_32720", "driver SENTINEL2_L2A; .*itself"),
            ('ZARR:"/data/a.zarr":/b04', "driver ZARR; .* gdal_translate"),
            ("WMS:http://host/?layers=a", "driver WMS;"),
        ],
    )
    def test_other_drivers_names_are_not_read(self, tmp_path, dn, name, told):
        refused(name, told)
        plain = write_raster(tmp_path / "a.tif", dn)
        rasterio.shutil.copy(plain, tmp_path / "a.vrt", driver="VRT")
        text = (tmp_path / "a.vrt").read_text()
        (tmp_path / "a.vrt").write_text(
            text.replace(">a.tif<", f">{name}<").replace('relativeToVRT="1"', 'relativeToVRT="0"')
        )
        refused(tmp_path / "a.vrt", rf"{told}.*and .*a\.vrt needs it")


def make_zarr(folder: Path, name: str = "S2B_MSIL2A_20250101T103329.zarr") -> Path:
    root = folder / name
    band = root / "measurements" / "reflectance" / "r10m" / "b04"
    band.mkdir(parents=True)
    (root / ".zgroup").write_text('{"zarr_format": 2}')
    (band / ".zarray").write_text(json.dumps({"zarr_format": 2, "shape": [1, 1]}))
    return root


class TestZarr:
    @pytest.mark.parametrize("name", ["a.zarr", "renamed"])
    def test_a_folder(self, tmp_path, name):
        refused(make_zarr(tmp_path, name), f"{name}: is Zarr, as EOPF .* SAFE product or GeoTIFFs")

    def test_an_archive(self, tmp_path):
        root = make_zarr(tmp_path)
        for archive in (tmp_path / "a.zarr.zip", tmp_path / "b.zip"):
            with zipfile.ZipFile(archive, "w") as target:
                for file in root.rglob("*"):
                    target.write(file, file.relative_to(root))
            refused(archive, "is Zarr, as EOPF")

    def test_on_a_server(self):
        refused("https://host/a.zarr?sig=x", "https://host/a.zarr: is Zarr")

    def test_an_item(self, tmp_path):
        document = stac.item()
        kinds = ({"type": "application/vnd+zarr"}, {}, {"type": None})
        document["assets"] = {
            f"B0{number}_10m": {"href": f"https://host/a.zarr/b0{number}", **kind}
            for number, kind in enumerate(kinds, 2)
        }
        refused(stac.write_item(tmp_path, document), "its assets are Zarr")

    def test_other_scenes_go_on(self, tmp_path, dn, tiny_bundle):
        good = write_raster(tmp_path / "good.tif", dn)
        made = list(
            map_scenes(
                [make_zarr(tmp_path), "ZARR:a.zarr:/b", good],
                tmp_path / "out",
                model=tiny_bundle.path,
                products="mask",
                halo=8,
            )
        )
        assert [isinstance(one, SceneFailure) for one in made] == [True, True, False], made


def test_archives_of_other_makers(tmp_path):
    theia = "SENTINEL2B_20241227-104904-377_L2A_T31TCJ_C_V4-0"
    for name, told in ((f"{theia}/{theia}_FRE_B4.tif", "Theia"), ("a/b.dim", "SNAP")):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as target:
            target.writestr(name, b"x")
        refused(tmp_path / "a.zip", f"a.zip: is a product of {told}.*unpacked, was wanted")
