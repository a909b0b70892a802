"""The real QGIS, where this machine has one."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

# For the Python of QGIS only, which doctest's collection is not.
collect_ignore = ["check_outputs.py"]

_SCRIPT = Path(__file__).with_name("check_outputs.py")
Look = Callable[..., dict]


@functools.cache
def qgis_python() -> str | None:
    """First interpreter that QGIS belongs to."""
    for python in (os.environ.get("GEOFOREST_QGIS_PYTHON"), "/usr/bin/python3"):
        if python is None or not Path(python).exists():
            continue
        tried = subprocess.run(
            [python, "-c", "import qgis.core"], env=_environment(), capture_output=True, check=False
        )
        if tried.returncode == 0:
            return python
    return None


def _environment() -> dict[str, str]:
    # Nothing of the tests' own Python: its PROJ and GDAL are others.
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "TMPDIR", "LANG"}}
    return {**kept, "QT_QPA_PLATFORM": "offscreen"}


@pytest.fixture(scope="session")
def look(tmp_path_factory: pytest.TempPathFactory) -> Look:
    """``look(kind, path, box=...)``: what QGIS sees; its picture is at ``["png"]``."""
    python = qgis_python()
    if python is None:
        reason = "no Python here can import qgis.core (install python3-qgis and qgis-providers)"
        if os.environ.get("GEOFOREST_REQUIRE_QGIS") == "1":
            pytest.fail(f"GEOFOREST_REQUIRE_QGIS is set, but {reason}")
        pytest.skip(reason)
    pictures = tmp_path_factory.mktemp("pictures")

    def check(kind: str, path: Path, box: tuple[float, float, float, float] | None = None) -> dict:
        png = pictures / f"{len(list(pictures.iterdir()))}.png"
        command = [python, str(_SCRIPT), kind, str(path), str(png)]
        if box:
            command.append(",".join(map(repr, map(float, box))))
        done = subprocess.run(
            command, env=_environment(), cwd=pictures, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return {**json.loads(done.stdout), "png": png}

    return check
