// tokenize: learns tokenizers, turns text into ids and back, and packs text into .bin files.
// See data/tokenize --help; the rules of WordPiece are in common/text/wordpiece.h, those of byte-level BPE in
// common/text/bpe.h, the .bin format in common/data/bin_file.h.
#include <omp.h>
#include <charconv>
#include <chrono>

#include "common/base/cli.h"
#include "common/base/threads.h"
#include "common/data/bin_file.h"
#include "common/text/bpe.h"
#include "common/text/labelled_rows.h"
#include "common/text/wordpiece.h"

struct Options {
    std::string type = "wordpiece", out, tokenizer, kind = "text", in, documents = "eot", labels;
    std::string templ = "alpaca", task = "all", overlong = "drop";
    LabelledColumns columns;
    int64_t size = 8192, shots = -1, max_len = 0, show = 0;
    bool lower_case = true, json = false;
};

// ---------------------------------------------------------------- progress, on standard error
// A terminal gets one line that is written over; anything else gets a line every ten seconds.
struct Progress {
    using clock = std::chrono::steady_clock;
    std::string what;
    double total;  // in whatever unit update() counts; 0 if unknown
    bool terminal = isatty(2);
    clock::time_point start = clock::now(), last = start;

    Progress(const std::string& what, double total) : what(what), total(total) {}
    static double seconds(clock::duration d) { return std::chrono::duration<double>(d).count(); }
    double elapsed() const { return seconds(clock::now() - start); }
    void update(double done) {
        auto now = clock::now();
        if (seconds(now - last) < (terminal ? 0.2 : 10)) return;
        last = now;
        double share = total > 0 ? std::min(1.0, done / total) : 0;
        std::string line = share > 0 ? format("%s: %3.0f %%, %.0f s left", what.c_str(), 100 * share,
                                              elapsed() * (1 - share) / share)
                                     : format("%s: %.0f s", what.c_str(), elapsed());
        fprintf(stderr, terminal ? "\r%-70s" : "%s\n", line.c_str());
    }
    ~Progress() {
        if (terminal && last != start) fprintf(stderr, "\r%70s\r", "");
    }
};

// ---------------------------------------------------------------- reading text
// May text be cut here, behind a line's end, so that no tokenizer and no separator of documents can tell? What follows
// has to be neither white space, which BPE may take together with the line's end, nor a line <|endoftext|>.
static bool is_cut(std::string_view text, size_t at) {
    constexpr std::string_view eot = "<|endoftext|>";
    if (at == 0 || text[at - 1] != '\n' || at + eot.size() > text.size() || text.substr(at, eot.size()) == eot)
        return false;
    const char* p = text.data() + at;
    return !is_space(next_code_point(p, text.data() + text.size()));
}

// Calls f(block, is it the last?) for the text of a file, block by block. A block is about 16 MB and ends at a cut or
// with the file, so memory is bounded by the longest line.
template <class F>
static void for_each_block(const std::string& path, F f) {
    if (is_directory(path)) fail("cannot read %s: expected a text file, found a directory", path.c_str());
    FILE* file = fopen(path.c_str(), "rb");
    if (!file) fail("cannot read %s: %s", path.c_str(), strerror(errno));
    std::string block;
    for (size_t used = 0;;) {
        block.resize(used + (16 << 20));
        size_t n = fread(&block[used], 1, block.size() - used, file);
        if (ferror(file)) {
            int e = errno;
            fclose(file);
            fail("cannot read %s: %s", path.c_str(), strerror(e));
        }
        block.resize(used + n);
        if (n == 0) break;
        size_t cut = block.rfind('\n') + 1;  // npos + 1 == 0: no line's end in it, read on
        while (cut > 0 && !is_cut(block, cut)) cut = cut > 1 ? block.rfind('\n', cut - 2) + 1 : 0;
        if (cut > 0) f(std::string_view(block).substr(0, cut), false);
        block.erase(0, cut);
        used = block.size();
    }
    fclose(file);
    if (!block.empty()) f(std::string_view(block), true);
}

