"""Bundles at a URL: S3, HTTPS, and whatever else fsspec opens."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from geoforest.errors import BundleError, InputError, RegistryError
from geoforest.io.files import Place, open_place, without_secrets
from geoforest.io.storage import is_of_our_disk
from geoforest.models.bundle import CARD_NAME, WEIGHTS_NAME, Bundle, load_bundle
from geoforest.models.copies import cached_bundle, copy_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ZIP_NAME = "model.zip"
# By one of these a file system says that a file is another one: HTTP, S3, GCS, Azure, local.
_VERSIONS = (
    *("ETag", "etag", "md5Hash", "content_md5"),
    *("Last-Modified", "LastModified", "last_modified", "updated", "mtime"),
)


def fetch_bundle(url: str) -> Bundle:
    """Open the bundle at a URL; it is downloaded when the cache does not have that version.

    Parameters
    ----------
    url
        Of a zip file, when a part of its path ends with ``.zip``, or else of a folder. Credentials
        come from the environment, or for HTTP from the URL; what may be secret in it goes into no
        message and no file.

    Raises
    ------
    BundleError
        When there is no bundle, or no good one.
    RegistryError
        When it cannot be fetched.
    InputError
        When the URL is of a kind that cannot be opened here.
    OutputError
        When the cache cannot be written to.
    """
    if "::" in url:
        # Only of a plain URL is it known where its secrets are.
        raise InputError(f"{url.partition('::')[0]}::...: chained URLs are not supported")
    shown = without_secrets(url)
    places = {name: open_place(source) for name, source in _sources(url).items()}
    with _one_sentence(shown):
        versions = [_version(place) for place in places.values()]

    def make(folder: Path) -> Bundle:
        fetched = folder.with_name("fetched")
        with _one_sentence(shown):
            _download(places, fetched)
        archive = fetched / _ZIP_NAME
        fetched_bundle = load_bundle(archive if archive.exists() else fetched)
        folder.mkdir()
        return copy_bundle(fetched_bundle, folder)

    key = [shown, *filter(None, versions)] if all(versions) else None
    return cached_bundle(key, make, shown=shown)


def _sources(url: str) -> dict[str, str]:
    """URLs of the files to fetch, by the names they get here."""
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
        place.filesystem.get_file(place.path, str(folder / name))


@contextmanager
def _one_sentence(shown: str) -> Iterator[None]:
    """Turn what file systems raise into our errors; their texts hold the URL, secrets and all."""
    try:
        yield
    except Exception as error:  # each file system has its own kinds
        if is_of_our_disk(error):
            raise
        cause = error.__cause__ or error
        status = getattr(cause, "status", None)
        reason = f"HTTP {status}" if status else type(cause).__name__
        if isinstance(cause, FileNotFoundError) or status in (404, 410):
            raise BundleError(f"{shown}: no model bundle is there ({reason})") from None
        raise RegistryError(f"{shown}: cannot be fetched ({reason})") from None
