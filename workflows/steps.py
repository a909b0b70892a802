"""Behaviour that all assets share: retries, except after bad input; seconds; the GPU pool."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import dagster as dg

from geoforest import AccessError, InputError

if TYPE_CHECKING:
    Materialized: TypeAlias = dg.MaterializeResult[Any]
else:
    # Dagster reads annotations, and takes a parameter here for the type of a stored output.
    Materialized = dg.MaterializeResult

# Two retries, after 30 and 90 seconds.
RETRIES: Final = dg.RetryPolicy(max_retries=2, delay=30, backoff=dg.Backoff.EXPONENTIAL)
# One step at a time: steps of a run are sequential, and dagster.yaml limits the pool for runs.
GPU: Final = {"pool": "gpu"}


@contextmanager
def not_retried() -> Iterator[None]:
    """Fail without a retry on input that the user must correct.

    When the cause is a store that could not be reached, the step is retried all the same.
    """
    try:
        yield
    except InputError as error:
        raise dg.Failure(str(error), allow_retries=_was_access(error)) from error


def _was_access(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, AccessError):
        error = error.__cause__ or error.__context__
    return error is not None


def step(**options: Any) -> Callable[[Callable[..., Materialized]], dg.AssetsDefinition]:
    """Make an asset of a function that returns a ``MaterializeResult``, and add its seconds."""

    def decorate(function: Callable[..., Materialized]) -> dg.AssetsDefinition:
        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Materialized:
            start = time.perf_counter()
            with not_retried():
                result = function(*args, **kwargs)
            seconds = dg.MetadataValue.float(round(time.perf_counter() - start, 3))
            return result._replace(metadata={**(result.metadata or {}), "seconds": seconds})

        asset: dg.AssetsDefinition = dg.asset(**{"retry_policy": RETRIES, **options})(timed)
        return asset

    return decorate
