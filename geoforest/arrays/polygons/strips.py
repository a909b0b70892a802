"""A raster in strips of rows, as runs of equal pixels, and components that cross strips.

Each strip but the first begins with the last row of the strip before. So neighbouring pixels always
lie in one strip, and components are joined across strips by the shared row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from geoforest.types import Array, Mask, StoredProbability

Ids = NDArray[np.int64]
Components = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Strip:
    """Runs of a strip, which cover all its rows.

    Attributes
    ----------
    first_row
        Row of the scene where the strip begins.
    n_shared
        Rows that belong to the strip before: 1, and 0 in the first strip.
    n_cols
        Columns of the scene.
    row_ends
        ``(rows + 1,)``: first run of each row, and the number of runs.
    start
        ``(n_runs,)``: first column.
    code
        ``(n_runs,)``: mask code.
    total
        ``(n_runs,)``: sum of the stored probability; 0 without one, and in the shared row.
    """

    first_row: int
    n_shared: int
    n_cols: int
    row_ends: Ids
    start: NDArray[np.int32]
    code: NDArray[np.uint8]
    total: Ids

    @classmethod
    def encode(
        cls,
        mask: Mask,
        stored: StoredProbability | None,
        *,
        first_row: int,
        n_shared: int,
        starts_cell: NDArray[np.bool_],
    ) -> Strip:
        """Cut rows of a mask in runs; see :func:`geoforest.arrays.kernels.runs.encode_runs`."""
        from geoforest.arrays.kernels.runs import encode_runs

        values = np.empty((0, 0), np.uint8) if stored is None else stored
        strip = cls(first_row, n_shared, mask.shape[1], *encode_runs(mask, values, starts_cell))
        strip.total[: strip.own.start] = 0
        return strip

    @property
    def n_rows(self) -> int:
        """Rows, including the one shared with the strip before."""
        return len(self.row_ends) - 1

    @cached_property
    def end(self) -> NDArray[np.int32]:
        """Column after the last of each run."""
        end = np.empty_like(self.start)
        end[:-1] = self.start[1:]
        end[self.row_ends[1:] - 1] = self.n_cols
        return end

    @cached_property
    def row(self) -> Ids:
        """Row of the scene of each run."""
        rows = np.arange(self.n_rows) + self.first_row
        return np.repeat(rows, np.diff(self.row_ends))

    @cached_property
    def own(self) -> slice:
        """Runs that no strip before has."""
        return slice(int(self.row_ends[self.n_shared]), None)

    @cached_property
    def pixels(self) -> Ids:
        """Pixels of each run; 0 in the shared row, which the strip before counts."""
        pixels = (self.end - self.start).astype(np.int64)
        pixels[: self.own.start] = 0
        return pixels

    def lines(self, scene_rows: int) -> tuple[int, int, int]:
        """Return the strip's lattice lines: those between its rows, and the scene's edges.

        In the form of :func:`geoforest.arrays.kernels.outlines.trace_corners`.
        """
        is_last = self.first_row + self.n_rows == scene_rows
        return self.n_shared, self.n_rows + is_last, self.first_row

    def components(self, key: Ids, *, corners_touch: bool = False) -> tuple[Components, int]:
        """Find connected runs of one key; see :func:`geoforest.arrays.kernels.runs.label_runs`."""
        from geoforest.arrays.kernels.runs import label_runs

        component, n_components = label_runs(
            self.row_ends, self.start, self.end, key, corners_touch
        )
        return component, n_components

    def sums(self, values: Ids, component: Components, n_components: int) -> Ids:
        """Sum a value of runs over each component."""
        from geoforest.arrays.kernels.runs import sum_runs

        sums: Ids = sum_runs(values, component, n_components)
        return sums

    def first_pixels(self, component: Components, n_components: int) -> Ids:
        """Find the first own pixel of each component, ``row * n_cols + col``.

        The largest int64 where the component has only pixels of the shared row.
        """
        first = np.full(n_components, np.iinfo(np.int64).max)
        runs = np.flatnonzero(component >= 0)
        runs = runs[runs >= self.own.start][::-1]  # the last assignment to a component wins
        first[component[runs]] = self.row[runs] * self.n_cols + self.start[runs]
        return first

    def border(self, component: Components, **values: Array) -> Border:
        """Return the components that go on in the strips before and after."""
        upper = component[: self.own.start]
        lower = component[self.row_ends[-2] :]
        upper, lower = upper[upper >= 0], lower[lower >= 0]
        members = np.unique(np.concatenate([upper, lower]))
        return Border(upper, lower, members, {name: of[members] for name, of in values.items()})


@dataclass(frozen=True, eq=False)
class Border:
    """Components of a strip that go on in others.

    Attributes
    ----------
    upper, lower
        Components along the row shared with the strip before, and along the last row.
    members
        All of these components, sorted, each once.
    values
        Named values of each member.
    """

    upper: Components
    lower: Components
    members: Components
    values: dict[str, Array] = field(default_factory=dict)

    def settle(self, **tables: Array) -> None:
        """Copy the values of members into tables of all components, in place."""
        for name, table in tables.items():
            table[self.members] = self.values[name]


def join_borders(borders: Sequence[Border], how: Mapping[str, np.ufunc]) -> None:
    """Combine the values of components that are connected across strips, in place.

    Parameters
    ----------
    borders
        Borders of all strips, from top to bottom.
    how
        For each value the ufunc that combines two members: ``np.add``, ``np.minimum`` ...
    """
    ends = np.concatenate([[0], np.cumsum([len(border.members) for border in borders])])
    if not ends[-1]:
        return
    above = [
        np.searchsorted(border.members, border.lower) + offset
        for border, offset in zip(borders[:-1], ends[:-2], strict=True)
    ]
    below = [
        np.searchsorted(border.members, border.upper) + offset
        for border, offset in zip(borders[1:], ends[1:-1], strict=True)
    ]
    # np.concatenate rejects an empty list, and a single strip has no borders.
    pairs = np.concatenate([*above, np.zeros(0, int)]), np.concatenate([*below, np.zeros(0, int)])
    edges = coo_array((np.ones(len(pairs[0]), np.bool_), pairs), shape=(ends[-1], ends[-1]))
    n_groups, group = connected_components(edges, directed=False)
    for name, ufunc in how.items():
        values = np.concatenate([border.values[name] for border in borders])
        combined = np.empty(n_groups, values.dtype)
        # One member of each group is the start value; it must not be combined again.
        firsts = np.unique(group, return_index=True)[1]
        combined[:] = values[firsts]
        rest = np.ones(len(values), np.bool_)
        rest[firsts] = False
        ufunc.at(combined, group[rest], values[rest])
        for border, offset in zip(borders, ends, strict=False):
            border.values[name] = combined[group[offset : offset + len(border.members)]]


def sum_by_id(shares: Sequence[tuple[Ids, Ids]]) -> tuple[Ids, Ids]:
    """Sum values of several strips by id.

    Parameters
    ----------
    shares
        ``(ids, values)`` of each strip.

    Returns
    -------
    ids, values
        Sorted, each id once.
    """
    ids, place = np.unique(np.concatenate([ids for ids, _ in shares]), return_inverse=True)
    values = np.zeros(len(ids), np.int64)
    np.add.at(values, place, np.concatenate([of for _, of in shares]))
    return ids, values


def with_totals(totals: tuple[Ids, Ids], ids: Ids, values: Ids) -> Ids:
    """Replace the values of ids that have totals by these totals."""
    shared, sums = totals
    place = np.minimum(np.searchsorted(shared, ids), max(len(shared) - 1, 0))
    if not len(shared):
        return values
    return np.where(shared[place] == ids, sums[place], values)


def look_up(table: Array, index: Components, default: Any) -> Array:
    """Return ``table[index]``, and the default where the index is below 0."""
    if not len(table):
        return np.full(len(index), default, table.dtype)
    return np.where(index >= 0, table[index], default).astype(table.dtype, copy=False)
