"""Open the outputs of a map in the real QGIS, and tell as JSON what it sees.

Runs under the Python that QGIS belongs to, with nothing besides:

    python3 tests/qgis/check_outputs.py project maps/T20LMR/forest.qgz picture.png
    python3 tests/qgis/check_outputs.py polygons strict.gpkg picture.png
    python3 tests/qgis/check_outputs.py raster maps/T20LMR/forest_mask.tif picture.png
    python3 tests/qgis/check_outputs.py sample sample.gpkg picture.png

It only looks; what is right is for the caller to say.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from qgis.core import (
    QgsApplication,
    QgsAttributeTableConfig,
    QgsDistanceArea,
    QgsExpression,
    QgsExpressionContext,
    QgsExpressionContextUtils,
    QgsFeature,
    QgsGeometry,
    QgsLayoutExporter,
    QgsLayoutItemLabel,
    QgsLayoutItemMap,
    QgsMapLayer,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsPrintLayout,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsRenderContext,
    QgsSymbolLayer,
    QgsVectorLayer,
    QgsWkbTypes,
)
from qgis.PyQt.QtCore import QSize

_LONGER_SIDE_PX = 800


def main(kind: str, path: str, png: str, box: str = "") -> dict:
    """Look at one file; ``box`` is ``left,bottom,right,top`` to draw, by default all."""
    path = str(Path(path).absolute())
    if kind == "project":
        return _project(path, png, box)
    if kind == "polygons":
        layer = QgsVectorLayer(f"{path}|layername=forest_cover", "polygons", "ogr")
    elif kind == "sample":
        layer = QgsVectorLayer(f"{path}|layername=sample", "sample", "ogr")
    else:
        layer = QgsRasterLayer(path, "raster")
    found = _layer(layer)
    if layer.isValid() and not layer.extent().isEmpty():
        found["drawing"] = _draw([layer], _box(box) or layer.extent(), layer.crs(), png)
    return found


def _project(path: str, png: str, box: str) -> dict:
    project = QgsProject.instance()
    read = project.read(path)
    view = project.viewSettings().defaultViewExtent()
    nodes = project.layerTreeRoot().findLayers()
    layers = []
    for node in nodes:
        layer = node.layer()
        layers.append(
            {
                **(_layer(layer) if layer else {"valid": False}),
                "shown": node.isVisible(),
                "crs_is_the_projects": bool(layer) and layer.crs() == project.crs(),
                "title": node.name(),
                # What QGIS makes of the name where it fills in expressions.
                "title_filled_in": QgsExpression.replaceExpressionText(
                    node.name(), QgsExpressionContext()
                ),
            }
        )
    shown = [node.layer() for node in nodes if node.isVisible() and node.layer()]
    return {
        "read": read,
        "error": project.error(),
        "title": project.title(),
        "crs": _crs(project.crs()),
        "view": _bounds(view),
        "view_crs_is_the_projects": view.crs() == project.crs(),
        "ellipsoid": project.ellipsoid(),
        "layers": layers,
        "drawing": _draw(shown, _box(box) or view, project.crs(), png),
        "layouts": [_layout(one, png) for one in project.layoutManager().printLayouts()],
        **_places(project),
    }


def _places(project: QgsProject) -> dict:
    """What a project offers to be shown: layers by theme, bounds by bookmark."""
    themes, marks = project.mapThemeCollection(), project.bookmarkManager().bookmarks()
    return {
        "themes": {
            name: [layer.source() for layer in themes.mapThemeVisibleLayers(name)]
            for name in themes.mapThemes()
        },
        "bookmarks": {mark.name(): _bounds(mark.extent()) for mark in marks},
        "bookmarks_crs": sorted({mark.extent().crs().authid() for mark in marks}),
    }


def _layout(layout: QgsPrintLayout, png: str) -> dict:
    """Pages of an atlas; the last of them is drawn beside the picture of the project."""
    atlas = layout.atlas()
    pages = []
    atlas.beginRender()
    while atlas.next():
        texts = {
            item.id(): item.currentText()
            for item in layout.items()
            if isinstance(item, QgsLayoutItemLabel)
        }
        maps = {
            item.id(): _bounds(item.extent())
            for item in layout.items()
            if isinstance(item, QgsLayoutItemMap)
        }
        pages.append({"name": atlas.currentFilename(), "texts": texts, "maps": maps})
    settings = QgsLayoutExporter.ImageExportSettings()
    settings.dpi = 60
    page = f"{png}.page.png"
    exported = QgsLayoutExporter(layout).exportToImage(page, settings)
    atlas.endRender()
    layers = {
        item.id(): [layer.source() for layer in item.layers()]
        for item in layout.items()
        if isinstance(item, QgsLayoutItemMap)
    }
    return {
        "name": layout.name(),
        "pages": pages,
        "layers": layers,
        "page": page,
        "exported": exported == 0,
    }


def _layer(layer: QgsMapLayer) -> dict:
    found = {
        "name": layer.name(),
        "valid": layer.isValid(),
        "source": layer.source(),
        "crs": _crs(layer.crs()),
        "extent": _bounds(layer.extent()),
        "opacity": layer.opacity(),
    }
    if not layer.isValid():
        return found
    return {**found, **(_vector(layer) if isinstance(layer, QgsVectorLayer) else _raster(layer))}


def _vector(layer: QgsVectorLayer) -> dict:
    scopes = QgsExpressionContextUtils.globalProjectLayerScopes(layer)
    context = QgsExpressionContext(scopes)
    tips, texts, measured = [], {}, None
    registry = QgsApplication.fieldFormatterRegistry()
    geometries = _Geometries()
    for feature in layer.getFeatures():
        geometries.add(feature.geometry())
        if tips:
            continue
        context.setFeature(feature)
        measured = _hectares(layer, feature)
        tips.append(QgsExpression.replaceExpressionText(layer.mapTipTemplate(), context))
        tips.append(QgsExpression(layer.displayExpression()).evaluate(context))
        for index, field in enumerate(layer.fields()):
            setup = layer.editorWidgetSetup(index)
            formatter = registry.fieldFormatter(setup.type())
            texts[field.name()] = formatter.representValue(
                layer, index, setup.config(), None, feature[index]
            )
    return {
        "features": layer.featureCount(),
        "styles_in_file": layer.listStylesInDatabase()[0],
        "renderer": layer.renderer().type(),
        "symbols": [
            {
                "type": part.layerType(),
                "colour": part.color().name(),
                "alpha": part.color().alpha(),
                "level": part.renderingPass(),
                "width_mm": _limits(part),
            }
            for symbol in layer.renderer().symbols(QgsRenderContext())
            for part in symbol.symbolLayers()
        ],
        "legend": [item.label() for item in layer.renderer().legendSymbolItems()],
        "symbol_levels": layer.renderer().usingSymbolLevels(),
        "aliases": {f.name(): layer.attributeAlias(i) for i, f in enumerate(layer.fields())},
        "columns_hidden": [
            column.name for column in layer.attributeTableConfig().columns() if column.hidden
        ],
        "form": [tab.name() for tab in layer.editFormConfig().tabs()],
        "form_fields": [
            child.name() for tab in layer.editFormConfig().tabs() for child in tab.children()
        ],
        "table": [
            column.name
            for column in layer.attributeTableConfig().columns()
            if column.type == QgsAttributeTableConfig.Field and not column.hidden
        ],
        "table_sorted_by": layer.attributeTableConfig().sortExpression(),
        "locked": [
            field.name()
            for index, field in enumerate(layer.fields())
            if layer.editFormConfig().readOnly(index)
        ],
        "widgets": {
            field.name(): [setup.type(), setup.config()]
            for field, setup in (
                (field, layer.editorWidgetSetup(index))
                for index, field in enumerate(layer.fields())
            )
        },
        "first_tip": tips[0] if tips else None,
        "first_name": tips[1] if tips else None,
        "first_texts": texts,
        "first_hectares": measured,
        "geometries": vars(geometries),
    }


def _hectares(layer: QgsVectorLayer, feature: QgsFeature) -> float:
    """Area of a feature as its dialogue would tell it."""
    measure = QgsDistanceArea()
    measure.setSourceCrs(layer.crs(), QgsProject.instance().transformContext())
    measure.setEllipsoid(QgsProject.instance().ellipsoid())
    return measure.measureArea(feature.geometry()) / 1e4


def _limits(part: QgsSymbolLayer) -> list:
    """Least and most of a line's width, where it has such."""
    line = part.layerType() == "SimpleLine"
    scale = part.widthMapUnitScale() if line else part.strokeWidthMapUnitScale()
    return [
        scale.minSizeMM if scale.minSizeMMEnabled else None,
        scale.maxSizeMM if scale.maxSizeMMEnabled else None,
    ]


