"""What train, sweep and evaluate refuse, and what they hand on, without a training."""

from __future__ import annotations

import inspect
import json
import warnings
from pathlib import Path

import pytest

from geoforest.cli._shared import warnings_said
from geoforest.cli.train import train_command
from geoforest.errors import GeoforestError, GeoforestWarning
from geoforest.train.settings import TrainSettings
from tests.helpers import synthetic
from tests.helpers.synthetic import write_chips


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_chips(tmp_path_factory.mktemp("chips"), {"train": 2, "validation": 1})


def test_each_setting_is_an_option_of_train():
    options = inspect.signature(train_command, eval_str=True).parameters
    for name, field in TrainSettings.model_fields.items():
        default = ",".join(field.default) if name == "bands" else field.default
        assert options[name].default == default
        (option,) = options[name].annotation.__metadata__
        assert field.description
        assert option.help == field.description


def test_settings_and_the_link_are_handed_on(geoforest, tmp_path, monkeypatch):
    told = {}

    def train(data, out, *, tracker, **settings):
        told.update(settings, tracker=tracker)
        return synthetic.card()

    monkeypatch.setattr("geoforest.train.fit.train_model", train)
    monkeypatch.setattr(
        "geoforest.train.tracking.WandbTracker",
        lambda project, **names: (project, names),
    )
    options = ["--window", 256, "--scale", 1e-3, "--gradient-clip", 0.5]
    link = ["--link", "wandb-registry-model/forest"]
    done = geoforest("train", "set", "--out", tmp_path, *options, "--wandb", "us/forest", *link)
    assert done.returncode == 0
    assert (told["window"], told["scale"], told["gradient_clip"]) == (256, 1e-3, 0.5)
    assert told["tracker"] == ("forest", {"entity": "us", "target": "wandb-registry-model/forest"})
    alone = geoforest("train", "set", "--out", tmp_path, *link)
    assert alone.returncode == 2
    assert "--link: goes with --wandb" in alone.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threshold", 2], "threshold 2: a probability"),
        (["--threshold", "nan"], "threshold nan: a probability"),
        (["--splits", "validation,validation"], "splits validation, validation: one or several"),
        (["--splits", "../set/validation"], "split '../set/validation': a name"),
    ],
)
def test_mistakes_in_evaluate(geoforest, data, tmp_path, options, message):
    done = geoforest("evaluate", "bundled", data, "--out", tmp_path / "e", *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_nothing_is_promoted_while_a_trial_is_missing(
    geoforest,
    data,
    tmp_path,
    monkeypatch,
):
    def train_trial(chips, bundle, settings, tracker=None):
        if settings["seed"] == 2:
            raise GeoforestError("out of luck")
        return settings["seed"] / 10

    monkeypatch.setattr("geoforest.train.sweep.train_trial", train_trial)
    config, out = tmp_path / "sweep.yaml", tmp_path / "out"
    config.write_text("{name: seeds, parameters: {seed: {values: [1, 2]}}}")
    done = geoforest("sweep", config, data, "--out", out)
    assert done.returncode == 1
    assert "seed 2: failed (out of luck)" in done.stdout
    assert "1 of 2 trials failed, nothing was promoted" in done.stderr
    assert not (out / "registry").exists()
    done = geoforest("sweep", config, data, "--out", out, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["best"] is None


def test_mistakes_in_sweep(geoforest, data, tmp_path):
    config = tmp_path / "sweep.yaml"
    config.write_text("{parameters: {encoder: {value: resnet18}}}")
    done = geoforest("sweep", config, tmp_path / "nowhere", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "no such folder" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
    done = geoforest("sweep", config, data, "--out", config)
    assert done.returncode == 2
    assert "sweep.yaml: cannot be written to" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--registry", "nonsense"], "nonsense: folder:PATH/NAME or wandb:ENTITY/PROJECT/NAME"),
        (["--registry", "folder:models/a b"], "'a b': no name for a model"),
        (["--wandb", "forest"], "wandb:forest/sweep: wandb:ENTITY/PROJECT/NAME was wanted"),
    ],
)
def test_a_place_that_cannot_be_promoted_to_is_refused_before_the_trainings(
    geoforest, data, tmp_path, options, message
):
    config = tmp_path / "sweep.yaml"
    config.write_text("{parameters: {encoder: {value: resnet18}}}")
    done = geoforest("sweep", config, data, "--out", tmp_path / "out", *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_warnings_are_said_as_they_come(capsys):
    with warnings_said():
        warnings.warn("look out", GeoforestWarning, stacklevel=1)
        warnings.warn("not ours", UserWarning, stacklevel=1)
        assert capsys.readouterr().err == "warning: look out\n"
