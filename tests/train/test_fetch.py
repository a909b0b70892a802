"""The Amazon set from a loopback server: cut, resumed, verified, and unpacked with suspicion."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from geoforest.errors import DataError, FetchError, GeoforestError, InputError, OutputError
from geoforest.io.locks import exclusive_lock
from geoforest.train.archive import Limits, unpack_rar
from geoforest.train.chips import read_split
from geoforest.train.fetch import fetch_amazon
from tests.helpers import synthetic
from tests.helpers.amazon import ARCHIVE, FOLDERS, RECORD, RECORD_WHOLE, publish
from tests.helpers.rar import Entry, needs_libarchive, write_rar
from tests.helpers.servers import FileServer, file_server

pytestmark = needs_libarchive
N_CHIPS = {"train": 3, "validation": 2, "test": 1}


def chip_bytes(folder: Path, seed: int) -> tuple[bytes, bytes]:
    dn = synthetic.digital_numbers((32, 32), seed=seed)
    image = synthetic.write_raster(folder / "image.tif", dn)
    mask = synthetic.write_raster(
        folder / "mask.tif", (dn[:1] < 550).astype("uint8"), descriptions=None
    )
    return image.read_bytes(), mask.read_bytes()


@pytest.fixture(scope="module")
def entries(tmp_path_factory) -> list[Entry]:
    """What the set's own archive holds, with its odd folder names."""
    folder = tmp_path_factory.mktemp("entries")
    found = [Entry("AMAZON", mode=stat.S_IFDIR | 0o755), Entry("AMAZON/readme.txt", b"chips")]
    for split, folders in FOLDERS.items():
        for number in range(N_CHIPS[split]):
            both = chip_bytes(folder, 10 * len(found) + number)
            found += [
                Entry(f"AMAZON/{place}/Amazon_{number}.tif", data)
                for place, data in zip(folders, both, strict=True)
            ]
    return found


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


@pytest.fixture
def archive(entries, tmp_path) -> bytes:
    return write_rar(tmp_path / "a.rar", entries).read_bytes()


@pytest.fixture
def record(server, archive) -> str:
    return publish(server, archive)


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def is_whole(out: Path) -> bool:
    counts = {split: len(read_split(out, split, n_bands=4)) for split in N_CHIPS}
    return counts == N_CHIPS and not (out / ".fetch").exists()


@pytest.mark.parametrize("version", [4, 5])
def test_the_set_is_arranged_and_its_manifest_proves_it(server, entries, tmp_path, version):
    archive = write_rar(tmp_path / "a.rar", entries, version=version).read_bytes()
    progress: list[tuple[str, int, int]] = []
    out = tmp_path / "data" / "amazon"
    fetched = fetch_amazon(
        out, record_url=publish(server, archive), progress=lambda *step: progress.append(step)
    )
    assert (fetched.folder, fetched.chips, fetched.already) == (out, N_CHIPS, False)
    assert is_whole(out)
    assert progress[-1] == ("download", len(archive), len(archive))

    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["doi"] == "10.5281/zenodo.4498086"
    assert manifest["licence"] == "CC BY 4.0"
    assert manifest["record"] == server.url + RECORD
    assert manifest["archive"] == {
        "url": server.url + ARCHIVE,
        "bytes": len(archive),
        "checksum": f"md5:{hashlib.md5(archive).hexdigest()}",
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", manifest["fetched"])
    assert set(manifest["files"]) == names(out) - {"manifest.json"}
    for name, recorded in manifest["files"].items():
        data = (out / name).read_bytes()
        assert recorded == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    by_name = {entry.name: entry.data for entry in entries}
    assert (out / "test/masks/Amazon_0.tif").read_bytes() == by_name[
        "AMAZON/Test/mask/Amazon_0.tif"
    ]


class TestAgain:
    @pytest.fixture
    def out(self, record, tmp_path) -> Path:
        return fetch_amazon(tmp_path / "out", record_url=record).folder

    def test_a_complete_set_is_left_alone(self, out, record, server):
        asked = len(server.requests)
        fetched = fetch_amazon(out, record_url=record)
        assert (fetched.already, fetched.chips) == (True, N_CHIPS)
        assert len(server.requests) == asked

    @pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(b"1")])
    def test_a_changed_set_is_refused(self, out, record, change):
        change(out / "train" / "masks" / "Amazon_1.tif")
        with pytest.raises(OutputError, match=r"masks/Amazon_1\.tif: is missing or changed"):
            fetch_amazon(out, record_url=record)

    def test_a_manifest_of_something_else(self, out, record):
        (out / "manifest.json").write_text("{}")
        with pytest.raises(OutputError, match=r"manifest\.json: describes another data set"):
            fetch_amazon(out, record_url=record)

    def test_killed_while_it_moved_the_folders(self, out, record, server):
        work = out / ".fetch"
        (work / "set").mkdir(parents=True)
        (out / "train").rename(work / "set" / "train")
        (out / "manifest.json").rename(work / "manifest.json")
        asked = len(server.requests)
        assert fetch_amazon(out, record_url=record).already is False
        assert is_whole(out)
        assert len(server.requests) == asked

    def test_killed_while_it_cleaned_up(self, out, record):
        (out / ".fetch").mkdir()
        (out / ".fetch" / "AMAZON.rar.partial").write_bytes(b"12")
        assert fetch_amazon(out, record_url=record).already
        assert is_whole(out)


