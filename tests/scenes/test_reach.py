"""What comes from the web leads neither to files nor to servers of this machine."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from geoforest.errors import InputError, SceneError
from geoforest.io.download import fetch_json
from geoforest.io.reach import is_inward, refuse_inward
from geoforest.scenes.open import open_scene
from geoforest.scenes.stac.search import build_question, search
from tests.helpers import stac
from tests.helpers.servers import FileServer, file_server
from tests.helpers.synthetic import BANDS, TRANSFORM, digital_numbers, write_raster


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "0", "2130706433", "localhost", "[::1]", "[::ffff:127.0.0.1]"),
        *("169.254.169.254", "[fe80::1]", "0.0.0.0:80"),
    ],
)
def test_hosts_of_this_machine(host):
    assert is_inward(f"http://{host}/a")
    with pytest.raises(InputError, match=r"leads to .*, an address of this machine"):
        refuse_inward(f"http://{host}/a?key=b", "https://192.0.2.1/catalog.json")
    refuse_inward(f"http://{host}/a", "http://127.0.0.1:8080/catalog.json")
    refuse_inward(f"http://{host}/a", "catalog.json")


@pytest.mark.parametrize("url", ["http://192.0.2.1/a", "http://10.0.0.1", "http://[", "no.invalid"])
def test_other_hosts(url):
    assert not is_inward(url)


def _own_address() -> str | None:
    """An address of this machine that is not loopback, as another machine would have; or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if address.startswith(("127.", "169.254.")) else address


