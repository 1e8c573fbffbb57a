// bin_file.h: the .bin format, token sequences on disk. `data/tokenize pack` writes them (data/bin_writer.h), the
// loader maps them.
//
//   byte   0  char[8]  "tunebin\n"
//          8  u32      version, 1
//         12  u32      kind: 1 text, 2 classify, 3 instruct
//         16  u32      bytes per token, 2 (vocabulary up to 65536) or 4
//         20  u32      size of this header, 256
//         24  u64      S, sequences (text: documents, without special tokens)
//         32  u64      N, tokens
//         40  u64      vocabulary size; every token is smaller
//         48  u64      fingerprint of the tokenizer (wordpiece.h, bpe.h)
//         56  u64      fingerprint of the template (instruct), else 0
//         64  u64      FNV-1a of everything after the header: what the data are known by
//         72  u32      classify: number of labels, instruct: of tasks       (text: this and the next three are 0)
//         76  u32      0
//         80  u64      bytes of all texts
//         88  u64      bytes of the names
//         96  u64      instruct: K, supervised spans                        (else 0)
//        104           zeros
//        248  u64      FNV-1a of bytes 0 … 247
//        256  u64 offset[S+1]     sequence s is tokens [offset[s], offset[s+1]); offset[0] = 0, offset[S] = N
//             token[N]
//
// classify, after the tokens, which are followed by zeros up to a multiple of 8 bytes; a sequence is an example,
// without special tokens:
//
//             u64 text_at[S+1]    the shown text of s is bytes [text_at[s], text_at[s+1]) of the texts; text_at[0] = 0
//             i32 label[S]        0 ... number of labels - 1
//             u32 second[S]       where the second segment begins, in tokens; the length where there is none
//             char texts[...]     for people to read: the text as it was, control characters as spaces, a tab between
//                                 two segments
//             char names[...]     {"labels": ["negative", "positive"]}
//
// instruct, after the tokens in the same way; a sequence is a row as it is learned, rendered by the template, with its
// special tokens:
//
//             u64 text_at[S+1]
//             u64 span_at[S+1]    the spans of s are [span_at[s], span_at[s+1]), at least one; span_at[0] = 0,
//                                 span_at[S] = K
//             u32 span[2 K]       begin, end within the sequence of the tokens to learn, each an answer and its end
//                                 token; 0 < begin < end, and none begins before the one before it has ended
//             i32 task[S]         0 ... number of tasks - 1
//             char texts[...]     {"input": "...", "outputs": ["...", ...], "options": [...]}: what evaluation needs
//                                 (instruct_encoding.h)
//             char names[...]     {"tasks": ["family/task", ...], "template": {...}}; the header's fingerprint is that
//                                 of this template
//
// All little-endian, as the machines are that this runs on.
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "common/base/errors.h"
#include "common/base/files.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/types.h"

enum BinKind : uint32_t { BIN_TEXT = 1, BIN_CLASSIFY = 2, BIN_INSTRUCT = 3 };

struct BinHeader {
    char magic[8] = {'t', 'u', 'n', 'e', 'b', 'i', 'n', '\n'};
    uint32_t version = 1, kind = BIN_TEXT, token_bytes = 2, header_bytes = 256;
    uint64_t sequences = 0, tokens = 0, vocab = 0, tokenizer = 0, templ = 0, content = 0;
    uint32_t labels = 0, zero = 0;
    uint64_t text_bytes = 0, names_bytes = 0, spans = 0;
    char zeros[144] = {};
    uint64_t checksum = 0;
    uint64_t expected_checksum() const { return fnv1a(this, 248); }
};
static_assert(sizeof(BinHeader) == 256, "the header has 256 bytes");

struct BinSpan {  // tokens [begin, end) of a sequence
    uint32_t begin, end;
};

