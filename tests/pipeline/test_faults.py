"""Processes, schedulers, disks and files that fail while a map is made, and what must come of it.

After each the same command goes on where it was, to the bytes of an undisturbed run, and finished
shards are not predicted again: windows are counted.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import rasterio
from affine import Affine
from distributed import Client

import geoforest
from geoforest.errors import IncompleteError, InputError
from tests.helpers import faulty, synthetic
from tests.helpers.drivers import IN_FLIGHT, N_SHARDS, SHAPE, Driver, finished_bytes
from tests.helpers.forked import ROOT, Forked, fork_server
from tests.helpers.jobs import PRODUCTS, products, read

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scene")
    return synthetic.write_raster(folder / "scene.tif", synthetic.digital_numbers(SHAPE), nodata=0)


@pytest.fixture(scope="module")
def undisturbed(scene, tmp_path_factory, tiny_bundle) -> dict[str, bytes]:
    return products(faulty.run(scene, tmp_path_factory.mktemp("whole"), tiny_bundle.path))


@pytest.fixture(scope="module", autouse=True)
def forks() -> Iterator[Path]:
    """One interpreter that has imported the package, for all processes but Dask's own workers."""
    with fork_server() as address:
        Driver.server = address
        yield address
        Driver.server = None


@pytest.fixture(autouse=True)
def no_driver_left() -> Iterator[None]:
    """Of a test that fails, too: it would go on, and disturb those that follow."""
    yield
    for driver in Driver.started:
        driver.process.kill()
        driver.process.communicate()
    Driver.started.clear()


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_give_the_bytes_of_one_process(
    scene, tmp_path, tiny_bundle, undisturbed, workers
):
    code, summary, err = Driver(scene, tmp_path / "out", tiny_bundle.path, workers=workers).end()
    assert code == 0, err
    assert finished_bytes(tmp_path / "out" / "scene") == undisturbed
    assert summary["worker_peak_memory_mb"] > 50


def test_a_killed_worker_is_replaced(scene, tmp_path, tiny_bundle, undisturbed):
    driver = Driver(scene, tmp_path / "out", tiny_bundle.path, workers=2)
    driver.wait_for_shards(5)
    driver.workers()[0].kill()
    code, _, err = driver.end()
    assert code == 0, err
    assert finished_bytes(driver.folder) == undisturbed
    assert driver.windows() <= N_SHARDS + IN_FLIGHT


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_driver_loses_no_shard(scene, tmp_path, tiny_bundle, undisturbed, seed, workers):
    if workers and seed > 1:
        pytest.skip("processes take long to start; once is enough")
    driver = Driver(scene, tmp_path / "out", tiny_bundle.path, workers=workers)
    driver.wait_for_shards(random.Random(seed).randrange(1, N_SHARDS - 5))
    orphans = driver.workers()
    driver.process.kill()
    driver.process.communicate()
    # Workers end with their nannies: what they still commit is sound, or not there.
    psutil.wait_procs(orphans, timeout=30)
    kept, before = driver.shards(), driver.windows()
    result = faulty.run(scene, tmp_path / "out", tiny_bundle.path)
    assert result.summary["reused_shards"] == kept
    assert products(result) == undisturbed
    assert before <= kept + IN_FLIGHT


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [0, 2])
def test_signals_stop_cleanly(tmp_path, tiny_bundle, forks, sent, workers):
    path = synthetic.write_raster(
        tmp_path / "large.tif", synthetic.digital_numbers((1200, 1200)), nodata=0
    )
    process = Forked(
        forks, "geoforest", "map", path, "--out", tmp_path / "out", "--model", tiny_bundle.path,
        "--halo", 8, "--shard", 48, "--workers", workers, "--runtime", "torch",
    )  # fmt: skip
    shards = tmp_path / "out" / "large" / ".geoforest-work" / "shards"
    deadline = time.monotonic() + 120
    while len(list(shards.glob("r*.tif"))) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.strip().endswith(
        "interrupted; what was finished is kept, and the same command goes on from there"
    )
    assert not psutil.wait_procs(children, timeout=20)[1]
    assert not list(shards.glob(".*partial*"))
    (one,) = json.loads(
        Forked(forks, "geoforest", "status", tmp_path / "out", "--json").communicate()[0]
    )
    assert one["state"] == "stopped"
    assert 3 <= one["finished_shards"] < one["shards"] == 625


