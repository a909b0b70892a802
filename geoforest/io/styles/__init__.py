"""QGIS styles of layers: QML files, by name."""

from __future__ import annotations

from importlib.resources import files


def read_style(name: str) -> str:
    """Return the QML of a style, such as ``forest_cover.qml``."""
    return (files("geoforest.io.styles") / name).read_text(encoding="utf-8")
