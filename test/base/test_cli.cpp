// test_cli.cpp: the command line: forms, values, refusals, --help, to JSON and back.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/base/cli.h"
#include "test/temp.h"

namespace {

// A program's options and its table, parsed from words.
struct Program {
    std::string data, schedule = "linear";
    int64_t steps = 100, top_k = 5, seed = -3;
    double lr = 3e-4, dropout = 0.1;
    bool resume = false, eval = true;
    bool shows_help = false;
    Cli cli{"prog", "trains something.", "  ./prog --data DIR\n",
        {{"train", "", "train it"}, {"guess", "TEXT...", "guess the rest", 1, CLI_MANY},
            {"one", "WORD", "takes one word", 1, 1}},
        {{"Data", "", {{"data", &data, "DIR", "where it is"}}},
            {"Training", "train",
                {{"lr", &lr, above(0), "learning rate"}, {"steps|iterations|iters", &steps, at_least(1), "steps"},
                    {"dropout", &dropout, up_to(0, 1), "dropout"}, {"seed", &seed, {}, "seed"},
                    {"schedule", &schedule, "linear|cosine", "how lr falls"}, {"resume", &resume, "go on"},
                    {"eval", &eval, "evaluate"}}},
            {"Guessing", "guess one", {{"top-k", &top_k, between(1, 10), "how many"}}}}};

    Program& run(std::vector<const char*> args) {
        args.insert(args.begin(), "./prog");
        shows_help = !cli.parse((int)args.size(), args.data());
        return *this;
    }
};
std::string usage_error(const std::vector<const char*>& args) {
    try {
        Program().run(args);
        return "";
    } catch (const Error& e) {
        CHECK(e.code == EXIT_USAGE);
        CHECK(std::string(e.what()).find('\n') == std::string::npos);
        return e.what();
    }
}

}  // namespace

TEST_CASE("cli: flags, commands and words") {
    Program p;
    p.run({});
    CHECK((
        p.cli.command == "train" && p.steps == 100 && p.lr == 3e-4 && !p.resume && p.eval && p.cli.positional.empty()));
    CHECK_FALSE(p.cli.given("lr"));
    p.run({"--lr", "1e-5", "--steps=7", "--resume", "--no-eval", "--schedule", "cosine", "--data", "a b", "--dropout",
        "0", "--seed", "-12"});
    CHECK((p.lr == 1e-5 && p.steps == 7 && p.resume && !p.eval && p.schedule == "cosine" && p.data == "a b" &&
           p.dropout == 0 && p.seed == -12));
    CHECK((p.cli.given("lr") && p.cli.given("eval") && !p.cli.given("guess")));
    p.run({"train", "--lr", "1", "--lr", "2", "--data="});
    CHECK((p.lr == 2 && p.data == ""));

    Program g;
    g.run({"guess", "the [MASK]", "--top-k", "3", "-5 degrees", "- dash", "-", "--", "--data", "x"});
    CHECK((g.cli.command == "guess" && g.top_k == 3));
    CHECK(g.cli.positional == std::vector<std::string>{"the [MASK]", "-5 degrees", "- dash", "-", "--data", "x"});
}

