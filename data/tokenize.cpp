// tokenize: learns tokenizers, turns text into ids and back, and packs text into .bin files.
// See data/tokenize --help; the rules of tokenizers are in common/text/tokenizer.h, the .bin format in
// common/data/bin_file.h.
#include <charconv>
#include <filesystem>

#include "common/base/cli.h"
#include "common/base/threads.h"
#include "data/learn.h"
#include "data/pack_classify.h"
#include "data/pack_instruct.h"
#include "data/pack_text.h"

static void require(const std::string& value, const char* command, const char* flag) {
    if (value.empty())
        fail_usage("data/tokenize %s: expected %s, found nothing; see data/tokenize %s --help", command, flag, command);
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
    // The files are made here and then moved, so that a run that is killed leaves no half of a tokenizer: where this
    // folder is left, what lies beside it is its own.
    const std::string work = o.out + "/learning.tmp";
    for (const char* name : TokenizerFiles::names) {
        const std::string path = o.out + "/" + name;
        std::error_code e;  // one of them is not there
        const bool is_input = std::any_of(files.begin(), files.end(),
            [&](const std::string& file) { return std::filesystem::equivalent(path, file, e); });
        if (is_input || (exists(path) && !is_directory(work)))
            fail_usage("--out %s: expected no tokenizer there, found %s; take another directory", o.out.c_str(), name);
    }
    if (is_directory(work))  // it will be removed
        for (const auto& entry : std::filesystem::directory_iterator(work))
            if (const std::string found = entry.path().filename(); std::none_of(std::begin(TokenizerFiles::names),
                    std::end(TokenizerFiles::names), [&](const char* name) { return starts_with(found, name); }))
                fail_usage(
                    "--out %s: expected files of a tokenizer alone in learning.tmp, found %s; take another "
                    "directory",
                    o.out.c_str(), found.c_str());
    const Tokenizer rules(Tokenizer::WORDPIECE, o.lower_case);  // no pieces yet, only how words are made
    double total = total_size(files), bytes = 0, start = omp_get_wtime();
    make_directories(o.out);
    size_t invalid = 0;
    std::vector<WordCounts> counts(omp_get_max_threads());  // one for each thread
    {
        Progress progress("counting words", total);
        for (const std::string& file : files)
            for_each_block(file, {}, [&](TextPart block) {  // GPT-2's rules, or BERT's
                auto parts = parts_of(block, {});
#pragma omp parallel for schedule(dynamic) reduction(+ : invalid)
                for (size_t i = 0; i < parts.size(); i++) {
                    for_each_stretch(parts[i], "eot", [&](std::string_view text, bool) {
                        auto& mine = counts[omp_get_thread_num()];
                        invalid += bpe ? count_words(text, mine) : count_words(rules, text, mine);
                    });
                }
                progress.update(bytes += block.text.size());
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
        remove_tree(work);
        bool moved = false;  // some of them
        try {
            learned.save(work, bpe ? 1024 : 512);
            for (const char* name : TokenizerFiles::names) {
                const std::string made = work + "/" + name;
                if (!exists(made)) continue;
                if (rename(made.c_str(), (o.out + "/" + name).c_str()))
                    fail("cannot write %s/%s: %s", o.out.c_str(), name, strerror(errno));
                moved = true;
            }
        } catch (const Error&) {
            if (!moved) remove_tree(work);
            throw;
        }
        sync_directory_of(work);
        remove_tree(work);
        printf("%s/%s: %zu tokens learned from %zu words, %.1f MB, in %.1f s; fingerprint %016llx\n", o.out.c_str(),
            name, learned.size(), counts[0].size(), bytes / 1e6, omp_get_wtime() - start,
            (unsigned long long)learned.fingerprint());
    };
    if (bpe) save(learn_bpe(counts[0], o.size, update), "vocab.json");
    else save(learn_wordpiece(counts[0], o.size, o.lower_case, update), "vocab.txt");
}

// ---------------------------------------------------------------- encode, decode
// From standard input to standard output, line by line
static void print_line(std::string& out) {
    static const bool terminal = isatty(0);
    out += '\n';
    if (fwrite(out.data(), 1, out.size(), stdout) != out.size() || (terminal && fflush(stdout)))
        fail("cannot write standard output: %s", strerror(errno));
    out.clear();
}

static void encode(const Options& o, const Tokenizer& tokenizer) {
    LineReader lines("standard input", stdin);
    std::string out, decoded, second;
    std::vector<int32_t> ids;
    size_t invalid = 0;
    bool pair = false;
    while (lines.next_bytes()) {
        std::string_view text = lines.line;
        if (o.json) {
            Json json = parse_json(text, lines.where());
            const bool two = o.add_special_tokens && json.a.size() == 2 && json.a[1].kind == Json::string;
            if (json.kind != Json::string && !(two && json.a[0].kind == Json::string))
                fail("%s: expected a JSON string%s, found %.60s", lines.where().c_str(),
                    o.add_special_tokens ? " or a list of two" : "", dump_json(json).c_str());
            decoded = two ? json.a[0].s : json.s;
            second = two ? json.a[1].s : "";
            pair = two;
            text = decoded;
        } else if (text.find('\0') != text.npos) {
            lines.bad(lines.number, "expected text, found a NUL byte");
        }
        ids.clear();
        auto encode = [&](std::string_view part) {
            invalid += tokenizer.encode(part, ids, o.specials_as_text ? SPECIALS_AS_TEXT : SPECIALS_PARSED);
        };
        if (!o.add_special_tokens) encode(text);
        else
            for (int32_t id : pair ? tokenizer.pair : tokenizer.single)
                id < 0 ? encode(id == -1 ? text : second) : ids.push_back(id);
        if (o.json) out += '[';
        for (size_t i = 0; i < ids.size(); i++) {
            char digits[12];
            if (i) out += o.json ? ", " : " ";
            out.append(digits, std::to_chars(digits, digits + 12, ids[i]).ptr);
        }
        if (o.json) out += ']';
        print_line(out);
    }
    report_invalid(invalid, tokenizer.model == Tokenizer::BPE);
}

static void decode(const Options& o, const Tokenizer& tokenizer) {
    auto text_of = [&](const std::vector<int32_t>& ids) {
        return tokenizer.decode(ids.data(), ids.size(), true, o.skip_special_tokens);
    };
    LineReader lines("standard input", stdin);
    std::string out;
    while (lines.next_bytes()) {
        std::string_view text = lines.line;
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
            out = dump_json(text_of(ids));
        } else {
            for (text = strip_spaces(text); !text.empty(); text = strip_spaces(text)) {
                int64_t id = -1;
                auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
                size_t n = end - text.data();
                if (error != std::errc() || (n < text.size() && byte_table.kind[(uint8_t)text[n]] != SPACE))
                    fail("%s: expected ids separated by spaces, found \"%.*s\"", lines.where().c_str(),
                        (int)std::min<size_t>(text.size(), 40), text.data());
                add(id);
                text.remove_prefix(n);
            }
            out = text_of(ids);
        }
        print_line(out);
    }
}

// ---------------------------------------------------------------- pack
// --out may replace a .bin file or an empty one, but no input and no other file.
static void refuse_overwrite(const Options& o, std::vector<std::string> inputs) {
    inputs.insert(inputs.end(), {o.in, o.labels, o.templ});
    std::error_code e;                       // one of them is not there
    for (const std::string& input : inputs)  // by whatever name: compared by device and inode
        if (std::filesystem::equivalent(o.out, input, e))
            fail_usage("--out %s: expected another file than the input %s, which this would overwrite", o.out.c_str(),
                input.c_str());
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

static std::vector<Flag> labelled_flags(Options& o) {
    std::vector<Flag> flags = o.columns.flags();
    flags.push_back({"class", &o.classes, "LABEL=FILE", "a file whose rows all have this label; may be repeated"});
    return flags;
}

// Checks the command line of pack, for every kind.
static void pack(const Options& o, Cli& cli) {
    const std::pair<const char*, std::vector<const char*>> flags_of[] = {{"text", {"documents"}},
        {"classify",
            {"labels", "class", "text-column", "text2-column", "label-column", "header", "classes", "first-class"}},
        {"instruct", {"template", "shots", "max-len", "overlong", "task", "show"}}};
    for (const auto& [kind, flags] : flags_of)
        for (const char* flag : flags)
            if (cli.given(flag) && o.kind != kind) fail_usage("--%s is not for --kind %s", flag, o.kind.c_str());
    if (cli.given("task")) require(o.task, "pack", "a name after --task");
    if (cli.given("labels")) require(o.labels, "pack", "names or a .bin file after --labels");
    require(o.tokenizer, "pack", "--tokenizer DIR");
    if (o.classes.empty()) require(o.in, "pack", "--in FILE");
    require(o.out, "pack", "--out FILE.bin");
    refuse_overwrite(o, cli.positional);
    if (o.kind == "instruct") return pack_instruct(o, cli.positional, cli.given("overlong"));
    if (o.kind == "text") return pack_text(o, cli.positional, Tokenizer::load(tokenizer_dir(o.tokenizer)));
    std::vector<std::string> files = cli.positional;
    if (!o.in.empty()) files.insert(files.begin(), o.in);
    pack_classify(o, labelled_sources(o, files));
}

// ---------------------------------------------------------------- main
int main(int argc, char** argv) {
    reexec_with_omp_policy(argv);
    Options o;
    Cli cli{"data/tokenize", "learns tokenizers, turns text into ids and back, packs text into .bin files.",
        "  data/tokenize learn --type wordpiece --size 8192 --out tok books.txt more.txt\n"
        "  data/tokenize learn --type bpe --size 8192 --out tok books.txt\n"
        "  echo 'The film was [MASK] .' | data/tokenize encode --tokenizer tok\n"
        "  data/tokenize pack --tokenizer tok --kind text --in books.txt --out train.bin\n"
        "  data/tokenize pack --tokenizer runs/bert --kind classify --in reviews.tsv --out train.bin\n"
        "  data/tokenize pack --tokenizer runs/gpt --kind instruct --in train.jsonl --out train.bin --max-len 512 "
        "--show 3\n",
        {{"learn", "FILE...",
             "text files -> vocab.txt or vocab.json and merges.txt, tokenizer.json, tokenizer_config.json", 1,
             CLI_MANY},
            {"encode", "< text", "a line of ids per line of text, without special tokens"},
            {"decode", "< ids", "a line of text per line of ids"},
            {"pack", "[MORE FILES]", "files of text, of labelled texts or of instructions -> a .bin file", 0, CLI_MANY},
            {"rows", "[FILE...]", "files of labelled texts -> their rows as JSON lines, as pack reads them", 0,
                CLI_MANY}},
        {{"Learning", "learn",
             {{"type", &o.type, "wordpiece|bpe",
                  "kind of tokenizer: for an encoder (BERT), or byte-level BPE for a decoder (GPT-2)"},
                 {"size", &o.size, between(32, 1000000), "number of tokens in the vocabulary"},
                 {"lower-case", &o.lower_case,
                     "wordpiece: lower-case the text and drop accents, as BERT does by default"},
                 {"out", &o.out, "DIR", "directory to write the tokenizer's files to"}}},
            {"Tokenizer", "encode decode pack",
                {{"tokenizer", &o.tokenizer, "DIR",
                    "directory with vocab.txt (WordPiece), or vocab.json and merges.txt (BPE); or a run of train_bert "
                    "or "
                    "train_gpt"}}},
            {"Lines", "encode decode",
                {{"json", &o.json, "read and write JSON lines: a text is a string, its ids are an array"}}},
            {"Special tokens", "encode decode",
                {{"specials-as-text", &o.specials_as_text, "encode: <|im_end|> in a text stays text and is no token"},
                    {"add-special-tokens", &o.add_special_tokens,
                        "encode: with the tokens that the tokenizer puts before and after a text; with --json also "
                        "around two, an "
                        "array of strings"},
                    {"skip-special-tokens", &o.skip_special_tokens, "decode: without special tokens"}}},
            {"Packing", "pack",
                {{"kind", &o.kind, "text|classify|instruct",
                     "what the input holds: text, labelled texts or instructions"},
                    {"in", &o.in, "FILE",
                        "text: UTF-8; classify: .tsv, .csv or .jsonl with the columns text, label and perhaps text2, "
                        "or a folder "
                        "LABEL/*.txt; instruct: .jsonl"},
                    {"documents", &o.documents, "eot|line|blank|file",
                        "text: a document ends at a line <|endoftext|>, at every line's end, at a blank line, at a "
                        "file's end"},
                    {"labels", &o.labels, "A,B,...",
                        "classify: the labels in their order, or a .bin file that has them (else: those found, "
                        "sorted)"},

                    {"template", &o.templ, "NAME",
                        "instruct: the prompt template: alpaca, short, chatml, qwen3, llama3, llama3.2, or a file with "
                        "{instruction}, {input} and at its end {output}; auto: that of the model in --tokenizer "
                        "(template.json, "
                        "else its chat_template), or alpaca"},
                    {"shots", &o.shots, between(-1, 2),
                        "instruct: few-shot examples of a row to show before its input; -1: as many as a template.json "
                        "says, else "
                        "none"},
                    {"max-len", &o.max_len, at_least(0),
                        "instruct: longest row, in tokens; 0: as many as the model of --tokenizer takes, or any if "
                        "that is no "
                        "model"},
                    {"overlong", &o.overlong, "drop|truncate|error",
                        "instruct: what happens to longer rows: they are left out, or lose examples, earlier turns and "
                        "the end of "
                        "their input (an answer is never cut), or are an error"},
                    {"task", &o.task, "NAME", "instruct: name of the task of rows that name none"},
                    {"show", &o.show, at_least(0),
                        "instruct: print the first N rows, decoded, with what is supervised in brackets"},
                    {"on-error", &o.bad_rows.on_error, "skip|stop",
                        "classify, instruct: what happens to rows that cannot be used: they are named, counted and "
                        "left out, and "
                        "the "
                        "exit code is 1 in the end; or the first of them ends it, and nothing is written"},
                    {"out", &o.out, "FILE.bin", "the packed file"}}},
            {"Labelled texts", "pack rows", labelled_flags(o)},
            {"Rows", "rows",
                {{"name", &o.in, "NAME", "what standard input is called, which is read for the file -"},
                    {"objects", &o.json, "the objects of JSON files as they are"}}}},
        true, "", {}};
    return run_program([&] {
        check_threads();
        if (!cli.parse(argc, argv)) return EXIT_OK;
        if (cli.command == "learn") learn(o, cli);
        if (cli.command == "encode" || cli.command == "decode") {
            require(o.tokenizer, cli.command.c_str(), "--tokenizer DIR");
            const Tokenizer tokenizer = Tokenizer::load(tokenizer_dir(o.tokenizer));
            cli.command == "encode" ? encode(o, tokenizer) : decode(o, tokenizer);
        }
        if (cli.command == "pack") pack(o, cli);
        if (cli.command == "rows") {
            std::vector<LabelledSource> sources = labelled_sources(o, cli.positional);
            if (sources.empty()) fail_usage("data/tokenize rows: expected FILE or --class LABEL=FILE, found neither");
            for (LabelledSource& source : sources)
                if (source.path == "-") source = {o.in, source.label, false, stdin};
            print_rows(o, sources, o.json);
        }
        flush_output();
        return EXIT_OK;
    });
}
