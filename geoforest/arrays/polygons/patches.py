"""From a mask to features: patches are found, cleaned, and cut where they are giant.

The mask is processed in strips of rows, several at a time. Each step keeps in memory what a strip
shares with others, and writes the rest to a temporary file (:mod:`geoforest.compute.spill`):

1. patches: connected forest pixels, with their number of pixels;
2. holes: connected pixels outside of kept patches, and the patches around them;
3. giants: vertices of patches after cleaning;
4. features: whole patches, and parts of giants within a cell of the product grid.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from geoforest.arrays.polygons.product_grid import cut_cols, cut_rows
from geoforest.arrays.polygons.strips import (
    Border,
    Components,
    Ids,
    Strip,
    join_borders,
    look_up,
    sum_by_id,
    with_totals,
)
from geoforest.compute.machine import usable_cores
from geoforest.compute.spill import Spill, Ticket
from geoforest.compute.threads import in_order
from geoforest.types import FOREST, NO_OBSERVATION, Array, Mask, StoredProbability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from geoforest.arrays.area import PixelTable
    from geoforest.arrays.georef import GeoRef

# Some hundred megabytes per thread where runs are short; large enough to hide fixed costs.
_STRIP_PX = 4_000_000
_RUNS = ("row_ends", "start", "code", "total")


@dataclass(frozen=True, eq=False)
class Rules:
    """Rules of which patches are kept and where they are cut.

    Attributes
    ----------
    min_px
        Minimum mapping unit of patches and of holes, in pixels; 0 keeps all.
    max_vertices
        A patch with more is cut in parts; 0 never cuts.
    corners_touch
        Whether pixels that touch only at a corner belong to one patch (8-connectivity).
    every_row, every_col
        Rows and columns at which every patch is cut, without row and column 0; for tiles.
    """

    min_px: int = 0
    max_vertices: int = 0
    corners_touch: bool = False
    every_row: Ids = field(default_factory=lambda: np.zeros(0, np.int64))
    every_col: Ids = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass(frozen=True, eq=False)
class FeatureStrip:
    """Runs of a strip with the feature of each.

    Attributes
    ----------
    strip
        Runs, without their codes and totals.
    feature
        ``(n_runs,)``; -1 for runs of no feature.
    pixels, area, total, first, patch, patch_area
        ``(n_features,)``, of whole features, also beyond the strip: pixels, ground area in units
        of :attr:`geoforest.arrays.area.PixelTable.area_unit_m2`, sum of stored probability, first
        pixel, first pixel of the patch, and area of the patch.
    """

    strip: Strip
    feature: Components
    pixels: Ids
    area: Ids
    total: Ids
    first: Ids
    patch: Ids
    patch_area: Ids


@dataclass
class Counts:
    """Numbers of pixels and patches; see ``PolygonCounts``."""

    mask_px: int = 0
    dropped_px: int = 0
    filled_px: int = 0
    patches: int = 0


@dataclass(eq=False)
class _StripState:
    """State of a strip: tickets of its spilled arrays, and its borders after each step."""

    first_row: int
    n_shared: int
    tickets: list[Ticket]
    patches: Border
    holes: Border | None = None
    features: Border | None = None


class PatchFinder:
    """Finder of the features of a mask: :meth:`add` its rows, then get :meth:`features`.

    Parameters
    ----------
    georef
        Grid of the whole mask.
    table
        Ground area of its pixels.
    rules
        Which patches are kept and where they are cut.
    folder
        Folder of the temporary file; by default the system's.

    Attributes
    ----------
    counts
        Complete when :meth:`features` begins to yield.
    """

    def __init__(
        self,
        georef: GeoRef,
        table: PixelTable,
        rules: Rules,
        folder: Path | None = None,
    ) -> None:
        shape, transform = georef.shape, georef.transform
        self.shape, self.rules, self.counts = shape, rules, Counts()
        self._table = table
        self._cut_rows = cut_rows(shape[0], transform)
        self._cut_cols = cut_cols(shape[1], transform)
        self._starts_cell = np.zeros(shape[1], np.bool_)
        self._starts_cell[self._cut_cols] = True
        self._starts_cell[rules.every_col] = True
        self._n_threads = usable_cores()
        self._threads = ThreadPoolExecutor(self._n_threads)
        self._spill = Spill(folder)
        self._lock = threading.Lock()
        self._begun: list[Future[_StripState]] = []
        self._row = 0
        self._last: tuple[Mask, StoredProbability | None] | None = None
        self._strips: list[_StripState] = []
        self._elsewhere = np.zeros(0, np.int64), np.zeros(0, np.int64)

    def close(self) -> None:
        """Stop, and free memory and disk."""
        self._threads.shutdown(cancel_futures=True)
        self._spill.close()

    def add(self, mask: Mask, stored: StoredProbability | None = None) -> None:
        """Add the next rows, with all columns.

        The arrays must not be changed afterwards.

        Parameters
        ----------
        mask
            uint8 ``(row, col)``: 0 other, 1 forest, 255 no observation.
        stored
            Stored probability of the same shape.
        """
        step = max(1, _STRIP_PX // self.shape[1])
        for top in range(0, len(mask), step):
            codes = mask[top : top + step]
            values = None if stored is None else stored[top : top + step]
            # Rows stay in memory until they are encoded: bound how many wait.
            if len(self._begun) >= 2 * self._n_threads:
                self._begun[-2 * self._n_threads].result()
            self._begun.append(
                self._threads.submit(self._find_patches, self._row, codes, values, self._last)
            )
            self._last = codes[-1:], None if values is None else values[-1:]
            self._row += len(codes)

    def patches_at(self, rows: Ids, cols: Ids) -> tuple[Ids, Ids]:
        """Find the patches of some pixels, before cleaning.

        Parameters
        ----------
        rows, cols
            Pixels; those outside the mask have no patch.

        Returns
        -------
        first
            First pixel of each one's patch; -1 without one.
        pixels
            Number of pixels of that patch.
        """
        found = np.full((2, len(rows)), -1, np.int64)
        inside = (cols >= 0) & (cols < self.shape[1])
        for state in self._joined():
            arrays = self._spill.get(*state.tickets)
            state.patches.settle(pixels=arrays["pixels"], first=arrays["first"])
            row_ends, start, patch = arrays["row_ends"], arrays["start"], arrays["patch"]
            row = rows - state.first_row
            here = np.flatnonzero(inside & (row >= state.n_shared) & (row < len(row_ends) - 1))
            if not len(here):
                continue
            row = row[here]
            keys = np.repeat(np.arange(len(row_ends) - 1), np.diff(row_ends)) * self.shape[1]
            run = np.searchsorted(keys + start, row * self.shape[1] + cols[here], "right") - 1
            for values, name in zip(found, ("first", "pixels"), strict=True):
                values[here] = look_up(arrays[name], patch[run], -1)
        return found[0], found[1]

    def add_elsewhere(self, first: Ids, pixels: Ids) -> None:
        """Set the pixels that patches have beyond this mask, for the minimum mapping unit.

        Parameters
        ----------
        first
            First pixels of patches, sorted, each once.
        pixels
            Number of further pixels of each.
        """
        self._elsewhere = first, pixels

    def _joined(self) -> list[_StripState]:
        """Join patches across strips, once."""
        assert self._row == self.shape[0], "rows are missing"
        if self._begun:
            self._strips = [begun.result() for begun in self._begun]
            self._begun.clear()
            self._last = None
            join_borders(
                [state.patches for state in self._strips], {"pixels": np.add, "first": np.minimum}
            )
        return self._strips

    def features(self) -> Iterator[FeatureStrip]:
        """Clean the patches, and yield the features of each strip, from top to bottom.

        Raises
        ------
        WriteError
            When the disk is full.
        """
        strips = self._joined()
        self._run_in_threads(self._find_holes, strips)
        if self.rules.min_px > 1:
            join_borders(
                [state.holes for state in strips if state.holes],
                {
                    "pixels": np.add,
                    "never": np.maximum,
                    "lowest": np.minimum,
                    "highest": np.maximum,
                },
            )
        giants = self._giants(self._run_in_threads(self._count_vertices, strips))
        shares = self._run_in_threads(lambda state: self._find_features(state, giants), strips)
        join_borders(
            [state.features for state in strips if state.features],
            {"pixels": np.add, "area": np.add, "total": np.add, "first": np.minimum},
        )
        areas = sum_by_id(shares)
        yield from in_order(
            self._threads,
            lambda state: self._settled_features(state, areas),
            strips,
            self._n_threads,
        )

    def _run_in_threads(
        self, step: Callable[[_StripState], Any], strips: list[_StripState]
    ) -> list[Any]:
        return list(in_order(self._threads, step, strips, self._n_threads))

    def _load(self, state: _StripState) -> tuple[Strip, dict[str, Array]]:
        arrays = self._spill.get(*state.tickets)
        runs = [arrays.pop(name) for name in _RUNS]
        return Strip(state.first_row, state.n_shared, self.shape[1], *runs), arrays

    def _find_patches(
        self,
        row: int,
        mask: Mask,
        stored: StoredProbability | None,
        before: tuple[Mask, StoredProbability | None] | None,
    ) -> _StripState:
        if before is not None:
            mask = np.concatenate([before[0], mask])
            stored = None if stored is None else np.concatenate([before[1], stored])
        n_shared = int(before is not None)
        strip = Strip.encode(
            mask,
            stored,
            first_row=row - n_shared,
            n_shared=n_shared,
            starts_cell=self._starts_cell,
        )
        key = np.where(strip.code == FOREST, 0, -1)
        patch, n_patches = strip.components(key, corners_touch=self.rules.corners_touch)
        pixels = strip.sums(strip.pixels, patch, n_patches)
        first = strip.first_pixels(patch, n_patches)
        runs = {name: getattr(strip, name) for name in _RUNS}
        ticket = self._spill.put(**runs, patch=patch, pixels=pixels, first=first)
        border = strip.border(patch, pixels=pixels, first=first)
        return _StripState(strip.first_row, n_shared, [ticket], border)

    def _kept(self, state: _StripState, arrays: dict[str, Array]) -> Ids:
        """Return the first pixel of each component's patch; -1 below the minimum mapping unit."""
        state.patches.settle(pixels=arrays["pixels"], first=arrays["first"])
        pixels = arrays["pixels"]
        firsts, more = self._elsewhere
        if len(firsts):
            place = np.minimum(np.searchsorted(firsts, arrays["first"]), len(firsts) - 1)
            pixels = pixels + np.where(firsts[place] == arrays["first"], more[place], 0)
        return np.where(pixels >= self.rules.min_px, arrays["first"], -1)

    def _find_holes(self, state: _StripState) -> None:
        if self.rules.min_px <= 1:
            return
        strip, arrays = self._load(state)
        from geoforest.arrays.kernels.runs import neighbours_of

        patch = look_up(self._kept(state, arrays), arrays["patch"], -1)
        hole, n_holes = strip.components(np.where(patch < 0, 0, -1))
        outside = (strip.row == 0) | (strip.row == self.shape[0] - 1)
        outside |= (strip.start == 0) | (strip.end == strip.n_cols)
        never = np.zeros(n_holes, np.uint8)
        never[hole[(hole >= 0) & (outside | (strip.code == NO_OBSERVATION))]] = 1
        lowest, highest = neighbours_of(
            strip.row_ends, strip.start, strip.end, hole, n_holes, patch
        )
        found: dict[str, Array] = {
            "pixels": strip.sums(strip.pixels, hole, n_holes),
            "never": never,
            "lowest": lowest,
            "highest": highest,
        }
        state.holes = strip.border(hole, **found)
        renamed = {f"hole_{name}": table for name, table in found.items()}
        state.tickets.append(self._spill.put(hole=hole, **renamed))

    def _cleaned(self, state: _StripState) -> tuple[Strip, Ids, Components, NDArray[np.bool_]]:
        """Return the patches of a strip, and the patch of each run after cleaning.

        Returns
        -------
        strip
            Runs of the strip.
        patches
            First pixel of each patch, sorted.
        place
            ``(n_runs,)``: position in ``patches``; -1 for none.
        filled
            ``(n_runs,)``: whether the run is part of a filled hole.
        """
        strip, arrays = self._load(state)
        patch_of = self._kept(state, arrays)
        hole_in = self._filled(state.holes, arrays) if state.holes else np.zeros(0, np.int64)
        patches = np.unique(np.concatenate([patch_of, hole_in]))
        patches = patches[patches >= 0]
        place = look_up(_position(patches, patch_of), arrays["patch"], -1)
        if not len(hole_in):
            return strip, patches, place, np.zeros(len(place), np.bool_)
        within = look_up(_position(patches, hole_in), arrays["hole"], -1)
        return strip, patches, np.maximum(place, within), within >= 0

    def _filled(self, border: Border, arrays: dict[str, Array]) -> Ids:
        """Return the patch that each hole is filled with, or -1."""
        names = ("pixels", "never", "lowest", "highest")
        pixels, never, lowest, highest = (arrays[f"hole_{name}"] for name in names)
        border.settle(pixels=pixels, never=never, lowest=lowest, highest=highest)
        small = (pixels < self.rules.min_px) & (never == 0)
        # A hole that touches two patches encloses one of them, or lies outside of both.
        return np.where(small & (lowest == highest), lowest, -1)

    def _count_vertices(self, state: _StripState) -> tuple[Ids, Ids] | None:
        if not self.rules.max_vertices:
            return None
        strip, patches, place, _ = self._cleaned(state)
        from geoforest.arrays.kernels.outlines import count_corners

        lines = strip.lines(self.shape[0])
        corners = count_corners(
            strip.row_ends, strip.start, place, strip.n_cols, lines, len(patches)
        )
        # Patches that are small here and end here cannot be giant.
        reported = corners > self.rules.max_vertices
        reported[self._at_borders(strip, place)] = True
        return patches[reported], corners[reported]

    @staticmethod
    def _at_borders(strip: Strip, place: Components) -> Components:
        """Return the positions of patches that other strips may share."""
        border = np.unique(np.concatenate([place[: strip.own.start], place[strip.row_ends[-2] :]]))
        return border[border >= 0]

    def _giants(self, shares: list[tuple[Ids, Ids] | None]) -> Ids:
        """Return the first pixels of the patches that must be cut, sorted."""
        reported = [share for share in shares if share is not None]
        if not reported:
            return np.zeros(0, np.int64)
        patches, vertices = sum_by_id(reported)
        return patches[vertices > self.rules.max_vertices]

    def _find_features(self, state: _StripState, giants: Ids) -> tuple[Ids, Ids]:
        """Find the features of a strip; return the area of patches that other strips may share."""
        strip, patches, place, filled = self._cleaned(state)
        n_cell_cols = len(self._cut_cols) + 1
        cell = np.searchsorted(self._cut_rows, strip.row, "right") * n_cell_cols
        cell += np.searchsorted(self._cut_cols, strip.start, "right")
        n_cells = n_cell_cols * (len(self._cut_rows) + 1)
        key = place.astype(np.int64) * (n_cells + 1)
        is_giant = look_up(np.isin(patches, giants), place, False)
        key[is_giant] += cell[is_giant] + 1
        n_tile_cols = len(self.rules.every_col) + 1
        tile = np.searchsorted(self.rules.every_row, strip.row, "right") * n_tile_cols
        tile += np.searchsorted(self.rules.every_col, strip.start, "right")
        key = np.where(key < 0, -1, key * n_tile_cols * (len(self.rules.every_row) + 1) + tile)
        feature, n_features = strip.components(key)
        area = self._table.run_areas(strip.row_ends, strip.start, strip.end, strip.first_row)
        area[: strip.own.start] = 0
        patch = np.zeros(n_features, np.int64)
        patch[feature[feature >= 0]] = patches[place[place >= 0]]
        found: dict[str, Array] = {
            "pixels": strip.sums(strip.pixels, feature, n_features),
            "area": strip.sums(area, feature, n_features),
            "total": strip.sums(strip.total, feature, n_features),
            "first": strip.first_pixels(feature, n_features),
        }
        state.features = strip.border(feature, **found)
        patch_area = strip.sums(area, place, len(patches))
        runs: dict[str, Array] = {"row_ends": strip.row_ends, "start": strip.start}
        tables: dict[str, Array] = {"patches": patches, "patch_areas": patch_area, "patch": patch}
        state.tickets = [self._spill.put(**runs, feature=feature, **found, **tables)]
        self._count(strip, patches, place, filled)
        border = self._at_borders(strip, place)
        return patches[border], patch_area[border]

    def _count(
        self, strip: Strip, patches: Ids, place: Components, filled: NDArray[np.bool_]
    ) -> None:
        forest = strip.code == FOREST
        pixels, counts = strip.pixels, self.counts
        begin = (strip.first_row + strip.n_shared) * strip.n_cols
        with self._lock:
            counts.mask_px += int(pixels[forest].sum())
            # A dropped patch inside a filled hole is forest again: it counts as both.
            counts.dropped_px += int(pixels[forest & ((place < 0) | filled)].sum())
            counts.filled_px += int(pixels[filled].sum())
            counts.patches += int((patches >= begin).sum())

    def _settled_features(self, state: _StripState, areas: tuple[Ids, Ids]) -> FeatureStrip:
        arrays = self._spill.get(*state.tickets)
        nothing = np.zeros(0, np.uint8), np.zeros(0, np.int64)
        strip = Strip(
            state.first_row,
            state.n_shared,
            self.shape[1],
            arrays["row_ends"],
            arrays["start"],
            *nothing,
        )
        found = {name: arrays[name] for name in ("pixels", "area", "total", "first")}
        assert state.features is not None
        state.features.settle(**found)
        # Components that are connected in other strips are one feature.
        _, chosen, number = np.unique(found["first"], return_index=True, return_inverse=True)
        feature = look_up(number.astype(np.int32), arrays["feature"], -1)
        tables = {name: table[chosen] for name, table in found.items()}
        patch = arrays["patch"][chosen]
        patch_areas = with_totals(areas, arrays["patches"], arrays["patch_areas"])
        patch_area = patch_areas[np.searchsorted(arrays["patches"], patch)]
        return FeatureStrip(strip, feature, **tables, patch=patch, patch_area=patch_area)


def _position(patches: Ids, of: Ids) -> Components:
    return np.where(of >= 0, np.searchsorted(patches, of), -1).astype(np.int32)
