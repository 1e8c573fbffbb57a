// sft.cu: fine-tuning a decoder for text generation and on instructions (Wei et al. 2021, Wang et al. 2022), and using
// what comes out.
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

#include "common/base/terminal.h"
#include "common/data/task_mixture.h"
#include "common/eval/instruct_eval.h"
#include "common/eval/instruct_report.h"

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
void check_instruct_data(const BinFile& file, const Bpe& bpe, const std::string& dir) {
    if (file.fingerprint() != bpe.fingerprint() || file.vocab() != bpe.size())
        fail("%s: it was packed with another tokenizer than that of %s: pack it again with --tokenizer %s",
             file.path.c_str(), dir.c_str(), dir.c_str());
    std::string path = dir + "/template.json";
    if (!exists(path)) return;
    uint64_t known = template_fingerprint(parse_json(read_file(path), path));
    if (known != file.header.templ)
        fail(
            "%s: it was packed with another template (%016llx) than %s was tuned with (%016llx): pack it again with "
            "--template %s",
            file.path.c_str(), (unsigned long long)file.header.templ, dir.c_str(), (unsigned long long)known,
            path.c_str());
}

// ---------------------------------------------------------------- the task
struct SftFlags {
    int64_t batch = 16, max_len = 0, cap = 0, eval_rows = 100, max_new = 128;
    std::string mix = "size", weights, holdout;
    bool on_prompt = false, strict = false;
    LoraFlags lora;
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
    const ChatTemplate templ;
    GptConfig config;
    Generator generator;  // answers, before and after
    StepStats* answer_stats = nullptr;
    std::vector<char> host;  // validation batches
    char* block = nullptr;
    std::vector<ParamSpec> model_table;  // of the model's parameters: opt's, or with adapters frozen, at `base`
    LoraTable adapters;
    real* base = nullptr;
    std::string init;     // the directory of the model that is tuned
    uint64_t frozen = 0;  // a hash of its parameters, where there are adapters
    uint64_t val_rows = 0;
    size_t same_question = 0;  // rows for training that ask what a held-out row asks
    int64_t context;           // tokens that the longest test row and its answer may have; 0: there are none to answer

    SftTask(TrainFlags& f, const SftFlags& sf, const BinFile& train, const BinFile* val, const Bpe& bpe,
            const ChatTemplate& templ, const GptConfig& config, const std::string& init, int64_t context)
        : f(f),
          sf(sf),
          train_data(train, row_start(bpe, templ)),
          bpe(bpe),
          templ(templ),
          config(config),
          init(init),
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
        set_shape(shape_for(sf.batch));
        builder.set_up(shape, bpe.eot(), (int)sf.max_len, 128);
        model.config = config;
        model.context = (int)context;
        model.dropout = (float)(is_lora() ? sf.lora.dropout : f.dropout);
        model.recompute = f.recompute;
        model_table = opt.table = model.point(nullptr, nullptr);
        if (is_lora()) {
            adapters = LoraTable(model_table, sf.lora);
            opt.table = adapters.rows;
            model.linear.point(adapters, model_table, nullptr, nullptr, nullptr);
        }
        opt.n = total_count(opt.table);
    }
    bool is_lora() const { return sf.lora.r > 0; }
    BatchShape shape_for(int64_t batch) const {
        BatchShape s;  // every token may have a target; any prompt fits
        s.N = s.M = (int)round_up(std::max(batch * sf.max_len, context), 128);
        return s;
    }
    void set_shape(const BatchShape& s) { shape = model.shape = s; }
    void plan(Arena& arena) {
        opt.plan(arena);
        arena.region("frozen parameters");
        if (is_lora()) arena.take(base, total_count(model_table));
        if (is_lora()) model.linear.point(adapters, model_table, base, opt.params, opt.grads);
        model.plan_activations(arena, true);
        arena.region("batch");
        arena.take(block, shape.device_bytes());
        arena.take(answer_stats, 1);
        if (context) generator.plan(arena, model, (int)sf.batch, (int)context);
        generator.block = block;
        generator.vocab_limit = (int)bpe.size();
    }
    void allocate(Arena& arena) {
        plan(arena);
        if (is_lora()) model.point(base, nullptr);
        else model.point(opt.params, opt.grads);
        host.resize(shape.bytes());
    }

    // The parameters before tuning: those of the model in `dir`, and adapters that change nothing yet
    void load_start(const std::string& dir, bool say) {
        std::vector<areal> values(total_count(model_table));
        LoadReport report = load_tensors(dir, model_table, values.data());
        if (say) report.announce(dir, {});
        report.refuse_missing(dir);
        refuse_not_finite(model_table, values, dir);
        if (!is_lora()) return opt.upload(values);
        frozen = fnv1a(values.data(), values.size() * sizeof values[0]);
        std::vector<real> rounded(values.begin(), values.end());
        copy_to_device(base, rounded.data(), rounded.size() * sizeof(real));
        opt.upload(initial_values(opt.table, opt.n, (uint64_t)f.seed));
    }

    // What train() needs of a task
    int fill(BatchBuilder& b, Cursor& cursor) {
        return fill_batch(b, train_data, cursor, (uint64_t)f.seed, true, cursor.next + (uint64_t)sf.batch);
    }
    void forward_backward(const Batch& b, StepStats* stats) { model.forward_backward(b, stats); }
    void set_dropout(double rate) { model.dropout = (float)rate; }
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
        bpe.save(dir, (int)config.T);
        templ.save_for_transformers(dir, bpe.name(bpe.bos()), bpe.name(bpe.eot()));
        if (is_lora()) {
            const std::string model_dir = std::filesystem::absolute(init).lexically_normal();
            return save_adapter(dir, adapters, sf.lora, model_dir, !config.llama, opt.download().data());
        }
        write_gpt_config(dir, config);
        opt.save(dir);
    }
    Json identity() const {
        Json id = model_identity(config)
                      .set("tokenizer", hex(bpe.fingerprint()))
                      .set("train_data", hex(train_data.file.header.content))
                      .set("val_data", hex(val_data ? val_data->file.header.content : 0));
        // rank and targets are in the table's fingerprint
        return is_lora() ? id.set("lora_alpha", sf.lora.alpha).set("frozen", hex(frozen)) : id;
    }
};

