// sft.cu: fine-tuning a decoder for text generation and on instructions (Wei et al. 2021, Wang et al. 2022), and using
// what comes out.
//
//   ./sft --init runs/gpt --data data/instruct --out runs/sft      train
//   ./sft eval --model runs/gpt,runs/sft --data data/instruct/test_tasks.bin              is it better on tasks that it
//   never saw?
//   ./sft generate --model runs/sft < questions.jsonl              ask, from a program
//   ./sft chat --model runs/sft                                    ask, in a terminal
//
// The model is that of train_gpt.cu, without a single new parameter: an instruction, its input and the answer are plain
// text, put together by a template (common/text/instruct_rows.h). New is only which rows have a target: those that
// predict a token of an answer, or the <|endoftext|> behind it.
//
//   tokens     <|endoftext|>  Q   u   e  s  t  i  o  n     A    n    s
//   targets          −        −   −   −  −  −  −  −  A     n    s    <|endoftext|>
//
// Read in this order: data and mixture → evaluation → the task → eval → generate, chat → main.
#ifndef SFT_CU
#define SFT_CU
#include "train_gpt.cu"

#include <filesystem>
#include <map>
#include <set>

#include "common/eval/metrics.h"
#include "common/eval/rouge.h"
#include "common/text/instruct_rows.h"

// ---------------------------------------------------------------- data
// "family/name" → "family"; a task that names no family is one of its own
std::string family_of(const std::string& task) { return task.substr(0, task.find('/')); }
// Is this task, "family/name", among those that a list names, by all of it, its family or its name? (So does
// data/instructions.py --holdout.)
bool named_in(const std::string& task, const std::string& list) {
    std::string family = family_of(task), name = task.substr(task.find('/') + 1);
    for (const std::string& n : split_list(list))
        if (n == task || n == family || n == name) return true;
    return false;
}

// "a, b, c, ..."
std::string some_of(const std::vector<std::string>& names) {
    std::string text;
    for (size_t i = 0; i < names.size() && i < 20; i++) text += (i ? ", " : "") + names[i];
    return text + (names.size() > 20 ? ", ..." : "");
}

// The rows of a .bin file that a run trains on, mixed: make(epoch, q) makes the q-th row of an epoch in tokens, types,
// positions, targets.
//
// An epoch holds take[t] rows of task t, as many together as there are rows, a task's rows beyond the cap not counted
// (of --mix size without a cap and weights: every row once). Which of a task's rows these are goes on from epoch to
// epoch: none comes a second time before all have come once.
struct InstructData {
    const BinFile& file;
    int eot;
    bool on_prompt = false;  // also the prompt's tokens are targets
    uint64_t seed = 0;
    std::vector<std::vector<uint32_t>> rows;  // of each task
    std::vector<uint64_t> take, first;        // (tasks), (tasks + 1): rows of an epoch, and those of the tasks before
    std::vector<int> tokens, types, positions, targets;

    InstructData(const BinFile& file, int eot) : file(file), eot(eot), rows(file.tasks.size()), take(rows.size()) {
        for (size_t s = 0; s < file.sequences(); s++) rows[file.task(s)].push_back((uint32_t)s);
        mix(std::vector<double>(rows.size(), 1.0), "size", 0);
    }
    uint64_t sequences() const { return first.back(); }

    // Shares of the tasks: weight · min(rows, cap) of "size", weight of "equal"; a task without rows has none. (Raffel
    // et al. 2019, section 3.5.2)
    void mix(const std::vector<double>& weights, const std::string& how, uint64_t cap) {
        size_t n = rows.size();
        uint64_t total = 0, taken = 0;
        std::vector<double> share(n);
        double sum = 0;
        for (size_t t = 0; t < n; t++) {
            uint64_t have = rows[t].size(), counted = cap ? std::min(cap, have) : have;
            total += counted;
            sum += share[t] = have == 0 ? 0 : weights[t] * (how == "equal" ? 1.0 : (double)counted);
        }
        if (sum == 0) total = 0;  // all weights are
        // the largest remainders are rounded up, so that the sum is exact
        std::vector<std::pair<double, size_t>> rest;
        for (size_t t = 0; t < n; t++) {
            double exact = total ? (double)total * share[t] / sum : 0;
            taken += take[t] = (uint64_t)exact;
            rest.push_back({(double)take[t] - exact, t});
        }
        std::sort(rest.begin(), rest.end());
        for (size_t i = 0; taken < total; i++, taken++) take[rest[i].second]++;
        first.assign(1, 0);
        for (size_t t = 0; t < n; t++) first.push_back(first.back() + take[t]);
    }
    void make(uint64_t epoch, uint64_t q) {
        size_t t = std::upper_bound(first.begin(), first.end(), q) - first.begin() - 1, n = rows[t].size();
        uint64_t at = epoch * take[t] + (q - first[t]);  // of all rows of this task that were ever taken
        make_row(rows[t][Permutation(n, mix64(seed, t, at / n))(at % n)]);
    }
    // Row s: tokens <|endoftext|> r0 … rn−2, and where r[i] is supervised the target r[i] at position i.
    void make_row(size_t s) {
        size_t n = file.length(s);
        tokens.assign(1, eot);
        types.assign(n, 0);
        positions.clear();
        targets.clear();
        for (size_t i = 0; i + 1 < n; i++) tokens.push_back(file.token(s, i));
        if (on_prompt)
            for (size_t i = 0; i < n; i++) {
                positions.push_back((int)i);
                targets.push_back(file.token(s, i));
            }
        else
            for (size_t k = 0; k < file.spans(s); k++) {
                auto [begin, end] = file.span(s, k);
                for (size_t i = begin; i < end; i++) {
                    positions.push_back((int)i);
                    targets.push_back(file.token(s, i));
                }
            }
    }
    // How many rows are longer than T tokens
    size_t longer_than(size_t T) const {
        size_t count = 0;
        for (auto& list : rows)
            for (uint32_t s : list) count += file.length(s) > T;
        return count;
    }
};

// Takes what is held out from the rows of an epoch, and rows of other tasks that ask the same, in any of their turns:
// how many of these there are.
size_t hold_out(InstructData& data, const std::string& list) {
    auto prompt = [&](uint32_t s, size_t k) {  // the tokens before answer k
        std::vector<int32_t> ids;
        for (size_t i = 0; i < data.file.span(s, k).begin; i++) ids.push_back(data.file.token(s, i));
        return ids;
    };
    std::set<std::vector<int32_t>> asked;
    for (size_t t = 0; t < data.rows.size(); t++)
        if (named_in(data.file.tasks[t], list)) {
            for (uint32_t s : data.rows[t]) asked.insert(prompt(s, data.file.spans(s) - 1));
            data.rows[t].clear();
        }
    auto asks_it = [&](uint32_t s) {
        for (size_t k = 0; k < data.file.spans(s); k++)
            if (asked.count(prompt(s, k))) return true;
        return false;
    };
    size_t count = 0;
    for (auto& rows : data.rows) {
        auto same = asked.empty() ? rows.end() : std::remove_if(rows.begin(), rows.end(), asks_it);
        count += rows.end() - same;
        rows.erase(same, rows.end());
    }
    return count;
}

// ---------------------------------------------------------------- evaluation
// A set of rows that is reported on
struct TestSet {
    std::string name;
    const BinFile* file;
    std::vector<std::vector<uint32_t>> rows;  // of each of the file's tasks, in the file's order
    bool strict;                              // exact match counts case and punctuation
    size_t of;                                // so many rows these were drawn from
    size_t count() const {
        size_t n = 0;
        for (auto& list : rows) n += list.size();
        return n;
    }
};
// Of each task for which chosen(task) is true `most` rows, drawn always the same (0: all)
template <class F>
TestSet test_set(const std::string& name, const BinFile& file, int64_t most, bool strict, F chosen) {
    TestSet set{name, &file, std::vector<std::vector<uint32_t>>(file.tasks.size()), strict, 0};
    for (size_t s = 0; s < file.sequences(); s++)
        if (chosen(file.tasks[file.task(s)])) {
            set.rows[file.task(s)].push_back((uint32_t)s);
            set.of++;
        }
    for (size_t t = 0; t < set.rows.size(); t++) {
        auto& list = set.rows[t];
        if (most == 0 || list.size() <= (size_t)most) continue;
        std::vector<uint32_t> drawn;
        Permutation order(list.size(), mix64(1, t));
        for (int64_t i = 0; i < most; i++) drawn.push_back(list[order((uint64_t)i)]);
        std::sort(drawn.begin(), drawn.end());
        list = drawn;
    }
    return set;
}

