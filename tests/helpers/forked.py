"""Python processes forked from one that has imported the package: they start at once.

``python -m tests.helpers.forked SOCKET`` is that one. For each connection it forks a keeper, which
forks the process that was asked for, sends its id, waits for it, and sends its exit code.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
# What the processes of the tests import. None of it starts a thread.
PRELOADED = (
    "distributed.cli.dask_scheduler",
    "distributed.cli.dask_worker",
    "geoforest.cli.map_",
    "geoforest.pipeline.run",
    "geoforest.pipeline.engine",
    "tests.helpers.synthetic",
    "torch",
)
_START_S = 120
_NUMBERS = itertools.count()


class Forked:
    """A process that runs a module as ``python -m`` does, with the interface of Popen.

    Parameters
    ----------
    address
        Of the socket of the server.
    module, arguments
        What is run.
    environment
        All of it; that of this process by default.
    new_session
        Whether it leads a session, and so a group of processes, of its own.
    """

    def __init__(
        self,
        address: Path,
        module: str,
        *arguments: object,
        environment: dict[str, str] | None = None,
        new_session: bool = False,
    ) -> None:
        self._streams = [Path(f"{address}-{next(_NUMBERS)}") for _ in range(2)]
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(str(address))
        asked = {
            "argv": [module, *map(str, arguments)],
            "environment": dict(os.environ if environment is None else environment),
            "streams": list(map(str, self._streams)),
            "new_session": new_session,
        }
        self._answers = self._connection.makefile("rw")
        print(json.dumps(asked), file=self._answers, flush=True)
        self.pid = int(self._answers.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end."""
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                self._connection.recv(1, socket.MSG_PEEK)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0) from None
            finally:
                self._connection.settimeout(None)
            self.returncode = int(self._answers.readline())
            self._answers.close()
            self._connection.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; return what it wrote to stdout and stderr."""
        self.wait(timeout)
        out, err = (stream.read_text() for stream in self._streams)
        return out, err

    def send_signal(self, sent: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sent)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@contextmanager
def fork_server() -> Iterator[Path]:
    """Start the server; gives the address of its socket."""
    with TemporaryDirectory(prefix="forked-") as folder:
        address = Path(folder, "socket")
        with subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.forked", str(address)], cwd=ROOT
        ) as process:
            deadline = time.monotonic() + _START_S
            while not address.exists():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            try:
                yield address
            finally:
                process.kill()


def _serve(address: Path) -> dict[str, object]:
    """Answer requests for ever; only in the processes that are asked for it returns."""
    with socket.socket(socket.AF_UNIX) as listener:
        # It is found when it can be connected to.
        listener.bind(f"{address}.new")
        listener.listen(64)
        Path(f"{address}.new").rename(address)
        # Keepers that have ended are not waited for.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            connection, _ = listener.accept()
            with connection:
                if os.fork():
                    continue
                listener.close()
                return _keep(connection)


def _keep(connection: socket.socket) -> dict[str, object]:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with connection.makefile("rw") as lines:
        asked: dict[str, object] = json.loads(lines.readline())
        pid = os.fork()
        if pid == 0:
            return asked
        print(pid, file=lines, flush=True)
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(BrokenPipeError):
            print(os.waitstatus_to_exitcode(status), file=lines, flush=True)
    os._exit(0)


def main() -> None:
    for name in PRELOADED:
        __import__(name)
    asked = _serve(Path(sys.argv[1]))
    if asked["new_session"]:
        os.setsid()
    for number, path in zip((1, 2), asked["streams"], strict=True):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = list(asked["argv"])
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
