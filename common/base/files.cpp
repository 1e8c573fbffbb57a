// files.cpp: files.h by POSIX.
#include "common/base/files.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "common/base/text.h"

namespace fs = std::filesystem;

std::string without_slash(std::string path) {
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    return path;
}

// The directory that holds `path`: after a rename its own entry must reach the disk, too.
static std::string parent_of(const std::string& path) {
    const std::string name = without_slash(path);
    const size_t slash = name.rfind('/');
    return slash == name.npos ? "." : slash == 0 ? "/" : name.substr(0, slash);
}

int open_regular(const std::string& path, bool any) {
    const char* p = path.c_str();
    int fd = open(p, O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe without a writer does not wait
    if (fd < 0) {
        const std::string reason = strerror(errno), hint = errno == ENOENT ? nearest_entry(path) : "";
        fail("cannot read %s: %s%s", p, reason.c_str(), hint.c_str());
    }
    struct stat st{};
    char head[42] = "";
    const char* found = fstat(fd, &st) != 0 || S_ISREG(st.st_mode) ? nullptr
                        : S_ISDIR(st.st_mode)                      ? "a directory"
                                                                   : "a pipe or a device";
    if (!found && !any && pread(fd, head, 41, 0) >= 0 && !strncmp(head, "version https://git-lfs.github.com/spec/", 40))
        found = "a Git LFS pointer: fetch the file itself with git lfs pull";
    if (!found) return fd;
    close(fd);
    fail("cannot read %s: expected a file, found %s", p, found);
}

std::string read_file(const std::string& path) {
    const int fd = open_regular(path);
    std::string bytes;
    char block[1 << 16];
    ssize_t n;
    while ((n = read(fd, block, sizeof block)) > 0) bytes.append(block, n);
    const int error = n < 0 ? errno : 0;
    close(fd);
    if (error) fail("cannot read %s: %s", path.c_str(), strerror(error));
    return bytes;
}

// The files that are mapped. One that is cut off while it is read is a SIGBUS: one line, and exit code 1. Nothing can
// be saved from within its handler: where a run has time for that, BinFile::require_unchanged() has noticed it before.
struct MappedFile {
    const char *begin = nullptr, *end = nullptr;
    std::string name{};
};
static MappedFile mapped_files[256];  // of more files the signal ends the program
static void on_bus_error(int number, siginfo_t* info, void*) {
    for (const MappedFile& m : mapped_files) {
        if (info->si_addr < m.begin || info->si_addr >= m.end) continue;
        for (const char* part : {"error: ", m.name.c_str(), ": the file was cut off while it was read: put it back\n"})
            if (write(2, part, strlen(part)) < 0) break;
        _exit(EXIT_FAILED);
    }
    signal(number, SIG_DFL);  // the instruction is tried once more
}
std::shared_ptr<const char> map_file(const std::string& path, size_t* size) {
    const int fd = open_regular(path);
    struct stat st;
    *size = fstat(fd, &st) == 0 ? st.st_size : 0;
    void* p = *size ? mmap(nullptr, *size, PROT_READ, MAP_PRIVATE, fd, 0) : nullptr;
    const int error = errno;
    close(fd);
    if (p == MAP_FAILED) fail("cannot map %s: %s", path.c_str(), strerror(error));
    MappedFile* m = std::find_if(mapped_files, std::end(mapped_files) - 1, [](auto& m) { return !m.begin; });
    *m = {(const char*)p, (const char*)p + *size, visible(path)};
    struct sigaction action{};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGBUS, &action, nullptr);
    return {(const char*)p, [n = *size, m](const char* p) {
                if (m->begin == p) *m = {};
                munmap((void*)p, n);
            }};
}

std::string nearest_entry(const std::string& path) {
    if (const std::string dir = parent_of(path); dir != path && !exists(dir)) return nearest_entry(dir);
    std::vector<std::string> names;
    std::error_code e;
    for (fs::directory_iterator entry(parent_of(path), e), end; !e && entry != end; entry.increment(e))
        if (const std::string name = entry->path().filename(); name[0] != '.') names.push_back(name);
    return nearest_hint(path.substr(path.rfind('/') + 1), names);
}

// UTF-16 and UTF-32 without a byte order mark, as their NUL bytes show it: every character of ASCII has one or three.
static const char* wide_text(std::string_view begin) {
    size_t nul[4] = {0, 0, 0, 0}, n = std::min<size_t>(begin.size(), 4096) / 4;  // nul[i]: among the bytes 4 k + i
    for (size_t i = 0; i < 4 * n; i++) nul[i % 4] += begin[i] == 0;
    if (n && nul[2] == n && nul[3] == n && nul[0] == 0) return "UTF-32LE";
    if (n && nul[0] == n && nul[1] == n && nul[3] == 0) return "UTF-32BE";
    const size_t even = nul[0] + nul[2], odd = nul[1] + nul[3];
    if (odd > n / 4 + 1 && even == 0) return "UTF-16LE";
    if (even > n / 4 + 1 && odd == 0) return "UTF-16BE";
    return nullptr;
}

