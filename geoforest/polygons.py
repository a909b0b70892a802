"""Forest patches as exact polygons: traced, cleaned, cut where they are giant. Arrays only.

A patch is a 4-connected set of forest pixels. Patches below the minimum mapping unit are dropped
first; then holes below it are filled, islands included, unless they enclose an unobserved pixel.
A patch with too many vertices is cut along a fixed grid that belongs to the product.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize
from scipy import ndimage

from geoforest.area import PixelTable
from geoforest.errors import InputError
from geoforest.parts import split_giants
from geoforest.tracing import Rings, trace
from geoforest.types import FOREST, NO_OBSERVATION, PROBABILITY_STEPS, Mask, StoredProbability

if TYPE_CHECKING:
    import geopandas

Labels = NDArray[np.int32]

# Work goes by strips, rings and points at a time: whole-scene copies in float64 take gigabytes.
_STRIP_ROWS = 512
_BATCH_RINGS = 20_000
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
    labels, mask_px, dropped_px = _label(mask, mmu_px)
    first = _first_pixels(labels)
    rings = trace(labels, labels > 0)
    rings, filled_px = _fill_holes(labels, rings, mask, mmu_px)
    rings, patch_of = _cut_giants(labels, rings, len(first), max_vertices, transform)
    sums = _sums(labels, len(patch_of), probability, table)
    frame = _frame(rings, patch_of, first, sums, table, transform, crs, attributes or {})
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


def _label(mask: Mask, mmu_px: int) -> tuple[Labels, int, int]:
    """Labels of the patches that reach the minimum mapping unit, 1 and up; 0 elsewhere."""
    labels = np.empty(mask.shape, np.int32)
    n_labels = ndimage.label(mask == FOREST, output=labels)
    pixels = np.zeros(n_labels + 1, np.int64)
    for strip in _strips(labels):
        pixels += np.bincount(labels[strip].ravel(), minlength=n_labels + 1)
    pixels[0] = 0
    dropped = pixels < mmu_px
    dropped[0] = True
    # Numbered anew without gaps: specks by the million would lengthen every table.
    kept = np.where(dropped, 0, np.cumsum(~dropped)).astype(np.int32)
    for strip in _strips(labels):
        labels[strip] = kept[labels[strip]]
    return labels, int(pixels.sum()), int(pixels[dropped].sum())


def _first_pixels(labels: Labels) -> NDArray[np.int64]:
    """First pixel of each label in row-major order, ``row * cols + col``; -1 where absent."""
    first = np.full(int(labels.max()) + 1, -1, np.int64)
    # From the last strip to the first, and backwards within each: the first pixel is set last.
    for strip in reversed(list(_strips(labels))):
        flat = labels[strip].ravel()
        places = np.flatnonzero(flat)[::-1]
        first[flat[places]] = places + strip.start * labels.shape[1]
    return first


def _fill_holes(labels: Labels, rings: Rings, mask: Mask, mmu_px: int) -> tuple[Rings, int]:
    """Fill holes below the minimum mapping unit, in ``labels`` in place and in the rings."""
    areas = np.abs(rings.signed_areas())
    filled = ~rings.is_exterior & (areas < mmu_px)
    for ring in np.flatnonzero(filled).tolist():
        filled[ring] = not _encloses_unobserved(rings, ring, mask)
    if not filled.any():
        return rings, 0
    label_of = rings.labels[rings.polygon_of_ring]
    chosen = np.flatnonzero(filled)
    for start in range(0, len(chosen), _BATCH_RINGS):
        batch = chosen[start : start + _BATCH_RINGS].tolist()
        rasterize(((_as_polygon(rings, ring), label_of[ring]) for ring in batch), out=labels)
    return rings.without(filled), int(areas[filled].sum())


def _encloses_unobserved(rings: Rings, ring: int, mask: Mask) -> bool:
    points = rings.points[rings.ring_ends[ring] : rings.ring_ends[ring + 1]]
    (left, top), (right, bottom) = points.min(axis=0).astype(int), points.max(axis=0).astype(int)
    unobserved = mask[top:bottom, left:right] == NO_OBSERVATION
    if not unobserved.any():
        return False
    shape = _as_polygon(rings, ring, left, top)
    inside = rasterize([shape], out_shape=unobserved.shape, dtype=np.uint8)
    return bool((unobserved & (inside == 1)).any())


def _as_polygon(rings: Rings, ring: int, left: int = 0, top: int = 0) -> dict[str, Any]:
    points = rings.points[rings.ring_ends[ring] : rings.ring_ends[ring + 1]]
    return {"type": "Polygon", "coordinates": [(points - (left, top)).tolist()]}


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
    parts = trace(labels, labels >= n_labels)
    return rings.select(~giant).joined(parts), patch_of


@dataclass(frozen=True, eq=False)
class _Sums:
    """Per label: pixels, first pixel, ground area in m2, sum of stored probability."""

    pixels: NDArray[np.int64]
    first: NDArray[np.int64]
    area: NDArray[np.float64]
    probability: NDArray[np.float64]


def _sums(
    labels: Labels, n_labels: int, probability: StoredProbability | None, table: PixelTable
) -> _Sums:
    pixels = np.zeros(n_labels, np.int64)
    area, stored = np.zeros(n_labels), np.zeros(n_labels)
    for strip in _strips(labels):
        flat = labels[strip].ravel()
        pixels += np.bincount(flat, minlength=n_labels)
        ground = table.area_m2(strip, slice(0, labels.shape[1]))
        area += np.bincount(flat, weights=ground.ravel(), minlength=n_labels)
        if probability is not None:
            stored += np.bincount(flat, weights=probability[strip].ravel(), minlength=n_labels)
    if probability is None:
        stored[:] = np.nan
    first = _first_pixels(labels)
    return _Sums(pixels, np.pad(first, (0, n_labels - len(first))), area, stored)


def _frame(
    rings: Rings,
    patch_of: NDArray[np.int64],
    first: NDArray[np.int64],
    sums: _Sums,
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
        "patch_id": first[patches] if len(labels) else np.zeros(0, np.int64),
        "area_ha": sums.area[labels] / 1e4,
        "patch_area_ha": patch_area[patches] / 1e4,
        "perimeter_m": _perimeters(rings, table),
        "n_pixels": sums.pixels[labels],
        "mean_probability": sums.probability[labels] / sums.pixels[labels] / PROBABILITY_STEPS,
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


def _strips(array: NDArray[Any]) -> Iterator[slice]:
    for row in range(0, array.shape[0], _STRIP_ROWS):
        yield slice(row, min(row + _STRIP_ROWS, array.shape[0]))
