// instruct_test_set.h: which rows of instructions an evaluation answers.
#pragma once
#include <algorithm>
#include <filesystem>

#include "common/base/rng.h"
#include "common/data/bin_file.h"

// A set of rows that is reported on
struct TestSet {
    std::string name;
    const BinFile* file;
    std::vector<std::vector<uint32_t>> rows;  // of each of the file's tasks, in the file's order
    bool strict;                              // exact match counts case and punctuation
    size_t drawn_from;                        // rows that these were drawn from
    size_t count() const {
        size_t n = 0;
        for (auto& task : rows) n += task.size();
        return n;
    }
};
// Of each task for which chosen(task) is true at most `rows_per_task` rows (0: all), drawn always the same.
template <class Chosen>
TestSet draw_test_set(const std::string& name, const BinFile& file, int64_t rows_per_task, bool strict, Chosen chosen) {
    TestSet set{name, &file, std::vector<std::vector<uint32_t>>(file.tasks.size()), strict, 0};
    for (size_t s = 0; s < file.sequences(); s++)
        if (chosen(file.tasks[file.task(s)])) {
            set.rows[file.task(s)].push_back((uint32_t)s);
            set.drawn_from++;
        }
    for (size_t t = 0; t < set.rows.size(); t++) {
        auto& rows = set.rows[t];
        if (rows_per_task == 0 || rows.size() <= (size_t)rows_per_task) continue;
        std::vector<uint32_t> drawn;
        Permutation order(rows.size(), mix64(1, t));
        for (int64_t i = 0; i < rows_per_task; i++) drawn.push_back(rows[order((uint64_t)i)]);
        std::sort(drawn.begin(), drawn.end());
        rows = drawn;
    }
    return set;
}
inline TestSet draw_test_set(const std::string& name, const BinFile& file, int64_t rows_per_task, bool strict) {
    return draw_test_set(name, file, rows_per_task, strict, [](const std::string&) { return true; });
}

// DATA/test.bin and DATA/test_NAME.bin, sorted
inline std::vector<std::string> test_files(const std::string& dir) {
    std::vector<std::string> files;
    std::error_code error;
    std::filesystem::directory_iterator entries(dir, error);
    if (error) fail("cannot read the directory %s: %s", dir.c_str(), error.message().c_str());
    for (const auto& entry : entries) {
        std::string name = entry.path().filename().string();
        if (name == "test.bin" ||
            (name.rfind("test_", 0) == 0 && name.size() > 9 && name.substr(name.size() - 4) == ".bin"))
            files.push_back(dir + "/" + name);
    }
    std::sort(files.begin(), files.end());
    return files;
}
