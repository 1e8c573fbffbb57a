// instruct_rows.h: rows of instructions, and the template that turns them into tokens. The same code renders the rows
// that are learned and the prompts that are answered, so that they cannot differ.
//
// A file is JSONL, an object per line, in one of three forms; other keys are ignored:
//
//   {"instruction": "Name the first fruit.", "input": "pear, fig", "output": "pear"}
//   {"prompt": "Name a fruit.", "completion": "pear"}                           the same as an instruction without
//   input
//   {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}, ...]}     only what the
//   assistant says is learned;
//                                                                               a "system" message may come first
// with, where wanted,
//   "output": ["pear", "a pear"]     several references: the first is learned, evaluation takes any
//   "task": "lists/first"            a name, perhaps with its family before a slash
//   "options": ["pear", "fig"]       the answers to choose from
//   "examples": [{"input": "kiwi, plum", "output": "kiwi"}, ...]                  shown behind the instruction: as many
//   as --shots says
//
// A template is plain text in the model's own vocabulary (no new tokens), with {instruction}, {input} and, at its end,
// {output}:
//
//   text            for rows with an input
//   without_input   for rows without one
//   example         what one of the examples looks like, with {input} and {output}; it is put behind the instruction,
//   before the input
//
// A file is such texts as .json, or plain text: "text" alone. Then "without_input" is what remains without the
// paragraph or line of {input}, and there is no "example", so that rows can show none. With it travels how many of a
// row's examples were shown ("shots"), so that who asks the model shows as many unless told otherwise. All before
// {output} is the prompt, {output} the answer, and <|endoftext|> ends it. The two are encoded apart, so what is learned
// is known by construction. A space before {output} belongs to the answer, since byte-level BPE joins a space with the
// word behind it: "answer: {output}" gives the tokens "answer" ":" and " yes". Later turns of a conversation are
// rendered in the same way, one behind the other.
// <|endoftext|> in a row's text is text: it never becomes the special token.
#pragma once
#include "common/data/bin_file.h"
#include "common/text/bpe.h"
#include "common/text/labelled_rows.h"

// ---------------------------------------------------------------- rows
struct Turn {
    std::string instruction, input, output;
};
struct WorkedExample {
    std::string input, output;
};
struct InstructRow {
    std::string task;                  // "": the row names none
    std::string system;                // put before the first instruction, with an empty line between them
    std::vector<Turn> turns;           // the last one's output is outputs[0]
    std::vector<std::string> outputs;  // references; none: there is nothing to learn
    std::vector<std::string> options;
    std::vector<WorkedExample> examples;
    std::string where;  // "FILE, line N", for errors
    Json json;          // all that was given, of rows that may come without an answer
};

struct InstructFile {
    LineReader lines;
    bool need_output;

    // need_output: else rows may come without an answer, to be answered
    InstructFile(const std::string& path, bool need_output) : lines(path), need_output(need_output) {}
    explicit InstructFile(FILE* open) : lines(open, "standard input"), need_output(false) {}
    size_t bytes() const { return lines.bytes; }  // read so far

