"""Seams: steps of the probability across the borders of cores.

The probability is predicted window by window. Where the network has too little context at the edge
of a core, or the scene is unlike its training data, neighbouring cores do not match, and the
lattice of cores shows in the map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from geoforest.types import NO_OBSERVATION, PROBABILITY_STEPS, Shape, StoredProbability

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEAM_LIMIT: Final = 2.2
"""Highest ratio without visible seams. On four maps of the bundled model a halo of 32 px gives 1.3
to 1.8, and no halo 3.0 to 6.9; see docs/measured.md."""
# Lines this close to a core border show the same ground, but no step across it.
_BESIDE_PX = 16
# The network's own padding reaches a pixel or two inwards.
_EDGE_PX = 2
_FEWEST_PAIRS = 256
# A tenth of a stored step: in a flat probability any border step is many times the one inside.
_LEAST_INSIDE = 0.1 / PROBABILITY_STEPS
# A lattice of less than one stored step is invisible.
_LEAST_BORDER = 1 / PROBABILITY_STEPS


@dataclass(frozen=True)
class Seams:
    """Measure of how strongly the lattice of cores shows in the probability.

    Attributes
    ----------
    ratio
        Mean absolute step across borders of cores, divided by that beside them; about 1 without
        seams. None where fewer than 256 pairs of pixels lie across borders.
    shifted
        The same for the lattice shifted by half a core, which has no seams.
    border_step
        Mean absolute step across borders, in probability.
    """

    ratio: float | None
    shifted: float | None
    border_step: float | None

    @property
    def show(self) -> bool | None:
        """Whether the ratio is above ``SEAM_LIMIT`` and the step at least one stored step."""
        if self.ratio is None or self.border_step is None:
            return None
        return self.ratio > SEAM_LIMIT and self.border_step >= _LEAST_BORDER


class Steps:
    """Steps of the stored probability between neighbouring pixels, summed per line.

    Parameters
    ----------
    shape
        ``(rows, cols)`` of the scene.
    """

    def __init__(self, shape: Shape) -> None:
        self._down = np.zeros((2, shape[0]), np.int64)
        self._across = np.zeros((2, shape[1]), np.int64)
        self._above = np.full(shape[1], NO_OBSERVATION, np.uint8)
        self._row = 0

    def add(self, stored: StoredProbability) -> None:
        """Add the next rows, from top to bottom, with all columns."""
        from geoforest.arrays.kernels.steps import add_steps

        last = self._row + len(stored)
        add_steps(stored, self._above, self._across, self._down[:, self._row : last])
        self._above, self._row = stored[-1].copy(), last

    def seams(self, core: int) -> Seams:
        """Compare the steps across borders of cores with the steps beside them.

        The ratio is ``b / max(i, 0.0004)``: ``b`` is the mean absolute step of probability between
        the pixels on both sides of a core border, ``i`` that between neighbours on parallel lines
        inside cores, 3 to 16 px away. Rows and columns count together, and only pairs of observed
        pixels. Lines beside a border cross the same fields and forests, so the scene cancels.

        Parameters
        ----------
        core
            Side of a core, in pixels; borders are at its multiples from the scene's origin.
        """
        border, inside, pairs = self._compare(core, 0)
        if pairs < _FEWEST_PAIRS:
            return Seams(None, None, None)
        shifted = None
        if core > 2 * (_BESIDE_PX + _EDGE_PX):
            other, around, count = self._compare(core, core // 2)
            if count >= _FEWEST_PAIRS:
                shifted = other / max(around, _LEAST_INSIDE)
        return Seams(border / max(inside, _LEAST_INSIDE), shifted, border)

    def _compare(self, core: int, shift: int) -> tuple[float, float, int]:
        """Return mean steps across and beside a lattice of lines, and the pairs across it."""
        across, beside = np.zeros(2, np.int64), np.zeros(2, np.int64)
        for lines in (self._down, self._across):
            away = _distance(lines.shape[1], core, shift)
            across += lines[:, away == 0].sum(axis=1)
            beside += lines[:, (away > _EDGE_PX) & (away <= _BESIDE_PX)].sum(axis=1)
        step, inside = (
            float(total) / max(int(count), 1) / PROBABILITY_STEPS
            for total, count in (across, beside)
        )
        return step, inside, int(across[1])


def _distance(size: int, core: int, shift: int) -> NDArray[np.int64]:
    """Return each line's distance to the nearest core border, px; ``size`` where there is none."""
    lines = np.arange(size)
    nearest = (lines - shift + core // 2) // core * core + shift
    is_border = (nearest > 0) & (nearest < size)
    return np.where(is_border, np.abs(lines - nearest), size)