def test_a_worker_out_of_memory_is_replaced(scene, tmp_path, tiny_bundle, undisturbed, monkeypatch):
    hoard = tmp_path / "hoarded"
    monkeypatch.setenv("FAULTY_HOARD", str(hoard))
    driver = Driver(scene, tmp_path / "out", tiny_bundle.path, workers=1, max_memory="2GB")
    code, _, err = driver.end()
    assert code == 0, err
    assert hoard.exists()
    assert len(set(driver.log.read_text().split())) == 2  # processes
    assert finished_bytes(driver.folder) == undisturbed


@contextlib.contextmanager
def dask_process(forks: Path, *arguments: object) -> Iterator[Forked]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    name = f"distributed.cli.{arguments[0]}"
    process = Forked(forks, name, *arguments[1:], environment=environment, new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def cluster(forks: Path, port: int, *, workers: int = 2, gpu: int = 1) -> Iterator[Forked]:
    address = f"tcp://127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:
        scheduler = stack.enter_context(
            dask_process(
                forks, "dask_scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard",
                "--dashboard-address", "127.0.0.1:0",
            )
        )  # fmt: skip
        for _ in range(workers):
            stack.enter_context(
                dask_process(
                    forks, "dask_worker", address, "--nthreads", 2, "--resources", f"GPU={gpu}",
                    "--no-dashboard", "--death-timeout", 60,
                )
            )  # fmt: skip
        yield scheduler


def test_any_dask_cluster_will_do(scene, tmp_path, tiny_bundle, undisturbed, forks):
    port = free_port()
    with cluster(forks, port):
        for name in ("a", "b"):
            code, summary, err = Driver(
                scene, tmp_path / name, tiny_bundle.path, scheduler=f"tcp://127.0.0.1:{port}"
            ).end()
            assert code == 0, err
            assert finished_bytes(tmp_path / name / "scene") == undisturbed
            assert summary["reused_shards"] == 0
        with Client(f"tcp://127.0.0.1:{port}") as client:
            left = client.run(lambda dask_worker: list(dask_worker.plugins))
        assert len(left) == 2
        assert not [name for names in left.values() for name in names if "geoforest" in name]


def test_a_lost_scheduler_loses_no_shard(scene, tmp_path, tiny_bundle, undisturbed, forks):
    port = free_port()
    with cluster(forks, port) as scheduler:
        driver = Driver(
            scene, tmp_path / "out", tiny_bundle.path, scheduler=f"tcp://127.0.0.1:{port}"
        )
        driver.wait_for_shards(5)
        scheduler.kill()
        code, _, err = driver.end()
        assert code == 1
        assert "the connection to the scheduler was lost" in err
    kept = driver.shards()
    assert 5 <= kept < N_SHARDS
    with cluster(forks, port):
        code, summary, err = Driver(
            scene, tmp_path / "out", tiny_bundle.path, scheduler=f"tcp://127.0.0.1:{port}"
        ).end()
        assert code == 0, err
    assert summary["reused_shards"] == kept
    assert finished_bytes(driver.folder) == undisturbed


def test_a_cluster_without_the_resource(scene, tmp_path, tiny_bundle, forks, monkeypatch):
    port = free_port()
    monkeypatch.setattr("geoforest.compute.cluster._JOIN_SECONDS", 8)
    with (
        cluster(forks, port, workers=1, gpu=0),
        pytest.raises(InputError, match="none of which declares the resource GPU"),
    ):
        faulty.run(scene, tmp_path / "out", tiny_bundle.path, scheduler=f"tcp://127.0.0.1:{port}")
    assert not (tmp_path / "out").exists()


@contextlib.contextmanager
def foreign_process(folder: Path, package: str, *arguments: object) -> Iterator[None]:
    """A process of Dask in which ``geoforest`` is another package."""
    place = folder / "foreign" / "geoforest"
    place.mkdir(parents=True, exist_ok=True)
    (place / "__init__.py").write_text(package)
    process = subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.{arguments[0]}", *map(str, arguments[1:])],
        cwd=place.parent,
        env={**os.environ, "PYTHONPATH": str(place.parent)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


OLDER = "__version__ = '0.0.9'"
MISSING = "raise ModuleNotFoundError(\"No module named 'geoforest'\", name='geoforest')"


@pytest.mark.parametrize(
    ("package", "found"), [(OLDER, "geoforest 0.0.9"), (MISSING, "no geoforest")]
)
def test_workers_of_another_version(scene, tmp_path, tiny_bundle, forks, package, found):
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    worker = (
        "dask_worker", address, "--nthreads", 2, "--resources", "GPU=1", "--no-dashboard",
        "--death-timeout", 60,
    )  # fmt: skip
    with cluster(forks, port, workers=1), foreign_process(tmp_path, package, *worker):
        with Client(address) as client:
            client.wait_for_workers(2, timeout=60)
        with pytest.raises(InputError) as caught:
            faulty.run(scene, tmp_path / "out", tiny_bundle.path, scheduler=address)
    said = str(caught.value)
    assert f" has {found}, this machine geoforest {geoforest.__version__}; the same" in said
    assert said.startswith(f"--scheduler {address}: worker tcp://127.0.0.1:")
    assert "\n" not in said
    assert not (tmp_path / "out").exists()


def test_a_scheduler_without_geoforest(scene, tmp_path, tiny_bundle, forks):
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    scheduler = (
        "dask_scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard",
        "--dashboard-address", "127.0.0.1:0",
    )  # fmt: skip
    worker = ("dask_worker", address, "--resources", "GPU=1", "--no-dashboard")
    with (
        foreign_process(tmp_path, MISSING, *scheduler),
        dask_process(forks, *worker),
        pytest.raises(InputError, match="the scheduler has no geoforest, this machine geoforest"),
    ):
        faulty.run(scene, tmp_path / "out", tiny_bundle.path, scheduler=address)
    assert not (tmp_path / "out").exists()


def test_a_worker_of_another_version_that_joins_later(scene, tmp_path, tiny_bundle, forks):
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    worker = ("dask_worker", address, "--resources", "GPU=1", "--no-dashboard")
    with cluster(forks, port, workers=1):
        driver = Driver(scene, tmp_path / "out", tiny_bundle.path, scheduler=address)
        driver.wait_for_shards(2)
        with foreign_process(tmp_path, OLDER, *worker):
            code, _, err = driver.end()
    assert code in {0, 2}, err  # Dask itself may turn the worker away
    if code == 2:
        assert "has geoforest 0.0.9, this machine" in err


def test_no_scheduler_there(scene, tmp_path, tiny_bundle, monkeypatch):
    monkeypatch.setattr("geoforest.compute.cluster._JOIN_SECONDS", 2)
    with pytest.raises(InputError, match="no Dask scheduler answers there"):
        faulty.run(
            scene, tmp_path / "out", tiny_bundle.path, scheduler=f"tcp://127.0.0.1:{free_port()}"
        )
    assert not (tmp_path / "out").exists()


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted: not root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def test_a_full_disk(scene, small_disk, tiny_bundle, undisturbed):
    driver = Driver(scene, small_disk / "out", tiny_bundle.path)
    code, _, err = driver.end()
    assert code == 1
    assert "No space left on device" in err
    # What would fail alike is not tried.
    assert driver.windows() <= driver.shards() + 2 * IN_FLIGHT
    assert not any((driver.folder / name).exists() for name in (*PRODUCTS, "job.json"))
    kept = driver.shards()
    assert 0 < kept < N_SHARDS
    remount(small_disk, "size=20m")
    result = faulty.run(scene, small_disk / "out", tiny_bundle.path)
    assert result.summary["reused_shards"] == kept
    assert products(result) == undisturbed


def test_a_disk_that_becomes_read_only(scene, small_disk, tmp_path, tiny_bundle, undisturbed):
    driver = Driver(scene, tmp_path / "out", tiny_bundle.path)
    driver.wait_for_shards(5)
    shards = str(driver.folder / ".geoforest-work" / "shards")
    subprocess.run(["mount", "--bind", shards, shards], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", shards], check=True)
    try:
        code, _, err = driver.end()
    finally:
        subprocess.run(["umount", "-l", shards], check=True)
    assert code == 1
    assert "Read-only file system" in err
    kept = driver.shards()
    assert 5 <= kept < N_SHARDS
    result = faulty.run(scene, tmp_path / "out", tiny_bundle.path)
    assert result.summary["reused_shards"] == kept
    assert products(result) == undisturbed


@pytest.fixture
def broken(tmp_path) -> tuple[Path, bytes]:
    """A scene one block of which cannot be decoded, and the bytes of the sound one."""
    path = synthetic.write_raster(
        tmp_path / "scene.tif",
        synthetic.digital_numbers((192, 192)),
        nodata=0,
        tiled=True,
        blockxsize=48,
        blockysize=48,
    )
    good = path.read_bytes()
    with rasterio.open(path) as source:
        offset = int(source.get_tag_item("BLOCK_OFFSET_3_3", "TIFF", bidx=1))
        size = int(source.get_tag_item("BLOCK_SIZE_3_3", "TIFF", bidx=1))
    put(path, good[:offset] + bytes(size) + good[offset + size :])
    return path, good


def put(path: Path, data: bytes) -> None:
    """Change the bytes of a file, and nothing that a fingerprint sees."""
    stamp = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


def test_gaps_that_are_allowed_are_255_and_can_be_closed(broken, tmp_path, tiny_bundle):
    path, good = broken
    out, model = tmp_path / "out", tiny_bundle.path
    with pytest.raises(IncompleteError, match="4 of 16 shards failed"):
        faulty.run(path, out, model)
    result = faulty.run(path, out, model, allow_gaps=True)
    # Those whose windows, halo included, touch the block.
    assert list(result.summary["gaps"]) == [
        f"r0000{row}_c0000{col}" for row in (2, 3) for col in (2, 3)
    ]
    assert "4 of 16 shards failed and are 255" in result.summary["warnings"][0]
    mask = read(result.mask)
    assert (mask[96:, 96:] == 255).all()
    assert (mask[:96] != 255).all()
    assert (mask[:, :96] != 255).all()
    (one,) = geoforest_status(out)
    assert one.state == "done with gaps"
    # They are not taken for finished.
    with pytest.raises(IncompleteError, match="4 of 16 shards failed"):
        faulty.run(path, out, model)
    put(path, good)
    closed = faulty.run(path, out, model)
    assert closed.summary["reused_shards"] == 12
    assert closed.summary["gaps"] == {}
    assert products(closed) == products(faulty.run(path, tmp_path / "whole", model))
    assert not (closed.folder / ".geoforest-work").exists()


def geoforest_status(folder: Path):
    from geoforest.maps.status import status

    return status(folder)


def test_many_scenes_share_one_pool(tmp_path, tiny_bundle, broken, monkeypatch):
    bad, _ = broken
    loaded = tmp_path / "loaded"
    monkeypatch.setenv("FAULTY_LOADED", str(loaded))
    paths = []
    for seed in range(3):
        path = tmp_path / f"s{seed}.tif"
        synthetic.write_raster(path, synthetic.digital_numbers((150, 150), seed=seed), nodata=0)
        paths.append(path)
    ended = list(
        geoforest.map_scenes(
            [paths[0], tmp_path / "absent.tif", bad, *paths[1:]],
            tmp_path / "out",
            load_predictor=faulty.load_faulty_predictor,
            model=str(tiny_bundle.path),
            **faulty.SETTINGS,
        )
    )
    failures = {Path(one.scene).stem: str(one.error) for one in ended if hasattr(one, "error")}
    assert failures.keys() == {"absent", "scene"}
    assert "no such file" in failures["absent"]
    assert "4 of 16 shards failed" in failures["scene"]
    assert len(loaded.read_text().splitlines()) == 1
    for path in paths:
        alone = faulty.run(path, tmp_path / "alone", tiny_bundle.path)
        together = finished_bytes(tmp_path / "out" / path.stem)
        assert together == products(alone)


def test_half_a_jpeg_2000_is_unreadable(tmp_path, tiny_bundle):
    """A folder of bands, one of which ends in zeros, as a download that was never finished."""
    folder = tmp_path / "scene"
    folder.mkdir()
    dn = synthetic.digital_numbers((192, 192))
    for name, band in zip(("B04", "B03", "B02", "B08"), dn, strict=True):
        with rasterio.open(
            folder / f"{name}.jp2", "w", driver="JP2OpenJPEG", width=192, height=192, count=1,
            dtype=band.dtype, crs="EPSG:32720", transform=Affine(10, 0, 5e5, 0, -10, 8.9e6),
            QUALITY=100, REVERSIBLE="YES", BLOCKXSIZE=64, BLOCKYSIZE=64,
        ) as target:  # fmt: skip
            target.write(band, 1)
    good = (folder / "B08.jp2").read_bytes()
    put(folder / "B08.jp2", good[: len(good) // 2] + bytes(len(good) - len(good) // 2))
    out, model = tmp_path / "out", tiny_bundle.path
    with pytest.raises(IncompleteError, match=r"12 of 16 shards failed .*B08\.jp2: rows"):
        faulty.run(folder, out, model)
    result = faulty.run(folder, out, model, allow_gaps=True)
    mask = read(result.mask)
    # Rows of 64 px are one tile of the file, of which windows take 8 px of context.
    assert (mask[:48] != 255).all()
    assert (mask[48:] == 255).all()
    put(folder / "B08.jp2", good)
    closed = faulty.run(folder, out, model)
    assert closed.summary["reused_shards"] == 4
    assert products(closed) == products(faulty.run(folder, tmp_path / "whole", model))
