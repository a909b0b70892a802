"""Progress of a command when stderr is not a terminal: nothing is shown."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Same as :data:`geoforest.types.Progress`, whose module imports NumPy."""


class Bars:
    """Progress bars of scenes or tasks; this base class shows nothing."""

    def begin(self, title: str) -> Progress:  # noqa: ARG002 (shows nothing)
        """Return the progress callback for the scene (or task) called ``title``."""
        return _ignore

    def scene_ended(self) -> None:
        """Count one more finished scene."""


def _ignore(stage: str, done: int, total: int) -> None:
    pass
