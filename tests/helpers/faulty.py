"""A map job in a process of its own, with a predictor that can be slow, counted, or greedy.

``python -m tests.helpers.faulty SCENE OUT MODEL SETTINGS`` maps one scene; environment variables,
which workers inherit, tell the predictor what to do. It ends like the command line does.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

import geoforest
from geoforest.errors import GeoforestError
from tests.helpers.synthetic import LocalPredictor

SETTINGS = {"halo": 8, "shard": 48, "min_area_ha": 0.0}


class FaultyPredictor(LocalPredictor):
    """``FAULTY_SECONDS`` slow; adds a line to ``FAULTY_LOG`` a window; ``FAULTY_HOARD`` once."""

    def __call__(self, dn, *args, **kwargs) -> np.ndarray:
        time.sleep(float(os.environ.get("FAULTY_SECONDS", "0")))
        if log := os.environ.get("FAULTY_LOG"):
            with Path(log).open("a") as handle:
                handle.write(f"{os.getpid()}\n")
        hoard = os.environ.get("FAULTY_HOARD")
        if hoard and not Path(hoard).exists():
            Path(hoard).touch()
            kept = [np.ones(32 << 20) for _ in range(16)]
            time.sleep(60)
            del kept
        return super().__call__(dn, *args, **kwargs)


def load_faulty_predictor(job: object) -> FaultyPredictor:
    """Load, and add a line to ``FAULTY_LOADED``."""
    if log := os.environ.get("FAULTY_LOADED"):
        with Path(log).open("a") as handle:
            handle.write(f"{os.getpid()}\n")
    return FaultyPredictor()


def run(scene: Path, out: Path, model: Path, **settings: object) -> geoforest.MapResult:
    chosen = {"model": str(model), **SETTINGS, **settings}
    # From the package, because as a script this module goes by another name.
    from tests.helpers.faulty import load_faulty_predictor as load

    return geoforest.map_scene(scene, out, load_predictor=load, **chosen)


def main() -> None:
    scene, out, model, settings = sys.argv[1:]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        result = run(Path(scene), Path(out), Path(model), **json.loads(settings))
    except GeoforestError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    print(json.dumps(result.summary))


if __name__ == "__main__":
    main()
