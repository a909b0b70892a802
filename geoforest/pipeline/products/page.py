"""``report.html``: one self-contained page about a map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np
from rasterio.warp import transform

from geoforest.arrays.area import PixelTable
from geoforest.pipeline.products.charts import patch_chart, probability_chart
from geoforest.pipeline.products.unsure import is_unsure
from geoforest.report.language import language, message
from geoforest.report.page import render
from geoforest.report.picture import ScaleBar, scale_bar
from geoforest.types import PROBABILITY_STEPS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geoforest.maps.units.page import UnitTable
    from geoforest.pipeline.job import Job
    from geoforest.pipeline.ledger import Prediction
    from geoforest.pipeline.products.made import MapProducts
    from geoforest.pipeline.products.request import MapRun
    from geoforest.pipeline.products.summary import MapSummary
    from geoforest.pipeline.products.verdicts import Verdict
    from geoforest.report.language import Language
    from geoforest.scenes.scene import Scene


def write_report(
    path: Path,
    run: MapRun,
    prediction: Prediction,
    products: MapProducts,
    *,
    summary: MapSummary,
    verdicts: Sequence[Verdict],
    units: UnitTable | None = None,
) -> None:
    """Write the page, with its pictures inside: it needs no network."""
    job = run.job
    observed = sum(prediction.histogram[: PROBABILITY_STEPS + 1])
    sizes, chosen = summary["patch_sizes"], language(run.settings.language)
    page = render(
        "report.html",
        run.settings.language,
        summary=summary,
        verdicts=verdicts,
        warnings=_warnings(summary, verdicts, chosen),
        card=job.bundle.card,
        place=_place(job.scene, chosen),
        layers=products.layers or [],
        insets=products.insets or [],
        probabilities=probability_chart(prediction.histogram, products.threshold, chosen)
        if observed
        else None,
        unsure_percent=_unsure_percent(prediction.histogram, products.threshold),
        patches=patch_chart(sizes, "patches", chosen) if sizes else None,
        hectares=patch_chart(sizes, "hectares", chosen) if sizes else None,
        units=units,
        provenance=_provenance(job, summary),
    )
    path.write_text(page, encoding="utf-8")


def _warnings(summary: MapSummary, verdicts: Sequence[Verdict], chosen: Language) -> list[str]:
    """Return the warnings, those of failed checks in plain words and in the reader's language."""
    scene_id = summary["scene_id"]
    failed = {f"{scene_id}: {one.sentence}": one for one in verdicts if one.passed is False}
    return [
        f"{scene_id}: {chosen(failed[text].plain, **chosen.numerals(failed[text].values))}"
        if text in failed
        else text
        for text in summary["warnings"]
    ]


@dataclass(frozen=True)
class _Place:
    """Where and when a scene was seen, in the reader's language."""

    date: str | None
    coordinates: str
    corners: str
    pixel_m: float
    scale: ScaleBar


def _place(scene: Scene, chosen: Language) -> _Place:
    left, bottom, right, top = scene.bounds
    xs, ys = [left, right, right, left, (left + right) / 2], [top, top, bottom, bottom]
    lons, lats = transform(scene.crs, "EPSG:4326", xs, [*ys, (top + bottom) / 2])
    *corners, middle = zip(lons, lats, strict=True)
    pixel_m = PixelTable.build(scene.georef).pixel_area_m2() ** 0.5
    return _Place(
        date=chosen.date(scene.acquired) if scene.acquired else None,
        coordinates=chosen.coordinates(*middle),
        corners="; ".join(chosen.coordinates(*corner) for corner in corners),
        pixel_m=round(pixel_m, 2),
        scale=scale_bar(pixel_m * scene.shape[1], chosen),
    )


def _unsure_percent(histogram: Sequence[int], threshold: float) -> float:
    """Return the share of observed pixels within 0.1 of the threshold, in percent."""
    near = is_unsure(np.arange(PROBABILITY_STEPS + 1, dtype=np.uint8), threshold)
    counts = np.asarray(histogram[: PROBABILITY_STEPS + 1])
    return float(100 * counts[near].sum() / max(counts.sum(), 1))


def _provenance(job: Job, summary: MapSummary) -> dict[str, str]:
    """Return what the map was made of and how, as rows of a table."""
    runtime, grid, source = job.runtime, job.grid, summary["source"]
    scale, offset = (" ".join(f"{value:g}" for value in source[key]) for key in ("scale", "offset"))
    return {
        message("Files"): ", ".join(
            sorted({PurePath(name).name for name, _, _ in job.scene.files})
        ),
        message("Processing level"): source["processing_level"] or "not known",
        message("Scale, offset of the bands"): f"{scale}; {offset}",
        message("Weights (SHA-256)"): job.bundle.sha256,
        message("Computed by"): f"{runtime.name}, {runtime.precision}, {runtime.device}",
        message("Window, halo, core"): f"{grid.window}, {grid.halo}, {grid.core} px",
        message("Fingerprint of the job"): job.fingerprint,
        message("Made by"): f"geoforest {summary['geoforest']}, {summary['created']}",
    }