// What stands in the first pair of double quotes: of `positive because of "good"` that is good; "" where there is none.
std::string quoted(const std::string& text) {
    size_t begin = text.find('"'), end = begin == text.npos ? begin : text.find('"', begin + 1);
    return end == text.npos ? "" : trimmed(text.substr(begin + 1, end - begin - 1));
}
// Is `word` in the text, not as a part of a longer one?
bool has_word(const std::string& text, const std::string& word) {
    auto letter = [&](size_t i) {
        return i < text.size() && (isalnum((unsigned char)text[i]) || (unsigned char)text[i] >= 128);
    };
    for (size_t at = word.empty() ? text.npos : text.find(word); at != text.npos; at = text.find(word, at + 1))
        if ((at == 0 || !letter(at - 1)) && !letter(at + word.size())) return true;
    return false;
}

// Does the reference quote a word of the input?
bool quotes_input(const InstructText& row) { return has_word(row.input, quoted(row.outputs[0])); }

// Σ over the rows of a task
struct TaskScore {
    int64_t rows = 0;
    double exact = 0, rouge = 0;
    int64_t with_options = 0, by_sum = 0,
            by_mean = 0;         // the right option has the largest Σ log p, or the largest per byte
    double chance = 0;           // Σ 1 / options
    int64_t quotes = 0;          // the reference quotes a word of the input
    double quotes_of_input = 0;  // of these, the answer does
    int64_t too_long = 0;        // the prompt fills the context: no answer, which is wrong
    int64_t long_options = 0;    // behind the prompt not every option fits: none is chosen, which is wrong

    void add(const std::string& answer, const InstructText& row, bool strict) {
        rows++;
        if (quotes_input(row)) {
            quotes++;
            quotes_of_input += has_word(row.input, quoted(answer));
        }
        exact += exact_match(answer, row.outputs, strict);
        rouge += rouge_l(answer, row.outputs);
    }
    // A row with several answers, each with the number of times that it was said: their mean
    void add_mean(const std::map<std::string, int>& answers, int times, const InstructText& row, bool strict) {
        rows++;
        quotes += quotes_input(row);
        for (const auto& [answer, said] : answers) {
            TaskScore one;
            one.add(answer, row, strict);
            const double share = (double)said / times;
            exact += share * one.exact;
            rouge += share * one.rouge;
            quotes_of_input += share * one.quotes_of_input;
        }
    }
    double exact_share() const { return exact / (double)std::max<int64_t>(rows, 1); }
    double mean_rouge() const { return rouge / (double)std::max<int64_t>(rows, 1); }
    Json json() const {
        Json j = Json::make_object();
        j.set("rows", rows).set("exact_match", exact_share()).set("rouge_l", mean_rouge());
        if (with_options)
            j.set("options", with_options)
                .set("option_accuracy", (double)by_sum / (double)with_options)
                .set("option_accuracy_per_byte", (double)by_mean / (double)with_options)
                .set("option_chance", chance / (double)with_options);
        if (quotes) j.set("quotes", quotes).set("quotes_of_input", quotes_of_input / (double)quotes);
        if (too_long) j.set("too_long", too_long);
        if (long_options) j.set("long_options", long_options);
        return j;
    }
    // All of it, to be read again: false if one is missing
    Json sums() const {
        return Json::make_object()
            .set("rows", rows)
            .set("exact", exact)
            .set("rouge", rouge)
            .set("with_options", with_options)
            .set("by_sum", by_sum)
            .set("by_mean", by_mean)
            .set("chance", chance)
            .set("quotes", quotes)
            .set("quotes_of_input", quotes_of_input)
            .set("too_long", too_long)
            .set("long_options", long_options);
    }
    bool read(const Json& j) {
        for (auto [key, to] : {std::pair<const char*, int64_t*>{"rows", &rows},
                               {"with_options", &with_options},
                               {"by_sum", &by_sum},
                               {"by_mean", &by_mean},
                               {"quotes", &quotes},
                               {"too_long", &too_long},
                               {"long_options", &long_options}}) {
            const Json* value = j.find(key);
            if (!value && to == &long_options) continue;  // older files do not have it
            if (!value || value->kind != Json::integer) return false;
            *to = value->i;
        }
        for (auto [key, to] : {std::pair<const char*, double*>{"exact", &exact},
                               {"rouge", &rouge},
                               {"chance", &chance},
                               {"quotes_of_input", &quotes_of_input}}) {
            const Json* value = j.find(key);
            if (!value || (value->kind != Json::number && value->kind != Json::integer)) return false;
            *to = value->d;
        }
        return true;
    }
};
// Something that answers: a model, or a baseline. Its scores are score[set][task].
struct Answerer {
    std::string name;
    std::vector<std::vector<TaskScore>> score;
};

// Scores in a file, each set's with the fingerprint of its rows: a run that is resumed need not answer again.
void write_scores(const std::string& path, const std::vector<TestSet>& sets, const Answerer& answerer) {
    Json all = Json::make_object();
    for (size_t k = 0; k < sets.size(); k++) {
        Json scores = Json::make_array();
        for (const TaskScore& s : answerer.score[k]) scores.a.push_back(s.sums());
        all.set(sets[k].name, Json::make_object()
                                  .set("data", hex(sets[k].file->header.content))
                                  .set("strict", sets[k].strict)
                                  .set("scores", scores));
    }
    write_file_atomic(path, dump_json(all) + "\n");
}
// False if there is no such file, or it is not about these rows.
bool read_scores(const std::string& path, const std::vector<TestSet>& sets, Answerer& answerer) {
    if (!exists(path)) return false;
    const Json all = parse_json(read_file(path), path);
    answerer.score.clear();
    for (const TestSet& set : sets) {
        const Json* saved = all.find(set.name);
        auto part = [&](const char* key) { return saved ? saved->find(key) : nullptr; };
        const Json *data = part("data"), *strict = part("strict"), *scores = part("scores");
        if (!data || data->s != hex(set.file->header.content) || !strict || strict->b != set.strict || !scores ||
            scores->a.size() != set.rows.size())
            return false;
        auto& tasks = answerer.score.emplace_back(set.rows.size());
        for (size_t t = 0; t < set.rows.size(); t++)
            if (!tasks[t].read(scores->a[t]) || tasks[t].rows != (int64_t)set.rows[t].size()) return false;
    }
    return true;
}

// Two answerers that know nothing: the input as it is, and the most frequent answer. For that a task's rows are drawn
// into two halves, and each half is answered with what is most frequent in the other: no row has a say in what it is
// answered with. The scores are means over 32 draws.
Answerer baseline(const std::vector<TestSet>& sets, bool copy) {
    const int draws = 32;
    Answerer b{copy ? "copy the input" : "most frequent answer", {}};
    for (const TestSet& set : sets) {
        b.score.emplace_back(set.rows.size());
        for (size_t t = 0; t < set.rows.size(); t++) {
            const size_t n = set.rows[t].size();
            std::vector<InstructText> rows;
            std::vector<std::map<std::string, std::string>> forms(
                n);  // of each row's answers, as exact_match() tells them apart: normal form → one that has it
            std::vector<std::map<std::string, int>> said(n);  // to each row: answer → in how many of the draws
            for (size_t i = 0; i < n; i++) {
                rows.push_back(parse_instruct_text(*set.file, set.rows[t][i]));
                for (const std::string& o : rows[i].outputs) {
                    std::string form = normal_form(o, set.strict);
                    forms[i].emplace(form.empty() ? normal_form(o, true) : form, o);
                }
                if (copy) said[i][rows[i].input] = draws;
            }
            for (int d = 0; d < draws && !copy; d++) {
                const Permutation drawn(n, mix64(2, t, (uint64_t)d));
                std::map<std::string, std::pair<size_t, std::string>>
                    count[2];  // of each half: normal form → in how many rows, and one that has it
                for (size_t i = 0; i < n; i++)
                    for (const auto& [form, o] : forms[i])
                        if (auto& [rows_with_it, text] = count[drawn(i) % 2][form]; rows_with_it++ == 0) text = o;
                std::string often[2];
                for (int half : {0, 1}) {
                    size_t most = 0;
                    for (const auto& [form, found] : count[half])
                        if (found.first > most) {
                            most = found.first;
                            often[half] = found.second;
                        }
                }
                for (size_t i = 0; i < n; i++) said[i][often[1 - drawn(i) % 2]]++;
            }
            for (size_t i = 0; i < n; i++) b.score.back()[t].add_mean(said[i], draws, rows[i], set.strict);
        }
    }
    return b;
}

