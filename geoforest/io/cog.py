"""Cloud-optimised GeoTIFFs of one uint8 band, written block by block."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError  # GDAL's own errors, which rasterio.shutil lets through
from rasterio.errors import RasterioError

from geoforest.arrays.grid import Window
from geoforest.errors import WriteError
from geoforest.io.flat import FlatRaster
from geoforest.io.gdal import pinned
from geoforest.io.raster import open_raster
from geoforest.io.readback import PixelSums, check_cog
from geoforest.types import FOREST, NO_OBSERVATION, OTHER, PROBABILITY_STEPS, Array

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from geoforest.arrays.georef import GeoRef

COLOURS = {OTHER: (228, 213, 183, 255), FOREST: (27, 120, 55, 255), NO_OBSERVATION: (0, 0, 0, 0)}
CATEGORIES = {OTHER: "other", FOREST: "forest", NO_OBSERVATION: "no observation"}
_BLOCK_PX = 512
# SystemError is rasterio's for failures that GDAL does not explain.
_ERRORS = (OSError, RasterioError, CPLE_BaseError, SystemError)
_OPTIONS: Final[dict[str, str | float]] = {
    # Holds a row of shards of two rasters of 80,000 columns; GDAL's default depends on the machine.
    "GDAL_CACHEMAX": 256 << 20,
    "GDAL_VRT_RAWRASTERBAND_ALLOWED_SOURCE": "SIBLING_OR_CHILD_OF_VRT_PATH",
}
# Files that GDAL may leave beside one that could not be written.
_BESIDE = (".ovr.tmp", ".aux.xml")


@dataclass(frozen=True)
class _Look:
    """Format of a kind of raster: overviews, compression, colours, scale, nodata."""

    overviews: str
    level: int
    colours: Mapping[int, tuple[int, int, int, int]] | None = None
    scale: float | None = None
    nodata: int = NO_OBSERVATION

    def band(self) -> list[str]:
        """Return the elements of a virtual raster that describe the band."""
        elements = [f"<NoDataValue>{self.nodata}</NoDataValue>"]
        if self.scale is not None:
            elements.append(f"<Offset>0</Offset><Scale>{self.scale!r}</Scale>")
        if self.colours is not None:
            elements.append(colour_table(self.colours))
        return elements


# The last bits of a probability are noise: zlib's default level gains 5 % there over level 1, and
# takes twice the time. It makes a mask a third smaller, in the same time.
_PROBABILITY = _Look("AVERAGE", level=1, scale=1 / PROBABILITY_STEPS)
_COUNT = _Look("MODE", level=6, nodata=0)
_PERCENT = _Look("AVERAGE", level=6)


class CogWriter:
    """Writer of a cloud-optimised GeoTIFF: pixels in any order, then :meth:`finish`.

    As a context manager it removes its temporary files; without ``finish`` it leaves nothing.
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
        self._georef, self._tags = georef, tags
        self._written = PixelSums(georef.shape)
        with self._errors():
            # Not compressed: it is read once, soon, and then deleted.
            self._flat = FlatRaster(path.with_name(f".{path.name}.flat"), georef.shape)

    def __enter__(self) -> CogWriter:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        with suppress(OSError):  # an earlier error counts
            self._flat.remove()
        if kind is not None:
            for path in (self.path, *(Path(f"{self.path}{end}") for end in _BESIDE)):
                path.unlink(missing_ok=True)

    def write(self, window: Window, values: Array) -> None:
        """Write the uint8 pixels of a window. Windows must cover each pixel exactly once."""
        with self._errors():
            self._flat.write(window, values)
        self._written.add(window, values)

    def finish(self) -> None:
        """Make the file, and verify it by reading it back. It releases the GIL.

        Raises
        ------
        WriteError
            When the file cannot be written, or reads back with other pixels.
        """
        with self._errors(), pinned(**_OPTIONS):
            self._flat.finish(self._georef, self._tags, self._look.band())
            rasterio.shutil.copy(
                self._flat.virtual,
                self.path,
                driver="COG",
                COMPRESS="DEFLATE",
                LEVEL=self._look.level,
                BLOCKSIZE=_BLOCK_PX,
                OVERVIEW_RESAMPLING=self._look.overviews,
                BIGTIFF="IF_SAFER",
            )
        check_cog(self.path, self._written, self._georef, self._tags, _BLOCK_PX)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except _ERRORS as error:
            raise WriteError(f"{self.path}: cannot be written ({error})") from error


class ClassWriter(CogWriter):
    """Writer of class codes: colour table, MODE overviews, and class names in a second file.

    The names go to ``path`` + ``.aux.xml``, where GDAL and QGIS look for them.

    Parameters
    ----------
    path
        File to write.
    names, colours
        Name and RGBA colour of each code.
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
        """Make the file, and that of the class names."""
        super().finish()
        names = "".join(
            f"<Category>{escape(self._names.get(code, ''))}</Category>"
            for code in range(NO_OBSERVATION + 1)
        )
        with self._errors():
            Path(f"{self.path}.aux.xml").write_text(
                f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{names}</CategoryNames>'
                "</PAMRasterBand></PAMDataset>\n",
                encoding="utf-8",
            )


class MaskWriter(ClassWriter):
    """Writer of a mask. Parameters as for :class:`ClassWriter`, without names and colours."""

    def __init__(self, path: Path, *, georef: GeoRef, tags: Mapping[str, str]) -> None:
        super().__init__(path, CATEGORIES, COLOURS, georef=georef, tags=tags)


class ProbabilityWriter(CogWriter):
    """Writer of a stored probability: scale 0.004, nodata 255, AVERAGE overviews.

    Parameters as for :class:`MaskWriter`.
    """

    def __init__(self, path: Path, *, georef: GeoRef, tags: Mapping[str, str]) -> None:
        super().__init__(path, _PROBABILITY, georef=georef, tags=tags)


class CountWriter(CogWriter):
    """Writer of the number of observations of each pixel; 0 is nodata.

    Parameters as for :class:`MaskWriter`.
    """

    def __init__(self, path: Path, *, georef: GeoRef, tags: Mapping[str, str]) -> None:
        super().__init__(path, _COUNT, georef=georef, tags=tags)


class PercentWriter(CogWriter):
    """Writer of percent, 0 to 100; 255 where not observed.

    Parameters as for :class:`MaskWriter`.
    """

    def __init__(self, path: Path, *, georef: GeoRef, tags: Mapping[str, str]) -> None:
        super().__init__(path, _PERCENT, georef=georef, tags=tags)


def colour_table(colours: Mapping[int, tuple[int, int, int, int]]) -> str:
    """Return the elements of a virtual raster for the colours of its 256 values."""
    entries = "".join(
        '<Entry c1="{}" c2="{}" c3="{}" c4="{}"/>'.format(*colours.get(code, (0, 0, 0, 255)))
        for code in range(NO_OBSERVATION + 1)
    )
    return f"<ColorInterp>Palette</ColorInterp><ColorTable>{entries}</ColorTable>"


def read_strips(path: Path) -> Iterator[tuple[Window, Array]]:
    """Yield windows and pixels of a raster of one band, from top to bottom, in whole blocks."""
    with open_raster(path) as source:
        rows, cols = source.shape
        for row in range(0, rows, 2 * _BLOCK_PX):
            window = Window(row, 0, min(2 * _BLOCK_PX, rows - row), cols)
            yield window, source.read(1, window=window.slices)
