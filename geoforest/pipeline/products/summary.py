"""``summary.json``: the figures of a map, and of the run that made it."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypedDict

from geoforest._version import __version__
from geoforest.arrays.area import PixelTable
from geoforest.arrays.reflectance import distribution_warning
from geoforest.arrays.seams import SEAM_LIMIT
from geoforest.compute.machine import peak_memory_mb
from geoforest.io.names import FOREST_LABEL
from geoforest.pipeline.products.values import value_figures, value_notes, value_warnings
from geoforest.pipeline.products.verdicts import Verdict, judge
from geoforest.types import FOREST, NO_OBSERVATION, OTHER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from geoforest.pipeline.job import Job
    from geoforest.pipeline.ledger import Prediction
    from geoforest.pipeline.products.made import MapProducts
    from geoforest.pipeline.products.request import MapRun
    from geoforest.scenes.scene import Scene

# Within this ratio of pixel sizes, texture and shape of tree cover look alike to a network.
_GSD_TOLERANCE = 1.25


class MapSummary(TypedDict):
    """Content of ``summary.json``. Areas are true ground area in hectares.

    Attributes
    ----------
    geoforest, created
        Version, and ISO time in UTC.
    scene_id, acquired, crs, shape
        The scene; ``acquired`` is an ISO time, or None; ``shape`` is ``(rows, cols)``.
    model, threshold
        Id of the model, and the probability at or above which a pixel is forest.
    label
        Name of the class for people.
    pixels
        Pixels ``forest``, ``other``, ``no_observation`` and ``inside_aoi``.
    hectares
        Hectares ``forest``, ``other`` and ``observed``.
    forest_percent
        Share of the observed area; None when nothing was observed.
    observed_percent
        Observed pixels, of those inside the area of interest.
    values
        Pixels inside the area of interest that the values themselves decide on, see
        :func:`geoforest.pipeline.products.values.value_figures`.
    cloud_mask
        Source of the cloud mask, and the buffer; None without a mask.
    cloud_masked_percent
        Pixels that the cloud mask removes, of those observed before; None without a mask.
    min_area_ha
        Minimum mapping unit.
    polygons
        The accounting, polygon_px = mask_px - dropped_px + filled_px; None without polygons.
    patch_sizes
        Patches and hectares by size of the patch, see
        :class:`geoforest.pipeline.products.patch_sizes.PatchSizes`; None without polygons.
    units
        One row per unit that the map touches, see
        :class:`geoforest.maps.units.areas.UnitAreas`; None where none were asked for.
    quality
        What the map itself shows: seam ratio, halo test, share unobserved, and verdicts.
    windows, planned_windows
        Windows predicted, of those planned: the others show nothing that is observed and wanted.
    shards, reused_shards
        Shards of the job, and those that an earlier run had finished.
    windows_per_second
        Over reading, predicting and committing; None for a resumed run.
    seconds
        Wall seconds per stage; ``read``, ``predict``, ``stitch`` and ``write`` are summed over
        shards, which overlap, inside ``shards``.
    peak_memory_mb, worker_peak_memory_mb
        Resident memory: of this process, and the highest of those that predicted.
    runtime
        Runtime that predicted.
    source
        Facts from the scene's metadata, and the scale and offset that were applied.
    gaps
        Reason per name of a shard that failed and is 255.
    warnings, notes
        Sentences for people.
    """

    geoforest: str
    created: str
    scene_id: str
    acquired: str | None
    crs: str
    shape: tuple[int, int]
    model: str
    threshold: float
    label: str
    pixels: dict[str, int]
    hectares: dict[str, float]
    forest_percent: float | None
    observed_percent: float
    values: dict[str, Any]
    cloud_mask: dict[str, Any] | None
    cloud_masked_percent: float | None
    min_area_ha: float
    polygons: dict[str, int] | None
    patch_sizes: list[dict[str, Any]] | None
    units: list[dict[str, Any]] | None
    quality: dict[str, Any]
    windows: int
    planned_windows: int
    shards: int
    reused_shards: int
    windows_per_second: float | None
    seconds: dict[str, float]
    peak_memory_mb: float
    worker_peak_memory_mb: float
    runtime: dict[str, Any]
    source: dict[str, Any]
    gaps: dict[str, str]
    warnings: list[str]
    notes: list[str]


def summarise(
    run: MapRun, prediction: Prediction, products: MapProducts, verdicts: Sequence[Verdict]
) -> MapSummary:
    """Collect the figures of a finished job."""
    job, scene, clock = run.job, run.job.scene, run.clock
    pixels, hectares = products.totals.pixels, products.totals.hectares
    observed_px = pixels[FOREST] + pixels[OTHER]
    observed_ha = hectares[FOREST] + hectares[OTHER]
    seconds = {**clock.seconds, **prediction.seconds, "total": clock.total()}
    # Over reading, predicting and committing. A resumed run has no rate of its own.
    wall = clock.seconds["shards"] if not prediction.reused_shards else 0.0
    observed_percent = _observed_percent(prediction, products)
    warnings, notes = _remarks(job, prediction, verdicts, observed_px)
    units = products.units
    return MapSummary(
        geoforest=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        scene_id=scene.scene_id,
        acquired=scene.acquired.isoformat() if scene.acquired else None,
        crs=scene.crs.to_string(),
        shape=scene.shape,
        model=job.bundle.model_id,
        threshold=products.threshold,
        label=FOREST_LABEL,
        pixels={**_by_name(pixels), "inside_aoi": prediction.inside_px},
        hectares={
            "forest": round(hectares[FOREST], 4),
            "other": round(hectares[OTHER], 4),
            "observed": round(observed_ha, 4),
        },
        forest_percent=round(100 * hectares[FOREST] / observed_ha, 3) if observed_px else None,
        observed_percent=observed_percent,
        values=value_figures(prediction.values, scene.rules),
        cloud_mask=job.clouds.identity if job.clouds else None,
        cloud_masked_percent=_cloud_masked_percent(job, prediction, observed_px),
        min_area_ha=run.settings.min_area_ha,
        polygons=asdict(products.polygons) if products.polygons else None,
        patch_sizes=products.patch_sizes,
        units=None if units is None else units.rows(),
        quality=_quality(products, observed_percent, verdicts),
        windows=prediction.n_windows,
        planned_windows=sum(job.windows(shard) for shard in job.plan()),
        shards=prediction.n_shards,
        reused_shards=prediction.reused_shards,
        windows_per_second=round(prediction.n_windows / wall, 3) if wall else None,
        seconds={stage: round(spent, 3) for stage, spent in seconds.items()},
        peak_memory_mb=round(peak_memory_mb(), 1),
        worker_peak_memory_mb=round(prediction.peak_memory_mb, 1),
        runtime=vars(job.runtime),
        source=_source(scene),
        gaps=prediction.gaps,
        warnings=warnings,
        notes=[*notes, *(units.notes if units is not None else ())],
    )


def judge_map(run: MapRun, prediction: Prediction, products: MapProducts) -> list[Verdict]:
    """Return the verdicts of all checks of a map."""
    far = _far(run.job, prediction)
    percent = _observed_percent(prediction, products)
    return judge(products.seams, far, percent, products.halo_test)


def _observed_percent(prediction: Prediction, products: MapProducts) -> float:
    pixels = products.totals.pixels
    return round(100 * (pixels[FOREST] + pixels[OTHER]) / max(prediction.inside_px, 1), 3)


def _by_name(pixels: Mapping[int, int]) -> dict[str, int]:
    names = {FOREST: "forest", OTHER: "other", NO_OBSERVATION: "no_observation"}
    return {name: pixels[code] for code, name in names.items()}


def _source(scene: Scene) -> dict[str, Any]:
    return {
        **scene.facts,
        "processing_level": scene.processing_level,
        "scale": list(scene.scale),
        "offset": list(scene.offset),
    }


def _cloud_masked_percent(job: Job, prediction: Prediction, observed_px: int) -> float | None:
    if job.clouds is None:
        return None
    return round(100 * prediction.cloud_px / max(prediction.cloud_px + observed_px, 1), 3)


def _mismatches(job: Job) -> list[str]:
    """Return a sentence per way in which the scene differs from the training data."""
    scene, card = job.scene, job.bundle.card
    sentences = []
    table = PixelTable.build(scene.georef)
    gsd_m = math.sqrt(table.pixel_area_m2())
    if max(gsd_m / card.gsd_m, card.gsd_m / gsd_m) > _GSD_TOLERANCE:
        sentences.append(
            f"pixels are {gsd_m:.1f} m on the ground, the model was trained at {card.gsd_m:g} m"
        )
    if scene.processing_level not in {None, card.processing_level}:
        sentences.append(
            f"processing level is {scene.processing_level}, the model was trained on "
            f"{card.processing_level}"
        )
    return sentences


def _far(job: Job, prediction: Prediction) -> str | None:
    card = job.bundle.card
    return distribution_warning(
        prediction.statistics,
        bands=card.bands,
        mean=card.mean,
        std=card.std,
        reflectance_scale=card.reflectance_scale,
        scale=job.scene.scale,
        offset=job.scene.offset,
    )


def _quality(
    products: MapProducts, observed_percent: float, verdicts: Sequence[Verdict]
) -> dict[str, Any]:
    seams, halo_test = products.seams, products.halo_test
    return {
        "seam_ratio": _rounded(seams.ratio),
        "seam_ratio_shifted": _rounded(seams.shifted),
        "seam_step": _rounded(seams.border_step),
        "seam_limit": SEAM_LIMIT,
        "halo_test": asdict(halo_test) if halo_test else None,
        "unobserved_percent": round(100 - observed_percent, 3),
        "verdicts": [verdict.record() for verdict in verdicts],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _remarks(
    job: Job, prediction: Prediction, verdicts: Sequence[Verdict], observed_px: int
) -> tuple[list[str], list[str]]:
    scene_id, notes = job.scene.scene_id, [*job.scene.notes, *(job.aoi.notes if job.aoi else ())]
    warnings = [f"{scene_id}: {one.sentence}" for one in verdicts if one.passed is False]
    warnings += [f"{job.scene.scene_id}: {sentence}" for sentence in _mismatches(job)]
    rules, inside_px = job.scene.rules, prediction.inside_px
    for sentence in value_warnings(prediction.values, rules, job.scene.dtype, inside_px):
        warnings.append(f"{scene_id}: {sentence}")
    notes += [f"{scene_id}: {sentence}" for sentence in value_notes(prediction.values)]
    if prediction.gaps:
        warnings.append(
            f"{job.scene.scene_id}: {len(prediction.gaps)} of "
            f"{prediction.n_shards + len(prediction.gaps)} shards failed and are 255 in the mask "
            f"({', '.join(prediction.gaps)}); the same command tries them again"
        )
    if prediction.halved:
        notes.append(
            f"{job.scene.scene_id}: a device ran out of memory and did batches of "
            f"{job.runtime.batch_size} in halves: stored values may differ by one step from those "
            "of a run with more memory"
        )
    if not observed_px:
        why = "all that was observed is cloudy" if prediction.cloud_px else "no pixel was observed"
        notes.append(
            f"{job.scene.scene_id}: {why}: the mask is 255 everywhere and there are no polygons"
        )
    if job.scene.acquired is None:
        notes.append(
            f"{job.scene.scene_id}: the time of acquisition is not known, so no STAC item is made"
        )
    return warnings, notes
