// chat_template.h: the template that turns rows of instructions into the text that a model reads. The same code renders
// the rows that are learned and the prompts that are answered, so that they cannot differ.
//
// A template has {instruction}, {input} and, at its end, {output}:
//
//   text            for rows with an input
//   without_input   for rows without one
//   example         one of the few-shot examples, with {input} and {output}; it goes between instruction and input
//
// A file is such texts as .json, or plain text: "text" alone. Then "without_input" is what remains without the
// paragraph or line of {input}, and there is no "example", so that rows can show none. With it travels how many of a
// row's examples were shown ("shots"): prompts show as many unless told otherwise. All before {output} is the prompt,
// {output} the answer.
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
#include "common/text/bpe.h"
#include "common/text/instruct_rows.h"

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

    using Field = std::pair<const char*, std::string Turns::*>;
    static const std::vector<Field>& fields() {
        static const std::vector<Field> all = {
            {"begin", &Turns::begin}, {"system", &Turns::system},       {"default_system", &Turns::default_system},
            {"user", &Turns::user},   {"assistant", &Turns::assistant}, {"before_last", &Turns::before_last}};
        return all;
    }
};

struct ChatTemplate {
    std::string name, text, without_input, example;
    int64_t shots = 0;
    Turns turns{};

    bool is_chat() const { return !turns.user.empty(); }

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
    // What a user says in a chat: the instruction, examples, and after an empty line the input
    static ChatTemplate chat(const std::string& name, const Turns& turns) {
        return {name,
                "{instruction}\n\n{input}{output}",
                "{instruction}{output}",
                "\n\nInput: {input}\nOutput: {output}",
                0,
                turns};
    }
    // SmolLM2, Qwen 2.5 and others, which differ in what they say without a system message
    static ChatTemplate chatml(const std::string& default_system = "") {
        auto turn = [](const std::string& role) { return "<|im_start|>" + role + "\n{text}<|im_end|>\n"; };
        return chat("chatml", {"", turn("system"), default_system, turn("user"), turn("assistant"), ""});
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
        auto turn = [](const std::string& role, const std::string& before = "") {
            return "<|start_header_id|>" + role + "<|end_header_id|>\n\n" + before + "{text}<|eot_id|>";
        };
        const std::string dates = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";
        Turns t = {"<|begin_of_text|>", turn("system", dated ? dates : ""), "", turn("user"), turn("assistant"), ""};
        t.always_system = dated;
        t.trim = true;
        return chat(dated ? "llama3.2" : "llama3", t);
    }

    // "alpaca", "short", "chatml", "qwen3", "llama3", "llama3.2", or a file: text with the placeholders, or .json as
    // json() writes it
    static ChatTemplate load(const std::string& name) {
        if (name == "alpaca") return alpaca();
        if (name == "short") return short_one();
        if (name == "chatml") return chatml();
        if (name == "qwen3") return qwen3();
        if (name == "llama3" || name == "llama3.2") return llama3(name == "llama3.2");
        if (!exists(name))
            fail_usage("--template: expected alpaca, short, chatml, qwen3, llama3, llama3.2 or a file, found %s%s",
                       name.c_str(), nearest_entry(name).c_str());
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
        if (const Json* turns = json.find("turns")) {
            for (auto [key, to] : Turns::fields()) {
                const Json* value = turns->find(key);
                if (!value || value->kind != Json::string)
                    fail("%s: expected a text \"%s\" in \"turns\", found none", where.c_str(), key);
                t.turns.*to = value->s;
            }
            const Json *always = turns->find("always_system"), *trim = turns->find("trim");
            t.turns.always_system = always && always->b;
            t.turns.trim = trim && trim->b;
        }
        t.check(where);
        return t;
    }
    Json json() const {
        Json all = Json()
                       .set("name", name)
                       .set("text", text)
                       .set("without_input", without_input)
                       .set("example", example)
                       .set("shots", shots);
        if (!is_chat()) return all;
        Json marks;
        for (auto [key, from] : Turns::fields()) marks.set(key, turns.*from);
        return all.set("turns", marks.set("always_system", turns.always_system).set("trim", turns.trim));
    }

