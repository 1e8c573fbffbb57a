// sft.cu: fine-tuning a decoder for text generation and on instructions (Wei et al. 2021, Wang et al. 2022), and its
// use.
//
//   ./sft --init runs/gpt --data datasets/instruct --out runs/sft                        train
//   ./sft eval --model runs/gpt,runs/sft --data datasets/instruct/test_tasks.bin         is it better on unseen tasks?
//   ./sft generate --model runs/sft < questions.jsonl                                    answers for a program
//   ./sft chat --model runs/sft                                                          a conversation in a terminal
//
// The model is that of train_gpt.cu, without a single new parameter: an instruction, its input and the answer are plain
// text, put together by a template (common/text/chat_template.h). New is only which rows have a target: those that
// predict a token of an answer, or the <|endoftext|> after it.
//
//   tokens     <|endoftext|>  Q   u   e  s  t  i  o  n     A    n    s
//   targets          −        −   −   −  −  −  −  −  −  A     n    s    <|endoftext|>
//
// A model that was tuned for chats brings a template with special tokens; its rows begin and end with those.
//
// Read in this order: data → the task → answers → train → eval → generate → chat → main. How answers are scored and
// compared: common/eval/instruct_eval.h.
#ifndef SFT_CU
#define SFT_CU
#include "train_gpt.cu"  // the model and its files; a program that is included leaves out its main (see its end)

#include <list>

#include "common/base/terminal.h"
#include "common/data/task_mixture.h"
#include "common/eval/instruct_report.h"
#include "common/train/tune.h"

// ---------------------------------------------------------------- data
// The rows of a .bin file that a run trains on, in the form that fill_batch() takes: make(epoch, q) makes the q-th row
// of an epoch in tokens, types, positions, targets.
struct InstructData {
    const BinFile& file;
    std::vector<int> start;  // what goes before each row: <|endoftext|>, or nothing (row_start)
    bool on_prompt = false;  // also the prompt's tokens are targets
    TaskMixture mixture;     // which rows an epoch holds
    std::vector<int> tokens, types, positions, targets;

    InstructData(const BinFile& file, const std::vector<int>& start) : file(file), start(start), mixture(file) {}
    uint64_t sequences() const { return mixture.rows_per_epoch(); }
    void make(uint64_t epoch, uint64_t q) { make_row(mixture.row(epoch, q)); }

    // Row s: tokens start, r0 … rn−2, and where r[i] is supervised the target r[i] at the position before it.
    void make_row(size_t s) {
        size_t n = file.length(s);
        tokens = start;
        for (size_t i = 0; i + 1 < n; i++) tokens.push_back(file.token(s, i));
        types.assign(tokens.size(), 0);
        positions.clear();
        targets.clear();
        if (on_prompt) add_targets(s, start.empty() ? 1 : 0, n);
        else
            for (size_t k = 0; k < file.spans(s); k++) add_targets(s, file.span(s, k).begin, file.span(s, k).end);
    }

private:
    void add_targets(size_t s, size_t begin, size_t end) {
        for (size_t i = begin; i < end; i++) {
            positions.push_back((int)(i + start.size()) - 1);
            targets.push_back(file.token(s, i));
        }
    }
};

// Does data that was packed with this tokenizer and this template fit the model?
void check_instruct_data(const BinFile& file, const Tokenizer& bpe, const std::string& dir) {
    file.require_tokenizer(bpe, dir);
    const std::string path = dir + "/template.json";
    if (!exists(path)) return;
    uint64_t known = template_fingerprint(parse_json(read_file(path), path));
    if (known != file.header.templ)
        fail(file.path + ": it was packed with another template (" + hex(file.header.templ) + ") than " + dir +
             " was tuned with (" + hex(known) + "): pack it again with --template " + path);
}

// ---------------------------------------------------------------- the task
struct SftFlags {
    int64_t batch = 16, max_len = 0, cap = 0, rows = 100, max_new = 128;
    std::string mix = "size", weights, holdout;
    bool on_prompt = false, strict = false;
    LoraFlags lora;
    // eval, generate, merge
    std::string data, out, input;
    int64_t shots = -1;
    bool json = false;
};

struct SftTask : TuneTask<Gpt> {
    const SftFlags& sf;
    InstructData train_data;
    std::unique_ptr<InstructData> val_data;  // of val.bin, or none
    const Tokenizer& bpe;
    const ChatTemplate templ;
    Generator generator;  // answers, before and after
    uint64_t val_rows = 0;
    size_t same_question = 0;  // rows for training that ask what a held-out row asks
    int64_t context;           // tokens that the longest test row and its answer may have; 0: there are none to answer

