"""Maps of xarray's arrays: the very values of ``map_scene``, whatever the chunks."""

from __future__ import annotations

from pathlib import Path

import dask
import numpy as np
import pytest
import rasterio
import rioxarray
import xarray

import geoforest
from geoforest.errors import GeoforestWarning, InputError
from tests.helpers import synthetic
from tests.helpers.synthetic import BANDS, LocalPredictor, digital_numbers, load_local_predictor

# rioxarray multiplies transforms in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    dn = digital_numbers((150, 190))
    dn[:, :40, :30] = 0
    return synthetic.write_raster(tmp_path_factory.mktemp("in") / "scene.tif", dn, nodata=0)


@pytest.fixture(scope="module")
def settings(tiny_bundle) -> dict[str, object]:
    return {"model": str(tiny_bundle.path), "halo": 8, "runtime": "torch"}


@pytest.fixture(scope="module")
def by_network(scene, settings, tmp_path_factory) -> xarray.Dataset:
    return mapped(scene, tmp_path_factory.mktemp("network"), settings)


@pytest.fixture
def wanted(scene, settings, tmp_path, monkeypatch) -> xarray.Dataset:
    """What ``map_scene`` gives, both with a predictor that takes no time."""
    monkeypatch.setattr(
        "geoforest.pipeline.dataarray.load_predictor", lambda *_, **__: LocalPredictor()
    )
    monkeypatch.setattr("geoforest.pipeline.dataarray._loaded", {})
    chosen = {**settings, "load_predictor": load_local_predictor}
    return mapped(scene, tmp_path / "wanted", chosen)


def mapped(scene: Path, out: Path, settings) -> xarray.Dataset:
    products = frozenset({"mask", "probability"})
    return geoforest.map_scene(scene, out, products=products, **settings).open().load()


def same(made: xarray.Dataset, wanted: xarray.Dataset) -> None:
    for name in ("mask", "probability"):
        found, expected = made[name].to_numpy(), wanted[name].to_numpy()
        assert found.dtype == expected.dtype
        assert found.tobytes() == expected.tobytes(), name
    assert made.x.equals(wanted.x)
    assert made.y.equals(wanted.y)
    assert made.rio.crs == wanted.rio.crs
    assert made.rio.transform() == wanted.rio.transform()


@pytest.mark.parametrize("chunks", [None, {"x": 1000, "y": 1000}, {"band": 1, "x": 37, "y": 53}])
def test_bytes_are_those_of_map_scene(scene, by_network, settings, chunks, monkeypatch):
    monkeypatch.setattr("geoforest.pipeline.dataarray._SHARD_PX", 96)
    with rioxarray.open_rasterio(scene, chunks=chunks) as da:
        made = geoforest.map_array(da, **settings)
        assert (made.mask.chunks is None) == (chunks is None)
        same(made, by_network)
    assert set(np.unique(made.mask)) == {0, 1, 255}


@pytest.mark.slow
@pytest.mark.parametrize("shard_px", [48, 1792])
@pytest.mark.parametrize("chunks", [None, {"band": 2, "x": 190, "y": 1}, {"x": 61, "y": 150}])
def test_no_chunk_and_no_shard_shows(scene, wanted, settings, chunks, shard_px, monkeypatch):
    monkeypatch.setattr("geoforest.pipeline.dataarray._SHARD_PX", shard_px)
    with rioxarray.open_rasterio(scene, chunks=chunks) as da:
        same(geoforest.map_array(da, **settings), wanted)


def test_nothing_is_read_before_it_is_computed(scene, wanted, settings):
    with rioxarray.open_rasterio(scene, chunks={"x": 64, "y": 64}) as da:
        read = []

        def counted(block: np.ndarray) -> np.ndarray:
            if block.size:  # Dask looks at what comes of nothing
                read.append(block.shape)
            return block

        counting = da.copy(data=da.data.map_blocks(counted, dtype=da.dtype))
        made = geoforest.map_array(counting, **settings)
        assert read == []
        assert (made.mask.dtype, made.probability.dtype) == (np.uint8, np.float32)
        with dask.config.set(scheduler="threads"):
            made.load()
        assert read


