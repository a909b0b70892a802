"""``report.html`` of a mosaic: hectares, a first look, zones, and what its maps warn of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rasterio.enums import Resampling

from geoforest.grid import PREVIEW_PX
from geoforest.picture import png
from geoforest.report.page import render
from geoforest.types import NO_OBSERVATION

_GREY = "#9a9a9a"


def write_report(
    path: Path, fraction: Path, summary: Mapping[str, Any], zones: Mapping[str, Mapping[str, float]]
) -> None:
    """Render the page with its picture inside; no network is needed to read it.

    Parameters
    ----------
    path
        File to write.
    fraction
        Forest fraction, see :func:`geoforest.mosaic.cells.write_fraction`.
    summary
        Content of ``mosaic.json``.
    zones
        Hectares of ``forest`` and ``other`` by name of the zone.
    """
    page = render(
        "mosaic.html",
        summary=summary,
        zones=zones,
        picture=fraction_picture(fraction),
        file=fraction.name,
    )
    path.write_text(page, encoding="utf-8")


def fraction_picture(fraction: Path) -> bytes:
    """PNG of a forest fraction, cut to what was observed and decimated to a page's size."""
    with rasterio.open(fraction) as source:
        factor = max(1.0, max(source.shape) / PREVIEW_PX)
        shape = tuple(max(1, round(side / factor)) for side in source.shape)
        percent = source.read(1, out_shape=shape, resampling=Resampling.nearest)
    seen = percent != NO_OBSERVATION
    rows, cols = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    if len(rows):
        percent = percent[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    height, width = percent.shape
    figure = Figure(figsize=(10, min(14.0, 1 + 9 * height / width)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set(xticks=[], yticks=[], facecolor=_GREY)
    ramp = axes.imshow(
        np.ma.masked_equal(percent, NO_OBSERVATION),
        vmin=0,
        vmax=100,
        cmap="YlGn",
        interpolation="nearest",
    )
    bar = figure.colorbar(ramp, ax=axes, shrink=0.7)
    # On a phone the picture is a third of its size.
    bar.set_label("forest, % of observed (grey: not observed)", size=16)
    bar.ax.tick_params(labelsize=14)
    return png(figure)