// ---------------------------------------------------------------- answers
// A model as evaluation takes it. The owner of model, generator and stats keeps their memory.
struct AnsweringGpt {
    Gpt& model;
    Generator& generator;
    const Bpe& bpe;
    StepStats* stats;  // in device memory
    int64_t max_new;

    AnsweringModel functions() {
        return {(size_t)std::min(generator.cache.context - 1, model.shape.N),
                [this](auto& prompts, int end, auto& progress) { return generate(prompts, end, progress); },
                [this](auto& prompt, auto& answers, int end) { return log_likelihoods(prompt, answers, end); }};
    }
    // The most likely token, one after the other, until `end`
    std::vector<GeneratedAnswer> generate(const std::vector<std::vector<int>>& prompts, int end,
                                          const std::function<void(size_t)>& progress) {
        model.config.eot = end;
        Sampler greedy;
        greedy.temperature = 0;
        std::vector<Answer> answers = generator.generate(prompts, max_new, greedy, [&](size_t i, int) {
            progress(i);
            return true;
        });
        std::vector<GeneratedAnswer> texts;
        for (const Answer& a : answers)
            texts.push_back({bpe.decode(a.tokens.data(), a.tokens.size()), stop_name(a.stop)});
        return texts;
    }
    // Σ log p of the tokens of each answer and of `end` after it, after the prompt; as many answers at a time as fit
    // into a batch. None if an answer does not fit into the context.
    std::vector<double> log_likelihoods(const std::vector<int>& prompt, const std::vector<std::string>& answers,
                                        int end) {
        std::vector<double> sums(answers.size(), 0);
        std::vector<std::pair<size_t, size_t>> targets;  // of each answer in the batch: [first, last)
        size_t first = 0;                                // answer in the batch
        BatchBuilder& builder = generator.builder;
        auto flush = [&] {
            if (builder.rows.empty()) return;
            Batch b = to_device(builder.finish(generator.host.data(), StepCounters{}, 1), model.shape, generator.block,
                                generator.host.data());
            NoDropout inference(model.dropout);
            device_zero(stats, sizeof(StepStats));
            model.forward(b, stats);
            std::vector<areal> losses(b.M);  // −log p of each target
            copy_to_host(losses.data(), model.acts.losses, b.M * sizeof(areal));
            for (size_t k = 0; k < targets.size(); k++)
                for (size_t m = targets[k].first; m < targets[k].second; m++) sums[first + k] -= (double)losses[m];
            first += targets.size();
            targets.clear();
            builder.clear();
        };
        builder.clear();
        for (const std::string& text : answers) {
            std::vector<int> ids = prompt, answer, positions;
            bpe.encode(text, answer, SPECIALS_AS_TEXT);
            answer.push_back(end);
            for (size_t i = 0; i < answer.size(); i++) positions.push_back((int)(prompt.size() - 1 + i));
            ids.insert(ids.end(), answer.begin(), answer.end() - 1);
            if (ids.size() > (size_t)std::min<int64_t>(model.config.T, model.shape.N)) return {};
            if (!builder.fits(ids.size(), answer.size())) flush();
            targets.push_back({builder.rows.size(), builder.rows.size() + answer.size()});
            builder.add(ids, std::vector<int>(ids.size(), 0), positions, answer);
        }
        flush();
        return sums;
    }
    // Answers all rows of the sets, and writes the answers to `path` (or nowhere, if it is empty).
    System evaluate(const std::string& name, const std::vector<TestSet>& sets, const std::string& path) {
        FILE* out = path.empty() ? nullptr : fopen(path.c_str(), "w");
        if (!path.empty() && !out) fail("%s: could not open it for writing: %s", path.c_str(), strerror(errno));
        System system = evaluate_on_instructions(name, sets, bpe, functions(), out);
        if (out && fclose(out)) fail("%s: could not write: %s", path.c_str(), strerror(errno));
        return system;
    }
};

