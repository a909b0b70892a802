"""The main path: scenes in, forest maps out."""

from __future__ import annotations

import os
from collections import deque
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

from geoforest.compute.clock import Clock
from geoforest.errors import GeoforestError, InputError, OutputError, WriteError, checked
from geoforest.io.gdal import pinned
from geoforest.io.names import MASK_NAME, POLYGONS_NAME, PROBABILITY_NAME
from geoforest.io.remote import gdal_path, network_options, shown
from geoforest.maps.destination import Destination, Location, is_same, open_destination
from geoforest.maps.units.areas import check_touched
from geoforest.maps.units.read import Units, asked_units
from geoforest.pipeline.engine import Done, Pool
from geoforest.pipeline.job import Job, load_job_predictor
from geoforest.pipeline.ledger import Ledger
from geoforest.pipeline.products.publish import publish
from geoforest.pipeline.products.request import MapRun, with_earlier
from geoforest.pipeline.products.stage import stage
from geoforest.pipeline.settings import MapOptions, MapSettings
from geoforest.pipeline.setup import Setup
from geoforest.pipeline.workspace import open_workspace
from geoforest.scenes.newest import newest_scenes
from geoforest.scenes.open import scene_name
from geoforest.scenes.stac.item import is_item
from geoforest.types import Progress, quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import xarray

    from geoforest.arrays.predict import Predictor
    from geoforest.pipeline.products.summary import MapSummary
    from geoforest.pipeline.runtime import Runtime


