// files.h: reading, and writing so that a crash at any moment leaves the old file or the new one.
#pragma once
#include <string>
#include <string_view>

std::string read_file(const std::string& path);  // fails with the path and the system's reason
bool exists(const std::string& path);
bool is_directory(const std::string& path);
void make_directories(const std::string& path);  // like mkdir -p
// Writes to PATH.tmp, fsync, rename: PATH is the old file or the new one, never half of one.
void write_file_atomic(const std::string& path, std::string_view bytes);
void sync_directory_of(const std::string& path);  // after a rename: the name itself reaches the disk
// Replaces directory `path` by the finished directory `from` (same file system): fsyncs everything in it, then
// exchanges the names.
void replace_directory(const std::string& path, const std::string& from);
