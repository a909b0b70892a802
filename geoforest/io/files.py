"""Files on disk or behind any fsspec URL, listed, read and written in the same way."""

from __future__ import annotations

import os
import re
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fsspec.core import url_to_fs

from geoforest.errors import AccessError, DataError, InputError
from geoforest.io.certificates import certificate_problem, tls_context
from geoforest.io.endpoint import fsspec_options
from geoforest.io.storage import is_of_our_disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from fsspec import AbstractFileSystem

_Answer = TypeVar("_Answer")

# Enough to hide the latency of an object store, few enough to hold their files in memory.
_READERS: Final = 8
_S3: Final = ("s3://", "s3a://")
_GCS: Final = ("gs://", "gcs://")
_HTTP: Final = ("http://", "https://")
# An AWS secret key may hold slashes: everything from a colon to the @ counts as one.
_USER: Final = re.compile(r"://(?:[^/@]*:[^@]*|[^/@]*)@")


@dataclass(frozen=True, eq=False)
class Place:
    """A file or a folder. ``str()`` names it in messages, without credentials.

    Attributes
    ----------
    shown
        The given path or URL, without credentials and query.
    path
        Path in ``filesystem``.
    filesystem
        File system of fsspec.
    """

    shown: str
    path: str
    filesystem: AbstractFileSystem

    def __str__(self) -> str:
        return self.shown

    def __truediv__(self, name: str) -> Place:
        shown, path = (f"{text.rstrip('/')}/{name}" for text in (self.shown, self.path))
        return Place(shown, path, self.filesystem)

    @property
    def name(self) -> str:
        """Name without folder."""
        return PurePosixPath(self.path).name

    @property
    def stem(self) -> str:
        """Name without folder and suffix."""
        return PurePosixPath(self.path).stem

    @property
    def suffix(self) -> str:
        """Suffix in lower case, such as ``.tif``; empty when there is none."""
        return PurePosixPath(self.path).suffix.lower()

    def children(self) -> list[Place] | None:
        """List the files and folders in this folder, by name; None when it does not exist.

        Raises
        ------
        DataError
            When it cannot be listed: no permission, no credentials, no network.
        """
        try:
            paths = self._ask(lambda: self.filesystem.ls(self.path, detail=False))
        except FileNotFoundError:
            return None
        return [self / PurePosixPath(path).name for path in sorted(paths)]

    def read(self) -> bytes:
        """Read the whole file. Safe to call from several threads at once.

        Raises
        ------
        DataError
            When it does not exist or cannot be read.
        """
        try:
            data: bytes = self._ask(lambda: self.filesystem.cat_file(self.path))
        except FileNotFoundError as error:
            raise DataError(f"{self}: {_absence(error)}") from error
        return data

    def read_start(self, n_bytes: int) -> bytes:
        """Read the first bytes of the file.

        Raises
        ------
        DataError
            When it does not exist or cannot be read.
        """
        try:
            data: bytes = self._ask(lambda: self.filesystem.cat_file(self.path, 0, n_bytes))
        except FileNotFoundError as error:
            raise DataError(f"{self}: {_absence(error)}") from error
        return data

    def is_folder(self) -> bool:
        """Check whether this is a folder, or a prefix of objects.

        Raises
        ------
        DataError
            See :meth:`children`.
        """
        try:
            return bool(self._ask(lambda: self.filesystem.isdir(self.path)))
        except FileNotFoundError:
            return False

    def version(self) -> tuple[int, str]:
        """Return the size in bytes, and the ETag or time of last modification.

        Raises
        ------
        DataError
            When it does not exist, is a folder, or cannot be reached.
        """
        try:
            info = self._ask(lambda: self.filesystem.info(self.path))
        except FileNotFoundError as error:
            raise DataError(f"{self}: {_absence(error)}") from None
        if info["type"] != "file":
            raise DataError(f"{self}: is a folder, a file was wanted")
        return info["size"], version_in(info)

    def listing(self) -> dict[str, dict[str, Any]]:
        """Return fsspec's entries of the files and folders in this folder, by name.

        Raises
        ------
        DataError
            See :meth:`children`.
        """
        try:
            found = self._ask(lambda: self.filesystem.ls(self.path, detail=True, refresh=True))
        except FileNotFoundError:
            return {}
        return {PurePosixPath(one["name"]).name: one for one in found}

    def files(self) -> dict[str, dict[str, Any]]:
        """Return the files of :meth:`listing`."""
        return {name: one for name, one in self.listing().items() if one["type"] == "file"}

    def everything(self) -> dict[str, dict[str, Any]]:
        """Return fsspec's entries of this file, or of all files below this folder, by path.

        Raises
        ------
        DataError
            See :meth:`children`.
        """
        try:
            # Earlier listings may be out of date.
            self.filesystem.invalidate_cache()
            return dict(self._ask(lambda: self.filesystem.find(self.path, detail=True)))
        except FileNotFoundError:
            return {}

    def write(self, data: bytes) -> None:
        """Write a small file in one step.

        Raises
        ------
        DataError
            When it cannot be written.
        """
        self._change(lambda: self.filesystem.pipe_file(self.path, data))

    def put(self, path: Path) -> None:
        """Upload a file from disk, a large one in parts; it appears completely or not at all.

        Raises
        ------
        DataError
            When it cannot be written.
        """
        self._change(lambda: self.filesystem.put_file(str(path), self.path))

    def get(self, path: Path) -> None:
        """Download to a file on disk.

        Raises
        ------
        DataError
            When it does not exist or cannot be read.
        """
        try:
            self._ask(lambda: self.filesystem.get_file(self.path, str(path)))
        except FileNotFoundError as error:
            raise DataError(f"{self}: {_absence(error)}") from None

    def remove(self) -> None:
        """Remove a file.

        Raises
        ------
        DataError
            When it cannot be removed.
        """
        self._change(lambda: self.filesystem.rm_file(self.path))

    def _change(self, change: Callable[[], None]) -> None:
        try:
            self._ask(change, "written to")
        except FileNotFoundError as error:
            raise DataError(f"{self}: {_absence(error)}") from None

    def _ask(self, question: Callable[[], _Answer], what: str = "read") -> _Answer:
        try:
            return question()
        except FileNotFoundError:
            raise
        except Exception as error:
            if is_of_our_disk(error):
                raise
            # Without the cause, which a traceback would show: it may hold keys.
            raise AccessError(f"{self}: cannot be {what} {self._reason(error)}") from None

    def _reason(self, error: Exception) -> str:
        if "://" not in self.shown:
            return f"({getattr(error, 'strerror', None) or type(error).__name__})"
        if problem := certificate_problem(error):
            return f"({problem})"
        # Only the kind of error: the message of a client may hold keys.
        kind = "access denied" if isinstance(error, PermissionError) else type(error).__name__
        return (
            f"({kind}); check the network, and the credentials and the endpoint in the environment"
        )