    SftTask(const TrainFlags& f, const SftFlags& sf, const BinFile& train, const BinFile* val, const Tokenizer& bpe,
        const ChatTemplate& templ, const GptConfig& config, const std::string& init, int64_t context)
        : TuneTask{{f}, sf.lora, init}, sf(sf), train_data(train, row_start(bpe, templ)), bpe(bpe), templ(templ),
          context(context) {
        const std::vector<double> weights = task_weights(train.tasks, sf.weights);
        same_question = train_data.mixture.hold_out(sf.holdout);
        if (sf.cap && sf.mix == "equal")
            fail_usage("--cap: of --mix size; with --mix equal all tasks count the same anyway");
        train_data.mixture.mix(weights, sf.mix, (uint64_t)sf.cap);
        train_data.mixture.seed = (uint64_t)f.seed;
        train_data.on_prompt = sf.on_prompt;
        if (val) {
            val_data = std::make_unique<InstructData>(*val, train_data.start);
            val_data->mixture.hold_out(sf.holdout);
            val_data->mixture.mix(std::vector<double>(val->tasks.size(), 1.0), "size", 0);
            val_rows = validation_sequences(*val_data, f.eval_tokens);
        }
        set_up(config, shape_for(sf.batch), bpe.eot(), sf.max_len, 128);
        model.context = (int)context;
        set_up_adapters();
    }
    BatchShape shape_for(int64_t batch) const {
        BatchShape s;  // every token may have a target; any prompt fits
        s.N = s.M = batch_tokens(std::max(batch * sf.max_len, context));
        return s;
    }
    void plan(Arena& arena) {
        TuneTask::plan(arena);
        if (context) generator.plan(arena, model, (int)sf.batch, (int)context);
        generator.block = block;
        generator.vocab_limit = (int)bpe.size();
    }
    void allocate(Arena& arena) {
        plan(arena);
        model.point(is_lora() ? base : opt.params, is_lora() ? nullptr : opt.grads);
    }

    // The parameters before tuning: those of the model in `dir`, and adapters that change nothing yet
    void load_start(const std::string& dir, bool say) {
        std::vector<areal> values(total_count(model_table));
        const LoadReport report = load_tensors(dir, model_table, values.data());
        say ? report.announce(dir, {}) : report.refuse_missing(dir);
        refuse_not_finite(model_table, values, dir);
        upload(values);
    }

    // What train() needs of a task
    int fill(BatchBuilder& b, Cursor& cursor) {
        return fill_batch(b, train_data, cursor, (uint64_t)f.seed, true, cursor.next + (uint64_t)sf.batch);
    }
    Eval evaluate() {
        if (val_rows == 0) return {};
        Eval e = mean_loss(*this, *val_data, val_rows);
        e.name = "answers in val.bin";
        e.report = format("loss %.4f | perplexity %.2f | tokens right %.2f %%", e.loss, exp(e.loss), 100 * e.accuracy);
        return e;
    }
    void save_model(const std::string& dir) {
        bpe.save(dir, (int)model.config.T);
        templ.save_for_transformers(dir, bpe.name(bpe.bos()), bpe.name(bpe.eot()));
        is_lora() ? write_generation_config(dir, model.config) : write_gpt_config(dir, model.config);
        save_parameters(dir, !model.config.llama);
    }
    Json identity() const {
        Json id = TuneTask::identity().set("tokenizer", hex(bpe.fingerprint()));
        id.set("train_data", hex(train_data.file.header.content));
        return id.set("val_data", hex(val_data ? val_data->file.header.content : 0));
    }
};

// ---------------------------------------------------------------- answers
// A model as evaluation takes it. The owner of model, generator and stats keeps their memory.
struct AnsweringGpt {
    Gpt& model;
    Generator& generator;
    const Tokenizer& bpe;
    StepStats* stats;  // in device memory
    int64_t max_new;

