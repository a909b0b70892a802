"""Files in a folder that is local or behind any fsspec URL: one way to list and read both."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final, TypeVar

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from geoforest.errors import DataError, InputError

_Answer = TypeVar("_Answer")

# Enough to hide the delay of an object store, few enough to hold their files in memory.
_READERS: Final = 8
_S3: Final = ("s3://", "s3a://")
_HTTP: Final = ("http://", "https://")
# An AWS secret key may hold slashes: after a colon everything up to the @ is taken for one.
_USER: Final = re.compile(r"://(?:[^/@]*:[^@]*|[^/@]*)@")


@dataclass(frozen=True, eq=False)
class Place:
    """A file or a folder. ``str()`` is how messages name it: without credentials.

    Attributes
    ----------
    shown
        The path or URL as it was given, less what may be secret.
    path
        As ``filesystem`` wants it.
    filesystem
        Of fsspec.
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
        """List the files and folders in this folder, by name; None when it is not there.

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
            When it is not there or cannot be read.
        """
        try:
            return self._ask(lambda: self.filesystem.cat_file(self.path))
        except FileNotFoundError as error:
            raise DataError(f"{self}: no such file") from error

    def _ask(self, question: Callable[[], _Answer]) -> _Answer:
        try:
            return question()
        except FileNotFoundError:
            raise
        except Exception as error:  # the clients of the protocols raise many kinds
            # Without the cause: a traceback in a log would show it.
            raise DataError(f"{self}: cannot be read {self._reason(error)}") from None

    def _reason(self, error: Exception) -> str:
        if "://" not in self.shown:
            return f"({getattr(error, 'strerror', None) or type(error).__name__})"
        # Its kind only: what a client says may hold keys.
        return (
            f"({type(error).__name__}); check the network, and the credentials and the endpoint "
            "in the environment"
        )


def open_place(location: str | os.PathLike[str]) -> Place:
    """Find out what kind of place a path or URL is. Nothing is read yet.

    Credentials and endpoints come from the environment only, as the client of the protocol reads
    them: ``AWS_ACCESS_KEY_ID``, ``AWS_PROFILE``, ``AWS_ENDPOINT_URL`` and so on for ``s3://``.

    Parameters
    ----------
    location
        A local path, or a URL of any protocol that fsspec knows, such as ``s3://bucket/prefix``.

    Raises
    ------
    InputError
        When the protocol is unknown, its client is not installed, or keys stand in the URL.

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
    try:
        # An instance from fsspec's cache would keep old listings and old credentials.
        filesystem, path = url_to_fs(text, skip_instance_cache=True, **_options(text))
    except ImportError as error:
        remedy = 'pip install "geoforest[s3]"' if text.startswith(_S3) else str(error)
        raise InputError(f"{shown}: the client of its protocol is missing: {remedy}") from error
    except ValueError as error:
        raise InputError(f"{shown}: neither a path nor a URL that fsspec knows") from error
    return Place(shown, path, filesystem)


def is_url(location: str) -> bool:
    """Whether a location is on the web, by HTTP."""
    return location.startswith(_HTTP)


def _options(url: str) -> dict[str, Any]:
    if not is_url(url):
        return {}
    from aiohttp import ClientTimeout

    # By default the whole of a large file has to come within five minutes.
    return {"client_kwargs": {"timeout": ClientTimeout(total=None, sock_connect=30, sock_read=60)}}


def read_ahead(places: Iterable[Place]) -> Iterator[Future[bytes]]:
    """Read files in a few threads, a few of them ahead of the one that is asked for.

    Yields
    ------
    concurrent.futures.Future
        The bytes of each file, in order; ``result()`` raises as :meth:`Place.read` does.
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
    """Strip user, password and query from a URL; a path is left as it is.

    Examples
    --------
    >>> without_secrets("https://me:pass/word@host/file.tif?token=1")
    'https://host/file.tif'
    >>> without_secrets("s3://bucket/me@home/set"), without_secrets("a?b@c")
    ('s3://bucket/me@home/set', 'a?b@c')

    What follows the question mark in GDAL's ``vrt://`` is where a raster lies.

    >>> without_secrets("vrt:///a.tif?a_srs=EPSG:32720")
    'vrt:///a.tif?a_srs=EPSG:32720'
    """
    if "://" not in url or url.startswith("vrt://"):
        return url
    return _USER.sub("://", url).partition("?")[0]


def without_query_of(url: str, message: str) -> str:
    """Take the query of a URL out of a message, where its file name may stand alone.

    Examples
    --------
    >>> without_query_of("/vsicurl/https://host/a.tif?sig=1", "a.tif?sig=1, band 1: failed")
    'a.tif, band 1: failed'
    """
    query = url.partition("?")[2]
    return message.replace(f"?{query}", "") if query else message
