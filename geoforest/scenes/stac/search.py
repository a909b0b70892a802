"""Search a STAC API or a static catalogue for scenes by area, time and cloud cover."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urljoin, urlsplit

import shapely
from pystac.utils import make_absolute_href

from geoforest.errors import GeoforestError, GeoforestWarning, InputError
from geoforest.io.endpoint import is_http
from geoforest.io.files import is_web, without_secrets
from geoforest.io.polygon_files import mended, polygons_in, read_outline
from geoforest.io.reach import refuse_inward
from geoforest.scenes.acquisition import Acquisition, newest_of_each, replaced_sentence
from geoforest.scenes.footprint import (
    crosses_antimeridian,
    on_globe,
    read_footprint,
    search_boxes,
)
from geoforest.scenes.stac.acquisition import item_acquisition, item_times
from geoforest.scenes.stac.item import is_item
from geoforest.scenes.stac.pages import Parameters, search_pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from shapely.geometry.base import BaseGeometry

    from geoforest.scenes.stac.catalogue import CatalogueIO

_MOST_ITEMS: Final = 100_000
_PAGE: Final = 100
# By year, month, day, orbit, tile: real catalogues have some ten.
_DEEPEST: Final = 50
_NAMED: Final = 3
_WORLD: Final = "EPSG:4326"
# Latitudes of Cape Horn and of the larches of Taimyr, with a margin.
_NO_FOREST_SOUTH, _NO_FOREST_NORTH = -56.5, 74


@dataclass(frozen=True)
class Found:
    """An item that a search found.

    Attributes
    ----------
    acquired
        Time of acquisition, UTC; the start of a range.
    item_id
        Id of the item.
    cloud_percent
        Cloud cover that the item states, 0 to 100, or None.
    location
        URL or path of the item, for :func:`geoforest.scenes.stac.item.read_item`.
    """

    acquired: datetime
    item_id: str
    cloud_percent: float | None
    location: str

    def __str__(self) -> str:
        cloud = "" if self.cloud_percent is None else f"  {self.cloud_percent:.0f} % cloud"
        return f"{self.item_id}  {self.acquired:%Y-%m-%d %H:%M}{cloud}"


@dataclass(frozen=True)
class Question:
    """The conditions of a search. An item without cloud cover meets that condition.

    Attributes
    ----------
    collections
        Ids of collections; empty for all.
    area
        Geometry in longitude and latitude, degrees; None for anywhere.
    period
        Start and end, UTC; None where open.
    max_cloud
        Most cloud cover, percent; None for any.
    """

    collections: tuple[str, ...] = ()
    area: BaseGeometry | None = None
    period: tuple[datetime | None, datetime | None] = (None, None)
    max_cloud: float | None = None

    def fits(self, document: dict[str, Any]) -> bool:
        """Return whether an item meets all conditions; servers may ignore some of them."""
        begin, end = item_times(document)
        since, until = self.period
        cloud = _cloud(document)
        return (
            (not self.collections or document.get("collection") in self.collections)
            and (since is None or end >= since)
            and (until is None or begin <= until)
            and (self.max_cloud is None or cloud is None or cloud <= self.max_cloud)
            and (self.area is None or self._meets(document["geometry"], self.area))
        )

    @staticmethod
    def _meets(footprint: dict[str, Any] | None, area: BaseGeometry) -> bool:
        return footprint is not None and bool(area.intersects(read_footprint(footprint)[0]))


def build_question(
    *,
    collections: Sequence[str] = (),
    bbox: Sequence[float] | None = None,
    aoi: str | Path | None = None,
    period: str | None = None,
    max_cloud: float | None = None,
) -> Question:
    """Build a question from the values of command-line options.

    Parameters
    ----------
    collections
        Ids of collections, such as ``sentinel-2-l2a``.
    bbox
        ``(west, south, east, north)``, degrees; west is greater than east across the antimeridian.
    aoi
        Vector file with polygons, used without ``bbox``.
    period
        A day, a month, a year, a time, or two of them separated by a slash; ``..`` is open.
    max_cloud
        Most cloud cover, percent.

    Raises
    ------
    InputError
        When a value is not valid.
    """
    if max_cloud is not None and not 0 <= max_cloud <= 100:
        raise InputError(f"--max-cloud {max_cloud:g}: a percentage was wanted")
    area = _box(bbox) if bbox is not None else _polygons(aoi) if aoi is not None else None
    if area is not None and not _NO_FOREST_SOUTH < area.centroid.y < _NO_FOREST_NORTH:
        warnings.warn(
            f"{'--bbox' if bbox is not None else aoi}: the search is in {shown_area(area)}, where "
            "no forest grows; are x and y swapped?",
            GeoforestWarning,
            stacklevel=2,
        )
    return Question(tuple(collections), area, _period(period), max_cloud)


def search_scenes(
    url: str,
    *,
    collections: Sequence[str] = (),
    bbox: Sequence[float] | None = None,
    aoi: str | Path | None = None,
    period: str | None = None,
    max_cloud: float | None = None,
) -> list[Found]:
    """Find the scenes of a STAC API or catalogue that meet all conditions, sorted by time.

    Parameters
    ----------
    url
        Root of a STAC API, or a static catalogue or collection, which is read completely.
    collections, bbox, aoi, period, max_cloud
        See :func:`build_question`.

    Returns
    -------
    list of Found
        Their ``location`` is a scene for :func:`geoforest.map_scene`. Of an acquisition that is
        there under several processing baselines, only the newest; a warning names the others, and
        items that are left out because they are broken.

    Raises
    ------
    InputError
        When a condition is not valid, or nothing is found.
    """
    question = build_question(
        collections=collections, bbox=bbox, aoi=aoi, period=period, max_cloud=max_cloud
    )
    return search(url, question)


def search(url: str, question: Question) -> list[Found]:
    """Find the items that meet the conditions of a question, sorted by time.

    A :class:`geoforest.errors.GeoforestWarning` says which items are left out because they are
    broken, or replaced by a newer processing of the same acquisition.

    Parameters
    ----------
    url
        Root of a STAC API, or a static catalogue or collection, which is read completely.
    question
        The conditions, from :func:`build_question`.

    Raises
    ------
    InputError
        When no item or too many items are found, or the catalogue cannot be read.
    """
    from geoforest.scenes.stac.catalogue import CatalogueIO

    if not is_web(url):
        url = str(Path(url).absolute())
    collected = _Collected()
    try:
        for locate, document in _item_documents(CatalogueIO(), url, question):
            collected.add(locate, document, question)
    except InputError:
        raise
    # Malformed documents make this module and its libraries raise any of these.
    except _MALFORMED as error:
        raise InputError(f"{url}: holds what is no STAC item ({error!r:.200})") from error
    found = collected.newest(url)
    if not found:
        raise InputError(
            f"{url}: no item fits; ask for more with --collection, --bbox or --aoi, --datetime "
            f"and --max-cloud{collected.broken_sentence()}{_where(url, question)}"
        )
    return sorted(found, key=lambda one: (one.acquired, one.item_id))


_MALFORMED: Final = (
    *(ArithmeticError, AttributeError, LookupError, TypeError, ValueError),
    shapely.errors.ShapelyError,
)


@dataclass
class _Collected:
    """Items that fit a question, and what is to be said of others."""

    found: list[tuple[Found, Acquisition]] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def add(self, locate: Callable[[], str], document: dict[str, Any], question: Question) -> None:
        """Add an item if it fits; note what is wrong with it."""
        try:
            if not question.fits(document):
                return
            item_id = str(document["id"])
            begin, _ = item_times(document)
            acquisition = item_acquisition(document)
            cloud = _cloud(document)
            if question.area is not None and read_footprint(document["geometry"])[1]:
                self.repaired.append(item_id)
        except _MALFORMED as error:
            name = document.get("id") if isinstance(document, dict) else None
            self.broken.append(f"{str(name or 'one without id')[:100]} ({error!r:.100})")
            return
        self.found.append((Found(begin, item_id, cloud, locate()), acquisition))

    def newest(self, url: str) -> list[Found]:
        """Return each item once, the newest processing of each acquisition, and warn of others."""
        kept, replaced = newest_of_each(self.found_once())
        sentences = []
        if replaced:
            sentences.append(replaced_sentence(replaced, lambda one: one.item_id))
        if self.repaired:
            names = _some(sorted(set(self.repaired)))
            sentences.append(f"footprints that cross themselves or are open were repaired: {names}")
        if kept and self.broken:
            sentences.append(self.broken_sentence().removeprefix("; it "))
        for sentence in sentences:
            warnings.warn(f"{without_secrets(url)}: {sentence}", GeoforestWarning, stacklevel=4)
        return kept

    def found_once(self) -> list[tuple[Found, Acquisition]]:
        """Return the items without repetitions: of two with one id, the newer processing."""
        by_id: dict[str, tuple[Found, Acquisition]] = {}
        for found, acquisition in self.found:
            known = by_id.get(found.item_id)
            if known is None or known[1].is_older(acquisition):
                by_id[found.item_id] = (found, acquisition)
        return list(by_id.values())

    def broken_sentence(self) -> str:
        """Say which items are left out because they are broken; empty without any."""
        names = _some(sorted(set(self.broken)))
        return f"; it holds what is no STAC item, which is left out: {names}" if names else ""


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _where(url: str, question: Question) -> str:
    """Tell where a search found nothing, and whether it would find items with x and y swapped."""
    from geoforest.scenes.stac.catalogue import CatalogueIO

    if question.area is None:
        return ""
    told = f"; the search was in {shown_area(question.area)}"
    swapped = shapely.transform(question.area, lambda points: points[:, ::-1])
    _, south, _, north = swapped.bounds
    if south < -90 or north > 90:
        return told
    other = replace(question, area=swapped)
    try:
        found = any(other.fits(one) for _, one in _item_documents(CatalogueIO(), url, other))
    except (GeoforestError, *_MALFORMED):  # the search itself succeeded, and this is a hint
        return told
    return f"{told}; with x and y swapped, items would fit" if found else told


def shown_area(area: BaseGeometry) -> str:
    """Return the bounds of an area in words.

    Examples
    --------
    >>> shown_area(shapely.box(-63.25, -10, -62, -9))
    'longitude -63.25 to -62, latitude -10 to -9'
    """
    west, south, east, north = (f"{value:.6g}" for value in area.bounds)
    return f"longitude {west} to {east}, latitude {south} to {north}"


_Document = tuple["Callable[[], str]", dict[str, Any]]
"""A function that returns the location of an item, and the item."""


def _item_documents(io: CatalogueIO, url: str, question: Question) -> Iterator[_Document]:
    """Yield the items an API finds, or all of a static catalogue."""
    root = io.read_json(url)
    if root.get("type") not in {"Catalog", "Collection"}:
        raise InputError(f"{url}: is no STAC catalogue, collection or API")
    links = {str(link.get("rel")): str(link.get("href")) for link in _links(root)}
    if "search" in links:
        documents = _search_api(io, url, links["search"], question)
    elif "items" in links:
        raise InputError(f"{url}: is a collection of an API; the root was wanted, and --collection")
    else:
        documents = _walk_catalogue(io, url, root)
    for count, document in enumerate(documents):
        if count == _MOST_ITEMS:
            raise InputError(f"{url}: gives more than {_MOST_ITEMS:,} items; ask for less")
        yield document


def _search_api(io: CatalogueIO, url: str, link: str, question: Question) -> Iterator[_Document]:
    """Search an API, which may ignore some of the conditions."""
    places = _ItemPlaces(io, url)
    target = make_absolute_href(link, url)
    for box in search_boxes(question.area) if question.area is not None else [None]:
        parameters = _parameters(question, box)
        for page in _pages_of_any(io, url, target, parameters):
            for document in page["features"]:
                yield partial(places.of, document), document


def _parameters(question: Question, box: tuple[float, ...] | None) -> Parameters:
    from pystac_client import ItemSearch

    since, until = (f"{time:%Y-%m-%dT%H:%M:%SZ}" if time else ".." for time in question.period)
    query, body = (
        ItemSearch(
            "",
            method=method,
            collections=list(question.collections) or None,
            bbox=box,
            datetime=None if since == until == ".." else f"{since}/{until}",
            limit=_PAGE,
        ).get_parameters()
        for method in ("GET", "POST")
    )
    return Parameters(query, body)


def _pages_of_any(
    io: CatalogueIO, url: str, target: str, parameters: Parameters
) -> Iterator[dict[str, Any]]:
    """Search where the root's link says, or else below the root, where APIs have their search.

    Behind a proxy, the link may name a host or a path that only the proxy knows.
    """
    usual = f"{_root(url)}search"
    failure: InputError | None = None
    for place in [target] if target.startswith(_root(url)) else [usual, target]:
        try:
            refuse_inward(place, url)
            pages = search_pages(io, place, parameters)
            first = next(pages)
        except InputError as error:
            failure = error
            continue
        yield first
        yield from pages
        return
    assert failure is not None
    raise failure


class _ItemPlaces:
    """Where the items of an API can be read again.

    That is where their ``self`` link says; if that is not below the root, as behind a proxy that
    the links do not know, the usual place below the root is tried first.
    """

    def __init__(self, io: CatalogueIO, url: str) -> None:
        self._io, self._url = io, url
        self._is_usual: dict[str, bool] = {}

    def of(self, document: dict[str, Any]) -> str:
        """Return the URL of an item."""
        own = self._own(document)
        usual = _standard_url(self._url, document) if document.get("collection") else None
        if own is None and usual is None:
            raise InputError(f"{self._url}: item {document.get('id')} has no place to read it from")
        if own is None or usual is None:
            place = str(own or usual)
        elif own.startswith(_root(self._url)):
            return own
        else:
            host = urlsplit(own).netloc
            if host not in self._is_usual:
                self._is_usual[host] = self._is_there(usual, str(document["id"]))
            place = usual if self._is_usual[host] else own
        refuse_inward(place, self._url)
        return place

    def _own(self, document: dict[str, Any]) -> str | None:
        """Return the item's ``self`` link; None where it has none that can be read as an item."""
        for link in _links(document):
            if link.get("rel") == "self":
                try:
                    own = urljoin(_root(self._url), str(link.get("href")))
                except ValueError:
                    continue
                if is_http(own) and is_item(own):
                    return own
        return None

    def _is_there(self, place: str, item_id: str) -> bool:
        try:
            return self._io.read_json(place).get("id") == item_id
        except InputError:
            return False


