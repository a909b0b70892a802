"""SAFE products made by code: both levels, both namings, with bands in lossless JPEG 2000."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

from geoforest.types import Array
from tests.helpers.synthetic import BANDS, TRANSFORM, UTM_20S

BAND_IDS = (
    *("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"),
)


@dataclass(frozen=True)
class Safe:
    """What is to be made. Offsets are by band; None leaves the list of them out, as before 2022."""

    level: str = "L2A"
    tile: str = "20LMR"
    baseline: str | None = "05.09"
    quantification: str | None = "10000"
    offsets: Mapping[str, int] | None = None
    nodata: str | None = "0"
    spectral: bool = True
    sensed: str = "20230804T142741"
    old: bool = False
    suffix: str = ".jp2"
    extra_images: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        if self.old:
            return f"S2A_OPER_PRD_MSI{self.level}_PDMC_20160929T201005_R053_V{self.sensed}"
        number = (self.baseline or "05.09").replace(".", "")
        return f"S2A_MSI{self.level}_{self.sensed}_N{number}_R053_T{self.tile}_20230804T201005"

    @property
    def xml_name(self) -> str:
        if self.old:
            return f"S2A_OPER_MTD_SAF{self.level}_PDMC_20160929T201005_R053_V{self.sensed}.xml"
        return f"MTD_MSI{self.level}.xml"

    @property
    def granule(self) -> str:
        if self.old:
            return f"{self._granule_id}_N02.04"
        return f"{self.level}_T{self.tile}_A042420_{self.sensed}"

    @property
    def _granule_id(self) -> str:
        return f"S2A_OPER_MSI_{self.level}_TL_EPA__20160929T201005_A042420_T{self.tile}"

    def image(self, layer: str, resolution_m: int = 10) -> str:
        """Path of an image file below the root, without suffix."""
        stem = self._granule_id if self.old else f"T{self.tile}_{self.sensed}"
        folder = f"GRANULE/{self.granule}/IMG_DATA"
        if self.level == "L1C":
            return f"{folder}/{stem}_{layer}"
        return f"{folder}/R{resolution_m}m/{stem}_{layer}_{resolution_m}m"

    def xml(self, images: Sequence[str]) -> str:
        toa = self.level == "L1C"
        tag = "RADIO_ADD_OFFSET" if toa else "BOA_ADD_OFFSET"
        listed = ("IMAGE_ID", "Granules") if self.old else ("IMAGE_FILE", "Granule")
        offsets = "".join(
            f'<{tag} band_id="{BAND_IDS.index(band)}">{value}</{tag}>'
            for band, value in (self.offsets or {}).items()
        )
        spectral = "".join(
            f'<Spectral_Information bandId="{number}" physicalBand="{band.replace("B0", "B")}"/>'
            for number, band in enumerate(BAND_IDS)
        )
        parts = {
            "PRODUCT_URI": None if self.old else f"{self.name}.SAFE",
            "PROCESSING_BASELINE": self.baseline,
            "DATATAKE_SENSING_START": "2023-08-04T14:27:41.024Z",
            "SENSING_ORBIT_NUMBER": "53",
            ("" if toa else "BOA_") + "QUANTIFICATION_VALUE": self.quantification,
            f"{tag}_VALUES_LIST": offsets if self.offsets is not None else None,
            "Spectral_Information_List": spectral if self.spectral else None,
            "Cloud_Coverage_Assessment": "12.5",
        }
        special = (
            "<Special_Values><SPECIAL_VALUE_TEXT>SATURATED</SPECIAL_VALUE_TEXT>"
            "<SPECIAL_VALUE_INDEX>65535</SPECIAL_VALUE_INDEX></Special_Values>"
            "<Special_Values><SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT>"
            f"<SPECIAL_VALUE_INDEX>{self.nodata}</SPECIAL_VALUE_INDEX></Special_Values>"
        )
        files = "".join(
            f"<{listed[0]}>{image.rpartition('/')[2] if self.old else image}</{listed[0]}>"
            for image in (*images, *self.extra_images)
        )
        return (
            '<?xml version="1.0" encoding="UTF-8" standalone="no"?>\n'
            f'<n1:Level-{self.level[1:]}_User_Product xmlns:n1="https://psd-14.example/PSD.xsd">\n'
            f'<{listed[1]} granuleIdentifier="{self._granule_id}_N05.09" '
            f'imageFormat="JPEG2000">{files}</{listed[1]}>'
            + "".join(f"<{name}>{text}</{name}>" for name, text in parts.items() if text)
            + (special if self.nodata is not None else "")
            + f"</n1:Level-{self.level[1:]}_User_Product>\n"
        )


def write_band(path: Path, band: Array, resolution_m: int = 10) -> Path:
    """Write ``(row, col)``, losslessly, on the tile's grid, which begins at the same corner."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lossless = {"driver": "JP2OpenJPEG", "QUALITY": 100, "REVERSIBLE": "YES"}
    with rasterio.open(
        path,
        "w",
        height=band.shape[0],
        width=band.shape[1],
        count=1,
        dtype=band.dtype,
        crs=UTM_20S,
        transform=Affine(resolution_m, 0, TRANSFORM.c, 0, -resolution_m, TRANSFORM.f),
        **(lossless if path.suffix == ".jp2" else {"driver": "GTiff"}),
    ) as target:
        target.write(band, 1)
    return path


def make_safe(folder: Path, dn: Array, safe: Safe = Safe(), **changes: object) -> Path:
    """Make ``folder/<name>.SAFE`` with bands in the order of :data:`tests.helpers.synthetic.BANDS`.

    With level 2A there are B8A, B04 and the SCL at 20 m, too; with 1C, B8A.
    """
    safe = replace(safe, **changes)  # type: ignore[arg-type]
    root = folder / f"{safe.name}.SAFE"
    halved = dn[:, ::2, ::2]
    images = {safe.image(name): (band, 10) for name, band in zip(BANDS, dn, strict=True)}
    images[safe.image("B8A", 20)] = halved[3], 20
    if safe.level == "L2A":
        images[safe.image("B04", 20)] = halved[0], 20
        images[safe.image("SCL", 20)] = np.full(halved.shape[1:], 4, np.uint8), 20
    for name, (band, resolution_m) in images.items():
        write_band(root / f"{name}{safe.suffix}", band, resolution_m)
    # Masks of quality, whose names end in those of bands.
    write_band(root / "GRANULE" / safe.granule / "QI_DATA" / "MSK_DETFOO_B04.jp2", halved[0], 20)
    (root / safe.xml_name).write_text(safe.xml(list(images)))
    return root


def zip_safe(root: Path, archive: Path, inside: str | None = None, method: int = 0) -> Path:
    """Pack a folder; ``inside`` replaces its name in the archive, ``""`` is the top."""
    top = root.name if inside is None else inside
    with zipfile.ZipFile(archive, "w", method) as target:
        for path in sorted(root.rglob("*")):
            target.write(path, Path(top) / path.relative_to(root))
    return archive
