"""Make the pictures in docs/, except docs/qgis.png, which ``scripts/draw_qgis.py`` makes.

    python -m scripts.draw_docs [--out docs] [--work FOLDER]

It follows the tutorial: it maps the demonstration's scene and the same scene a year later, and
takes screenshots of their pages in Chromium. Needs Playwright and the system's chromium.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import geopandas
import rasterio
import shapely
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

import geoforest
from geoforest.pipeline.demo import SCENE_NAME, run_demo
from geoforest.scenes.synthetic import make_scene, write_scene

MAX_BYTES = 300_000
WIDTH_PX = 1100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--work", type=Path, help="folder to keep what the pictures show")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        draw(given.work or Path(folder), given.out)


def draw(work: Path, out: Path) -> None:
    demo = run_demo(work)
    save(demo.quicklook.read_bytes(), out / "quicklook.jpg")
    first = work / SCENE_NAME
    units = work / "units.gpkg"
    write_halves(first / "forest_mask.tif", units)
    figure = work / "units.png"
    geoforest.area_by_unit(first, units, by="name", figure=figure)
    save(figure.read_bytes(), out / "units.png")
    later = work / "a-year-later.tif"
    write_later(later)
    second = geoforest.map_scene(later, work, overwrite=True, runtime="torch").folder
    assert isinstance(second, Path)
    shutil.rmtree(work / "change", ignore_errors=True)
    geoforest.map_change(first, second, work / "change")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        save(screenshot(browser, first / "report.html"), out / "report.jpg")
        save(screenshot(browser, work / "change" / "report.html"), out / "change.jpg")
        browser.close()


def write_halves(mask: Path, path: Path) -> None:
    with rasterio.open(mask) as source:
        left, bottom, right, top = source.bounds
        crs = source.crs
    middle = (left + right) / 2
    halves = [shapely.box(left, bottom, middle, top), shapely.box(middle, bottom, right, top)]
    names = {"name": ["West", "East"]}
    geopandas.GeoDataFrame(names, geometry=halves, crs=crs).to_file(path)


def write_later(path: Path) -> None:
    """Write the scene of the tutorial's second date, in which a square of 1.5 km is cleared."""
    scene = make_scene(seed=7, shape=(2304, 2304))
    dn = scene.dn.copy()
    bare_soil = dn[:, scene.truth == 0].mean(axis=1).astype("uint16")
    dn[:, 1000:1150, 1500:1650] = bare_soil[:, None, None]
    write_scene(replace(scene, dn=dn, acquired=scene.acquired + timedelta(days=365)), path)


def screenshot(browser: Browser, page: Path, height: int = 1000) -> bytes:
    tab = browser.new_page(viewport={"width": WIDTH_PX, "height": height})
    tab.goto(page.resolve().as_uri(), wait_until="load")
    shot = tab.screenshot()
    tab.close()
    return shot


def save(png: bytes, path: Path) -> None:
    """Write a picture in the best quality that fits ``MAX_BYTES``: satellite images as JPEG.

    A chart has few colours, so that a ``.png`` with a palette loses nothing of it.
    """
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.thumbnail((WIDTH_PX, 4 * WIDTH_PX), Image.Resampling.LANCZOS)
    for quality in (92, 85, 75, 60):
        data = io.BytesIO()
        if path.suffix == ".jpg":
            picture.save(data, "jpeg", quality=quality, subsampling=0, optimize=True)
        else:
            picture.quantize(256, dither=Image.Dither.NONE).save(data, "png", optimize=True)
        if data.tell() <= MAX_BYTES:
            break
    path.write_bytes(data.getvalue())
    print(f"{path}: {picture.width} x {picture.height} px, {data.tell():,} bytes")


if __name__ == "__main__":
    main()