def test_masked_arrays_and_reflectance(scene, wanted, settings):
    with rioxarray.open_rasterio(scene, masked=True) as da:
        assert np.isnan(da).any()
        same(geoforest.map_array(da, **settings), wanted)
        same(geoforest.map_array(da.astype("float64"), **settings), wanted)
        reflectance = geoforest.map_array((da * 1e-4).astype("float32"), scale=1.0, **settings)
    assert (reflectance.mask == wanted.mask).mean() > 0.999


def test_nodata_of_attributes_and_of_the_caller(scene, wanted, settings):
    with rasterio.open(scene) as source:
        dn = source.read()
    da = array_of(dn)
    with pytest.warns(GeoforestWarning, match="no nodata value"):
        same(geoforest.map_array(da, **settings), wanted)
    same(geoforest.map_array(da.assign_attrs(nodata=0), **settings), wanted)
    same(geoforest.map_array(da, nodata=0, **settings), wanted)
    dn = np.where(dn == 0, 7, dn).astype("uint16")
    made = geoforest.map_array(array_of(dn).assign_attrs(_FillValue=7), **settings)
    assert ((made.mask == 255) == (dn == 7).any(axis=0)).all()


def array_of(dn: np.ndarray, **changes) -> xarray.DataArray:
    rows, cols = dn.shape[1:]
    t = synthetic.TRANSFORM
    coords = {
        "y": t.f + (np.arange(rows) + 0.5) * t.e,
        "x": t.c + (np.arange(cols) + 0.5) * t.a,
        **changes,
    }
    array = xarray.DataArray(dn, dims=("band", "y", "x"), coords=coords)
    return array.rio.write_crs(synthetic.UTM_20S)


@pytest.mark.usefixtures("wanted")
def test_bands_are_found_by_their_names(settings):
    dn = digital_numbers((70, 80))
    wanted = geoforest.map_array(array_of(dn, band=list(BANDS)), nodata=0, **settings)
    other = dn[[3, 0, 2, 1, 0]]
    named = array_of(other, band=["nir", "B04", "blue", "B03_10m", "scl"])
    described = array_of(other, band=range(5)).assign_attrs(
        long_name=("nir", "red", "blue", "green", "cloud")
    )
    turned = named.transpose("y", "x", "band")
    for da in (named, described, turned):
        same(geoforest.map_array(da, nodata=0, **settings), wanted)
    unnamed = array_of(dn).assign_attrs(long_name="Sentinel-2")
    same(geoforest.map_array(unnamed, nodata=0, **settings), wanted)


