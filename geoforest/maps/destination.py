"""Where the products of a map go: a folder on disk, or a prefix in a bucket."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from geoforest.errors import DataError, OutputError, WriteError
from geoforest.io.cache import cache_digest, cache_folder
from geoforest.io.files import Place, open_place, version_in
from geoforest.io.names import JOB_NAME, POLYGONS_NAME, WORK_NAME
from geoforest.io.recorded import keep_copy, state_of, was_edited
from geoforest.io.remote import is_url, shown
from geoforest.io.storage import file_sha256, read_json, write_durably

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Location = Path | Place

_STORES: Final = ("s3://", "s3a://", "gs://", "gcs://")
_PROBE: Final = ".geoforest-probe"
# GDAL adds statistics to them when a raster is looked at.
_STATISTICS: Final = ".aux.xml"


class Destination(Protocol):
    """The products of one map, or a folder with those of several.

    Attributes
    ----------
    location
        Path or URL, as messages show it; ``/`` appends a name to it.
    work
        Folder on disk for finished shards and unfinished products.
    """

    @property
    def location(self) -> Location:
        """Folder on disk, or prefix in a bucket."""

    @property
    def work(self) -> Path:
        """Folder on disk; it is absent before a job begins."""

    def __truediv__(self, name: str) -> Destination: ...

    def folders(self) -> list[Destination]:
        """List the folders inside, sorted by name, with products or with work that was begun."""

    def prepare(self) -> None:
        """Remove partial files of a killed run; raise OutputError when a bucket refuses writes."""

    def names(self) -> set[str]:
        """Return the names of the files in it."""

    def document(self, name: str) -> dict[str, Any] | None:
        """Read a JSON object; None where it is absent or holds something else."""

    def holds(self, outputs: dict[str, dict[str, Any]]) -> bool:
        """Check whether all products are there, unchanged since ``job.json`` recorded them."""

    def local(self, name: str, recorded: dict[str, Any]) -> Path | None:
        """Return a product's path on disk, fetched from a bucket; None if absent or changed."""

    def edited(self, outputs: Mapping[str, dict[str, Any]]) -> list[str]:
        """List the products that were changed by hand since ``job.json`` recorded them."""

    def keep_edited(self, name: str, kept: str) -> None:
        """Copy a product that was edited, so that a new one may replace it."""

    def remove(self, names: Iterable[str]) -> None:
        """Remove products; absent ones are ignored."""

    def publish(self, path: Path) -> None:
        """Move a product from disk to its place in one step."""

    def versions(self) -> dict[str, str]:
        """Return the store's version ids of products, by name; empty for files on disk."""

    def write(self, name: str, data: bytes) -> None:
        """Write a small product in one step."""


@dataclass(frozen=True)
class _Folder:
    """A folder on disk; the work folder lies in it."""

    location: Path

    @property
    def work(self) -> Path:
        # Absolute, because workers may have another current folder.
        return self.location.absolute() / WORK_NAME

    def __truediv__(self, name: str) -> _Folder:
        return _Folder(self.location / name)

    def folders(self) -> list[Destination]:
        if not self.location.is_dir():
            return []
        # The work folder of a map is no map of its own.
        inside = (path for path in self.location.iterdir() if path.name != WORK_NAME)
        return [_Folder(path) for path in sorted(inside) if path.is_dir()]

    def prepare(self) -> None:
        for path in self.location.glob(".*.partial"):
            path.unlink(missing_ok=True)

    def names(self) -> set[str]:
        there = self.location.is_dir()
        return {path.name for path in self.location.iterdir()} if there else set()

    def document(self, name: str) -> dict[str, Any] | None:
        return read_json(self.location / name)

    def holds(self, outputs: dict[str, dict[str, Any]]) -> bool:
        return all(self.local(*output) is not None for output in outputs.items())

    def local(self, name: str, recorded: dict[str, Any]) -> Path | None:
        path = self.location / name
        return path if path.is_file() and state_of(path, recorded) != "changed" else None

    def edited(self, outputs: Mapping[str, dict[str, Any]]) -> list[str]:
        found = [
            name
            for name, recorded in outputs.items()
            if (path := self.location / name).is_file()
            and path.stat().st_size
            and not name.endswith(_STATISTICS)
            and state_of(path, recorded) == "changed"
        ]
        polygons = self.location / POLYGONS_NAME
        # Of a run that was killed while it published, no record is left.
        if POLYGONS_NAME not in outputs and polygons.is_file() and was_edited(polygons):
            found.append(POLYGONS_NAME)
        return found

    def keep_edited(self, name: str, kept: str) -> None:
        keep_copy(self.location / name, self.location / kept)

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            (self.location / name).unlink(missing_ok=True)

    def publish(self, path: Path) -> None:
        path.replace(self.location / path.name)

    def versions(self) -> dict[str, str]:
        return {}

    def write(self, name: str, data: bytes) -> None:
        write_durably(self.location / name, data)