// A block in parts of about 256 kB that end at cuts, for the threads to share
static std::vector<std::string_view> parts_of(std::string_view block) {
    std::vector<std::string_view> parts;
    while (!block.empty()) {
        size_t cut = std::min<size_t>(256 << 10, block.size());
        do cut = std::min(block.find('\n', cut), block.size() - 1) + 1;
        while (cut < block.size() && !is_cut(block, cut));
        parts.push_back(block.substr(0, cut));
        block.remove_prefix(cut);
    }
    return parts;
}

static std::string_view trimmed(std::string_view line) {
    while (!line.empty() && byte_table.kind[(uint8_t)line.front()] == SPACE) line.remove_prefix(1);
    while (!line.empty() && byte_table.kind[(uint8_t)line.back()] == SPACE) line.remove_suffix(1);
    return line;
}

// Cuts text at the lines that separate documents. Calls f(text, ends): a stretch of text, and whether a document ends
// with it. A document is without the line's end before the separator, or before the file's end; of `file` it is all
// bytes. last: the file ends with this text.
template <class F>
static void for_each_stretch(std::string_view text, const std::string& documents, bool last, F f) {
    auto without_line_end = [](std::string_view s) {
        if (!s.empty() && s.back() == '\n') s.remove_suffix(1);
        if (!s.empty() && s.back() == '\r') s.remove_suffix(1);
        return s;
    };
    size_t start = 0;
    for (size_t at = 0; at < text.size() && documents != "file";) {
        size_t end = std::min(text.find('\n', at), text.size());
        std::string_view line = trimmed(text.substr(at, end - at));
        bool separator = (documents == "eot" && line == "<|endoftext|>") || (documents == "blank" && line.empty());
        if (separator || documents == "line") {
            f(without_line_end(text.substr(start, (separator ? at : end) - start)), true);
            start = end + 1;
        }
        at = end + 1;
    }
    if (start < text.size())
        f(last && documents != "file" ? without_line_end(text.substr(start)) : text.substr(start), false);
}

static double total_size(const std::vector<std::string>& files) {
    double total = 0;
    struct stat st;
    for (const std::string& f : files) {
        if (stat(f.c_str(), &st) != 0) fail("cannot read %s: %s", f.c_str(), strerror(errno));
        total += st.st_size;
    }
    return total;
}

static void require(const std::string& value, const char* command, const char* flag) {
    if (value.empty())
        fail_usage("data/tokenize %s: expected %s, found nothing; see data/tokenize %s --help", command, flag, command);
}

// Of DIR, DIR/best and DIR/last the first that holds a tokenizer: DIR may be a run of train_bert or train_gpt.
static std::string tokenizer_dir(const std::string& dir) {
    for (const std::string& d : {dir, dir + "/best", dir + "/last"})
        for (const char* name : {"vocab.txt", "vocab.json", "encoder.json", "tokenizer.json"})
            if (exists(d + "/" + name)) return d;
    return dir;
}

// Calls f with the tokenizer of a directory, a WordPiece or a Bpe.
template <class F>
static void with_tokenizer(const std::string& given, F f) {
    std::string dir = tokenizer_dir(given);
    if (Bpe::is_in(dir))
        f(Bpe::load(dir));
    else
        f(WordPiece::load(dir));
}

static void report_invalid(size_t invalid, bool kept) {
    if (invalid)
        fprintf(stderr, "warning: %zu bytes of the input are not UTF-8 and were %s\n", invalid,
                kept ? "kept as they are" : "dropped");
}

static void warn_of_unknown(double unknown, double tokens, const std::string& tokenizer) {
    if (unknown > 0.05 * tokens)
        fprintf(stderr,
                "warning: %.0f %% of the tokens are [UNK]: the tokenizer of %s does not know this text, learn one from "
                "it\n",
                100 * unknown / tokens, tokenizer.c_str());
}