class TestResuming:
    """What was received is not asked for again."""

    def test_a_cut_connection(self, server, record, archive, tmp_path):
        half = len(archive) // 2
        server.cuts = [RECORD_WHOLE, half]
        fetch_amazon(tmp_path / "out", record_url=record)
        assert is_whole(tmp_path / "out")
        assert server.sent(ARCHIVE) == [half, len(archive) - half]

    def test_cuts_that_each_bring_something(self, server, record, archive, tmp_path):
        server.cuts = [RECORD_WHOLE, *[len(archive) // 3] * 2]
        fetch_amazon(tmp_path / "out", record_url=record, retries=1)
        assert is_whole(tmp_path / "out")
        assert sum(server.sent(ARCHIVE)) == len(archive)

    def test_a_run_that_gave_up(self, server, record, archive, tmp_path):
        server.cuts = [RECORD_WHOLE, 5000]
        with pytest.raises(FetchError, match=r"content: the connection was cut .* goes on") as lost:
            fetch_amazon(tmp_path / "out", record_url=record, retries=0)
        assert lost.value.exit_code == 1
        assert "AMAZON.rar.partial" in {path.name for path in (tmp_path / "out/.fetch").iterdir()}
        assert {path.name for path in (tmp_path / "out").iterdir()} == {".fetch"}
        fetch_amazon(tmp_path / "out", record_url=record)
        assert is_whole(tmp_path / "out")
        assert server.sent(ARCHIVE) == [5000, len(archive) - 5000]

    def test_a_killed_process(self, server, record, archive, tmp_path):
        server.cuts, server.stall = [RECORD_WHOLE, 5000], Event()
        code = (
            "import sys; from geoforest.train.fetch import fetch_amazon; "
            "fetch_amazon(sys.argv[1], record_url=sys.argv[2])"
        )
        with subprocess.Popen([sys.executable, "-c", code, tmp_path / "out", record]) as process:
            partial = tmp_path / "out" / ".fetch" / "AMAZON.rar.partial"
            wait_for(lambda: partial.exists() and partial.stat().st_size == 5000)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        # As left by one that was killed later on, while it unpacked.
        (tmp_path / "out/.fetch/set/train/images").mkdir(parents=True)
        (tmp_path / "out/.fetch/set/train/images/half.tif").write_bytes(b"1")
        fetch_amazon(tmp_path / "out", record_url=record)
        assert is_whole(tmp_path / "out")
        assert server.sent(ARCHIVE) == [5000, len(archive) - 5000]

    def test_a_server_without_ranges(self, server, record, archive, tmp_path):
        server.ranges, server.cuts = False, [RECORD_WHOLE, 5000]
        fetch_amazon(tmp_path / "out", record_url=record)
        assert is_whole(tmp_path / "out")
        assert server.sent(ARCHIVE) == [5000, len(archive)]

    @pytest.mark.parametrize("if_ranges", [True, False])
    def test_an_archive_that_changed(self, server, record, entries, tmp_path, if_ranges):
        server.cuts, server.if_ranges = [RECORD_WHOLE, 5000], if_ranges
        with pytest.raises(FetchError):
            fetch_amazon(tmp_path / "out", record_url=record, retries=0)
        changed = [Entry("AMAZON/news.txt", b"1" * 9000), *entries]
        archive = write_rar(tmp_path / "b.rar", changed).read_bytes()
        fetch_amazon(tmp_path / "out", record_url=publish(server, archive))
        assert is_whole(tmp_path / "out")
        # A server that heeds If-Range sends the whole at once.
        assert server.sent(ARCHIVE)[-1] == len(archive)
        assert len(server.sent(ARCHIVE)) == (2 if if_ranges else 3)

    def test_nothing_proves_that_the_parts_belong_together(self, server, archive, tmp_path):
        record = publish(server, archive, checksum=None)
        server.etags.clear()
        server.cuts = [RECORD_WHOLE, 5000]
        fetch_amazon(tmp_path / "out", record_url=record)
        assert is_whole(tmp_path / "out")
        assert server.sent(ARCHIVE) == [5000, len(archive)]

    def test_a_part_that_is_too_long(self, server, record, archive, tmp_path):
        partial = tmp_path / "out" / ".fetch" / "AMAZON.rar.partial"
        partial.parent.mkdir(parents=True)
        partial.write_bytes(archive + b"1")
        fetch_amazon(tmp_path / "out", record_url=record)
        assert is_whole(tmp_path / "out")

    def test_a_busy_server(self, server, record, tmp_path):
        server.busy = 1
        fetch_amazon(tmp_path / "out", record_url=record)
        assert is_whole(tmp_path / "out")

    def test_a_record_that_says_little(self, server, archive, tmp_path):
        record = publish(server, archive, size=None, checksum=None)
        server.cuts = [RECORD_WHOLE, 5000]
        fetch_amazon(tmp_path / "out", record_url=record)
        assert is_whole(tmp_path / "out")
        assert server.sent(ARCHIVE) == [5000, len(archive) - 5000]
        manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
        assert manifest["archive"]["checksum"] is None


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class TestDownloadRefused:
    """One sentence, the URL without its secrets, and nothing left of the set."""

    def refused(
        self, out: Path, record: str, match: str, kind: type[GeoforestError] = FetchError
    ) -> None:
        with pytest.raises(kind, match=match) as caught:
            fetch_amazon(out, record_url=record, retries=0)
        assert "\n" not in str(caught.value)
        assert "s3cr3t" not in str(caught.value)
        assert not out.exists()

    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            ({"checksum": "md5:" + "0" * 32}, r"its checksum is md5:\w{32}, md5:0{32} was announ"),
            ({"checksum": "sha256:" + "0" * 64}, r"its checksum is sha256:\w{64}, sha256:0{64} w"),
            ({"size": 7}, r"the server has \d+ bytes, 7 were announced"),
            ({"links": {}}, "no record of Zenodo with a file AMAZON.rar"),
            ({"key": "AMAZONAS.rar"}, "no record of Zenodo with a file AMAZON.rar"),
            ({"size": "many"}, "no record of Zenodo with a file AMAZON.rar"),
        ],
    )
    def test_record_and_archive_differ(self, server, archive, tmp_path, changes, match):
        self.refused(tmp_path / "out", publish(server, archive, **changes), match)

    def test_larger_than_the_disk(self, server, archive, tmp_path):
        record = publish(server, archive, size=10**18)
        self.refused(tmp_path / "out", record, r"MB are free, [\d,]+ MB are wanted", OutputError)

    @pytest.mark.parametrize("body", [b"<html>", b"[]", b"3", b'{"files": 3}'])
    def test_no_record(self, server, record, tmp_path, body):
        server.files[RECORD] = body
        self.refused(tmp_path / "out", record, "is not JSON|no record of Zenodo")

    @pytest.mark.parametrize("missing", [RECORD, ARCHIVE])
    def test_not_found(self, server, record, tmp_path, missing):
        del server.files[missing]
        self.refused(
            tmp_path / "out", f"{record}?token=s3cr3t", f"{missing}: the server answers 404"
        )

    def test_no_server(self, tmp_path):
        record = "http://me:s3cr3t@127.0.0.1:9/record"
        self.refused(tmp_path / "out", record, "^http://127.0.0.1:9/record: the server cannot be")

    @pytest.mark.parametrize(
        "url", ["file:///etc/passwd", "ftp://a/b", "/etc/passwd", "http://a:b"]
    )
    def test_other_protocols(self, tmp_path, url):
        self.refused(tmp_path / "out", url, "a URL of http or https was wanted", InputError)

    def test_a_link_to_another_protocol(self, server, archive, tmp_path):
        record = publish(server, archive, links={"self": "file:///etc/passwd"})
        self.refused(tmp_path / "out", record, "a URL of http or https was wanted", InputError)

    @pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1:9/a", "data:,a"])
    def test_a_redirect_to_another_protocol(self, server, record, tmp_path, place):
        server.redirects[ARCHIVE] = place
        self.refused(tmp_path / "out", record, f"{ARCHIVE}: the server answers 302")

    def test_a_redirect_that_is_followed(self, server, record, archive, tmp_path):
        server.redirects[ARCHIVE] = f"{server.url}/mirror?signature=s3cr3t"
        server.files["/mirror"], server.etags["/mirror"] = archive, '"1"'
        server.cuts = [RECORD_WHOLE, 5000]
        fetch_amazon(tmp_path / "out", record_url=record)
        assert is_whole(tmp_path / "out")
        assert server.sent("/mirror") == [5000, len(archive) - 5000]
        assert "s3cr3t" not in (tmp_path / "out" / "manifest.json").read_text()

    def test_secrets_stay_out_of_the_manifest(self, server, record, archive, tmp_path):
        link = {"self": f"{server.url}{ARCHIVE}?token=s3cr3t"}
        publish(server, archive, links=link)
        fetch_amazon(tmp_path / "out", record_url=f"{record}?token=s3cr3t")
        assert "s3cr3t" not in (tmp_path / "out" / "manifest.json").read_text()


