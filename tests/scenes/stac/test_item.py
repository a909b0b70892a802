"""STAC items as scenes: each catalogue's names, where assets lie, and what no item can bring in."""

from __future__ import annotations

import json
import traceback
from datetime import UTC, datetime

import numpy as np
import pystac
import pytest

from geoforest.arrays.grid import Window
from geoforest.errors import InputError, ReadError, SceneError
from geoforest.io.remote import NETWORK_OPTIONS
from geoforest.scenes.open import open_scene, read_product
from geoforest.scenes.read import read_window, release
from geoforest.scenes.stac.assets import band_assets
from geoforest.scenes.stac.item import SIGN_VARIABLE, is_item
from tests.helpers import stac
from tests.helpers.servers import file_server, folder_server
from tests.helpers.synthetic import BANDS, UTM_20S, digital_numbers, write_raster

NAMINGS = [stac.earth_search, stac.planetary_computer, stac.data_space, stac.earth_search_v0]
WHOLE = Window(0, 0, 150, 190)


def opened(path):
    return open_scene(path, wanted=BANDS)


@pytest.fixture
def server():
    with file_server() as server:
        yield server


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("applied", [True, False])
def test_the_names_of_each_catalogue(tmp_path, naming, applied):
    dn = stac.write_rasters(tmp_path, offset_applied=applied)
    document = stac.item(naming)
    key = stac.CLASSIFICATION[naming]
    document["assets"][key] = {"href": "./SCL.tif", "type": stac.COG}
    document["assets"][f"{key}-jp2"] = {"href": "s3://elsewhere/SCL.jp2", "type": stac.JP2}
    write_raster(tmp_path / "SCL.tif", dn[:1].astype("uint8"), descriptions=None)
    scene = opened(stac.write_item(tmp_path, document))
    assert scene.scene_id == stac.ITEM_ID
    assert [band.path for band in scene.bands] == [str(tmp_path / f"{b}.tif") for b in BANDS]
    assert scene.scene_classification == str(tmp_path / "SCL.tif")
    assert np.array_equal(read_window(scene, WHOLE)[0], dn)
    assert np.array_equal(read_window(scene, WHOLE)[1], (dn > 0).all(axis=0))
    assert scene.scale == (1e-4,) * 4
    # Whatever the catalogue says: the pixels show it.
    assert scene.offset == ((0.0,) * 4 if applied else (-0.1,) * 4)
    assert scene.acquired == datetime(2023, 8, 13, 14, 27, 29, 24000, tzinfo=UTC)
    assert scene.processing_level == "L2A"
    facts = dict(scene.facts)
    assert facts.pop("offset_check")["offset_seen_applied"] is applied
    assert facts == {
        "mgrs_tile": "20LMR",
        "orbit": 53,
        "processing_baseline": "05.09",
        "cloud_percent": 12.5,
    }


@pytest.mark.parametrize(
    ("naming", "applied", "told"),
    [
        (stac.earth_search, True, "states offset -0.1 and that it has been applied"),
        (stac.earth_search, False, "show that it has not been applied"),
        (stac.planetary_computer, False, "states no scale"),
        (stac.data_space, False, None),
    ],
)
def test_what_the_user_is_told(tmp_path, naming, applied, told):
    stac.write_rasters(tmp_path, offset_applied=applied)
    scene = opened(stac.write_item(tmp_path, stac.item(naming)))
    assert (told is None) == (scene.notes == ())
    assert told is None or told in " ".join(scene.notes)


def test_numbers_that_are_not_esas_are_taken_as_they_stand(tmp_path):
    stac.write_rasters(tmp_path)
    document = stac.item()
    for asset in document["assets"].values():
        for band in asset.get("raster:bands", []):
            band |= {"scale": 5e-5, "offset": -0.02, "nodata": "nan"}
    scene = opened(stac.write_item(tmp_path, document))
    assert (scene.scale, scene.offset) == ((5e-5,) * 4, (-0.02,) * 4)
    assert np.isnan(scene.bands[0].nodata)
    assert "offset_check" not in scene.facts
    # And the user's own before all.
    scene = open_scene(tmp_path / f"{stac.ITEM_ID}.json", wanted=BANDS, scale=1e-4, offset=-0.1)
    assert (scene.scale, scene.offset) == ((1e-4,) * 4, (-0.1,) * 4)


