"""``geoforest map --check-halo``, as a user gives it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from geoforest.models.torch_runtime import TorchPredictor
from tests.helpers.synthetic import EdgePredictor


def test_check_halo(geoforest, scene_path, tiny_bundle, tmp_path, monkeypatch):
    edges = EdgePredictor()
    monkeypatch.setattr(TorchPredictor, "__call__", lambda _, *batch, **how: edges(*batch, **how))
    command = ["map", scene_path, "--out", tmp_path / "out", "--model", tiny_bundle.path]
    done = geoforest(*command, "--halo", 4, "--check-halo", "--json", "--runtime", "torch")
    assert done.returncode == 0, done.stderr
    test = json.loads(done.stdout)["quality"]["halo_test"]
    # 3 x 4 cores of 56 px.
    assert (test["halo"], test["cores"]) == (8, 12)
    # Of 6 px where the network sees an edge of its window, 4 are in the halo.
    rows, cols = np.mgrid[:150, :190]
    observed = (rows >= 40) | (cols >= 30)
    at_edge = ((rows % 56 < 2) | (cols % 56 < 2))[observed]
    assert test["disagreement"] == at_edge.mean()
    both = ((rows % 56 < 2) & (cols % 56 < 2))[observed]
    assert test["mean_difference"] == pytest.approx(0.3 * (at_edge.mean() + both.mean()), abs=1e-3)


def test_a_window_without_room(geoforest, scene_path, tiny_bundle, tmp_path):
    command = ["map", scene_path, "--out", tmp_path / "out", "--model", tiny_bundle.path]
    done = geoforest(*command, "--halo", 16, "--check-halo")
    assert done.returncode == 2
    assert "--check-halo: twice the halo, 32 px, leaves no core in a window of 64" in done.stderr
    assert not (tmp_path / "out").exists()
