"""Names of the files and folders of a map, and of what it shows."""

from __future__ import annotations

from pathlib import PurePath
from typing import Final

MASK_NAME: Final = "forest_mask.tif"
PROBABILITY_NAME: Final = "forest_probability.tif"
POLYGONS_NAME: Final = "forest.gpkg"
SUMMARY_NAME: Final = "summary.json"
REPORT_NAME: Final = "report.html"
COUNT_NAME: Final = "observations.tif"
UNITS_NAME: Final = "units.csv"
QUICKLOOK_NAME: Final = "quicklook.tif"
PROJECT_NAME: Final = "forest.qgz"
JOB_NAME: Final = "job.json"
WORK_NAME: Final = ".geoforest-work"
MOSAIC_NAME: Final = "mosaic.json"
PROGRESS_NAME: Final = "progress.json"
FOREST_LABEL: Final = "forest cover (model)"
"""What outputs call the mapped forest: the result of a model, not a survey."""


def style_name(raster: str) -> str:
    """Return the file name under which QGIS looks for the style of a raster.

    Examples
    --------
    >>> style_name("forest_mask.tif")
    'forest_mask.qml'
    """
    return PurePath(raster).with_suffix(".qml").name
