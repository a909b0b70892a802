"""Where documents from the web may lead: not to the machine that reads them."""

from __future__ import annotations

import ipaddress
import socket
from functools import lru_cache
from urllib.parse import urlsplit

from geoforest.errors import InputError
from geoforest.io.files import is_web, without_secrets


def refuse_inward(target: str, source: str) -> None:
    """Refuse a URL of this machine in a document, or a redirect, of another machine.

    Parameters
    ----------
    target
        URL of ``http`` or ``https``, which a document or a redirect gives.
    source
        Path or URL of the document, or URL that is redirected. What lies on disk or is served by
        this machine may lead anywhere.

    Raises
    ------
    InputError
        When the target's host is this machine (loopback) or its neighbourhood (link-local, where
        clouds serve keys), and the source's is not.
    """
    if is_web(source) and is_inward(target) and not is_inward(source):
        raise InputError(
            f"{without_secrets(source)}: leads to {without_secrets(target)[:200]}, an address of "
            "this machine; one on the web was wanted"
        )


def is_inward(url: str) -> bool:
    """Return whether the host of a URL has a loopback, link-local or unspecified address.

    Examples
    --------
    >>> [is_inward(f"http://{host}/a") for host in ("127.0.0.1", "[::1]", "localhost:80", "0")]
    [True, True, True, True]
    >>> is_inward("http://169.254.169.254/latest"), is_inward("http://192.0.2.1/a")
    (True, False)
    """
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return False
    return bool(host) and _is_inward_host(str(host))


@lru_cache(maxsize=256)
def _is_inward_host(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return any(_is_inward_address(str(entry[4][0])) for entry in found)


def _is_inward_address(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    return address.is_loopback or address.is_link_local or address.is_unspecified
