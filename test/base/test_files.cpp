// files.h: what a file is that is not text, and the byte order mark. Which reader says it of which kind of file, and
// that data/lib/file_kinds.py says the same: test/scripts/test_file_kinds.py.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "common/base/errors.h"
#include "common/base/files.h"
#include "common/base/json.h"
#include "test/temp.h"

namespace {

using namespace std::string_literals;

std::string error_of(const std::function<void()>& f) {
    try {
        f();
    } catch (const Error& e) {
        return e.what();
    }
    return "no error";
}

// a text of ASCII in units of `size` bytes, the character in the first of them or in the last
std::string wide(const std::string& text, size_t size, bool little) {
    std::string out;
    for (char c : text) {
        std::string unit(size, '\0');
        unit[little ? 0 : size - 1] = c;
        out += unit;
    }
    return out;
}

}  // namespace

TEST_CASE("text: what is not text has a name") {
    const std::string rest(400, '\0');
    CHECK(not_text("%PDF-1.7\n") == "a PDF document: save it as plain text first");
    CHECK(not_text("\x1f\x8b\x08" + rest) == "a gzip archive: unpack it first");
    CHECK(not_text("\xff\xd8\xff\xe1"
                   "no NUL byte") == "a JPEG image: give a file of text");
    CHECK(not_text("PK\3\4\x14" + rest) == "a zip archive: unpack it first");
    CHECK(not_text("PK\3\4" + std::string(26, '\0') + "mimetypeapplication/epub+zip" + rest) ==
          "an EPUB book: save it as plain text first");
    CHECK(not_text("name" + std::string(253, '\0') + "ustar") == "a tar archive: unpack it first");
    CHECK(not_text("\xff\xfe" + wide("text", 2, true)) == "UTF-16 text: convert it first, iconv -f UTF-16 -t UTF-8");
    CHECK(
        not_text("\xff\xfe\0\0"s + wide("text", 4, true)) == "UTF-32 text: convert it first, iconv -f UTF-32 -t UTF-8");
    CHECK(not_text(wide("A text.\n", 2, true)) == "UTF-16 text: convert it first, iconv -f UTF-16LE -t UTF-8");
    CHECK(not_text(wide("A text.\n", 2, false)) == "UTF-16 text: convert it first, iconv -f UTF-16BE -t UTF-8");
    CHECK(not_text(wide("A text.\n", 4, true)) == "UTF-32 text: convert it first, iconv -f UTF-32LE -t UTF-8");
    CHECK(not_text(wide("A text.\n", 4, false)) == "UTF-32 text: convert it first, iconv -f UTF-32BE -t UTF-8");
    CHECK(not_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n") ==
          "a Git LFS pointer: fetch the file itself with git lfs pull");
}

TEST_CASE("text: what may be text has none") {
    // words that binary files begin with, one NUL byte, other encodings of one byte: not for not_text() to say
    for (const std::string& text :
        {""s, "a"s, "The big WAVE"s, "GIF89a is a format"s, "PAR1"s, "MZ"s, "BZh"s, "ID3 tags"s, "a\0b"s, "ab\0c"s,
            "one NUL\0 in a line of text"s, "caf\xe9"s, "\xef\xbb\xbftext"s, std::string(257, 'm') + "ustard"})
        CHECK(not_text(text) == "");
}

TEST_CASE("text: files are checked and lose their byte order mark, at the beginning only") {
    TempDir d;
    auto read = [&](const std::string& bytes) {
        write_bytes(d / "x", bytes);
        std::string text;
        const std::string error = error_of([&] { text = read_text(d / "x"); });
        return error == "no error" ? text : error;
    };
    CHECK(read("\xef\xbb\xbf"
               "a\n\xef\xbb\xbf"
               "b\n") ==
          "a\n\xef\xbb\xbf"
          "b\n");
    CHECK(read("\xef\xbb\xbf") == "");
    CHECK(read("\xef\xbb") == (d / "x") + ", line 1: expected UTF-8, found the byte 0xef; convert the file first");
    CHECK(read("a\nb\0c\n"s) == (d / "x") + ", line 2: expected text, found a NUL byte");
    CHECK(read("a\0\n\xff\n"s) == (d / "x") + ", line 1: expected text, found a NUL byte");  // the first of the two
    CHECK(read("\xff\n\0\n"s) == (d / "x") + ", line 1: expected UTF-8, found the byte 0xff; convert the file first");
    CHECK(read("%PDF-1.7") == (d / "x") + ": expected UTF-8 text, found a PDF document: save it as plain text first");
}

TEST_CASE("text: JSON with a byte order mark, and what is no JSON") {
    CHECK(parse_json("\xef\xbb\xbf{\"a\": 1}", "x").find("a")->i == 1);
    CHECK(error_of([] {
        parse_json(
            "{\"a\": \xef\xbb\xbf"
            "1}",
            "x");
    }).find("not JSON") != std::string::npos);
    CHECK(error_of([] { parse_json("\xff\xfe{\0}\0"s, "x"); }) ==
          "x: expected JSON, found UTF-16 text: convert it first, iconv -f UTF-16 -t UTF-8");
}

TEST_CASE("files: one that is cut off while it is mapped ends the program with one line") {
    TempDir d;
    write_bytes(d / "x.bin", std::string(1 << 20, 'x'));
    const pid_t child = fork();
    if (child == 0) {
        dup2(open((d / "err").c_str(), O_WRONLY | O_CREAT, 0600), 2);
        size_t size;
        const auto map = map_file(d / "x.bin", &size);
        if (truncate((d / "x.bin").c_str(), 4096) != 0) _exit(99);
        _exit(((const volatile char*)map.get())[size - 1]);
    }
    int status = 0;
    waitpid(child, &status, 0);
    CHECK((WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FAILED));
    CHECK(
        read_file(d / "err") == "error: " + (d / "x.bin") + ": the file was cut off while it was read: put it back\n");
}
