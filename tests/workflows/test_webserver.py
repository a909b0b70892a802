"""The code location as a user opens it: ``dagster dev``, a browser, a partition launched there."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from geoforest.maps.verify.run import verify
from geoforest.models.bundle import save_bundle
from tests.helpers import synthetic
from tests.helpers.browser import open_chromium, watch
from tests.helpers.webserver import ask, dagster_dev, show_lineage

SEEN = ("train_chips", "trained_model", "best_model", "threshold", "polygons", "mosaic")
RUNS = "{ runsOrError { ... on Runs { results { status jobName } } } }"


@pytest.mark.slow
def test_a_partition_is_launched_in_the_browser_and_succeeds(tmp_path, tiny_bundle):
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    synthetic.write_raster(scenes / "scene.tif", synthetic.digital_numbers((150, 190)), nodata=0)
    model = save_bundle(tmp_path / "m", tiny_bundle.state_dict(), synthetic.card(window=128))
    environment = {"GEOFOREST_SCENES": str(scenes), "GEOFOREST_MODEL": str(model.path)}
    with open_chromium() as browser, dagster_dev(tmp_path, **environment) as address:
        watched = watch(browser, address, width=1600)
        page = watched.page
        show_lineage(page, address)
        for name in SEEN:
            expect(page.get_by_text(name, exact=True).first).to_be_attached()

        page.goto(f"{address}/locations/workflows.definitions/jobs/scenes_job")
        page.get_by_role("button", name="Materialize all").click()
        page.get_by_role("button", name="Add a partition").click()
        page.get_by_placeholder("name").fill("scene")
        page.get_by_role("button", name="Save").click()
        page.get_by_role("button", name="Launch 1 run").click()
        expect(page.get_by_text("Launched run")).to_be_visible()

        page.goto(f"{address}/runs")
        ended = page.get_by_text("Success", exact=True).or_(page.get_by_text("Failure", exact=True))
        expect(ended.first).to_be_visible(timeout=240_000)
        assert ask(address, RUNS)["runsOrError"]["results"] == [
            {"status": "SUCCESS", "jobName": "scenes_job"}
        ]
        page.goto(f"{address}/assets/forest_map?view=checks")
        expect(page.get_by_text("grid_equals_scene", exact=True).first).to_be_visible()
        page.goto(f"{address}/assets/forest_map?view=partitions&partition=scene")
        page.get_by_text("[Show Markdown]").first.click()
        preview = page.get_by_role("img", name="scene, probability, mask, polygons")
        expect(preview).to_be_visible()
        assert preview.evaluate("image => image.naturalWidth") > 300
        assert watched.complaints == []
    assert verify(tmp_path / "geoforest" / "maps" / "scene") == []
