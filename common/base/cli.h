// cli.h: a program's command line as one table of flags bound to variables, whose values at the start are the defaults.
//
//   Cli cli{"train_bert", "Trains a BERT encoder by masked LM.",
//           "  ./train_bert --data DIR --out runs/x\n",                      // examples, printed first by --help
//           {{"train", "", "train a model"},                                  // the first command is the default
//            {"fill-mask", "TEXT...", "guess the [MASK]s", 1, CLI_MANY}},     // 1 or more words after it
//           // title, commands it serves ("": all), flags
//           {{"Data", "train", {{"data", &o.data, "DIR", "train.bin, val.bin"}}},
//            {"Training", "train", {{"lr", &o.lr, above(0), "peak learning rate"},
//                                   {"schedule", &o.schedule, "linear|cosine", "how lr falls"},   // '|': a choice
//                                   {"resume", &o.resume, "continue where --out stopped"}}}}};
//   if (!cli.parse(argc, argv)) return 0;   // --help was printed
//
// Forms: --flag VALUE, --flag=VALUE, --flag and --no-flag for bools; where a flag is repeated the last one counts;
// after `--` all words are text. What makes no sense is one line and exit code 2.
#pragma once
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include <charconv>
#include <climits>
#include <cmath>

#include "common/base/json.h"
#include "common/base/text.h"

constexpr int CLI_MANY = INT_MAX;

struct Range {
    double lo = -INFINITY, hi = INFINITY;  // both included
    std::string text{};                    // as a message says it
    bool has(double x) const { return x >= lo && x <= hi; }
};
inline Range above(double lo) { return {nextafter(lo, INFINITY), INFINITY, format(" > %.15g", lo)}; }
inline Range at_least(double lo) { return {lo, INFINITY, format(" >= %.15g", lo)}; }
inline Range between(double lo, double hi) { return {lo, hi, format(" from %.15g to %.15g", lo, hi)}; }
inline Range up_to(double lo, double hi) { return {lo, nextafter(hi, lo), format(" >= %.15g and < %.15g", lo, hi)}; }

// text → number; false, and the number as it was, if the text is none in the range. No hex, inf, nan, nor spaces.
template <class X> bool read_number(const std::string& text, const Range& range, X* to) {
    X x{};
    const char* end = text.data() + text.size();
    auto [stop, error] = std::from_chars(text.data(), end, x);
    if (stop != end || error != std::errc() || !std::isfinite((double)x) || !range.has((double)x)) return false;
    *to = x;
    return true;
}

struct Flag {
    enum Type { INTEGER, NUMBER, BOOL, TEXT, CHOICE, LIST } type;  // a LIST may be given several times
    std::vector<std::string> names;  // the one that is shown, then those that it had before, which are still taken
    void* value;
    Range range;
    std::string what;  // placeholder of the value in --help; a choice: "a|b|c"
    std::string help;
    bool given = false;  // on the command line

    // names: "hidden-size|width"
    Flag(const char* names, int64_t* v, Range r, const char* help) : Flag(names, INTEGER, v, r, "N", help) {}
    Flag(const char* names, double* v, Range r, const char* help) : Flag(names, NUMBER, v, r, "X", help) {}
    Flag(const char* names, bool* v, const char* help) : Flag(names, BOOL, v, {}, "", help) {}
    Flag(const char* names, std::string* v, const char* what, const char* help)
        : Flag(names, strchr(what, '|') ? CHOICE : TEXT, v, {}, what, help) {}
    Flag(const char* names, std::vector<std::string>* v, const char* what, const char* help)
        : Flag(names, LIST, v, {}, what, help) {}
    const std::string& name() const { return names[0]; }