// What a template is known by: its texts, whatever its name. How many few-shot examples the rows show ("shots") may
// differ between training and inference.
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
//   BIN_CLASSIFY   and data.labels[data.label(s)], data.second(s), data.text(s)
//   BIN_INSTRUCT   and data.tasks[data.task(s)], data.span(s, i) with i < data.spans(s), data.text(s), data.templ
struct BinFile {
    std::string path;
    BinHeader header;
    const char* map = nullptr;  // the whole file
    size_t bytes = 0;
    const uint64_t* offsets = nullptr;  // (S + 1)
    const void* data = nullptr;         // (N) u16 or u32
    // classify
    const int32_t* label_of = nullptr;    // (S)
    const uint32_t* second_at = nullptr;  // (S)
    std::vector<std::string> labels;
    // instruct
    const uint64_t* span_at = nullptr;   // (S + 1)
    const BinSpan* span_list = nullptr;  // (K)
    const int32_t* task_of = nullptr;    // (S)
    std::vector<std::string> tasks;
    Json templ;
    // both
    const uint64_t* text_at = nullptr;  // (S + 1)
    const char* texts = nullptr;        // (text_bytes)

    explicit BinFile(const std::string& path, BinKind kind = BIN_TEXT) : path(path) {
        try {
            open_map();
            check(kind);
        } catch (...) {
            unmap();
            throw;
        }
    }
    ~BinFile() { unmap(); }
    BinFile(const BinFile&) = delete;
    BinFile& operator=(const BinFile&) = delete;

    size_t sequences() const { return header.sequences; }
    size_t tokens() const { return header.tokens; }
    size_t vocab() const { return header.vocab; }
    uint64_t fingerprint() const { return header.tokenizer; }
    size_t length(size_t s) const { return offsets[s + 1] - offsets[s]; }
    int32_t label(size_t s) const { return label_of[s]; }
    size_t second(size_t s) const { return second_at[s]; }  // length(s) where there is no second segment
    bool pair(size_t s) const { return second(s) < length(s); }
    int32_t task(size_t s) const { return task_of[s]; }
    size_t spans(size_t s) const { return span_at[s + 1] - span_at[s]; }
    BinSpan span(size_t s, size_t i) const { return span_list[span_at[s] + i]; }
    std::string_view text(size_t s) const { return std::string_view(texts + text_at[s], text_at[s + 1] - text_at[s]); }

    int32_t token(size_t s, size_t i) const {
        uint64_t at = offsets[s] + i;
        uint32_t t = header.token_bytes == 2 ? ((const uint16_t*)data)[at] : ((const uint32_t*)data)[at];
        if (t >= header.vocab)
            fail("%s: sequence %zu, token %zu: expected an id below %zu, found %u: the file is damaged, pack it again",
                 path.c_str(), s, i, vocab(), t);
        return t;
    }

    // Refuses data that another tokenizer has made. `dir` is where the tokenizer at hand comes from.
    void require_tokenizer(uint64_t fingerprint, const std::string& dir) const {
        if (header.tokenizer == fingerprint) return;
        fail(
            "%s was made with another tokenizer (%016llx) than that of %s (%016llx); make it again: data/tokenize pack "
            "--tokenizer %s --kind %s --in FILE --out %s",
            path.c_str(), (unsigned long long)header.tokenizer, dir.c_str(), (unsigned long long)fingerprint,
            dir.c_str(), kind_name(header.kind), path.c_str());
    }

