"""What a worker holds at its peak, and the shard that keeps it below a bound. Arithmetic only.

The figures per pixel are measured; ``geoforest bench`` gives the peak to hold them against.
"""

from __future__ import annotations

from geoforest.arrays.grid import shard_cores
from geoforest.errors import InputError

# Activations of a U-Net at its widest, float32, and the scratch of the kernels.
_WINDOW_BYTES_PER_PX = 1900
# Per band, besides the values as read and as laid out for windows: copies while that is done.
_SHARD_BYTES_PER_VALUE = 6
# Validity, area of interest, clouds, stored probability.
_SHARD_BYTES_PER_PX = 8
_MB = 1_000_000


def worker_peak_mb(
    *,
    base_mb: float,
    model_mb: float,
    cache_mb: float,
    window: int,
    batch_size: int,
    shard_px: int,
    halo: int,
    n_bands: int,
    itemsize: int,
    at_once: int,
) -> float:
    """Estimate the resident memory of a worker at its peak, in MB.

    Parameters
    ----------
    base_mb
        Interpreter and libraries.
    model_mb
        Weights, as they are on disk; loading them holds them twice.
    cache_mb
        Decoded blocks that are kept.
    window, batch_size
        Of the network.
    shard_px, halo
        Side of a shard and of the ring around it, pixels.
    n_bands, itemsize
        Of the scene; bytes a value.
    at_once
        Shards a worker holds at a time.
    """
    side = shard_px + 2 * halo
    shard = side * side * (n_bands * (2 * itemsize + _SHARD_BYTES_PER_VALUE) + _SHARD_BYTES_PER_PX)
    windows = batch_size * window * window * _WINDOW_BYTES_PER_PX
    return base_mb + 2 * model_mb + cache_mb + (at_once * shard + windows) / _MB


def fitting_shard(max_mb: float, wanted_px: int, *, core: int, **sizes: float) -> int:
    """Cores along the side of the largest shard, up to the one wanted, that keeps to a bound.

    Parameters
    ----------
    max_mb
        The bound, MB.
    wanted_px
        Side of the shard that is taken where memory is no matter.
    core
        Side of a core, pixels.
    **sizes
        See :func:`worker_peak_mb`.

    Raises
    ------
    InputError
        When a shard of a single core is too much; says what would do.
    """
    for cores in range(shard_cores(wanted_px, core), 0, -1):
        needed = worker_peak_mb(shard_px=cores * core, **sizes)  # type: ignore[arg-type]
        if needed <= max_mb:
            return cores
    raise InputError(
        f"max_memory {max_mb:,.0f} MB: a worker needs at least {needed:,.0f} MB with windows of "
        f"{sizes['window']:.0f} px and {sizes['batch_size']:.0f} a batch"
    )
