// instruct_text.h: what a .bin of kind instruct says of a row besides its tokens, and a row as people read it.
#pragma once
#include "common/data/instruct_encoding.h"

// The JSON that stands in the .bin for a row; parse_instruct_text() reads it
inline std::string dump_instruct_text(const InstructRow& row) {
    auto list = [](const std::vector<std::string>& texts) {
        Json all = Json::make_array();
        for (const std::string& text : texts) all.a.push_back(text);
        return all;
    };
    Json json;
    json.set("input", row.turns.back().input.empty() ? row.turns.back().instruction : row.turns.back().input)
        .set("outputs", list(row.outputs));
    if (!row.options.empty()) json.set("options", list(row.options));
    return dump_json(json);
}

inline size_t count_supervised(const std::vector<BinSpan>& spans) {  // tokens
    size_t n = 0;
    for (const BinSpan& s : spans) n += s.end - s.begin;
    return n;
}
// A row of a .bin as text, with what is supervised in brackets: "... Response:⟦pear<|endoftext|>⟧"
inline std::string show_row(const BinFile& file, const Tokenizer& bpe, size_t s) {
    std::string out;
    size_t at = 0, supervised = 0;
    auto add = [&](size_t end) {
        for (; at < end; at++) {
            int32_t id = file.token(s, at);
            out += bpe.decode(&id, 1, at == 0);
        }
    };
    for (size_t i = 0; i < file.spans(s); i++) {
        BinSpan span = file.span(s, i);
        add(span.begin);
        out += "\u27e6";
        add(span.end);
        out += "\u27e7";
        supervised += span.end - span.begin;
    }
    add(file.length(s));
    return format("---- row %zu of %zu, task %s, %zu tokens, %zu supervised\n", s + 1, file.sequences(),
               file.tasks[file.task[s]].c_str(), file.length(s), supervised) +
           out + "\n";
}
