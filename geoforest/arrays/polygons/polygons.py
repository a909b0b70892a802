"""Forest patches as exact polygons: found, cleaned, cut where they are giant, and outlined.

A patch is a 4-connected set of forest pixels. Patches below the minimum mapping unit are dropped
first; then holes below it are filled, islands included, unless they enclose an unobserved pixel.
A patch with too many vertices is cut along a fixed grid that belongs to the product.

Memory holds some strips of rows of the mask and the outlines that are open there, and about 9 bytes
per column and strip. Other arrays spill to a temporary file (:mod:`geoforest.compute.spill`). Only
simplified polygons are all held in memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from geoforest.arrays.area import PixelTable
from geoforest.arrays.georef import GeoRef
from geoforest.arrays.polygons.patches import FeatureStrip, PatchFinder, Rules
from geoforest.arrays.polygons.tracing import Outlines, Tracer
from geoforest.errors import InputError
from geoforest.types import NO_OBSERVATION, PROBABILITY_STEPS, Mask, StoredProbability

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    import geopandas
    from affine import Affine
    from numpy.typing import NDArray

    from geoforest.arrays.polygons.strips import Ids


@dataclass(frozen=True)
class PolygonCounts:
    """Account of the pixels of a mask and of its polygons.

    Attributes
    ----------
    mask_px
        Forest pixels of the mask.
    dropped_px, filled_px
        Pixels removed with patches, and added with holes, below the minimum mapping unit.
    polygon_px
        Pixels inside the polygons, counted; equals ``mask_px - dropped_px + filled_px``.
    patches, parts
        Number of whole patches, and of polygons.
    """

    mask_px: int
    dropped_px: int
    filled_px: int
    polygon_px: int
    patches: int
    parts: int


@dataclass(frozen=True, eq=False)
class Polygons:
    """Polygons of a mask that fits into memory; see :func:`polygons_of_mask`."""

    frame: geopandas.GeoDataFrame
    counts: PolygonCounts


def check_rules(**rules: float) -> None:
    """Check before the work that rules of polygons are finite and not below 0.

    Raises
    ------
    InputError
        It names the option of the command line: ``--min-area-ha`` for ``min_area_ha``.
    """
    for name, number in rules.items():
        if not (math.isfinite(number) and number >= 0):
            option = name.removesuffix("_px").replace("_", "-")
            raise InputError(f"--{option} {number}: 0 or more was wanted")


class PolygonStream:
    """Polygons of a mask: :meth:`add` its rows from top to bottom, then get :meth:`frames`.

    As a context manager it frees memory and disk.

    Parameters
    ----------
    georef
        Grid of the whole mask. Without a CRS areas are in pixels, and no patch is too small.
    min_area_ha
        Minimum mapping unit for whole patches and for holes; 0 keeps all. It becomes a pixel
        count by the ground area of the pixel at the centre.
    max_vertices
        A patch with more is cut in parts; 0 never cuts.
    corners_touch
        Whether pixels that touch only at a corner belong to one patch (8-connectivity). Such a
        patch is written as polygons of one ``patch_id`` that touch at corners.
    simplify_px
        Simplify outlines: about the side, in pixels, of the details that vanish; 0 keeps the
        edges of pixels. See :func:`simplified`.
    min_px
        Minimum mapping unit in pixels, in place of ``min_area_ha``.
    every_row, every_col
        Rows and columns at which every patch is cut, without row and column 0.
    attributes
        Constant columns: ``scene_id``, ``acquired``, ``model``, ``threshold``.
    folder
        Folder of the temporary file, up to a few bytes per vertex; by default the system's.

    Raises
    ------
    InputError
        For a grid that :meth:`geoforest.arrays.area.PixelTable.build` refuses.
    WriteError
        When there is no room for the temporary file.
    """

    def __init__(
        self,
        georef: GeoRef,
        *,
        min_area_ha: float = 0.5,
        max_vertices: int = 100_000,
        corners_touch: bool = False,
        simplify_px: float = 0,
        min_px: int | None = None,
        every_row: Ids | None = None,
        every_col: Ids | None = None,
        attributes: Mapping[str, Any] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._georef = georef
        self._attributes = attributes or {}
        self._tolerance = simplify_px * math.sqrt(abs(georef.transform.determinant))
        if georef.crs is None:
            self._table, fewest = PixelTable.flat(georef.shape), 0
        else:
            self._table = PixelTable.build(georef)
            fewest = self._table.minimum_mapping_unit_px(min_area_ha)
        none = np.zeros(0, np.int64)
        rules = Rules(
            fewest if min_px is None else min_px,
            max_vertices,
            corners_touch,
            none if every_row is None else every_row,
            none if every_col is None else every_col,
        )
        self._finder = PatchFinder(georef, self._table, rules, folder)
        self.patches_at = self._finder.patches_at
        self.add_elsewhere = self._finder.add_elsewhere
        self._shape = georef.shape
        self._row = self._parts = self._polygon_px = 0
        self._has_probability: bool | None = None
        self._given = False

    def __enter__(self) -> PolygonStream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop, and free memory and disk."""
        self._finder.close()

    def add(self, mask: Mask, probability: StoredProbability | None = None) -> None:
        """Add the next rows, with all columns; the arrays must not be changed afterwards.

        Parameters
        ----------
        mask
            uint8 ``(row, col)``: 0 other, 1 forest, 255 no observation.
        probability
            Stored probability of the same shape, for all rows or for none.

        Raises
        ------
        InputError
            When the mask is not of uint8 and of all columns, or when the probability has another
            shape, or lacks a value where the mask has one.
        """
        _check(mask, probability, self._row)
        if mask.shape[1] != self._shape[1] or self._row + len(mask) > self._shape[0]:
            raise InputError(
                f"mask: {mask.shape[0]} x {mask.shape[1]} px from row {self._row} on; all columns "
                f"of {self._shape[0]} x {self._shape[1]} px were wanted, and no more rows"
            )
        if self._has_probability not in (None, probability is not None):
            raise InputError(
                "probability: was given for some rows only; for all or none was wanted"
            )
        self._has_probability = probability is not None
        self._finder.add(mask, probability)
        self._row += len(mask)

    def frames(self) -> Iterator[geopandas.GeoDataFrame]:
        """Yield the polygons, from north to south, in the order in which they end.

        Yields
        ------
        geopandas.GeoDataFrame
            Columns: ``patch_id`` (row * cols + col of the patch's first pixel), ``area_ha``,
            ``patch_area_ha`` and ``perimeter_m`` (true ground; without a CRS ``area_px``,
            ``patch_area_px`` and ``perimeter_px``), ``n_pixels``, ``mean_probability`` (0 to 1,
            NaN without probability), the attributes, ``geometry`` (Polygon, exterior
            counter-clockwise). The first frame comes even without rows. Numbers are those of the
            pixels, even when outlines are simplified.
        """
        if self._row != self._shape[0] or self._given:
            raise InputError(
                f"mask: {self._row} of {self._shape[0]} rows were given; all of them were wanted, "
                "and frames taken once"
            )
        self._given = True
        if self._tolerance:
            yield simplified(together(self._exact_frames()), self._tolerance)
        else:
            yield from self._exact_frames()

    def _exact_frames(self) -> Iterator[geopandas.GeoDataFrame]:
        tracer = Tracer(*self._finder.shape)
        is_first = True
        for strip in self._finder.features():
            outlines = tracer.trace(strip)
            if len(outlines.feature) or is_first:
                self._parts += len(outlines.feature)
                self._polygon_px += int(strip.pixels[outlines.feature].sum())
                yield self._frame(strip, outlines)
            is_first = False

    def counts(self) -> PolygonCounts:
        """Return the account, after all frames."""
        counted = self._finder.counts
        return PolygonCounts(
            mask_px=counted.mask_px,
            dropped_px=counted.dropped_px,
            filled_px=counted.filled_px,
            polygon_px=self._polygon_px,
            patches=counted.patches,
            parts=self._parts,
        )

    def _frame(self, strip: FeatureStrip, outlines: Outlines) -> geopandas.GeoDataFrame:
        import geopandas
        import pandas as pd

        chosen = outlines.feature
        perimeter = self._table.perimeters(
            outlines.points, outlines.ring_ends, outlines.polygon_ends
        )
        unit, length, scale = "ha", "m", self._table.area_unit_m2 / 1e4
        if self._georef.crs is None:
            unit, length, scale = "px", "px", self._table.area_unit_m2
        pixels = strip.pixels[chosen]
        mean = strip.total[chosen] / pixels / PROBABILITY_STEPS
        columns: dict[str, Any] = {
            "patch_id": strip.patch[chosen],
            f"area_{unit}": strip.area[chosen] * scale,
            f"patch_area_{unit}": strip.patch_area[chosen] * scale,
            f"perimeter_{length}": perimeter,
            "n_pixels": pixels,
            "mean_probability": mean if self._has_probability else np.full(len(chosen), np.nan),
        }
        for name, value in self._attributes.items():
            kind = "datetime64[ms, UTC]" if name == "acquired" else pd.Series([value]).dtype
            columns[name] = pd.Series([value] * len(chosen), dtype=kind)
        geometry = _geometries(outlines, self._georef.transform)
        return geopandas.GeoDataFrame(
            pd.DataFrame(columns), geometry=geometry, crs=self._georef.crs
        )


