"""The page of a map: its charts, its pictures, and what it says."""

from __future__ import annotations

import io
import re
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from PIL import Image

import geoforest
from geoforest.arrays.georef import GeoRef
from geoforest.arrays.polygons.polygons import PolygonStream
from geoforest.pipeline.products.charts import patch_chart, probability_chart
from geoforest.pipeline.products.patch_sizes import PatchSizes
from geoforest.report.layers import scene_layers
from geoforest.report.quicklook import decimated
from geoforest.report.sketch import Sketch
from geoforest.scenes.open import open_scene
from geoforest.scenes.synthetic import make_scene, write_scene
from tests.helpers import synthetic
from tests.helpers.synthetic import load_local_predictor


def pixels(image: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_bundle) -> Path:
    out = tmp_path_factory.mktemp("page")
    dn = synthetic.digital_numbers((300, 400))
    dn[:, :80, :60] = 0
    scene = synthetic.write_raster(out / "scene <b>&.tif", dn, nodata=0)
    result = geoforest.map_scene(
        scene, out, model=tiny_bundle.path, load_predictor=load_local_predictor, halo=8
    )
    assert isinstance(result.folder, Path)
    return result.folder


@pytest.fixture(scope="module")
def page(folder) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_parts_of_a_patch_are_one_patch():
    """A patch that is cut in parts counts once, with the size of the whole."""
    mask = np.zeros((2100, 300), np.uint8)
    mask[100:2000, 100:250] = 1  # 2850 ha, cut at rows of a fixed grid
    mask[10:13, 10:21] = 1  # 0.33 ha
    sizes = PatchSizes()
    with PolygonStream(
        GeoRef(mask.shape, synthetic.TRANSFORM, "EPSG:32720"), min_area_ha=0, max_vertices=4,
        every_row=np.array([700, 1400]),
    ) as stream:  # fmt: skip
        stream.add(mask, None)
        frames = [sizes.tap(frame) for frame in stream.frames()]
        assert stream.counts().patches == 2
        assert stream.counts().parts >= 4
    table = sizes.table()
    assert [(row["from_ha"], row["to_ha"]) for row in table][:: len(table) - 1] == [
        (0.3, 1), (1000, 3000),
    ]  # fmt: skip
    assert [row["patches"] for row in table] == [1, *[0] * (len(table) - 2), 1]
    total = sum(frame["area_ha"].sum() for frame in frames)
    assert sum(row["hectares"] for row in table) == pytest.approx(total, abs=1e-3)


def test_no_patches_have_no_sizes():
    assert PatchSizes().table() == []
    empty = geopandas.GeoDataFrame(
        {"area_ha": np.zeros(0), "patch_area_ha": np.zeros(0)},
        geometry=np.zeros(0, object), crs="EPSG:32720",
    )  # fmt: skip
    sizes = PatchSizes()
    sizes.tap(empty)
    assert sizes.table() == []


@pytest.mark.parametrize("counts", [{}, {0: 5}, {250: 7}, {0: 10**9, 121: 3, 250: 10**8, 255: 9}])
def test_charts_are_drawn_whatever_they_hold(counts):
    histogram = [counts.get(value, 0) for value in range(256)]
    assert pixels(probability_chart(histogram, 0.484)).shape == (680, 1120, 3)
    row = {"from_ha": 0.3, "to_ha": None, "patches": 1, "hectares": 0.4}
    assert pixels(patch_chart([row], "patches")).shape == (680, 1120, 3)


def test_layers_show_the_map_pixel_by_pixel(folder):
    scene = open_scene(folder.parent / "scene <b>&.tif", wanted=synthetic.BANDS)
    sketch = Sketch(scene)
    sketch.tap(
        geopandas.GeoDataFrame(
            geometry=[shapely.box(500_500, 8_899_000, 502_000, 8_899_500)], crs=scene.crs
        )
    )
    probability, mask = (folder / f"forest_{name}.tif" for name in ("probability", "mask"))
    layers = scene_layers(scene, probability, mask, sketch, decimated(scene))
    shown = {layer.name: pixels(layer.image) for layer in layers}
    assert list(shown) == ["scene", "NDVI", "probability", "mask", "polygons"]
    with rasterio.open(mask) as source:
        codes = source.read(1)
    for code, colour in {0: (0xE4, 0xD5, 0xB7), 1: (0x1B, 0x78, 0x37), 255: (0x9A,) * 3}.items():
        assert ((shown["mask"] == colour).all(axis=-1) == (codes == code)).all()
    for name in ("NDVI", "probability"):
        grey = (shown[name] == 0x9A).all(axis=-1)
        assert (grey == (codes == 255)).all(), name
    assert shown["polygons"].shape == (600, 800, 3)
    top, bottom = 2 * 50, 2 * 100
    yellow = np.abs(shown["polygons"].astype(int) - (0xFF, 0xD9, 0x2F)).sum(axis=-1) < 120
    assert yellow[bottom - 1 : bottom + 2, 110:290].any(axis=0).mean() > 0.9
    assert yellow[top - 1 : top + 2, 110:290].any(axis=0).mean() > 0.9
    assert not yellow[top + 10 : bottom - 10, 110:290].any()


