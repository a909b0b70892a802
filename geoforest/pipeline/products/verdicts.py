"""Verdicts of the checks of a map, in sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from geoforest.arrays.seams import SEAM_LIMIT, Seams

if TYPE_CHECKING:
    from geoforest.pipeline.products.halo_test import HaloTest


@dataclass(frozen=True)
class Verdict:
    """Verdict of a check.

    Attributes
    ----------
    check
        Name of the check.
    passed
        None when the check has no limit, or no data.
    sentence
        The verdict with its figures.
    """

    check: str
    passed: bool | None
    sentence: str


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
    unobserved = 100 - observed_percent
    sentence = f"{unobserved:.1f} % of the pixels asked for were not observed, and are in no figure"
    verdicts.append(Verdict("observation", None, sentence))
    return verdicts


def _judge_distribution(far: str | None, *, is_observed: bool) -> Verdict:
    if not is_observed:
        return Verdict("distribution", None, "there are no values to hold against the training's")
    near = "the values of all bands are near those the model was trained on"
    return Verdict("distribution", far is None, far or near)


def _judge_seams(seams: Seams) -> Verdict:
    if seams.ratio is None:
        sentence = "too few pixels lie across borders of cores to tell whether windows show"
        return Verdict("seams", None, sentence)
    figures = (
        f"steps of probability across borders of cores are {seams.ratio:.2f} times those beside "
        f"them (limit {SEAM_LIMIT})"
    )
    if seams.show:
        return Verdict(
            "seams",
            False,
            f"{figures}: windows show as squares in the map; a larger --halo may help, and a model "
            "made for such scenes",
        )
    return Verdict("seams", True, f"{figures}: windows leave no visible lattice")


def _judge_halo(test: HaloTest) -> Verdict:
    """Report the share that changes; no limit separates good halos, see docs/measured.md."""
    if test.disagreement is None or test.mean_difference is None:
        return Verdict("halo", None, "no observed core was found to predict again")
    return Verdict(
        "halo",
        None,
        f"{100 * test.disagreement:.2f} % of the mask in {test.cores} cores changes with a halo of "
        f"{test.halo} px, and the probability by {test.mean_difference:.4f} on average",
    )
