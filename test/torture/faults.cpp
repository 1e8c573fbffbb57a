// faults.cpp: a library that a program is started with (LD_PRELOAD), and that makes its writing fail.
//
//   TORTURE_DIR   only files below this directory count (a tmpfs: an inode's number is never used twice there)
//   TORTURE_AT    the number of the event, from 1, at which it happens; 0: never, the events are only counted
//   TORTURE_HOW   full: this event and all after it fail with ENOSPC; power: the process is killed at it
//   TORTURE_LOG   a file that gets the number of events in the end
//   TORTURE_KEPT  power: a directory that gets what a disk is sure to hold
//
// Events are what changes files: open with O_CREAT, write, pwrite, fwrite, fflush, fclose, ftruncate, fsync, rename,
// link, unlink, rmdir, mkdir. At an fsync of a file its content goes to KEPT/i-INODE, at one of a directory its entries
// to KEPT/d-INODE (lines "kind inode name"): test/torture/torture.py makes of these what a power cut leaves.
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <string>

static const char* variable(const char* name) {
    const char* value = getenv(name);
    return value ? value : "";
}
static const std::string DIR_BELOW = variable("TORTURE_DIR"), HOW = variable("TORTURE_HOW"),
                         LOG = variable("TORTURE_LOG"), KEPT = variable("TORTURE_KEPT");
static const long AT = atol(variable("TORTURE_AT"));
static std::atomic<long> events;
static thread_local bool inside;  // what this library does itself does not count

template <class F> static F next(const char* name) { return (F)dlsym(RTLD_NEXT, name); }
#define NEXT(f) static const auto real = next<decltype(&f)>(#f)

struct Inside {
    bool before = inside;
    Inside() { inside = true; }
    ~Inside() { inside = before; }
};
static bool is_below(const char* path) {
    return path && !DIR_BELOW.empty() && !strncmp(path, DIR_BELOW.c_str(), DIR_BELOW.size());
}
static std::string path_of(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path);
    return n > 0 ? std::string(path, n) : "";
}
// Does this call fail? (errno is set then)
static bool event(bool counts) {
    if (inside || !counts) return false;
    const long now = ++events;
    if (AT == 0 || now < AT) return false;
    if (HOW == "power") kill(getpid(), SIGKILL);
    errno = ENOSPC;
    return HOW == "full";
}
static bool event(int fd) { return !inside && event(is_below(path_of(fd).c_str())); }
static bool event(FILE* f) { return !inside && f && fileno(f) >= 0 && event(fileno(f)); }
__attribute__((destructor)) static void log_events() {
    Inside in;
    if (LOG.empty()) return;
    FILE* f = fopen(LOG.c_str(), "w");
    if (f) fprintf(f, "%ld\n", events.load()), fclose(f);
}

static void keep_file(int fd, unsigned long inode) {
    const std::string path = KEPT + "/i-" + std::to_string(inode);
    int out = (int)syscall(SYS_openat, AT_FDCWD, path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    char bytes[65536];
    off_t at = 0;
    for (ssize_t n; (n = syscall(SYS_pread64, fd, bytes, sizeof bytes, at)) > 0; at += n)
        if (syscall(SYS_write, out, bytes, n) != n) abort();
    close(out);
}
static void keep_directory(const std::string& path, unsigned long inode) {
    FILE* out = fopen((KEPT + "/d-" + std::to_string(inode)).c_str(), "w");
    ::DIR* d = opendir(path.c_str());
    if (!out || !d) abort();
    while (dirent* e = readdir(d))
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
            fprintf(out, "%c %lu %s\n", e->d_type == DT_DIR ? 'd' : 'f', (unsigned long)e->d_ino, e->d_name);
    closedir(d);
    fclose(out);
}
static void keep(int fd) {
    if (inside || KEPT.empty()) return;
    const std::string path = path_of(fd);
    struct stat st;
    if (!is_below(path.c_str()) || fstat(fd, &st)) return;
    Inside in;
    if (S_ISDIR(st.st_mode)) keep_directory(path, st.st_ino);
    else if (int again = open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDONLY); again >= 0) {
        keep_file(again, st.st_ino);  // fd may be open for writing alone
        close(again);
    }
}

