"""Scenes that are one acquisition, processed several times: the newest processing of it wins.

ESA processes its archive again and again, and catalogues and folders keep the older products: the
same tile at the same time under processing baselines 02.14 and 05.00. Mapped both, the same ground
would be counted twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import shapely

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from shapely.geometry.base import BaseGeometry

_Scene = TypeVar("_Scene")

_PRODUCT: Final = re.compile(
    r"(?:^|[^A-Z0-9])(?P<mission>S2[A-Z])_MSI(?P<level>L1C|L2A)_(?P<time>20\d{6}T\d{6})"
    r"(?:_N(?P<baseline>\d{4}))?_R\d{3}_T(?P<tile>\d\d[A-Z]{3})_(?P<processed>20\d{6}T\d{6})"
)
_BASELINE: Final = re.compile(r"N?0?(\d{1,2})[._]?(\d\d)")
# A satellite comes back to a tile after 100 minutes at the earliest; the times that catalogues
# state are of the tile, or of the start of a datatake of some 20 minutes.
_SAME_PASS: Final = timedelta(minutes=30)
# The outlines of valid pixels differ a little between baselines.
_COVERED: Final = 0.95
_SHOWN: Final = 3


@dataclass(frozen=True)
class Acquisition:
    """What a satellite saw of a tile in one pass, and how it was processed.

    Attributes
    ----------
    mission, level, tile
        Such as ``S2A``, ``L2A`` and ``20LMR``; empty where unknown.
    time
        Time of acquisition, UTC.
    baseline
        Processing baseline, such as ``(5, 9)``, or None.
    processed
        Time of processing as text that sorts by time, or empty.
    footprint
        Outline in longitude and latitude, or None.
    """

    mission: str
    level: str
    tile: str
    time: datetime
    baseline: tuple[int, int] | None = None
    processed: str = ""
    footprint: BaseGeometry | None = None

    def is_older(self, other: Acquisition) -> bool:
        """Return whether another processing of the same acquisition replaces this one."""
        if self.baseline and other.baseline and self.baseline != other.baseline:
            return self.baseline < other.baseline
        # Two parts of a tile, received at two stations, are two products of one baseline.
        known = self.footprint is not None and other.footprint is not None and bool(self.tile)
        return known and bool(self.processed) and self.processed < other.processed


@dataclass(frozen=True)
class Replaced(Generic[_Scene]):
    """A scene that is left out, and the newest one of the same acquisition."""

    old: _Scene
    new: _Scene
    baselines: tuple[str, str]


def acquisition_of_name(name: str) -> Acquisition | None:
    """Parse the name of a Sentinel-2 product; None for other names.

    Examples
    --------
    >>> one = acquisition_of_name("S2B_MSIL2A_20200223T032739_N0214_R018_T48QUE_20200223T063543")
    >>> one.mission, one.level, one.tile, one.baseline
    ('S2B', 'L2A', '48QUE', (2, 14))
    >>> acquisition_of_name("mosaic") is None
    True
    """
    found = _PRODUCT.search(name.upper())
    if found is None:
        return None
    try:
        time = datetime.strptime(found["time"], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return Acquisition(
        mission=found["mission"],
        level=found["level"],
        tile=found["tile"],
        time=time,
        baseline=parse_baseline(found["baseline"]),
        processed=found["processed"],
    )


def parse_baseline(text: object) -> tuple[int, int] | None:
    """Parse a processing baseline; None for anything else.

    Examples
    --------
    >>> parse_baseline("05.09"), parse_baseline("N0214"), parse_baseline("unknown")
    ((5, 9), (2, 14), None)
    """
    found = _BASELINE.fullmatch(str(text))
    return (int(found[1]), int(found[2])) if found else None


def newest_of_each(
    scenes: Iterable[tuple[_Scene, Acquisition | None]],
) -> tuple[list[_Scene], list[Replaced[_Scene]]]:
    """Choose the newest processing of each acquisition.

    Parameters
    ----------
    scenes
        Scenes in any order, each with its acquisition; one without is kept.

    Returns
    -------
    kept : list
        In the given order.
    replaced : list of Replaced
        Scenes whose ground the newer ones cover, as far as outlines are known.
    """
    listed = list(scenes)
    replaced: dict[int, Replaced[_Scene]] = {}
    for group in same_passes([acquisition for _, acquisition in listed]):
        kept: list[int] = []
        for index in sorted(group, key=lambda i: _version(listed[i][1]), reverse=True):
            one = listed[index][1]
            assert one is not None
            newer = [i for i in kept if (other := listed[i][1]) and one.is_older(other)]
            others = [other for i in newer if (other := listed[i][1])]
            if others and _covers(others, one):
                replaced[index] = Replaced(
                    listed[index][0],
                    listed[newer[0]][0],
                    (_text(one.baseline), _text(others[0].baseline)),
                )
            else:
                kept.append(index)
    left = [scene for index, (scene, _) in enumerate(listed) if index not in replaced]
    return left, [replaced[index] for index in sorted(replaced)]


def same_passes(acquisitions: list[Acquisition | None]) -> Iterator[list[int]]:
    """Yield, for each tile in one pass, the indexes of its acquisitions."""

    def key(index: int) -> tuple[str, str, str, datetime]:
        one = acquisitions[index]
        assert one is not None
        return one.mission, one.level, one.tile, one.time

    known = sorted((i for i, one in enumerate(acquisitions) if one is not None), key=key)
    for _, group in groupby(known, key=lambda index: key(index)[:3]):
        members: list[int] = []
        for index in group:
            if members and key(index)[3] - key(members[0])[3] > _SAME_PASS:
                yield members
                members = []
            members.append(index)
        yield members


def replaced_sentence(replaced: list[Replaced[_Scene]], name: Callable[[_Scene], str] = str) -> str:
    """Say which scenes are left out, and why; the first few by name."""
    shown = [
        f"{name(one.old)} ({one.baselines[0]}) by {name(one.new)} ({one.baselines[1]})"
        for one in replaced[:_SHOWN]
    ]
    more = f" and {len(replaced) - _SHOWN} more" if len(replaced) > _SHOWN else ""
    what = "1 scene is" if len(replaced) == 1 else f"{len(replaced)} scenes are"
    return (
        f"{what} left out, replaced by a newer processing of the same acquisition: "
        f"{', '.join(shown)}{more}"
    )


def _version(acquisition: Acquisition | None) -> tuple[tuple[int, int], str]:
    assert acquisition is not None
    return acquisition.baseline or (-1, -1), acquisition.processed


def _covers(newer: list[Acquisition], one: Acquisition) -> bool:
    """Return whether newer processings cover the ground of one, as far as their outlines say."""
    outlines = [other.footprint for other in newer if other.footprint is not None]
    if one.footprint is None or not outlines or not one.footprint.area:
        # Without a tile, only the outlines tell that it is the same ground.
        return bool(one.tile)
    left = one.footprint.difference(shapely.union_all(outlines))
    return bool(left.area <= (1 - _COVERED) * one.footprint.area)


def _text(baseline: tuple[int, int] | None) -> str:
    return "baseline unknown" if baseline is None else "baseline {:02d}.{:02d}".format(*baseline)
