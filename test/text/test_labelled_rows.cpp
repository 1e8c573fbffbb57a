// Labelled texts: what .tsv, .csv and .jsonl files hold, and how each fault of theirs is reported.
#include <doctest/doctest.h>

#include <algorithm>
#include <random>

#include "data/labelled_sources.h"
#include "test/text/instruct_rows.h"

namespace {

const char* const KINDS[] = {"x.tsv", "x.csv", "x.jsonl"};

struct Reading {
    std::vector<LabelledRow> rows;
    std::string error;
    size_t bytes = 0;
};
// All rows of a file that holds these bytes, or the error; label: of all of them, "": they have their own
Reading rows_of(const std::string& path, const std::string& bytes, const LabelledColumns& columns = {},
    const std::string& label = "") {
    write_bytes(path, bytes);
    Reading r;
    try {
        LabelledRows in({{path, label}}, columns);
        for (LabelledRow row; in.next(row);) {
            if (!row.error.empty()) throw Error(EXIT_FAILED, row.error);
            r.rows.push_back(row);
        }
        r.bytes = in.bytes();
    } catch (const Error& e) {
        r.error = e.what();
        CHECK(r.error.find('\n') == std::string::npos);
    }
    return r;
}
// "text|text2|label" of each row, with the line before it
std::string all(const Reading& r) {
    std::string s = r.error;
    for (const LabelledRow& row : r.rows) {
        CHECK(row.pair == !row.text2.empty());
        CHECK(!row.label.empty());
        s += format("%zu:%s|%s|%s;", row.line, row.text.c_str(), row.text2.c_str(), row.label.c_str());
    }
    return s;
}

std::string pick(std::mt19937& rng, const std::vector<std::string>& from, size_t most) {
    std::string s;
    for (size_t n = rng() % (most + 1); n > 0; n--) s += from[rng() % from.size()];
    return s;
}

}  // namespace

TEST_CASE("labelled: TSV") {
    TempDir d;
    auto read = [&](const std::string& bytes, const LabelledColumns& c = {}, const std::string& label = "") {
        return all(rows_of(d / "x.tsv", bytes, c, label));
    };
    CHECK(read("text\tlabel\na b\tx\n\"c\t1\n") == "2:a b||x;3:\"c||1;");
    CHECK(read("label\tid\ttext2\ttext\nx\t7\tsecond\tfirst\ny\t8\t \tonly\n") == "2:first|second|x;3:only||y;");
    CHECK(read("\xef\xbb\xbftext\tlabel\r\na\tx\r\nb\ty") ==
          "2:a||x;3:b||y;");  // byte order mark, CRLF, no line break at the end
    CHECK(read("text\tlabel\na\tx\n\n\r\n\n") == "2:a||x;");
    CHECK(read("text\tlabel\n") == "");
    CHECK(read("text\ttext\na\tb\n", {"text", "b", "c"}, "L") ==
          (d / "x.tsv") + ", line 1: expected the column \"text\" once, found it twice");
    CHECK(read("text\tx\tx\na\tb\tc\n", {}, "L") == "2:a||L;");  // of a column that is not used
    CHECK(read("text\na\n\n", {}, "L") == "2:a||L;");
    CHECK(read("text\tlabel\na\t\nb\tx\n", {}, "L") == "2:a||L;3:b||L;");
    write_bytes(d / "x.tsv", "text\na\n");
    LabelledRow row;
    row.text = row.text2 = row.label = "old";
    row.pair = true;
    row.line = 7;
    CHECK(LabelledRows({{d / "x.tsv", "L"}}, {}).next(row));
    CHECK(all({{row}, "", 0}) == "2:a||L;");
    CHECK(read("s\tt\tlabel\na\tb\tx\nc\t\tx\n", {"s", "t", "label"}) == "2:a|b|x;3:c||x;");
}

