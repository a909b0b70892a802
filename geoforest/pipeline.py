"""The main path: a scene in, a forest map out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoforest import products
from geoforest.config import MapSettings, checked
from geoforest.errors import OutputError
from geoforest.job import Job, load_job_predictor, make_job
from geoforest.models.registry import open_model
from geoforest.predict import Predictor
from geoforest.prediction import Progress, predict_scene, resumed
from geoforest.report.summary import summarise
from geoforest.timing import Clock
from geoforest.workspace import MASK_NAME, POLYGONS_NAME, PROBABILITY_NAME, open_workspace

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class MapResult:
    """What a finished map job left on disk.

    Attributes
    ----------
    folder
        ``OUT/<scene id>``.
    summary
        The content of ``summary.json``.
    """

    folder: Path
    summary: dict[str, Any]

    @property
    def scene_id(self) -> str:
        """Name of the scene."""
        return self.folder.name

    @property
    def mask(self) -> Path:
        """Mask COG: 0 other, 1 forest, 255 no observation."""
        return self.folder / MASK_NAME

    @property
    def probability(self) -> Path:
        """Stored-probability COG: uint8, scale 0.004, 255 no observation."""
        return self.folder / PROBABILITY_NAME

    @property
    def polygons(self) -> Path:
        """GeoPackage with the layer ``forest_cover``."""
        return self.folder / POLYGONS_NAME

    def open(self) -> xarray.Dataset:
        """Open the rasters as a lazy, Dask-backed Dataset with variables mask and probability.

        Probability is 0 to 1 with NaN where there is no observation; mask keeps its codes.
        """
        import rioxarray
        import xarray

        variables: dict[str, Any] = {}
        for path, name, scaled in (
            (self.mask, "mask", False),
            (self.probability, "probability", True),
        ):
            if path.exists():
                raster: Any = rioxarray.open_rasterio(
                    path, chunks={"x": 2048, "y": 2048}, mask_and_scale=scaled
                )
                variables[name] = raster.squeeze("band", drop=True)
        return xarray.Dataset(variables)


def map_scene(
    scene: str | Path,
    out: str | Path,
    *,
    progress: Progress = lambda stage, done, total: None,
    load_predictor: Callable[[Job], Predictor] = load_job_predictor,
    **settings: Any,
) -> MapResult:
    """Map the forest of one scene: mask, probability, polygons, summary.

    Parameters
    ----------
    scene
        A raster that GDAL opens, or a folder with one file a band.
    out
        Folder; products go to ``out/<scene id>``.
    progress
        Told how far the job is.
    load_predictor
        Makes the predictor on each worker; the default loads the bundle into torch.
    **settings
        Fields of :class:`geoforest.config.MapSettings`, such as ``model``, ``threshold``,
        ``min_area_ha``, ``aoi``.

    Returns
    -------
    MapResult

    Raises
    ------
    InputError
        When the scene, the model, the settings or the output folder cannot be used; nothing is
        left behind.
    IncompleteError
        When shards failed for good; the next run does just those.

    Examples
    --------
    >>> import geoforest
    >>> result = geoforest.map_scene("T20LMR.tif", "maps", threshold=0.4)  # doctest: +SKIP
    >>> result.open().mask.plot()  # doctest: +SKIP
    """
    clock = Clock()
    chosen = checked(MapSettings, settings)
    bundle = open_model(chosen.model)
    job = make_job(scene, chosen, bundle, load_predictor)
    folder = Path(out) / job.scene.scene_id
    if folder.resolve() == Path(scene).resolve():
        raise OutputError(f"{folder}: is the scene itself; choose another --out")
    with open_workspace(
        folder,
        job.fingerprint,
        job.identity,
        overwrite=chosen.overwrite,
        keep_work=chosen.keep_work,
    ) as workspace:
        job = resumed(job, workspace)
        chosen = products.with_earlier(chosen, workspace)
        with clock.stage("shards"):
            prediction = predict_scene(job, workspace, progress)
        made = products.make(job, workspace, chosen, prediction, clock, progress)
        summary = summarise(job, chosen, prediction, made, clock)
        products.finish(job, workspace, chosen, prediction, made, summary)
    return MapResult(folder, summary.to_dict())
