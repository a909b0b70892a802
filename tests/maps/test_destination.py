"""Maps that go to a bucket: the bytes of those on disk, complete or not there, resumed, refused."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geoforest.errors import GeoforestError, OutputError, WriteError
from geoforest.maps.status import status
from geoforest.maps.verify.run import verify
from geoforest.pipeline.run import MapResult
from tests.helpers import synthetic
from tests.helpers.jobs import PRODUCTS, run
from tests.helpers.servers import ACCESS_KEY, SECRET_KEY, S3Server, s3_bucket, watched_s3_server

ROOT = Path(__file__).parents[2]
OUT = "s3://maps/amazon"


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with watched_s3_server() as server:
        yield server


@pytest.fixture
def s3(server, monkeypatch, tmp_path) -> Iterator[Any]:
    """A client; the bucket is empty, and so is the work folder."""
    client = s3_bucket(monkeypatch, server.address, "maps")
    monkeypatch.setenv("GEOFOREST_WORK", str(tmp_path / "work"))
    server.asked.clear()
    yield client
    for name in keys(client):
        client.delete_object(Bucket="maps", Key=name)


def keys(client: Any, prefix: str = "") -> list[str]:
    found = client.list_objects_v2(Bucket="maps", Prefix=prefix).get("Contents", [])
    return [one["Key"] for one in found]


def content(client: Any, key: str) -> bytes:
    return client.get_object(Bucket="maps", Key=key)["Body"].read()


def puts(server: S3Server) -> list[str]:
    return [Path(path).name for method, path, _ in server.asked if method in {"PUT", "POST"}]


def same_run(one: MapResult, other: MapResult) -> bool:
    """Whether nothing was done in the second."""
    return all(one.summary[name] == other.summary[name] for name in ("created", "seconds"))


def work(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "work").rglob("*") if path.is_file()]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_the_bytes_are_those_of_a_map_on_disk(s3, server, scene_path, tmp_path, tiny_bundle):
    local = run(scene_path, tmp_path / "out", tiny_bundle)
    server.asked.clear()
    result = run(scene_path, OUT, tiny_bundle)
    assert str(result.folder) == "s3://maps/amazon/scene"
    assert result.scene_id == "scene"
    assert sorted(keys(s3)) == sorted(
        f"amazon/scene/{path.name}" for path in local.folder.iterdir()
    )
    for name in PRODUCTS:
        assert content(s3, f"amazon/scene/{name}") == (local.folder / name).read_bytes()
    assert puts(server)[-1] == "job.json"
    assert work(tmp_path) == []
    dataset = result.open()
    assert (dataset.mask.values == local.open().mask.values).all()
    assert verify(OUT) == verify(f"{OUT}/scene") == []
    (one,) = status(OUT)
    assert (one.folder, one.state) == ("s3://maps/amazon/scene", "done")


@pytest.mark.slow
def test_from_a_bucket_into_a_bucket(s3, scene_path, tmp_path, tiny_bundle):
    s3.upload_file(str(scene_path), "maps", "scene.tif")
    local = run(scene_path, tmp_path / "out", tiny_bundle)
    result = run("s3://maps/scene.tif", OUT, tiny_bundle)
    for name in PRODUCTS:
        assert content(s3, f"amazon/scene/{name}") == (local.folder / name).read_bytes()
    before = json.loads(content(s3, "amazon/scene/job.json"))
    assert same_run(run("s3://maps/scene.tif", OUT, tiny_bundle), result)
    # Another version of the scene is another job.
    synthetic.write_raster(scene_path, synthetic.digital_numbers((150, 190), seed=3), nodata=0)
    s3.upload_file(str(scene_path), "maps", "scene.tif")
    with pytest.raises(OutputError, match=r"scene: holds outputs of another job \(other files\)"):
        run("s3://maps/scene.tif", OUT, tiny_bundle)
    run("s3://maps/scene.tif", OUT, tiny_bundle, overwrite=True)
    after = json.loads(content(s3, "amazon/scene/job.json"))
    assert after["fingerprint"] != before["fingerprint"]
    assert verify(OUT) == []


def test_an_unchanged_map_is_left_alone(s3, server, scene_path, tiny_bundle):
    first = run(scene_path, OUT, tiny_bundle)
    server.asked.clear()
    assert same_run(run(scene_path, OUT, tiny_bundle), first)
    assert set(puts(server)) <= {".geoforest-probe"}
    assert not any(name.startswith(".") for name in keys(s3))


@pytest.mark.slow
def test_a_product_that_was_changed_is_made_again(s3, scene_path, tiny_bundle):
    run(scene_path, OUT, tiny_bundle)
    mask = content(s3, "amazon/scene/forest_mask.tif")
    s3.put_object(Bucket="maps", Key="amazon/scene/forest_mask.tif", Body=mask[:-1])
    (problem,) = verify(OUT)
    assert str(problem).startswith("s3://maps/amazon/scene/forest_mask.tif: changed")
    s3.delete_object(Bucket="maps", Key="amazon/scene/forest.gpkg")
    assert {str(one.path) for one in verify(OUT)} == {
        "s3://maps/amazon/scene/forest_mask.tif",
        "s3://maps/amazon/scene/forest.gpkg",
    }
    result = run(scene_path, OUT, tiny_bundle)
    assert content(s3, "amazon/scene/forest_mask.tif") == mask
    assert verify(OUT) == []
    # What lay there may be somebody's work.
    assert content(s3, "amazon/scene/forest_mask_edited.tif") == mask[:-1]
    assert any("kept as forest_mask_edited.tif" in note for note in result.summary["notes"])


def test_another_threshold_predicts_nothing(s3, scene_path, tiny_bundle):
    run(scene_path, OUT, tiny_bundle)
    stored = content(s3, "amazon/scene/forest_probability.tif")
    result = run(scene_path, OUT, tiny_bundle, threshold=0.7, products="mask,probability")
    assert result.summary["reused_shards"] == result.summary["shards"]
    assert result.summary["threshold"] == 0.7
    assert content(s3, "amazon/scene/forest_probability.tif") == stored
    assert verify(OUT) == []


def test_a_large_product_goes_in_parts(s3, server, tmp_path):
    from geoforest.io.files import open_place

    # Above what s3fs sends at once: two of its parts.
    data = np.random.default_rng(0).bytes(101 << 20)
    (tmp_path / "large").write_bytes(data)
    open_place("s3://maps/large").put(tmp_path / "large")
    parts = [query for method, _, query in server.asked if method == "PUT"]
    assert len(parts) > 1
    assert all(query.startswith("partNumber=") for query in parts)
    assert s3.head_object(Bucket="maps", Key="large")["ContentLength"] == len(data)


@pytest.mark.slow
def test_a_busy_store_is_asked_again(s3, server, scene_path, tiny_bundle):
    server.busy = 3
    run(scene_path, OUT, tiny_bundle)
    assert server.busy == 0
    assert verify(OUT) == []


@pytest.mark.slow
def test_an_upload_that_fails_is_made_again(s3, server, scene_path, tmp_path, tiny_bundle):
    server.denied = "forest_mask.tif"
    with pytest.raises(WriteError) as caught:
        run(scene_path, OUT, tiny_bundle)
    server.denied = None
    assert caught.value.exit_code == 1
    assert str(caught.value).startswith(
        "s3://maps/amazon/scene/forest_mask.tif: cannot be written to (access denied); "
    )
    assert str(caught.value).endswith("the same command uploads again")
    assert "amazon/scene/job.json" not in keys(s3)
    result = run(scene_path, OUT, tiny_bundle)
    assert result.summary["reused_shards"] == result.summary["shards"]
    assert verify(OUT) == []


@pytest.mark.slow
@pytest.mark.parametrize("at", ["forest_probability.tif", "summary.json", "job.json"])
def test_a_run_killed_while_it_uploads_goes_on(s3, server, scene_path, tmp_path, tiny_bundle, at):
    local = run(scene_path, tmp_path / "out", tiny_bundle)
    run(scene_path, OUT, tiny_bundle, threshold=0.2)
    old = content(s3, f"amazon/scene/{at}")
    server.hang_at = "PUT", f"amazon/scene/{at}"
    server.hanging.clear()
    server.go_on.clear()
    settings = {"halo": 8, "shard": 96, "min_area_ha": 0.0, "overwrite": True}
    code = (
        "import json, sys, geoforest; from tests.helpers.synthetic import load_local_predictor\n"
        "geoforest.map_scene(sys.argv[1], sys.argv[2], model=sys.argv[3],"
        " load_predictor=load_local_predictor, **json.loads(sys.argv[4]))"
    )
    command = [sys.executable, "-c", code, scene_path, OUT, tiny_bundle.path, json.dumps(settings)]
    process = subprocess.Popen(
        list(map(str, command)), cwd=ROOT, stderr=subprocess.PIPE, env={**os.environ}
    )
    try:
        assert server.hanging.wait(60), process.stderr.read()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
        server.hang_at = None
    assert "amazon/scene/job.json" not in keys(s3)
    if at != "job.json":
        assert content(s3, f"amazon/scene/{at}") == old
    (one,) = status(OUT)
    assert (one.folder, one.state) == ("s3://maps/amazon/scene", "stopped")
    (problem,) = verify(OUT)
    assert str(problem).startswith("s3://maps/amazon/scene: unfinished")
    server.go_on.set()
    result = run(scene_path, OUT, tiny_bundle)
    assert result.summary["reused_shards"] == result.summary["shards"]
    for name in PRODUCTS:
        assert content(s3, f"amazon/scene/{name}") == (local.folder / name).read_bytes()
    assert verify(OUT) == []
    assert work(tmp_path) == []


def test_no_secret_is_written_or_said(
    s3, scene_path, tmp_path, tiny_bundle, capfd, caplog, monkeypatch
):
    """Neither keys nor signatures: in files, in the bucket, on the terminal."""
    from tests.helpers.servers import file_server

    monkeypatch.setenv("AWS_SESSION_TOKEN", "t0ken-of-a-session")
    with file_server() as web:
        web.files["/scene.tif"] = scene_path.read_bytes()
        url = f"{web.url}/scene.tif?X-Amz-Signature=s1gnature&x=s3cond"
        result = run(url, OUT, tiny_bundle, keep_work=True)
        other = run(url.replace("s1gnature", "s1gnature-2"), OUT, tiny_bundle)
        assert same_run(other, result)
        run(url, tmp_path / "out", tiny_bundle, keep_work=True)
    secrets = [ACCESS_KEY, SECRET_KEY, "s1gnature", "s3cond", "t0ken"]
    written = {str(path): path.read_bytes() for path in work(tmp_path)}
    written |= {
        str(path): path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()
    }
    written |= {key: content(s3, key) for key in keys(s3)}
    assert len(written) > 20
    written["terminal"] = "".join(capfd.readouterr()).encode()
    # What is told with a handler of one's own; debugging shows requests as they are.
    told = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    written["log"] = "\n".join(told).encode()
    for name, data in written.items():
        for secret in secrets:
            assert secret.encode() not in data, name
    assert b"http://127.0.0.1" in written["amazon/scene/job.json"]


class TestRefused:
    def refused(self, scene, out, bundle, **settings) -> str:
        with pytest.raises(GeoforestError) as caught:
            run(scene, out, bundle, **settings)
        sentence = str(caught.value)
        assert caught.value.exit_code == 2
        assert "\n" not in sentence
        assert SECRET_KEY not in sentence
        return sentence

    @pytest.mark.parametrize(
        ("out", "what"),
        [
            ("https://host/maps?sig=a", "https://host/maps: cannot be written to; a folder, s3://"),
            ("s3://nowhere/maps", "no such bucket"),
            (f"s3://me:{SECRET_KEY}@maps/a", "s3://maps/a: was given with keys or a query"),
        ],
    )
    def test_targets_that_are_none(self, s3, scene_path, tmp_path, tiny_bundle, out, what):
        assert what in self.refused(scene_path, out, tiny_bundle)
        assert work(tmp_path) == []
        assert not (tmp_path / "work").exists()

    def test_without_keys(self, s3, scene_path, tmp_path, tiny_bundle, monkeypatch):
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        assert "(NoCredentialsError)" in self.refused(scene_path, OUT, tiny_bundle)
        assert work(tmp_path) == []

    def test_another_job_and_what_is_none_of_ours(self, s3, scene_path, tiny_bundle):
        run(scene_path, OUT, tiny_bundle)
        assert "holds outputs of another job" in self.refused(scene_path, OUT, tiny_bundle, halo=12)
        s3.delete_object(Bucket="maps", Key="amazon/scene/job.json")
        assert "without a job.json" in self.refused(scene_path, OUT, tiny_bundle)

    def test_another_run_at_the_same_time(self, s3, scene_path, tmp_path, tiny_bundle):
        from geoforest.io.locks import exclusive_lock
        from geoforest.maps.destination import open_destination

        folder = (open_destination(OUT) / "scene").work
        folder.mkdir(parents=True)
        with exclusive_lock(folder):
            assert "another geoforest run is writing here" in self.refused(
                scene_path, OUT, tiny_bundle
            )

    def test_into_the_scene_itself(self, s3, tmp_path, tiny_bundle):
        for name, dn in zip(synthetic.BANDS, synthetic.digital_numbers((60, 60)), strict=True):
            path = synthetic.write_raster(tmp_path / name, dn[None], descriptions=None)
            s3.upload_file(str(path), "maps", f"in/scene/{name}.tif")
        sentence = self.refused("s3://maps/in/scene/", "s3://maps/in", tiny_bundle)
        assert sentence == "s3://maps/in/scene: is the scene itself; choose another --out"

    def test_where_there_are_no_maps(self, s3):
        with pytest.raises(GeoforestError, match="s3://maps/none: holds no map"):
            status("s3://maps/none")
        with pytest.raises(GeoforestError, match="s3://maps/none: holds no outputs"):
            verify("s3://maps/none")
