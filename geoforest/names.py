"""Names of the files and folders of a map."""

from __future__ import annotations

from typing import Final

MASK_NAME: Final = "forest_mask.tif"
PROBABILITY_NAME: Final = "forest_probability.tif"
POLYGONS_NAME: Final = "forest.gpkg"
SUMMARY_NAME: Final = "summary.json"
REPORT_NAME: Final = "report.html"
JOB_NAME: Final = "job.json"
WORK_NAME: Final = ".geoforest-work"
PROGRESS_NAME: Final = "progress.json"
