"""Tracking in W&B: the real client offline, and against a server on the loopback interface."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from geoforest.errors import GeoforestError, GeoforestWarning, InputError
from geoforest.models.bundle import Bundle
from geoforest.models.copies import save_copy
from geoforest.train.tracking import Tracker, WandbTracker, tracked
from geoforest.train.wandb_sweeps import sweep_with_wandb
from tests.helpers.bundles import small_bundle
from tests.helpers.run_records import of_kind, records, values
from tests.helpers.wandb_server import KEY, UNCLOSED, wandb_server

wandb = pytest.importorskip("wandb")
pytestmark = [pytest.mark.filterwarnings(UNCLOSED), pytest.mark.usefixtures("wandb_home")]

CONFIG = {"encoder": "mobilenet_v2", "batch_size": 4, "bands": ("B04", "B03")}
EPOCHS = [
    {"epoch": 0, "train_loss": 0.5, "val_loss": 0.4},
    {"epoch": 1, "train_loss": 0.3, "val_loss": 0.2},
    {"epoch": 2, "train_loss": 0.2, "val_loss": 0.3},
]


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("models") / "small")


def train(tracker: Tracker, bundle: Bundle) -> None:
    """What a training tells."""
    with tracked(tracker, CONFIG, name="first"):
        for epoch in EPOCHS:
            tracker.log_epoch(epoch)
        tracker.log_summary({"val_loss": 0.2, "validation_f1": 0.9})
        tracker.log_bundle(bundle, "unet")


def settings() -> dict[str, str]:
    """What the user tells wandb."""
    names = [name for name in os.environ if name.startswith("WANDB_") and name != "WANDB_SERVICE"]
    return {name: os.environ[name] for name in names}


@pytest.fixture(scope="module")
def run(small, tmp_path_factory) -> Path:
    """The folder of an offline run."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as environment:
        environment.chdir(home)
        environment.setenv("HOME", str(home))
        environment.setenv("WANDB_API_KEY", KEY)
        environment.setenv("WANDB_ERROR_REPORTING", "false")
        environment.setenv("WANDB_MODE", "offline")
        tracker = WandbTracker("forest", entity="ours", target="ours/registry/unet")
        with pytest.warns(GeoforestWarning, match="unet is not linked to ours/registry/unet"):
            train(tracker, small)
        wandb.teardown()
    (folder,) = (home / "wandb").glob("offline-run-*")
    return folder


