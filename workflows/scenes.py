"""From scenes to areas: each scene a partition, then the mosaic of all that are mapped."""

from pathlib import Path
from typing import Any

import dagster as dg

import geoforest
from geoforest.io.files import open_place
from geoforest.io.names import MOSAIC_NAME
from geoforest.io.storage import read_json
from geoforest.maps.mosaic.page import fraction_picture
from geoforest.maps.mosaic.run import FRACTION_NAME
from geoforest.maps.picture import map_picture
from geoforest.report.quicklook import scene_picture
from geoforest.scenes.scene import Scene
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
from workflows.steps import GPU, step

GROUP = "maps"
SCENES = dg.DynamicPartitionsDefinition(name="scenes")


class Remake(dg.Config):
    """Whether a map of another job is replaced: of another model, or of the scene as it was."""

    overwrite: bool = False


@step(group_name=GROUP, partitions_def=SCENES)
def scene(context: dg.AssetExecutionContext, settings: Settings) -> dg.MaterializeResult:
    """A scene that can be mapped: opened, described, and looked at."""
    location, opened = settings.scene(context.partition_key)
    return dg.MaterializeResult(
        metadata={
            "location": location,
            "crs": opened.crs.to_string(),
            "rows": opened.shape[0],
            "cols": opened.shape[1],
            "acquired": str(opened.acquired),
            "bands": ", ".join(band.name for band in opened.bands),
            "picture": picture(scene_picture(opened), context.partition_key),
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
) -> dg.MaterializeResult:
    """Mask and probability of a scene; what is done already is not done again."""
    opened, result = _mapped(context, settings, "mask,probability", overwrite=config.overwrite)
    folder = settings.on_disk(result)
    summary = result.summary
    checks = check_map(folder, opened, summary)
    return dg.MaterializeResult(
        metadata={
            **_told(result, opened, folder),
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
def polygons(context: dg.AssetExecutionContext, settings: Settings) -> dg.MaterializeResult:
    """Forest-cover polygons of a map, as a styled GeoPackage; report and QGIS project."""
    opened, result = _mapped(context, settings, "mask,probability,polygons,report")
    folder = settings.on_disk(result)
    checks = check_polygons(folder, result.summary)
    return dg.MaterializeResult(
        metadata={
            **_told(result, opened, folder),
            SOUND: is_sound(checks),
            "report": str(result.folder / "report.html"),
            "polygons": scores(result.summary["polygons"]),
            "patch_sizes": table(result.summary["patch_sizes"]),
        },
        check_results=checks,
    )


@step(group_name=GROUP, deps=[polygons])
def mosaic(context: dg.AssetExecutionContext, settings: Settings) -> dg.MaterializeResult:
    """All mapped scenes as one product: each piece of ground once, patches whole."""
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
        _mosaic(settings),
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
            "picture": picture(fraction_picture(result.folder / FRACTION_NAME), "forest fraction"),
        }
    )


@step(group_name=GROUP, deps=[mosaic])
def area_by_unit(settings: Settings) -> dg.MaterializeResult:
    """Hectares by unit, such as municipalities; without a file of units, of the whole mosaic."""
    folder = _mosaic(settings)
    if not settings.units:
        summary = read_json(folder / MOSAIC_NAME) or {}
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
    """Whether the latest map and polygons of a scene passed what blocks."""
    for asset in (forest_map, polygons):
        wanted = dg.AssetRecordsFilter(asset_key=asset.key, asset_partitions=[scene_id])
        for record in instance.fetch_materializations(wanted, limit=1).records:
            made = record.asset_materialization
            if made is not None and SOUND in made.metadata and not made.metadata[SOUND].value:
                return False
    return True


def _mapped(
    context: dg.AssetExecutionContext,
    settings: Settings,
    products: str,
    *,
    overwrite: bool = False,
) -> tuple[Scene, geoforest.MapResult]:
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


def _told(result: geoforest.MapResult, opened: Scene, folder: Path) -> dict[str, Any]:
    return {
        "location": str(result.folder),
        "hectares": scores(result.summary["hectares"]),
        "picture": picture(map_picture(opened, folder), "scene, probability, mask, polygons"),
    }


def _map_folder(settings: Settings, scene_id: str) -> Path:
    if "://" in settings.maps_location:
        return settings.fetched(open_place(settings.maps_location) / scene_id)
    return Path(settings.maps_location) / scene_id


def _mosaic(settings: Settings) -> Path:
    return settings.folder / "mosaic"
