"""Draw probability, mask, observations and map outlines of a mosaic as one figure.

    python scripts/draw_mosaic.py MOSAIC 33N figure.png [--maps MAPS]

The figure shows one UTM zone. With ``--maps``, the folder of its maps, it shows their outlines: a
step along an outline is a seam.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import rasterio
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

SIDE_PX = 1400
MASK_COLOURS = ("#e4d5b7", "#1b7837", "#9a9a9a")


def read_decimated(path: Path) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    with rasterio.open(path) as source:
        factor = max(1.0, max(source.shape) / SIDE_PX)
        shape = tuple(round(side / factor) for side in source.shape)
        bounds = source.bounds
        values = source.read(1, out_shape=shape)
    rows, cols = (np.flatnonzero((values != source.nodata).any(axis=axis)) for axis in (1, 0))
    # Cropped to observed pixels, because tiles are larger than the maps.
    scale = (bounds.right - bounds.left) / values.shape[1]
    left, top = bounds.left + cols[0] * scale, bounds.top - rows[0] * scale
    values = values[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    right, bottom = left + values.shape[1] * scale, top - values.shape[0] * scale
    return values, (left, right, bottom, top)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mosaic", type=Path)
    parser.add_argument("zone")
    parser.add_argument("png", type=Path)
    parser.add_argument("--maps", type=Path)
    given = parser.parse_args()
    figure = Figure(figsize=(13, 8.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3)
    stored, extent = read_decimated(given.mosaic / f"forest_probability_{given.zone}.vrt")
    shown = np.ma.masked_equal(stored, 255) / 250
    ramp = axes[0].imshow(shown, vmin=0, vmax=1, extent=extent, interpolation="nearest")
    figure.colorbar(ramp, ax=axes[0], shrink=0.5, label="probability of forest")
    mask, extent = read_decimated(given.mosaic / f"forest_mask_{given.zone}.vrt")
    colours = ListedColormap(MASK_COLOURS)
    axes[1].imshow(
        np.where(mask == 255, 2, mask), cmap=colours, vmin=0, vmax=2, extent=extent,
        interpolation="nearest",
    )  # fmt: skip
    count, extent = read_decimated(given.mosaic / f"observations_{given.zone}.vrt")
    seen = axes[2].imshow(
        np.ma.masked_equal(count, 0), cmap="cividis", extent=extent, interpolation="nearest"
    )
    figure.colorbar(seen, ax=axes[2], shrink=0.5, label="observations")
    for place, title in zip(axes, ("probability", "mask", "observations"), strict=True):
        place.set(title=title, facecolor="#9a9a9a", xticks=[], yticks=[])
    for path in sorted(given.maps.glob("*/forest_probability.tif")) if given.maps else ():
        with rasterio.open(path) as source:
            box = source.bounds
        x = [box.left, box.right, box.right, box.left, box.left]
        y = [box.bottom, box.bottom, box.top, box.top, box.bottom]
        axes[2].plot(x, y, color="#d6336c", linewidth=1, scalex=False, scaley=False)
    figure.savefig(given.png)
    print(f"{given.png}: {given.png.stat().st_size / 1000:,.0f} kB")


if __name__ == "__main__":
    main()
