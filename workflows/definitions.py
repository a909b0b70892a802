"""The code location that ``dagster dev`` opens."""

from __future__ import annotations

import dagster as dg

from workflows import chips, jobs, scenes, training
from workflows.settings import Settings


def code_location(settings: Settings) -> dg.Definitions:
    """Build the definitions: assets, jobs, sensor and schedule, with the settings as a resource."""
    return dg.Definitions(
        assets=dg.load_assets_from_modules([chips, training, scenes]),
        jobs=jobs.JOBS,
        sensors=[jobs.new_scenes],
        schedules=[jobs.nightly_mosaic],
        resources={"settings": settings},
        # One process per step would load torch for each step.
        executor=dg.in_process_executor,
    )


defs = code_location(Settings.from_environment())