@dataclass(frozen=True)
class _Bucket:
    """A prefix in an object store, where each object appears whole or not at all.

    The work folder lies in ``GEOFOREST_WORK`` on this machine, by default in the cache. Its name
    depends on the prefix only, so that the same command finds it again.
    """

    location: Place

    @property
    def work(self) -> Path:
        parent, _, name = str(self.location).rstrip("/").rpartition("/")
        return _work_home(parent) / name

    def __truediv__(self, name: str) -> _Bucket:
        return _Bucket(self.location / name)

    def folders(self) -> list[Destination]:
        begun = _work_home(str(self.location).rstrip("/"))
        with _as_output():
            found = self.location.listing().items()
        names = {name for name, one in found if one["type"] == "directory"}
        names |= {path.name for path in begun.glob("*")}
        return [self / name for name in sorted(names)]

    def prepare(self) -> None:
        # Fail before hours of prediction, not after.
        probe = self.location / _PROBE
        with _as_output():
            probe.write(b"")
            probe.remove()

    def names(self) -> set[str]:
        with _as_output():
            return set(self.location.files())

    def document(self, name: str) -> dict[str, Any] | None:
        with _as_output():
            if name not in self.location.files():
                return None
            data = (self.location / name).read()
        try:
            value = json.loads(data)
        except ValueError:
            return None
        return value if isinstance(value, dict) else None

    def holds(self, outputs: dict[str, dict[str, Any]]) -> bool:
        # The store's version ids suffice: nothing is downloaded to compare it.
        found = self.versions()
        return all(
            one.get("version") and found.get(name) == one["version"]
            for name, one in outputs.items()
        )

    def local(self, name: str, recorded: dict[str, Any]) -> Path | None:
        with _as_output():
            if name not in self.location.files():
                return None
            path = self.work / "fetched" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            (self.location / name).get(path)
        return path if file_sha256(path) == recorded["sha256"] else None

    def edited(self, outputs: Mapping[str, dict[str, Any]]) -> list[str]:
        found = self.versions()
        return [
            name
            for name, recorded in outputs.items()
            if found.get(name) and recorded.get("version") not in {None, found[name]}
        ]

    def keep_edited(self, name: str, kept: str) -> None:
        path = self.work / "edited" / kept
        path.parent.mkdir(parents=True, exist_ok=True)
        with _publishing():
            (self.location / name).get(path)
            (self.location / kept).put(path)
        path.unlink()

    def remove(self, names: Iterable[str]) -> None:
        with _publishing():
            there = self.location.files()
            for name in names:
                if name in there:
                    (self.location / name).remove()

    def publish(self, path: Path) -> None:
        with _publishing():
            (self.location / path.name).put(path)

    def versions(self) -> dict[str, str]:
        with _publishing():
            return {name: version_in(one) for name, one in self.location.files().items()}

    def write(self, name: str, data: bytes) -> None:
        with _publishing():
            (self.location / name).write(data)


def open_destination(location: str | os.PathLike[str]) -> Destination:
    """Return the destination of products; nothing is created yet.

    Raises
    ------
    OutputError
        When it is a URL of a kind that cannot be written to.
    """
    text = os.fspath(location)
    if "://" not in text:
        return _Folder(Path(text))
    if not text.startswith(_STORES):
        raise OutputError(
            f"{shown(text)}: cannot be written to; a folder, s3://BUCKET/... or gs://BUCKET/... "
            "was wanted"
        )
    return _Bucket(open_place(text.rstrip("/")))


def jobs_in(location: str | os.PathLike[str]) -> list[Destination]:
    """List the maps, finished or begun, in a folder; the folder may be that of one map."""
    destination = open_destination(location)
    return [
        one
        for one in (destination, *destination.folders())
        if one.work.is_dir() or JOB_NAME in one.names()
    ]


def is_same(destination: Destination, scene: str | Path) -> bool:
    """Check whether products would be written into the scene itself."""
    if isinstance(destination.location, Place):
        return is_url(str(scene)) and str(destination.location) == shown(str(scene)).rstrip("/")
    return not is_url(str(scene)) and destination.location.resolve() == Path(scene).resolve()


def _work_home(parent: str) -> Path:
    chosen = os.environ.get("GEOFOREST_WORK")
    home = Path(chosen) if chosen else cache_folder() / "work"
    # Absolute, because workers may have another current folder.
    return home.absolute() / cache_digest([parent])


@contextmanager
def _as_output() -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise OutputError(str(error)) from None


@contextmanager
def _publishing() -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise WriteError(f"{error}; the same command uploads again") from None
