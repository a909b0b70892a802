"""References of every kind; the folder registry; bundles behind URLs."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from geoforest.errors import BundleError, InputError, OutputError, RegistryError
from geoforest.models import bundle as bundles
from geoforest.models import copies, download
from geoforest.models.bundle import Bundle, load_bundle
from geoforest.models.copies import save_copy
from geoforest.models.folder_registry import FolderRegistry
from geoforest.models.references import join_reference, split_reference
from geoforest.models.registry import open_model, open_registry
from tests.helpers.bundles import same, small_bundle, zipped
from tests.helpers.servers import file_server, s3_bucket, s3_server

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def registry(tmp_path) -> FolderRegistry:
    return FolderRegistry(tmp_path / "registry")


class TestReferences:
    def test_parts(self):
        assert split_reference("folder:/a/b:c/unet:v0") == ("folder:/a/b:c", "unet:v0")
        assert split_reference("wandb:me/forest/unet") == ("wandb:me/forest", "unet")
        assert split_reference("models/unet") is None
        assert join_reference("wandb:me/forest", "unet", "v0") == "wandb:me/forest/unet:v0"

    @pytest.mark.parametrize(
        ("reference", "message"),
        [
            ("folder:unet", "folder:PATH/NAME was wanted"),
            ("folder:registry/", "folder:PATH/NAME was wanted"),
            ("wandb:forest/unet", "wandb:ENTITY/PROJECT/NAME was wanted"),
            ("wandb:a/b/c/unet", "wandb:ENTITY/PROJECT/NAME was wanted"),
            ("folder:registry/..:v0", "no name for a model"),
            ("folder:registry/unet:../../etc", "folder:registry/unet:../../etc:latest: not there"),
            ("folder:registry/unet:", "no name for a model"),
            ("folder:nowhere/unet", "not there; known: none"),
            ("zip://a::https://me:secret@host/b", "zip://a::...: chained URLs"),
            ("gopher://host/model.zip", "gopher://host/model.zip: neither a path nor a URL"),
        ],
    )
    def test_refused(self, reference, message):
        with pytest.raises(InputError) as caught:
            open_model(reference)
        assert message in str(caught.value)
        assert "secret" not in str(caught.value)

    def test_registries(self):
        with pytest.raises(InputError, match="folder:PATH or wandb:ENTITY/PROJECT was wanted"):
            open_registry("models")


class TestFolderRegistry:
    def test_push_open_and_pull(self, registry, small, tmp_path):
        reference = registry.push(small, "unet", ["best_model"])
        assert reference == f"folder:{tmp_path}/registry/unet:v0"
        for version in ("unet", "unet:v0", "unet:latest", "unet:best_model"):
            assert same(registry.open(version), small)
        pulled = save_copy(registry.open("unet:best_model"), tmp_path / "mine")
        assert pulled.path == tmp_path / "mine"
        assert same(pulled, small)
        assert same(open_model(reference), small)
        (entry,) = registry.entries()
        assert (entry.reference, entry.name, entry.version) == (reference, "unet", "v0")
        assert entry.aliases == ("best_model", "latest")
        assert entry.model == small.model_id
        assert entry.metadata == {}
        assert entry.created.endswith("+00:00")

    def test_aliases_move(self, registry, small, other):
        registry.push(small, "unet", ["best_model", "season"])
        registry.push(other, "unet", ["best_model"])
        assert [(entry.version, entry.aliases) for entry in registry.entries()] == [
            ("v0", ("season",)),
            ("v1", ("best_model", "latest")),
        ]
        assert registry.open("unet:season").card.threshold == small.card.threshold
        assert registry.open("unet").card.threshold == 0.25

    def test_the_same_bundle_gets_no_new_version(self, registry, small, other, tmp_path):
        first = registry.push(small, "unet")
        registry.push(other, "unet")
        archive = load_bundle(zipped(small.path, tmp_path / "tiny.zip"))
        assert registry.push(archive, "unet", ["again"]) == first
        assert [(entry.version, entry.aliases) for entry in registry.entries()] == [
            ("v0", ("again", "latest")),
            ("v1", ()),
        ]

    def test_versions_are_counted(self, registry, tmp_path):
        for number in range(11):
            registry.push(small_bundle(tmp_path / "small", number / 10), "unet")
        assert [entry.version for entry in registry.entries()] == [f"v{i}" for i in range(11)]
        assert registry.open("unet").card.threshold == 1

    @pytest.mark.parametrize("inside", ["", "tiny/"])
    def test_a_licence_goes_along(self, registry, small, tmp_path, inside):
        folder = Path(shutil.copytree(small.path, tmp_path / "licensed"))
        (folder / "LICENSE.txt").write_text("Apache-2.0")
        (folder / ".hidden").write_text("mine")
        (folder / "notes").mkdir()
        archive = zipped(folder, tmp_path / "licensed.zip", inside=inside)
        with zipfile.ZipFile(archive, "a") as file:
            file.writestr("../outside.txt", "gotcha")
        for bundle in (folder, archive):
            registry.push(load_bundle(bundle), "unet")
            pulled = save_copy(registry.open("unet"), tmp_path / "pulled").path
            names = {path.name for path in pulled.iterdir()}
            assert names == {"model.json", "model.safetensors", "LICENSE.txt"}
            shutil.rmtree(registry.root)
        assert not list(tmp_path.rglob("outside.txt"))

    @pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "a b", ".hidden", "a:v0", "-"])
    def test_names_stay_in_the_folder(self, registry, small, name):
        with pytest.raises(InputError, match="no name for a model"):
            registry.push(small, name)
        with pytest.raises(InputError, match="no name for a model"):
            registry.push(small, "unet", [name])
        assert not registry.root.exists()

    def test_an_alias_is_no_version(self, registry, small):
        with pytest.raises(InputError, match="versions are named so"):
            registry.push(small, "unet", ["v7"])

    def test_unknown_versions(self, registry, small):
        registry.push(small, "unet", ["best_model"])
        with pytest.raises(BundleError, match=r"unet:v1: not there; known: v0, best_model, latest"):
            registry.open("unet:v1")
        with pytest.raises(BundleError, match="no such model registry"):
            FolderRegistry(registry.root / "nowhere").entries()

    @pytest.mark.parametrize(
        "content", ["", "{", "[]", '{"latest": 0}', '{"latest": "../../other"}', "\x00\x01"]
    )
    def test_damaged_aliases_are_told_and_kept(self, registry, small, other, content):
        registry.push(small, "unet")
        (registry.root / "unet" / "aliases.json").write_text(content)
        for attempt in (
            lambda: registry.open("unet"),
            lambda: registry.push(other, "unet"),
            registry.entries,
        ):
            with pytest.raises(BundleError, match=r"aliases\.json: damaged"):
                attempt()
        assert (registry.root / "unet" / "aliases.json").read_text() == content
        assert same(registry.open("unet:v0"), small)

    def test_a_card_that_was_edited_is_told(self, registry, small):
        registry.push(small, "unet")
        card, record = registry.root / "unet/v0/model.json", registry.root / "unet/v0.json"
        card.write_text(card.read_text().replace('"threshold": 0.5', '"threshold": 0.01'))
        with pytest.raises(BundleError, match="the card is not the one that was pushed"):
            registry.open("unet")
        told = json.loads(record.read_text())
        del told["card_sha256"]
        record.write_text(json.dumps(told))
        with pytest.raises(BundleError, match=r"v0\.json: missing or damaged"):
            registry.open("unet")

    def test_damaged_versions_are_told(self, registry, small):
        registry.push(small, "unet")
        weights = registry.root / "unet" / "v0" / "model.safetensors"
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
        with pytest.raises(BundleError, match="not those that were pushed"):
            registry.open("unet")
        (registry.root / "unet" / "v0.json").write_text("{}")
        with pytest.raises(BundleError, match=r"v0\.json: missing or damaged"):
            registry.entries()

    def test_a_bundle_that_changes_meanwhile_is_not_stored(self, registry, small):
        with pytest.raises(BundleError, match="changed while it was in use"):
            registry.push(replace(small, sha256="0" * 64), "unet")
        assert registry.entries() == []

    def test_what_a_killed_push_left_is_no_version(self, registry, small):
        folder = registry.root / "unet"
        shutil.copytree(small.path, folder / ".partial")
        (folder / "v0.json").write_text("{}")
        assert registry.entries() == []
        registry.push(small, "unet")
        assert same(registry.open("unet"), small)
        assert not (folder / ".partial").exists()

    def test_pull_replaces_a_bundle_and_nothing_else(self, registry, small, other, tmp_path):
        registry.push(small, "unet")
        assert same(save_copy(registry.open("unet"), other.path), small)
        (tmp_path / "precious").mkdir()
        with pytest.raises(OutputError, match="no model bundle"):
            save_copy(registry.open("unet"), tmp_path / "precious")

    @pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
    def test_folder_that_cannot_be_written(self, small):
        with pytest.raises(OutputError, match="/proc/registry/unet: cannot be written to"):
            FolderRegistry("/proc/registry").push(small, "unet")

    def test_a_full_disk(self, registry, small, monkeypatch):
        def full(path: Path, data: bytes) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(copies, "write_durably", full)
        for attempt in (
            lambda: registry.push(small, "unet"),
            lambda: save_copy(small, registry.root / "mine"),
        ):
            with pytest.raises(OutputError, match=r"cannot be written to \(No space left"):
                attempt()
        assert registry.entries() == []
        assert not (registry.root / "mine").exists()

    @pytest.mark.slow
    def test_pushes_of_two_processes(self, registry, small, tmp_path):
        code = (
            "import sys\n"
            "from geoforest.models.bundle import load_bundle\n"
            "from geoforest.models.folder_registry import FolderRegistry\n"
            "registry = FolderRegistry(sys.argv[1])\n"
            "for path in sys.argv[2:]: registry.push(load_bundle(path), 'unet', ['best_model'])\n"
        )
        half = [[small_bundle(tmp_path / f"{i}{j}", (4 * i + j) / 10).path for j in range(4)]
                for i in range(2)]  # fmt: skip
        # One bundle is pushed by both.
        half[1].append(half[0][0])
        pushing = [
            subprocess.Popen([sys.executable, "-c", code, registry.root, *paths]) for paths in half
        ]
        assert [process.wait(60) for process in pushing] == [0, 0]
        entries = registry.entries()
        assert [entry.version for entry in entries] == [f"v{i}" for i in range(8)]
        thresholds = {registry.open(f"unet:{entry.version}").card.threshold for entry in entries}
        assert thresholds == {i / 10 for i in range(8)}
        assert sorted(sum((entry.aliases for entry in entries), ())) == ["best_model", "latest"]


class TestHttp:
    @pytest.fixture
    def server(self):
        with file_server() as server:
            yield server

    def serve(self, server, bundle: Bundle, tmp_path: Path, etag: str = '"1"') -> None:
        for name, inside in (("tiny.zip", ""), ("nested.zip", "tiny/")):
            archive = zipped(bundle.path, tmp_path / "served.zip", inside=inside)
            server.files[f"/m/{name}"] = archive.read_bytes()
        for name in ("model.json", "model.safetensors"):
            server.files[f"/m/tiny/{name}"] = (bundle.path / name).read_bytes()
        server.etags = dict.fromkeys(server.files, etag) if etag else {}

    @pytest.mark.parametrize("path", ["/m/tiny.zip", "/m/nested.zip", "/m/tiny", "/m/tiny/"])
    def test_zip_and_folder(self, server, small, tmp_path, cache, path):
        self.serve(server, small, tmp_path)
        bundle = open_model(server.url + path)
        assert same(bundle, small)
        assert bundle.path.is_relative_to(cache)

    def test_a_version_is_downloaded_once(self, server, small, other, tmp_path):
        self.serve(server, small, tmp_path)
        first = open_model(f"{server.url}/m/tiny?signature=1")
        before = len(server.asked)
        assert open_model(f"{server.url}/m/tiny?signature=2").path == first.path
        # Of each of the two files it asked for the version, and no more.
        assert len(server.asked) - before == 2
        self.serve(server, other, tmp_path, etag='"2"')
        assert same(open_model(f"{server.url}/m/tiny"), other)
        assert same(load_bundle(first.path), small)

    def test_without_a_version_it_is_always_downloaded(self, server, small, other, tmp_path):
        self.serve(server, small, tmp_path, etag="")
        assert same(open_model(f"{server.url}/m/tiny.zip"), small)
        self.serve(server, other, tmp_path, etag="")
        assert same(open_model(f"{server.url}/m/tiny.zip"), other)
        assert len(list((tmp_path / "cache" / "models").iterdir())) == 2

    def test_nothing_bad_is_kept(self, server, small, tmp_path, cache):
        self.serve(server, small, tmp_path)
        server.files["/m/tiny.zip"] = server.files["/m/tiny.zip"][:-100]
        server.files["/m/tiny/model.json"] = b"{}"
        for path in ("/m/tiny.zip", "/m/tiny"):
            with pytest.raises(BundleError) as caught:
                open_model(server.url + path)
            assert str(caught.value).startswith(server.url + path)
            assert str(cache) not in str(caught.value)
        assert list((cache / "models").iterdir()) == []

    @pytest.mark.parametrize("etag", ['"1"', ""])
    def test_no_more_is_downloaded_than_a_bundle_has(
        self, server, small, tmp_path, cache, monkeypatch, etag
    ):
        self.serve(server, small, tmp_path, etag=etag)
        monkeypatch.setitem(download._LIMITS, "model.safetensors", 50)
        with pytest.raises(BundleError) as caught:
            open_model(f"{server.url}/m/tiny")
        assert str(caught.value) == f"{server.url}/m/tiny: model.safetensors has more than 50 bytes"
        assert list((cache / "models").iterdir()) == []
        limit = download._Limit("model.zip", 10)
        limit.relative_update(10)
        with pytest.raises(BundleError, match=r"model\.zip has more than 10 bytes"):
            limit.relative_update(1)

    @pytest.mark.parametrize(
        ("path", "error", "message"),
        [
            ("/m/none.zip", BundleError, "no model bundle is there (HTTP 404)"),
            ("/busy/tiny.zip", RegistryError, "cannot be fetched (HTTP 503)"),
        ],
    )
    def test_secrets_stay_secret(self, server, tmp_path, cache, path, error, message):
        server.busy = 9 if "busy" in path else 0
        host = server.url.removeprefix("http://")
        with pytest.raises(error) as caught:
            open_model(f"http://me:pass%2Fword@{host}{path}?signature=s1gnature")
        assert str(caught.value) == f"{server.url}{path}: {message}"
        assert caught.value.__suppress_context__

    def test_secrets_are_in_no_file(self, server, small, tmp_path, cache):
        self.serve(server, small, tmp_path)
        host = server.url.removeprefix("http://")
        open_model(f"http://me:pass%2Fword@{host}/m/tiny.zip?signature=s1gnature")
        for path in cache.rglob("*"):
            found = path.name.encode() + (path.read_bytes() if path.is_file() else b"")
            assert not any(secret in found for secret in (b"pass%2Fword", b"s1gnature"))

    @pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
    def test_a_cache_that_cannot_be_written(self, server, small, tmp_path, monkeypatch):
        self.serve(server, small, tmp_path)
        monkeypatch.setenv("GEOFOREST_CACHE", "/proc/nope")
        with pytest.raises(
            OutputError, match=r"/proc/nope/models: cannot be .*; set GEOFOREST_CAC"
        ):
            open_model(f"{server.url}/m/tiny.zip")

    def test_a_full_disk_is_our_own(self, server, small, tmp_path, cache, monkeypatch):
        def full(places: object, folder: Path) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self.serve(server, small, tmp_path)
        monkeypatch.setattr(download, "_download", full)
        with pytest.raises(
            OutputError, match=f"{cache}/models: cannot be written to .No space lef"
        ):
            open_model(f"{server.url}/m/tiny.zip")

    def test_weights_are_verified_once_a_place(self, server, small, tmp_path, monkeypatch):
        verified = []
        checked_weights = bundles._checked_weights

        def counted(*arguments):
            verified.append(arguments)
            return checked_weights(*arguments)

        self.serve(server, small, tmp_path)
        monkeypatch.setattr(bundles, "_checked_weights", counted)
        bundle = open_model(f"{server.url}/m/tiny.zip")
        assert len(verified) == 2  # as received, and in the cache
        assert same(bundle, load_bundle(bundle.path))
        verified.clear()
        save_copy(bundle, tmp_path / "mine")
        assert len(verified) == 1

    def test_no_server(self, server):
        with pytest.raises(RegistryError, match="cannot be fetched"):
            open_model("http://127.0.0.1:9/tiny.zip")


class TestS3:
    @pytest.fixture
    def s3(self, monkeypatch):
        with s3_server() as address:
            yield s3_bucket(monkeypatch, address, "models")

    @pytest.mark.slow
    def test_zip_and_folder(self, s3, small, other, tmp_path):
        archive = zipped(small.path, tmp_path / "tiny.zip")
        s3.upload_file(str(archive), "models", "a/tiny.zip")
        for name in ("model.json", "model.safetensors"):
            s3.upload_file(str(small.path / name), "models", f"a/tiny/{name}")
        for reference in ("s3://models/a/tiny.zip", "s3://models/a/tiny"):
            assert same(open_model(reference), small)
        s3.upload_file(str(zipped(other.path, tmp_path / "other.zip")), "models", "a/tiny.zip")
        assert same(open_model("s3://models/a/tiny.zip"), other)
        with pytest.raises(BundleError, match=r"s3://models/b\.zip: no model bundle is there"):
            open_model("s3://models/b.zip")
        with pytest.raises(InputError, match="the keys in the environment"):
            open_model("s3://key:secret@models/a/tiny.zip")


def test_file_url(small):
    assert same(open_model(f"file://{small.path}"), small)
