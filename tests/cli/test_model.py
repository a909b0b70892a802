"""``geoforest model``: registries, and each user mistake as one sentence with its exit code."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from geoforest.models.bundle import Bundle, load_bundle
from tests.helpers import commands
from tests.helpers.bundles import same, small_bundle, zipped
from tests.helpers.commands import Done, in_a_process
from tests.helpers.wandb_server import KEY, UNCLOSED, WandbServer, end_wandb, wandb_server

pytestmark = pytest.mark.filterwarnings(UNCLOSED)


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "HOME": str(tmp_path / "home"),
        "NETRC": str(tmp_path / "netrc"),
        "GEOFOREST_CACHE": str(tmp_path / "cache"),
        "WANDB_API_KEY": KEY,
        "WANDB_ERROR_REPORTING": "false",
        "WANDB__GRAPHQL_RETRY_MAX": "1",
    }.items():
        monkeypatch.setenv(name, value)
    # By the second, a process that is started talks to the wandb process of its parent.
    for name in ("WANDB_MODE", "WANDB_SERVICE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture
def server(monkeypatch) -> Iterator[WandbServer]:
    pytest.importorskip("wandb")
    with wandb_server() as renew:
        server = renew()
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        yield server
        end_wandb()
    assert server.unknown == []


def refused(done: Done, sentence: str, code: int) -> None:
    commands.refused(done, sentence, code)
    assert KEY not in done.stderr


@pytest.fixture
def model(geoforest):
    """Run ``geoforest model`` in this process."""
    return lambda *arguments: geoforest("model", *arguments)


@pytest.mark.parametrize("command", ["list", "show", "import", "pull", "push"])
def test_help_has_an_example(model, command):
    done = model(command, "--help")
    assert done.returncode == 0
    assert "Example:" in done.stdout
    assert f"geoforest model {command}" in done.stdout


def test_a_model_through_a_folder_registry(model, small, tmp_path):
    name = "folder:registry/unet"
    done = model("push", small.path, name, "--alias", "best_model", "--alias", "season")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{name}:v0: {small.model_id}\n"
    assert done.stderr == ""
    told = json.loads(model("push", small.path, name, "--json").stdout)
    assert told == {"reference": f"{name}:v0", "model": small.model_id}
    bundled, pushed = model("list", "folder:registry").stdout.splitlines()
    assert bundled.startswith("bundled\t")
    reference, identity, aliases, created = pushed.split("\t")
    assert (reference, identity) == (f"{name}:v0", small.model_id)
    assert aliases == "best_model, latest, season"
    entries = json.loads(model("list", "folder:registry", "--json").stdout)
    assert [entry["reference"] for entry in entries] == ["bundled", f"{name}:v0"]
    assert (entries[1]["model"], entries[1]["created"]) == (small.model_id, created)
    shown = json.loads(model("show", f"{name}:best_model", "--json").stdout)
    assert shown["model"] == small.model_id
    done = model("pull", f"{name}:season", "--out", "mine")
    assert done.stdout == f"mine: {small.model_id}\n"
    assert load_bundle(tmp_path / "mine").sha256 == small.sha256
    told = json.loads(model("pull", name, "--out", "mine", "--json").stdout)
    assert told == {"out": "mine", "model": small.model_id}


def test_a_zipped_folder(model, small, tmp_path):
    zipped(small.path, tmp_path / "small.zip", inside="small/")
    for done in (
        model("push", "small.zip", "folder:registry/unet"),
        model("pull", "folder:registry/unet", "--out", "pulled"),
        model("pull", "small.zip", "--out", "copied"),
    ):
        assert done.returncode == 0, done.stderr
    for copy in ("pulled", "copied"):
        assert same(load_bundle(copy), small)


def test_list_without_a_registry(model):
    (line,) = model("list").stdout.splitlines()
    assert line.startswith("bundled\t")


@pytest.mark.slow
def test_a_model_through_wandb(model, server, small):
    name = "wandb:ours/forest/unet"
    done = model("push", small.path, name, "--alias", "best_model")
    assert (done.returncode, done.stdout) == (0, f"{name}:v0: {small.model_id}\n")
    assert done.stderr == ""
    done = model("list", "wandb:ours/forest")
    assert f"{name}:v0\t{small.model_id}\tbest_model, latest\t2026" in done.stdout
    assert done.stderr == ""
    done = model("pull", f"{name}:best_model", "--out", "mine")
    assert (done.stdout, done.stderr) == (f"mine: {small.model_id}\n", "")
    assert load_bundle("mine").card == small.card


def test_an_offline_push_says_what_to_do(model, server, small, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    done = model("push", small.path, "wandb:ours/forest/unet")
    assert done.returncode == 0
    assert done.stderr.startswith("warning: wandb:ours/forest/unet:latest: stored offline; ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["list", "models"], "models: folder:PATH or wandb:ENTITY/PROJECT was wanted"),
        (["list", "folder:nowhere"], "nowhere: no such model registry"),
        (["show", "folder:nowhere/unet"], "folder:nowhere/unet:latest: not there; known: none"),
        (["show", "nowhere"], "nowhere: no such model bundle"),
        (["pull", "folder:unet", "--out", "a"], "folder:unet: folder:PATH/NAME was wanted"),
        (["pull", "ftp.zip://a", "--out", "a"], "ftp.zip://a/model.json: neither a path"),
        (["push", "nowhere", "folder:a/b"], "nowhere: no such model bundle"),
        (["push", "BUNDLE", "a/b"], "a/b: folder:PATH/NAME or wandb:ENTITY/PROJECT/NAME was"),
        (["push", "BUNDLE", "folder:a/b:v0"], "'b:v0': no name for a model"),
        (["push", "BUNDLE", "folder:a/b", "--alias", "v0"], "'v0': no alias, because versions"),
        (["push", "BUNDLE", "folder:a/..", "--alias", "x"], "'..': no name for a model"),
    ],
)
def test_mistakes(model, small, tmp_path, arguments, sentence):
    done = model(*(small.path if one == "BUNDLE" else one for one in arguments))
    refused(done, sentence, 2)
    assert not list(tmp_path.iterdir())


def test_pull_replaces_no_other_folder(model, tmp_path):
    (tmp_path / "precious").mkdir()
    done = model("pull", "bundled", "--out", "precious")
    refused(done, "precious: exists and is no model bundle", 2)


def test_a_wrong_key(server, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "f" * 40)
    done = in_a_process("model", "list", "wandb:ours/forest")
    refused(done, "wandb:ours/forest: the server refuses the key or cannot be reached", 1)


@pytest.mark.slow
def test_no_server(monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    begun = time.monotonic()
    done = in_a_process("model", "pull", "wandb:ours/forest/unet", "--out", "mine")
    assert time.monotonic() - begun < 30
    refused(done, "wandb:ours/forest/unet:latest: the server refuses the key or cannot be", 1)
    assert not Path("mine").exists()


def test_without_the_extra():
    code = (
        "import sys\n"
        "class NoWandb:\n"
        "    def find_spec(self, name, *args):\n"
        "        if name == 'wandb': raise ImportError('wandb')\n"
        "sys.meta_path.insert(0, NoWandb())\n"
        "from geoforest.cli import main\n"
        "main()\n"
    )
    done = in_a_process("model", "list", "wandb:ours/forest", code=code)
    refused(done, "pip install 'geoforest[wandb]'", 2)


def test_a_folder_registry_loads_neither_wandb_nor_torch(small):
    code = (
        "import sys\n"
        "from geoforest.cli import main\n"
        "try: main()\n"
        "except SystemExit: print([name for name in ('wandb', 'torch') if name in sys.modules])"
    )
    done = in_a_process("model", "push", small.path, "folder:registry/unet", code=code)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
    assert os.listdir("registry") == ["unet"]  # noqa: PTH208 - a listing of names
