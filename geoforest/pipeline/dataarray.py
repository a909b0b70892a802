"""Forest mask and probability of an xarray DataArray: ``map_scene`` for notebooks."""

from __future__ import annotations

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from geoforest.arrays.georef import check_grid
from geoforest.arrays.grid import Grid, Shard, Window, shard_cores
from geoforest.arrays.predict import Predictor, predict_shard
from geoforest.arrays.stitch import mask_from_probability
from geoforest.arrays.validity import REACH_PX, ValueRules, clipped, observed
from geoforest.errors import GeoforestWarning, InputError, checked
from geoforest.io.names import FOREST_LABEL
from geoforest.models.runtimes import load_predictor
from geoforest.pipeline.array_coding import sample_blocks, stated_codings, usual_scale
from geoforest.pipeline.settings import MapSettings
from geoforest.pipeline.setup import Setup
from geoforest.scenes.coding import USUAL_SCALE, Coding, as_read, read_type
from geoforest.scenes.scene import band_name
from geoforest.types import (
    FOREST,
    NO_OBSERVATION,
    OTHER,
    PROBABILITY_STEPS,
    Array,
    Factor,
    Shape,
    StoredProbability,
    Valid,
)

if TYPE_CHECKING:
    import xarray
    from numpy.typing import NDArray

    from geoforest.models.bundle import Bundle
    from geoforest.pipeline.runtime import Runtime

_SHARD_PX = 1792


def map_array(
    da: xarray.DataArray,
    *,
    model: str = "bundled",
    threshold: float | None = None,
    scale: Factor | None = None,
    offset: Factor | None = None,
    nodata: float | None = None,
    window: int | None = None,
    halo: int = 32,
    batch_size: int | None = None,
    device: str = "auto",
    runtime: str = "auto",
    precision: str | None = None,
) -> xarray.Dataset:
    """Map the forest of an array, with the values of :func:`map_scene` for the same raster.

    The result of a Dask-backed array is lazy, in its own chunks: nothing is read before it is
    computed. Computing both variables at once predicts once. Clouds are not masked.

    Parameters
    ----------
    da
        ``(band, y, x)`` with a CRS, as ``rioxarray.open_rasterio`` returns it: digital numbers or
        reflectance, integers or real numbers, north-up. Bands are found by the names in the
        coordinate of the band dimension, or in the attributes ``long_name`` or ``descriptions``;
        without names they must be the model's, in its order.
    model
        Reference of a model bundle.
    threshold
        Probability at or above which a pixel is forest; the model's own by default.
    scale, offset
        Reflectance is ``value * scale + offset``; scalars or one per band, in the model's order. By
        default the array's own ``scale_factor`` and ``add_offset`` (or ``scales`` and ``offsets``);
        1 and 0 where these were applied when it was opened (``mask_and_scale=True``), or where
        real numbers are of the size of reflectance; else 1e-4 and 0.
    nodata
        Value of unobserved pixels; by default the array's own, ``_FillValue`` or ``nodata``. NaN
        is never observed. In arrays without a nodata value, 0 counts as it, with a warning. Which
        pixels count as unobserved is the rule of :mod:`geoforest.arrays.validity`.
    window, halo, batch_size, device, runtime, precision
        As for :func:`map_scene`.

    Returns
    -------
    xarray.Dataset
        ``mask``, uint8: 0 other, 1 forest, 255 no observation; ``probability``, float32, 0 to 1 in
        steps of 0.004, NaN where there is no observation. On the grid of ``da``.

    Raises
    ------
    InputError
        When the array, the model or the settings cannot be used.

    Examples
    --------
    >>> import rioxarray
    >>> da = rioxarray.open_rasterio("T20LMR.tif", chunks={"x": 2048, "y": 2048})  # doctest: +SKIP
    >>> geoforest.map_array(da).mask.plot()  # doctest: +SKIP
    """
    settings = checked(
        MapSettings,
        {
            "model": model,
            "threshold": threshold,
            "scale": scale,
            "offset": offset,
            "nodata": nodata,
            "window": window,
            "halo": halo,
            "batch_size": batch_size,
            "device": device,
            "runtime": runtime,
            "precision": precision,
        },
    )
    setup = Setup.of(settings)
    bundle = setup.bundle
    bands, order = _bands_of(da, bundle.card.bands)
    side = settings.window or bundle.card.window
    if 2 * halo >= side:
        raise InputError(f"halo {halo} leaves no core in a window of {side}")
    shape: Shape = bands.shape[1], bands.shape[2]
    marker = settings.nodata if settings.nodata is not None else _nodata(da)
    given = zip(
        _factors("scale", settings.scale, bundle),
        _factors("offset", settings.offset, bundle),
        strict=True,
    )
    codings = [
        Coding(*factors).over(own)
        for factors, own in zip(given, stated_codings(da, order), strict=True)
    ]
    work = _Work(
        grid=Grid(shape, side, halo, shard_cores(_SHARD_PX, side - 2 * halo)),
        bundle=bundle,
        runtime=setup.local_runtime(),
        scale=tuple(coding.scale for coding in codings),
        offset=tuple(coding.offset or 0.0 for coding in codings),
        nodata=as_read(marker, bands.dtype.name),
        zero_is_nodata=marker is None and np.issubdtype(bands.dtype, np.integer),
        was_integer=_is_masked_integer(da),
    )
    if work.zero_is_nodata:
        warnings.warn(
            "the array has no nodata value: pixels that are 0 in all bands count as unobserved",
            GeoforestWarning,
            stacklevel=2,
        )
    chosen = bundle.card.threshold if settings.threshold is None else settings.threshold
    return _dataset(da, _stored(bands.data, work), chosen, bundle)


