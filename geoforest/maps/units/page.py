"""Prepare forest by unit for a page: the units with most forest, and a map of all."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from PIL import Image

from geoforest.maps.units.choropleth import choropleth

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from geoforest.maps.units.areas import UnitAreas
    from geoforest.maps.units.read import Units

SHOWN: Final = 50
# A page with all its pictures must stay below 5 MB.
_MOST_BYTES = 150_000
# Narrow, so that names are legible on a phone.
_INCHES = 5.5


@dataclass(frozen=True)
class UnitTable:
    """Table and map of units for a page.

    Attributes
    ----------
    file, by
        Name of the units' file, and the field that names them.
    rows
        Units with most forest, in descending order; columns of
        :class:`geoforest.maps.units.areas.UnitAreas`.
    others, others_ha
        Number of units not in ``rows``, and hectares of forest in them.
    picture
        Map of the units as a PNG file; None when it would be too large.
    """

    file: str
    by: str
    rows: Sequence[Mapping[str, Any]]
    others: int
    others_ha: float
    picture: bytes | None


def unit_table(units: Units, areas: UnitAreas) -> UnitTable | None:
    """Build the table and map of units for a page; return None when the map touches none."""
    rows = sorted(areas.rows(), key=lambda row: (-row["forest_ha"], row["unit"]))
    if not rows:
        return None
    return UnitTable(
        file=units.path.name,
        by=units.by,
        rows=rows[:SHOWN],
        others=len(rows[SHOWN:]),
        others_ha=sum(row["forest_ha"] for row in rows[SHOWN:]),
        picture=_picture(areas),
    )


def _picture(areas: UnitAreas) -> bytes | None:
    # The picture has few colours, and a palette takes a third of the space.
    image = (
        Image.open(io.BytesIO(choropleth(areas.frame, inches=_INCHES))).convert("RGB").quantize(64)
    )
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue() if stream.tell() <= _MOST_BYTES else None