def polygons_of_mask(
    mask: Mask,
    *,
    transform: Affine,
    crs: Any,
    probability: StoredProbability | None = None,
    **rules: Any,
) -> Polygons:
    """Convert the forest pixels of a mask to polygons, all in memory.

    Parameters
    ----------
    mask, probability
        See :meth:`PolygonStream.add`.
    transform, crs, **rules
        See :class:`PolygonStream`.

    Returns
    -------
    Polygons
        One frame with the columns of :meth:`PolygonStream.frames`, and the account.

    Raises
    ------
    InputError
        When the mask is not a filled two-dimensional uint8 array, when the probability has
        another shape or lacks a value where the mask has one, or for a grid that
        :meth:`geoforest.arrays.area.PixelTable.build` refuses.
    """
    _check(mask, probability, 0)
    georef = GeoRef((mask.shape[0], mask.shape[1]), transform, crs)
    with PolygonStream(georef, **rules) as stream:
        stream.add(mask, probability)
        frame = together(stream.frames())
        return Polygons(frame, stream.counts())


def simplified(frame: geopandas.GeoDataFrame, tolerance: float) -> geopandas.GeoDataFrame:
    """Simplify the outlines of all polygons at once, so that shared edges stay shared.

    Points are removed that form the smallest triangles with their neighbours (Visvalingam and
    Whyatt 1993, doi 10.1179/000870493786962263, by GEOS). Parts of a patch keep their common
    straight border; valid polygons stay valid, do not overlap, and keep their number of holes.

    Parameters
    ----------
    frame
        Polygons that do not overlap, each with the points of those it touches.
    tolerance
        Square root of the largest triangle that is removed, in units of the frame's CRS.

    Returns
    -------
    geopandas.GeoDataFrame
        The same rows, with simplified geometries.
    """
    if frame.empty:
        return frame
    geometries = shapely.coverage_simplify(frame.geometry.to_numpy(), tolerance)
    return frame.set_geometry(shapely.orient_polygons(geometries), crs=frame.crs)


