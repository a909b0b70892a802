"""The W&B registry: the real client against a server on the loopback interface."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch

from geoforest.errors import (
    BundleError,
    GeoforestError,
    GeoforestWarning,
    InputError,
    OutputError,
    RegistryError,
)
from geoforest.models import wandb_client, wandb_registry
from geoforest.models.bundle import Bundle, load_bundle
from geoforest.models.copies import save_copy
from geoforest.models.registry import load_model, open_model, open_registry
from geoforest.models.torch_runtime import TorchPredictor
from geoforest.models.wandb_registry import WandbRegistry
from tests.helpers import synthetic
from tests.helpers.bundles import same, zipped
from tests.helpers.wandb_server import KEY, UNCLOSED, WandbServer, end_wandb, wandb_server

wandb = pytest.importorskip("wandb")
pytestmark = pytest.mark.filterwarnings(UNCLOSED)

PUBLISHED = "akshaysuresh1/amazonforest_segmentation/unet_with_se_resnet50"


@pytest.fixture(scope="module")
def memories() -> Iterator[Callable[[], WandbServer]]:
    """A server, and a process of wandb's that knows it, for all tests."""
    with wandb_server() as renew, pytest.MonkeyPatch.context() as environment:
        environment.setenv("WANDB_BASE_URL", renew().url)
        environment.setenv("WANDB_ERROR_REPORTING", "false")
        environment.delenv("WANDB_MODE", raising=False)
        yield renew
        end_wandb()


@pytest.fixture
def server(memories, tmp_path, monkeypatch) -> Iterator[WandbServer]:
    """The server with nothing in it, and a home without settings or keys but ours."""
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "HOME": str(tmp_path / "home"),
        "NETRC": str(tmp_path / "netrc"),
        "GEOFOREST_CACHE": str(tmp_path / "cache"),
        "WANDB_API_KEY": KEY,
    }.items():
        monkeypatch.setenv(name, value)
    server = memories()
    yield server
    assert server.unknown == []


@pytest.fixture
def other_settings() -> Iterator[None]:
    """Let wandb read the environment anew, in the test and after it."""
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture
def registry(server) -> WandbRegistry:
    return WandbRegistry("ours/forest")


def files(bundle: Bundle) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in bundle.path.iterdir()}


