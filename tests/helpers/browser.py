"""A real browser for pages that people open: Chromium of the system, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

WIDE, NARROW = 1280, 390
"""Width of a desk's and of a phone's screen, CSS px."""

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_LOCAL = {"file", "data", "blob", "about"}


@contextmanager
def open_chromium() -> Iterator[Browser]:
    """Start the browser, or skip; where ``GEOFOREST_REQUIRE_BROWSER`` is set its absence fails.

    For the body of one test: while it is open, Playwright has an event loop in this thread, and
    nothing else here may start one.
    """
    if CHROMIUM is None:
        if os.environ.get("GEOFOREST_REQUIRE_BROWSER"):
            pytest.fail("GEOFOREST_REQUIRE_BROWSER is set, and there is no chromium")
        pytest.skip("needs chromium (apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            # Containers have no user namespaces, and a small /dev/shm.
            args=["--no-sandbox", "--disable-dev-shm-usage"],
        )
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watched:
    """A page, and what went wrong while it was open.

    Attributes
    ----------
    page
    complaints
        Errors of scripts and of the console, and requests that left this machine.
    """

    page: Page
    complaints: list[str] = field(default_factory=list)

    def overflow_px(self) -> int:
        """Tell by how many px the page is wider than its window; a reader would scroll sideways."""
        return int(
            self.page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
        )

    def images_that_fail(self) -> list[str]:
        """Name the images that are not drawn, or that nobody describes; hidden ones are left out.

        Those that load once they come into view are brought there first.
        """
        return list(
            self.page.evaluate(
                """async () => {
                  const seen = Array.from(document.images).filter(i => i.offsetParent !== null);
                  for (const i of seen) { i.loading = "eager"; await i.decode().catch(() => 0); }
                  return seen.filter(i => i.naturalWidth === 0 || !i.alt.trim())
                             .map(i => i.src.slice(0, 80));
                }"""
            )
        )


def watch(browser: Browser, url: str, width: int = WIDE, height: int = 900) -> Watched:
    """Open a page in a window of its own and wait until it has loaded."""
    page = browser.new_page(viewport={"width": width, "height": height})
    watched = Watched(page)

    def asked(address: str) -> None:
        parts = urlsplit(address)
        if parts.scheme not in _LOCAL and parts.hostname not in {"127.0.0.1", "localhost"}:
            watched.complaints.append(f"asks the network for {address}")

    page.on("request", lambda request: asked(request.url))
    page.on("pageerror", lambda error: watched.complaints.append(f"script: {error}"))
    page.on(
        "console",
        lambda message: (
            watched.complaints.append(f"console: {message.text}")
            if message.type == "error"
            else None
        ),
    )
    page.goto(url, wait_until="load")
    return watched