    // "an integer >= 1", "one of a|b|c": what an error message says was expected
    std::string expected() const {
        if (type == BOOL) return "true or false";
        if (type == CHOICE) return "one of " + what;
        return type == INTEGER ? "an integer" + range.text : type == NUMBER ? "a number" + range.text : "text";
    }
    // text → variable; false, and the variable as it was, if the text is not what expected() says
    bool set(const std::string& text) {
        if (type == INTEGER) return read_number(text, range, (int64_t*)value);
        if (type == NUMBER) return read_number(text, range, (double*)value);
        if (type == BOOL && text != "true" && text != "false") return false;
        if (type == CHOICE && !contains(split_list(what, '|'), text)) return false;
        if (type == BOOL) *(bool*)value = text == "true";
        else if (type == LIST) ((std::vector<std::string>*)value)->push_back(text);
        else *(std::string*)value = text;
        return true;
    }
    Json json() const {
        if (type == INTEGER) return *(int64_t*)value;
        if (type == NUMBER) return *(double*)value;
        if (type == BOOL) return *(bool*)value;
        if (type == LIST) return name_list(*(std::vector<std::string>*)value, SIZE_MAX);
        return json_of_bytes(*(std::string*)value);
    }

private:
    Flag(const char* names, Type type, void* value, Range range, const char* what, const char* help)
        : type(type), names(split_list(names, '|')), value(value), range(range), what(what), help(help) {}
};

struct Command {
    std::string name, what, help;  // what: the words after it, as --help shows them
    int min_positional = 0, max_positional = 0;
};
struct FlagGroup {
    std::string title, commands;  // commands: the ones that take these flags, separated by spaces; "" for all
    std::vector<Flag> flags;
    bool serves(const std::string& command) const {
        return commands.empty() || contains(split_list(commands, ' '), command);
    }
};

// Takes the flags of these names out of a table that several programs use.
inline void without(std::vector<FlagGroup>& groups, const std::vector<std::string>& names) {
    auto named = [&](const Flag& f) { return contains(names, f.name()); };
    for (FlagGroup& g : groups) g.flags.erase(std::remove_if(g.flags.begin(), g.flags.end(), named), g.flags.end());
}
// Gives the flag of this name another help text, in such a table.
inline void describe(std::vector<FlagGroup>& groups, const std::string& name, const std::string& help) {
    for (FlagGroup& g : groups)
        for (Flag& f : g.flags)
            if (f.name() == name) f.help = help;
}
// To be called after the last line that a program prints: fails if it could not be written (a full disk).
inline void flush_output() {
    errno = 0;  // of an earlier write that failed nothing but ferror() is left
    if (fflush(stdout) || ferror(stdout))
        fail("cannot write standard output: %s", errno ? strerror(errno) : "an earlier line was lost");
}
// A program's main: runs body(), which returns the exit code; an error is one line on standard error.
template <class F> int run_program(F body) {
    try {
        const int code = body();
        if (code == EXIT_OK) flush_output();  // its last lines may have met a full disk
        return code;
    } catch (const Error& e) {
        fflush(stdout);
        fprintf(stderr, "error: %s\n", visible(e.what()).c_str());
        return e.code;
    } catch (const std::bad_alloc&) {
        fprintf(stderr, "error: out of memory: take a smaller batch or a smaller model\n");
        return EXIT_FAILED;
    }
}

// A line of --help, continued below where it is longer than a terminal: help texts begin at column 37.
inline std::string wrapped(std::string line) {
    const size_t width = 118, indent = 37;
    size_t begin = line.rfind('\n') + 1;  // npos + 1 is 0
    while (line.size() - begin > width) {
        size_t space = line.rfind(' ', begin + width);
        if (space < begin + indent) break;  // one word alone is too long
        line.replace(space, 1, "\n" + std::string(indent, ' '));
        begin = space + 1;
    }
    return line;
}

inline const char* EXIT_CODES_TEXT =
    "\nExit codes: 0 done, 1 failed, 2 the command line makes no sense, 3 the loss was not finite, 130 stopped by\n"
    "Ctrl-C or SIGTERM (the first finishes the step and saves, a second one stops at once). OMP_NUM_THREADS sets\n"
    "the number of CPU threads; it changes no result.\n";

