// chat_template.h: the template that turns rows of instructions into the text that a model reads. The same code renders
// the rows that are learned and the prompts that are answered, so that they cannot differ.
//
// A template is plain text in the model's own vocabulary (no new tokens), with {instruction}, {input} and, at its end,
// {output}:
//
//   text            for rows with an input
//   without_input   for rows without one
//   example         one of the few-shot examples, with {input} and {output}; it goes between instruction and input
//
// A file is such texts as .json, or plain text: "text" alone. Then "without_input" is what remains without the
// paragraph or line of {input}, and there is no "example", so that rows can show none. With it travels how many of a
// row's examples were shown ("shots"): prompts show as many unless told otherwise. All before {output} is the prompt,
// {output} the answer, and <|endoftext|> ends it. The two are encoded apart, so what is learned is known by
// construction. A space before {output} belongs to the answer, since byte-level BPE joins a space with the word after
// it: "answer: {output}" gives the tokens "answer" ":" and " yes". Later turns of a conversation are rendered in the
// same way, one after the other. <|endoftext|> in a row's text is text: it never becomes the special token.
#pragma once
#include "common/text/bpe.h"
#include "common/text/instruct_rows.h"

struct ChatTemplate {
    std::string name, text, without_input, example;
    int64_t shots = 0;

    static ChatTemplate alpaca() {  // Taori et al. 2023, byte for byte; the line of the examples is ours
        return {"alpaca",
                "Below is an instruction that describes a task, paired with an input that provides further context. "
                "Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### "
                "Input:\n{input}\n\n### Response:{output}",
                "Below is an instruction that describes a task. "
                "Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### "
                "Response:{output}",
                "\n\n### Example input:\n{input}\n\n### Example response:\n{output}", 0};
    }
    static ChatTemplate short_one() {  // for tiny models: few tokens, and a marker that toy worlds have in their text
        return {"short", "{instruction}\n{input}\nanswer : {output}", "{instruction}\nanswer : {output}",
                "\n{input}\nanswer : {output}", 0};
    }
    // "alpaca", "short", or a file: text with the placeholders, or .json as json() writes it
    static ChatTemplate load(const std::string& name) {
        if (name == "alpaca") return alpaca();
        if (name == "short") return short_one();
        if (!exists(name)) fail_usage("--template: expected alpaca, short or a file, found %s", name.c_str());
        std::string text = read_text(name);
        if (name.size() > 5 && name.compare(name.size() - 5, 5, ".json") == 0)
            return from_json(parse_json(text, name), name);
        std::string lines;
        for (size_t i = 0; i < text.size(); i++)
            if (text.compare(i, 2, "\r\n") != 0) lines += text[i];
        text.swap(lines);
        while (!text.empty() && text.back() == '\n') text.pop_back();
        size_t slash = name.rfind('/'), begin = slash == name.npos ? 0 : slash + 1;
        ChatTemplate t = {name.substr(begin, name.find('.', begin + 1) - begin), text, without_input_part(text), "", 0};
        t.check(name);
        return t;
    }
    static ChatTemplate from_json(const Json& json, const std::string& where) {
        ChatTemplate t;
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
    bool has_input() const { return text.find("{input}") != text.npos; }

    void check(const std::string& where) const {
        check_one(where, "", text, {"instruction", "output"}, {"input"});
        check_one(where, "without_input: ", without_input, {"instruction", "output"}, {});
        if (!example.empty()) check_one(where, "example: ", example, {"output"}, {"input"});
        const std::string_view last = "{output}";
        for (const std::string* t : {&text, &without_input})
            if (t->size() < last.size() || std::string_view(*t).substr(t->size() - last.size()) != last)
                fail("%s: expected {output} at the end of the template, found %s after it", where.c_str(),
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
    static std::string substitute(std::string_view text, const std::string& instruction, const std::string& input,
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
            } else {
                out += text[at++];
            }
        }
        return out;
    }
    // A template's text for a row without input: without the paragraph of {input}, "### Input:\n{input}", if nothing
    // else is to be filled in there, else without its line, "Input: {input}", if nothing else is, else without {input}
    // and the spaces before it.
    static std::string without_input_part(const std::string& t) {
        const std::string_view name = "{input}";
        const size_t at = t.find(name);
        if (at == t.npos) return t;
        for (std::string_view separator : {"\n\n", "\n"}) {
            size_t before = at == 0 ? t.npos : t.rfind(separator, at - 1), after = t.find(separator, at);
            size_t begin = before == t.npos ? 0 : before, end = after == t.npos ? t.size() : after;
            std::string_view part = std::string_view(t).substr(begin, end - begin);
            if (part.find("{instruction}") != part.npos || part.find("{output}") != part.npos) continue;
            if (before == t.npos && after != t.npos) end += separator.size();  // the first: what follows comes first
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

// Prompts and answers take turns. An answer is supervised and <|endoftext|> follows it.
struct Segment {
    std::string text;
    bool is_answer;
};
// The text of a row, with `shots` of its few-shot examples. with_answer: else the last segment is the prompt of the
// last turn, to be answered
inline std::vector<Segment> render(const ChatTemplate& templ, const InstructRow& row, size_t shots, bool with_answer) {
    std::vector<Segment> segments;
    for (size_t i = 0; i < row.turns.size(); i++) {
        const Turn& turn = row.turns[i];
        std::string instruction = i == 0 && !row.system.empty() ? row.system + "\n\n" + turn.instruction
                                                                : turn.instruction;
        if (i + 1 == row.turns.size())
            for (size_t k = 0; k < std::min(shots, row.examples.size()); k++) {
                if (templ.example.empty())
                    fail(
                        "%s: expected a template with \"example\", which says what a few-shot example looks like, "
                        "found none in %s: write it as .json, or take --shots 0",
                        row.where.c_str(), templ.name.c_str());
                const FewShotExample& e = row.examples[k];
                instruction += ChatTemplate::substitute(
                    blank(e.input) ? ChatTemplate::without_input_part(templ.example) : templ.example, "", e.input,
                    e.output);
            }
        if (!turn.input.empty() && !templ.has_input())
            fail("%s: expected a template with {input}, since this row has one, found the template %s without it",
                 row.where.c_str(), templ.name.c_str());
        bool space;
        std::string_view prompt = templ.before_output(!turn.input.empty(), space);
        segments.push_back({ChatTemplate::substitute(prompt, instruction, turn.input, ""), false});
        if (with_answer || i + 1 < row.turns.size()) segments.push_back({(space ? " " : "") + turn.output, true});
    }
    return segments;
}