// A model's answers. Whoever makes one owns the memory: that of model and generator, and a StepStats.
struct Evaluator {
    Gpt& model;
    Generator& generator;
    const Bpe& bpe;
    StepStats* stats;
    int64_t max_new;

    // <|endoftext|> and the row up to its last answer
    std::vector<int> prompt(const BinFile& file, uint32_t s) const {
        std::vector<int> ids{bpe.eot()};
        for (size_t i = 0; i < file.span(s, file.spans(s) - 1).begin; i++) ids.push_back(file.token(s, i));
        return ids;
    }
    // Answers all rows, greedily, and writes them to `out` (or nullptr) as JSON lines.
    Answerer run(const std::string& name, const std::vector<TestSet>& sets, FILE* out) {
        Answerer result{name, {}};
        size_t total = 0, done = 0, most = std::min(generator.memory.context - 1, model.shape.N);
        for (const TestSet& set : sets) total += set.count();
        double shown = seconds_now();
        for (const TestSet& set : sets) {
            std::vector<TaskScore>& score = result.score.emplace_back(set.rows.size());
            bool space;  // does the template put a space before an answer? Then it is that of its first token
                         // (instruct.h).
            Template::from_json(set.file->templ, set.file->path).before_output(true, space);
            std::vector<std::vector<int>> prompts;
            std::vector<std::pair<size_t, uint32_t>> asked;  // task and row of each prompt
            for (size_t t = 0; t < set.rows.size(); t++)
                for (uint32_t s : set.rows[t]) {
                    std::vector<int> ids = prompt(*set.file, s);
                    if (ids.size() <= most) {
                        prompts.push_back(ids);
                        asked.push_back({t, s});
                        continue;
                    }
                    score[t].rows++;
                    score[t].too_long++;
                    const InstructText row = parse_instruct_text(*set.file, s);
                    score[t].quotes += quotes_input(row);
                    if (size_t n = row.options.size()) {
                        score[t].with_options++;
                        score[t].chance += 1.0 / (double)n;
                    }
                }
            size_t begun = 0;
            std::vector<Answer> answers = generator.generate(
                prompts, max_new, Sampler{0, 1, 0, 1, {}}, [&](size_t i, int) {
                    begun = std::max(begun, i);
                    if (seconds_now() - shown > 1 && isatty(2)) {
                        fprintf(stderr, "\r%s: %zu of %zu answers ", name.c_str(), done + begun, total);
                        shown = seconds_now();
                    }
                    return true;
                });
            for (size_t i = 0; i < asked.size(); i++) {
                auto [t, s] = asked[i];
                InstructText row = parse_instruct_text(*set.file, s);
                std::string text = trimmed(bpe.decode(answers[i].tokens.data(), answers[i].tokens.size()));
                score[t].add(text, row, set.strict);
                Json line = Json::make_object();
                if (out) {
                    Json outputs = Json::make_array();
                    for (auto& o : row.outputs) outputs.a.push_back(o);
                    line.set("set", set.name)
                        .set("task", set.file->tasks[t])
                        .set("prompt", bpe.decode(prompts[i].data() + 1, prompts[i].size() - 1));
                    line.set("outputs", outputs)
                        .set("answer", text)
                        .set("stop", stop_name(answers[i].stop))
                        .set("exact", exact_match(text, row.outputs, set.strict));
                    line.set("rouge_l", rouge_l(text, row.outputs));
                }
                if (!row.options.empty()) choose(score[t], prompts[i], row, space, out ? &line : nullptr);
                if (out && fprintf(out, "%s\n", dump_json(line).c_str()) < 0)
                    fail("could not write the answers: %s", strerror(errno));
            }
            done += set.count();
        }
        if (isatty(2)) fprintf(stderr, "\r%*s\r", 60, "");
        return result;
    }
    // Which of the options is most likely as an answer, its end included? Where one does not fit into the context, none
    // is chosen, which is wrong.
    void choose(TaskScore& score, const std::vector<int>& prompt, const InstructText& row, bool space, Json* line) {
        std::vector<std::pair<size_t, size_t>> part;  // targets of each option in the batch
        std::vector<double> sums(row.options.size(), 0);
        auto flush = [&](size_t first) {
            if (generator.builder.rows.empty()) return;
            Batch b = to_device(generator.builder.finish(generator.host.data(), StepCounters{}, 1), model.shape,
                                generator.block, generator.host.data());
            float dropout = model.dropout;
            model.dropout = 0;
            device_zero(stats, sizeof(StepStats));
            model.forward(b, stats);
            model.dropout = dropout;
            std::vector<areal> losses(b.M);
            copy_to_host(losses.data(), model.acts.losses, b.M * sizeof(areal));
            for (size_t k = 0; k < part.size(); k++)
                for (size_t m = part[k].first; m < part[k].second; m++) sums[first + k] -= (double)losses[m];
            part.clear();
            generator.builder.clear();
        };
        size_t first = 0;
        score.with_options++;
        score.chance += 1.0 / (double)row.options.size();
        generator.builder.clear();
        for (size_t k = 0; k < row.options.size(); k++) {
            std::vector<int> ids = prompt, answer, positions;
            bpe.encode((space ? " " : "") + row.options[k], answer, false);
            answer.push_back(bpe.eot());
            for (size_t i = 0; i < answer.size(); i++) positions.push_back((int)(prompt.size() - 1 + i));
            ids.insert(ids.end(), answer.begin(), answer.end() - 1);
            if (ids.size() > (size_t)std::min<int64_t>(model.config.T, model.shape.N)) {
                score.long_options++;
                return;
            }
            if (!generator.builder.fits(ids.size(), answer.size())) {
                flush(first);
                first = k;
            }
            part.push_back({generator.builder.rows.size(), generator.builder.rows.size() + answer.size()});
            generator.builder.add(ids, std::vector<int>(ids.size(), 0), positions, answer);
        }
        flush(first);
        size_t by_sum = 0, by_mean = 0;
        auto mean = [&](size_t k) { return sums[k] / (double)std::max<size_t>(row.options[k].size(), 1); };
        for (size_t k = 1; k < sums.size(); k++) {
            if (sums[k] > sums[by_sum]) by_sum = k;
            if (mean(k) > mean(by_mean)) by_mean = k;
        }
        auto right = [&](size_t k) {
            return std::find(row.outputs.begin(), row.outputs.end(), row.options[k]) != row.outputs.end();
        };
        score.by_sum += right(by_sum);
        score.by_mean += right(by_mean);
        if (line) line->set("option", row.options[by_sum]).set("option_per_byte", row.options[by_mean]);
    }
};

// The means over the tasks of a set, of one answerer
struct SetMean {
    std::vector<double> exact, rouge, options, options_per_byte, chance, quotes;  // of each task that has such rows
    int64_t too_long = 0, long_options = 0;  // rows without an answer, or without a chosen option
    SetMean(const std::vector<TaskScore>& score) {
        for (const TaskScore& s : score) {
            if (s.rows) {
                exact.push_back(s.exact_share());
                rouge.push_back(s.mean_rouge());
            }
            if (s.with_options) {
                options.push_back((double)s.by_sum / (double)s.with_options);
                options_per_byte.push_back((double)s.by_mean / (double)s.with_options);
                chance.push_back(s.chance / (double)s.with_options);
            }
            if (s.quotes) quotes.push_back(s.quotes_of_input / (double)s.quotes);
            too_long += s.too_long;
            long_options += s.long_options;
        }
    }
};
double mean(const std::vector<double>& x) { return mean_and_sd(x).first; }

