// terminal.h: a conversation in a terminal: lines to edit, with history, and text that is broken between words.
#pragma once
#include <dlfcn.h>
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/base/text.h"

// Asks for lines with libedit or GNU readline, whichever this machine has; they are looked for when the program runs,
// so that a build needs neither. Without them, or where standard input is no terminal, available() is false.
class LineEditor {
    char* (*read_line)(const char* prompt) = nullptr;
    int (*remember)(const char* line) = nullptr;

public:
    LineEditor() {
        if (!isatty(0) || !isatty(1)) return;
        setlocale(LC_CTYPE, "");  // else the libraries drop what is not ASCII
        if (MB_CUR_MAX == 1) setlocale(LC_CTYPE, "C.UTF-8");
        for (const char* name :
            {"libedit.so.2", "libedit.so.0", "libreadline.so.8", "libreadline.so.7", "libedit.dylib"})
            if (void* library = dlopen(name, RTLD_NOW)) {
                read_line = (char* (*)(const char*))dlsym(library, "readline");
                remember = (int (*)(const char*))dlsym(library, "add_history");
                if (read_line && remember) return;
            }
        read_line = nullptr;
    }
    bool available() const { return read_line != nullptr; }
    // The next line, without its end; false at the end of the input (Ctrl-D) or when a signal ended the wait
    bool next(const char* prompt, std::string& line) const {
        char* text = read_line(prompt);
        if (!text) return false;
        line = text;
        if (line.find_first_not_of(" \t") != line.npos) remember(text);
        free(text);
        return true;
    }
};

// Text for a terminal that comes in pieces, broken between words, its control characters visible but not obeyed;
// anything else gets it as it is. A word is held back until it is complete: finish() prints the last one. Wide
// characters, of scripts without spaces, are words each.
class WordWrap {
    std::string word;
    size_t last = 0;             // where its last character begins
    size_t columns = 0, at = 0;  // of the terminal, 0: none; of the line so far

    void flush() {
        word = visible(word, "\t");
        if (at > 0 && at + display_width(word) > columns) {
            fputc('\n', stdout);
            word.erase(0, word.find_first_not_of(' '));  // the space before it
            at = 0;
        }
        fwrite(word.data(), 1, word.size(), stdout);
        at += display_width(word);
        word.clear();
        last = 0;
    }
    void add(char c) {
        if (c == '\n' || c == ' ') flush();
        if (c == '\n') {
            fputc(c, stdout);
            at = 0;
            return;
        }
        const bool begins = (c & 0xC0) != 0x80;  // a character
        if (begins && (display_width(std::string_view(word).substr(last)) == 2 || word.size() > columns)) flush();
        if (begins) last = word.size();
        word += c;
    }
    static void show() {  // a signal (Ctrl-C) may end a write
        if (fflush(stdout) && errno != EINTR) fail("cannot write standard output: %s", strerror(errno));
    }

public:
    explicit WordWrap(size_t columns = columns_of_terminal()) : columns(columns) {}
    static size_t columns_of_terminal() {
        winsize size{};
        if (!isatty(1) || ioctl(1, TIOCGWINSZ, &size) != 0) return 0;
        return size.ws_col ? size.ws_col : 80;
    }
    void print(std::string_view text) {
        if (!columns) fwrite(text.data(), 1, text.size(), stdout);
        else
            for (char c : text) add(c);
        show();
    }
    void finish() {
        flush();
        show();
    }
};
