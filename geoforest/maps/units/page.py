"""Forest by unit on a page: a table of the units with most of it, and a map of all."""

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
# A page with all its other pictures is to stay below 5 MB.
_MOST_BYTES = 150_000
# Names can be read on a phone.
_INCHES = 5.5


@dataclass(frozen=True)
class UnitTable:
    """What a page tells of units.

    Attributes
    ----------
    file, by
        Name of their file, and the field that names them.
    rows
        Those with most forest, the first with most; see
        :class:`geoforest.maps.units.areas.UnitAreas`.
    others, others_ha
        How many more there are, and the forest in them.
    picture
        A PNG file; None where it would be too large.
    """

    file: str
    by: str
    rows: Sequence[Mapping[str, Any]]
    others: int
    others_ha: float
    picture: bytes | None


def unit_table(units: Units, areas: UnitAreas) -> UnitTable | None:
    """Put together what a page tells of units; None where the map touches none."""
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
    # Few colours are in it, and a palette of them takes a third of the space.
    image = (
        Image.open(io.BytesIO(choropleth(areas.frame, inches=_INCHES))).convert("RGB").quantize(64)
    )
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue() if stream.tell() <= _MOST_BYTES else None
