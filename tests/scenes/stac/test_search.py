"""Searches of a real STAC API on loopback, and of static catalogues."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import geopandas
import pystac
import pytest
import shapely

from geoforest.errors import GeoforestWarning, InputError
from geoforest.scenes.stac.item import is_item
from geoforest.scenes.stac.search import build_question, search
from tests.helpers import stac
from tests.helpers.servers import file_server, stac_server

EARLY, LATE, EAST, CLEAR = "S2B_20LMR_0601", "S2B_20LMR_0813", "S2B_20LNR_0813", "S2B_20LMR_0901"
ITEMS = [
    stac.item(item_id=EARLY, datetime="2023-06-01T14:00:00Z", **{"eo:cloud_cover": 80}),
    stac.item(item_id=LATE, datetime="2023-08-13T14:00:00Z", **{"eo:cloud_cover": 20}),
    stac.item(item_id=EAST, datetime="2023-08-13T14:00:05Z", west=-62, **{"eo:cloud_cover": 30}),
    stac.item(item_id=CLEAR, datetime="2023-09-01T14:00:00Z", **{"eo:cloud_cover": None}),
]
QUESTIONS = [
    ({}, [EARLY, LATE, EAST, CLEAR]),
    ({"period": "2023-08-13"}, [LATE, EAST]),
    ({"period": "2023-06/2023-08"}, [EARLY, LATE, EAST]),
    ({"period": "2023-08-13T14:00:05Z"}, [EAST]),
    ({"period": "2023-08-14/.."}, [CLEAR]),
    ({"period": "../2023-06"}, [EARLY]),
    # One that does not say how cloudy it is might be clear.
    ({"max_cloud": 20}, [LATE, CLEAR]),
    ({"bbox": (-62.5, -11, -61, -9)}, [EAST]),
    ({"bbox": (-62.5, -11, -64, -9)}, [EAST]),
    ({"collections": ["sentinel-2-l2a", "others"], "max_cloud": 30}, [LATE, EAST, CLEAR]),
]


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    folder = tmp_path_factory.mktemp("items")
    # The server makes links of its own, and takes no others.
    with stac_server(*(stac.write_item(folder, {**item, "links": []}) for item in ITEMS)) as url:
        yield url


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    """A static catalogue of two collections in one another, with a link back to the root."""
    folder = tmp_path_factory.mktemp("catalogue")
    root = pystac.Catalog("root", "All.")
    extent = pystac.Extent(
        pystac.SpatialExtent([[-180, -90, 180, 90]]), pystac.TemporalExtent([[None, None]])
    )
    collection = pystac.Collection("sentinel-2-l2a", "Some.", extent)
    between = pystac.Catalog("between", "Some.")
    root.add_child(between)
    between.add_child(collection)
    collection.add_items([pystac.Item.from_dict({**item, "links": []}) for item in ITEMS])
    root.normalize_and_save(str(folder), pystac.CatalogType.SELF_CONTAINED)
    path = folder / "between" / "sentinel-2-l2a" / "collection.json"
    document = json.loads(path.read_text())
    document["links"].append({"rel": "child", "href": "../../catalog.json"})
    path.write_text(json.dumps(document))
    return folder / "catalog.json"


@pytest.mark.parametrize(("question", "ids"), QUESTIONS)
def test_an_api_and_a_static_catalogue_answer_alike(api, catalogue, question, ids):
    for url in (api, str(catalogue)):
        found = search(url, build_question(**question))
        assert [one.item_id for one in found] == ids
        assert all(is_item(one.location) for one in found)


def test_answers_come_page_by_page(api, monkeypatch):
    monkeypatch.setattr("geoforest.scenes.stac.search._PAGE", 1)
    assert [one.item_id for one in search(api, build_question())] == [EARLY, LATE, EAST, CLEAR]


def test_what_is_told_of_an_item(api):
    (found,) = search(api, build_question(bbox=(-62.5, -11, -61, -9)))
    assert found.acquired == datetime(2023, 8, 13, 14, 0, 5, tzinfo=UTC)
    assert str(found) == f"{EAST}  2023-08-13 14:00  30 % cloud"
    assert found.location == f"{api}collections/sentinel-2-l2a/items/{EAST}"


def test_a_static_collection_on_the_web(catalogue):
    with file_server() as server:
        for path in catalogue.parent.rglob("*.json"):
            server.files[f"/{path.relative_to(catalogue.parent)}"] = path.read_bytes()
        found = search(
            f"{server.url}/between/sentinel-2-l2a/collection.json", build_question(max_cloud=20)
        )
        assert [one.item_id for one in found] == [LATE, CLEAR]
        assert found[0].location.startswith(f"{server.url}/between/sentinel-2-l2a/{LATE}/")
        # Each document is asked for once, however many links lead to it.
        paths = [path for path, *_ in server.requests]
        assert len(paths) == len(set(paths))
        root = json.loads(server.files["/catalog.json"])
        root["links"].append({"rel": "item", "href": "file:///etc/passwd"})
        server.files["/catalog.json"] = json.dumps(root).encode()
        with pytest.raises(InputError, match="links to file:///etc/passwd; a URL was wanted"):
            search(f"{server.url}/catalog.json", build_question())


def test_an_area_of_interest_in_any_crs(api, tmp_path):
    east = geopandas.GeoSeries([shapely.box(-62.02, -10.05, -61.99, -10)], crs="EPSG:4326")
    path = tmp_path / "aoi.gpkg"
    east.to_crs("EPSG:32720").to_file(path)
    assert [one.item_id for one in search(api, build_question(aoi=path))] == [EAST]


def test_latitude_before_longitude(api, catalogue, tmp_path):
    """Neither an empty answer nor a search of the Southern Ocean without a word."""
    path = tmp_path / "aoi.geojson"
    geopandas.GeoSeries([shapely.box(-10.05, -62.02, -10, -61.99)], crs="EPSG:4326").to_file(path)
    with pytest.warns(
        GeoforestWarning, match=r"longitude -10\.05 to -10, latitude -62\.02 to .* no"
    ):
        question = build_question(aoi=path)
    for url in (api, str(catalogue)):
        with pytest.raises(
            InputError, match=r"no item fits.*; with x and y swapped, items would fit"
        ):
            search(url, question)
    with pytest.raises(InputError, match=r"latitude 1 to 2$"):
        search(api, build_question(bbox=(10, 1, 11, 2)))


def test_an_area_in_metres_without_its_crs(tmp_path):
    path = tmp_path / "aoi.geojson"
    path.write_text(json.dumps(shapely.geometry.mapping(shapely.box(500e3, 889e4, 501e3, 890e4))))
    with pytest.raises(InputError, match=r"are no degrees, and its CRS is EPSG:4326"):
        build_question(aoi=path)


def test_an_item_that_is_there_twice_is_found_once(tmp_path):
    root = {"type": "Catalog", "id": "root", "links": []}
    for folder in ("a", "b"):
        stac.write_item(tmp_path / folder, stac.item())
        root["links"].append({"rel": "item", "href": f"./{folder}/{stac.ITEM_ID}.json"})
    (tmp_path / "catalog.json").write_text(json.dumps(root))
    assert len(search(str(tmp_path / "catalog.json"), build_question())) == 1


class _Answers:
    """A server whose searches go on for ever."""

    def __init__(self, server):
        page = {"type": "FeatureCollection", "features": [stac.item()]}
        page["links"] = [{"rel": "next", "href": f"{server.url}/search?page=next"}]
        links = [{"rel": "search", "href": "search", "type": "application/geo+json"}]
        root = {"type": "Catalog", "id": "root", "stac_version": "1.0.0", "links": links}
        server.files = {"/": json.dumps(root).encode(), "/search": json.dumps(page).encode()}


def test_more_items_than_anybody_can_want(api, monkeypatch):
    monkeypatch.setattr("geoforest.scenes.stac.search._MOST_ITEMS", 3)
    with pytest.raises(InputError, match="gives more than 3 items; ask for less"):
        search(api, build_question())


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        ({"features": ["x"]}, "holds what is no STAC item"),
        ({"features": [{"type": "Feature"}]}, "holds what is no STAC item"),
        ({"features": [stac.item(datetime="yesterday")]}, "holds what is no STAC item"),
        ({"features": [stac.item(**{"eo:cloud_cover": 10**400})]}, "holds what is no STAC item"),
        ({"features": [{**stac.item(), "geometry": {"type": "Knot"}}]}, "holds what is no STAC"),
        ({"features": []}, "no item fits"),
    ],
)
def test_answers_that_are_none(page, sentence):
    with file_server() as server:
        _Answers(server)
        server.files["/search"] = json.dumps(page).encode()
        with pytest.raises(InputError, match=sentence):
            search(f"{server.url}/", build_question(bbox=(-180, -90, 180, 90)))


def test_an_answer_without_a_place_of_its_own():
    with file_server() as server:
        _Answers(server)
        page = {"features": [{**stac.item(item_id="a/b"), "links": []}]}
        server.files["/search"] = json.dumps(page).encode()
        (found,) = search(f"{server.url}/", build_question())
        assert found.location == f"{server.url}/collections/sentinel-2-l2a/items/a%2Fb"


def test_nothing_fits(api):
    with pytest.raises(InputError, match="no item fits; ask for more with --collection"):
        search(api, build_question(collections=["landsat"]))


def test_urls_that_are_no_catalogue(api, tmp_path):
    with pytest.raises(InputError, match="is a collection of an API; the root was wanted"):
        search(f"{api}collections/sentinel-2-l2a", build_question())
    with pytest.raises(InputError, match="is no STAC catalogue, collection or API"):
        search(str(stac.write_item(tmp_path, stac.item())), build_question())


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ({"bbox": (1, 2, 3)}, "--bbox 1,2,3: west,south,east,north"),
        ({"bbox": (1, 5, 3, 4)}, "west,south,east,north in degrees"),
        ({"bbox": (500_000, 4e6, 600_000, 5e6)}, "west,south,east,north in degrees"),
        ({"bbox": (0, 0, 1, float("nan"))}, "west,south,east,north in degrees"),
        ({"max_cloud": 101}, "--max-cloud 101: a percentage"),
        ({"period": "yesterday"}, "--datetime yesterday: a day"),
        ({"period": "2023-13"}, "--datetime 2023-13: a day"),
        ({"aoi": "no.gpkg"}, "no such file"),
    ],
)
def test_questions_that_are_none(question, sentence):
    with pytest.raises(InputError, match=sentence):
        build_question(**question)
