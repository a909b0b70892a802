"""Outputs in the real QGIS: they open right, look right, and come to no harm."""

from __future__ import annotations

import shutil
from pathlib import Path
from xml.etree import ElementTree

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image

import geoforest
from geoforest.arrays.georef import GeoRef
from geoforest.arrays.grid import Window
from geoforest.io.cog import CATEGORIES, COLOURS, MaskWriter
from geoforest.io.storage import file_sha256
from geoforest.io.styles import read_style
from geoforest.maps.verify.run import verify
from geoforest.pipeline.demo import Demo, run_demo
from geoforest.types import FOREST, NO_OBSERVATION
from tests.helpers import synthetic
from tests.helpers.synthetic import load_local_predictor

LAEA = "+proj=laea +lat_0=-5 +lon_0=-60 +datum=WGS84 +units=m"
HOSTILE = """[% env('HOME') %] <b>&amp; "São" 'Félix' ]]> [%1+1%]"""
POLYGONS, MASK, PROBABILITY, COLOUR = range(4)


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Demo:
    return run_demo(tmp_path_factory.mktemp("demo"), size=512)


@pytest.fixture(scope="module")
def folder(demo, tmp_path_factory) -> Path:
    """The outputs, in another place than they were made in."""
    return shutil.copytree(demo.result.folder, tmp_path_factory.mktemp("elsewhere") / "moved here")


@pytest.fixture(scope="module")
def seen(look, folder) -> dict:
    """What QGIS sees of the project; nothing in the folder may change by that."""
    before = {path.name: file_sha256(path) for path in folder.iterdir()}
    found = look("project", folder / "forest.qgz")
    assert {path.name: file_sha256(path) for path in folder.iterdir()} == before
    assert list(verify(folder)) == []
    return found


def small_map(tmp_path: Path, bundle, **changes) -> geoforest.MapResult:
    """A map of 120 x 100 px, a wedge of it unobserved."""
    grid = {name: changes.pop(name) for name in ("crs", "transform") if name in changes}
    dn = synthetic.digital_numbers((100, 120))
    dn[:, :30, :20] = 0
    scene = synthetic.write_raster(tmp_path / "scene.tif", dn, nodata=0, **grid)
    chosen = {"model": bundle.path, "halo": 8, "shard": 96, "min_area_ha": 0.0, **changes}
    return geoforest.map_scene(
        scene, tmp_path / "out", load_predictor=load_local_predictor, **chosen
    )


def pixels(png: Path) -> np.ndarray:
    with Image.open(png) as image:
        return np.asarray(image.convert("RGBA")).astype(int)


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read(1)


def hex_of(colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour[:3])


def assert_sound(geometries: dict, n_features: int) -> None:
    """Every geometry is a polygon that both of QGIS's checkers accept, turned as OGC wants."""
    assert geometries.pop("seen") == n_features
    assert geometries.pop("vertices") >= 5 * n_features
    geometries.pop("holes")
    assert geometries == {
        "not_polygon": 0,
        "internal_errors": 0,
        "geos_errors": 0,
        "first_error": "",
        "repeated_points": 0,
        "clockwise_exteriors": 0,
        "counter_clockwise_holes": 0,
    }


def assert_styled(layer: dict) -> None:
    """It has the style of the package, and not one of QGIS's random colours."""
    assert layer["styles_in_file"] == 1
    assert layer["renderer"] == "RuleRenderer"
    assert layer["legend"] == ["forest", "edge of forest"]
    assert layer["symbol_levels"]
    assert layer["opacity"] == 0.5
    fill, line = layer["symbols"]
    assert (fill["type"], fill["level"]) == ("SimpleFill", 1)
    assert (line["type"], line["level"]) == ("SimpleLine", 0)
    assert fill["colour"] == hex_of(COLOURS[FOREST])
    assert fill["width_mm"] == [0.1, 0.25]
    assert line["width_mm"] == [None, 1]
    assert layer["aliases"]["area_ha"] == "Area of this polygon (ha)"
    assert layer["form"] == ["Forest", "Origin"]


