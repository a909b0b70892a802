"""Estimate areas and accuracies, with 95 % intervals, from a labelled sample of a map.

Counted pixels of a map are a biased estimate of area, because maps have errors. A stratified random
sample, labelled by people, corrects that; see :mod:`geoforest.maps.sample.error_matrix`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from geoforest._version import __version__
from geoforest.errors import InputError, OutputError
from geoforest.io.publication import write_file
from geoforest.io.storage import writable
from geoforest.io.tables import csv_text
from geoforest.maps.sample.error_matrix import Figure, estimates
from geoforest.maps.sample.file import SampleFile, Stratum, read_sample
from geoforest.maps.sample.labels import LabelCounts, count_labels
from geoforest.maps.sample.strata import CHANGE_CLASSES, MAP_NAMES, read_stratified

if TYPE_CHECKING:
    from collections.abc import Mapping

METHOD: Final = "stratified estimate after Olofsson et al. 2014, doi 10.1016/j.rse.2014.02.015"


@dataclass(frozen=True)
class ClassEstimate:
    """Estimated area and accuracies of one class.

    Attributes
    ----------
    code, name
        Code of the class in the map, and its name.
    mapped_hectares
        Area of the class in the map; 0 when it has none.
    hectares
        Estimated area.
    users_accuracy
        Share of the area mapped as the class that is the class; None when the map has none.
    producers_accuracy
        Share of the area of the class that is mapped as it; None when the sample found none.
    """

    code: int
    name: str
    mapped_hectares: float
    hectares: Figure
    users_accuracy: Figure | None
    producers_accuracy: Figure | None


@dataclass(frozen=True)
class AreaEstimate:
    """Error-adjusted areas and accuracies of a map.

    Attributes
    ----------
    scene_id, sha256, threshold
        Identity of the map, see :class:`geoforest.maps.sample.file.Origin`.
    strata
        Strata of the map, with the number of points drawn.
    classes
        One estimate per reference class.
    counts
        ``[stratum][class]``: labelled points.
    hectares
        ``[stratum][class]``: the error matrix in hectares.
    overall_accuracy
        Share of the classified ground that is mapped right; None when no stratum is a class.
    not_interpretable, unlabelled
        Number of points left out, by stratum.
    notes
        Sentences the user should read.
    """

    scene_id: str
    sha256: str
    threshold: float | None
    strata: tuple[Stratum, ...]
    classes: tuple[ClassEstimate, ...]
    counts: list[list[int]]
    hectares: list[list[float]]
    overall_accuracy: Figure | None
    not_interpretable: list[int]
    unlabelled: list[int]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain JSON data; areas in hectares, accuracies as shares of 1."""
        return {
            "geoforest": __version__,
            "method": METHOD,
            "map": {
                "scene_id": self.scene_id,
                "sha256": self.sha256,
                "threshold": self.threshold,
                "hectares": sum(each.hectares for each in self.strata),
            },
            "strata": [
                {
                    **vars(each),
                    "labelled": sum(row),
                    "not_interpretable": left_out,
                    "unlabelled": open_,
                }
                for each, row, left_out, open_ in zip(
                    self.strata, self.counts, self.not_interpretable, self.unlabelled, strict=True
                )
            ],
            "error_matrix": {
                "rows": [each.name for each in self.strata],
                "columns": [each.name for each in self.classes],
                "counts": self.counts,
                "hectares": self.hectares,
            },
            "overall_accuracy": self.overall_accuracy and vars(self.overall_accuracy),
            "classes": [
                {
                    name: vars(value) if isinstance(value, Figure) else value
                    for name, value in vars(each).items()
                }
                for each in self.classes
            ],
            "notes": list(self.notes),
        }

    def to_csv(self) -> str:
        """Return a CSV table with one row per stratum or class, and one for the whole map."""
        names = [each.name for each in self.classes]
        by_code = {each.code: each for each in self.classes}
        drawn = {each.code: (each, row) for each, row in zip(self.strata, self.counts, strict=True)}
        rows: list[dict[str, Any]] = []
        for code in sorted({*by_code, *drawn}):
            found = by_code.get(code)
            stratum, row = drawn.get(code, (None, [0] * len(names)))
            rows.append(
                {
                    "code": code,
                    "name": stratum.name if stratum else by_code[code].name,
                    "mapped_pixels": stratum.pixels if stratum else 0,
                    "mapped_ha": stratum.hectares if stratum else 0.0,
                    "labelled": sum(row),
                    **{f"labelled_{name}": n for name, n in zip(names, row, strict=True)},
                    **_columns("area_ha", found.hectares if found else None),
                    **_columns("users_accuracy", found.users_accuracy if found else None),
                    **_columns("producers_accuracy", found.producers_accuracy if found else None),
                    **_columns("overall_accuracy", None),
                }
            )
        whole = dict.fromkeys(rows[0]) | {"name": "whole map"}
        for name in ("mapped_pixels", "mapped_ha", "labelled", *(f"labelled_{n}" for n in names)):
            whole[name] = sum(row[name] for row in rows)
        rows.append({**whole, **_columns("overall_accuracy", self.overall_accuracy)})
        return csv_text(rows)

    def write_csv(self, path: str | Path) -> None:
        """Write the table of :meth:`to_csv` to a file, whole or not at all.

        Raises
        ------
        OutputError
            When its name does not end in .csv, or it cannot be written.
        """
        if Path(path).suffix.lower() != ".csv":
            # The path may be the sample itself, whose labels took days.
            raise OutputError(f"{path}: a name that ends in .csv was wanted")
        with writable(Path(path)):
            write_file(Path(path), self.to_csv().encode())

    def sentences(self) -> str:
        """Describe the estimates in plain sentences, one per line."""
        labelled = sum(map(sum, self.counts))
        lines = [f"From {labelled:,} labelled points on {self.scene_id}:"]
        for each in self.classes:
            area, name = each.hectares, each.name
            lines.append(
                f"{name}: {area.value:,.0f} ha, 95 % interval {area.low:,.0f} to {area.high:,.0f} "
                f"ha; the map has {each.mapped_hectares:,.0f} ha. Of what is mapped as {name}, "
                f"{_percent(each.users_accuracy)} is {name}; of all {name}, the map finds "
                f"{_percent(each.producers_accuracy)}."
            )
        lines.append(f"Of its ground the map has {_percent(self.overall_accuracy)} right.")
        return "\n".join([*lines, *(f"Note: {note}." for note in self.notes)])