    size_t max_prompt() const { return (size_t)std::min(generator.cache.context - 1, model.shape.N); }
    // The most likely token, one after the other, until `end`
    template <class Progress>
    std::vector<Answer> generate(const std::vector<std::vector<int>>& prompts, int end, Progress progress) {
        model.config.eot = end;
        return generator.generate(prompts, max_new, Sampler{0}, [&](size_t i, int) {
            progress(i);
            return true;
        });
    }
    // Σ log p of the tokens of each answer and of `end` after it, after the prompt; as many answers at a time as fit
    // into a batch. None if an answer does not fit into the context.
    std::vector<double> log_likelihoods(
        const std::vector<int>& prompt, const std::vector<std::string>& answers, int end) {
        std::vector<double> sums(answers.size(), 0);
        std::vector<size_t> answer_of;  // of each target in the batch
        BatchBuilder& builder = generator.builder;
        auto flush = [&] {
            if (builder.rows.empty()) return;
            NoDropout inference(model.dropout);
            device_zero(stats, sizeof(StepStats));
            model.forward(builder.send(generator.block), stats);
            std::vector<areal> losses(answer_of.size());  // −log p of each target
            copy_to_host(losses.data(), model.acts.losses, losses.size() * sizeof(areal));
            for (size_t m = 0; m < losses.size(); m++) sums[answer_of[m]] -= (double)losses[m];
            answer_of.clear();
            builder.clear();
        };
        builder.clear();
        for (size_t k = 0; k < answers.size(); k++) {
            std::vector<int> ids = prompt, answer, positions;
            bpe.encode(answers[k], answer, SPECIALS_AS_TEXT);
            answer.push_back(end);
            for (size_t i = 0; i < answer.size(); i++) positions.push_back((int)(prompt.size() - 1 + i));
            ids.insert(ids.end(), answer.begin(), answer.end() - 1);
            if (ids.size() > (size_t)std::min<int64_t>(model.config.T, model.shape.N)) return {};
            if (!builder.fits(ids.size(), answer.size())) flush();
            answer_of.insert(answer_of.end(), answer.size(), k);
            builder.add(ids, std::vector<int>(ids.size(), 0), positions, answer);
        }
        flush();
        return sums;
    }
};

// ---------------------------------------------------------------- train
// Files of instructions, and the sets of their rows that are answered
struct SftFiles {
    std::list<BinFile> files;
    std::vector<TestSet> sets;
    int64_t longest = 1;  // tokens of the longest row

    const BinFile& open(const std::string& path) {
        const BinFile& file = files.emplace_back(path, BIN_INSTRUCT);
        for (size_t s = 0; s < file.sequences(); s++) longest = std::max(longest, (int64_t)file.length(s));
        return file;
    }
    void add_set(const std::string& path, const SftFlags& sf) {
        std::string name = file_stem(path);
        for (const TestSet& set : sets)
            if (set.name == name) name = path;  // two folders have a test.bin
        sets.push_back(draw_test_set(name, open(path), sf.rows, sf.strict));
    }
    // The held-out tasks of train.bin: those of families that are trained on (or of none), and those of whole families
    void add_held_out(const BinFile& train, const SftFlags& sf) {
        for (const std::string& name : split_list(sf.holdout))
            if (std::none_of(train.tasks.begin(), train.tasks.end(), [&](auto& task) { return named_in(task, name); }))
                fail_usage("--holdout: expected tasks or families of %s, found \"%s\"; there are %s",
                    train.path.c_str(), name.c_str(), name_list(train.tasks, 20).c_str());
        std::set<std::string> families;  // that are trained on
        for (const std::string& task : train.tasks)
            if (!named_in(task, sf.holdout) || task.find('/') == task.npos) families.insert(family_of(task));
        for (bool trained : {true, false}) {
            auto chosen = [&](const std::string& task) {
                return named_in(task, sf.holdout) && families.count(family_of(task)) == trained;
            };
            const char* name = trained ? "held-out tasks" : "held-out families";
            TestSet set = draw_test_set(name, train, sf.rows, sf.strict, chosen);
            if (!set.rows.empty()) sets.push_back(set);
        }
    }
};

// Answers the test rows as the model was before tuning, and as it is now, and prints and writes what changed.
void report(SftTask& task, const std::vector<TestSet>& sets) {
    const std::string out = without_slash(task.f.out);
    if (sets.empty()) {
        printf(
            "no test_*.bin, val.bin or --holdout: no rows were answered; ./sft eval --model %s --data FILE.bin does\n",
            out.c_str());
        return;
    }
    if (task.val_data && sets[0].file == &task.val_data->file)
        printf("no test_*.bin and no --holdout: rows of val.bin, which also chooses the model, stand in for a test\n");
    size_t rows = 0;
    for (const TestSet& set : sets) rows += set.rows.size();
    printf("%s test rows of %zu set%s: the answers before tuning and after\n", thousands((double)rows).c_str(),
        sets.size(), sets.size() == 1 ? "" : "s");
    fflush(stdout);
    AnsweringGpt answering{task.model, task.generator, task.bpe, task.opt.stats, task.sf.max_new};
    std::vector<System> systems = {most_frequent_baseline(sets), copy_input_baseline(sets)};
    task.load_start(resolve_model_dir(task.init), false);
    systems.push_back(evaluate_on_instructions("before", sets, answering, out + "/answers_before.jsonl"));
    task.opt.load(resolve_model_dir(out));
    systems.push_back(evaluate_on_instructions("tuned", sets, answering, out + "/answers.jsonl"));
    print_results(sets, systems, false);
    write_file_atomic(out + "/results.json", dump_json(results_json(sets, systems), 2) + "\n");
    printf("\n%s/results.json has every task; answers.jsonl and answers_before.jsonl every answer\n", out.c_str());
}

