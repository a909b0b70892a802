"""``geoforest map`` of STAC items: searched for, signed, mapped, and none of the keys on disk."""

from __future__ import annotations

import json

import pytest
import rasterio

from geoforest.scenes.stac.item import SIGN_VARIABLE
from tests.helpers import stac
from tests.helpers.servers import folder_server, stac_server

EAST = "S2B_20LNR_20230813_0_L2A"


@pytest.fixture
def options(tiny_bundle, tmp_path):
    return [
        "--out",
        tmp_path / "out",
        "--model",
        tiny_bundle.path,
        "--halo",
        8,
        "--runtime",
        "torch",
        "--json",
    ]


def written(folder):
    return b"".join(
        str(path).encode() + path.read_bytes() for path in folder.rglob("*") if path.is_file()
    )


def test_a_search_becomes_maps(geoforest, tmp_path, options):
    """Of two scenes of an API; the rasters are on another server, as they usually are."""
    rasters = tmp_path / "rasters"
    stac.write_rasters(rasters)
    with folder_server(rasters) as root:
        items = []
        for item_id, west in ((stac.ITEM_ID, -63.0), (EAST, -62.0)):
            document = {**stac.item(item_id=item_id, west=west), "links": []}
            for asset in document["assets"].values():
                asset["href"] = f"{root}/{asset['href'].removeprefix('./')}"
            items.append(stac.write_item(tmp_path / "items", document))
        with stac_server(*items) as url:
            search = ["--stac", url, "--collection", "sentinel-2-l2a", "--max-cloud", 20]
            listed = geoforest("map", *search, *options, "--dry-run")
            assert listed.returncode == 0
            assert listed.stderr.splitlines()[:2] == [
                "2 scenes found",
                f"  {stac.ITEM_ID}  2023-08-13 14:27  12 % cloud",
            ]
            assert [json.loads(line)["scene_id"] for line in listed.stdout.splitlines()] == [
                stac.ITEM_ID,
                EAST,
            ]
            assert not (tmp_path / "out").exists()
            where = ["--bbox", "-62.5,-11,-61,-9", "--datetime", "2023-08"]
            done = geoforest("map", *search, *where, *options, "--products", "mask")
            nothing = geoforest("map", *search, "--datetime", "2022", *options)
    assert done.returncode == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == [EAST]
    assert "1 scene found\n" in done.stderr
    assert "states offset -0.1 and that it has been applied, the pixels show" in done.stderr
    summary = json.loads(done.stdout)
    assert summary["source"]["offset"] == [0, 0, 0, 0]
    assert summary["source"]["offset_check"]["offset_stated"] == -0.1
    assert summary["source"]["mgrs_tile"] == "20LMR"
    assert nothing.returncode == 2
    assert f"{url}: no item fits" in nothing.stderr


def test_keys_are_nowhere_and_a_new_one_is_no_new_job(geoforest, tmp_path, options, monkeypatch):
    path = stac.write_scene(tmp_path / "in")
    monkeypatch.setenv(SIGN_VARIABLE, "tests.helpers.stac:sign")
    with folder_server(tmp_path / "in", key=stac.KEY) as root:
        done = geoforest("map", f"{root}/{path.name}?token={stac.KEY}", *options, "--keep-work")
        assert done.returncode == 0
        again = geoforest("map", f"{root}/{path.name}?token=another", *options, "--keep-work")
    assert again.returncode == 0
    assert json.loads(again.stdout) == json.loads(done.stdout)
    secret = stac.KEY.encode()
    assert secret not in written(tmp_path / "out")
    assert stac.KEY not in done.stdout + done.stderr
    local = geoforest("map", path, *options[2:], "--out", tmp_path / "local")
    assert local.returncode == 0
    for name in ("forest_mask.tif", "forest_probability.tif"):
        with (
            rasterio.open(tmp_path / "out" / stac.ITEM_ID / name) as one,
            rasterio.open(tmp_path / "local" / stac.ITEM_ID / name) as other,
        ):
            assert (one.read() == other.read()).all()
            assert one.transform == other.transform


def test_a_server_that_refuses_shows_no_key(geoforest, tmp_path, options):
    path = stac.write_scene(tmp_path / "in")
    with folder_server(tmp_path / "in", key="right") as root:
        document = stac.item()
        for asset in document["assets"].values():
            asset["href"] = f"{root}/{asset['href'].removeprefix('./')}?sig=wrong"
        one, other = path, stac.write_item(tmp_path, {**document, "id": "other"})
        failed = geoforest("map", other, *options)
        both = geoforest("map", one, f"{root}/gone.json?sig=wrong", *options, "--products", "mask")
    assert failed.returncode == both.returncode == 2
    for done in (failed, both):
        assert "wrong" not in done.stdout + done.stderr
    assert "asset red is no raster that can be read (HTTP response code: 403)" in failed.stderr
    assert f"{root}/gone.json: the server answers 404 Not Found" in both.stderr
    assert json.loads(both.stdout.splitlines()[-1])["scene_id"] == stac.ITEM_ID
    assert not (tmp_path / "out" / "other").exists()


def test_two_items_with_one_id(geoforest, tmp_path, options):
    """Their files have other names, which says nothing."""
    one = stac.write_scene(tmp_path / "one")
    other = stac.write_scene(tmp_path / "other").rename(tmp_path / "other" / "item.json")
    done = geoforest("map", one, other, *options, "--products", "mask")
    assert done.returncode == 2
    assert f"{other}: is scene '{stac.ITEM_ID}', as {one} is" in done.stderr
    assert (tmp_path / "out" / stac.ITEM_ID / "forest_mask.tif").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["x.tif", "--collection", "a"], "--collection: goes with --stac"),
        (["x.tif", "--datetime", "2023"], "--datetime: goes with --stac"),
        (["--max-cloud", 20], "--max-cloud: goes with --stac"),
        (["--stac", "no.json", "--bbox", "1,2"], "--bbox 1,2: west,south,east,north"),
        (["--stac", "no.json", "--bbox", "a,b"], "numbers with commas between were wanted"),
        (["--stac", "no.json"], "no.json: cannot be read"),
        ([], "scenes, or --stac to search for them"),
    ],
)
def test_mistakes(geoforest, tmp_path, arguments, sentence):
    done = geoforest("map", *arguments, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert sentence in done.stderr


@pytest.mark.real_data
def test_a_real_item(geoforest, tmp_path, options, real_data):
    item_id = "S2B_33TWM_20230813_0_L2A"
    folder = real_data / "scenes" / "earth-search-120m" / item_id
    done = geoforest("map", folder / f"{item_id}.json", *options, "--window", 512)
    assert done.returncode == 0
    summary = json.loads(done.stdout)
    assert summary["acquired"] == "2023-08-13T10:07:53.782000+00:00"
    assert summary["observed_percent"] > 50
    assert summary["source"]["processing_baseline"] == "05.09"
    assert summary["source"]["offset_check"]["offset_seen_applied"] is True
    with rasterio.open(tmp_path / "out" / item_id / "forest_mask.tif") as mask:
        assert mask.crs == "EPSG:32633"
        assert tuple(mask.transform)[:6] == (120, 0, 499_980, 0, -120, 5_200_020)
