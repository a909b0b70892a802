"""What the tests may import of each other."""

from __future__ import annotations

import re
from pathlib import Path

_IMPORT = re.compile(r"(?:from|import) tests\.(?:[a-z_]+\.)*test_")


def test_no_test_file_imports_another():
    files = sorted(Path(__file__).parent.rglob("*.py"))
    assert len(files) > 100
    found = [file.name for file in files if _IMPORT.search(file.read_text(encoding="utf-8"))]
    assert found == [], "what several files use belongs into tests/helpers"
