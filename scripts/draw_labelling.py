"""Draw one page of a sample's QGIS layout: the picture in docs/qgis.md.

Run it with the Python of QGIS, after ``geoforest area MAP --sample N --out sample.gpkg``:

    python3 scripts/draw_labelling.py sample.qgz 7 docs/labelling.png
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from qgis.core import QgsApplication, QgsLayoutExporter, QgsProject

_DPI = 85


def main(project: str, point: int, figure: str) -> None:
    application = QgsApplication([], False)
    application.initQgis()
    try:
        if not QgsProject.instance().read(project):
            raise SystemExit(f"{project}: cannot be read by QGIS")
        (layout,) = QgsProject.instance().layoutManager().printLayouts()
        atlas = layout.atlas()
        atlas.beginRender()
        atlas.seekTo(point - 1)
        settings = QgsLayoutExporter.ImageExportSettings()
        settings.dpi = _DPI
        if QgsLayoutExporter(layout).exportToImage(figure, settings):
            raise SystemExit(f"{figure}: cannot be written")
        atlas.endRender()
    finally:
        QgsProject.instance().clear()
        application.exitQgis()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
