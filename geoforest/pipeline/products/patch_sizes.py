"""How large the patches are, counted while their polygons stream by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import geopandas

# Two classes a decade, from a pixel of 10 m to more than there is.
_EDGES_HA = np.array(
    [0, *(float(f"{step}e{power}") for power in range(-2, 8) for step in (1, 3)), np.inf]
)


class PatchSizes:
    """Patches and their hectares by size of the whole patch, in classes of 1, 3, 10, 30 ha."""

    def __init__(self) -> None:
        self._patches = np.zeros(len(_EDGES_HA) - 1)
        self._hectares = np.zeros(len(_EDGES_HA) - 1)

    def tap(self, frame: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
        """Count some polygons, and pass them on."""
        area, whole = (frame[name].to_numpy() for name in ("area_ha", "patch_area_ha"))
        place = np.searchsorted(_EDGES_HA, whole, side="right") - 1
        # The shares of the parts of a patch add up to one patch, in whatever order they come.
        self._patches += np.bincount(place, area / whole, minlength=len(self._patches))
        self._hectares += np.bincount(place, area, minlength=len(self._hectares))
        return frame

    def table(self) -> list[dict[str, Any]]:
        """Give ``from_ha``, ``to_ha``, ``patches``, ``hectares``, from first to last with any."""
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
