// instruct_rows.h: rows of instructions with their answers, one after another, from a JSON file of any size. A file is
// an object per line, or an array of objects, in one of three forms; other keys are ignored:
//
//   {"instruction": "Name the first fruit.", "input": "pear, fig", "output": "pear"}
//   {"prompt": "Name a fruit.", "completion": "pear"}          the same as an instruction without input
//   {"messages": [{"role": "user", "content": "..."},          only what the assistant says is learned; a "system"
//                 {"role": "assistant", "content": "..."}, ...]}  message may come first; a "prompt" beside it, which
//                                                               repeats the first question, is not read
// with, where wanted,
//   "output": ["pear", "a pear"]     several references: the first is learned, evaluation takes any
//   "task": "lists/first"            a name, perhaps with its family before a slash
//   "options": ["pear", "fig"]       the answers to choose from
//   "examples": [{"input": "kiwi, plum", "output": "kiwi"}, ...]    few-shot examples; --shots says how many are shown
// null and NaN are as if the key were not there; a number or a boolean is taken as it was written. A row that cannot be
// used has an error, and the next can be read.
#pragma once
#include "common/text/line_reader.h"

struct Turn {  // of a conversation: what the user says, and the answer; a few-shot example has no instruction
    std::string instruction, input, output;
};
struct InstructRow {
    std::string task;                  // "": the row names none
    std::string system;                // put before the first instruction, with an empty line between them
    std::vector<Turn> turns;           // the last one's output is outputs[0]
    std::vector<std::string> outputs;  // references; none: there is nothing to learn
    std::vector<std::string> options;
    std::vector<Turn> examples;
    std::string where;  // "FILE, line N", for errors
    std::string error;  // "": the row is good; else "FILE, line N: expected ..., found ..."
    Json json;          // all that was given, of rows that may come without an answer, or with an error
};

struct InstructFile {
    LineReader lines;
    bool need_output;
    size_t prompts_beside_messages = 0;  // rows of which "prompt" was not read

    // need_output: else rows may come without an answer, to be answered; open: to be read instead of `path`
    InstructFile(const std::string& path, bool need_output, FILE* open = nullptr)
        : lines(path, open), need_output(need_output) {}

    // The next row, good or with an error; false at the end of the file
    bool next(InstructRow& row) {
        row = {};
        try {
            if (!lines.next_object(row.json)) return false;
            row.where = LineReader::place(lines.path, lines.begin, lines.element);
            read(row.json, row);
            if (need_output) row.json = {};
        } catch (const BadRow& e) {
            row.where = LineReader::place(lines.path, e.line, lines.element);
            row.error = e.what();
        }
        return true;
    }

private:
    void read(const Json& json, InstructRow& row) {
        const bool messages = given(json, "messages"), prompt = given(json, "prompt");
        if (!given(json, "instruction") && !prompt && !messages)
            lines.bad_keys(json, "\"instruction\", \"prompt\" or \"messages\"");
        if (given(json, "instruction") && (prompt || messages))
            lines.bad_keys(json, "one of \"instruction\", \"prompt\" and \"messages\"");
        if (messages) read_messages(*json.find("messages"), row);
        else if (prompt) read_turn(json, "prompt", nullptr, "completion", row);
        else read_turn(json, "instruction", "input", "output", row);
        prompts_beside_messages += messages && prompt;
        if (!row.outputs.empty()) row.turns.back().output = row.outputs[0];

        if (given(json, "task")) {
            row.task = trimmed(text(json, "task"));
            if (size_t slash = row.task.find('/'); slash != row.task.npos)
                row.task = trimmed(row.task.substr(0, slash)) + "/" + trimmed(row.task.substr(slash + 1));
            if (row.task.empty()) bad("expected a name in \"task\", found nothing");
            if (visible(row.task) != row.task)
                bad("expected a task without control characters, found " + start_of(row.task));
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
                if (!std::count(row.options.begin(), row.options.end(), output))
                    bad("expected one of the options as output, found " + start_of(output));
        }
        if (const Json* examples = given(json, "examples")) {
            if (examples->kind != Json::array)
                bad("expected a list in \"examples\", found " + start_of(dump_json(*examples)));
            for (const Json& example : examples->a) {
                if (example.kind != Json::object || !example.find("output"))
                    bad("expected examples {\"input\": ..., \"output\": ...}, found " + start_of(dump_json(example)));
                row.examples.push_back({"", text(example, "input", false), text(example, "output")});
                if (blank(row.examples.back().output))
                    bad("expected an \"output\" in every example, found an empty one");
            }
        }
    }
    [[noreturn]] void bad(const std::string& what) const { lines.bad(lines.begin, what); }
    static const Json* given(const Json& json, const char* key) {  // null is as if it were not there
        const Json* value = json.find(key);
        return value && value->kind != Json::null ? value : nullptr;
    }
    std::string text(const Json& json, const char* key, bool needed = true) const {
        const Json* value = json.find(key);
        if (!value && needed) lines.bad_keys(json, "\"" + std::string(key) + "\"");
        return value ? lines.text_of(*value, key) : "";
    }
    std::vector<std::string> texts(const Json& list, const char* key) const {
        if (list.kind != Json::array)
            bad(format("expected a list of strings for \"%s\", found ", key) + start_of(dump_json(list)));
        std::vector<std::string> found;
        for (const Json& value : list.a) found.push_back(lines.text_of(value, key));
        return found;
    }
    void read_turn(
        const Json& json, const char* instruction, const char* input, const char* output, InstructRow& row) const {
        row.turns.push_back({text(json, instruction), input ? text(json, input, false) : "", ""});
        if (blank(row.turns[0].instruction)) bad(format("expected a text in \"%s\", found nothing", instruction));
        if (blank(row.turns[0].input)) row.turns[0].input.clear();
        const Json* value = json.find(output);
        if (value && value->kind == Json::array) row.outputs = texts(*value, output);
        else row.outputs = {text(json, output, need_output)};
        row.outputs.erase(std::remove_if(row.outputs.begin(), row.outputs.end(), blank), row.outputs.end());
    }
    void read_messages(const Json& list, InstructRow& row) const {
        if (list.kind != Json::array || list.a.empty())
            bad("expected a list of messages, found " + start_of(dump_json(list)));
        bool answered = true;  // whose turn is it?
        for (size_t i = 0; i < list.a.size(); i++) {
            const Json& message = list.a[i];
            auto wrong = [&](const std::string& what) { bad(format("message %zu: expected ", i + 1) + what); };
            if (message.kind != Json::object)
                wrong("{\"role\": ..., \"content\": ...}, found " + start_of(dump_json(message)));
            const std::string role = text(message, "role"), content = text(message, "content");
            if (role == "system" && i == 0) {
                row.system = content;
                continue;
            }
            const char* expected = answered ? "user" : "assistant";
            if (role != expected) wrong(format("the role %s, found %s", expected, start_of(role).c_str()));
            answered = !answered;
            const bool last = i + 1 == list.a.size();
            if (blank(content) && !(last && answered)) wrong("a text, found nothing");
            if (!answered) row.turns.push_back({content, "", ""});
            else if (!last) row.turns.back().output = content;
            else if (!blank(content)) row.outputs = {content};
        }
        if (row.turns.empty() || (need_output && !answered))
            bad("expected messages that end with the assistant's, found the last of the role " +
                start_of(text(list.a.back(), "role")));
    }
};