int train_sft(Cli& cli, TrainFlags& f, SftFlags& sf) {
    const std::string init = start_tuning(cli, f, sf.lora, {"data/alpaca.py", "data/instructions.py"});
    const bool is_lora = sf.lora.r > 0;
    LoadedGpt base(init);  // of which its config and tokenizer are taken
    GptConfig& config = base.model.config;
    Tokenizer& bpe = base.bpe;
    preset_dropout(cli, f, config);
    config.dropout = f.dropout;
    if (cli.given("max-len") && sf.max_len > config.T)
        fail_usage(
            "--max-len: %s has %lld positions, found %lld", init.c_str(), (long long)config.T, (long long)sf.max_len);
    // Wider decoders take lower rates, adapters ten times those of a whole model (Schulman et al. 2025)
    if (f.lr == 0)
        f.lr = (config.C <= 256 ? 5e-4 : config.C <= 512 ? 2e-4 : config.C <= 768 ? 5e-5 : 2e-5) * (is_lora ? 10 : 1);

    // the data
    SftFiles files;
    const BinFile &train_file = files.open(f.data + "/train.bin"), *val = nullptr;
    if (exists(f.data + "/val.bin")) val = &files.open(f.data + "/val.bin");
    files.add_held_out(train_file, sf);
    for (const std::string& path : test_files(f.data)) files.add_set(path, sf);
    if (files.sets.empty() && val && !val->tasks.empty()) {  // some rows of val.bin, together about sf.rows
        const int64_t rows = (int64_t)std::max<size_t>(1, (size_t)sf.rows / val->tasks.size());
        files.sets.push_back(draw_test_set("val", *val, sf.rows ? rows : 0, sf.strict));
    }
    for (const BinFile& file : files.files) {
        check_instruct_data(file, bpe, init);
        if (file.header.templ != train_file.header.templ)
            fail(file.path + ": it was packed with another template than " + train_file.path +
                 ": pack both with the same");
    }
    const ChatTemplate templ = ChatTemplate::from_json(train_file.templ, train_file.path);
    config.eot = end_token(bpe, templ);
    if (!templ.is_chat()) bpe.add_bos = true;  // every row begins with it
    if (sf.max_len == 0) sf.max_len = std::min(config.T, files.longest);
    const int64_t context = std::min(config.T, files.longest + sf.max_new);
    SftTask task(f, sf, train_file, val, bpe, templ, config, is_lora ? init : f.init, files.sets.empty() ? 0 : context);
    if (task.train_data.sequences() == 0) fail_usage("--holdout, --weights: nothing is left to train on");
    // no row may be longer than the model, or --max-len, takes
    for (const InstructData* data : {&task.train_data, task.val_data.get()})
        if (size_t n = data ? data->mixture.longer_than((size_t)sf.max_len) : 0)
            fail(
                "%s: %zu rows have more than %lld tokens, more than the model%s takes: pack it again with --max-len "
                "%lld --overlong drop (or truncate)",
                data->file.path.c_str(), n, (long long)sf.max_len, cli.given("max-len") ? " with this --max-len" : "",
                (long long)sf.max_len);
    const double rows = (double)task.train_data.sequences();
    count_steps(cli, f, rows, sf.batch);

    check_tensors(init, task.model_table);
    task.print_trained("sft");
    Arena arena(allocate_run(task, "--batch", sf.batch, 1, 1 << 16));
    task.allocate(arena);
    print_mixture(task.train_data.mixture, sf.holdout, task_weights(train_file.tasks, sf.weights));
    if (task.same_question)
        printf("%zu row%s with the question of a held-out row left out of training\n", task.same_question,
            task.same_question == 1 ? "" : "s");
    printf("%lld steps of %lld x %lld rows: %.2f epochs%s\n", (long long)f.steps, (long long)f.accum,
        (long long)sf.batch, (double)(f.steps * f.accum * sf.batch) / rows, is_lora ? "" : "; no new parameters");
    task.load_start(init, !f.resume);

    if (int code = train(task, cli, f, NAN); code != EXIT_OK) return code;
    report(task, files.sets);
    return EXIT_OK;
}

