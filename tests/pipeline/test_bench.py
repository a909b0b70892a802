"""What the benchmark tells, on a scene of four windows."""

from __future__ import annotations

import pytest

from geoforest.pipeline.bench import run_bench


@pytest.mark.slow
def test_seconds_add_up(tmp_path, tiny_bundle):
    found = run_bench(size=112, model=str(tiny_bundle.path), halo=4, shard=56, runtime="torch")
    assert found["windows"] == 4
    assert found["shards"] == 4
    seconds = found["seconds"]
    assert {"read", "predict", "stitch", "write", "shards", "mask", "polygons"} <= seconds.keys()
    assert 0 < seconds["predict"] <= seconds["shards"] < seconds["total"]
    # Polygons are made while the rasters are compressed: what is left is no less than without.
    rasters = max(seconds["forest_mask cog"], seconds["forest_probability cog"])
    whole = seconds["total"] - seconds["products"] + rasters
    assert seconds["total"] - seconds["polygons"] - 0.01 <= whole <= seconds["total"]
    assert found["overhead_ratio"] == pytest.approx(whole / found["forward_seconds"], rel=0.05)
    assert found["overhead_ratio_with_polygons"] >= found["overhead_ratio"] > 1
    assert found["peak_memory_mb"] > 50
