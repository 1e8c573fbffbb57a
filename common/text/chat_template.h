// chat_template.h: the template that turns rows of instructions into the text that a model reads. The same code renders
// the rows that are learned and the prompts that are answered, so that they cannot differ.
//
// A template has {instruction}, {input} and, at its end, {output}; all before it is the prompt, {output} the answer:
//
//   text            for rows with an input
//   without_input   for rows without one
//   example         one of the few-shot examples, with {input} and {output}; it goes between instruction and input
//
// With it travels how many of a row's examples were shown ("shots"): prompts show as many unless told otherwise.
//
// Without "turns" the template is plain text in the model's own vocabulary, and <|endoftext|> ends an answer. Prompt
// and answer are encoded apart, so what is learned is known by construction. A space before {output} belongs to the
// answer, since byte-level BPE joins a space with the word after it: "answer: {output}" gives the tokens "answer" ":"
// and " yes". Later turns of a conversation are rendered in the same way, one after the other.
//
// With "turns" the prompt is what the user says in a chat, between special tokens that the vocabulary has (Turns). The
// ids are those of transformers' apply_chat_template: text between two special tokens is encoded as a whole. The first
// special token after an answer ends it and is learned.
//
// Special tokens in a row's text are text: they never become the special token.
#pragma once
#include <set>

#include "common/text/instruct_rows.h"
#include "common/text/tokenizer.h"

// How a chat marks who speaks. All empty: it does not, the template is plain text.
struct Turns {
    std::string begin;           // before all of it: "<|begin_of_text|>", or nothing
    std::string system;          // "<|im_start|>system\n{text}<|im_end|>\n"
    std::string default_system;  // what {text} is in a row without a system message; "": then there is no such turn
    std::string user;            // "<|im_start|>user\n{text}<|im_end|>\n"
    std::string assistant;       // "<|im_start|>assistant\n{text}<|im_end|>\n"
    std::string before_last;     // goes before the last answer: Qwen3's "<think>\n\n</think>\n\n", which is not learned
    bool always_system = false;  // also with an empty text (Llama 3.2, whose system turn has a date)
    bool trim = false;           // white space around a message is not shown

    static std::vector<std::pair<const char*, std::string Turns::*>> texts() {  // as JSON names them
        return {{"begin", &Turns::begin}, {"system", &Turns::system}, {"default_system", &Turns::default_system},
            {"user", &Turns::user}, {"assistant", &Turns::assistant}, {"before_last", &Turns::before_last}};
    }
    Json json() const {
        Json all;
        for (auto [key, text] : texts()) all.set(key, this->*text);
        return all.set("always_system", always_system).set("trim", trim);
    }
};
// What stands before {text} in a turn, and what after it
inline std::pair<std::string, std::string> around_text(const std::string& turn) {
    const size_t at = turn.find("{text}");
    return {turn.substr(0, at), at == turn.npos ? "" : turn.substr(at + strlen("{text}"))};
}

struct ChatTemplate {
    std::string name, text, without_input, example;
    int64_t shots = 0;
    Turns turns{};

    bool is_chat() const { return !turns.user.empty(); }