// ---------------------------------------------------------------- eval
// One table for some files of rows and some models, the first of which is what the others are compared with.
int eval_sft(const SftFlags& sf, const SamplingFlags& sampling, std::vector<std::string> paths) {
    if (!sf.data.empty()) paths.insert(paths.begin(), sf.data);
    if (paths.empty()) fail_usage("--data FILE is missing: .bin files of instructions, or the folder with test_*.bin");
    const std::vector<std::string> model_paths = split_list(sampling.model);
    std::vector<std::string> names = {"results.json"};
    for (size_t i = 1; i <= model_paths.size(); i++) names.push_back(format("answers_%zu.jsonl", i));
    if (!sf.out.empty()) refuse_used_directory(sf.out, names);
    SftFiles files;
    for (const std::string& path : paths) {
        std::vector<std::string> list = is_directory(path) ? test_files(path) : std::vector<std::string>{path};
        if (list.empty())
            fail("%s: expected test.bin or test_*.bin there, found none; another is given by its name, as %s/val.bin",
                path.c_str(), without_slash(path).c_str());
        for (const std::string& file_path : list) files.add_set(file_path, sf);
    }
    const std::vector<TestSet>& sets = files.sets;
    std::vector<std::unique_ptr<LoadedGpt>> models;  // first all are checked, then each answers
    for (const std::string& path : model_paths) {
        models.push_back(std::make_unique<LoadedGpt>(path, sampling.adapter));
        for (const BinFile& file : files.files) check_instruct_data(file, models.back()->bpe, models.back()->dir);
    }
    if (!sf.out.empty()) make_directories(sf.out);

    StepStats* stats = (StepStats*)device_alloc(sizeof(StepStats));
    std::vector<System> systems = {most_frequent_baseline(sets), copy_input_baseline(sets)};
    for (size_t i = 0; i < models.size(); i++) {
        const std::string path = without_slash(model_paths[i]);
        std::string name = path;
        auto taken = [&](const System& system) { return system.name == name; };
        for (int n = 2; std::any_of(systems.begin(), systems.end(), taken); n++)
            name = format("%s (%d)", path.c_str(), n);  // given twice
        LoadedGpt& gpt = *models[i];
        const int64_t T = std::min(gpt.model.config.T, files.longest + sf.max_new), N = std::max<int64_t>(4096, T);
        gpt.allocate((int)N, (int)N, (int)sampling.batch, (int)T, sampling.weights);
        AnsweringGpt answering{gpt.model, gpt.generator, gpt.bpe, stats, sf.max_new};
        const std::string answers = sf.out.empty() ? "" : sf.out + "/" + names[i + 1];
        systems.push_back(evaluate_on_instructions(name, sets, answering, answers));
        models[i].reset();  // the next one takes its memory
    }
    const Json results = results_json(sets, systems);
    if (sf.json) printf("%s\n", dump_json(results).c_str());
    else print_results(sets, systems, true);
    if (!sf.out.empty()) write_file_atomic(sf.out + "/results.json", dump_json(results, 2) + "\n");
    flush_output();
    return EXIT_OK;
}

// ---------------------------------------------------------------- generate
// A tuned model with its template, to answer up to `slots` prompts at a time.
struct LoadedSft {
    LoadedGpt gpt;
    const std::string weights;  // full, or bf16
    ChatTemplate templ;
    int64_t context;  // tokens of the longest prompt with its answer: the model's, or less

    LoadedSft(const SamplingFlags& f) : gpt(f.model, f.adapter), weights(f.weights) {
        if (!ChatTemplate::of_model(gpt.dir, templ))
            fail(
                "%s: expected template.json, or a chat_template in tokenizer_config.json, found none: tune the model "
                "first: ./sft --init %s --data DIR --out DIR%s",
                gpt.dir.c_str(), f.model.c_str(), nearest_entry(gpt.dir + "/template.json").c_str());
        gpt.model.config.eot = end_token(gpt.bpe, templ);
        context = gpt.model.config.T;
    }
    // For prompts of up to `longest` tokens, `slots` texts of up to `context` tokens at a time
    void allocate(size_t longest, int slots, int64_t context) {
        gpt.allocate(
            (int)std::max<size_t>(longest, 2048), slots, slots, (int)std::min(gpt.model.config.T, context), weights);
    }
    // The rendered row and what goes before it, which leaves room for an answer of `answer_tokens`; what had to go is
    // told in `truncation`. shots < 0: as many few-shot examples as the rows of tuning showed, or as fit
    std::vector<int> prompt(
        const InstructRow& row, int64_t shots, int64_t answer_tokens, bool truncate, Truncation& truncation) const {
        RenderedRow rendered;
        const int64_t most = context - 1 - answer_tokens;
        if (most < 1)
            fail("%s: the context of %lld tokens leaves no room for a prompt", row.where.c_str(), (long long)context);
        int64_t shown = shots < 0 ? templ.shots : shots;
        do truncation = render_row(gpt.bpe, templ, row, (size_t)shown, false, (size_t)most, truncate, rendered);
        while (!truncation.fits && shots < 0 && shown-- > 0);
        if (!truncation.fits)
            fail("%s: the prompt has %zu tokens, expected at most %lld of the model's context of %lld: shorten it",
                row.where.c_str(), rendered.ids.size(), (long long)most, (long long)context);
        std::vector<int> ids = row_start(gpt.bpe, templ);
        ids.insert(ids.end(), rendered.ids.begin(), rendered.ids.end());
        return ids;
    }
};

