"""Scenes on servers: what is read is the local file, whatever the network does meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from rasterio.errors import RasterioIOError

from geoforest.arrays.grid import Window
from geoforest.errors import InputError, ReadError, SceneError
from geoforest.io import download, remote
from geoforest.io.raster import open_raster
from geoforest.io.remote import NETWORK_OPTIONS, gdal_path, reason, shown
from geoforest.models.download import fetch_bundle
from geoforest.scenes.open import open_scene, scene_name
from geoforest.scenes.read import read_window, release
from geoforest.scenes.stac.item import is_item
from tests.helpers import synthetic
from tests.helpers.servers import SECRET_KEY, FileServer, file_server, s3_bucket, s3_server
from tests.helpers.synthetic import BANDS

SHAPE = (300, 400)
WHOLE = Window(0, 0, *SHAPE)
SECRET = "s3cret-signature"


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    dn = synthetic.digital_numbers(SHAPE)
    dn[:, :40, :30] = 0
    return synthetic.write_raster(
        tmp_path_factory.mktemp("scene") / "scene.tif",
        dn,
        nodata=0,
        tiled=True,
        blockxsize=128,
        blockysize=128,
    )


@pytest.fixture(scope="module")
def expected(file) -> tuple[np.ndarray, np.ndarray]:
    return read_window(open_scene(file, wanted=BANDS), WHOLE)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch) -> None:
    monkeypatch.setattr(download, "_WAIT_S", 0.01)
    monkeypatch.setattr(remote, "RETRY_WAITS_S", [0.01, 0.02, 0.04, 0.08])
    monkeypatch.setitem(NETWORK_OPTIONS, "GDAL_HTTP_RETRY_DELAY", 0.02)
    monkeypatch.setitem(NETWORK_OPTIONS, "GDAL_HTTP_TIMEOUT", 1)


@pytest.fixture
def web(file) -> Iterator[FileServer]:
    with file_server() as server:
        server.files["/a/scene.tif"] = file.read_bytes()
        server.etags["/a/scene.tif"] = '"one"'
        yield server


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def s3(address, monkeypatch, file) -> Any:
    client = s3_bucket(monkeypatch, address, "scenes")
    client.upload_file(str(file), "scenes", "in/scene.tif")
    return client


def same(scene, expected) -> bool:
    dn, valid = read_window(scene, WHOLE)
    release(scene)
    return bool((dn == expected[0]).all() and (valid == expected[1]).all())


def test_over_http(web, expected):
    scene = open_scene(f"{web.url}/a/scene.tif?sig={SECRET}", wanted=BANDS)
    assert scene.scene_id == "scene"
    assert scene.files == ((f"{web.url}/a/scene.tif", len(web.files["/a/scene.tif"]), '"one"'),)
    assert same(scene, expected)
    # No listing of the folder, and no search for files beside it.
    assert {path for _, path, _ in web.asked} == {"/a/scene.tif"}


@pytest.mark.parametrize("form", ["s3://scenes/in/scene.tif", "/vsis3/scenes/in/scene.tif"])
def test_in_a_bucket(s3, expected, form):
    scene = open_scene(form, wanted=BANDS)
    assert scene.files[0][0] == "s3://scenes/in/scene.tif"
    assert scene.scene_id == "scene"
    assert same(scene, expected)


def test_gdals_own_names_for_a_server_will_do(s3, expected, address, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("AWS_S3_ENDPOINT", address.removeprefix("http://"))
    monkeypatch.setenv("AWS_HTTPS", "NO")
    assert same(open_scene("s3://scenes/in/scene.tif", wanted=BANDS), expected)


def test_public_objects_need_no_keys(s3, expected, monkeypatch):
    s3.put_object_acl(Bucket="scenes", Key="in/scene.tif", ACL="public-read")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    assert same(open_scene("s3://scenes/in/scene.tif", wanted=BANDS), expected)


def test_a_folder_of_bands_in_a_bucket(s3, tmp_path, expected):
    for name, dn in zip(BANDS, synthetic.digital_numbers(SHAPE)[:, None], strict=True):
        dn[:, :40, :30] = 0
        path = synthetic.write_raster(tmp_path / name, dn, descriptions=None, nodata=0)
        s3.upload_file(str(path), "scenes", f"S2_MSIL2A_20200801T142729/{name}.tif")
    scene = open_scene("s3://scenes/S2_MSIL2A_20200801T142729/", wanted=BANDS)
    assert scene.scene_id == "S2_MSIL2A_20200801T142729"
    assert scene.processing_level == "L2A"
    assert scene.acquired is not None
    assert same(scene, expected)


def test_an_archive_on_a_server(web, expected, file, tmp_path):
    from zipfile import ZipFile

    with ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(file, "in/scene.tif")
    web.files["/a.zip"], web.etags["/a.zip"] = (tmp_path / "a.zip").read_bytes(), '"zip"'
    scene = open_scene(f"/vsizip//vsicurl/{web.url}/a.zip/in/scene.tif", wanted=BANDS)
    assert scene.files[0][1:] == (len(web.files["/a.zip"]), '"zip"')
    assert same(scene, expected)


class TestTheVersion:
    def test_of_a_file_that_changed(self, web, file, tmp_path, expected):
        url = f"{web.url}/a/scene.tif"
        before = open_scene(url, wanted=BANDS)
        assert same(before, expected)
        other = synthetic.write_raster(
            tmp_path / "b.tif", synthetic.digital_numbers(SHAPE, seed=1), nodata=0, compress="none"
        )
        web.files["/a/scene.tif"], web.etags["/a/scene.tif"] = other.read_bytes(), '"two"'
        after = open_scene(url, wanted=BANDS)
        assert after.files != before.files
        # Nothing of the old one is left in GDAL.
        assert (read_window(after, WHOLE)[0] == synthetic.digital_numbers(SHAPE, seed=1)).all()
        release(after)

    def test_is_the_time_where_there_is_no_etag(self, web):
        del web.etags["/a/scene.tif"]
        web.modified = "Wed, 21 Oct 2015 07:28:00 GMT"
        assert open_scene(f"{web.url}/a/scene.tif", wanted=BANDS).files[0][2] == web.modified

    def test_is_not_changed_by_a_new_signature(self, web):
        scenes = [open_scene(f"{web.url}/a/scene.tif?sig={sig}", wanted=BANDS) for sig in "ab"]
        assert scenes[0].files == scenes[1].files

    def test_in_a_bucket(self, s3, file):
        etag = s3.head_object(Bucket="scenes", Key="in/scene.tif")["ETag"]
        files = open_scene("s3://scenes/in/scene.tif", wanted=BANDS).files
        assert files == (("s3://scenes/in/scene.tif", file.stat().st_size, etag),)


FAILURES = [[503, 503, 503], [429, 429], [500], [502, 504], ["drop"], ["drop", 503, "drop"]]


class TestPassingFailures:
    @pytest.mark.parametrize("answers", FAILURES)
    @pytest.mark.parametrize("after", [0, 1, 2, 3], ids=["asked", "stat", "head", "first"])
    def test_while_it_is_opened(self, web, expected, answers, after):
        # The first request asks for the version, the others are GDAL's.
        web.answers = [*[None] * after, *answers]
        assert same(open_scene(f"{web.url}/a/scene.tif", wanted=BANDS), expected)
        assert web.answers == []

    @pytest.mark.parametrize("answers", FAILURES)
    def test_while_blocks_are_read(self, web, expected, answers):
        scene = open_scene(f"{web.url}/a/scene.tif", wanted=BANDS)
        web.answers = [*answers]
        assert same(scene, expected)
        assert web.answers == []

    @pytest.mark.parametrize("cuts", [[0], [100, 30_000], [70_000, 5]])
    def test_an_answer_that_breaks_off(self, web, expected, cuts):
        scene = open_scene(f"{web.url}/a/scene.tif", wanted=BANDS)
        web.cuts = [*cuts]
        assert same(scene, expected)
        assert web.cuts == []

    def test_an_answer_that_hangs(self, web, expected):
        scene = open_scene(f"{web.url}/a/scene.tif", wanted=BANDS)
        web.stall, web.cuts = Event(), [1000]
        assert same(scene, expected)
        assert web.cuts == []


def test_a_failure_that_stays_is_told_without_the_signature(web, caplog, capfd):
    with caplog.at_level(logging.DEBUG):
        scene = open_scene(f"{web.url}/a/scene.tif?sig={SECRET}", wanted=BANDS)
        web.answers = [403] * 100
        with pytest.raises(ReadError) as caught:
            read_window(scene, WHOLE)
    assert str(caught.value).startswith(f"{web.url}/a/scene.tif: rows 0 to 300, columns 0 to 400 ")
    assert SECRET not in str(caught.value)
    assert SECRET not in "".join(capfd.readouterr())


class TestRefused:
    """One sentence with the URL, and no more of it than may be told."""

    def refused(self, url: str) -> str:
        with pytest.raises(SceneError) as caught:
            open_scene(url, wanted=BANDS)
        sentence = str(caught.value)
        assert "\n" not in sentence
        assert SECRET not in sentence
        assert SECRET_KEY not in sentence
        return sentence

    @pytest.mark.parametrize(
        ("status", "what"),
        [(404, "no such file"), (403, "access denied"), (401, "credentials are needed")],
    )
    def test_by_the_server(self, web, status, what):
        web.refused["/a/scene.tif"] = status
        sentence = self.refused(f"{web.url}/a/scene.tif?sig={SECRET}")
        assert sentence.startswith(f"{web.url}/a/scene.tif: the server answers {status}")
        assert what in sentence

    def test_a_redirect_without_end(self, web):
        web.redirects["/loop.tif"] = "/loop.tif"
        assert "endless redirects" in self.refused(f"{web.url}/loop.tif?sig={SECRET}")

    def test_a_server_without_ranges(self, web):
        web.ranges = False
        assert "does not send parts of files" in self.refused(f"{web.url}/a/scene.tif")

    def test_no_raster(self, web):
        web.files["/a/scene.tif"] = b"<html>" * 100
        sentence = self.refused(f"{web.url}/a/scene.tif?sig={SECRET}")
        assert sentence.startswith(f"{web.url}/a/scene.tif: not a raster that GDAL can open")

    def test_an_empty_file(self, web):
        web.files["/a/scene.tif"] = b""
        assert self.refused(f"{web.url}/a/scene.tif").endswith("is empty")

    def test_nobody_there(self, monkeypatch):
        monkeypatch.setattr(remote, "_ASKS", 0)
        assert "cannot be reached" in self.refused("http://127.0.0.1:9/a.tif")

    @pytest.mark.parametrize(
        "url", ["https://me:{}@host/a.tif", "/vsicurl/https://me:{}@host/a.tif"]
    )
    def test_keys_in_the_url(self, url):
        sentence = self.refused(url.format(SECRET))
        assert sentence.startswith("https://host/a.tif: was given with a user or password")

    def test_options_of_gdal_in_a_path(self):
        assert "the URL itself was wanted" in self.refused(f"/vsicurl?url={SECRET}")

    @pytest.mark.parametrize(
        ("url", "what"),
        [
            ("s3://scenes/none.tif", "no such file"),
            ("s3://scenes/none/", "no such file"),
            ("s3://nowhere/none.tif", "no such bucket"),
            (f"s3://scenes/a.tif?sig={SECRET}", "with keys or a query"),
        ],
    )
    def test_in_buckets(self, s3, url, what):
        sentence = self.refused(url)
        assert sentence.startswith(f"{url.partition('?')[0]}: ")
        assert what in sentence

    def test_without_keys(self, s3, monkeypatch):
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        sentence = self.refused("s3://scenes/in/scene.tif")
        assert "(NoCredentialsError)" in sentence
        assert "credentials" in sentence

    def test_of_somebody_else(self, s3, monkeypatch):
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
        assert "cannot be read (access denied)" in self.refused("s3://scenes/in/scene.tif")

    def test_a_missing_band_in_a_bucket(self, s3):
        sentence = self.refused("s3://scenes/in/")
        assert sentence.startswith("s3://scenes/in/: band B04 is missing")


@pytest.mark.parametrize(
    "url",
    ["https://[host/a.tif", "http://[x/items/a", "http://host:no/a.json", "/vsicurl/http://["],
)
def test_urls_that_are_none(url):
    assert not is_item(url) or url.endswith(("/items/a", ".json"))
    with pytest.raises(InputError, match="is no URL"):
        open_scene(url, wanted=BANDS)
    with pytest.raises(InputError, match="is no URL"):
        fetch_bundle(url.removeprefix("/vsicurl/"))


def test_an_endpoint_that_is_no_url(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://[x")
    with pytest.raises(InputError, match=r"AWS_ENDPOINT_URL=.* is no URL"):
        open_scene("s3://bucket/a.tif", wanted=BANDS)


class TestHead:
    """GDAL asks with HEAD, which signed URLs and some servers refuse."""

    @pytest.mark.parametrize("status", [400, 403, 405, 501, "drop"])
    def test_a_server_that_refuses_it(self, web, expected, status):
        web.head_status = status
        scene = open_scene(f"{web.url}/a/scene.tif?token=abc", wanted=BANDS)
        assert same(scene, expected)

    def test_a_server_that_refuses_get_too(self, web):
        web.refused["/a/scene.tif"] = 403
        with pytest.raises(RasterioIOError, match="403"):
            open_raster(f"{web.url}/a/scene.tif")
        # For the size and the raster, with HEAD and with GET: not five times.
        assert len(web.asked) <= 4


@pytest.mark.parametrize("status", [404, 410])
def test_what_is_not_there_is_asked_for_once(web, status):
    web.refused["/gone.tif"] = status
    with pytest.raises(RasterioIOError, match=str(status)):
        open_raster(f"{web.url}/gone.tif")
    assert {method for method, _, _ in web.asked} == {"HEAD"}
    assert len(web.asked) <= 2


def test_names():
    assert scene_name("s3://bucket/a/T20LMR.tif") == "T20LMR"
    assert scene_name("s3://bucket/S2A.SAFE/") == "S2A.SAFE"
    assert scene_name("https://host/my%20scene.tif?a=1/2") == "my scene"
    assert scene_name("/vsizip//vsis3/bucket/a.zip/T20LMR.tif") == "T20LMR"
    assert scene_name("/vsizip//vsicurl/https://host/a.zip/T20LMR.tif") == "T20LMR"
    assert gdal_path("gs://bucket/a.tif") == "/vsigs/bucket/a.tif"
    assert shown("/vsizip//vsicurl/https://host/a.zip?sig=1/b.tif") == (
        "/vsizip//vsicurl/https://host/a.zip"
    )


def test_what_gdal_says_is_told_without_signatures():
    path = "/vsicurl/https://host/a.tif?sig=a,b c"
    for text in ("a.tif?sig=a,b c: no", "'/vsicurl/https://host/b.tif?x=a,b': no"):
        told = reason(OSError(text), path)
        assert "a,b" not in told
        assert told.endswith(": no")