    // The next row, or false at the end of the file
    bool next(InstructRow& row) {
        Json json;
        if (!lines.next_object(json)) return false;
        row = {};
        row.where = format("%s, line %zu", lines.path.c_str(), lines.number);
        const char* forms[] = {"instruction", "prompt", "messages"};
        int n = 0;
        for (const char* form : forms) n += json.find(form) != nullptr;
        if (n == 0) lines.bad_keys(json, "\"instruction\", \"prompt\" or \"messages\"");
        if (n > 1) lines.bad_keys(json, "one of \"instruction\", \"prompt\" and \"messages\"");
        if (json.find("messages"))
            read_messages(json, row);
        else if (json.find("prompt"))
            read_turn(json, "prompt", nullptr, "completion", row);
        else
            read_turn(json, "instruction", "input", "output", row);
        if (!row.outputs.empty()) row.turns.back().output = row.outputs[0];

        if (given(json, "task")) {
            row.task = trimmed(text(json, "task"));
            if (size_t slash = row.task.find('/'); slash != row.task.npos)
                row.task = trimmed(row.task.substr(0, slash)) + "/" + trimmed(row.task.substr(slash + 1));
            if (row.task.empty()) bad("expected a name in \"task\", found nothing");
            for (unsigned char c : row.task)
                if (c < 32 || c == 127) bad("expected a task without control characters, found " + start_of(row.task));
        }
        if (const Json* options = given(json, "options")) {
            row.options = texts(*options, "options");
            for (const std::string& option : row.options) {
                if (blank(option)) bad("expected texts in \"options\", found an empty one");
                if (std::count(row.options.begin(), row.options.end(), option) > 1)
                    bad("expected different options, found " + start_of(option) + " twice");
            }
            if (row.options.size() < 2) bad(format("expected at least two options, found %zu", row.options.size()));
            for (const std::string& output : row.outputs)
                if (std::find(row.options.begin(), row.options.end(), output) == row.options.end())
                    bad("expected one of the options as output, found " + start_of(output));
        }
        if (const Json* examples = given(json, "examples")) {
            if (examples->kind != Json::array)
                bad("expected a list in \"examples\", found " + start_of(dump_json(*examples)));
            for (const Json& example : examples->a) {
                if (example.kind != Json::object || !example.find("output"))
                    bad("expected examples {\"input\": ..., \"output\": ...}, found " + start_of(dump_json(example)));
                row.examples.push_back(
                    {given(example, "input") ? text(example, "input") : "", text(example, "output")});
                if (blank(row.examples.back().output))
                    bad("expected an \"output\" in every example, found an empty one");
            }
        }
        if (!need_output) row.json = std::move(json);
        return true;
    }

private:
    [[noreturn]] void bad(const std::string& what) const { lines.bad(lines.number, what); }
    static const Json* given(const Json& json, const char* key) {  // null is as if it were not there
        const Json* value = json.find(key);
        return value && value->kind != Json::null ? value : nullptr;
    }
    const std::string& checked(const Json& value, const char* key) const {
        if (value.kind != Json::string)
            bad(format("expected a string for \"%s\", found ", key) + start_of(dump_json(value)));
        if (value.s.find('\0') != value.s.npos) bad(format("expected text in \"%s\", found a NUL character", key));
        return value.s;
    }
    const std::string& text(const Json& json, const char* key) const {
        const Json* value = json.find(key);
        if (!value) lines.bad_keys(json, "\"" + std::string(key) + "\"");
        return checked(*value, key);
    }
    std::vector<std::string> texts(const Json& list, const char* key) const {
        if (list.kind != Json::array)
            bad(format("expected a list of strings for \"%s\", found ", key) + start_of(dump_json(list)));
        std::vector<std::string> found;
        for (const Json& value : list.a) found.push_back(checked(value, key));
        return found;
    }
    void read_turn(const Json& json, const char* instruction, const char* input, const char* output,
                   InstructRow& row) const {
        row.turns.push_back({text(json, instruction), input && given(json, input) ? text(json, input) : "", ""});
        if (blank(row.turns[0].instruction)) bad(format("expected a text in \"%s\", found nothing", instruction));
        if (blank(row.turns[0].input)) row.turns[0].input.clear();
        const Json* value = json.find(output);
        if (!value && need_output) lines.bad_keys(json, "\"" + std::string(output) + "\"");
        if (!value || (value->kind == Json::null && !need_output)) return;
        if (value->kind == Json::array)
            row.outputs = texts(*value, output);
        else
            row.outputs.push_back(checked(*value, output));
        row.outputs.erase(std::remove_if(row.outputs.begin(), row.outputs.end(), blank), row.outputs.end());
    }
    void read_messages(const Json& json, InstructRow& row) const {
        const Json& list = *json.find("messages");
        if (list.kind != Json::array || list.a.empty())
            bad("expected a list of messages, found " + start_of(dump_json(list)));
        bool answered = true;  // whose turn is it?
        for (size_t i = 0; i < list.a.size(); i++) {
            const Json& message = list.a[i];
            if (message.kind != Json::object)
                bad(format("message %zu: expected {\"role\": ..., \"content\": ...}, found ", i + 1) +
                    start_of(dump_json(message)));
            const std::string &role = text(message, "role"), &content = text(message, "content");
            if (role == "system" && i == 0) {
                row.system = content;
                continue;
            }
            const char* expected = answered ? "user" : "assistant";
            if (role != expected)
                bad(format("message %zu: expected the role %s, found %s", i + 1, expected, start_of(role).c_str()));
            answered = !answered;
            bool last = i + 1 == list.a.size();
            if (blank(content) && !(last && answered))
                bad(format("message %zu: expected a text, found nothing", i + 1));
            if (!answered)
                row.turns.push_back({content, "", ""});
            else if (!last)
                row.turns.back().output = content;
            else if (!blank(content))
                row.outputs = {content};
        }
        if (row.turns.empty() || (need_output && !answered))
            bad("expected messages that end with the assistant's, found the last of the role " +
                start_of(list.a.back().find("role")->s));
    }
};

