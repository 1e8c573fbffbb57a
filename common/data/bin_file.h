// bin_file.h: the .bin format, token sequences on disk, which data/bin_writer.h writes and the loader maps.
// data/README.md has it byte for byte ("The .bin format"); little-endian, as the machines are that this runs on:
//
//   all        BinHeader, u64 offset[S+1], token[N]: sequence s is tokens [offset[s], offset[s+1])
//   classify   u64 text_at[S+1], i32 label[S], u32 second[S], char texts[], char names[]
//   instruct   u64 text_at[S+1], u64 span_at[S+1], BinSpan span[K], i32 task[S], char texts[], char names[]
//
// A sequence is a document or an example without special tokens, or a row of instructions as it is learned, with them.
#pragma once
#include <string.h>
#include <sys/stat.h>

#include <set>

#include "common/base/files.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/types.h"

#ifdef __APPLE__
#define st_mtim st_mtimespec
#endif

enum BinKind : uint32_t { BIN_TEXT = 1, BIN_CLASSIFY = 2, BIN_INSTRUCT = 3 };

struct BinHeader {
    char magic[8] = {'t', 'u', 'n', 'e', 'b', 'i', 'n', '\n'};
    uint32_t version = 1, kind = BIN_TEXT;
    uint32_t token_bytes = 2, header_bytes = 256;  // 4 a token of vocabularies beyond 65536
    uint64_t sequences = 0, tokens = 0;            // S, N; of text a sequence is a document, without special tokens
    uint64_t vocab = 0;                            // size of the vocabulary; every token is smaller
    uint64_t tokenizer = 0;                        // its fingerprint (tokenizer.h)
    uint64_t templ = 0;                            // instruct: template_fingerprint()
    uint64_t content = 0;                          // FNV-1a of everything after the header: what the data are known by
    uint32_t labels = 0, zero = 0;                 // classify: number of labels, instruct: of tasks
    uint64_t text_bytes = 0, names_bytes = 0;
    uint64_t spans = 0;  // instruct: K, supervised spans
    char zeros[144] = {};
    uint64_t checksum = 0;  // FNV-1a of all before it
    uint64_t expected_checksum() const { return fnv1a(this, 248); }
};
static_assert(sizeof(BinHeader) == 256, "the header has 256 bytes");

struct BinSpan {  // tokens [begin, end) of a sequence, to be learned: an answer and its end token
    uint32_t begin, end;
};

// What a template is known by: its texts, not its name, nor how many few-shot examples the rows show ("shots")
inline uint64_t template_fingerprint(const Json& templ) {
    Json texts = Json::make_object();
    for (auto& [key, value] : templ.o)
        if (key != "shots" && key != "name") texts.set(key, value);
    std::string text = dump_json(texts);
    return fnv1a(text.data(), text.size());
}

// ---------------------------------------------------------------- reading
// The file is mapped, not read.
//   BinFile data("x.bin", kind);
//   BIN_TEXT       data.token(s, i) is token i of sequence s
//   BIN_CLASSIFY   and data.labels[data.label[s]], data.second[s], data.text(s)
//   BIN_INSTRUCT   and data.tasks[data.task[s]], data.span(s, i) with i < data.spans(s), data.text(s), data.templ
struct BinFile {
    std::string path;
    BinHeader header;
    size_t bytes = 0;
    std::shared_ptr<const char> map;    // the whole file
    struct stat opened{};               // as it was when it was mapped
    const uint64_t* offsets = nullptr;  // (S + 1)
    const void* data = nullptr;         // (N) u16 or u32
    // classify
    const int32_t* label = nullptr;    // (S)
    const uint32_t* second = nullptr;  // (S) length(s) where there is no second segment
    std::vector<std::string> labels;
    // instruct
    const uint64_t* span_at = nullptr;   // (S + 1)
    const BinSpan* span_list = nullptr;  // (K)
    const int32_t* task = nullptr;       // (S)
    std::vector<std::string> tasks;
    Json templ;
    // both
    const uint64_t* text_at = nullptr;  // (S + 1)
    const char* texts = nullptr;        // (text_bytes)

    explicit BinFile(const std::string& path, BinKind kind = BIN_TEXT) : path(path), map(map_file(path, &bytes)) {
        stat(path.c_str(), &opened);
        check(kind);
    }

