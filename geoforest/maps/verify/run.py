"""Whether outputs are complete and untouched, and agree with each other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from geoforest.errors import InputError
from geoforest.io.names import JOB_NAME
from geoforest.io.remote import shown
from geoforest.maps.destination import jobs_in
from geoforest.maps.verify.maps import verify_destination
from geoforest.maps.verify.mosaics import verify_other

if TYPE_CHECKING:
    from geoforest.maps.verify.checks import Problem


def verify(folder: str | os.PathLike[str]) -> list[Problem]:
    """Check the outputs of one map job, of all those in a folder, of a mosaic or a comparison.

    Checksums, the grid and codes of the rasters, their layout, mask against probability, the
    GeoPackage's integrity, and polygon pixels = mask pixels - dropped + filled. Pixels are read in
    strips, so that memory does not grow with the scene. Outputs in a bucket are fetched, one job
    at a time, into a temporary folder.

    Parameters
    ----------
    folder
        ``OUT/<scene id>``, or ``OUT``; for mosaics and comparisons, which have to be on disk, see
        :mod:`geoforest.maps.verify.mosaics`.

    Returns
    -------
    list of Problem
        Empty when all is well.

    Raises
    ------
    InputError
        When there are no outputs of geoforest in the folder.
    """
    text = os.fspath(folder)
    if "://" not in text:
        if not Path(text).is_dir():
            raise InputError(f"{text}: no such folder")
        if (problems := verify_other(Path(text))) is not None:
            return problems
    jobs = jobs_in(text)
    if not jobs:
        raise InputError(
            f"{shown(text)}: holds no outputs of geoforest ({JOB_NAME} of a map, or what a mosaic "
            "or a comparison leaves, was wanted)"
        )
    return [problem for job in jobs for problem in verify_destination(job)]
