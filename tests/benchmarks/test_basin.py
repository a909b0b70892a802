"""The simulated basin at twelve tiles, and the estimate that the documentation holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.basin_run import count

TILES, KILL_AFTER = 12, 4


@pytest.fixture(scope="module")
def counted(tmp_path_factory) -> dict:
    return count(tmp_path_factory.mktemp("basin"), TILES, KILL_AFTER)


@pytest.mark.slow
def test_all_tiles_are_done_with_and_without_a_kill(counted):
    # 230 px are 5 cores of 48 px a side, and 3 shards of 2 cores.
    assert counted["scenes"] == counted["resumed_scenes"] == TILES
    assert counted["windows"] == TILES * 25
    assert counted["shards"] == TILES * 9
    assert len(counted["memory_mb"]) == 7


@pytest.mark.slow
def test_what_was_finished_is_not_done_again(counted):
    # Others had been finished, and were not yet told of, or had shards when it was killed.
    assert counted["kept_scenes"] >= KILL_AFTER
    assert counted["kept_scenes"] + counted["begun_scenes"] <= TILES
    assert counted["reused_shards"] == counted["committed_shards"]
    left = 9 * (TILES - counted["kept_scenes"])
    assert counted["again"] == left - counted["committed_shards"]


def test_the_documentation_holds_what_the_script_prints():
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, root / "scripts" / "basin_estimate.py"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    document = (root / "docs" / "scaling.md").read_text(encoding="utf-8")
    first, second = done.stdout.strip().split("\n\n")
    assert first in document
    assert second in document