class _Elsewhere(BaseHTTPRequestHandler):
    files: dict[str, bytes]
    redirects: dict[str, str]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        target, body = self.redirects.get(path), self.files.get(path, b"")
        self.send_response(302 if target else 200 if path in self.files else 404)
        if target:
            self.send_header("Location", target)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Say nothing."""


@pytest.fixture
def elsewhere() -> Iterator[type[_Elsewhere]]:
    """A server on an address that is not loopback."""
    address = _own_address()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    handler = type("Handler", (_Elsewhere,), {"files": {}, "redirects": {}})
    with ThreadingHTTPServer((address, 0), handler) as server:
        handler.url = f"http://{address}:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield handler
        server.shutdown()


@pytest.fixture
def inside() -> Iterator[FileServer]:
    """A server of this machine, which nothing from elsewhere may reach."""
    with file_server() as server:
        server.files["/a.json"] = json.dumps(stac.item()).encode()
        yield server
        assert server.asked == []


class TestFromElsewhere:
    def test_a_redirect(self, elsewhere, inside):
        elsewhere.redirects["/a.json"] = f"{inside.url}/a.json"
        elsewhere.redirects["/a.tif"] = f"{inside.url}/a.tif"
        for location in ("/a.json", "/a.tif"):
            with pytest.raises(InputError, match=r"leads to .* an address of this machine"):
                open_scene(f"{elsewhere.url}{location}", wanted=BANDS)
        with pytest.raises(InputError, match="an address of this machine"):
            fetch_json(f"{elsewhere.url}/a.json")

    def test_a_catalogue(self, elsewhere, inside):
        root = {"type": "Catalog", "id": "root", "links": []}
        for links in (
            [{"rel": "item", "href": f"{inside.url}/a.json"}],
            [{"rel": "search", "href": f"{inside.url}/search"}],
        ):
            elsewhere.files["/c.json"] = json.dumps({**root, "links": links}).encode()
            with pytest.raises(InputError, match="an address of this machine"):
                search(f"{elsewhere.url}/c.json", build_question())

    def test_the_place_of_an_item(self, elsewhere, inside):
        """It is read from the usual place, or not at all."""
        own = [{"rel": "self", "href": f"{inside.url}/a.json"}]
        page = {"features": [{**stac.item(), "links": own}]}
        links = [{"rel": "search", "href": f"{elsewhere.url}/search"}]
        root = {"type": "Catalog", "id": "root", "links": links}
        usual = f"/collections/sentinel-2-l2a/items/{stac.ITEM_ID}"
        elsewhere.files = {"/": json.dumps(root).encode(), "/search": json.dumps(page).encode()}
        with pytest.raises(InputError, match="an address of this machine"):
            search(f"{elsewhere.url}/", build_question())
        elsewhere.files[usual] = json.dumps(stac.item()).encode()
        (found,) = search(f"{elsewhere.url}/", build_question())
        assert found.location == f"{elsewhere.url}{usual}"

    def test_an_asset(self, elsewhere, inside):
        document = stac.item()
        for href in (f"{inside.url}/a.tif", "http://[::1]/a.tif", "http://localhost/a.tif"):
            document["assets"]["red"]["href"] = href
            elsewhere.files["/a.json"] = json.dumps(document).encode()
            with pytest.raises(SceneError, match="an address of this machine"):
                open_scene(f"{elsewhere.url}/a.json", wanted=BANDS)


def virtual_raster(source: str, *, relative: int = 0) -> bytes:
    band = (
        '<VRTRasterBand dataType="UInt16" band="{0}"><Description>{1}</Description>'
        '<SimpleSource><SourceFilename relativeToVRT="{2}">{3}</SourceFilename>'
        "<SourceBand>{0}</SourceBand></SimpleSource></VRTRasterBand>"
    )
    bands = "".join(band.format(i, name, relative, source) for i, name in enumerate(BANDS, 1))
    place = ", ".join(map(str, TRANSFORM.to_gdal()))
    text = (
        f'<VRTDataset rasterXSize="40" rasterYSize="30"><SRS>EPSG:32720</SRS>'
        f"<GeoTransform>{place}</GeoTransform>{bands}</VRTDataset>"
    )
    return text.encode()


class TestVirtualRasters:
    @pytest.fixture
    def secret(self, tmp_path):
        return write_raster(tmp_path / "secret.tif", digital_numbers((30, 40)), nodata=0)

    @pytest.mark.parametrize(
        "form",
        [
            *("{}", "vrt://{}?bands=1,2,3,4", "GTIFF_DIR:1:{}", "/vsizip/{}.zip/a.tif"),
            *("/vsisubfile/0_9999,{}", "/vsicached?file={}", "file://{}"),
            "/vsizip/{}/vsicurl/a.zip/a.tif",
        ],
    )
    @pytest.mark.parametrize("relative", [0, 1])
    def test_on_a_server_that_name_files_of_this_machine(self, secret, form, relative):
        with file_server() as server:
            server.files["/a.vrt"] = virtual_raster(form.format(secret), relative=relative)
            with pytest.raises(SceneError, match=r"a.vrt: names|a.vrt: not a raster|needs it|404"):
                open_scene(f"{server.url}/a.vrt", wanted=BANDS)

    def test_on_a_server_that_name_files_beside_them(self, secret):
        with file_server() as server:
            server.files["/s/a.vrt"] = virtual_raster("secret.tif", relative=1)
            server.files["/s/b.vrt"] = virtual_raster(f"/vsicurl/{server.url}/s/secret.tif")
            server.files["/s/secret.tif"] = secret.read_bytes()
            for name in ("a", "b"):
                scene = open_scene(f"{server.url}/s/{name}.vrt", wanted=BANDS)
                assert [file[0] for file in scene.files] == [
                    f"{server.url}/s/{name}.vrt",
                    f"{server.url}/s/secret.tif",
                ]

    def test_in_an_item_from_the_web(self, secret):
        """Whatever they are named, and before GDAL sees them."""
        document = stac.item()
        for name, asset in document["assets"].items():
            asset["href"] = f"{name}.tif"
        with file_server() as server:
            server.files["/a.json"] = json.dumps(document).encode()
            server.files["/red.tif"] = virtual_raster(str(secret))
            with pytest.raises(SceneError, match="asset red is neither TIFF nor JPEG 2000 inside"):
                open_scene(f"{server.url}/a.json", wanted=BANDS)
            assert not [path for method, path, _ in server.asked if method == "HEAD"]
