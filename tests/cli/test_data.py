"""``geoforest data``: a line a finding, exit codes, and failures as one sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import synthetic
from tests.helpers.amazon import ARCHIVE, FOLDERS, RECORD_WHOLE, publish
from tests.helpers.chips import upload
from tests.helpers.commands import in_a_process, refused
from tests.helpers.rar import Entry, needs_libarchive, write_rar
from tests.helpers.servers import (
    ACCESS_KEY,
    SECRET_KEY,
    FileServer,
    file_server,
    s3_bucket,
    s3_server,
)
from tests.helpers.synthetic import write_chips


@pytest.fixture
def data(tmp_path) -> Path:
    return write_chips(tmp_path / "set", {"train": 2, "validation": 1})


def spoil(data: Path) -> None:
    """Two errors."""
    (data / "train" / "masks" / "1.tif").unlink()
    mask = np.zeros((1, 64, 64), np.uint8)
    synthetic.write_raster(data / "validation" / "masks" / "0.tif", mask, descriptions=None)


@pytest.mark.parametrize("command", ["data check", "data fetch amazon"])
def test_help_has_an_example(geoforest, command):
    done = geoforest(*command.split(), "--help")
    assert done.returncode == 0
    assert "Example:" in done.stdout
    assert f"geoforest {command}" in done.stdout


class TestCheck:
    def test_nothing_found(self, geoforest, data):
        # All the chips of this set lie on the same ground.
        ground = f"warning: {data}/validation/images/0.tif: its ground overlaps that of 2 chip(s)"
        done = geoforest("data", "check", data)
        assert done.returncode == 0
        warning, counts = done.stdout.splitlines()
        assert warning.startswith(ground)
        assert counts == (
            "train 2 chip(s), 50.0 % forest; validation 1 chip(s), 50.0 % forest: "
            "0 error(s), 1 warning(s)"
        )
        assert done.stderr == ""

    def test_findings_are_lines(self, geoforest, data):
        spoil(data)
        done = geoforest("data", "check", data)
        assert done.returncode == 2
        assert done.stderr == ""
        lines = done.stdout.splitlines()
        image = f"{data}/train/images/1.tif"
        assert lines[0] == f"error: {image}: image without mask of the same name"
        no_forest = "no forest at all; both classes were wanted"
        assert lines[1] == f"error: {data}/validation/masks: {no_forest}"
        assert lines[-1].endswith("validation 1 chip(s), 0.0 % forest: 2 error(s), 1 warning(s)")
        assert len(lines) == 4

    def test_json(self, geoforest, data):
        spoil(data)
        done = geoforest("data", "check", data, "--json")
        assert done.returncode == 2
        told = json.loads(done.stdout)
        assert [finding["level"] for finding in told["findings"]] == ["error", "error", "warning"]
        assert set(told["findings"][0]) == {"level", "where", "what"}
        assert told["splits"]["validation"] == {
            "chips": 1,
            "labelled_px": 4096,
            "forest_px": 0,
            "forest_percent": 0.0,
        }

    def test_no_secret_of_a_url_is_told(self, geoforest):
        done = geoforest("data", "check", "memory://me:s3cr3t@nowhere?sig=s3cr3t", "--json")
        assert json.loads(done.stdout)["data"] == "memory://nowhere"
        assert "s3cr3t" not in done.stdout + done.stderr

    def test_bands(self, geoforest, tmp_path):
        data = write_chips(tmp_path / "rgb", {"train": 1, "validation": 1}, bands=3)
        assert geoforest("data", "check", data).returncode == 2
        assert geoforest("data", "check", data, "--bands", "B04,B03,B02").returncode == 0

    def test_no_folder(self, geoforest, tmp_path):
        done = geoforest("data", "check", tmp_path / "none")
        assert done.returncode == 2
        assert done.stdout.splitlines()[-1] == "no chips: 2 error(s), 0 warning(s)"


class TestCheckS3:
    @pytest.fixture(autouse=True)
    def client(self, address, monkeypatch):
        return s3_bucket(monkeypatch, address, "chips")

    def test_a_bucket(self, geoforest, data, client):
        spoil(data)
        url = upload(client, data)
        done = geoforest("data", "check", url)
        assert done.returncode == 2
        assert done.stdout.startswith(f"error: {url}/train/images/1.tif: image without mask")

    def test_as_a_user_does(self, data, client):
        done = in_a_process("data", "check", upload(client, data))
        assert done.returncode == 0
        assert done.stderr == ""

    def test_no_credentials(self, geoforest, monkeypatch):
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        refused(geoforest("data", "check", "s3://chips/a"), "a/train: cannot be read (NoCredential")

    def test_keys_in_the_url(self, geoforest):
        done = geoforest("data", "check", f"s3://{ACCESS_KEY}:{SECRET_KEY}@chips/a")
        refused(done, "s3://chips/a: was given with keys or a query")
        assert SECRET_KEY not in done.stderr


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with s3_server() as address:
        yield address


@needs_libarchive
class TestFetch:
    @pytest.fixture
    def server(self) -> Iterator[FileServer]:
        with file_server() as server:
            yield server

    @pytest.fixture
    def archive(self, tmp_path) -> bytes:
        dn = synthetic.digital_numbers((32, 32))
        image = synthetic.write_raster(tmp_path / "image.tif", dn).read_bytes()
        mask = (dn[:1] < 550).astype("uint8")
        mask = synthetic.write_raster(tmp_path / "mask.tif", mask, descriptions=None).read_bytes()
        entries = [
            Entry(f"AMAZON/{folder}/1.tif", content)
            for folders in FOLDERS.values()
            for folder, content in zip(folders, (image, mask), strict=True)
        ]
        return write_rar(tmp_path / "a.rar", entries).read_bytes()

    def test_fetch_and_again(self, geoforest, server, archive, tmp_path):
        arguments = ["data", "fetch", "amazon", "--out", tmp_path / "out"]
        arguments += ["--url", publish(server, archive)]
        done = geoforest(*arguments)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        chips = "chips train 1, validation 1, test 1; manifest.json lists the files\n"
        assert done.stdout == f"{tmp_path}/out: fetched and verified: {chips}"
        assert geoforest(*arguments).stdout == f"{tmp_path}/out: is there already: {chips}"
        assert json.loads(geoforest(*arguments, "--json").stdout) == {
            "folder": f"{tmp_path}/out",
            "chips": {"train": 1, "validation": 1, "test": 1},
            "already": True,
        }
        # One image three times: this set leaks.
        check = geoforest("data", "check", tmp_path / "out")
        assert check.returncode == 2
        assert check.stdout.splitlines()[-1].endswith("2 error(s), 2 warning(s)")

    def test_a_lost_connection(self, geoforest, server, archive, tmp_path):
        url = publish(server, archive)
        server.cuts = [RECORD_WHOLE, 1000]
        arguments = ["data", "fetch", "amazon", "--out", tmp_path / "out", "--url", url]
        done = geoforest(*arguments, "--retries", 0)
        refused(done, f"{ARCHIVE}: the connection was cut", code=1)
        assert "run the same command again later: it goes on from what was received" in done.stderr
        assert geoforest(*arguments).returncode == 0
        assert sum(server.sent(ARCHIVE)) == len(archive)

    def test_a_full_disk(self, server, archive, tmp_path):
        # Files may not grow beyond a limit: the kernel answers as on a full disk.
        code = (
            "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
            "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)); "
            "from geoforest.cli import main; main()"
        )
        arguments = ["data", "fetch", "amazon", "--out", tmp_path / "out"]
        arguments += ["--url", publish(server, archive)]
        done = in_a_process(*arguments, code=code)
        refused(done, "AMAZON.rar.partial: cannot be written (File too large)", code=1)
        assert {path.name for path in (tmp_path / "out").iterdir()} == {".fetch"}
        assert in_a_process(*arguments).returncode == 0
        assert sum(server.sent(ARCHIVE)) < 2 * len(archive)

    def test_wrong_use(self, geoforest, tmp_path):
        arguments = ["data", "fetch", "amazon", "--out", tmp_path / "out"]
        refused(geoforest(*arguments, "--url", "ftp://a/b"), "a URL of http or https was wanted")
        assert geoforest(*arguments, "--retries", -1).returncode == 2
        assert geoforest("data", "fetch", "sahara").returncode == 2
        assert not (tmp_path / "out").exists()
