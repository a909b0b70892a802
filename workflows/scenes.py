"""Maps and polygons, one partition per scene, then the mosaic of all of them and its areas."""

import json
from pathlib import Path
from typing import Any

import dagster as dg

import geoforest
from workflows.checks import (
    SOUND,
    check_map,
    check_polygons,
    is_sound,
    map_specs,
    polygon_specs,
)
from workflows.metadata import picture, scores, table
from workflows.settings import Settings
from workflows.steps import GPU, Materialized, step

GROUP = "maps"
SCENES = dg.DynamicPartitionsDefinition(name="scenes")


class Remake(dg.Config):
    """Whether to replace a map of another model, or of an earlier state of the scene."""

    overwrite: bool = False


@step(group_name=GROUP, partitions_def=SCENES)
def scene(context: dg.AssetExecutionContext, settings: Settings) -> Materialized:
    """A scene that can be mapped: opened, with its description and a picture."""
    location, opened = settings.scene(context.partition_key)
    return dg.MaterializeResult(
        metadata={
            "location": location,
            "crs": opened.crs.to_string(),
            "rows": opened.shape[0],
            "cols": opened.shape[1],
            "acquired": str(opened.acquired),
            "bands": ", ".join(band.name for band in opened.bands),
            "picture": picture(geoforest.scene_picture(opened), context.partition_key),
        }
    )


@step(
    group_name=GROUP,
    partitions_def=SCENES,
    deps=[scene],
    check_specs=map_specs("forest_map"),
    **GPU,
)
def forest_map(
    context: dg.AssetExecutionContext, settings: Settings, config: Remake
) -> Materialized:
    """Mask and probability of a scene; finished products are not computed again."""
    opened, result = _map_scene(context, settings, "mask,probability", overwrite=config.overwrite)
    folder = settings.on_disk(result)
    summary = result.summary
    checks = check_map(folder, opened, summary)
    return dg.MaterializeResult(
        metadata={
            **_common_metadata(result, opened, folder),
            "model": summary["model"],
            "threshold": summary["threshold"],
            "pixels": scores(summary["pixels"]),
            "stage_seconds": scores(summary["seconds"]),
            SOUND: is_sound(checks),
        },
        check_results=checks,
    )


@step(
    group_name=GROUP,
    partitions_def=SCENES,
    deps=[forest_map],
    check_specs=polygon_specs("polygons"),
)
def polygons(context: dg.AssetExecutionContext, settings: Settings) -> Materialized:
    """Forest-cover polygons of a map, as a styled GeoPackage; report and QGIS project."""
    opened, result = _map_scene(context, settings, "mask,probability,polygons,report")
    folder = settings.on_disk(result)
    checks = check_polygons(folder, result.summary)
    return dg.MaterializeResult(
        metadata={
            **_common_metadata(result, opened, folder),
            SOUND: is_sound(checks),
            "report": str(result.folder / "report.html"),
            "polygons": scores(result.summary["polygons"] or {}),
            "patch_sizes": table(result.summary["patch_sizes"] or []),
        },
        check_results=checks,
    )


@step(group_name=GROUP, deps=[polygons])
def mosaic(context: dg.AssetExecutionContext, settings: Settings) -> Materialized:
    """All mapped scenes as one product: all ground counted once, patches joined."""
    mapped = context.instance.get_materialized_partitions(polygons.key)
    candidates = sorted(mapped & set(context.instance.get_dynamic_partitions("scenes")))
    present = [scene_id for scene_id in candidates if _is_sound(context.instance, scene_id)]
    if not present:
        raise dg.Failure(
            "no scene is mapped yet, or all of them failed a check: materialise polygons",
            allow_retries=False,
        )
    result = geoforest.mosaic_maps(
        [_map_folder(settings, scene_id) for scene_id in present],
        _mosaic_folder(settings),
        scheduler=settings.scheduler or None,
    )
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(result.folder),
            "scenes": len(present),
            "left_out": ", ".join(sorted({*candidates} - {*present})) or "none",
            "hectares": scores(result.summary["hectares"]),
            "polygons": scores(result.summary["polygons"]),
            "warnings": table([{"warning": text} for text in result.summary["warnings"]]),
            "picture": picture(geoforest.fraction_picture(result.fraction), "forest fraction"),
        }
    )


@step(group_name=GROUP, deps=[mosaic])
def area_by_unit(settings: Settings) -> Materialized:
    """Hectares per unit, such as municipalities; without a file of units, of the whole mosaic."""
    folder = _mosaic_folder(settings)
    if not settings.units:
        summary = json.loads((folder / "mosaic.json").read_text(encoding="utf-8"))
        return dg.MaterializeResult(
            metadata={
                "units": "the whole mosaic; GEOFOREST_UNITS names a file with units",
                "hectares": scores(summary["hectares"]),
            }
        )
    out = settings.folder / "areas"
    areas = geoforest.area_by_unit(
        folder,
        settings.units,
        by=settings.units_field,
        out=out / "areas.gpkg",
        figure=out / "areas.png",
    )
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(out / "areas.gpkg"),
            "units": settings.units,
            "areas": table(areas.rows()),
            "notes": table([{"note": text} for text in areas.notes]),
            "picture": picture((out / "areas.png").read_bytes(), "areas by unit"),
        }
    )


def _is_sound(instance: dg.DagsterInstance, scene_id: str) -> bool:
    """Return whether the latest map and polygons of a scene passed all blocking checks."""
    for asset in (forest_map, polygons):
        wanted = dg.AssetRecordsFilter(asset_key=asset.key, asset_partitions=[scene_id])
        for record in instance.fetch_materializations(wanted, limit=1).records:
            made = record.asset_materialization
            if made is not None and SOUND in made.metadata and not made.metadata[SOUND].value:
                return False
    return True


def _map_scene(
    context: dg.AssetExecutionContext,
    settings: Settings,
    products: str,
    *,
    overwrite: bool = False,
) -> tuple[geoforest.Scene, geoforest.MapResult]:
    location, opened = settings.scene(context.partition_key)
    result = geoforest.map_scene(
        location,
        settings.maps_location,
        scene_id=context.partition_key,
        model=settings.model,
        scheduler=settings.scheduler or None,
        products=products,
        overwrite=overwrite,
    )
    for warning in result.summary["warnings"]:
        context.log.warning(warning)
    for note in result.summary["notes"]:
        context.log.info(note)
    return opened, result


def _common_metadata(
    result: geoforest.MapResult, opened: geoforest.Scene, folder: Path
) -> dict[str, Any]:
    return {
        "location": str(result.folder),
        "hectares": scores(result.summary["hectares"]),
        "picture": picture(
            geoforest.map_picture(opened, folder), "scene, probability, mask, polygons"
        ),
    }


def _map_folder(settings: Settings, scene_id: str) -> Path:
    if "://" in settings.maps_location:
        return settings.fetched(geoforest.open_place(settings.maps_location) / scene_id)
    return Path(settings.maps_location) / scene_id


def _mosaic_folder(settings: Settings) -> Path:
    return settings.folder / "mosaic"
