"""Shape, transform and CRS of a raster as one value, checked when it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from affine import Affine

from geoforest.errors import InputError

if TYPE_CHECKING:
    from geoforest.arrays.grid import Window
    from geoforest.types import Shape


# Far beyond any CRS in any unit; and pixels from the origin that leave bits for parts of a pixel.
_FARTHEST = 1e15
_MOST_PX = 2.0**40
TOLERANCE_PX: Final = 0.01
"""Part of a pixel by which places may differ and count as one.

Programs that warp or cut rasters round their transforms: rotations of 1e-12, or pixels of
9.9999999998 m. What that moves, anywhere in the raster, has to stay below this.
"""


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
    """Georeference of a north-up raster; see :meth:`is_grid_of` for rasters on one grid.

    Attributes
    ----------
    shape
        ``(rows, cols)``, at least one of each.
    transform
        From (col, row) to CRS coordinates: width above 0, height below 0. A rotation that moves no
        pixel by more than :data:`TOLERANCE_PX` is taken for rounding and removed.
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
        t = self.transform
        if t.b or t.d:
            object.__setattr__(self, "transform", Affine(t.a, 0, t.c, 0, t.e, t.f))

    def __str__(self) -> str:
        t, (rows, cols) = self.transform, self.shape
        crs = "no CRS" if self.crs is None else str(self.crs)[:40]
        return f"{rows} x {cols} px of {t.a!r} x {-t.e!r} from ({t.c!r}, {t.f!r}), {crs}"

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

    def is_grid_of(self, other: GeoRef) -> bool:
        """Return whether two rasters have the same pixels, up to :data:`TOLERANCE_PX`.

        Examples
        --------
        >>> one = GeoRef((200, 100), Affine(10, 0, 500_000, 0, -10, 8_900_000), "EPSG:32720")
        >>> other = Affine(9.9999999998, 0, 500_000, 0, -10, 8_900_000)
        >>> one.is_grid_of(GeoRef((200, 100), other, "EPSG:32720"))
        True
        """
        if self.shape != other.shape or self.crs != other.crs:
            return False
        width, height = self.transform.a, -self.transform.e
        return all(
            abs(mine - its) <= TOLERANCE_PX * size
            for mine, its, size in zip(
                self.bounds, other.bounds, (width, height, width, height), strict=True
            )
        )

    @property
    def square_side(self) -> float | None:
        """Side of a pixel, in units of the CRS; None when pixels are not square.

        A side that is a whole number of millionths but for rounding is that number, so that grids
        of such pixels from the origin of the CRS are one.
        """
        t, side = self.transform, self.transform.a
        if abs(t.a + t.e) * max(self.shape) > TOLERANCE_PX * side:
            return None
        rounded, farthest = round(side, 6), max(map(abs, self.bounds))
        # Pixels are counted from the origin.
        is_that = abs(rounded - side) * farthest <= TOLERANCE_PX * side**2
        return rounded if rounded > 0 and is_that else side

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
    """Check that a grid is filled and north-up, up to :data:`TOLERANCE_PX`.

    Raises
    ------
    InputError
        Or ``error``, its subclass; the message begins with ``name``.
    """
    t, (rows, cols) = transform, shape
    if not _is_on_earth(shape, t):
        raise error(
            f"{name}: its transform {tuple(t)[:6]} is damaged: pixels of a size, at places that "
            "double precision can tell apart, were wanted"
        )
    # Written so that NaN is refused.
    if not (
        t.a > 0
        and t.e < 0
        and abs(t.b) * rows <= TOLERANCE_PX * t.a
        and abs(t.d) * cols <= TOLERANCE_PX * -t.e
    ):
        raise error(
            f"{name}: its transform {tuple(t)[:6]} is rotated or not north-up; a north-up grid was "
            "wanted (gdalwarp makes one)"
        )
    if min(shape) < 1:
        raise error(f"{name}: its shape is {tuple(shape)}; a filled grid was wanted")