class TestPush:
    def test_push_list_and_pull(self, registry, server, small, tmp_path):
        reference = registry.push(small, "unet", ["best_model"])
        assert reference == "wandb:ours/forest/unet:v0"
        (version,) = server.versions
        assert version.stored == files(small)
        assert version.type == "model"
        (entry,) = registry.entries()
        assert (entry.reference, entry.version) == (reference, "v0")
        assert entry.aliases == ("best_model", "latest")
        assert entry.model == small.model_id
        assert entry.created.startswith("2026-01-02")
        assert entry.metadata["encoder"] == "mobilenet_v2"
        pulled = save_copy(registry.open("unet:best_model"), tmp_path / "mine")
        assert pulled.path == tmp_path / "mine"
        assert same(pulled, small)

    def test_the_same_bundle_gets_no_new_version(self, registry, server, small, other):
        assert registry.push(small, "unet", ["best_model"]).endswith("unet:v0")
        assert registry.push(other, "unet", ["best_model"]).endswith("unet:v1")
        assert registry.push(small, "unet", ["again"]).endswith("unet:v0")
        assert [(entry.version, entry.aliases) for entry in registry.entries()] == [
            ("v0", ("again", "latest")),
            ("v1", ("best_model",)),
        ]

    def test_a_zipped_folder(self, registry, server, small, tmp_path):
        archive = load_bundle(zipped(small.path, tmp_path / "tiny.zip", inside="tiny/"))
        registry.push(archive, "unet")
        (version,) = server.versions
        assert version.stored == files(small)
        assert same(registry.open("unet"), small)

    def test_a_full_disk(self, registry, server, small, tmp_path, monkeypatch):
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(wandb_client, "copy_bundle", full)
        monkeypatch.setattr(wandb_registry, "_make_bundle", full)
        with pytest.raises(OutputError, match=r"cannot be written to \(No space left"):
            registry.push(small, "unet")
        server.add("ours/forest/tiny", files(small))
        with pytest.raises(OutputError, match=r"models: cannot be .*No space.*GEOFOREST_CACHE"):
            registry.open("tiny")
        assert not list((tmp_path / "cache" / "models").iterdir())

    def test_only_the_bundle_is_sent(self, registry, server, small, monkeypatch):
        monkeypatch.setattr("sys.argv", ["geoforest", "s3://bucket/data?signature=s1gnature"])
        registry.push(small, "unet")
        sent = b"".join(server.received)
        assert KEY.encode() not in sent
        assert b"s1gnature" not in sent

    @pytest.mark.usefixtures("other_settings")
    def test_offline_it_waits_for_a_sync(self, registry, server, small, monkeypatch):
        monkeypatch.setenv("WANDB_MODE", "offline")
        with pytest.warns(GeoforestWarning, match="`wandb sync .*offline-run-.*` sends it"):
            reference = registry.push(small, "unet")
        assert reference == "wandb:ours/forest/unet:latest"
        (run,) = Path("wandb").glob("offline-run-*")
        (stored,) = run.glob("model-*/model.safetensors")
        assert stored.read_bytes() == (small.path / "model.safetensors").read_bytes()
        assert not server.received

    def test_names(self, registry, server, small):
        with pytest.raises(InputError, match="no name for a model"):
            registry.push(small, "unet:v0")
        with pytest.raises(InputError, match="versions are named so"):
            registry.push(small, "unet", ["v1"])
        assert not server.received


class TestPull:
    def test_a_version_is_downloaded_once(self, server, small, tmp_path):
        server.add("ours/forest/unet", files(small), aliases=("best_model",))
        bundle = open_model("wandb:ours/forest/unet:best_model")
        assert same(bundle, small)
        assert bundle.path.is_relative_to(tmp_path / "cache")
        server.versions[0].stored.clear()
        assert open_model("wandb:ours/forest/unet").path == bundle.path

    def test_a_lost_file_shows_no_signature(self, registry, server, small):
        server.add("ours/forest/unet", files(small))
        del server.versions[0].stored["model.json"]
        with pytest.raises(RegistryError, match="404") as caught:
            registry.open("unet")
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("unet:v7", "unet:v7"),
            ("other", "other:latest"),
            ("readme", "neither a model bundle nor one published state dict (it holds a.txt, b"),
            ("card", "neither a model bundle nor one published state dict (it holds model.json)"),
            ("two", "neither a model bundle nor one published state dict"),
            ("damaged", "Digest mismatch"),
            ("truncated", "model.safetensors is truncated"),
            ("pickle", "extra.pt, a pickle"),
            ("reference", "model.json is not stored in the artifact"),
            ("outside", "../a is not stored in the artifact"),
        ],
    )
    def test_refused(self, registry, server, small, tmp_path, name, message):
        good = files(small)
        secret = tmp_path / "secret.json"
        secret.write_text("{}")
        server.add("ours/forest/unet", good)
        server.add("ours/forest/readme", {"a.txt": b"a", "b.txt": b"b"})
        server.add("ours/forest/card", {"model.json": good["model.json"]})
        server.add("ours/forest/two", {f"r{i}_batch4_lr1e-4_weights.pt": b"" for i in "12"})
        damaged = server.add("ours/forest/damaged", good)
        damaged.stored["model.safetensors"] = good["model.safetensors"][:-1] + b"x"
        cut = {**good, "model.safetensors": good["model.safetensors"][:-1]}
        server.add("ours/forest/truncated", cut)
        server.add("ours/forest/pickle", {**good, "extra.pt": b""})
        del good["model.json"]
        server.add("ours/forest/reference", good, references={"model.json": secret.as_uri()})
        server.add("ours/forest/outside", {**files(small), "../a": b"a"})
        with pytest.raises(BundleError) as caught:
            registry.open(name)
        assert message in str(caught.value)
        assert "wandb:ours/forest/" in str(caught.value)
        assert "\n" not in str(caught.value)
        models = tmp_path / "cache" / "models"
        assert not models.exists() or list(models.iterdir()) == []


