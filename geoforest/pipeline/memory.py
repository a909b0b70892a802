"""Estimate the peak memory of a worker, and the largest shard within a limit. Arithmetic only.

The figures per pixel are measured; compare them with the peak that ``geoforest bench`` prints.
"""

from __future__ import annotations

from geoforest.arrays.grid import shard_cores
from geoforest.errors import InputError

# Activations of a U-Net at its widest, in float32, and scratch memory of the kernels.
_WINDOW_BYTES_PER_PX = 1900
# Per band: temporary copies, besides the values as read and as laid out for windows.
_SHARD_BYTES_PER_VALUE = 6
# Validity, area of interest, clouds, stored probability.
_SHARD_BYTES_PER_PX = 10
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
        Memory of interpreter and libraries, MB.
    model_mb
        Weights as stored on disk, MB; loading holds them twice.
    cache_mb
        Decoded blocks in GDAL's cache, MB.
    window, batch_size
        Side of a window in pixels, and windows per call of the network.
    shard_px, halo
        Side of a shard and of the ring around it, pixels.
    n_bands, itemsize
        Number of bands of the scene, and bytes per value.
    at_once
        Shards a worker holds at a time.
    """
    side = shard_px + 2 * halo
    shard = side * side * (n_bands * (2 * itemsize + _SHARD_BYTES_PER_VALUE) + _SHARD_BYTES_PER_PX)
    windows = batch_size * window * window * _WINDOW_BYTES_PER_PX
    return base_mb + 2 * model_mb + cache_mb + (at_once * shard + windows) / _MB


def fitting_shard(max_mb: float, wanted_px: int, *, core: int, **sizes: float) -> int:
    """Return the side, in cores, of the largest shard whose worker stays within a memory limit.

    Parameters
    ----------
    max_mb
        The limit, MB.
    wanted_px
        Side of the shard when memory allows it, pixels; an upper limit.
    core
        Side of a core, pixels.
    **sizes
        See :func:`worker_peak_mb`.

    Raises
    ------
    InputError
        When even a shard of one core needs more; the message names the memory needed.
    """
    for cores in range(shard_cores(wanted_px, core), 0, -1):
        needed = worker_peak_mb(shard_px=cores * core, **sizes)  # type: ignore[arg-type]
        if needed <= max_mb:
            return cores
    raise InputError(
        f"max_memory {max_mb:,.0f} MB: a worker needs at least {needed:,.0f} MB with windows of "
        f"{sizes['window']:.0f} px and {sizes['batch_size']:.0f} a batch"
    )
