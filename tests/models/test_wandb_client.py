"""What stands in the way of the client of Weights & Biases is one sentence."""

from __future__ import annotations

import pytest

from geoforest.errors import InputError
from geoforest.models.wandb_client import _refuse_strange_variables, silence_wandb
from tests.helpers.commands import in_a_process, refused
from tests.helpers.wandb_server import KEY

# Python finds only what lies in the current folder, as without the extra.
WITHOUT_THE_EXTRA = """
import importlib.machinery, sys
class Here:
    def find_spec(self, name, path=None, target=None):
        if name == "wandb":
            return importlib.machinery.PathFinder.find_spec(name, ["."])
sys.meta_path.insert(0, Here())
from geoforest.cli import main
main()
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WANDB_SERVICE", raising=False)


def test_a_folder_of_earlier_runs_is_not_the_package(tmp_path):
    (tmp_path / "wandb" / "run-1").mkdir(parents=True)
    done = in_a_process("model", "list", "wandb:ours/forest", code=WITHOUT_THE_EXTRA)
    refused(done, "pip install 'geoforest[wandb]' (the folder ", 2)


def test_a_file_of_that_name_is_not_run(tmp_path):
    pytest.importorskip("wandb")
    (tmp_path / "wandb.py").write_text("print('run')")
    done = in_a_process("model", "list", "wandb:ours/forest")
    refused(done, "wandb.py: Python takes this file for the package wandb; rename it", 2)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("WANDB_MODE", "ofline", "WANDB_MODE = 'ofline': Input should be 'online', 'offline'"),
        ("WANDB_INIT_TIMEOUT", "soon", "WANDB_INIT_TIMEOUT = 'soon': Input should be a valid num"),
        ("WANDB_BASE_URL", "localhost:80", "WANDB_BASE_URL = 'localhost:80': URL scheme should"),
        ("WANDB_API_KEY", "abc", "WANDB_API_KEY invalid: API key must have 40+ characters"),
    ],
)
def test_settings_that_are_mistyped(monkeypatch, name, value, sentence):
    pytest.importorskip("wandb")
    monkeypatch.setenv(name, value)
    refused(in_a_process("model", "list", "wandb:ours/forest"), sentence, 2)


def test_notes_may_have_several_lines(monkeypatch):
    monkeypatch.setenv("WANDB_NOTES", "one\ntwo\n")
    _refuse_strange_variables()


@pytest.mark.parametrize("value", [KEY + "\n", "\t" + KEY, KEY[:20] + "\n" + KEY[20:]])
@pytest.mark.parametrize("name", ["WANDB_API_KEY", "WANDB_ENTITY"])
def test_line_breaks_and_blanks(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"{name}: holds a line break") as caught:
        silence_wandb()
    assert KEY[:20] not in str(caught.value)