// ---------------------------------------------------------------- learn
static void learn(const Options& o, Cli& cli) {
    const std::vector<std::string>& files = cli.positional;
    bool bpe = o.type == "bpe";
    require(o.out, "learn", "--out DIR");
    if (bpe && cli.given("lower-case")) fail_usage("--lower-case is not for --type bpe, which keeps every byte");
    if (bpe && o.size < 257)
        fail_usage("--size: expected at least 257 tokens for --type bpe (256 bytes and <|endoftext|>), found %lld",
                   (long long)o.size);
    for (const char* name : {"vocab.txt", "vocab.json", "encoder.json", "merges.txt", "vocab.bpe", "tokenizer.json",
                             "tokenizer_config.json"})
        if (exists(o.out + "/" + name))
            fail_usage("--out %s: expected no tokenizer there, found %s; take another directory", o.out.c_str(), name);
    WordPiece rules;  // no pieces yet, only how words are made
    rules.lower_case = rules.strip_accents = o.lower_case;
    double total = total_size(files), bytes = 0, start = omp_get_wtime();
    make_directories(o.out);
    size_t invalid = 0;
    std::vector<WordPiece::Counts> counts(omp_get_max_threads());  // one for each thread
    {
        Progress progress("counting words", total);
        for (const std::string& file : files)
            for_each_block(file, [&](std::string_view block, bool last) {
                auto parts = parts_of(block);
#pragma omp parallel for schedule(dynamic) reduction(+ : invalid)
                for (size_t i = 0; i < parts.size(); i++) {
                    bool last_part = last && i + 1 == parts.size();
                    for_each_stretch(parts[i], "eot", last_part, [&](std::string_view text, bool ends) {
                        auto& mine = counts[omp_get_thread_num()];
                        invalid += bpe ? Bpe::count_words(text, mine, !ends && !last_part)
                                       : rules.count_words(text, mine);
                    });
                }
                progress.update(bytes += block.size());
            });
    }
    for (size_t t = 1; t < counts.size(); t++)
        for (const auto& [word, n] : counts[t]) counts[0][word] += n;
    if (counts[0].empty())
        fail("there are no words in %s%s", files[0].c_str(), files.size() > 1 ? " and the other files" : "");
    report_invalid(invalid, bpe);

    Progress progress("learning pieces", o.size);
    auto update = [&](size_t tokens) { progress.update(tokens); };
    auto save = [&](const auto& learned, const char* name) {
        if ((int64_t)learned.size() < o.size)
            fprintf(stderr,
                    "warning: expected %lld tokens, the text gives only %zu; take more text or a smaller vocabulary\n",
                    (long long)o.size, learned.size());
        learned.save(o.out);
        printf("%s/%s: %zu tokens learned from %zu words, %.1f MB, in %.1f s; fingerprint %016llx\n", o.out.c_str(),
               name, learned.size(), counts[0].size(), bytes / 1e6, omp_get_wtime() - start,
               (unsigned long long)learned.fingerprint());
    };
    if (bpe)
        save(Bpe::learn(counts[0], o.size, update), "vocab.json");
    else
        save(WordPiece::learn(counts[0], o.size, o.lower_case, update), "vocab.txt");
}

// ---------------------------------------------------------------- encode, decode: standard input → standard output,
// line by line
struct Lines {
    char* line = nullptr;
    size_t capacity = 0, number = 0;
    ~Lines() { free(line); }
    bool next(std::string_view& out) {
        ssize_t n = getline(&line, &capacity, stdin);
        if (n < 0) {
            if (ferror(stdin)) fail("cannot read standard input: %s", strerror(errno));
            return false;
        }
        number++;
        out = std::string_view(line, n);
        if (!out.empty() && out.back() == '\n') out.remove_suffix(1);
        return true;
    }
    std::string where() const { return format("standard input, line %zu", number); }
};

static void print_line(std::string& out) {
    static const bool terminal = isatty(0);
    out += '\n';
    if (fwrite(out.data(), 1, out.size(), stdout) != out.size() || (terminal && fflush(stdout)))
        fail("cannot write standard output: %s", strerror(errno));
    out.clear();
}