// ---------------------------------------------------------------- train
// The tasks of train.bin that are held out, as sets to report on: those of families that are trained on (or of none),
// and those of families that are held out as a whole.
std::vector<TestSet> held_out_sets(const BinFile& train, const SftFlags& sf) {
    std::set<std::string> trained_families;
    for (const std::string& task : train.tasks)
        if (!named_in(task, sf.holdout) || task.find('/') == task.npos) trained_families.insert(family_of(task));
    std::vector<TestSet> sets;
    for (bool trained : {true, false}) {
        auto chosen = [&](const std::string& task) {
            return named_in(task, sf.holdout) && trained_families.count(family_of(task)) == trained;
        };
        TestSet set = draw_test_set(trained ? "held-out tasks" : "held-out families", train, sf.eval_rows, sf.strict,
                                    chosen);
        if (set.count()) sets.push_back(set);
    }
    return sets;
}

// The files of --data, and the sets of rows that are answered before and after.
struct SftFiles {
    BinFile train;
    std::vector<std::unique_ptr<BinFile>> others;  // val.bin, test_*.bin
    const BinFile* val = nullptr;
    std::vector<TestSet> sets;
    size_t rows_to_answer = 0;
    int64_t longest = 0;  // tokens of the longest row

    SftFiles(const std::string& dir, const SftFlags& sf, const Bpe& bpe, const std::string& init)
        : train(dir + "/train.bin", BIN_INSTRUCT) {
        check_instruct_data(train, bpe, init);
        for (const std::string& name : split_list(sf.holdout))
            if (std::none_of(train.tasks.begin(), train.tasks.end(),
                             [&](const std::string& task) { return named_in(task, name); }))
                fail_usage("--holdout: expected tasks or families of %s, found \"%s\"; there are %s",
                           train.path.c_str(), name.c_str(), name_list(train.tasks, 20).c_str());
        auto open_file = [&](const std::string& path) {
            BinFile* file = others.emplace_back(std::make_unique<BinFile>(path, BIN_INSTRUCT)).get();
            check_instruct_data(*file, bpe, init);
            if (file->header.templ != train.header.templ)
                fail("%s: it was packed with another template than %s: pack both with the same", file->path.c_str(),
                     train.path.c_str());
            return file;
        };
        if (exists(dir + "/val.bin")) val = open_file(dir + "/val.bin");
        sets = held_out_sets(train, sf);
        for (const std::string& path : test_files(dir))
            sets.push_back(draw_test_set(file_stem(path), *open_file(path), sf.eval_rows, sf.strict));
        if (sets.empty() && val && !val->tasks.empty()) {  // some rows of val.bin, together about eval_rows
            const int64_t rows = (int64_t)std::max<size_t>(1, (size_t)sf.eval_rows / val->tasks.size());
            sets.push_back(draw_test_set("val", *val, sf.eval_rows ? rows : 0, sf.strict));
        }
        for (const TestSet& set : sets) rows_to_answer += set.count();
        auto measure = [&](const BinFile& file) {
            for (size_t s = 0; s < file.sequences(); s++) longest = std::max(longest, (int64_t)file.length(s));
        };
        measure(train);
        for (const auto& file : others) measure(*file);
    }
};

// A run that was killed early may have left answers and their scores, which are known by this text; no other file of
// these names is replaced.
void refuse_foreign_answers(const TrainFlags& f) {
    const std::pair<std::string, const char*> names[] = {{"answers_before.jsonl", "{\"set\": "},
                                                         {"scores_before.json", ", \"strict\": "}};
    for (const auto& [name, text] : names) {
        const std::string path = f.out + "/" + name;
        struct stat st;
        const bool is_file = lstat(path.c_str(), &st) == 0 && S_ISREG(st.st_mode);  // and no link to one
        const bool ours = is_file && (st.st_size == 0 || read_file(path).find(text) != std::string::npos);
        if (!f.resume && !ours) refuse_existing("--out", f.out, {name});
    }
}

// No row may be longer than the model, or --max-len, takes.
void refuse_long_rows(const InstructData& data, int64_t max_len, bool given) {
    if (size_t n = data.mixture.longer_than((size_t)max_len))
        fail(
            "%s: %zu rows have more than %lld tokens, more than the model%s takes: pack it again with --max-len "
            "%lld --overlong drop (or truncate)",
            data.file.path.c_str(), n, (long long)max_len, given ? " with this --max-len" : "", (long long)max_len);
}

// The answers before tuning. A resumed run reads their scores, so that it need not answer again.
System answer_before(AnsweringGpt& answering, SftTask& task, const TrainFlags& f, const SftFiles& files,
                     const std::string& path) {
    System before{"before", {}};
    const std::string scores = f.out + "/scores_before.json";
    if (!files.rows_to_answer || (f.resume && read_scores(scores, files.sets, before))) return before;
    if (files.sets[0].file == files.val)
        printf("no test_*.bin and no --holdout: rows of val.bin, which also chooses the model, stand in for a test\n");
    printf("%s test rows of %zu set%s: the answers before tuning\n", thousands((double)files.rows_to_answer).c_str(),
           files.sets.size(), files.sets.size() == 1 ? "" : "s");
    fflush(stdout);
    if (f.resume) task.load_start(resolve_model_dir(task.init), false);  // for a moment: train() takes the run's own
    before = answering.evaluate("before", files.sets, path);
    write_scores(scores, files.sets, before);
    return before;
}

