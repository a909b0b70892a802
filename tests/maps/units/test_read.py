"""Units keep their names: numbers, encodings, spellings, and fields that are spelled otherwise."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

import geopandas
import pandas as pd
import pytest
import shapely
from shapely import GeometryCollection, LineString, box

from geoforest.errors import InputError
from geoforest.maps.units.read import read_units

UTM = "EPSG:32720"


def squares(n: int) -> list[shapely.Polygon]:
    return [box(100 * place, 0, 100 * place + 90, 90) for place in range(n)]


def write(path: Path, names, field: str = "name", **options) -> Path:
    frame = geopandas.GeoDataFrame({field: names}, geometry=squares(len(names)), crs=UTM)
    frame.to_file(path, **options)
    return path


def named(path: Path, by: str = "name", **options) -> list[str]:
    return read_units(path, by, **options).frame["unit"].tolist()


class TestNumbers:
    @pytest.mark.parametrize("suffix", ["gpkg", "shp", "fgb"])
    def test_large_ids_beside_a_gap_stay_apart(self, tmp_path, suffix):
        ids = pd.array([2**53 + 1, None, 2**53, 10**17 + 1], dtype="Int64")
        path = write(tmp_path / f"z.{suffix}", ids)
        found = [str(2**53), str(2**53 + 1), str(10**17 + 1), "(none)"]
        assert named(path) == found
        assert read_units(path, "name").frame.area.tolist() == [8100.0] * 4

    def test_ids_that_are_floats_already_are_refused(self, tmp_path):
        features = [
            {"type": "Feature", "properties": {"name": 12345678901234567890 + place},
             "geometry": shapely.geometry.mapping(box(place, 0, place + 1, 1))}
            for place in range(2)
        ]  # fmt: skip
        path = tmp_path / "z.geojson"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        with pytest.raises(InputError, match=r"'name' has ids beyond 2\^53 as floating-point"):
            read_units(path, "name")
        assert named(write(tmp_path / "f.gpkg", [1.5, 2.0, 3e20])) == ["1.5", "2.0", "3e+20"]

    def test_the_ids_of_features(self, tmp_path):
        path = write(tmp_path / "z.gpkg", ["a", "b", "c"])
        assert named(path, "fid") == ["1", "2", "3"]
        with pytest.raises(InputError, match=r"no field 'FID' .*did you mean 'fid'\?"):
            read_units(path, "FID")
        bare = write(tmp_path / "z.shp", ["a", "b"])
        with pytest.raises(
            InputError, match=r"no field 'fid' .*features .* have no ids of their own"
        ):
            read_units(bare, "fid")


class TestEncodings:
    NAMES = ("São Félix", "Açaí", "plain")

    def shapefile(self, folder: Path, encoding: str, stated: str | None, names=NAMES, **options):
        path = write(folder / "m.shp", list(names), encoding=encoding, **options)
        (folder / "m.cpg").unlink(missing_ok=True)
        if stated is not None:
            (folder / "m.cpg").write_text(stated)
        table = bytearray((folder / "m.dbf").read_bytes())
        table[29] = 0  # the id of a language, which GDAL would take for an encoding
        (folder / "m.dbf").write_bytes(table)
        return path

    @pytest.mark.parametrize(
        ("encoding", "stated", "note"),
        [
            ("UTF-8", None, "the texts of name are UTF-8, which the file does not state"),
            ("UTF-8", "ISO-8859-1", "the texts of name are UTF-8, which the file does not state"),
            ("UTF-8", "UTF-8", None),
            ("ISO-8859-1", "ISO-8859-1", None),
            ("ISO-8859-1", None, "nothing states the encoding .* read as Windows-1252"),
            ("CP1252", None, "nothing states the encoding .* read as Windows-1252"),
            ("CP850", "850", None),
        ],
    )
    def test_shapefiles(self, tmp_path, encoding, stated, note):
        path = self.shapefile(tmp_path, encoding, stated)
        units = read_units(path, "name")
        assert units.frame["unit"].tolist() == sorted(self.NAMES)
        assert [bool(re.search(note or "", one)) for one in units.notes] == ([True] if note else [])

    def test_a_wrong_statement_that_nothing_can_mend(self, tmp_path):
        path = self.shapefile(tmp_path, "ISO-8859-1", "UTF-8")
        with pytest.raises(InputError, match=r"m\.shp: the texts of name, such as b'S\\xe3o"):
            read_units(path, "name")

    def test_a_letter_cut_by_the_width_of_the_column(self, tmp_path):
        path = self.shapefile(tmp_path, "UTF-8", None, ["Conceição", "Araçaú"])
        table = (tmp_path / "m.dbf").read_bytes()
        assert table[32 + 16] == 80
        cut = "São".encode()[:2]
        long = b"x" * 78 + cut
        place = table.index("Conceição".encode())
        (tmp_path / "m.dbf").write_bytes(table[:place] + long[:80] + table[place + 80 :])
        assert named(path) == ["Araçaú", "x" * 78 + "S"]

    def test_names_of_fields(self, tmp_path):
        path = self.shapefile(tmp_path, "UTF-8", None, field="município")
        assert named(path, "município") == sorted(self.NAMES)
        assert named(path, unicodedata.normalize("NFD", "município")) == sorted(self.NAMES)


class TestSpellings:
    def test_one_unit_however_it_is_spelled(self, tmp_path):
        nfd = unicodedata.normalize("NFD", "Açaí")
        names = ["Açaí", nfd, "Açaí ", " Açaí", "Aça\u200bí", "Zé  do\tNorte", "Zé do Norte", " "]
        path = write(tmp_path / "z.gpkg", names)
        units = read_units(path, "name")
        assert units.frame["unit"].tolist() == ["Açaí", "Zé do Norte", "(none)"]
        assert units.frame.area.tolist() == [5 * 8100.0, 2 * 8100.0, 8100.0]
        (spelling, none) = units.notes
        assert spelling.endswith(
            "2 were written in more than one way and are one unit each, such as 'Açaí'"
        )
        assert "the unit (none)" in none

    def test_a_space_at_an_end_is_said(self, tmp_path):
        (note,) = read_units(write(tmp_path / "z.gpkg", ["a ", "b"]), "name").notes
        assert "names in name were brought to one spelling" in note
        assert "more than one way" not in note
        assert read_units(write(tmp_path / "y.gpkg", ["Sé", "b c"]), "name").notes == ()

    def test_a_field_that_is_spelled_otherwise(self, tmp_path):
        path = write(tmp_path / "z.gpkg", ["a"], field="nome", layer="towns")
        for given, meant in (("NOME", "nome"), ("nme", "nome"), ("nomé", "nome")):
            with pytest.raises(InputError, match=rf"no field '{given}' .*mean '{meant}'\?"):
                read_units(path, given)
        with pytest.raises(InputError, match=r"no layer 'Town' .*did you mean 'towns'\?"):
            read_units(path, "nome", layer="Town")


def test_polygons_inside_collections_belong_to_their_unit(tmp_path):
    first, second, third = squares(3)
    inside = GeometryCollection([third, LineString([(0, 0), (1, 1)])])
    path = tmp_path / "z.gpkg"
    frame = geopandas.GeoDataFrame(
        {"name": ["W", "E", "E"]}, geometry=[first, second, inside], crs=UTM
    )
    frame.to_file(path)
    units = read_units(path, "name")
    assert units.notes == ()
    assert units.frame.set_index("unit").area.to_dict() == {"E": 16200.0, "W": 8100.0}
