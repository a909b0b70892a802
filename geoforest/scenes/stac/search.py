"""Search a STAC API or a static catalogue for scenes by area, time and cloud cover."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import shapely
from pystac.utils import make_absolute_href
from shapely.geometry import shape

from geoforest.errors import GeoforestWarning, InputError
from geoforest.io.files import is_web, without_secrets
from geoforest.io.polygon_files import mended, polygons_in, read_outline
from geoforest.scenes.stac.item import is_item

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from shapely.geometry.base import BaseGeometry

    from geoforest.scenes.stac.catalogue import CatalogueIO

_MOST_ITEMS: Final = 100_000
_PAGE: Final = 100
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
        begin, end = _times(document)
        since, until = self.period
        cloud = _cloud(document)
        footprint = document["geometry"]
        return (
            (not self.collections or document.get("collection") in self.collections)
            and (since is None or end >= since)
            and (until is None or begin <= until)
            and (self.max_cloud is None or cloud is None or cloud <= self.max_cloud)
            and (
                self.area is None
                or (footprint is not None and self.area.intersects(shape(footprint)))
            )
        )


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
        Their ``location`` is a scene for :func:`geoforest.map_scene`.

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
    found: dict[str, Found] = {}
    try:
        for location, document in _item_documents(CatalogueIO(), url, question):
            if question.fits(document):
                item_id = str(document["id"])
                begin, _ = _times(document)
                one = Found(begin, item_id, _cloud(document), location)
                found.setdefault(item_id, one)
    except InputError:
        raise
    # Malformed items make this module and its libraries raise any of these.
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        shapely.errors.ShapelyError,
    ) as error:
        raise InputError(f"{url}: holds what is no STAC item ({error!r:.200})") from error
    if not found:
        raise InputError(
            f"{url}: no item fits; ask for more with --collection, --bbox or --aoi, --datetime "
            f"and --max-cloud{_where(url, question)}"
        )
    return sorted(found.values(), key=lambda one: (one.acquired, one.item_id))


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
    except Exception:  # noqa: BLE001 - the search itself succeeded, and this is a hint
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


def _item_documents(
    io: CatalogueIO, url: str, question: Question
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield location and document of the items an API finds, or of all in a static catalogue."""
    root = io.read_json(url)
    if root.get("type") not in {"Catalog", "Collection"}:
        raise InputError(f"{url}: is no STAC catalogue, collection or API")
    links = {str(link.get("rel")): str(link.get("href")) for link in _links(root)}
    if "search" in links:
        documents = _search_api(io, url, make_absolute_href(links["search"], url), question)
    elif "items" in links:
        raise InputError(f"{url}: is a collection of an API; the root was wanted, and --collection")
    else:
        documents = _walk_catalogue(io, url, root)
    for count, document in enumerate(documents):
        if count == _MOST_ITEMS:
            raise InputError(f"{url}: gives more than {_MOST_ITEMS:,} items; ask for less")
        yield document


def _search_api(
    io: CatalogueIO, url: str, search_url: str, question: Question
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Search an API, which may ignore some of the conditions."""
    from pystac_client import ItemSearch

    since, until = (f"{time:%Y-%m-%dT%H:%M:%SZ}" if time else ".." for time in question.period)
    answers = ItemSearch(
        search_url,
        # All servers support GET, but not all POST.
        method="GET",
        stac_io=io,
        collections=list(question.collections) or None,
        bbox=question.area.bounds if question.area is not None else None,
        datetime=None if since == until == ".." else f"{since}/{until}",
        limit=_PAGE,
    )
    for document in answers.items_as_dicts():
        own = [str(link.get("href")) for link in _links(document) if link.get("rel") == "self"]
        yield own[0] if own and is_item(own[0]) else _standard_url(url, document), document


def _standard_url(url: str, document: dict[str, Any]) -> str:
    """Return the URL of an item by the STAC API standard."""
    collection, item_id = (quote(str(document[name]), safe="") for name in ("collection", "id"))
    return f"{without_secrets(url).rstrip('/')}/collections/{collection}/items/{item_id}"


def _walk_catalogue(
    io: CatalogueIO, url: str, root: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield all items of a static catalogue; each link is followed once, so circles end."""
    waiting, seen = [(url, root)], {url}
    while waiting:
        location, document = waiting.pop()
        if document.get("type") == "Feature":
            yield location, document
            continue
        for link in _links(document):
            place = make_absolute_href(str(link.get("href")), location)
            if link.get("rel") not in {"child", "item"} or place in seen:
                continue
            if is_web(url) and not is_web(place):
                raise InputError(f"{location}: links to {place[:200]}; a URL was wanted")
            seen.add(place)
            below = io.read_json(place)
            if below.get("type") == "Feature":
                yield place, below
            else:
                waiting.append((place, below))


def _links(document: dict[str, Any]) -> list[dict[str, Any]]:
    links = document.get("links")
    return [link for link in links if isinstance(link, dict)] if isinstance(links, list) else []


def _times(document: dict[str, Any]) -> tuple[datetime, datetime]:
    """Return the start and end of an item's acquisition, UTC when no time zone is stated."""
    get = document["properties"].get
    texts = (get("datetime") or get("start_datetime"), get("datetime") or get("end_datetime"))
    begin, end = map(datetime.fromisoformat, texts)
    return begin.replace(tzinfo=begin.tzinfo or UTC), end.replace(tzinfo=end.tzinfo or UTC)


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
        moved = outline.polygons.to_crs(_WORLD).to_numpy()
        return shapely.union_all(mended(polygons_in(moved)))
    except shapely.errors.ShapelyError as error:
        raise InputError(f"{aoi}: holds invalid geometries ({error})") from error


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
