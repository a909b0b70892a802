"""Hooks of mkdocs: included files, the page of commands, the card of the starter model.

A line ``<!-- include: ../CHANGELOG.md -->`` on a page of docs/ becomes the text of that file, and
``<!-- starter: metrics -->`` and the like become a table from the card of the bundled model.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

from geoforest._version import __version__

ROOT = Path(__file__).resolve().parents[1]
STARTER = ROOT / "geoforest" / "models" / "bundled" / "starter" / "model.json"

SUMMARY = (
    "name", "architecture", "encoder", "bands", "mean", "std", "reflectance_scale", "gsd_m",
    "processing_level", "window", "temperature", "threshold", "seed", "created",
)  # fmt: skip

_INCLUDE = re.compile(r"^<!-- include: (\S+)(?: else: (.*?))? -->$", re.MULTILINE)
_STARTER = re.compile(r"^<!-- starter: (\w+) -->$", re.MULTILINE)
_ROLE = re.compile(r":\w+:<code>~?([^<]*)</code>")
_TITLE = re.compile(r"\A# .*\n+")
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!\w+:|#)([^)\s]+)\)")


def on_config(config: Any) -> Any:
    """State the version and, where GitHub builds the site, link its repository."""
    config.copyright = f"geoforest {__version__}"
    server, name = (os.environ.get(f"GITHUB_{key}") for key in ("SERVER_URL", "REPOSITORY"))
    if server and name:
        config.repo_url, config.repo_name = f"{server}/{name}", name
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the page of commands, which is generated from the program."""
    files.append(File.generated(config, "commands.md", content=command_reference()))
    return files


# mkdocs passes every argument by name, used or not.
def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:  # noqa: ARG001
    """Replace the include lines of a page."""
    markdown = _INCLUDE.sub(lambda found: included(*found.groups()), markdown)
    return _STARTER.sub(lambda found: starter_table(found[1]), markdown)


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:  # noqa: ARG001
    """Replace Sphinx roles in docstrings by code, which mkdocs does not do."""
    return _ROLE.sub(r"<code>\1</code>", html)


def command_reference() -> str:
    """Return typer's reference of all commands and options as Markdown."""
    call = [sys.executable, "-m", "typer", "geoforest.cli", "utils", "docs", "--name", "geoforest"]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True)
    text = done.stdout.replace("# `geoforest`\n", "# Commands\n", 1)
    return re.sub(r"```console\n\$ (.*)\n```", r"```text\n\1\n```", text)


def included(name: str, otherwise: str | None = None) -> str:
    """Return the text of a file outside docs/ without its title, its links relative to docs/."""
    path = (ROOT / "docs" / name).resolve()
    if not path.exists() and otherwise is not None:
        return otherwise
    folder = posixpath.relpath(path.parent.as_posix(), ROOT.as_posix())

    def moved(found: re.Match[str]) -> str:
        mark, words, target = found.groups()
        aim, _, anchor = target.partition("#")
        inside = posixpath.relpath(posixpath.join(folder, aim), "docs")
        if inside.startswith(".."):
            # The site holds the pages of docs/ only: the link becomes text.
            return words
        return f"{mark}[{words}]({inside}{'#' * bool(anchor)}{anchor})"

    return _LINK.sub(moved, _TITLE.sub("", path.read_text(encoding="utf-8")))


def starter_table(part: str) -> str:
    """Return a part of the bundled model's card as a table, or as text when it is text."""
    card = json.loads(STARTER.read_text(encoding="utf-8"))
    rows = {name: card[name] for name in SUMMARY} if part == "summary" else card[part]
    if isinstance(rows, str):
        return rows
    if part == "threshold_curve":
        head = list(rows[0])
        lines = [[f"{row[name]:.3f}" for name in head] for row in rows]
    else:
        head, lines = ["what", "value"], [[f"`{name}`", _text(rows[name])] for name in rows]
    body = [f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *lines]]
    return "\n".join(body)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_text(each) for each in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
