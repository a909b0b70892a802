from __future__ import annotations

import json
import subprocess
import sys
import weakref

import numpy as np
import pytest

import geoforest
from geoforest.errors import InputError, OutputError, checked
from geoforest.models import runtimes
from geoforest.models.runtimes import Choice, choose_runtime
from geoforest.pipeline.job import draft_job
from geoforest.pipeline.runtime import Runtime, resolve_runtime
from geoforest.pipeline.settings import MapSettings

pytestmark = pytest.mark.usefixtures("cache")


class Slow:
    """A predictor that takes its time and flips a share of the pixels."""

    def __init__(self, inner, wrong: float, wait: float) -> None:
        self.inner, self.wrong, self.wait = inner, wrong, wait
        self.calls = 0

    def __call__(self, dn, scale=1e-4, offset=0.0, valid=None):
        import time

        self.calls += 1
        time.sleep(self.wait)
        probability = self.inner(dn, scale, offset, valid)
        flipped = np.random.default_rng(0).random(probability.shape) < self.wrong
        return np.where(flipped, 1 - probability, probability)


@pytest.fixture
def fakes(monkeypatch):
    """Replace what loads a runtime: ``fakes[runtime, precision] = (share wrong, seconds)``."""
    table: dict[tuple[str, str], tuple[float, float]] = {}
    loaded = []

    def exact(dn, scale, offset, valid):
        return np.clip(dn[:, 3] * np.float32(scale * 3.5) - 0.5, 0, 1).astype(np.float32)

    def load(bundle, *, runtime, precision, device, threads):
        loaded.append((runtime, precision))
        return Slow(exact, *table[runtime, precision])

    monkeypatch.setattr(runtimes, "load_predictor", load)
    monkeypatch.setattr(
        runtimes,
        "_possible_pairs",
        lambda runtime, device: [pair for pair in table if runtime in ("auto", pair[0])],
    )
    table["torch", "float32"] = (0.0, 0.03)
    return table, loaded


def test_auto_takes_the_fastest_that_agrees(fakes, tiny_bundle):
    table, _ = fakes
    table["torch", "bfloat16"] = (0.0003, 0.02)
    table["openvino", "bfloat16"] = (0.01, 0.0)
    table["openvino", "int8"] = (0.0, 0.0)
    choice = choose_runtime(tiny_bundle)
    assert (choice.runtime, choice.precision) == ("torch", "bfloat16")
    assert choice.agreement is not None
    assert 0.999 <= choice.agreement < 1
    assert choice.windows_per_second is not None


def test_auto_falls_back_to_the_reference(fakes, tiny_bundle):
    table, _ = fakes
    table["openvino", "bfloat16"] = (0.003, 0.0)
    choice = choose_runtime(tiny_bundle)
    assert (choice.runtime, choice.precision, choice.agreement) == ("torch", "float32", 1.0)


@pytest.mark.parametrize("runtime", ["auto", "openvino"])
def test_what_is_asked_for_by_name_may_disagree_a_little(fakes, tiny_bundle, runtime):
    table, _ = fakes
    table["openvino", "int8"] = (0.003, 0.0)
    choice = choose_runtime(tiny_bundle, runtime=runtime, precision="int8")
    assert (choice.runtime, choice.precision) == ("openvino", "int8")
    assert choice.agreement == pytest.approx(0.997, abs=5e-4)


def test_but_not_much(fakes, tiny_bundle, cache):
    table, _ = fakes
    table["openvino", "int8"] = (0.02, 0.0)
    with pytest.raises(InputError, match=r"openvino int8 9[78]\.\d\d %; at least 99\.5 % was want"):
        choose_runtime(tiny_bundle, precision="int8")
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_the_answer_is_kept_for_the_same_question(fakes, tiny_bundle):
    table, loaded = fakes
    table["openvino", "bfloat16"] = (0.0, 0.0)
    first = choose_runtime(tiny_bundle, batch_size=2)
    n = len(loaded)
    assert choose_runtime(tiny_bundle, batch_size=2) == first
    assert len(loaded) == n
    choose_runtime(tiny_bundle, batch_size=3)
    assert len(loaded) > n