TEST_CASE("labelled: CSV") {
    TempDir d;
    auto read = [&](const std::string& bytes, const LabelledColumns& c = {}, const std::string& label = "") {
        return all(rows_of(d / "x.csv", bytes, c, label));
    };
    CHECK(read("text,label\na b,x\n\"c,\"\"d\"\"\",\"1\"\n") == "2:a b||x;3:c,\"d\"||1;");
    CHECK(read("\"label\",\"te\"\"xt\"\r\nx,\"a\r\n\r\nb\"\r\ny,c\r\n", {"te\"xt", "text2", "label"}) ==
          "2:a\r\n\r\nb||x;5:c||y;");
    CHECK(read("\"te\nxt\",label\n\"\n\n\"\"\",x\nb,y", {"te\nxt", "text2", "label"}) == "3:\n\n\"||x;6:b||y;");
    CHECK(read("\xef\xbb\xbf\"text\",label\r\na,x\r\n\r\n\n") == "2:a||x;");
    CHECK(read("text,text2,label\na,,x\n\"a\",\"\",\"x\"\na,b,x") == "2:a||x;3:a||x;4:a|b|x;");
    CHECK(read("text,other,label\na,,x\n,,\n") ==
          "" + (d / "x.csv") + ", line 3: expected a text in \"text\", found nothing2:a||x;");
}

TEST_CASE("labelled: JSONL") {
    TempDir d;
    auto read = [&](const std::string& bytes, const LabelledColumns& c = {}, const std::string& label = "") {
        return all(rows_of(d / "x.jsonl", bytes, c, label));
    };
    CHECK(
        read(
            "{\"text\": \"a\\tb\\u00e9\", \"label\": \"x\"}\n{\"label\": 3, \"more\": [1, {}], \"text\": \"c\"}\r\n") ==
        "1:a\tb\u00e9||x;2:c||3;");
    CHECK(read("\xef\xbb\xbf\n{\"text\": \"a\", \"text2\": \"b\", \"label\": true}\n \n\n{\"text\": \"a\", \"text2\": "
               "\"\", \"label\": -12}") == "2:a|b|true;5:a||-12;");
    CHECK(read("{\"text\": \"a\", \"label\": 18446744073709551615}") == "1:a||18446744073709551615;");
    CHECK(read("{\"text\": \"a\"}\n{\"text\": \"b\", \"label\": \"\"}\n", {}, "L") == "1:a||L;2:b||L;");
    CHECK(read("") == "");
}