TEST_CASE("cli: what makes no sense is one line and exit code 2") {
    CHECK(has(usage_error({"--lr", "abc"}), "--lr: expected a number > 0, found \"abc\""));
    for (const char* bad : {"0", "-1", "nan", "inf", "1e999", "0x10", "", " 1", "1 ", "1,5", "1e", "--"})
        CHECK(has(usage_error({"--lr", bad}), "--lr: expected a number > 0, found"));
    for (const char* bad : {"0", "-1", "1.5", "1e3", "", "99999999999999999999", "+-1", "1k"})
        CHECK(has(usage_error({"--steps", bad}), "--steps: expected an integer >= 1, found"));
    CHECK(has(usage_error({"--dropout", "1"}), "--dropout: expected a number >= 0 and < 1, found \"1\""));
    CHECK(has(usage_error({"guess", "--top-k", "11", "x"}), "--top-k: expected an integer from 1 to 10, found \"11\""));
    CHECK(has(usage_error({"--schedule", "line"}), "--schedule: expected one of linear|cosine, found \"line\""));
    CHECK(has(usage_error({"--schedule", "linear|cosine"}), "--schedule: expected one of"));
    CHECK(has(usage_error({"--schedule="}), "--schedule: expected one of"));
    CHECK(has(usage_error({"--lr"}), "--lr: expected a number > 0, found nothing"));
    CHECK(has(usage_error({"--data", "--lr", "1"}), "--data: expected text, found --lr"));
    CHECK(has(usage_error({"--resume=yes"}), "--resume takes no value"));
    CHECK(has(usage_error({"--no-lr", "1"}), "unknown flag --no-lr"));
    CHECK(has(usage_error({"--step", "1"}), "unknown flag --step; nearest: --steps; see prog train --help"));
    CHECK(has(usage_error({"--shedule", "cosine"}), "nearest: --schedule"));
    CHECK(has(usage_error({"--iteration", "1"}), "nearest: --steps;"));  // most like a name that it had before
    CHECK(has(usage_error({"-lr", "1"}), "unknown flag -lr: flags begin with two dashes; nearest: --lr"));
    CHECK(has(usage_error({"--no-resum"}), "unknown flag --no-resum; nearest: --resume"));
    CHECK(has(usage_error({"--top-k", "3"}), "--top-k is a flag of guess one, not of train"));
    CHECK(has(usage_error({"--=3"}), "unknown flag"));
    CHECK(has(usage_error({"trian"}), "expected a command (train, guess, one), found \"trian\"; nearest: train"));
    CHECK(has(usage_error({"train", "it"}), "prog train: expected only flags, found \"it\""));
    CHECK(has(usage_error({"guess"}), "prog guess: expected TEXT..., found nothing"));
    CHECK(has(usage_error({"one", "a", "b"}), "prog one: expected WORD, found \"b\" as well"));
}

TEST_CASE("cli: a command that has to be named") {
    Program p;
    p.cli.command_required = true;
    CHECK_THROWS_WITH_AS(p.run({}), doctest::Contains("expected a command (train, guess, one), found nothing"), Error);
    CHECK_THROWS_WITH_AS(
        p.run({"--lr", "1"}), doctest::Contains("expected a command (train, guess, one), found \"--lr\""), Error);
    CHECK(p.run({"train", "--lr", "1"}).lr == 1);
}

TEST_CASE("cli: --help shows examples first, then groups with defaults") {
    for (std::vector<const char*> args :
        {std::vector<const char*>{"--help"}, {"-h"}, {"guess", "--help"}, {"guess", "x", "--bad", "-h"}}) {
        // what goes to the terminal is help(); here only that nothing else happens
        fflush(stdout);
        int keep = dup(1), null = open("/dev/null", O_WRONLY);
        dup2(null, 1);
        Program p;
        p.run(args);
        fflush(stdout);
        dup2(keep, 1);
        close(keep);
        close(null);
        CHECK(p.shows_help);
    }
    CHECK_FALSE(Program().run({"guess", "--", "--help"}).shows_help);
    std::string all = Program().cli.help(""), guess = Program().cli.help("guess");
    CHECK(all.find("Examples") < all.find("Commands"));
    CHECK(has(all, "./prog --data DIR"));
    CHECK(has(all, "Training (train):"));
    CHECK(has(all, "--lr X"));
    CHECK(has(all, "learning rate (default 0.0003)"));
    CHECK(has(all, "--schedule linear|cosine"));
    CHECK(has(all, "how lr falls (default linear)"));
    CHECK(has(all, "--[no-]eval"));
    CHECK(has(all, "evaluate (default yes)"));
    CHECK(has(all, "where it is\n"));  // an empty default is not shown
    CHECK(has(guess, "--top-k N"));
    CHECK(has(guess, "--data DIR"));
    CHECK(guess.find("--lr") == std::string::npos);
}

