"""Train, sweep and evaluate from the command line, with Weights & Biases and without."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from geoforest.models.bundle import load_bundle
from geoforest.models.registry import open_model
from tests.cli.test_cli import geoforest  # noqa: F401 - a fixture
from tests.models.wandb_server import UNCLOSED, WandbServer, end_wandb, wandb_server
from tests.train.test_fit import write_chips
from tests.train.test_tracking import environment, of_kind, values  # noqa: F401 - a fixture

SHORT = ["--encoder", "resnet18", "--encoder-weights", "none", "--epochs", 2, "--batch-size", 2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(UNCLOSED),
    pytest.mark.filterwarnings("ignore:unclosed file .*config-trial:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Read the `app_url` setting:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_chips(tmp_path_factory.mktemp("chips"), {"train": 4, "validation": 2, "test": 2})


@pytest.fixture
def server(monkeypatch) -> Iterator[WandbServer]:
    with wandb_server() as renew:
        server = renew()
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        yield server
        end_wandb()
    assert server.unknown == []


def sweep_file(folder: Path) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(
        """
        name: encoders
        method: grid
        metric: {name: val_loss, goal: minimize}
        parameters:
          encoder: {values: [resnet18, mobilenet_v2]}
          encoder_weights: {value: none}
          epochs: {value: 1}
          batch_size: {value: 2}
        """
    )
    return path


def test_train_and_evaluate(geoforest, data, tmp_path):  # noqa: F811
    model, out = tmp_path / "model", tmp_path / "evaluation"
    done = geoforest("train", data, "--out", model, *SHORT, "--encoder-bn", "frozen", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("epoch") == 2
    card = json.loads(done.stdout)
    assert card["training"]["encoder_bn"] == "frozen"
    assert (model / "channel_statistics.csv").read_text().startswith("band,mean,std,count\nB04,")
    done = geoforest(
        "evaluate", model, data, "--out", out, "--splits", "validation,test", "--chips", -1
    )
    assert done.returncode == 0, done.stderr
    f1 = card["metrics"]["validation_per_image_f1"]
    assert f"  per_image_f1 {f1:.4f}\n" in done.stdout
    assert len(list((out / "test" / "chips").iterdir())) == 2
    again = geoforest("train", data, "--out", tmp_path, *SHORT)
    assert again.returncode == 2
    assert "is no model bundle" in again.stderr
    bad = geoforest("train", data, "--out", tmp_path / "b", "--schedule", "wild")
    assert bad.returncode == 2
    assert "schedule = 'wild'" in bad.stderr


def test_a_tracked_training(geoforest, data, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("WANDB_MODE", "offline")
    done = geoforest("train", data, "--out", tmp_path / "unet", *SHORT, "--wandb", "ours/forest")
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    (begun,) = of_kind(folder, "run")
    assert (begun.entity, begun.project, begun.display_name) == ("ours", "forest", "unet")
    config = values(item for one in of_kind(folder, "config") for item in one.update)
    assert config["encoder"] == "resnet18"
    history = load_bundle(tmp_path / "unet").card.training["history"]
    rows = [values(one.item) for one in of_kind(folder, "history")]
    assert [row["val_loss"] for row in rows] == [epoch["val_loss"] for epoch in history]
    summary = values(item for one in of_kind(folder, "summary") for item in one.update)
    assert summary["val_loss"] == min(epoch["val_loss"] for epoch in history)
    (artifact,) = of_kind(folder, "artifact")
    assert artifact.name == "unet"


def test_a_sweep_without_an_account(geoforest, data, tmp_path):  # noqa: F811
    out = tmp_path / "sweep"
    done = geoforest("sweep", sweep_file(tmp_path), data, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    losses = [trial["val_loss"] for trial in told["trials"]]
    assert losses == sorted(losses)
    assert told["best"] == f"folder:{out}/registry/encoders:v0"
    best = open_model(f"folder:{out}/registry/encoders:best_model")
    assert best.card.encoder == told["trials"][0]["parameters"]["encoder"]


def test_a_sweep_that_wandb_drives(geoforest, data, tmp_path, server, monkeypatch):  # noqa: F811
    from wandb.agents.pyagent import Agent

    monkeypatch.setattr(Agent, "HEARTBEAT_SLEEP_SECONDS", 0.1)
    fixed = {"encoder_weights": "none", "epochs": 1, "batch_size": 2}
    server.trials = [{"encoder": name, **fixed} for name in ("resnet18", "mobilenet_v2")]
    out = tmp_path / "sweep"
    done = geoforest(
        "sweep", sweep_file(tmp_path), data, "--out", out, "--wandb", "ours/forest", "--json"
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {trial["parameters"]["encoder"] for trial in told["trials"]} == {
        "resnet18",
        "mobilenet_v2",
    }
    assert told["best"].startswith("wandb:ours/forest/encoders:v")
    assert len(server.runs) >= 2
    best = open_model("wandb:ours/forest/encoders:best_model")
    assert best.card.encoder == told["trials"][0]["parameters"]["encoder"]
    rows = [run.history for run in server.runs.values() if run.history]
    assert sorted(row[0]["val_loss"] for row in rows) == sorted(
        trial["val_loss"] for trial in told["trials"]
    )
