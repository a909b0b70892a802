"""Commands and programs on the pages of the documentation do what the pages say.

A block of ``sh`` or ``python`` is run, page by page, in an empty folder with what the page takes
for granted; or it says above it why it is not. See :mod:`tests.helpers.pages`.
"""

from __future__ import annotations

import doctest
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import geopandas
import pytest
import rasterio
import shapely

from geoforest.cli import main
from geoforest.models import runtimes
from geoforest.pipeline.run import map_scene
from geoforest.scenes.synthetic import make_scene, write_scene
from tests.helpers.pages import ROOT, SHOWN, Block, blocks, pages
from tests.helpers.samples import label
from tests.helpers.synthetic import write_chips

# One window of the starter model without its halo: what its network costs is most of the time.
SIDE = 448


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="session")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dates of a small scene, mapped: what most pages begin with."""
    folder = tmp_path_factory.mktemp("mapped")
    for seed, name, years in ((7, "T20LMR", 0), (7, "T20LMR_2020", 0), (8, "T20LMR_2024", 4)):
        scene = make_scene(seed, (SIDE, SIDE))
        scene = replace(scene, acquired=scene.acquired.replace(year=scene.acquired.year + years))
        write_scene(scene, folder / f"{name}.tif")
        map_scene(folder / f"{name}.tif", folder / "maps", runtime="torch")
    return folder


def _scene(folder: Path, mapped: Path) -> None:
    shutil.copy2(mapped / "T20LMR.tif", folder)


def _units(folder: Path) -> None:
    with rasterio.open(folder / "T20LMR.tif") as source:
        left, bottom, right, top = source.bounds
        crs = source.crs
    middle = (left + right) / 2
    boxes = [shapely.box(left, bottom, middle, top), shapely.box(middle, bottom, right, top)]
    units = geopandas.GeoDataFrame({"name": ["West", "East"]}, geometry=boxes, crs=crs)
    units.to_file(folder / "municipalities.gpkg")
    units.to_file(folder / "amazon.gpkg")


def _maps(folder: Path, mapped: Path) -> None:
    _scene(folder, mapped)
    shutil.copytree(mapped / "maps", folder / "maps")
    _units(folder)


def _scene_and_units(folder: Path, mapped: Path) -> None:
    _scene(folder, mapped)
    _units(folder)


def _one_map(folder: Path, mapped: Path) -> None:
    _maps(folder, mapped)
    for year in ("2020", "2024"):
        shutil.rmtree(folder / f"maps/T20LMR_{year}")


def _chips(folder: Path, mapped: Path) -> None:
    write_chips(folder / "chips", {"train": 8, "validation": 4, "test": 2})


def _labelled_set(folder: Path, mapped: Path) -> None:
    write_chips(folder / "DATA", {"train": 4, "validation": 2, "test": 2})


GRANTED: dict[str, Callable[[Path, Path], None]] = {
    "README.md": _scene_and_units,
    "data/README.md": _labelled_set,
    "docs/api.md": _scene_and_units,
    "docs/areas.md": _maps,
    "docs/basin.md": _one_map,
    "docs/change.md": _maps,
    "docs/formats.md": _maps,
    "docs/index.md": _scene,
    "docs/languages.md": _scene,
    "docs/map.md": _scene_and_units,
    "docs/polygons.md": _maps,
    "docs/qgis.md": _maps,
    "docs/start.md": _scene,
    "docs/train.md": _chips,
}
"""What a page takes for granted in the folder of its reader, by page."""


def _label_the_sample(folder: Path) -> None:
    with rasterio.open(folder / "maps/T20LMR/forest_mask.tif") as mask:
        label(folder / "sample.gpkg", mask.read(1))


MEANWHILE: dict[str, Callable[[Path], None]] = {"somebody labels the sample": _label_the_sample}


@pytest.mark.parametrize("page", pages(), ids=named)
def test_every_block_is_run_or_says_why_not(page):
    for block in blocks(page):
        assert block.language, f"{block.where}: indented, or without a language: fence it"
        if block.not_run is not None:
            continue
        assert block.language in {"sh", "python"} | SHOWN, f"{block.where}: {block.language}"
        if block.language in SHOWN:
            first = [line.split(" ")[0] for line in block.text.splitlines()]
            assert not {"geoforest", "pip", "make", "python"} & set(first), (
                f"{block.where}: a command"
            )


@pytest.fixture
def no_trials(monkeypatch) -> None:
    """Let ``auto`` be the reference, without trying the other runtimes on the starter model.

    That takes a minute and a half of one core; tests/models holds how a runtime is chosen.
    """
    possible = runtimes._possible_pairs

    def alone(runtime: str, device: str) -> list[tuple[str, str]]:
        return possible("torch", device)[:1] if runtime == "auto" else possible(runtime, device)

    monkeypatch.setattr(runtimes, "_possible_pairs", alone)


def runnable(page: Path) -> list[Block]:
    return [b for b in blocks(page) if b.language not in SHOWN and b.not_run is None]


# The warning is of rioxarray, which `MapResult.open` calls.
@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
@pytest.mark.slow
# The tutorial maps 64 windows with the starter model, on one thread.
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", [page for page in pages() if runnable(page)], ids=named)
@pytest.mark.usefixtures("no_trials")
def test_blocks_of_a_page_run_one_after_another(page, mapped, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if named(page) in GRANTED:
        GRANTED[named(page)](tmp_path, mapped)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in runnable(page):
        if block.meanwhile is not None:
            MEANWHILE[block.meanwhile](tmp_path)
        capsys.readouterr()
        if block.language == "python":
            exec(compile(block.text, block.where, "exec"), names)
        else:
            for command in commands(block):
                run_command(command, block)
        if block.output is not None:
            found = capsys.readouterr().out
            assert doctest.OutputChecker().check_output(
                block.output, found, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            ), f"{block.where}: printed\n{found}"


def commands(block: Block) -> list[list[str]]:
    lines = block.text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def run_command(words: list[str], block: Block) -> None:
    if words[0] == "geoforest":
        # In this process, where torch is loaded already.
        with pytest.raises(SystemExit) as ended:
            main(words[1:])
        assert not ended.value.code, (
            f"{block.where}: {shlex.join(words)}: ends with {ended.value.code}"
        )
    else:
        assert words[0] == "python", f"{block.where}: only geoforest and python are run here"
        done = subprocess.run(
            [sys.executable, *words[1:]], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{block.where}: {done.stderr}"
        print(done.stdout, end="")
