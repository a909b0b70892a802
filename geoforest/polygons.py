"""Forest patches as exact polygons: traced, cleaned, cut where they are giant. Arrays only.

A patch is a 4-connected set of forest pixels. Patches below the minimum mapping unit are dropped
first; then holes below it are filled, islands included, unless they enclose an unobserved pixel.
A patch with too many vertices is cut along a fixed grid that belongs to the product.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize
from scipy import ndimage

from geoforest.area import PixelTable, minimum_mapping_unit_px
from geoforest.tracing import Rings, trace
from geoforest.types import FOREST, NO_OBSERVATION, PROBABILITY_STEPS, Mask, StoredProbability

if TYPE_CHECKING:
    import geopandas

Labels = NDArray[np.int32]

# Cut lines of the product grid are this many pixels apart.
CUT_PX: Final = 1024
_STRIP_ROWS = 512


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
    """
    table = PixelTable.build(transform, crs, mask.shape)
    mmu_px = minimum_mapping_unit_px(min_area_ha, table.pixel_area_m2())
    labels, mask_px, dropped_px = _label(mask, mmu_px)
    first = _first_pixels(labels)
    rings = trace(labels, labels > 0)
    rings, filled_px = _fill_holes(labels, rings, mask, mmu_px)
    patch_of = np.arange(len(first))
    if max_vertices:
        rings, patch_of = _cut_giants(labels, rings, max_vertices, transform)
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


def _label(mask: Mask, mmu_px: int) -> tuple[Labels, int, int]:
    """Labels of the patches that reach the minimum mapping unit; 0 elsewhere."""
    labels = np.empty(mask.shape, np.int32)
    n_labels = ndimage.label(mask == FOREST, output=labels)
    pixels = np.zeros(n_labels + 1, np.int64)
    for strip in _strips(labels):
        pixels += np.bincount(labels[strip].ravel(), minlength=n_labels + 1)
    pixels[0] = 0
    dropped = pixels < mmu_px
    kept = np.where(dropped, 0, np.arange(n_labels + 1)).astype(np.int32)
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
    rasterize(
        (
            ({"type": "Polygon", "coordinates": [_ring(rings, ring).tolist()]}, label_of[ring])
            for ring in np.flatnonzero(filled).tolist()
        ),
        out=labels,
    )
    return rings.without(filled), int(areas[filled].sum())


def _encloses_unobserved(rings: Rings, ring: int, mask: Mask) -> bool:
    points = _ring(rings, ring)
    (left, top), (right, bottom) = points.min(axis=0).astype(int), points.max(axis=0).astype(int)
    unobserved = mask[top:bottom, left:right] == NO_OBSERVATION
    if not unobserved.any():
        return False
    shape = {"type": "Polygon", "coordinates": [(points - (left, top)).tolist()]}
    inside = rasterize([shape], out_shape=unobserved.shape, dtype=np.uint8)
    return bool((unobserved & (inside == 1)).any())


def _ring(rings: Rings, ring: int) -> NDArray[np.float64]:
    return rings.points[rings.ring_ends[ring] : rings.ring_ends[ring + 1]]


def _cut_giants(
    labels: Labels, rings: Rings, max_vertices: int, transform: Affine
) -> tuple[Rings, NDArray[np.int64]]:
    """Give each part of a giant patch a label of its own, in place, and trace the parts.

    Returns
    -------
    rings
        Giants replaced by their parts.
    patch_of
        Label of the patch that each label belongs to.
    """
    n_labels = int(labels.max()) + 1
    giant = rings.vertices() > max_vertices
    if not giant.any():
        return rings, np.arange(n_labels)
    is_giant = np.zeros(n_labels, np.bool_)
    is_giant[rings.labels[giant]] = True
    patch_of = [np.arange(n_labels)]
    next_label = n_labels
    for cell in _cut_cells(labels.shape, transform):
        within = labels[cell]
        for patch in np.unique(within):
            # Labels given here are above those of patches, so a part is never cut again.
            if patch < n_labels and is_giant[patch]:
                parts, n_parts = ndimage.label(within == patch)
                within[parts > 0] = parts[parts > 0] + (next_label - 1)
                patch_of.append(np.full(n_parts, patch))
                next_label += n_parts
    parts_rings = trace(labels, labels >= n_labels)
    return rings.select(~giant).joined(parts_rings), np.concatenate(patch_of)


def _cut_cells(shape: tuple[int, int], transform: Affine) -> Iterator[tuple[slice, slice]]:
    """Cells of the product grid.

    Its lines lie on the first pixel edge at or after each multiple of 1024 pixel sizes in CRS
    coordinates, wherever the scene begins.
    """
    rows, cols = shape
    # An edge that floating point puts a hair past a multiple is at it.
    hair = 1e-6
    left = transform.c / transform.a
    k = np.arange(np.floor(left / CUT_PX), np.ceil((left + cols) / CUT_PX) + 1)
    col_edges = np.ceil(k * CUT_PX - left - hair)
    top = transform.f / -transform.e
    k = np.arange(np.floor((top - rows) / CUT_PX) - 1, np.ceil(top / CUT_PX) + 1)
    row_edges = np.floor(top - k * CUT_PX + hair)
    for row in _intervals(row_edges, rows):
        for col in _intervals(col_edges, cols):
            yield row, col


def _intervals(edges: NDArray[np.float64], size: int) -> list[slice]:
    inner = edges[(edges > 0) & (edges < size)].astype(int)
    bounds = [0, *sorted(set(inner.tolist())), size]
    return [slice(a, b) for a, b in pairwise(bounds)]


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
    lengths = np.append(table.lengths_m(rings.points[:, 1], rings.points[:, 0]), 0.0)
    # From the end of one ring to the start of the next there is no edge.
    lengths[rings.ring_ends[1:] - 1] = 0.0
    starts = rings.ring_ends[rings.polygon_ends[:-1]]
    return np.add.reduceat(lengths, starts)


def _geometries(rings: Rings, transform: Affine) -> NDArray[np.object_]:
    """Polygons in CRS coordinates, exterior counter-clockwise, holes clockwise."""
    # Rows grow downwards: a negative area in pixels is counter-clockwise on the map.
    counter_clockwise = rings.signed_areas() < 0
    points = rings.points.copy()
    for ring in np.flatnonzero(counter_clockwise != rings.is_exterior):
        place = slice(rings.ring_ends[ring], rings.ring_ends[ring + 1])
        points[place] = points[place][::-1]
    x = points[:, 0] * transform.a + transform.c
    y = points[:, 1] * transform.e + transform.f
    if not len(rings.labels):
        return np.zeros(0, np.object_)
    geometries: NDArray[np.object_] = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON,
        np.column_stack([x, y]),
        (rings.ring_ends, rings.polygon_ends),
    )
    return geometries


def _strips(array: NDArray[Any]) -> Iterator[slice]:
    for row in range(0, array.shape[0], _STRIP_ROWS):
        yield slice(row, min(row + _STRIP_ROWS, array.shape[0]))
