"""Asset checks: one per check of ``geoforest verify`` and per verdict of a map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from geoforest import Problem, Scene, verify, verify_grid

SOUND = "sound"
"""Metadata key of a map and of its polygons: whether all blocking checks passed."""

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
    """Return the checks of a forest map; those of ``verify`` block assets downstream."""
    return [
        *(_spec(asset, name, text, blocking=True) for name, text in _OF_MAP.items()),
        *(_spec(asset, name, text, blocking=False) for name, (_, text) in _VERDICTS.items()),
    ]


def polygon_specs(asset: str) -> list[dg.AssetCheckSpec]:
    """Return the checks of the polygons of a map."""
    return [_spec(asset, name, text, blocking=True) for name, text in _OF_POLYGONS.items()]


def _spec(asset: str, name: str, text: str, *, blocking: bool) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(name, asset=asset, description=text, blocking=blocking)


def check_map(folder: Path, scene: Scene, summary: Mapping[str, Any]) -> list[dg.AssetCheckResult]:
    """Check a finished map on disk."""
    problems = verify(folder)
    verdicts = {one["check"]: one for one in summary["quality"]["verdicts"]}
    return [
        _result("files_untouched", folder, _select(problems, "files")),
        _result(
            "grid_equals_scene", folder, [*_select(problems, "grid"), *verify_grid(folder, scene)]
        ),
        # In a changed file, verify checks nothing else: the later checks fail with it.
        _result("three_states", folder, _select(problems, "files", "codes")),
        _result("valid_cog", folder, _select(problems, "files", "layout")),
        *(_verdict(name, folder, verdicts[check]) for name, (check, _) in _VERDICTS.items()),
    ]


def is_sound(checks: Iterable[dg.AssetCheckResult]) -> bool:
    """Return whether all checks that block assets downstream passed."""
    return all(one.passed for one in checks if one.severity == _ERROR)


def check_polygons(folder: Path, summary: Mapping[str, Any]) -> list[dg.AssetCheckResult]:
    """Check the polygons of a finished map on disk."""
    problems = _select(verify(folder), "files", "polygons")
    return [_result("pixels_add_up", folder, problems, summary["polygons"])]


def _select(problems: Iterable[Problem], *checks: str) -> list[Problem]:
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


def _verdict(name: str, folder: Path, verdict: Mapping[str, Any]) -> dg.AssetCheckResult:
    """Return the check of a map's own verdict; a verdict of None passes."""
    return dg.AssetCheckResult(
        check_name=name,
        passed=verdict["passed"] is not False,
        severity=_WARN,
        description=verdict["sentence"],
        metadata={"scene": folder.name},
    )
