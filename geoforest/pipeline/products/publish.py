"""Write the texts of a map, and publish all products in one step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from geoforest._version import __version__
from geoforest.io.files import without_secrets
from geoforest.io.names import PROBABILITY_NAME, PROJECT_NAME, REPORT_NAME, SUMMARY_NAME, UNITS_NAME
from geoforest.io.recorded import edited_note
from geoforest.io.tables import csv_text
from geoforest.pipeline.products.summary import MapSummary, judge_map, summarise

if TYPE_CHECKING:
    from geoforest.pipeline.ledger import Prediction
    from geoforest.pipeline.products.made import MapProducts
    from geoforest.pipeline.products.request import MapRun
    from geoforest.pipeline.products.verdicts import Verdict


def publish(run: MapRun, prediction: Prediction, products: MapProducts) -> MapSummary:
    """Write the texts of a map, drop products nobody asked for, and publish the rest in one step.

    Parameters
    ----------
    run
        The map.
    prediction
        Totals over its shards.
    products
        See :func:`geoforest.pipeline.products.stage.stage`.
    """
    verdicts = judge_map(run, prediction, products)
    edited = run.workspace.edited()
    summary = summarise(run, prediction, products, verdicts)
    place = run.workspace.destination.location
    summary["notes"] += [edited_note(place / name, kept) for name, kept in edited.items()]
    _write_texts(run, prediction, products, summary, verdicts)
    if "mask" not in run.settings.products:
        products.mask.unlink()
        Path(f"{products.mask}.aux.xml").unlink()
    if "probability" not in run.settings.products:
        (run.workspace.staging / PROBABILITY_NAME).unlink(missing_ok=True)
    _write_companions(run, products)
    settings = run.settings.model_dump(mode="json")
    run.workspace.publish(
        {
            **run.workspace.record,
            "geoforest": __version__,
            "created": summary["created"],
            "scene_id": run.job.scene.scene_id,
            "model": run.job.bundle.model_id,
            "threshold": run.threshold,
            "settings": {**settings, "model": without_secrets(run.settings.model)},
            "asked": run.asked(),
            "prediction": prediction.facts(),
        },
        edited,
    )
    return summary


def _write_texts(
    run: MapRun,
    prediction: Prediction,
    products: MapProducts,
    summary: MapSummary,
    verdicts: list[Verdict],
) -> None:
    """Write summary, table of units and page."""
    staging = run.workspace.staging
    text = json.dumps(summary, indent=2) + "\n"
    (staging / SUMMARY_NAME).write_text(text, encoding="utf-8")
    if summary["units"]:
        (staging / UNITS_NAME).write_text(csv_text(summary["units"]), encoding="utf-8")
    if products.layers is None:
        return
    # Imported here: they load drawing libraries, which a run without a page does not need.
    from geoforest.maps.units.page import unit_table
    from geoforest.pipeline.products.page import write_report

    units = products.units
    table = unit_table(run.units, units) if run.units is not None and units is not None else None
    write_report(
        staging / REPORT_NAME,
        run,
        prediction,
        products,
        summary=summary,
        verdicts=verdicts,
        units=table,
    )


def _write_companions(run: MapRun, products: MapProducts) -> None:
    """Write styles, QGIS project and STAC item for the remaining files."""
    from geoforest.pipeline.products.qgis import write_project, write_styles
    from geoforest.pipeline.products.stac_item import write_item

    staging = run.workspace.staging
    write_styles(staging)
    if products.layers is not None:
        write_project(staging / PROJECT_NAME, run.job.scene, run.settings.language)
    write_item(staging, run.job, products)
