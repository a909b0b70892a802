"""An evaluation on disk: its numbers, its pictures, and what becomes of it when something fails."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from geoforest.arrays.scores import DEFINITION
from geoforest.errors import DataError, InputError, OutputError
from geoforest.models.bundle import ThresholdPoint, load_bundle, save_bundle
from geoforest.models.torch_runtime import TorchPredictor
from geoforest.train.chips import read_split
from geoforest.train.evaluate import evaluate
from geoforest.train.evaluation import evaluate_model
from tests.helpers import synthetic
from tests.helpers.synthetic import write_chips


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_chips(tmp_path_factory.mktemp("chips"), {"train": 1, "validation": 5, "test": 2})


@pytest.fixture(scope="module")
def model(tiny_bundle, tmp_path_factory) -> Path:
    """The tiny bundle with a history, and a threshold that its random weights straddle."""
    path = tmp_path_factory.mktemp("models") / "judged"
    history = [
        {"epoch": n, "train_loss": 0.5, "val_loss": 0.4 + n, "learning_rate": 1e-4}
        for n in range(3)
    ]
    card = tiny_bundle.card.model_copy(
        update={
            "training": {"history": history},
            "threshold": 0.44,
            "threshold_curve": (ThresholdPoint(threshold=0.44, precision=0.5, recall=1, f1=0.7),),
            "notes": "<b>not bold</b>",
        }
    )
    return save_bundle(path, tiny_bundle.state_dict(), card).path


def test_numbers_and_files(data, model, tmp_path):
    out = tmp_path / "evaluation"
    metrics = evaluate_model(
        model, data, out, splits=("validation", "test"), n_chips=3, device="cpu"
    )
    assert json.loads((out / "metrics.json").read_text()) == metrics
    bundle = load_bundle(model)
    for split, n_chips in (("validation", 5), ("test", 2)):
        judged = evaluate(TorchPredictor(bundle), read_split(data, split, n_bands=4))
        told = metrics["splits"][split]
        assert told["threshold"] == 0.44
        assert told["chips"] == n_chips
        assert told["scores"] == judged.scores(0.44)
        assert told["best_threshold"] == judged.best_threshold()
        with (out / split / "precision_recall.csv").open() as handle:
            curve = list(csv.DictReader(handle))
        thresholds = [float(row["threshold"]) for row in curve]
        assert thresholds == sorted(thresholds)
        assert {0.44, judged.best_threshold(), 1e-6, 1.0} <= set(thresholds)
        with (out / split / "chips.csv").open() as handle:
            assert len(list(csv.DictReader(handle))) == n_chips
        drawn = [path.stem for path in (out / split / "chips").iterdir()]
        assert len(drawn) == min(3, n_chips)
    f1 = {name: h.at(110).scores() for name, h in judged.chips.items()}
    assert set(drawn) == set(f1)
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2 * 3 + 3 + 2 + 1
    assert "carried over" in page
    assert "&lt;b&gt;not bold" in page
    assert "http://" not in page
    assert "https://" not in page


def test_all_chips_and_another_threshold(data, model, tmp_path):
    out = tmp_path / "evaluation"
    metrics = evaluate_model(model, data, out, threshold=0.5, n_chips=None, device="cpu")
    assert metrics["splits"]["validation"]["threshold"] == 0.5
    assert len(list((out / "validation" / "chips").iterdir())) == 5
    # An earlier evaluation is replaced whole.
    evaluate_model(model, data, out, n_chips=0, device="cpu")
    assert list((out / "validation" / "chips").iterdir()) == []


def test_the_report_says_where_the_threshold_comes_from(data, model, tiny_bundle, tmp_path):
    for name, judged, threshold, told in (
        ("own", model, None, "chosen on validation and carried over"),
        ("given", model, 0.5, "was given for this evaluation"),
        ("imported", tiny_bundle.path, None, "does not say how it was chosen"),
    ):
        evaluate_model(
            judged, data, tmp_path / name, splits=("test",), threshold=threshold, device="cpu"
        )
        page = (tmp_path / name / "report.html").read_text()
        (sentence,) = re.findall(r"The threshold [^.]*", page)
        assert sentence.endswith(told)


def test_failures_leave_nothing_and_replace_nothing(data, model, tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        evaluate_model(model, data, tmp_path / "e", splits=("nowhere",), device="cpu")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    with pytest.raises(OutputError, match="is no evaluation"):
        evaluate_model(model, data, tmp_path / "mine", device="cpu")
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 2}, "threshold 2: a probability from 0 to 1"),
        ({"threshold": -0.1}, "threshold -0.1: a probability"),
        ({"threshold": float("nan")}, "threshold nan: a probability"),
        ({"splits": ("validation", "validation")}, "splits validation, validation: one or several"),
        ({"splits": ("../set/validation",)}, "split '../set/validation': a name such as"),
        ({"splits": ("",)}, "split '': a name such as"),
        ({"splits": ()}, "splits none: one or several"),
    ],
)
def test_options_are_checked_before_the_model_is_opened(data, tmp_path, options, message):
    with pytest.raises(InputError, match=re.escape(message)):
        evaluate_model(tmp_path / "no model", data, tmp_path / "e", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_chip_without_a_label_has_no_score_and_no_rank(data, model, tmp_path):
    copy = Path(shutil.copytree(data, tmp_path / "copy"))
    unlabelled(copy / "test" / "masks" / "0.tif")
    metrics = evaluate_model(model, copy, tmp_path / "e", splits=("test",), device="cpu")
    with (tmp_path / "e" / "test" / "chips.csv").open() as handle:
        first, second = csv.DictReader(handle)
    assert first["tp"] == first["tn"] == "0"
    assert {first[score] for score in ("f1", "iou", "precision", "recall", "accuracy")} == {""}
    wanted = metrics["splits"]["test"]["scores"]["per_image_f1"]
    assert float(second["f1"]) == pytest.approx(wanted, rel=1e-5)
    drawn = [path.stem for path in (tmp_path / "e" / "test" / "chips").iterdir()]
    assert drawn == ["1"]
    # Imported cards have no definition; these scores are of our own all the same.
    assert load_bundle(model).card.metrics_definition == ""
    assert metrics["definition"] == DEFINITION
    unlabelled(copy / "test" / "masks" / "1.tif")
    with pytest.raises(DataError, match=r"test/masks: not one labelled pixel"):
        evaluate_model(model, copy, tmp_path / "f", splits=("test",), device="cpu")
    assert not (tmp_path / "f").exists()


def unlabelled(path: Path) -> None:
    synthetic.write_raster(path, np.full((1, 64, 64), 255, np.uint8), descriptions=None)


def test_files_do_not_show_the_secrets_of_a_url(data, model, tmp_path, monkeypatch):
    def read_here(url, split, **options):
        return read_split(data, split, **options)

    monkeypatch.setattr("geoforest.train.evaluation.read_split", read_here)
    url = "memory://me:s3cr3t@judged/set?sig=s3cr3t"
    metrics = evaluate_model(model, url, tmp_path / "e", splits=("test",), device="cpu")
    assert metrics["data"] == "memory://judged/set"
    for path in tmp_path.rglob("*.*"):
        assert b"s3cr3t" not in path.read_bytes()