    void open_map() {
        int fd = open_regular(path);
        struct stat st;
        bytes = fstat(fd, &st) == 0 ? st.st_size : 0;
        void* m = bytes ? mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd, 0) : nullptr;
        int error = errno;
        close(fd);
        if (m == MAP_FAILED) fail("cannot map %s: %s", path.c_str(), strerror(error));
        map = (const char*)m;
    }
    void unmap() {
        if (map) munmap((void*)map, bytes);
        map = nullptr;
    }

    void check(BinKind kind) {
        const char* p = path.c_str();
        const BinHeader good;
        if (bytes < sizeof header) fail("%s: expected a .bin file (256 bytes of header), found %zu bytes", p, bytes);
        memcpy(&header, map, sizeof header);
        if (memcmp(header.magic, good.magic, 8))
            fail("%s: expected a .bin file, found something else; make one with data/tokenize pack", p);
        if (header.version != good.version)
            fail("%s: expected .bin version %u, found %u; pack the data again", p, good.version, header.version);
        if (header.checksum != header.expected_checksum())
            fail("%s: the header is damaged (its checksum is wrong); pack the data again", p);
        if (header.kind != kind)
            fail("%s: expected data of kind %s, found %s; make it with data/tokenize pack --kind %s", p,
                 kind_name(kind), kind_name(header.kind), kind_name(kind));
        if (header.header_bytes != 256 || (header.token_bytes != 2 && header.token_bytes != 4) || header.vocab == 0 ||
            header.vocab > INT32_MAX)
            fail(
                "%s: the header makes no sense (%u bytes of header, %u per token, vocabulary %llu); pack the data "
                "again",
                p, header.header_bytes, header.token_bytes, (unsigned long long)header.vocab);
        // in 128 bits, so that no number in the header can wrap around
        unsigned __int128 S = header.sequences, token_bytes = (unsigned __int128)header.tokens * header.token_bytes;
        unsigned __int128 tokens_end = 256 + (S + 1) * 8 + token_bytes, expected = tokens_end;
        if (kind != BIN_TEXT) {
            tokens_end = (tokens_end + 7) / 8 * 8;
            expected = tokens_end + (S + 1) * 8 + header.text_bytes + header.names_bytes;
            expected += kind == BIN_CLASSIFY ? S * 8 : (S + 1) * 8 + (unsigned __int128)header.spans * 8 + S * 4;
        }
        if (expected != bytes)
            fail(
                "%s: expected %.0f bytes (%llu sequences, %llu tokens), found %zu: the file is cut off or damaged; "
                "pack the data again",
                p, (double)expected, (unsigned long long)header.sequences, (unsigned long long)header.tokens, bytes);
        if (header.sequences == 0 || header.tokens == 0) fail("%s: there are no tokens in it", p);
        offsets = (const uint64_t*)(map + 256);
        data = map + 256 + (header.sequences + 1) * 8;
        if (offsets[0] != 0 || offsets[header.sequences] != header.tokens)
            fail("%s: expected offsets from 0 to %llu, found %llu to %llu: the file is damaged; pack the data again", p,
                 (unsigned long long)header.tokens, (unsigned long long)offsets[0],
                 (unsigned long long)offsets[header.sequences]);
        for (size_t s = 0; s < header.sequences; s++)
            if (offsets[s] > offsets[s + 1])
                fail("%s: sequence %zu begins after its end: the file is damaged; pack the data again", p, s);
        if (kind != BIN_TEXT) check_texts((size_t)tokens_end);
        if (kind == BIN_CLASSIFY) check_examples();
        if (kind == BIN_INSTRUCT) check_rows();
        // the whole content, where that takes no more than about a second
        if (bytes <= (1u << 30) && header.content != fnv1a(map + 256, bytes - 256))
            fail("%s: the content is damaged (its checksum is wrong); pack the data again", p);
    }
    // Where the texts lie; their table begins `table` bytes into the file, after the tokens
    void check_texts(size_t table) {
        const size_t S = header.sequences;
        text_at = (const uint64_t*)(map + table);
        texts = map + bytes - header.names_bytes - header.text_bytes;
        if (text_at[0] != 0 || text_at[S] != header.text_bytes)
            fail("%s: expected texts from 0 to %zu, found %zu to %zu: the file is damaged; pack the data again",
                 path.c_str(), (size_t)header.text_bytes, (size_t)text_at[0], (size_t)text_at[S]);
        for (size_t s = 0; s < S; s++)
            if (text_at[s] > text_at[s + 1])
                fail("%s: the text of example %zu begins after its end: the file is damaged; pack the data again",
                     path.c_str(), s);
    }
    // The names after the texts: {key: ["a", "b", ...]}, at least `least` of them
    std::vector<std::string> names_of(const Json& names, const char* key, size_t least) const {
        const char* p = path.c_str();
        const Json* list = names.find(key);
        if (!list || list->kind != Json::array)
            fail("%s: expected {\"%s\": [...]} at the end, found %.60s; pack the data again", p, key,
                 dump_json(names).c_str());
        std::vector<std::string> found;
        for (const Json& name : list->a) {
            if (name.kind != Json::string || name.s.empty())
                fail("%s: expected names as %s, found %.60s; pack the data again", p, key, dump_json(name).c_str());
            found.push_back(name.s);
        }
        std::vector<std::string> sorted = found;
        std::sort(sorted.begin(), sorted.end());
        auto twice = std::adjacent_find(sorted.begin(), sorted.end());
        if (twice != sorted.end())
            fail("%s: expected different %s, found %s twice; pack the data again", p, key, dump_json(*twice).c_str());
        if (found.size() < least || found.size() != header.labels)
            fail("%s: expected the names of %u %s (at least %zu), found %zu; pack the data again", p, header.labels,
                 key, least, found.size());
        return found;
    }
    Json names() const {
        return parse_json(std::string_view(texts + header.text_bytes, header.names_bytes), path + ", names");
    }
    void check_examples() {
        const char* p = path.c_str();
        const size_t S = header.sequences;
        label_of = (const int32_t*)(text_at + S + 1);
        second_at = (const uint32_t*)(label_of + S);
        labels = names_of(names(), "labels", 2);
        for (size_t s = 0; s < S; s++) {
            if ((uint32_t)label(s) >= labels.size())  // as unsigned, a negative one is large
                fail(
                    "%s: example %zu: expected a label from 0 to %zu, found %d: the file is damaged; pack the data "
                    "again",
                    p, s, labels.size() - 1, label(s));
            if (second(s) > length(s))
                fail(
                    "%s: example %zu: expected a second segment at %zu at most, found %zu: the file is damaged; pack "
                    "the data again",
                    p, s, length(s), second(s));
        }
    }
    void check_rows() {
        const char* p = path.c_str();
        const size_t S = header.sequences;
        span_at = text_at + S + 1;
        span_list = (const BinSpan*)(span_at + S + 1);
        task_of = (const int32_t*)(span_list + header.spans);
        Json all = names();
        tasks = names_of(all, "tasks", 1);
        if (!all.find("template") || all.find("template")->kind != Json::object)
            fail("%s: expected {\"template\": {...}} at the end, found none; pack the data again", p);
        templ = *all.find("template");
        if (header.templ != template_fingerprint(templ))
            fail(
                "%s: expected the template %016llx, found %016llx: the file is damaged, or an older version packed it; "
                "pack the data again",
                p, (unsigned long long)header.templ, (unsigned long long)template_fingerprint(templ));
        if (span_at[0] != 0 || span_at[S] != header.spans)
            fail("%s: expected spans from 0 to %zu, found %zu to %zu: the file is damaged; pack the data again", p,
                 (size_t)header.spans, (size_t)span_at[0], (size_t)span_at[S]);
        for (size_t s = 0; s < S; s++) {
            if (span_at[s] >= span_at[s + 1] || span_at[s + 1] > header.spans)
                fail(
                    "%s: row %zu: expected at least one span, found %zu to %zu: the file is damaged; pack the data "
                    "again",
                    p, s, (size_t)span_at[s], (size_t)span_at[s + 1]);
            if ((uint32_t)task(s) >= tasks.size())
                fail("%s: row %zu: expected a task from 0 to %zu, found %d: the file is damaged; pack the data again",
                     p, s, tasks.size() - 1, task(s));
            size_t last = 1;  // the first token cannot be predicted
            for (size_t i = 0; i < spans(s); i++) {
                BinSpan a = span(s, i);
                if (a.begin < last || a.end <= a.begin || a.end > length(s))
                    fail(
                        "%s: row %zu: expected a span from %zu to %zu, found %u to %u: the file is damaged; pack the "
                        "data again",
                        p, s, last, length(s), a.begin, a.end);
                last = a.end;
            }
        }
    }
    static const char* kind_name(uint32_t kind) {
        return kind == BIN_TEXT       ? "text"
               : kind == BIN_CLASSIFY ? "classify"
               : kind == BIN_INSTRUCT ? "instruct"
                                      : "unknown";
    }
};