def test_the_answer_is_not_kept_for_another_conversion(fakes, tiny_bundle, monkeypatch):
    table, loaded = fakes
    table["openvino", "bfloat16"] = (0.0, 0.0)
    choose_runtime(tiny_bundle)
    n = len(loaded)
    monkeypatch.setattr("geoforest.models.openvino_runtime.RECIPE", -1)
    choose_runtime(tiny_bundle)
    assert len(loaded) == 2 * n


def test_one_runtime_is_in_memory_at_a_time(fakes, tiny_bundle, monkeypatch):
    table, loaded = fakes
    table["openvino", "float32"] = (0.01, 0.0)
    table["openvino", "bfloat16"] = (0.0003, 0.01)
    load, alive = runtimes.load_predictor, weakref.WeakSet()

    def load_alone(*arguments, **named):
        assert not alive
        alive.add(predictor := load(*arguments, **named))
        return predictor

    monkeypatch.setattr(runtimes, "load_predictor", load_alone)
    choice = choose_runtime(tiny_bundle)
    assert (choice.runtime, choice.precision) == ("openvino", "bfloat16")
    assert set(loaded) == set(table)
    assert not alive


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({"runtime": "torch"}, Choice("torch", "float32", 1.0)),
        ({"runtime": "torch", "precision": "float32"}, Choice("torch", "float32", 1.0)),
        ({"device": "cuda:1"}, Choice("torch", "float16", None)),
        ({"device": "cuda", "precision": "float16"}, Choice("torch", "float16", None)),
    ],
)
def test_nothing_is_run_where_there_is_nothing_to_choose(monkeypatch, tiny_bundle, asked, wanted):
    monkeypatch.setattr(runtimes, "load_predictor", None)
    assert choose_runtime(tiny_bundle, **asked) == wanted


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"runtime": "openvino", "device": "cuda"}, "computes on the CPU, not on cuda"),
        ({"runtime": "torch", "precision": "int8"}, "int8 with runtime torch on cpu: not possible"),
        ({"device": "cuda", "precision": "int8"}, "int8 with runtime auto on cuda: not possible"),
    ],
)
def test_what_cannot_be(tiny_bundle, asked, message):
    with pytest.raises(InputError, match=message):
        choose_runtime(tiny_bundle, **asked)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"runtime": "tensorrt"}, "runtime = 'tensorrt': .* 'auto', 'torch' or 'openvino'"),
        (
            {"precision": "float8"},
            "precision = 'float8': .* 'float32', 'bfloat16', 'float16' or 'int8'",
        ),
    ],
)
def test_words_that_are_none(asked, message):
    with pytest.raises(InputError, match=message):
        checked(MapSettings, asked)


def test_a_processor_without_bfloat16(monkeypatch, tiny_bundle):
    monkeypatch.setattr(runtimes, "computes_bfloat16", lambda: False)
    with pytest.raises(InputError, match="bfloat16 with runtime torch on cpu: not possible"):
        choose_runtime(tiny_bundle, runtime="torch", precision="bfloat16")


