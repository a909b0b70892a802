"""Footprints across the antimeridian, around poles, around the globe, and broken ones."""

from __future__ import annotations

import json

import geopandas
import pytest
import shapely

from geoforest.errors import GeoforestWarning, InputError
from geoforest.scenes.footprint import on_globe, read_footprint, search_boxes
from geoforest.scenes.stac.search import build_question, search
from tests.helpers import stac
from tests.helpers.stac_api import stac_api

BOLIVIA = (-63.2, -17.5, -62.8, -17.1)
FIJI_RING = [[179.27, -18.0], [-178.1, -18.2], [-178.0, -17.0], [179.4, -17.0], [179.27, -18.0]]
BOW_TIE = [[-63.2, -17.5], [-62.8, -17.1], [-62.8, -17.5], [-63.2, -17.1], [-63.2, -17.5]]
OPEN = [[-63.2, -17.5], [-62.8, -17.5], [-62.8, -17.1], [-63.2, -17.1]]


def ring_of(west, south, east, north):
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


@pytest.mark.parametrize(
    ("shell", "bounds"),
    [
        (FIJI_RING, [(-180, -18.2, -178, -17), (179.27, -18.056, 180, -17)]),
        # Longitudes from 0 to 360, or below -180.
        (ring_of(179, -18, 181, -17), [(-180, -18, -179, -17), (179, -18, 180, -17)]),
        (ring_of(-181, -18, -179, -17), [(-180, -18, -179, -17), (179, -18, 180, -17)]),
        (ring_of(190, -18, 191, -17), [(-170, -18, -169, -17)]),
        # An edge along the antimeridian, on both sides of it.
        ([[179.5, -18], [180, -18], [-180, -17], [179.5, -17]], [(179.5, -18, 180, -17)]),
        # Around a pole.
        ([[-120, 80], [0, 80], [120, 80], [-120, 80]], [(-180, 80, 180, 90)]),
        ([[120, -80], [0, -80], [-120, -80], [120, -80]], [(-180, -90, 180, -80)]),
        # The globe, and half of it.
        (ring_of(-180, -90, 180, 90), [(-180, -90, 180, 90)]),
        (ring_of(-90, -10, 90, 10), [(-90, -10, 90, 10)]),
        (ring_of(*BOLIVIA), [BOLIVIA]),
    ],
)
def test_longitudes(shell, bounds):
    found = shapely.get_parts(on_globe(shapely.Polygon(shell)))
    assert sorted(tuple(round(value, 3) for value in part.bounds) for part in found) == bounds


def test_holes_go_along():
    across = ring_of(179, -20, 181, -19)
    for hole in (across, [[x - 360, y] for x, y in across], ring_of(-178, -20, -176, -19)):
        cut = on_globe(shapely.Polygon(ring_of(170, -30, -170, -10), [hole]))
        assert cut.area == pytest.approx(400 - 2)


def test_an_area_on_both_sides_is_searched_on_both():
    assert search_boxes(shapely.box(*BOLIVIA)) == [BOLIVIA]
    both = on_globe(shapely.Polygon(FIJI_RING))
    assert [(box[0], box[2]) for box in search_boxes(both)] == [(-180, -178), (179.27, 180)]


@pytest.fixture
def catalogue(tmp_path):
    """A static catalogue with items of the given outlines, by id."""

    def write(**rings):
        links = []
        for item_id, ring in rings.items():
            geometry = {"type": "Polygon", "coordinates": [ring]}
            document = {**stac.item(item_id=item_id), "geometry": geometry}
            stac.write_item(tmp_path, document)
            links.append({"rel": "item", "href": f"./{item_id}.json"})
        root = {"type": "Catalog", "id": "root", "links": links}
        (tmp_path / "catalog.json").write_text(json.dumps(root))
        return str(tmp_path / "catalog.json")

    return write


def ids(url, **question):
    return [one.item_id for one in search(url, build_question(**question))]


def area_file(folder, *shapes, crs="EPSG:4326"):
    path = folder / "area.gpkg"
    geopandas.GeoSeries(shapes, crs="EPSG:4326").to_crs(crs).to_file(path)
    return path


