"""Which acquisition a STAC item is, by the names of several catalogues."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import shapely

from geoforest.scenes.acquisition import Acquisition, acquisition_of_name, parse_baseline
from geoforest.scenes.footprint import read_footprint

_MISSION: Final = re.compile(r"(?:^|[^A-Z0-9])S(?:ENTINEL)?-?2([A-Z])(?=$|[^A-Z0-9])")
_TILE: Final = re.compile(r"(?:^|[^A-Z0-9])T?(\d{1,2}[A-Z]{3})(?=$|[^A-Z0-9])")
_LEVEL: Final = re.compile(r"(?:^|[^A-Z0-9]|MSI|LEVEL-?)L?(1C|2A)(?=$|[^A-Z0-9])")
_BROKEN: Final = (
    *(ArithmeticError, AttributeError, LookupError, TypeError, ValueError),
    shapely.errors.ShapelyError,
)


def item_tile(properties: dict[str, Any]) -> str:
    """Return the MGRS tile that an item states, such as ``20LMR``; empty without one."""
    parts = [
        properties.get(f"mgrs:{name}") or properties.get(f"sentinel:{name}")
        for name in ("utm_zone", "latitude_band", "grid_square")
    ]
    stated = properties.get("s2:mgrs_tile") or properties.get("grid:code")
    return str(stated or "".join(map(str, filter(None, parts)))).removeprefix("MGRS-")


def item_baseline(properties: dict[str, Any]) -> Any:
    """Return the processing baseline that an item states, of any type; or None."""
    return (
        properties.get("s2:processing_baseline")
        or properties.get("sentinel:processing_baseline")
        or properties.get("processing:version")
    )


def item_level(properties: dict[str, Any], collection: Any, item_id: Any) -> str | None:
    """Return the processing level of an item, ``L1C`` or ``L2A``, or None."""
    texts = [properties.get(name) for name in ("s2:product_type", "processing:level")]
    for text in (*texts, collection, item_id):
        if isinstance(text, str) and (found := _LEVEL.search(text.upper())):
            return f"L{found.group(1)}"
    return None


def item_times(document: dict[str, Any]) -> tuple[datetime, datetime]:
    """Return the start and end of an item's acquisition, UTC when no time zone is stated."""
    get = document["properties"].get
    texts = (get("datetime") or get("start_datetime"), get("datetime") or get("end_datetime"))
    begin, end = map(datetime.fromisoformat, texts)
    return begin.replace(tzinfo=begin.tzinfo or UTC), end.replace(tzinfo=end.tzinfo or UTC)


def item_acquisition(document: dict[str, Any]) -> Acquisition:
    """Describe the acquisition of a valid item.

    Raises
    ------
    ArithmeticError, AttributeError, LookupError, TypeError, ValueError
        When the item is not valid.
    """
    properties, item_id = document["properties"], str(document["id"])
    product = str(properties.get("s2:product_uri") or "")
    named = acquisition_of_name(product) or acquisition_of_name(item_id)
    platform = f"{properties.get('platform', '')} {item_id}".upper()
    mission, tile = _MISSION.search(platform), item_tile(properties)
    found = named or Acquisition(
        mission=f"S2{mission[1]}" if mission else "",
        level=item_level(properties, document.get("collection"), item_id) or "",
        tile=tile.zfill(5) if tile else _tile_of(item_id),
        time=item_times(document)[0].astimezone(UTC),
    )
    processed = properties.get("s2:generation_time") or properties.get("processing:datetime")
    return replace(
        found,
        baseline=parse_baseline(item_baseline(properties)) or found.baseline,
        processed=re.sub(r"[^0-9T]", "", str(processed))[:15] if processed else found.processed,
        footprint=_footprint(document),
    )


def _tile_of(item_id: str) -> str:
    found = _TILE.search(item_id.upper().replace("_", " "))
    return found[1].zfill(5) if found else ""


def _footprint(document: dict[str, Any]) -> Any:
    try:
        return read_footprint(document["geometry"])[0]
    except _BROKEN:
        return None
