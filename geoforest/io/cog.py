"""Cloud-optimised GeoTIFFs of the mask and of the stored probability, streamed by blocks."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import numpy as np
import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError  # GDAL's own errors, which rasterio.shutil lets through
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from geoforest.arrays.grid import Window
from geoforest.errors import WriteError
from geoforest.io.raster import open_raster
from geoforest.types import FOREST, NO_OBSERVATION, OTHER, PROBABILITY_STEPS, Array

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from geoforest.arrays.georef import GeoRef

COLOURS = {OTHER: (228, 213, 183, 255), FOREST: (27, 120, 55, 255), NO_OBSERVATION: (0, 0, 0, 0)}
CATEGORIES = {OTHER: "other", FOREST: "forest", NO_OBSERVATION: "no observation"}
_BLOCK_PX = 512
# A row of shards of both rasters of 80,000 columns; by default GDAL takes a part of the machine.
_CACHE_BYTES = 256 << 20


@dataclass(frozen=True)
class _Look:
    """What makes a raster a mask, or a probability."""

    overviews: str
    level: int
    colours: Mapping[int, tuple[int, int, int, int]] | None = None
    scale: float | None = None
    nodata: int = NO_OBSERVATION


# The last bits of a probability are noise, on which zlib's default effort takes twice the time of
# its first level and gains five percent; a mask it makes a third smaller, in no more time.
_PROBABILITY = _Look("AVERAGE", level=1, scale=1 / PROBABILITY_STEPS)
_COUNT = _Look("MODE", level=6, nodata=0)
_PERCENT = _Look("AVERAGE", level=6)


class CogWriter:
    """A cloud-optimised GeoTIFF in the making: its pixels in any order, then :meth:`finish`.

    As a context manager it cleans up after itself; without ``finish`` it leaves nothing.
    """

    def __init__(
        self,
        path: Path,
        look: _Look,
        *,
        georef: GeoRef,
        tags: Mapping[str, str],
    ) -> None:
        self.path, self._look = path, look
        self._flat = path.with_name(f".{path.name}.flat.tif")
        self._expected = np.zeros(256, np.int64)
        with self._gdal():
            # Not compressed: it is read once, at once, and goes.
            self._target = rasterio.open(
                self._flat,
                "w",
                driver="GTiff",
                height=georef.shape[0],
                width=georef.shape[1],
                count=1,
                dtype="uint8",
                crs=georef.crs,
                transform=georef.transform,
                nodata=look.nodata,
                tiled=True,
                blockxsize=_BLOCK_PX,
                blockysize=_BLOCK_PX,
                BIGTIFF="IF_SAFER",
            )
            # Before any pixel: GDAL cannot change how a file is to be seen once it has some.
            if look.colours is not None:
                self._target.write_colormap(1, look.colours)
            if look.scale is not None:
                self._target.scales, self._target.offsets = (look.scale,), (0.0,)
            self._target.update_tags(**tags)

    def __enter__(self) -> CogWriter:
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError, RasterioError, CPLE_BaseError):  # what counts was said before
            self._target.close()
        self._flat.unlink(missing_ok=True)
        Path(f"{self._flat}.aux.xml").unlink(missing_ok=True)

    def write(self, window: Window, values: Array) -> None:
        """Take the pixels of a window, uint8. Windows are to cover the shape once."""
        place = RasterioWindow(window.col_off, window.row_off, window.width, window.height)
        with self._gdal():
            self._target.write(values, 1, window=place)
        self._expected += _counts(values)

    def finish(self) -> None:
        """Make the file, and read it back. Other threads can work meanwhile.

        Raises
        ------
        WriteError
            When the file cannot be written, or does not read back as it was meant to be.
        """
        with self._gdal():
            self._target.close()
            rasterio.shutil.copy(
                self._flat,
                self.path,
                driver="COG",
                COMPRESS="DEFLATE",
                LEVEL=self._look.level,
                BLOCKSIZE=_BLOCK_PX,
                OVERVIEW_RESAMPLING=self._look.overviews,
                BIGTIFF="IF_SAFER",
            )
            # GDAL may flush a block long after it took it, and then tells nobody that it failed.
            written = sum(_counts(values) for _, values in read_strips(self.path))
            if not np.array_equal(written, self._expected):
                raise WriteError(f"{self.path}: does not read back as it was written")

    @contextmanager
    def _gdal(self) -> Iterator[None]:
        try:
            with rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES):
                yield
        except (OSError, RasterioError, CPLE_BaseError) as error:
            raise WriteError(f"{self.path}: cannot be written ({error})") from error


class ClassWriter(CogWriter):
    """Codes of classes: colour table, MODE overviews, and names of the classes beside it.

    The names go to ``path`` + ``.aux.xml``, where GDAL and QGIS look.

    Parameters
    ----------
    path
        File to make.
    names, colours
        Of each code; RGBA.
    georef
        The grid.
    tags
        Metadata of the file.

    Raises
    ------
    WriteError
        When the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        names: Mapping[int, str],
        colours: Mapping[int, tuple[int, int, int, int]],
        *,
        georef: GeoRef,
        tags: Mapping[str, str],
    ) -> None:
        self._names = names
        look = _Look("MODE", level=6, colours=colours)
        super().__init__(path, look, georef=georef, tags=tags)

    def finish(self) -> None:
        """Make the file, and the one beside it."""
        super().finish()
        names = "".join(
            f"<Category>{escape(self._names.get(code, ''))}</Category>"
            for code in range(NO_OBSERVATION + 1)
        )
        with self._gdal():
            Path(f"{self.path}.aux.xml").write_text(
                f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{names}</CategoryNames>'
                "</PAMRasterBand></PAMDataset>\n",
                encoding="utf-8",
            )