class TestList:
    def test_models_only_oldest_first(self, registry, server, small):
        for _ in range(11):
            server.add("ours/forest/unet", {"a": b"a"})
        server.add("ours/forest/attention", {"a": b"a"}, aliases=("best_model",))
        server.add("ours/forest/chips", {"a": b"a"}, type="dataset")
        names = [(entry.name, entry.version) for entry in registry.entries()]
        assert names == [("attention", "v0"), *(("unet", f"v{i}") for i in range(11))]

    def test_no_models_and_no_project(self, registry, server):
        server.add("ours/forest/chips", {"a": b"a"}, type="dataset")
        assert registry.entries() == []
        with pytest.raises(BundleError, match="wandb:ours/nothing: no such project"):
            WandbRegistry("ours/nothing").entries()


@pytest.mark.usefixtures("other_settings")
class TestRefused:
    @pytest.fixture
    def attempts(self, server, small):
        """Everything that needs the server, and how each is refused."""

        def attempts(error: type[GeoforestError], exit_code: int) -> Iterator[str]:
            registry = WandbRegistry("ours/forest")
            for attempt in (
                registry.entries,
                lambda: registry.open("unet"),
                lambda: registry.push(small, "unet"),
            ):
                with pytest.raises(error) as caught:
                    attempt()
                assert caught.value.exit_code == exit_code
                assert "\n" not in str(caught.value)
                assert str(caught.value).startswith("wandb:ours/forest")
                yield str(caught.value)

        return attempts

    def test_wrong_key(self, attempts, monkeypatch):
        wrong = "f" * 40
        monkeypatch.setenv("WANDB_API_KEY", wrong)
        for told in attempts(RegistryError, 1):
            assert "the server refuses the key or cannot be reached" in told
            assert "permission denied" in told
            assert wrong not in told

    def test_no_key(self, server, attempts, monkeypatch):
        monkeypatch.delenv("WANDB_API_KEY")
        for told in attempts(InputError, 2):
            assert "set WANDB_API_KEY" in told
        assert not server.received

    def test_a_key_that_is_none(self, attempts, monkeypatch):
        monkeypatch.setenv("WANDB_API_KEY", "s3cret")
        for told in attempts(InputError, 2):
            assert "40+ characters" in told
            assert "s3cret" not in told

    def test_offline(self, registry, server, monkeypatch):
        monkeypatch.setenv("WANDB_MODE", "offline")
        for attempt in (registry.entries, lambda: registry.open("unet")):
            with pytest.raises(InputError, match="needs its server, and WANDB_MODE says not to"):
                attempt()
        assert not server.received

    def test_key_of_wandb_login(self, server, monkeypatch, tmp_path):
        monkeypatch.delenv("WANDB_API_KEY")
        host = server.url.removeprefix("http://")
        (tmp_path / "netrc").write_text(f"machine {host} login user password {KEY}\n")
        server.add("ours/forest/chips", {"a": b"a"}, type="dataset")
        assert WandbRegistry("ours/forest").entries() == []


@pytest.mark.parametrize("project", ["forest", "a/b/c", "/forest", "ours/", "a:b/c"])
def test_projects(project):
    with pytest.raises(InputError, match="wandb:ENTITY/PROJECT was wanted"):
        open_registry(f"wandb:{project}")


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    network = smp.Unet("resnet18", encoder_weights=None, in_channels=4, activation="sigmoid")
    # A new network's statistics are all alike, and hide it when they are not loaded.
    with torch.inference_mode():
        network.train()(torch.randn(2, 4, 64, 64))
    return network.eval().to(memory_format=torch.channels_last)


