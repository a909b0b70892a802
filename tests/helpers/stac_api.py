"""A STAC API on loopback whose links, pages and items a test chooses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

Document = dict[str, Any]


@dataclass
class StacApi:
    """What the server answers, and what it was asked.

    Attributes
    ----------
    pages
        Items of each page, by its number from 1.
    next_link
        Makes the link to a page from its number and the URL of the root; None for no link.
    search_link
        The link of the root to the search; None for the right one.
    documents
        Other documents by path.
    extra
        Further fields of each page.
    asked
        Method, path and parameters of each request.
    """

    pages: list[list[Any]] = field(default_factory=list)
    next_link: Callable[[int, str], Document] | None = None
    search_link: str | None = None
    documents: dict[str, Any] = field(default_factory=dict)
    extra: Document = field(default_factory=dict)
    asked: list[tuple[str, str, Document]] = field(default_factory=list)
    url: str = ""

    def searches(self) -> list[tuple[str, Document]]:
        """Method and parameters of each search."""
        return [(method, asked) for method, path, asked in self.asked if path == "/stac/search"]

    def answer(self, method: str, path: str, parameters: Document) -> Any:
        """Return the document at a path; None where there is none."""
        self.asked.append((method, path, parameters))
        if path == "/stac":
            search = self.search_link or f"{self.url}/search"
            links = [{"rel": "search", "href": search, "type": "application/geo+json"}]
            return {"type": "Catalog", "id": "root", "stac_version": "1.0.0", "links": links}
        if path == "/stac/search":
            number = int(str(parameters.get("token", "p1"))[1:])
            page = {"type": "FeatureCollection", "features": self.pages[number - 1], **self.extra}
            last = number == len(self.pages)
            link = None if last or self.next_link is None else self.next_link(number + 1, self.url)
            return {**page, "links": [link] if link else []}
        return self.documents.get(path)


class _Handler(BaseHTTPRequestHandler):
    api: StacApi

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        parameters: Document = {name: values[-1] for name, values in parse_qs(asked.query).items()}
        if self.command == "POST":
            parameters = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        document = self.api.answer(self.command, asked.path, parameters)
        body = b"" if document is None else json.dumps(document).encode()
        self.send_response(404 if document is None else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - the name is http.server's

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Say nothing."""


@contextmanager
def stac_api() -> Iterator[StacApi]:
    """Run a :class:`StacApi` on a free port; its root is at ``/stac``."""
    api = StacApi()
    handler = type("Handler", (_Handler,), {"api": api})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        api.url = f"http://127.0.0.1:{server.server_port}/stac"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield api
        finally:
            server.shutdown()
            thread.join()
