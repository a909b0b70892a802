"""The command line, run in this process."""

from __future__ import annotations

import pytest

from geoforest.cli import main
from tests.helpers.commands import Done


@pytest.fixture
def geoforest(capsys):
    """Run the command in this process, where torch is loaded already."""

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Done(ended.value.code or 0, captured.out, captured.err)

    return run
