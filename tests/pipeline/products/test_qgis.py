"""The project and the styles as files; what QGIS makes of them is asked in tests/qgis."""

from __future__ import annotations

import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rio_cogeo.cogeo import cog_validate

from geoforest.errors import WriteError
from geoforest.io.cog import CATEGORIES, COLOURS
from geoforest.io.styles import read_style
from geoforest.pipeline.products.qgis import write_project, write_styles
from geoforest.report.picture import MASK_COLOURS, MASK_NAMES
from geoforest.report.quicklook import decimated, write_quicklook
from geoforest.scenes.scene import BandSource, Scene
from geoforest.types import FOREST, NO_OBSERVATION
from tests.helpers import synthetic

HOSTILE = """<evil>&"'é]]> [% env('HOME') %]"""
SOURCES = ("forest.gpkg", "forest_mask.tif", "forest_probability.tif", "quicklook.tif")


def scene(path: Path = Path("/none.tif"), **changes: object) -> Scene:
    values: dict = {
        "scene_id": "a scene",
        "bands": tuple(
            BandSource(name, str(path), index, nodata=0)
            for index, name in enumerate(synthetic.BANDS, 1)
        ),
        "crs": CRS.from_epsg(32720),
        "transform": synthetic.TRANSFORM,
        "shape": (100, 120),
        "dtype": "uint16",
        "scale": (1e-4,) * 4,
        "offset": (0.0,) * 4,
        **changes,
    }
    return Scene(**values)


def style(name: str) -> ElementTree.Element:
    return ElementTree.fromstring(read_style(name))


def project(folder: Path, **changes: object) -> ElementTree.Element:
    write_project(folder / "forest.qgz", scene(**changes))
    with zipfile.ZipFile(folder / "forest.qgz") as archive:
        assert archive.namelist() == ["forest.qgs"]
        return ElementTree.fromstring(archive.read("forest.qgs"))


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in SOURCES:
        (tmp_path / name).touch()
    return tmp_path


class TestStyles:
    def test_colours_are_those_of_the_files_and_of_the_pictures(self):
        entries = style("forest_mask.qml").iterfind(".//paletteEntry")
        found = {
            int(entry.attrib["value"]): (
                entry.attrib["label"], entry.attrib["color"], int(entry.attrib["alpha"])
            )
            for entry in entries
        }  # fmt: skip
        # What is transparent has no colour.
        assert found.pop(NO_OBSERVATION) == (CATEGORIES[NO_OBSERVATION], "#ffffff", 0)
        assert COLOURS[NO_OBSERVATION][3] == 0
        assert found == {
            code: (CATEGORIES[code], "#{:02x}{:02x}{:02x}".format(*colour[:3]), colour[3])
            for code, colour in COLOURS.items()
            if code != NO_OBSERVATION
        }
        assert MASK_NAMES == CATEGORIES
        assert {code: colour for code, (_, colour, _) in found.items()} == {
            code: colour for code, colour in MASK_COLOURS.items() if code != NO_OBSERVATION
        }
        fills = [
            option.attrib["value"]
            for option in style("forest_cover.qml").iterfind(
                ".//layer[@class='SimpleFill']//Option"
            )
            if option.get("name") in {"color", "outline_color"}
        ]
        assert fills == [",".join(map(str, COLOURS[FOREST]))] * 2

    def test_the_ramp_is_viridis_in_probability_and_twice_the_same(self):
        from matplotlib import colormaps

        root = style("forest_probability.qml")
        items = [
            (float(item.attrib["value"]), item.attrib["color"])
            for item in root.iterfind(".//colorrampshader/item")
        ]
        assert [value for value, _ in items] == pytest.approx(np.linspace(0, 1, 21))
        for value, colour in items:
            red, green, blue, _ = colormaps["viridis"](value, bytes=True)
            found = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
            assert np.abs(np.array(found) - [red, green, blue]).max() <= 1
        options = {
            option.get("name"): option.attrib["value"]
            for option in root.iterfind(".//colorramp/Option/Option")
        }
        stops = dict(stop.split(";") for stop in options["stops"].split(":"))
        ramp = {0.0: options["color1"], 1.0: options["color2"]}
        ramp |= {float(value): colour for value, colour in stops.items()}
        assert {
            value: "#{:02x}{:02x}{:02x}".format(*map(int, colour.split(",")[:3]))
            for value, colour in ramp.items()
        } == dict(items)

    def test_they_lie_beside_the_rasters_that_are_there(self, tmp_path):
        (tmp_path / "forest_mask.tif").touch()
        write_styles(tmp_path)
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {"forest_mask.tif", "forest_mask.qml"}
        ElementTree.parse(tmp_path / "forest_mask.qml")