    // What a user says in a chat: the instruction, examples, and after an empty line the input. The marks are what
    // stands before and after a role, and after a message.
    static ChatTemplate chat(const std::string& name, const std::string& before_role, const std::string& after_role,
        const std::string& end) {
        auto turn = [&](const char* role) { return before_role + role + after_role + "{text}" + end; };
        const char *text = "{instruction}\n\n{input}{output}", *example = "\n\nInput: {input}\nOutput: {output}";
        const Turns turns = {"", turn("system"), "", turn("user"), turn("assistant"), ""};
        return {name, text, "{instruction}{output}", example, 0, turns};
    }
    // SmolLM2, Qwen 2.5 and others, which differ in what they say without a system message
    static ChatTemplate chatml(const std::string& default_system = "") {
        ChatTemplate t = chat("chatml", "<|im_start|>", "\n", "<|im_end|>\n");
        t.turns.default_system = default_system;
        return t;
    }
    static ChatTemplate qwen3() {
        ChatTemplate t = chatml();
        t.name = "qwen3";
        t.turns.before_last = "<think>\n\n</think>\n\n";
        return t;
    }
    // dated: Llama 3.1 and later, whose system turn has two dates; the second is today's in transformers, and here
    // always the one that its template falls back to, so that the same row gives the same tokens on any day
    static ChatTemplate llama3(bool dated = false) {
        ChatTemplate t = chat(
            dated ? "llama3.2" : "llama3", "<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>");
        t.turns.begin = "<|begin_of_text|>";
        if (dated)
            t.turns.system.insert(
                t.turns.system.find("{text}"), "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n");
        t.turns.always_system = dated;
        t.turns.trim = true;
        return t;
    }

    static std::vector<std::pair<const char*, std::string ChatTemplate::*>> texts() {  // as JSON names them
        return {{"name", &ChatTemplate::name}, {"text", &ChatTemplate::text},
            {"without_input", &ChatTemplate::without_input}, {"example", &ChatTemplate::example}};
    }
    static ChatTemplate from_json(const Json& json, const std::string& where) {
        ChatTemplate t;
        auto text = [&](const Json& object, const char* key, const char* expected) {
            const Json* value = object.find(key);
            if (!value || value->kind != Json::string)
                fail("%s: expected a template %s, found %s", where.c_str(), expected,
                    value ? "something else than a string" : format("no \"%s\"", key).c_str());
            return value->s;
        };
        for (auto [key, to] : texts()) t.*to = text(json, key, "{\"name\", \"text\", \"without_input\", \"example\"}");
        if (const Json* shots = json.find("shots")) {
            if (shots->kind != Json::integer || shots->i < 0 || shots->i > 2)
                fail("%s: expected \"shots\" from 0 to 2, found %s", where.c_str(), dump_json(*shots).c_str());
            t.shots = shots->i;
        }
        if (const Json* turns = json.find("turns")) {
            for (auto [key, to] : Turns::texts()) t.turns.*to = text(*turns, key, "with all texts of \"turns\"");
            const Json *always = turns->find("always_system"), *trim = turns->find("trim");
            t.turns.always_system = always && always->b;
            t.turns.trim = trim && trim->b;
        }
        t.check(where);
        return t;
    }
    static ChatTemplate read(const std::string& path) { return from_json(parse_json(read_text(path), path), path); }
    Json json() const {
        Json all;
        for (auto [key, from] : texts()) all.set(key, this->*from);
        all.set("shots", shots);
        return is_chat() ? all.set("turns", turns.json()) : all;
    }