// What evaluation knows of a row besides its tokens: the text of a sequence in a .bin
struct InstructText {
    std::string input;  // of the last turn; its instruction where it has no input: what copying the input would answer
    std::vector<std::string> outputs, options;
};
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
inline InstructText parse_instruct_text(const BinFile& file, size_t s) {
    const std::string where = format("%s, text of row %zu", file.path.c_str(), s);
    Json json = parse_json(file.text(s), where);
    const Json *input = json.find("input"), *outputs = json.find("outputs"), *options = json.find("options");
    auto texts = [&](const Json* list) {
        std::vector<std::string> found;
        for (const Json& text : list->a) found.push_back(text.s);
        return found;
    };
    if (!input || input->kind != Json::string || !outputs || outputs->a.empty())
        fail("%s: expected \"input\" and \"outputs\", found %.80s; pack the data again", where.c_str(),
             dump_json(json).c_str());
    return {input->s, texts(outputs), options ? texts(options) : std::vector<std::string>()};
}

// ---------------------------------------------------------------- templates
struct Template {
    std::string name, text, without_input, example;
    int64_t shots = 0;

    static Template alpaca() {  // Taori et al. 2023, byte for byte; the line of the examples is ours
        return {"alpaca",
                "Below is an instruction that describes a task, paired with an input that provides further context. "
                "Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### "
                "Input:\n{input}\n\n### Response:{output}",
                "Below is an instruction that describes a task. "
                "Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### "
                "Response:{output}",
                "\n\n### Example input:\n{input}\n\n### Example response:\n{output}", 0};
    }
    static Template short_one() {  // for tiny models: few tokens, and a marker that toy worlds have in their text
        return {"short", "{instruction}\n{input}\nanswer : {output}", "{instruction}\nanswer : {output}",
                "\n{input}\nanswer : {output}", 0};
    }
    // "alpaca", "short", or a file: text with the placeholders, or .json as json() writes it
    static Template load(const std::string& name) {
        if (name == "alpaca") return alpaca();
        if (name == "short") return short_one();
        if (!exists(name)) fail_usage("--template: expected alpaca, short or a file, found %s", name.c_str());
        std::string text = read_file(name);
        size_t at = invalid_utf8(text);
        if (at != text.npos)
            fail("%s: expected UTF-8, found the byte 0x%02x; convert the file first", name.c_str(),
                 (unsigned char)text[at]);
        if (name.size() > 5 && name.compare(name.size() - 5, 5, ".json") == 0)
            return from_json(parse_json(text, name), name);
        for (size_t i = 0; (i = text.find("\r\n", i)) != text.npos;) text.erase(i, 1);
        while (!text.empty() && text.back() == '\n') text.pop_back();
        size_t slash = name.rfind('/'), begin = slash == name.npos ? 0 : slash + 1;
        Template t = {name.substr(begin, name.find('.', begin + 1) - begin), text, without_its_part(text), "", 0};
        t.check(name);
        return t;
    }
    static Template from_json(const Json& json, const std::string& where) {
        Template t;
        for (auto [key, to] : {std::pair<const char*, std::string*>{"name", &t.name},
                               {"text", &t.text},
                               {"without_input", &t.without_input},
                               {"example", &t.example}}) {
            const Json* value = json.find(key);
            if (!value || value->kind != Json::string)
                fail("%s: expected a template {\"name\", \"text\", \"without_input\", \"example\"}, found %s",
                     where.c_str(), value ? "something else than a string" : format("no \"%s\"", key).c_str());
            *to = value->s;
        }
        if (const Json* shots = json.find("shots")) {
            if (shots->kind != Json::integer || shots->i < 0 || shots->i > 2)
                fail("%s: expected \"shots\" from 0 to 2, found %s", where.c_str(), dump_json(*shots).c_str());
            t.shots = shots->i;
        }
        t.check(where);
        return t;
    }
    Json json() const {
        return Json()
            .set("name", name)
            .set("text", text)
            .set("without_input", without_input)
            .set("example", example)
            .set("shots", shots);
    }
    uint64_t fingerprint() const { return template_fingerprint(json()); }
    bool has_input() const { return text.find("{input}") != text.npos; }

