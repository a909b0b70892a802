"""Which acquisition a SAFE product is, and the outline of its pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import ParseError

import numpy as np
import shapely
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from geoforest.scenes.acquisition import Acquisition, acquisition_of_name, parse_baseline
from geoforest.scenes.footprint import on_globe
from geoforest.scenes.safe.product import product_metadata

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry


def safe_acquisition(location: str) -> Acquisition | None:
    """Read the acquisition of a product from its metadata; None where they do not tell it.

    Raises
    ------
    SceneError
        When the metadata cannot be used.
    """
    found = product_metadata(location)
    if found is None:
        return None
    name, xml, metadata = found
    baseline, footprint = parse_baseline(metadata.processing_baseline), _footprint(xml)
    named = acquisition_of_name(name) or acquisition_of_name(metadata.product_id or "")
    if named is not None:
        return replace(named, baseline=baseline or named.baseline, footprint=footprint)
    if metadata.acquired is None or len(metadata.tiles) != 1:
        return None
    (tile,) = metadata.tiles
    mission = (metadata.product_id or name)[:3].upper()
    return Acquisition(
        mission, metadata.level, tile, metadata.acquired, baseline, footprint=footprint
    )


def _footprint(xml: bytes) -> BaseGeometry | None:
    """Return the outline of the pixels, from pairs of latitude and longitude."""
    try:
        root: Any = fromstring(xml, forbid_dtd=True)
        texts = [one.text for one in root.iter() if str(one.tag).endswith("EXT_POS_LIST")]
        numbers = np.array((texts[0] or "").split(), float)
        outline = shapely.Polygon(numbers.reshape(-1, 2)[:, ::-1])
        return on_globe(outline) if np.isfinite(numbers).all() else None
    except (ParseError, DefusedXmlException, LookupError, ValueError):
        return None
    except shapely.errors.ShapelyError:
        return None
