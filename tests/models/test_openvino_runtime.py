from __future__ import annotations

import subprocess
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from geoforest.errors import InputError, OutputError
from geoforest.models.agreement import CHECK_SEED, make_model_chips, predicted_masks, same_share
from geoforest.models.registry import open_model
from geoforest.models.runtimes import NAMED_AGREEMENT
from geoforest.models.torch_runtime import TorchPredictor
from tests.helpers import synthetic

pytest.importorskip("openvino")

from geoforest.models import openvino_runtime
from geoforest.models.openvino_runtime import (
    OpenVinoPredictor,
    available_precisions,
    import_openvino,
)

needs_bfloat16 = pytest.mark.skipif(
    "bfloat16" not in available_precisions(), reason="this processor does not compute bfloat16"
)


@pytest.fixture(scope="module")
def reference(tiny_bundle):
    return TorchPredictor(tiny_bundle)


@pytest.fixture(scope="module")
def predictor(tiny_bundle):
    return OpenVinoPredictor(tiny_bundle, precision="float32")


def windows(n=2, seed=0, dtype="uint16"):
    return np.stack([synthetic.digital_numbers((64, 64), seed + i, dtype) for i in range(n)])


def assert_same(found, wanted):
    assert found.dtype == np.float32
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("dtype", ["uint16", "uint8", "float32"])
def test_float32_is_the_reference(predictor, reference, dtype):
    dn = windows(dtype=dtype)
    scale = {"uint16": 1e-4, "uint8": 4e-3, "float32": 1.0}[dtype]
    wanted = reference(dn, scale=scale)
    assert wanted.std() > 0.01
    assert_same(predictor(dn, scale=scale), wanted)


def test_scale_and_offset_per_band(predictor, reference):
    dn = windows()
    scale, offset = (1e-4, 2e-4, 5e-5, 1e-4), (0.0, -0.1, 0.02, 0.01)
    wanted = reference(dn, scale=scale, offset=offset)
    assert_same(predictor(dn, scale=scale, offset=offset), wanted)
    assert np.abs(wanted - reference(dn)).max() > 1e-2


def test_invalid_pixels_are_the_training_mean_even_where_nan(predictor, reference):
    dn = windows(dtype="float32")
    valid = np.ones((2, 64, 64), np.bool_)
    valid[0, 10:30, 20:50] = False
    dn[:, 1][~valid] = np.nan
    dn[:, 2][~valid] = np.inf
    found = predictor(dn, scale=1.0, valid=valid)
    assert np.isfinite(found).all()
    assert_same(found, reference(dn, scale=1.0, valid=valid))
    mean = np.asarray(predictor.card.mean, np.float32)[:, None] * 1e-4
    filled = dn.copy()
    filled.transpose(1, 0, 2, 3)[:, ~valid] = mean
    assert_same(found, predictor(filled, scale=1.0))


def test_a_nan_that_counts_as_observed_stays_one(predictor):
    dn = windows(n=1, dtype="float32")
    dn[0, 0, 5, 5] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(predictor(dn, scale=1.0)).any()


def test_temperature_of_the_card(tiny_bundle, predictor):
    from dataclasses import replace

    hot = replace(tiny_bundle, card=tiny_bundle.card.model_copy(update={"temperature": 3.0}))
    dn = windows()
    cool = predictor(dn)
    wanted = 1 / (1 + (1 / cool - 1) ** (1 / 3))
    found = OpenVinoPredictor(hot, precision="float32")(dn)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_equal_calls_give_equal_results_and_own_their_memory(predictor):
    dn = windows()
    first = predictor(dn)
    kept = first.copy()
    predictor(windows(seed=5))
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(predictor(dn), kept)


def test_other_shapes_are_compiled_when_they_come(predictor, reference):
    for shape in ((1, 64, 64), (3, 32, 96), (2, 64, 64)):
        dn = np.random.default_rng(0).integers(1, 4000, (shape[0], 4, *shape[1:]), np.uint16)
        assert_same(predictor(dn), reference(dn))