def version_in(info: Mapping[str, Any]) -> str:
    """Return the ETag in fsspec's entry of an object, or the time of its last modification."""
    for name in ("ETag", "etag", "LastModified", "updated", "mtime"):
        if info.get(name):
            return str(info[name])
    return ""


def _absence(error: FileNotFoundError) -> str:
    # s3fs raises the same error for a missing bucket as for a missing object.
    no_bucket = type(error.__cause__).__name__ == "NoSuchBucket"
    return "no such bucket" if no_bucket else "no such file"


def open_place(location: str | os.PathLike[str]) -> Place:
    """Return the place of a path or URL, without reading it.

    The client of the protocol reads credentials and endpoints from the environment only:
    ``AWS_ACCESS_KEY_ID``, ``AWS_PROFILE``, ``AWS_ENDPOINT_URL`` and so on for ``s3://``, see
    also :mod:`geoforest.io.endpoint`.

    Parameters
    ----------
    location
        A local path, or a URL of any protocol that fsspec knows, such as ``s3://bucket/prefix``.

    Raises
    ------
    InputError
        When the protocol is unknown, its client is not installed, or the URL holds keys.

    Examples
    --------
    >>> place = open_place("memory://set") / "train" / "a.TIF"
    >>> str(place), place.stem, place.suffix
    ('memory://set/train/a.TIF', 'a', '.tif')
    """
    text = os.fspath(location)
    shown = without_secrets(text)
    if text.startswith(_S3) and shown != text:
        raise InputError(
            f"{shown}: was given with keys or a query; a bucket and a prefix alone were wanted, "
            "and the keys in the environment"
        )
    options = _options(text)
    try:
        # An instance from fsspec's cache would keep old listings and old credentials.
        filesystem, path = url_to_fs(text, skip_instance_cache=True, **options)
    except ImportError as error:
        remedy = str(error)
        for extra, protocols in {"s3": _S3, "gcs": _GCS}.items():
            if text.startswith(protocols):
                remedy = f'pip install "geoforest[{extra}]"'
        raise InputError(f"{shown}: the client of its protocol is missing: {remedy}") from error
    except ValueError as error:
        raise InputError(f"{shown}: neither a path nor a URL that fsspec knows") from error
    return Place(shown, path, filesystem)


def is_web(location: str) -> bool:
    """Check whether a location is a URL of HTTP or HTTPS."""
    return location.startswith(_HTTP)


def _options(url: str) -> dict[str, Any]:
    if url.startswith(_S3):
        return fsspec_options()
    if not is_web(url):
        return {}
    from aiohttp import ClientSession, ClientTimeout, TCPConnector

    context = tls_context()

    async def get_client(**arguments: Any) -> ClientSession:
        return ClientSession(connector=TCPConnector(ssl=context), **arguments)

    # By default a download, also of a large file, may take five minutes in total.
    timeout = ClientTimeout(total=None, sock_connect=30, sock_read=60)
    return {"client_kwargs": {"timeout": timeout}, "get_client": get_client}


def read_ahead(places: Iterable[Place]) -> Iterator[Future[bytes]]:
    """Read files in threads, a few of them ahead of the caller.

    Yields
    ------
    concurrent.futures.Future
        The bytes of each file, in order; ``result()`` raises the errors of :meth:`Place.read`.
    """
    waiting: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(_READERS) as pool:
        for place in places:
            waiting.append(pool.submit(place.read))
            if len(waiting) > _READERS:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()


def without_secrets(url: str) -> str:
    """Strip user, password and query from a URL; a path is returned unchanged.

    Examples
    --------
    >>> without_secrets("https://me:pass/word@host/file.tif?token=1")
    'https://host/file.tif'
    >>> without_secrets("s3://bucket/me@home/set"), without_secrets("a?b@c")
    ('s3://bucket/me@home/set', 'a?b@c')

    The query of GDAL's ``vrt://`` holds no secret, but options such as the CRS.

    >>> without_secrets("vrt:///a.tif?a_srs=EPSG:32720")
    'vrt:///a.tif?a_srs=EPSG:32720'
    """
    if "://" not in url or url.startswith("vrt://"):
        return url
    return _USER.sub("://", url).partition("?")[0]
