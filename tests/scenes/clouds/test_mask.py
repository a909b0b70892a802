"""The cloud mask from the scene classification to the products, end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from scipy.ndimage import binary_dilation

from geoforest.errors import InputError, OutputError, ReadError, SceneError
from geoforest.io.raster import open_raster
from geoforest.scenes.open import open_scene
from tests.helpers import synthetic
from tests.helpers.distances import brute_force
from tests.helpers.jobs import read
from tests.helpers.jobs import run_rasters as run
from tests.helpers.synthetic import (
    BANDS,
    TRANSFORM,
    UTM_20S,
    LocalPredictor,
    digital_numbers,
)

SHAPE = (130, 190)
# At the meridian of its zone a pixel of 10 m in UTM is this high and wide on the ground.
PIXEL_M = (10.004, 10.004)


def write_scl(path: Path, classes: np.ndarray, gsd_m: float = 20, **changes) -> Path:
    transform = TRANSFORM @ Affine.scale(gsd_m / 10)
    settings = {"descriptions": None, "transform": transform, "crs": UTM_20S, **changes}
    return synthetic.write_raster(path, classes[None].astype("uint8"), **settings)


def write_scene(folder: Path, *, beyond: bool = True, missing: np.ndarray | None = None) -> Path:
    """One file a band, with a wedge beyond the swath, and other missing pixels."""
    dn = digital_numbers(SHAPE)
    if beyond:
        dn[:, :40, :30] = 0
    if missing is not None:
        dn[:, missing] = 0
    folder.mkdir()
    for name, band in zip(BANDS, dn, strict=True):
        path = folder / f"{name}.tif"
        synthetic.write_raster(path, band[None], descriptions=None, nodata=0)
    return folder


def clear_classes() -> np.ndarray:
    """Vegetation at 20 m, and no data beyond the swath."""
    classes = np.full((65, 95), 4)
    classes[:20, :15] = 0
    return classes


def cloudy_classes() -> np.ndarray:
    classes = clear_classes()
    classes[20:26, 40:44] = 9
    classes[50, 50] = 8
    classes[24:30, 50:52] = 3
    classes[40:44, 70:80] = 10
    classes[60:, 0:3] = 1
    classes[10, 60] = 0
    classes[2:5, 80:85] = 11
    return classes


def fine(classes: np.ndarray) -> np.ndarray:
    return classes.repeat(2, axis=0).repeat(2, axis=1)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    folder = write_scene(tmp_path / "scene")
    write_scl(folder / "SCL.tif", cloudy_classes())
    return folder


@pytest.mark.parametrize("snow", [False, True])
@pytest.mark.parametrize("buffer_m", [0, 35])
def test_cloudy_pixels_are_as_those_that_were_not_observed(
    scene, tmp_path, tiny_bundle, snow, buffer_m
):
    without = run(scene, tmp_path / "without", tiny_bundle, cloud_mask="none")
    settings = {"cloud_buffer": buffer_m, "mask_snow": snow}
    if snow:
        settings["products"] = frozenset({"mask", "probability", "report"})
    result = run(scene, tmp_path / "with", tiny_bundle, **settings)
    classes = fine(cloudy_classes())
    codes = np.zeros(SHAPE, np.uint8)
    codes[classes == 0] = 1
    codes[np.isin(classes, [1, 3, 8, 9, 10, *([11] if snow else [])])] = 2
    cloudy = brute_force(codes, buffer_m, PIXEL_M)
    before, after = read(without.probability), read(result.probability)
    # The network must not see them, either: the map is that of a scene that lacks them.
    lacking = write_scene(tmp_path / "lacking", missing=cloudy)
    without_them = run(lacking, tmp_path / "lacking-out", tiny_bundle, cloud_mask="none")
    assert (after == read(without_them.probability)).all()
    far = ~binary_dilation(cloudy, iterations=2 * LocalPredictor.radius)
    assert (after == before)[far].all()
    assert (after != before)[~far & ~cloudy].any()
    assert ((read(result.mask) == 255) == (after == 255)).all()
    seen = before != 255
    share = 100 * (cloudy & seen).sum() / seen.sum()
    assert result.summary["cloud_masked_percent"] == pytest.approx(share, abs=1e-3)
    assert without.summary["cloud_masked_percent"] is None
    observed = 100 * (seen & ~cloudy).mean()
    assert result.summary["observed_percent"] == pytest.approx(observed, abs=1e-3)
    assert result.summary["cloud_mask"] == {
        "by": "scl",
        "file": str(scene / "SCL.tif"),
        "snow": snow,
        "buffer_m": buffer_m,
    }
    if snow:
        assert "Masked as cloud" in (result.folder / "report.html").read_text()


def test_same_bytes_for_every_shard_size(scene, tmp_path, tiny_bundle):
    made = []
    for shard in (48, 96, 1000):
        result = run(scene, tmp_path / str(shard), tiny_bundle, shard=shard, cloud_buffer=170)
        made.append([path.read_bytes() for path in (result.mask, result.probability)])
    assert made[0] == made[1] == made[2]


@pytest.mark.parametrize("gsd_m", [10, 60])
def test_a_classification_of_another_resolution(tmp_path, tiny_bundle, gsd_m):
    folder = write_scene(tmp_path / "scene", beyond=False)
    # 190 px of 10 m are no multiple of 60 m: the last pixel of the layer reaches beyond.
    shape = tuple(-(-side * 10 // gsd_m) for side in SHAPE)
    classes = np.full(shape, 4)
    classes[3:5, 6:9] = 9
    write_scl(folder / "T20LMR_20200801T142739_SCL_60m.tif", classes, gsd_m)
    mask = read(run(folder, tmp_path / "out", tiny_bundle, cloud_buffer=0).mask)
    factor = gsd_m // 10
    expected = np.zeros(SHAPE, bool)
    expected[3 * factor : 5 * factor, 6 * factor : 9 * factor] = True
    assert ((mask == 255) == expected).all()


def test_a_scene_that_is_all_cloud(tmp_path, tiny_bundle):
    folder = write_scene(tmp_path / "scene")
    classes = np.where(clear_classes() == 0, 0, 9)
    write_scl(folder / "SCL.tif", classes)
    every = frozenset({"mask", "probability", "polygons", "report"})
    result = run(folder, tmp_path / "out", tiny_bundle, products=every)
    assert (read(result.mask) == 255).all()
    summary = result.summary
    assert summary["windows"] == 0
    assert summary["cloud_masked_percent"] == 100
    assert summary["observed_percent"] == 0
    assert summary["forest_percent"] is None
    assert [note for note in summary["notes"] if "all that was observed is cloudy" in note]
    assert "is cloudy" in (result.folder / "report.html").read_text()


def test_no_data_beyond_the_swath_is_no_cloud(tmp_path, tiny_bundle):
    folder = write_scene(tmp_path / "scene")
    write_scl(folder / "SCL.tif", clear_classes())
    result = run(folder, tmp_path / "out", tiny_bundle)
    assert result.summary["cloud_masked_percent"] == 0
    # And has no buffer.
    assert (read(result.mask) == 255).sum() == 40 * 30


def test_clouds_do_not_count_outside_the_area_of_interest(scene, tmp_path, tiny_bundle):
    import geopandas
    import shapely

    left, top = TRANSFORM @ (100, 30)
    right, bottom = TRANSFORM @ (180, 70)
    aoi = tmp_path / "aoi.gpkg"
    geopandas.GeoSeries([shapely.box(left, bottom, right, top)], crs=UTM_20S).to_file(aoi)
    result = run(scene, tmp_path / "out", tiny_bundle, aoi=aoi, cloud_buffer=0)
    inside = fine(cloudy_classes())[30:70, 100:180]
    cloudy = np.isin(inside, [0, 1, 3, 8, 9, 10])
    assert result.summary["pixels"]["inside_aoi"] == inside.size
    assert result.summary["cloud_masked_percent"] == pytest.approx(100 * cloudy.mean(), abs=1e-3)


def test_another_mask_is_another_job(scene, tmp_path, tiny_bundle):
    run(scene, tmp_path / "out", tiny_bundle)
    for changed in ({"cloud_mask": "none"}, {"cloud_buffer": 20}, {"mask_snow": True}):
        with pytest.raises(OutputError):
            run(scene, tmp_path / "out", tiny_bundle, **changed)
    write_scl(scene / "SCL.tif", clear_classes())
    with pytest.raises(OutputError):
        run(scene, tmp_path / "out", tiny_bundle)


def test_a_scene_without_a_classification(scene_path, tmp_path, tiny_bundle):
    result = run(scene_path, tmp_path / "out", tiny_bundle)
    (note,) = result.summary["notes"][:1]
    assert "has no scene classification (SCL), so clouds are not masked" in note
    assert result.summary["cloud_mask"] is None
    told = run(scene_path, tmp_path / "none", tiny_bundle, cloud_mask="none")
    assert not [note for note in told.summary["notes"] if "clouds" in note]
    with pytest.raises(SceneError, match="no scene classification"):
        run(scene_path, tmp_path / "scl", tiny_bundle, cloud_mask="scl")
    assert not (tmp_path / "scl").exists()


def test_snow_needs_a_classification(scene_path, tmp_path, tiny_bundle):
    with pytest.raises(InputError, match="finds no snow"):
        run(scene_path, tmp_path / "out", tiny_bundle, cloud_mask="ukis", mask_snow=True)


def too_small(folder: Path) -> None:
    write_scl(folder / "SCL.tif", clear_classes()[:-1])


def of_another_zone(folder: Path) -> None:
    write_scl(folder / "SCL.tif", clear_classes(), crs="EPSG:32721")


def shifted(folder: Path) -> None:
    transform = TRANSFORM @ Affine.translation(30, 0) @ Affine.scale(2)
    write_scl(folder / "SCL.tif", clear_classes(), transform=transform)


def of_two_bands(folder: Path) -> None:
    classes = np.stack([clear_classes()] * 2).astype("uint8")
    transform = TRANSFORM @ Affine.scale(2)
    synthetic.write_raster(folder / "SCL.tif", classes, descriptions=None, transform=transform)


def no_raster(folder: Path) -> None:
    (folder / "SCL.tif").write_text("clouds")


def two_of_them(folder: Path) -> None:
    write_scl(folder / "SCL_20m.tif", clear_classes())
    write_scl(folder / "SCL_60m.tif", clear_classes())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (too_small, "do not cover those of scene scene"),
        (shifted, "do not cover those of scene scene"),
        (of_another_zone, "its CRS is EPSG:32721, that of scene scene EPSG:32720"),
        (of_two_bands, r"2 band\(s\) of uint8"),
        (no_raster, "that GDAL cannot open"),
        (two_of_them, "2 scene classifications: SCL_20m.tif, SCL_60m.tif"),
    ],
)
def test_classifications_that_cannot_be_used(tmp_path, tiny_bundle, spoil, message):
    folder = write_scene(tmp_path / "scene")
    spoil(folder)
    with pytest.raises(SceneError, match=message):
        run(folder, tmp_path / "out", tiny_bundle)
    assert not (tmp_path / "out").exists()


def test_a_block_that_cannot_be_read_is_named(scene, tmp_path, tiny_bundle):
    from geoforest.arrays.grid import Window
    from geoforest.scenes.clouds.mask import cloud_mask

    opened = open_scene(scene, wanted=BANDS)
    _, mask = cloud_mask(opened)
    assert mask is not None
    path = scene / "SCL.tif"
    content = bytearray(path.read_bytes())
    with rasterio.open(path) as source:
        start = int(source.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
    content[start : start + 40] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(ReadError, match=r"SCL\.tif: rows"):
        mask.source.read_codes(Window(0, 0, *SHAPE))


def test_the_record_is_plain(scene, tmp_path, tiny_bundle):
    result = run(scene, tmp_path / "out", tiny_bundle)
    job = json.loads((result.folder / "job.json").read_text())
    assert job["identity"]["clouds"]["by"] == "scl"
    assert [name for name, *_ in job["identity"]["files"] if name.endswith("SCL.tif")]


@pytest.mark.real_data
def test_the_clouds_of_a_real_product(real_data, tmp_path, tiny_bundle):
    product = real_data / "scenes" / "earth-search-120m" / "S2A_33TWM_20230818_0_L2A"
    item = json.loads((product / f"{product.name}.json").read_text())
    corner = item["assets"]["red"]["proj:transform"]
    place = {"crs": "EPSG:32633", "transform": Affine(120, 0, corner[2], 0, -120, corner[5])}
    folder = tmp_path / product.name
    folder.mkdir()
    for name in (*BANDS, "SCL"):
        # The files themselves lie nowhere: the item says where.
        with open_raster(product / f"{name}.tif") as source:
            values = source.read()
        synthetic.write_raster(folder / f"{name}.tif", values, descriptions=None, **place)
    classes, red = read(folder / "SCL.tif"), read(folder / "B04.tif")
    result = run(folder, tmp_path / "out", tiny_bundle, nodata=0, cloud_buffer=0)
    told = np.isin(classes, [0, 1, 3, 8, 9, 10])
    unobserved = read(result.mask) == 255
    assert (unobserved >= told).all()
    assert (unobserved & ~told).sum() < 0.001 * red.size
    clouds = 100 * np.isin(classes, [8, 9, 10]).sum() / (red != 0).sum()
    assert clouds == pytest.approx(item["properties"]["eo:cloud_cover"], abs=2)
    assert result.summary["cloud_masked_percent"] > clouds