@pytest.fixture
def offline(wandb_home, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")


class TestOffline:
    def test_settings(self, run):
        (begun,) = of_kind(run, "run")
        assert (begun.entity, begun.project) == ("ours", "forest")
        assert (begun.display_name, begun.job_type) == ("first", "train")
        config = values(item for one in of_kind(run, "config") for item in one.update)
        assert {name: config[name] for name in CONFIG} == {**CONFIG, "bands": ["B04", "B03"]}

    def test_history_over_epochs(self, run):
        rows = [values(one.item) for one in of_kind(run, "history")]
        assert [{name: row[name] for name in EPOCHS[0]} for row in rows] == EPOCHS
        steps = {(one.glob_name, one.step_metric) for one in of_kind(run, "metric")}
        assert ("*", "epoch") in steps

    def test_summary_is_of_the_best(self, run):
        last = values(item for one in of_kind(run, "summary") for item in one.update)
        assert (last["val_loss"], last["validation_f1"]) == (0.2, 0.9)

    def test_model(self, run, small):
        (artifact,) = of_kind(run, "artifact")
        assert (artifact.name, artifact.type) == ("unet", "model")
        assert set(artifact.aliases) == {"latest"}
        metadata = json.loads(artifact.metadata)
        assert metadata["model"] == small.model_id
        assert metadata["threshold"] == small.card.threshold
        stored = {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
        assert set(stored) == {"model.json", "model.safetensors"}
        for name, path in stored.items():
            # Later the bundle may be another one: the run has its own.
            assert path.is_relative_to(run)
            assert path.read_bytes() == (small.path / name).read_bytes()

    def test_it_ends_well(self, run):
        (ended,) = of_kind(run, "exit")
        assert ended.exit_code == 0

    def test_the_key_is_in_no_file(self, run):
        home = run.parent.parent
        assert run in home.rglob("*")
        for path in home.rglob("*"):
            if path.is_file():
                assert KEY.encode() not in path.read_bytes()
        for record in records(run):
            assert KEY.encode() not in record.SerializeToString()

    @pytest.mark.usefixtures("offline")
    def test_nor_is_the_command_line(self, monkeypatch, small, tmp_path):
        monkeypatch.setattr("sys.argv", ["geoforest", "train", "s3://chips?signature=s1gnature"])
        train(WandbTracker("forest"), small)
        for path in (tmp_path / "wandb").rglob("*"):
            assert not path.is_file() or b"s1gnature" not in path.read_bytes()

    def test_mode_of_the_environment(self, monkeypatch, small, tmp_path):
        monkeypatch.setenv("WANDB_MODE", "offline")
        monkeypatch.delenv("WANDB_API_KEY")
        train(WandbTracker("forest"), small)
        assert list((tmp_path / "wandb").glob("offline-run-*"))

    @pytest.mark.usefixtures("offline")
    def test_a_training_that_fails(self, tmp_path):
        tracker = WandbTracker("forest")
        with pytest.raises(ZeroDivisionError), tracked(tracker, CONFIG):
            raise ZeroDivisionError
        (folder,) = (tmp_path / "wandb").glob("offline-run-*")
        (ended,) = of_kind(folder, "exit")
        assert ended.exit_code == 1

    @pytest.mark.usefixtures("offline")
    def test_one_run_inside_another_start(self, tmp_path):
        tracker = WandbTracker("forest")
        with tracked(tracker, {"a": 1}):
            with tracked(tracker, {"b": 2}):
                assert tracker.parameters == {"a": 1, "b": 2}
            tracker.log_summary({"val_loss": 0.5})
        tracker.log_summary({"val_loss": 0.7})
        (folder,) = (tmp_path / "wandb").glob("offline-run-*")
        last = values(item for one in of_kind(folder, "summary") for item in one.update)
        assert last["val_loss"] == 0.5

    @pytest.mark.usefixtures("offline")
    def test_a_run_of_the_users_own_is_left_alone(self, tmp_path):
        own = wandb.init(project="own", mode="offline", settings=wandb.Settings(silent=True))
        tracker = WandbTracker("forest")
        with tracked(tracker, CONFIG):
            tracker.log_epoch(EPOCHS[0])
        own.log({"a": 1})
        own.finish()
        projects = {
            of_kind(folder, "run")[0].project for folder in (tmp_path / "wandb").glob("off*")
        }
        assert projects == {"own", "forest"}


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_wandb_sync_sends_an_offline_run(server, small, tmp_path):
    bundle = save_copy(small, tmp_path / "bundle")
    train(WandbTracker("forest", entity="ours"), bundle)
    wandb.teardown()
    shutil.rmtree(bundle.path)
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    command = [Path(sys.executable).with_name("wandb"), "sync", folder]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    (run,) = server.runs.values()
    assert [row["val_loss"] for row in run.history] == [epoch["val_loss"] for epoch in EPOCHS]
    (version,) = server.versions
    assert version.aliases == {"latest"}
    assert version.stored["model.json"] == (small.path / "model.json").read_bytes()


class TestOnline:
    def test_a_training(self, server, small):
        tracker = WandbTracker("forest", entity="ours", target="ours/registry/unet")
        train(tracker, small)
        (run,) = server.runs.values()
        assert run.settings["displayName"] == "first"
        assert run.settings["jobType"] == "train"
        assert [{name: row[name] for name in EPOCHS[0]} for row in run.history] == EPOCHS
        assert json.loads(run.files["wandb-summary.json"])["val_loss"] == 0.2
        assert run.exit_code == 0
        (version,) = server.versions
        assert version.aliases == {"latest"}
        assert set(version.stored) == {"model.json", "model.safetensors"}
        (link,) = server.links
        assert (link["projectName"], link["artifactPortfolioName"]) == ("registry", "unet")
        assert link["aliases"] == []
        assert KEY.encode() not in b"".join(server.received)

    def test_no_server_at_the_start(self, monkeypatch, small, tmp_path):
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
        tracker = WandbTracker("forest")
        with pytest.warns(GeoforestWarning, match="`wandb sync` sends it") as caught:
            train(tracker, small)
        assert len(caught) == 1
        assert KEY not in str(caught[0].message)
        (folder,) = (tmp_path / "wandb").glob("offline-run-*")
        assert len(of_kind(folder, "history")) == len(EPOCHS)
        assert len(of_kind(folder, "artifact")) == 1

    def test_a_wrong_key(self, server, monkeypatch, small, tmp_path):
        monkeypatch.setenv("WANDB_API_KEY", "f" * 40)
        with pytest.warns(GeoforestWarning, match="permission denied"):
            train(WandbTracker("forest"), small)
        assert list((tmp_path / "wandb").glob("offline-run-*"))

    def test_no_key(self, server, monkeypatch):
        monkeypatch.delenv("WANDB_API_KEY")
        with pytest.raises(InputError, match="set WANDB_API_KEY"):
            WandbTracker("forest").start({})

    @pytest.mark.slow
    def test_the_server_goes_away(self, monkeypatch):
        monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "2")
        with wandb_server() as renew:
            monkeypatch.setenv("WANDB_BASE_URL", renew().url)
            tracker = WandbTracker("forest")
            tracker.start(CONFIG)
        for epoch in EPOCHS:
            tracker.log_epoch(epoch)
        with pytest.warns(GeoforestWarning, match="`wandb sync .*/run-.*` may send") as caught:
            tracker.finish()
        assert len(caught) == 1
        (folder,) = Path("wandb").glob("run-*")
        assert len(of_kind(folder, "history")) == len(EPOCHS)

    def test_what_cannot_be_stored_is_one_warning(self, server, small):
        tracker = WandbTracker("forest")
        tracker.start(CONFIG)
        with pytest.warns(GeoforestWarning, match="no name for a model"):
            tracker.log_bundle(small, "no name")
        tracker.log_bundle(small, "no name")
        tracker.log_epoch(EPOCHS[0])
        tracker.finish()
        (run,) = server.runs.values()
        assert len(run.history) == 1


# Of wandb's agent: a file it leaves to the garbage collector, and a setting it should not read.
@pytest.mark.filterwarnings("ignore:unclosed file .*config-trial:ResourceWarning")
@pytest.mark.filterwarnings("ignore:Read the `app_url` setting:DeprecationWarning")
class TestSweep:
    CONFIG: dict[str, Any] = {  # noqa: RUF012 - nobody changes it
        "method": "grid",
        "metric": {"name": "val_loss", "goal": "minimize"},
        "parameters": {"encoder": {"values": ["a", "b"]}},
    }

    @pytest.fixture(autouse=True)
    def impatience(self, monkeypatch) -> None:
        """By default the agent asks every five seconds."""
        from wandb.agents.pyagent import Agent

        monkeypatch.setattr(Agent, "HEARTBEAT_SLEEP_SECONDS", 0.1)

    def test_trials(self, server, capsys):
        server.trials = [{"encoder": "a", "batch_size": 4}, {"encoder": "b", "batch_size": 8}]
        taken = []

        def train_one(parameters: dict[str, Any], tracker: Tracker) -> float:
            taken.append(parameters)
            if parameters["encoder"] == "a":
                raise GeoforestError("no such encoder")
            with tracked(tracker, {"epochs": 1}):
                tracker.log_epoch(EPOCHS[0])
            return 0.25

        before = settings()
        with pytest.warns(GeoforestWarning, match="a trial failed: no such encoder"):
            swept = sweep_with_wandb(
                self.CONFIG, train_one, project="forest", entity="ours", count=2
            )
        assert swept == "sweep1"
        assert settings() == before
        assert capsys.readouterr().out == ""
        assert taken == [{"encoder": "a", "batch_size": 4}, {"encoder": "b", "batch_size": 8}]
        assert "encoder" in server.sweep["config"]
        failed, done = server.runs.values()
        assert (failed.exit_code, done.exit_code) == (1, 0)
        assert [run.settings["sweep"] for run in (failed, done)] == ["sweep1"] * 2
        assert json.loads(done.files["wandb-summary.json"])["val_loss"] == 0.25
        assert [row["epoch"] for row in done.history] == [0]

    def test_no_trial_succeeds(self, server, capsys):
        server.trials = [{"encoder": "a"}]

        def train_one(parameters: dict[str, Any], tracker: Tracker) -> float:
            raise ZeroDivisionError("a bug")

        with pytest.raises(GeoforestError, match=r"no trial succeeded \(a bug\)"):
            sweep_with_wandb(self.CONFIG, train_one, project="forest", entity="ours", count=1)
        assert "in train_one" in capsys.readouterr().err

    def test_offline(self, monkeypatch):
        monkeypatch.setenv("WANDB_MODE", "offline")
        with pytest.raises(InputError, match="needs its server"):
            sweep_with_wandb(self.CONFIG, lambda parameters, tracker: 0.0, project="forest")


def test_no_tracker_needs_nothing(small):
    threads = threading.active_count()
    train(Tracker(), small)
    assert threading.active_count() == threads
    assert not Path("wandb").exists()
