// bin_file.h: the .bin format, token sequences on disk, as `data/tokenize pack` writes them and the loader maps them.
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

// ---------------------------------------------------------------- writing
//   BinWriter out("x.bin", kind, vocabulary size, tokenizer fingerprint);
//   BIN_TEXT       out.append(ids, n); ... out.end_sequence(); ...
//   BIN_CLASSIFY   out.append(ids, n); ... out.end_example(label, second, shown text); ... out.labels = {"no", "yes"};
//   BIN_INSTRUCT   out.append(ids, n); ... out.end_row(task, spans, text); ... out.tasks = {...}; out.templ = ...;
//   out.finish();
//
// Tokens and texts go to unnamed files beside PATH while the number of sequences is not known; finish() puts all
// together in PATH.tmp, syncs it and renames it to PATH. Without finish() PATH stays as it was, and nothing else is
// left.
struct BinWriter {
    std::string path;
    BinHeader header;
    std::vector<uint64_t> offsets = {0};
    std::vector<char> buffer;
    int tokens_fd = -1;
    // classify
    std::vector<std::string> labels;
    std::vector<int32_t> label;
    std::vector<uint32_t> second;
    // instruct
    std::vector<std::string> tasks;
    Json templ;
    std::vector<int32_t> task;
    std::vector<uint64_t> span_at = {0};
    std::vector<BinSpan> spans;
    // both
    std::vector<uint64_t> text_at = {0};
    std::string text_buffer;
    int texts_fd = -1;

    BinWriter(const std::string& path, BinKind kind, size_t vocab, uint64_t tokenizer) : path(path) {
        header.kind = kind;
        header.token_bytes = vocab <= 65536 ? 2 : 4;
        header.vocab = vocab;
        header.tokenizer = tokenizer;
        tokens_fd = unnamed_file(path + ".tokens.tmp");
    }
    ~BinWriter() {
        if (tokens_fd >= 0) close(tokens_fd);
        if (texts_fd >= 0) close(texts_fd);
    }
    BinWriter(const BinWriter&) = delete;
    BinWriter& operator=(const BinWriter&) = delete;

    void append(const int32_t* ids, size_t n) {
        for (size_t i = 0; i < n; i++) {
            uint32_t id = ids[i];
            if (id >= header.vocab)
                fail("%s: cannot write the token %d: the vocabulary has %zu", path.c_str(), ids[i],
                     (size_t)header.vocab);
            const char* bytes = (const char*)&id;  // little-endian: the low bytes come first
            buffer.insert(buffer.end(), bytes, bytes + header.token_bytes);
        }
        header.tokens += n;
        if (buffer.size() >= 1 << 20) flush();
    }
    void end_sequence() { offsets.push_back(header.tokens); }
    size_t sequence_length() const { return header.tokens - offsets.back(); }  // of the sequence being written
    // Instead of end_sequence(), of kind classify. A label may be any number until finish().
    void end_example(int32_t label, size_t second, std::string_view shown) {
        if (second > sequence_length() || sequence_length() > UINT32_MAX)
            fail("%s: cannot write an example of %zu tokens whose second segment begins at %zu", path.c_str(),
                 sequence_length(), second);
        end_sequence();
        this->label.push_back(label);
        this->second.push_back(second);
        add_text(shown);
    }
    // Instead of end_sequence(), of kind instruct
    void end_row(int32_t task, const std::vector<BinSpan>& row_spans, std::string_view text) {
        size_t length = sequence_length(), last = 1;  // the first token cannot be predicted
        if (row_spans.empty()) fail("%s: cannot write a row without a supervised token", path.c_str());
        for (const BinSpan& span : row_spans) {
            if (span.begin < last || span.end <= span.begin || span.end > length)
                fail("%s: cannot write a row of %zu tokens with the span %u to %u", path.c_str(), length, span.begin,
                     span.end);
            last = span.end;
        }
        end_sequence();
        this->task.push_back(task);
        spans.insert(spans.end(), row_spans.begin(), row_spans.end());
        span_at.push_back(spans.size());
        add_text(text);
    }