@dataclass(frozen=True)
class MapResult:
    """A finished map.

    Attributes
    ----------
    folder
        ``OUT/<scene id>``: a path, or a :class:`geoforest.io.files.Place` in a bucket, whose
        ``str()`` is its URL.
    summary
        The content of ``summary.json``.
    """

    folder: Location
    summary: MapSummary

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

        there = open_destination(str(self.folder)).names()
        variables: dict[str, Any] = {}
        for path, name, scaled in (
            (self.mask, "mask", False),
            (self.probability, "probability", True),
        ):
            if path.name in there:
                with pinned(rasterio.Env().session, **network_options(str(path))):
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
    **settings: Unpack[MapOptions],
) -> MapResult:
    """Map the forest of one scene: mask, probability, polygons, summary.

    Parameters
    ----------
    scene
        A raster that GDAL opens, a folder with one file per band, a Sentinel-2 product (a SAFE
        folder or its zip archive), or a STAC item; a path or a URL.
    out
        Folder, or ``s3://`` or ``gs://`` URL of a prefix; products go to ``out/<scene id>``.
    progress
        Called with a stage, how much of it is done, and how much there is.
    load_predictor
        Called on each worker to load the predictor; by default the bundle in the chosen runtime.
    **settings
        Fields of :class:`geoforest.pipeline.settings.MapSettings`, such as ``model``,
        ``threshold``, ``min_area_ha``, ``aoi``, ``workers``.

    Returns
    -------
    MapResult

    Raises
    ------
    InputError
        When the scene, the model, the settings or the output folder cannot be used; no file is
        left behind.
    IncompleteError
        When shards failed for good; the next run predicts only those.

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
    progress: Callable[[str], Progress] = lambda _scene_id: quiet,
    load_predictor: Callable[[Job], Predictor] = load_job_predictor,
    **settings: Unpack[MapOptions],
) -> Iterator[MapResult | SceneFailure]:
    """Map many scenes with one pool of workers, which goes on with the next scene's shards.

    Parameters
    ----------
    scenes, out, load_predictor, **settings
        As for :func:`map_scene`.
    progress
        Called with the id of each scene that begins; returns its progress callback.

    Yields
    ------
    MapResult or SceneFailure
        In the order of completion. A scene that fails does not stop the others. Of an acquisition
        that is there under several processing baselines, only the newest is mapped; a warning names
        the others.

    Raises
    ------
    InputError
        When the settings, the units or the model cannot be used, or two scenes have the same name.
    """
    chosen = checked(MapSettings, dict(settings))
    waiting = deque(named_once(scenes, chosen))
    units = asked_units(chosen.zones, chosen.by)
    shared = _Shared(Setup.of(chosen), open_destination(out), units, load_predictor, progress)
    shared.alone = len(waiting) == 1
    with _closing([]) as running, Pool(shared.setup.cluster) as pool:
        while waiting or running:
            while waiting and pool.hungry and len(running) < SCENES_AT_ONCE:
                run = _SceneRun(waiting.popleft(), shared)
                running.append(run)
                failure = run.attempt(run.open)
                if failure is None:
                    # An unavailable runtime is not this scene's fault, so it ends the run.
                    runtime = run.recorded_runtime or shared.runtime(pool)
                    failure = run.attempt(partial(run.begin, runtime, pool))
                if failure is not None or run.complete:
                    running.remove(run)
                    yield failure or run.finish()
            if running:
                done = pool.get()
                run = next(run for run in running if run.job.fingerprint == done.job.fingerprint)
                run.enter(done, pool)
                if run.complete:
                    running.remove(run)
                    pool.forget(done.job)
                    yield run.finish()


@dataclass
class _Shared:
    """What all scenes of a run share."""

    setup: Setup
    out: Destination
    units: Units | None
    load_predictor: Callable[[Job], Predictor]
    progress: Callable[[str], Progress]
    alone: bool = False
    begun: dict[str, str] = field(default_factory=dict)
    _runtime: Runtime | None = None

    def runtime(self, pool: Pool) -> Runtime:
        """Choose the runtime, once, when the first scene needs it."""
        if self._runtime is None:
            self._runtime = pool.resolve_runtime(
                self.setup.settings,
                self.setup.bundle,
                measured=self.load_predictor is load_job_predictor,
            )
        return self._runtime


class _SceneRun:
    """One scene on its way from a path to a published map; holds its output folder.

    The steps are :meth:`open`, :meth:`begin`, :meth:`enter` for each shard, :meth:`finish`.
    """

    def __init__(self, path: str | Path, shared: _Shared) -> None:
        self._path, self._shared = path, shared
        self._clock, self._held = Clock(), ExitStack()
        self._progress: Progress = quiet
        self._job: Job | None = None
        self._ledger: Ledger | None = None
        self._earlier: MapSummary | None = None

    @property
    def job(self) -> Job:
        """The job; known after :meth:`begin`, or after :meth:`open` if it is recorded."""
        assert self._job is not None
        return self._job

    @property
    def recorded_runtime(self) -> Runtime | None:
        """Runtime of an earlier run of this job, which this run uses, too; None without one."""
        return None if self._job is None else self._job.runtime

    @property
    def complete(self) -> bool:
        """Whether no shard is queued or running."""
        return self._ledger is None or self._ledger.complete

    def attempt(self, step: Callable[[], None]) -> SceneFailure | None:
        """Run a step; when it fails, close the output folder and return the failure."""
        try:
            step()
        except GeoforestError as error:
            self.close(type(error), error, error.__traceback__)
            return self._failure(error)
        return None

    def open(self) -> None:
        """Open the scene, lock its output folder, and look there for the job of an earlier run."""
        setup, shared = self._shared.setup, self._shared
        self._draft = setup.draft(self._path, shared.load_predictor)
        scene_id = self._draft.scene.scene_id
        check_new(scene_id, shown(str(self._path)), shared.begun)
        if shared.alone and shared.units is not None:
            check_touched(shared.units, {Path(scene_id): self._draft.scene.georef})
        self._progress = shared.progress(scene_id)
        self._progress("prepare", 0, 1)
        destination = shared.out / scene_id
        if is_same(destination, self._path):
            raise OutputError(f"{destination.location}: is the scene itself; choose another --out")
        self._workspace = self._held.enter_context(
            open_workspace(destination, keep_work=setup.settings.keep_work)
        )
        earlier = self._workspace.earlier.documents
        self._job = self._draft.of_earlier(earlier, base_mb=setup.base_mb)

    def begin(self, runtime: Runtime, pool: Pool) -> None:
        """Decide on the job, find its missing shards, and queue them."""
        setup, workspace = self._shared.setup, self._workspace
        self._job = job = self._job or self._draft.job(runtime, base_mb=setup.base_mb)
        workspace.settle(job.record(setup.settings), overwrite=setup.settings.overwrite)
        settings = with_earlier(setup.settings, workspace)
        self._run = MapRun(
            job, workspace, settings, self._shared.units, self._clock, self._progress
        )
        self._earlier = cast("MapSummary | None", workspace.unchanged(self._run.asked()))
        if self._earlier is not None:
            return
        self._ledger = Ledger(job, workspace, self._progress)
        if self._ledger.missing:
            pool.add(job, workspace.store, self._ledger.missing, self._ledger.note)
        self._progress("prepare", 1, 1)
        self._ledger.begin()
        self._clock.lap("start")

    def enter(self, done: Done, pool: Pool) -> None:
        """Record the outcome of a shard; after a fatal one, drop those that would fail alike."""
        assert self._ledger is not None
        self._ledger.enter(done.shard, done.receipt, done.reason)
        if done.fatal:
            self._ledger.give_up(pool.drop(self.job))

    def finish(self) -> MapResult | SceneFailure:
        """Make products of the finished shards and publish them."""
        try:
            with self._held:
                summary = self._earlier or self._make_products()
                return MapResult(self._workspace.destination.location, summary)
        except GeoforestError as error:
            return self._failure(error)
        except OSError as error:
            folder = self._workspace.destination.work.parent
            sentence = f"{folder}: cannot be written to ({error.strerror or error})"
            return self._failure(WriteError(sentence))
        finally:
            self._progress("done", 1, 1)

    def close(self, *error: Any) -> None:
        """Unlock the output folder after an error; finished shards stay in it."""
        try:
            self._progress("done", 1, 1)
        finally:
            # Also when the caller's progress callback raised, and raises again.
            self._held.__exit__(*error)

    def _make_products(self) -> MapSummary:
        assert self._ledger is not None
        self._clock.lap("shards")
        prediction = self._ledger.close(allow_gaps=self._run.settings.allow_gaps)
        products = stage(self._run, prediction)
        return publish(self._run, prediction, products)

    def _failure(self, error: GeoforestError) -> SceneFailure:
        return SceneFailure(shown(str(self._path)), error)


@contextmanager
def _closing(runs: list[_SceneRun]) -> Iterator[list[_SceneRun]]:
    """Close the runs that remain in a list when an exception ends the block."""
    try:
        yield runs
    except BaseException as error:
        for run in runs:
            run.close(type(error), error, error.__traceback__)
        raise


def check_new(scene_id: str, path: str, begun: dict[str, str]) -> None:
    """Add a scene to those that a run has begun, paths by id.

    Raises
    ------
    InputError
        When there is one of the same name.
    """
    if scene_id in begun:
        raise InputError(
            f"{path}: is scene {scene_id!r}, as {begun[scene_id]} is; give one of them alone, or "
            "with --scene-id"
        )
    begun[scene_id] = path


def named_once(scenes: Iterable[str | Path], settings: MapSettings) -> list[str | Path]:
    """Return the scenes of a run as a list; each must have a name of its own.

    Of an acquisition that is there under several processing baselines, only the newest is returned;
    a warning names the others.

    Raises
    ------
    InputError
        When two have the same name.
    """
    paths = list(scenes)
    if settings.scene_id is not None and len(paths) > 1:
        raise InputError(f"scene id {settings.scene_id!r} for {len(paths)} scenes: it is for one")
    # A STAC item is named by its content, not by its file.
    names = [scene_name(path) for path in paths if not is_item(os.fspath(path))]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"scene id {twice[0]!r} is there twice; rename it, or use --scene-id")
    return newest_scenes(paths)
