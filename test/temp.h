// temp.h: a directory for a test, a file with given bytes, a disk that is full.
#pragma once
#include <doctest/doctest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

// Removed at the end of the test.
struct TempDir {
    char path[32] = "/tmp/tune_test_XXXXXX";
    TempDir() { REQUIRE(mkdtemp(path)); }
    ~TempDir() { REQUIRE(system((std::string("rm -rf ") + path).c_str()) == 0); }
    std::string operator/(const std::string& name) const { return std::string(path) + "/" + name; }
};

inline void write_bytes(const std::string& path, const std::string& bytes) {
    FILE* f = fopen(path.c_str(), "wb");
    REQUIRE(f);
    REQUIRE(fwrite(bytes.data(), 1, bytes.size(), f) == bytes.size());
    REQUIRE(fclose(f) == 0);
}

// The names in a directory, in order
inline std::vector<std::string> entries_of(const std::string& dir) {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(dir)) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
}

// While it lives, no file can grow beyond `bytes`: to write() that is what a full disk is.
struct FullDisk {
    void (*old_handler)(int);
    rlimit old_limit;
    explicit FullDisk(size_t bytes) {
        old_handler = signal(SIGXFSZ, SIG_IGN);
        getrlimit(RLIMIT_FSIZE, &old_limit);
        rlimit limit = old_limit;
        limit.rlim_cur = bytes;
        setrlimit(RLIMIT_FSIZE, &limit);
    }
    ~FullDisk() {
        setrlimit(RLIMIT_FSIZE, &old_limit);
        signal(SIGXFSZ, old_handler);
    }
};

// Does an error message say this?
inline bool has(const std::string& text, const std::string& part) {
    bool found = text.find(part) != std::string::npos;
    if (!found) MESSAGE("\"", text, "\" does not say \"", part, "\"");
    return found;
}
