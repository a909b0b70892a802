"""The main path: scenes in, forest maps out."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoforest.arrays.predict import Predictor
from geoforest.compute.clock import Clock
from geoforest.compute.cluster import Cluster
from geoforest.errors import GeoforestError, InputError, OutputError, WriteError, checked
from geoforest.io.names import MASK_NAME, POLYGONS_NAME, PROBABILITY_NAME
from geoforest.io.remote import gdal_path, network_options, shown
from geoforest.maps.destination import Location, Target, is_same, open_target
from geoforest.maps.units.read import Units, asked_units
from geoforest.models.registry import open_model
from geoforest.pipeline.engine import Done, Pool
from geoforest.pipeline.job import Job, base_memory_mb, draft_job, load_job_predictor
from geoforest.pipeline.ledger import Ledger
from geoforest.pipeline.products import make as products
from geoforest.pipeline.products.summary import summarise
from geoforest.pipeline.runtime import Runtime
from geoforest.pipeline.settings import MapSettings
from geoforest.pipeline.workspace import earlier_documents, open_workspace
from geoforest.scenes.open import scene_name
from geoforest.scenes.stac.item import is_item
from geoforest.types import Progress, quiet

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class MapResult:
    """What a finished map job left.

    Attributes
    ----------
    folder
        ``OUT/<scene id>``: a path, or a :class:`geoforest.io.files.Place` in a bucket, whose
        ``str()`` is its URL.
    summary
        The content of ``summary.json``.
    """

    folder: Location
    summary: dict[str, Any]

    @property
    def scene_id(self) -> str:
        """Name of the scene."""
        return self.folder.name

    @property
    def mask(self) -> Location:
        """Mask COG: 0 other, 1 forest, 255 no observation."""
        return self.folder / MASK_NAME

    @property
    def probability(self) -> Location:
        """Stored-probability COG: uint8, scale 0.004, 255 no observation."""
        return self.folder / PROBABILITY_NAME

    @property
    def polygons(self) -> Location:
        """GeoPackage with the layer ``forest_cover``."""
        return self.folder / POLYGONS_NAME

    def open(self) -> xarray.Dataset:
        """Open the rasters as a lazy, Dask-backed Dataset with variables mask and probability.

        Probability is 0 to 1 with NaN where there is no observation; mask keeps its codes.
        """
        import rasterio
        import rioxarray
        import xarray

        there = open_target(str(self.folder)).names()
        variables: dict[str, Any] = {}
        for path, name, scaled in (
            (self.mask, "mask", False),
            (self.probability, "probability", True),
        ):
            if path.name in there:
                with rasterio.Env(**network_options(str(path))):
                    raster: Any = rioxarray.open_rasterio(
                        gdal_path(str(path)),
                        chunks={"x": 2048, "y": 2048},
                        mask_and_scale=scaled,
                    )
                variables[name] = raster.squeeze("band", drop=True)
        return xarray.Dataset(variables)


@dataclass(frozen=True)
class SceneFailure:
    """Why a scene of several has no map."""

    scene: str
    error: GeoforestError


SCENES_AT_ONCE = 64
"""Scenes begun and not finished: each holds its folder, its shards, and open files."""


def map_scene(
    scene: str | Path,
    out: str | Path,
    *,
    progress: Progress = quiet,
    load_predictor: Callable[[Job], Predictor] = load_job_predictor,
    **settings: Any,
) -> MapResult:
    """Map the forest of one scene: mask, probability, polygons, summary.

    Parameters
    ----------
    scene
        A raster that GDAL opens, a folder with one file a band, a Sentinel-2 product (a SAFE folder
        or its zip archive), or a STAC item; a path or a URL.
    out
        Folder, or ``s3://`` or ``gs://`` URL of a prefix; products go to ``out/<scene id>``.
    progress
        Told how far the job is.
    load_predictor
        Makes the predictor on each worker; the default loads the bundle into torch.
    **settings
        Fields of :class:`geoforest.pipeline.settings.MapSettings`, such as ``model``,
        ``threshold``, ``min_area_ha``, ``aoi``, ``workers``.

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
    (result,) = map_scenes(
        [scene], out, progress=lambda _: progress, load_predictor=load_predictor, **settings
    )
    if isinstance(result, SceneFailure):
        raise result.error
    return result


