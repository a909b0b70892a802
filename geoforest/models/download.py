"""Bundles at a URL: S3, HTTPS, and all other kinds that fsspec opens."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from fsspec.callbacks import Callback

from geoforest.errors import BundleError, InputError, RegistryError
from geoforest.io.certificates import certificate_problem
from geoforest.io.endpoint import is_http
from geoforest.io.files import Place, is_web, open_place, without_secrets
from geoforest.io.storage import is_of_our_disk
from geoforest.models.bundle import (
    CARD_NAME,
    MAX_BUNDLE_BYTES,
    MAX_CARD_BYTES,
    MAX_WEIGHTS_BYTES,
    WEIGHTS_NAME,
    Bundle,
    load_bundle,
)
from geoforest.models.copies import cached_bundle, copy_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ZIP_NAME = "model.zip"
_LIMITS = {
    _ZIP_NAME: MAX_BUNDLE_BYTES,
    CARD_NAME: MAX_CARD_BYTES,
    WEIGHTS_NAME: MAX_WEIGHTS_BYTES,
}
# Keys under which file systems (HTTP, S3, GCS, Azure, local) report the version of a file.
_VERSIONS = (
    *("ETag", "etag", "md5Hash", "content_md5"),
    *("Last-Modified", "LastModified", "last_modified", "updated", "mtime"),
)


def fetch_bundle(url: str) -> Bundle:
    """Open the bundle at a URL; download it when the cache does not hold this version.

    Parameters
    ----------
    url
        A zip file when a part of its path ends with ``.zip``, otherwise a folder. Credentials come
        from the environment, or for HTTP from the URL; secrets in the URL never appear in messages
        or files.

    Raises
    ------
    BundleError
        When there is no bundle, or it is not valid.
    RegistryError
        When it cannot be fetched.
    InputError
        When this kind of URL cannot be opened here.
    OutputError
        When the cache cannot be written to.
    """
    if "::" in url:
        # Where the secrets are is known for plain URLs only.
        raise InputError(f"{url.partition('::')[0]}::...: chained URLs are not supported")
    shown = without_secrets(url)
    if is_web(url) and not is_http(url):
        raise InputError(f"{shown}: is no URL; one with a host was wanted")
    places = {name: open_place(source) for name, source in _sources(url).items()}
    with _fetch_errors(shown):
        versions = [_version(place) for place in places.values()]

    def make(folder: Path) -> Bundle:
        fetched = folder.with_name("fetched")
        with _fetch_errors(shown):
            _download(places, fetched)
        archive = fetched / _ZIP_NAME
        fetched_bundle = load_bundle(archive if archive.exists() else fetched)
        folder.mkdir()
        return copy_bundle(fetched_bundle, folder)

    key = [shown, *filter(None, versions)] if all(versions) else None
    return cached_bundle(key, make, shown=shown)


def _sources(url: str) -> dict[str, str]:
    """Return the URL of each file to fetch, by its local name."""
    parts = urlsplit(url)
    if any(part.lower().endswith(".zip") for part in PurePosixPath(parts.path).parts):
        return {_ZIP_NAME: url}
    folder = parts.path.rstrip("/")
    return {
        name: urlunsplit(parts._replace(path=f"{folder}/{name}"))
        for name in (CARD_NAME, WEIGHTS_NAME)
    }


def _version(place: Place) -> str | None:
    info = place.filesystem.info(place.path)
    return next((f"{info[name]} {info['size']}" for name in _VERSIONS if info.get(name)), None)


def _download(places: Mapping[str, Place], folder: Path) -> None:
    folder.mkdir()
    for name, place in places.items():
        limit = _Limit(name, _LIMITS[name])
        # Not every file system calls the callback.
        limit.set_size(place.filesystem.info(place.path)["size"])
        place.filesystem.get_file(place.path, str(folder / name), callback=limit)


class _Limit(Callback):  # type: ignore[misc]  # fsspec is untyped
    """Ends a download that is longer than any bundle, announced or not."""

    def __init__(self, name: str, limit: int) -> None:
        super().__init__()
        self._name, self._limit, self._received = name, limit, 0

    def set_size(self, size: int | None) -> None:
        self._check(size or 0)

    def relative_update(self, inc: int = 1) -> None:
        self._received += inc
        self._check(self._received)

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise BundleError(f"{self._name} has more than {self._limit} bytes")


@contextmanager
def _fetch_errors(shown: str) -> Iterator[None]:
    """Replace the errors of file systems, whose texts hold the URL and its secrets, by ours."""
    try:
        yield
    except BundleError as error:
        raise BundleError(f"{shown}: {error}") from None
    except Exception as error:  # each file system raises its own kinds
        if is_of_our_disk(error):
            raise
        if problem := certificate_problem(error):
            raise RegistryError(f"{shown}: {problem}") from None
        cause = error.__cause__ or error
        status = getattr(cause, "status", None)
        reason = f"HTTP {status}" if status else type(cause).__name__
        if isinstance(cause, FileNotFoundError) or status in (404, 410):
            raise BundleError(f"{shown}: no model bundle is there ({reason})") from None
        raise RegistryError(f"{shown}: cannot be fetched ({reason})") from None