class TestProject:
    @pytest.mark.slow
    def test_it_opens_whole_where_it_was_moved_to(self, seen, folder, demo):
        assert seen["read"]
        assert seen["error"] == ""
        assert seen["messages"] == []
        assert seen["title"] == f"{demo.result.scene_id} (synthetic scene)"
        assert [layer["source"] for layer in seen["layers"]] == [
            f"{folder}/forest.gpkg|layername=forest_cover",
            f"{folder}/forest_mask.tif",
            f"{folder}/forest_probability.tif",
            f"{folder}/quicklook.tif",
        ]
        assert [layer["shown"] for layer in seen["layers"]] == [True, False, False, True]
        assert [layer["name"] for layer in seen["layers"]] == [
            f"{name}, {demo.result.scene_id} (synthetic scene)"
            for name in (
                "Forest cover (model)",
                "Forest mask (model)",
                "Forest probability (model)",
                "True colour",
            )
        ]
        assert all(layer["valid"] for layer in seen["layers"])

    def test_it_lies_where_the_scene_lies(self, seen, demo):
        with rasterio.open(demo.result.mask) as source:
            bounds, code = list(source.bounds), source.crs.to_string()
        assert seen["crs"]["code"] == code == "EPSG:32720"
        assert seen["view"] == bounds
        assert seen["view_crs_is_the_projects"]
        assert all(layer["crs_is_the_projects"] for layer in seen["layers"])
        for layer in seen["layers"][MASK:]:
            assert layer["extent"] == pytest.approx(bounds, abs=1e-6)
        left, bottom, right, top = seen["layers"][POLYGONS]["extent"]
        assert left >= bounds[0]
        assert bottom >= bounds[1]
        assert right <= bounds[2]
        assert top <= bounds[3]
        assert (right - left) * (top - bottom) > 0.8 * 5120**2
        width, height = seen["layers"][COLOUR]["pixel"]
        assert (width, height) == (10, 10)

    def test_polygons(self, seen, demo):
        layer = seen["layers"][POLYGONS]
        assert layer["features"] == demo.result.summary["polygons"]["parts"] > 5
        assert_styled(layer)
        assert_sound(dict(layer["geometries"]), layer["features"])
        assert layer["geometries"]["holes"] > 0
        texts = layer["first_texts"]
        assert texts["area_ha"].split(".")[1].isdigit()
        assert len(texts["area_ha"].split(".")[1]) == 2
        assert texts["acquired"] == "2020-08-01 14:27:39 (UTC)"
        assert texts["scene_id"] == demo.result.scene_id
        # On the ellipsoid, as ours; on the plane it would be 0.05 % less here.
        frame = geopandas.read_file(demo.result.polygons, layer="forest_cover")
        assert layer["first_hectares"] == pytest.approx(frame["area_ha"][0], rel=5e-5)
        assert frame.area[0] / 1e4 != pytest.approx(frame["area_ha"][0], rel=2e-4)
        assert f"<b>{texts['area_ha']} ha</b>" in layer["first_tip"]
        assert layer["first_tip"].endswith(f"<br>patch {texts['patch_id'].replace(',', '')}")
        assert layer["first_name"].endswith(f": {texts['area_ha']} ha")

    def test_the_picture_shows_forest_over_the_scene(self, seen, folder):
        drawn = pixels(seen["png"])
        assert drawn.shape == (800, 800, 4)
        mask = read(folder / "forest_mask.tif")
        with rasterio.open(folder / "quicklook.tif") as source:
            scene = np.moveaxis(source.read(), 0, -1).astype(int)
        # Where neither a pixel's own class nor the scene's colour changes near by.
        classes, places = {}, range(8, 500, 6)
        for row in places:
            for col in places:
                near = mask[row - 6 : row + 7, col - 6 : col + 7]
                around = scene[row - 1 : row + 2, col - 1 : col + 2].reshape(-1, 3)
                if (near == near[0, 0]).all() and np.ptp(around, axis=0).max() < 25:
                    at = tuple(int((place + 0.5) * 800 / 512) for place in (row, col))
                    classes.setdefault(int(near[0, 0]), []).append((drawn[at], scene[row, col]))
        assert set(classes) == {0, 1, 255}
        for code, pairs in classes.items():
            assert len(pairs) > 20, code
            found, under = (np.array(side) for side in zip(*pairs, strict=True))
            if code == NO_OBSERVATION:
                assert (found[:, :3] == 255).all()  # nothing but paper
                continue
            wanted = under
            if code == FOREST:
                wanted = (under + np.array(COLOURS[FOREST][:3])) / 2
            assert np.abs(found[:, :3] - wanted).mean() < 4, code
            assert np.median(np.abs(found[:, :3] - wanted)) <= 3, code


