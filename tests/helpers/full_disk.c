/* A disk that is full for a while: writes to files below a folder fail with ENOSPC. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static char below[PATH_MAX];
static long count, first, last;

/* Count the writes below a folder from now on, and fail those from number `from` to `to`. */
void fail_writes(const char *folder, long from, long to) {
    strncpy(below, folder, sizeof below - 1);
    first = from, last = to;
    if (*below) count = 0;
}

long writes(void) { return count; }

static int full(int fd) {
    char link[64], path[PATH_MAX];
    if (!*below) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    if (strncmp(path, below, strlen(below))) return 0;
    count++;
    if (count < first || count > last) return 0;
    errno = ENOSPC;
    return 1;
}

#define REAL(name) real = dlsym(RTLD_NEXT, name)

ssize_t write(int fd, const void *data, size_t n) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) REAL("write");
    return full(fd) ? -1 : real(fd, data, n);
}

ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real) REAL("pwrite64");
    return full(fd) ? -1 : real(fd, data, n, at);
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at) { return pwrite64(fd, data, n, at); }

ssize_t writev(int fd, const struct iovec *parts, int n) {
    static ssize_t (*real)(int, const struct iovec *, int);
    if (!real) REAL("writev");
    return full(fd) ? -1 : real(fd, parts, n);
}

/* The C library's streams do not call write() by its name: these do. */
static ssize_t stream_write(void *file, const char *data, size_t n) {
    size_t done = 0;
    while (done < n) {
        ssize_t written = write((int)(long)file, data + done, n - done);
        if (written < 0) break;
        done += written;
    }
    return done;
}

static ssize_t stream_read(void *file, char *data, size_t n) {
    return read((int)(long)file, data, n);
}

static int stream_seek(void *file, off64_t *at, int whence) {
    off64_t found = lseek64((int)(long)file, *at, whence);
    if (found < 0) return -1;
    *at = found;
    return 0;
}

static int stream_close(void *file) { return close((int)(long)file); }

FILE *fopen64(const char *path, const char *mode) {
    static FILE *(*real)(const char *, const char *);
    if (!real) REAL("fopen64");
    if (!*below || strncmp(path, below, strlen(below)) || !strpbrk(mode, "wa+")) {
        return real(path, mode);
    }
    int flags = strchr(mode, '+') ? O_RDWR : O_WRONLY;
    if (strchr(mode, 'w')) flags |= O_CREAT | O_TRUNC;
    if (strchr(mode, 'a')) flags |= O_CREAT | O_APPEND;
    int fd = open(path, flags, 0666);
    if (fd < 0) return NULL;
    cookie_io_functions_t calls = {stream_read, stream_write, stream_seek, stream_close};
    return fopencookie((void *)(long)fd, mode, calls);
}

FILE *fopen(const char *path, const char *mode) { return fopen64(path, mode); }