def estimate_area(
    labelled: str | Path, map_folder: str | Path | None = None, *, stopped_early: bool = False
) -> AreaEstimate:
    """Estimate areas and accuracies of a map from a labelled sample of it.

    Parameters
    ----------
    labelled
        GeoPackage of :func:`geoforest.maps.sample.draw.draw_sample` with its ``reference`` filled
        in: the name or code of a class, or ``not interpretable``. Points of the latter are counted
        and left out.
    map_folder
        Output folder of the map, to check that the sample is of it; not needed for the estimate.
    stopped_early
        Whether labels may end before the last ``sample_id``: points are in random order, so that
        the first k of them are a random sample, too. Gaps are refused all the same, because
        labellers seldom skip points at random.

    Returns
    -------
    AreaEstimate
        Shares within a stratum are means over pixels, which were drawn with equal probability, not
        over hectares; within a scene pixel areas differ by less than one or two percent.

    Raises
    ------
    InputError
        When the file is not a sample, or is one of another map; when labels are missing or unknown;
        when points were moved, added, doubled or lost; when a stratum has fewer than two labels.
    """
    sample = read_sample(labelled)
    if map_folder is not None:
        _check_same(sample, map_folder)
    classes = CHANGE_CLASSES if sample.origin.change else MAP_NAMES
    labels = count_labels(sample, classes, stopped_early=stopped_early)
    return _area_estimate(sample, classes, labels)


def _check_same(sample: SampleFile, map_folder: str | Path) -> None:
    source, origin = read_stratified(map_folder), sample.origin
    if source.sha256 != origin.sha256:
        raise InputError(
            f"{sample.path}: is a sample of another map, {origin.scene_id} (SHA-256 "
            f"{origin.sha256[:12]}), than {map_folder}, {source.scene_id} ({source.sha256[:12]})"
        )
    if source.threshold != origin.threshold:
        raise InputError(
            f"{sample.path}: is a sample of the map at threshold {origin.threshold}; "
            f"{map_folder} has {source.threshold}"
        )


def _notes(sample: SampleFile, labels: LabelCounts) -> tuple[str, ...]:
    notes = [sample.note] if sample.note else []
    if n_open := int(labels.unlabelled.sum()):
        total = len(sample.points)
        notes.append(
            f"the labelling stopped after {total - n_open} of {total} points, which are in random "
            "order"
        )
    if n_left_out := int(labels.not_interpretable.sum()):
        notes.append(
            f"{n_left_out} points could not be interpreted and are left out, as if they were like "
            "the others of their stratum"
        )
    notes += [
        f"all {row.sum()} labels of stratum {each.name} agree, so it adds nothing to the "
        "intervals, which are too narrow"
        for each, row in zip(sample.strata, labels.counts, strict=True)
        if row.max() == row.sum()
    ]
    return tuple(notes)


def _area_estimate(
    sample: SampleFile, classes: Mapping[int, str], labels: LabelCounts
) -> AreaEstimate:
    hectares = np.array([each.hectares for each in sample.strata])
    place = {code: column for column, code in enumerate(classes)}
    found = estimates(labels.counts, hectares, [place.get(each.code) for each in sample.strata])
    row_of = {each.code: row for row, each in enumerate(sample.strata)}
    total = float(hectares.sum())
    per_class = []
    for code, name in classes.items():
        col, row = place[code], row_of.get(code)
        area = Figure.within(float(found.area[col]), float(found.area_se[col]), total)
        assert area is not None
        per_class.append(
            ClassEstimate(
                code=code,
                name=name,
                mapped_hectares=0.0 if row is None else float(hectares[row]),
                hectares=area,
                users_accuracy=None
                if row is None
                else Figure.within(float(found.users[row]), float(found.users_se[row]), 1.0),
                producers_accuracy=Figure.within(
                    float(found.producers[col]), float(found.producers_se[col]), 1.0
                ),
            )
        )
    return AreaEstimate(
        scene_id=sample.origin.scene_id,
        sha256=sample.origin.sha256,
        threshold=sample.origin.threshold,
        strata=sample.strata,
        classes=tuple(per_class),
        counts=labels.counts.tolist(),
        hectares=found.hectares.tolist(),
        overall_accuracy=Figure.within(found.overall, found.overall_se, 1.0),
        not_interpretable=labels.not_interpretable.tolist(),
        unlabelled=labels.unlabelled.tolist(),
        notes=_notes(sample, labels),
    )


def _columns(name: str, figure: Figure | None) -> dict[str, float | None]:
    parts = {"": "value", "_se": "standard_error", "_low": "low", "_high": "high"}
    return {f"{name}{end}": getattr(figure, part, None) for end, part in parts.items()}


def _percent(figure: Figure | None) -> str:
    if figure is None:
        return "an unknown share"
    return f"{100 * figure.value:.0f} % ({100 * figure.low:.0f} to {100 * figure.high:.0f} %)"
