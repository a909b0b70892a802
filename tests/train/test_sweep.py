"""A sweep: what a configuration may say, what a killed one keeps, and who wins."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from geoforest.errors import GeoforestError, InputError, OutputError
from geoforest.storage import exclusive_lock
from geoforest.train.sweep import best_bundle, read_sweep, run_sweep
from tests.train.test_fit import write_chips

FIXED = {"encoder_weights": None, "epochs": 2, "learning_rate": 1e-3, "patience": 0}
GRID = """
name: encoders
method: grid
metric: {name: val_loss, goal: minimize}
parameters:
  encoder: {values: [resnet18, mobilenet_v2]}
  batch_size: {values: [2, 4]}
  freeze_encoder: {value: true}
"""
SCRIPT = """
import sys
from geoforest.train.sweep import read_sweep, run_sweep
from tests.train.test_sweep import FIXED
run_sweep(read_sweep(sys.argv[1]), sys.argv[2], sys.argv[3], **FIXED)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_chips(tmp_path_factory.mktemp("chips"), {"train": 4, "validation": 2})


def write(folder: Path, text: str) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(text)
    return path


@pytest.mark.slow
def test_a_killed_sweep_goes_on_where_it_was(data, tmp_path):
    config, out = write(tmp_path, GRID), tmp_path / "sweep"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(config), str(data), str(out)],
        cwd=Path(__file__).parents[2],
        env=dict(os.environ),
    )
    deadline = time.monotonic() + 120
    while len(list(out.glob("trials/*/model.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("trials/*/model.json")}
    assert 2 <= len(stamps) < 4
    told = []
    result = run_sweep(read_sweep(config), data, out, on_trial=told.append, **FIXED)
    assert len(result.trials) == 4
    assert 4 - len(stamps) <= len(told) <= 5 - len(stamps)
    for path, stamp in stamps.items():
        assert path.stat().st_mtime_ns == stamp
    values = [trial.value for trial in result.trials]
    assert values == sorted(values)
    assert {(t.parameters["encoder"], t.parameters["batch_size"]) for t in result.trials} == {
        (encoder, size) for encoder in ("resnet18", "mobilenet_v2") for size in (2, 4)
    }
    for trial in result.trials:
        history = best_bundle(type(result)([trial])).card.training["history"]
        assert trial.value == min(epoch["val_loss"] for epoch in history)
    with (out / "trials.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [float(row["val_loss"]) for row in rows] == values
    assert (out / rows[0]["bundle"] / "model.json").is_file()
    assert (out / "trials.png").read_bytes().startswith(b"\x89PNG")
    assert best_bundle(result).card.encoder == result.best.parameters["encoder"]
    # All of it again is a matter of reading.
    again = run_sweep(read_sweep(config), data, out, on_trial=told.clear, **FIXED)
    assert again == result


@pytest.mark.slow
def test_random_values_of_ranges(data, tmp_path):
    config = write(
        tmp_path,
        """
        method: random
        run_cap: 3
        parameters:
          learning_rate: {min: 1.0e-5, max: 1.0e-2, distribution: log_uniform_values}
          batch_size: {min: 2, max: 4}
          encoder: {value: resnet18}
        """,
    )
    fixed = {"encoder_weights": None, "epochs": 1}
    result = run_sweep(read_sweep(config), data, tmp_path / "out", **fixed)
    assert len(result.trials) == 3
    assert len({trial.parameters["learning_rate"] for trial in result.trials}) == 3
    for trial in result.trials:
        assert 1e-5 <= trial.parameters["learning_rate"] <= 1e-2
        assert trial.parameters["batch_size"] in {2, 3, 4}


@pytest.mark.slow
def test_a_trial_that_fails_does_not_stop_the_others(data, tmp_path):
    config = read_sweep(
        write(tmp_path, "parameters: {encoder: {values: [resnet18, no_such_encoder]}}")
    )
    fixed = {"encoder_weights": None, "epochs": 1}
    result = run_sweep(config, data, tmp_path / "out", **fixed)
    assert [trial.value is None for trial in result.trials] == [False, True]
    assert result.best.parameters == {"encoder": "resnet18"}
    config = read_sweep(write(tmp_path, "parameters: {encoder: {value: no_such_encoder}}"))
    with pytest.raises(GeoforestError, match=r"no trial succeeded .*no_such_encoder"):
        run_sweep(config, data, tmp_path / "none", **fixed)


def test_mistakes_of_a_run(data, tmp_path):
    config = read_sweep(write(tmp_path, GRID))
    with pytest.raises(InputError, match="encoder: is given for all trials and varied"):
        run_sweep(config, data, tmp_path / "out", encoder="resnet18")
    with pytest.raises(InputError, match="epochs = 0"):
        run_sweep(config, data, tmp_path / "out", epochs=0)
    assert not (tmp_path / "out").exists()
    (tmp_path / "busy").mkdir()
    with (
        exclusive_lock(tmp_path / "busy"),
        pytest.raises(OutputError, match="another geoforest run"),
    ):
        run_sweep(config, data, tmp_path / "busy", **FIXED)


@pytest.mark.slow
def test_another_sweep_in_the_folder_is_refused(data, tmp_path):
    text = "parameters: {encoder: {value: resnet18}}"
    config = read_sweep(write(tmp_path, text))
    run_sweep(config, data, tmp_path / "out", encoder_weights=None, epochs=1)
    with pytest.raises(InputError, match="holds another sweep"):
        run_sweep(config, data, tmp_path / "out", encoder_weights=None, epochs=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parameters: [", "is no YAML"),
        ("[1, 2]", "sweep: Input should be a valid dictionary"),
        ("method: grid", "parameters: Field required"),
        ("parameters: {}", "parameters: Dictionary should have at least 1"),
        ("parameters: {encoder: {}}", "one of value, values, or min and max"),
        ("parameters: {encoder: {values: []}}", "values is empty"),
        ("parameters: {encoder: {value: a, values: [b]}}", "one of value, values, or min"),
        ("parameters: {seed: {min: 1, max: 3}}", "a grid needs values, and seed is a range"),
        ("{method: random, parameters: {seed: {min: 1, max: 3}}}", "needs a run_cap"),
        ("{metric: {name: f1}, parameters: {seed: {value: 1}}}", "metric.name"),
        ("{program: rm -rf, parameters: {seed: {value: 1}}}", "program: Extra inputs"),
        ("parameters: {no_such: {value: 1}}", "no_such = 1"),
        ("parameters: {batch_size: {values: [4, 0]}}", "batch_size = 0"),
    ],
)
def test_bad_configurations_are_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_sweep(write(tmp_path, text))


def test_a_configuration_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read"):
        read_sweep(tmp_path / "none.yaml")
