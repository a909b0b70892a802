"""Asset checks: what ``geoforest verify`` and a map's own verdicts say, one check each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from geoforest.maps.verify.checks import Problem
from geoforest.maps.verify.maps import verify_grid
from geoforest.maps.verify.run import verify
from geoforest.scenes.scene import Scene

SOUND = "sound"
"""Metadata of a map and of its polygons: whether all that blocks has passed."""

_WARN, _ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR
_OF_MAP = {
    "files_untouched": "Every file is there, with the checksum of job.json.",
    "grid_equals_scene": "Mask and probability lie on exactly the scene's grid.",
    "three_states": "Pixels are forest, other or not observed, and mask and probability agree.",
    "valid_cog": "Both rasters are cloud-optimised GeoTIFFs.",
}
_VERDICTS = {
    "seam_ratio": ("seams", "Windows leave no lattice in the probability."),
    "distribution": ("distribution", "Values are near those the model was trained on."),
}
_OF_POLYGONS = {
    "pixels_add_up": "Polygon pixels = mask pixels - dropped + filled, in the GeoPackage, too.",
}


def map_specs(asset: str) -> list[dg.AssetCheckSpec]:
    """Checks of a forest map; what is downstream waits for those that the tool insists on."""
    return [
        *(_spec(asset, name, text, blocking=True) for name, text in _OF_MAP.items()),
        *(_spec(asset, name, text, blocking=False) for name, (_, text) in _VERDICTS.items()),
    ]


def polygon_specs(asset: str) -> list[dg.AssetCheckSpec]:
    """Checks of the polygons of a map."""
    return [_spec(asset, name, text, blocking=True) for name, text in _OF_POLYGONS.items()]


def _spec(asset: str, name: str, text: str, *, blocking: bool) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(name, asset=asset, description=text, blocking=blocking)


def check_map(folder: Path, scene: Scene, summary: Mapping[str, Any]) -> list[dg.AssetCheckResult]:
    """Check a finished map on disk."""
    problems = verify(folder)
    verdicts = {one["check"]: one for one in summary["quality"]["verdicts"]}
    return [
        _result("files_untouched", folder, _of(problems, "files")),
        _result("grid_equals_scene", folder, [*_of(problems, "grid"), *verify_grid(folder, scene)]),
        # Of a file that is not the one that was written, verify looks at nothing else.
        _result("three_states", folder, _of(problems, "files", "codes")),
        _result("valid_cog", folder, _of(problems, "files", "layout")),
        *(_told(name, folder, verdicts[check]) for name, (check, _) in _VERDICTS.items()),
    ]


def is_sound(checks: Iterable[dg.AssetCheckResult]) -> bool:
    """Whether nothing has failed that blocks what is downstream."""
    return all(one.passed for one in checks if one.severity == _ERROR)


def check_polygons(folder: Path, summary: Mapping[str, Any]) -> list[dg.AssetCheckResult]:
    """Check the polygons of a finished map on disk."""
    problems = _of(verify(folder), "files", "polygons")
    return [_result("pixels_add_up", folder, problems, summary["polygons"])]


def _of(problems: Iterable[Problem], *checks: str) -> list[Problem]:
    return [problem for problem in problems if problem.check in checks]


def _result(
    name: str, folder: Path, problems: list[Problem], numbers: Mapping[str, Any] | None = None
) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=name,
        passed=not problems,
        severity=_ERROR,
        description="; ".join(map(str, problems)) or None,
        metadata={"scene": folder.name, **(numbers or {})},
    )


def _told(name: str, folder: Path, verdict: Mapping[str, Any]) -> dg.AssetCheckResult:
    """Give a verdict of the map's own; where it judges nothing there is nothing to fail."""
    return dg.AssetCheckResult(
        check_name=name,
        passed=verdict["passed"] is not False,
        severity=_WARN,
        description=verdict["sentence"],
        metadata={"scene": folder.name},
    )
