"""A raster's pixels in a plain file, written at any place in any order, for GDAL to read once.

GDAL does not report each failed write, and libtiff may not come back from some; the operating
system reports all of them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from rasterio.crs import CRS
from rasterio.enums import WktVersion

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from geoforest.arrays.georef import GeoRef
    from geoforest.arrays.grid import Window
    from geoforest.types import Array


class FlatRaster:
    """Pixels of a uint8 raster in a plain file, row by row, and a virtual raster that reads it.

    Parameters
    ----------
    path
        File to write; the virtual raster is ``path`` + ``.vrt``.
    shape
        Rows and columns.

    Raises
    ------
    OSError
        As any method, when the file cannot be written.
    """

    def __init__(self, path: Path, shape: tuple[int, int]) -> None:
        self.path, self.virtual = path, Path(f"{path}.vrt")
        self._shape = shape
        self._file = path.open("wb", buffering=0)

    def write(self, window: Window, values: Array) -> None:
        """Write the pixels of a window."""
        cols = self._shape[1]
        if window.width == cols:
            self._put(values, window.row_off * cols)
            return
        for row in range(window.height):
            place = (window.row_off + row) * cols + window.col_off
            self._put(values[row], place)

    def _put(self, values: Array, offset: int) -> None:
        content = memoryview(np.ascontiguousarray(values, np.uint8).reshape(-1).data)
        while len(content):
            written = os.pwrite(self._file.fileno(), content, offset)
            content, offset = content[written:], offset + written

    def finish(self, georef: GeoRef, tags: Mapping[str, str], band: Sequence[str]) -> None:
        """Close the file, and write the virtual raster.

        Parameters
        ----------
        georef, tags
            Its grid and metadata.
        band
            Elements that describe its band.
        """
        self._file.truncate(self._shape[0] * self._shape[1])
        self._file.close()
        rows, cols = self._shape
        numbers = ", ".join(repr(float(number)) for number in georef.transform.to_gdal())
        crs = ""
        if georef.crs is not None:
            wkt = CRS.from_user_input(georef.crs).to_wkt(version=WktVersion.WKT2_2019)
            crs = f"<SRS>{escape(wkt)}</SRS>"
        metadata = "".join(
            f"<MDI key={quoteattr(name)}>{escape(value)}</MDI>" for name, value in tags.items()
        )
        self.virtual.write_text(
            f'<VRTDataset rasterXSize="{cols}" rasterYSize="{rows}">{crs}'
            f"<GeoTransform>{numbers}</GeoTransform><Metadata>{metadata}</Metadata>"
            '<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
            f"{''.join(band)}"
            f'<SourceFilename relativeToVRT="1">{escape(self.path.name)}</SourceFilename>'
            f"<ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>{cols}"
            "</LineOffset></VRTRasterBand></VRTDataset>\n",
            encoding="utf-8",
        )

    def remove(self) -> None:
        """Remove both files."""
        self._file.close()
        self.path.unlink(missing_ok=True)
        self.virtual.unlink(missing_ok=True)
