"""Compare routes from a mask on disk to polygons in a GeoPackage with a spatial index.

    python -m benchmarks.polygons [--size 10980] [--without gdal ...] [--json]

All routes use the same generated mask, each in a process of its own. Before the clock starts, a
process runs its route once with a small mask, to load libraries and compiled loops; its memory at
that point is the base. Every GeoPackage must hold as many polygons as ours, of the same areas, and
as many entries in its index. GDAL's route takes minutes, and runs in any Python that has osgeo.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# Only the standard library is imported here: GDAL's Python may have nothing else, and the peak
# memory of a child process starts with the memory of its parent.

ROOT = Path(__file__).parents[1]
SMALL_PX = 256
TILE_PX = 1024
JOB = """
import json, resource, sys, time
from pathlib import Path
from benchmarks.polygons import ROUTES
def peak_mb(unit=1e6 if sys.platform == "darwin" else 1e6 / 1024):
    whose = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return sum(resource.getrusage(one).ru_maxrss for one in whose) / unit
route, small, mask, out = ROUTES[sys.argv[1]], *map(Path, sys.argv[2:])
route(small, out.with_name("small.gpkg"))
base, start = peak_mb(), time.perf_counter()
route(mask, out)
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "base_mb": base, "peak_mb": peak_mb()}))
"""
# Compares in another process, because the parent must keep its memory small.
COMPARE = """
import sys
from benchmarks.polygons import assert_equal
assert_equal(*sys.argv[1:])
"""


def ours(mask: Path, out: Path) -> None:
    from geoforest import vectorize_to_file

    vectorize_to_file(mask, out, min_area_ha=0, max_vertices=0)


def ours_in_parts(mask: Path, out: Path) -> None:
    """Vectorise with the default cut of giant polygons."""
    from geoforest import vectorize_to_file

    vectorize_to_file(mask, out, min_area_ha=0)


def shapes(mask: Path, out: Path) -> None:
    """Vectorise the whole mask with rasterio.features.shapes, then write with GeoPandas."""
    import geopandas
    import rasterio

    with rasterio.open(mask) as source:
        geometries = _polygons(source.read(1), source.transform)
        crs = source.crs
    frame = geopandas.GeoDataFrame(geometry=geometries, crs=crs)
    frame.to_file(out, engine="pyogrio", driver="GPKG", layer="polygons")


def gdal(mask: Path, out: Path) -> None:
    """Vectorise like gdal_polygonize.py, but in one transaction, which is faster."""
    from osgeo import gdal, ogr

    gdal.UseExceptions()
    out.unlink(missing_ok=True)
    source = gdal.Open(str(mask))
    band = source.GetRasterBand(1)
    target = ogr.GetDriverByName("GPKG").CreateDataSource(str(out))
    layer = target.CreateLayer("polygons", source.GetSpatialRef(), ogr.wkbPolygon)
    layer.CreateField(ogr.FieldDefn("DN", ogr.OFTInteger))
    target.StartTransaction()
    # The band is its own mask, so that zeros become no polygons.
    gdal.Polygonize(band, band, layer, 0)
    layer.SetAttributeFilter("DN <> 1")
    for feature in layer:
        layer.DeleteFeature(feature.GetFID())
    target.CommitTransaction()


def dissolve(mask: Path, out: Path) -> None:
    """Vectorise by tile, then dissolve groups of pieces that touch at tile borders."""
    import geopandas
    import numpy as np
    import pandas as pd
    import rasterio
    from affine import Affine
    from rasterio.transform import array_bounds
    from rasterio.windows import Window
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    whole, cut = [], []
    with rasterio.open(mask) as source:
        crs = source.crs
        for row in range(0, source.height, TILE_PX):
            for col in range(0, source.width, TILE_PX):
                height, width = min(TILE_PX, source.height - row), min(TILE_PX, source.width - col)
                window = Window(col, row, width, height)
                transform = source.transform @ Affine.translation(col, row)
                pieces = geopandas.GeoSeries(
                    _polygons(source.read(1, window=window), transform), crs=crs
                )
                left, bottom, right, top = array_bounds(height, width, transform)
                bounds = pieces.bounds
                inside = (bounds.minx > left) & (bounds.maxx < right)
                inside &= (bounds.miny > bottom) & (bounds.maxy < top)
                whole.append(pieces[inside])
                cut.append(pieces[~inside])
    pieces = geopandas.GeoDataFrame(geometry=pd.concat(cut, ignore_index=True), crs=crs)
    one, other = pieces.sindex.query(pieces.geometry, predicate="intersects")
    pairs = coo_array((np.ones(len(one), np.bool_), (one, other)), (len(pieces), len(pieces)))
    pieces["group"] = connected_components(pairs, directed=False)[1]
    # Groups include pieces that touch at corners only; explode separates them again.
    joined = pieces.dissolve("group").explode(ignore_index=True)
    geometries = pd.concat([*whole, joined.geometry], ignore_index=True)
    frame = geopandas.GeoDataFrame(geometry=geometries, crs=crs)
    frame.to_file(out, engine="pyogrio", driver="GPKG", layer="polygons")


ROUTES: dict[str, Callable[[Path, Path], None]] = {
    "ours": ours,
    "ours in parts": ours_in_parts,
    "shapes": shapes,
    "gdal": gdal,
    "dissolve": dissolve,
}
TITLES = {
    "ours": "geoforest.vectorize_to_file",
    "shapes": "rasterio.features.shapes, GeoPandas",
    "gdal": "GDAL's polygonize",
    "dissolve": f"tiles of {TILE_PX} px, GeoPandas dissolve",
}


def _polygons(values: Any, transform: Any) -> list[Any]:
    from rasterio.features import shapes
    from shapely.geometry import shape

    return [shape(ring) for ring, _ in shapes(values, mask=values == 1, transform=transform)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=10980)
    parser.add_argument("--seed", type=int, default=7)
    others = [name for name in TITLES if name != "ours"]
    parser.add_argument("--without", nargs="+", choices=others, default=[])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    routes = [name for name in TITLES if name not in arguments.without]
    with TemporaryDirectory() as name:
        found = compare(Path(name), arguments.size, routes, seed=arguments.seed)
    if arguments.json:
        print(json.dumps(found))
        return
    print(f"{found['size']} x {found['size']} px: {found['polygons']:,} polygons, areas are equal")
    for line in table(found["routes"]):
        print(line)


def compare(folder: Path, size: int, routes: list[str], *, seed: int = 7) -> dict[str, Any]:
    """Run the routes, ours among them, and assert that their polygons are equal."""
    small, mask = folder / "small.tif", folder / "mask.tif"
    write(small, SMALL_PX, seed)
    write(mask, size, seed)
    found: dict[str, Any] = {}
    for name in routes:
        python = python_with_gdal() if name == "gdal" else sys.executable
        if python is None:
            say("gdal: skipped, no Python here has osgeo")
            continue
        say(f"{name} ...")
        found[name] = measure(name, small, mask, folder / f"{name}.gpkg", python=python)
    others = [folder / f"{name}.gpkg" for name in found if name != "ours"]
    polygons = int(run(sys.executable, COMPARE, folder / "ours.gpkg", *others))
    return {"size": size, "seed": seed, "polygons": polygons, "routes": found}


def measure(
    route: str, small: Path, mask: Path, out: Path, *, python: str = sys.executable
) -> dict[str, float]:
    """Run a route in a process of its own; return seconds, and base and peak memory in MB.

    ``process_seconds`` cover the whole process, including the loading of libraries.
    """
    start = time.perf_counter()
    found = json.loads(run(python, JOB, route, small, mask, out))
    return {**found, "process_seconds": time.perf_counter() - start}


def write(path: Path, size: int, seed: int) -> None:
    job = "import sys; from benchmarks.masks import main; main()"
    run(sys.executable, job, path, "--size", size, "--seed", seed)


def run(python: str, job: str, *arguments: object) -> str:
    """Run a job in a Python process, and return the last line that it prints."""
    command = [python, "-c", job, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=True)
    return (done.stdout.splitlines() or [""])[-1]


def python_with_gdal() -> str | None:
    """Find a Python that can import osgeo: this one, the system's, or gdal_polygonize.py's."""
    candidates = [sys.executable, "/usr/bin/python3", shutil.which("python3")]
    if script := shutil.which("gdal_polygonize.py"):
        with Path(script).open() as lines:
            candidates.append(lines.readline().removeprefix("#!").strip())
    for python in candidates:
        if python and Path(python).exists():
            tried = subprocess.run(
                [python, "-c", "import osgeo.gdal"], capture_output=True, check=False
            )
            if tried.returncode == 0:
                return python
    return None


def assert_equal(first: str, *others: str) -> None:
    """Assert that GeoPackages hold polygons of the same areas, all indexed; print how many."""
    import numpy as np

    wanted = pixels_of_polygons(Path(first))
    for other in others:
        found = pixels_of_polygons(Path(other))
        assert len(found) == len(wanted), f"{other}: {len(found)} polygons, not {len(wanted)}"
        assert found.sum() == wanted.sum(), f"{other}: {found.sum()} px, not {wanted.sum()}"
        assert np.array_equal(found, wanted), f"{other}: polygons of other sizes"
    print(len(wanted))


def pixels_of_polygons(path: Path) -> Any:
    """Return sorted sizes in pixels of the polygons of a GeoPackage; assert all are indexed."""
    import numpy as np
    import pyogrio
    import shapely

    with closing(sqlite3.connect(path)) as database:
        columns = "SELECT table_name, column_name FROM gpkg_geometry_columns"
        layer, column = database.execute(columns).fetchone()
        index = f'SELECT COUNT(*) FROM "rtree_{layer}_{column}"'
        indexed = database.execute(index).fetchone()[0]
    frame = pyogrio.read_dataframe(path, layer=layer, columns=[])
    assert indexed == len(frame), f"{path}: {indexed} of {len(frame)} polygons are in its index"
    pixels = shapely.area(frame.geometry.to_numpy()) / 100
    assert np.allclose(pixels, np.rint(pixels), rtol=0, atol=1e-3)
    return np.sort(np.rint(pixels).astype(np.int64))


def table(found: dict[str, dict[str, float]]) -> list[str]:
    head = ("route", "seconds", "x ours", "peak MB", "x ours", "base MB", "process s")
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * 6]
    base = found["ours"]
    for name, one in found.items():
        slower = one["seconds"] / base["seconds"]
        larger = one["peak_mb"] / base["peak_mb"]
        lines.append(
            f"| {TITLES[name]} | {one['seconds']:.1f} | {slower:.1f} | {one['peak_mb']:,.0f} "
            f"| {larger:.2f} | {one['base_mb']:,.0f} | {one['process_seconds']:.1f} |"
        )
    return lines


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