// A table for each set: every task's mean counts the same. The other models are compared with the first.
void print_results(const std::vector<TestSet>& sets, const std::vector<Answerer>& answerers, bool tasks,
                   uint64_t seed) {
    size_t width = 20;
    for (const Answerer& a : answerers) width = std::max(width, a.name.size() + 2);
    for (size_t k = 0; k < sets.size(); k++) {
        const TestSet& set = sets[k];
        size_t with_rows = 0;
        for (auto& list : set.rows) with_rows += !list.empty();
        if (!with_rows) continue;
        std::string drawn = set.of > set.count() ? format(" of %s", thousands((double)set.of).c_str()) : "";
        printf("\n%s: %zu task%s, %s%s rows%s\n  %-*s  exact match   ROUGE-L\n", set.name.c_str(), with_rows,
               with_rows == 1 ? "" : "s", thousands((double)set.count()).c_str(), drawn.c_str(),
               set.strict ? "; exact match counts case and punctuation" : "", (int)width,
               tasks ? "" : "mean over tasks");
        if (tasks)
            for (size_t t = 0; t < set.rows.size(); t++) {
                if (set.rows[t].empty()) continue;
                printf("  %s (%zu rows)\n", set.file->tasks[t].c_str(), set.rows[t].size());
                for (const Answerer& a : answerers) {
                    const TaskScore& s = a.score[k][t];
                    printf("    %-*s  %7.1f %%    %7.3f", (int)width - 2, a.name.c_str(), 100 * s.exact_share(),
                           s.mean_rouge());
                    if (s.with_options)
                        printf("   right option %5.1f %% (per byte %5.1f %%)",
                               100.0 * (double)s.by_sum / (double)s.with_options,
                               100.0 * (double)s.by_mean / (double)s.with_options);
                    if (s.quotes)
                        printf("   quotes its input %5.1f %%", 100.0 * (double)s.quotes_of_input / (double)s.quotes);
                    printf("\n");
                }
            }
        if (tasks) printf("  mean over tasks\n");
        int64_t too_long = 0, long_options = 0;
        for (const Answerer& a : answerers) {
            SetMean m(a.score[k]);
            printf("  %-*s  %7.1f %%    %7.3f", (int)width, a.name.c_str(), 100 * mean(m.exact), mean(m.rouge));
            if (!m.options.empty())
                printf("   right option %5.1f %% (per byte %5.1f %%, chance %.1f %%)", 100 * mean(m.options),
                       100 * mean(m.options_per_byte), 100 * mean(m.chance));
            if (!m.quotes.empty()) printf("   quotes its input %5.1f %%", 100 * mean(m.quotes));
            printf("\n");
            too_long = std::max(too_long, m.too_long);
            long_options = std::max(long_options, m.long_options);
        }
        if (size_t n = SetMean(answerers.back().score[k]).options.size(); n && n < with_rows)
            printf("  (%zu of the tasks have options)\n", n);
        // what is behind two baselines and the first model is compared with that one; an interval that is not known is
        // "-"
        struct Gain {
            Interval exact, rouge, option;
            bool options;
        };
        std::vector<Gain> gains;
        bool any_known = false;
        for (size_t i = 3; i < answerers.size(); i++) {
            SetMean a(answerers[i].score[k]), b(answerers[2].score[k]);
            Gain g{paired_bootstrap(a.exact, b.exact, seed),
                   paired_bootstrap(a.rouge, b.rouge, seed),
                   {},
                   !a.options.empty()};
            if (g.options) g.option = paired_bootstrap(a.options, b.options, seed);
            any_known |= g.exact.known || g.rouge.known || (g.options && g.option.known);
            gains.push_back(g);
        }
        auto range = [&](const Interval& i, const char* form, double unit) {
            return !any_known ? std::string()
                   : !i.known ? std::string(" (-)")
                              : format(form, unit * i.low, unit * i.high);
        };
        if (!gains.empty())
            printf("  minus %s, in points%s\n", answerers[2].name.c_str(),
                   any_known       ? ", and the 95 % interval over tasks"
                   : with_rows < 6 ? ""
                                   : "; no interval, since fewer than 4 tasks differ");
        for (size_t i = 0; i < gains.size(); i++) {
            const Gain& g = gains[i];
            printf("  %-*s  %+7.1f%s  %+8.3f%s", (int)width, answerers[3 + i].name.c_str(), 100 * g.exact.mean,
                   range(g.exact, " (%+.1f to %+.1f)", 100).c_str(), g.rouge.mean,
                   range(g.rouge, " (%+.3f to %+.3f)", 1).c_str());
            if (g.options)
                printf("   right option %+.1f%s", 100 * g.option.mean,
                       range(g.option, " (%+.1f to %+.1f)", 100).c_str());
            printf("\n");
        }
        if (too_long) printf("  %lld prompts fill the model's context: no answer\n", (long long)too_long);
        if (long_options)
            printf("  %lld rows have an option that does not fit into the model's context: none is chosen\n",
                   (long long)long_options);
    }
}
Json results_json(const std::vector<TestSet>& sets, const std::vector<Answerer>& answerers, uint64_t seed) {
    Json all = Json::make_object();
    for (size_t k = 0; k < sets.size(); k++) {
        Json set = Json::make_object();
        for (const Answerer& a : answerers) {
            Json tasks = Json::make_object();
            for (size_t t = 0; t < sets[k].rows.size(); t++)
                if (!sets[k].rows[t].empty()) tasks.set(sets[k].file->tasks[t], a.score[k][t].json());
            SetMean m(a.score[k]);
            Json one = Json::make_object();
            one.set("exact_match", mean(m.exact)).set("rouge_l", mean(m.rouge));
            if (!m.options.empty())
                one.set("option_accuracy", mean(m.options))
                    .set("option_accuracy_per_byte", mean(m.options_per_byte))
                    .set("option_chance", mean(m.chance));
            if (!m.quotes.empty()) one.set("quotes_of_input", mean(m.quotes));
            if (!m.exact.empty() && &a - &answerers[0] >= 3) {
                SetMean b(answerers[2].score[k]);
                Json minus = Json::make_object();
                auto compare = [&](const char* key, const std::vector<double>& x, const std::vector<double>& y) {
                    if (x.empty()) return;
                    Interval i = paired_bootstrap(x, y, seed);
                    Json difference = Json::make_object().set("mean", i.mean);
                    if (i.known) difference.set("low", i.low).set("high", i.high);
                    minus.set(key, difference);
                };
                compare("exact_match", m.exact, b.exact);
                compare("rouge_l", m.rouge, b.rouge);
                compare("option_accuracy", m.options, b.options);
                one.set("minus_first_model", minus);
            }
            set.set(a.name, one.set("tasks", tasks));
        }
        all.set(sets[k].name, set);
    }
    return all;
}

// ---------------------------------------------------------------- the task
struct SftFlags {
    int64_t batch = 16, max_len = 0, cap = 0, eval_rows = 100, max_new = 128;
    std::string mix = "size", weights, holdout;
    bool on_prompt = false, strict = false;
};

struct SftTask {
    Gpt model;
    Optimizer opt;
    BatchShape shape;
    BatchBuilder builder;
    TrainFlags& f;
    const SftFlags& sf;
    InstructData train_data;
    std::unique_ptr<InstructData> val_data;  // of val.bin, or none
    const Bpe& bpe;
    GptConfig config;
    Generator generator;  // answers, before and after
    StepStats* answer_stats = nullptr;
    std::vector<char> host;  // validation batches
    char* block = nullptr;
    uint64_t val_rows = 0;
    size_t same_question = 0;  // rows for training that ask what a held-out row asks
    bool answers;              // are there test rows to answer?

    SftTask(TrainFlags& f, const SftFlags& sf, const BinFile& train, const BinFile* val, const Bpe& bpe,
            const GptConfig& config, bool answers)
        : f(f), sf(sf), train_data(train, bpe.eot()), bpe(bpe), config(config), answers(answers) {
        std::vector<double> weights = task_weights(train.tasks);
        same_question = hold_out(train_data, sf.holdout);
        if (sf.cap && sf.mix == "equal")
            fail_usage("--cap: of --mix size; with --mix equal all tasks count the same anyway");
        train_data.mix(weights, sf.mix, (uint64_t)sf.cap);
        train_data.seed = (uint64_t)f.seed;
        train_data.on_prompt = sf.on_prompt;
        if (val) {
            val_data = std::make_unique<InstructData>(*val, bpe.eot());
            hold_out(*val_data, sf.holdout);
            val_data->mix(std::vector<double>(val->tasks.size(), 1.0), "size", 0);
            val_rows = validation_sequences(*val_data, f.eval_tokens);
        }
        shape = shape_for(sf.batch);
        builder.set_up(shape, bpe.eot(), (int)sf.max_len, 128);
        model.config = config;
        model.shape = shape;
        model.dropout = (float)f.dropout;
        model.recompute = f.recompute;
        opt.table = gpt_table(model.params, config, (real*)nullptr);
        opt.n = total_count(opt.table);
    }
    BatchShape shape_for(int64_t batch) const {
        BatchShape s;
        s.N = s.M = (int)round_up(std::max(batch * sf.max_len, answers ? config.T : 0),
                                  128);  // every token may have a target; any prompt fits
        return s;
    }
    // "name=2,family=0.5": the product of all that name a task; others have 1
    std::vector<double> task_weights(const std::vector<std::string>& tasks) const {
        std::vector<double> w(tasks.size(), 1.0);
        for (const std::string& item : split_list(sf.weights)) {
            size_t equal = item.rfind('=');
            char* end = nullptr;
            double value = equal == item.npos ? -1 : strtod(item.c_str() + equal + 1, &end);
            if (!(value >= 0) || !std::isfinite(value) || !end || *end || end == item.c_str() + equal + 1)
                fail_usage("--weights: expected NAME=NUMBER with commas between, found \"%s\"", item.c_str());
            bool found = false;
            for (size_t t = 0; t < tasks.size(); t++)
                if (named_in(tasks[t], item.substr(0, equal))) {
                    w[t] *= value;
                    found = true;
                }
            if (!found)
                fail_usage("--weights: expected tasks or families of the training data, found \"%s\"; there are %s",
                           item.substr(0, equal).c_str(), some_of(tasks).c_str());
        }
        return w;
    }
    void plan(Arena& arena) {
        opt.plan(arena);
        model.plan_activations(arena, true);
        arena.region("batch");
        arena.take(block, shape.device_bytes());
        arena.take(answer_stats, 1);
        if (answers) generator.plan(arena, model, (int)sf.batch, (int)config.T);
        generator.block = block;
        generator.vocab_limit = (int)bpe.size();
    }
    void allocate(Arena& arena) {
        plan(arena);
        gpt_table(model.params, config, opt.params);
        gpt_table(model.grads, config, opt.grads);
        host.resize(shape.bytes());
    }

