"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from geoforest.models.bundle import Bundle, save_bundle
from geoforest.models.unet import build_unet
from tests.helpers import synthetic
from tests.helpers.wandb_server import KEY, WandbServer, end_wandb, wandb_server

DATA = Path(os.environ.get("GEOFOREST_DATA", Path(__file__).parents[2] / "shared" / "data"))


# Files below tests/ that share what is costly to make, or must not run at the same time. One worker
# of pytest-xdist runs all tests of a group, one after the other; any other file is its own group.
GROUPS = {
    "timing": ("models/test_runtimes.py", "pipeline/test_bench.py"),
    "site": ("docs/test_pages.py", "docs/test_site.py"),
    "qgis": ("qgis/test_qgis.py", "qgis/test_sample.py"),
}
_GROUP_OF = {f"tests/{path}": group for group, paths in GROUPS.items() for path in paths}


def _group(nodeid: str) -> str:
    file = nodeid.partition("::")[0]
    return _GROUP_OF.get(file, file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out whole groups. (The mark xdist_group has no effect with pytest 9.2.)"""
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    return GroupScheduling(config, log) if config.getoption("dist") == "loadgroup" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("loadgroup", default=False):
        # Groups with many slow tests first: one that begins last would run alone to its end.
        n_slow = Counter(_group(i.nodeid) for i in items if i.get_closest_marker("slow"))
        items.sort(key=lambda item: -n_slow[_group(item.nodeid)])
    no_data = pytest.mark.skip(reason=f"real data is not at {DATA} (set GEOFOREST_DATA)")
    no_cuda = pytest.mark.skip(reason="torch finds no CUDA device")
    for item in items:
        if item.get_closest_marker("real_data") and not DATA.is_dir():
            item.add_marker(no_data)
        if item.get_closest_marker("cuda") and not torch.cuda.is_available():
            item.add_marker(no_cuda)


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests keep nothing in the user's cache, nor find anything there; workers share one."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOFOREST_CACHE", str(folder / "cache-of-all-workers"))
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    return DATA


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A four-band U-Net with random weights: enough for everything but its opinion."""
    torch.manual_seed(0)
    network = build_unet("mobilenet_v2", 4)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    return save_bundle(folder, network.state_dict(), synthetic.card())


@pytest.fixture
def scene_path(tmp_path: Path) -> Path:
    """A 150 x 190 px scene with a nodata wedge in its corner."""
    dn = synthetic.digital_numbers((150, 190))
    dn[:, :40, :30] = 0
    return synthetic.write_raster(tmp_path / "scene.tif", dn, nodata=0)


@pytest.fixture
def wandb_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A home of its own, no settings but ours, and no process of wandb's after the test."""
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "HOME": str(tmp_path / "home"),
        "NETRC": str(tmp_path / "netrc"),
        "WANDB_API_KEY": KEY,
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_INIT_TIMEOUT": "3",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    wandb = pytest.importorskip("wandb")
    yield
    wandb.teardown()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """Where wandb's client finds its server."""
    with wandb_server() as renew:
        server = renew()
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        yield server
        end_wandb()
    assert server.unknown == []