    void check(const std::string& where) const {
        check_one(where, "", text, {"instruction", "output"}, {"input"});
        check_one(where, "without_input: ", without_input, {"instruction", "output"}, {});
        if (!example.empty()) check_one(where, "example: ", example, {"output"}, {"input"});
        const std::string_view last = "{output}";
        for (const std::string* t : {&text, &without_input})
            if (t->size() < last.size() || std::string_view(*t).substr(t->size() - last.size()) != last)
                fail("%s: expected {output} at the end of the template, found %s behind it", where.c_str(),
                     start_of(t->substr(t->find(last) + last.size())).c_str());
        bool space[2];
        before_output(true, space[0]);
        before_output(false, space[1]);
        if (space[0] != space[1])
            fail("%s: expected a space before {output} with and without input, or none in both, found it in one",
                 where.c_str());
    }

    // The text with its placeholders filled. What is put in is not looked at again: "{input}" in an instruction stays
    // as it is.
    static std::string fill(std::string_view text, const std::string& instruction, const std::string& input,
                            const std::string& output) {
        std::string out;
        for (size_t at = 0; at < text.size();) {
            auto is = [&](std::string_view name) { return text.substr(at, name.size()) == name; };
            const std::string* value = is("{instruction}") ? &instruction
                                       : is("{input}")     ? &input
                                       : is("{output}")    ? &output
                                                           : nullptr;
            if (value) {
                out += *value;
                at = text.find('}', at) + 1;
            } else
                out += text[at++];
        }
        return out;
    }
    // A template's text for a row without input: without the paragraph of {input}, "### Input:\n{input}", if nothing
    // else is to be filled in there, else without its line, "Input: {input}", if nothing else is, else without {input}
    // and the spaces before it.
    static std::string without_its_part(const std::string& t) {
        const std::string_view name = "{input}";
        const size_t at = t.find(name);
        if (at == t.npos) return t;
        for (std::string_view separator : {"\n\n", "\n"}) {
            size_t before = at == 0 ? t.npos : t.rfind(separator, at - 1), behind = t.find(separator, at);
            size_t begin = before == t.npos ? 0 : before, end = behind == t.npos ? t.size() : behind;
            std::string_view part = std::string_view(t).substr(begin, end - begin);
            if (part.find("{instruction}") != part.npos || part.find("{output}") != part.npos) continue;
            if (before == t.npos && behind != t.npos) end += separator.size();  // the first: what follows comes first
            if (separator.size() == 2)
                begin = begin == 0 ? 0 : t.find_last_not_of(" \t\n", begin - 1) + 1;  // more empty lines before it
            return t.substr(0, begin) + t.substr(end);
        }
        return t.substr(0, at == 0 ? 0 : t.find_last_not_of(" \t", at - 1) + 1) + t.substr(at + name.size());
    }
    // The text before {output}, and whether a space was before it: that is the answer's
    std::string_view before_output(bool input, bool& space) const {
        const std::string& t = input ? text : without_input;
        std::string_view prompt = std::string_view(t).substr(0, t.size() - strlen("{output}"));
        space = !prompt.empty() && prompt.back() == ' ';
        if (space) prompt.remove_suffix(1);
        return prompt;
    }
    // What a model has generated, without the space that the template puts before an answer
    static std::string_view answer_of(std::string_view generated) {
        return !generated.empty() && generated[0] == ' ' ? generated.substr(1) : generated;
    }

private:
    static void check_one(const std::string& where, const char* which, const std::string& t,
                          const std::vector<std::string>& needed, const std::vector<std::string>& allowed) {
        for (size_t at = 0; (at = t.find('{', at)) != t.npos; at++) {
            size_t end = t.find_first_not_of("abcdefghijklmnopqrstuvwxyz_", at + 1);
            if (end == t.npos || t[end] != '}' || end == at + 1) continue;  // a brace of the user's
            std::string name = t.substr(at + 1, end - at - 1);
            if (std::find(needed.begin(), needed.end(), name) == needed.end() &&
                std::find(allowed.begin(), allowed.end(), name) == allowed.end())
                fail("%s: %sexpected a template with {instruction}, {input} and {output} at most, found {%s} in it",
                     where.c_str(), which, name.c_str());
        }
        for (const std::string& name : needed)
            if (t.find("{" + name + "}") == t.npos)
                fail("%s: %sexpected a template with {%s}, found none in %s", where.c_str(), which, name.c_str(),
                     start_of(t).c_str());
        for (const char* name : {"{instruction}", "{input}", "{output}"})
            if (t.find(name) != t.rfind(name))
                fail("%s: %sexpected a template with one %s, found two", where.c_str(), which, name);
        if (t.find(Bpe::eot_name) != t.npos)
            fail("%s: %sexpected a template without %s, which ends every answer by itself, found it", where.c_str(),
                 which, Bpe::eot_name);
    }
};