    // What train() asks for
    int fill(BatchBuilder& b, Cursor& cursor) {
        return fill_batch(b, train_data, cursor, (uint64_t)f.seed, true, cursor.next + (uint64_t)sf.batch);
    }
    void forward_backward(const Batch& b, StepStats* stats) { model.forward_backward(b, stats); }
    void set_dropout(double p) { model.dropout = (float)p; }
    float lr_factor(const ParamSpec&) const { return 1; }
    double flops(double tokens, double targets, double mean_length) const {
        return tokens * model.flops_per_token(mean_length, targets / tokens);
    }

    Eval evaluate() {
        if (val_rows == 0) return {};
        Eval e = mean_loss(*this, *val_data, val_rows);
        e.name = "answers in val.bin";
        e.report = format("loss %.4f | perplexity %.2f | tokens right %.2f %%", e.loss, exp(e.loss), 100 * e.accuracy);
        return e;
    }
    void save_model(const std::string& dir) {
        write_gpt_config(dir, config);
        bpe.save(dir, (int)config.T);
        write_file_atomic(dir + "/template.json", dump_json(train_data.file.templ, 2) + "\n");
        opt.save(dir);
    }
    Json identity() const {
        return model_identity(config)
            .set("tokenizer", hex(bpe.fingerprint()))
            .set("train_data", hex(train_data.file.header.content))
            .set("val_data", hex(val_data ? val_data->file.header.content : 0));
    }
};

// Tasks, their rows and their shares of an epoch; of more than 40 tasks their families
void print_mixture(const InstructData& data, const std::string& holdout, const std::vector<double>& weights) {
    const auto& tasks = data.file.tasks;
    struct Line {
        std::string name;
        size_t tasks = 0, held_out = 0;
        uint64_t rows = 0, take = 0, supervised = 0, tokens = 0;
    };
    const bool families = tasks.size() > 40;
    std::vector<Line> lines;
    std::map<std::string, size_t> line_of;
    size_t width = 4, used = 0;
    uint64_t all = 0;
    for (size_t t = 0; t < tasks.size(); t++) {
        std::string name = families ? family_of(tasks[t]) : tasks[t];
        auto [at, is_new] = line_of.emplace(name, lines.size());
        if (is_new) lines.push_back({name});
        Line& line = lines[at->second];
        line.tasks++;
        line.held_out += named_in(tasks[t], holdout);
        line.rows += data.rows[t].size();
        line.take += data.take[t];
        for (uint32_t s : data.rows[t]) {
            line.tokens += data.file.length(s);
            for (size_t k = 0; k < data.file.spans(s); k++)
                line.supervised += data.file.span(s, k).end - data.file.span(s, k).begin;
        }
        used += data.take[t] > 0;
        all += data.take[t];
    }
    for (Line& line : lines) {
        if (line.tasks > 1)
            line.name += format(" (%zu tasks%s)", line.tasks,
                                line.held_out && line.rows ? format(", %zu held out", line.held_out).c_str() : "");
        width = std::max(width, line.name.size());
    }
    printf("mixture: %s rows of %zu task%s an epoch\n", thousands((double)all).c_str(), used, used == 1 ? "" : "s");
    printf("  %-*s      rows   an epoch   share   answer tokens\n", (int)width, families ? "family" : "task");
    for (size_t i = 0; i < lines.size(); i++) {
        const Line& line = lines[i];
        if (i == 30 && lines.size() > 40) {
            printf("  ... and %zu more %s\n", lines.size() - 30, families ? "families" : "tasks");
            break;
        }
        if (line.rows == 0)
            printf("  %-*s  %s\n", (int)width, line.name.c_str(), line.held_out ? "held out" : "no rows");
        else
            printf("  %-*s  %8s   %8s  %5.1f %%  %5.1f %% of %s\n", (int)width, line.name.c_str(),
                   thousands((double)line.rows).c_str(), thousands((double)line.take).c_str(),
                   100 * (double)line.take / (double)std::max<uint64_t>(all, 1),
                   100 * (double)line.supervised / (double)line.tokens, thousands((double)line.tokens).c_str());
    }
    for (size_t t = 0; t < tasks.size(); t++)
        if (data.take[t] == 0 && weights[t] > 0 && !data.rows[t].empty())
            printf(
                "warning: %s: its share is too small for one row an epoch, so none of its %zu rows is learned; give it "
                "more --weights\n",
                tasks[t].c_str(), data.rows[t].size());
}

// DATA/test.bin and DATA/test_NAME.bin, sorted
std::vector<std::string> test_files(const std::string& dir) {
    std::vector<std::string> files;
    std::error_code error;
    std::filesystem::directory_iterator entries(dir, error);
    if (error) fail("cannot read the directory %s: %s", dir.c_str(), error.message().c_str());
    for (const auto& entry : entries) {
        std::string name = entry.path().filename().string();
        if (name == "test.bin" ||
            (name.rfind("test_", 0) == 0 && name.size() > 9 && name.substr(name.size() - 4) == ".bin"))
            files.push_back(dir + "/" + name);
    }
    std::sort(files.begin(), files.end());
    return files;
}
std::string set_name(const std::string& path) {  // "data/test_tasks.bin" → "test_tasks"
    std::string name = path.substr(path.rfind('/') + 1);
    return name.substr(0, name.rfind('.'));
}

// Does data that was packed with this tokenizer and this template fit the model?
void check_data(const BinFile& file, const Bpe& bpe, const std::string& dir) {
    if (file.fingerprint() != bpe.fingerprint() || file.vocab() != bpe.size())
        fail("%s: it was packed with another tokenizer than that of %s: pack it anew with --tokenizer %s",
             file.path.c_str(), dir.c_str(), dir.c_str());
    std::string path = dir + "/template.json";
    if (!exists(path)) return;
    uint64_t known = template_fingerprint(parse_json(read_file(path), path));
    if (known != file.header.templ)
        fail(
            "%s: it was packed with another template (%016llx) than %s was tuned with (%016llx): pack it anew with "
            "--template %s",
            file.path.c_str(), (unsigned long long)file.header.templ, dir.c_str(), (unsigned long long)known,
            path.c_str());
}

