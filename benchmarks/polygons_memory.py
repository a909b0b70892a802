"""Measure seconds and peak memory of vectorising masks of up to 43920 x 43920 px.

    python -m benchmarks.polygons_memory [--sizes 10980 21960 43920] [--json]

Giant polygons are cut by default, and nothing is dropped, so that the largest mask has about one
and a half million patches. Seconds per gigapixel should stay nearly equal, and the peak below 3 GB.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.polygons import SMALL_PX, measure, say, write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10980, 21960, 43920])
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="folder for 2 GB of files, instead of /tmp")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not arguments.json:
        print("| px | patches | polygons | seconds | per gigapixel | peak MB | base MB |")
        print("|" + " ---: |" * 7)
    found = []
    for size in arguments.sizes:
        with TemporaryDirectory(dir=arguments.folder) as name:
            one = grow(Path(name), size, seed=arguments.seed)
        found.append(one)
        if not arguments.json:
            print(
                f"| {size} | {one['patches']:,} | {one['polygons']:,} | {one['seconds']:.1f} "
                f"| {one['seconds'] / size**2 * 1e9:.1f} | {one['peak_mb']:,.0f} "
                f"| {one['base_mb']:,.0f} |",
                flush=True,
            )
    if arguments.json:
        print(json.dumps(found))


def grow(folder: Path, size: int, *, seed: int = 7) -> dict[str, Any]:
    """Make a mask of a given size and its polygons, and count the polygons."""
    small, mask, out = folder / "small.tif", folder / "mask.tif", folder / "forest.gpkg"
    say(f"{size} px: mask ...")
    write(small, SMALL_PX, seed)
    write(mask, size, seed)
    say(f"{size} px: polygons ...")
    found = measure("ours in parts", small, mask, out)
    with closing(sqlite3.connect(out)) as database:
        count = "SELECT COUNT(DISTINCT patch_id), COUNT(*) FROM forest_cover"
        patches, polygons = database.execute(count).fetchone()
    return {"size": size, "patches": patches, "polygons": polygons, **found}


if __name__ == "__main__":
    main()
