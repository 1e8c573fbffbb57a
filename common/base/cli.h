// cli.h: a program's command line as one table of flags bound to variables; the value of a variable at the start is the
// default.
//
//   Cli cli{"train_bert", "Trains a BERT encoder by masked LM.",
//           "  ./train_bert --data DIR --out runs/x\n",                      // examples, printed first by --help
//           {{"train", "", "train a model"},                                  // the first command is the default
//            {"fill-mask", "TEXT...", "guess the [MASK]s", 1, CLI_MANY}},     // 1 or more words after it
//           // title, commands it serves ("": all), flags
//           {{"Data", "train", {{"data", &o.data, "DIR", "train.bin, val.bin"}}},
//            {"Training", "train", {{"lr", &o.lr, above(0), "peak learning rate"},
//                                   {"steps", &o.steps, at_least(1), "optimiser steps"},
//                                   {"schedule", &o.schedule, "linear|cosine", "how lr falls"},   // '|': a choice
//                                   {"resume", &o.resume, "continue where --out stopped"}}}}};
//   if (!cli.parse(argc, argv)) return 0;   // --help was printed
//
// Forms: --flag VALUE, --flag=VALUE, --flag and --no-flag for bools; where a flag is repeated the last one counts;
// after `--` all words are text. What makes no sense is one line and exit code 2.
#pragma once
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <climits>
#include <cmath>
#include <vector>

#include "common/base/errors.h"
#include "common/base/json.h"
#include "common/base/text.h"

constexpr int CLI_MANY = INT_MAX;

struct Range {
    double lo = -INFINITY, hi = INFINITY;
    bool without_lo = false, without_hi = false;
    bool has(double x) const { return (without_lo ? x > lo : x >= lo) && (without_hi ? x < hi : x <= hi); }
};
inline Range above(double lo) { return {lo, INFINITY, true, false}; }
inline Range at_least(double lo) { return {lo, INFINITY, false, false}; }
inline Range between(double lo, double hi) { return {lo, hi, false, false}; }  // both included
inline Range up_to(double lo, double hi) { return {lo, hi, false, true}; }     // lo <= x < hi

// "a,b,c" → a, b, c; empty ones are left out
inline std::vector<std::string> split_list(const std::string& text) {
    std::vector<std::string> list;
    for (size_t at = 0, end; at < text.size(); at = end + 1) {
        end = std::min(text.find(',', at), text.size());
        if (end > at) list.push_back(text.substr(at, end - at));
    }
    return list;
}

struct Flag {
    enum Type { INTEGER, NUMBER, BOOL, TEXT, CHOICE, LIST } type;  // a LIST may be given several times
    std::string name;
    std::vector<std::string> aliases;  // names that it had before: still taken, not shown
    void* value;
    Range range;
    std::string what;  // placeholder of the value in --help; a choice: "a|b|c"
    std::string help;
    bool given = false;  // on the command line

    // names: the name, then its aliases: "hidden-size|width"
    Flag(const char* names, int64_t* v, Range r, const char* help)
        : type(INTEGER), value(v), range(r), what("N"), help(help) {
        set_names(names);
    }
    Flag(const char* names, double* v, Range r, const char* help)
        : type(NUMBER), value(v), range(r), what("X"), help(help) {
        set_names(names);
    }
    Flag(const char* names, bool* v, const char* help) : type(BOOL), value(v), help(help) { set_names(names); }
    Flag(const char* names, std::string* v, const char* what, const char* help)
        : type(strchr(what, '|') ? CHOICE : TEXT), value(v), what(what), help(help) {
        set_names(names);
    }
    Flag(const char* names, std::vector<std::string>* v, const char* what, const char* help)
        : type(LIST), value(v), what(what), help(help) {
        set_names(names);
    }
    bool is_called(const std::string& n) const {
        return n == name || std::find(aliases.begin(), aliases.end(), n) != aliases.end();
    }

