"""What the QGIS projects of maps and of samples share."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pyproj
from markupsafe import Markup
from pyproj.database import get_codes
from pyproj.enums import PJType
from rasterio.crs import CRS
from rasterio.errors import CRSError

from geoforest.report.page import render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# As old as a zip can tell: a file's bytes must not depend on when it was written.
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
    """Return the bytes of a ``.qgz``: a project from the template, in a zip of pinned time.

    Parameters
    ----------
    stem
        Of the file, which the project inside is named after.
    title
        For people.
    layers
        From top to bottom, as ``project.qgs`` in the templates names their parts.
    bounds
        ``(left, bottom, right, top)`` of the project, in ``crs``.
    crs
        Of the project.
    labelling
        A print layout, where there is one.
    dates
        A theme each: ``name`` and ``layers``.
    places
        Bounds of a bookmark by number.
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
    """Return a title that QGIS shows as it stands."""
    # QGIS evaluates what stands between [% and %] in titles of layers.
    return title.replace("[%", "[ %")


def layer_key(title: str) -> str:
    """Return the part of layer ids that tells projects apart."""
    # Two projects can be opened in one: ids must not be those of another scene.
    return hashlib.sha256(title.encode()).hexdigest()[:12]


def relative_source(target: Path, project: Path) -> str:
    """Return the path of a layer's file as a project in another file names it."""
    relative = os.path.relpath(target.absolute(), project.absolute().parent).replace(os.sep, "/")
    return relative if relative.startswith("../") else f"./{relative}"


def style_parts(style: str) -> dict[str, str]:
    """Split a style of the package, whose text is trusted, in attributes and elements."""
    root = ElementTree.fromstring(style)
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


def _crs(crs: CRS) -> dict[str, str | bool | None]:
    """Say what QGIS asks of a CRS; the code only where it says the very same."""
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
    """Code of an ellipsoid of the same axes: QGIS takes none that is given by its axes."""
    wanted = crs.ellipsoid
    if wanted is not None:
        axes = wanted.semi_major_metre, wanted.semi_minor_metre
        for code in get_codes("EPSG", PJType.ELLIPSOID):
            known = type(wanted).from_epsg(code)
            if (known.semi_major_metre, known.semi_minor_metre) == axes:
                return f"EPSG:{code}"
    return "EPSG:7030"  # WGS 84, which others differ from by less than a thousandth
