// test_untrusted.cpp: what is read is a file and its contents; new files have names that nobody knows; text as it is
// printed.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/terminal.h"
#include "common/base/text.h"
#include "test/temp.h"

namespace {

std::string refusal(const std::string& path) {
    try {
        read_file(path);
        return "";
    } catch (const Error& e) {
        CHECK(e.code == EXIT_FAILED);
        return e.what();
    }
}

}  // namespace

TEST_CASE("files: what is no file, or stands for one, is refused by name") {
    TempDir dir;
    CHECK(has(refusal(dir / "none"), "No such file"));
    CHECK(refusal(dir / "none").find("nearest") == std::string::npos);  // the directory is empty
    write_bytes(dir / "vocab.txt", "a");
    write_bytes(dir / ".vocab.tx", "a");
    CHECK(has(refusal(dir / "vocab.tx"), "No such file or directory; nearest: vocab.txt"));
    CHECK(has(refusal(dir.path), "expected a file, found a directory"));
    REQUIRE(mkfifo((dir / "pipe").c_str(), 0600) == 0);
    for (const std::string& path : {dir / "pipe", std::string("/dev/zero")})
        CHECK(has(refusal(path), "expected a file, found a pipe or a device"));
    const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, '0') + "\n";
    write_bytes(dir / "pointer", pointer + "size 12\n");
    CHECK(has(refusal(dir / "pointer"),
        "pointer: expected a file, found a Git LFS pointer: fetch the file itself with git lfs pull"));
    write_bytes(dir / "text", " " + pointer);
    CHECK(read_file(dir / "text") == " " + pointer);
    REQUIRE(symlink("text", (dir / "link").c_str()) == 0);
    CHECK(read_file(dir / "link") == " " + pointer);
}

TEST_CASE("files: a new file takes no name that is there, follows no link, and is nobody else's") {
    TempDir dir;
    write_bytes(dir / "victim", "mine");
    for (const char* name : {"x.tmp", "x.tmp.1"}) REQUIRE(symlink("victim", (dir / name).c_str()) == 0);
    std::vector<std::string> names;
    for (int i = 0; i < 20; i++) {
        std::string path = dir / "x.tmp";
        int fd = create_file(path);
        REQUIRE(fd >= 0);
        close(fd);
        CHECK(path.size() == (dir / "x.tmp.").size() + 8);
        names.push_back(path);
    }
    std::sort(names.begin(), names.end());
    CHECK(std::unique(names.begin(), names.end()) == names.end());
    write_file_atomic(dir / "x", "new");
    CHECK(read_file(dir / "victim") == "mine");
    CHECK(read_file(dir / "x") == "new");
    struct stat st;
    REQUIRE(lstat((dir / "x").c_str(), &st) == 0);
    CHECK(S_ISREG(st.st_mode));
}

TEST_CASE("text: control characters are shown, not obeyed") {
    CHECK(visible("plain \u00e9\u65e5\U0001f600~") == "plain \u00e9\u65e5\U0001f600~");
    CHECK(visible("a\nb\tc\rd") == "a\\nb\\tc\\rd");
    CHECK(visible("a\nb\tc\rd", "\n\t") == "a\nb\tc\\rd");
    CHECK(visible("\x1b[31m\x7f") == "\\x1b[31m\\x7f");
    CHECK(visible(std::string("\0", 1)) == "\\x00");
    CHECK(visible(std::string("\0", 1), "\n\t") == "\\x00");
    CHECK(visible("\u0080\u009b\u00a0") == "\\u0080\\u009b\u00a0");
    CHECK(visible("\u2028\u2029\u202e\u2066\u200f") == "\\u2028\\u2029\\u202e\\u2066\u200f");
    CHECK(visible("\xff\xc3") == "\\xff\\xc3");
    CHECK(name_list({"a\nb", "\x1b"}) == "a\\nb, \\x1b");
    CHECK(nearest_hint("wieght", {"bias", "weight"}) == "; nearest: weight");
    CHECK(nearest_hint("x", {}) == "");
}

TEST_CASE("text: what a model writes, piece by piece") {
    TempDir dir;
    auto written = [&](bool terminal, const std::vector<std::string>& pieces) {
        fflush(stdout);
        int keep = dup(1), file = open((dir / "out").c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600);
        dup2(file, 1);
        WordWrap output(terminal ? 40 : 0);
        for (const std::string& piece : pieces) output.print(piece);
        output.finish();
        dup2(keep, 1);
        close(keep);
        close(file);
        return read_file(dir / "out");
    };
    const std::vector<std::string> pieces = {
        "a\x1b[2J", "\xf0\x9f", "\x98", "\x80\n", "\xc2", "\x9b\t", "\x80\x80\x80\x80\x80", "\xe2\x82"};
    CHECK(written(false, pieces) == "a\x1b[2J\U0001f600\n\u009b\t\x80\x80\x80\x80\x80\xe2\x82");
    CHECK(written(true, pieces) == "a\\x1b[2J\U0001f600\n\\u009b\t\\x80\\x80\\x80\\x80\\x80\\xe2\\x82");
}
