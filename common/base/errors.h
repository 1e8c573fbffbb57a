// errors.h: errors that a program ends with, and format(), printf into a string.
//
// An error says what was expected, what was found and what to do. main() prints it as one line and exits with `code`.
#pragma once
#include <stdarg.h>
#include <stdio.h>

#include <stdexcept>
#include <string>

enum ExitCode { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_NOT_FINITE = 3, EXIT_INTERRUPTED = 130 };

struct Error : std::runtime_error {
    int code;
    Error(int code, const std::string& what) : std::runtime_error(what), code(code) {}
};

inline std::string vformat(const char* fmt, va_list args) {
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(nullptr, 0, fmt, again);
    va_end(again);
    std::string s(n > 0 ? n : 0, '\0');
    if (n > 0) vsnprintf(&s[0], n + 1, fmt, args);
    return s;
}
__attribute__((format(printf, 1, 2))) inline std::string format(const char* fmt, ...) {
    va_list args;
    va_start(args, fmt);
    std::string s = vformat(fmt, args);
    va_end(args);
    return s;
}
// bad data or a failing machine: exit code 1
[[noreturn]] __attribute__((format(printf, 1, 2))) inline void fail(const char* fmt, ...) {
    va_list args;
    va_start(args, fmt);
    std::string s = vformat(fmt, args);
    va_end(args);
    throw Error(EXIT_FAILED, s);
}
// a command line that makes no sense: exit code 2
[[noreturn]] __attribute__((format(printf, 1, 2))) inline void fail_usage(const char* fmt, ...) {
    va_list args;
    va_start(args, fmt);
    std::string s = vformat(fmt, args);
    va_end(args);
    throw Error(EXIT_USAGE, s);
}
// the same with a message that is put together
[[noreturn]] inline void fail(const std::string& what) { throw Error(EXIT_FAILED, what); }
[[noreturn]] inline void fail_usage(const std::string& what) { throw Error(EXIT_USAGE, what); }
