"""A sample in the real QGIS: a form with drop-downs, squares of pixels, nothing of the map."""

from __future__ import annotations

import shutil
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image

from geoforest import draw_sample, map_change
from geoforest.io.storage import file_sha256
from tests.helpers.maps import write_map
from tests.helpers.samples import CLEARED, FOREST, GROUND, LATER


@pytest.fixture(scope="module")
def sample(tmp_path_factory, tiny_bundle) -> Path:
    out = tmp_path_factory.mktemp("sample") / "maps"
    folder = write_map(out, "early", tiny_bundle.path, [FOREST], **GROUND)
    return draw_sample(folder, 120, out / "sample.gpkg").path


@pytest.fixture(scope="module")
def seen(look, sample) -> dict:
    before = file_sha256(sample)
    found = look("sample", sample)
    assert file_sha256(sample) == before
    return found


def test_it_opens_styled(seen):
    assert seen["valid"]
    assert seen["messages"] == []
    assert seen["features"] == 120
    assert seen["crs"]["code"] == "EPSG:32720"
    assert seen["styles_in_file"] == 1
    assert seen["renderer"] == "RuleRenderer"
    assert seen["legend"] == ["to be labelled", "labelled"]


def test_the_form_has_drop_downs_and_not_what_the_map_says(seen):
    assert seen["form"] == ["Label"]
    assert seen["form_fields"] == ["sample_id", "reference", "confidence", "note"]
    kind, config = seen["widgets"]["reference"]
    assert kind == "ValueMap"
    assert config["map"] == [
        {"other": "other"}, {"forest": "forest"}, {"not interpretable": "not interpretable"},
    ]  # fmt: skip
    kind, config = seen["widgets"]["confidence"]
    assert (kind, len(config["map"])) == ("ValueMap", 3)
    assert "Hidden" not in {kind for kind, _ in seen["widgets"].values()}
    assert {"sample_id", "stratum", "stratum_name", "row", "col"} <= set(seen["locked"])
    assert not {"reference", "confidence", "note"} & set(seen["locked"])
    assert seen["first_name"].startswith("Point ")


def test_the_table_has_no_more_than_the_form(seen):
    assert seen["table"] == seen["form_fields"]
    assert seen["table_sorted_by"] == '"sample_id"'


def colours(png: Path) -> dict[str, int]:
    """How many picture pixels have the colours of open and of labelled points."""
    with Image.open(png) as image:
        drawn = np.asarray(image.convert("RGB")).astype(int)
    wanted = {"open": (255, 0, 255), "done": (0, 220, 255)}
    return {
        name: int((np.abs(drawn - colour).max(axis=-1) < 30).sum())
        for name, colour in wanted.items()
    }


def test_points_change_their_colour_once_labelled(look, sample, seen, tmp_path):
    counts = colours(seen["png"])
    assert counts["open"] > 500
    assert counts["done"] == 0
    path = Path(shutil.copy(sample, tmp_path / "labelled.gpkg"))
    points = geopandas.read_file(path, layer="sample")
    points["reference"] = "other"
    points.to_file(path, layer="sample")
    counts = colours(look("sample", path)["png"])
    assert counts["done"] > 500
    assert counts["open"] == 0


def test_a_square_is_the_pixel(look, sample):
    """Close by, the outline of the mark runs along the edges of the pixel."""
    first = geopandas.read_file(sample, layer="sample").geometry[0]
    seen = look("sample", sample, box=first.buffer(10).bounds)
    with Image.open(seen["png"]) as image:
        drawn = np.asarray(image.convert("RGB")).astype(int)
    rows, cols = np.nonzero(np.abs(drawn - (255, 0, 255)).max(axis=-1) < 30)
    # The picture shows 20 m; its middle half is the pixel.
    for edge in (rows, cols):
        assert abs(edge.min() / 800 - 0.25) < 0.01
        assert abs(edge.max() / 800 - 0.75) < 0.01


@pytest.fixture(scope="module")
def project(look, tmp_path_factory, tiny_bundle) -> dict:
    """Of a sample whose map has a picture; map and sample lie beside each other."""
    home = tmp_path_factory.mktemp("labelling")
    folder = write_map(home / "maps", "early", tiny_bundle.path, [FOREST], **GROUND)
    profile = {"driver": "GTiff", "width": 150, "height": 120, "count": 3, "dtype": "uint8"}
    grid = {"crs": "EPSG:32720", "transform": Affine(10, 0, 500_000, 0, -10, 9_700_000)}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(folder / "quicklook.tif", "w", **profile, **grid) as target,
    ):
        target.write(np.full((3, 120, 150), 80, np.uint8))
        target.write_mask(True)
    # Without the scene there is its small picture.
    shutil.rmtree(home / "scenes")
    drawn = draw_sample(folder, 12, home / "labels" / "sample.gpkg", min_per_stratum=4)
    # What is asked for by relative paths goes along.
    moved = shutil.move(home, home.with_name("moved"))
    return {
        "scene": folder.name,
        **look("project", Path(moved) / drawn.project.relative_to(home)),
    }


