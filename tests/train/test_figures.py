"""Figures are pictures of what they were given, whatever that is."""

from __future__ import annotations

import io

import matplotlib.image
import numpy as np
import pytest

from geoforest.models.bundle import ThresholdPoint
from geoforest.train import figures
from geoforest.train.calibration import ReliabilityBin
from geoforest.train.evaluate import EdgeScore
from tests.helpers import synthetic


def pixels(png: bytes) -> np.ndarray:
    assert png.startswith(b"\x89PNG")
    return matplotlib.image.imread(io.BytesIO(png))


def coloured(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(picture[..., :3] * 255 - colour).max(axis=-1) < 3).sum())


FOREST_GREEN, MARK_RED = (27, 120, 55), (178, 24, 43)


@pytest.mark.parametrize("bands", [("B04", "B03", "B02", "B08"), ("B04", "B03", "B02"), ("B08",)])
def test_six_panels_of_a_chip(bands):
    dn = synthetic.digital_numbers((64, 96), seed=1)[: len(bands)]
    truth = np.zeros((64, 96), np.uint8)
    truth[:, :48], truth[:8] = 1, 255
    nothing, everything = np.zeros_like(truth), np.ones_like(truth)
    shown = [
        coloured(pixels(figures.chip_figure("7", dn, truth, predicted, bands)), FOREST_GREEN)
        for predicted in (nothing, truth, everything)
    ]
    # A half-forest prediction adds as much green as the truth shows, a full one twice that.
    assert shown[0] > 10_000
    assert shown[1] == pytest.approx(2 * shown[0], rel=0.05)
    assert shown[2] > 2.8 * shown[0]


def test_a_chip_that_nobody_saw():
    dn = np.zeros((4, 32, 32), np.uint16)
    unseen = np.full((32, 32), 255, np.uint8)
    pixels(figures.chip_figure("0", dn, unseen, unseen, ("B04", "B03", "B02", "B08")))


@pytest.mark.parametrize("bands", [("B04", "B03", "B02", "B08"), ("B04", "B03", "B02")])
def test_labels_are_drawn_over_the_chip(bands):
    dn = np.full((len(bands), 64, 96), 500, np.uint16)
    truth = np.zeros((64, 96), np.uint8)
    before = pixels(figures.label_figure("7", dn, truth, bands))
    truth[:, :48] = 1
    after = pixels(figures.label_figure("7", dn, truth, bands))
    changed = (np.abs(after - before).max(axis=-1) > 0.1).any(axis=0)
    # In the left half of the last of three panels, and nowhere else.
    columns = np.flatnonzero(changed)
    assert columns.min() > 0.66 * len(changed)
    assert len(columns) == pytest.approx(len(changed) / 6, rel=0.1)


def point(threshold: float) -> ThresholdPoint:
    return ThresholdPoint(threshold=threshold, precision=1 - threshold / 2, recall=0.8, f1=0.8)


def test_the_curve_marks_its_threshold():
    curve = [point(t / 10) for t in range(1, 11)]
    png = figures.precision_recall_figure(
        curve, marked=point(0.35), always_forest={"precision": 0.3, "f1": 0.46}
    )
    assert coloured(pixels(png), MARK_RED) > 20


@pytest.mark.parametrize("n_epochs", [1, 12])
def test_losses_mark_the_best_epoch(n_epochs):
    history = [
        {"epoch": n, "train_loss": 1 / (n + 1), "val_loss": abs(n - 3) + 0.1, "learning_rate": 1.0}
        for n in range(n_epochs)
    ]
    assert coloured(pixels(figures.loss_figure(history)), MARK_RED) > 20


def test_losses_that_are_none_leave_a_gap():
    history = [
        {"epoch": n, "train_loss": loss, "val_loss": loss}
        for n, loss in enumerate((0.5, None, 0.3))
    ]
    assert coloured(pixels(figures.loss_figure(history)), MARK_RED) > 20
    assert not coloured(pixels(figures.loss_figure(history[1:2])), MARK_RED)


def test_reliability_and_edges_and_trials():
    pixels(figures.reliability_figure([ReliabilityBin(0, 0.1, 5, 0.04, 0.1)], ece=0.06))
    edges = [EdgeScore(0, 1, 10, 4), EdgeScore(1, 2, 0, 0), EdgeScore(10, np.inf, 90, 0)]
    assert coloured(pixels(figures.edge_figure(edges)), FOREST_GREEN) > 1000
    trials = [
        {"parameters": {"encoder": "a", "batch_size": 4}, "value": 0.3},
        {"parameters": {"encoder": "b", "batch_size": 4}, "value": None},
        {"parameters": {"encoder": "c", "batch_size": 8}, "value": 0.2},
    ]
    assert coloured(pixels(figures.sweep_figure(trials, metric="val_loss")), MARK_RED) > 20
    pixels(figures.sweep_figure([], metric="val_loss"))
    trials[0]["parameters"]["encoder"] = "/a/long/way/down" * 10
    assert coloured(pixels(figures.sweep_figure(trials, metric="val_loss")), MARK_RED) > 20