    size_t sequences() const { return header.sequences; }
    size_t tokens() const { return header.tokens; }
    size_t vocab() const { return header.vocab; }
    size_t length(size_t s) const { return offsets[s + 1] - offsets[s]; }
    bool pair(size_t s) const { return second[s] < length(s); }
    size_t spans(size_t s) const { return span_at[s + 1] - span_at[s]; }
    BinSpan span(size_t s, size_t i) const { return span_list[span_at[s] + i]; }
    std::string_view text(size_t s) const { return std::string_view(texts + text_at[s], text_at[s + 1] - text_at[s]); }

    int32_t token(size_t s, size_t i) const {
        uint64_t at = offsets[s] + i;
        uint32_t t = header.token_bytes == 2 ? ((const uint16_t*)data)[at] : ((const uint32_t*)data)[at];
        if (t >= header.vocab)
            damaged(format("sequence %zu, token %zu: expected an id below %zu, found %u", s, i, vocab(), t));
        return t;
    }

    // The file is mapped: if it is cut off or written over meanwhile the program would end, or learn something else.
    void require_unchanged() const {
        struct stat now;
        if (stat(path.c_str(), &now) != 0 || now.st_ino != opened.st_ino || now.st_size != opened.st_size ||
            now.st_mtim.tv_sec != opened.st_mtim.tv_sec || now.st_mtim.tv_nsec != opened.st_mtim.tv_nsec)
            fail(path + ": the file was changed while it was read: put back what it was, or start another run");
    }

    // Refuses data that another tokenizer than this one, of the directory `dir`, has made.
    template <class Tokenizer> void require_tokenizer(const Tokenizer& tokenizer, const std::string& dir) const {
        if (header.tokenizer != tokenizer.fingerprint())
            fail(path + " was made with another tokenizer (" + hex(header.tokenizer) + ") than that of " + dir + " (" +
                 hex(tokenizer.fingerprint()) + "); make it again: data/tokenize pack --tokenizer " + dir + " --kind " +
                 kind_name(header.kind) + " --in FILE --out " + path);
        if (vocab() != tokenizer.tokens.size())
            damaged(format("expected a vocabulary of %zu tokens, as %s has, found %zu", tokenizer.tokens.size(),
                dir.c_str(), vocab()));
    }

private:
    [[noreturn]] void bad(const std::string& what) const { fail(path + ": " + what + "; pack the data again"); }
    [[noreturn]] void damaged(const std::string& what) const { bad(what + ": the file is damaged"); }

