// files.h: reading, and writing so that a crash at any moment leaves the old file or the new one.
#pragma once
#include <string>
#include <string_view>
#include <vector>

// Opens a file to read it, and returns its descriptor. Refuses what would wait or never end, a pipe or a device, and a
// pointer of Git LFS, which stands for a file that was not fetched; where there is no such file it names the nearest.
int open_regular(const std::string& path);
std::string read_file(const std::string& path);  // all of it; opened so
// "; nearest: NAME", the name in the directory of `path` that is most like its own, where there is no such directory
// the one most like that; "" if there is none
std::string nearest_entry(const std::string& path);
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
void sync_directory_of(const std::string& path);  // after a rename: the name itself reaches the disk
// Replaces directory `path` by the finished directory `from` (same file system): fsyncs everything in it, then
// exchanges the names.
void replace_directory(const std::string& path, const std::string& from);