def test_wrong_bands(predictor):
    with pytest.raises(InputError, match=r"\(n, 4, row, col\) was wanted"):
        predictor(np.zeros((1, 3, 64, 64), np.uint16))


def test_a_precision_that_the_processor_lacks(tiny_bundle, monkeypatch):
    core = SimpleNamespace(get_property=lambda *_: ["FP32", "INT8", "WINOGRAD"])
    monkeypatch.setattr(openvino_runtime, "_core", lambda: core)
    assert available_precisions() == ("float32", "int8")
    for lacking in ("float16", "bfloat16"):
        sentence = f"precision {lacking} with OpenVINO: this processor has float32, int8"
        with pytest.raises(InputError, match=sentence):
            OpenVinoPredictor(tiny_bundle, precision=lacking)


def test_without_the_package():
    code = (
        "import sys; sys.modules['openvino'] = None\n"
        "from geoforest.models.registry import open_model\n"
        "from geoforest.models.openvino_runtime import OpenVinoPredictor\n"
        "OpenVinoPredictor(open_model(), precision='float32')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'InputError: runtime openvino: pip install "geoforest[openvino]"' in run.stderr


def test_no_telemetry():
    code = (
        "from geoforest.models.openvino_runtime import available_precisions\n"
        "available_precisions()\n"
        "import sys; print('openvino' in sys.modules, 'openvino_telemetry' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["True", "False"]


def test_a_cache_that_cannot_be_written(tiny_bundle, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GEOFOREST_CACHE", str(tmp_path / "file"))
    predictor = OpenVinoPredictor(tiny_bundle, precision="float32")
    with pytest.raises(OutputError, match=r"file/openvino: cannot be .*; set GEOFOREST_CACHE"):
        predictor(windows())


def test_a_full_disk(tiny_bundle, tmp_path, monkeypatch):
    def full(*arguments, **named):
        # As OpenVINO tells of it.
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setenv("GEOFOREST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(import_openvino(), "save_model", full)
    predictor = OpenVinoPredictor(tiny_bundle, precision="float32")
    with pytest.raises(OutputError, match=r"openvino: cannot be written to \(basic_ios"):
        predictor(windows())
    assert not list((tmp_path / "cache" / "openvino").iterdir())


@pytest.fixture(scope="module")
def starter():
    return open_model()


@pytest.fixture(scope="module")
def chips(starter):
    return make_model_chips(starter.card, starter.card.window, seed=CHECK_SEED)


@pytest.fixture(scope="module")
def right(starter, chips):
    """Masks of the chips by the reference."""
    return predicted_masks(TorchPredictor(starter), chips, starter.card.threshold)


def agreement_of(precision, starter, chips, right):
    predictor = OpenVinoPredictor(starter, precision=precision)
    return same_share(right, predicted_masks(predictor, chips, starter.card.threshold))


@pytest.mark.slow
@needs_bfloat16
def test_bfloat16_of_a_trained_model(starter, chips, right):
    assert 0.998 < agreement_of("bfloat16", starter, chips, right) < 1


@pytest.mark.slow
def test_int8_of_a_trained_model(starter, chips, right):
    assert NAMED_AGREEMENT <= agreement_of("int8", starter, chips, right) < 1


@pytest.mark.slow
def test_int8_is_made_once_and_made_anew_the_same(tiny_bundle, tmp_path, monkeypatch, capfd):
    def kept(cache):
        return {path: path.stat().st_mtime_ns for path in (tmp_path / cache).rglob("model.*")}

    dn = windows()
    monkeypatch.setenv("GEOFOREST_CACHE", str(tmp_path / "one"))
    first = OpenVinoPredictor(tiny_bundle, precision="int8")(dn)
    files = kept("one")
    assert len(files) == 4
    assert capfd.readouterr().out == ""
    np.testing.assert_array_equal(OpenVinoPredictor(tiny_bundle, precision="int8")(dn), first)
    assert kept("one") == files
    monkeypatch.setenv("GEOFOREST_CACHE", str(tmp_path / "two"))
    np.testing.assert_array_equal(OpenVinoPredictor(tiny_bundle, precision="int8")(dn), first)
    assert len(kept("two")) == 4
