"""The documentation's site: it builds without a warning, and asks nobody for anything."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
import typer.main
import yaml

from geoforest.cli import app
from scripts.docs_hooks import STARTER, included, starter_table
from tests.helpers.pages import ROOT

pytestmark = pytest.mark.slow

# What a browser fetches by itself, unlike a link.
FETCHED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


class Fetched(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in FETCHED and given.get(FETCHED[tag]) and given.get("rel") != "canonical":
            self.addresses.append(given[FETCHED[tag]])


def test_every_page_of_the_list_is_there_and_no_other(site):
    listed = set(
        re.findall(r"[\w-]+\.md", (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2])
    )
    there = {path.name for path in (ROOT / "docs").glob("*.md")} | {"commands.md"}
    assert listed == there
    for name in listed - {"index.md"}:
        assert (site / name.removesuffix(".md") / "index.html").exists(), name


def test_nothing_is_fetched_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        found = Fetched()
        found.feed(page.read_text())
        assert [a for a in found.addresses if re.match(r"(https?:)?//", a)] == [], page


def test_every_command_and_option_is_in_the_reference(site):
    text = (site / "commands" / "index.html").read_text()
    commands = [("geoforest", typer.main.get_command(app))]
    for name, command in commands:
        assert name == "geoforest" or f"<code>{name}</code>" in text, name
        commands += [
            (f"{name} {key}", sub) for key, sub in getattr(command, "commands", {}).items()
        ]
        for option in command.params:
            longest = max(option.opts, key=len)
            if longest.startswith("--"):
                assert f"<code>{longest}" in text, f"{name} {longest}"
    assert len(commands) > 18


def test_the_pages_of_the_top_are_included(site):
    assert "geoforest mosaic" in (site / "changelog" / "index.html").read_text()
    assert "4498086" in (site / "data-card" / "index.html").read_text()
    assert included("../no/such.md", "not yet") == "not yet"


def test_links_of_an_included_file_lead_where_they_led(tmp_path, monkeypatch):
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "README.md").write_text(
        "# Title\n\n![seen](../docs/seen.png) [code](run.py) [docs](../docs/a.md#b) [web](https://x.y)\n"
    )
    monkeypatch.setattr("scripts.docs_hooks.ROOT", tmp_path)
    text = included("../flows/README.md")
    assert text == "![seen](seen.png) code [docs](a.md#b) [web](https://x.y)\n"


def test_the_card_is_that_of_the_bundle(site):
    card = json.loads(STARTER.read_text())
    page = (site / "model-card" / "index.html").read_text()
    for name, value in card["metrics"].items():
        assert f"<td><code>{name}</code></td>" in page
        assert f"<td>{value:.4g}</td>" in page
    assert starter_table("training_data") == card["training_data"]
    assert len(starter_table("threshold_curve").splitlines()) == len(card["threshold_curve"]) + 2


def test_search_knows_the_pages(site):
    index = json.loads((site / "search" / "search_index.json").read_text())
    assert {"tutorial/", "commands/", "areas/"} <= {doc["location"] for doc in index["docs"]}


def test_pictures_are_small():
    for picture in (ROOT / "docs").glob("*.png"):
        assert picture.stat().st_size < 310_000, picture


def test_the_configuration_asks_for_no_font():
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert settings["theme"]["font"] is False