def test_a_box_in_bolivia_is_not_in_fiji(catalogue):
    url = catalogue(good=ring_of(*BOLIVIA), fiji=FIJI_RING)
    assert ids(url, bbox=BOLIVIA) == ["good"]
    assert ids(url, bbox=(179.9, -17.6, -179.9, -17.3)) == ["fiji"]
    assert ids(url, bbox=(-178.5, -17.6, -178.4, -17.3)) == ["fiji"]


def test_an_area_in_fiji_finds_its_items(catalogue, tmp_path):
    url = catalogue(good=ring_of(*BOLIVIA), fiji=FIJI_RING)
    sides = shapely.box(179.9, -17.6, 180, -17.3), shapely.box(-180, -17.6, -179.9, -17.3)
    assert ids(url, aoi=area_file(tmp_path, *sides)) == ["fiji"]
    # In metres the area is whole, and only becomes one on both sides in degrees.
    whole = shapely.box(-180.1, -17.6, -179.9, -17.3)
    assert ids(url, aoi=area_file(tmp_path, whole, crs="EPSG:32701")) == ["fiji"]
    uncut = shapely.Polygon(ring_of(179.9, -17.6, -179.9, -17.3))
    with pytest.warns(GeoforestWarning, match=r"area.gpkg: an edge longer than 180 degrees"):
        assert ids(url, aoi=area_file(tmp_path, uncut)) == ["fiji"]


def test_an_api_is_asked_for_each_side(tmp_path):
    fiji = {**stac.item(), "geometry": {"type": "Polygon", "coordinates": [FIJI_RING]}}
    with stac_api() as api:
        api.pages = [[fiji, stac.item(item_id="bolivia", west=-63)]]
        assert ids(api.url, bbox=(179.9, -17.6, -179.9, -17.3)) == [stac.ITEM_ID]
        assert [asked["bbox"] for _, asked in api.searches()] == [
            "-180.0,-17.6,-179.9,-17.3",
            "179.9,-17.6,180.0,-17.3",
        ]


@pytest.mark.parametrize("ring", [BOW_TIE, OPEN, OPEN[:3]])
def test_a_footprint_that_can_be_repaired(catalogue, ring):
    url = catalogue(good=ring_of(*BOLIVIA), bad=ring)
    with pytest.warns(GeoforestWarning, match="or are open were repaired: bad"):
        assert ids(url, bbox=BOLIVIA) == ["bad", "good"]


@pytest.mark.parametrize(
    "ring", [[], OPEN[:2], [["a", 1], [2, 3], [4, 5], ["a", 1]], [[1, None], [2, 3], [4, 5]], 5]
)
def test_a_footprint_that_cannot_leaves_its_item_out(catalogue, ring):
    url = catalogue(good=ring_of(*BOLIVIA), bad=ring)
    with pytest.warns(GeoforestWarning, match="what is no STAC item, which is left out: bad"):
        assert ids(url, bbox=BOLIVIA) == ["good"]
    with pytest.raises(InputError, match=r"no item fits.*it holds what is no STAC item.*: bad"):
        search(catalogue(bad=ring), build_question(bbox=BOLIVIA))


def test_any_other_broken_item_is_left_out_too():
    with stac_api() as api:
        api.pages = [["x", {"type": "Feature"}, stac.item(item_id="late", datetime="yesterday")]]
        api.pages[0] += [stac.item(item_id="good"), {**stac.item(), "properties": []}]
        with pytest.warns(GeoforestWarning, match="late .* and 1 more$"):
            assert ids(api.url) == ["good"]


def test_what_is_read(tmp_path):
    footprint, repaired = read_footprint({"type": "Polygon", "coordinates": [BOW_TIE]})
    assert repaired
    assert footprint.is_valid
    assert footprint.area == pytest.approx(0.4 * 0.4 / 2)
    assert not read_footprint({"type": "Polygon", "coordinates": [FIJI_RING]})[1]
