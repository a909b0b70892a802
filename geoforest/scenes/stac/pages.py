"""The pages of an answer of a STAC API, followed to their end."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin, urlsplit

from geoforest.errors import GeoforestWarning, InputError
from geoforest.io.endpoint import is_http
from geoforest.io.files import without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from geoforest.scenes.stac.catalogue import CatalogueIO

# Pages may be empty, or repeat items where some were added meanwhile.
_MOST_IDLE: Final = 10


@dataclass(frozen=True)
class Parameters:
    """Parameters of a search in both forms: ``query`` for ``GET``, ``body`` for ``POST``."""

    query: Mapping[str, Any]
    body: Mapping[str, Any]


@dataclass(frozen=True)
class _Request:
    method: str
    url: str
    parameters: dict[str, Any] | None = None
    headers: dict[str, str] | None = None


def search_pages(io: CatalogueIO, url: str, parameters: Parameters) -> Iterator[dict[str, Any]]:
    """Search, and yield page after page, each with a list of ``features``.

    Parameters
    ----------
    io
        Reader of documents.
    url
        The search of an API. It is asked with ``GET``, because not all servers support ``POST``.
        The links to further pages may want either, and may be relative. One that names another
        server, as behind a proxy, is asked for here.
    parameters
        What to search for.

    Raises
    ------
    InputError
        When a page cannot be read or is no answer of a search, or the pages have no end.
    """
    request: _Request | None = _Request("GET", url, dict(parameters.query))
    asked: list[_Request] = []
    seen: set[str] = set()
    received = idle = 0
    page: dict[str, Any] = {}
    while request is not None:
        if request in asked or idle > _MOST_IDLE:
            raise InputError(
                f"{url}: its answer has no end: page {len(asked) + 1} leads back to pages that "
                "came before; ask the provider, or ask for less"
            )
        asked.append(request)
        page = _read_page(io, request, len(asked))
        ids = {f"{_get(one, 'collection')}/{_get(one, 'id')}" for one in page["features"]}
        idle = 0 if ids - seen else idle + 1
        seen |= ids
        received += len(page["features"])
        yield page
        request = _next_request(page, request, parameters)
    matched = page.get("numberMatched", _get(page.get("context"), "matched"))
    if isinstance(matched, int) and matched > received:
        warnings.warn(
            f"{without_secrets(url)}: says that {matched:,} items match, and gave {received:,}; "
            "some may be missing",
            GeoforestWarning,
            stacklevel=2,
        )


def _read_page(io: CatalogueIO, request: _Request, number: int) -> dict[str, Any]:
    try:
        page = io.read_json(
            request.url,
            method=request.method,
            headers=request.headers,
            parameters=request.parameters,
        )
    except InputError as error:
        if number == 1:
            raise
        raise InputError(f"page {number} of the answer cannot be had: {error}") from error
    if not isinstance(page.get("features"), list):
        raise InputError(
            f"{request.url}: page {number} is no answer of a search; a FeatureCollection was wanted"
        )
    return page


def _next_request(
    page: dict[str, Any], request: _Request, parameters: Parameters
) -> _Request | None:
    """Return the request for the next page, as its link describes it; None after the last one."""
    links = page.get("links")
    found = [one for one in links if _get(one, "rel") == "next"] if isinstance(links, list) else []
    if not found:
        return None
    link: dict[str, Any] = found[0]
    method = str(link.get("method") or "GET").upper()
    try:
        url = urljoin(request.url, str(link["href"]))
    except (LookupError, ValueError):
        url = ""
    if not is_http(url) or method not in {"GET", "POST"}:
        raise InputError(
            f"{request.url}: the link to its next page is {str(link)[:200]}; one with a URL was "
            "wanted"
        )
    here, there = urlsplit(request.url), urlsplit(url)
    if (here.scheme, here.netloc) != (there.scheme, there.netloc):
        url = here._replace(query=there.query).geturl()
    stated = link.get("body")
    body: dict[str, Any] = stated if isinstance(stated, dict) else {}
    if link.get("merge"):
        first = parameters.body if method == "POST" else parameters.query
        earlier = request.parameters if request.method == method else None
        body = {**(earlier or first), **body} if body or method == "POST" else {}
    headers = link.get("headers")
    texts = headers if isinstance(headers, dict) and _are_texts(headers) else None
    return _Request(method, url, body or None, texts)


def _are_texts(values: dict[str, Any]) -> bool:
    return all(isinstance(value, str) for value in values.values())


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None