template <class Tokenizer>  // WordPiece or Bpe, as below
static void encode(const Options& o, const Tokenizer& tokenizer) {
    Lines lines;
    std::string_view text;
    std::string out, decoded;
    std::vector<int32_t> ids;
    size_t invalid = 0;
    while (lines.next(text)) {
        if (o.json) {
            Json json = parse_json(text, lines.where());
            if (json.kind != Json::string)
                fail("%s: expected a JSON string, found %.60s", lines.where().c_str(), dump_json(json).c_str());
            decoded = json.s;
            text = decoded;
        }
        ids.clear();
        invalid += tokenizer.encode(text, ids);
        if (o.json) out += '[';
        for (size_t i = 0; i < ids.size(); i++) {
            char digits[12];
            if (i) out += o.json ? ", " : " ";
            out.append(digits, std::to_chars(digits, digits + 12, ids[i]).ptr);
        }
        if (o.json) out += ']';
        print_line(out);
    }
    report_invalid(invalid, std::is_same_v<Tokenizer, Bpe>);
}

template <class Tokenizer>
static void decode(const Options& o, const Tokenizer& tokenizer) {
    Lines lines;
    std::string_view text;
    std::string out;
    while (lines.next(text)) {
        std::vector<int32_t> ids;
        auto add = [&](int64_t id) {
            if (id < 0 || id >= (int64_t)tokenizer.size())
                fail("%s: expected ids from 0 to %zu, found %lld", lines.where().c_str(), tokenizer.size() - 1,
                     (long long)id);
            ids.push_back(id);
        };
        if (o.json) {
            Json json = parse_json(text, lines.where());
            if (json.kind != Json::array)
                fail("%s: expected a JSON array of ids, found %.60s", lines.where().c_str(), dump_json(json).c_str());
            for (const Json& id : json.a) {
                if (id.kind != Json::integer)
                    fail("%s: expected an integer, found %.60s", lines.where().c_str(), dump_json(id).c_str());
                add(id.i);
            }
            out = dump_json(tokenizer.decode(ids));
        } else {
            for (text = trimmed(text); !text.empty(); text = trimmed(text)) {
                int64_t id = -1;
                auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
                size_t n = end - text.data();
                if (error != std::errc() || (n < text.size() && byte_table.kind[(uint8_t)text[n]] != SPACE))
                    fail("%s: expected ids separated by spaces, found \"%.*s\"", lines.where().c_str(),
                         (int)std::min<size_t>(text.size(), 40), text.data());
                add(id);
                text.remove_prefix(n);
            }
            out = tokenizer.decode(ids);
        }
        print_line(out);
    }
}

// ---------------------------------------------------------------- pack --kind text
static void make_directory_of(const std::string& path) {
    size_t slash = path.rfind('/');
    if (slash != path.npos && slash > 0) make_directories(path.substr(0, slash));
}

