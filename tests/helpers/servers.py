"""Servers on the loopback interface, well behaved or not: HTTP with ranges, and S3."""

from __future__ import annotations

import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from tests.helpers.tls import server_context

ACCESS_KEY, SECRET_KEY = "AKIALOOPBACKONLY", "s3cr3t/of+nobody"


class FileServer:
    """Serves ``files`` by path, and keeps account of it.

    Attributes
    ----------
    files, redirects
        Bytes, and places to go instead, by path.
    etags
        By path.
    ranges, if_ranges
        Whether it heeds ``Range``, and ``If-Range`` with it.
    busy, busy_status
        So many requests are answered with this status first.
    key
        When there is one, rasters are for those who give it as ``sig`` in the query.
    cuts
        The next answers end after so many bytes, though more were announced.
    stall
        When there is one, an answer that was cut hangs until it is set.
    refused
        Statuses by path: 403 and such.
    head_status
        What every ``HEAD`` is answered, or ``"drop"``; None for as usual.
    answers
        The next requests are answered so: a status, ``"drop"``, which closes the connection
        without a word, or None for as usual.
    modified
        ``Last-Modified`` of every file, where there is one.
    requests
        Path, ``Range`` header and bytes sent of each request for content.
    asked
        Method, path and status of every request; the status of a dropped one is 0.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.etags: dict[str, str] = {}
        self.refused: dict[str, int] = {}
        self.head_status: int | str | None = None
        self.answers: list[int | str | None] = []
        self.modified: str | None = None
        self.asked: list[tuple[str, str, int]] = []
        self.ranges = self.if_ranges = True
        self.busy, self.busy_status = 0, 503
        self.key: str | None = None
        self.cuts: list[int] = []
        self.stall: Event | None = None
        self.requests: list[tuple[str, str | None, int]] = []
        self.url = ""

    def sent(self, path: str) -> list[int]:
        """Bytes sent of a file, by request."""
        return [n_bytes for asked, _, n_bytes in self.requests if asked == path]


class _Handler(BaseHTTPRequestHandler):
    files: FileServer

    def do_GET(self) -> None:
        server = self.files
        path, _, query = self.path.partition("?")
        answer = server.answers.pop(0) if server.answers else None
        if self.command == "HEAD" and server.head_status is not None:
            answer = server.head_status
        if answer == "drop":
            server.asked.append((self.command, path, 0))
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif isinstance(answer, int):
            self._head(answer, 0)
        elif server.busy:
            server.busy -= 1
            self._head(server.busy_status, 0)
        elif path in server.refused:
            self._head(server.refused[path], 0)
        elif path.endswith(".tif") and server.key is not None and query != f"sig={server.key}":
            self._head(403, 0)
        elif path in server.redirects:
            self._head(302, 0, Location=server.redirects[path])
        elif path not in server.files:
            self._head(404, 0)
        else:
            self._file(path)

    do_HEAD = do_GET  # noqa: N815 - the name is http.server's

    def _file(self, path: str) -> None:
        server, data, etag = self.files, self.files.files[path], self.files.etags.get(path)
        asked = self.headers.get("Range")
        start, end = None, len(data) - 1
        if asked and server.ranges:
            first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", asked).groups()
            start, end = int(first), min(int(last or end), end)
        if server.if_ranges and self.headers.get("If-Range", etag) != etag:
            start = None
        if start is not None and start >= len(data):
            return self._head(416, 0, **{"Content-Range": f"bytes */{len(data)}"})
        headers = {"ETag": etag} if etag else {}
        if server.modified:
            headers["Last-Modified"] = server.modified
        if start is not None:
            headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
        body = data if start is None else data[start : end + 1]
        self._head(200 if start is None else 206, len(body), **headers)
        if self.command == "HEAD":
            return None
        sent = body[: server.cuts.pop(0)] if server.cuts else body
        server.requests.append((path, asked, len(sent)))
        self.wfile.write(sent)
        if len(sent) < len(body) and server.stall is not None:
            server.stall.wait()
        return None

    def _head(self, status: int, length: int, **headers: str) -> None:
        self.files.asked.append((self.command, self.path.partition("?")[0], status))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up, as those do that do not trust a certificate."""


