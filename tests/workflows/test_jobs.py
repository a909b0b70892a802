"""Definitions, the sensor, the schedule, retries: what happens without a user."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from geoforest.errors import AccessError, DataError, FetchError, InputError
from tests.helpers.servers import SECRET_KEY, s3_bucket, s3_server
from tests.helpers.webserver import ROOT
from workflows import steps
from workflows.definitions import code_location
from workflows.jobs import JOBS, new_scenes, nightly_mosaic
from workflows.settings import DEMO_SCENE, Settings


def test_definitions_are_valid():
    definitions = code_location(Settings())
    dg.Definitions.validate_loadable(definitions)
    assert {job.name for job in definitions.resolve_all_job_defs()} >= {job.name for job in JOBS}
    assert {"scenes_job", "sweep_job", "mosaic_job"} <= {job.name for job in JOBS}
    assert nightly_mosaic.cron_schedule == "0 2 * * *"


def test_one_gpu_for_all_that_computes_on_it():
    graph = code_location(Settings()).resolve_asset_graph()
    pools = {
        asset.key.to_user_string()
        for asset in graph.assets_defs
        if asset.is_executable and asset.op.pool == "gpu"
    }
    assert pools == {
        *("trained_model", "precision_recall_curve", "validation_metrics", "test_metrics"),
        *("chip_figures", "forest_map"),
    }


def test_the_limit_is_in_force_where_dagster_dev_opens_it(tmp_path):
    (tmp_path / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        limits = instance.get_concurrency_config()
        assert limits.pool_config.default_pool_limit == 1
        assert not instance.telemetry_enabled


class Sensor:
    """The sensor as the daemon evaluates it, which does what it asks for."""

    def __init__(self, instance: dg.DagsterInstance, settings: Settings) -> None:
        self.instance, self.settings, self.cursor = instance, settings, None

    def look(self) -> list[str]:
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"settings": self.settings}
        )
        result = new_scenes(context)
        self.cursor = result.cursor
        for request in result.dynamic_partitions_requests:
            self.instance.add_dynamic_partitions("scenes", list(request.partition_keys))
        keys = [one.partition_key for one in result.run_requests]
        assert keys == [one.run_key for one in result.run_requests]
        return keys


def test_the_sensor_on_a_folder(tmp_path):
    with dg.DagsterInstance.ephemeral() as instance:
        sensor = Sensor(instance, Settings(scenes=str(tmp_path)))
        assert sensor.look() == []
        (tmp_path / "a.tif").touch()
        assert sensor.look() == []
        assert sensor.look() == ["a"]
        assert sensor.look() == []
        assert instance.get_dynamic_partitions("scenes") == ["a"]


def test_the_sensor_waits_for_a_scene_that_is_being_copied(tmp_path):
    bands = tmp_path / "b"
    with dg.DagsterInstance.ephemeral() as instance:
        sensor = Sensor(instance, Settings(scenes=str(tmp_path)))
        bands.mkdir()
        for name in ("B02.tif", "B03.tif", "B04.tif"):
            (bands / name).write_bytes(b"whole")
            assert sensor.look() == []
        (bands / "B08.tif").write_bytes(b"ha")
        assert sensor.look() == []
        (bands / "B08.tif").write_bytes(b"half")
        assert sensor.look() == []
        assert sensor.look() == ["b"]


def test_the_sensor_says_what_is_wrong_with_the_folder(tmp_path):
    settings = Settings(scenes=str(tmp_path / "none"))
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(InputError, match="no such"):
        Sensor(instance, settings).look()


def test_without_a_place_for_scenes_there_is_the_demo_scene(tmp_path):
    with dg.DagsterInstance.ephemeral() as instance:
        sensor = Sensor(instance, Settings(home=str(tmp_path)))
        assert sensor.look() == []
        assert sensor.look() == [DEMO_SCENE]
        assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_the_sensor_on_a_bucket(monkeypatch):
    with s3_server() as address, dg.DagsterInstance.ephemeral() as instance:
        client = s3_bucket(monkeypatch, address, "incoming")
        sensor = Sensor(instance, Settings(scenes="s3://incoming/scenes"))
        client.put_object(Bucket="incoming", Key="scenes/a.tif", Body=b"ha")
        assert sensor.look() == []
        client.put_object(Bucket="incoming", Key="scenes/a.tif", Body=b"half")
        assert sensor.look() == []
        assert sensor.look() == ["a"]
        client.put_object(Bucket="incoming", Key="scenes/c/B04.tif", Body=b"")
        assert [sensor.look() for _ in range(3)] == [[], ["c"], []]


def attempts(error: Exception, monkeypatch) -> tuple[int, bool]:
    """How often an asset that raises this is tried, and whether it succeeded."""
    tried = []

    @steps.step(retry_policy=dg.RetryPolicy(max_retries=2))
    def failing() -> dg.MaterializeResult:
        tried.append(1)
        raise error

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([failing], instance=instance, raise_on_error=False)
    return len(tried), result.success


@pytest.mark.parametrize(
    ("error", "n_tried"),
    [
        (InputError("a.tif: no CRS"), 1),
        (DataError("chips: none"), 1),
        (FetchError("cut off"), 3),
        (AccessError("s3://b/a.tif: cannot be read (ClientError)"), 3),
    ],
)
def test_bad_input_is_not_tried_again(error, n_tried, monkeypatch):
    assert attempts(error, monkeypatch) == (n_tried, False)
    assert steps.RETRIES.backoff == dg.Backoff.EXPONENTIAL


def test_a_bad_scene_fails_at_once_and_says_why(tmp_path):
    (tmp_path / "bad.tif").write_text("no raster")
    settings = Settings(home=str(tmp_path / "home"), scenes=str(tmp_path))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("scenes", ["bad", "gone"])
        job = code_location(settings).resolve_job_def("scenes_job")
        for name, reason in (("bad", "not a raster"), ("gone", "no scene gone any more")):
            result = job.execute_in_process(
                instance=instance, partition_key=name, raise_on_error=False
            )
            assert not result.success
            events = [event.event_type_value for event in result.all_events]
            assert "STEP_UP_FOR_RETRY" not in events
            (failure,) = result.filter_events(lambda event: event.is_step_failure)
            assert reason in failure.step_failure_data.user_failure_data.description


def test_the_environment_is_shown_by_its_names_only(monkeypatch, tmp_path):
    monkeypatch.setenv("GEOFOREST_CHIPS", f"s3://KEY:{SECRET_KEY}@bucket/chips")
    settings = Settings.from_environment()
    shown = repr(settings) + str(code_location(settings).resolve_all_job_defs())
    assert SECRET_KEY not in shown
    job = code_location(settings).resolve_job_def("channel_statistics_job")
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, raise_on_error=False)
        logs = instance.all_logs(result.run_id)
    assert not result.success
    assert any("keys" in str(one) for one in logs)
    assert SECRET_KEY not in "".join(map(str, logs))


def test_places_are_below_one_folder_unless_they_are_given(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    settings = Settings()
    assert settings.folder == tmp_path / "geoforest-home"
    assert Path(settings.chips_location).parent == settings.folder
    assert settings.best_model.startswith("folder:")
    assert settings.tracker() is None
    settings = Settings(wandb="team/forest", maps="s3://maps")
    assert settings.best_model == "wandb:team/forest/forest:best_model"
    assert settings.maps_location == "s3://maps"
