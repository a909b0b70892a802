"""What a command shows of its progress, where stderr is no terminal: nothing."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""As :data:`geoforest.types.Progress`, without NumPy, which costs time at start-up."""


class Bars:
    """Progress of scenes, or of whatever else a command works on, that nobody sees."""

    def begin(self, title: str) -> Progress:  # noqa: ARG002 (nobody sees it)
        """Return the progress callback for the scene (or task) called ``title``."""
        return _ignore

    def scene_ended(self) -> None:
        """Count a scene of several."""


def _ignore(stage: str, done: int, total: int) -> None:
    pass
