"""Bring the catalogues of texts up to date: new texts are added, without a translation.

Run it from the root of the repository: ``python -m scripts.texts``.
"""

from __future__ import annotations

import io
from pathlib import Path
from xml.etree import ElementTree

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

from geoforest.io.names import FOREST_LABEL
from geoforest.io.styles import read_style
from geoforest.report.language import CATALOGUES
from geoforest.report.qgis import shown_texts

PACKAGE = Path(__file__).parents[1] / "geoforest"
_METHODS = [
    ("**.py", "python"),
    ("report/templates/**.html", "jinja2.ext:babel_extract"),
    ("report/templates/**.qpt", "jinja2.ext:babel_extract"),
]
_STYLES = ("forest_area", "forest_change", "forest_cover", "forest_mask", "sample")


def texts() -> dict[str, list[str]]:
    """Return every text that is translated, and the files that show it."""
    found: dict[str, list[str]] = {}
    extracted = extract_from_dir(
        PACKAGE, _METHODS, keywords={"message": None, "_": None}, strip_comment_tags=True
    )
    for file, _, text, _, _ in extracted:
        found.setdefault(str(text), []).append(f"geoforest/{file}")
    for name in _STYLES:
        root = ElementTree.fromstring(read_style(f"{name}.qml").replace("$classes", ""))
        for text in shown_texts(root):
            found.setdefault(text, []).append(f"geoforest/io/styles/{name}.qml")
    found.setdefault(FOREST_LABEL, []).append("geoforest/io/names.py")
    return {text: sorted(set(files)) for text, files in sorted(found.items())}


def main() -> None:
    """Update all catalogues in place."""
    for path in sorted(CATALOGUES.glob("*.po")):
        with path.open("rb") as handle:
            old = read_po(handle, locale=path.stem)
        new = Catalog(path.stem, fuzzy=False)
        for text, files in texts().items():
            known = old.get(text)
            new.add(text, known.string if known else "", [(file, 0) for file in files])
        entries = io.BytesIO()
        write_po(entries, new, width=100, omit_header=True)
        body = entries.getvalue().rstrip() + b"\n"
        path.write_bytes(_HEADER.format(code=path.stem).encode() + body)


_HEADER = """\
# Texts of geoforest's pages and QGIS projects. A text without a translation is shown in English.
# Words in braces and marks such as <code> stay as they are.
msgid ""
msgstr ""
"Language: {code}\\n"
"Content-Type: text/plain; charset=utf-8\\n"

"""

if __name__ == "__main__":
    main()
