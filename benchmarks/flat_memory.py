"""Measure the peak memory of mapping 10980 x 10980 px, and a VRT of 4 x 4 copies of the scene.

    python -m benchmarks.flat_memory [--size 10980] [--products mask,probability]

Each run has a process of its own and a predictor that does nothing, so that it takes minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import rasterio

REPEATS = 4
JOB = """
import json, sys
import geoforest
from benchmarks.scheduler_load import load_no_predictor
result = geoforest.map_scene(
    sys.argv[1], sys.argv[2], products=sys.argv[3], load_predictor=load_no_predictor
)
print(json.dumps(result.summary))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=10980)
    parser.add_argument("--products", default="mask,probability")
    arguments = parser.parse_args()
    from benchmarks.decodes import write_noise

    with TemporaryDirectory() as name:
        folder = Path(name)
        scene, mosaic = folder / "scene.tif", folder / "mosaic.vrt"
        write_noise(scene, arguments.size, 512)
        write_mosaic(scene, mosaic)
        for path in (scene, mosaic):
            done = subprocess.run(
                [sys.executable, "-c", JOB, path, folder / "out", arguments.products],
                check=True,
                capture_output=True,
                text=True,
                cwd=Path(__file__).parents[1],
            )
            summary = json.loads(done.stdout)
            print(
                f"{summary['shape']}: {summary['shards']} shards, "
                f"peak {summary['peak_memory_mb']:,.0f} MB, {summary['seconds']['total']:.0f} s",
                flush=True,
            )


def write_mosaic(scene: Path, path: Path) -> None:
    """Write a VRT that repeats a scene ``REPEATS`` times along each side."""
    with rasterio.open(scene) as source:
        size, wkt, transform = source.width, source.crs.to_wkt(), source.transform
        names = source.descriptions
    bands = []
    for index, name in enumerate(names, start=1):
        places = "".join(
            f'<SimpleSource><SourceFilename relativeToVRT="1">{scene.name}</SourceFilename>'
            f"<SourceBand>{index}</SourceBand>"
            f'<SrcRect xOff="0" yOff="0" xSize="{size}" ySize="{size}"/>'
            f'<DstRect xOff="{col * size}" yOff="{row * size}" xSize="{size}" ySize="{size}"/>'
            "</SimpleSource>"
            for row in range(REPEATS)
            for col in range(REPEATS)
        )
        bands.append(
            f'<VRTRasterBand dataType="UInt16" band="{index}"><Description>{name}</Description>'
            f"<NoDataValue>0</NoDataValue>{places}</VRTRasterBand>"
        )
    geotransform = ", ".join(map(str, transform.to_gdal()))
    path.write_text(
        f'<VRTDataset rasterXSize="{size * REPEATS}" rasterYSize="{size * REPEATS}">'
        f"<SRS>{wkt.replace('<', '&lt;')}</SRS><GeoTransform>{geotransform}</GeoTransform>"
        f"{''.join(bands)}</VRTDataset>"
    )


if __name__ == "__main__":
    main()
