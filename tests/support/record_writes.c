/* LD_PRELOAD library: appends every write, truncation, removal and sync below the folder RECORD_BELOW to the file
 * RECORD_TO, in order. A record is kind (1 byte), length of the path (4), offset (8), length of the data (8), then
 * path and data; integers are little-endian. Kinds: W write, T truncate to offset, U unlink, S sync of a file or folder.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int record_to = -1;
static const char *below;

static void put(const void *data, size_t size) {
    const char *at = data;
    while (size > 0) {
        ssize_t done = syscall(SYS_write, record_to, at, size);
        if (done <= 0) _exit(97);
        at += done;
        size -= (size_t)done;
    }
}

__attribute__((constructor)) static void start(void) {
    const char *name = getenv("RECORD_TO");
    below = getenv("RECORD_BELOW");
    if (name && below) record_to = (int)syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_APPEND, 0600);
}

static void record(char kind, const char *path, uint64_t offset, const void *data, uint64_t size) {
    if (record_to < 0 || strncmp(path, below, strlen(below)) != 0) return;
    uint32_t length = (uint32_t)strlen(path);
    pthread_mutex_lock(&lock);
    put(&kind, 1);
    put(&length, 4);
    put(&offset, 8);
    put(&size, 8);
    put(path, length);
    if (size) put(data, size);
    pthread_mutex_unlock(&lock);
}

static int path_of(int file, char *path, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, size - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return 1;
}

static void record_file(char kind, int file, uint64_t offset, const void *data, uint64_t size) {
    char path[4096];
    if (record_to >= 0 && path_of(file, path, sizeof path)) record(kind, path, offset, data, size);
}

#define REAL(type, name, ...) static type (*real)(__VA_ARGS__); if (!real) real = dlsym(RTLD_NEXT, name)

ssize_t pwrite64(int file, const void *data, size_t size, off64_t offset) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    ssize_t done = real(file, data, size, offset);
    if (done > 0) record_file('W', file, (uint64_t)offset, data, (uint64_t)done);
    return done;
}

ssize_t pwrite(int file, const void *data, size_t size, off_t offset) { return pwrite64(file, data, size, offset); }

ssize_t write(int file, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    ssize_t done = real(file, data, size);
    if (done > 0) {
        off_t after = lseek(file, 0, SEEK_CUR);
        if (after >= done) record_file('W', file, (uint64_t)(after - done), data, (uint64_t)done);
    }
    return done;
}

int ftruncate64(int file, off64_t size) {
    REAL(int, "ftruncate64", int, off64_t);
    int failed = real(file, size);
    if (!failed) record_file('T', file, (uint64_t)size, 0, 0);
    return failed;
}

int ftruncate(int file, off_t size) { return ftruncate64(file, size); }

int unlink(const char *name) {
    REAL(int, "unlink", const char *);
    int failed = real(name);
    if (!failed) record('U', name, 0, 0, 0);
    return failed;
}

int fsync(int file) {
    REAL(int, "fsync", int);
    int failed = real(file);
    if (!failed) record_file('S', file, 0, 0, 0);
    return failed;
}

int fdatasync(int file) {
    REAL(int, "fdatasync", int);
    int failed = real(file);
    if (!failed) record_file('S', file, 0, 0, 0);
    return failed;
}
