// files.h: reading, what is text and what is not, and writing so that a crash at any moment leaves the old file or the
// new one.
#pragma once
#include <string>
#include <string_view>
#include <vector>

// Opens a file to read it, and returns its descriptor. Refuses what would wait or never end, a pipe or a device, and a
// pointer of Git LFS, which stands for a file that was not fetched (any: unless the caller looks itself); where there
// is no such file it names the nearest.
int open_regular(const std::string& path, bool any = false);
std::string read_file(const std::string& path);  // all of it; opened so
// "; nearest: NAME", the name in the directory of `path` that is most like its own, where there is no such directory
// the one most like that; "" if there is none
std::string nearest_entry(const std::string& path);
// "" if `begin`, the first bytes of a file, may be those of UTF-8 text; else what the file is and what to do about it:
// "a gzip archive: unpack it first". data/lib/file_kinds.py says the same.
std::string not_text(std::string_view begin);
constexpr std::string_view BYTE_ORDER_MARK = "\xef\xbb\xbf";  // may begin a file of UTF-8; it is not part of the text
// Fails with "PATH, line N" at the first NUL byte or byte that is not UTF-8. line: the number of the text's first line
void require_text(std::string_view text, const std::string& path, size_t line = 1);
std::string read_text(const std::string& path);  // a checked file of UTF-8, without its byte order mark
bool exists(const std::string& path);
bool is_directory(const std::string& path);
void make_directories(const std::string& path);  // like mkdir -p
// Writes to a new file beside it, fsync, rename: PATH is the old file or the new one, never half of one.
void write_file_atomic(const std::string& path, std::string_view bytes);
// Opens a new file for reading and writing, at `path` and eight random letters (then set in `path`): nobody can know
// the name before, nothing that is there is touched, no link is followed. Returns its descriptor, or −1 with errno set.
int create_file(std::string& path);
// Of a program's output: refuses (exit code 2) to write a file that is an input, by whatever name, compared by device
// and inode.
void refuse_input(const std::string& flag, const std::string& output, const std::vector<std::string>& inputs);
// Refuses (exit code 2) to write a file that is there already; of a directory, one of the names in it.
void refuse_existing(const std::string& flag, const std::string& path, const std::vector<std::string>& names = {""});
void sync_file(const std::string& path);          // what was written to it reaches the disk
void sync_directory_of(const std::string& path);  // after a rename: the name itself reaches the disk
// Replaces directory `path` by the finished directory `from` (same file system): fsyncs everything in it, then
// exchanges the names.
void replace_directory(const std::string& path, const std::string& from);
