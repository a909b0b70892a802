"""Every page of the documentation in a real browser, on a desk's screen and on a phone's."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.helpers.browser import NARROW, WIDE, open_chromium, watch

pytestmark = pytest.mark.slow


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(site):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_pages_are_whole_and_fit_the_screen(site, address, width):
    wrong = {}
    with open_chromium() as browser:
        for path in sorted(site.rglob("index.html")):
            name = path.parent.relative_to(site).as_posix()
            seen = watch(browser, f"{address}{name}/", width)
            found = [*seen.complaints, *seen.images_that_fail()]
            if over := seen.overflow_px():
                found.append(f"{over} px too wide")
            if found:
                wrong[name] = found
            seen.page.close()
    assert wrong == {}


def test_search_finds_an_option(address):
    with open_chromium() as browser:
        seen = watch(browser, address)
        box = seen.page.locator(".md-search__input").first
        box.click()
        box.press_sequentially("stopped-early")
        results = seen.page.locator(".md-search-result__link")
        results.first.wait_for(timeout=10_000)
        assert any("commands/" in (link.get_attribute("href") or "") for link in results.all())
        assert seen.complaints == []
