"""Trusted certificate authorities: one variable of the environment for all clients.

Each client itself looks at another variable: OpenSSL, and so urllib, at ``SSL_CERT_FILE``; requests
at ``REQUESTS_CA_BUNDLE``; curl, and so GDAL, at ``CURL_CA_BUNDLE``; Amazon's at ``AWS_CA_BUNDLE``.
Here each of the first three serves all clients, and the last one all that read S3. Where several
are set, a client prefers its own.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from geoforest.errors import InputError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

OPENSSL: Final = ("SSL_CERT_FILE",)
REQUESTS: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
CURL: Final = ("GDAL_CURL_CA_BUNDLE", "CURL_CA_BUNDLE")
AMAZON: Final = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
_FOR_ALL: Final = tuple(dict.fromkeys((*OPENSSL, *REQUESTS, *CURL)))
# Clients of other packages: a user's function that signs, Weights & Biases.
_EXPORTED: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_OF_CURL: Final = re.compile(r"certificate[^:]*: *([^.;()\"']+)", re.IGNORECASE)


class Authorities(NamedTuple):
    """File (PEM) of trusted authorities, or a folder of such files, and its variable."""

    variable: str
    path: str


def chosen_authorities(own: tuple[str, ...]) -> Authorities | None:
    """Return the authorities for a client that itself looks at the variables ``own``.

    None where no variable is set: the client then trusts its usual list.

    Raises
    ------
    InputError
        When a variable names no file, or one without certificates.
    """
    named = _named(own)
    for one in named:
        _check(one)
    return named[0] if named else None


def _named(own: tuple[str, ...]) -> list[Authorities]:
    """Return what the variables name, in the order in which a client takes them."""
    return [
        Authorities(variable, path)
        for variable in dict.fromkeys((*own, *_FOR_ALL))
        if (path := os.environ.get(variable)) and not _is_of_rasterio(variable, path)
    ]


def tls_context() -> ssl.SSLContext:
    """Return the context of clients in Python.

    Raises
    ------
    InputError
        See :func:`chosen_authorities`.
    """
    # The command line imports this module at its start, which ssl would slow down.
    import ssl

    chosen = chosen_authorities(OPENSSL)
    return ssl.create_default_context() if chosen is None else _load(chosen.path)


def gdal_certificates(own: tuple[str, ...] = CURL) -> dict[str, str]:
    """Return the options of GDAL.

    Raises
    ------
    InputError
        See :func:`chosen_authorities`.
    """
    chosen = chosen_authorities(own)
    if chosen is None:
        return {}
    if Path(chosen.path).is_dir():
        return {"GDAL_HTTP_CAPATH": chosen.path}
    # Of GDAL's variables only this one comes before what rasterio sets when it is imported.
    return {"GDAL_CURL_CA_BUNDLE": chosen.path}


@contextmanager
def exported_authorities() -> Iterator[None]:
    """Set the variables of all clients, for the block and its processes, where one is set.

    A variable that names no file, or one without certificates, is left for
    :func:`chosen_authorities` to refuse, when a server is asked for something. Certificates are not
    loaded here: that takes longer than all else at the start of a command.
    """
    named = _named(OPENSSL)
    added = []
    if named and all(_looks_right(one.path) for one in named):
        added = [variable for variable in _EXPORTED if not os.environ.get(variable)]
        os.environ |= dict.fromkeys(added, named[0].path)
    try:
        yield
    finally:
        for variable in added:
            os.environ.pop(variable, None)


def _looks_right(path: str) -> bool:
    """Return whether a file holds certificates in PEM, without loading them."""
    try:
        return b"-----BEGIN" in Path(path).read_bytes()
    except OSError:
        return False


def certificate_problem(error: BaseException) -> str | None:
    """Describe an error whose cause is a certificate that is not trusted, and its remedy.

    None for other errors. The error may be one of urllib, requests, aiohttp, botocore or GDAL.
    """
    found = next((one for one in _causes(error) if "certificate" in str(one).lower()), None)
    if found is None:
        return None
    stated = getattr(found, "verify_message", None)
    if stated is None and (text := _OF_CURL.search(str(found))):
        stated = text[1]
    why = f" ({stated.strip()})" if stated else ""
    return (
        f"the server's certificate cannot be verified{why}; to trust its authority, set "
        "SSL_CERT_FILE to a file (PEM) with the certificate of that authority"
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors behind an error, the innermost first, and the error itself last."""
    import ssl

    waiting: list[BaseException] = [error]
    found: list[BaseException] = []
    while waiting and len(found) < 20:
        one = waiting.pop()
        found.append(one)
        behind = (*one.args, getattr(one, "reason", None), one.__cause__, one.__context__)
        waiting += [other for other in behind if isinstance(other, BaseException)]
    yield from sorted(found, key=lambda one: not isinstance(one, ssl.SSLCertVerificationError))


def _check(authorities: Authorities) -> None:
    variable, path = authorities
    if not Path(path).exists():
        raise InputError(
            f"{variable}={path}: no such file; one with certificates (PEM) was wanted, or the "
            "variable not set"
        )
    try:
        _loads(path, Path(path).stat().st_mtime_ns)
    except OSError as error:
        raise InputError(
            f"{variable}={path}: holds no certificates that can be read "
            f"({error.strerror or type(error).__name__}); a file of them (PEM) was wanted"
        ) from error


@lru_cache(maxsize=16)
def _loads(path: str, _modified_ns: int) -> None:
    _load(path)


def _load(path: str) -> ssl.SSLContext:
    import ssl

    if Path(path).is_dir():
        return ssl.create_default_context(capath=path)
    return ssl.create_default_context(cafile=path)


def _is_of_rasterio(variable: str, path: str) -> bool:
    """Return whether rasterio, not the user, set GDAL's variable."""
    return variable == "GDAL_CURL_CA_BUNDLE" and path.endswith("certifi/cacert.pem")
