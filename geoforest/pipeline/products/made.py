"""Products of a map in the staging folder, and their totals."""

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
    from geoforest.pipeline.products.insets import Inset
    from geoforest.report.layers import Layer

_CODES = (OTHER, FOREST, NO_OBSERVATION)


@dataclass
class MaskTotals:
    """Pixels and hectares of each mask code."""

    pixels: dict[int, int] = field(default_factory=lambda: dict.fromkeys(_CODES, 0))
    hectares: dict[int, float] = field(default_factory=lambda: dict.fromkeys(_CODES, 0.0))

    def add(self, mask: Mask, table: PixelTable, window: Window) -> None:
        """Add a piece of the mask, with the ground area of its pixels."""
        sums = table.sums(mask, NO_OBSERVATION + 1, at=(window.row_off, window.col_off))
        for code in _CODES:
            self.pixels[code] += int(sums.pixels[code])
            self.hectares[code] += float(sums.area[code]) / 1e4


@dataclass(frozen=True)
class MapProducts:
    """Products of a map in the staging folder, and their totals.

    Attributes
    ----------
    threshold
        Threshold that was applied, 0 to 1.
    totals
        Pixels and hectares of the mask.
    polygons
        Accounting of pixels and polygons; None without polygons.
    probability
        Stored-probability raster, staged or of an earlier run.
    mask
        Staged mask raster.
    seams
        Whether the lattice of cores is visible.
    patch_sizes
        Patches by size; None without polygons.
    halo_test
        Result of the halo test; None without one.
    layers
        Pictures for the page; None without a page.
    units
        Hectares by unit; None without units.
    insets
        Pictures of the least certain places; None without a page.
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
    insets: list[Inset] | None = None