struct Cli {
    std::string program, about, examples;
    std::vector<Command> commands;
    std::vector<FlagGroup> groups{};
    bool command_required = false;          // true: the first word has to be a command
    std::string closing = EXIT_CODES_TEXT;  // what --help ends with
    // set by parse()
    std::string command{};
    std::vector<std::string> positional{};  // the words that are no flags

    // The command line → variables, command, positional. false: --help was given and has been printed.
    bool parse(int argc, const char* const* argv) {
        std::vector<std::string> args(argv + 1, argv + argc);
        const auto words = std::find(args.begin(), args.end(), "--");
        const bool wants_help = std::any_of(args.begin(), words, [](auto& a) { return a == "--help" || a == "-h"; });
        positional.clear();
        size_t i = take_command(args, wants_help);
        if (wants_help) {
            fputs(help(i ? command : "").c_str(), stdout);
            return false;
        }
        while (i < args.size() && args[i] != "--") {
            const std::string& arg = args[i];
            if (starts_with(arg, "--")) {
                i = take_flag(args, i);
                continue;
            }
            if (arg.size() > 1 && arg[0] == '-' && isalpha((unsigned char)arg[1]) && arg.find(' ') == arg.npos)
                fail_usage(
                    "unknown flag " + arg + ": flags begin with two dashes; nearest: --" + nearest_flag(arg.substr(1)));
            positional.push_back(arg);
            i++;
        }
        if (i < args.size()) positional.insert(positional.end(), args.begin() + i + 1, args.end());
        for (const Command& c : commands) {
            const int n = (int)positional.size();
            if (c.name != command || (n >= c.min_positional && n <= c.max_positional)) continue;
            const std::string found = n < c.min_positional ? "nothing" : "\"" + positional[c.max_positional] + "\"";
            fail_usage(program + " " + command + ": expected " + (c.what.empty() ? "only flags" : c.what) + ", found " +
                       found + (n > c.max_positional && c.max_positional ? " as well" : ""));
        }
        return true;
    }

    // The flag of that name which the command takes, or nullptr.
    Flag* find(const std::string& name) {
        for (FlagGroup& g : groups)
            for (Flag& f : g.flags)
                if (contains(f.names, name) && g.serves(command)) return &f;
        return nullptr;
    }
    // Was it given on the command line?
    bool given(const std::string& name) { return find(name) && find(name)->given; }

    // {"lr": 0.0003, ...}: every flag of the command, for config.json
    Json to_json() const {
        Json all = Json::make_object();
        for (const FlagGroup& g : groups)
            for (const Flag& f : g.flags)
                if (g.serves(command)) all.set(f.name(), f.json());
        return all;
    }
    // For --resume: sets from such an object the flags that were not given. where: the file, for errors
    void from_json(const Json& all, const std::string& where) {
        if (all.kind != Json::object) fail(where + ": expected an object of flags");
        for (const auto& [name, value] : all.o) {
            Flag* f = find(name);
            if (!f)
                fail("%s: unknown flag \"%s\": the file was written by another version of %s; nearest: %s",
                    where.c_str(), name.c_str(), program.c_str(), nearest_flag(name).c_str());
            std::string text = value.kind == Json::string ? bytes_of_json(value.s) : dump_json(value);
            if (!f->given && !f->set(text))
                fail(where + ": \"" + name + "\": expected " + f->expected() + ", found " + text);
        }
    }