class TestFolderRefused:
    def test_in_use(self, record, tmp_path):
        work = tmp_path / "out" / ".fetch"
        work.mkdir(parents=True)
        with (
            exclusive_lock(work),
            pytest.raises(OutputError, match="another geoforest run is writing here"),
        ):
            fetch_amazon(tmp_path / "out", record_url=record)

    def test_data_of_another_kind(self, record, tmp_path):
        (tmp_path / "out" / "train").mkdir(parents=True)
        with pytest.raises(OutputError, match=r"out/train: is there already, and no manifest"):
            fetch_amazon(tmp_path / "out", record_url=record)
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["train"]

    def test_a_file_in_its_place(self, record, tmp_path):
        (tmp_path / "out").write_text("hello")
        with pytest.raises(OutputError, match="out: cannot be written to"):
            fetch_amazon(tmp_path / "out", record_url=record)


IMAGE = "AMAZON/Training/image/"
FOUL = [
    ([Entry("/AMAZON/Training/image/a.tif", b"1")], "leads out of the archive"),
    ([Entry("AMAZON/Training/image/../../../a.tif", b"1")], "leads out of the archive"),
    ([Entry("AMAZON\\..\\..\\a.tif", b"1")], "leads out of the archive"),
    ([Entry("C:/AMAZON/a.tif", b"1")], "leads out of the archive"),
    ([Entry(f"{IMAGE}{'a' * 400}.tif", b"1")], "a name in it is too long"),
    ([Entry(f"{IMAGE}{'a' * 4000}.tif", b"1")], "too long"),
    ([Entry(f"{IMAGE}a.tif", link="/etc/passwd")], r"a\.tif' is a link or a device"),
    ([Entry("AMAZON/Training", link="/tmp")], "is a link or a device"),
    ([Entry(f"{IMAGE}a.tif", mode=stat.S_IFCHR | 0o644)], "is a link or a device"),
    ([Entry(f"{IMAGE}a.tif", mode=stat.S_IFIFO | 0o644)], "is a link or a device"),
    ([Entry(f"{IMAGE}a.tif", b"1"), Entry(f"{IMAGE}A.TIF", b"2")], r"A\.TIF' is there twice"),
    ([Entry(f"{IMAGE}a.tif", b"1", size=1 << 30)], "its size is 1073741824; at most"),
    ([Entry(f"{IMAGE}a.tif", b"12345", size=3)], "not as long as its header says"),
    ([Entry(f"{IMAGE}a.tif", b"12345", size=50)], "not as long as its header says"),
    ([Entry(f"{IMAGE}a.tif", b"1")], r"images/a\.tif: image without mask of the same name"),
]


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize(("foul", "match"), FOUL)
def test_a_foul_archive_is_refused(server, entries, tmp_path, foul, match, version):
    before = names(tmp_path)
    archive = write_rar(tmp_path / "a.rar", [*entries, *foul], version=version).read_bytes()
    record = publish(server, archive)
    with pytest.raises(DataError, match=match) as caught:
        fetch_amazon(tmp_path / "out", record_url=record)
    assert "\n" not in str(caught.value)
    left = {"out/.fetch/AMAZON.rar.partial", "out/.fetch/AMAZON.rar.partial.etag"}
    assert names(tmp_path) - before == {"a.rar", "out/.fetch/lock", *left}
    assert not (tmp_path / "out" / ".fetch" / "set").exists()