def _root(url: str) -> str:
    return f"{without_secrets(url).rstrip('/')}/"


def _standard_url(url: str, document: dict[str, Any]) -> str:
    """Return the URL of an item by the STAC API standard."""
    collection, item_id = (quote(str(document[name]), safe="") for name in ("collection", "id"))
    return f"{_root(url)}collections/{collection}/items/{item_id}"


def _walk_catalogue(io: CatalogueIO, url: str, root: dict[str, Any]) -> Iterator[_Document]:
    """Yield all items of a static catalogue; each link is followed once, so circles end."""
    waiting, seen = [(url, root, 0)], {url}
    while waiting:
        location, document, depth = waiting.pop()
        if depth > _DEEPEST:
            raise InputError(
                f"{location}: is {depth} catalogues below {url}, which seems to have no end"
            )
        for link in _links(document):
            if link.get("rel") not in {"child", "item"}:
                continue
            place = make_absolute_href(str(link.get("href")), location)
            if place in seen:
                continue
            if is_web(url) and not is_web(place):
                raise InputError(f"{location}: links to {place[:200]}; a URL was wanted")
            refuse_inward(place, url)
            seen.add(place)
            below = io.read_json(place)
            if below.get("type") == "Feature":
                yield partial(str, place), below
            else:
                waiting.append((place, below, depth + 1))


