"""Pages in a real browser, on a desk and on a phone, on paper, and without a script."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import geopandas
import pytest
import shapely

import geoforest
from geoforest.train.evaluation import evaluate_model
from tests.helpers import synthetic
from tests.helpers.browser import NARROW, WIDE, open_chromium, watch
from tests.helpers.maps import write_map
from tests.helpers.synthetic import load_local_predictor, write_chips

PAGES = ("map", "mosaic", "change", "evaluation")
WITH_SLIDER = PAGES[:3]


def write_zones(path: Path, left: float, top: float, width: float, height: float) -> Path:
    """Write sixty units over a place, with names as long as there are."""
    outlines = [
        shapely.box(
            left + col * width / 10,
            top - (row + 1) * height / 6,
            left + (col + 1) * width / 10,
            top - row * height / 6,
        )
        for row in range(6)
        for col in range(10)
    ]
    names = [f"Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch {n}" for n in range(60)]
    geopandas.GeoDataFrame({"name": names}, geometry=outlines, crs=32720).to_file(path)
    return path


@pytest.fixture(scope="module")
def pages(tmp_path_factory, tiny_bundle) -> dict[str, str]:
    """Address of a page of each kind."""
    out = tmp_path_factory.mktemp("pages")
    dn = synthetic.digital_numbers((300, 400))
    dn[:, :80, :60] = 0
    scene = synthetic.write_raster(
        out / "S2A_MSIL2A_20230813T143751_N0509_R096_T20LMR.tif", dn, nodata=0
    )
    x, y = synthetic.TRANSFORM.c, synthetic.TRANSFORM.f
    made = geoforest.map_scene(
        scene, out, model=tiny_bundle.path, load_predictor=load_local_predictor, halo=8,
        zones=write_zones(out / "parishes.gpkg", x, y, 4000, 3000), by="name",
    )  # fmt: skip
    forest = shapely.box(-63.0, -2.7220, -62.9885, -2.7125)
    ground = {"epsg": 32720, "left": 500_000, "top": 9_700_000, "shape": (120, 150)}
    early, late = (
        write_map(
            out / "maps", name, tiny_bundle.path, [own], products="probability,mask,report",
            acquired=datetime(year, 7, 1, tzinfo=UTC), **ground,
        )
        for name, year, own in (
            ("early", 2020, forest),
            ("late", 2024, forest - shapely.box(-62.9975, -2.7190, -62.9950, -2.7160)),
        )
    )  # fmt: skip
    zones = write_zones(out / "zones.gpkg", 500_000, 9_700_000, 1500, 1200)
    change = geoforest.map_change(early, late, out / "change", zones=zones, by="name")
    basin = geoforest.mosaic_maps([early, late], out / "basin", zones=zones, by="name")
    chips = write_chips(out / "chips", {"validation": 2})
    evaluate_model(
        tiny_bundle.path, chips, out / "judged", splits=("validation",), n_chips=2, device="cpu"
    )
    folders = (made.folder, basin.folder, change.folder, out / "judged")
    return {
        kind: (Path(folder) / "report.html").as_uri()
        for kind, folder in zip(PAGES, folders, strict=True)
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", PAGES)
def test_a_page_on_a_desk_and_on_a_phone(pages, kind):
    with open_chromium() as browser:
        for width in (WIDE, NARROW):
            watched = watch(browser, pages[kind], width)
            assert watched.overflow_px() == 0, width
            assert watched.images_that_fail() == []
            assert watched.complaints == []
            # On paper each picture stands by itself, and nothing is folded.
            watched.page.emulate_media(media="print")
            watched.page.evaluate("dispatchEvent(new Event('beforeprint'))")
            assert not watched.page.locator(".compare").is_visible()
            figures = watched.page.locator("figure img").all()
            assert len(figures) >= 3
            assert all(figure.is_visible() for figure in figures)
            assert watched.images_that_fail() == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", WITH_SLIDER)
def test_the_slider_by_keyboard(pages, kind):
    with open_chromium() as browser:
        for width in (WIDE, NARROW):
            page = watch(browser, pages[kind], width).page
            stage, slider = page.locator(".stage"), page.locator(".compare input")
            before = stage.screenshot()
            page.locator(".compare select").nth(1).focus()
            page.keyboard.press("Tab")
            for _ in range(10):
                page.keyboard.press("ArrowLeft")
            assert slider.input_value() == "40"
            right = page.locator(".stage img").nth(1)
            assert right.evaluate("image => image.style.clipPath") == "inset(0px 0px 0px 40%)"
            assert stage.screenshot() != before
            # It is as wide as the pictures, so that the line is where the thumb is.
            boxes = stage.bounding_box(), slider.bounding_box()
            assert len({box["width"] for box in boxes if box}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", WITH_SLIDER)
def test_layers_under_the_slider_are_chosen_by_keyboard(pages, kind):
    with open_chromium() as browser:
        page = watch(browser, pages[kind]).page
        for side in (0, 1):
            select, image = (page.locator(f".compare {tag}").nth(side) for tag in ("select", "img"))
            names = select.locator("option").all_text_contents()
            assert len(names) == len(set(names)) >= 3
            seen = set()
            select.focus()
            page.keyboard.press("Home")
            for place, name in enumerate(names):
                if place:
                    page.keyboard.press("ArrowDown")
                seen.add((image.get_attribute("alt"), image.get_attribute("src")))
                assert name in page.locator(".captions div").nth(side).inner_text()
            assert len(seen) == len(names)


@pytest.mark.slow
@pytest.mark.parametrize("kind", WITH_SLIDER)
def test_without_a_script_the_pictures_stand_one_by_one(pages, kind):
    with open_chromium() as browser:
        page = browser.new_page(java_script_enabled=False)
        page.goto(pages[kind])
        assert not page.locator(".compare").is_visible()
        figures = page.locator(".layers figure").all()
        assert len(figures) >= 3
        assert all(figure.is_visible() for figure in figures)


@pytest.mark.slow
def test_both_dates_of_a_comparison_stand_side_by_side(pages):
    with open_chromium() as browser:
        page = watch(browser, pages["change"]).page
        boxes = [figure.bounding_box() for figure in page.locator(".layers figure").all()]
        (y, x), (other_y, other_x) = [(box["y"], box["x"]) for box in boxes if box][:2]
        assert y == other_y
        assert x < other_x