    // ------------------------------------------------------------ transformers' chat_template
    // The chat_template of a model directory, "" if it has none, and the file that it stands in
    static std::pair<std::string, std::string> jinja_of(const std::string& dir) {
        std::string path = dir + "/chat_template.jinja";
        if (exists(path)) return {read_file(path), path};
        path = dir + "/tokenizer_config.json";
        const Json config = exists(path) ? parse_json(read_file(path), path) : Json();
        const Json* value = config.find("chat_template");
        if (value && value->kind == Json::array)  // [{"name": "default", "template": "..."}, ...]
            for (const Json& one : value->a)
                if (const Json* its_name = one.find("name"); its_name && its_name->s == "default")
                    value = one.find("template");
        return {value && value->kind == Json::string ? value->s : "", path};
    }
    // The template of a model directory: template.json where we tuned it, else what its chat_template says; false if it
    // has none. A chat_template is recognised by its text, as there is no interpreter of Jinja here; an unknown one is
    // refused.
    static bool of_model(const std::string& dir, ChatTemplate& found) {
        const std::string ours = dir + "/template.json";
        if (exists(ours)) {
            found = read(ours);
            return true;
        }
        const auto [jinja, path] = jinja_of(dir);
        if (blank(jinja)) return false;
        if (!recognise(jinja, found))
            fail(
                "%s: this chat_template is none of those that are known (ChatML, Qwen3's, Llama 3's): say which one to "
                "take when the data are packed, with --template NAME or FILE (see data/README.md)",
                path.c_str());
        return true;
    }
    // By the marks of each kind, and by the absence of what the kinds known here do not have
    static bool recognise(const std::string& jinja, ChatTemplate& found) {
        auto has = [&](const char* text) { return jinja.find(text) != jinja.npos; };
        const bool lines = has("\\n");  // line ends are written as \n, else as they are
        auto text = [&](std::string s) {
            for (size_t at = 0; lines && (at = s.find('\n', at)) != s.npos; at += 2) s.replace(at, 1, "\\n");
            return s;
        };
        if (has("[gMASK]") || has("Metadata") || has("[INST]") || has("<|im_sep|>") || has("<|channel|>")) return false;
        if (has("<|start_header_id|>") && has("<|eot_id|>") && has("<|end_header_id|>") && !has("<|im_start|>")) {
            found = llama3(has("Cutting Knowledge Date: December 2023") && has("26 Jul 2024"));
            return found.turns.always_system || !has("Knowledge");
        }
        if (!has("<|im_start|>") || !has("<|im_end|>") || has("<|start_header_id|>")) return false;
        if (has("<think>")) {
            found = qwen3();
            return has(text(found.turns.before_last).c_str()) && has("enable_thinking");
        }
        if (has("bos_token")) return false;
        std::string system;  // between these two, where it is a text and no expression
        const std::string before = text("<|im_start|>system\n"), after = "<|im_end|>";
        for (size_t at = 0; (at = jinja.find(before, at)) != jinja.npos;) {
            const char quote = at > 0 ? jinja[at - 1] : ' ';
            at += before.size();
            std::string part = jinja.substr(at, jinja.find(after, at) - at);
            if (quote == '\'' || quote == '"') part = literal_text(part, quote);
            else if (part.find("{{") != part.npos) part.clear();
            if (!part.empty()) system = part;
        }
        found = chatml(system);
        return true;
    }
    // The text of (a part of) a Jinja literal; none if it ends within, as the text is then that of an expression
    static std::string literal_text(const std::string& literal, char quote) {
        std::string out;
        for (size_t i = 0; i < literal.size(); i++) {
            if (literal[i] == quote) return "";
            const bool escape = literal[i] == '\\' && i + 1 < literal.size();
            if (escape) i++;
            out += escape && literal[i] == 'n' ? '\n' : escape && literal[i] == 't' ? '\t' : literal[i];
        }
        return out;
    }
    // The same as Jinja, for transformers; bos, eot: the tokens that begin a text and end an answer of a plain template
    std::string jinja(const std::string& bos, const std::string& eot) const {
        auto quoted = [](const std::string& s) {
            std::string out = "'";
            for (char c : s)
                out += c == '\n' ? "\\n" : c == '\'' || c == '\\' ? std::string("\\") + c : std::string(1, c);
            return out + "'";
        };
        auto print = [&](const std::string& before, const std::string& value, const std::string& after) {
            return "{{ " + quoted(before) + " + " + value + " + " + quoted(after) + " }}";
        };
        auto turn = [&](const std::string& marks, const std::string& value) {
            const auto [before, after] = around_text(marks);
            return print(before, value, after);
        };
        auto each = [](const std::string& system, const std::string& user, const std::string& assistant) {
            return "{% for message in messages %}{% if message['role'] == 'system' %}" + system +
                   "{% elif message['role'] == 'user' %}" + user + "{% else %}" + assistant + "{% endif %}{% endfor %}";
        };
        const std::string content = turns.trim ? "message['content'] | trim" : "message['content']";
        if (!is_chat()) {
            const auto [prompt, space] = before_output(false);
            const std::string mark = "{instruction}";
            const size_t at = prompt.find(mark);
            return "{{ " + quoted(bos) + " }}{% set ns = namespace(system='') %}" +
                   each("{% set ns.system = message['content'] + '\\n\\n' %}",
                       print(prompt.substr(0, at), "ns.system + " + content, prompt.substr(at + mark.size())) +
                           "{% set ns.system = '' %}",
                       print(space, content, eot));
        }
        std::string system, last;  // without a system message; before the last answer
        if (turns.always_system || !turns.default_system.empty())
            system = "{% if messages[0]['role'] != 'system' %}" + turn(turns.system, quoted(turns.default_system)) +
                     "{% endif %}";
        if (!turns.before_last.empty()) last = "(" + quoted(turns.before_last) + " if loop.last else '') + ";
        return "{{ " + quoted(turns.begin) + " }}" + system +
               each(turn(turns.system, content), turn(turns.user, content), turn(turns.assistant, last + content)) +
               "{% if add_generation_prompt %}{{ " + quoted(around_text(turns.assistant).first + turns.before_last) +
               " }}{% endif %}";
    }
    // Puts it into a tokenizer directory that was just saved, unless the chat_template there means the same.
    void save_for_transformers(const std::string& dir, const std::string& bos, const std::string& eot) const {
        write_file_atomic(dir + "/template.json", dump_json(json(), 2) + "\n");
        const auto [known, path] = jinja_of(dir);
        ChatTemplate there;
        if (is_chat() && recognise(known, there) && dump_json(there.turns.json()) == dump_json(turns.json())) return;
        const std::string config_file = dir + "/tokenizer_config.json";
        if (path != config_file) return write_file_atomic(path, jinja(bos, eot));
        Json config = exists(path) ? parse_json(read_file(path), path) : Json::make_object();
        write_file_atomic(path, dump_json(config.set("chat_template", jinja(bos, eot)), 2) + "\n");
    }
    // A message as it is shown; the white space is Unicode's and, as in Python, U+001C to U+001F
    std::string shown(const std::string& message) const {
        if (!turns.trim) return message;
        return without_ends(message, [](int32_t c) { return is_space(c) || (c >= 0x1c && c <= 0x1f); });
    }
    bool has_input() const { return text.find("{input}") != text.npos; }

