"""Kill the driver at random instants, from its first second to its last; then let it finish.

python -m tests.stress.kill_driver [--kills 20] [--seed 0]
"""

from __future__ import annotations

import argparse
import contextlib
import random
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from geoforest.maps.verify.run import verify
from geoforest.models.bundle import save_bundle
from geoforest.models.unet import build_unet
from tests.helpers import faulty, synthetic
from tests.helpers.drivers import IN_FLIGHT, N_SHARDS, SHAPE, Driver, finished_bytes
from tests.helpers.jobs import products


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with TemporaryDirectory() as name:
        folder = Path(name)
        scene = synthetic.write_raster(
            folder / "scene.tif", synthetic.digital_numbers(SHAPE), nodata=0
        )
        torch.manual_seed(0)
        model = folder / "model"
        save_bundle(model, build_unet("mobilenet_v2", 4).state_dict(), synthetic.card())
        whole = products(faulty.run(scene, folder / "whole", model))
        start = time.monotonic()
        driver = Driver(scene, folder / "timed", model)
        assert driver.end()[0] == 0
        usual = time.monotonic() - start
        kills = windows = 0
        while kills < arguments.kills:
            # A fresh job each time that one has come to its end before it was killed.
            out = folder / f"out{kills}"
            driver = Driver(scene, out, model)
            with contextlib.suppress(subprocess.TimeoutExpired):
                driver.process.wait(rng.uniform(0, 1.2 * usual))
            ended = driver.process.poll() is not None
            driver.process.kill()
            driver.process.communicate()
            kept = driver.shards()
            if (driver.folder / "job.json").exists():
                assert not verify(driver.folder), verify(driver.folder)
            faulty.run(scene, out, model)
            assert finished_bytes(driver.folder) == whole
            assert driver.windows() <= N_SHARDS + IN_FLIGHT
            kills += not ended
            windows += driver.windows()
            print(f"{'ended' if ended else 'killed'} with {kept} of {N_SHARDS} shards: same bytes")


if __name__ == "__main__":
    main()