int train_sft(Cli& cli, TrainFlags& f, SftFlags& sf) {
    prepare_flags(cli, f, {"train.bin"}, {"data/alpaca.py", "data/instructions.py"});
    if (f.init.empty())
        fail_usage(
            "--init DIR is missing: the pretrained decoder, a run of train_gpt or a Hugging Face directory of GPT-2's "
            "kind");
    open_run_dir(f);
    std::string before_path =
        f.out + "/answers_before.jsonl";  // a run that was killed early may have left one, whose lines begin so
    if (!f.resume && exists(before_path) && !read_file(before_path).empty() &&
        read_file(before_path).rfind("{\"set\": ", 0) != 0)
        refuse_existing("--out", f.out, {"answers_before.jsonl"});
    BinFile train_file(f.data + "/train.bin", BIN_INSTRUCT);
    std::vector<std::unique_ptr<BinFile>> files;
    auto open_file = [&](const std::string& path) {
        return files.emplace_back(std::make_unique<BinFile>(path, BIN_INSTRUCT)).get();
    };
    const BinFile* val_file = exists(f.data + "/val.bin") ? open_file(f.data + "/val.bin") : nullptr;
    std::string init = resolve_model_dir(
        f.resume && exists(f.out + "/last") ? f.out + "/last" : f.init);  // last/ has all that a resumed run needs
    GptConfig config = read_gpt_config(init);
    Gpt::check_config(config, init);
    Bpe bpe = Bpe::load(init);
    check_vocabulary(init, bpe.size(), config.V);
    bpe.add_bos = true;  // every row begins with it
    if (cli.given("max-len") && sf.max_len > config.T)
        fail_usage("--max-len: %s has %lld positions, found %lld", init.c_str(), (long long)config.T,
                   (long long)sf.max_len);
    config.eot = bpe.eot();
    config.dropout = f.dropout;
    if (sf.max_len == 0) sf.max_len = config.T;
    check_data(train_file, bpe, init);
    for (const std::string& name : split_list(sf.holdout)) {
        bool found = false;
        for (const std::string& task : train_file.tasks) found |= named_in(task, name);
        if (!found)
            fail_usage("--holdout: expected tasks or families of %s, found \"%s\"; there are %s",
                       train_file.path.c_str(), name.c_str(), some_of(train_file.tasks).c_str());
    }
    std::vector<TestSet> sets;
    if (!sf.holdout.empty()) {
        // of seen families (or of none), and of families that are held out as a whole
        std::set<std::string> seen;
        for (size_t t = 0; t < train_file.tasks.size(); t++)
            if (const std::string& task = train_file.tasks[t];
                !named_in(task, sf.holdout) || task.find('/') == task.npos)
                seen.insert(family_of(task));
        auto held_out = [&](const std::string& task, bool of_seen) {
            return named_in(task, sf.holdout) && seen.count(family_of(task)) == of_seen;
        };
        for (bool of_seen : {true, false}) {
            TestSet set = test_set(of_seen ? "held-out tasks" : "held-out families", train_file, sf.eval_rows,
                                   sf.strict, [&](const std::string& task) { return held_out(task, of_seen); });
            if (set.count()) sets.push_back(set);
        }
    }
    for (const std::string& path : test_files(f.data))
        sets.push_back(test_set(set_name(path), *open_file(path), sf.eval_rows, sf.strict,
                                [](const std::string&) { return true; }));
    for (auto& file : files) {
        check_data(*file, bpe, init);
        if (file->header.templ != train_file.header.templ)
            fail("%s: it was packed with another template than %s: pack both with the same", file->path.c_str(),
                 train_file.path.c_str());
    }
    // Wider decoders take lower rates
    if (f.lr == 0) f.lr = config.C <= 256 ? 5e-4 : config.C <= 512 ? 2e-4 : config.C <= 768 ? 5e-5 : 2e-5;

    size_t rows_to_answer = 0;
    for (const TestSet& set : sets) rows_to_answer += set.count();
    SftTask task(f, sf, train_file, val_file, bpe, config, rows_to_answer > 0);
    if (task.train_data.sequences() == 0) fail_usage("--holdout, --weights: nothing is left to train on");
    for (InstructData* data : {&task.train_data, task.val_data.get()})
        if (size_t n = data ? data->longer_than((size_t)sf.max_len) : 0)
            fail(
                "%s: %zu rows have more than %lld tokens, more than the model%s takes: pack it anew with --max-len "
                "%lld --overlong drop (or truncate)",
                data->file.path.c_str(), n, (long long)sf.max_len, cli.given("max-len") ? " with this --max-len" : "",
                (long long)sf.max_len);
    int64_t per_step = sf.batch * f.accum, rows = (int64_t)task.train_data.sequences();
    if (f.epochs > 0) f.steps = std::max<int64_t>(1, llround(f.epochs * (double)rows / (double)per_step));
    if (f.steps == 0) fail_usage("--epochs 0: expected more than 0, or --steps");
    if (f.eval_every == 0)
        f.eval_every = std::max<int64_t>(1, (int64_t)ceil((double)rows / (double)per_step));  // an epoch

    print_machine("sft");
    print_parameter_table(task.opt.table);
    Arena arena(allocate_run(task, "--batch", 1, 1 << 16, [&](Arena& a, int64_t batch) {
        Gpt planned;
        Generator answers;
        planned.config = config;
        planned.recompute = f.recompute;
        planned.shape = task.shape_for(batch);
        planned.plan_activations(a, true);
        if (task.answers) answers.plan(a, planned, (int)batch, (int)config.T);
        return planned.shape;
    }));
    task.allocate(arena);
    print_mixture(task.train_data, sf.holdout, task.task_weights(train_file.tasks));
    if (task.same_question)
        printf("%zu row%s for training had the question of a held-out row, and went out with it\n", task.same_question,
               task.same_question == 1 ? "" : "s");
    printf("%lld steps of %lld x %lld rows: %.2f epochs; no new parameters\n", (long long)f.steps, (long long)f.accum,
           (long long)sf.batch, (double)(f.steps * per_step) / (double)rows);

    std::vector<areal> values(task.opt.n);
    LoadReport report = load_tensors(init, task.opt.table, values.data());
    if (!f.resume) report.announce(init, {});
    report.refuse_missing(init);
    refuse_not_finite(task.opt.table, values, init);
    task.opt.upload(values);

    Evaluator evaluator{task.model, task.generator, bpe, task.answer_stats, sf.max_new};
    auto answer = [&](const std::string& name, const std::string& path) {
        FILE* out = fopen(path.c_str(), "w");
        if (!out) fail("%s: could not open it for writing: %s", path.c_str(), strerror(errno));
        Answerer answers = evaluator.run(name, sets, out);
        if (fclose(out)) fail("%s: could not write: %s", path.c_str(), strerror(errno));
        return answers;
    };
    Answerer before{"before", {}};  // what the model answers before it is tuned
    std::string scores = f.out + "/scores_before.json";
    if (rows_to_answer && !(f.resume && read_scores(scores, sets, before))) {
        printf("%s test rows of %zu set%s: the answers before tuning\n", thousands((double)rows_to_answer).c_str(),
               sets.size(), sets.size() == 1 ? "" : "s");
        fflush(stdout);
        if (f.resume) task.opt.load(resolve_model_dir(f.init));  // for a moment: train() takes the run's own
        before = answer("before", before_path);
        write_scores(scores, sets, before);
    }
    if (int code = train(task, cli, f, NAN); code != EXIT_OK) return code;
    if (!rows_to_answer) {
        printf(
            "nothing was asked: there is no %s/test_*.bin and no --holdout; ./sft eval --model %s --data %s/val.bin "
            "asks\n",
            without_slash(f.data).c_str(), without_slash(f.out).c_str(), without_slash(f.data).c_str());
        return EXIT_OK;
    }
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);  // the model is saved, and --resume makes up for the answers

    std::string dir = resolve_model_dir(f.out);
    task.opt.load(dir);
    std::vector<Answerer> answerers = {baseline(sets, false), baseline(sets, true), before,
                                       answer("tuned", f.out + "/answers.jsonl")};
    print_results(sets, answerers, false, 1);
    write_file_atomic(f.out + "/results.json", dump_json(results_json(sets, answerers, 1), 2) + "\n");
    printf("\n%s/results.json has every task; answers.jsonl and answers_before.jsonl every answer\n",
           without_slash(f.out).c_str());
    return EXIT_OK;
}

// ---------------------------------------------------------------- eval
struct SftEvalFlags {
    std::vector<std::string> models;
    std::string data, out;
    int64_t rows = 100, max_new = 128, batch = 16;
    bool json = false, strict = false;
};