class TestRasters:
    @pytest.mark.parametrize("alone", [False, True])
    def test_mask(self, look, seen, folder, alone):
        layer = seen["layers"][MASK]
        if alone:
            layer = look("raster", folder / "forest_mask.tif")
        assert layer["renderer"] == "paletted"
        assert layer["classes"] == {
            str(code): [CATEGORIES[code], hex_of(colour) if colour[3] else "#ffffff", colour[3]]
            for code, colour in COLOURS.items()
        }
        mask = read(folder / "forest_mask.tif")
        values = set()
        for sample in layer["samples"]:
            code = int(mask[sample["row"], sample["col"]])
            values.add(code)
            assert sample["value"] == (None if code == NO_OBSERVATION else code)
            assert sample["colour"][3] == COLOURS[code][3]
            if code != NO_OBSERVATION:
                assert tuple(sample["colour"]) == COLOURS[code]
        assert values == {0, 1, 255}

    @pytest.mark.parametrize("alone", [False, True])
    def test_probability(self, look, seen, folder, alone):
        from matplotlib import colormaps

        layer = seen["layers"][PROBABILITY]
        if alone:
            layer = look("raster", folder / "forest_probability.tif")
        assert layer["renderer"] == "singlebandpseudocolor"
        assert layer["scale"] == 0.004
        assert layer["range"] == [0, 1]
        steps = np.arange(251)
        ramp = np.array([layer["ramp"][str(step)] for step in steps])
        viridis = colormaps["viridis"](steps / 250, bytes=True).astype(int)
        assert np.abs(ramp - viridis).max() <= 3
        stored = read(folder / "forest_probability.tif")
        values = set()
        for sample in layer["samples"]:
            value = int(stored[sample["row"], sample["col"]])
            values.add(value)
            if value == NO_OBSERVATION:
                assert sample["value"] is None
                assert sample["colour"][3] == 0
            else:
                assert sample["value"] == pytest.approx(value / 250, abs=1e-6)
                assert np.abs(np.array(sample["colour"]) - ramp[value]).max() <= 1
        assert NO_OBSERVATION in values
        assert len(values) > 20

    def test_no_statistics_are_written_beside_them(self, look, folder):
        before = sorted(path.name for path in folder.iterdir())
        for name in ("forest_mask.tif", "forest_probability.tif", "quicklook.tif"):
            assert look("raster", folder / name)["valid"]
        assert sorted(path.name for path in folder.iterdir()) == before