class MaskWriter(ClassWriter):
    """A mask: see :class:`ClassWriter`, whose parameters it has but names and colours."""

    def __init__(self, path: Path, *, georef: GeoRef, tags: Mapping[str, str]) -> None:
        super().__init__(path, CATEGORIES, COLOURS, georef=georef, tags=tags)


class ProbabilityWriter(CogWriter):
    """A stored probability: scale 0.004 in its tags, 255 as nodata, AVERAGE overviews.

    Parameters as for :class:`MaskWriter`.
    """

    def __init__(self, path: Path, *, georef: GeoRef, tags: Mapping[str, str]) -> None:
        super().__init__(path, _PROBABILITY, georef=georef, tags=tags)


class CountWriter(CogWriter):
    """How many observations each pixel has; 0 is nodata.

    Parameters as for :class:`MaskWriter`.
    """

    def __init__(self, path: Path, *, georef: GeoRef, tags: Mapping[str, str]) -> None:
        super().__init__(path, _COUNT, georef=georef, tags=tags)


class PercentWriter(CogWriter):
    """Percent, 0 to 100, and 255 where nothing was observed.

    Parameters as for :class:`MaskWriter`.
    """

    def __init__(self, path: Path, *, georef: GeoRef, tags: Mapping[str, str]) -> None:
        super().__init__(path, _PERCENT, georef=georef, tags=tags)


def read_strips(path: Path) -> Iterator[tuple[Window, Array]]:
    """Read a raster of one band from top to bottom, whole blocks at a time."""
    with open_raster(path) as source:
        rows, cols = source.shape
        for row in range(0, rows, 2 * _BLOCK_PX):
            window = Window(row, 0, min(2 * _BLOCK_PX, rows - row), cols)
            yield window, source.read(1, window=window.slices)


def _counts(values: Array) -> NDArray[np.int64]:
    """Count the pixels of each of 256 values."""
    from geoforest.arrays.kernels.pixels import count_pixels

    return count_pixels(values, 256)