// Answers the sets again with the tuned model, and prints and writes what changed.
void report_after(AnsweringGpt& answering, SftTask& task, const TrainFlags& f, const SftFiles& files,
                  const System& before) {
    const std::string out = without_slash(f.out);
    if (!files.rows_to_answer) {
        const std::string data = without_slash(f.data);
        printf(
            "no rows were answered: there is no %s/test_*.bin, no val.bin and no --holdout; ./sft eval --model %s "
            "--data FILE.bin answers those of a file\n",
            data.c_str(), out.c_str());
        return;
    }
    task.opt.load(resolve_model_dir(f.out));
    System tuned = answering.evaluate("tuned", files.sets, f.out + "/answers.jsonl");
    const std::vector<TestSet>& sets = files.sets;
    const Comparison systems{most_frequent_baseline(sets), copy_input_baseline(sets), before, {tuned}};
    print_results(sets, systems, false, 1);
    write_file_atomic(f.out + "/results.json", dump_json(results_json(sets, systems, 1), 2) + "\n");
    printf("\n%s/results.json has every task; answers.jsonl and answers_before.jsonl every answer\n", out.c_str());
}

int train_sft(Cli& cli, TrainFlags& f, SftFlags& sf) {
    prepare_flags(cli, f, {"train.bin"}, {"data/alpaca.py", "data/instructions.py"});
    if (f.init.empty())
        fail_usage(
            "--init DIR is missing: the pretrained decoder, a run of train_gpt or a Hugging Face directory of GPT-2's "
            "or Llama's kind");
    open_run_dir(f);
    const std::string before_path = f.out + "/answers_before.jsonl";
    refuse_foreign_answers(f);

    // the model: a resumed run finds all that it needs in last/, but adapters also need theirs
    const bool is_lora = sf.lora.r > 0;
    std::string init = resolve_model_dir(f.resume && exists(f.out + "/last") && !is_lora ? f.out + "/last" : f.init);
    if (is_adapter(init))
        fail_usage("--init %s: expected a model, found adapters: make one of both: ./sft merge --model %s --out DIR",
                   init.c_str(), init.c_str());
    if (is_lora && cli.given("dropout") && f.dropout > 0)
        fail_usage("--dropout: with --lora-r the model is frozen and its adapters have --lora-dropout");
    GptConfig config = read_gpt_config(init);
    Bpe bpe = Bpe::load(init);
    check_vocabulary(init, bpe.size(), config.V);
    if (!config.llama || config.eot < 0) config.eot = bpe.eot();
    preset_dropout(cli, f, config);
    config.dropout = f.dropout;
    if (cli.given("max-len") && sf.max_len > config.T)
        fail_usage("--max-len: %s has %lld positions, found %lld", init.c_str(), (long long)config.T,
                   (long long)sf.max_len);
    // Wider decoders take lower rates, adapters ten times those of a whole model (Schulman et al. 2025)
    if (f.lr == 0)
        f.lr = (config.C <= 256 ? 5e-4 : config.C <= 512 ? 2e-4 : config.C <= 768 ? 5e-5 : 2e-5) * (is_lora ? 10 : 1);

    SftFiles files(f.data, sf, bpe, init);
    const ChatTemplate templ = ChatTemplate::from_json(files.train.templ, files.train.path);
    config.eot = end_token(bpe, templ);
    if (!templ.is_chat()) bpe.add_bos = true;  // every row begins with it
    if (sf.max_len == 0) sf.max_len = std::min(config.T, files.longest);
    const int64_t context = std::min(config.T, files.longest + sf.max_new);
    SftTask task(f, sf, files.train, files.val, bpe, templ, config, is_lora ? init : f.init,
                 files.rows_to_answer ? context : 0);
    if (task.train_data.sequences() == 0) fail_usage("--holdout, --weights: nothing is left to train on");
    for (InstructData* data : {&task.train_data, task.val_data.get()})
        if (data) refuse_long_rows(*data, sf.max_len, cli.given("max-len"));
    const int64_t rows_per_step = sf.batch * f.accum, rows = (int64_t)task.train_data.sequences();
    if (f.epochs > 0) f.steps = std::max<int64_t>(1, llround(f.epochs * (double)rows / (double)rows_per_step));
    if (f.steps == 0) fail_usage("--epochs 0: expected more than 0, or --steps");
    if (f.eval_every == 0) f.eval_every = (int64_t)ceil((double)rows / (double)rows_per_step);  // an epoch

    check_tensors(init, task.model_table);
    print_machine("sft");
    print_parameters(task.opt.table, f.verbose);
    if (is_lora)
        printf("low-rank adapters: these parameters are trained, the %s of the model are frozen\n",
               thousands((double)total_count(task.model_table)).c_str());
    Arena arena(allocate_run(task, "--batch", 1, 1 << 16));
    task.allocate(arena);
    print_mixture(task.train_data.mixture, sf.holdout, task_weights(files.train.tasks, sf.weights));
    if (task.same_question)
        printf("%zu row%s with the question of a held-out row left out of training\n", task.same_question,
               task.same_question == 1 ? "" : "s");
    printf("%lld steps of %lld x %lld rows: %.2f epochs%s\n", (long long)f.steps, (long long)f.accum,
           (long long)sf.batch, (double)(f.steps * rows_per_step) / (double)rows, is_lora ? "" : "; no new parameters");
    task.load_start(init, !f.resume);

    AnsweringGpt answering{task.model, task.generator, bpe, task.answer_stats, sf.max_new};
    const System before = answer_before(answering, task, f, files, before_path);
    if (int code = train(task, cli, f, NAN); code != EXIT_OK) return code;
    report_after(answering, task, f, files, before);
    return EXIT_OK;
}