std::string not_text(std::string_view begin) {
    begin = begin.substr(0, 1 << 16);
    const std::string unpack = "unpack it first", save = "save it as plain text first", none = "give a file of text";
    const std::string convert = "convert it to JSON lines first", office = "an Office document (.docx, .xlsx or .pptx)";
    struct Kind {
        size_t at;
        std::vector<std::string> bytes;  // one of these
        std::string what, advice;
        bool written = false;  // in characters, as a text is
    };
    using namespace std::string_literals;  // with their NUL bytes
    static const Kind kinds[] = {
        {0, {"%PDF-"}, "a PDF document", save, true},
        {0, {"%!PS-Adobe"}, "a PostScript document", save, true},
        {0, {"{\\rtf"}, "an RTF document", save, true},
        {0, {"version https://git-lfs.github.com/spec/"}, "a Git LFS pointer",
            "fetch the file itself with git lfs pull", true},
        {0, {"\xff\xfe\0\0"s, "\0\0\xfe\xff"s}, "UTF-32 text", "convert it first, iconv -f UTF-32 -t UTF-8"},
        {0, {"\xff\xfe", "\xfe\xff"}, "UTF-16 text", "convert it first, iconv -f UTF-16 -t UTF-8"},
        {30, {"mimetypeapplication/epub+zip"}, "an EPUB book", save},
        {30, {"mimetypeapplication/vnd.oasis"}, "an OpenDocument file", save},
        {30, {"mimetype"}, "an EPUB book or OpenDocument file", save},
        {30, {"[Content_Types].xml", "_rels/", "docProps/"}, office, save},
        {0, {"PK\3\4"}, "a zip archive", unpack},
        {0, {"PK\5\6"}, "an empty zip archive", none},
        {0, {"\x1f\x8b"}, "a gzip archive", unpack},
        {0, {"\x1f\x9d"}, "a compressed file (.Z)", unpack},
        {0, {"BZh"}, "a bzip2 archive", unpack},
        {0, {"\3757zXZ\0"s}, "an xz archive", unpack},
        {0, {"\x28\xb5\x2f\xfd"}, "a zstd archive", unpack},
        {0, {"7z\xbc\xaf\x27\x1c"}, "a 7z archive", unpack},
        {0, {"Rar!"}, "a rar archive", unpack},
        {0, {"\4\x22\x4d\x18"}, "an lz4 archive", unpack},
        {257, {"ustar"}, "a tar archive", unpack},
        {0, {"\xd0\xcf\x11\xe0"}, "an old Office document (.doc, .xls or .ppt)", save},
        {0, {"\x89PNG"}, "a PNG image", none},
        {0, {"\xff\xd8\xff"}, "a JPEG image", none},
        {0, {"GIF8"}, "a GIF image", none},
        {0, {"II*\0"s, "MM\0*"s}, "a TIFF image", none},
        {8, {"WEBP"}, "a WebP image", none},
        {8, {"WAVE"}, "a sound file", none},
        {0, {"ID3", "OggS", "fLaC"}, "a sound file", none},
        {4, {"ftyp"}, "a video or sound file", none},
        {0, {"PAR1"}, "a Parquet file", convert},
        {0, {"ARROW1"}, "an Arrow file", convert},
        {0, {"SQLite format 3"}, "an SQLite database", convert},
        {0, {"\x89HDF"}, "an HDF5 file", none},
        {0, {"\x93NUMPY"}, "a NumPy array", none},
        {0, {"\177ELF"}, "a program (ELF)", none},
        {0, {"MZ"}, "a program (.exe)", none},
        {0, {"GGUF"}, "a model (GGUF)", none},
        {4, {"\0\0\0\0{"s}, "a model (safetensors)", none},
        {0, {"tunebin\n"}, "a packed .bin file", "give the text that it was made from"},
    };
    const bool is_text = begin.find('\0') == begin.npos && invalid_utf8(begin) == begin.npos;
    for (const Kind& kind : kinds)
        for (const std::string& bytes : kind.bytes)
            if ((kind.written || !is_text) && begin.size() > kind.at && starts_with(begin.substr(kind.at), bytes))
                return kind.what + ": " + kind.advice;
    const char* wide = is_text ? nullptr : wide_text(begin);
    return wide ? format("%.6s text: convert it first, iconv -f %s -t UTF-8", wide, wide) : "";
}

std::string text_fault(std::string_view text, size_t* at) {
    const size_t nul = text.find('\0'), invalid = invalid_utf8(text), first = std::min(nul, invalid);
    if (at) *at = first;
    if (first == text.npos) return "";
    if (first == nul) return "expected text, found a NUL byte";
    return format("expected UTF-8, found the byte 0x%02x; convert the file first", (unsigned char)text[first]);
}

