"""Jobs, the sensor of new scenes, and the schedule of the nightly mosaic."""

import json

import dagster as dg

from geoforest import scene_stamp
from workflows import chips, scenes, training
from workflows.settings import Settings

channel_statistics_job = dg.define_asset_job(
    "channel_statistics_job",
    [chips.train_chips, chips.channel_statistics],
    description="Statistics per band, by which a model normalises.",
)
sweep_job = dg.define_asset_job(
    "sweep_job",
    [training.trained_model, training.best_model],
    description="One model per encoder and batch size, and the best of them promoted: "
    "materialise all partitions.",
)
precision_recall_job = dg.define_asset_job(
    "precision_recall_job",
    [training.precision_recall_curve, training.threshold],
    description="Precision-recall curve of the best model, and the threshold.",
)
validation_metrics_job = dg.define_asset_job(
    "validation_metrics_job", [training.validation_metrics], description="Scores on validation."
)
test_metrics_job = dg.define_asset_job(
    "test_metrics_job", [training.test_metrics], description="Scores on test."
)
scenes_job = dg.define_asset_job(
    "scenes_job",
    [scenes.scene, scenes.forest_map, scenes.polygons],
    description="Mask, probability and polygons of one scene.",
)
mosaic_job = dg.define_asset_job(
    "mosaic_job",
    [scenes.mosaic, scenes.area_by_unit],
    description="Mosaic of all mapped scenes, and its areas.",
)
JOBS = [
    channel_statistics_job,
    sweep_job,
    precision_recall_job,
    validation_metrics_job,
    test_metrics_job,
    scenes_job,
    mosaic_job,
]


@dg.sensor(job=scenes_job, minimum_interval_seconds=60)
def new_scenes(context: dg.SensorEvaluationContext, settings: Settings) -> dg.SensorResult:
    """Request a map of each new scene whose files did not change since the last evaluation."""
    known = set(context.instance.get_dynamic_partitions("scenes"))
    stamps = {
        scene_id: scene_stamp(location)
        for scene_id, location in settings.find_scenes().items()
        if scene_id not in known
    }
    before = json.loads(context.cursor or "{}")
    whole = [scene_id for scene_id, stamp in stamps.items() if before.get(scene_id) == stamp]
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=name, partition_key=name) for name in whole],
        dynamic_partitions_requests=[scenes.SCENES.build_add_request(whole)] if whole else [],
        cursor=json.dumps(stamps),
    )


nightly_mosaic = dg.ScheduleDefinition(
    name="nightly_mosaic", job=mosaic_job, cron_schedule="0 2 * * *"
)