// ---------------------------------------------------------------- rows → pieces → tokens
// Prompts and answers take turns. An answer is supervised and <|endoftext|> follows it.
struct Piece {
    std::string text;
    bool answer;
};
// with_answer: else the last piece is the prompt of the last turn, to be answered
inline std::vector<Piece> render(const Template& templ, const InstructRow& row, size_t shots, bool with_answer) {
    std::vector<Piece> pieces;
    for (size_t i = 0; i < row.turns.size(); i++) {
        const Turn& turn = row.turns[i];
        std::string instruction = i == 0 && !row.system.empty() ? row.system + "\n\n" + turn.instruction
                                                                : turn.instruction;
        if (i + 1 == row.turns.size())
            for (size_t k = 0; k < std::min(shots, row.examples.size()); k++) {
                if (templ.example.empty())
                    fail(
                        "%s: expected a template with \"example\", which says what a worked example looks like, found "
                        "none in %s: write it as .json, or take --shots 0",
                        row.where.c_str(), templ.name.c_str());
                const WorkedExample& e = row.examples[k];
                instruction += Template::fill(
                    blank(e.input) ? Template::without_its_part(templ.example) : templ.example, "", e.input, e.output);
            }
        if (!turn.input.empty() && !templ.has_input())
            fail("%s: expected a template with {input}, since this row has one, found the template %s without it",
                 row.where.c_str(), templ.name.c_str());
        bool space;
        std::string_view prompt = templ.before_output(!turn.input.empty(), space);
        pieces.push_back({Template::fill(prompt, instruction, turn.input, ""), false});
        if (with_answer || i + 1 < row.turns.size()) pieces.push_back({(space ? " " : "") + turn.output, true});
    }
    return pieces;
}