def map_scenes(
    scenes: Iterable[str | Path],
    out: str | Path,
    *,
    progress: Callable[[str], Progress] = lambda scene_id: quiet,
    load_predictor: Callable[[Job], Predictor] = load_job_predictor,
    **settings: Any,
) -> Iterator[MapResult | SceneFailure]:
    """Map many scenes: their shards feed one pool of workers, which never waits for a scene's end.

    Parameters
    ----------
    scenes, out, load_predictor, **settings
        As for :func:`map_scene`.
    progress
        Called with the id of a scene that begins; gives what is told how far it is.

    Yields
    ------
    MapResult or SceneFailure
        In the order in which they end. A scene that fails does not stop the others.

    Raises
    ------
    InputError
        When the settings, the units or the model cannot be used, or two scenes have one name.
    """
    chosen, target = checked(MapSettings, settings), open_target(out)
    waiting = deque(named_once(scenes, chosen))
    units = asked_units(chosen.zones, chosen.by)
    bundle = open_model(chosen.model)
    # Workers may have another current folder.
    bundle = replace(bundle, path=bundle.path.absolute())
    base_mb = base_memory_mb() if chosen.max_memory else 0.0
    running: dict[str, _SceneRun] = {}
    begun: dict[str, str] = {}

    def close_running(*error: Any) -> None:
        for run in running.values():
            run.close(*error)

    with ExitStack() as unfinished, Pool(_cluster(chosen)) as pool:
        unfinished.push(close_running)

        @cache
        def runtime() -> Runtime:
            measured = load_predictor is load_job_predictor
            return pool.resolve_runtime(chosen, bundle, measured=measured)

        while waiting or running:
            while waiting and pool.hungry and len(running) < SCENES_AT_ONCE:
                path, clock = waiting.popleft(), Clock()
                try:
                    draft = draft_job(path, chosen, bundle, load_predictor)
                    _check_new(draft.scene.scene_id, path, begun)
                    documents = earlier_documents(target / draft.scene.scene_id)
                    job = draft.recorded(documents, base_mb=base_mb)
                except GeoforestError as error:
                    yield SceneFailure(shown(str(path)), error)
                    continue
                # A runtime that cannot be had is no fault of this scene: it ends the run.
                computing = job.runtime if job else runtime()
                try:
                    job = job or draft.job(computing, base_mb=base_mb)
                    bar = progress(job.scene.scene_id)
                    run = _SceneRun(path, target, job, chosen, units, bar, clock)
                except GeoforestError as error:
                    yield SceneFailure(shown(str(path)), error)
                    continue
                # Before it begins, which takes as long as a model to load: whatever stops that
                # closes the output folder.
                running[job.fingerprint] = run
                try:
                    run.begin(pool)
                except GeoforestError as error:
                    del running[job.fingerprint]
                    run.close(type(error), error, error.__traceback__)
                    yield SceneFailure(shown(str(path)), error)
                    continue
                if run.complete:
                    del running[run.job.fingerprint]
                    yield run.finish()
            if running:
                done = pool.get()
                run = running[done.job.fingerprint]
                run.take(done, pool)
                if run.complete:
                    del running[done.job.fingerprint]
                    pool.forget(done.job)
                    yield run.finish()


