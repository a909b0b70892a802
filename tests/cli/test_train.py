"""Train, sweep and evaluate from the command line, with Weights & Biases and without."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from geoforest.models.bundle import load_bundle
from geoforest.models.registry import open_model
from tests.helpers.run_records import of_kind, values
from tests.helpers.synthetic import write_chips
from tests.helpers.wandb_server import UNCLOSED

SHORT = ["--encoder", "resnet18", "--encoder-weights", "none", "--epochs", 2, "--batch-size", 2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("wandb_home"),
    pytest.mark.filterwarnings(UNCLOSED),
    pytest.mark.filterwarnings("ignore:unclosed file .*config-trial:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Read the `app_url` setting:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_chips(tmp_path_factory.mktemp("chips"), {"train": 4, "validation": 2, "test": 2})


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


def test_train_and_evaluate(geoforest, data, tmp_path):
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


def test_a_tracked_training(geoforest, data, tmp_path, monkeypatch):
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


def test_what_wandb_could_not_store_is_not_trained(geoforest, data, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    done = geoforest("train", data, "--out", tmp_path / "my model", *SHORT, "--wandb", "forest")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("geoforest: 'my model': no name for a model")
    assert not [path for path in tmp_path.iterdir() if "my model" in path.name]


def test_a_sweep_without_an_account(geoforest, data, tmp_path):
    out = tmp_path / "sweep"
    done = geoforest("sweep", sweep_file(tmp_path), data, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    losses = [trial["val_loss"] for trial in told["trials"]]
    assert losses == sorted(losses)
    assert told["best"] == f"folder:{out}/registry/encoders:v0"
    best = open_model(f"folder:{out}/registry/encoders:best_model")
    assert best.card.encoder == told["trials"][0]["parameters"]["encoder"]


def test_a_sweep_that_wandb_drives(geoforest, data, tmp_path, server, monkeypatch):
    from wandb.agents.pyagent import Agent

    monkeypatch.setattr(Agent, "HEARTBEAT_SLEEP_SECONDS", 0.1)
    config = tmp_path / "sweep.yaml"
    # Method and metric are our defaults; the server has none.
    lines = sweep_file(tmp_path).read_text().splitlines()
    config.write_text("\n".join(x for x in lines if "method" not in x and "metric" not in x))
    fixed = {"encoder_weights": "none", "epochs": 1, "batch_size": 2}
    server.trials = [{"encoder": name, **fixed} for name in ("resnet18", "mobilenet_v2")]
    out = tmp_path / "sweep"
    done = geoforest("sweep", config, data, "--out", out, "--wandb", "ours/forest", "--json")
    assert done.returncode == 0, done.stderr
    sent = yaml.safe_load(server.sweep["config"])
    assert sent["method"] == "grid"
    assert sent["metric"] == {"name": "val_loss", "goal": "minimize"}
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
