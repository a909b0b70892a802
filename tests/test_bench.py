"""What the benchmark tells, on a scene of four windows."""

from __future__ import annotations

import pytest

from geoforest.bench import run_bench


@pytest.mark.slow
def test_seconds_add_up(tmp_path, tiny_bundle):
    found = run_bench(size=112, model=str(tiny_bundle.path), halo=4, shard=56, runtime="torch")
    assert found["windows"] == 4
    assert found["shards"] == 4
    seconds = found["seconds"]
    assert {"read", "predict", "stitch", "write", "shards", "mask", "polygons"} <= seconds.keys()
    assert 0 < seconds["predict"] <= seconds["shards"] < seconds["total"]
    whole = seconds["total"] - seconds["polygons"]
    assert found["overhead_ratio"] == pytest.approx(whole / found["forward_seconds"], rel=0.05)
    assert found["overhead_ratio"] > 1
    assert found["peak_memory_mb"] > 50