    void check(const std::string& where) const {
        check_names(where, text, "{instruction}{output}", "{input}");
        check_names(where + ": without_input", without_input, "{instruction}{output}", "");
        if (!example.empty()) check_names(where + ": example", example, "{output}", "{input}");
        const std::string_view last = "{output}";
        for (const std::string* t : {&text, &without_input})
            if (t->size() < last.size() || std::string_view(*t).substr(t->size() - last.size()) != last)
                fail("%s: expected {output} at the end of the template, found %s after it", where.c_str(),
                    start_of(t->substr(t->find(last) + last.size())).c_str());
        for (const std::string* t : {&turns.system, &turns.user, &turns.assistant})
            if (is_chat() && t->find("{text}") == t->npos)
                fail("%s: expected {text} in the turns of system, user and assistant, found none in %s", where.c_str(),
                    start_of(*t).c_str());
        if (before_output(true).second != before_output(false).second)
            fail("%s: expected a space before {output} with and without input, or none in both, found it in one",
                where.c_str());
    }

    // The text with its placeholders filled. What is put in is not looked at again.
    static std::string substitute(
        std::string_view text, const std::string& instruction, const std::string& input, const std::string& output) {
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
    // The text before {output}, without the space before it, which is the answer's
    std::pair<std::string, std::string> before_output(bool input) const {
        std::string prompt = input ? text : without_input;
        prompt.resize(prompt.size() - strlen("{output}"));
        const bool space = !prompt.empty() && prompt.back() == ' ';
        if (space) prompt.pop_back();
        return {prompt, space ? " " : ""};
    }
    // What a model has generated, without the space that the template puts before an answer
    static std::string_view answer_of(std::string_view generated) {
        return !generated.empty() && generated[0] == ' ' ? generated.substr(1) : generated;
    }

private:
    // Has a text these placeholders, each once, and perhaps `allowed`?
    static void check_names(
        const std::string& where, const std::string& t, const std::string& needed, const std::string& allowed) {
        std::multiset<std::string> names;
        for (size_t at = 0; (at = t.find('{', at)) != t.npos; at++) {
            size_t end = t.find_first_not_of("abcdefghijklmnopqrstuvwxyz_", at + 1);
            if (end == t.npos || t[end] != '}' || end == at + 1) continue;  // a brace of the user's
            names.insert(t.substr(at, end + 1 - at));
        }
        std::string found;
        for (const std::string& name : names) found += name;
        if (found != needed && found != allowed + needed)
            fail("%s: expected a template with %s, each once, and at most %s beside, found %s in %s", where.c_str(),
                needed.c_str(), allowed.empty() ? "nothing" : allowed.c_str(), found.empty() ? "none" : found.c_str(),
                start_of(t).c_str());
        if (t.find(Tokenizer::eot_name) != t.npos)
            fail("%s: expected a template without %s, which ends every answer by itself, found it", where.c_str(),
                Tokenizer::eot_name);
    }
};

// Prompts and answers take turns; in a chat there are marks between them.
struct Segment {
    std::string text;
    bool is_answer = false;
    bool is_markup = false;  // special tokens in it are special tokens
};
// The text of a row, with `shots` of its few-shot examples. with_answer: else the last segment is the prompt of the
// last turn, to be answered
inline std::vector<Segment> render(const ChatTemplate& templ, const InstructRow& row, size_t shots, bool with_answer) {
    const Turns& marks = templ.turns;
    const bool is_chat = templ.is_chat();
    std::vector<Segment> segments;
    auto add_markup = [&](const std::string& text) {
        if (is_chat) segments.push_back({text, false, true});
    };
    auto add_turn = [&](const std::string& turn, const std::string& message) {
        const auto [before, after] = around_text(turn);
        add_markup(before);
        segments.push_back({templ.shown(message)});
        add_markup(after);
    };
    add_markup(marks.begin);
    const std::string& system = row.system.empty() ? marks.default_system : row.system;
    if (is_chat && (!system.empty() || marks.always_system)) add_turn(marks.system, system);
    for (const Turn& turn : row.turns) {
        const bool last = &turn == &row.turns.back();
        std::string instruction = turn.instruction;
        if (!is_chat && !row.system.empty() && &turn == &row.turns[0]) instruction = row.system + "\n\n" + instruction;
        for (size_t k = 0; last && k < std::min(shots, row.examples.size()); k++) {
            if (templ.example.empty())
                fail(
                    "%s: expected a template with \"example\", which says what a few-shot example looks like, found "
                    "none in %s: write it as .json, or take --shots 0",
                    row.where.c_str(), templ.name.c_str());
            const Turn& e = row.examples[k];
            instruction += ChatTemplate::substitute(
                blank(e.input) ? ChatTemplate::without_input_part(templ.example) : templ.example, "", e.input,
                e.output);
        }
        if (!turn.input.empty() && !templ.has_input())
            fail("%s: expected a template with {input}, since this row has one, found the template %s without it",
                row.where.c_str(), templ.name.c_str());
        const auto [text, space] = templ.before_output(!turn.input.empty());
        const std::string prompt = ChatTemplate::substitute(text, instruction, turn.input, "");
        const auto [before, after] = around_text(marks.assistant);
        if (is_chat) add_turn(marks.user, prompt);
        else segments.push_back({prompt});
        add_markup(before + (last ? marks.before_last : ""));
        if (last && !with_answer) break;
        segments.push_back({space + templ.shown(turn.output), true});
        add_markup(after);
    }
    return segments;
}