def test_keys_alone_name_the_bands(tmp_path):
    stac.write_rasters(tmp_path)
    document = stac.item()
    for asset in document["assets"].values():
        asset.pop("eo:bands", None)
        asset.pop("type", None)
    del document["assets"]["visual"]
    assert opened(stac.write_item(tmp_path, document)).shape == (150, 190)


@pytest.mark.parametrize(
    ("field", "value", "level"),
    [
        ("s2:product_type", "S2MSI1C", "L1C"),
        ("processing:level", "L1C", "L1C"),
        ("collection", "sentinel-2-c1-l2a", "L2A"),
        ("collection", "sentinel-2-l1c", "L1C"),
        ("collection", None, "L2A"),
    ],
)
def test_the_level(tmp_path, field, value, level):
    document = stac.item(**{"s2:product_type": None})
    (document if field == "collection" else document["properties"])[field] = value
    stac.write_rasters(tmp_path)
    assert opened(stac.write_item(tmp_path, document)).processing_level == level


def test_a_range_of_times(tmp_path):
    document = stac.item(
        datetime=None,
        start_datetime="2023-08-13T16:27:29+02:00",
        end_datetime="2023-08-13T16:30:00+02:00",
    )
    document["properties"]["datetime"] = None
    stac.write_rasters(tmp_path)
    scene = opened(stac.write_item(tmp_path, document))
    assert scene.acquired == datetime(2023, 8, 13, 14, 27, 29, tzinfo=UTC)


class TestWhereAssetsLie:
    def test_relative_absolute_and_as_urls(self, tmp_path, monkeypatch):
        folder = tmp_path / "a b"
        stac.write_rasters(folder)
        document = stac.item()
        document["assets"]["green"]["href"] = str(folder / "B03.tif")
        document["assets"]["blue"]["href"] = (folder / "B02.tif").as_uri()
        document["assets"]["nir"]["href"] = "../a b/B08.tif"
        stac.write_item(folder, document)
        monkeypatch.chdir(folder)
        product = read_product(f"{stac.ITEM_ID}.json")
        assert product.bands["B03"] == product.bands["B02"].replace("B02", "B03")
        assert opened(f"{stac.ITEM_ID}.json").shape == (150, 190)

    def test_on_the_web(self, tmp_path):
        path = stac.write_scene(tmp_path)
        with folder_server(tmp_path) as url:
            scene = opened(f"{url}/{path.name}")
            assert scene.bands[0].path == f"/vsicurl/{url}/B04.tif"
            assert np.array_equal(read_window(scene, WHOLE)[0], read_window(opened(path), WHOLE)[0])
            assert scene.facts == opened(path).facts
            release(scene)

    @pytest.mark.parametrize(
        ("href", "path"),
        [
            ("s3://bucket/some/B04.tif", "/vsis3/bucket/some/B04.tif"),
            ("gs://bucket/some/B04.tif", "/vsigs/bucket/some/B04.tif"),
            ("https://host/B04.tif?a=b", "/vsicurl/https://host/B04.tif?a=b"),
        ],
    )
    def test_in_buckets(self, href, path):
        document = stac.item()
        document["assets"]["red"]["href"] = href
        item = pystac.Item.from_dict(document)
        assert band_assets(item, "/data/a.json")["B04"].path == path

    def test_without_a_georeference_of_their_own(self, tmp_path):
        """At whatever resolution, as the real items that were made smaller."""
        dn = stac.write_rasters(tmp_path, crs=None)
        document = stac.item(**{"proj:epsg": 32720})
        for asset in document["assets"].values():
            asset |= {"proj:shape": [300, 380], "proj:transform": [10, 0, 5e5, 0, -10, 89e5]}
        document["assets"]["scl"] = {
            **document["assets"]["red"],
            "href": "B02.tif",
            "eo:bands": [],
        }
        scene = opened(stac.write_item(tmp_path, document))
        assert (scene.crs, scene.shape) == (UTM_20S, (150, 190))
        assert tuple(scene.transform)[:6] == (20, 0, 5e5, 0, -20, 89e5)
        assert np.array_equal(read_window(scene, WHOLE)[0], dn)
        assert "place and CRS are those of the item" in scene.notes[0]
        stamped = {name for name, size, _ in scene.files if size > 0}
        assert {str(tmp_path / f"{band}.tif") for band in BANDS} < stamped
        import rasterio

        with rasterio.open(scene.scene_classification) as source:
            assert (source.crs, source.transform) == (scene.crs, scene.transform)

    @pytest.mark.parametrize("given", ["crs", "place", "nothing", "rotated"])
    def test_nowhere(self, tmp_path, given):
        stac.write_rasters(tmp_path, crs=None)
        document = stac.item(**{"proj:code": "EPSG:32720"} if given != "place" else {})
        if given == "nothing":
            del document["properties"]["proj:code"]
        if given in {"place", "rotated"}:
            step = 5 if given == "rotated" else 0
            document["properties"] |= {
                "proj:shape": [150, 190],
                "proj:transform": [10, step, 5e5, 0, -10, 89e5],
            }
        with pytest.raises(SceneError, match=r"asset blue has no CRS|asset red has no CRS"):
            opened(stac.write_item(tmp_path, document))