extern "C" {
static int open_at(int dir, const char* path, int flags, mode_t mode) {
    if (event((flags & O_CREAT) && is_below(path))) return -1;
    return (int)syscall(SYS_openat, dir, path, flags, mode);
}
int open(const char* path, int flags, ...) {
    va_list args;
    va_start(args, flags);
    mode_t mode = va_arg(args, mode_t);
    va_end(args);
    return open_at(AT_FDCWD, path, flags, mode);
}
int open64(const char* path, int flags, ...) {
    va_list args;
    va_start(args, flags);
    mode_t mode = va_arg(args, mode_t);
    va_end(args);
    return open_at(AT_FDCWD, path, flags, mode);
}
FILE* fopen(const char* path, const char* mode) {
    NEXT(fopen);
    return event(*mode != 'r' && is_below(path)) ? nullptr : real(path, mode);
}
FILE* fopen64(const char* path, const char* mode) {
    NEXT(fopen64);
    return event(*mode != 'r' && is_below(path)) ? nullptr : real(path, mode);
}
ssize_t write(int fd, const void* bytes, size_t n) { return event(fd) ? -1 : syscall(SYS_write, fd, bytes, n); }
ssize_t pwrite(int fd, const void* bytes, size_t n, off_t at) {
    return event(fd) ? -1 : syscall(SYS_pwrite64, fd, bytes, n, at);
}
ssize_t pwrite64(int fd, const void* bytes, size_t n, off_t at) {
    return event(fd) ? -1 : syscall(SYS_pwrite64, fd, bytes, n, at);
}
size_t fwrite(const void* bytes, size_t size, size_t n, FILE* f) {
    NEXT(fwrite);
    return event(f) ? 0 : real(bytes, size, n, f);
}
int fflush(FILE* f) {
    NEXT(fflush);
    return event(f) ? EOF : real(f);
}
int fclose(FILE* f) {
    NEXT(fclose);
    bool fails = event(f);
    int result = real(f);
    if (fails) errno = ENOSPC;
    return fails ? EOF : result;
}
int ftruncate(int fd, off_t size) { return event(fd) ? -1 : (int)syscall(SYS_ftruncate, fd, size); }
int ftruncate64(int fd, off_t size) { return event(fd) ? -1 : (int)syscall(SYS_ftruncate, fd, size); }
int fsync(int fd) {
    if (event(fd)) return -1;
    keep(fd);
    return 0;
}
int fdatasync(int fd) { return fsync(fd); }
int rename(const char* from, const char* to) {
    return event(is_below(to)) ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}
int link(const char* from, const char* to) {
    return event(is_below(to)) ? -1 : (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}
int linkat(int a, const char* from, int b, const char* to, int flags) {
    return event(is_below(to)) ? -1 : (int)syscall(SYS_linkat, a, from, b, to, flags);
}
// unlinking needs no room: it only counts as a moment at which the power may go
int unlink(const char* path) {
    if (HOW == "power") event(is_below(path));
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}
int mkdir(const char* path, mode_t mode) {
    return event(is_below(path)) ? -1 : (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}
// the C library has no renameat2 of its own everywhere, so programs call it by its number
long syscall(long number, ...) noexcept {
    NEXT(syscall);
    va_list args;
    va_start(args, number);
    long a = va_arg(args, long), b = va_arg(args, long), c = va_arg(args, long), d = va_arg(args, long),
         e = va_arg(args, long), f = va_arg(args, long);
    va_end(args);
    if (number == SYS_renameat2 && event(is_below((const char*)d))) return -1;
    return real(number, a, b, c, d, e, f);
}
}