@dataclass(frozen=True)
class _Work:
    """What every shard of an array is predicted with. Small enough to be sent to workers."""

    grid: Grid
    bundle: Bundle
    runtime: Runtime
    scale: tuple[float | None, ...]
    offset: tuple[float, ...]
    nodata: float | None
    zero_is_nodata: bool
    was_integer: bool

    def rules(self, usual_scale: float) -> ValueRules:
        """Return what is needed to tell which pixels were observed."""
        bands = self.bundle.card.bands
        return ValueRules(
            bands=bands,
            nodata=(0 if self.was_integer else self.nodata,) * len(bands),
            scale=tuple(usual_scale if one is None else one for one in self.scale),
            offset=self.offset,
            zero_is_nodata=self.zero_is_nodata,
            was_integer=self.was_integer,
        )

    def read(self, shard: Shard) -> Window:
        """Return the pixels that :meth:`predict` needs: the windows', and those they depend on."""
        support = self.grid.support(shard.extent).window
        return support.widened(REACH_PX, REACH_PX, self.grid.shape)

    def predict(self, dn: Array, shard: Shard, usual_scale: float) -> StoredProbability:
        """Predict a shard from the numbers in the window that :meth:`read` returns.

        ``usual_scale`` is for bands without a scale of their own.
        """
        # xarray widens float32 to float64 when it masks or scales; float32 is exact enough.
        with np.errstate(over="ignore"):
            dn = dn.astype(read_type(dn.dtype.name), copy=False)
        if self.was_integer:
            # One dark band is no reason to lose a pixel, and NaN would hide what it was.
            dn = np.where(np.isnan(dn), dn.dtype.type(0), dn)
        rules = self.rules(usual_scale)
        support, around = self.grid.support(shard.extent), self.read(shard)
        valid = observed(dn, rules)
        wanted = valid[shard.extent.slices_in(around)]
        cut = support.window.slices_in(around)
        dn = support.expand(clipped(dn[:, *cut], rules))
        valid = support.expand(valid[cut]).astype(np.bool_, copy=False)
        # In a thread that ends: as long as a thread lives that has run such kernels, libgomp counts
        # its threads with those of others, and makes them sleep at every barrier.
        with _one_at_a_time, ThreadPoolExecutor(1) as thread:
            return thread.submit(self._predict, dn, valid, wanted, usual_scale).result()

    def _predict(
        self, dn: Array, valid: Valid, wanted: Valid, usual_scale: float
    ) -> StoredProbability:
        stored, _ = predict_shard(
            _predictor(self.bundle, self.runtime),
            dn,
            valid,
            wanted,
            window=self.grid.window,
            halo=self.grid.halo,
            batch_size=self.runtime.batch_size,
            scale=tuple(usual_scale if scale is None else scale for scale in self.scale),
            offset=self.offset,
        )
        return stored


