// files.h: reading, what is text, and writing so that a crash at any moment leaves the old file or the new one.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

// Opens a file to read it, and returns its descriptor. Refuses what would wait or never end, a pipe or a device, and a
// pointer of Git LFS, which stands for a file that was not fetched (any: unless the caller looks itself); where there
// is no such file it names the nearest.
int open_regular(const std::string& path, bool any = false);
std::string read_file(const std::string& path);  // all of it; opened so
// The bytes of a file, opened so, for as long as what is returned lives; nullptr: it is empty
std::shared_ptr<const char> map_file(const std::string& path, size_t* size);
// "; nearest: NAME", the name in the directory of `path` that is most like its own, where there is no such directory
// the one most like that; "" if there is none
std::string nearest_entry(const std::string& path);
// "" if `begin`, the first bytes of a file, may be those of UTF-8 text; else what the file is and what to do about it:
// "a gzip archive: unpack it first". data/lib/file_kinds.py says the same.
std::string not_text(std::string_view begin);
constexpr std::string_view BYTE_ORDER_MARK = "\xef\xbb\xbf";  // may begin a file of UTF-8; it is not part of the text
// Why these bytes are no text: the first of them, at `at`, that is NUL or not UTF-8; "" if they are
std::string text_fault(std::string_view text, size_t* at = nullptr);
std::string read_text(const std::string& path);  // a checked file of UTF-8, without its byte order mark
bool exists(const std::string& path);
bool is_directory(const std::string& path);
std::string without_slash(std::string path);     // "runs/x//" → "runs/x"
void make_directories(const std::string& path);  // like mkdir -p
void remove_tree(const std::string& path);       // like rm -rf
// A new file beside PATH, which close() syncs and renames to PATH: PATH is the old file or the new one, never half of
// one. An error (a full disk) throws; what is not closed is removed.
class AtomicFile {
    std::string path, tmp;
    int fd;
    [[noreturn]] void give_up() const;

public:
    explicit AtomicFile(const std::string& path);
    ~AtomicFile();
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;
    void write(const void* data, size_t bytes);
    void write_at(size_t offset, std::string_view bytes);  // over what is there
    void close();
};
void write_file_atomic(const std::string& path, std::string_view bytes);  // all at once
// Opens a new file for reading and writing, at `path` and eight random letters (then set in `path`): nobody can know
// the name before, nothing that is there is touched, no link is followed. Returns its descriptor, or −1 with errno set.
int create_file(std::string& path);
// Refuses (exit code 2) to write a file that is there already; of a directory, one of the names in it.
void refuse_existing(const std::string& flag, const std::string& path, const std::vector<std::string>& names = {""});
void sync_file(const std::string& path);          // what was written to it reaches the disk
void sync_directory_of(const std::string& path);  // after a rename: the name itself reaches the disk
// Replaces directory `path` by the finished `from` (same file system): syncs all that is in it, exchanges the names.
void replace_directory(const std::string& path, const std::string& from);