def test_the_busiest_scene_makes_no_heavy_page(tmp_path):
    random = np.random.default_rng(0)
    dn = random.integers(1, 4000, (4, 800, 800)).astype(np.uint16)
    scene = open_scene(synthetic.write_raster(tmp_path / "noise.tif", dn), wanted=synthetic.BANDS)
    rasters = []
    for name, codes in (("probability", 251), ("mask", 2)):
        values = random.integers(0, codes, (1, 800, 800)).astype(np.uint8)
        rasters.append(synthetic.write_raster(tmp_path / f"{name}.tif", values, descriptions=None))
    left, bottom, right, top = scene.bounds
    x, y = random.uniform(left, right, 20_000), random.uniform(bottom, top, 20_000)
    sketch = Sketch(scene)
    sketch.tap(geopandas.GeoDataFrame(geometry=shapely.box(x, y, x + 60, y + 60), crs=scene.crs))
    layers = scene_layers(scene, *rasters, sketch, (dn, np.ones((800, 800), bool)))
    # Text of pictures is a third longer.
    assert sum(len(layer.image) for layer in layers) * 4 / 3 < 4_700_000


def test_a_scene_without_near_infrared_has_no_index(tmp_path, folder):
    dn = synthetic.digital_numbers((300, 400))[:3]
    path = synthetic.write_raster(tmp_path / "rgb.tif", dn, descriptions=synthetic.BANDS[:3])
    scene = open_scene(path, wanted=synthetic.BANDS[:3])
    probability, mask = (folder / f"forest_{name}.tif" for name in ("probability", "mask"))
    layers = scene_layers(scene, probability, mask, Sketch(scene), decimated(scene))
    assert [layer.name for layer in layers] == ["scene", "probability", "mask"]


def test_the_page_needs_nothing_from_elsewhere(page):
    tags = Tags(page).found
    sources = [values["src"] for tag, values in tags if "src" in values]
    # Five layers, three charts, and a place with two pictures: no other fits beside it.
    assert len(sources) == 10
    assert all(re.match(r"data:image/(png|jpeg);base64,", source or "") for source in sources)
    assert not [tag for tag, values in tags if tag in {"link", "iframe", "object"}]
    assert not [values for _, values in tags if "href" in values]
    assert "url(" not in page
    assert len(page) < 5_000_000


def test_the_page_can_be_read_without_pictures(page):
    images = [values for tag, values in Tags(page).found if tag == "img" and "src" in values]
    assert all(len(values["alt"] or "") > 20 for values in images)
    assert "scene &lt;b&gt;&amp;" in page
    assert "<b>&" not in page
    assert "Weights (SHA-256)" in page
    assert "the values of all bands" in page
    assert "of the pixels asked for were not observed" in page
    assert page.count("<details>") == 5
    assert "Date of acquisition not known" in page
    assert re.search(r"9\.96\d\d° S, 62\.98\d\d° W", page)
    assert "width:24.99%" in page
    assert "<span>1 km</span>" in page


def test_the_page_in_portuguese(folder, tiny_bundle):
    scene = folder.parent / "scene <b>&.tif"
    again = geoforest.map_scene(
        scene, folder.parent, model=tiny_bundle.path, load_predictor=load_local_predictor, halo=8,
        language="pt",
    )  # fmt: skip
    assert again.summary["reused_shards"] == again.summary["shards"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert '<html lang="pt">' in page
    assert "Onde o modelo tem menos certeza" in page
    assert "Forest" not in re.sub(r"<style>.*?</style>|<code>.*?</code>", "", page, flags=re.S)
    hectares = again.summary["hectares"]["forest"]
    assert f"{hectares:,.1f}".translate(str.maketrans(",.", ".,")) in page
    with zipfile.ZipFile(folder / "forest.qgz") as archive:
        project = archive.read("forest.qgs").decode()
    assert "Cobertura florestal (modelo), scene" in project
    assert 'label="floresta"' in project
    assert "Forest cover (model)" not in project


def test_a_synthetic_scene_says_so(tmp_path, tiny_bundle):
    scene = tmp_path / "made.tif"
    write_scene(make_scene(3, (256, 256)), scene)
    folder = geoforest.map_scene(
        scene, tmp_path, model=tiny_bundle.path, load_predictor=load_local_predictor, halo=8
    ).folder
    assert "This scene is synthetic." in (folder / "report.html").read_text(encoding="utf-8")
    with zipfile.ZipFile(folder / "forest.qgz") as archive:
        assert "<title>made (synthetic scene)</title>" in archive.read("forest.qgs").decode()


def test_a_map_of_nothing_has_a_page(tmp_path, tiny_bundle):
    dn = np.zeros((70, 80), np.uint16)
    scene = synthetic.write_raster(tmp_path / "void.tif", np.stack([dn] * 4), nodata=0)
    result = geoforest.map_scene(
        scene, tmp_path, model=tiny_bundle.path, load_predictor=load_local_predictor, halo=8
    )
    page = (tmp_path / "void" / "report.html").read_text(encoding="utf-8")
    assert "How sure the model is" not in page
    assert "Sizes of patches" not in page
    assert result.summary["patch_sizes"] == []
    assert [one["passed"] for one in result.summary["quality"]["verdicts"]] == [None, None, None]
