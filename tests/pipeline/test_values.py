"""Values that no surface has, dark ground and edges of the swath, from the scene to the map."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray
from affine import Affine

import geoforest
from geoforest.arrays.grid import Window
from geoforest.scenes.open import open_scene
from geoforest.scenes.read import read_judged, read_window
from tests.helpers import synthetic
from tests.helpers.jobs import read
from tests.helpers.jobs import run_rasters as run
from tests.helpers.safe import make_safe
from tests.helpers.synthetic import BANDS, LocalPredictor, digital_numbers

# rioxarray multiplies transforms in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

SHAPE = (150, 190)
# Rows and columns that the values under test take.
SPOT = (slice(60, 70), slice(80, 90))


def swath() -> np.ndarray:
    """Ground with a lake, a forest in shadow, and the edge of a swath."""
    dn = digital_numbers(SHAPE)
    dn[:, :, :30] = 0
    dn[0, :, 30:35] = 0  # the footprint of one band is smaller
    dn[:, :, 28:30] = 1
    dn[:, 100:120, 100:120] = np.array([30, 60, 0, 40])[:, None, None]
    dn[:, 20:25, 150:160] = np.array([0, 420, 230, 3300])[:, None, None]
    return dn


@pytest.mark.parametrize(
    ("dtype", "value", "nodata"),
    [
        ("uint16", 65535, 0),
        ("uint16", 65535, None),
        ("uint16", 64321, 0),
        ("int16", -10_000, None),
        ("int16", 32_767, 0),
        ("float32", 2_147_483_647, None),
        ("float32", -9999, None),
    ],
)
def test_values_that_no_surface_has_are_as_missing_pixels(
    tmp_path, tiny_bundle, dtype, value, nodata
):
    dn = digital_numbers(SHAPE, dtype="float32" if dtype == "float32" else "uint16").astype(dtype)
    settings = {"scale": 1.0} if dtype == "float32" else {}
    odd, missing = dn.copy(), dn.astype("float32")
    odd[:, *SPOT], missing[:, *SPOT] = value, np.nan
    made = {}
    for name, there, tag in (("odd", odd, nodata), ("missing", missing, np.nan)):
        path = synthetic.write_raster(tmp_path / f"{name}.tif", there, nodata=tag)
        made[name] = run(path, tmp_path / "out", tiny_bundle, **settings)
    assert (read(made["odd"].probability) == read(made["missing"].probability)).all()
    assert (read(made["odd"].mask)[SPOT] == 255).all()
    values = made["odd"].summary["values"]
    stored = np.dtype(dtype).type(value).item()
    assert (values["beyond"], values["beyond_value"]) == (100, stored)
    assert values["beyond_by_band"] == dict.fromkeys(BANDS, 100)
    assert made["missing"].summary["values"]["beyond"] == 0
    (warning,) = (one for one in made["odd"].summary["warnings"] if "no surface" in one)
    assert "100 pixels (0.35 %) hold values that no surface has" in warning
    assert f"most often the stored value {stored:.17g}" in warning
    assert "count as not observed" in warning
    assert "--nodata" in warning


def test_a_value_in_one_band_is_counted_there(tmp_path, tiny_bundle):
    dn = digital_numbers(SHAPE)
    dn[2, 5, 5:9] = 65535
    path = synthetic.write_raster(tmp_path / "scene.tif", dn, nodata=0)
    summary = run(path, tmp_path / "out", tiny_bundle).summary
    assert summary["values"]["beyond_by_band"] == {"B04": 0, "B03": 0, "B02": 4, "B08": 0}
    assert summary["pixels"]["no_observation"] == 4
    assert json.loads((tmp_path / "out/scene/summary.json").read_text())["values"]["beyond"] == 4


def test_a_scene_in_another_unit_is_told(tmp_path, tiny_bundle):
    path = synthetic.write_raster(tmp_path / "scene.tif", digital_numbers(SHAPE), nodata=0)
    summary = run(path, tmp_path / "out", tiny_bundle, scale=1.0).summary
    assert summary["observed_percent"] == 0
    assert any("--scale or --offset is another" in one for one in summary["warnings"])


def test_bright_values_are_clipped_for_the_network_only(tmp_path, tiny_bundle):
    made = []
    for value in (10_000, 24_000):
        dn = digital_numbers(SHAPE)
        dn[:, *SPOT] = value
        path = synthetic.write_raster(tmp_path / f"{value}.tif", dn, nodata=0)
        made.append(run(path, tmp_path / "out", tiny_bundle))
    assert (read(made[0].probability) == read(made[1].probability)).all()
    assert (read(made[1].mask) != 255).all()


class TestSwath:
    @pytest.fixture
    def scene(self, tmp_path) -> Path:
        # Small blocks, so that windows end inside of the lake and of the edge.
        layout = {"tiled": True, "blockxsize": 16, "blockysize": 16}
        return synthetic.write_raster(tmp_path / "scene.tif", swath(), nodata=0, **layout)

    def test_dark_ground_is_observed_and_the_edge_is_not(self, scene, tmp_path, tiny_bundle):
        result = run(scene, tmp_path / "out", tiny_bundle)
        unobserved = read(result.mask) == 255
        assert unobserved[:, :35].all()
        assert not unobserved[:, 35:].any()
        values = result.summary["values"]
        assert values["swath_edge"] == 5 * SHAPE[0]
        assert values["zero_in_a_band"] == 400 + 50
        notes = " ".join(result.summary["notes"])
        assert "750 pixels at edges of the data count as not observed" in notes
        assert "450 pixels count as observed, though a band of theirs is 0" in notes
        assert not result.summary["warnings"]

    def test_same_bytes_and_counts_for_every_shard_size(self, scene, tmp_path, tiny_bundle):
        made = []
        for shard in (48, 96, 1000):
            result = run(scene, tmp_path / str(shard), tiny_bundle, window=64, shard=shard)
            files = [path.read_bytes() for path in (result.mask, result.probability)]
            made.append((files, result.summary["values"], result.summary["notes"]))
        assert made[0] == made[1] == made[2]

    def test_no_window_shows(self, scene):
        opened = open_scene(scene, wanted=BANDS)
        whole, codes = read_judged(opened, Window(0, 0, *SHAPE))
        for window in (Window(50, 33, 40, 20), Window(100, 40, 9, 7), Window(0, 30, 150, 3)):
            dn, judged = read_judged(opened, window)
            assert (judged == codes[window.slices]).all()
            assert (dn == whole[:, *window.slices]).all()

    def test_map_array_has_the_same_rule(self, scene, tmp_path, tiny_bundle, monkeypatch):
        wanted = read(run(scene, tmp_path / "out", tiny_bundle).probability)
        module = "geoforest.pipeline.dataarray."
        monkeypatch.setattr(f"{module}load_predictor", lambda *_, **__: LocalPredictor())
        monkeypatch.setattr(f"{module}_loaded", {})
        monkeypatch.setattr(f"{module}_SHARD_PX", 48)
        settings = {"model": str(tiny_bundle.path), "halo": 8, "runtime": "torch"}
        for masked in (False, True):
            with rioxarray.open_rasterio(scene, masked=masked, chunks={"x": 64}) as da:
                made = geoforest.map_array(da, **settings).probability.to_numpy()
            stored = np.where(np.isnan(made), 255, np.rint(made * 250))
            assert (stored == wanted).all()


def test_an_offset_to_come(tmp_path, tiny_bundle):
    dn = swath() + np.where(swath() > 1, 1000, 0).astype("uint16")
    path = synthetic.write_raster(tmp_path / "scene.tif", dn, nodata=0)
    result = run(path, tmp_path / "out", tiny_bundle, offset=-0.1)
    assert ((read(result.mask) == 255) == ((dn == 0).any(axis=0) | (dn == 1).all(axis=0))).all()
    assert result.summary["values"]["zero_in_a_band"] == 0


def test_a_constant_stripe_beside_missing_pixels_is_noted(tmp_path, tiny_bundle):
    dn = swath()
    dn[:, :, 28:30] = 1000
    path = synthetic.write_raster(tmp_path / "scene.tif", dn, nodata=0)
    summary = run(path, tmp_path / "out", tiny_bundle).summary
    assert (summary["values"]["one_value_beside_missing"], summary["values"]["one_value"]) == (
        300,
        1000,
    )
    assert any("300 pixels beside missing ones have the same value" in n for n in summary["notes"])


def test_zeros_of_fractions_without_a_nodata_value_are_told(tmp_path, tiny_bundle):
    dn = digital_numbers(SHAPE, dtype="float32")
    dn[:, :20] = 0
    path = synthetic.write_raster(tmp_path / "scene.tif", dn)
    result = run(path, tmp_path / "out", tiny_bundle, scale=1.0)
    assert any("--nodata 0 says so" in one for one in result.summary["warnings"])
    result = run(path, tmp_path / "again", tiny_bundle, scale=1.0, nodata=0)
    assert (read(result.mask)[:20] == 255).all()
    assert not result.summary["warnings"]


def test_saturated_values_of_a_product(tmp_path, tiny_bundle):
    dn = digital_numbers((120, 120))
    dn[1, 10, 10:13], dn[:, 50:53, 50] = 65535, 0
    root = make_safe(tmp_path, dn, baseline="03.00")
    scene = open_scene(root, wanted=BANDS)
    assert scene.saturated == 65535
    valid = read_window(scene, Window(0, 0, 120, 120))[1]
    assert np.argwhere(~valid).tolist() == [
        [10, 10],
        [10, 11],
        [10, 12],
        [50, 50],
        [51, 50],
        [52, 50],
    ]
    summary = run(root, tmp_path / "out", tiny_bundle, cloud_mask="none").summary
    assert (summary["values"]["saturated"], summary["values"]["beyond"]) == (3, 0)
    assert any("3 pixels are saturated" in note for note in summary["notes"])
    assert not any("no surface" in one for one in summary["warnings"])
    lower = replace(scene, saturated=float(dn[0, 0, 0]))
    assert not read_window(lower, Window(0, 0, 120, 120))[1][0, 0]


def test_the_cloud_mask_and_the_area_of_interest_count_alone(tmp_path, tiny_bundle):
    dn = digital_numbers(SHAPE)
    dn[0, 5, 5] = dn[0, 140, 180] = 65535
    path = synthetic.write_raster(tmp_path / "scene.tif", dn, nodata=0)
    left, top = synthetic.TRANSFORM @ (0, 0)
    right, bottom = synthetic.TRANSFORM @ (50, 50)
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    aoi = tmp_path / "aoi.geojson"
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32720"}}
    geometry = {"type": "Polygon", "coordinates": [ring]}
    feature = {"type": "Feature", "properties": {}, "geometry": geometry}
    aoi.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature]}))
    summary = run(path, tmp_path / "out", tiny_bundle, aoi=aoi).summary
    assert summary["values"]["beyond"] == 1


@pytest.mark.slow
@pytest.mark.real_data
def test_saturated_pixels_in_a_real_crop_change_as_much_as_missing_ones(real_data, tmp_path):
    (folder,) = (real_data / "scenes" / "major-tom").iterdir()
    window = ((100, 612), (100, 612))
    dn = np.empty((4, 512, 512), np.uint16)
    for number, name in enumerate(BANDS):
        with rasterio.open(folder / f"{name}.tif") as source:
            source.read(1, window=window, out=dn[number])
            crs, transform = source.crs, source.transform @ Affine.translation(100, 100)
    masks = []
    for name, value in (("clean", None), ("sat", 65535), ("missing", 0)):
        spoilt = dn.copy()
        if value is not None:
            spoilt[:, 200:210, 200:210] = value
        path = synthetic.write_raster(
            tmp_path / f"{name}.tif", spoilt, nodata=0, crs=crs.to_string(), transform=transform
        )
        result = geoforest.map_scene(
            path, tmp_path / "out", runtime="torch", device="cpu", products="mask"
        )
        masks.append(read(result.mask))
    assert (masks[1] == masks[2]).all()
    far = np.ones(masks[0].shape, bool)
    far[168:242, 168:242] = False
    assert (masks[0] != masks[1])[far].mean() < 0.002