class _Geometries:
    """What QGIS thinks of geometries; counts of what is wrong."""

    def __init__(self) -> None:
        self.seen = self.holes = self.vertices = 0
        self.not_polygon = self.internal_errors = self.geos_errors = 0
        self.repeated_points = self.clockwise_exteriors = self.counter_clockwise_holes = 0
        self.first_error = ""

    def add(self, geometry: QgsGeometry) -> None:
        self.seen += 1
        if geometry.wkbType() != QgsWkbTypes.Polygon:
            self.not_polygon += 1
            return
        internal = geometry.validateGeometry(QgsGeometry.ValidatorQgisInternal)
        geos = geometry.validateGeometry(QgsGeometry.ValidatorGeos)
        self.internal_errors += len(internal)
        self.geos_errors += len(geos)
        for error in internal + geos:
            self.first_error = self.first_error or error.what()
        polygon = geometry.constGet()
        rings = [polygon.exteriorRing()]
        rings += [polygon.interiorRing(i) for i in range(polygon.numInteriorRings())]
        for position, ring in enumerate(rings):
            # A ring is closed: its area is that of the shoelace, positive counter-clockwise.
            xs = [ring.xAt(i) for i in range(ring.numPoints())]
            ys = [ring.yAt(i) for i in range(ring.numPoints())]
            self.vertices += len(xs)
            pairs = list(zip(xs, ys, strict=True))
            self.repeated_points += sum(a == b for a, b in pairwise(pairs))
            counter_clockwise = _shoelace(pairs) > 0
            if position == 0:
                self.clockwise_exteriors += not counter_clockwise
            else:
                self.holes += 1
                self.counter_clockwise_holes += counter_clockwise