@pytest.mark.parametrize(
    "name",
    [
        "AMAZON/Training/image/a.exe",
        "AMAZON/Training/image/.hidden.tif",
        "AMAZON/Training/image/a\nb.tif",
        "AMAZON/Training/image/deep/a.tif",
        "AMAZON/Training/other/a.tif",
        "ATLANTIC/Training/image/a.tif",
        "a.tif",
    ],
)
def test_what_is_no_chip_is_left_in_the_archive(server, entries, tmp_path, name):
    archive = write_rar(tmp_path / "a.rar", [*entries, Entry(name, b"1")]).read_bytes()
    fetch_amazon(tmp_path / "out", record_url=publish(server, archive))
    assert is_whole(tmp_path / "out")
    assert len(names(tmp_path / "out")) == 2 * sum(N_CHIPS.values()) + 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda archive: b"PK\x03\x04" + archive,
        lambda archive: archive[: len(archive) // 2],
        lambda archive: archive[:60] + bytes(40) + archive[100:],
        lambda archive: b"#mtree\n./a type=file contents=/etc/passwd\n",
    ],
)
def test_what_is_no_whole_rar_archive(server, archive, tmp_path, spoil):
    record = publish(server, spoil(archive))
    with pytest.raises(DataError, match=r"AMAZON\.rar\.partial: (not a RAR archive|damaged)"):
        fetch_amazon(tmp_path / "out", record_url=record)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {".fetch"}


