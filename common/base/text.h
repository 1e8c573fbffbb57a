// text.h: names and numbers, as people read them.
#pragma once
#include <stddef.h>

#include <string>
#include <vector>

#include "common/base/errors.h"

// "a, b, c and 9 more"; up to `most` in full
inline std::string name_list(const std::vector<std::string>& names, size_t most = 4) {
    std::string s;
    size_t shown = names.size() <= most ? names.size() : most - 1;
    for (size_t i = 0; i < shown; i++) s += (i ? ", " : "") + names[i];
    return shown < names.size() ? s + format(" and %zu more", names.size() - shown) : s;
}

inline std::string file_stem(const std::string& path) {  // "data/test_tasks.bin" → "test_tasks"
    std::string name = path.substr(path.rfind('/') + 1);
    return name.substr(0, name.rfind('.'));
}
inline std::string duration(double s) {  // 42s, 3m10s, 2h05m
    if (s < 60) return format("%.0fs", s);
    if (s < 3600) return format("%dm%02ds", (int)s / 60, (int)s % 60);
    return format("%dh%02dm", (int)(s / 3600), (int)s / 60 % 60);
}
inline std::string thousands(double x) {  // 12,345
    std::string s = format("%.0f", x);
    for (int i = (int)s.size() - 3; i > (s[0] == '-'); i -= 3) s.insert(i, ",");
    return s;
}
