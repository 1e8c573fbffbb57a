// tokenize.h: what the commands of data/tokenize have in common: their options, progress on the console, files and
// tokenizers.
#pragma once
#include <omp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>

#include "common/text/tokenizer.h"
#include "data/labelled_sources.h"

struct Options {
    std::string type = "wordpiece", out, tokenizer, kind = "text", in, documents = "eot", labels;
    std::string templ = "auto", task = "all", overlong = "drop";
    LabelledColumns columns;
    std::vector<std::string> classes;  // --class LABEL=FILE
    BadRows bad_rows;
    int64_t size = 8192, shots = -1, max_len = 0, show = 0;
    bool lower_case = true, json = false, specials_as_text = false, add_special_tokens = false;
    bool skip_special_tokens = false;
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
        double part = total > 0 ? std::min(1.0, done / total) : 0;  // that is done
        double left = elapsed() * (1 - part) / part;
        std::string line = part > 0 ? format("%s: %3.0f %%, %.0f s left", what.c_str(), 100 * part, left)
                                    : format("%s: %.0f s", what.c_str(), elapsed());
        fprintf(stderr, terminal ? "\r%-70s" : "%s\n", line.c_str());
    }
    ~Progress() {
        if (terminal && last != start) fprintf(stderr, "\r%70s\r", "");
    }
};

// ---------------------------------------------------------------- files
inline double total_size(const std::vector<std::string>& files) {
    double total = 0;
    struct stat st;
    for (const std::string& f : files) {
        if (stat(f.c_str(), &st) != 0) fail("cannot read %s: %s", f.c_str(), strerror(errno));
        total += st.st_size;
    }
    return total;
}

inline void make_directory_of(const std::string& path) {
    size_t slash = path.rfind('/');
    if (slash != path.npos && slash > 0) make_directories(path.substr(0, slash));
}

// ---------------------------------------------------------------- tokenizers
// Of DIR, DIR/best and DIR/last the first that holds a tokenizer: DIR may be a run of train_bert or train_gpt.
inline std::string tokenizer_dir(const std::string& dir) {
    for (const std::string& d : {dir, dir + "/best", dir + "/last"})
        for (const char* name : {"vocab.txt", "vocab.json", "encoder.json", "tokenizer.json"})
            if (exists(d + "/" + name)) return d;
    return dir;
}

// The longest input of the model in `dir`, in tokens; 0: there is no model
inline int64_t longest_input(const std::string& dir, const char* key) {
    const std::string path = dir + "/config.json";
    const Json config = exists(path) ? parse_json(read_file(path), path) : Json();
    const Json *positions = config.find(key), *type = config.find("model_type"), *pad = config.find("pad_token_id");
    const bool roberta = type && type->s == "roberta";  // its positions begin after that of the padding
    return positions && positions->kind == Json::integer ? positions->i - (roberta ? 1 + (pad ? pad->i : 1) : 0) : 0;
}

inline void report_invalid(size_t invalid, bool kept) {
    if (invalid)
        fprintf(stderr, "warning: %zu bytes of the input are not UTF-8 and were %s\n", invalid,
            kept ? "kept as they are" : "dropped");
}

inline void warn_of_unknown(double unknown, double tokens, const std::string& tokenizer) {
    if (unknown > 0.05 * tokens)
        fprintf(stderr,
            "warning: %.0f %% of the tokens are [UNK]: the tokenizer of %s does not know this text, learn one from "
            "it\n",
            100 * unknown / tokens, tokenizer.c_str());
}
