"""The whole graph, materialised in process on small data."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import geopandas
import pytest
import shapely
from PIL import Image

from geoforest.io.names import MOSAIC_NAME
from geoforest.io.storage import read_json
from geoforest.maps.verify.run import verify
from geoforest.models.bundle import save_bundle
from geoforest.models.registry import open_model
from tests.helpers import synthetic
from tests.helpers.servers import s3_bucket, s3_server
from tests.helpers.wandb_server import UNCLOSED
from workflows import training
from workflows.definitions import code_location
from workflows.settings import DEMO_SCENE, Settings

SPLITS = ("train", "validation", "test")
TRAINING = {"ops": {"trained_model": {"config": {"epochs": 1, "patience": 0}}}}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    home = tmp_path_factory.mktemp("home")
    return Settings(home=str(home), demo_chip_px=64, demo_scene_px=512)


@pytest.fixture(scope="module")
def instance(tmp_path_factory) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral(str(tmp_path_factory.mktemp("dagster"))) as instance:
        instance.add_dynamic_partitions("scenes", [DEMO_SCENE])
        yield instance


def run(job: str, settings: Settings, instance: dg.DagsterInstance, **options) -> dict[str, dict]:
    """Run a job or, by its name, one asset; gives the metadata of each asset."""
    chosen = job if job.endswith("_job") else "__ASSET_JOB"
    result = (
        code_location(settings)
        .resolve_job_def(chosen)
        .execute_in_process(
            instance=instance,
            asset_selection=None if job.endswith("_job") else [dg.AssetKey(job)],
            **options,
        )
    )
    assert result.success
    assert all(one.passed for one in result.get_asset_check_evaluations())
    found = {}
    for event in result.get_asset_materialization_events():
        materialization = event.step_materialization_data.materialization
        found[materialization.asset_key.to_user_string()] = {
            name: value.value for name, value in materialization.metadata.items()
        }
        assert found[materialization.asset_key.to_user_string()]["seconds"] >= 0
    return found


def is_png(markdown: str) -> bool:
    data = base64.b64decode(markdown.partition("base64,")[2].removesuffix(")"))
    with Image.open(io.BytesIO(data)) as image:
        return image.format == "PNG" and max(image.size) <= 720


def test_a_models_life(settings, instance):
    for split in SPLITS:
        told = run(f"{split}_chips", settings, instance)[f"{split}_chips"]
        assert told["synthetic"] is True
        assert is_png(told["first"])
    told = run("channel_statistics_job", settings, instance)
    assert {*told} == {"train_chips", "channel_statistics"}
    assert [record.data["band"] for record in told["channel_statistics"]["statistics"].records] == [
        *("B04", "B03", "B02", "B08")
    ]
    run("ndvi_figures", settings, instance)
    losses = {}
    for encoder in ("resnet18", "mobilenet_v2"):
        key = dg.MultiPartitionKey({"encoder": encoder, "batch_size": "4"})
        told = run("trained_model", settings, instance, partition_key=key, run_config=TRAINING)
        losses[encoder] = told["trained_model"]["validation_loss"]
    told = run("best_model", settings, instance)["best_model"]
    rows = [record.data for record in told["models"].records]
    # Of four partitions two are materialised, and so are judged.
    assert [row["encoder"] for row in rows] == sorted(losses, key=lambda name: losses[name])
    best = open_model(settings.best_model)
    assert best.card.encoder == rows[0]["encoder"]
    told = run("precision_recall_job", settings, instance)
    chosen = told["threshold"]["threshold"]
    assert is_png(told["precision_recall_curve"]["figure"])
    # As the training chose it, of the same chips.
    assert chosen == pytest.approx(best.card.threshold)
    for split in SPLITS[1:]:
        told = run(f"{split}_metrics_job", settings, instance)[f"{split}_metrics"]
        assert told["threshold"] == chosen
        assert Path(told["report"]).is_file()
    run("chip_figures", settings, instance)
    assert len(list((settings.folder / "figures").rglob("*.png"))) > 28


@pytest.mark.filterwarnings(UNCLOSED)
def test_a_training_and_its_model_in_wandb(server, wandb_home, tmp_path):
    settings = Settings(home=str(tmp_path / "home"), demo_chip_px=64, wandb="team/forest")
    key = dg.MultiPartitionKey({"encoder": "mobilenet_v2", "batch_size": "4"})
    with dg.DagsterInstance.ephemeral() as instance:
        for split in SPLITS[:2]:
            run(f"{split}_chips", settings, instance)
        run("trained_model", settings, instance, partition_key=key, run_config=TRAINING)
        told = run("best_model", settings, instance)["best_model"]
    assert told["reference"].startswith("wandb:team/forest/forest:v")
    assert open_model(settings.best_model).card.encoder == "mobilenet_v2"


def test_from_a_scene_to_areas(settings, instance):
    told = run("scenes_job", settings, instance, partition_key=DEMO_SCENE)
    assert {*told} == {"scene", "forest_map", "polygons"}
    assert all(is_png(one["picture"]) for one in told.values())
    folder = Path(settings.maps_location) / DEMO_SCENE
    assert verify(folder) == []
    told = run("mosaic_job", settings, instance)
    summary = read_json(Path(told["mosaic"]["path"]) / MOSAIC_NAME)
    assert summary["scenes"] == [DEMO_SCENE]
    hectares = {
        row.data["name"]: row.data["value"] for row in told["area_by_unit"]["hectares"].records
    }
    assert hectares == pytest.approx(summary["hectares"], rel=1e-4)
    assert "GEOFOREST_UNITS" in told["area_by_unit"]["units"]


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_from_bucket_to_bucket(monkeypatch, tmp_path, tiny_bundle):
    """Maps are fetched where what comes next works on disk, and not twice."""
    with s3_server() as address, dg.DagsterInstance.ephemeral() as instance:
        client = s3_bucket(monkeypatch, address, "amazon")
        monkeypatch.setenv("GEOFOREST_WORK", str(tmp_path / "work"))
        scene = synthetic.write_raster(tmp_path / "a.tif", synthetic.digital_numbers((150, 190)))
        client.upload_file(str(scene), "amazon", "scenes/a.tif")
        model = save_bundle(tmp_path / "m", tiny_bundle.state_dict(), synthetic.card(window=128))
        units = geopandas.GeoDataFrame(
            {"name": ["west", "east"]},
            geometry=[
                shapely.box(500_000, 8_898_500, 501_000, 8_900_000),
                shapely.box(501_000, 8_898_500, 501_900, 8_900_000),
            ],
            crs=synthetic.UTM_20S,
        )
        units.to_file(tmp_path / "units.gpkg")
        settings = Settings(
            home=str(tmp_path / "home"),
            scenes="s3://amazon/scenes",
            maps="s3://amazon/maps",
            model=str(model.path),
            units=str(tmp_path / "units.gpkg"),
        )
        instance.add_dynamic_partitions("scenes", ["a"])
        told = run("scenes_job", settings, instance, partition_key="a")
        assert told["polygons"]["location"] == "s3://amazon/maps/a"
        copy = settings.folder / "fetched" / "a" / "forest_mask.tif"
        before = copy.stat()
        told = run("mosaic_job", settings, instance)
        assert copy.stat().st_mtime_ns == before.st_mtime_ns
        assert told["mosaic"]["scenes"] == 1
        areas = [record.data for record in told["area_by_unit"]["areas"].records]
        assert [row["unit"] for row in areas] == ["east", "west"]
        assert sum(row["observed_ha"] for row in areas) == pytest.approx(285.2, abs=0.5)
        assert is_png(told["area_by_unit"]["picture"])


def test_every_asset_is_in_one_of_these(settings):
    """So that a new one does not go untested."""
    graph = code_location(settings).resolve_asset_graph()
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == {
        *(f"{split}_chips" for split in SPLITS),
        *("channel_statistics", "ndvi_figures", "trained_model", "best_model"),
        *("precision_recall_curve", "threshold", "validation_metrics", "test_metrics"),
        *("chip_figures", "scene", "forest_map", "polygons", "mosaic", "area_by_unit"),
    }
    assert training.MODELS.get_num_partitions() == 4
