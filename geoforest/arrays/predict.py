"""The predictor protocol, and the prediction of all windows of a shard."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import numpy as np

from geoforest.arrays.stitch import paste_core
from geoforest.errors import InputError
from geoforest.types import NO_OBSERVATION, Array, Factor, StoredProbability, Valid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray


class Predictor(Protocol):
    """Function from windows of raw digital numbers to forest probabilities.

    It is deterministic for a given batch shape, and the result of a window does not depend on the
    other windows of its batch. It is called from one thread at a time.
    """

    def __call__(
        self, dn: Array, scale: Factor = 1e-4, offset: Factor = 0.0, valid: Valid | None = None
    ) -> NDArray[np.float32]:
        """Predict probabilities ``(n, row, col)``, 0 to 1, from ``dn`` ``(n, band, row, col)``.

        Reflectance is ``dn * scale + offset``. Pixels that are not ``valid`` ``(n, row, col)``
        enter the network as the training mean.
        """
        ...


def check_windows(dn: Array, bands: Sequence[str]) -> None:
    """Check that an array holds windows ``(n, band, row, col)`` of these bands.

    Raises
    ------
    InputError
        When its shape is another.
    """
    if dn.ndim != 4 or dn.shape[1] != len(bands):
        raise InputError(
            f"array of shape {dn.shape}: (n, {len(bands)}, row, col) was wanted, "
            f"bands {', '.join(bands)}"
        )


def predict_shard(
    predictor: Predictor,
    dn: Array,
    valid: Valid,
    wanted: Valid,
    *,
    window: int,
    halo: int,
    batch_size: int,
    scale: Factor = 1e-4,
    offset: Factor = 0.0,
    watch: Callable[[float, int], object] | None = None,
) -> tuple[StoredProbability, int]:
    """Predict all windows of a shard and stitch their cores.

    Parameters
    ----------
    predictor
        See :class:`Predictor`.
    dn
        ``(band, row, col)``: the pixels of all windows, halo included.
    valid
        ``(row, col)`` like ``dn``, True where observed.
    wanted
        ``(row, col)`` of the shard itself, True where a result is needed. Other pixels become 255;
        windows without a wanted pixel are not predicted.
    window, halo
        In pixels.
    batch_size
        Windows per call. The last batch is padded to this size, because another batch shape can
        round differently and change a stored value.
    scale, offset
        Passed to the predictor.
    watch
        Called after each batch with the seconds that the predictor took, and the number of windows
        predicted so far; what it raises ends the shard.

    Returns
    -------
    stored : numpy.ndarray
        uint8, same shape as ``wanted``.
    n_windows : int
        Number of windows predicted.
    """
    core = window - 2 * halo
    stored = np.full(wanted.shape, NO_OBSERVATION, np.uint8)
    places = [
        (row, col)
        for row in range(0, wanted.shape[0], core)
        for col in range(0, wanted.shape[1], core)
        if wanted[row : row + core, col : col + core].any()
    ]
    for start in range(0, len(places), batch_size):
        batch = places[start : start + batch_size]
        padded = batch + [batch[-1]] * (batch_size - len(batch))
        cuts = [(slice(row, row + window), slice(col, col + window)) for row, col in padded]
        windows = np.stack([dn[:, rows, cols] for rows, cols in cuts])
        observed = np.stack([valid[cut] for cut in cuts])
        began = time.perf_counter()
        probabilities = predictor(windows, scale=scale, offset=offset, valid=observed)
        if watch is not None:
            watch(time.perf_counter() - began, start + len(batch))
        for (row, col), probability in zip(batch, probabilities, strict=False):
            paste_core(stored, probability, wanted, row=row, col=col, halo=halo)
    return stored, len(places)