    void finish() {
        if (header.tokens != offsets.back()) end_sequence();
        flush();
        header.sequences = offsets.size() - 1;
        if (header.tokens == 0) fail("%s: nothing to write: the input holds no tokens", path.c_str());
        std::string names;
        if (header.kind != BIN_TEXT) {
            flush_texts();
            const bool classify = header.kind == BIN_CLASSIFY;
            const std::vector<std::string>& known = classify ? labels : tasks;
            const std::vector<int32_t>& used = classify ? label : task;  // (S)
            const char *one = classify ? "label" : "task", *many = classify ? "labels" : "tasks";
            Json list = Json::make_array(), all;
            for (const std::string& name : known) list.a.push_back(name);
            all.set(many, list);
            if (!classify) all.set("template", templ);
            names = dump_json(all);
            header.labels = known.size();
            header.names_bytes = names.size();
            header.spans = spans.size();
            header.templ = classify ? 0 : template_fingerprint(templ);
            if (used.size() != header.sequences)
                fail("%s: cannot write %zu sequences with %zu %s", path.c_str(), (size_t)header.sequences, used.size(),
                     many);
            for (int32_t l : used)
                if ((uint32_t)l >= known.size())
                    fail("%s: cannot write the %s %d: there are %zu", path.c_str(), one, l, known.size());
        }

        std::string tmp = path + ".tmp";
        int fd = create_file(tmp);
        if (fd < 0) fail("cannot write %s: %s", tmp.c_str(), strerror(errno));
        try {
            write_all(fd, &header, sizeof header);
            header.content = fnv1a(nullptr, 0);
            write_content(fd, offsets.data(), offsets.size() * 8);
            copy_content(fd, tokens_fd, header.tokens * header.token_bytes);
            if (header.kind != BIN_TEXT) {
                const char zeros[8] = {};
                const size_t token_bytes = header.tokens * header.token_bytes;
                write_content(fd, zeros, round_up(token_bytes, 8) - token_bytes);
                write_content(fd, text_at.data(), text_at.size() * 8);
                if (header.kind == BIN_INSTRUCT) {
                    write_content(fd, span_at.data(), span_at.size() * 8);
                    write_content(fd, spans.data(), spans.size() * 8);
                    write_content(fd, task.data(), task.size() * 4);
                } else {
                    write_content(fd, label.data(), label.size() * 4);
                    write_content(fd, second.data(), second.size() * 4);
                }
                copy_content(fd, texts_fd, header.text_bytes);
                write_content(fd, names.data(), names.size());
            }
            header.checksum = header.expected_checksum();  // once more, now that it is known
            if (lseek(fd, 0, SEEK_SET) != 0) give_up();
            write_all(fd, &header, sizeof header);
            if (fsync(fd) != 0) give_up();
            if (rename(tmp.c_str(), path.c_str()) != 0) give_up();
        } catch (...) {
            close(fd);
            unlink(tmp.c_str());
            throw;
        }
        close(fd);
        sync_directory_of(path);
        close(tokens_fd);
        tokens_fd = -1;
    }

    static int unnamed_file(std::string name) {
        int fd = create_file(name);
        if (fd < 0) fail("cannot write %s: %s", name.c_str(), strerror(errno));
        unlink(name.c_str());  // the file lives as long as it is open, whatever happens to us
        return fd;
    }
    void flush() {
        write_all(tokens_fd, buffer.data(), buffer.size());
        buffer.clear();
    }
    void add_text(std::string_view text) {
        text_buffer += text;
        header.text_bytes += text.size();
        text_at.push_back(header.text_bytes);
        if (text_buffer.size() >= 1 << 20) flush_texts();
    }
    void flush_texts() {
        if (texts_fd < 0) texts_fd = unnamed_file(path + ".texts.tmp");
        write_all(texts_fd, text_buffer.data(), text_buffer.size());
        text_buffer.clear();
    }
    void write_content(int fd, const void* data, size_t n) {
        write_all(fd, data, n);
        header.content = fnv1a(data, n, header.content);
    }
    void copy_content(int fd, int from, uint64_t left) {
        buffer.resize(1 << 20);
        if (lseek(from, 0, SEEK_SET) != 0) give_up();
        while (left > 0) {
            ssize_t n = read(from, buffer.data(), std::min<uint64_t>(left, buffer.size()));
            if (n == 0) errno = EIO;
            if (n <= 0) give_up();
            write_content(fd, buffer.data(), n);
            left -= n;
        }
    }
    void write_all(int fd, const void* data, size_t n) {
        for (const char* p = (const char*)data; n > 0;) {
            ssize_t done = write(fd, p, n);
            if (done < 0 && errno != EINTR) give_up();
            if (done > 0) {
                p += done;
                n -= done;
            }
        }
    }
    [[noreturn]] void give_up() {
        const int error = errno;
        const size_t bytes = sizeof header + offsets.size() * 8 + header.tokens * header.token_bytes +
                             text_at.size() * 16 + spans.size() * 8 + header.text_bytes;
        fail("cannot write %s: %s; nothing was written (it takes %.1f MB, twice while it is being made)", path.c_str(),
             strerror(error), bytes / 1e6);
    }
};

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
        int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
        if (fd < 0) fail("cannot read %s: %s", path.c_str(), strerror(errno));
        struct stat st;
        if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
            close(fd);
            fail("cannot read %s: expected a .bin file, found a directory or device", path.c_str());
        }
        bytes = st.st_size;
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