// ---------------------------------------------------------------- eval
struct SftEvalFlags {
    std::string models, data, out, adapter;
    int64_t rows = 100, max_new = 128, batch = 16;
    bool json = false, strict = false;
};

// One table for some files of rows and some models, the first of which is what the others are compared with.
int eval_sft(const SftEvalFlags& ef, const std::vector<std::string>& more_files) {
    std::vector<std::string> paths = more_files;
    if (!ef.data.empty()) paths.insert(paths.begin(), ef.data);
    if (paths.empty()) fail_usage("--data FILE is missing: .bin files of instructions, or the folder with test_*.bin");
    const std::vector<std::string> model_paths = split_list(ef.models);
    if (model_paths.empty()) fail_usage("--model DIR is missing: the --out of a tuning run, or a model directory");
    if (!ef.out.empty()) {
        if (exists(ef.out + "/metrics.jsonl") || is_model_directory(ef.out))
            fail_usage(
                "--out %s: a run or a model is there already, whose results.json is of its own: take another directory",
                ef.out.c_str());
        std::vector<std::string> names = {"results.json"};
        for (size_t i = 1; i <= model_paths.size(); i++) names.push_back(format("answers_%zu.jsonl", i));
        refuse_existing("--out", ef.out, names);
    }
    std::vector<std::unique_ptr<BinFile>> files;
    std::vector<TestSet> sets;
    size_t longest = 1;  // tokens of the longest row
    for (const std::string& path : paths) {
        std::vector<std::string> list = is_directory(path) ? test_files(path) : std::vector<std::string>{path};
        if (list.empty())
            fail(
                "%s: expected test.bin or test_*.bin there, found none; a .bin file can be given by its name, as "
                "%s/val.bin",
                path.c_str(), without_slash(path).c_str());
        for (const std::string& file_path : list) {
            const BinFile& file = *files.emplace_back(std::make_unique<BinFile>(file_path, BIN_INSTRUCT));
            std::string name = file_stem(file_path);
            for (const TestSet& set : sets)
                if (set.name == name) name = file_path;  // two folders have a test.bin
            sets.push_back(draw_test_set(name, file, ef.rows, ef.strict));
            for (size_t s = 0; s < file.sequences(); s++) longest = std::max(longest, file.length(s));
        }
    }
    std::vector<std::unique_ptr<LoadedGpt>> models;  // first all are checked, then each answers
    for (const std::string& path : model_paths) {
        models.push_back(std::make_unique<LoadedGpt>(path, ef.adapter));
        for (auto& file : files) check_instruct_data(*file, models.back()->bpe, models.back()->dir);
    }
    if (!ef.out.empty()) make_directories(ef.out);

    StepStats* stats = (StepStats*)device_alloc(sizeof(StepStats));
    std::vector<System> answered;  // of each model
    for (size_t i = 0; i < models.size(); i++) {
        const std::string path = without_slash(model_paths[i]);
        std::string name = path;
        auto taken = [&](const System& system) { return system.name == name; };
        for (int n = 2; std::any_of(answered.begin(), answered.end(), taken); n++)
            name = format("%s (%d)", path.c_str(), n);  // given twice
        LoadedGpt& gpt = *models[i];
        const int64_t T = std::min(gpt.model.config.T, (int64_t)longest + ef.max_new), N = std::max<int64_t>(4096, T);
        gpt.allocate((int)N, (int)N, (int)ef.batch, (int)T);
        AnsweringGpt answering{gpt.model, gpt.generator, gpt.bpe, stats, ef.max_new};
        answered.push_back(answering.evaluate(
            name, sets, ef.out.empty() ? "" : format("%s/answers_%zu.jsonl", ef.out.c_str(), i + 1)));
        models[i].reset();  // the next one takes its memory
    }
    const Comparison systems{
        most_frequent_baseline(sets), copy_input_baseline(sets), answered[0], {answered.begin() + 1, answered.end()}};
    const Json results = results_json(sets, systems, 1);
    if (ef.json) printf("%s\n", dump_json(results).c_str());
    else print_results(sets, systems, true, 1);
    if (!ef.out.empty()) write_file_atomic(ef.out + "/results.json", dump_json(results, 2) + "\n");
    flush_output();
    return EXIT_OK;
}

