"""Reflectance and normalisation of digital numbers, and a check of their distribution."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geoforest.types import Array, Valid

# Warn when the mean is more than this many training standard deviations from the training mean.
_MAX_SHIFT = 2.0
# Warn when the spread is below this share of the training spread.
_MIN_SPREAD = 0.1
_STRIP_ROWS = 32


def ndvi(red: Array, nir: Array) -> NDArray[np.float64]:
    """Compute the normalised difference vegetation index, -1 to 1; NaN where both bands are 0.

    ``(nir - red) / (nir + red)``, Rouse et al. 1974. A common factor of the bands cancels; an
    offset does not.

    Examples
    --------
    >>> ndvi(np.array([500, 0]), np.array([3000, 0])).round(3).tolist()
    [0.714, nan]
    """
    red, nir = red.astype(np.float64), nir.astype(np.float64)
    total = nir + red
    index: NDArray[np.float64] = np.divide(
        nir - red, total, out=np.full(red.shape, np.nan), where=total != 0
    )
    return index


def fold_normalisation(
    *,
    mean: Sequence[float],
    std: Sequence[float],
    reflectance_scale: float,
    scale: float | Sequence[float],
    offset: float | Sequence[float],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fold scale, offset and normalisation into one multiply-add per band.

    ``(dn * scale + offset - mean * reflectance_scale) / (std * reflectance_scale)`` becomes
    ``dn * gain + bias``.

    Returns
    -------
    gain, bias : numpy.ndarray
        float32 ``(band,)``, computed in float64.

    Examples
    --------
    >>> gain, bias = fold_normalisation(
    ...     mean=[600.0], std=[200.0], reflectance_scale=1e-4, scale=1e-4, offset=0.0)
    >>> round(float(1000 * gain[0] + bias[0]), 6)
    2.0
    """
    divisor = np.asarray(std, np.float64) * reflectance_scale
    centre = np.asarray(mean, np.float64) * reflectance_scale
    gain = np.broadcast_to(np.asarray(scale, np.float64), divisor.shape) / divisor
    bias = (np.broadcast_to(np.asarray(offset, np.float64), divisor.shape) - centre) / divisor
    return gain.astype(np.float32), bias.astype(np.float32)


@dataclass
class BandStatistics:
    """Running count, sum and sum of squares per band, in stored units, float64.

    Examples
    --------
    >>> a = BandStatistics.of(np.array([[[1, 3]]]), np.array([[True, True]]))
    >>> a += BandStatistics.of(np.array([[[8]]]), np.array([[False]]))
    >>> a.count, a.mean.tolist(), a.std.tolist()
    (2, [2.0], [1.0])
    """

    count: int = 0
    sums: list[float] = field(default_factory=list)
    squares: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, dn: Array, valid: Valid) -> BandStatistics:
        """Compute the statistics of ``dn`` ``(band, row, col)`` where ``valid`` ``(row, col)``."""
        sums, squares = np.zeros(len(dn)), np.zeros(len(dn))
        # Strips stay in the processor's cache: float64 takes four times the stored size.
        for row in range(0, dn.shape[1], _STRIP_ROWS):
            seen = valid[row : row + _STRIP_ROWS]
            everything = bool(seen.all())
            for number, band in enumerate(dn):
                strip = band[row : row + _STRIP_ROWS]
                values = (strip.ravel() if everything else strip[seen]).astype(np.float64)
                sums[number] += values.sum()
                squares[number] += np.einsum("i,i->", values, values)  # BLAS would start threads
        return cls(int(np.count_nonzero(valid)), sums.tolist(), squares.tolist())

    def __iadd__(self, other: BandStatistics) -> BandStatistics:
        if not self.sums:
            self.sums, self.squares = [0.0] * len(other.sums), [0.0] * len(other.sums)
        self.count += other.count
        self.sums = [a + b for a, b in zip(self.sums, other.sums, strict=True)]
        self.squares = [a + b for a, b in zip(self.squares, other.squares, strict=True)]
        return self

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean per band; zeros when nothing was counted."""
        return np.asarray(self.sums) / max(self.count, 1)

    @property
    def std(self) -> NDArray[np.float64]:
        """Population standard deviation per band."""
        variance = np.asarray(self.squares) / max(self.count, 1) - self.mean**2
        return np.sqrt(np.maximum(variance, 0.0))


def distribution_warning(
    statistics: BandStatistics,
    *,
    bands: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    reflectance_scale: float,
    scale: float | Sequence[float],
    offset: float | Sequence[float],
) -> str | None:
    """Describe how far a scene lies from the training distribution; None when it is near.

    A band is far when its mean reflectance is more than two training standard deviations from
    the training mean, or its spread is less than a tenth of the training spread.
    """
    if statistics.count < 2:
        return None
    gain, bias = fold_normalisation(
        mean=mean, std=std, reflectance_scale=reflectance_scale, scale=scale, offset=offset
    )
    shift = statistics.mean * gain + bias
    spread = statistics.std * np.abs(gain)
    far = (np.abs(shift) > _MAX_SHIFT) | (spread < _MIN_SPREAD)
    if not far.any():
        return None
    reflectance = statistics.mean * scale + offset
    trained = np.asarray(mean) * reflectance_scale
    figures = ", ".join(
        f"{band} mean reflectance {found:.4f} (training {wanted:.4f}, {z:+.1f} sd)"
        for band, found, wanted, z in zip(bands, reflectance, trained, shift, strict=True)
    )
    return f"values are far from the model's training data: {figures}{_likely_cause(shift, spread)}"


def _likely_cause(shift: NDArray[np.floating], spread: NDArray[np.floating]) -> str:
    if (spread < _MIN_SPREAD / 10).all():
        return "; is this 0..1 reflectance read as x 10000 (then give --scale 1)?"
    if (shift > 0).all():
        return "; is the +1000 offset of processing baseline 04.00 still in (then --offset -0.1)?"
    return ""