// An answer that is shown while it is being written
struct AnswerStream {
    const Tokenizer& bpe;
    std::string text{};
    bool begun = false;
    WordWrap terminal{};

    void add(int token) {
        std::string bytes = bpe.decode(&token, 1, !begun);
        if (!begun) bytes = std::string(ChatTemplate::answer_of(bytes));
        begun = true;
        text += bytes;
        terminal.print(bytes);
    }
    void finish() {
        terminal.finish();
        printf("\n");
    }
};

// Rows without answers: the instruction on the command line, or the lines of standard input
std::vector<InstructRow> rows_to_answer(const std::vector<std::string>& instruction, const std::string& input) {
    if (!instruction.empty()) {
        for (const std::string* text : {&instruction[0], &input})
            if (invalid_utf8(*text) != text->npos)
                fail("expected UTF-8, found other bytes in \"%.60s\"", text->c_str());
        InstructRow row;
        row.turns.push_back({instruction[0], blank(input) ? "" : input, ""});
        row.where = "the instruction";
        row.json.set("instruction", instruction[0]).set("input", row.turns[0].input);
        return {row};
    }
    if (isatty(0)) fprintf(stderr, "a JSON object on each line, {\"instruction\": ..., \"input\": ...}; Ctrl-D ends\n");
    InstructFile in("standard input", false, stdin);
    return read_rows<InstructRow>(in.lines, [&](InstructRow& row) { return in.next(row); });
}

// Answers the instruction on the command line with text, or each row of standard input with a JSON line.
int generate_answers(const SamplingFlags& sampling, const SftFlags& sf, AnsweredRows& answered,
    const std::vector<std::string>& instruction) {
    if (instruction.empty() && !sf.input.empty())
        fail_usage("--input: it belongs to an instruction on the command line, found none there");
    if (!instruction.empty() && blank(instruction[0]))
        fail_usage("generate: expected an instruction, found an empty text");
    LoadedSft sft(sampling);
    const Tokenizer& bpe = sft.gpt.bpe;
    std::vector<InstructRow> rows = rows_to_answer(instruction, sf.input);
    std::vector<std::vector<int>> prompts;  // of the rows without an error
    for (InstructRow& row : rows) {
        Truncation truncation;
        try {
            if (row.error.empty()) prompts.push_back(sft.prompt(row, sf.shots, 1, false, truncation));
        } catch (const Error& e) {
            if (!instruction.empty()) throw;
            row.error = e.what();
        }
        answered.row(row.error);
    }
    size_t longest = 1;
    for (const std::vector<int>& ids : prompts) longest = std::max(longest, ids.size());
    sft.allocate(longest, instruction.empty() ? (int)sampling.batch : 1, (int64_t)longest + sampling.max_new);
    const bool stream = !instruction.empty() && !sf.json;
    AnswerStream shown{bpe};
    auto on_token = [&](size_t, int token) {
        if (stream) shown.add(token);
        return true;
    };
    auto print = [&](const InstructRow& row, const Answer* a) {
        if (stream) return shown.finish();
        Json line = row.json.kind == Json::object ? row.json : Json::make_object();  // all that was given, as an id
        if (a) {
            const std::string text = bpe.decode(a->tokens.data(), a->tokens.size());
            if (line.find("output") && !line.find("reference")) line.set("reference", Json(*line.find("output")));
            line.set("output", std::string(ChatTemplate::answer_of(text))).set("stop", stop_name(a->stop));
        } else {
            line.set("error", row.error);
        }
        printf("%s\n", dump_json(line).c_str());
    };
    answer_rows(sft.gpt, sampling, rows, prompts, on_token, print, "answers");
    answered.finish("the others have their answers");
    return EXIT_OK;
}

