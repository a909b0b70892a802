"""Who gets which shard next."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from geoforest.grid import Grid
from geoforest.waiting import WaitingShards


def a_job(name: str = "a"):
    return SimpleNamespace(fingerprint=name)


def shards(rows: int, cols: int):
    return list(Grid((rows * 10, cols * 10), window=10, halo=0, shard_cores=1).shards())


def test_one_worker_goes_in_order():
    waiting, job = WaitingShards(), a_job()
    waiting.add(job, shards(3, 4))
    taken = [waiting.take("w") for _ in range(12)]
    assert [shard for _, shard in taken] == shards(3, 4)
    assert waiting.take("w") is None


def test_each_worker_has_rows_of_its_own_until_there_is_no_other():
    waiting, job = WaitingShards(), a_job()
    waiting.add(job, shards(3, 4))
    rows = {"v": [], "w": []}
    for _ in range(4):
        for worker in rows:
            rows[worker].append(waiting.take(worker)[1])
    assert [shard.row for shard in rows["v"]] == [0] * 4
    assert [shard.row for shard in rows["w"]] == [1] * 4
    # The last row is begun by one, and shared by the other from its far end.
    assert waiting.take("v")[1].col == 0
    assert waiting.take("w")[1].col == 3


def test_what_is_put_back_comes_next_and_what_is_dropped_never():
    waiting, first, second = WaitingShards(), a_job("a"), a_job("b")
    waiting.add(first, shards(1, 3))
    waiting.add(second, shards(1, 2))
    job, shard = waiting.take("w")
    waiting.put_back(job, shard)
    assert waiting.take("w") == (job, shard)
    assert len(waiting) == 4
    assert waiting.drop(first) == 2
    assert [waiting.take("w")[0] for _ in range(2)] == [second, second]
    assert waiting.take("w") is None


@given(st.lists(st.sampled_from("uvw"), min_size=40, max_size=40), st.integers(1, 5))
def test_every_shard_is_given_once(workers, rows):
    waiting, job = WaitingShards(), a_job()
    waiting.add(job, shards(rows, 5))
    taken = [item[1].name for worker in workers if (item := waiting.take(worker))]
    assert Counter(taken) == Counter(shard.name for shard in shards(rows, 5))