template <class Tokenizer>
static void pack_text(const Options& o, std::vector<std::string> files, const Tokenizer& tokenizer) {
    constexpr bool bpe = std::is_same_v<Tokenizer, Bpe>;
    files.insert(files.begin(), o.in);
    double total = total_size(files), bytes = 0, start = omp_get_wtime();
    make_directory_of(o.out);
    BinWriter out(o.out, BIN_TEXT, tokenizer.size(), tokenizer.fingerprint());

    struct Encoded {
        std::vector<int32_t> ids;
        std::vector<size_t> ends;                    // where in ids documents end
        size_t invalid = 0, unknown = 0, inner = 0;  // inner: <|endoftext|> that is no line of its own
    };
    std::vector<Encoded> encoded;  // of each part of a block
    size_t invalid = 0, unknown = 0, inner = 0;
    auto end_document = [&] {
        if (out.sequence_length() > 0) out.end_sequence();
    };  // documents without a token are left out
    Progress progress("packing", total);
    for (const std::string& file : files) {
        for_each_block(file, [&](std::string_view block, bool last) {
            auto parts = parts_of(block);
            encoded.assign(parts.size(), {});
#pragma omp parallel for schedule(dynamic)
            for (size_t i = 0; i < parts.size(); i++) {
                Encoded& e = encoded[i];
                e.ids.reserve(parts[i].size() / 3);
                bool last_part = last && i + 1 == parts.size();
                for_each_stretch(parts[i], o.documents, last_part, [&](std::string_view text, bool ends) {
                    if constexpr (bpe) {
                        e.invalid += tokenizer.encode(text, e.ids, false, !ends && !last_part);
                        for (size_t at = 0; (at = text.find(Bpe::eot_name, at)) != text.npos; at++) e.inner++;
                    } else {
                        e.invalid += tokenizer.encode(text, e.ids);
                    }
                    if (ends) e.ends.push_back(e.ids.size());
                });
                if constexpr (!bpe) e.unknown = std::count(e.ids.begin(), e.ids.end(), tokenizer.unk());
            }
            for (const Encoded& e : encoded) {
                size_t done = 0;
                for (size_t end : e.ends) {
                    out.append(e.ids.data() + done, end - done);
                    end_document();
                    done = end;
                }
                out.append(e.ids.data() + done, e.ids.size() - done);
                invalid += e.invalid;
                unknown += e.unknown;
                inner += e.inner;
            }
            progress.update(bytes += block.size());
        });
        end_document();
    }
    out.finish();
    report_invalid(invalid, bpe);
    if (inner)
        fprintf(stderr,
                "warning: %zu times <|endoftext|> stands within a document and was read as plain text; documents end "
                "at a line of their own with it%s\n",
                inner, o.documents == "eot" ? "" : " (--documents eot)");
    double seconds = omp_get_wtime() - start;
    printf("%s: %llu documents, %llu tokens, %.0f bytes of text, %.3f tokens per byte, %sin %.2f s (%.1f MB/s)\n",
           o.out.c_str(), (unsigned long long)out.header.sequences, (unsigned long long)out.header.tokens, bytes,
           out.header.tokens / bytes, bpe ? "" : format("%.3f %% [UNK], ", 100.0 * unknown / out.header.tokens).c_str(),
           seconds, bytes / seconds / 1e6);
    warn_of_unknown(unknown, out.header.tokens, o.tokenizer);
}

// ---------------------------------------------------------------- pack --kind classify
// "a,b,c", or the labels of a .bin
static std::vector<std::string> given_labels(const std::string& given) {
    if (given.size() > 4 && given.compare(given.size() - 4, 4, ".bin") == 0) return BinFile(given, BIN_CLASSIFY).labels;
    std::vector<std::string> labels;
    for (size_t at = 0, end; at <= given.size(); at = end + 1) {
        end = std::min(given.find(',', at), given.size());
        labels.push_back(given.substr(at, end - at));
        if (labels.back().empty())
            fail_usage("--labels: expected names with commas between them, found an empty name in \"%s\"",
                       given.c_str());
        if (std::find(labels.begin(), labels.end() - 1, labels.back()) != labels.end() - 1)
            fail_usage("--labels: expected different names, found %s twice", labels.back().c_str());
    }
    if (labels.size() < 2)
        fail_usage("--labels: expected at least two names, or a .bin file, found only \"%s\"", given.c_str());
    return labels;
}

// The order of labels found in a file, as places in `names`: integers by their value, if all are, else by their bytes
static std::vector<int32_t> sorted_labels(const std::vector<std::string>& names) {
    std::vector<int32_t> order(names.size());
    std::vector<int64_t> numbers(names.size(), 0);
    bool integers = true;
    for (size_t i = 0; i < names.size(); i++) {
        const char* end = names[i].data() + names[i].size();
        auto [p, error] = std::from_chars(names[i].data(), end, numbers[i]);
        integers &= p == end && error == std::errc();
        order[i] = i;
    }
    std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
        return integers && numbers[a] != numbers[b] ? numbers[a] < numbers[b] : names[a] < names[b];
    });
    return order;
}

// f(i) for the first 20 of n, with commas between them
template <class F>
static std::string listed(size_t n, F f) {
    std::string s;
    for (size_t i = 0; i < std::min<size_t>(n, 20); i++) s += (i ? ", " : "") + f(i);
    return n > 20 ? s + format(" and %zu more", n - 20) : s;
}

