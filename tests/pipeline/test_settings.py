"""Options of a map: the table, the settings, the keywords and the command line are one list."""

from __future__ import annotations

import inspect
from typing import get_type_hints

import pytest

import geoforest
from geoforest.cli.map_ import map_command
from geoforest.pipeline.descriptions import MAP_OPTIONS
from geoforest.pipeline.settings import MapOptions, MapSettings
from geoforest.train.descriptions import TRAIN_SETTINGS
from geoforest.train.settings import TrainOptions, TrainSettings


def test_each_option_is_everywhere():
    assert set(MapSettings.model_fields) == set(MAP_OPTIONS) == set(MapOptions.__annotations__)
    parameters = inspect.signature(map_command).parameters
    assert set(MAP_OPTIONS) <= set(parameters)


def test_each_setting_of_a_training_is_a_keyword():
    assert (
        set(TrainSettings.model_fields) == set(TRAIN_SETTINGS) == set(TrainOptions.__annotations__)
    )


@pytest.mark.parametrize("name", MAP_OPTIONS)
def test_default_and_help_come_from_the_table(name):
    option, field = MAP_OPTIONS[name], MapSettings.model_fields[name]
    assert (field.default, field.description) == (option.default, option.help)
    parameter = inspect.signature(map_command).parameters[name]
    assert parameter.default == option.default
    (described,) = get_type_hints(map_command, include_extras=True)[name].__metadata__
    assert described.help == option.help


def test_the_defaults_are_settings():
    settings = MapSettings(**{name: option.default for name, option in MAP_OPTIONS.items()})
    assert settings == MapSettings()
    assert settings.products == {"mask", "probability", "polygons", "report"}


def test_every_public_name_is_there():
    for name in geoforest.__all__:
        assert getattr(geoforest, name) is not None
    assert dir(geoforest) == sorted(geoforest.__all__)
