"""``report.html`` of a comparison: both dates side by side, and what became of each pixel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from rasterio.enums import Resampling

from geoforest.grid import PREVIEW_PX
from geoforest.names import QUICKLOOK_NAME
from geoforest.picture import png
from geoforest.report.page import render
from geoforest.types import NO_OBSERVATION, PROBABILITY_STEPS

if TYPE_CHECKING:
    from geoforest.finished import FinishedMap

_GREY = (0.6, 0.6, 0.6)
_WIDTH_INCHES = 15.0


def write_report(
    path: Path, maps: tuple[FinishedMap, FinishedMap], change: Path, summary: dict[str, Any]
) -> None:
    """Render the report with its picture inside; no network is needed to read it.

    Parameters
    ----------
    path
        File to write.
    maps
        Earlier and later.
    change
        Raster of change codes.
    summary
        Content of ``change.json``.
    """
    picture = _picture(maps, change, summary)
    path.write_text(render("change.html", summary=summary, picture=picture), encoding="utf-8")


def _picture(maps: tuple[FinishedMap, FinishedMap], change: Path, summary: dict[str, Any]) -> bytes:
    from geoforest.change import COLOURS, NAMES

    codes = _decimated(change, Resampling.mode)
    rows, cols = codes.shape
    # Three panels beside each other, and room for titles and legend.
    height = min(14.0, _WIDTH_INCHES / 3 * rows / cols + 0.9)
    figure = Figure(figsize=(_WIDTH_INCHES, height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3)
    dates = [summary[which] for which in ("earlier", "later")]
    titles = [(date["acquired"] or "")[:10] or date["scene_id"] for date in dates]
    for place, one, title in zip(axes[:2], maps, titles, strict=True):
        place.imshow(_seen(one), interpolation="nearest", aspect="auto")
        place.set_title(title, parse_math=False)
    table = np.zeros((256, 3))
    for code, colour in COLOURS.items():
        table[code] = _GREY if code == NO_OBSERVATION else np.array(colour[:3]) / 255
    axes[2].imshow(table[codes], interpolation="nearest", aspect="auto")
    axes[2].set(title="change")
    figure.legend(
        handles=[
            Patch(facecolor=table[code], edgecolor="black", label=name)
            for code, name in NAMES.items()
        ],
        loc="outside lower center",
        ncols=len(NAMES),
        frameon=False,
    )
    for place in axes:
        place.set(xticks=[], yticks=[])
        place.set_box_aspect(rows / cols)
    return png(figure)


def _seen(one: FinishedMap) -> NDArray[np.float64]:
    """Give the scene in true colour, or its probability where no picture of it was kept."""
    path = one.folder / QUICKLOOK_NAME
    if path.is_file():
        with rasterio.open(path) as source:
            colours = np.moveaxis(source.read([1, 2, 3]), 0, -1) / 255
            seen = source.dataset_mask() > 0
        return np.where(seen[..., None], colours, _GREY)
    stored = _decimated(one.probability, Resampling.nearest)
    grey = np.repeat(stored[..., None] / PROBABILITY_STEPS, 3, axis=-1)
    return np.where((stored == NO_OBSERVATION)[..., None], _GREY, grey)


def _decimated(path: Path, resampling: Resampling) -> NDArray[np.uint8]:
    with rasterio.open(path) as source:
        factor = max(1.0, max(source.shape) / PREVIEW_PX)
        shape = tuple(max(1, round(side / factor)) for side in source.shape)
        values: NDArray[np.uint8] = source.read(1, out_shape=shape, resampling=resampling)
    return values
