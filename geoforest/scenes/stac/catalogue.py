"""Read documents of STAC catalogues from disk and from the web, with limited retries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urljoin

import requests
from pystac_client.stac_api_io import StacApiIO
from urllib3 import BaseHTTPResponse, Retry
from urllib3.exceptions import MaxRetryError

from geoforest.errors import InputError
from geoforest.io.certificates import REQUESTS, certificate_problem, chosen_authorities
from geoforest.io.endpoint import is_http
from geoforest.io.files import is_web, without_secrets
from geoforest.io.reach import refuse_inward

if TYPE_CHECKING:
    from urllib3.connectionpool import ConnectionPool

# An item has some 50 kB, a page of search results a few MB.
_MAX_BYTES: Final = 64 << 20
_MAX_REDIRECTS: Final = 5
_TIMEOUT_S: Final = (10, 60)
_LONGEST_WAIT_S: Final = 60


class _Retry(Retry):
    """Retries that honour the server's Retry-After header, up to one minute.

    A certificate that is not trusted is not asked for again.
    """

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: Any = None,
    ) -> Self:
        if error is not None and _pool is not None and certificate_problem(error):
            raise MaxRetryError(_pool, url or "", error) from error
        return super().increment(method, url, response, error, _pool, _stacktrace)

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        seconds = super().get_retry_after(response)
        return None if seconds is None else min(seconds, _LONGEST_WAIT_S)


_RETRIES: Final = _Retry(
    total=5,
    backoff_factor=0.5,
    status_forcelist={429, 500, 502, 503, 504},
    # All methods, because the requests of this module change nothing.
    allowed_methods=None,
    raise_on_status=False,
)


class CatalogueIO(StacApiIO):
    """Reader of documents for pystac and pystac-client.

    Requests to busy and failing servers (429, 5xx) are repeated after the time they ask for, or
    after waits that double each time. A document that cannot be read raises an :class:`InputError`
    that names it without its query, which may hold a key.
    """

    def __init__(self) -> None:
        super().__init__(timeout=_TIMEOUT_S, max_retries=_RETRIES)
        self.session.max_redirects = _MAX_REDIRECTS
        self.session.hooks["response"].append(_check_redirect)
        if authorities := chosen_authorities(REQUESTS):
            self.session.verify = authorities.path

    def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
        """Read a document as text; ``source`` is a path, a URL, or a link of pystac."""
        if not isinstance(source, str) or is_web(source):
            if isinstance(source, str) and not is_http(source):
                raise InputError(f"{without_secrets(source)}: is no URL of http or https")
            return super().read_text(source, *args, **kwargs)
        path = Path(source)
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise InputError(f"{path}: {_too_big()}")
            return path.read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: is no JSON document") from error

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """Request a document from a server, and return its text."""
        shown = without_secrets(href)
        method = (method or "GET").upper()
        sent: dict[str, Any] = {"params" if method == "GET" else "json": parameters}
        body = bytearray()
        try:
            with self.session.request(
                method, href, headers=headers, timeout=_TIMEOUT_S, stream=True, **sent
            ) as response:
                if not response.ok:
                    answer = f"{response.status_code} {response.reason}".strip()
                    raise InputError(f"{shown}: the server answers {answer}")
                for chunk in response.iter_content(1 << 16):
                    body += chunk
                    if len(body) > _MAX_BYTES:
                        raise InputError(f"{shown}: {_too_big()}")
            return body.decode()
        except requests.TooManyRedirects:
            raise InputError(f"{shown}: redirects more than {_MAX_REDIRECTS} times") from None
        except requests.RequestException as error:
            if problem := certificate_problem(error):
                raise InputError(f"{shown}: {problem}") from None
            # Only the kind of error, because its text contains the query.
            kind = type(error).__name__
            raise InputError(f"{shown}: cannot be read ({kind}); check the network") from None
        except UnicodeDecodeError as error:
            raise InputError(f"{shown}: is no JSON document") from error

    def read_json(self, source: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a JSON object; ``source`` is as for :meth:`read_text`."""
        text = self.read_text(source, *args, **kwargs)
        shown = without_secrets(source if isinstance(source, str) else source.get_href())
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{shown}: is no JSON document") from error
        if not isinstance(document, dict):
            raise InputError(f"{shown}: is no STAC document: a JSON object was wanted")
        return document


def _check_redirect(response: requests.Response, **_: Any) -> None:
    """Refuse a redirect from the web to this machine, before it is followed."""
    if response.is_redirect:
        try:
            target = urljoin(response.url, response.headers["location"])
        except ValueError:
            return
        refuse_inward(target, response.url)


def _too_big() -> str:
    return f"is no STAC document: it has more than {_MAX_BYTES >> 20} MiB"