// ---------------------------------------------------------------- generate
struct PromptedFlags {
    std::string input;
    int64_t shots = -1;
    bool json = false;
};

// A tuned model with its template, to answer up to `slots` prompts at a time.
struct LoadedSft {
    LoadedGpt gpt;
    ChatTemplate templ;
    int64_t context;  // tokens of the longest prompt with its answer: the model's, or less

    LoadedSft(const SamplingFlags& f) : gpt(checked(f.model), f.adapter) {
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
        gpt.allocate((int)std::max<size_t>(longest, 2048), slots, slots, (int)std::min(gpt.model.config.T, context));
    }
    static const std::string& checked(const std::string& path) {
        if (path.empty()) fail_usage("--model DIR is missing: the --out of a tuning run");
        return path;
    }
    // The rendered row and what goes before it, which leaves room for an answer of `answer_tokens`; what had to go is
    // told in `truncation`. shots < 0: as many few-shot examples as the rows of tuning showed, or as fit
    std::vector<int> prompt(const InstructRow& row, int64_t shots, int64_t answer_tokens, bool truncate,
                            Truncation& truncation) const {
        RenderedRow rendered;
        const int64_t most = context - 1 - answer_tokens;
        if (most < 1)
            fail("%s: the context of %lld tokens leaves no room for a prompt", row.where.c_str(), (long long)context);
        int64_t shown = shots < 0 ? templ.shots : shots;
        truncation = render_row(gpt.bpe, templ, row, (size_t)shown, false, (size_t)most, truncate, rendered);
        while (!truncation.fits && shots < 0 && shown > 0)
            truncation = render_row(gpt.bpe, templ, row, (size_t)--shown, false, (size_t)most, truncate, rendered);
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
    const Bpe& bpe;
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
    void finish() { terminal.finish(); }
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
    InstructFile in(stdin);
    return read_rows<InstructRow>(in.lines, [&](InstructRow& row) { return in.next(row); });
}

// Answers the instruction on the command line with text, or each row of standard input with a JSON line.
int generate_answers(const SamplingFlags& sf, const PromptedFlags& pf, AnsweredRows& answered,
                     const std::vector<std::string>& instruction) {
    if (instruction.empty() && !pf.input.empty())
        fail_usage("--input: it belongs to an instruction on the command line, found none there");
    if (!instruction.empty() && blank(instruction[0]))
        fail_usage("generate: expected an instruction, found an empty text");
    LoadedSft sft(sf);
    const Bpe& bpe = sft.gpt.bpe;
    std::vector<InstructRow> rows = rows_to_answer(instruction, pf.input);
    std::vector<std::vector<int>> prompts;  // of the rows without an error
    for (InstructRow& row : rows) {
        Truncation truncation;
        try {
            if (row.error.empty()) prompts.push_back(sft.prompt(row, pf.shots, 1, false, truncation));
        } catch (const Error& e) {
            if (!instruction.empty()) throw;
            row.error = e.what();
        }
        answered.row(row.error, row.blank);
    }
    size_t longest = 1;
    for (const std::vector<int>& ids : prompts) longest = std::max(longest, ids.size());
    sft.allocate(longest, instruction.empty() ? (int)sf.batch : 1, (int64_t)longest + sf.max_new);
    const bool stream = !instruction.empty() && !pf.json;
    AnswerStream shown{bpe};
    std::vector<Answer> answers = sft.gpt.generator.generate(prompts, sf.max_new, sf.sampler, [&](size_t, int token) {
        if (stream) shown.add(token);
        return true;
    });
    if (stream) shown.finish();
    if (stream) printf("\n");
    size_t full = 0, next = 0;
    for (const InstructRow& row : rows) {
        Json line = row.json.kind == Json::object ? row.json : Json::make_object();  // all that was given, as an id
        if (!row.error.empty()) {
            printf("%s\n", dump_json(line.set("error", row.error)).c_str());
            continue;
        }
        const Answer& a = answers[next++];
        full += a.stop == Stop::context;
        if (stream) continue;
        std::string text = bpe.decode(a.tokens.data(), a.tokens.size());
        if (line.find("output") && !line.find("reference")) line.set("reference", Json(*line.find("output")));
        line.set("output", std::string(ChatTemplate::answer_of(text))).set("stop", stop_name(a.stop));
        printf("%s\n", dump_json(line).c_str());
    }
    flush_output();
    if (full)
        fprintf(stderr, "%zu of %zu answers end because the model's context of %lld tokens is full\n", full,
                answers.size(), (long long)sft.gpt.model.config.T);
    answered.finish();
    return EXIT_OK;
}

// ---------------------------------------------------------------- chat
// A line that begins with a slash
void chat_command(const std::string& text, InstructRow& conversation) {
    if (text == "/reset") {
        conversation.turns.clear();
    } else if (text == "/system" || text.rfind("/system ", 0) == 0) {
        conversation.system = trimmed(text.substr(7));
        conversation.turns.clear();
    } else {
        fprintf(stderr, "expected /reset, /system TEXT or /quit, found %s\n", visible(text).c_str());
    }
}

// A conversation. Earlier turns are shown to the model as long as they fit.
int chat(const SamplingFlags& sf) {
    LoadedSft sft(sf);
    sft.context = std::min(sft.context, sf.context);  // earlier turns go when it is full
    sft.allocate((size_t)sft.context, 1, sft.context);
    const bool terminal = isatty(0);
    if (terminal)
        printf(
            "/reset forgets what was said, /system TEXT goes before it, /quit or Ctrl-D ends; Ctrl-C stops an "
            "answer\n");
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
        if (invalid_utf8(text) != text.npos || text.find('\0') != text.npos) {
            fprintf(stderr, "expected UTF-8 text, found other bytes: say it again\n");
            continue;
        }
        if (text[0] == '/') {
            chat_command(text, conversation);
            continue;
        }
        conversation.turns.push_back({text, "", ""});
        Truncation truncation;
        std::vector<int> prompt;
        try {
            const int64_t answer_tokens = std::min(sf.max_new, sft.context / 2);
            prompt = sft.prompt(conversation, 0, answer_tokens, true, truncation);
        } catch (const Error& e) {
            fprintf(stderr, "%s\n", visible(e.what()).c_str());
            conversation.turns.pop_back();
            continue;
        }
        if (truncation.turns) fprintf(stderr, "(the earliest turns no longer fit into the context)\n");
        AnswerStream shown{sft.gpt.bpe};
        Answer answer = sft.gpt.generator.generate({prompt}, sf.max_new, sampler, [&](size_t, int token) {
            shown.add(token);
            return !interrupted;
        })[0];
        shown.finish();
        printf("\n");
        if (interrupted) clearerr(stdout);
        flush_output();
        if (answer.stop == Stop::context) fprintf(stderr, "(the context is full)\n");
        if (trimmed(shown.text).empty()) conversation.turns.pop_back();  // an empty answer is no example to follow
        else conversation.turns.back().output = shown.text;
        sampler.seed++;  // the same question may get another answer the next time
    }
    if (terminal) printf("\n");
    return EXIT_OK;
}