// ---------------------------------------------------------------- chat
// A conversation. Earlier turns are shown to the model as long as they fit.
int chat(const SamplingFlags& sf) {
    LoadedSft sft(sf);
    sft.context = std::min(sft.context, sf.context);  // earlier turns go when it is full
    sft.allocate((size_t)sft.context, 1, sft.context);
    const bool terminal = isatty(0);
    if (terminal)
        printf("/reset forgets all, /system TEXT goes before it, /quit or Ctrl-D ends, Ctrl-C stops an answer\n");
    struct sigaction on_ctrl_c{};
    on_ctrl_c.sa_handler = [](int) { interrupted = 1; };  // without SA_RESTART: it also ends the wait for a line
    sigaction(SIGINT, &on_ctrl_c, nullptr);
    InstructRow conversation;
    conversation.where = "this message";
    Sampler sampler = sf.sampler;
    LineReader lines("standard input", stdin);
    const LineEditor editor;
    for (;;) {
        if (terminal) fputs(editor.available() ? "\n" : "\n> ", stdout);
        if (interrupted) clearerr(stdout);  // Ctrl-C may have ended a write
        fflush(stdout);
        interrupted = 0;
        std::string text;
        if (editor.available() ? !editor.next("> ", text) : !lines.next_bytes()) {
            if (interrupted && editor.available()) continue;
            break;
        }
        text = trimmed(editor.available() ? text : std::string(lines.line));
        if (text.empty()) continue;
        if (text == "/quit") break;
        InstructRow asked = conversation;
        asked.turns.push_back({text, "", ""});
        Truncation truncation;
        std::vector<int> prompt;
        try {
            if (invalid_utf8(text) != text.npos || text.find('\0') != text.npos)
                fail("expected UTF-8 text, found other bytes: say it again");
            if (text == "/reset" || text == "/system" || starts_with(text, "/system ")) {
                if (text != "/reset") conversation.system = trimmed(text.substr(7));
                conversation.turns.clear();
                continue;
            }
            if (text[0] == '/') fail("expected /reset, /system TEXT or /quit, found %s", text.c_str());
            prompt = sft.prompt(asked, 0, std::min(sf.max_new, sft.context / 2), true, truncation);
        } catch (const Error& e) {
            fprintf(stderr, "%s\n", visible(e.what()).c_str());
            continue;
        }
        if (truncation.turns) fprintf(stderr, "(the earliest turns no longer fit into the context)\n");
        AnswerStream shown{sft.gpt.bpe};
        Answer answer = sft.gpt.generator.generate({prompt}, sf.max_new, sampler, [&](size_t, int token) {
            shown.add(token);
            return !interrupted;
        })[0];
        shown.finish();
        if (interrupted) clearerr(stdout);
        flush_output();
        if (answer.stop == Stop::context) fprintf(stderr, "(the context is full)\n");
        asked.turns.back().output = shown.text;
        if (!blank(shown.text)) conversation = asked;  // an empty answer is no example to follow
        sampler.seed++;                                // the same question may get another answer the next time
    }
    if (terminal) printf("\n");
    return EXIT_OK;
}

// ---------------------------------------------------------------- merge
// A model whose weights hold what its adapters added
int merge(const SamplingFlags& f, const std::string& out) {
    LoadedGpt gpt(f.model, f.adapter);
    ChatTemplate templ;
    const bool has_template = exists(gpt.dir + "/template.json") && ChatTemplate::of_model(gpt.dir, templ);
    if (has_template) gpt.model.config.eot = end_token(gpt.bpe, templ);
    return merge_model(gpt, gpt.model.point(nullptr, nullptr), out, [&](const std::string& dir) {
        write_gpt_config(dir, gpt.model.config);
        gpt.bpe.save(dir, (int)gpt.model.config.T);
        if (has_template) templ.save_for_transformers(dir, gpt.bpe.name(gpt.bpe.bos()), gpt.bpe.name(gpt.bpe.eot()));
    });
}