class TestScaleAndOffset:
    """The same forest, coded in other numbers that the file states."""

    CODED = 2.75e-5, -0.2

    @pytest.fixture
    def coded(self, scene, tmp_path) -> Path:
        with rasterio.open(scene) as source:
            dn = source.read()
        values = np.where(dn == 0, 0, np.round((dn * 1e-4 - self.CODED[1]) / self.CODED[0]))
        path = tmp_path / "coded.tif"
        synthetic.write_raster(path, values.astype("uint16"), nodata=0)
        with rasterio.open(path, "r+") as target:
            target.scales, target.offsets = [self.CODED[0]] * 4, [self.CODED[1]] * 4
        return path

    def near(self, made: xarray.Dataset, wanted: xarray.Dataset) -> None:
        assert (made.mask == wanted.mask).mean() > 0.999

    def test_those_of_the_array(self, coded, wanted, settings):
        with rioxarray.open_rasterio(coded) as da:
            self.near(geoforest.map_array(da, **settings), wanted)
            self.near(geoforest.map_array(da.astype("uint32"), **settings), wanted)
            by_band = da.assign_attrs(scales=(self.CODED[0],) * 4, offsets=(self.CODED[1],) * 4)
            del by_band.attrs["scale_factor"], by_band.attrs["add_offset"]
            self.near(geoforest.map_array(by_band, **settings), wanted)

    @pytest.mark.parametrize("chunks", [None, {"x": 64, "y": 64}])
    def test_those_that_were_applied(self, coded, wanted, settings, chunks):
        with rioxarray.open_rasterio(coded, mask_and_scale=True, chunks=chunks) as da:
            self.near(geoforest.map_array(da, **settings).load(), wanted)

    @pytest.mark.parametrize("chunks", [None, {"x": 64, "y": 64}])
    def test_reflectance_is_recognised_by_its_size(self, scene, wanted, settings, chunks):
        with rioxarray.open_rasterio(scene, masked=True, chunks=chunks) as da:
            with pytest.warns(GeoforestWarning, match="size of reflectance, so scale 1"):
                made = geoforest.map_array(da * 1e-4, **settings).load()
            self.near(made, wanted)

    @pytest.mark.usefixtures("wanted")
    def test_the_users_own_come_first(self, coded, scene, settings):
        with rioxarray.open_rasterio(coded) as da, rioxarray.open_rasterio(scene) as plain:
            own = geoforest.map_array(da, scale=1e-4, offset=0.0, **settings)
            bare = da.copy()
            bare.attrs = plain.attrs
            same(own, geoforest.map_array(bare, **settings))


@pytest.mark.usefixtures("wanted")
def test_the_dataset_says_what_it_is(settings, tmp_path):
    da = array_of(
        digital_numbers((70, 80)), band=list(BANDS), time=np.datetime64("2020-08-01", "ns")
    )
    made = geoforest.map_array(da, nodata=0, threshold=0.3, **settings)
    assert made.mask.rio.nodata == 255
    assert np.isnan(made.probability.rio.nodata)
    assert made.attrs["threshold"] == 0.3
    assert made.time == da.time
    assert "band" not in made.coords
    made.mask.rio.to_raster(tmp_path / "mask.tif")
    with rasterio.open(tmp_path / "mask.tif") as source:
        assert (source.crs, source.nodata) == (synthetic.UTM_20S, 255)
        assert source.transform == synthetic.TRANSFORM
        assert (source.read(1) == made.mask.to_numpy()).all()


def test_arrays_that_cannot_be_used(settings):
    dn = digital_numbers((70, 80))
    good = array_of(dn, band=list(BANDS))
    for da, message in (
        (good.drop_vars("spatial_ref"), "without a CRS"),
        (good[:3], "with 0 bands B08: its bands are B04, B03, B02"),
        (good[[0, 0, 1, 2, 3]], "with 2 bands B04"),
        (array_of(dn[:3]), "with 3 bands without names"),
        (good.astype("complex64"), "array of complex64: integers or real numbers"),
        (good.assign_attrs(scale_factor=0.0), "scale_factor 0 and add_offset 0: real numbers"),
        (good.assign_attrs(scales=(1.0, 2.0)), "array whose scales is .* one for each band"),
        (good.assign_attrs(scale_factor="many"), "array whose scale_factor is 'many'"),
        (good[0, :, :], r"\(band, y, x\) was wanted"),
        (good.rename(y="north", x="east"), r"\(band, y, x\) was wanted"),
        (good[:, ::-1], "a north-up grid was wanted"),
        (good.assign_attrs(_FillValue=-9999), "nodata value beyond it"),
    ):
        with pytest.raises(InputError, match=message):
            geoforest.map_array(da, **settings)
    for wrong, message in (
        ({"halo": 32}, "leaves no core"),
        ({"scale": (1.0, 2.0)}, "scale has 2 numbers"),
        ({"threshold": 2}, "threshold"),
    ):
        with pytest.raises(InputError, match=message):
            geoforest.map_array(good, **{**settings, **wrong})