TEST_CASE("labelled: errors name file, line, what was expected and what was found") {
    TempDir d;
    struct Bad {
        const char *name, *bytes, *expected;
        LabelledColumns columns = {};
    };
    const Bad bad[] = {
        {"x.tsv", "", ", line 1: expected a header with the column \"text\", found an empty file"},
        {"x.tsv", "sentence\tlabel\n",
            ", line 1: expected a column \"text\", found the columns \"sentence\", \"label\"; another is named with "
            "--text-column"},
        {"x.csv", "text,class\n",
            ", line 1: expected a column \"label\", found the columns \"text\", \"class\"; another is named with "
            "--label-column"},
        {"x.csv", "text,label\n", ", line 1: expected a column \"b\", found", {"text", "b", "label"}},
        {"x.tsv", "label\ttext\tlabel\n", ", line 1: expected the column \"label\" once, found it twice"},
        {"x.tsv", "text\tlabel\na\tx\nb\n", ", line 3: expected 2 columns as in the header, found 1"},
        {"x.tsv", "text\tlabel\na\tx\tb\n", ", line 2: expected 2 columns as in the header, found 3"},
        {"x.csv", "text,label\n\"a\n\",x\na,b,c\n", ", line 4: expected 2 columns as in the header, found 3"},
        {"x.tsv", "text\tlabel\na\tx\n\n\nb\ty\n", ", line 3: expected a row, found an empty line with rows after it"},
        {"x.csv", "text,label\r\n\r\nb,y\r\n", ", line 2: expected a row, found an empty line"},
        {"x.tsv", "text\tlabel\n \tx\n", ", line 2: expected a text in \"text\", found nothing"},
        {"x.csv", "label,t\nx,\"\n\t\v\"\n", ", line 2: expected a text in \"t\", found nothing",
            {"t", "text2", "label"}},
        {"x.tsv", "text\tlabel\na\t \n", ", line 2: expected a label in \"label\", found nothing"},
        {"x.csv", "text,label\na,\"b\tc\"\n", ", line 2: expected a label without control characters, found \"b\\tc\""},
        {"x.tsv", "text\tlabel\na\xff\tx\n", ", line 2: expected UTF-8, found the byte 0xff"},
        {"x.csv", "text,label\n\"a\nb\xc3\",x\n", ", line 3: expected UTF-8, found the byte 0xc3"},
        {"x.jsonl", "{\"text\": \"\xed\xa0\x80\", \"label\": 1}", ", line 1: expected UTF-8, found the byte 0xed"},
        {"x.csv", "text,label\na,x\n\"b\nc,y\n", ", line 3: expected a closing quote, found the end of the file"},
        {"x.csv", "text,label\n\"a\n\"b,y\n",
            ", line 2: expected a comma after the closing quote in line 3, found \"b,y\""},
        {"x.csv", "text,label\n\"a\"\r,y\n", ", line 2: expected a comma after the closing quote, found \"\\r,y\""},
        {"x.jsonl", "{\"text\": \"a\", \"label\": 1}\n{\"text\": \n",
            ", line 2, column 9: this is not JSON as expected"},
        {"x.jsonl", "\n[1]\n", ", element 1: expected a JSON object, found \"1\""},
        {"x.jsonl", "{\"label\": 1, \"t\": \"a\"}", ", line 1: expected \"text\", found the keys \"label\", \"t\""},
        {"x.jsonl", "{}", ", line 1: expected \"text\", found an empty object"},
        {"x.jsonl", "{\"text\": \"a\"}", ", line 1: expected \"label\", found the keys \"text\""},
        {"x.jsonl", "{\"text\": \"a\", \"label\": 1}", ", line 1: expected \"b\", found", {"text", "b", "label"}},
        {"x.jsonl", "{\"text\": {}, \"label\": 1}",
            ", line 1: expected a string, a number or a boolean for \"text\", found \"{}\""},
        {"x.jsonl", "{\"text\": \"a\", \"label\": [\"b\"]}", "for \"label\", found \"[\\\"b\\\"]\""},
        {"x.jsonl", "{\"text\": \"a\", \"text\": \"b\"}", "appears twice"},
        {"x.jsonl", "{\"text\": \"a\\u0000b\", \"label\": 1}",
            ", line 1: expected text in \"text\", found a NUL character"},
        {"x.jsonl", "{\"text\": \" \\n\", \"label\": 1}", ", line 1: expected a text in \"text\", found nothing"},
        {"x.jsonl", "{\"text\": \"a\", \"label\": \"\"}", ", line 1: expected a label in \"label\", found nothing"},
        {"x.txt", "text\tlabel\na\tx\n", "x.txt: expected a file that ends in .tsv, .csv or .jsonl"},
        {"x.tsv", "text\tlabel\na\tx\n",
            "expected three different columns, found text \"text\", second text \"text2\", label \"text\"",
            {"text", "text2", "text"}},
    };
    for (const Bad& b : bad) {
        Reading r = rows_of(d / b.name, b.bytes, b.columns);
        CHECK(has(r.error, b.expected[0] == ',' ? (d / b.name) + b.expected : b.expected));
    }
    using std::string;
    CHECK(has(
        rows_of(d / "x.tsv", string("text\tlabel\na\0b\tx\n", 18)).error, ", line 2: expected text, found a NUL byte"));
    CHECK(has(rows_of(d / "x.csv", "\xff\xfet").error, ", line 1: expected UTF-8 text, found UTF-16 text"));
    auto error = [&](const string& path) {
        try {
            LabelledRows in({{path, ""}}, {});
        } catch (const Error& e) {
            return string(e.what());
        }
        return string();
    };
    CHECK(has(error(d / "none.tsv"), "cannot read " + (d / "none.tsv") + ": No such file"));
    make_directories(d / "dir.tsv");
    CHECK(has(error(d / "dir.tsv"), "expected texts LABEL/*.txt in this folder, found none"));
}