@contextmanager
def file_server(tls: ssl.SSLContext | None = None) -> Iterator[FileServer]:
    """Run a :class:`FileServer` on a free port; over HTTPS with a context."""
    files = FileServer()
    handler = type("Handler", (_Handler,), {"files": files})
    with _Server(("127.0.0.1", 0), handler) as server:
        files.url = f"http://127.0.0.1:{server.server_port}"
        if tls is not None:
            files.url = files.url.replace("http:", "https:")
            # The handshake is the handler's, so that a client that hangs up stops nobody else.
            server.socket = tls.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield files
        finally:
            if files.stall is not None:
                files.stall.set()
            server.shutdown()
            thread.join()


@contextmanager
def folder_server(
    folder: Path, key: str = "", *, authority: Path | None = None, head_status: int | str = ""
) -> Iterator[str]:
    """Serve the files of a folder from a process of its own, and yield its URL.

    For GDAL, which may hold Python's lock while it waits for an answer. With an authority of
    :mod:`tests.helpers.tls`, over HTTPS.
    """
    command = [sys.executable, "-m", "tests.helpers.servers", str(folder), key]
    command += [str(authority or ""), str(head_status)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


@contextmanager
def stac_server(*items: Path) -> Iterator[str]:
    """Run rustac's STAC API on a free port, with items and a collection for them; yield its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [str(Path(sys.executable).with_name("rustac")), "serve", "--addr", address]
    with subprocess.Popen(
        [*command, "--create-collections", *map(str, items)], stdout=subprocess.DEVNULL
    ) as server:
        try:
            while server.poll() is None and not _listens(address):
                time.sleep(0.02)
            yield f"http://{address}/"
        finally:
            server.terminate()


def _listens(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


class S3Server:
    """An S3 server that keeps account of what it is asked, and can fail or hang.

    Attributes
    ----------
    address
        URL.
    asked
        Method, path and query of every request.
    busy
        So many requests are answered with 503 first.
    denied
        A key that may not be written to.
    hang_at
        A request for such a method and key hangs; ``hanging`` is set then, and ``go_on`` ends it.
    """

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app

        self._moto = DomainDispatcherApplication(create_backend_app)
        self.address = ""
        self.asked: list[tuple[str, str, str]] = []
        self.busy = 0
        self.denied: str | None = None
        self.hang_at: tuple[str, str] | None = None
        self.hanging, self.go_on = Event(), Event()

    def __call__(self, environment: dict[str, Any], start_response: Any) -> Any:
        method, path = environment["REQUEST_METHOD"], environment["PATH_INFO"]
        self.asked.append((method, path, environment["QUERY_STRING"]))
        if self.busy:
            self.busy -= 1
            start_response("503 Slow Down", [("Content-Length", "0")])
            return []
        if self.denied and method == "PUT" and path.endswith(self.denied):
            start_response("403 Forbidden", [("Content-Length", "0")])
            return []
        if self.hang_at and method == self.hang_at[0] and path.endswith(self.hang_at[1]):
            self.hanging.set()
            self.go_on.wait()
        return self._moto(environment, start_response)


@contextmanager
def watched_s3_server() -> Iterator[S3Server]:
    """Run an :class:`S3Server` on a free port."""
    from moto.moto_server.threaded_moto_server import MotoRequestHandler
    from werkzeug.serving import make_server

    watched = S3Server()
    server = make_server("127.0.0.1", 0, watched, threaded=True, request_handler=MotoRequestHandler)
    watched.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield watched
    finally:
        watched.go_on.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def s3_server() -> Iterator[str]:
    """Run an S3 server on a free port and yield its address."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def s3_bucket(environment: pytest.MonkeyPatch, address: str, bucket: str) -> Any:
    """Set the environment up for a server, make a bucket, and return a client of boto3."""
    import boto3

    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        environment.delenv(name, raising=False)
    environment.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    environment.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
    environment.setenv("AWS_ENDPOINT_URL", address)
    # Neither files of the user's nor a cloud's own address may bring in other keys.
    environment.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    environment.setenv("AWS_CONFIG_FILE", "/dev/null")
    environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
    client = boto3.client("s3")
    client.create_bucket(Bucket=bucket)
    return client


if __name__ == "__main__":
    served, key, authority, head_status = sys.argv[1:]
    with file_server(server_context(Path(authority)) if authority else None) as files:
        paths = [path for path in Path(served).rglob("*") if path.is_file()]
        files.files = {f"/{path.relative_to(served)}": path.read_bytes() for path in paths}
        files.key = key or None
        files.head_status = int(head_status) if head_status.isdigit() else head_status or None
        print(files.url, flush=True)
        signal.pause()