class _SceneRun:
    """One scene on its way from shards to products; holds its output folder."""

    def __init__(
        self,
        path: str | Path,
        out: Target,
        job: Job,
        settings: MapSettings,
        units: Units | None,
        progress: Progress,
        clock: Clock,
    ) -> None:
        self._units = units
        self._path, self.job, self._progress, self._clock = path, job, progress, clock
        target = out / job.scene.scene_id
        if is_same(target, path):
            raise OutputError(f"{target.location}: is the scene itself; choose another --out")
        self._ledger: Ledger | None = None
        with ExitStack() as held:
            self._workspace = held.enter_context(
                open_workspace(
                    target,
                    job.record(settings),
                    overwrite=settings.overwrite,
                    keep_work=settings.keep_work,
                )
            )
            self._settings = products.with_earlier(settings, self._workspace)
            self._earlier = self._workspace.unchanged(products.asked(job, self._settings, units))
            self._held = held.pop_all()

    def begin(self, pool: Pool) -> None:
        """Find out which shards are missing, and queue them."""
        if self._earlier is not None:
            return
        self._ledger = Ledger(self.job, self._workspace, self._progress)
        if self._ledger.missing:
            pool.add(self.job, self._workspace.store, self._ledger.missing)
        self._clock.lap("start")

    @property
    def complete(self) -> bool:
        """Whether nothing is queued or running any more."""
        return self._ledger is None or self._ledger.complete

    def take(self, done: Done, pool: Pool) -> None:
        """Enter what became of a shard; what would fail alike is given up."""
        assert self._ledger is not None
        self._ledger.take(done.shard, done.receipt, done.reason)
        if done.fatal:
            self._ledger.give_up(pool.drop(self.job))

    def finish(self) -> MapResult | SceneFailure:
        """Make products of the finished shards and publish them."""
        try:
            with self._held:
                return MapResult(self._workspace.target.location, self._earlier or self._make())
        except GeoforestError as error:
            return SceneFailure(shown(str(self._path)), error)
        except OSError as error:
            folder = self._workspace.store.folder.parent
            sentence = f"{folder}: cannot be written to ({error.strerror or error})"
            return SceneFailure(shown(str(self._path)), WriteError(sentence))
        finally:
            self._progress("done", 1, 1)

    def close(self, *error: Any) -> None:
        """Let go of the output folder, and keep in it what is worth it after an error."""
        try:
            self._progress("done", 1, 1)
        finally:
            # Also where it was the caller's progress that failed, and fails again.
            self._held.__exit__(*error)

    def _make(self) -> dict[str, Any]:
        assert self._ledger is not None
        job, workspace, settings, clock = self.job, self._workspace, self._settings, self._clock
        clock.lap("shards")
        prediction = self._ledger.close(allow_gaps=settings.allow_gaps)
        made = products.make(
            job, workspace, settings, self._units, prediction, clock, self._progress
        )
        summary = summarise(job, settings, prediction, made, clock)
        products.finish(job, workspace, settings, self._units, prediction, made, summary)
        return summary.to_dict()


def _check_new(scene_id: str, path: str | Path, begun: dict[str, str]) -> None:
    """Refuse the second scene of one name, and remember the first."""
    if scene_id in begun:
        raise InputError(
            f"{shown(str(path))}: is scene {scene_id!r}, as {begun[scene_id]} is; give one of them "
            "alone, or with --scene-id"
        )
    begun[scene_id] = shown(str(path))


def _cluster(settings: MapSettings) -> Cluster:
    return Cluster(settings.workers, settings.scheduler, settings.max_memory)


def named_once(scenes: Iterable[str | Path], settings: MapSettings) -> list[str | Path]:
    """List the scenes of a run, whose products would otherwise get in each other's way.

    Raises
    ------
    InputError
        When two have one name.
    """
    paths = list(scenes)
    if settings.scene_id is not None and len(paths) > 1:
        raise InputError(f"scene id {settings.scene_id!r} for {len(paths)} scenes: it is for one")
    # An item's name is in it, not in that of its file.
    names = [scene_name(path) for path in paths if not is_item(os.fspath(path))]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"scene id {twice[0]!r} is there twice; rename it, or use --scene-id")
    return paths
