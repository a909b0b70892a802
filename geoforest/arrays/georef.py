"""Shape, transform and CRS of a raster as one value, checked when it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from affine import Affine

from geoforest.errors import InputError

if TYPE_CHECKING:
    from geoforest.arrays.grid import Window
    from geoforest.types import Shape


# Far beyond any CRS in any unit; and pixels from the origin that leave bits for parts of a pixel.
_FARTHEST = 1e15
_MOST_PX = 2.0**40


class Georeferenced(Protocol):
    """Object with a shape, a transform and a CRS: an open raster of rasterio, a scene."""

    @property
    def shape(self) -> Shape:
        """``(rows, cols)``."""

    @property
    def transform(self) -> Affine:
        """From (col, row) to CRS coordinates."""

    @property
    def crs(self) -> Any:
        """Anything that pyproj understands, or None."""


@dataclass(frozen=True)
class GeoRef:
    """Georeference of a north-up raster. Rasters with equal georeferences are on one grid.

    Attributes
    ----------
    shape
        ``(rows, cols)``, at least one of each.
    transform
        From (col, row) to CRS coordinates: width above 0, height below 0, no rotation.
    crs
        Anything that pyproj understands, rasterio's CRS too; None where there is none.

    Raises
    ------
    InputError
        When the grid is empty, rotated or not north-up.

    Examples
    --------
    >>> georef = GeoRef((200, 100), Affine(10, 0, 500_000, 0, -10, 8_900_000), "EPSG:32720")
    >>> georef.bounds
    (500000.0, 8898000.0, 501000.0, 8900000.0)
    """

    shape: Shape
    transform: Affine
    crs: Any

    def __post_init__(self) -> None:
        check_grid(self.shape, self.transform, "grid")

    @classmethod
    def of(
        cls, raster: Georeferenced, name: object, *, error: type[InputError] = InputError
    ) -> GeoRef:
        """Return the georeference of an open raster.

        Parameters
        ----------
        raster
            Has ``shape``, ``transform`` and ``crs``.
        name
            Names the raster in errors, such as its path.
        error
            Class of the errors.

        Raises
        ------
        InputError
            Or ``error``, when the grid is empty, rotated or not north-up.
        """
        check_grid(raster.shape, raster.transform, name, error=error)
        return cls(raster.shape, raster.transform, raster.crs)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """``(left, bottom, right, top)`` in the CRS."""
        rows, cols = self.shape
        left, top = self.transform @ (0, 0)
        right, bottom = self.transform @ (cols, rows)
        return left, bottom, right, top

    def window(self, window: Window) -> GeoRef:
        """Return the georeference of a window of the raster."""
        shift = Affine.translation(window.col_off, window.row_off)
        return GeoRef(window.shape, self.transform @ shift, self.crs)

    def resampled(self, shape: Shape) -> GeoRef:
        """Return the georeference of the same ground in ``shape`` pixels."""
        scale = Affine.scale(self.shape[1] / shape[1], self.shape[0] / shape[0])
        return GeoRef(shape, self.transform @ scale, self.crs)


def _is_on_earth(shape: Shape, t: Affine) -> bool:
    """Return whether all edges of pixels are finite, and far from being one and the same."""
    if not all(map(math.isfinite, tuple(t)[:6])):
        return False
    far = abs(t.c) + shape[1] * (abs(t.a) + abs(t.b)), abs(t.f) + shape[0] * (abs(t.d) + abs(t.e))
    sides = max(abs(t.a), abs(t.b)), max(abs(t.d), abs(t.e))
    return all(
        side == 0 or (end < _FARTHEST and end / side < _MOST_PX)
        for end, side in zip(far, sides, strict=True)
    )


def check_grid(
    shape: Shape, transform: Affine, name: object, *, error: type[InputError] = InputError
) -> None:
    """Check that a grid is filled and north-up.

    Raises
    ------
    InputError
        Or ``error``, its subclass; the message begins with ``name``.
    """
    t = transform
    if not _is_on_earth(shape, t):
        raise error(
            f"{name}: its transform {tuple(t)[:6]} is damaged: pixels of a size, at places that "
            "double precision can tell apart, were wanted"
        )
    if t.b or t.d or t.a <= 0 or t.e >= 0:
        raise error(
            f"{name}: its transform {tuple(t)[:6]} is rotated or not north-up; a north-up grid was "
            "wanted (gdalwarp makes one)"
        )
    if min(shape) < 1:
        raise error(f"{name}: its shape is {tuple(shape)}; a filled grid was wanted")
