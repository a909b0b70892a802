"""Draw docs/qgis.png: the QGIS project of a map, as a whole and at pixel scale.

Run it with the Python of QGIS, after ``geoforest demo --out demo-out``:

    python3 scripts/draw_qgis.py demo-out/synthetic-rondonia/forest.qgz docs/qgis.png
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from qgis.core import (
    QgsApplication,
    QgsLayout,
    QgsLayoutExporter,
    QgsLayoutItem,
    QgsLayoutItemLabel,
    QgsLayoutItemLegend,
    QgsLayoutItemMap,
    QgsLayoutItemScaleBar,
    QgsLayoutPoint,
    QgsLayoutSize,
    QgsLegendStyle,
    QgsProject,
    QgsRectangle,
    QgsUnitTypes,
)
from qgis.PyQt.QtCore import QSizeF
from qgis.PyQt.QtGui import QColor, QFont, QImage

_SIDE_MM = 108.0
_GAP_MM = 4.0
_LEGEND_MM = 52.0
_DPI = 80
# Title, offset right and down, width (all as shares of the extent), and metres of the scale bar.
_VIEWS = (
    ("The whole scene", 0.0, 0.0, 1.0, 2500),
    ("Among pixels", 0.372, 0.345, 0.055, 150),
)


def main(project_path: str, png: str) -> None:
    """Draw the two views and the legend."""
    project = QgsProject.instance()
    if not project.read(project_path):
        raise SystemExit(f"{project_path}: {project.error()}")
    layout = QgsLayout(project)
    layout.initializeDefaults()
    width = 2 * _SIDE_MM + 2 * _GAP_MM + _LEGEND_MM
    page = layout.pageCollection().page(0)
    page.setPageSize(QgsLayoutSize(width, _SIDE_MM + 8, QgsUnitTypes.LayoutMillimeters))
    whole = project.viewSettings().defaultViewExtent()
    layers = [n.layer() for n in project.layerTreeRoot().findLayers() if n.isVisible()]
    for number, (title, right, down, share, segment_m) in enumerate(_VIEWS):
        at = number * (_SIDE_MM + _GAP_MM)
        left = whole.xMinimum() + right * whole.width()
        top = whole.yMaximum() - down * whole.height()
        view = QgsLayoutItemMap(layout)
        _place(view, at, 8, _SIDE_MM, _SIDE_MM)
        view.setLayers(layers)
        view.setExtent(
            QgsRectangle(left, top - share * whole.height(), left + share * whole.width(), top)
        )
        view.setBackgroundColor(QColor("white"))
        view.setFrameEnabled(True)
        layout.addLayoutItem(view)
        _add_bar(layout, view, at, segment_m)
        _add_label(layout, title, at)
    legend = QgsLayoutItemLegend(layout)
    legend.setAutoUpdateModel(False)
    tree = legend.model().rootGroup()
    # The last layer has no classes to explain.
    tree.removeChildNode(tree.findLayers()[-1])
    _place(legend, 2 * (_SIDE_MM + _GAP_MM), 8, _LEGEND_MM, _SIDE_MM)
    legend.setWrapString(", ")
    legend.setSymbolHeight(3)
    for style in QgsLegendStyle.Group, QgsLegendStyle.Subgroup, QgsLegendStyle.SymbolLabel:
        font = QFont("DejaVu Sans")
        font.setPointSizeF(7)
        legend.rstyle(style).setFont(font)
    layout.addLayoutItem(legend)
    exporter = QgsLayoutExporter(layout)
    image = exporter.renderPageToImage(0, dpi=_DPI)
    if not image.convertToFormat(QImage.Format_RGB32).save(png, "PNG", 0):
        raise SystemExit(f"{png}: cannot be written")
    print(f"{png}: {image.width()} x {image.height()} px, {Path(png).stat().st_size / 1e3:.0f} kB")


def _place(item: QgsLayoutItem, x: float, y: float, width: float, height: float) -> None:
    item.attemptMove(QgsLayoutPoint(x, y, QgsUnitTypes.LayoutMillimeters))
    item.attemptResize(QgsLayoutSize(QSizeF(width, height), QgsUnitTypes.LayoutMillimeters))


def _add_label(layout: QgsLayout, text: str, x: float) -> None:
    label = QgsLayoutItemLabel(layout)
    label.setText(text)
    font = QFont("DejaVu Sans")
    font.setPointSizeF(10)
    label.setFont(font)
    _place(label, x, 1.5, _SIDE_MM, 6)
    layout.addLayoutItem(label)


def _add_bar(layout: QgsLayout, view: QgsLayoutItemMap, x: float, segment_m: float) -> None:
    bar = QgsLayoutItemScaleBar(layout)
    bar.setStyle("Single Box")
    bar.setLinkedMap(view)
    bar.setUnits(QgsUnitTypes.DistanceMeters)
    bar.setUnitLabel("m")
    bar.setUnitsPerSegment(segment_m)
    bar.setNumberOfSegmentsLeft(0)
    bar.setNumberOfSegments(2)
    font = QFont("DejaVu Sans")
    font.setPointSizeF(7)
    bar.setFont(font)
    bar.setHeight(1.5)
    bar.setBackgroundEnabled(True)
    bar.setBackgroundColor(QColor(255, 255, 255, 210))
    layout.addLayoutItem(bar)
    bar.attemptMove(QgsLayoutPoint(x + 2, _SIDE_MM - 5, QgsUnitTypes.LayoutMillimeters))


if __name__ == "__main__":
    application = QgsApplication([], False)
    application.initQgis()
    main(*sys.argv[1:])
    QgsProject.instance().clear()
    application.exitQgis()
