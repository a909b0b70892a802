"""Forest patches as exact polygons: traced, cleaned, cut where they are giant. Arrays only.

A patch is a 4-connected set of forest pixels. Patches below the minimum mapping unit are dropped
first; then holes below it are filled, islands included, unless they enclose an unobserved pixel.
A patch with too many vertices is cut along a fixed grid that belongs to the product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from scipy import ndimage

from geoforest.area import PixelTable, Sums
from geoforest.errors import InputError
from geoforest.parts import split_giants
from geoforest.tracing import Rings, trace
from geoforest.types import FOREST, NO_OBSERVATION, PROBABILITY_STEPS, Mask, StoredProbability

if TYPE_CHECKING:
    import geopandas

Labels = NDArray[np.int32]

# Lengths are computed so many points at a time: temporary copies of all take gigabytes.
_BATCH_POINTS = 500_000


@dataclass(frozen=True, eq=False)
class Polygons:
    """Polygons and the accounting of their pixels.

    Attributes
    ----------
    frame
        One row a polygon, in canonical order.
    mask_px
        Forest pixels of the mask.
    dropped_px, filled_px
        Removed with patches, and added with holes, below the minimum mapping unit.
    polygon_px
        Pixels inside the polygons, counted; equals ``mask_px - dropped_px + filled_px``.
    patches, parts
        Whole patches, and polygons.
    """

    frame: geopandas.GeoDataFrame
    mask_px: int
    dropped_px: int
    filled_px: int
    polygon_px: int
    patches: int
    parts: int

    def accounting(self) -> dict[str, int]:
        """Give the counts without the frame."""
        return {name: value for name, value in vars(self).items() if name != "frame"}


def vectorize(
    mask: Mask,
    *,
    transform: Affine,
    crs: Any,
    probability: StoredProbability | None = None,
    min_area_ha: float = 0.5,
    max_vertices: int = 100_000,
    attributes: Mapping[str, Any] | None = None,
) -> Polygons:
    """Turn the forest pixels of a mask into polygons.

    Parameters
    ----------
    mask
        uint8 ``(row, col)``: 0 other, 1 forest, 255 no observation.
    transform, crs
        The grid, north-up.
    probability
        Stored probability of the same shape; for the column ``mean_probability``.
    min_area_ha
        Minimum mapping unit for whole patches and for holes; 0 keeps all. It becomes a pixel
        count by the ground area of the pixel at the centre.
    max_vertices
        A patch with more is cut in parts; 0 never cuts.
    attributes
        Constant columns: ``scene_id``, ``acquired``, ``model``, ``threshold``.

    Returns
    -------
    Polygons
        Columns of ``frame``: ``patch_id`` (row * cols + col of the patch's first pixel),
        ``area_ha``, ``patch_area_ha`` and ``perimeter_m`` (true ground), ``n_pixels``,
        ``mean_probability`` (0 to 1, NaN without probability), the attributes, ``geometry``
        (Polygon, exterior counter-clockwise). Ordered by patch_id, then by first pixel.

    Raises
    ------
    InputError
        When the mask is not a filled two-dimensional uint8 array, when the probability has
        another shape or lacks a value where the mask has one, or for a grid that
        :meth:`geoforest.area.PixelTable.build` refuses.
    """
    _check(mask, probability)
    table = PixelTable.build(transform, crs, mask.shape)
    mmu_px = table.minimum_mapping_unit_px(min_area_ha)
    labels, n_labels, mask_px, dropped_px = _label(mask, mmu_px)
    rings = trace(labels)
    rings, filled_px = _fill_holes(labels, rings, mask, mmu_px)
    rings, patch_of = _cut_giants(labels, rings, n_labels, max_vertices, transform)
    sums = table.sums(labels, len(patch_of), stored=probability)
    if probability is None:
        sums.stored[:] = np.nan
    frame = _frame(rings, patch_of, sums, table, transform, crs, attributes or {})
    return Polygons(
        frame=frame,
        mask_px=mask_px,
        dropped_px=dropped_px,
        filled_px=filled_px,
        polygon_px=int(frame["n_pixels"].sum()),
        patches=int(frame["patch_id"].nunique()),
        parts=len(frame),
    )


def _check(mask: Mask, probability: StoredProbability | None) -> None:
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
    # The code 255 counted as a probability would spoil the mean without a sign.
    lacking = (probability > PROBABILITY_STEPS) & (mask != NO_OBSERVATION)
    if lacking.any():
        row, col = (int(place) for place in np.unravel_index(lacking.argmax(), mask.shape))
        raise InputError(
            f"probability: {probability[row, col]} at row {row}, column {col}, where the mask is "
            f"{mask[row, col]}; 0 to {PROBABILITY_STEPS} was wanted wherever the mask is not "
            f"{NO_OBSERVATION}"
        )


def _label(mask: Mask, mmu_px: int) -> tuple[Labels, int, int, int]:
    """Labels of the patches that reach the minimum mapping unit, 1 and up; 0 elsewhere.

    Returns
    -------
    labels
        ``(row, col)``.
    n_labels
        The number of patches, and one.
    mask_px, dropped_px
        Forest pixels of the mask, and of patches below the minimum mapping unit.
    """
    from geoforest.kernels import count_pixels, relabel

    labels = np.empty(mask.shape, np.int32)
    found = ndimage.label(mask == FOREST, output=labels)
    pixels = count_pixels(labels, found + 1)
    pixels[0] = 0
    dropped = pixels < mmu_px
    dropped[0] = True
    # Numbered anew without gaps: specks by the million would lengthen every table.
    kept = np.where(dropped, 0, np.cumsum(~dropped)).astype(np.int32)
    relabel(labels, kept)
    return labels, int(kept.max()) + 1, int(pixels.sum()), int(pixels[dropped].sum())


def _fill_holes(labels: Labels, rings: Rings, mask: Mask, mmu_px: int) -> tuple[Rings, int]:
    """Fill holes below the minimum mapping unit, in ``labels`` in place and in the rings."""
    from geoforest.kernels import fill_rings

    areas = np.abs(rings.signed_areas())
    small = np.flatnonzero(~rings.is_exterior & (areas < mmu_px))
    owner = rings.labels[rings.polygon_of_ring]
    filled = np.zeros(len(areas), np.bool_)
    filled[small] = fill_rings(labels, mask, rings.points, rings.ring_ends, small, owner)
    return rings.without(filled), int(areas[filled].sum())


def _cut_giants(
    labels: Labels, rings: Rings, n_labels: int, max_vertices: int, transform: Affine
) -> tuple[Rings, NDArray[np.int64]]:
    """Cut patches with too many vertices, in ``labels`` in place and in the rings.

    Returns
    -------
    rings
        Giants replaced by their parts.
    patch_of
        Label of the patch that each label belongs to.
    """
    giant = rings.vertices() > max_vertices
    if not max_vertices or not giant.any():
        return rings, np.arange(n_labels)
    is_giant = np.zeros(n_labels, np.bool_)
    is_giant[rings.labels[giant]] = True
    patch_of = split_giants(labels, is_giant, transform)
    parts = trace(labels, n_labels)
    return rings.select(~giant).joined(parts), patch_of


def _frame(
    rings: Rings,
    patch_of: NDArray[np.int64],
    sums: Sums,
    table: PixelTable,
    transform: Affine,
    crs: Any,
    attributes: Mapping[str, Any],
) -> geopandas.GeoDataFrame:
    import geopandas
    import pandas as pd

    labels = rings.labels
    patches = patch_of[labels]
    patch_area = np.bincount(patches, weights=sums.area[labels], minlength=len(patch_of))
    columns: dict[str, Any] = {
        "patch_id": _first_of_patch(patch_of, sums.first)[patches],
        "area_ha": sums.area[labels] / 1e4,
        "patch_area_ha": patch_area[patches] / 1e4,
        "perimeter_m": _perimeters(rings, table),
        "n_pixels": sums.pixels[labels],
        "mean_probability": sums.stored[labels] / sums.pixels[labels] / PROBABILITY_STEPS,
    }
    for name, value in attributes.items():
        if name == "acquired":
            columns[name] = pd.Series([value] * len(labels), dtype="datetime64[ms, UTC]")
        else:
            columns[name] = pd.Series([value] * len(labels), dtype=pd.Series([value]).dtype)
    frame = geopandas.GeoDataFrame(
        pd.DataFrame(columns), geometry=_geometries(rings, transform), crs=crs
    )
    order = np.lexsort((sums.first[labels], columns["patch_id"]))
    return frame.iloc[order].reset_index(drop=True)


def _first_of_patch(patch_of: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int64]:
    """First pixel of each patch: of its first part."""
    found = np.full(len(patch_of), np.iinfo(np.int64).max)
    there = first >= 0
    np.minimum.at(found, patch_of[there], first[there])
    return found


def _perimeters(rings: Rings, table: PixelTable) -> NDArray[np.float64]:
    if not len(rings.labels):
        return np.zeros(0)
    lengths = np.zeros(len(rings.points))
    for start in range(0, len(lengths) - 1, _BATCH_POINTS):
        # The last point of a batch is the first of the next: no edge is lost between them.
        points = rings.points[start : start + _BATCH_POINTS + 1]
        lengths[start : start + len(points) - 1] = table.lengths_m(points[:, 1], points[:, 0])
    # From the end of one ring to the start of the next there is no edge.
    lengths[rings.ring_ends[1:] - 1] = 0.0
    starts = rings.ring_ends[rings.polygon_ends[:-1]]
    return np.add.reduceat(lengths, starts)


def _geometries(rings: Rings, transform: Affine) -> NDArray[np.object_]:
    """Polygons in CRS coordinates, exterior counter-clockwise, holes clockwise."""
    if not len(rings.labels):
        return np.zeros(0, np.object_)
    # Rows grow downwards: a negative area in pixels is counter-clockwise on the map.
    wrong_way = (rings.signed_areas() < 0) != rings.is_exterior
    starts, lengths = rings.ring_ends[:-1], np.diff(rings.ring_ends)
    order = np.arange(len(rings.points))
    turned = np.repeat(wrong_way, lengths)
    # Within a ring from a to b (excluded), the point at i changes places with a + b - 1 - i.
    mirror = np.repeat(2 * starts + lengths - 1, lengths)
    order[turned] = mirror[turned] - order[turned]
    coordinates = rings.points[order] * (transform.a, transform.e) + (transform.c, transform.f)
    geometries: NDArray[np.object_] = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, coordinates, (rings.ring_ends, rings.polygon_ends)
    )
    return geometries