def _shoelace(points: list) -> float:
    # About the first point: coordinates of millions would cost the digits that matter.
    x0, y0 = points[0]
    return sum(
        (ax - x0) * (by - y0) - (bx - x0) * (ay - y0) for (ax, ay), (bx, by) in pairwise(points)
    )


def _raster(layer: QgsRasterLayer) -> dict:
    renderer, provider = layer.renderer(), layer.dataProvider()
    found = {
        "renderer": renderer.type(),
        "bands": layer.bandCount(),
        "pixel": [layer.rasterUnitsPerPixelX(), layer.rasterUnitsPerPixelY()],
    }
    if renderer.type() == "paletted":
        found["classes"] = {
            str(int(each.value)): [each.label, each.color.name(), each.color.alpha()]
            for each in renderer.classes()
        }
    if renderer.type() == "singlebandpseudocolor":
        shader = renderer.shader().rasterShaderFunction()
        found["scale"] = provider.bandScale(1)
        found["range"] = [shader.minimumValue(), shader.maximumValue()]
        found["ramp"] = {}
        for step in range(251):
            value = step / 250
            _, red, green, blue, alpha = shader.shade(value)
            found["ramp"][str(step)] = [red, green, blue, alpha]
    if layer.bandCount() == 1:
        # Of the pixels on a coarse lattice: what is stored (as QGIS scales it), and its colour.
        found["samples"] = _samples(layer)
    return found


def _samples(layer: QgsRasterLayer) -> list:
    extent, provider = layer.extent(), layer.dataProvider()
    # The pixels of the file itself: no overview, no resampling.
    width, height = layer.width(), layer.height()
    values = provider.block(1, extent, width, height)
    colours = layer.renderer().block(1, extent, width, height)
    samples = []
    for row in range(height // 40, height, max(1, height // 20)):
        for col in range(width // 40, width, max(1, width // 20)):
            colour = colours.color(row, col)
            samples.append(
                {
                    "row": row,
                    "col": col,
                    "value": None if values.isNoData(row, col) else values.value(row, col),
                    "colour": [colour >> 16 & 255, colour >> 8 & 255, colour & 255, colour >> 24],
                }
            )
    return samples


def _draw(layers: list, extent: object, crs: object, png: str) -> dict:
    ratio = extent.width() / extent.height()
    longer = _LONGER_SIDE_PX
    size = QSize(longer, max(1, round(longer / ratio)))
    if ratio < 1:
        size = QSize(max(1, round(longer * ratio)), longer)
    settings = QgsMapSettings()
    settings.setLayers(layers)
    settings.setExtent(extent)
    settings.setOutputSize(size)
    settings.setDestinationCrs(crs)
    settings.setFlag(QgsMapSettings.UseRenderingOptimization, True)
    start = time.perf_counter()
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    seconds = time.perf_counter() - start
    assert job.renderedImage().save(png), png
    return {
        "seconds": round(seconds, 3),
        "errors": [error.message for error in job.errors()],
        "extent": _bounds(settings.visibleExtent()),
    }


def _crs(crs: object) -> dict:
    return {
        "valid": crs.isValid(),
        "code": crs.authid(),
        "degrees": crs.isGeographic(),
        "proj": crs.toProj(),
    }


def _bounds(extent: object) -> list:
    return [extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum()]


def _box(text: str) -> object:
    return QgsRectangle(*map(float, text.split(","))) if text else None


if __name__ == "__main__":
    # A home of its own: nothing of the user's settings, nothing left in them.
    with tempfile.TemporaryDirectory() as home:
        os.environ["HOME"] = os.environ["XDG_RUNTIME_DIR"] = home
        application = QgsApplication([], False, home)
        application.initQgis()
        messages: list = []
        QgsApplication.messageLog().messageReceived.connect(
            lambda text, tag, level: messages.append([tag, text])
        )
        answer = main(*sys.argv[1:])
        print(json.dumps({**answer, "messages": messages}))
        QgsProject.instance().clear()
        application.exitQgis()