    void check(BinKind kind) {
        const BinHeader good;
        if (bytes < sizeof header)
            fail("%s: expected a .bin file (256 bytes of header), found %zu bytes", path.c_str(), bytes);
        memcpy(&header, map.get(), sizeof header);
        if (memcmp(header.magic, good.magic, 8))
            fail(path + ": expected a .bin file, found something else; make one with data/tokenize pack");
        if (header.version != good.version)
            bad(format("expected .bin version %u, found %u", good.version, header.version));
        if (header.checksum != header.expected_checksum()) bad("the header is damaged (its checksum is wrong)");
        if (header.kind != kind)
            fail(path + ": expected data of kind " + kind_name(kind) + ", found " + kind_name(header.kind) +
                 "; make it with data/tokenize pack --kind " + kind_name(kind));
        if (header.header_bytes != 256 || (header.token_bytes != 2 && header.token_bytes != 4) || header.vocab == 0 ||
            header.vocab > INT32_MAX)
            bad(format("the header makes no sense (%u bytes of header, %u per token, vocabulary %zu)",
                header.header_bytes, header.token_bytes, vocab()));
        // in 128 bits, so that no number in the header can wrap around
        unsigned __int128 S = header.sequences, token_bytes = (unsigned __int128)header.tokens * header.token_bytes;
        unsigned __int128 tokens_end = 256 + (S + 1) * 8 + token_bytes, expected = tokens_end;
        if (kind != BIN_TEXT) {
            tokens_end = (tokens_end + 7) / 8 * 8;
            expected = tokens_end + (S + 1) * 8 + header.text_bytes + header.names_bytes;
            expected += kind == BIN_CLASSIFY ? S * 8 : (S + 1) * 8 + (unsigned __int128)header.spans * 8 + S * 4;
        }
        if (expected != bytes)
            bad(format("expected %.0f bytes (%zu sequences, %zu tokens), found %zu: the file is cut off or damaged",
                (double)expected, sequences(), tokens(), bytes));
        if (header.sequences == 0 || header.tokens == 0) fail(path + ": there are no tokens in it");
        offsets = (const uint64_t*)(map.get() + 256);
        data = offsets + header.sequences + 1;
        check_table(offsets, "offsets", "sequence", header.tokens);
        if (kind != BIN_TEXT) {
            text_at = (const uint64_t*)(map.get() + (size_t)tokens_end);
            texts = map.get() + bytes - header.names_bytes - header.text_bytes;
            check_table(text_at, "texts", "the text of example", header.text_bytes);
            const Json names = parse_json({texts + header.text_bytes, header.names_bytes}, path + ", names");
            kind == BIN_CLASSIFY ? check_examples(names) : check_rows(names);
        }
        // the whole content, where that takes no more than about a second
        if (bytes <= (1u << 30) && header.content != fnv1a(map.get() + 256, bytes - 256))
            bad("the content is damaged (its checksum is wrong)");
    }
    // A table of S + 1 places, from 0 to `end`, says where each of S things begins
    void check_table(const uint64_t* table, const char* all, const char* one, size_t end) const {
        check_ends(table, all, end);
        for (size_t s = 0; s < sequences(); s++)
            if (table[s] > table[s + 1]) damaged(format("%s %zu begins after its end", one, s));
    }
    void check_ends(const uint64_t* table, const char* all, size_t end) const {
        const size_t first = table[0], last = table[sequences()];
        if (first != 0 || last != end)
            damaged(format("expected %s from 0 to %zu, found %zu to %zu", all, end, first, last));
    }
    // The names after the texts: {key: ["a", "b", ...]}, at least `least` of them
    std::vector<std::string> names_of(const Json& names, const char* key, size_t least) const {
        const Json* list = names.find(key);
        if (!list || list->kind != Json::array)
            bad(format("expected {\"%s\": [...]} at the end, found %.60s", key, dump_json(names).c_str()));
        std::vector<std::string> found;
        std::set<std::string> different;
        for (const Json& name : list->a) {
            if (name.kind != Json::string || name.s.empty())
                bad(format("expected names as %s, found %.60s", key, dump_json(name).c_str()));
            if (!different.insert(name.s).second)
                bad(format("expected different %s, found %s twice", key, dump_json(name).c_str()));
            found.push_back(name.s);
        }
        if (found.size() < least || found.size() != header.labels)
            bad(format(
                "expected the names of %u %s (at least %zu), found %zu", header.labels, key, least, found.size()));
        return found;
    }
    // The place of a name, of n: as unsigned, a negative one is large
    void check_name(const char* of, size_t s, const char* name, int32_t place, size_t n) const {
        if ((uint32_t)place >= n)
            damaged(format("%s %zu: expected a %s from 0 to %zu, found %d", of, s, name, n - 1, place));
    }
    void check_examples(const Json& names) {
        const size_t S = header.sequences;
        label = (const int32_t*)(text_at + S + 1);
        second = (const uint32_t*)(label + S);
        labels = names_of(names, "labels", 2);
        for (size_t s = 0; s < S; s++) {
            check_name("example", s, "label", label[s], labels.size());
            if (second[s] > length(s))
                damaged(
                    format("example %zu: expected a second segment at %zu at most, found %u", s, length(s), second[s]));
        }
    }
    void check_rows(const Json& names) {
        const size_t S = header.sequences;
        span_at = text_at + S + 1;
        span_list = (const BinSpan*)(span_at + S + 1);
        task = (const int32_t*)(span_list + header.spans);
        tasks = names_of(names, "tasks", 1);
        if (!names.find("template") || names.find("template")->kind != Json::object)
            bad("expected {\"template\": {...}} at the end, found none");
        templ = *names.find("template");
        if (const uint64_t found = template_fingerprint(templ); header.templ != found)
            bad(format(
                "expected the template %016llx, found %016llx: the file is damaged, or an older version packed it",
                (unsigned long long)header.templ, (unsigned long long)found));
        check_ends(span_at, "spans", header.spans);
        for (size_t s = 0; s < S; s++) {
            const size_t first = span_at[s], end = span_at[s + 1];
            if (first >= end || end > header.spans)
                damaged(format("row %zu: expected at least one span, found %zu to %zu", s, first, end));
            check_name("row", s, "task", task[s], tasks.size());
            size_t last = 1;  // the first token cannot be predicted
            for (size_t i = 0; i < spans(s); i++) {
                const BinSpan a = span(s, i);
                if (a.begin < last || a.end <= a.begin || a.end > length(s))
                    damaged(format("row %zu: expected a span from %zu to %zu, found %u to %u", s, last, length(s),
                        a.begin, a.end));
                last = a.end;
            }
        }
    }
    static const char* kind_name(uint32_t kind) {
        const char* names[] = {"unknown", "text", "classify", "instruct"};
        return names[kind <= BIN_INSTRUCT ? kind : 0];
    }
};