def together(frames: Iterable[geopandas.GeoDataFrame]) -> geopandas.GeoDataFrame:
    """Concatenate the frames of a stream."""
    import pandas as pd

    return pd.concat(list(frames), ignore_index=True)


def _check(mask: Mask, probability: StoredProbability | None, first_row: int) -> None:
    if mask.ndim != 2 or mask.dtype != np.uint8 or not mask.size:
        raise InputError(
            f"mask: shape {mask.shape} of {mask.dtype}; a filled (row, col) of uint8 was wanted"
        )
    if probability is None:
        return
    if probability.shape != mask.shape or probability.dtype != np.uint8:
        raise InputError(
            f"probability: shape {probability.shape} of {probability.dtype}; {mask.shape} of "
            "uint8, as the mask, was wanted"
        )
    # The code 255 would silently enter the mean as a probability.
    lacking = (probability > PROBABILITY_STEPS) & (mask != NO_OBSERVATION)
    if lacking.any():
        row, col = (int(place) for place in np.unravel_index(lacking.argmax(), mask.shape))
        raise InputError(
            f"probability: {probability[row, col]} at row {first_row + row}, column {col}, where "
            f"the mask is {mask[row, col]}; 0 to {PROBABILITY_STEPS} was wanted wherever the mask "
            f"is not {NO_OBSERVATION}"
        )


def _geometries(outlines: Outlines, transform: Affine) -> NDArray[np.object_]:
    """Convert outlines to polygons in CRS coordinates."""
    if not len(outlines.feature):
        return np.zeros(0, np.object_)
    coordinates = outlines.points * (transform.a, transform.e) + (transform.c, transform.f)
    geometries: NDArray[np.object_] = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, coordinates, (outlines.ring_ends, outlines.polygon_ends)
    )
    return geometries