    // "an integer >= 1", "one of a|b|c": what an error message says was expected
    std::string expected() const {
        if (type == BOOL) return "true or false";
        if (type == TEXT || type == LIST) return "text";
        if (type == CHOICE) return "one of " + what;
        std::string s = type == INTEGER ? "an integer" : "a number";
        if (range.lo > -INFINITY && range.hi < INFINITY && !range.without_lo && !range.without_hi)
            return s + format(" from %.15g to %.15g", range.lo, range.hi);
        if (range.lo > -INFINITY) s += format(range.without_lo ? " > %.15g" : " >= %.15g", range.lo);
        if (range.lo > -INFINITY && range.hi < INFINITY) s += " and";
        if (range.hi < INFINITY) s += format(range.without_hi ? " < %.15g" : " <= %.15g", range.hi);
        return s;
    }
    // text → variable; false, and the variable as it was, if the text is not what expected() says
    bool set(const std::string& text) {
        char* end = nullptr;
        errno = 0;
        if (type == TEXT) *(std::string*)value = text;
        if (type == LIST) ((std::vector<std::string>*)value)->push_back(text);
        if (type == CHOICE) {
            if (text.empty() || text.find('|') != text.npos || ("|" + what + "|").find("|" + text + "|") == text.npos)
                return false;
            *(std::string*)value = text;
        }
        if (type == BOOL) {
            if (text != "true" && text != "false") return false;
            *(bool*)value = text == "true";
        }
        if (type == INTEGER) {
            if (text.empty() || text.find_first_not_of("0123456789-+") != std::string::npos) return false;
            long long x = strtoll(text.c_str(), &end, 10);
            if (*end || end == text.c_str() || errno || !range.has((double)x)) return false;
            *(int64_t*)value = x;
        }
        if (type == NUMBER) {
            // no hex, inf, nan
            if (text.empty() || text.find_first_not_of("0123456789-+.eE") != std::string::npos) return false;
            double x = strtod(text.c_str(), &end);
            if (*end || end == text.c_str() || !std::isfinite(x) || !range.has(x)) return false;
            *(double*)value = x;
        }
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
    void set_names(const std::string& names) {
        size_t bar = names.find('|');
        name = names.substr(0, bar);
        while (bar != names.npos) {
            size_t end = names.find('|', bar + 1);
            aliases.push_back(names.substr(bar + 1, end == names.npos ? end : end - bar - 1));
            bar = end;
        }
    }
};

struct Command {
    std::string name, what, help;  // what: the words after it, as --help shows them
    int min_positional = 0, max_positional = 0;
};
struct FlagGroup {
    std::string title, commands;  // commands: the ones that take these flags, separated by spaces; "" for all
    std::vector<Flag> flags;
    bool serves(const std::string& command) const {
        return commands.empty() || (" " + commands + " ").find(" " + command + " ") != std::string::npos;
    }
};

// Takes the flags of these names out of a table that several programs use.
inline void without(std::vector<FlagGroup>& groups, const std::vector<std::string>& names) {
    for (FlagGroup& g : groups)
        g.flags.erase(
            std::remove_if(g.flags.begin(), g.flags.end(),
                           [&](const Flag& f) { return std::find(names.begin(), names.end(), f.name) != names.end(); }),
            g.flags.end());
}
// Adds a group to it.
inline void add_flags(std::vector<FlagGroup>& groups, const char* title, const char* commands,
                      const std::vector<Flag>& flags) {
    groups.push_back({title, commands, flags});
}
// Gives the flag of this name another help text, in such a table.
inline void describe(std::vector<FlagGroup>& groups, const std::string& name, const std::string& help) {
    for (FlagGroup& g : groups)
        for (Flag& f : g.flags)
            if (f.name == name) f.help = help;
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
        return body();
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

struct Cli {
    std::string program, about, examples;
    std::vector<Command> commands;
    std::vector<FlagGroup> groups{};
    bool command_required = false;  // true: the first word has to be a command
    std::string closing{};          // what --help ends with
    // set by parse()
    std::string command{};
    std::vector<std::string> positional{};  // the words that are no flags

    // The command line → variables, command, positional. false: --help was given and has been printed.
    bool parse(int argc, const char* const* argv) {
        std::vector<std::string> args(argv + 1, argv + argc);
        auto last = std::find(args.begin(), args.end(), "--");
        bool wants_help = std::find(args.begin(), last, "--help") != last ||
                          std::find(args.begin(), last, "-h") != last;
        positional.clear();
        size_t i = take_command(args, wants_help);
        if (wants_help) {
            fputs(help(i ? command : "").c_str(), stdout);
            return false;
        }
        while (i < args.size()) {
            const std::string& arg = args[i];
            if (arg == "--") {
                positional.insert(positional.end(), args.begin() + i + 1, args.end());
                break;
            }
            if (arg.size() > 2 && arg.compare(0, 2, "--") == 0) {
                i = take_flag(args, i);
                continue;
            }
            if (arg.size() > 1 && arg[0] == '-' && isalpha((unsigned char)arg[1]) && arg.find(' ') == std::string::npos)
                fail_usage("unknown flag %s: flags begin with two dashes; nearest: --%s", arg.c_str(),
                           nearest_flag(arg.substr(1)).c_str());
            positional.push_back(arg);
            i++;
        }
        for (const Command& c : commands) {
            if (c.name != command) continue;
            const char *prog = program.c_str(), *what = c.what.empty() ? "only flags" : c.what.c_str();
            if ((int)positional.size() < c.min_positional)
                fail_usage("%s %s: expected %s, found nothing", prog, command.c_str(), what);
            if ((int)positional.size() > c.max_positional)
                fail_usage("%s %s: expected %s, found \"%s\"%s", prog, command.c_str(), what,
                           positional[c.max_positional].c_str(), c.max_positional ? " as well" : "");
        }
        return true;
    }

    // The flag of that name which the command takes, or nullptr.
    Flag* find(const std::string& name) {
        for (FlagGroup& g : groups)
            for (Flag& f : g.flags)
                if (f.is_called(name) && g.serves(command)) return &f;
        return nullptr;
    }
    // Was it given on the command line?
    bool given(const std::string& name) { return find(name) && find(name)->given; }

    // {"lr": 0.0003, ...}: every flag of the command, for config.json
    Json to_json() const {
        Json all = Json::make_object();
        for (const FlagGroup& g : groups)
            for (const Flag& f : g.flags)
                if (g.serves(command)) all.set(f.name, f.json());
        return all;
    }
    // For --resume: sets from such an object the flags that were not given on the command line. `where` is the file,
    // for errors.
    void from_json(const Json& all, const std::string& where) {
        if (all.kind != Json::object) fail("%s: expected an object of flags", where.c_str());
        for (const auto& [name, value] : all.o) {
            Flag* f = find(name);
            if (!f)
                fail("%s: unknown flag \"%s\": the file was written by another version of %s; nearest: %s",
                     where.c_str(), name.c_str(), program.c_str(), nearest_flag(name).c_str());
            std::string text = value.kind == Json::string ? bytes_of_json(value.s) : dump_json(value);
            if (!f->given && !f->set(text))
                fail("%s: \"%s\": expected %s, found %s", where.c_str(), name.c_str(), f->expected().c_str(),
                     text.c_str());
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
                std::string left = (f.type == Flag::BOOL ? "--[no-]" : "--") + f.name + " " + f.what;
                std::string preset = dump_json(f.json());
                if (f.type == Flag::TEXT || f.type == Flag::CHOICE || f.type == Flag::LIST) preset = f.json().s;
                if (f.type == Flag::NUMBER) preset = format("%.10g", *(double*)f.value);
                if (f.type == Flag::BOOL) preset = *(bool*)f.value ? "yes" : "no";
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
            for (const Flag& f : g.flags) {
                if (!g.serves(command)) continue;
                names.push_back(f.name);
                names.insert(names.end(), f.aliases.begin(), f.aliases.end());
            }
        const std::string name = nearest(word, names);
        const Flag* flag = find(name);
        return flag ? flag->name : name;
    }

private:
    // The first word, where it is a command, else the default one. Returns how many words that took.
    size_t take_command(const std::vector<std::string>& args, bool wants_help) {
        std::vector<std::string> names;
        std::string list;
        for (const Command& c : commands) {
            names.push_back(c.name);
            list += (list.empty() ? "" : ", ") + c.name;
        }
        command = commands[0].name;
        if (!args.empty() && std::find(names.begin(), names.end(), args[0]) != names.end()) {
            command = args[0];
            return 1;
        }
        if (wants_help) return 0;
        if (args.empty() && command_required)
            fail_usage("%s: expected a command (%s), found nothing; see %s --help", program.c_str(), list.c_str(),
                       program.c_str());
        if (!args.empty() && (command_required || (args[0][0] != '-' && commands[0].max_positional == 0)))
            fail_usage("%s: expected a command (%s), found \"%s\"; nearest: %s; see %s --help", program.c_str(),
                       list.c_str(), args[0].c_str(), nearest(args[0], names).c_str(), program.c_str());
        return 0;
    }
    // Sets the flag at args[i]; returns the index of the word after it and its value.
    size_t take_flag(const std::vector<std::string>& args, size_t i) {
        size_t equals = args[i].find('=');
        bool has_value = equals != std::string::npos;
        std::string name = args[i].substr(2, has_value ? equals - 2 : equals);
        Flag* f = find(name);
        bool no = !f && name.compare(0, 3, "no-") == 0 && find(name.substr(3)) &&
                  find(name.substr(3))->type == Flag::BOOL;
        if (no) f = find(name.substr(3));
        if (!f) unknown_flag(name);
        f->given = true;
        if (f->type == Flag::BOOL) {
            if (has_value)
                fail_usage("--%s takes no value: write --%s or --no-%s", name.c_str(), f->name.c_str(),
                           f->name.c_str());
            f->set(no ? "false" : "true");
            return i + 1;
        }
        if (!has_value && (i + 1 == args.size() || (args[i + 1].size() > 2 && args[i + 1].compare(0, 2, "--") == 0)))
            fail_usage("--%s: expected %s, found %s", name.c_str(), f->expected().c_str(),
                       i + 1 == args.size() ? "nothing" : args[i + 1].c_str());
        std::string text = has_value ? args[i].substr(equals + 1) : args[i + 1];
        if (!f->set(text))
            fail_usage("--%s: expected %s, found \"%s\"", name.c_str(), f->expected().c_str(), text.c_str());
        return has_value ? i + 1 : i + 2;
    }
    [[noreturn]] void unknown_flag(const std::string& name) {
        for (const FlagGroup& g : groups)
            for (const Flag& f : g.flags)
                if (f.is_called(name))
                    fail_usage("--%s is a flag of %s, not of %s", name.c_str(), g.commands.c_str(), command.c_str());
        fail_usage("unknown flag --%s; nearest: --%s; see %s %s --help", name.c_str(), nearest_flag(name).c_str(),
                   program.c_str(), command.c_str());
    }
};
