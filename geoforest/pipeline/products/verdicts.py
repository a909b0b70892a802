"""Verdicts of the checks of a map, in sentences."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from geoforest.arrays.seams import SEAM_LIMIT, Seams
from geoforest.report.language import message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geoforest.pipeline.products.halo_test import HaloTest


@dataclass(frozen=True)
class Verdict:
    """Verdict of a check, in plain words, with its figures apart.

    Attributes
    ----------
    check
        Name of the check.
    passed
        None when the check has no limit, or no data.
    plain
        What it means for a reader who knows none of the figures; a text of the catalogues.
    figures
        The figures behind it; a text of the catalogues, or empty.
    values
        Numbers that both texts show, already formatted.
    """

    check: str
    passed: bool | None
    plain: str
    figures: str = ""
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """The verdict with its figures, in English."""
        text = f"{self.plain} ({self.figures})" if self.figures else self.plain
        return text.format(**self.values)

    def record(self) -> dict[str, Any]:
        """Return the entry of ``summary.json``."""
        return {"check": self.check, "passed": self.passed, "sentence": self.sentence}


def judge(
    seams: Seams, far: str | None, observed_percent: float, halo_test: HaloTest | None
) -> list[Verdict]:
    """Return the verdicts of all checks.

    Parameters
    ----------
    seams
        See :meth:`Steps.seams`.
    far
        Result of :func:`geoforest.arrays.reflectance.distribution_warning`.
    observed_percent
        Observed share of the pixels asked for.
    halo_test
        See :func:`geoforest.pipeline.products.halo_test.check_halo`; None where it was not asked
        for.
    """
    verdicts = [_judge_seams(seams)]
    if halo_test is not None:
        verdicts.append(_judge_halo(halo_test))
    verdicts.append(_judge_distribution(far, is_observed=observed_percent > 0))
    plain = message("{percent} % of the pixels asked for were not observed, and are in no figure")
    values = {"percent": f"{100 - observed_percent:.1f}"}
    verdicts.append(Verdict("observation", None, plain, values=values))
    return verdicts


def _judge_distribution(far: str | None, *, is_observed: bool) -> Verdict:
    check = "distribution"
    if not is_observed:
        plain = message("there are no values to hold against the training's")
        return Verdict(check, None, plain)
    if far is not None:
        return Verdict(check, False, "{far}", values={"far": far})
    return Verdict(check, True, message("the values of all bands are like those of the training"))


def _judge_seams(seams: Seams) -> Verdict:
    if seams.ratio is None:
        plain = message("too few pixels lie across borders of cores to tell whether windows show")
        return Verdict("seams", None, plain)
    figures = message(
        "steps of probability across borders of cores are {ratio} times those beside them; limit "
        "{limit}"
    )
    values = {"ratio": f"{seams.ratio:.2f}", "limit": f"{SEAM_LIMIT}"}
    if seams.show:
        plain = message(
            "windows show as squares in the map; a larger --halo may help, and a model made for "
            "such scenes"
        )
        return Verdict("seams", False, plain, figures, values)
    return Verdict("seams", True, message("the grid of windows does not show"), figures, values)


def _judge_halo(test: HaloTest) -> Verdict:
    """Report the share that changes; no limit separates good halos, see docs/measured.md."""
    if test.disagreement is None or test.mean_difference is None:
        return Verdict("halo", None, message("no observed core was found to predict again"))
    return Verdict(
        "halo",
        None,
        message(
            "{share} % of the mask in {cores} cores changes with a halo of {halo} px, and the "
            "probability by {difference} on average"
        ),
        values={
            "share": f"{100 * test.disagreement:.2f}",
            "cores": f"{test.cores}",
            "halo": f"{test.halo}",
            "difference": f"{test.mean_difference:.4f}",
        },
    )
