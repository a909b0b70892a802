"""The command line: help, success, and each user mistake as one sentence with its exit code."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch

from geoforest._version import __version__
from tests.helpers import synthetic
from tests.helpers.commands import in_a_process, refused

COMMANDS = [
    "demo",
    "map",
    "mosaic",
    "change",
    "area",
    "vectorize",
    "verify",
    "status",
    "bench",
    "train",
    "sweep",
    "evaluate",
    "data check",
    "data fetch amazon",
    "model list",
    "model show",
    "model import",
    "model pull",
    "model push",
]


@pytest.fixture
def mapped(scene_path, tiny_bundle, tmp_path):
    arguments = ["map", scene_path, "--out", tmp_path / "out", "--model", tiny_bundle.path]
    return [*arguments, "--halo", 8, "--shard", 96, "--runtime", "torch"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(geoforest, command):
    done = geoforest(*command.split(), "--help")
    assert done.returncode == 0
    assert "Example:" in done.stdout
    assert f"geoforest {command}" in done.stdout


def test_start_up_imports_nothing_heavy():
    heavy = "torch rasterio numpy geopandas dask pydantic rich.progress matplotlib"
    code = (
        "import sys, geoforest.cli; "
        f"print([name for name in '{heavy}'.split() if name in sys.modules])"
    )
    assert in_a_process(code=code).stdout.strip() == "[]"


def test_version_and_completion(geoforest):
    assert geoforest("--version").stdout.strip() == f"geoforest {__version__}"
    script = Path(sys.executable).with_name("geoforest")
    done = subprocess.run(
        [script],
        env={**os.environ, "_GEOFOREST_COMPLETE": "complete_bash", "COMP_WORDS": "geoforest v",
             "COMP_CWORD": "1"},
        capture_output=True,
        text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["vectorize", "verify"]


@pytest.mark.slow
def test_map_and_its_json(geoforest, mapped, tmp_path):
    done = geoforest(*mapped, "--runtime", "auto", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    written = json.loads((tmp_path / "out" / "scene" / "summary.json").read_text())
    assert {key: told[key] for key in written} == written
    assert told["folder"] == str(tmp_path / "out" / "scene")
    assert "\r" not in done.stderr  # no progress bar without a terminal


@pytest.mark.slow
def test_bars_on_a_terminal_leave_stdout_to_the_results(mapped, tmp_path):
    """Two scenes, results into a pipe: bars go to the terminal, lines of JSON to the pipe."""
    other = tmp_path / "other.tif"
    shutil.copyfile(mapped[1], other)
    terminal, stderr = os.openpty()
    fcntl.ioctl(stderr, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    arguments = [mapped[0], mapped[1], other, *mapped[2:], "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "geoforest", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    ) as process:
        os.close(stderr)
        shown = b""
        # Linux tells the end of a terminal by an error.
        with contextlib.suppress(OSError):
            while part := os.read(terminal, 4096):
                shown += part
        assert process.stdout is not None
        lines = process.stdout.read().splitlines()
    os.close(terminal)
    assert process.returncode == 0
    assert {json.loads(line)["scene_id"] for line in lines} == {"scene", "other"}
    assert "scene: predict" in shown.decode()
    assert "2/2" in shown.decode()


def test_map_for_people(geoforest, mapped):
    done = geoforest(*mapped)
    assert done.returncode == 0, done.stderr
    assert "ha forest cover (model)" in done.stdout
    assert "16 of 16 windows predicted in" in done.stdout
    assert "seconds:" not in done.stdout
    folder = mapped[mapped.index("--out") + 1] / "scene"
    assert done.stdout.splitlines()[-3:] == [
        f"  {folder}",
        f"  open {folder / 'report.html'} in a browser",
        f"  open {folder / 'forest.qgz'} in QGIS",
    ]
    again = geoforest(*mapped, "--verbose", "--overwrite")
    assert "  seconds: start " in again.stdout
    assert "peak memory" in again.stdout


def test_help_of_map_is_in_panels(geoforest):
    text = geoforest("map", "--help").stdout
    panels = ["Options", "Input", "Search", "Clouds", "Output", "Speed", "Checks"]
    places = [text.index(f"─ {panel} ─") for panel in panels]
    assert places == sorted(places)
    assert places[2] < text.index("--max-cloud") < places[3]
    assert places[5] < text.index("--batch-size") < places[6]


def test_dry_run_writes_nothing(geoforest, mapped, tmp_path):
    done = geoforest(*mapped, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert (plan["windows"], plan["shards"], plan["window"]) == (16, 4, 64)
    assert plan["seconds"] > 0
    assert plan["disk_mb"] > 0
    assert not (tmp_path / "out").exists()


def test_dry_run_goes_on_after_a_bad_scene(geoforest, mapped, tmp_path):
    """As the real run does, with its exit code."""
    bad, other = tmp_path / "bad.tif", tmp_path / "more" / "other.tif"
    bad.write_text("no raster")
    other.parent.mkdir()
    shutil.copy(mapped[1], other)
    gone = tmp_path / "gone.tif"
    done = geoforest("map", bad, other, gone, *mapped[1:], "--dry-run", "--json")
    assert done.returncode == 2
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line.get("scene_id") for line in lines] == [None, "other", None, mapped[1].stem]
    assert [line.get("scene") for line in lines] == [str(bad), None, str(gone), None]
    assert "bad.tif: not a raster" in done.stderr
    assert "gone.tif: no such file" in done.stderr
    assert "2 of 4 scenes failed" in done.stderr
    alone = geoforest("map", gone, *mapped[2:], "--dry-run")
    assert alone.returncode == 2
    assert alone.stderr.startswith(f"geoforest: {gone}: no such file")
    assert not (tmp_path / "out").exists()


def test_several_scenes_a_bad_one_does_not_stop_the_others(geoforest, mapped, tmp_path):
    bad = tmp_path / "bad.tif"
    bad.write_text("no raster")
    arguments = [mapped[0], bad, *mapped[1:]]
    done = geoforest(*arguments)
    assert done.returncode == 2
    assert "bad.tif: not a raster" in done.stderr
    assert (tmp_path / "out" / "scene" / "job.json").exists()
    assert not (tmp_path / "out" / "bad").exists()


@pytest.mark.slow
def test_vectorize_needs_no_torch(geoforest, mapped, tmp_path):
    assert geoforest(*mapped, "--threshold", 0.45).returncode == 0
    folder = tmp_path / "out" / "scene"
    code = (
        "import sys\n"
        "class NoTorch:\n"
        "    def find_spec(self, name, *args):\n"
        "        if name.split('.')[0] == 'torch': raise ImportError('torch')\n"
        "sys.meta_path.insert(0, NoTorch())\n"
        "from geoforest.cli import main\n"
        "main()\n"
    )
    for raster in ("forest_probability.tif", "forest_mask.tif"):
        out = tmp_path / f"{raster}.gpkg"
        options = ["--threshold", "0.45"] if "probability" in raster else []
        done = in_a_process("vectorize", folder / raster, "--out", out, *options, code=code)
        assert done.returncode == 0, done.stderr
    ours = (folder / "forest.gpkg").read_bytes()
    assert (tmp_path / "forest_probability.tif.gpkg").read_bytes() == ours
    frame = geopandas.read_file(tmp_path / "forest_mask.tif.gpkg", layer="forest_cover")
    assert frame["mean_probability"].isna().all()
    assert (frame["threshold"] == 0.45).all()


def test_model_show_and_import(geoforest, tiny_bundle, tmp_path):
    shown = geoforest("model", "show", tiny_bundle.path, "--json")
    assert json.loads(shown.stdout)["model"] == tiny_bundle.model_id
    assert "encoder: mobilenet_v2" in geoforest("model", "show", tiny_bundle.path).stdout
    weights = tmp_path / "mobilenet_v2_batch4_lr1.0e-04_weights.pt"
    torch.save(tiny_bundle.state_dict(), weights)
    numbers = ["--mean", "1,2,3,4", "--std", "1,2,3,4"]
    done = geoforest("model", "import", weights, "--out", tmp_path / "new", *numbers)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "new" / "model.safetensors").exists()
    assert done.stderr == (
        f"{weights}: takes 4 bands (B04, B03, B02, B08) and gives one class, forest\n"
    )


class TestMistakes:
    """Exit code 2, one sentence on stderr, and nothing left behind."""

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            (["--threshold", 1.5], "threshold = 1.5: Input should be less than or equal to 1"),
            (["--halo", 40], "--halo 40 leaves no core in a window of 64"),
            (["--window", 100], "window = 100: Input should be a multiple of 32"),
            (["--bands", "1,2"], "--bands gives 2 band numbers, the model needs 4"),
            (["--bands", "1,x"], "--bands '1,x': numbers with commas between were wanted"),
            (["--products", "mask,soup"], "soup"),
            (["--scale", "1,2"], "--scale gives 2 numbers"),
            (["--device", "abacus"], "device = 'abacus': not a device"),
            (["--aoi", "none.gpkg"], "none.gpkg: no such file (--aoi)"),
            (["--cloud-mask", "fog"], "cloud_mask = 'fog': Input should be 'auto', 'scl', 'none'"),
            (["--cloud-mask", "scl"], "scene: has no scene classification (SCL), which"),
            (["--cloud-mask", "none", "--mask-snow"], "cloud mask none finds no snow"),
            (["--cloud-buffer", -1], "cloud_buffer = -1"),
            (["--model", "nowhere"], "nowhere: no such model bundle"),
            (["--min-area-ha", -1], "min_area_ha = -1"),
        ],
    )
    def test_options(self, geoforest, mapped, tmp_path, options, sentence):
        refused(geoforest(*mapped, *options), sentence)
        assert not (tmp_path / "out").exists()

    def test_missing_scene(self, geoforest, tmp_path, tiny_bundle):
        options = ["--out", tmp_path / "out", "--model", tiny_bundle.path]
        done = geoforest("map", tmp_path / "none.tif", *options)
        refused(done, "none.tif: no such file or folder")
        assert not (tmp_path / "out").exists()

    def test_damaged_bundle_leaves_nothing(self, geoforest, mapped, tmp_path, tiny_bundle):
        import shutil

        copy = Path(shutil.copytree(tiny_bundle.path, tmp_path / "copy"))
        card = json.loads((copy / "model.json").read_text())
        (copy / "model.json").write_text(json.dumps({**card, "encoder": "resnet18"}))
        done = geoforest(*mapped, "--model", copy)
        refused(done, "weights do not fit")
        assert not (tmp_path / "out").exists()

    @pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
    def test_folder_that_cannot_be_written(self, geoforest, mapped):
        arguments = [*mapped]
        arguments[arguments.index("--out") + 1] = "/proc/geoforest"
        refused(geoforest(*arguments), "/proc/geoforest/scene: cannot be written to")

    def test_outputs_of_another_job(self, geoforest, mapped):
        assert geoforest(*mapped).returncode == 0
        refused(geoforest(*mapped, "--halo", 4), "holds outputs of another job (other halo)")

    def test_scene_twice(self, geoforest, mapped, scene_path):
        refused(geoforest(mapped[0], scene_path, *mapped[1:]), "'scene' is there twice")

    def test_aoi_beside_the_scene(self, geoforest, mapped, tmp_path):
        aoi = tmp_path / "aoi.geojson"
        geopandas.GeoSeries([shapely.box(10, 50, 11, 51)], crs=4326).to_file(aoi)
        refused(geoforest(*mapped, "--aoi", aoi), "does not touch scene scene")

    def test_aoi_without_polygons(self, geoforest, mapped, tmp_path):
        aoi = tmp_path / "aoi.geojson"
        geopandas.GeoSeries.from_xy([10], [50], crs=4326).to_file(aoi)
        refused(geoforest(*mapped, "--aoi", aoi), "holds no polygon")

    @pytest.mark.parametrize(
        ("values", "options", "sentence"),
        [
            (np.array([[0, 1, 7]], np.uint8), [], "value 7; a mask of 0, 1 and 255"),
            (np.array([[0, 1]], np.uint8), ["--threshold", 0.5], "is a mask"),
            (np.array([[0, 1]], np.float32), [], "one of uint8 was wanted"),
        ],
    )
    def test_rasters_that_are_no_mask(self, geoforest, tmp_path, values, options, sentence):
        path = synthetic.write_raster(tmp_path / "a.tif", values[None], descriptions=None)
        out = tmp_path / "a.gpkg"
        refused(geoforest("vectorize", path, "--out", out, *options), sentence)
        assert not out.exists()

    def test_unknown_threshold(self, geoforest, tmp_path):
        values = np.array([[[0, 250, 255]]], np.uint8)
        path = synthetic.write_raster(tmp_path / "a.tif", values, descriptions=None)
        with rasterio.open(path, "r+") as target:
            target.scales = (0.004,)
        out = tmp_path / "a.gpkg"
        refused(geoforest("vectorize", path, "--out", out), "no threshold is recorded")

    def test_polygons_into_a_file_instead_of_a_folder(self, geoforest, tmp_path):
        values = np.array([[0, 1]], np.uint8)
        path = synthetic.write_raster(tmp_path / "a.tif", values[None], descriptions=None)
        done = geoforest("vectorize", path, "--out", path / "a.gpkg")
        refused(done, "a.gpkg: cannot be written")


# Files may not grow beyond a limit, as on a full disk: the kernel answers the same way.
LIMITED = """
import resource, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from geoforest.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("limit", [5_000, 20_000, 90_000])
def test_a_full_disk_is_one_sentence_and_loses_nothing(geoforest, tmp_path, tiny_bundle, limit):
    dn = np.pad(synthetic.digital_numbers((200, 200)), ((0, 0), (0, 600), (0, 600)))
    scene = synthetic.write_raster(tmp_path / "scene.tif", dn, nodata=0)
    options = ["--model", tiny_bundle.path, "--shard", 192, "--halo", 8, "--min-area-ha", 0]
    # Where nothing at all can be written, neither can the choice of a runtime.
    options += ["--threshold", 0.4, "--runtime", "auto" if limit == 5_000 else "torch"]
    failed = in_a_process(limit, "map", scene, "--out", tmp_path / "out", *options, code=LIMITED)
    assert failed.returncode == 1, failed.stderr
    # Before it, libtiff may have a line of its own.
    assert failed.stderr.splitlines()[-1].startswith("geoforest: ")
    assert "Traceback" not in failed.stderr
    folder = tmp_path / "out" / "scene"
    assert {path.name for path in folder.iterdir()} == {".geoforest-work"}
    assert geoforest("map", scene, "--out", tmp_path / "out", *options).returncode == 0
    assert geoforest("map", scene, "--out", tmp_path / "whole", *options).returncode == 0
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["reused_shards"] > 0
    for name in ("forest_mask.tif", "forest_probability.tif", "forest.gpkg"):
        whole = tmp_path / "whole" / "scene" / name
        assert (folder / name).read_bytes() == whole.read_bytes()