class TestPublished:
    """What the reference system published: a state dict named by what it is."""

    @pytest.fixture
    def published(self, server, network):
        buffer = io.BytesIO()
        torch.save(network.state_dict(), buffer)
        return server.add(
            PUBLISHED,
            {"resnet18_batch4_lr1.0e-04_weights.pt": buffer.getvalue()},
            aliases=("best_model",),
            metadata={"encoder": "resnet18", "batch_size": 4, "lr_initial": 1e-4},
        )

    def test_it_becomes_a_bundle(self, published):
        card = open_model(f"wandb:{PUBLISHED}:best_model").card
        assert (card.name, card.architecture, card.encoder) == (
            "unet_with_se_resnet50",
            "Unet",
            "resnet18",
        )
        assert card.bands == ("B04", "B03", "B02", "B08")
        assert card.mean == (622.59, 683.14, 436.69, 2951.97)
        assert card.std == (541.08, 368.43, 342.26, 633.47)
        assert (card.threshold, card.temperature) == (0.35, 1.0)
        assert card.training == {
            "imported_from": "resnet18_batch4_lr1.0e-04_weights.pt",
            "reference": f"wandb:{PUBLISHED}:v0",
            "digest": published.digest,
            "batch_size": 4,
            "learning_rate": 1e-4,
        }
        assert f"Imported from wandb:{PUBLISHED}:v0, digest {published.digest}" in card.notes

    def test_its_probabilities_are_exact(self, published, network):
        """Bit for bit those of its network on the input that the predictor gives it."""
        bundle = open_model(f"wandb:{PUBLISHED}")
        normalised = torch.randn(1, 4, 64, 64)
        card = bundle.card.model_copy(update={"mean": (0.0,) * 4, "std": (1.0,) * 4})
        predictor = TorchPredictor(Bundle(bundle.path, card, bundle.sha256))
        with torch.inference_mode():
            expected = network(normalised.contiguous(memory_format=torch.channels_last))
        assert (predictor(normalised.numpy(), scale=1e-4) == expected[:, 0].numpy()).all()

    def test_it_predicts_like_the_reference(self, published, network):
        """As in the reference system: (DN - mean) / std, then the network."""
        dn = synthetic.digital_numbers((64, 64))[None]
        mean, std = (
            np.array(values)[:, None, None]
            for values in ([622.59, 683.14, 436.69, 2951.97], [541.08, 368.43, 342.26, 633.47])
        )
        with torch.inference_mode():
            expected = network(torch.from_numpy((dn - mean) / std).float())[:, 0].numpy()
        predictor = load_model(f"wandb:{PUBLISHED}:best_model", device="cpu")
        assert np.abs(predictor(dn) - expected).max() < 1e-5

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("resnet18_weights.pt", {}, "its name does not tell the encoder"),
            ("resnet18_batch4_lr-_weights.pt", {}, "its name does not tell the encoder"),
            ("none_batch4_lr1.0e-04_weights.pt", {}, "encoder 'none': "),
            ("resnet18_batch4_lr1.0e-04_weights.pt", {"a": torch.ones(1)}, "does not fit"),
            ("resnet18_batch4_lr1.0e-04_weights.pt", {"a": Path("code")}, "which could run code"),
        ],
    )
    def test_refused(self, server, tmp_path, name, content, message):
        buffer = io.BytesIO()
        torch.save(content, buffer)
        server.add(PUBLISHED, {name: buffer.getvalue()})
        with pytest.raises(InputError, match=message) as caught:
            open_model(f"wandb:{PUBLISHED}")
        assert "\n" not in str(caught.value)
        assert list((tmp_path / "cache" / "models").iterdir()) == []