class TestHostileItems:
    @pytest.mark.parametrize(
        "href",
        ["file:///etc/passwd", "ftp://host/B04.tif", "vrt:///etc/passwd", "file://host/B04.tif"],
    )
    def test_an_item_from_the_web_does_not_reach_this_machine(self, tmp_path, server, href):
        document = stac.item()
        document["assets"]["red"]["href"] = href
        server.files["/a.json"] = json.dumps(document).encode()
        with pytest.raises(SceneError, match="asset red is at"):
            opened(f"{server.url}/a.json")

    @pytest.mark.parametrize("href", ["http://[B04.tif", "//[x/B04.tif", "http://host:x/B04.tif"])
    @pytest.mark.parametrize("signed", [False, True])
    def test_a_link_that_is_no_url(self, tmp_path, server, monkeypatch, href, signed):
        if signed:
            monkeypatch.setenv(SIGN_VARIABLE, "tests.helpers.stac:sign")
        document = stac.item()
        document["assets"]["red"]["href"] = href
        server.files["/a.json"] = json.dumps(document).encode()
        for path in (stac.write_item(tmp_path, document), f"{server.url}/a.json"):
            with pytest.raises(SceneError, match=r"asset red is at .*B04.tif.*no URL|no such file"):
                opened(path)

    def test_absolute_paths_on_the_web_are_the_servers(self):
        document = stac.item()
        document["assets"]["red"]["href"] = "/etc/passwd"
        item = pystac.Item.from_dict(document)
        path = band_assets(item, "https://host/some/a.json")["B04"].path
        assert path == "/vsicurl/https://host/etc/passwd"

    @pytest.mark.parametrize(
        ("href", "sentence"),
        [
            ("/vsicurl/http://127.0.0.1/x.tif", "a file or a URL was wanted"),
            ("<VRTDataset/>", "asset red is no raster"),
            ("/etc", "asset red is no raster"),
        ],
    )
    def test_a_local_item_names_files(self, tmp_path, href, sentence):
        document = stac.item()
        document["assets"]["red"]["href"] = href
        with pytest.raises(SceneError, match=sentence):
            opened(stac.write_item(tmp_path, document))

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"type": "Collection"}, "is a Collection; one STAC item was wanted"),
            ({"type": "FeatureCollection"}, "is a FeatureCollection; one STAC item"),
            ({"type": "Topology"}, "is no STAC item"),
            ({"assets": []}, "is no STAC item"),
            ({"assets": {}}, "no asset is a Sentinel-2 band; its assets are none"),
            ({"assets": {"x": {"href": "x.tif"}}}, "its assets are x"),
            ({"assets": {"red": "B04.tif"}}, "is no valid STAC item"),
            ({"assets": {"red": {"href": 5}}}, "is no valid STAC item"),
            ({"assets": {"red": {"href": "B04.tif", "type": 5}}}, "is no valid STAC item"),
            ({"id": 5}, "is no valid STAC item"),
            ({"properties": None}, "is no valid STAC item"),
            ({"properties": []}, "is no valid STAC item"),
            ({"properties": {"datetime": None}}, "is no valid STAC item"),
            ({"properties": {"datetime": "yesterday"}}, "is no valid STAC item"),
            ({"id": "../../x"}, "scene id '../../x' cannot name a folder"),
        ],
    )
    def test_documents_that_are_none(self, tmp_path, changes, sentence):
        stac.write_rasters(tmp_path)
        path = tmp_path / "a.json"
        path.write_text(json.dumps({**stac.item(), **changes}))
        with pytest.raises(SceneError) as caught:
            opened(path)
        assert sentence in str(caught.value)
        assert str(caught.value).startswith(str(path))

    @pytest.mark.parametrize("start", ["yesterday", 5, "0001-01-01T00:00:00+05:00"])
    def test_a_time_that_is_none(self, tmp_path, start):
        document = stac.item(start_datetime=start, end_datetime="2023-08-13T14:30:00Z")
        document["properties"]["datetime"] = None
        stac.write_rasters(tmp_path)
        with pytest.raises(SceneError, match=r"valid (STAC item|start_datetime)"):
            opened(stac.write_item(tmp_path, document))

    def test_fields_of_strange_kinds_are_as_if_they_were_not_there(self, tmp_path):
        stac.write_rasters(tmp_path)
        document = stac.item()
        long = 10**400
        strange = {"a": [long]}
        for asset in document["assets"].values():
            asset |= {"proj:shape": [long, long], "proj:transform": [long] * 6, "gsd": long}
            asset |= {"eo:bands": strange, "bands": [5], "roles": strange}
        del document["assets"]["visual"]
        document["collection"] = strange
        document["properties"] |= {
            "eo:cloud_cover": long,
            "grid:code": "x" * 1000,
            "s2:processing_baseline": strange,
            "s2:product_type": strange,
            "sat:relative_orbit": float("nan"),
            "earthsearch:boa_offset_applied": "yes",
        }
        scene = opened(stac.write_item(tmp_path, document))
        assert list(scene.facts) == ["offset_check"]
        assert scene.offset == (0, 0, 0, 0)

    @pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\xff"])
    def test_no_json(self, tmp_path, text):
        path = tmp_path / "a.json"
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(InputError, match=r"a\.json: is no (JSON|STAC) document"):
            opened(path)

    @pytest.mark.parametrize(
        "numbers", [{"scale": 0}, {"scale": "x"}, {"offset": 1e999}, {"scale": True}]
    )
    def test_numbers_that_are_none(self, tmp_path, numbers):
        stac.write_rasters(tmp_path)
        document = stac.item()
        document["assets"]["red"]["raster:bands"][0] |= numbers
        with pytest.raises(SceneError, match=r"asset red.*number"):
            opened(stac.write_item(tmp_path, document))

    def test_a_missing_band_and_a_missing_file(self, tmp_path):
        path = stac.write_scene(tmp_path)
        (tmp_path / "B03.tif").unlink()
        with pytest.raises(SceneError, match=r"B03\.tif: no such file or folder"):
            opened(path)
        document = stac.item()
        del document["assets"]["green"], document["assets"]["green-jp2"]
        with pytest.raises(SceneError, match="band B03 is missing: the product has B02, B04, B08"):
            opened(stac.write_item(tmp_path, document))

    def test_a_file_that_is_no_raster(self, tmp_path):
        path = stac.write_scene(tmp_path)
        (tmp_path / "B08.tif").write_text("no raster")
        with pytest.raises(SceneError, match="asset nir is no raster"):
            opened(path)


