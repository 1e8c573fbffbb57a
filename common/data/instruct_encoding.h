// instruct_encoding.h: how a row of instructions is stored in a .bin of kind instruct: its tokens, which of them are
// supervised, and the texts that evaluation needs. Both `data/tokenize pack` and prompts are encoded here.
#pragma once
#include "common/data/bin_file.h"
#include "common/text/chat_template.h"

// ---------------------------------------------------------------- tokens
// Tokens of a row, and which of them are to be learned; of a prompt: spans holds earlier answers only
struct RenderedRow {
    std::vector<int32_t> ids;
    std::vector<BinSpan> spans;
};
// The ids of the segments, one after the other; what is supervised of them becomes spans. In plain text each segment is
// encoded by itself, and <|endoftext|> ends an answer. Where there is markup, the text between two special tokens is
// encoded as a whole, an answer begins with the first id that has a byte of it, and the next special token ends it.
inline void encode_segments(const Tokenizer& bpe, const std::vector<Segment>& segments, RenderedRow& out) {
    out.ids.clear();
    out.spans.clear();
    const bool plain = std::none_of(segments.begin(), segments.end(), [](const Segment& s) { return s.is_markup; });
    std::string text;            // that is not encoded yet
    size_t answer = text.npos;   // where in it an answer begins
    size_t begin = 0, open = 0;  // the first id of an answer; is there one that has not ended?
    auto encode_text = [&] {
        const size_t first = out.ids.size();
        bpe.encode(text, out.ids, SPECIALS_AS_TEXT);
        if (answer != text.npos) {
            const std::vector<int32_t> before = bpe.encode(text.substr(0, answer), SPECIALS_AS_TEXT);
            size_t bytes = bpe.decode(before.data(), before.size(), false).size();
            for (begin = first; begin < out.ids.size(); begin++) {
                const size_t n = bpe.decode(&out.ids[begin], 1, false).size();
                if (n > bytes) break;
                bytes -= n;
            }
            open = 1;
        }
        answer = text.npos;
        text.clear();
    };
    auto add_special = [&](int32_t id) {
        encode_text();
        out.ids.push_back(id);
        if (open) out.spans.push_back({(uint32_t)begin, (uint32_t)out.ids.size()});
        open = 0;
    };
    for (const Segment& segment : segments) {
        if (plain) encode_text();
        if (segment.is_answer) answer = text.size();
        if (segment.is_markup) bpe.each_added(segment.text, [&](std::string_view part) { text += part; }, add_special);
        else text += segment.text;
        if (plain && segment.is_answer) add_special(bpe.eot());
    }
    encode_text();
}
// The token that ends an answer, at which generation stops
inline int32_t end_token(const Tokenizer& bpe, const ChatTemplate& templ) {
    if (!templ.is_chat()) return bpe.eot();
    int32_t end = -1;
    const std::string after = around_text(templ.turns.assistant).second;
    bpe.each_added(after, [](std::string_view) {}, [&](int32_t id) { end = end < 0 ? id : end; });
    if (end < 0)
        fail(
            "template %s: expected a special token of the tokenizer after {text} of the assistant, which ends an "
            "answer, found none in %s",
            templ.name.c_str(), start_of(after).c_str());
    return end;
}
// What goes before a row's tokens: in plain text what begins every text in pretraining; a chat's turns bring theirs.
inline std::vector<int32_t> row_start(const Tokenizer& bpe, const ChatTemplate& templ) {
    return templ.is_chat() ? std::vector<int32_t>{} : std::vector<int32_t>{bpe.bos()};
}

// What had to go so that a row fits into max_len tokens
struct Truncation {
    bool fits = true;
    bool examples = false;   // few-shot examples were left out
    bool turns = false;      // earlier turns were left out
    bool input = false;      // the end of the input was cut off
    size_t input_bytes = 0;  // that are left of it
    bool cut() const { return examples || turns || input; }
};
// Renders a row into at most max_len tokens (0: any number). What is too long loses, with `truncate`, first its
// few-shot examples, the last one first, then its earliest turns, then the end of its input. An answer, its end token,
// an instruction are never cut: such a row does not fit.
inline Truncation render_row(const Tokenizer& bpe, const ChatTemplate& templ, const InstructRow& row, size_t shots,
    bool with_answer, size_t max_len, bool truncate, RenderedRow& out) {
    Truncation result;
    auto fits = [&](const InstructRow& r) {
        encode_segments(bpe, render(templ, r, shots, with_answer), out);
        return max_len == 0 || out.ids.size() <= max_len;
    };
    if (fits(row)) return result;
    result.fits = false;
    if (!truncate) return result;
    shots = std::min(shots, row.examples.size());
    for (; !result.fits && shots > 0; result.fits = fits(row)) {
        shots--;
        result.examples = true;
    }
    InstructRow less = row;
    for (; !result.fits && less.turns.size() > 1; result.fits = fits(less)) {
        less.turns.erase(less.turns.begin());
        result.turns = true;
    }
    if (result.fits) return result;
    const std::string whole = less.turns.back().input;
    std::vector<size_t> ends;  // where the input can be cut: after a character
    for (size_t i = 1; i < whole.size(); i++)
        if ((whole[i] & 0xC0) != 0x80) ends.push_back(i);
    // the longest known to fit, as a number of ends; fewer characters may be more tokens: only what was tried is taken
    size_t good = 0;
    for (size_t lo = 1, hi = ends.size(); lo <= hi;) {
        size_t middle = (lo + hi) / 2;
        less.turns.back().input = whole.substr(0, ends[middle - 1]);
        if (fits(less)) {
            good = middle;
            lo = middle + 1;
        } else {
            hi = middle - 1;
        }
    }
    if (good == 0) return result;
    less.turns.back().input = whole.substr(0, ends[good - 1]);
    result.fits = fits(less);
    result.input = true;
    result.input_bytes = ends[good - 1];
    return result;
}

// The tokens of row s up to its last answer, after row_start(): what a model is given to answer it
inline std::vector<int> row_prompt(const BinFile& file, size_t s, std::vector<int> ids) {
    for (size_t i = 0; i < file.span(s, file.spans(s) - 1).begin; i++) ids.push_back(file.token(s, i));
    return ids;
}

// ---------------------------------------------------------------- texts
// What evaluation knows of a row besides its tokens
struct InstructText {
    std::string input;  // of the last turn; its instruction where it has no input: what copying the input would answer
    std::vector<std::string> outputs, options;
};
// Back from the JSON that stands in the .bin (data/instruct_text.h)
inline InstructText parse_instruct_text(const BinFile& file, size_t s) {
    const std::string where = format("%s, text of row %zu", file.path.c_str(), s);
    const Json json = parse_json(file.text(s), where), *input = json.find("input");
    auto texts = [&](const char* key) {
        std::vector<std::string> found;
        if (const Json* list = json.find(key))
            for (const Json& text : list->a) found.push_back(text.s);
        return found;
    };
    const InstructText text = {input ? input->s : "", texts("outputs"), texts("options")};
    if (!input || input->kind != Json::string || text.outputs.empty())
        fail("%s: expected \"input\" and \"outputs\", found %.80s; pack the data again", where.c_str(),
            dump_json(json).c_str());
    return text;
}
