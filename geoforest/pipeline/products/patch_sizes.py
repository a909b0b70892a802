"""Count patches by size while their polygons are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import geopandas

# Two classes per decade, from one pixel of 10 m upwards.
_EDGES_HA = np.array(
    [0, *(float(f"{step}e{power}") for power in range(-2, 8) for step in (1, 3)), np.inf]
)


class PatchSizes:
    """Patches and their hectares by size of the whole patch, in classes of 1, 3, 10, 30 ha."""

    def __init__(self) -> None:
        self._patches = np.zeros(len(_EDGES_HA) - 1)
        self._hectares = np.zeros(len(_EDGES_HA) - 1)

    def tap(self, frame: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
        """Count the polygons of a frame, and return the frame."""
        area, whole = (frame[name].to_numpy() for name in ("area_ha", "patch_area_ha"))
        place = np.searchsorted(_EDGES_HA, whole, side="right") - 1
        # The shares of a patch's parts add up to one patch, in any order.
        self._patches += np.bincount(place, area / whole, minlength=len(self._patches))
        self._hectares += np.bincount(place, area, minlength=len(self._hectares))
        return frame

    def table(self) -> list[dict[str, Any]]:
        """Return ``from_ha``, ``to_ha``, ``patches``, ``hectares`` per class."""
        counts = np.rint(self._patches).astype(int)
        filled = np.flatnonzero(counts)
        if not len(filled):
            return []
        return [
            {
                "from_ha": float(_EDGES_HA[place]),
                "to_ha": None if np.isinf(_EDGES_HA[place + 1]) else float(_EDGES_HA[place + 1]),
                "patches": int(counts[place]),
                "hectares": round(float(self._hectares[place]), 4),
            }
            for place in range(filled[0], filled[-1] + 1)
        ]
