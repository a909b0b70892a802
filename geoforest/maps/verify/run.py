"""Check that outputs are complete and unchanged, and agree with each other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from geoforest.errors import InputError
from geoforest.io.names import JOB_NAME
from geoforest.io.publication import died_before
from geoforest.io.remote import shown
from geoforest.maps.destination import jobs_in
from geoforest.maps.verify.maps import verify_destination
from geoforest.maps.verify.mosaics import verify_mosaic_or_change

if TYPE_CHECKING:
    from geoforest.maps.verify.checks import Problem


def verify(folder: str | os.PathLike[str]) -> list[Problem]:
    """Check the outputs of one map, of all maps in a folder, of a mosaic or of a comparison.

    The checks are: checksums; grid, codes and layout of the rasters; mask against probability;
    integrity of the GeoPackage; polygon pixels = mask pixels - dropped + filled. Pixels are read in
    strips, so that memory does not grow with the scene. Outputs in a bucket are fetched, one job
    at a time, into a temporary folder.

    Parameters
    ----------
    folder
        Output folder ``OUT/<scene id>``, or ``OUT``. Mosaics and comparisons must be on disk; see
        :mod:`geoforest.maps.verify.mosaics`.

    Returns
    -------
    list of Problem
        Empty when there are none.

    Raises
    ------
    InputError
        When the folder holds no outputs of geoforest.
    """
    text = os.fspath(folder)
    if "://" not in text:
        if not Path(text).is_dir():
            killed = died_before(Path(text))
            more = "; a run died before it had finished it: the same command makes it"
            raise InputError(f"{text}: no such folder{more if killed else ''}")
        if (problems := verify_mosaic_or_change(Path(text))) is not None:
            return problems
    jobs = jobs_in(text)
    if not jobs:
        raise InputError(
            f"{shown(text)}: holds no outputs of geoforest ({JOB_NAME} of a map, or what a mosaic "
            "or a comparison leaves, was wanted)"
        )
    return [problem for job in jobs for problem in verify_destination(job)]