class TestProject:
    def test_the_same_bytes_wherever_and_whenever(self, folder, tmp_path):
        other = tmp_path / "other"
        other.mkdir()
        for name in SOURCES:
            (other / name).write_text("of another size")
        first, second = (
            (project(place), (place / "forest.qgz").read_bytes())[1] for place in (folder, other)
        )
        assert first == second
        assert str(tmp_path).encode() not in ElementTree.tostring(project(folder))

    def test_paths_are_relative_and_layers_in_order(self, folder):
        root = project(folder)
        sources = [node.text for node in root.iterfind("projectlayers/maplayer/datasource")]
        assert sources == [
            "./forest.gpkg|layername=forest_cover",
            "./forest_mask.tif",
            "./forest_probability.tif",
            "./quicklook.tif",
        ]
        tree = root.findall("layer-tree-group/layer-tree-layer")
        assert [node.attrib["source"] for node in tree] == sources
        ids = [node.attrib["id"] for node in tree]
        assert ids == [node.text for node in root.iterfind("projectlayers/maplayer/id")]
        assert len(set(ids)) == 4
        others = project(folder, scene_id="another").iterfind("layer-tree-group/layer-tree-layer")
        assert not set(ids) & {node.attrib["id"] for node in others}

    @pytest.mark.parametrize("missing", SOURCES)
    def test_only_files_that_are_there(self, folder, missing):
        (folder / missing).unlink()
        sources = [node.text for node in project(folder).iterfind(".//maplayer/datasource")]
        assert len(sources) == 3
        assert not any(missing in source for source in sources)

    def test_text_from_outside_stays_text(self, folder):
        root = project(folder, scene_id=HOSTILE)
        assert root.findtext("title") == HOSTILE.replace("[%", "[ %")
        assert root.find(".//evil") is None
        plain = project(folder)

        def expressions(root: ElementTree.Element) -> list[str | None]:
            kinds = ("mapTip", "previewExpression")
            return [node.text for kind in kinds for node in root.iter(kind)]

        assert expressions(root) == expressions(plain)
        assert len(expressions(root)) == 2
        texts = [*root.itertext(), *(v for node in root.iter() for v in node.attrib.values())]
        assert not any("env(" in text and "[%" in text for text in texts)

    def test_no_code_of_an_epsg_that_says_something_else(self, folder):
        moved = CRS.from_proj4("+proj=utm +zone=20 +south +ellps=GRS80 +towgs84=1,2,3 +units=m")
        assert project(folder, crs=moved).findtext("projectCrs/spatialrefsys/authid") == ""
        assert project(folder).findtext("projectCrs/spatialrefsys/authid") == "EPSG:32720"


class TestQuicklook:
    @pytest.mark.parametrize("shape", [(100, 120), (1, 3000), (1601, 907), (3, 1)])
    def test_it_covers_the_scene_exactly(self, tmp_path, shape):
        dn = synthetic.digital_numbers(shape)
        dn[:, : shape[0] // 4, : shape[1] // 4] = 0
        path = synthetic.write_raster(tmp_path / "scene.tif", dn, nodata=0)
        whole = scene(path, shape=shape)
        seen = decimated(whole)
        write_quicklook(tmp_path / "quicklook.tif", whole, *seen)
        valid, errors, warnings = cog_validate(tmp_path / "quicklook.tif", strict=True)
        assert valid, (errors, warnings)
        with rasterio.open(tmp_path / "quicklook.tif") as source:
            assert source.crs == whole.crs
            assert tuple(source.bounds) == pytest.approx(whole.bounds, abs=1e-6)
            assert source.shape == seen[1].shape
            assert max(source.shape) <= 800
            assert source.count == 3
            assert ((source.dataset_mask() > 0) == seen[1]).all()
        assert (tmp_path / "quicklook.tif").stat().st_size < 500_000

    def test_a_scene_that_cannot_be_read_is_all_unobserved(self, tmp_path):
        dn = synthetic.digital_numbers((1000, 1000))
        path = synthetic.write_raster(tmp_path / "scene.tif", dn, tiled=True)
        with rasterio.open(path) as source:
            offset = int(source.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1))
        data = bytearray(path.read_bytes())
        data[offset : offset + 50] = bytes(50)
        path.write_bytes(data)
        values, valid = decimated(scene(path, shape=(1000, 1000)))
        assert values.shape == (4, 800, 800)
        assert not valid.any()

    def test_where_nothing_can_be_written(self, tmp_path):
        seen = np.ones((4, 10, 12), np.uint16), np.ones((10, 12), np.bool_)
        with pytest.raises(WriteError, match=r"quicklook\.tif: cannot be written"):
            write_quicklook(tmp_path / "none" / "quicklook.tif", scene(shape=(10, 12)), *seen)

    def test_degrees(self, tmp_path):
        transform = Affine(1e-4, 0, -60, 0, -1e-4, -10)
        seen = np.ones((4, 10, 12), np.uint16), np.ones((10, 12), np.bool_)
        place = scene(shape=(10, 12), crs=CRS.from_epsg(4326), transform=transform)
        write_quicklook(tmp_path / "quicklook.tif", place, *seen)
        with rasterio.open(tmp_path / "quicklook.tif") as source:
            assert tuple(source.bounds) == pytest.approx(place.bounds, abs=1e-12)