// ---------------------------------------------------------------- main
#if __INCLUDE_LEVEL__ == 0  // not when another program or a test includes this file
int main(int argc, char** argv) {
    reexec_with_omp_policy(argv);
    return run_program([&] {
        blas_init();
        TrainFlags f = tuning_flags(0.03);
        f.schedule = "cosine";
        SftFlags sf;
        SamplingFlags sampling;
        AnsweredRows answered;
        sampling.sampler = {0};  // the likeliest token
        sampling.max_new = 128;
        std::vector<FlagGroup> groups = f.groups();
        without(groups, {"batch-tokens"});
        describe(groups, "data",
            "directory with train.bin and, to report on, val.bin and test_*.bin (data/instructions.py)");
        describe(groups, "out",
            "directory of the run: best/, last/, metrics.jsonl, config.json, results.json and answers.jsonl");
        describe(groups, "dropout",
            "dropout rate of embeddings, attention and both branches of every layer; models of Llama's kind have none "
            "if this is not given");
        describe(groups, "init", "the pretrained decoder, a run of train_gpt or a Hugging Face directory");
        describe(groups, "lr",
            "peak learning rate; 0: by the hidden size: 5e-4 up to 256, 2e-4 up to 512, 5e-5 up to 768, else 2e-5, "
            "with --lora-r ten times that");
        groups.push_back({"Task", "train",
            {{"batch", &sf.batch, between(1, 1 << 16),
                 "rows in a micro-batch, and answers that are generated at a time"},
                {"max-len", &sf.max_len, between(0, 1 << 20),
                    "longest row, in tokens; 0: as long as the longest of the data"},
                {"train-on-prompt", &sf.on_prompt,
                    "learn the tokens of the prompt as well, not only those of the answer (for comparison)"},
                {"eval-rows", &sf.rows, at_least(0), "rows of each task to answer before and after tuning; 0: all"}}});
        groups.push_back({"Mixture", "train",
            {{"mix", &sf.mix, "size|equal",
                 "share of each task in the mixture: in proportion to its rows, or the same for all"},
                {"cap", &sf.cap, at_least(0),
                    "with --mix size, most rows of a task that count (as in FLAN); 0: no limit"},
                {"weights", &sf.weights, "NAME=X,...", "multiplies the share of a task or family by X"},
                {"holdout", &sf.holdout, "NAME,...",
                    "tasks or families that are held out of training and reported on"}}});
        groups.push_back(sf.lora.group());
        groups.push_back({"Model", "eval generate chat merge",
            {{"model", &sampling.model, "DIR",
                 "run or model directory; eval takes several, DIR,DIR, and compares all others with the first"},
                {"adapter", &sampling.adapter, "DIR", "low-rank adapters of the model, ours or PEFT's"}}});
        groups.push_back({"Memory", "eval generate chat", {sampling.weights_flag()}});
        groups.push_back({"Evaluation", "eval",
            {{"data", &sf.data, "FILE",
                 "a .bin file of instructions, or the directory with test_*.bin; more can follow the flags"},
                {"out", &sf.out, "DIR", "directory to write results.json and answers_N.jsonl to"},
                {"rows", &sf.rows, at_least(0), "rows of each task to answer; 0: all"}}});
        groups.push_back({"Scores", "train eval",
            {{"strict", &sf.strict, "count case and punctuation in the exact match"},
                {"max-new-tokens", &sf.max_new, between(1, 1 << 20), "longest answer, in tokens"}}});
        groups.push_back({"Conversation", "chat",
            {{"context", &sampling.context, between(2, 1 << 24),
                "longest conversation, in tokens, within the model's context; its memory is taken at once"}}});
        groups.push_back({"Merging", "merge",
            {{"out", &sf.out, "DIR",
                "directory for the model that holds the adapters of --model, or --adapter, too"}}});
        groups.push_back({"Prompts", "generate",
            {{"input", &sf.input, "TEXT", "input that the instruction on the command line is about"},
                {"shots", &sf.shots, between(-1, 2),
                    "few-shot examples of a row to show before its input; -1: as in tuning, or as many of them as fit"},
                answered.flag()}});
        groups.push_back({"Output", "eval generate",
            {{"batch", &sampling.batch, between(1, 1 << 16), "answers that are generated at a time"},
                {"json", &sf.json, "print JSON in place of tables, and of the answer to words on the command line"}}});
        groups.push_back({"Sampling", "generate chat", sampling.flags()});
        Cli cli{"sft", "fine-tuning of a decoder for text generation and on instructions.",
            "  ./sft --init runs/gpt --data datasets/alpaca --out runs/sft\n"
            "  ./sft eval --model runs/gpt,runs/sft --data datasets/alpaca/val.bin\n"
            "  ./sft generate --model runs/sft \"Name the first fruit.\" --input \"pear, fig, plum\"\n"
            "  ./sft generate --model runs/sft < questions.jsonl > answers.jsonl\n"
            "  ./sft chat --model runs/sft\n",
            {{"train", "", "tune on DATA/train.bin, report on test_*.bin"},
                {"eval", "[FILE...]", "exact match, ROUGE-L and chosen options, task by task", 0, CLI_MANY},
                {"generate", "[INSTRUCTION]",
                    "the answer; without words, to each JSON line {\"instruction\", \"input\", ...} of standard input, "
                    "with output and stop added (an output that was there becomes reference)",
                    0, 1},
                {"merge", "", "adds low-rank adapters to the weights of their model: a model like any other"},
                {"chat", "",
                    "a conversation in the terminal: /reset forgets it, /system TEXT goes before it, /quit ends it, "
                    "Ctrl-C stops an answer"}},
            groups};
        if (!cli.parse(argc, argv)) return (int)EXIT_OK;
        if (cli.command != "train" && split_list(sampling.model).empty())
            fail_usage("--model DIR is missing: the --out of a tuning run, or a model directory");
        if (cli.command == "generate") return generate_answers(sampling, sf, answered, cli.positional);
        if (cli.command == "chat") return chat(sampling);
        if (cli.command == "merge") return merge(sampling, sf.out);
        return cli.command == "eval" ? eval_sft(sf, sampling, cli.positional) : train_sft(cli, f, sf);
    });
}
#endif
#endif  // SFT_CU
