"""Estimate windows, shards, bytes, hours and cost of mapping the whole Amazon basin.

    python scripts/basin_estimate.py [--gpu-windows-per-second 360] [--gpu-price 1.00] ...

Prints the tables of docs/scaling.md, which names the sources of the figures.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

from geoforest.arrays.grid import Grid, shard_cores

TILES, SIDE, BANDS = 700, 10_980, 4
WINDOW, HALO, SHARD_PX = 512, 32, 1792

# Measured for one scene on two cores, see docs/measured.md.
READ_GB = 0.55
NETWORK_WINDOWS_PER_SECOND = 625 / 61
JOB_TO_NETWORK = 1.12
DOUBLING = 1.76 / 2
# Start-up, rasters, polygons, report; then reading and writing shards on both cores.
HOST_SECONDS = 6 + 4.6 / 2
# Seconds per tile of a mosaic: the parallel part, and the serial part.
TILE_SECONDS, TILE_SERIAL_SECONDS = 68 / 11, 18 / 11


@dataclass(frozen=True)
class Machine:
    """One kind of machine, and how many of it.

    Attributes
    ----------
    name
        Name in the table.
    count
        Number of machines that work in parallel.
    windows_per_second
        Rate of the network alone on one machine.
    pairs
        Pairs of cores per machine.
    price
        Dollars per hour and machine.
    has_gpu
        Without a GPU, the network shares its cores with the rest of the job.
    """

    name: str
    count: int
    windows_per_second: float
    pairs: float
    price: float
    has_gpu: bool

    def map_hours(self, windows: int) -> float:
        """Compute the hours for all scenes."""
        network = windows / self.windows_per_second
        if self.has_gpu:
            seconds = network + TILES * HOST_SECONDS / self.pairs
        else:
            seconds = network * JOB_TO_NETWORK
        return seconds / self.count / 3600

    def mosaic_hours(self, tiles: int) -> float:
        """Compute the hours for the mosaic; one process makes the polygons of a zone."""
        side_by_side = tiles * TILE_SECONDS / self.pairs / self.count
        return (side_by_side + tiles * TILE_SERIAL_SECONDS) / 3600

    def cost(self, windows: int, tiles: int) -> float:
        """Compute the price in dollars; one machine makes the serial part of the mosaic."""
        serial = tiles * TILE_SERIAL_SECONDS / 3600
        shared = self.map_hours(windows) + self.mosaic_hours(tiles) - serial
        return (shared * self.count + serial) * self.price


def count_work() -> dict[str, float]:
    """Count windows, shards, terabytes and tiles, for one scene per tile."""
    grid = Grid(
        (SIDE, SIDE), window=WINDOW, halo=HALO, shard_cores=shard_cores(SHARD_PX, WINDOW - 2 * HALO)
    )
    shards = list(grid.shards())
    windows = sum(len(list(grid.cores(shard.extent))) for shard in shards)
    pixels = SIDE * SIDE
    return {
        "windows": TILES * windows,
        "shards": TILES * len(shards),
        "read_tb": TILES * READ_GB / 1000,
        "decoded_tb": TILES * pixels * BANDS * 2 / 1e12,
        # Shards, and a flat copy and a COG with overviews of two rasters; only the COGs are kept.
        "written_tb": TILES * pixels * (1 + 2 * (1 + 4 / 3)) / 1e12,
        "kept_tb": TILES * pixels * 2 * 4 / 3 / 1e12,
        # A square of scenes touches one more tile along each side.
        "mosaic_tiles": math.ceil((math.sqrt(TILES) + 1) ** 2),
    }


def machines(gpu_rate: float, gpu_price: float, laptop_price: float) -> list[Machine]:
    """Return the machines that the table compares."""
    rate = NETWORK_WINDOWS_PER_SECOND
    four_pairs = 4 * DOUBLING**2
    return [
        Machine("laptop, 2 cores", 1, rate, 1, laptop_price, False),
        Machine("laptop, 8 cores", 1, rate * four_pairs, four_pairs, laptop_price, False),
        Machine("1 GPU with 2 cores", 1, gpu_rate, 1, gpu_price, True),
        Machine("16 of these", 16, gpu_rate, 1, gpu_price, True),
    ]


def table(gpu_rate: float = 360, gpu_price: float = 1.0, laptop_price: float = 0.015) -> str:
    """Return both tables as Markdown."""
    done = count_work()
    lines = [
        "| to do | one scene per tile |",
        "| --- | ---: |",
        f"| scenes | {TILES:,} |",
        f"| windows | {done['windows']:,} |",
        f"| shards | {done['shards']:,} |",
        f"| tiles of the mosaic | {done['mosaic_tiles']:,} |",
        f"| read, compressed | {done['read_tb']:.2f} TB |",
        f"| the same, decoded | {done['decoded_tb']:.2f} TB |",
        f"| written, at most | {done['written_tb']:.2f} TB |",
        f"| of which rasters that stay, at most | {done['kept_tb']:.2f} TB |",
        "",
        "| machine | windows/s | mapping | mosaic | in all | cost |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for machine in machines(gpu_rate, gpu_price, laptop_price):
        windows, tiles = int(done["windows"]), int(done["mosaic_tiles"])
        hours = machine.map_hours(windows), machine.mosaic_hours(tiles)
        rate = machine.windows_per_second * machine.count
        lines.append(
            f"| {machine.name} | {rate:,.0f} | {hours[0]:.1f} h | {hours[1]:.1f} h | "
            f"{sum(hours):.1f} h | ${machine.cost(windows, tiles):.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpu-windows-per-second", type=float, default=360)
    parser.add_argument("--gpu-price", type=float, default=1.0, help="$ per hour")
    parser.add_argument("--laptop-price", type=float, default=0.015, help="$ per hour")
    arguments = parser.parse_args()
    print(table(arguments.gpu_windows_per_second, arguments.gpu_price, arguments.laptop_price))


if __name__ == "__main__":
    main()