@pytest.mark.slow
def test_ctrl_c_is_one_sentence_and_keeps_what_is_done(geoforest, tmp_path, tiny_bundle):
    scene = synthetic.write_raster(
        tmp_path / "scene.tif", synthetic.digital_numbers((1200, 1200)), nodata=0
    )
    command = ["map", scene, "--out", tmp_path / "out", "--model", tiny_bundle.path]
    command += ["--shard", 200, "--halo", 8, "--runtime", "torch"]
    process = subprocess.Popen(
        [sys.executable, "-m", "geoforest", *map(str, command)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    shards = tmp_path / "out" / "scene" / ".geoforest-work" / "shards"
    deadline = time.monotonic() + 120
    while not list(shards.glob("r*.tif")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert told.splitlines()[-1].startswith("geoforest: interrupted; what was finished is kept")
    assert "Traceback" not in told
    finished = len(list(shards.glob("r*.tif")))
    assert 0 < finished < 49
    done = geoforest(*command, "--json")
    assert json.loads(done.stdout)["reused_shards"] == finished


def test_verify(geoforest, mapped, tmp_path):
    assert geoforest(*mapped).returncode == 0
    done = geoforest("verify", tmp_path / "out")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/out: complete and untouched\n")
    (tmp_path / "out" / "scene" / "forest.gpkg").write_bytes(b"")
    done = geoforest("verify", tmp_path / "out", "--json")
    assert done.returncode == 1
    assert "changed" in json.loads(done.stdout)[0]["what"]
    assert geoforest("verify", tmp_path / "nothing").returncode == 2


class TestManyScenes:
    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        for seed in range(2):
            dn = synthetic.digital_numbers((70, 70), seed=seed)
            synthetic.write_raster(tmp_path / f"s{seed}.tif", dn, nodata=0)
        (tmp_path / "bad.tif").write_bytes(b"no raster")
        return tmp_path

    def test_patterns_and_a_scene_that_fails(self, geoforest, folder, tiny_bundle):
        done = geoforest(
            "map", folder / "*.tif", "--out", folder / "out", "--model", tiny_bundle.path,
            "--halo", 8, "--json",
        )  # fmt: skip
        assert done.returncode == 2
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert {line["scene_id"] for line in lines if "scene_id" in line} == {"s0", "s1"}
        (failed,) = [line for line in lines if "error" in line]
        assert failed["scene"].endswith("bad.tif")
        assert "1 of 3 scenes failed" in done.stderr
        told = geoforest("status", folder / "out").stdout
        assert told.count(": done, 1 of 1 shards") == 2

    def test_a_list(self, geoforest, folder, tiny_bundle):
        listed = folder / "scenes.txt"
        listed.write_text(f"{folder / 's0.tif'}\n\n  {folder / 's1.tif'}\n")
        torch = ("--runtime", "torch")
        done = geoforest("map", f"@{listed}", "--out", folder / "out", "--dry-run", *torch)
        assert done.returncode == 0, done.stderr
        assert "s0: 1 windows" in done.stdout
        assert "s1: 1 windows" in done.stdout

    @pytest.mark.parametrize(
        ("scenes", "message"),
        [
            (["nowhere/*.tif"], "nothing fits this pattern"),
            (["@absent.txt"], "absent.txt: is no list of scenes"),
            (["@empty.txt"], "empty.txt: names no scene"),
            (["a/x.tif", "b/x.tif"], "scene id 'x' is there twice"),
        ],
    )
    def test_mistakes(self, geoforest, tmp_path, scenes, message):
        (tmp_path / "empty.txt").write_text("\n")
        named = [s.replace("@", f"@{tmp_path}/") if s == "@empty.txt" else s for s in scenes]
        done = geoforest("map", *named, "--out", tmp_path / "out")
        assert done.returncode == 2
        assert message in done.stderr
        assert not (tmp_path / "out").exists()
