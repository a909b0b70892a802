"""Rasters behind URLs: paths for GDAL, names for messages, versions, and retries."""

from __future__ import annotations

import re
import time
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import unquote, urlsplit

import rasterio
from rasterio.errors import RasterioIOError

from geoforest.errors import DataError, FetchError, InputError, SceneError
from geoforest.io.certificates import AMAZON, CURL, certificate_problem, gdal_certificates
from geoforest.io.download import ask_version, read_start
from geoforest.io.endpoint import gdal_options, is_http
from geoforest.io.files import open_place, without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable

_Answer = TypeVar("_Answer")

# GDAL's virtual file systems by protocol.
_SYSTEMS: Final = {
    "s3": "/vsis3/",
    "s3a": "/vsis3/",
    "gs": "/vsigs/",
    "gcs": "/vsigs/",
    "http": "/vsicurl/http://",
    "https": "/vsicurl/https://",
}
_URLS: Final = {"/vsis3/": "s3://", "/vsigs/": "gs://", "/vsicurl/": ""}
_URL: Final = re.compile(r"([A-Za-z0-9]+)://(.+)", re.DOTALL)
_ARCHIVE: Final = re.compile(r"(/vsi(?:s3|gs|curl)/.+?\.(?:zip|tar|tgz|tar\.gz))(?=[/?}]|$)")
_QUERY: Final = re.compile(r"\?[^\s'\"]*")
_STATUS: Final = re.compile(r"HTTP response code:? (4\d\d)")
# The server is busy, and may answer later.
_PASSING: Final = {"408", "425", "429"}
_ABSENT: Final = {"404", "410"}
_ASKS: Final = 4
# GDAL itself retries after 429 and 5xx, but not after a connection that breaks or hangs.
RETRY_WAITS_S = [0.5, 1.0, 2.0, 4.0]
NETWORK_OPTIONS: Final[dict[str, str | int | float]] = {
    # Object stores answer 429 and 503 when many workers ask at once.
    "GDAL_HTTP_MAX_RETRY": 4,
    "GDAL_HTTP_RETRY_DELAY": 1,
    # A hanging connection would block a worker for ever.
    "GDAL_HTTP_TIMEOUT": 120,
    "GDAL_HTTP_CONNECTTIMEOUT": 20,
    # Blocks of one row of a tiled file are adjacent: one request fetches them.
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    # Do not cache files that may change, or failures to reach them.
    "CPL_VSIL_CURL_NON_CACHED": ":".join(_URLS),
}


def is_url(location: str) -> bool:
    """Check whether a location is a readable URL: ``s3``, ``gs``, ``http`` or ``https``.

    Examples
    --------
    >>> is_url("s3://bucket/scene.tif"), is_url("/vsis3/bucket/scene.tif"), is_url("a:b")
    (True, False, False)
    """
    found = _URL.match(location)
    return found is not None and found.group(1).lower() in _SYSTEMS


def is_remote(path: str) -> bool:
    """Check whether a path is a URL or a GDAL path of a server, also into an archive."""
    return is_url(path) or (path.startswith("/vsi") and any(system in path for system in _URLS))


def gdal_path(location: str) -> str:
    """Return the path with which GDAL opens a URL; any other path is returned unchanged.

    Raises
    ------
    SceneError
        When the URL is none, or holds a user, a password or options of GDAL.

    Examples
    --------
    >>> gdal_path("s3://bucket/scene.tif"), gdal_path("https://host/scene.tif?token=1")
    ('/vsis3/bucket/scene.tif', '/vsicurl/https://host/scene.tif?token=1')
    >>> gdal_path("maps/scene.tif")
    'maps/scene.tif'
    """
    if location.startswith("/vsicurl?"):
        raise SceneError("/vsicurl?...: the URL itself was wanted, without options of GDAL's")
    if not is_remote(location):
        return location
    if without_secrets(location) != location.partition("?")[0]:
        raise SceneError(
            f"{shown(location)}: was given with a user or password in the URL; "
            "a signed URL was wanted, or keys in the environment"
        )
    url = location.removeprefix("/vsicurl/")
    if url.lower().startswith(("http://", "https://")) and not is_http(url):
        raise SceneError(f"{shown(location)}: is no URL; one with a host was wanted")
    if not is_url(location):
        return location
    protocol, rest = _URL.fullmatch(location).groups()  # type: ignore[union-attr]
    return _SYSTEMS[protocol.lower()] + rest


def shown(path: str) -> str:
    """Return the name of a file for messages and records: its path, or URL without secrets.

    It accepts any URL, readable or not.

    Examples
    --------
    >>> shown("/vsicurl/https://host/scene.tif?token=1"), shown("/vsis3/bucket/scene.tif")
    ('https://host/scene.tif', 's3://bucket/scene.tif')
    """
    if "://" in path and not path.startswith("/"):
        return without_secrets(path)
    if not is_remote(path):
        return path
    for system, url in _URLS.items():
        if path.startswith(system):
            return without_secrets(url + path.removeprefix(system))
    return without_secrets(path)