def _lines(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns that have any of a mask."""
    return mask.any(axis=1), mask.any(axis=0)


def written(raster: Path, out: Path, **rules: float) -> geopandas.GeoDataFrame:
    """Polygons of a raster, written by the command and read back."""
    geoforest.vectorize_to_file(raster, out, **rules)
    return geopandas.read_file(out, layer="forest_cover")


class TestPolygonsAlone:
    def test_those_of_a_map(self, look, folder, tmp_path):
        path = shutil.copy(folder / "forest.gpkg", tmp_path / "only this.gpkg")
        layer = look("polygons", path)
        assert layer["valid"]
        assert layer["crs"]["code"] == "EPSG:32720"
        assert_styled(layer)
        assert file_sha256(path) == file_sha256(folder / "forest.gpkg")
        drawn = pixels(layer["png"])
        # On white paper.
        fill = (255 + np.array(COLOURS[FOREST][:3])) / 2
        share = (np.abs(drawn[..., :3] - fill).max(axis=-1) <= 1).mean()
        forest = (read(folder / "forest_mask.tif") == FOREST).mean()
        assert share == pytest.approx(forest, abs=0.06)

    def test_those_of_vectorize(self, look, folder, tmp_path):
        frame = written(folder / "forest_mask.tif", tmp_path / "strict.gpkg", min_area_ha=2)
        layer = look("polygons", tmp_path / "strict.gpkg")
        assert_styled(layer)
        assert layer["features"] == len(frame)
        assert_sound(layer["geometries"], len(frame))
        # Without a probability raster there is no mean.
        assert "mean probability" not in layer["first_tip"]

    def test_none_at_all(self, look, tmp_path):
        write_mask(tmp_path / "mask.tif", np.zeros((20, 30), np.uint8))
        written(tmp_path / "mask.tif", tmp_path / "none.gpkg")
        layer = look("polygons", tmp_path / "none.gpkg")
        assert layer["valid"]
        assert layer["features"] == 0
        assert_styled(layer)

    @pytest.mark.parametrize("density", [0.5, 0.9])
    def test_what_is_hard_on_validity(self, look, tmp_path, density):
        """Pixels at random: holes that touch at corners, rings within rings."""
        mask = (np.random.default_rng(3).random((90, 110)) < density).astype(np.uint8)
        mask[40:60, 40:60] = 1
        mask[44:56, 44:56] = 0
        mask[48:52, 48:52] = 1
        mask[10:20, 10:15] = NO_OBSERVATION
        write_mask(tmp_path / "mask.tif", mask)
        frame = written(tmp_path / "mask.tif", tmp_path / "out.gpkg", min_area_ha=0)
        layer = look("polygons", tmp_path / "out.gpkg")
        assert layer["features"] == len(frame)
        assert layer["geometries"]["holes"] > 40
        assert_sound(layer["geometries"], len(frame))

    def test_the_cuts_of_a_giant_patch_are_not_drawn(self, look, tmp_path):
        # The product grid has a line each 10240 m: here 300 m from the left, 200 m from the top.
        transform = Affine(10, 0, 49 * 10_240 - 300, 0, -10, 869 * 10_240 + 200)
        mask = np.ones((60, 70), np.uint8)
        mask[0] = mask[-1] = 0
        mask[:, 0] = mask[:, -1] = 0
        write_mask(tmp_path / "mask.tif", mask, transform)
        frame = written(tmp_path / "mask.tif", tmp_path / "cut.gpkg", max_vertices=3)
        assert len(frame) == 4
        left, bottom, right, top = frame.total_bounds
        box = (left - 10, bottom - 10, right + 10, top + 10)
        layer = look("polygons", tmp_path / "cut.gpkg", box=box)
        assert "in a patch of" in layer["first_tip"]
        drawn = pixels(layer["png"])
        # Twice as far inside as the patch's edge is: nothing but its fill.
        inside = drawn[24:-24, 24:-24, :3]
        fill = (255 + np.array(COLOURS[FOREST][:3])) / 2
        assert np.abs(inside - fill).max() <= 3
        # Around it there is a line.
        line = (255 + np.array([255, 217, 47])) / 2
        assert (np.abs(drawn[..., :3] - line).max(axis=-1) <= 2).sum() > 1000

    @pytest.mark.slow
    def test_small_clearings_show_on_a_map_of_a_whole_scene(self, look, tmp_path):
        mask = np.ones((1000, 1000), np.uint8)
        rows, cols = np.random.default_rng(2).integers(2, 996, (2, 11_000))
        for down in range(3):
            for along in range(3):
                mask[rows + down, cols + along] = 0
        write_mask(tmp_path / "mask.tif", mask)
        frame = written(tmp_path / "mask.tif", tmp_path / "out.gpkg", min_area_ha=0)
        left, _, _, top = frame.total_bounds
        box = (left, top - 110_000, left + 110_000, top)
        layer = look("polygons", tmp_path / "out.gpkg", box=box)
        # Ten kilometres of a hundred and ten: 72 px.
        red = pixels(layer["png"])[4:68, 4:68, 0].mean()
        fill = (255 + COLOURS[FOREST][0]) / 2
        cleared = 1 - mask.mean()
        assert 0.08 < cleared < 0.1
        assert 0.3 < (red - fill) / (255 - fill) / cleared < 1


class TestManyMaps:
    @pytest.mark.parametrize(
        ("crs", "transform", "code", "degrees"),
        [
            ("EPSG:4326", Affine(1e-4, 0, -60, 0, -1e-4, -10), "EPSG:4326", True),
            ("EPSG:4674", Affine(1e-4, 0, -60, 0, -1e-4, -10), "EPSG:4674", True),
            ("EPSG:5880", Affine(10, 0, 4_500_000, 0, -10, 9_000_000), "EPSG:5880", False),
            (LAEA, Affine(10, 0, 0, 0, -10, 0), "", False),
        ],
        ids=["degrees", "SIRGAS", "polyconic", "no EPSG code"],
    )
    def test_any_crs(self, look, tmp_path, tiny_bundle, crs, transform, code, degrees):
        result = small_map(tmp_path, tiny_bundle, crs=crs, transform=transform)
        found = look("project", result.folder / "forest.qgz")
        assert found["error"] == ""
        assert found["crs"]["valid"]
        assert found["crs"]["degrees"] == degrees
        if code:
            assert found["crs"]["code"] == code
        else:
            assert "+proj=laea +lat_0=-5 +lon_0=-60" in found["crs"]["proj"]
        left, top = transform @ (0, 0)
        right, bottom = transform @ (120, 100)
        assert found["view"] == pytest.approx([left, bottom, right, top], rel=1e-12)
        for layer in found["layers"]:
            assert layer["valid"]
            assert layer["crs_is_the_projects"]
        for layer in found["layers"][MASK:]:
            assert layer["extent"] == pytest.approx([left, bottom, right, top], rel=1e-9)
        assert_sound(found["layers"][POLYGONS]["geometries"], found["layers"][POLYGONS]["features"])
        # The unobserved corner is empty.
        drawn = pixels(found["png"])
        height, width = drawn.shape[:2]
        assert (drawn[: height // 5, : width // 8, :3] == 255).all()
        # The polygons end where the forest of the mask does.
        down, across = (np.flatnonzero(line) for line in _lines(read(result.mask) == FOREST))
        west, north = transform @ (across[0], down[0])
        east, south = transform @ (across[-1] + 1, down[-1] + 1)
        assert found["layers"][POLYGONS]["extent"] == pytest.approx(
            [west, south, east, north], rel=1e-6
        )

    def test_a_hostile_scene_id_is_text_and_nothing_else(self, look, tmp_path, tiny_bundle):
        result = small_map(tmp_path, tiny_bundle, scene_id=HOSTILE)
        assert result.folder.name == HOSTILE
        found = look("project", result.folder / "forest.qgz")
        shown = HOSTILE.replace("[%", "[ %")
        assert found["read"]
        assert found["title"] == shown
        for layer in found["layers"]:
            assert layer["valid"]
            assert layer["title"].endswith(f", {shown}")
            assert layer["title_filled_in"] == layer["title"]
        polygons = found["layers"][POLYGONS]
        assert "env" not in polygons["first_tip"]
        assert "env" not in polygons["first_name"]
        assert polygons["first_texts"]["scene_id"] == HOSTILE

    @pytest.mark.parametrize(
        ("products", "shown"),
        [
            ({"report"}, {"True colour": True}),
            ({"report", "mask"}, {"Forest mask (model)": True, "True colour": True}),
            (
                {"report", "mask", "probability"},
                {
                    "Forest mask (model)": True,
                    "Forest probability (model)": False,
                    "True colour": True,
                },
            ),
            (
                {"report", "probability"},
                {"Forest probability (model)": True, "True colour": True},
            ),
            (
                {"report", "polygons", "probability"},
                {
                    "Forest cover (model)": True,
                    "Forest probability (model)": False,
                    "True colour": True,
                },
            ),
        ],
    )
    def test_only_layers_that_are_there(self, look, tmp_path, tiny_bundle, products, shown):
        result = small_map(tmp_path, tiny_bundle, products=frozenset(products))
        found = look("project", result.folder / "forest.qgz")
        assert found["error"] == ""
        assert {
            layer["name"].removesuffix(f", {result.scene_id}"): layer["shown"]
            for layer in found["layers"]
        } == shown
        assert all(layer["valid"] for layer in found["layers"])


def write_mask(path: Path, mask: np.ndarray, transform: Affine = synthetic.TRANSFORM) -> None:
    with MaskWriter(
        path,
        georef=GeoRef(mask.shape, transform, rasterio.CRS.from_string(synthetic.UTM_20S)),
        tags={"THRESHOLD": "0.5"},
    ) as writer:
        writer.write(Window(0, 0, *mask.shape), mask)
        writer.finish()


def test_qgis_keeps_every_part_of_the_style(look, folder):
    """What QGIS makes of the style's names of fields: each is there."""
    style = ElementTree.fromstring(read_style("forest_cover.qml"))
    named = {field.get("name") for field in style.iterfind("fieldConfiguration/field")}
    layer = look("polygons", folder / "forest.gpkg")
    assert named == set(layer["aliases"])
    assert all(alias for name, alias in layer["aliases"].items() if name != "fid")