    // ------------------------------------------------------------ transformers' chat_template
    // The template of a model directory: template.json where we tuned it, else what its chat_template says; false if it
    // has none. A chat_template is recognised by its text, as there is no interpreter of Jinja here; an unknown one is
    // refused.
    static bool of_model(const std::string& dir, ChatTemplate& found) {
        if (exists(dir + "/template.json")) {
            found = load(dir + "/template.json");
            return true;
        }
        std::string path = dir + "/chat_template.jinja", jinja;
        if (exists(path)) {
            jinja = read_file(path);
        } else if (path = dir + "/tokenizer_config.json"; exists(path)) {
            const Json config = parse_json(read_file(path), path);
            const Json* value = config.find("chat_template");
            if (value && value->kind == Json::array)  // [{"name": "default", "template": "..."}, ...]
                for (const Json& one : value->a)
                    if (const Json* its_name = one.find("name"); its_name && its_name->s == "default")
                        value = one.find("template");
            if (value && value->kind == Json::string) jinja = value->s;
        }
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
        for (size_t begin = 0; (begin = jinja.find(before, begin)) != jinja.npos; begin += before.size()) {
            const size_t at = begin + before.size(), end = std::min(jinja.find(after, at), jinja.size());
            const char quote = begin > 0 ? jinja[begin - 1] : ' ';
            std::string part;
            if (quote == '\'' || quote == '"') read_literal(std::string_view(jinja).substr(at, end - at), quote, part);
            else if (part = jinja.substr(at, end - at); part.find("{{") != part.npos) part.clear();
            if (!part.empty()) system = part;
        }
        found = chatml(system);
        return true;
    }
    // The text of (a part of) a Jinja literal; none if it ends within, as the text is then that of an expression
    static void read_literal(std::string_view literal, char quote, std::string& out) {
        for (size_t i = 0; i < literal.size(); i++) {
            if (literal[i] == quote) return out.clear();
            const bool escape = literal[i] == '\\' && i + 1 < literal.size();
            if (escape) i++;
            out += escape && literal[i] == 'n' ? '\n' : escape && literal[i] == 't' ? '\t' : literal[i];
        }
    }
    // The same as Jinja, for transformers; bos, eot: the tokens that begin a text and end an answer of a plain template
    std::string jinja(const std::string& bos, const std::string& eot) const {
        auto quoted = [](const std::string& s) {
            std::string out = "'";
            for (char c : s)
                out += c == '\n' ? "\\n" : c == '\'' || c == '\\' ? std::string("\\") + c : std::string(1, c);
            return out + "'";
        };
        const std::string content = turns.trim ? "message['content'] | trim" : "message['content']";
        // "before{text}after" with the content of a message as text
        auto turn = [&](const std::string& marks, const std::string& value) {
            const size_t at = marks.find("{text}");
            return "{{ " + quoted(marks.substr(0, at)) + " + " + value + " + " + quoted(marks.substr(at + 6)) + " }}";
        };
        if (!is_chat()) {
            bool space;
            const std::string prompt(before_output(false, space)), mark = "{instruction}";
            const size_t at = prompt.find(mark);
            return "{{ " + quoted(bos) +
                   " }}{% set ns = namespace(system='') %}{% for message in messages %}{% if message['role'] == "
                   "'system' %}{% set ns.system = message['content'] + '\\n\\n' %}{% elif message['role'] == 'user' "
                   "%}{{ " +
                   quoted(prompt.substr(0, at)) + " + ns.system + message['content'] + " +
                   quoted(prompt.substr(at + mark.size())) + " }}{% set ns.system = '' %}{% else %}{{ " +
                   quoted(space ? " " : "") + " + message['content'] + " + quoted(eot) + " }}{% endif %}{% endfor %}";
        }
        std::string s = "{{ " + quoted(turns.begin) + " }}";
        if (turns.always_system || !turns.default_system.empty())
            s += "{% if messages[0]['role'] != 'system' %}" + turn(turns.system, quoted(turns.default_system)) +
                 "{% endif %}";
        const std::string answer = turns.assistant.substr(0, turns.assistant.find("{text}"));
        std::string last = quoted(turns.before_last);
        s += "{% for message in messages %}{% if message['role'] == 'system' %}" + turn(turns.system, content) +
             "{% elif message['role'] == 'user' %}" + turn(turns.user, content) + "{% else %}" +
             turn(turns.assistant,
                  turns.before_last.empty() ? content : "(" + last + " if loop.last else '') + " + content) +
             "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ " + quoted(answer + turns.before_last) +
             " }}{% endif %}";
        return s;
    }
    // Puts it into a tokenizer directory that was just saved, unless the chat_template there means the same.
    void save_for_transformers(const std::string& dir, const std::string& bos, const std::string& eot) const {
        write_file_atomic(dir + "/template.json", dump_json(json(), 2) + "\n");
        const std::string file = dir + "/chat_template.jinja", path = dir + "/tokenizer_config.json";
        Json config = exists(path) ? parse_json(read_file(path), path) : Json::make_object();
        const Json* value = config.find("chat_template");
        ChatTemplate there;
        const bool is_file = exists(file);
        const std::string known = is_file ? read_file(file) : value && value->kind == Json::string ? value->s : "";
        if (is_chat() && !known.empty() && recognise(known, there) && there.turns_text() == turns_text()) return;
        if (is_file) return write_file_atomic(file, jinja(bos, eot));
        write_file_atomic(path, dump_json(config.set("chat_template", jinja(bos, eot)), 2) + "\n");
    }
    std::string turns_text() const {
        const Json all = json();
        return all.find("turns") ? dump_json(*all.find("turns")) : "";
    }
    // A message as it is shown; the white space is Unicode's and, as in Python, U+001C to U+001F
    std::string shown(const std::string& message) const {
        size_t begin = message.size(), end = 0;  // of the first and after the last character that is none
        for (const char *p = message.data(), *at = p, *last = p + message.size(); turns.trim && p < last; at = p) {
            const int32_t c = next_code_point(p, last);
            if (is_space(c) || (c >= 0x1c && c <= 0x1f)) continue;
            begin = std::min(begin, (size_t)(at - message.data()));
            end = (size_t)(p - message.data());
        }
        return turns.trim ? message.substr(begin, std::max(begin, end) - begin) : message;
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
        for (const std::string* t : {&turns.system, &turns.user, &turns.assistant})
            if (is_chat() && t->find("{text}") == t->npos)
                fail("%s: expected {text} in the turns of system, user and assistant, found none in %s", where.c_str(),
                     start_of(*t).c_str());
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
    std::vector<Segment> segments;
    auto before = [](const std::string& turn) { return turn.substr(0, turn.find("{text}")); };
    auto after = [](const std::string& turn) { return turn.substr(turn.find("{text}") + strlen("{text}")); };
    auto add_turn = [&](const std::string& turn, const std::string& message) {
        segments.push_back({before(turn), false, true});
        segments.push_back({templ.shown(message), false, false});
        segments.push_back({after(turn), false, true});
    };
    const bool is_chat = templ.is_chat();
    if (is_chat) segments.push_back({marks.begin, false, true});
    const std::string& system = row.system.empty() ? marks.default_system : row.system;
    if (is_chat && (!system.empty() || marks.always_system)) add_turn(marks.system, system);
    for (size_t i = 0; i < row.turns.size(); i++) {
        const Turn& turn = row.turns[i];
        const bool last = i + 1 == row.turns.size();
        std::string instruction = i == 0 && !row.system.empty() && !is_chat ? row.system + "\n\n" + turn.instruction
                                                                            : turn.instruction;
        if (last)
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
        const std::string prompt = ChatTemplate::substitute(templ.before_output(!turn.input.empty(), space),
                                                            instruction, turn.input, "");
        if (is_chat) {
            add_turn(marks.user, prompt);
            segments.push_back({before(marks.assistant) + (last ? marks.before_last : ""), false, true});
        } else {
            segments.push_back({prompt, false, false});
        }
        if (with_answer || !last) segments.push_back({(space ? " " : "") + templ.shown(turn.output), true, false});
        if (is_chat && (with_answer || !last)) segments.push_back({after(marks.assistant), false, true});
    }
    return segments;
}
