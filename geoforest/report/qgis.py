"""QGIS project files for maps and samples."""

from __future__ import annotations

import hashlib
import io
import os
import re
import zipfile
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pyproj
from markupsafe import Markup
from pyproj.database import get_codes
from pyproj.enums import PJType
from rasterio.crs import CRS
from rasterio.errors import CRSError

from geoforest.report.language import ENGLISH, Language
from geoforest.report.page import render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# The earliest time a zip can store: a file's bytes must not depend on when it was written.
_PINNED_TIME = (1980, 1, 1, 0, 0, 0)


def project_archive(
    stem: str,
    title: str,
    layers: Sequence[Mapping[str, Any]],
    bounds: tuple[float, float, float, float],
    crs: CRS,
    labelling: Markup | None = None,
    dates: Sequence[Mapping[str, Any]] = (),
    places: Mapping[int, list[str]] | None = None,
) -> bytes:
    """Return the bytes of a ``.qgz``: the filled project template in a zip with a fixed time.

    Parameters
    ----------
    stem
        Name of the project inside the archive, without ``.qgs``.
    title
        Title of the project.
    layers
        Layers from top to bottom, with the keys that the template ``project.qgs`` uses.
    bounds
        ``(left, bottom, right, top)`` of the project, in ``crs``.
    crs
        CRS of the project and its layers.
    labelling
        A print layout, or None.
    dates
        Map themes, one per date, with ``name`` and ``layers``.
    places
        Bounds of each bookmark by the number of its point.
    """
    project = render(
        "project.qgs",
        title=title,
        layers=layers,
        bounds=[repr(float(value)) for value in bounds],
        crs=_crs(crs),
        labelling=labelling,
        dates=dates,
        places=places or {},
    )
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo(f"{stem}.qgs", _PINNED_TIME)
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = 0o644 << 16
        archive.writestr(entry, project)
    return stream.getvalue()


def plain_title(title: str) -> str:
    """Return a title that QGIS shows without evaluating it."""
    # In titles of layers QGIS evaluates expressions between [% and %].
    return title.replace("[%", "[ %")


def layer_key(title: str) -> str:
    """Return a hash of the title that makes layer ids unique across projects."""
    # QGIS can embed one project in another, where equal ids would clash.
    return hashlib.sha256(title.encode()).hexdigest()[:12]


def relative_source(target: Path, project: Path) -> str:
    """Return the path of a layer's file relative to the project's folder, with ``/``."""
    relative = os.path.relpath(target.absolute(), project.absolute().parent).replace(os.sep, "/")
    return relative if relative.startswith("../") else f"./{relative}"


def style_parts(style: str, language: Language = ENGLISH) -> dict[str, str]:
    """Split one of the package's own QML styles into attributes and elements, as markup.

    What people read of it is translated: labels of classes, fields and values.
    """
    root = ElementTree.fromstring(style)
    for attribute, element in _shown(root):
        element.set(attribute, language(element.attrib[attribute]))
    attributes = {
        name: value
        for name, value in root.attrib.items()
        if name not in {"version", "styleCategories"}
    }
    elements = Markup("".join(ElementTree.tostring(child, encoding="unicode") for child in root))
    return {
        "attributes": Markup(" ").join(
            Markup('{}="{}"').format(name, value) for name, value in attributes.items()
        ),
        "elements": elements,
    }


def shown_texts(style: ElementTree.Element) -> set[str]:
    """Return the texts of a QML style that people read; numbers are none."""
    return {
        element.attrib[attribute]
        for attribute, element in _shown(style)
        if re.search(r"[a-z]", element.attrib[attribute])
    }


def _shown(style: ElementTree.Element) -> list[tuple[str, ElementTree.Element]]:
    """Return the elements that show a text, and the attribute that has it."""
    return [
        *(("label", element) for element in style.iterfind(".//*[@label]")),
        *(("name", element) for element in style.iterfind(".//alias")),
        *(("name", element) for element in style.iterfind(".//attributeEditorContainer")),
        # The names of a value map are shown; its values are stored.
        *(("name", element) for element in style.iterfind(".//Option[@type='List']/Option/Option")),
    ]


def _crs(crs: CRS) -> dict[str, str | bool | None]:
    """Describe a CRS for QGIS; ``code`` is set only when EPSG defines exactly this CRS."""
    described = pyproj.CRS.from_user_input(crs)
    code = None
    try:
        found = crs.to_epsg()
        if found is not None and CRS.from_epsg(found) == crs:
            code = f"EPSG:{found}"
    except CRSError:
        pass
    return {
        "code": code,
        "wkt": crs.to_wkt(version="WKT2_2019"),
        "degrees": described.is_geographic,
        "ellipsoid": _ellipsoid(described),
    }


def _ellipsoid(crs: pyproj.CRS) -> str:
    """Return the EPSG code of the ellipsoid with these axes: QGIS accepts only codes."""
    wanted = crs.ellipsoid
    if wanted is not None:
        axes = wanted.semi_major_metre, wanted.semi_minor_metre
        for code in get_codes("EPSG", PJType.ELLIPSOID):
            known = type(wanted).from_epsg(code)
            if (known.semi_major_metre, known.semi_minor_metre) == axes:
                return f"EPSG:{code}"
    return "EPSG:7030"  # WGS 84, from which the others differ by less than a thousandth
