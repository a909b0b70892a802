"""``report.html``: one self-contained page about a map."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np

from geoforest.pipeline.products.charts import patch_chart, probability_chart
from geoforest.report.page import render
from geoforest.types import PROBABILITY_STEPS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geoforest.maps.units.page import UnitTable
    from geoforest.pipeline.job import Job
    from geoforest.pipeline.ledger import Prediction
    from geoforest.pipeline.products.made import MapProducts
    from geoforest.pipeline.products.summary import MapSummary

# Pixels this close to the threshold change class easily.
_UNSURE = 0.1


def write_report(
    path: Path,
    job: Job,
    prediction: Prediction,
    products: MapProducts,
    summary: MapSummary,
    units: UnitTable | None = None,
) -> None:
    """Write the page, with its pictures inside: it needs no network."""
    observed = sum(prediction.histogram[: PROBABILITY_STEPS + 1])
    sizes = summary["patch_sizes"]
    page = render(
        "report.html",
        summary=summary,
        card=job.bundle.card,
        layers=products.layers or [],
        probabilities=probability_chart(prediction.histogram, products.threshold)
        if observed
        else None,
        unsure_percent=_unsure_percent(prediction.histogram, products.threshold),
        patches=patch_chart(sizes, "patches", "patches") if sizes else None,
        hectares=patch_chart(sizes, "hectares", "hectares") if sizes else None,
        units=units,
        provenance=_provenance(job, summary),
    )
    path.write_text(page, encoding="utf-8")


def _unsure_percent(histogram: Sequence[int], threshold: float) -> float:
    """Return the share of observed pixels within 0.1 of the threshold, in percent."""
    values = np.arange(PROBABILITY_STEPS + 1) / PROBABILITY_STEPS
    counts = np.asarray(histogram[: PROBABILITY_STEPS + 1])
    near = counts[np.abs(values - threshold) <= _UNSURE + 1e-9].sum()
    return float(100 * near / max(counts.sum(), 1))


def _provenance(job: Job, summary: MapSummary) -> dict[str, str]:
    """Return what the map was made of and how, as rows of a table."""
    runtime, grid, source = job.runtime, job.grid, summary["source"]
    scale, offset = (" ".join(f"{value:g}" for value in source[key]) for key in ("scale", "offset"))
    return {
        "Files": ", ".join(sorted({PurePath(name).name for name, _, _ in job.scene.files})),
        "Processing level": source["processing_level"] or "not known",
        "Scale, offset of the bands": f"{scale}; {offset}",
        "Weights (SHA-256)": job.bundle.sha256,
        "Computed by": f"{runtime.name}, {runtime.precision}, {runtime.device}",
        "Window, halo, core": f"{grid.window}, {grid.halo}, {grid.core} px",
        "Fingerprint of the job": job.fingerprint,
        "MapProducts by": f"geoforest {summary['geoforest']}, {summary['created']}",
    }
