"""Virtual rasters (VRT) of tiles on one grid."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from geoforest.io.storage import write_durably
from geoforest.types import NO_OBSERVATION, PROBABILITY_STEPS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from geoforest.arrays.georef import GeoRef
    from geoforest.arrays.grid import Window


def write_vrt(
    path: Path,
    tiles: Mapping[Path, Window],
    *,
    window: Window,
    georef: GeoRef,
    like: str,
    nodata: int = NO_OBSERVATION,
) -> None:
    """Write a virtual raster of uint8 tiles, with relative paths to them.

    Parameters
    ----------
    path
        File to write.
    tiles
        File and window of each tile, in the pixel numbering of ``window``.
    window
        Window of the whole raster; pixels without a tile have the nodata value.
    georef
        Grid of the whole raster.
    like
        ``mask``: with colours and class names; ``probability``: with a scale; ``count``.
    nodata
        Value of pixels without a tile.
    """
    from geoforest.io.cog import CATEGORIES, COLOURS, colour_table

    band = [f"<NoDataValue>{nodata}</NoDataValue>"]
    if like == "probability":
        band.append(f"<Offset>0</Offset><Scale>{1 / PROBABILITY_STEPS!r}</Scale>")
    if like == "mask":
        names = "".join(
            f"<Category>{escape(CATEGORIES.get(code, ''))}</Category>" for code in range(256)
        )
        band.append(f"{colour_table(COLOURS)}<CategoryNames>{names}</CategoryNames>")
    for file, tile in tiles.items():
        size = f'xSize="{tile.width}" ySize="{tile.height}"'
        row, col = tile.row_off - window.row_off, tile.col_off - window.col_off
        name = file.relative_to(path.parent).as_posix()
        band.append(
            f'<SimpleSource><SourceFilename relativeToVRT="1">{escape(name)}</SourceFilename>'
            f'<SourceBand>1</SourceBand><SourceProperties RasterXSize="{tile.width}" '
            f'RasterYSize="{tile.height}" DataType="Byte" BlockXSize="512" BlockYSize="512"/>'
            f'<SrcRect xOff="0" yOff="0" {size}/><DstRect xOff="{col}" yOff="{row}" {size}/>'
            "</SimpleSource>"
        )
    numbers = ", ".join(repr(float(number)) for number in georef.transform.to_gdal())
    text = (
        f'<VRTDataset rasterXSize="{window.width}" rasterYSize="{window.height}">\n'
        f"<SRS>{escape(georef.crs.to_wkt())}</SRS><GeoTransform>{numbers}</GeoTransform>\n"
        f'<VRTRasterBand dataType={quoteattr("Byte")} band="1">\n'
        + "\n".join(band)
        + "\n</VRTRasterBand>\n</VRTDataset>\n"
    )
    write_durably(path, text.encode())
