"""What staging a map has made of its stored probability."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from geoforest.types import FOREST, NO_OBSERVATION, OTHER, Mask

if TYPE_CHECKING:
    from pathlib import Path

    from geoforest.arrays.area import PixelTable
    from geoforest.arrays.grid import Window
    from geoforest.arrays.polygons.polygons import PolygonCounts
    from geoforest.arrays.seams import Seams
    from geoforest.maps.units.areas import UnitAreas
    from geoforest.pipeline.products.halo_test import HaloTest
    from geoforest.report.layers import Layer

_CODES = (OTHER, FOREST, NO_OBSERVATION)


@dataclass
class MaskTotals:
    """Pixels and hectares of each mask code."""

    pixels: dict[int, int] = field(default_factory=lambda: dict.fromkeys(_CODES, 0))
    hectares: dict[int, float] = field(default_factory=lambda: dict.fromkeys(_CODES, 0.0))

    def add(self, mask: Mask, table: PixelTable, window: Window) -> None:
        """Count a piece of the mask in, with the ground area of its pixels."""
        sums = table.sums(mask, NO_OBSERVATION + 1, at=(window.row_off, window.col_off))
        for code in _CODES:
            self.pixels[code] += int(sums.pixels[code])
            self.hectares[code] += float(sums.area[code]) / 1e4


@dataclass(frozen=True)
class MapProducts:
    """What staging has made of the stored probability.

    Attributes
    ----------
    threshold
        The one that was applied.
    totals
        Of the mask.
    polygons
        Their accounting; None when none were asked for.
    probability
        The stored-probability raster, staged or finished earlier.
    mask
        The mask raster, staged.
    seams
        Whether the lattice of cores shows.
    patch_sizes
        Patches by size; None when no polygons were asked for.
    halo_test
        None when none was asked for.
    layers
        Pictures for the report; None when none was asked for.
    units
        Forest in units; None when none were asked for.
    """

    threshold: float
    totals: MaskTotals
    polygons: PolygonCounts | None
    probability: Path
    mask: Path
    seams: Seams
    patch_sizes: list[dict[str, Any]] | None = None
    halo_test: HaloTest | None = None
    layers: list[Layer] | None = None
    units: UnitAreas | None = None