static void pack_labelled(const Options& o) {
    double total = total_size({o.in}), start = omp_get_wtime();
    std::vector<std::string> labels;
    if (!o.labels.empty()) labels = given_labels(o.labels);
    std::string dir = tokenizer_dir(o.tokenizer);
    if (Bpe::is_in(dir))
        fail_usage(
            "--tokenizer %s: expected WordPiece (vocab.txt) for --kind classify, as finetune_cls needs it, found "
            "byte-level BPE",
            dir.c_str());
    WordPiece tokenizer = WordPiece::load(dir);
    LabelledFile in(o.in, o.columns, true);
    make_directory_of(o.out);
    BinWriter out(o.out, BIN_CLASSIFY, tokenizer.size(), tokenizer.fingerprint());

    std::unordered_map<std::string, int32_t> number;  // of a label; without --labels first in the order of the file
    for (const std::string& name : labels) number.emplace(name, (int32_t)number.size());
    auto number_of = [&](const LabelledRow& row) {
        auto found = number.find(row.label);
        if (found != number.end()) return found->second;
        if (!o.labels.empty())
            fail("%s, line %zu: expected one of the labels %s, found %s", o.in.c_str(), row.line,
                 listed(labels.size(), [&](size_t i) { return labels[i]; }).c_str(), row.label.c_str());
        labels.push_back(row.label);
        return number[row.label] = labels.size() - 1;
    };

    struct Example {
        LabelledRow row;
        std::vector<int32_t> ids;
        size_t second = 0, unknown = 0;
        std::string shown;
    };
    std::vector<Example> examples;  // of a block, the first n; the others are kept for their memory
    size_t unknown = 0, pairs = 0, longest = 0;
    Progress progress("packing", total);
    for (size_t n = 1; n > 0; progress.update(in.bytes())) {
        n = 0;
        for (size_t begin = in.bytes(); in.bytes() - begin < 4 << 20; n++) {
            if (n == examples.size()) examples.emplace_back();
            if (!in.next(examples[n].row)) break;
        }
#pragma omp parallel for schedule(dynamic, 64)
        for (size_t i = 0; i < n; i++) {
            Example& e = examples[i];
            e.ids.clear();
            e.shown.clear();
            tokenizer.encode(e.row.text, e.ids);
            e.second = e.ids.size();
            if (e.row.pair) tokenizer.encode(e.row.text2, e.ids);
            e.unknown = std::count(e.ids.begin(), e.ids.end(), tokenizer.unk());
            append_shown(e.shown, e.row);
        }
        for (size_t i = 0; i < n; i++) {
            const Example& e = examples[i];
            if (e.second == 0 || (e.row.pair && e.second == e.ids.size()))
                fail("%s, line %zu: expected a text in \"%s\", found only characters that give no token", o.in.c_str(),
                     e.row.line, (e.second == 0 ? o.columns.text : o.columns.text2).c_str());
            out.append(e.ids.data(), e.ids.size());
            out.end_example(number_of(e.row), e.second, e.shown);
            unknown += e.unknown;
            pairs += e.row.pair;
            longest = std::max(longest, e.ids.size() + 2 + e.row.pair);
        }
    }
    size_t S = out.label.size();
    if (S == 0) fail("%s: expected rows with a text and a label, found none", o.in.c_str());
    if (labels.size() < 2)
        fail(
            "%s: expected at least two different labels, found only %s; the labels of other data are given with "
            "--labels",
            o.in.c_str(), labels[0].c_str());
    std::vector<int32_t> order(labels.size()),
        place(labels.size());  // order[place of a label in the .bin] = its number so far
    for (size_t i = 0; i < order.size(); i++) order[i] = i;
    if (o.labels.empty()) order = sorted_labels(labels);
    std::vector<size_t> count(labels.size());
    for (size_t i = 0; i < order.size(); i++) {
        place[order[i]] = i;
        out.labels.push_back(labels[order[i]]);
    }
    for (int32_t& label : out.label) count[label = place[label]]++;
    out.finish();

    double seconds = omp_get_wtime() - start;
    std::string counts = listed(labels.size(), [&](size_t i) {
        return format("%s %zu (%.1f %%)", out.labels[i].c_str(), count[i], 100.0 * count[i] / S);
    });
    printf(
        "%s: %zu examples, %zu of them pairs, %zu tokens; with [CLS] and [SEP] %.1f an example, the longest has %zu; "
        "labels: %s; %.3f %% [UNK], in %.2f s (%.1f MB/s)\n",
        o.out.c_str(), S, pairs, (size_t)out.header.tokens, (out.header.tokens + 2.0 * S + pairs) / S, longest,
        counts.c_str(), 100.0 * unknown / out.header.tokens, seconds, in.bytes() / seconds / 1e6);
    warn_of_unknown(unknown, out.header.tokens, o.tokenizer);
}

