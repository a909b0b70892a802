"""Windows, cores, halo and shards: arithmetic on pixel rectangles.

Cores tile the scene exactly once, so stitching is a paste. A window is its core plus the halo;
beyond the edge of the scene it is filled by reflection of scene coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from geoforest.types import Shape

PREVIEW_PX: Final = 800


@dataclass(frozen=True)
class Window:
    """A pixel rectangle of a scene.

    Examples
    --------
    >>> Window(2, 3, height=4, width=5).slices
    (slice(2, 6, None), slice(3, 8, None))
    """

    row_off: int
    col_off: int
    height: int
    width: int

    @property
    def shape(self) -> Shape:
        """``(rows, cols)``."""
        return self.height, self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices into an array of the whole scene."""
        return (
            slice(self.row_off, self.row_off + self.height),
            slice(self.col_off, self.col_off + self.width),
        )

    def slices_in(self, outer: Window) -> tuple[slice, slice]:
        """Row and column slices into an array of a window that holds this one.

        Examples
        --------
        >>> Window(5, 5, height=2, width=3).slices_in(Window(4, 2, height=9, width=9))
        (slice(1, 3, None), slice(3, 6, None))
        """
        row, col = self.row_off - outer.row_off, self.col_off - outer.col_off
        return slice(row, row + self.height), slice(col, col + self.width)

    def widened(self, down: int, across: int, shape: Shape) -> Window:
        """Return this window with more pixels on all sides, at most to the edges of the scene.

        Examples
        --------
        >>> Window(1, 5, height=4, width=4).widened(2, 3, (9, 9))
        Window(row_off=0, col_off=2, height=7, width=7)
        """
        top, left = max(0, self.row_off - down), max(0, self.col_off - across)
        bottom = min(shape[0], self.row_off + self.height + down)
        right = min(shape[1], self.col_off + self.width + across)
        return Window(top, left, bottom - top, right - left)

    def cut(self, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> tuple[slice, slice]:
        """Return slices of sorted row and column indices, of those inside the window.

        Examples
        --------
        >>> Window(2, 0, height=4, width=5).cut(np.array([1, 3, 5, 7]), np.array([0, 5]))
        (slice(1, 3, None), slice(0, 1, None))
        """
        ends = (rows, self.row_off, self.height), (cols, self.col_off, self.width)
        first, second = (
            slice(*np.searchsorted(indices, (start, start + length)).tolist())
            for indices, start, length in ends
        )
        return first, second


@dataclass(frozen=True)
class Shard:
    """A square of cores: the unit in which work is done, committed and resumed.

    Attributes
    ----------
    row, col
        Position in the lattice of shards.
    extent
        Pixels of the scene that belong to the shard. Shards tile the scene exactly once.
    """

    row: int
    col: int
    extent: Window

    @property
    def name(self) -> str:
        """Stable name; names sort in row order."""
        return f"r{self.row:05d}_c{self.col:05d}"


@dataclass(frozen=True)
class Grid:
    """Cut of a scene in windows and shards. All sizes are in pixels.

    Attributes
    ----------
    shape
        ``(rows, cols)`` of the scene.
    window
        Side of the square the network reads, halo included.
    halo
        Ring of context that is read but not kept.
    shard_cores
        Cores along one side of a shard.

    Examples
    --------
    >>> grid = Grid((1000, 500), window=512, halo=32, shard_cores=2)
    >>> grid.core, grid.lattice, grid.shard_lattice
    (448, (3, 2), (2, 1))
    >>> [shard.extent.shape for shard in grid.shards()]
    [(896, 500), (104, 500)]
    """

    shape: Shape
    window: int = 512
    halo: int = 32
    shard_cores: int = 4

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise ValueError(f"a scene needs at least one pixel, got shape {self.shape}")
        if self.halo < 0 or self.core < 1:
            raise ValueError(f"halo {self.halo} leaves no core in a window of {self.window}")
        if self.shard_cores < 1:
            raise ValueError(f"a shard needs at least one core, got {self.shard_cores}")

    @property
    def core(self) -> int:
        """Side of the part of a window that is kept."""
        return self.window - 2 * self.halo

    @property
    def lattice(self) -> Shape:
        """Cores down and across the scene."""
        return _ceil_div(self.shape[0], self.core), _ceil_div(self.shape[1], self.core)

    @property
    def shard_lattice(self) -> Shape:
        """Shards down and across the scene."""
        rows, cols = self.lattice
        return _ceil_div(rows, self.shard_cores), _ceil_div(cols, self.shard_cores)

    def shards(self) -> Iterator[Shard]:
        """Yield all shards in row order, so that neighbours share decoded blocks."""
        rows, cols = self.shard_lattice
        side = self.core * self.shard_cores
        for row in range(rows):
            for col in range(cols):
                yield Shard(row, col, _clipped(row * side, col * side, side, self.shape))

    def cores(self, extent: Window) -> Iterator[Window]:
        """Yield the cores of a shard, clipped to the scene, in row order and scene coordinates."""
        for row in range(extent.row_off, extent.row_off + extent.height, self.core):
            for col in range(extent.col_off, extent.col_off + extent.width, self.core):
                yield _clipped(row, col, self.core, self.shape)

    def support(self, extent: Window) -> Support:
        """Find the pixels of the scene that the windows of a shard read."""
        rows = self._indices(extent.row_off, extent.height, self.shape[0])
        cols = self._indices(extent.col_off, extent.width, self.shape[1])
        return Support(rows, cols)

    def _indices(self, start: int, length: int, size: int) -> NDArray[np.intp]:
        kept = _ceil_div(length, self.core) * self.core
        return reflect(np.arange(start - self.halo, start + kept + self.halo), size)


@dataclass(frozen=True, eq=False)
class Support:
    """Row and column indices that the windows of a shard need, reflected at the scene's edge."""

    rows: NDArray[np.intp]
    cols: NDArray[np.intp]

    @property
    def window(self) -> Window:
        """Smallest rectangle of the scene that holds every index: the pixels to read."""
        row, col = int(self.rows.min()), int(self.cols.min())
        return Window(row, col, int(self.rows.max()) - row + 1, int(self.cols.max()) - col + 1)

    def expand(self, block: NDArray[np.generic]) -> NDArray[np.generic]:
        """Fill the pixels beyond the scene by reflection.

        Parameters
        ----------
        block
            ``(..., row, col)``, the pixels of :attr:`window`.

        Returns
        -------
        numpy.ndarray
            ``(..., len(rows), len(cols))``, same dtype; windows begin at multiples of the core.
        """
        window = self.window
        rows, cols = self.rows - window.row_off, self.cols - window.col_off
        if _is_range(rows) and _is_range(cols):
            return block
        # In two steps: taking rows first copies contiguous memory.
        return block.take(rows, axis=-2).take(cols, axis=-1)


def reflect(indices: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """Map indices to ``0 .. size - 1`` by reflection at the centre of the edge pixels.

    Examples
    --------
    >>> reflect(np.arange(-3, 7), 4).tolist()
    [3, 2, 1, 0, 1, 2, 3, 2, 1, 0]
    >>> reflect(np.arange(-2, 3), 1).tolist()
    [0, 0, 0, 0, 0]
    """
    if size == 1:
        return np.zeros_like(indices)
    period = 2 * (size - 1)
    folded = np.abs(indices) % period
    reflected: NDArray[np.intp] = np.minimum(folded, period - folded)
    return reflected


def preview_lattice(
    shape: Shape, max_side_px: int = PREVIEW_PX
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows and columns of the pixels that a picture of the whole scene shows.

    They are nearest to an even lattice of at most ``max_side_px`` points per side.

    Examples
    --------
    >>> [indices.tolist() for indices in preview_lattice((2, 3))]
    [[0, 1], [0, 1, 2]]
    """
    factor = max(1.0, max(shape) / max_side_px)
    counts = (max(1, round(side / factor)) for side in shape)
    rows, cols = (
        ((np.arange(count) + 0.5) * (side / count)).astype(np.intp)
        for count, side in zip(counts, shape, strict=True)
    )
    return rows, cols


def wider_halo(halo: int) -> int:
    """Return the halo of the second prediction in a halo test: twice as wide; 32 px for none.

    Examples
    --------
    >>> wider_halo(32), wider_halo(0)
    (64, 32)
    """
    return 2 * halo or 32


def shard_cores(shard_px: int, core: int) -> int:
    """Count the cores along a shard's side: ``shard_px`` rounded up to whole cores."""
    return max(1, _ceil_div(shard_px, core))


def _clipped(row: int, col: int, side: int, shape: Shape) -> Window:
    return Window(row, col, min(side, shape[0] - row), min(side, shape[1] - col))


def _is_range(indices: NDArray[np.intp]) -> bool:
    return bool((np.diff(indices) == 1).all())


def _ceil_div(number: int, divisor: int) -> int:
    return -(-number // divisor)