// ---------------------------------------------------------------- merge
// A model whose weights hold what its adapters added
int merge(const SamplingFlags& f, const std::string& out) {
    if (f.model.empty() || out.empty()) fail_usage("merge: expected --model DIR and --out DIR");
    LoadedGpt gpt(f.model, f.adapter);
    if (gpt.adapter.empty())
        fail_usage("--model %s: expected adapters, or --adapter DIR beside a model, found a model alone",
                   f.model.c_str());
    for (const char* end : {"", ".tmp", ".old"})  // what a save replaces
        if (exists(without_slash(out) + end))
            fail_usage("--out %s: expected nothing there, found %s%s; take another directory", out.c_str(),
                       without_slash(out).c_str(), end);
    const std::vector<ParamSpec> table = gpt.model.point(nullptr, nullptr);
    std::vector<areal> values(total_count(table));
    load_tensors(gpt.weights, table, values.data()).refuse_missing(gpt.weights);
    merge_adapter(gpt.adapter, table, values.data());
    refuse_not_finite(table, values, gpt.adapter);
    ChatTemplate templ;
    const bool has_template = exists(gpt.dir + "/template.json") && ChatTemplate::of_model(gpt.dir, templ);
    if (has_template) gpt.model.config.eot = end_token(gpt.bpe, templ);
    save_directory(out, [&](const std::string& dir) {
        write_gpt_config(dir, gpt.model.config);
        gpt.bpe.save(dir, (int)gpt.model.config.T);
        if (has_template) templ.save_for_transformers(dir, gpt.bpe.name(gpt.bpe.bos()), gpt.bpe.name(gpt.bpe.eot()));
        save_tensors(dir, table, values.data());
    });
    printf("%s: the model %s with the adapters %s\n", out.c_str(), gpt.weights.c_str(), gpt.adapter.c_str());
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
        PromptedFlags pf;
        AnsweredRows answered;
        std::string mf_out;
        gf.sampler.temperature = 0;
        gf.sampler.top_k = 0;
        gf.max_new = 128;
        std::vector<FlagGroup> groups = f.groups();
        without(groups, {"batch-tokens"});
        describe(groups, "data",
                 "directory with train.bin, and with val.bin and test_*.bin to report on, where there are such; packed "
                 "with the tokenizer of --init (data/instructions.py)");
        describe(
            groups, "out",
            "directory of the run, for best/, last/, metrics.jsonl and config.json; where test rows are answered also "
            "results.json and answers.jsonl");
        describe(groups, "dropout",
                 "dropout rate of embeddings, attention and both branches of every layer; models of Llama's kind have "
                 "none if this is not given");
        describe(groups, "init", "the pretrained decoder, a run of train_gpt or a Hugging Face directory");
        describe(groups, "lr",
                 "peak learning rate; 0: chosen by the hidden size: 5e-4 up to 256, 2e-4 up to 512, 5e-5 up to 768, "
                 "else 2e-5, with --lora-r ten times that");
        describe(
            groups, "eval-every",
            "steps between two validations; each writes last/ and, if it is the best so far, best/; 0: once an epoch");
        groups.insert(groups.begin() + 1,
                      {"Task",
                       "train",
                       {{"batch", &sf.batch, between(1, 1 << 16),
                         "rows in a micro-batch, and answers that are generated at a time"},
                        {"max-len", &sf.max_len, between(0, 1 << 20),
                         "longest row, in tokens; 0: as long as the longest of the data"},
                        {"train-on-prompt", &sf.on_prompt,
                         "learn the tokens of the prompt as well, not only those of the answer (for comparison)"}}});
        groups.insert(groups.begin() + 2,
                      {"Mixture",
                       "train",
                       {{"mix", &sf.mix, "size|equal",
                         "share of each task in the mixture: in proportion to its rows, or the same for all"},
                        {"cap", &sf.cap, at_least(0),
                         "with --mix size, most rows of a task that count (as in FLAN); 0: no limit"},
                        {"weights", &sf.weights, "NAME=X,...", "multiplies the share of a task or family by X"},
                        {"holdout", &sf.holdout, "NAME,...",
                         "tasks or families that are held out of training and reported on"}}});
        groups.push_back(
            {"Low-rank adapters",
             "train",
             {{"lora-r", &sf.lora.r, between(0, 1024),
               "rank of the adapters that are trained in place of the model (LoRA), which is frozen; 0: the "
               "model is trained"},
              {"lora-alpha", &sf.lora.alpha, above(0), "what they add is multiplied by this / rank"},
              {"lora-dropout", &sf.lora.dropout, up_to(0, 1), "dropout of what they read"},
              {"lora-targets", &sf.lora.targets, "NAMES",
               "which matrices have one: all of the layers, those of attention, or names: q_proj,v_proj"}}});
        groups.push_back(
            {"Answers",
             "train",
             {{"eval-rows", &sf.eval_rows, at_least(0), "rows of each task to answer before and after tuning; 0: all"},
              {"strict", &sf.strict, "count case and punctuation in the exact match"},
              {"max-new-tokens", &sf.max_new, between(1, 1 << 20), "longest answer, in tokens"}}});
        groups.push_back(
            {"Evaluation",
             "eval",
             {{"model", &ef.models, "DIR,...", "runs or model directories; all others are compared with the first"},
              {"data", &ef.data, "FILE",
               "a .bin file of instructions, or the directory with test_*.bin; more can follow the flags"},
              {"adapter", &ef.adapter, "DIR", "low-rank adapters of these models, ours or PEFT's"},
              {"out", &ef.out, "DIR", "directory to write results.json and answers_N.jsonl to"},
              {"rows", &ef.rows, at_least(0), "rows of each task to answer; 0: all"},
              {"strict", &ef.strict, "count case and punctuation in the exact match"},
              {"max-new-tokens", &ef.max_new, between(1, 1 << 20), "longest answer, in tokens"},
              {"batch", &ef.batch, between(1, 1 << 16), "answers that are generated at a time"},
              {"json", &ef.json, "print JSON instead of tables"}}});
        groups.push_back({"Inference",
                          "generate chat",
                          {{"model", &gf.model, "DIR", "directory of a tuning run, or its best/"},
                           {"adapter", &gf.adapter, "DIR", "low-rank adapters of this model, ours or PEFT's"}}});
        groups.push_back({"Conversation",
                          "chat",
                          {{"context", &gf.context, between(2, 1 << 24),
                            "longest conversation, in tokens, if the model's context is not shorter; its memory is "
                            "taken at once"}}});
        groups.push_back({"Merging",
                          "merge",
                          {{"model", &gf.model, "DIR", "the adapters of a tuning run, or their model"},
                           {"adapter", &gf.adapter, "DIR", "the adapters, where --model is their model"},
                           {"out", &mf_out, "DIR", "directory for the model that holds both"}}});
        groups.push_back({"Prompts",
                          "generate",
                          {{"input", &pf.input, "TEXT", "input that the instruction on the command line is about"},
                           {"shots", &pf.shots, between(-1, 2),
                            "few-shot examples of a row to show before its input; -1: as many as in tuning, or as many "
                            "of them as fit"},
                           {"batch", &gf.batch, between(1, 1 << 16), "answers that are generated at a time"},
                           {"json", &pf.json, "print JSON also for an instruction on the command line"},
                           answered.flag()}});
        groups.push_back({"Sampling", "generate chat", gf.flags()});
        Cli cli{"sft",
                "fine-tuning of a decoder for text generation and on instructions.",
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
        cli.closing = EXIT_CODES_TEXT;
        if (!cli.parse(argc, argv)) return (int)EXIT_OK;
        if (cli.command == "generate") return generate_answers(gf, pf, answered, cli.positional);
        if (cli.command == "chat") return chat(gf);
        if (cli.command == "merge") return merge(gf, mf_out);
        return cli.command == "eval" ? eval_sft(ef, cli.positional) : train_sft(cli, f, sf);
    });
}
#endif
#endif  // SFT_CU