TEST_CASE("cli: long lines of --help continue below, no word is lost") {
    std::string left = "  --flag N" + std::string(27, ' '), words;
    for (int i = 0; i < 60; i++) words += format("word%d ", i);
    std::string text = wrapped(left + words + "end"), joined;
    size_t longest = 0;
    for (size_t at = 0, end; at < text.size(); at = end + 1) {
        end = std::min(text.find('\n', at), text.size());
        longest = std::max(longest, end - at);
        if (at > 0) CHECK(text.find_first_not_of(' ', at) == at + 37);
        joined += (at > 0 ? " " : "") + text.substr(at > 0 ? at + 37 : at, end - (at > 0 ? at + 37 : at));
    }
    CHECK((longest > 100 && longest <= 118));
    CHECK(joined == left + words + "end");
    CHECK(wrapped("short") == "short");
    CHECK(wrapped(left + std::string(200, 'x')) == left + std::string(200, 'x'));
}

TEST_CASE("cli: flags go to JSON and come back, but not over those given") {
    Program p;
    p.run({"--lr", "0.1", "--steps", "9007199254740993", "--resume", "--schedule", "cosine", "--data", "x \"y\""});
    Json json = parse_json(dump_json(p.cli.to_json()), "config");
    CHECK(json.find("top-k") == nullptr);  // no flag of this command
    CHECK(json.o.size() == 8);

    Program q;
    q.run({"--steps", "5"});
    q.cli.from_json(json, "config.json");
    CHECK((q.steps == 5 && q.lr == 0.1 && q.resume && q.schedule == "cosine" && q.data == "x \"y\"" && q.seed == -3));
    CHECK_FALSE(q.cli.given("lr"));
    Program r;
    r.run({}).cli.from_json(json, "config.json");
    CHECK(r.steps == 9007199254740993);
    auto error = [&](const char* text) {
        try {
            r.cli.from_json(parse_json(text, "x"), "config.json");
            return std::string();
        } catch (const Error& e) {
            CHECK(e.code == EXIT_FAILED);
            return std::string(e.what());
        }
    };
    CHECK(has(error("{\"lr\":-1}"), "config.json: \"lr\": expected a number > 0, found -1"));
    CHECK(has(error("{\"resume\":1}"), "config.json: \"resume\": expected true or false, found 1"));
    CHECK(has(error("{\"schedule\":\"x\"}"), "expected one of linear|cosine, found x"));
    CHECK(has(error("{\"old\":1}"), "unknown flag \"old\""));
    CHECK(has(error("3"), "config.json: expected an object"));
}

TEST_CASE("cli: a flag answers to its aliases, on the command line and in a file, and is shown by its name alone") {
    for (const char* name : {"--steps", "--iterations", "--iters"}) {
        Program p;
        p.run({name, "7"});
        CHECK((p.steps == 7 && p.cli.given("steps") && p.cli.given("iters")));
        CHECK(p.cli.to_json().find("steps")->i == 7);
        CHECK(p.cli.to_json().o.size() == 8);
    }
    Program q;
    q.run({}).cli.from_json(parse_json("{\"iters\": 9}", "x"), "config.json");
    CHECK(q.steps == 9);
    CHECK(has(q.cli.help(""), "--steps N"));
    CHECK(q.cli.help("").find("iter") == std::string::npos);
    CHECK(has(usage_error({"--iters", "0"}), "--iters: expected an integer >= 1, found \"0\""));
    CHECK(has(usage_error({"guess", "--iters", "3", "x"}), "--iters is a flag of train, not of guess"));
}

TEST_CASE("cli: edit distance") {
    CHECK(edit_distance("", "abc") == 3);
    CHECK(edit_distance("abc", "") == 3);
    CHECK(edit_distance("kitten", "sitting") == 3);
    CHECK(edit_distance("steps", "steps") == 0);
}
