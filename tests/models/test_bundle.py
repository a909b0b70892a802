"""Bundles round-trip, and nothing unsafe or damaged is loaded."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from geoforest.errors import (
    BundleError,
    GeoforestError,
    GeoforestWarning,
    InputError,
    OutputError,
)
from geoforest.models.bundle import load_bundle, save_bundle
from geoforest.models.copies import save_copy
from geoforest.models.importer import import_weights
from geoforest.models.registry import load_model, open_model
from geoforest.models.torch_runtime import TorchPredictor
from geoforest.models.unet import build_unet
from tests.helpers import synthetic
from tests.helpers.bundles import same, small_bundle, zipped


@pytest.fixture
def copy(tiny_bundle, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_bundle.path, tmp_path / "copy"))


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def test_round_trip_of_folder_and_zip(tiny_bundle, tmp_path):
    archive = load_bundle(zipped(tiny_bundle.path, tmp_path / "tiny.zip"))
    assert archive.card == tiny_bundle.card
    assert archive.model_id == tiny_bundle.model_id
    first, second = archive.state_dict(), tiny_bundle.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_save_replaces_a_bundle_and_nothing_else(tiny_bundle, tmp_path):
    folder = tmp_path / "model"
    save_bundle(folder, {"a": torch.zeros(2)}, synthetic.card())
    save_bundle(folder, {"a": torch.ones(2)}, synthetic.card())
    assert load_bundle(folder).state_dict()["a"].tolist() == [1, 1]
    (tmp_path / "precious").mkdir()
    with pytest.raises(OutputError, match="no model bundle"):
        save_bundle(tmp_path / "precious", {}, synthetic.card())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "precious"]


def header(folder: Path, text: str, n_bytes: int = 0) -> None:
    """Write a header, and bytes after it that take no room on the disk."""
    data = len(text).to_bytes(8, "little") + text.encode()
    path = folder / "model.safetensors"
    path.write_bytes(data)
    os.truncate(path, len(data) + n_bytes)


def tensor(dtype: str, shape: list[int], n_bytes: int) -> str:
    return json.dumps({"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, n_bytes]}})


NO_POINT = {"threshold": 0.5, "precision": float("nan"), "recall": 1.0, "f1": 1.0}


def replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model.json").unlink(), "model.json is missing"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda f: (f / "model.json").write_text("{"), "is no JSON"),
        (lambda f: (f / "model.json").write_text("[]"), "is no JSON object"),
        (lambda f: (f / "model.json").write_text("{}"), "format version None"),
        (lambda f: (f / "model.json").write_text("[" * 100_000), "is no JSON object"),
        (lambda f: edit(f, window=1 << 20), "window: Input should be less than or equal"),
        (lambda f: edit(f, mean=[1, 2, 3, float("inf")]), "mean.3: Input should be a finite"),
        (lambda f: edit(f, std=[1, 2, 3, float("nan")]), "std.3: Input should be a finite"),
        (lambda f: edit(f, metrics={"f1": float("nan")}), "metrics.f1: Input should be a finite"),
        (lambda f: edit(f, threshold_curve=[NO_POINT]), "precision: Input should be a finite"),
        (lambda f: edit(f, training={"history": [{"a": float("inf")}]}), "holds inf, which is no"),
        (lambda f: edit(f, encoder="tu-hf-hub:evil/model"), "encoder: String should match"),
        (lambda f: edit(f, encoder="tu-local-dir:/tmp"), "encoder: String should match"),
        (
            lambda f: edit(f, encoder="tu-vit_base_patch16_224"),
            "not known to segmentation-models-pytorch",
        ),
        (lambda f: header(f, "[" * 100_000), "no safetensors file"),
        (lambda f: header(f, '{"a": {"data_offsets": []}}'), "no safetensors file"),
        (lambda f: header(f, '{"a": {"data_offsets": ["x", "y"]}}'), "no safetensors file"),
        (lambda f: header(f, '{"a": 3}'), "no safetensors file"),
        (lambda f: header(f, "{}"), "no safetensors file"),
        (lambda f: header(f, tensor("F32", [2, 2], 8)), "is truncated"),
        (lambda f: header(f, tensor("F32", [2, 2], 8), 8), "'a' of type F32 is not laid out"),
        (lambda f: header(f, tensor("C64", [1], 8), 8), "'a' of type C64 is not laid out"),
        (lambda f: header(f, tensor("F32", [-1, -2], 8), 8), "is not laid out"),
        (lambda f: header(f, tensor("F32", [1] * 99, 4), 4), "no safetensors file"),
        (lambda f: replace_by_fifo(f / "model.safetensors"), "is no regular file"),
        (lambda f: edit(f, format_version=2), "format version 2, this geoforest reads 1"),
        (lambda f: edit(f, std=[1, 2, 3, 0]), "std must be positive"),
        (lambda f: edit(f, std=[1, 2, 3]), "one entry per input channel"),
        (lambda f: edit(f, surprise=1), "surprise"),
        (lambda f: edit(f, architecture="Transformer"), "not known"),
        (lambda f: edit(f, encoder="none_such"), "not known to segmentation-models-pytorch"),
        (lambda f: edit(f, encoder="resnet18"), "weights do not fit"),
        (lambda f: truncate(f / "model.safetensors"), "is truncated"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 100), "no safetensors file"),
        (lambda f: (f / "model.safetensors").write_bytes(pickle.dumps(Bomb())), "pickle"),
        (lambda f: (f / "weights.pt").write_bytes(pickle.dumps(Bomb())), "a pickle, which could"),
        (lambda f: torch.save({}, f / "model.safetensors"), "pickle in disguise"),
    ],
)
def test_damaged_and_unsafe_bundles_are_refused(copy, damage, message):
    damage(copy)
    with pytest.raises(BundleError, match=message) as caught:
        TorchPredictor(load_bundle(copy))
    assert "\n" not in str(caught.value)
    assert not Path("exploded").exists()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(copy, dtype, value):
    """On saving and on loading, not hours later by the first window of a map."""
    bundle = load_bundle(copy)
    weights = {name: tensor.to(dtype) for name, tensor in bundle.state_dict().items()}
    name = "decoder.blocks.0.conv1.0.weight"
    weights[name].view(-1)[-1] = value
    match = rf"model\.safetensors: {name} holds NaN"
    with pytest.raises(BundleError, match=match):
        save_bundle(copy.with_name("new"), weights, bundle.card)
    assert sorted(path.name for path in copy.parent.iterdir()) == ["copy"]
    (copy / "model.safetensors").write_bytes(save(weights))
    with pytest.raises(BundleError, match=match):
        load_bundle(copy)


def test_large_weights_that_do_not_fit_are_not_read(copy, tmp_path):
    """Three gigabytes of a sound header, in a folder and deflated."""
    header(copy, tensor("F32", [3 << 28], 3 << 30), 3 << 30)
    with pytest.raises(BundleError, match=r"weights do not fit Unet of 'mobilenet_v2'.*it lacks"):
        load_bundle(copy)
    header(copy, tensor("F32", [160 << 20], 640 << 20), 640 << 20)
    archive = zipped(copy, tmp_path / "large.zip")
    assert archive.stat().st_size < 2 << 20
    with pytest.raises(BundleError, match="weights do not fit"):
        load_bundle(archive)


def test_other_compressions_are_not_inflated(tmp_path):
    small = small_bundle(tmp_path / "small")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        for path in small.path.iterdir():
            archive.write(path, path.name)
    with pytest.raises(BundleError, match="compressed by lzma; stored or deflated was wanted"):
        load_bundle(tmp_path / "a.zip")


def make_link(path: Path) -> None:
    path.symlink_to(Path(__file__))


def make_sparse(path: Path) -> None:
    with path.open("wb") as handle:
        handle.truncate(1 << 42)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("LICENSE", make_link),
        ("licence", make_link),
        ("README.md", lambda path: path.symlink_to("/dev/zero")),
        ("NOTICE.txt", make_sparse),
        ("notes.txt", os.mkfifo),
        ("passwd", lambda path: path.write_text("root:x")),
        ("id_rsa.pem", lambda path: path.write_text("key")),
    ],
)
def test_only_files_of_the_bundle_are_copied(copy, tmp_path, name, make):
    """No link out of the folder, no pipe, nothing huge, and nothing with another kind of name."""
    make(copy / name)
    (copy / "LICENSE.md").write_text("Apache-2.0")
    with pytest.warns(GeoforestWarning, match=rf"copy: {name} \(1\) not copied"):
        save_copy(load_bundle(copy), tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["LICENSE.md", "model.json", "model.safetensors"]


def test_only_some_files_of_a_zip_are_copied(tiny_bundle, tmp_path):
    path = zipped(tiny_bundle.path, tmp_path / "a.zip")
    link = zipfile.ZipInfo("LICENSE")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(link, "/etc/shadow")
        for number in range(100):
            archive.writestr(f"{number}.txt", bytes(1 << 10))
    with pytest.warns(GeoforestWarning, match=r"\(69\) not copied"):
        save_copy(load_bundle(path), tmp_path / "out")
    assert not (tmp_path / "out" / "LICENSE").exists()


def test_weights_may_be_a_link(copy, tmp_path):
    """As hubs keep them in their caches: what it leads to is checked whole."""
    weights = copy / "model.safetensors"
    weights.symlink_to(weights.rename(tmp_path / "blob"))
    out = save_copy(load_bundle(copy), tmp_path / "out").path
    assert not (out / "model.safetensors").is_symlink()


def edit(folder: Path, **changes: object) -> None:
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**card, **changes}))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def test_changed_weights_are_noticed(copy):
    bundle = load_bundle(copy)
    path = copy / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match="changed while it was in use"):
        bundle.state_dict()


def test_zip_is_read_by_name_and_never_extracted(tiny_bundle, tmp_path):
    path = zipped(tiny_bundle.path, tmp_path / "evil.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../outside.txt", "gotcha")
    load_bundle(path)
    assert not (tmp_path.parent / "outside.txt").exists()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb()))
    with pytest.raises(BundleError, match="a pickle"):
        load_bundle(path)


def test_truncated_zip(tiny_bundle, tmp_path):
    path = zipped(tiny_bundle.path, tmp_path / "cut.zip")
    truncate(path)
    with pytest.raises(BundleError):
        load_bundle(path)


def test_any_length_of_header_is_no_pickle(copy):
    """The first bytes of a safetensors file are a length; they may look like anything."""
    weights = copy / "model.safetensors"
    data = weights.read_bytes()
    size = int.from_bytes(data[:8], "little")
    padded = (size & ~0xFFFF) + 0x10000 + 0x0280
    header = data[8 : 8 + size].ljust(padded)
    weights.write_bytes(padded.to_bytes(8, "little") + header + data[8 + size :])
    assert weights.read_bytes()[:2] == b"\x80\x02"
    TorchPredictor(load_bundle(copy))


def test_a_zipped_folder_is_a_bundle(tiny_bundle, tmp_path):
    path = zipped(tiny_bundle.path, tmp_path / "a.zip", inside="tiny/")
    assert load_bundle(path).sha256 == tiny_bundle.sha256
    assert dict(load_bundle(path).files()) == dict(tiny_bundle.files())
    assert same(save_copy(load_bundle(path), tmp_path / "copied"), tiny_bundle)
    assert same(load_bundle(tmp_path / "copied"), tiny_bundle)
    path = zipped(tiny_bundle.path, tmp_path / "b.zip", inside="far/down/")
    with pytest.raises(BundleError, match=r"model\.json is missing"):
        load_bundle(path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-300] + bytes(100) + data[-200:],  # the central directory
        lambda data: data[:5000] + bytes(500) + data[5500:],  # a deflate stream
        lambda data: re.sub(
            rb"(?s)(PK\x01\x02.{4})..", lambda m: m[1] + b"\x01\x00", data
        ),  # encrypted
        lambda data: data.replace(b"\x08\x00", b"\x63\x00"),  # the compression method
        lambda data: b"",
    ],
)
def test_damaged_zips_are_refused_in_a_sentence(tiny_bundle, tmp_path, spoil):
    path = zipped(tiny_bundle.path, tmp_path / "a.zip")
    bundle = load_bundle(path)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(BundleError, match=r"a\.zip"):
        load_bundle(path).state_dict()
    with pytest.raises(BundleError, match=r"a\.zip"):
        dict(bundle.files())


def test_references(tiny_bundle, tmp_path):
    assert open_model(str(tiny_bundle.path)).card.name == "tiny"
    with pytest.raises(BundleError, match="no such model bundle"):
        open_model(str(tmp_path / "nothing"))


class TestPredictor:
    def test_scale_and_offset_are_applied_once(self, tiny_bundle):
        predictor = load_model(tiny_bundle.path, device="cpu")
        dn = synthetic.digital_numbers((64, 64))[None]
        plain = predictor(dn)
        assert plain.dtype == np.float32
        assert plain.shape == (1, 64, 64)
        shifted = predictor(dn + 1000, offset=-0.1)
        unit = predictor((dn / 10_000).astype(np.float32), scale=1.0)
        per_band = predictor(dn, scale=[1e-4] * 4, offset=[0.0] * 4)
        assert np.abs(shifted - plain).max() < 1e-4
        assert np.abs(unit - plain).max() < 1e-4
        assert (per_band == plain).all()

    def test_agrees_with_the_network_on_normalised_input(self, tiny_bundle):
        dn = synthetic.digital_numbers((64, 64))[None]
        card = tiny_bundle.card
        normalised = (dn - np.array(card.mean)[:, None, None]) / np.array(card.std)[:, None, None]
        network = build_unet(card.encoder, 4).eval()
        network.load_state_dict(tiny_bundle.state_dict())
        with torch.inference_mode():
            expected = torch.sigmoid(network(torch.from_numpy(normalised).float()))[:, 0].numpy()
        assert np.abs(TorchPredictor(tiny_bundle)(dn) - expected).max() < 1e-5

    @pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
    def test_unobserved_pixels_enter_as_the_training_mean(self, tiny_bundle, dtype):
        predictor = TorchPredictor(tiny_bundle)
        dn = synthetic.digital_numbers((64, 64)).astype("float32")
        valid = np.ones((64, 64), bool)
        valid[:, :20] = False
        filled = np.where(valid, dn, np.array(tiny_bundle.card.mean, "float32")[:, None, None])
        spoiled = np.where(valid, dn, np.nan if dtype == "float32" else 77).astype(dtype)
        expected = predictor(filled.astype(dtype)[None])
        got = predictor(spoiled[None], valid=valid[None])
        # Integer types cannot hold the mean exactly.
        assert np.abs(got - expected).max() < 5e-3

    def test_a_window_does_not_depend_on_its_batch(self, tiny_bundle):
        predictor = TorchPredictor(tiny_bundle)
        dn = np.stack([synthetic.digital_numbers((64, 64), seed) for seed in range(3)])
        batch = predictor(dn)
        turned = predictor(dn[[2, 0, 1]])
        assert (turned == batch[[2, 0, 1]]).all()

    def test_autocast_goes_the_same_way(self, tiny_bundle):
        dn = synthetic.digital_numbers((64, 64))[None]
        exact = TorchPredictor(tiny_bundle)(dn)
        half = TorchPredictor(tiny_bundle, autocast=torch.bfloat16)(dn)
        assert not (half == exact).all()
        assert np.abs(half - exact).max() < 0.05

    @pytest.mark.cuda
    def test_cuda_agrees(self, tiny_bundle):
        dn = synthetic.digital_numbers((64, 64))[None]
        exact = TorchPredictor(tiny_bundle)(dn)
        assert np.abs(TorchPredictor(tiny_bundle, device="cuda")(dn) - exact).max() < 0.02

    def test_wrong_input(self, tiny_bundle):
        predictor = TorchPredictor(tiny_bundle)
        with pytest.raises(InputError, match=r"\(n, 4, row, col\) was wanted"):
            predictor(np.zeros((1, 3, 64, 64), np.uint16))
        with pytest.raises(InputError, match="not a device"):
            TorchPredictor(tiny_bundle, device="abacus")


class TestImport:
    numbers = {"bands": list(synthetic.BANDS), "mean": [1.0, 2, 3, 4], "std": [1.0, 2, 3, 4]}  # noqa: RUF012

    def test_published_state_dict(self, tmp_path):
        network = build_unet("mobilenet_v2", 4)
        path = tmp_path / "mobilenet_v2_batch4_lr1.0e-04_weights.pt"
        torch.save(network.state_dict(), path)
        bundle = import_weights(path, tmp_path / "out", threshold=0.35, **self.numbers)
        assert bundle.card.encoder == "mobilenet_v2"
        assert bundle.card.threshold == 0.35
        assert bundle.card.training["batch_size"] == 4
        assert bundle.card.training["learning_rate"] == 1e-4
        assert all(
            torch.equal(value, network.state_dict()[key])
            for key, value in bundle.state_dict().items()
        )

    def test_code_in_a_pickle_is_not_run(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        path = tmp_path / "weights.pt"
        torch.save({"a": Bomb()}, path)
        with pytest.raises(BundleError, match="could run code"):
            import_weights(path, tmp_path / "out", encoder="resnet18", **self.numbers)
        assert not (tmp_path / "exploded").exists()
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("content", "encoder", "error", "message"),
        [
            ({"a": torch.zeros(1)}, None, InputError, "does not tell the encoder"),
            ({"a": torch.zeros(1)}, "resnet18", BundleError, "does not fit"),
            ({"a": 3}, "resnet18", BundleError, "plain state dict was wanted"),
        ],
    )
    def test_refused(self, tmp_path, content, encoder, error, message):
        path = tmp_path / "weights.pt"
        torch.save(content, path)
        with pytest.raises(error, match=message):
            import_weights(path, tmp_path / "out", encoder=encoder, **self.numbers)

    def test_damaged(self, tmp_path):
        path = tmp_path / "weights.pt"
        path.write_bytes(b"nonsense")
        with pytest.raises(BundleError, match=r"weights\.pt"):
            import_weights(path, tmp_path / "out", encoder="resnet18", **self.numbers)


class SmallDevice(torch.nn.Module):
    """A network on a device that holds ``most`` windows at a time."""

    def __init__(self, network: torch.nn.Module, most: int) -> None:
        super().__init__()
        self.network, self.most, self.sizes = network, most, []

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(batch))
        if len(batch) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        return self.network(batch)


def test_a_batch_too_large_for_the_device_is_halved(tiny_bundle):
    predictor = TorchPredictor(tiny_bundle)
    dn = synthetic.digital_numbers((64, 64))[None].repeat(5, axis=0)
    expected = predictor(dn)
    assert predictor.halvings == 0
    small = predictor._network = SmallDevice(predictor._network, 2)
    assert np.abs(predictor(dn) - expected).max() < 1e-5
    assert predictor.halvings == 2
    assert small.sizes == [5, 3, 2, 1, 2]


def test_a_device_too_small_for_one_window(tiny_bundle):
    predictor = TorchPredictor(tiny_bundle)
    predictor._network = SmallDevice(predictor._network, 0)
    dn = synthetic.digital_numbers((64, 64))[None]
    with pytest.raises(GeoforestError, match="cpu: out of memory for one window of 64 x 64 px"):
        predictor(dn)