TEST_CASE("labelled: a bad row costs one row") {
    TempDir d;
    // "line:text|label;" of each good row, "line!" of each bad one
    auto read = [&](const std::string& name, const std::string& bytes, LabelledColumns columns = {}) {
        write_bytes(d / name, bytes);
        LabelledRows in({{d / name, ""}}, columns);
        std::string s;
        for (LabelledRow row; in.next(row);) {
            CHECK((row.error.empty() || row.text.empty()));
            CHECK((row.error.empty() || has(row.error, row.where() + ": ") || has(row.error, (d / name) + ", line ")));
            s += format("%zu", row.element ? row.element : row.line);
            s += row.error.empty() ? ":" + row.text + (row.pair ? "+" + row.text2 : "") + "|" + row.label + ";" : "!";
        }
        CHECK(in.bytes() == bytes.size());
        return s;
    };
    CHECK(read("x.tsv", "text\tlabel\n\na\tx\nb\nc\td\te\n\n\nf\xff\tx\ng\tx\n\n\n") == "2!3:a|x;4!5!6!7!8!9:g|x;");
    // what an open quote took in is read once more
    CHECK(read("x.csv", "text,label\n\"a,x\nb,x\nc,x\n\"d\ne\",x\n\"f\"g,x\nh\"i,x\n") ==
          "2!3:b|x;4:c|x;5:d\ne|x;7!8:h\"i|x;");
    CHECK(read("x.csv", "text,label\n\"a,x\nb,x\n\"c\nd,x\n") == "2!3:b|x;4!5:d|x;");
    CHECK(read("x.csv", "text,label\n\"a\n\xff\n\",x\nb,x\n") == "3!5:b|x;");  // not UTF-8 within quotes
    // lines that end in CR, separators, names and labels with spaces, fields that nothing reads
    CHECK(read("x.CSV", "\xef\xbb\xbf Text ;LABEL;id\ra, b;\u3000x\u00a0\u200b;1\r\"c\rd\";\ufeffy\r\r") ==
          "2:a, b|x;3:c\rd|y;");
    CHECK(read("x.tsv", "text,label\n\"a,\tb\",x\n") == "2:a,\tb|x;");
    CHECK(read("x.csv", "text\tlabel\ttext2\na\tx\nb\ty\t \u00a0\nc\tz\td\n") == "2:a|x;3:b|y;4:c+d|z;");
    CHECK(read("x.csv", "Text,text,label\na,b,x\n") == "2:b|x;");
    LabelledColumns numbers;
    numbers.text = "2";
    numbers.label = "1";
    numbers.header = false;
    CHECK(read("x.csv", "1;a, b, c\n2;d, e\n3;f\n", numbers) == "1:a, b, c|1;2:d, e|2;3:f|3;");
    CHECK(read("x.csv", "1,a;b\n2,c\n", numbers) == "1:a;b|1;2:c|2;");
    // values that are missing; texts of which no token comes
    CHECK(read("x.csv", "text,label,text2\nnan,x,\nNaN,x,\nnans,x,nan\na,nan,\n\u0301\u200d,x,\na,x,\u0301\n") ==
          "2!3!4:nans|x;5!6!7!");
    CHECK(read("x.jsonl",
              "{\"text\": NaN, \"label\": 1}\n{\"text\": \"is NaN \\\" NaN\", \"label\": -0.50, \"x\": [-Infinity]}\n"
              "{\"text\": 1e3, \"label\": true}\n{\"text\": null, \"label\": 1}\n{\"TEXT\": \"a\", \"Label\": \" x "
              "\"}") == "1!2:is NaN \" NaN|-0.50;3:1e3|true;4!5:a|x;");
    CHECK(read("x.json",
              "\n[{\"text\": \"a]\", \"label\": 1}, {\"text\":\n\"b\",\n\"label\": [2]} 7, {\"text\": \"c\"\n, "
              "\"label\": 3},]") == "1:a]|1;2!3!4:c|3;");
    CHECK(read("x.json", "[{\"text\": \"a\", \"label\": 1}, {\"text\": \"b\",\n {\"text\": \"c\", \"label\": 3}]") ==
          "1:a|1;2!2!");
    CHECK(
        read("x.json", "{\n\"text\": \"a\", \"label\": 1}\n{\n\"text\": \"b\",\n\"label\": 2\n}\n") == "1:a|1;3:b|2;");
    CHECK(read("x.json", "[{\"text\": \"\xff\", \"label\": 1},{\"text\": \"a\", \"label\": 1}]") == "1!2:a|1;");
    CHECK(read("x.jsonl", "\xff\n{\"text\": \"a\", \"label\": 1}\n{\n") == "1!2:a|1;3!");
    // names of classes
    write_bytes(d / "names", "\xef\xbb\xbf bad\n\ngood \n");
    LabelledColumns named;
    named.classes = d / "names";
    CHECK(read("x.csv", "text,label\na,0\nb, 1\nc,good\nd,x\n", named) == "2:a|bad;3:b|good;4:c|good;5!");
    CHECK(has(error_of([&] { read("x.csv", "text,label\na,2\n", named); }), "expected a class from 0 to 1"));
    named.first_class = 1;
    CHECK(read("x.csv", "text,label\na,2\nb,1\n", named) == "2:a|good;3:b|bad;");

    BadRows bad;
    CHECK(error_of([&] { bad.finish("all"); }) == "no error");
    bad.add("a, line 1: wrong");
    CHECK(has(error_of([&] { bad.finish("all is there"); }), "1 row was left out; all is there; --on-error stop"));
    bad.on_error = "stop";
    CHECK(error_of([&] { bad.add("a, line 2: wrong"); }) == "a, line 2: wrong");
}

