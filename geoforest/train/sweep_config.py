"""Configuration of a sweep, in the format of Weights & Biases."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from geoforest.errors import InputError, checked, first_fault
from geoforest.train.settings import TrainSettings

# A number with an exponent and without a dot, such as 1e-4, is a text in YAML 1.1.
_NUMBER: Final = re.compile(r"\s*[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?\s*")
METRIC: Final = "val_loss"
_Number = int | float


class SweepParameter(BaseModel):
    """Values of one training setting: one, several, or a range."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: Any = None
    values: tuple[Any, ...] | None = None
    min: _Number | None = None
    max: _Number | None = None
    distribution: (
        Literal["constant", "categorical", "int_uniform", "uniform", "log_uniform_values"] | None
    ) = None

    @model_validator(mode="after")
    def _is_one_kind(self) -> SweepParameter:
        given = {"value", "values", "min"} & self.model_fields_set
        if len(given) != 1 or (self.min is None) != (self.max is None):
            raise ValueError("one of value, values, or min and max was wanted")
        if self.values is not None and not self.values:
            raise ValueError("values is empty")
        if self.min is not None and self.max is not None:
            self._check_range(self.min, self.max)
        return self

    def _check_range(self, low: _Number, high: _Number) -> None:
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise ValueError(f"min {low}, max {high}: numbers in this order were wanted")
        if self.distribution == "log_uniform_values" and low <= 0:
            raise ValueError(f"min {low}: log_uniform_values wants one above 0")
        if self.distribution == "int_uniform" and not self.is_whole:
            raise ValueError(f"min {low}, max {high}: int_uniform wants whole numbers")

    @property
    def is_whole(self) -> bool:
        """Whether both ends of a range are integers; its values then are integers by default."""
        return isinstance(self.min, int) and isinstance(self.max, int)

    @property
    def choices(self) -> tuple[Any, ...] | None:
        """All values, or None for a range."""
        if self.min is not None:
            return None
        return self.values if self.values is not None else (self.value,)


class SweepMetric(BaseModel):
    """Metric to minimise: the validation loss of the best epoch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["val_loss"] = METRIC
    goal: Literal["minimize"] = "minimize"


# Keys of a Weights & Biases configuration that say where and how its own agent trains.
_AGENTS_KEYS: Final = {"program", "command", "project", "entity"}


class SweepConfig(BaseModel):
    """Configuration of a sweep, in the format of Weights & Biases.

    ``program``, ``command``, ``project`` and ``entity`` are accepted and ignored.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="sweep", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    description: str = ""
    method: Literal["grid", "random", "bayes"] = "grid"
    metric: SweepMetric = SweepMetric()
    parameters: dict[str, SweepParameter] = Field(min_length=1)
    run_cap: int | None = Field(default=None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _without_agents_keys(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            return raw
        return {name: value for name, value in raw.items() if name not in _AGENTS_KEYS}

    @field_validator("parameters", mode="before")
    @classmethod
    def _numbers_are_no_texts(cls, raw: Any) -> Any:
        """Replace texts by the numbers that they are, where a setting wants one.

        Otherwise 1e-4, "1e-4" and 0.0001 would be values of three different sweeps.
        """
        if not isinstance(raw, Mapping):
            return raw
        return {
            name: {key: _with_numbers(name, value) for key, value in parameter.items()}
            if isinstance(parameter, Mapping)
            else parameter
            for name, parameter in raw.items()
        }

    @model_validator(mode="after")
    def _method_fits(self) -> SweepConfig:
        if self.method == "grid":
            ranges = [name for name, one in self.parameters.items() if one.choices is None]
            if ranges:
                raise ValueError(f"a grid needs values, and {ranges[0]} is a range")
        elif self.run_cap is None:
            raise ValueError(f"method {self.method} needs a run_cap")
        return self

    @property
    def n_trials(self) -> int:
        """Number of trials in the whole sweep."""
        if self.method != "grid":
            assert self.run_cap is not None
            return self.run_cap
        return len(self.grid())

    def for_wandb(self) -> dict[str, Any]:
        """Return the configuration for the W&B server, which has no default method and metric."""
        given = self.model_dump(mode="json", exclude_unset=True)
        return {**given, "method": self.method, "metric": self.metric.model_dump()}

    def grid(self) -> list[dict[str, Any]]:
        """Return the settings of each trial of a grid; the last parameter varies fastest."""
        choices = [one.choices or () for one in self.parameters.values()]
        points = itertools.islice(itertools.product(*choices), self.run_cap)
        return [dict(zip(self.parameters, point, strict=True)) for point in points]


def read_sweep(path: str | Path) -> SweepConfig:
    """Read and check a configuration file (YAML or JSON).

    Raises
    ------
    InputError
        When the file or a value in it cannot be used; the message names the first fault.
    """
    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: is not YAML ({' '.join(str(error).split())})") from error
    try:
        config = SweepConfig.model_validate(raw)
    except ValidationError as error:
        raise InputError(f"{path}: {first_fault(error, 'sweep')}") from error
    for name, parameter in config.parameters.items():
        for value in parameter.choices or (parameter.min, parameter.max):
            checked(TrainSettings, {name: value})
    return config


def _with_numbers(setting: str, value: Any) -> Any:
    """Return a value, or a list of values, of a setting with numbers instead of their texts."""
    if isinstance(value, list | tuple):
        return [_with_numbers(setting, one) for one in value]
    if not isinstance(value, str) or _NUMBER.fullmatch(value) is None:
        return value
    number = float(value)
    try:
        kept = getattr(TrainSettings.model_validate({setting: number}), setting)
    except ValidationError:
        return value
    return kept if isinstance(kept, _Number) and not isinstance(kept, bool) else value