// Tokens of a row, and which of them are to be learned; of a prompt: spans holds earlier answers only
struct RenderedRow {
    std::vector<int32_t> ids;
    std::vector<BinSpan> spans;
    size_t supervised() const {
        size_t n = 0;
        for (const BinSpan& s : spans) n += s.end - s.begin;
        return n;
    }
};
inline void encode_pieces(const Bpe& bpe, const std::vector<Piece>& pieces, RenderedRow& out) {
    out.ids.clear();
    out.spans.clear();
    for (const Piece& piece : pieces) {
        size_t begin = out.ids.size();
        bpe.encode(piece.text, out.ids, false);
        if (!piece.answer) continue;
        out.ids.push_back(bpe.eot());
        out.spans.push_back({(uint32_t)begin, (uint32_t)out.ids.size()});
    }
}

// What had to go so that a row fits into max_len tokens
struct Shortened {
    bool fits = true;
    bool examples = false, turns = false,
         input = false;      // worked examples were left out; earlier turns; the end of the input was cut off
    size_t input_bytes = 0;  // that are left of it
    bool cut() const { return examples || turns || input; }
};
// Renders a row into at most max_len tokens (0: any number). What is too long loses, with `truncate`, first its worked
// examples, the last one first, then its earliest turns, then the end of its input. An answer, its end token, an
// instruction are never cut: such a row does not fit.
inline Shortened render_row(const Bpe& bpe, const Template& templ, const InstructRow& row, size_t shots,
                            bool with_answer, size_t max_len, bool truncate, RenderedRow& out) {
    Shortened s;
    auto fits = [&](const InstructRow& r) {
        encode_pieces(bpe, render(templ, r, shots, with_answer), out);
        return max_len == 0 || out.ids.size() <= max_len;
    };
    if (fits(row)) return s;
    s.fits = false;
    if (!truncate) return s;
    shots = std::min(shots, row.examples.size());
    while (!s.fits && shots > 0) {
        shots--;
        s.examples = true;
        s.fits = fits(row);
    }
    InstructRow less = row;
    while (!s.fits && less.turns.size() > 1) {
        less.turns.erase(less.turns.begin());
        s.turns = true;
        s.fits = fits(less);
    }
    if (s.fits) return s;
    const std::string whole = less.turns.back().input;
    std::vector<size_t> ends;  // where the input can be cut: behind a character
    for (size_t i = 1; i < whole.size(); i++)
        if ((whole[i] & 0xC0) != 0x80) ends.push_back(i);
    size_t good = 0;  // the longest that is known to fit, as a number of ends; fewer characters may give a token more,
                      // so what is taken was tried
    for (size_t lo = 1, hi = ends.size(); lo <= hi;) {
        size_t middle = (lo + hi) / 2;
        less.turns.back().input = whole.substr(0, ends[middle - 1]);
        if (fits(less)) {
            good = middle;
            lo = middle + 1;
        } else
            hi = middle - 1;
    }
    if (good == 0) return s;
    less.turns.back().input = whole.substr(0, ends[good - 1]);
    s.fits = fits(less);
    s.input = true;
    s.input_bytes = ends[good - 1];
    return s;
}

// A row of a .bin as text, with what is supervised in brackets: "... Response:⟦pear<|endoftext|>⟧"
inline std::string show_row(const BinFile& file, const Bpe& bpe, size_t s) {
    std::string out;
    size_t at = 0, supervised = 0;
    auto add = [&](size_t end) {
        for (; at < end; at++) {
            int32_t id = file.token(s, at);
            out += bpe.decode(&id, 1);
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
                  file.tasks[file.task(s)].c_str(), file.length(s), supervised) +
           out + "\n";
}
