"""What all assets share: retries, except after bad input; seconds; one GPU for one at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final

import dagster as dg

from geoforest.errors import AccessError, InputError

# After 30 and after 90 seconds.
RETRIES: Final = dg.RetryPolicy(max_retries=2, delay=30, backoff=dg.Backoff.EXPONENTIAL)
# One at a time: in a run the steps follow each other, between runs dagster.yaml limits the pool.
GPU: Final = {"pool": "gpu"}


@contextmanager
def not_retried() -> Iterator[None]:
    """Fail for good on what the user has to mend: another try would say the same.

    A store that could not be asked is asked again, whatever kind of error became of that.
    """
    try:
        yield
    except InputError as error:
        raise dg.Failure(str(error), allow_retries=_was_access(error)) from error


def _was_access(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, AccessError):
        error = error.__cause__ or error.__context__
    return error is not None


def step(**options: Any) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Make an asset of a function that gives a ``MaterializeResult``."""

    def made(function: Callable[..., Any]) -> dg.AssetsDefinition:
        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            with not_retried():
                result = function(*args, **kwargs)
            seconds = dg.MetadataValue.float(round(time.perf_counter() - start, 3))
            return result._replace(metadata={**result.metadata, "seconds": seconds})

        return dg.asset(**{"retry_policy": RETRIES, **options})(timed)

    return made