class TestSigned:
    def test_the_users_function_signs_and_nobody_shows_it(self, tmp_path, monkeypatch):
        path = stac.write_scene(tmp_path)
        with folder_server(tmp_path, key=stac.KEY) as root:
            url = f"{root}/{path.name}?token={stac.KEY}"
            with pytest.raises(SceneError, match="HTTP response code: 403") as caught:
                opened(url)
            assert stac.KEY not in str(caught.value)
            monkeypatch.setenv(SIGN_VARIABLE, "tests.helpers.stac:sign")
            scene = opened(url)
            assert np.array_equal(read_window(scene, WHOLE)[0], read_window(opened(path), WHOLE)[0])
            release(scene)
        assert stac.KEY in scene.bands[0].path
        shown = [str(scene), str(scene.files), str(scene.notes), str(scene.facts)]
        assert not any(stac.KEY in text for text in shown)

    @pytest.mark.slow
    def test_nor_does_a_block_that_cannot_be_read(self, tmp_path, monkeypatch):
        """Workers log the whole of an error, with what caused it."""
        stac.write_rasters(tmp_path, dn=digital_numbers((1000, 1000)))
        path = stac.write_item(tmp_path, stac.item())
        monkeypatch.setenv(SIGN_VARIABLE, "tests.helpers.stac:sign")
        monkeypatch.setitem(NETWORK_OPTIONS, "GDAL_HTTP_MAX_RETRY", 0)
        with folder_server(tmp_path, key=stac.KEY) as root:
            scene = opened(f"{root}/{path.name}")
            read_window(scene, Window(0, 0, 10, 10))
        with pytest.raises(ReadError, match=r"B0\d\.tif: rows 900 to 950") as caught:
            read_window(scene, Window(900, 900, 50, 50))
        release(scene)
        told = "".join(traceback.format_exception(caught.value))
        assert "cannot be read" in told
        assert stac.KEY not in told

    @pytest.mark.parametrize(
        ("reference", "sentence"),
        [
            ("no.such.module:sign", "there is no such function"),
            ("tests.helpers.stac:no_such", "there is no such function"),
            ("tests.helpers.stac", "there is no such function"),
            ("", None),
            ("json:loads", "json:loads could not sign it (TypeError)"),
        ],
    )
    def test_functions_that_do_not(self, tmp_path, monkeypatch, reference, sentence):
        path = stac.write_scene(tmp_path)
        monkeypatch.setenv(SIGN_VARIABLE, reference)
        if sentence is None:
            opened(path)
        else:
            with pytest.raises(InputError) as caught:
                opened(path)
            assert sentence in str(caught.value)