    std::string help(const std::string& of_command) const {  // "" for all commands
        std::string s = program + ": " + about + "\n\nExamples:\n" + examples + "\nCommands:\n";
        for (const Command& c : commands) {
            std::string left = c.name + " " + c.what +
                               (&c == &commands[0] && !command_required ? "(may be left out)" : "");
            if (of_command.empty() || c.name == of_command) s += format("  %-34s %s\n", left.c_str(), c.help.c_str());
        }
        for (const FlagGroup& g : groups) {
            if (!of_command.empty() && !g.serves(of_command)) continue;
            s += "\n" + g.title + (of_command.empty() && !g.commands.empty() ? " (" + g.commands + ")" : "") + ":\n";
            for (const Flag& f : g.flags) {
                std::string left = (f.type == Flag::BOOL ? "--[no-]" : "--") + f.name() + " " + f.what;
                const Json value = f.json();
                std::string preset = f.type == Flag::BOOL         ? (value.b ? "yes" : "no")
                                     : value.kind == Json::string ? value.s
                                                                  : format("%.10g", value.d);
                if (left.size() > 34) left += "\n" + std::string(36, ' ');
                if (!preset.empty()) preset = " (default " + preset + ")";
                s += wrapped(format("  %-34s %s%s", left.c_str(), f.help.c_str(), preset.c_str())) + "\n";
            }
        }
        return s + "\n  --help                             this text; COMMAND --help for the flags of one command\n" +
               closing;
    }

    // The name of the flag that is called most like this, by its name or one that it had before.
    std::string nearest_flag(const std::string& word) {
        std::vector<std::string> names{"help"};
        for (const FlagGroup& g : groups)
            for (const Flag& f : g.flags)
                if (g.serves(command)) names.insert(names.end(), f.names.begin(), f.names.end());
        const std::string name = nearest(word, names);
        const Flag* flag = find(name);
        return flag ? flag->name() : name;
    }

private:
    // The first word, where it is a command, else the default one. Returns how many words that took.
    size_t take_command(const std::vector<std::string>& args, bool wants_help) {
        std::vector<std::string> names;
        for (const Command& c : commands) names.push_back(c.name);
        const bool named = !args.empty() && contains(names, args[0]);
        command = named ? args[0] : names[0];
        if (named || wants_help) return named;
        if (command_required || (!args.empty() && args[0][0] != '-' && commands[0].max_positional == 0))
            fail_usage(program + ": expected a command (" + name_list(names, SIZE_MAX) + "), found " +
                       (args.empty() ? "nothing" : "\"" + args[0] + "\"" + nearest_hint(args[0], names)) + "; see " +
                       program + " --help");
        return 0;
    }
    // Sets the flag at args[i]; returns the index of the word after it and its value.
    size_t take_flag(const std::vector<std::string>& args, size_t i) {
        const size_t equals = args[i].find('=');
        const bool has_value = equals != std::string::npos, is_last = i + 1 == args.size();
        const std::string name = args[i].substr(2, equals - 2);
        Flag *f = find(name), *off = !f && starts_with(name, "no-") ? find(name.substr(3)) : nullptr;
        if (off && off->type == Flag::BOOL) f = off;
        if (!f) unknown_flag(name);
        f->given = true;
        if (f->type == Flag::BOOL) {
            if (has_value) fail_usage("--" + name + " takes no value: write --" + f->name() + " or --no-" + f->name());
            *(bool*)f->value = f != off;
            return i + 1;
        }
        if (!has_value && (is_last || (args[i + 1].size() > 2 && starts_with(args[i + 1], "--"))))
            fail_usage("--" + name + ": expected " + f->expected() + ", found " + (is_last ? "nothing" : args[i + 1]));
        const std::string text = has_value ? args[i].substr(equals + 1) : args[i + 1];
        if (!f->set(text)) fail_usage("--" + name + ": expected " + f->expected() + ", found \"" + text + "\"");
        return has_value ? i + 1 : i + 2;
    }
    [[noreturn]] void unknown_flag(const std::string& name) {
        for (const FlagGroup& g : groups)
            for (const Flag& f : g.flags)
                if (contains(f.names, name))
                    fail_usage("--" + name + " is a flag of " + g.commands + ", not of " + command);
        fail_usage("unknown flag --" + name + "; nearest: --" + nearest_flag(name) + "; see " + program + " " +
                   command + " --help");
    }
};
