"""The demonstration: map a synthetic scene with the bundled model, and compare with its truth."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from geoforest.arrays.scores import Counts
from geoforest.io.raster import open_raster
from geoforest.io.storage import write_durably
from geoforest.maps.picture import map_picture
from geoforest.pipeline.run import MapResult, map_scene
from geoforest.scenes.open import open_scene
from geoforest.scenes.synthetic import BANDS, make_scene, write_scene
from geoforest.types import Progress, quiet

SCENE_NAME = "synthetic-rondonia"


@dataclass(frozen=True)
class Demo:
    """Result of the demonstration.

    Attributes
    ----------
    result
        The finished map.
    agreement
        Accuracy, F1, IoU, precision and recall of the forest class against the known truth, over
        observed pixels.
    quicklook
        PNG of scene, probability, mask and polygons.
    seconds
        Seconds to generate the scene.
    """

    result: MapResult
    agreement: dict[str, float]
    quicklook: Path
    seconds: float


def run_demo(
    out: str | Path,
    *,
    seed: int = 7,
    size: int = 2304,
    progress: Progress = quiet,
) -> Demo:
    """Generate a scene of ``size`` x ``size`` px from ``seed``, map it, and score the map.

    An existing scene and map are overwritten: both can be made again.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    scene = make_scene(seed, (size, size))
    path = out / f"{SCENE_NAME}.tif"
    write_scene(scene, path)
    seconds = time.perf_counter() - start
    # For such a small scene, comparing runtimes takes longer than it saves.
    result = map_scene(path, out, overwrite=True, progress=progress, runtime="torch")
    with open_raster(str(result.mask)) as source:
        agreement = Counts.of(scene.truth, source.read(1)).scores()
    quicklook = out / "quicklook.png"
    assert isinstance(result.folder, Path)
    picture = map_picture(open_scene(path, wanted=BANDS), result.folder)
    write_durably(quicklook, picture)
    return Demo(result, agreement, quicklook, seconds)