#include "data/pack_instruct.h"

// --out may replace a .bin file or an empty one, but no input and no other file.
static void refuse_overwrite(const Options& o, std::vector<std::string> inputs) {
    inputs.insert(inputs.end(), {o.in, o.labels, o.templ});
    refuse_input("--out", o.out, inputs);
    struct stat st;
    if (lstat(o.out.c_str(), &st) != 0 || is_directory(o.out)) return;
    char magic[sizeof BinHeader().magic];
    FILE* f = S_ISREG(st.st_mode) ? fopen(o.out.c_str(), "rb") : nullptr;
    bool ours = f && (st.st_size == 0 ||
                      (fread(magic, sizeof magic, 1, f) == 1 && !memcmp(magic, BinHeader().magic, sizeof magic)));
    if (f) fclose(f);
    if (!ours)
        fail_usage(
            "--out %s: expected no file of that name or a .bin file, found another; take another name or remove it",
            o.out.c_str());
}

// Checks the command line of pack, for every kind.
static void pack(const Options& o, Cli& cli) {
    const std::pair<const char*, std::vector<const char*>> flags_of[] = {
        {"text", {"documents"}},
        {"classify", {"labels", "text-column", "text2-column", "label-column"}},
        {"instruct", {"template", "shots", "max-len", "overlong", "task", "show"}}};
    for (const auto& [kind, flags] : flags_of)
        for (const char* flag : flags)
            if (cli.given(flag) && o.kind != kind) fail_usage("--%s is not for --kind %s", flag, o.kind.c_str());
    if (cli.given("task")) require(o.task, "pack", "a name behind --task");
    if (cli.given("labels")) require(o.labels, "pack", "names or a .bin file behind --labels");
    require(o.tokenizer, "pack", "--tokenizer DIR");
    require(o.in, "pack", "--in FILE");
    require(o.out, "pack", "--out FILE.bin");
    refuse_overwrite(o, cli.positional);
    if (o.kind == "instruct") return pack_instruct(o, cli.positional, cli.given("overlong"));
    if (o.kind == "text")
        return with_tokenizer(o.tokenizer, [&](const auto& tokenizer) { pack_text(o, cli.positional, tokenizer); });
    if (!cli.positional.empty())
        fail_usage("--kind classify takes one file, found \"%s\" as well", cli.positional[0].c_str());
    pack_labelled(o);
}

