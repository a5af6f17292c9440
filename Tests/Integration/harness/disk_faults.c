// Preloaded into a server: what its disk does is said by files in the folder DISK_FAULTS, which a test makes and removes.
//
//     fsync-ms     fsync and fdatasync take so many milliseconds longer
//     write-errno  write to a file whose path contains the second word fails with this number: "5 incr.aof"
//     fsync-errno  the same for fsync and fdatasync
//
// Programs call these functions of the C library; nothing of theirs is changed.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static FILE *fault(const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("DISK_FAULTS"), name);
    return fopen(path, "re");
}

static void wait_longer(void) {
    long ms = 0;
    FILE *file = fault("fsync-ms");
    if (!file) return;
    if (fscanf(file, "%ld", &ms) != 1) ms = 0;
    fclose(file);
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&time, &time) != 0 && errno == EINTR) {}
}

// The errno that a descriptor's file is to fail with; 0 for none.
static int failure(const char *name, int fd) {
    char link[64], path[4096], part[256];
    int code = 0;
    FILE *file = fault(name);
    if (!file) return 0;
    int words = fscanf(file, "%d %255s", &code, part);
    fclose(file);
    if (words != 2) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, part) ? code : 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int sync_with(int (*real)(int), int fd) {
    wait_longer();
    int code = failure("fsync-errno", fd);
    if (code) {
        errno = code;
        return -1;
    }
    return real(fd);
}

int fsync(int fd) { return sync_with(REAL(fsync), fd); }
int fdatasync(int fd) { return sync_with(REAL(fdatasync), fd); }

ssize_t write(int fd, const void *bytes, size_t count) {
    int code = failure("write-errno", fd);
    if (code) {
        errno = code;
        return -1;
    }
    return REAL(write)(fd, bytes, count);
}
