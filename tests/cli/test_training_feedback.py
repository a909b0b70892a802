"""What a training tells while it runs."""

from __future__ import annotations

import re

import pytest

from geoforest.cli._training import TrainingFeedback, duration, training_feedback
from geoforest.train.fit import train_model
from geoforest.train.loop import Batch, Epoch
from tests.helpers.synthetic import write_chips
from tests.helpers.trainings import SHORT


def test_lines_of_a_training(tmp_path, capsys):
    data = write_chips(tmp_path / "chips", {"train": 4, "validation": 2})
    batches: list[Batch] = []
    chosen = {**SHORT, "batch_size": 2, "epochs": 2}
    with training_feedback(2) as feedback:

        def on_batch(batch: Batch) -> None:
            batches.append(batch)
            feedback.batch(batch)

        card = train_model(
            data, tmp_path / "m", on_epoch=feedback.epoch, on_batch=on_batch, **chosen
        )
    assert batches == [Batch(0, 2, 1, 2), Batch(0, 2, 2, 2), Batch(1, 2, 1, 2), Batch(1, 2, 2, 2)]
    begun, training, first, second = capsys.readouterr().err.splitlines()
    assert begun == "reading the chips"
    assert training == "training: 2 batches in each of at most 2 passes"
    told = r"training loss 0\.\d{4}, validation loss 0\.\d{4}, F1 [01]\.\d{3}"
    assert re.fullmatch(rf"epoch 1 of 2: {told}, at most about \d+ (s|min|h) left", first)
    assert re.fullmatch(rf"epoch 2 of 2: {told}", second)
    f1 = [epoch["val_f1"] for epoch in card.training["history"]]
    assert all(0 <= one <= 1 for one in f1)


def test_a_long_epoch_is_heard_of(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    feedback = TrainingFeedback(60)
    for done in range(1, 8):
        now[0] += 50
        feedback.batch(Batch(0, 60, done, 250))
    lines = capsys.readouterr().err.splitlines()
    assert lines[1:] == [
        "epoch 1 of 60, batch 3 of 250, at most about 209 h left",
        "epoch 1 of 60, batch 6 of 250, at most about 209 h left",
    ]


def test_a_training_that_goes_on_counts_what_is_left(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    feedback = TrainingFeedback(4)
    feedback.batch(Batch(2, 4, 1, 2))
    now[0] += 10
    feedback.batch(Batch(2, 4, 2, 2))
    feedback.epoch(Epoch(epoch=2, train_loss=0.5, val_loss=0.25, val_f1=0.75, learning_rate=1e-4))
    assert capsys.readouterr().err.splitlines()[-1] == (
        "epoch 3 of 4: training loss 0.5000, validation loss 0.2500, F1 0.750, "
        "at most about 20 s left"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.2, "1 s"), (90, "90 s"), (91, "2 min"), (5400, "90 min"), (5401, "2 h")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
