"""Local folders and S3 buckets through one interface, and what is said when they fail."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest

from geoforest.errors import DataError, InputError
from geoforest.io.files import Place, open_place, read_ahead
from tests.helpers.servers import ACCESS_KEY, SECRET_KEY, s3_bucket, s3_server

FILES = {"train/images/a.tif": b"aa", "train/images/b.TIFF": b"b", "train/readme": b""}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def s3(address, monkeypatch) -> Any:
    return s3_bucket(monkeypatch, address, "forest")


@pytest.fixture(params=["local", "memory", "s3"])
def root(request, tmp_path) -> Place:
    """The same files in three kinds of place."""
    if request.param == "s3":
        client = request.getfixturevalue("s3")
        for name, data in FILES.items():
            client.put_object(Bucket="forest", Key=f"{tmp_path.name}/set/{name}", Body=data)
        # Consoles make such an object when a folder is made by hand.
        client.put_object(Bucket="forest", Key=f"{tmp_path.name}/set/train/images/", Body=b"")
        return open_place(f"s3://forest/{tmp_path.name}/set")
    url = str(tmp_path / "set") if request.param == "local" else f"memory://{tmp_path}/set"
    for name, data in FILES.items():
        with fsspec.open(f"{url}/{name}", "wb", auto_mkdir=True) as file:
            file.write(data)
    return open_place(url)


def test_every_kind_of_place_lists_and_reads_alike(root):
    images = root / "train" / "images"
    tiffs = [place for place in images.children() if place.suffix in {".tif", ".tiff"}]
    assert [place.name for place in tiffs] == ["a.tif", "b.TIFF"]
    assert [place.stem for place in tiffs] == ["a", "b"]
    assert str(tiffs[0]) == f"{root}/train/images/a.tif"
    assert [place.read() for place in tiffs] == [b"aa", b"b"]
    assert (root / "test").children() is None
    with pytest.raises(DataError, match=r"set/none\.tif: no such file"):
        (root / "none.tif").read()


def test_a_place_shows_what_is_there_now(root):
    assert len((root / "train" / "images").children()) in (2, 3)
    with root.filesystem.open(f"{root.path}/train/images/c.tif", "wb") as file:
        file.write(b"c")
    again = open_place(str(root)) / "train" / "images"
    assert "c.tif" in [place.name for place in again.children()]


def test_files_come_in_order_and_fail_one_by_one(tmp_path):
    for number in range(40):
        (tmp_path / str(number)).write_bytes(bytes([number]))
    (tmp_path / "20").unlink()
    answers = list(read_ahead(open_place(tmp_path) / str(number) for number in range(40)))
    with pytest.raises(DataError, match="20: no such file"):
        answers.pop(20).result()
    assert [answer.result()[0] for answer in answers] == [n for n in range(40) if n != 20]


def test_files_are_read_only_a_little_ahead(tmp_path):
    taken = []

    def places() -> Iterator[Place]:
        for number in range(1000):
            taken.append(number)
            yield open_place(tmp_path) / str(number)

    answers = read_ahead(places())
    next(answers)
    assert len(taken) < 20
    answers.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path):
    (tmp_path / "a").mkdir(mode=0)
    with pytest.raises(DataError, match=r"a: cannot be read \(Permission denied\)"):
        (open_place(tmp_path) / "a").children()


def test_a_folder_in_place_of_a_file(tmp_path):
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)"):
        open_place(tmp_path).read()


class TestRefused:
    @pytest.mark.parametrize(
        ("url", "sentence"),
        [
            ("soup://a/b", "soup://a/b: neither a path nor a URL that fsspec knows"),
            (f"s3://{ACCESS_KEY}:{SECRET_KEY}@forest/set", "s3://forest/set: was given with keys"),
            (f"s3://forest/set?secret={SECRET_KEY}", "s3://forest/set: was given with keys"),
        ],
    )
    def test_urls(self, url, sentence):
        with pytest.raises(InputError) as caught:
            open_place(url)
        assert str(caught.value).startswith(sentence)
        assert SECRET_KEY not in str(caught.value)

    @pytest.mark.parametrize(
        ("url", "remedy"),
        [("s3://forest/set", 'pip install "geoforest[s3]"'), ("gs://forest/set", "geoforest[gcs]")],
    )
    def test_a_missing_client_names_the_remedy(self, url, remedy):
        code = (
            "import sys\n"
            "sys.modules['s3fs'] = sys.modules['gcsfs'] = None\n"
            "from geoforest.errors import InputError\n"
            "from geoforest.io.files import open_place\n"
            "try: open_place(sys.argv[1])\n"
            "except InputError as error: print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, url], capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith(f"{url}: the client of its protocol is missing: ")
        assert remedy in done.stdout


class TestS3Failures:
    """One sentence with the URL, and never a key."""

    def failed(self, kind: str) -> None:
        with pytest.raises(DataError) as caught:
            open_place("s3://forest/set").children()
        sentence = str(caught.value)
        assert re.match(rf"s3://forest/set: cannot be read \({kind}\); check the network", sentence)
        assert "credentials and the endpoint in the environment" in sentence
        assert "\n" not in sentence
        for error in (caught.value, caught.value.__cause__):
            assert SECRET_KEY not in str(error)
            assert ACCESS_KEY not in str(error)

    def test_no_bucket(self, s3):
        assert open_place("s3://nowhere/set").children() is None

    def test_no_credentials(self, s3, monkeypatch):
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        self.failed("NoCredentialsError")

    def test_half_of_the_credentials(self, s3, monkeypatch):
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        self.failed("PartialCredentialsError")

    def test_a_strange_endpoint(self, s3, monkeypatch):
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"ftp://{ACCESS_KEY}:{SECRET_KEY}@127.0.0.1")
        self.failed(r"\w+Error")

    def test_a_dead_endpoint(self, s3, monkeypatch):
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        self.failed("EndpointConnectionError")


def test_over_http_only_silence_ends_a_download():
    filesystem = open_place("https://example.org/large.zip").filesystem
    timeout = filesystem.client_kwargs["timeout"]
    assert timeout.total is None
    assert timeout.sock_connect > 0
    assert timeout.sock_read > 0