def test_the_project_has_points_over_the_picture_and_nothing_of_the_map(project):
    assert project["read"]
    assert not project["error"]
    assert [layer["valid"] for layer in project["layers"]] == [True, True]
    assert [layer["shown"] for layer in project["layers"]] == [True, True]
    titles = [layer["title"] for layer in project["layers"]]
    assert titles == [f"{what}, {project['scene']}" for what in ("Points to label", "True colour")]
    assert project["crs"]["code"] == "EPSG:32720"
    hidden = {"stratum", "stratum_name", "row", "col"}
    assert hidden <= set(project["layers"][0]["columns_hidden"])
    assert not {"sample_id", "reference"} & set(project["layers"][0]["columns_hidden"])


def test_a_theme_a_date_and_a_bookmark_a_point(project):
    (layers,) = project["themes"].values()
    assert layers == [layer["source"] for layer in project["layers"]]
    assert len(project["bookmarks"]) == 12
    near = project["layouts"][0]["pages"][6]["maps"]["near"]
    assert project["bookmarks"]["Point 00007"] == pytest.approx(near, abs=1e-6)
    assert project["bookmarks_crs"] == ["EPSG:32720"]


def test_both_dates_are_on_the_page(look, tmp_path, tiny_bundle):
    ground = {**GROUND, "products": "probability,report"}
    early = write_map(tmp_path / "maps", "early", tiny_bundle.path, [FOREST], **ground)
    forest = [FOREST - CLEARED]
    late = write_map(tmp_path / "maps", "late", tiny_bundle.path, forest, acquired=LATER, **ground)
    made = map_change(early, late, tmp_path / "compared" / "change").folder
    drawn = draw_sample(made, 12, tmp_path / "labels" / "odd &amp; [% 1 %] é#.gpkg")
    assert drawn.notes == ()
    seen = look("project", drawn.project)
    assert seen["messages"] == []
    assert [layer["valid"] for layer in seen["layers"]] == [True] * 5
    assert [layer["shown"] for layer in seen["layers"]] == [True] * 3 + [False] * 2
    assert {name: sources[-1] for name, sources in seen["themes"].items()} == {
        folder.name: str(folder / "quicklook.tif") for folder in (early, late)
    }
    (layout,) = seen["layouts"]
    assert layout["pages"][0]["maps"]["near"] == layout["pages"][0]["maps"]["later"]
    shown = layout["layers"]
    assert [sources[-1] for sources in (shown["near"], shown["later"])] == [
        str(folder / "quicklook.tif") for folder in (early, late)
    ]
    assert layout["exported"]
    near, whole = seen["layers"][1]["title"], seen["layers"][2]["title"]
    assert (near, whole) == (
        f"True colour, {late.name}, about the points",
        f"True colour, {late.name}",
    )
    # Oracles are white and black, and the later scene lacks what was cleared.
    with Image.open(layout["page"]) as image:
        drawn = np.asarray(image.convert("RGB")).astype(int)
    assert (drawn.max(axis=-1) < 30).mean() > 0.05


def test_a_page_a_point_shows_its_pixel_and_not_what_the_map_says(project):
    (layout,) = project["layouts"]
    assert [page["name"] for page in layout["pages"]] == [f"point_{n}" for n in range(1, 13)]
    for number, page in enumerate(layout["pages"], start=1):
        assert page["texts"]["title"] == f"Point {number} of 12"
        assert "forest" not in str(page["texts"]).lower()
        left, bottom, right, top = page["maps"]["near"]
        assert (right - left, top - bottom) == pytest.approx((500, 500))
        # The centre of a pixel.
        assert ((left + right) / 2 - 500_005) % 10 == pytest.approx(0, abs=1e-6)
        lat, lon = map(float, page["texts"]["place"].splitlines()[-1].split(", "))
        assert -2.8 < lat < -2.7
        assert -63.1 < lon < -62.9
    assert layout["exported"]
    # The picture, and the magenta square of the pixel in the middle.
    with Image.open(layout["page"]) as image:
        drawn = np.asarray(image.convert("RGB")).astype(int)
    assert (np.abs(drawn - 80).max(axis=-1) < 12).mean() > 0.2
    assert colours(Path(layout["page"]))["open"] > 20
