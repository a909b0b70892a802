"""Documents from disk and from servers that are busy, broken, endless or far too generous."""

from __future__ import annotations

import pytest
from urllib3 import HTTPResponse

from geoforest.errors import InputError
from geoforest.scenes.stac import catalogue
from geoforest.scenes.stac.catalogue import CatalogueIO
from tests.helpers.servers import file_server

DOCUMENT = b'{"type": "Feature"}'


@pytest.fixture
def server():
    with file_server() as server:
        server.files["/a.json"] = DOCUMENT
        yield server


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(server, status):
    server.busy, server.busy_status = 1, status
    assert CatalogueIO().read_json(f"{server.url}/a.json") == {"type": "Feature"}
    assert server.busy == 0


def test_a_server_that_stays_busy(server, monkeypatch):
    monkeypatch.setattr(catalogue, "_RETRIES", catalogue._RETRIES.new(total=1))
    server.busy = 5
    with pytest.raises(InputError, match="the server answers 503 Service Unavailable"):
        CatalogueIO().read_json(f"{server.url}/a.json")
    assert server.busy == 3


def test_the_wait_that_a_server_wishes_has_a_limit():
    for wish, seconds in (("7", 7), ("86400", 60), (None, None)):
        answer = HTTPResponse(headers={"Retry-After": wish} if wish else {})
        assert catalogue._RETRIES.get_retry_after(answer) == seconds


@pytest.mark.parametrize(
    ("status", "sentence"), [(403, "answers 403 Forbidden"), (404, "answers 404 Not Found")]
)
def test_an_answer_that_is_final(server, status, sentence):
    server.refused["/a.json"] = status
    with pytest.raises(InputError) as caught:
        CatalogueIO().read_json(f"{server.url}/a.json?token=secret")
    assert str(caught.value) == f"{server.url}/a.json: the server {sentence}"


def test_redirects_have_an_end(server):
    server.redirects["/b.json"] = "/a.json"
    assert CatalogueIO().read_json(f"{server.url}/b.json") == {"type": "Feature"}
    server.redirects["/a.json"] = "/b.json?token=secret"
    with pytest.raises(InputError, match=r"b\.json: redirects more than 5 times$"):
        CatalogueIO().read_json(f"{server.url}/b.json")


def test_nobody_there(server, monkeypatch):
    monkeypatch.setattr(catalogue, "_RETRIES", catalogue._RETRIES.new(total=0))
    with pytest.raises(InputError) as caught:
        CatalogueIO().read_json("http://me:word@127.0.0.1:9/a.json?token=secret")
    sentence = "http://127.0.0.1:9/a.json: cannot be read (ConnectionError); check the network"
    assert str(caught.value) == sentence


@pytest.mark.parametrize("on_the_web", [True, False])
def test_a_document_that_is_too_big(server, tmp_path, monkeypatch, on_the_web):
    monkeypatch.setattr(catalogue, "_MAX_BYTES", 1 << 20)
    server.files["/a.json"] = b" " * (3 << 20)
    (tmp_path / "a.json").write_bytes(server.files["/a.json"])
    source = f"{server.url}/a.json" if on_the_web else str(tmp_path / "a.json")
    with pytest.raises(InputError, match="it has more than 1 MiB"):
        CatalogueIO().read_json(source)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"<html>", "is no JSON document"),
        (b"\xff\xfe", "is no JSON document"),
        (b"[" * 100_000, "is no JSON document"),
        (b"[1]", "is no STAC document"),
    ],
)
def test_a_document_that_is_none(server, content, sentence):
    server.files["/a.json"] = content
    with pytest.raises(InputError, match=sentence):
        CatalogueIO().read_json(f"{server.url}/a.json")


def test_no_file(tmp_path):
    with pytest.raises(InputError, match=r"a\.json: cannot be read \(No such file or directory\)"):
        CatalogueIO().read_json(str(tmp_path / "a.json"))
