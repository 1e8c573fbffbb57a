// metrics_log.h: OUT/metrics.jsonl, a line of JSON per step and per validation.
#pragma once
#include <errno.h>
#include <stdio.h>

#include "common/base/common.h"
#include "common/base/files.h"

struct MetricsLog {
    std::string path;
    FILE* file = nullptr;
    // Opens for appending; on resume drops the lines of steps after `step`, which will be made again. Is the file
    // empty?
    bool open(const std::string& p, bool resume, int64_t step) {
        path = p;
        std::string kept;
        if (resume && exists(path)) {
            std::string text = read_file(path);
            for (size_t at = 0, end; at < text.size(); at = end + 1) {
                end = text.find('\n', at);
                if (end == std::string::npos) break;  // a line that was cut off
                std::string line = text.substr(at, end - at);
                const Json j = parse_json(line, path);
                const Json* s = j.find("step");
                if (s && s->i <= step) kept += line + "\n";
            }
        }
        write_file_atomic(path, kept);
        file = fopen(path.c_str(), "a");
        if (!file) fail("%s: could not open it for writing: %s", path.c_str(), strerror(errno));
        return kept.empty();
    }
    void add(const Json& line) {
        std::string s = dump_json(line) + "\n";
        if (fwrite(s.data(), 1, s.size(), file) != s.size() || fflush(file))
            fail("%s: could not write: %s", path.c_str(), strerror(errno));
    }
    ~MetricsLog() {
        if (file) fclose(file);
    }
};
