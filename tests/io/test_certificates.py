"""An authority of one's own: one variable for all clients, and sentences that name it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from geoforest.errors import FetchError, GeoforestError, InputError
from geoforest.io.certificates import chosen_authorities, exported_authorities
from geoforest.io.download import fetch_json
from geoforest.io.files import open_place
from geoforest.models.download import fetch_bundle
from geoforest.scenes.open import open_scene
from geoforest.scenes.stac.search import build_question, search
from tests.helpers import stac
from tests.helpers.servers import folder_server
from tests.helpers.synthetic import BANDS, digital_numbers, write_raster
from tests.helpers.tls import clear_authorities, make_authority

PROBLEM = "certificate cannot be verified.*set SSL_CERT_FILE to a file"


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Path:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def url(authority, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    write_raster(folder / "a.tif", digital_numbers((30, 40)), nodata=0)
    (folder / "a.json").write_text(json.dumps(stac.item()))
    links = [{"rel": "item", "href": "./a.json"}]
    catalogue = {"type": "Catalog", "id": "root", "links": links}
    (folder / "catalog.json").write_text(json.dumps(catalogue))
    with folder_server(folder, authority=authority) as url:
        yield url


@pytest.fixture(autouse=True)
def _none(monkeypatch):
    clear_authorities(monkeypatch)


CLIENTS = {
    # urllib and GDAL
    "scene": lambda url: open_scene(f"{url}/a.tif", wanted=BANDS),
    "urllib": lambda url: fetch_json(f"{url}/a.json"),
    "requests": lambda url: search(f"{url}/catalog.json", build_question()),
    "aiohttp": lambda url: open_place(f"{url}/a.json").read(),
}


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_one_variable_serves_all(url, authority, monkeypatch, client, variable):
    monkeypatch.setenv(variable, str(authority))
    client(url)


@pytest.mark.parametrize(
    "client", [*CLIENTS.values(), lambda url: fetch_bundle(f"{url}/model.zip")]
)
def test_without_it_the_sentence_says_what_to_do(url, client):
    """At once: a certificate is not asked for again."""
    with pytest.raises(GeoforestError, match=PROBLEM) as caught:
        client(url)
    assert str(caught.value).count("\n") == 0


def test_gdal_says_it_too(url, tmp_path):
    document = stac.item()
    for asset in document["assets"].values():
        asset["href"] = f"{url}/a.tif"
    with pytest.raises(InputError, match=f"asset red is no raster that can be read.*{PROBLEM}"):
        open_scene(stac.write_item(tmp_path, document), wanted=BANDS)


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_variable_that_names_nothing(url, tmp_path, monkeypatch, client, variable):
    monkeypatch.setenv(variable, "/gone/ca.pem")
    with pytest.raises(InputError, match=rf"{variable}=/gone/ca.pem: no such file"):
        client(url)
    empty = tmp_path / "empty.pem"
    empty.touch()
    monkeypatch.setenv(variable, str(empty))
    with pytest.raises(InputError, match=rf"{variable}=.*empty.pem: holds no certificates"):
        client(url)


def test_it_is_of_no_concern_to_files_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("CURL_CA_BUNDLE", "/gone/ca.pem")
    path = write_raster(tmp_path / "a.tif", digital_numbers((30, 40)), nodata=0)
    assert open_scene(path, wanted=BANDS).shape == (30, 40)


def test_a_client_prefers_its_own(authority, tmp_path, monkeypatch):
    other = tmp_path / "other.pem"
    other.write_bytes(authority.read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
    assert chosen_authorities(("AWS_CA_BUNDLE",)).path == str(authority)
    # That of Amazon's clients is for S3 alone.
    assert chosen_authorities(("CURL_CA_BUNDLE",)).variable == "SSL_CERT_FILE"
    monkeypatch.delenv("SSL_CERT_FILE")
    assert chosen_authorities(("CURL_CA_BUNDLE",)) is None


def test_other_packages_get_it_from_the_command_line(authority, monkeypatch):
    code = "import os; print(os.environ['REQUESTS_CA_BUNDLE'] + os.environ['SSL_CERT_FILE'])"
    monkeypatch.setenv("CURL_CA_BUNDLE", str(authority))
    with exported_authorities():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == str(authority) * 2
    with pytest.raises(FetchError), exported_authorities():
        fetch_json("https://127.0.0.1:9/a.json", retries=0)
    assert "REQUESTS_CA_BUNDLE" not in os.environ
