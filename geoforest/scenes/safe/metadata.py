"""Parse the XML of a Sentinel-2 product: scale, offset per band, time, orbit, tiles and files."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from geoforest.errors import SceneError

if TYPE_CHECKING:
    from collections.abc import Mapping

# A product of one tile has 55 kB of XML.
MAX_XML_BYTES: Final = 8 << 20
# The bands in the order of their ids, for XML that does not state it.
_BANDS: Final = (
    *("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"),
)
# Names of the same element, today and before October 2018.
_QUANTIFICATION: Final = {
    "L1C": ("QUANTIFICATION_VALUE",),
    "L2A": ("BOA_QUANTIFICATION_VALUE", "L2A_BOA_QUANTIFICATION_VALUE"),
}
_OFFSET: Final = {"L1C": "RADIO_ADD_OFFSET", "L2A": "BOA_ADD_OFFSET"}
_ROOT: Final = re.compile(r"Level-(1C|2A)_User_Product")
_BASELINE: Final = re.compile(r"\d\d\.\d\d")
_PRODUCT_ID: Final = re.compile(r"([A-Za-z0-9_-]{1,100})(?:\.SAFE)?")
_TILE: Final = re.compile(r"_T(\d\d[A-Z]{3})(?=_|$)")


@dataclass(frozen=True)
class ProductMetadata:
    """The content of ``MTD_MSIL2A.xml`` or ``MTD_MSIL1C.xml``.

    Attributes
    ----------
    level
        ``L1C`` or ``L2A``.
    quantification
        Reflectance is ``(dn + add_offset) / quantification``.
    add_offset
        By band; 0 when the XML has no offsets, as before baseline 04.00.
    nodata, saturated
        The special values ``NODATA`` and ``SATURATED``, or None.
    acquired
        Start of the datatake, UTC; also the first time in the product's name.
    product_id, processing_baseline, orbit, cloud_percent
        None when missing or not valid. The orbit is the relative one.
    tiles
        MGRS tiles of the granules, such as ``20LMR``.
    images
        Paths of the images relative to the product's root, without suffix.
    """

    level: str
    quantification: float
    add_offset: Mapping[str, float]
    nodata: float | None
    saturated: float | None
    acquired: datetime | None
    product_id: str | None
    processing_baseline: str | None
    orbit: int | None
    cloud_percent: float | None
    tiles: frozenset[str]
    images: tuple[str, ...]


def parse_product_metadata(xml: bytes, name: str) -> ProductMetadata:
    """Parse the metadata of a product; XML entities and document types are refused.

    Parameters
    ----------
    xml
        The file's content, at most :data:`MAX_XML_BYTES`.
    name
        Path of the file, for messages.

    Raises
    ------
    SceneError
        When the XML is broken, describes something else, or lacks the scale of the numbers.
    """
    try:
        root = fromstring(xml, forbid_dtd=True)
    except (ParseError, DefusedXmlException, LookupError, ValueError) as error:
        raise SceneError(f"{name}: broken or forbidden XML ({error!s:.80})") from error
    kind = _ROOT.fullmatch(_local_name(root))
    if kind is None:
        raise SceneError(
            f"{name}: is {_local_name(root)!r:.80}; the metadata of a Sentinel-2 product of level "
            "1C or 2A was wanted"
        )
    level = f"L{kind[1]}"
    elements: dict[str, list[Any]] = {}
    for element in root.iter():
        elements.setdefault(_local_name(element), []).append(element)

    def text(*tags: str) -> str | None:
        found = (element.text for tag in tags for element in elements.get(tag, ()))
        return next((value.strip() for value in found if value), None)

    baseline, uri = text("PROCESSING_BASELINE"), text("PRODUCT_URI", f"PRODUCT_URI_{level[1:]}")
    orbit, product_id = _number(text("SENSING_ORBIT_NUMBER")), _PRODUCT_ID.fullmatch(uri or "")
    granules = [*elements.get("Granule", ()), *elements.get("Granules", ())]
    tiles = (_TILE.search(granule.get("granuleIdentifier", "")) for granule in granules)
    images = [*elements.get("IMAGE_FILE", ()), *elements.get(f"IMAGE_FILE_{level[1:]}", ())]
    return ProductMetadata(
        level=level,
        quantification=_quantification(name, level, text(*_QUANTIFICATION[level])),
        add_offset=_add_offset(name, elements.get(_OFFSET[level], ()), _band_ids(elements)),
        nodata=_special_value("NODATA", elements.get("Special_Values", ())),
        saturated=_special_value("SATURATED", elements.get("Special_Values", ())),
        acquired=_time(text("DATATAKE_SENSING_START")),
        product_id=product_id[1] if product_id else None,
        processing_baseline=baseline if _BASELINE.fullmatch(baseline or "") else None,
        orbit=int(orbit) if orbit is not None else None,
        cloud_percent=_number(text("Cloud_Coverage_Assessment")),
        tiles=frozenset(tile[1] for tile in tiles if tile),
        images=tuple(element.text.strip() for element in images if element.text),
    )


def _local_name(element: Any) -> str:
    """Return the name of an element without its namespace, which differs between versions."""
    return str(element.tag).rpartition("}")[2]


def _quantification(name: str, level: str, text: str | None) -> float:
    value = _number(text)
    if value is None or value <= 0:
        raise SceneError(
            f"{name}: its {_QUANTIFICATION[level][0]} is {text!r:.80}; a number above 0 was "
            "wanted, without which its pixels have no meaning"
        )
    return value


def _band_ids(elements: Mapping[str, list[Any]]) -> dict[str, str]:
    """Map band ids to band names."""
    stated = {
        element.get("bandId", ""): _band(element.get("physicalBand", ""))
        for element in elements.get("Spectral_Information", ())
    }
    return stated or {str(index): band for index, band in enumerate(_BANDS)}


def _band(physical: str) -> str:
    """Return a physical band's name with two digits: ``B1`` becomes ``B01``."""
    return f"B0{physical[1:]}" if len(physical) == 2 else physical


def _add_offset(name: str, offsets: Any, band_ids: Mapping[str, str]) -> dict[str, float]:
    found = {}
    for element in offsets:
        band, value = band_ids.get(element.get("band_id", "")), _number(element.text)
        if band is None or value is None:
            raise SceneError(
                f"{name}: {_local_name(element)} is {element.text!r:.80} for band id "
                f"{element.get('band_id')!r:.80}; a number for a known band was wanted"
            )
        found[band] = value
    # Either all bands have an offset or none has.
    return found or dict.fromkeys(_BANDS, 0.0)


def _special_value(name: str, special: Any) -> float | None:
    for element in special:
        texts = {_local_name(child): (child.text or "").strip() for child in element}
        if texts.get("SPECIAL_VALUE_TEXT") == name:
            return _number(texts.get("SPECIAL_VALUE_INDEX"))
    return None


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _time(text: str | None) -> datetime | None:
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