@pytest.mark.parametrize(
    ("limits", "match"),
    [
        (Limits(entries=2), "more than 2 entries"),
        (Limits(total_bytes=5), "6 bytes unpacked; refused as a bomb"),
        (Limits(file_bytes=1), "at most 1 bytes"),
        (Limits(name_length=2), "too long"),
    ],
)
def test_limits(tmp_path, limits, match):
    archive = write_rar(tmp_path / "a.rar", [Entry(f"{n:03}", b"12") for n in range(3)])
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=match):
        unpack_rar(archive, tmp_path / "out", lambda name: name, limits=limits)
    assert not names(tmp_path / "out")
    assert len(unpack_rar(archive, tmp_path / "out", lambda name: name)) == 3


@pytest.mark.parametrize(
    ("environment", "code", "remedy"),
    [
        ({"LIBARCHIVE": "/nowhere/libarchive.so"}, "", "apt install libarchive13"),
        ({}, "sys.modules['libarchive'] = None; ", 'pip install "geoforest[fetch]"'),
    ],
)
def test_without_libarchive_nothing_is_downloaded(
    server, record, tmp_path, environment, code, remedy
):
    code = (
        f"import sys; {code}from geoforest.cli import main; "
        "main(['data', 'fetch', 'amazon', '--out', sys.argv[1], '--url', sys.argv[2]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "out", record],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert remedy in done.stderr
    assert done.stderr.count("\n") == 1
    assert not server.requests
    assert not (tmp_path / "out").exists()