def without_openvino(call):
    code = (
        "import sys; sys.modules['openvino'] = None\n"
        "from geoforest.models import runtimes\n"
        "from geoforest.models.registry import open_model\n"
        "runtimes.computes_bfloat16 = lambda: False\n"
        f"print({call})"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_without_openvino_auto_is_torch_and_costs_nothing():
    run = without_openvino("runtimes.choose_runtime(open_model())")
    assert run.stdout.startswith("Choice(runtime='torch', precision='float32', agreement=1.0")


@pytest.mark.parametrize("asked", ["runtime='openvino'", "precision='int8'"])
def test_without_openvino_asked_for(asked):
    run = without_openvino(f"runtimes.choose_runtime(open_model(), {asked})")
    assert 'pip install "geoforest[openvino]"' in run.stderr


@pytest.mark.slow
def test_real_runtimes(tiny_bundle):
    pytest.importorskip("openvino")
    choice = choose_runtime(tiny_bundle, runtime="openvino", precision="float32", threads=1)
    assert choice.agreement is not None
    assert choice.agreement > 0.999
    auto = choose_runtime(tiny_bundle, threads=1)
    assert auto.agreement is not None
    assert auto.agreement >= 0.999
    assert auto.precision != "int8"


@pytest.mark.slow
def test_a_job_records_its_runtime(tiny_bundle, scene_path):
    plain_settings = MapSettings(halo=8, device="cpu", runtime="torch")

    def job(**chosen):
        settings = MapSettings(halo=8, device="cpu", **chosen)
        runtime = resolve_runtime(settings, tiny_bundle, 1)
        return draft_job(scene_path, settings, tiny_bundle).job(runtime)

    plain = job(runtime="torch")
    assert plain.runtime.agreement == 1.0
    assert plain.identity["runtime"][1:] == ["torch", "cpu", "float32"]
    recorded = json.loads(json.dumps(plain.record(plain_settings)))
    assert Runtime.from_record(recorded) == plain.runtime
    pytest.importorskip("openvino")
    other = job(runtime="openvino", precision="float32")
    assert other.identity["runtime"][1:] == ["openvino", "cpu", "float32"]
    assert other.fingerprint != plain.fingerprint
    assert type(other.load_predictor(other)).__name__ == "OpenVinoPredictor"


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"runtime": None},
        {"runtime": {"device": "cpu", "precision": "float32", "threads": 2, "batch_size": 1}},
        {"runtime": {"name": "torch", "surprise": 1}},
    ],
)
def test_a_record_of_another_version_is_not_taken_up(document):
    assert Runtime.from_record(document) is None


def test_an_earlier_map_keeps_its_runtime(tiny_bundle, scene_path):
    """As recorded, whatever this machine would choose now, unless another one is asked for."""
    settings = MapSettings(halo=8)
    runtime = Runtime("torch", "cuda", "float16", 3, 8)
    job = draft_job(scene_path, settings, tiny_bundle).job(runtime)
    recorded = [json.loads(json.dumps(job.record(settings)))]

    def taken(**chosen):
        return draft_job(scene_path, MapSettings(**{"halo": 8, **chosen}), tiny_bundle).of_earlier(
            recorded, base_mb=0.0
        )

    assert taken() == job
    assert taken(threshold=0.3) == job
    assert taken(runtime="torch", device="cuda", precision="float16", batch_size=8) == job
    assert taken(device="cuda:1").runtime.device == "cuda:1"
    assert taken(runtime="openvino") is None
    assert taken(precision="float32") is None
    assert taken(batch_size=1) is None
    assert taken(device="cpu") is None
    assert taken(halo=4) is None
    other_shards = taken(shard=48)
    assert other_shards.runtime == runtime
    assert other_shards.grid.shard_cores == 1 != job.grid.shard_cores


def test_torch_alone_asks_for_its_reference(tiny_bundle):
    settings = MapSettings(runtime="torch")
    assert Runtime("torch", "cpu", "float32", 1, 1).answers(settings)
    assert not Runtime("torch", "cpu", "bfloat16", 1, 1).answers(settings)


@pytest.mark.slow
def test_another_threshold_on_a_map_of_another_choice(tiny_bundle, scene_path, tmp_path):
    """The first run names its runtime, as the demonstration does; the second leaves it open."""
    pytest.importorskip("openvino")
    chosen = {"model": str(tiny_bundle.path), "halo": 8, "device": "cpu"}
    for first, second in (("torch", "openvino"), ("openvino", "torch")):
        out = tmp_path / first
        geoforest.map_scene(scene_path, out, runtime=first, precision="float32", **chosen)
        with pytest.raises(OutputError, match="other runtime"):
            geoforest.map_scene(scene_path, out, runtime=second, **chosen)
        again = geoforest.map_scene(scene_path, out, threshold=0.1, **chosen)
        assert again.summary["threshold"] == 0.1
        record = json.loads((again.folder / "job.json").read_text())
        assert record["runtime"]["name"] == first
