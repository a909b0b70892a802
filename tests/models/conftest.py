"""Bundles to move about, and a cache to find them in."""

from __future__ import annotations

from pathlib import Path

import pytest

from geoforest.models.bundle import Bundle
from tests.helpers.bundles import small_bundle


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, with nothing in it."""
    monkeypatch.setenv("GEOFOREST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def small(tmp_path: Path) -> Bundle:
    return small_bundle(tmp_path / "small")


@pytest.fixture
def other(tmp_path: Path) -> Bundle:
    """The weights of ``small`` with another threshold: another model."""
    return small_bundle(tmp_path / "other", threshold=0.25)
