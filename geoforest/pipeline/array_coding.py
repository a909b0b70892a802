"""What the numbers of an xarray DataArray mean: what its attributes state, and what values show."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from geoforest.errors import GeoforestWarning, InputError
from geoforest.scenes.coding import USUAL_SCALE, Coding, is_reflectance

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray

    from geoforest.types import Array

_SAMPLES: Final = 3
_SAMPLE_PX: Final = 64


def stated_codings(da: xarray.DataArray, order: Sequence[int]) -> list[Coding]:
    """Return scale and offset of each band as rioxarray and xarray keep them; None for unstated.

    In attributes they are still to be applied. In ``encoding`` they were applied when the array was
    opened, so its values are reflectance.

    Parameters
    ----------
    da
        The array.
    order
        Positions of the wanted bands.

    Raises
    ------
    InputError
        When they are no numbers that can be applied.
    """
    if np.issubdtype(da.dtype, np.floating) and any(_tags(da.encoding, order)):
        return [Coding(1.0, 0.0)] * len(order)
    return [tag or Coding() for tag in _tags(da.attrs, order)]


def _tags(fields: Any, order: Sequence[int]) -> list[Coding | None]:
    scales = _numbers(fields, "scales", "scale_factor", 1.0, order)
    offsets = _numbers(fields, "offsets", "add_offset", 0.0, order)
    tags: list[Coding | None] = []
    for scale, offset in zip(scales, offsets, strict=True):
        if scale == 0 or not (math.isfinite(scale) and math.isfinite(offset)):
            raise InputError(
                f"array with scale_factor {scale:g} and add_offset {offset:g}: real numbers were "
                "wanted"
            )
        tags.append(None if (scale, offset) == (1, 0) else Coding(scale, offset))
    return tags


def _numbers(
    fields: Any, several: str, one: str, default: float, order: Sequence[int]
) -> list[float]:
    """Return a number for each band, from the field of several numbers or of one."""
    try:
        if several in fields:
            numbers = [float(number) for number in fields[several]]
            return [numbers[position] for position in order]
        return [float(fields.get(one, default))] * len(order)
    except (TypeError, ValueError, IndexError) as error:
        raise InputError(
            f"array whose {several if several in fields else one} is "
            f"{str(fields.get(several, fields.get(one)))[:80]!r}: a number, or one for each band, "
            "was wanted"
        ) from error


def sample_blocks(data: Any) -> list[Any]:
    """Cut a few small blocks from all over an array ``(band, row, col)``; lazy ones stay lazy."""
    rows, cols = (
        [(2 * i + 1) * side // (2 * _SAMPLES) for i in range(_SAMPLES)] for side in data.shape[1:]
    )
    half = _SAMPLE_PX // 2
    return [
        data[:, max(0, row - half) : row + half, max(0, col - half) : col + half]
        for row in rows
        for col in cols
    ]


def usual_scale(blocks: Sequence[Array], nodata: float | None) -> float:
    """Return the scale of real numbers for which none is stated: 1 when they are reflectance."""
    values = np.concatenate([np.asarray(block).reshape(len(block), -1) for block in blocks], axis=1)
    if nodata is not None:
        values = np.where(values == nodata, np.nan, values)
    if not all(is_reflectance(band) for band in values):
        return USUAL_SCALE
    warnings.warn(
        "the array's values are of the size of reflectance, so scale 1 is taken, unless scale "
        "gives another",
        GeoforestWarning,
        stacklevel=2,
    )
    return 1.0