// One table for some files of rows and some models, the first of which is what the others are compared with.
int evaluate(const SftEvalFlags& ef, const std::vector<std::string>& more) {
    std::vector<std::string> paths;
    if (!ef.data.empty()) paths.push_back(ef.data);
    paths.insert(paths.end(), more.begin(), more.end());
    if (paths.empty()) fail_usage("--data FILE is missing: .bin files of instructions, or the folder with test_*.bin");
    if (ef.models.empty()) fail_usage("--model DIR is missing: the --out of a tuning run, or a model directory");
    if (!ef.out.empty()) refuse_existing("--out", ef.out, {"results.json"});
    for (size_t i = 1; i <= ef.models.size() && !ef.out.empty(); i++)
        refuse_existing("--out", ef.out, {format("answers_%zu.jsonl", i)});
    std::vector<std::unique_ptr<BinFile>> files;
    std::vector<TestSet> sets;
    for (const std::string& path : paths) {
        std::vector<std::string> list = is_directory(path) ? test_files(path) : std::vector<std::string>{path};
        if (list.empty())
            fail(
                "%s: expected test.bin or test_*.bin there, found none; a .bin file can be given by its name, as "
                "%s/val.bin",
                path.c_str(), without_slash(path).c_str());
        for (const std::string& file : list) {
            files.push_back(std::make_unique<BinFile>(file, BIN_INSTRUCT));
            std::string name = set_name(file);
            for (const TestSet& set : sets)
                if (set.name == name) name = file;  // two folders have a test.bin
            sets.push_back(test_set(name, *files.back(), ef.rows, ef.strict, [](const std::string&) { return true; }));
        }
    }
    std::vector<std::unique_ptr<LoadedGpt>> models;  // first look at all, then answer
    for (const std::string& path : ef.models) {
        models.push_back(std::make_unique<LoadedGpt>(path));
        for (auto& file : files) check_data(*file, models.back()->bpe, models.back()->dir);
    }
    if (!ef.out.empty()) make_directories(ef.out);
    std::vector<Answerer> answerers = {baseline(sets, false), baseline(sets, true)};
    size_t longest = 1;
    for (auto& file : files)
        for (size_t s = 0; s < file->sequences(); s++) longest = std::max(longest, file->length(s));
    StepStats* stats = (StepStats*)device_alloc(sizeof(StepStats));
    for (size_t i = 0; i < models.size(); i++) {
        LoadedGpt& gpt = *models[i];
        int64_t T = gpt.model.config.T, N = std::max<int64_t>(4096, T);
        gpt.allocate((int)N, (int)N, (int)ef.batch, (int)std::min(T, (int64_t)longest + ef.max_new));
        Evaluator evaluator{gpt.model, gpt.generator, gpt.bpe, stats, ef.max_new};
        FILE* out = nullptr;
        if (!ef.out.empty()) {
            std::string name = format("%s/answers_%zu.jsonl", ef.out.c_str(), i + 1);
            out = fopen(name.c_str(), "w");
            if (!out) fail("%s: could not open it for writing: %s", name.c_str(), strerror(errno));
        }
        const std::string model = without_slash(ef.models[i]);
        std::string name = model;
        auto taken = [&](const Answerer& a) { return a.name == name; };
        for (int n = 2; std::any_of(answerers.begin(), answerers.end(), taken); n++)
            name = format("%s (%d)", model.c_str(), n);  // given twice
        answerers.push_back(evaluator.run(name, sets, out));
        if (out && fclose(out)) fail("%s: could not write the answers: %s", ef.out.c_str(), strerror(errno));
        models[i].reset();  // the next one takes its memory
    }
    if (ef.json)
        printf("%s\n", dump_json(results_json(sets, answerers, 1)).c_str());
    else
        print_results(sets, answerers, true, 1);
    if (!ef.out.empty())
        write_file_atomic(ef.out + "/results.json", dump_json(results_json(sets, answerers, 1), 2) + "\n");
    flush_output();
    return EXIT_OK;
}

// ---------------------------------------------------------------- generate, chat
struct AskFlags {
    std::string input;
    int64_t shots = -1;
    bool json = false;
};

// A tuned model with its template, to answer up to `slots` prompts at a time.
struct LoadedSft {
    LoadedGpt gpt;
    Template templ;

    LoadedSft(const std::string& path, int slots) : gpt(checked(path)) {
        std::string file = gpt.dir + "/template.json";
        if (!exists(file))
            fail("%s: expected template.json, found none: tune the model first: ./sft --init %s --data DIR --out DIR",
                 gpt.dir.c_str(), path.c_str());
        templ = Template::load(file);
        int T = (int)gpt.model.config.T;
        gpt.allocate(std::max(T, 2048), slots, slots, T);
    }
    static const std::string& checked(const std::string& path) {
        if (path.empty()) fail_usage("--model DIR is missing: the --out of a tuning run");
        return path;
    }
    // <|endoftext|> and the rendered row, which leaves room for an answer of so many tokens; what had to go is told in
    // `shortened`. shots < 0: as many worked examples as the rows of tuning showed, or as fit
    std::vector<int> prompt(const InstructRow& row, int64_t shots, int64_t room, bool truncate,
                            Shortened& shortened) const {
        RenderedRow rendered;
        int64_t most = gpt.model.config.T - 1 - room, shown = shots < 0 ? templ.shots : shots;
        shortened = render_row(gpt.bpe, templ, row, (size_t)shown, false, (size_t)most, truncate, rendered);
        while (!shortened.fits && shots < 0 && shown > 0)
            shortened = render_row(gpt.bpe, templ, row, (size_t)--shown, false, (size_t)most, truncate, rendered);
        if (!shortened.fits)
            fail("%s: the prompt has %zu tokens, expected at most %lld of the model's context of %lld: shorten it",
                 row.where.c_str(), rendered.ids.size(), (long long)most, (long long)gpt.model.config.T);
        rendered.ids.insert(rendered.ids.begin(), gpt.bpe.eot());
        return {rendered.ids.begin(), rendered.ids.end()};
    }
};

// Answers the instruction on the command line, or each row of standard input (JSON lines) with a JSON line.
int ask(const SamplingFlags& sf, const AskFlags& af, const std::vector<std::string>& words) {
    if (words.empty() && !af.input.empty())
        fail_usage("--input: it belongs to an instruction on the command line, found none there");
    if (!words.empty() && blank(words[0])) fail_usage("generate: expected an instruction, found an empty text");
    LoadedSft sft(sf.model, words.empty() ? (int)sf.batch : 1);
    const Bpe& bpe = sft.gpt.bpe;
    std::vector<InstructRow> rows;
    if (!words.empty()) {
        InstructRow row;
        row.turns.push_back({words[0], blank(af.input) ? "" : af.input, ""});
        row.where = "the instruction";
        for (const std::string* text : {&words[0], &af.input})
            if (invalid_utf8(*text) != text->npos)
                fail("expected UTF-8, found other bytes in \"%.60s\"", text->c_str());
        rows.push_back(row);
    } else {
        if (isatty(0))
            fprintf(stderr, "a JSON object on each line, {\"instruction\": ..., \"input\": ...}; Ctrl-D ends\n");
        InstructFile in(stdin);
        for (InstructRow row; in.next(row);) rows.push_back(row);
    }
    std::vector<std::vector<int>> prompts;
    for (const InstructRow& row : rows) {
        Shortened shortened;
        prompts.push_back(sft.prompt(row, af.shots, 1, false, shortened));
    }
    bool stream = !words.empty() && !af.json, begun = false;
    std::vector<Answer> answers = sft.gpt.generator.generate(prompts, sf.max_new, sf.sampler(), [&](size_t, int token) {
        if (!stream) return true;
        std::string text = bpe.decode(&token, 1);
        if (!begun) {
            text = Template::answer_of(text);
            begun = true;
        }
        fwrite(text.data(), 1, text.size(), stdout);
        fflush(stdout);
        return true;
    });
    if (stream) printf("\n");
    size_t full = 0;
    for (const Answer& a : answers) full += a.stop == Stop::context;
    for (size_t i = 0; i < rows.size() && !stream; i++) {
        const Answer& a = answers[i];
        std::string text = bpe.decode(a.tokens.data(), a.tokens.size());
        Json line = rows[i].json;  // what was asked, an id of the user's included
        if (!words.empty()) line.set("instruction", words[0]).set("input", rows[i].turns[0].input);
        if (line.find("output") && !line.find("reference")) line.set("reference", Json(*line.find("output")));
        line.set("output", std::string(Template::answer_of(text))).set("stop", stop_name(a.stop));
        printf("%s\n", dump_json(line).c_str());
    }
    flush_output();
    if (full)
        fprintf(stderr, "%zu of %zu answers end because the model's context of %lld tokens is full\n", full,
                answers.size(), (long long)sft.gpt.model.config.T);
    return EXIT_OK;
}