_one_at_a_time = threading.Lock()
_loaded: dict[tuple[Any, ...], Predictor] = {}


def _predictor(bundle: Bundle, runtime: Runtime) -> Predictor:
    """Return the loaded model, one per process; call it from one thread at a time."""
    key = (
        bundle.sha256,
        bundle.card.temperature,
        (runtime.name, runtime.precision, runtime.device, runtime.threads),
    )
    if key not in _loaded:
        # Keep one: a notebook that compares models would otherwise hold them all.
        _loaded.clear()
        _loaded[key] = load_predictor(
            bundle,
            runtime=runtime.name,
            precision=runtime.precision,
            device=runtime.device,
            threads=runtime.threads,
        )
    return _loaded[key]


def _stored(data: Any, work: _Work) -> Any:
    """Predict ``(band, row, col)`` shard by shard, lazily for a Dask array."""
    import dask.array
    from dask.delayed import delayed

    lazy = isinstance(data, dask.array.Array)
    n_cols = work.grid.shard_lattice[1]
    usual: Any = USUAL_SCALE
    if None in work.scale and np.issubdtype(data.dtype, np.floating):
        open_ones = [position for position, scale in enumerate(work.scale) if scale is None]
        blocks = sample_blocks(data[open_ones])
        usual = (delayed(usual_scale) if lazy else usual_scale)(blocks, work.nodata)
    pieces: list[Any] = []
    for shard in work.grid.shards():
        rows, cols = work.read(shard).slices
        block = data[:, rows, cols]
        if lazy:
            piece = delayed(work.predict)(block, shard, usual)
            pieces.append(dask.array.from_delayed(piece, shard.extent.shape, np.uint8))
        else:
            pieces.append(work.predict(block, shard, usual))
    lattice = [pieces[start : start + n_cols] for start in range(0, len(pieces), n_cols)]
    return dask.array.block(lattice) if lazy else np.block(lattice)


def _dataset(da: xarray.DataArray, stored: Any, threshold: float, bundle: Bundle) -> xarray.Dataset:
    """Build the Dataset of mask and probability on the grid of the array."""
    import xarray

    y, x = da.rio.y_dim, da.rio.x_dim
    template = da.isel({name: 0 for name in da.dims if name not in {y, x}}, drop=True)
    of_mask = partial(mask_from_probability, threshold=threshold)
    variables = {}
    for name, function, dtype in (
        ("mask", of_mask, np.uint8),
        ("probability", _probability, np.float32),
    ):
        # With the dtype given, Dask does not call the function to find it out.
        values = (
            function(stored)
            if isinstance(stored, np.ndarray)
            else stored.map_blocks(function, dtype=dtype)
        )
        variables[name] = xarray.DataArray(values, dims=(y, x), coords=template.coords)
    dataset = xarray.Dataset(variables, attrs={"model": bundle.model_id, "threshold": threshold})
    dataset["mask"].attrs.update(
        long_name=FOREST_LABEL,
        _FillValue=np.uint8(NO_OBSERVATION),
        flag_values=np.array([OTHER, FOREST], np.uint8),
        flag_meanings="other forest",
    )
    dataset["probability"].attrs.update(
        long_name="forest probability", _FillValue=np.float32("nan")
    )
    result: xarray.Dataset = dataset.rio.write_crs(da.rio.crs)
    return result


def _probability(stored: StoredProbability) -> NDArray[np.float32]:
    """Return probability 0 to 1, NaN where unobserved."""
    # In float32, as xarray applies the scale tag of the file that map_scene writes.
    table = np.arange(256, dtype=np.float32) * np.float32(1 / PROBABILITY_STEPS)
    table[NO_OBSERVATION] = np.nan
    return table[stored]