std::string read_text(const std::string& path) {
    std::string text = read_file(path);
    const std::string found = not_text(text);
    if (!found.empty()) fail("%s: expected UTF-8 text, found %s", path.c_str(), found.c_str());
    size_t at;
    if (const std::string fault = text_fault(text, &at); !fault.empty())
        fail("%s, line %zu: %s", path.c_str(), 1 + std::count(text.begin(), text.begin() + at, '\n'), fault.c_str());
    if (starts_with(text, BYTE_ORDER_MARK)) text.erase(0, BYTE_ORDER_MARK.size());
    return text;
}

bool exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

bool is_directory(const std::string& path) {
    struct stat st;
    return stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
}

void make_directories(const std::string& path) {
    std::error_code e;
    if (fs::create_directories(path, e); !e) return;
    const bool used = e == std::errc::not_a_directory || e == std::errc::file_exists;
    fail("cannot make the directory %s: %s", path.c_str(), used ? "there is a file of that name" : e.message().c_str());
}

void remove_tree(const std::string& path) {
    std::error_code e;
    if (fs::remove_all(path, e); e) fail("cannot remove %s: %s", path.c_str(), e.message().c_str());
}

void sync_file(const std::string& path) {
    int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) fail("cannot open %s: %s", path.c_str(), strerror(errno));
    int error = fsync(fd) == 0 ? 0 : errno;
    if (error == EINVAL || error == EROFS) error = 0;  // some file systems cannot sync a directory
    close(fd);
    if (error) fail("cannot write %s to the disk: %s", path.c_str(), strerror(error));
}

void sync_directory_of(const std::string& path) { sync_file(parent_of(path)); }

int create_file(std::string& path) {
    unsigned char random[8];
    if (getentropy(random, sizeof random) != 0) return -1;
    path += ".";
    for (unsigned char r : random) path += "abcdefghijklmnopqrstuvwxyz234567"[r % 32];
    return open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
}

void refuse_existing(const std::string& flag, const std::string& path, const std::vector<std::string>& names) {
    struct stat st;
    for (const std::string& name : names) {
        const std::string file = name.empty() ? path : path + "/" + name;
        if (lstat(file.c_str(), &st) == 0)
            fail_usage("%s %s: expected no %s, which this would overwrite, found one; remove it or take another %s",
                flag.c_str(), path.c_str(), file.c_str(), flag.c_str());
    }
}

AtomicFile::AtomicFile(const std::string& path) : path(path), tmp(path + ".tmp"), fd(create_file(tmp)) {
    if (fd < 0) give_up();
}
AtomicFile::~AtomicFile() {
    if (fd >= 0) ::close(fd);
    if (!tmp.empty()) unlink(tmp.c_str());
}
void AtomicFile::write(const void* data, size_t bytes) {
    for (const char* p = (const char*)data; bytes > 0;) {
        const ssize_t n = ::write(fd, p, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) give_up();
        p += n;
        bytes -= n;
    }
}
void AtomicFile::write_at(size_t offset, std::string_view bytes) {
    if (pwrite(fd, bytes.data(), bytes.size(), (off_t)offset) != (ssize_t)bytes.size()) give_up();
}
void AtomicFile::close() {
    if (fsync(fd) != 0 || ::close(std::exchange(fd, -1)) != 0 || rename(tmp.c_str(), path.c_str()) != 0) give_up();
    tmp.clear();
    sync_directory_of(path);
}
void AtomicFile::give_up() const {
    fail("cannot write %s: %s; the file that was there before is unchanged", path.c_str(), strerror(errno));
}

void write_file_atomic(const std::string& path, std::string_view bytes) {
    AtomicFile file(path);
    file.write(bytes.data(), bytes.size());
    file.close();
}

static void sync_tree(const std::string& dir) {
    std::error_code e;
    for (fs::recursive_directory_iterator entry(dir, e), end; !e && entry != end; entry.increment(e))  // no links
        if (const std::string path = entry->path(); exists(path)) sync_file(path);
    if (e) fail("cannot read the directory %s: %s", dir.c_str(), e.message().c_str());
    sync_file(dir);
}

static void move_directory(const std::string& from, const std::string& to) {
    if (rename(from.c_str(), to.c_str()) != 0) fail("cannot rename " + from + " to " + to + ": " + strerror(errno));
    sync_directory_of(to);
}

void replace_directory(const std::string& path, const std::string& from) {
    if (exists(path) && !is_directory(path)) fail("cannot replace " + path + ": expected a directory, found a file");
    sync_tree(from);
    if (!exists(path)) return move_directory(from, path);
#ifdef SYS_renameat2                  // Linux
    constexpr unsigned exchange = 2;  // RENAME_EXCHANGE: both names change hands in one step
    if (syscall(SYS_renameat2, AT_FDCWD, from.c_str(), AT_FDCWD, path.c_str(), exchange) == 0) {
        sync_directory_of(path);
        return remove_tree(from);
    }
#endif
    // This file system cannot exchange. For a moment the old directory is at PATH.old and nothing at PATH.
    const std::string old = path + ".old";
    remove_tree(old);
    move_directory(path, old);
    move_directory(from, path);
    remove_tree(old);
}
