"""Which S3 server, and whether as somebody: one setting of the environment for GDAL and fsspec."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

_NO = {"NO", "FALSE", "OFF", "0"}
_YES = {"YES", "TRUE", "ON", "1"}


def s3_endpoint() -> str | None:
    """URL of the S3 server that the environment names; None for Amazon's own.

    ``AWS_ENDPOINT_URL_S3`` and ``AWS_ENDPOINT_URL`` are the names of Amazon's clients,
    ``AWS_S3_ENDPOINT``, with ``AWS_HTTPS=NO`` for plain HTTP, are GDAL's.
    """
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_S3_ENDPOINT"):
        if url := os.environ.get(name):
            plain = os.environ.get("AWS_HTTPS", "").upper() in _NO
            return url if "://" in url else f"{'http' if plain else 'https'}://{url}"
    return None


def fsspec_options() -> dict[str, Any]:
    """Arguments of s3fs."""
    options: dict[str, Any] = {}
    if endpoint := s3_endpoint():
        options["endpoint_url"] = endpoint
    if os.environ.get("AWS_NO_SIGN_REQUEST", "").upper() in _YES:
        options["anon"] = True
    return options


def gdal_options() -> dict[str, str]:
    """Options of GDAL; keys and regions it takes from the environment by itself."""
    endpoint = s3_endpoint()
    if endpoint is None:
        return {}
    parts = urlsplit(endpoint)
    return {
        "AWS_S3_ENDPOINT": f"{parts.netloc}{parts.path.rstrip('/')}",
        "AWS_HTTPS": "NO" if parts.scheme == "http" else "YES",
        # Servers of one's own rarely have a host name for each bucket.
        "AWS_VIRTUAL_HOSTING": os.environ.get("AWS_VIRTUAL_HOSTING", "FALSE"),
    }
