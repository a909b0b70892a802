"""A sweep: what a configuration may say, what a killed one keeps, and who wins."""

from __future__ import annotations

import csv
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from geoforest.errors import DataError, GeoforestError, InputError, OutputError
from geoforest.io.locks import exclusive_lock
from geoforest.models.bundle import save_bundle
from geoforest.models.references import checked_name
from geoforest.train import fit, sweep
from geoforest.train.settings import TrainSettings
from geoforest.train.sweep import run_sweep
from geoforest.train.sweep_config import SweepConfig, read_sweep
from geoforest.train.trials import best_bundle, rank_bundles, train_trial, trial_folder
from geoforest.train.wandb_sweeps import run_wandb_sweep
from tests.helpers import synthetic
from tests.helpers.synthetic import write_chips
from tests.helpers.trainings import FIXED
from tests.helpers.unlockable import without_locks

GRID = """
name: encoders
method: grid
metric: {name: val_loss, goal: minimize}
parameters:
  encoder: {values: [resnet18, mobilenet_v2]}
  batch_size: {values: [2, 4]}
  freeze_encoder: {value: true}
"""
RANGE = "{{method: random, run_cap: 2, parameters: {{seed: {}}}}}"
SCRIPT = """
import sys
from geoforest.train.sweep import run_sweep
from geoforest.train.sweep_config import read_sweep
from tests.helpers.trainings import FIXED
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
    assert [float(row["val_loss"]) for row in rows] == pytest.approx(values, rel=1e-5)
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
          encoder: {value: mobilenet_v2}
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
        write(tmp_path, "parameters: {encoder: {values: [mobilenet_v2, no_such_encoder]}}")
    )
    fixed = {"encoder_weights": None, "epochs": 1}
    result = run_sweep(config, data, tmp_path / "out", **fixed)
    assert [trial.value is None for trial in result.trials] == [False, True]
    assert result.best.parameters == {"encoder": "mobilenet_v2"}
    assert "no_such_encoder" in result.failed[0].error
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
    text = "parameters: {encoder: {value: mobilenet_v2}}"
    config = read_sweep(write(tmp_path, text))
    run_sweep(config, data, tmp_path / "out", encoder_weights=None, epochs=1)
    with pytest.raises(InputError, match="holds another sweep"):
        run_sweep(config, data, tmp_path / "out", encoder_weights=None, epochs=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parameters: [", "is not YAML"),
        ("[1, 2]", "sweep: Input should be a valid dictionary"),
        ("method: grid", "parameters: Field required"),
        ("parameters: {}", "parameters: Dictionary should have at least 1"),
        ("parameters: {encoder: {}}", "one of value, values, or min and max"),
        ("parameters: {encoder: {values: []}}", "values is empty"),
        ("parameters: {encoder: {value: a, values: [b]}}", "one of value, values, or min"),
        ("parameters: {seed: {min: 1, max: 3}}", "a grid needs values, and seed is a range"),
        ("{method: random, parameters: {seed: {min: 1, max: 3}}}", "needs a run_cap"),
        ("{metric: {name: f1}, parameters: {seed: {value: 1}}}", "metric.name"),
        ("{early_terminate: {}, parameters: {seed: {value: 1}}}", "early_terminate: Extra inputs"),
        (RANGE.format("{min: 3, max: 1}"), "seed: Value error, min 3, max 1"),
        (RANGE.format("{min: 0, max: .inf}"), "max inf: numbers in this order"),
        (RANGE.format("{min: 0, max: 1, distribution: log_uniform_values}"), "above 0"),
        (RANGE.format("{min: 1, max: 2.5, distribution: int_uniform}"), "whole numbers"),
        ("parameters: {no_such: {value: 1}}", "no_such = 1"),
        ("parameters: {batch_size: {values: [4, 0]}}", "batch_size = 0"),
    ],
)
def test_bad_configurations_are_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_sweep(write(tmp_path, text))


def test_a_number_with_an_exponent_is_a_number(tmp_path):
    """PyYAML reads 1e-4 as a text, as YAML 1.1 says; it is the same sweep however it is written."""
    text = "parameters: {{learning_rate: {{values: [{}, 3e-4]}}, batch_size: {{value: {}}}}}"
    configs = [
        read_sweep(write(tmp_path, text.format(*values)))
        for values in (("1e-4", "'8'"), ("0.0001", "8"), ("1.0e-4", "8e0"), ("'1E-04'", "8.0"))
    ]
    assert configs[0].grid() == [
        {"learning_rate": 1e-4, "batch_size": 8},
        {"learning_rate": 3e-4, "batch_size": 8},
    ]
    assert all(config.grid() == configs[0].grid() for config in configs)
    folders = {trial_folder(tmp_path, config.grid()[0]).name for config in configs[:3]}
    assert len(folders) == 1
    assert folders.pop().startswith("0.0001_8-")
    assert configs[0].for_wandb()["parameters"]["learning_rate"] == {"values": [1e-4, 3e-4]}


def test_ends_of_ranges_are_numbers_too(tmp_path):
    (one,) = read_sweep(
        write(
            tmp_path,
            "{method: random, run_cap: 1, parameters: {learning_rate: "
            "{min: 1e-5, max: 1E-3, distribution: log_uniform_values}}}",
        )
    ).parameters.values()
    assert (one.min, one.max) == (1e-5, 1e-3)


def test_texts_of_other_settings_stay(tmp_path):
    config = read_sweep(write(tmp_path, "parameters: {encoder: {values: ['18', resnet18]}}"))
    assert config.parameters["encoder"].values == ("18", "resnet18")


def test_a_configuration_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read"):
        read_sweep(tmp_path / "none.yaml")


def test_what_tells_the_agent_of_wandb_how_to_train_is_passed_over(tmp_path):
    agents = "{program: train.py, command: [python], project: a, entity: b, "
    text = agents + "parameters: {seed: {values: [1, 2]}}}"
    plain = read_sweep(write(tmp_path, "{parameters: {seed: {values: [1, 2]}}}"))
    assert read_sweep(write(tmp_path, text)) == plain


def test_the_folder_of_a_trial_is_a_name_for_a_model():
    for value in ("/models/é.safetensors", "-1", "é", 4):
        folder = trial_folder(Path("out"), {"encoder_weights": value})
        assert checked_name(folder.name) == folder.name


class Trainings:
    """Stands in for the training of a trial: by its seed it succeeds, fails, breaks or is cut."""

    def __init__(self, monkeypatch) -> None:
        self.seen: list[int] = []
        self.errors: dict[int, BaseException] = {}
        monkeypatch.setattr("geoforest.train.sweep.train_trial", self)

    def __call__(self, chips, bundle, settings, tracker=None) -> float:
        self.seen.append(settings["seed"])
        if settings["seed"] in self.errors:
            raise self.errors[settings["seed"]]
        return settings["seed"] / 10


@pytest.fixture
def trainings(monkeypatch) -> Trainings:
    return Trainings(monkeypatch)


@pytest.fixture
def seeds(tmp_path) -> SweepConfig:
    return read_sweep(write(tmp_path, "parameters: {seed: {values: [1, 2, 3]}}"))


@pytest.mark.parametrize(
    ("error", "seen", "again"),
    [
        # It goes on with the others; the next run tries it again.
        (GeoforestError("out of luck"), [1, 2, 3], [2]),
        # It was cut: resumed first.
        (KeyboardInterrupt(), [1, 2], [2, 3]),
        # A bug, or too little memory: shown at once, tried again after all others.
        (RuntimeError("CUDA out of memory"), [1, 2], [3, 2]),
    ],
)
def test_a_trial_without_a_value_is_tried_again(
    data, tmp_path, seeds, trainings, error, seen, again
):
    out = tmp_path / "out"
    trainings.errors = {2: error}
    if isinstance(error, GeoforestError):
        result = run_sweep(seeds, data, out)
        assert [(t.parameters["seed"], t.error) for t in result.failed] == [(2, "out of luck")]
    else:
        with pytest.raises(type(error)):
            run_sweep(seeds, data, out)
    assert trainings.seen == seen
    trainings.seen, trainings.errors = [], {}
    result = run_sweep(seeds, data, out)
    assert trainings.seen == again
    assert [trial.value for trial in result.trials] == [0.1, 0.2, 0.3]
    assert result.failed == []


def test_a_trial_that_fails_again_is_not_tried_for_ever(data, tmp_path, seeds, trainings):
    trainings.errors = {seed: GeoforestError("no") for seed in (2, 3)}
    for wanted in ([1, 2, 3], [2, 3]):
        trainings.seen = []
        result = run_sweep(seeds, data, tmp_path / "out")
        assert trainings.seen == wanted
        assert len(result.failed) == 2


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_an_interrupted_sweep_of_ranges_has_the_values_of_a_whole_one(
    data, tmp_path, trainings, method
):
    text = f"{{method: {method}, run_cap: 4, parameters: {{seed: {{min: 0, max: 999}}}}}}"
    config = read_sweep(write(tmp_path, text))
    run_sweep(config, data, tmp_path / "whole")
    whole, trainings.seen = trainings.seen, []
    assert len(set(whole)) == 4
    trainings.errors = {whole[1]: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        run_sweep(config, data, tmp_path / "cut")
    trainings.errors = {}
    run_sweep(config, data, tmp_path / "cut")
    assert trainings.seen == [*whole[:2], *whole[1:]]


def test_a_damaged_database_is_one_sentence(data, tmp_path, seeds, trainings):
    out = tmp_path / "out"
    run_sweep(seeds, data, out)
    (out / "sweep.db").write_bytes(b"no database" * 1000)
    with pytest.raises(
        OutputError, match=r"sweep\.db: cannot be used as the database of a sweep"
    ) as c:
        run_sweep(seeds, data, out)
    assert "file is not a database" in str(c.value)
    assert "\n" not in str(c.value)
    (out / "sweep.db").unlink()
    (out / "sweep.db").mkdir()
    with pytest.raises(OutputError, match="unable to open database file"):
        run_sweep(seeds, data, out)
    (out / "sweep.db").rmdir()
    assert len(run_sweep(seeds, data, out).trials) == 3


def test_a_database_that_is_in_use_is_no_damage(tmp_path):
    locked = sqlite3.OperationalError("database is locked")
    error = sweep._storage_error(tmp_path / "sweep.db", locked)
    assert error.exit_code == 1
    assert "cannot be used now (database is locked)" in str(error)


def test_other_data_are_another_sweep(tmp_path, seeds, trainings):
    first, other = (
        write_chips(tmp_path / name, {"train": n, "validation": 1})
        for name, n in (("first", 2), ("other", 3))
    )
    run_sweep(seeds, first, tmp_path / "out")
    with pytest.raises(InputError, match="holds another sweep, or this one on other data"):
        run_sweep(seeds, other, tmp_path / "out")
    with pytest.raises(InputError, match="holds another sweep, or this one on other data"):
        run_wandb_sweep(seeds, other, tmp_path / "out", project="forest")
    # The same chips may have moved.
    first.rename(tmp_path / "moved")
    assert len(run_sweep(seeds, tmp_path / "moved", tmp_path / "out").trials) == 3


def test_what_changes_no_weight_is_no_other_sweep(data, tmp_path, trainings):
    """Here the weights moved, the loaders are more, and two trials were added."""
    one, other, moved = (tmp_path / name for name in ("one.st", "other.st", "moved.st"))
    one.write_bytes(b"1")
    other.write_bytes(b"2")
    text = (
        "{{description: {}, run_cap: {}, parameters: {{encoder_weights: {{values: [{}, {}]}}, "
        "workers: {{value: {}}}, seed: {{values: [1, 2]}}}}}}"
    )

    def swept(*changed: object, **fixed: object) -> list[Path]:
        trainings.seen = []
        config = read_sweep(write(tmp_path, text.format(*changed)))
        result = run_sweep(config, data, tmp_path / "out", **fixed)
        assert len(result.trials) == config.n_trials
        assert {trial.parameters["encoder_weights"] for trial in result.trials} <= {
            str(value) for value in changed
        }
        return sorted(trial.bundle for trial in result.trials)

    first = swept("before", 2, one, other, 0, epochs=2)
    assert trainings.seen == [1, 2]
    one.rename(moved)
    second = swept("after", 4, moved, other, 3, epochs=2)
    assert trainings.seen == [1, 2]
    assert set(first) < set(second)
    moved.write_bytes(b"3")
    for changed, epochs in (((moved, other), 2), ((other, moved), 2), ((other, other), 3)):
        with pytest.raises(InputError, match="holds another sweep"):
            swept("after", 4, *changed, 3, epochs=epochs)
    assert trainings.seen == []


def test_a_sweep_survives_weights_that_go_away(data, tmp_path, monkeypatch):
    one = tmp_path / "one.st"
    one.write_bytes(b"1")

    def train_trial(chips, bundle, settings) -> float:
        one.unlink(missing_ok=True)
        return float(settings["seed"])

    monkeypatch.setattr("geoforest.train.sweep.train_trial", train_trial)
    text = f"parameters: {{encoder_weights: {{value: {one}}}, seed: {{values: [1, 2]}}}}"
    result = run_sweep(read_sweep(write(tmp_path, text)), data, tmp_path / "out")
    assert [trial.value for trial in result.trials] == [1, 2]


def test_chips_are_read_once_a_sweep(data, tmp_path, monkeypatch):
    """And again for a trial on bands of other names."""
    read, trained = [], []
    read_split = fit.read_split

    def reading(data, split, **options):
        read.append(split)
        return read_split(data, split, **options)

    def train_chips(chips, bundle, settings, *, tracker):
        trained.append((settings.seed, chips.bands))
        return synthetic.card(training={"history": [{"val_loss": 0.1}]})

    monkeypatch.setattr(fit, "read_split", reading)
    monkeypatch.setattr("geoforest.train.trials.train_chips", train_chips)
    text = "{{parameters: {{{}: {{values: [{}, {}]}}}}}}"
    run_sweep(read_sweep(write(tmp_path, text.format("seed", 1, 2))), data, tmp_path / "seeds")
    bands = TrainSettings().bands
    assert trained == [(1, bands), (2, bands)]
    assert read == ["train", "validation"]
    chips = fit.read_chips(data, bands)
    read.clear()
    others = ("B02", "B03", "B04", "B08")
    train_trial(chips, tmp_path / "other", {"bands": others})
    assert trained[-1] == (0, others)
    assert read == ["train", "validation"]


def test_what_every_trial_would_stumble_over_is_refused_before_the_first(
    data, tmp_path, seeds, trainings
):
    with pytest.raises(DataError, match="nowhere/train/images: no such folder"):
        run_sweep(seeds, tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file: cannot be written to"):
        run_sweep(seeds, data, tmp_path / "file")
    assert trainings.seen == []


def test_bundles_that_were_trained_one_by_one_are_ranked(tmp_path):
    for name, losses in {"a": [0.5, 0.4], "b": [0.3, 0.6], "c": [0.9, None]}.items():
        history = [{"epoch": i, "train_loss": 0.1, "val_loss": x} for i, x in enumerate(losses)]
        card = synthetic.card(encoder=name, training={"batch_size": 4, "history": history})
        save_bundle(tmp_path / "trials" / name, {"a": torch.zeros(1)}, card)
    folders = sorted((tmp_path / "trials").iterdir())
    result = rank_bundles(folders, tmp_path, ["encoder", "batch_size"])
    assert [trial.parameters["encoder"] for trial in result.trials] == ["b", "a", "c"]
    assert (result.best.value, best_bundle(result).card.encoder) == (0.3, "b")
    with (tmp_path / "trials.csv").open() as file:
        assert [row["bundle"] for row in csv.DictReader(file)] == [
            "trials/b",
            "trials/a",
            "trials/c",
        ]
    with pytest.raises(GeoforestError, match="no trial"):
        rank_bundles([], tmp_path, ["encoder"])


@pytest.mark.slow
def test_a_share_that_cannot_lock(data, tmp_path):
    out = tmp_path / "share" / "a sweep"
    out.parent.mkdir()
    config = write(tmp_path, RANGE.format("{values: [1]}").replace("run_cap: 2", "run_cap: 1"))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(config), str(data), str(out)],
        env={**os.environ, **without_locks(tmp_path, out.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "this file system cannot lock" in done.stderr
    assert (out / "sweep.db").stat().st_size > 0
    with (out / "trials.csv").open() as table:
        assert [row["seed"] for row in csv.DictReader(table)] == ["1"]
