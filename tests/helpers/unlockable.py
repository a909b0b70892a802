"""A file system that refuses locks, as shares do: a library that is loaded before libc."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int refused(int fd) {
  const char *folder = getenv("UNLOCKABLE"); char link[64], path[4096];
  if (!folder) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  if (n < 0) return 0;
  path[n] = 0;
  if (strncmp(path, folder, strlen(folder))) return 0;
  errno = ENOLCK;
  return 1;
}
int flock(int fd, int how) {
  int (*real)(int, int) = dlsym(RTLD_NEXT, "flock");
  return refused(fd) ? -1 : real(fd, how);
}
static int any(const char *name, int fd, int what, void *value) {
  int (*real)(int, int, ...) = dlsym(RTLD_NEXT, name);
  if ((what == F_SETLK || what == F_SETLKW || what == F_GETLK) && refused(fd)) return -1;
  return real(fd, what, value);
}
int fcntl(int fd, int what, ...) {
  va_list rest; va_start(rest, what); void *value = va_arg(rest, void *); va_end(rest);
  return any("fcntl", fd, what, value);
}
int fcntl64(int fd, int what, ...) {
  va_list rest; va_start(rest, what); void *value = va_arg(rest, void *); va_end(rest);
  return any("fcntl64", fd, what, value);
}
"""


def without_locks(folder: Path, share: Path) -> dict[str, str]:
    """Return variables of a process in which no file below ``share`` can be locked."""
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler")
    source, library = folder / "unlockable.c", folder / "unlockable.so"
    source.write_text(_SOURCE)
    command = ["gcc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return {"LD_PRELOAD": str(library), "UNLOCKABLE": str(share)}
