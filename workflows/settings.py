"""Locations of chips, scenes, models and maps, from the environment or below one folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import dagster as dg

from geoforest import (
    MapResult,
    Place,
    Scene,
    WandbTracker,
    fetch_map,
    find_scenes,
    open_model,
    open_scene,
)
from geoforest.scenes.synthetic import make_scene, write_scene

_VARIABLES = {
    "home": "GEOFOREST_HOME",
    "chips": "GEOFOREST_CHIPS",
    "scenes": "GEOFOREST_SCENES",
    "maps": "GEOFOREST_MAPS",
    "model": "GEOFOREST_MODEL",
    "wandb": "GEOFOREST_WANDB",
    "scheduler": "GEOFOREST_SCHEDULER",
    "units": "GEOFOREST_UNITS",
    "units_field": "GEOFOREST_UNITS_FIELD",
}
DEMO_SCENE = "synthetic-rondonia"
MODEL_NAME = "forest"
BANDS = ("B04", "B03", "B02", "B08")


class Settings(dg.ConfigurableResource[Any]):
    """Locations and options of the assets; an empty text selects the demonstration's data."""

    home: str = "geoforest-home"
    chips: str = ""
    scenes: str = ""
    maps: str = ""
    model: str = "bundled"
    wandb: str = ""
    scheduler: str = ""
    units: str = ""
    units_field: str = "name"
    demo_chip_px: int = 256
    demo_scene_px: int = 2304

    @classmethod
    def from_environment(cls) -> Settings:
        """Build settings from the variables that are set; Dagster shows names, never values."""
        given: dict[str, Any] = {
            field: dg.EnvVar(name) for field, name in _VARIABLES.items() if os.environ.get(name)
        }
        return cls(**given)

    @property
    def folder(self) -> Path:
        """Folder of everything without a location of its own."""
        return Path(self.home).absolute()

    @property
    def chips_location(self) -> str:
        """Labelled chips: a folder or a bucket."""
        return self.chips or str(self.folder / "chips")

    @property
    def scenes_location(self) -> str:
        """Scenes to be mapped: a folder or a bucket."""
        return self.scenes or str(self.folder / "scenes")

    @property
    def maps_location(self) -> str:
        """Maps: a folder or a bucket."""
        return self.maps or str(self.folder / "maps")

    @property
    def models(self) -> Path:
        """Folder of trained bundles, one per folder in ``trials``."""
        return self.folder / "models"

    @property
    def registry(self) -> str:
        """Reference of the model that the best bundle is pushed to."""
        place = f"wandb:{self.wandb}" if self.wandb else f"folder:{self.models / 'registry'}"
        return f"{place}/{MODEL_NAME}"

    @property
    def best_model(self) -> str:
        """Reference of the best bundle."""
        return f"{self.registry}:best_model"

    def tracker(self) -> WandbTracker | None:
        """Build the tracker of a training; None without a W&B project."""
        entity, _, project = self.wandb.rpartition("/")
        return WandbTracker(project, entity=entity or None) if project else None

    def find_scenes(self) -> dict[str, str]:
        """Return locations of scenes by id; without a location, with the scene of the demo."""
        if self.scenes:
            return find_scenes(self.scenes)
        folder = self.folder / "scenes"
        found = find_scenes(str(folder)) if folder.is_dir() else {}
        return {DEMO_SCENE: str(folder / f"{DEMO_SCENE}.tif"), **found}

    def scene(self, scene_id: str) -> tuple[str, Scene]:
        """Return location and description of a scene; write the demo's scene when absent."""
        location = self.find_scenes().get(scene_id)
        if location is None:
            raise dg.Failure(
                f"{self.scenes_location}: no scene {scene_id} any more", allow_retries=False
            )
        if not self.scenes and scene_id == DEMO_SCENE and not Path(location).exists():
            Path(location).parent.mkdir(parents=True, exist_ok=True)
            write_scene(make_scene(shape=(self.demo_scene_px,) * 2), location)
        bands = open_model(self.model).card.bands
        return location, open_scene(location, wanted=bands, scene_id=scene_id)

    def on_disk(self, result: MapResult) -> Path:
        """Return the folder of a map; a map in a bucket is fetched."""
        if isinstance(result.folder, Path):
            return result.folder
        return self.fetched(result.folder)

    def fetched(self, place: Place) -> Path:
        """Fetch a map from a bucket and return its folder."""
        folder = self.folder / "fetched" / place.name
        fetch_map(place, folder)
        return folder