TEST_CASE("labelled: an object without end is not read to the end of a large file") {
    TempDir d;
    const std::string line = "\"" + std::string(1 << 20, 'x') + "\",\n";
    for (const char* begin : {"{\n\"text\":\n", "[{\"text\": \"a\", \"label\": 1},\n {\n"}) {
        std::string bytes = begin;
        for (int i = 0; i < 80; i++) bytes += line;
        write_bytes(d / "x.json", bytes);
        LabelledFile in(d / "x.json", {});
        LabelledRow row;
        while (in.next(row) && row.error.empty()) {}
        CHECK(has(row.error, row.where() + ": expected a JSON object of at most 64 MB, found no end of what begins"));
        CHECK(in.lines.bytes < 66 << 20);
        CHECK(!in.next(row));
    }
}
TEST_CASE("labelled: a file or a folder for each class; compressed files") {
    TempDir d;
    write_bytes(d / "good.txt", "a\n\n b \n");
    make_directories(d / "t/neg");
    make_directories(d / "t/pos");
    write_bytes(d / "t/neg/2.TXT", "\xef\xbb\xbfx\ny\r\n\n");
    write_bytes(d / "t/pos/1.txt", "z");
    write_bytes(d / "t/pos/.1.txt", "hidden");
    LabelledRows in({{d / "good.txt", "good"}, {d / "t", ""}, {d / "t/pos", "other"}}, {});
    std::string s;
    for (LabelledRow row; in.next(row);) s += row.text + "|" + row.label + row.error + ";";
    CHECK(s == "a|good; b |good;x\ny|neg;z|pos;z|other;");
    CHECK(has(error_of([&] { LabelledRows({{d / "good.txt", ""}}, {}); }), "expected a file that ends in"));
    // "text\nlong\n" by gzip, whole and cut short
    const std::string zipped("\x1f\x8b\x08\0\0\0\0\0\2\3+I\xad(\xe1\xca\xc9\xcfK\xe7\2\0I[r{\n\0\0\0", 30);
    write_bytes(d / "x.csv.GZ", zipped);
    LabelledRows packed({{d / "x.csv.GZ", "L"}}, {});
    LabelledRow row;
    CHECK((packed.next(row) && row.text == "long" && !packed.next(row)));
    write_bytes(d / "x.csv.GZ", zipped.substr(0, 24));
    CHECK(has(error_of([&] {
        LabelledRows cut({{d / "x.csv.GZ", "L"}}, {});
        while (cut.next(row)) continue;
    }),
        "x.csv.GZ: the compressed file is cut short or damaged"));
}

TEST_CASE("labelled: what is shown has no control characters") {
    LabelledRow row;
    row.text = "a\tb\r\nc\x1f\x7f\u0085\u2028\u2029\u00e9\u00a0\U0001f600 ";
    std::string shown = "x";
    append_shown(shown, row);
    CHECK(shown == "xa b  c     \u00e9\u00a0\U0001f600 ");
    row.text2 = "\nsecond\t";
    row.pair = true;
    shown.clear();
    append_shown(shown, row);
    CHECK(shown == "a b  c     \u00e9\u00a0\U0001f600 \t second ");
}