def reason(error: BaseException, path: str) -> str:
    """Return the text of a GDAL error about a path, without the query of its URL.

    Of a certificate that is not trusted, it gives the remedy, too.
    """
    text = str(error)
    if is_remote(path) and (problem := certificate_problem(error)):
        return problem
    if not is_remote(path):
        return text
    _, mark, query = path.partition("?")
    return _QUERY.sub("", text.replace(mark + query, ""))


def pure_path(location: str | Path) -> PurePath:
    """Return the absolute path whose parts name a scene; of a URL, bucket and decoded key.

    Examples
    --------
    >>> pure_path("https://host/a/my%20scene.tif?token=1/2")
    PurePosixPath('/a/my scene.tif')
    """
    text = str(location)
    if not is_remote(text):
        return Path(location).absolute()
    url = shown(gdal_path(text))
    if url.startswith(("http://", "https://")):
        return PurePosixPath("/", unquote(urlsplit(url).path))
    return PurePosixPath("/", url.rpartition("://")[2])


def network_options(path: str | None = None) -> dict[str, str | int | float]:
    """Return GDAL's options for reading over a network; with a path, for opening it.

    Raises
    ------
    InputError
        When a variable of the environment names certificates that are not there.
    """
    options = {**NETWORK_OPTIONS, **gdal_options()}
    if path is not None and is_remote(path):
        # Listing the folder costs one request, or many in a large bucket. Masks and overviews in
        # separate files are therefore not found there.
        options["GDAL_DISABLE_READDIR_ON_OPEN"] = "EMPTY_DIR"
        # An open file keeps them.
        options |= gdal_certificates(AMAZON if "/vsis3/" in gdal_path(path) else CURL)
    return options


def patiently(attempt: Callable[[], _Answer], path: str) -> _Answer:
    """Retry, at growing intervals, a read of a remote file that GDAL failed to do.

    GDAL asks for the size with ``HEAD``, which signed URLs and some servers refuse; after the first
    failure it asks with ``GET``.

    Raises
    ------
    rasterio.errors.RasterioIOError
        The error of the last attempt. A local file is tried only once, and so is a file that is not
        there; what the server refuses to ``HEAD`` and to ``GET`` is not asked for again.
    """
    try:
        return attempt()
    except RasterioIOError as error:
        waits_s = _waits_s(error) if is_remote(path) else []
        if not waits_s:
            raise
    with rasterio.Env(CPL_VSIL_CURL_USE_HEAD="NO"):
        for wait_s in waits_s[:-1]:
            time.sleep(wait_s)
            try:
                return attempt()
            except RasterioIOError as error:
                if _status(error) is not None:
                    raise
        time.sleep(waits_s[-1])
        return attempt()


def _waits_s(error: RasterioIOError) -> list[float]:
    """Return the waits before further attempts, seconds, after the first one failed so."""
    status = _status(error)
    if status in _ABSENT or certificate_problem(error):
        return []
    # What is refused to HEAD may be granted to GET; more attempts would change nothing.
    return RETRY_WAITS_S if status is None else [0.0]


def _status(error: BaseException) -> str | None:
    """Return the status with which a server refused for good, in an error of GDAL; or None."""
    texts = (str(error), str(error.__cause__ or ""))
    found = next(filter(None, map(_STATUS.search, texts)), None)
    return None if found is None or found[1] in _PASSING else found[1]


def remote_start(path: str, n_bytes: int) -> bytes:
    """Return the first bytes of a remote file, given as a URL or as GDAL's path of one.

    Raises
    ------
    DataError, FetchError, InputError
        When it cannot be read.
    """
    file = gdal_path(path)
    system = next(system for system in _URLS if file.startswith(system))
    url = _URLS[system] + file.removeprefix(system)
    if system == "/vsicurl/":
        return read_start(url, n_bytes, retries=_ASKS)
    return open_place(url).read_start(n_bytes)


def remote_stamp(path: str) -> tuple[int, str]:
    """Return size and version of a remote file, or of the remote archive that holds it.

    The version is the server's ETag, or else the time of last modification.

    Raises
    ------
    SceneError
        When it does not exist, may not be read, or its server cannot be used.
    """
    archive = _ARCHIVE.search(path) if path.startswith("/vsi") else None
    file = gdal_path(archive.group(1) if archive and not path.startswith(tuple(_URLS)) else path)
    system = next((system for system in _URLS if file.startswith(system)), None)
    if system is None:  # nested in another of GDAL's file systems
        return -1, ""
    url = _URLS[system] + file.removeprefix(system)
    try:
        if system == "/vsicurl/":
            return ask_version(url, retries=_ASKS)
        return open_place(url).version()
    except (DataError, FetchError, InputError) as error:
        raise SceneError(str(error)) from error
