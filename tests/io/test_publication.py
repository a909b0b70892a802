"""Results appear in one step, and runs that died leave nothing for good."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from geoforest.errors import OutputError
from geoforest.io import publication
from geoforest.io.publication import (
    died_before,
    new_file,
    new_folder,
    staging,
    write_file,
)
from tests.helpers.kills import survive_each_kill

KIND = {"mark": "mark", "what": "thing of ours"}


def make(path: Path, content: str) -> None:
    with new_folder(path, **KIND) as folder:
        (folder / "mark").write_text(content)
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text(content)


def content(path: Path) -> list[str]:
    return [item.read_text() for item in path.rglob("*") if item.is_file()]


class Replacing:
    """A folder replaced by another one."""

    def __init__(self, folder: Path) -> None:
        self.home, self.path = folder, folder / "a"

    def prepare(self) -> None:
        shutil.rmtree(self.home)
        self.home.mkdir()
        make(self.path, "old")

    def act(self) -> None:
        make(self.path, "new")

    def check(self) -> None:
        assert content(self.path) in (["old", "old"], ["new", "new"])
        self.act()
        assert content(self.path) == ["new", "new"]
        assert [path.name for path in self.home.iterdir()] == ["a"]


class ReplacingByTwoRenames(Replacing):
    """The same where names cannot be exchanged: the old one is missing for an instant."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        publication._exchange = lambda one, other: False

    def check(self) -> None:
        if not self.path.exists():
            # The next run has it back before it begins, and would keep it if it failed.
            with pytest.raises(ZeroDivisionError), new_folder(self.path, **KIND):
                raise ZeroDivisionError
            assert content(self.path) == ["old", "old"]
        super().check()


class ReplacingAFile:
    """A file replaced by another one."""

    def __init__(self, folder: Path) -> None:
        self.home, self.path = folder, folder / "a.txt"

    def prepare(self) -> None:
        shutil.rmtree(self.home)
        self.home.mkdir()
        self.path.write_text("old")

    def act(self) -> None:
        write_file(self.path, b"new")

    def check(self) -> None:
        assert self.path.read_text() in ("old", "new")
        self.act()
        assert self.path.read_text() == "new"
        assert [path.name for path in self.home.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("scenario", [Replacing, ReplacingByTwoRenames, ReplacingAFile])
def test_killed_at_any_step_the_old_or_the_new_one_is_whole(tmp_path, scenario):
    (tmp_path / "home").mkdir()
    assert survive_each_kill(scenario, tmp_path / "home") > 5


def test_a_failure_leaves_the_old_one(tmp_path):
    make(tmp_path / "a", "old")
    write_file(tmp_path / "b", b"old")
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "a", **KIND):
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), new_file(tmp_path / "b"):
        raise ZeroDivisionError
    assert content(tmp_path) == ["old", "old", "old"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_another_folder_is_refused_and_nothing_is_made(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(OutputError, match="exists and is no thing of ours"):
        make(tmp_path / "mine", "new")
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


def test_leftovers_of_dead_runs_are_removed_and_living_ones_left_alone(tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from geoforest.io.publication import staging\n"
        "with staging(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').touch(); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "a"], check=False)
    assert [path.name.startswith(".a.partial-") for path in tmp_path.iterdir()] == [True]
    assert died_before(tmp_path / "a")
    with staging(tmp_path / "a") as living:
        assert list(tmp_path.iterdir()) == [living]
        assert not died_before(tmp_path / "a")
        with staging(tmp_path / "a"):
            pass
        assert (living / "lock").exists()
    assert list(tmp_path.iterdir()) == []
