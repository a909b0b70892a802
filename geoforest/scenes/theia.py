"""Sentinel-2 products of level 2A as Theia distributes them, made by MAJA: folders.

Each band is there twice: SRE is surface reflectance, FRE is corrected for slopes, too.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from geoforest.errors import SceneError
from geoforest.scenes.coding import USUAL_SCALE, Coding
from geoforest.scenes.product import Product
from geoforest.scenes.scene import band_name

_FILE: Final = re.compile(
    r"(?P<product>SENTINEL2[A-D]_(?P<time>\d{8}-\d{6})-\d{3}_L2A_T(?P<tile>\d\d[A-Z]{3})_[A-Z]_"
    r"V[\d-]+)_(?P<kind>FRE|SRE)_(?P<band>B\d+A?)\.tif"
)
_METADATA: Final = re.compile(r"SENTINEL2[A-D]_.*_MTD_ALL\.xml")
_MAX_XML_BYTES: Final = 16 << 20
_NODATA: Final = -10_000.0
_QUANTIFICATION: Final = "REFLECTANCE_QUANTIFICATION_VALUE"


def is_theia(location: str) -> bool:
    """Return whether a location is the folder of a product of Theia, by the names of its files."""
    path = Path(location)
    return path.is_dir() and any(_FILE.fullmatch(item.name) for item in path.iterdir())


def read_theia(location: str) -> Product:
    """Find the bands of a product, FRE before SRE; read scale and nodata in its metadata.

    Raises
    ------
    SceneError
        When the folder holds files of several products, or its metadata cannot be used.
    """
    folder = Path(location).absolute()
    names = sorted(item.name for item in folder.iterdir())
    found = [match for match in map(_FILE.fullmatch, names) if match]
    products = sorted({match["product"] for match in found})
    if len(products) > 1:
        raise SceneError(
            f"{location}: holds {len(products)} products, {', '.join(products)[:200]}; one was "
            "wanted"
        )
    kinds = {match["kind"] for match in found}
    kind = "FRE" if "FRE" in kinds else "SRE"
    bands = {
        name: str(folder / match[0])
        for match in found
        if match["kind"] == kind and (name := band_name(match["band"]))
    }
    metadata = [str(folder / name) for name in names if _METADATA.fullmatch(name)]
    coding = _coding(Path(metadata[0])) if metadata else Coding(USUAL_SCALE, 0.0, _NODATA)
    note = (
        f"{location}: of Theia's two kinds of reflectance {kind} is taken, "
        f"{'corrected for slopes' if kind == 'FRE' else 'not corrected for slopes'}; its cloud "
        "mask (MASKS/*_CLM_R1.tif) is not read"
    )
    return Product(
        product_id=folder.resolve().name,
        location=location,
        bands=bands,
        codings=dict.fromkeys(bands, coding),
        acquired=_time(found[0]["time"]),
        processing_level="L2A",
        metadata=tuple(metadata),
        facts={"product_id": products[0], "mgrs_tile": found[0]["tile"]},
        notes=(note,),
    )


def _coding(xml: Path) -> Coding:
    """Return scale and nodata of the metadata, or Theia's usual ones where they state none."""
    try:
        with xml.open("rb") as source:
            root = fromstring(source.read(_MAX_XML_BYTES), forbid_dtd=True)
    except (OSError, ParseError, DefusedXmlException, LookupError, ValueError) as error:
        raise SceneError(f"{xml}: broken or forbidden XML ({error!s:.80})") from error
    quantification = root.findtext(f".//{_QUANTIFICATION}")
    nodata = root.findtext(".//SPECIAL_VALUE[@name='nodata']")
    scale = USUAL_SCALE
    if quantification is not None:
        scale = 1 / _number(xml, _QUANTIFICATION, quantification, least=1e-9)
    marker = _NODATA if nodata is None else _number(xml, "SPECIAL_VALUE nodata", nodata)
    return Coding(scale, 0.0, marker)


def _number(xml: Path, name: str, text: str, least: float = -math.inf) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= least):
        raise SceneError(f"{xml}: its {name} is {text!r:.80}; a number was wanted")
    return value


def _time(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