def _bands_of(da: xarray.DataArray, wanted: tuple[str, ...]) -> tuple[xarray.DataArray, list[int]]:
    """Return the array as ``(band, y, x)``, its bands in the model's order, and their places."""
    # This import also registers the `rio` accessor.
    from rioxarray.exceptions import MissingSpatialDimensionError

    try:
        y, x = da.rio.y_dim, da.rio.x_dim
    except MissingSpatialDimensionError as error:
        raise InputError(f"array with dimensions {da.dims}: (band, y, x) was wanted") from error
    others = [name for name in da.dims if name not in {y, x}]
    if len(others) != 1:
        raise InputError(f"array with dimensions {da.dims}: (band, y, x) was wanted")
    if da.rio.crs is None:
        raise InputError("array without a CRS; da.rio.write_crs gives it one")
    check_grid(da.rio.shape, da.rio.transform(), "array")
    if read_type(da.dtype.name) is None:
        raise InputError(f"array of {da.dtype}: integers or real numbers were wanted")
    order = _order(_names(da, str(others[0])), wanted)
    return da.transpose(others[0], y, x).isel({others[0]: order}), order


def _names(da: xarray.DataArray, dim: str) -> list[str | None]:
    """Return the Sentinel-2 name of each band, or None."""
    count = da.sizes[dim]
    attributes = (da.attrs.get(key, ()) for key in ("long_name", "descriptions"))
    for labels in (da.coords[dim].values if dim in da.coords else (), *attributes):
        texts = [labels] if isinstance(labels, str) else list(labels)
        names = [band_name(text) if isinstance(text, str) else None for text in texts]
        if len(names) == count and any(names):
            return names
    return [None] * count


def _order(names: list[str | None], wanted: tuple[str, ...]) -> list[int]:
    if any(names):
        for name in wanted:
            if names.count(name) != 1:
                found = ", ".join(known or "without a name" for known in names)
                raise InputError(
                    f"array with {names.count(name)} bands {name}: its bands are {found}, and one "
                    f"of each of {', '.join(wanted)} was wanted"
                )
        return [names.index(name) for name in wanted]
    if len(names) != len(wanted):
        raise InputError(
            f"array with {len(names)} bands without names: those of the model were wanted, in its "
            f"order: {', '.join(wanted)}"
        )
    return list(range(len(names)))


def _nodata(da: xarray.DataArray) -> float | None:
    """Return the value that marks unobserved pixels; None when NaN does, or nothing."""
    marker = da.rio.encoded_nodata
    if marker is None:
        try:
            marker = da.rio.nodata
        except OverflowError as error:
            raise InputError(f"array of {da.dtype} with a nodata value beyond it") from error
    elif np.issubdtype(da.dtype, np.floating):
        # xarray has masked it: NaN has replaced the value.
        return None
    return None if marker is None or np.isnan(marker) else float(marker)


def _is_masked_integer(da: xarray.DataArray) -> bool:
    """Return whether an array holds digital numbers in which NaN has replaced a value of 0."""
    encoding = da.encoding
    unscaled = encoding.get("scale_factor", 1) == 1 and encoding.get("add_offset", 0) == 0
    was_integer = np.issubdtype(encoding.get("dtype", da.dtype), np.integer)
    is_masked = np.issubdtype(da.dtype, np.floating) and da.rio.encoded_nodata == 0
    return bool(is_masked and was_integer and unscaled)


def _factors(
    name: str, values: tuple[float, ...] | None, bundle: Bundle
) -> tuple[float | None, ...]:
    """Return a number for each band; None for all when none was given."""
    bands = bundle.card.bands
    if values is None:
        return (None,) * len(bands)
    if len(values) not in {1, len(bands)}:
        raise InputError(
            f"{name} has {len(values)} numbers; one, or one for each of {', '.join(bands)}, is "
            "wanted"
        )
    return values * len(bands) if len(values) == 1 else values
