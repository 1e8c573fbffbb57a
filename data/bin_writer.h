// bin_writer.h: writes the .bin format that common/data/bin_file.h describes and reads.
//
//   BinWriter out("x.bin", kind, vocabulary size, tokenizer fingerprint);
//   BIN_TEXT       out.append(ids, n); ... out.end_sequence(); ...
//   BIN_CLASSIFY   out.append(ids, n); ... out.end_example(label, second, shown text); ... out.labels = {"no", "yes"};
//   BIN_INSTRUCT   out.append(ids, n); ... out.end_row(task, spans, text); ... out.tasks = {...}; out.templ = ...;
//   out.finish();
//
// Tokens and texts go to unnamed files beside PATH while the number of sequences is not known; finish() puts all
// together in PATH.tmp, syncs it and renames it to PATH. Without finish() PATH stays as it was, and nothing else is
// left.
#pragma once
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "common/base/files.h"
#include "common/data/bin_file.h"

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
