"""Draw a map of units, coloured by their share of forest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj
import shapely
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PathCollection
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.path import Path as Outline

from geoforest.arrays.polygons.reproject import reprojected
from geoforest.report.figures import draw_scale_bar
from geoforest.report.picture import png

if TYPE_CHECKING:
    import geopandas
    from matplotlib.axes import Axes

_INCHES, _WIDTH_PX = 9.0, 1170
_UNKNOWN, _EDGE = "#c8c8c8", "#404040"
_STEPS = np.linspace(0, 100, 11)
_WELL_OBSERVED_PERCENT = 50.0
# Smallest visible detail, as a share of the picture's side.
_DETAIL = 1 / 2000
_LETTERS = 22


def choropleth(units: geopandas.GeoDataFrame, *, title: str = "", inches: float = _INCHES) -> bytes:
    """Draw units by percent of forest; units less than half observed are hatched.

    Parameters
    ----------
    units
        Frame of :class:`geoforest.maps.units.areas.UnitAreas`, with a CRS.
    title
        Title above the map.
    inches
        Width of the paper. Letters have a fixed size, so a narrow paper makes them look larger.

    Returns
    -------
    bytes
        A PNG file.
    """
    shapes = _in_metres(units)
    left, bottom, right, top = shapely.total_bounds(shapes)
    margin = 0.03 * max(right - left, top - bottom)
    bounds = (left - margin, bottom - margin, right + margin, top + margin)
    figure = Figure(
        figsize=_figure_size(bounds, inches), dpi=_WIDTH_PX / inches, layout="constrained"
    )
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set(xlim=bounds[::2], ylim=bounds[1::2], aspect="equal", xticks=[], yticks=[])
    ramp = ScalarMappable(BoundaryNorm(_STEPS, 256), colormaps["YlGn"])
    forest = units["forest_percent"].to_numpy(float)
    observed = units["observed_percent"].to_numpy(float)
    # Large units first, so that a unit within another stays visible.
    for place in np.argsort(-shapely.area(shapes), kind="stable"):
        known = np.isfinite(forest[place])
        axes.add_collection(
            PathCollection(
                [_outline(shapes[place])],
                facecolors=[ramp.to_rgba(forest[place]) if known else _UNKNOWN],
                edgecolors=_EDGE,
                linewidths=0.7,
                hatch=None if observed[place] >= _WELL_OBSERVED_PERCENT else "////",
            )
        )
    figure.colorbar(ramp, ax=axes, shrink=0.7, label="forest, % of observed area", ticks=_STEPS)
    _legend(axes, forest, observed)
    draw_scale_bar(axes, bounds)
    _draw_labels(canvas, axes, shapes, list(map(_label_texts, units["unit"], forest)))
    if title:
        axes.set_title(title, parse_math=False)
    return png(figure)


def _in_metres(units: geopandas.GeoDataFrame) -> Any:
    """Project outlines to a local equal-area CRS, and drop invisible detail."""
    left, bottom, right, top = units.total_bounds
    to_lonlat = pyproj.Transformer.from_crs(units.crs, 4326, always_xy=True)
    lon, lat = to_lonlat.transform((left + right) / 2, (bottom + top) / 2)
    here = pyproj.CRS.from_dict({"proj": "laea", "lat_0": lat, "lon_0": lon, "datum": "WGS84"})
    side = max(right - left, top - bottom)
    parts = units[[units.geometry.name]].explode()
    moved = reprojected(parts, here, tolerance=side * _DETAIL).geometry
    whole = [shapely.MultiPolygon(moved.loc[[row]].tolist()) for row in range(len(units))]
    left, bottom, right, top = shapely.total_bounds(whole)
    return shapely.simplify(whole, max(right - left, top - bottom) * _DETAIL)


def _figure_size(bounds: tuple[float, float, float, float], inches: float) -> tuple[float, float]:
    left, bottom, right, top = bounds
    # Limits keep long and narrow groups of units legible.
    ratio = min(max((top - bottom) / (right - left), 0.5), 1.6)
    return inches, inches * ratio * 0.85


def _outline(shape: shapely.Geometry) -> Outline:
    rings = [
        Outline(np.asarray(ring.coords), closed=True)
        for polygon in shapely.get_parts(shape)
        for ring in (polygon.exterior, *polygon.interiors)
    ]
    return Outline.make_compound_path(*rings)


def _legend(axes: Axes, forest: Any, observed: Any) -> None:
    handles = []
    if (observed < _WELL_OBSERVED_PERCENT).any():
        handles.append(
            Patch(
                facecolor="white",
                edgecolor=_EDGE,
                hatch="////",
                label=f"less than {_WELL_OBSERVED_PERCENT:g} % observed",
            )
        )
    if np.isnan(forest).any():
        handles.append(Patch(facecolor=_UNKNOWN, edgecolor=_EDGE, label="nothing observed"))
    if handles:
        axes.figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def _label_texts(name: str, share: float) -> tuple[str, ...]:
    """Return the labels to try on a unit, the longest first."""
    short = name if len(name) <= _LETTERS else name[: _LETTERS - 1] + "…"
    return (short,) if np.isnan(share) else (f"{short}\n{share:.0f} %", f"{share:.0f} %")


def _draw_labels(
    canvas: FigureCanvasAgg, axes: Axes, shapes: Any, texts: list[tuple[str, ...]]
) -> None:
    """Label units that have room, large ones first; leave out the others."""
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]  # matplotlib leaves it untyped
    canvas.figure.draw_without_rendering()
    frame = axes.get_window_extent(renderer)
    taken = [text.get_window_extent(renderer).padded(3) for text in axes.texts]
    for place in np.argsort(-shapely.area(shapes), kind="stable"):
        point = shapely.point_on_surface(shapes[place])
        for words in texts[place]:
            text = axes.text(
                point.x,
                point.y,
                words,
                fontsize=8,
                ha="center",
                va="center",
                parse_math=False,
                bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.5},
            )
            extent = text.get_window_extent(renderer).padded(3)
            inside = frame.x0 <= extent.x0 <= extent.x1 <= frame.x1
            inside &= frame.y0 <= extent.y0 <= extent.y1 <= frame.y1
            if inside and not any(extent.overlaps(other) for other in taken):
                taken.append(extent)
                break
            text.remove()