// A conversation. Earlier turns are shown to the model as long as they fit.
int chat(const SamplingFlags& sf) {
    LoadedSft sft(sf.model, 1);
    const Bpe& bpe = sft.gpt.bpe;
    bool terminal = isatty(0);
    if (terminal)
        printf(
            "/reset forgets what was said, /system TEXT goes before it, /quit or Ctrl-D ends; Ctrl-C stops an "
            "answer\n");
    struct sigaction on_ctrl_c{};
    on_ctrl_c.sa_handler = [](int) { interrupted = 1; };  // without SA_RESTART: it also ends the wait for a line
    sigaction(SIGINT, &on_ctrl_c, nullptr);
    InstructRow row;
    row.where = "this message";
    Sampler sampler = sf.sampler();
    char* buffer = nullptr;
    size_t capacity = 0;
    for (;;) {
        if (terminal) {
            fputs("\n> ", stdout);
            fflush(stdout);
        }
        if (interrupted) {
            clearerr(stdout);
            fflush(stdout);  // Ctrl-C may have ended a write
        }

        interrupted = 0;
        errno = 0;
        ssize_t n = getline(&buffer, &capacity, stdin);
        if (n < 0 && errno == EINTR) {
            clearerr(stdin);
            continue;
        }
        if (n < 0) break;
        std::string text = trimmed(std::string(buffer, n));
        if (text.empty()) continue;
        if (text == "/quit") break;
        if (invalid_utf8(text) != text.npos || text.find('\0') != text.npos) {
            fprintf(stderr, "expected UTF-8 text, found other bytes: say it again\n");
            continue;
        }
        if (text == "/reset") {
            row.turns.clear();
            continue;
        }
        if (text == "/system" || text.rfind("/system ", 0) == 0) {
            row.system = trimmed(text.substr(7));
            row.turns.clear();
            continue;
        }
        if (text[0] == '/') {
            fprintf(stderr, "expected /reset, /system TEXT or /quit, found %s\n", text.c_str());
            continue;
        }
        row.turns.push_back({text, "", ""});
        Shortened shortened;
        std::vector<int> prompt;
        try {
            prompt = sft.prompt(row, 0, std::min(sf.max_new, sft.gpt.model.config.T / 2), true, shortened);
        } catch (const Error& e) {
            fprintf(stderr, "%s\n", e.what());
            row.turns.pop_back();
            continue;
        }
        if (shortened.turns) fprintf(stderr, "(the earliest turns no longer fit into the context)\n");
        std::string answer;
        bool begun = false;
        Answer a = sft.gpt.generator.generate({prompt}, sf.max_new, sampler, [&](size_t, int token) {
            std::string bytes = bpe.decode(&token, 1);
            if (!begun) {
                bytes = Template::answer_of(bytes);
                begun = true;
            }
            answer += bytes;
            fwrite(bytes.data(), 1, bytes.size(), stdout);
            fflush(stdout);
            return !interrupted;
        })[0];
        printf("\n");
        if (interrupted) clearerr(stdout);
        flush_output();
        if (a.stop == Stop::context) fprintf(stderr, "(the context is full)\n");
        if (trimmed(answer).empty())
            row.turns.pop_back();  // an empty answer is no example to follow
        else
            row.turns.back().output = answer;
        sampler.seed++;  // a question that is asked twice may get another answer
    }
    free(buffer);
    if (terminal) printf("\n");
    return EXIT_OK;
}

// ---------------------------------------------------------------- main
#if __INCLUDE_LEVEL__ == 0  // not when another program or a test includes this file
int main(int argc, char** argv) {
    reexec_with_omp_policy(argv);
    return run_program([&] {
        blas_init();
        TrainFlags f;
        f.steps = 0;
        f.epochs = 3;
        f.warmup = 0.03;
        f.beta2 = 0.999;
        f.eps = 1e-8;
        f.weight_decay = 0.01;
        f.schedule = "cosine";
        f.eval_every = 0;
        f.log_every = 25;
        SftFlags sf;
        SftEvalFlags ef;
        SamplingFlags gf;
        AskFlags af;
        gf.temperature = 0;
        gf.top_k = 0;
        gf.max_new = 128;
        std::string models;
        std::vector<FlagGroup> groups = f.groups();
        without(groups, {"batch-tokens"});
        describe(groups, "data",
                 "train.bin, and val.bin and test_*.bin to report on, packed with --tokenizer of --init "
                 "(data/instructions.py)");
        describe(
            groups, "out",
            "run directory: best/, last/, metrics.jsonl, config.json; with test_*.bin results.json, answers.jsonl");
        describe(groups, "init", "the pretrained decoder: a run of train_gpt or a Hugging Face directory");
        describe(groups, "lr",
                 "peak learning rate; 0: by the width, 5e-4 up to 256, 2e-4 up to 512, 5e-5 up to 768, 2e-5");
        describe(
            groups, "eval-every",
            "steps from one validation to the next, each writes last/ and, if it is the best, best/; 0: once an epoch");
        groups.insert(
            groups.begin() + 1,
            {"Task",
             "train",
             {{"batch", &sf.batch, between(1, 1 << 16), "rows of a micro-batch, and answers at a time"},
              {"max-len", &sf.max_len, between(0, 1 << 20),
               "tokens of a row, at most; 0: as many as the model has positions"},
              {"train-on-prompt", &sf.on_prompt, "the prompt's tokens are targets as well (for comparison)"}}});
        groups.insert(
            groups.begin() + 2,
            {"Mixture",
             "train",
             {{"mix", &sf.mix, "size|equal", "a task's share: by its rows, or all the same"},
              {"cap", &sf.cap, at_least(0), "by rows, but none counts more than so many (FLAN); 0: no limit"},
              {"weights", &sf.weights, "NAME=X,...", "times X the share of a task or family"},
              {"holdout", &sf.holdout, "NAME,...", "tasks or families that are not trained on, but reported on"}}});
        groups.push_back({"Answers",
                          "train",
                          {{"eval-rows", &sf.eval_rows, at_least(0),
                            "rows of each task that are answered, before and after; 0: all"},
                           {"strict", &sf.strict, "exact match counts case and punctuation"},
                           {"max-new-tokens", &sf.max_new, between(1, 1 << 20), "tokens of an answer, at most"}}});
        groups.push_back(
            {"Evaluation",
             "eval",
             {{"model", &models, "DIR,...", "runs or model directories; the others are compared with the first"},
              {"data", &ef.data, "FILE",
               "a .bin file of instructions, or the folder with test_*.bin; more of them behind the flags"},
              {"out", &ef.out, "DIR", "also write results.json and answers_N.jsonl there"},
              {"rows", &ef.rows, at_least(0), "rows of each task; 0: all"},
              {"strict", &ef.strict, "exact match counts case and punctuation"},
              {"max-new-tokens", &ef.max_new, between(1, 1 << 20), "tokens of an answer, at most"},
              {"batch", &ef.batch, between(1, 1 << 16), "answers at a time"},
              {"json", &ef.json, "JSON instead of a table"}}});
        groups.push_back(
            {"Asking", "generate chat", {{"model", &gf.model, "DIR", "the --out of a tuning run, or its best/"}}});
        groups.push_back(
            {"Questions",
             "generate",
             {{"input", &af.input, "TEXT", "what the instruction on the command line is about"},
              {"shots", &af.shots, between(-1, 2),
               "worked examples of a row to show before its question; -1: as many as in the rows of tuning, or as fit"},
              {"batch", &gf.batch, between(1, 1 << 16), "answers at a time"},
              {"json", &af.json, "a JSON line also for an instruction on the command line"}}});
        groups.push_back({"Sampling", "generate chat", gf.flags()});
        Cli cli{"sft",
                "fine-tuning of a decoder for text generation and on instructions.",
                "  ./sft --init runs/gpt --data data/alpaca --out runs/sft\n"
                "  ./sft eval --model runs/gpt,runs/sft --data data/alpaca/test.bin\n"
                "  ./sft generate --model runs/sft \"Name the first fruit.\" --input \"pear, fig, plum\"\n"
                "  ./sft generate --model runs/sft < questions.jsonl > answers.jsonl\n"
                "  ./sft chat --model runs/sft\n",
                {{"train", "", "tune on DATA/train.bin, report on test_*.bin"},
                 {"eval", "[FILE...]", "exact match, ROUGE-L and chosen options, task by task", 0, CLI_MANY},
                 {"generate", "[INSTRUCTION]",
                  "the answer; without words, to each JSON line {\"instruction\", \"input\", ...} of standard input, "
                  "with output and stop added (an output that was there becomes reference)",
                  0, 1},
                 {"chat", "",
                  "a conversation in the terminal: /reset forgets it, /system TEXT goes before it, /quit ends it, "
                  "Ctrl-C stops an answer"}},
                groups};
        cli.closing = EXIT_CODES_TEXT;
        if (!cli.parse(argc, argv)) return (int)EXIT_OK;
        ef.models = split_list(models);
        if (cli.command == "generate") return ask(gf, af, cli.positional);
        if (cli.command == "chat") return chat(gf);
        return cli.command == "eval" ? evaluate(ef, cli.positional) : train_sft(cli, f, sf);
    });
}
#endif
#endif  // SFT_CU