def test_what_may_be_an_item(tmp_path):
    (tmp_path / "a.json").touch()
    assert is_item(str(tmp_path / "a.json"))
    assert not is_item(str(tmp_path / "b.json"))
    assert not is_item(str(tmp_path))
    assert is_item("https://host/v1/collections/sentinel-2-l2a/items/S2B_20LMR")
    assert is_item("https://host/a.json?sig=1")
    assert not is_item("https://host/a.tif?x=/items/a.json")


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("item_id", "darkest", "top"),
    [
        ("S2A_33TWM_20230818_0_L2A", 106, 5_200_020),
        ("S2B_33TWL_20230813_0_L2A", 129, 5_100_000),
        ("S2B_33TWL_20230820_0_L2A", 248, 5_100_000),
        ("S2B_33TWM_20230813_0_L2A", 118, 5_200_020),
    ],
)
def test_the_real_items(real_data, item_id, darkest, top):
    """All state offset -0.1, and that it has been applied; their pixels agree with the latter."""
    folder = real_data / "scenes" / "earth-search-120m" / item_id
    scene = opened(folder / f"{item_id}.json")
    assert (scene.scale, scene.offset) == ((1e-4,) * 4, (0.0,) * 4)
    assert scene.facts["offset_check"]["offset_stated"] == -0.1
    assert scene.facts["offset_check"]["offset_flagged_applied"] is True
    assert scene.facts["offset_check"]["offset_seen_applied"] is True
    assert scene.facts["offset_check"]["darkest_red_dn"] == pytest.approx(darkest, abs=5)
    assert "offset -0.1 and that it has been applied, the pixels show" in scene.notes[1]
    assert scene.facts["processing_baseline"] == "05.09"
    assert scene.facts["mgrs_tile"] == item_id[4:9]
    assert scene.processing_level == "L2A"
    # The rasters have lost their georeference; the item has it, of larger rasters.
    assert scene.crs == "EPSG:32633"
    assert tuple(scene.transform)[:6] == (120, 0, 499_980, 0, -120, top)
    dn, valid = read_window(scene, Window(0, 0, 915, 915))
    assert valid.mean() > 0.5
    # Dark water and shadow may have 0 in a band; the edge of the swath has no such pixels.
    assert (dn[0][valid] == 0).mean() < 1e-4
