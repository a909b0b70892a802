"""S3 server and anonymous access from the environment, the same for GDAL and fsspec."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

from geoforest.errors import InputError
from geoforest.io.certificates import AMAZON, chosen_authorities

_NO = {"NO", "FALSE", "OFF", "0"}
_YES = {"YES", "TRUE", "ON", "1"}


def s3_endpoint() -> str | None:
    """Return the URL of the S3 server in the environment; None for Amazon's.

    Amazon's clients read ``AWS_ENDPOINT_URL_S3`` and ``AWS_ENDPOINT_URL``; GDAL reads
    ``AWS_S3_ENDPOINT``, and ``AWS_HTTPS=NO`` for plain HTTP.

    Raises
    ------
    InputError
        When it is no URL.
    """
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_S3_ENDPOINT"):
        if url := os.environ.get(name):
            plain = os.environ.get("AWS_HTTPS", "").upper() in _NO
            endpoint = url if "://" in url else f"{'http' if plain else 'https'}://{url}"
            try:
                urlsplit(endpoint)
            except ValueError:
                raise InputError(f"{name}={endpoint}: is no URL") from None
            return endpoint
    return None


def is_http(url: str) -> bool:
    """Return whether a text is a URL of ``http`` or ``https`` with a host.

    Examples
    --------
    >>> is_http("https://host/a"), is_http("https://[host/a"), is_http("https://host:port/a")
    (True, False, False)
    """
    try:
        parts = urlsplit(url)
        # Reading the port raises ValueError when it is not a number.
        scheme, host, _ = parts.scheme, parts.hostname, parts.port
    except ValueError:
        return False
    return scheme in {"http", "https"} and bool(host)


def fsspec_options() -> dict[str, Any]:
    """Return the arguments of s3fs."""
    options: dict[str, Any] = {}
    if endpoint := s3_endpoint():
        options["endpoint_url"] = endpoint
    if authorities := chosen_authorities(AMAZON):
        options["client_kwargs"] = {"verify": authorities.path}
    if os.environ.get("AWS_NO_SIGN_REQUEST", "").upper() in _YES:
        options["anon"] = True
    return options


def gdal_options() -> dict[str, str]:
    """Return the options of GDAL, which itself reads keys and regions from the environment."""
    endpoint = s3_endpoint()
    if endpoint is None:
        return {}
    parts = urlsplit(endpoint)
    return {
        "AWS_S3_ENDPOINT": f"{parts.netloc}{parts.path.rstrip('/')}",
        "AWS_HTTPS": "NO" if parts.scheme == "http" else "YES",
        # Private servers rarely have one host name per bucket.
        "AWS_VIRTUAL_HOSTING": os.environ.get("AWS_VIRTUAL_HOSTING", "FALSE"),
    }