TEST_CASE("labelled: random rows come back from all three kinds of file") {
    TempDir d;
    std::mt19937 rng(1);
    const std::vector<std::string> letters = {
        "a", "b", " ", ",", "\"", "\"\"", "\u00e9", "\U0001f600", "\\", "[", "{", "'"};
    std::vector<std::string> and_breaks = letters;
    and_breaks.insert(and_breaks.end(), {"\n", "\r\n", "\t"});
    for (int round = 0; round < 60; round++) {
        std::string tsv = "label\ttext2\tx\ttext\n", csv = "label,text2,x,text\r\n", jsonl;
        std::string expected_tsv, expected;
        size_t line = 2;
        bool tsv_can = true;
        for (int i = 0; i < 30; i++) {
            std::string text = "t" + pick(rng, rng() % 4 ? letters : and_breaks, 12),
                        text2 = rng() % 2 ? "" : "t" + pick(rng, and_breaks, 5), label = "l" + pick(rng, letters, 2);
            tsv_can &= (text + text2).find_first_of("\t\n\r") == std::string::npos;
            tsv += label + "\t" + text2 + "\t\t" + text + "\n";
            auto field = [&](const std::string& s) {
                if (rng() % 2 && s.find_first_of(",\"\r\n") == s.npos) return s;
                std::string q = "\"";
                for (char c : s) q += c == '"' ? "\"\"" : std::string(1, c);
                return q + "\"";
            };
            std::string row = field(label) + "," + field(text2) + "," + field(std::string(rng() % 3, '\n')) + "," +
                              field(text) + "\r\n";
            csv += row;
            Json json;
            json.set("label", label).set("text", text).set("x", 5);
            if (!text2.empty() || rng() % 2) json.set("text2", text2);
            jsonl += dump_json(json) + "\n";
            std::string cells = text + "|" + text2 + "|" + label.substr(0, label.find_last_not_of(' ') + 1) + ";";
            expected += std::to_string(line) + ":" + cells;
            expected_tsv += std::to_string(i + 2) + ":" + cells;
            line += std::count(row.begin(), row.end(), '\n');
        }
        Reading r = rows_of(d / "x.csv", csv);
        CHECK(all(r) == expected);
        CHECK(r.bytes == csv.size());
        if (tsv_can) CHECK(all(rows_of(d / "x.tsv", tsv)) == expected_tsv);
        Reading j = rows_of(d / "x.jsonl", jsonl);
        for (size_t i = 0; i < j.rows.size(); i++) j.rows[i].line = r.rows[i].line;
        CHECK(all(j) == expected);
    }
}

TEST_CASE("fuzz: labelled files give rows or an error that names the file") {
    TempDir d;
    std::mt19937 rng(2);
    const std::string valid[] = {"\xef\xbb\xbftext\tlabel\ttext2\na b\tx\t\n\"c\"\t1\td\u00e9\r\nlast\ty\tz\n\n",
        "text,\"label\",text2\r\n\"a \"\"b\"\", \n c\",x,\"\"\nd,\"1\",e\r\n\"\u00e9\",y,z\n\n",
        "{\"text\": \"a \\u00e9\", \"label\": \"x\"}\n{\"label\": 1, \"text\": \"b\", \"text2\": \"c\"}\n\n{\"text\": "
        "\"d\", \"label\": false}\n"};
    int rows = 0, errors = 0;
    for (int i = 0; i < 6000; i++) {
        std::string bytes = valid[i % 3];
        for (int n = 1 + rng() % 3; n > 0 && !bytes.empty(); n--) {
            size_t at = rng() % bytes.size();
            switch (rng() % 5) {
                case 0: bytes[at] = rng(); break;
                case 1: bytes.erase(at, 1 + rng() % 8); break;
                case 2: bytes.insert(at, bytes.substr(rng() % bytes.size(), rng() % 16)); break;
                case 3: bytes[at] = "\",\t\n\r{}:\\"[rng() % 9]; break;
                case 4:
                    if (rng() % 4 == 0) bytes.resize(at);
                    break;
            }
        }
        Reading r = rows_of(d / KINDS[i % 3], bytes, {}, rng() % 2 ? "" : "L");
        for (const LabelledRow& row : r.rows) {
            CHECK(row.text.size() > 0);
            CHECK(invalid_utf8(row.text + row.text2 + row.label) == std::string::npos);
            CHECK(row.line >= 1);
            rows++;
        }
        if (r.error.empty()) continue;
        CHECK(has(r.error, (d / KINDS[i % 3]) + ", line "));
        errors++;
    }
    CHECK(rows > 3000);
    CHECK(errors > 1000);
}
