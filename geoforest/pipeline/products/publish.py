"""The texts of a map, and publishing all of it in one step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from geoforest._version import __version__
from geoforest.io.files import without_secrets
from geoforest.io.names import PROBABILITY_NAME, PROJECT_NAME, REPORT_NAME, SUMMARY_NAME, UNITS_NAME
from geoforest.io.tables import csv_text
from geoforest.maps.units.read import Units
from geoforest.pipeline.job import Job
from geoforest.pipeline.ledger import Prediction
from geoforest.pipeline.products.made import Made
from geoforest.pipeline.products.request import asked
from geoforest.pipeline.settings import MapSettings
from geoforest.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from geoforest.pipeline.products.summary import Summary


def finish(
    job: Job,
    workspace: Workspace,
    settings: MapSettings,
    units: Units | None,
    prediction: Prediction,
    made: Made,
    summary: Summary,
) -> None:
    """Write the texts, drop what was not asked for, and publish all of it in one step."""
    from geoforest.maps.units.page import unit_table
    from geoforest.pipeline.products.page import write_report
    from geoforest.pipeline.products.qgis import write_project, write_styles
    from geoforest.pipeline.products.stac_item import write_item

    staging = workspace.staging
    (staging / SUMMARY_NAME).write_text(summary.to_json(), encoding="utf-8")
    if summary.units:
        (staging / UNITS_NAME).write_text(csv_text(summary.units), encoding="utf-8")
    if made.layers is not None:
        table = unit_table(units, made.units) if units and made.units else None
        write_report(staging / REPORT_NAME, job, prediction, made, summary, table)
    if "mask" not in settings.products:
        made.mask.unlink()
        Path(f"{made.mask}.aux.xml").unlink()
    if "probability" not in settings.products:
        (staging / PROBABILITY_NAME).unlink(missing_ok=True)
    write_styles(staging)
    if made.layers is not None:
        write_project(staging / PROJECT_NAME, job.scene)
    write_item(staging, job, made)
    workspace.publish(
        {
            **workspace.record,
            "geoforest": __version__,
            "created": summary.created,
            "scene_id": job.scene.scene_id,
            "model": job.bundle.model_id,
            "threshold": made.threshold,
            "settings": {
                **settings.model_dump(mode="json"),
                "model": without_secrets(settings.model),
            },
            "asked": asked(job, settings, units),
            "prediction": prediction.facts(),
        }
    )