def _links(document: dict[str, Any]) -> list[dict[str, Any]]:
    links = document.get("links")
    return [link for link in links if isinstance(link, dict)] if isinstance(links, list) else []


def _cloud(document: dict[str, Any]) -> float | None:
    cloud = document["properties"].get("eo:cloud_cover")
    return None if cloud is None else float(cloud)


def _period(text: str | None) -> tuple[datetime | None, datetime | None]:
    if text is None:
        return None, None
    from pystac_client import ItemSearch

    try:
        period = ItemSearch("", datetime=text).get_parameters()["datetime"].split("/")
        since, until = (
            None if time == ".." else datetime.fromisoformat(time)
            for time in (period[0], period[-1])
        )
    except Exception as error:  # pystac-client raises plain Exception
        raise InputError(
            f"--datetime {text}: a day, a month, a year or a time was wanted, or two of them such "
            "as 2023-06-01/2023-08"
        ) from error
    return since, until


def _polygons(aoi: str | Path) -> BaseGeometry:
    try:
        outline = read_outline(aoi)
        for note in outline.notes:
            warnings.warn(note, GeoforestWarning, stacklevel=4)
        polygons = outline.polygons.to_crs(_WORLD).to_numpy()
        crossing = outline.polygons.crs.is_geographic and any(map(crosses_antimeridian, polygons))
        area = shapely.union_all([on_globe(one) for one in mended(polygons_in(polygons))])
    except (shapely.errors.ShapelyError, ValueError) as error:
        raise InputError(f"{aoi}: holds invalid geometries ({error})") from error
    if crossing:
        warnings.warn(
            f"{aoi}: an edge longer than 180 degrees, or a longitude beyond 180, is taken to cross "
            "the antimeridian",
            GeoforestWarning,
            stacklevel=4,
        )
    return area


def _box(bbox: Sequence[float]) -> BaseGeometry:
    shown = ",".join(f"{value:g}" for value in bbox)
    if len(bbox) != 4 or not all(map(math.isfinite, bbox)):
        raise InputError(f"--bbox {shown}: west,south,east,north in degrees was wanted")
    west, south, east, north = bbox
    if not (-90 <= south < north <= 90 and -180 <= west <= 180 and -180 <= east <= 180):
        raise InputError(f"--bbox {shown}: west,south,east,north in degrees was wanted")
    if west <= east:
        return shapely.box(west, south, east, north)
    return shapely.union(
        shapely.box(west, south, 180, north), shapely.box(-180, south, east, north)
    )