int main(int argc, char** argv) {
    reexec_with_omp_policy(argv);
    Options o;
    Cli cli{
        "data/tokenize",
        "learns tokenizers, turns text into ids and back, packs text into .bin files.",
        "  data/tokenize learn --type wordpiece --size 8192 --out tok books.txt more.txt\n"
        "  data/tokenize learn --type bpe --size 8192 --out tok books.txt\n"
        "  echo 'The film was [MASK] .' | data/tokenize encode --tokenizer tok\n"
        "  data/tokenize pack --tokenizer tok --kind text --in books.txt --out train.bin\n"
        "  data/tokenize pack --tokenizer runs/bert --kind classify --in reviews.tsv --out train.bin\n"
        "  data/tokenize pack --tokenizer runs/gpt --kind instruct --in train.jsonl --out train.bin --max-len 512 "
        "--show 3\n",
        {{"learn", "FILE...",
          "text files -> vocab.txt or vocab.json and merges.txt, tokenizer.json, tokenizer_config.json", 1, CLI_MANY},
         {"encode", "< text", "a line of ids per line of text, without special tokens"},
         {"decode", "< ids", "a line of text per line of ids"},
         {"pack", "[MORE FILES]", "files of text or of instructions, or one of labelled texts -> a .bin file", 0,
          CLI_MANY}},
        {{"Learning",
          "learn",
          {{"type", &o.type, "wordpiece|bpe", "for an encoder (BERT) or for a decoder (GPT-2, byte-level)"},
           {"size", &o.size, between(32, 1000000), "tokens in the vocabulary"},
           {"lower-case", &o.lower_case, "wordpiece: lower-case the text and drop accents, as BERT does by default"},
           {"out", &o.out, "DIR", "directory for the tokenizer's files"}}},
         {"Tokenizer",
          "encode decode pack",
          {{"tokenizer", &o.tokenizer, "DIR",
            "directory with vocab.txt (WordPiece), or vocab.json and merges.txt (BPE); or a run of train_bert or "
            "train_gpt"}}},
         {"Lines", "encode decode", {{"json", &o.json, "text as a JSON string and ids as a JSON array per line"}}},
         {"Packing",
          "pack",
          {{"kind", &o.kind, "text|classify|instruct", "what the file holds"},
           {"in", &o.in, "FILE",
            "text: UTF-8; classify: .tsv, .csv or .jsonl with the columns text, label and perhaps text2; instruct: "
            ".jsonl"},
           {"documents", &o.documents, "eot|line|blank|file",
            "text: a document ends at a line <|endoftext|>, at every line's end, at a blank line, at a file's end"},
           {"labels", &o.labels, "A,B,...",
            "classify: the labels in their order, or a .bin file that has them (else: those found, sorted)"},
           {"text-column", &o.columns.text, "NAME", "classify: the column of the text"},
           {"text2-column", &o.columns.text2, "NAME", "classify: the column of a second text"},
           {"label-column", &o.columns.label, "NAME", "classify: the column of the label"},
           {"template", &o.templ, "NAME",
            "instruct: alpaca, short, or a file with {instruction}, {input} and at its end {output}"},
           {"shots", &o.shots, between(-1, 2),
            "instruct: how many of a row's worked examples are shown before its question; -1: as many as a "
            "template.json says, else none"},
           {"max-len", &o.max_len, at_least(0),
            "instruct: tokens of the longest row; 0: as many as the model of --tokenizer takes, or any if that is no "
            "model"},
           {"overlong", &o.overlong, "drop|truncate|error",
            "instruct: rows that are longer are left out, lose examples, earlier turns, the end of their input (an "
            "answer is never cut), or are refused"},
           {"task", &o.task, "NAME", "instruct: the task of rows that name none"},
           {"show", &o.show, at_least(0),
            "instruct: print the first N rows, decoded, with what is supervised in brackets"},
           {"out", &o.out, "FILE.bin", "the packed file"}}}},
        true,
        "",
        {}};
    try {
        if (!cli.parse(argc, argv)) return EXIT_OK;
        if (cli.command == "learn") learn(o, cli);
        if (cli.command == "encode" || cli.command == "decode") {
            require(o.tokenizer, cli.command.c_str(), "--tokenizer DIR");
            with_tokenizer(o.tokenizer, [&](const auto& tokenizer) {
                cli.command == "encode" ? encode(o, tokenizer) : decode(o, tokenizer);
            });
        }
        if (cli.command == "pack") pack(o, cli);
        if (fflush(stdout) != 0) fail("cannot write standard output: %s", strerror(errno));
        return EXIT_OK;
    } catch (const Error& e) {
        fflush(stdout);
        fprintf(stderr, "error: %s\n", e.what());
        return e.code;
    } catch (const std::bad_alloc&) {
        fprintf(stderr, "error: out of memory\n");
        return EXIT_FAILED;
    }
}
