// finetune_cls.cu: fine-tuning a pretrained encoder to a labelled task (Devlin et al. 2018, section 4.1), and its use.
//
//   ./finetune_cls --init runs/bert --data datasets/sst2 --out runs/sst2   train
//   ./finetune_cls eval --model runs/sst2 --data reviews.tsv               how good is it?
//   ./finetune_cls predict --model runs/sst2 "a gorgeous, witty film"      the class of a text
//
// The model is that of train_bert.cu with another head: of each sequence the first token's row, [CLS], goes through
//   head_out = dropout(tanh(x[CLS] headwᵀ + headb)),   logits = head_out outwᵀ + outb,   cross-entropy over K classes
// (of a BERT; others: Bert::head_forward()), and the gradient goes all the way down. Read in this order: prediction →
// the task → train → eval → predict → main. How a text becomes a sequence: common/data/classify_data.h; what is
// reported: common/eval/classification_report.h.
#ifndef FINETUNE_CLS_CU
#define FINETUNE_CLS_CU
#include "train_bert.cu"  // the model and its files; a program that is included leaves out its main (see its end)

#include "common/eval/classification_report.h"
#include "common/text/labelled_rows.h"
#include "common/train/tune.h"

// ---------------------------------------------------------------- prediction
// Collects sequences, runs the model over full batches and calls answer(probabilities (K)) of each sequence, in order.
struct Predictor {
    Bert& model;
    BatchBuilder& builder;
    char* block;  // a batch in device memory
    std::vector<std::function<void(const double*)>> answers{};

    void add(const std::vector<int>& tokens, const std::vector<int>& types,
        const std::function<void(const double*)>& answer) {
        if (!builder.fits(tokens.size(), 1)) flush();
        builder.add(tokens, types, {0}, {0});
        answers.push_back(answer);
    }
    void flush() {
        if (answers.empty()) return;
        const Batch b = builder.send(block);
        NoDropout inference(model.dropout);
        model.head_forward(b, model.encode(b));
        model.logits_forward(0, b.M);
        const int K = model.K(), Kp = model.Kp();
        const auto called = std::exchange(answers, {});  // also where one of them throws
        std::vector<real> logits(called.size() * Kp);    // (M, Kp)
        copy_to_host(logits.data(), model.acts.logits, logits.size() * sizeof(real));
        builder.clear();
        for (size_t m = 0; m < called.size(); m++) called[m](softmax(&logits[m * Kp], K).data());
    }
};

// Runs the model over a set; each(i, gold, prediction, probabilities (K)) is called for its examples in order.
ClassificationReport predict_set(Predictor predictor, ClassifyData& data, const std::vector<std::string>& labels,
    const std::function<void(uint64_t, int, int, const double*)>& each = nullptr) {
    ClassificationReport report(labels);
    data.file.require_unchanged();
    for (uint64_t i = 0; i < data.sequences(); i++) {
        data.make(0, i);
        predictor.add(data.tokens, data.types, [&, i](const double* probabilities) {
            const int gold = data.label(i), prediction = report.add(gold, probabilities);
            if (each) each(i, gold, prediction, probabilities);
        });
    }
    predictor.flush();
    return report;
}

// The names of its classes, in order; none if it is no classifier. Regression and several labels at once are refused.
std::vector<std::string> read_labels(const std::string& dir) {
    std::string path = dir + "/config.json";
    Json config = parse_json(read_file(path), path);
    const Json *problem = config.find("problem_type"), *names = config.find("id2label");
    if (problem && problem->kind == Json::string && problem->s != "single_label_classification")
        fail("%s: problem_type: expected \"single_label_classification\", found %s: no other classifier is supported",
            path.c_str(), dump_json(*problem).c_str());
    std::vector<std::string> labels;
    if (names && names->kind == Json::object) {
        labels.resize(names->o.size());
        std::set<std::string> known;
        for (auto& [key, name] : names->o) {
            size_t k = strtoul(key.c_str(), nullptr, 10);
            if (std::to_string(k) != key || k >= labels.size() || name.kind != Json::string || name.s.empty() ||
                !known.insert(name.s).second)
                fail("%s: id2label: expected another name for each of 0 to %zu, found \"%s\": %s", path.c_str(),
                    labels.size() - 1, key.c_str(), dump_json(name).c_str());
            labels[k] = name.s;
        }
        if (labels.size() == 1)
            fail("%s: id2label: expected at least two labels, found one: regression is not supported", path.c_str());
        return labels;
    }
    // transformers leaves out id2label where it is {0: LABEL_0, 1: LABEL_1}
    if (const Json* kind = config.find("architectures");
        kind && dump_json(*kind).find("ForSequenceClassification") != std::string::npos)
        labels = {"LABEL_0", "LABEL_1"};
    return labels;
}

void write_classifier_config(const std::string& dir, const BertConfig& c, const std::vector<std::string>& labels) {
    Json extra = Json::make_object(), id2label = Json::make_object(), label2id = Json::make_object();
    for (size_t k = 0; k < labels.size(); k++) {
        id2label.o.emplace_back(std::to_string(k), labels[k]);
        label2id.o.emplace_back(labels[k], (int64_t)k);
    }
    extra.set("id2label", id2label).set("label2id", label2id).set("problem_type", "single_label_classification");
    write_bert_config(dir, c, "ForSequenceClassification", extra);
}

// A classifier of a directory, ready to predict up to `tokens` tokens at a time.
struct LoadedClassifier : LoadedEncoder {
    std::vector<std::string> labels;
    std::unordered_map<std::string, int> number;  // of a label
    size_t T = 0;                                 // the longest input, in tokens: what the model was fine-tuned with

    explicit LoadedClassifier(const std::string& path, const std::string& adapter_path = "")
        : LoadedEncoder(path, adapter_path) {
        labels = read_labels(dir);
        if (labels.empty())
            fail(
                "%s: expected a classifier, found an encoder without labels: fine-tune it first: "
                "./finetune_cls --init %s --data DIR --out DIR",
                dir.c_str(), path.c_str());
        model.config.classes = (int64_t)labels.size();
        for (size_t k = 0; k < labels.size(); k++) number[labels[k]] = (int)k;
        T = (size_t)model.config.T;
        const Json* most = tokenizer.files.config.find("model_max_length");
        if (most && most->kind == Json::integer && most->i >= 5) T = std::min(T, (size_t)most->i);
        const int N = (int)round_up(std::max<size_t>(4096, T), 128);
        load(N, N / 4, (int64_t)T, 128);
    }
    Predictor predictor() { return {model, builder, block}; }
    // The sequence of a text, or of two; counts the one that was cut. Returns why there is none; "": there is
    std::string encode(const std::string& where, std::string_view text, std::string_view text2,
        std::vector<int>& tokens, std::vector<int>& types, size_t& cut) const {
        std::vector<int> a, b;
        if (text.find('\0') != text.npos || text2.find('\0') != text2.npos)
            return where + ": expected a text, found a NUL byte";
        if (size_t invalid = tokenizer.encode(text, a) + tokenizer.encode(text2, b))
            return where + format(": expected UTF-8, found %zu bytes that are not", invalid);
        if (is_missing(text) || has_no_text(text) || a.empty()) return where + ": expected a text, found nothing";
        const bool pair = !is_missing(text2) && !trimmed_label(text2).empty();
        if (pair && (has_no_text(text2) || b.empty()))
            return where + ": expected a second text, found only characters that give no token";
        if (!pair) b.clear();
        if (!b.empty() && !model.config.takes_pairs())
            return where + ": expected one text, found a pair: " + dir + "/config.json says type_vocab_size 1";
        cut += join_segments(tokens, types, a.data(), a.size(), b.data(), b.size(), tokenizer, T);
        return "";
    }
};

// ---------------------------------------------------------------- the task
struct ClassifyFlags {
    bool from_scratch = false;
    int64_t batch = 32, max_len = CLASSIFY_MAX_LEN, freeze = -1, examples = 0, seeds = 1;
    double dev_split = 0.1, layer_decay = 1;
    std::string class_weights = "none", best_by = "accuracy";
    LoraFlags lora;
    // eval, predict, merge
    std::string model, adapter, data, out;
    LabelledColumns columns;
    bool json = false, labels_only = false;
    int64_t top = 0;
};

struct ClassifyTask : TuneTask<Bert> {
    const ClassifyFlags& cf;
    const Tokenizer& tokenizer;
    const std::vector<std::string>& labels;
    std::vector<std::string> head;         // prefixes of the tensors that it may lack
    std::vector<std::string> new_tensors;  // those that are not taken from it
    std::vector<size_t> head_rows;         // (K) of each class, where its row is in its classifier; empty: as it is
    ClassifyData train_data, dev_data;
    std::vector<std::unique_ptr<BinFile>> reported;  // val.bin, test.bin
    std::vector<double> weights;                     // (K)
    double* class_weights = nullptr;                 // (K) in device memory

    ClassifyTask(const TrainFlags& f, const ClassifyFlags& cf, const BinFile& train, const Tokenizer& tokenizer,
        BertConfig config, const std::string& init)
        : TuneTask{{f}, cf.lora, init}, cf(cf), tokenizer(tokenizer), labels(train.labels),
          train_data(train, tokenizer, cf.max_len, labels), dev_data(train_data) {
        draw_examples();
        config.classes = (int64_t)labels.size();
        const BertType& names = bert_type(config.type);
        head = {names.pooler, names.classifier, names.head_norm};
        set_up(config, shape_for(cf.batch), tokenizer.pad(), cf.max_len, 128);
        builder.last_type = config.last_type();
        set_up_adapters(config.L);
        model.frozen = is_lora() ? std::max(0, (int)cf.freeze) : (int)cf.freeze;
    }
    // By --seed: the examples of a run, and of these the part that chooses the epoch
    void draw_examples() {
        const int K = (int)labels.size();
        const ClassifyData all(train_data.file, tokenizer, cf.max_len, labels);
        std::vector<uint32_t> order = stratified_order(all, K, (uint64_t)f.seed);
        if (cf.examples > (int64_t)order.size())
            fail_usage("--examples: %s has %zu examples, found %lld", all.file.path.c_str(), order.size(),
                (long long)cf.examples);
        if (cf.examples) order.resize(cf.examples);
        size_t n_dev = (size_t)llround(cf.dev_split * (double)order.size());
        if (cf.dev_split > 0 && (n_dev == 0 || n_dev == order.size()))
            fail_usage(
                "--dev-split %g: expected to leave some of the %zu examples on both sides; 0: take the last epoch",
                cf.dev_split, order.size());
        dev_data.which.assign(order.begin(), order.begin() + n_dev);
        train_data.which.assign(order.begin() + n_dev, order.end());
        weights = class_weight_list(K);
        builder.weights = nullptr;
        for (double w : weights)
            if (w != 1) builder.weights = weights.data();
    }
    // rows: those of a batch, and more for validation, where short sequences fill the tokens
    BatchShape shape_for(int64_t batch) const {
        BatchShape s;
        s.N = batch_tokens(batch * cf.max_len);
        s.M = (int)round_up(std::max<int64_t>(batch, std::min<int64_t>(1024, s.N / 4)), 128);
        return s;
    }
    std::vector<double> class_weight_list(int K) const {
        std::vector<double> w(K, 1.0), n(K, 0.0);
        if (cf.class_weights == "none") return w;
        for (uint64_t i = 0; i < train_data.sequences(); i++) n[train_data.label(i)]++;
        if (cf.class_weights == "balanced") {  // n / (K n_k): every class weighs the same in the whole
            for (int k = 0; k < K; k++) {
                if (n[k] == 0)
                    fail("--class-weights balanced: there is no training example of \"%s\": take more --examples",
                        labels[k].c_str());
                w[k] = (double)train_data.sequences() / (K * n[k]);
            }
            return w;
        }
        const char* at = cf.class_weights.c_str();
        for (int k = 0; k < K; k++) {
            char* end;
            w[k] = strtod(at, &end);
            if (end == at || !(w[k] > 0) || !std::isfinite(w[k]) || *end != (k + 1 < K ? ',' : '\0'))
                fail_usage("--class-weights: expected none, balanced or %d positive numbers, of %s, found \"%s\"", K,
                    name_list(labels, 100).c_str(), cf.class_weights.c_str());
            at = end + 1;
        }
        return w;
    }
    void plan(Arena& arena) {
        TuneTask::plan(arena);
        arena.take(class_weights, labels.size());
    }
    void allocate(Arena& arena) {
        plan(arena);
        const size_t head = adapters.head_offset;
        if (is_lora()) model.point(base, nullptr, opt.params + head, opt.grads + head);
        else model.point(opt.params, opt.grads);
        copy_to_device(class_weights, weights.data(), weights.size() * sizeof(double));
        device_sync();
        model.class_weights = builder.weights ? class_weights : nullptr;
    }

    // What train() needs of a task
    int fill(BatchBuilder& b, Cursor& cursor) {
        return fill_batch(b, train_data, cursor, (uint64_t)f.seed, true, cursor.next + (uint64_t)cf.batch);
    }
    // Layer-wise decay: 1 for the head, then each layer `layer_decay` times the one above, down to the embeddings
    float lr_factor(const ParamSpec& s) const {
        return s.layer < cf.freeze ? 0.0f : (float)pow(cf.layer_decay, (double)(model.config.L - s.layer));
    }

    Predictor predictor() {
        builder.clear();
        return {model, builder, block};
    }
    Eval evaluate() {
        Eval e;
        e.targets = dev_data.sequences();
        if (e.targets == 0) return e;
        ClassificationReport r = predict_set(predictor(), dev_data, labels);
        e.name = "dev split";
        e.loss = r.mean_loss();
        e.accuracy = r.confusion.accuracy();
        const std::map<std::string, double> scores = {{"accuracy", e.accuracy}, {"macro-f1", r.confusion.macro_f1()},
            {"mcc", r.confusion.mcc()}, {"loss", -e.loss}};
        e.score = scores.at(cf.best_by);
        e.report = r.line();
        e.table = r.table() + "\n";
        e.numbers.set("dev", r.json());
        return e;
    }
    void save_model(const std::string& dir) {
        write_classifier_config(dir, model.config, labels);
        tokenizer.save(dir, (int)cf.max_len, true);
        save_parameters(dir, false);
    }
    Json identity() const {
        Json id = TuneTask::identity().set("labels", Json::make_array({labels.begin(), labels.end()}));
        return id.set("tokenizer", hex(tokenizer.fingerprint())).set("train_data", hex(train_data.file.header.content));
    }
};

// ---------------------------------------------------------------- train
// The rows of the classifier, the end of the table, go where the names of their classes are. values:
// (total_count(table))
void reorder_head(std::vector<areal>& values, const std::vector<ParamSpec>& table, const std::vector<size_t>& rows) {
    for (size_t i = table.size() - 2; i < table.size() && !rows.empty(); i++) {
        const ParamSpec& s = table[i];
        const size_t width = s.elements() / rows.size();  // C of the matrix, 1 of the bias
        const std::vector<areal> old(values.begin() + s.offset, values.begin() + s.offset + s.elements());
        for (size_t k = 0; k < rows.size(); k++)
            std::copy_n(&old[rows[k] * width], width, &values[s.offset + k * width]);
    }
}

// What the run learns from. Returns the loss of the unigram baseline, which predicts each class as often as it occurs,
// on the examples that choose the epoch; NAN: there are none.
double print_data(const ClassifyTask& task) {
    const TrainFlags& f = task.f;
    const ClassifyData &train_data = task.train_data, &dev_data = task.dev_data;
    const int K = task.model.K();
    const double examples = (double)train_data.sequences();
    std::vector<double> count(K, 0), frequency;
    for (uint64_t i = 0; i < train_data.sequences(); i++) count[train_data.label(i)]++;
    for (double n : count) frequency.push_back((n + 1) / (examples + K));  // add-one smoothing
    ClassificationReport unigram(task.labels);
    for (uint64_t i = 0; i < dev_data.sequences(); i++) unigram.add(dev_data.label(i), frequency.data());

    std::string dev = "none choose the epoch: the last model is taken";
    if (unigram.confusion.total())
        dev = format("%lld others of train.bin choose the epoch (always the most frequent class: %.2f %%)",
            (long long)unigram.confusion.total(), 100 * unigram.confusion.accuracy());
    printf("%s examples for training, %s; %lld steps of %lld x %lld: %.2f epochs\n", thousands(examples).c_str(),
        dev.c_str(), (long long)f.steps, (long long)f.accum, (long long)task.cf.batch,
        (double)f.steps * (double)(f.accum * task.cf.batch) / examples);
    std::vector<std::string> counts;
    for (int k = 0; k < K; k++) {
        counts.push_back(task.labels[k] + " " + thousands(count[k]));
        if (count[k] == 0) printf("warning: there is no training example of \"%s\"\n", visible(task.labels[k]).c_str());
    }
    printf("training examples: %s\n", name_list(counts, 20).c_str());
    for (auto* data : {&train_data, &dev_data})
        if (size_t cut = data->count_cut())
            printf("%zu of %llu %s examples are longer than --max-len %lld and were cut\n", cut,
                (unsigned long long)data->sequences(), data == &dev_data ? "dev" : "training",
                (long long)task.cf.max_len);
    return unigram.confusion.total() ? unigram.mean_loss() : NAN;
}

void print_warning(FILE* to, const std::string& text) {
    if (!text.empty()) fprintf(to, "warning: %s\n", text.c_str());
}

// Writes OUT/results.json, which is returned, predictions.tsv, errors.tsv: the best model on the reported sets, once.
Json report_best(ClassifyTask& task) {
    const TrainFlags& f = task.f;
    const std::string dir = resolve_model_dir(f.out);
    task.opt.load(dir);
    printf("\nreported: %s\n", dir.c_str());
    fflush(stdout);                  // a report may take long, and a signal ends it
    std::vector<double> accuracies;  // of all validations of the run, also those before a --resume
    LineReader metrics(f.out + "/metrics.jsonl");
    for (Json line; metrics.next_object(line);)
        if (const Json *dev = line.find("dev"), *accuracy = dev ? dev->find("accuracy") : nullptr; accuracy)
            accuracies.push_back(accuracy->d);
    print_warning(stdout, doubtful_choice(accuracies, (int64_t)task.dev_data.sequences()));
    Json results;
    results.set("model", dir).set("seed", f.seed).set("training_examples", (int64_t)task.train_data.sequences());
    PredictionFiles predictions{task.labels};
    for (const auto& file : task.reported) {
        const std::string set = file_stem(file->path);
        ClassifyData data(*file, task.tokenizer, (size_t)task.cf.max_len, task.labels);
        auto keep = [&](uint64_t i, int gold, int prediction, const double* probabilities) {
            predictions.add(data.file.text(i), gold, prediction, probabilities, set, i + 1);
        };
        const ClassificationReport report = predict_set(task.predictor(), data, task.labels, keep);
        printf("\n%s: %s\n%s\n", set.c_str(), report.line().c_str(), report.table().c_str());
        print_warning(stdout, report.warning());
        if (size_t cut = data.count_cut())
            printf("  %zu of them are longer than --max-len %lld and were cut\n", cut, (long long)task.cf.max_len);
        results.set(set, report.json());
    }
    if (!task.reported.empty()) {
        predictions.write(f.out);
        printf("%s/predictions.tsv, errors.tsv (the most confident mistakes first), results.json\n",
            without_slash(f.out).c_str());
    } else {
        printf("\nno val.bin or test.bin in %s: nothing to report on but the examples that chose the epoch\n",
            f.data.c_str());
    }
    if (task.reported.empty() && task.dev_data.sequences()) {  // a little too good, since they chose the model
        const ClassificationReport report = predict_set(task.predictor(), task.dev_data, task.labels);
        print_warning(stdout, report.warning());
        results.set("dev", report.json());
    }
    write_file_atomic(f.out + "/results.json", dump_json(results, 2) + "\n");
    return results;
}

// One run, in memory of the size that its task plans: train, then report the best model. Returns the exit code.
int train_once(ClassifyTask& task, Cli& cli, void* memory, std::vector<Json>& results) {
    const TrainFlags& f = task.f;
    task.draw_examples();
    Arena whole, arena(memory);
    task.plan(whole);
    device_zero(memory, whole.used);  // AdamW's m and v, of a seed before
    task.allocate(arena);
    if (!f.resume || task.is_lora()) {
        const std::vector<ParamSpec>& table = task.model_table;
        std::vector<areal> values = initial_values(table, total_count(table), (uint64_t)f.seed);
        if (!task.cf.from_scratch) {
            load_tensors(task.init, table, values.data(), task.new_tensors).announce(task.init, task.head);
            reorder_head(values, table, task.head_rows);
            refuse_not_finite(table, values, task.init);
        }
        task.upload(values);
    }
    const double unigram_loss = print_data(task);
    if (int code = train(task, cli, f, unigram_loss); code != EXIT_OK) return code;
    results.push_back(report_best(task));
    return EXIT_OK;
}

// The mean and standard deviation over runs of each number in their results, as OUT/results.json
void report_seeds(const std::string& out, const std::vector<Json>& results) {
    printf("\n%zu seeds: mean +- standard deviation\n", results.size());
    Json all = Json::make_object();
    for (const auto& [set, first] : results[0].o) {
        if (first.kind != Json::object) continue;
        Json numbers = Json::make_object();
        std::string line;
        for (const char* key : {"accuracy", "macro_f1", "mcc"}) {
            std::vector<double> values;
            for (const Json& run : results) values.push_back(run.find(set)->find(key)->d);
            auto [mean, sd] = mean_and_sd(values);
            if (!strcmp(key, "accuracy")) line += format(" | %s %.2f +- %.2f %%", key, 100 * mean, 100 * sd);
            else line += format(" | %s %.4f +- %.4f", key, mean, sd);
            const Json runs = Json::make_array({values.begin(), values.end()});
            numbers.set(key, Json().set("mean", mean).set("sd", sd).set("runs", runs));
        }
        printf("%s%s\n", set.c_str(), line.c_str());
        all.set(set, numbers);
    }
    write_file_atomic(out + "/results.json", dump_json(all, 2) + "\n");
    printf(
        "%s/results.json; models: %s/seed-%lld ...\n", out.c_str(), out.c_str(), (long long)results[0].find("seed")->i);
}

// --seeds: OUT/seed-1, OUT/seed-2, ..., each a run of its own, and their mean
int train_seeds(ClassifyTask& task, Cli& cli, TrainFlags& f, ClassifyFlags& cf, void* memory) {
    const std::string out = f.out;
    const int64_t seeds = cf.seeds, first = f.seed;
    const bool resume = f.resume;
    const Json config = Json().set("program", cli.program).set("flags", cli.to_json());
    write_file_atomic(out + "/config.json", dump_json(config, 2) + "\n");
    cf.seeds = 1;
    std::vector<Json> results;
    for (int64_t k = 0; k < seeds; k++) {
        f.seed = first + k;
        f.out = out + format("/seed-%lld", (long long)f.seed);
        f.resume = resume && (exists(f.out + "/last") || exists(f.out + "/last.old"));
        printf("\n---- seed %lld (%lld of %lld)\n", (long long)f.seed, (long long)k + 1, (long long)seeds);
        open_run_dir(f);
        if (int code = train_once(task, cli, memory, results); code != EXIT_OK) {
            if (code == EXIT_INTERRUPTED)
                printf("all of the %lld seeds: --resume --out %s\n", (long long)seeds, out.c_str());
            return code;
        }
    }
    report_seeds(out, results);
    return EXIT_OK;
}

// Was the data packed with the tokenizer of the model in `init`, and does the model take its pairs?
void check_classify_data(
    const BinFile& file, const Tokenizer& tokenizer, const BertConfig& config, const std::string& init) {
    file.require_tokenizer(tokenizer, init);
    for (size_t s = 0; !config.takes_pairs() && s < file.sequences(); s++)
        if (file.pair(s))
            fail("%s: it holds pairs, and %s/config.json says type_vocab_size %lld: expected at least 2",
                file.path.c_str(), init.c_str(), (long long)config.types);
}

int train_classifier(Cli& cli, TrainFlags& f, ClassifyFlags& cf) {
    bool taken = exists(f.out + "/results.json");
    for (int64_t seed = f.seed; seed < f.seed + cf.seeds; seed++)
        taken = taken || exists(f.out + format("/seed-%lld", (long long)seed));
    if (!f.resume && taken)
        fail_usage(
            "--out %s: a run is there already; continue it with --resume or take another directory", f.out.c_str());
    const std::string init = start_tuning(cli, f, cf.lora, {"data/sst2.py", "data/classify.py"});
    const Tokenizer tokenizer = Tokenizer::load(init);
    BertConfig config = read_bert_config(init);
    check_vocabulary(init, tokenizer.tokens.size(), config.V);
    config.dropout = config.attention_dropout = f.dropout;
    if (cf.freeze > config.L)
        fail_usage("--freeze: %s has %lld layers, found %lld", init.c_str(), (long long)config.L, (long long)cf.freeze);
    if (cf.from_scratch && (cf.freeze >= 0 || cf.lora.r > 0))
        fail_usage(
            "--%s with --from-scratch: what is frozen would never learn anything", cf.lora.r > 0 ? "lora-r" : "freeze");
    if (cli.given("max-len") && cf.max_len > config.T)
        fail_usage(
            "--max-len: %s has %lld positions, found %lld", init.c_str(), (long long)config.T, (long long)cf.max_len);
    cf.max_len = std::min(cf.max_len, config.T);
    // Wider encoders take lower rates, adapters ten times those of a whole model (Schulman et al. 2025)
    const double rate = config.C <= 256 ? 3e-4 : config.C <= 512 ? 1e-4 : config.C <= 768 ? 2e-5 : 1e-5;
    if (f.lr == 0) f.lr = cf.lora.r > 0 ? 10 * rate : rate;

    // the data
    const BinFile train_file(f.data + "/train.bin", BIN_CLASSIFY);
    check_classify_data(train_file, tokenizer, config, init);
    ClassifyTask task(f, cf, train_file, tokenizer, config, init);
    for (const char* name : {"val", "test"}) {
        const std::string path = f.data + "/" + name + ".bin";
        if (!exists(path)) continue;
        const BinFile& file = *task.reported.emplace_back(std::make_unique<BinFile>(path, BIN_CLASSIFY));
        check_classify_data(file, tokenizer, config, init);
        ClassifyData(file, tokenizer, (size_t)cf.max_len, train_file.labels);  // its labels are checked before training
    }
    const std::vector<std::string> old = read_labels(init), &labels = train_file.labels;
    std::map<std::string, int64_t> row_of, row_now;  // of a label in the head
    for (size_t k = 0; k < old.size(); k++) row_of[old[k]] = (int64_t)k;
    for (auto& label : labels) row_now[label] = row_of.count(label) ? row_of[label] : -1;
    if (old != labels && row_of == row_now) {
        printf("%s has the labels of the data in another order: the rows of its classifier go with their names\n",
            init.c_str());
        for (auto& label : labels) task.head_rows.push_back(row_of[label]);
    } else if (old != labels) {
        const std::string classifier = bert_type(config.type).classifier;
        task.new_tensors = {classifier + ".weight", classifier + ".bias"};
    }
    check_tensors(init, task.model_table, task.head, task.new_tensors);
    count_steps(cli, f, (double)task.train_data.sequences(), cf.batch);
    if (f.patience > 0 && cf.dev_split == 0)
        fail_usage("--patience: expected a --dev-split above 0 with it: nothing else says which model is better");

    task.print_trained("finetune_cls");
    void* memory = allocate_run(task, "--batch", cf.batch, 1, 1 << 16);
    printf("data: %s examples in train.bin of %zu classes: %s\n", thousands((double)train_file.sequences()).c_str(),
        labels.size(), name_list(labels, 20).c_str());
    std::vector<Json> results;
    return cf.seeds == 1 ? train_once(task, cli, memory, results) : train_seeds(task, cli, f, cf, memory);
}

// ---------------------------------------------------------------- eval
int eval_classifier(const ClassifyFlags& cf, BadRows& bad) {
    if (cf.data.empty()) fail_usage("--data FILE is missing: a .bin, .tsv, .csv or .jsonl with labels");
    if (is_directory(cf.data))
        fail_usage("--data %s: expected a file, .bin, .tsv, .csv or .jsonl, found a directory", cf.data.c_str());
    if (!cf.out.empty()) refuse_used_directory(cf.out, {"predictions.tsv", "errors.tsv"});
    LoadedClassifier c(cf.model, cf.adapter);
    const std::string name = file_stem(cf.data);
    if (!cf.out.empty()) make_directories(cf.out);
    size_t cut = 0;
    ClassificationReport report(c.labels);
    PredictionFiles files{c.labels};
    if (std::filesystem::path(cf.data).extension() == ".bin") {
        const BinFile file(cf.data, BIN_CLASSIFY);
        check_classify_data(file, c.tokenizer, c.model.config, c.dir);
        ClassifyData data(file, c.tokenizer, c.T, c.labels);
        cut = data.count_cut();
        auto each = [&](uint64_t i, int gold, int prediction, const double* probabilities) {
            files.add(file.text(i), gold, prediction, probabilities, name, i + 1);
        };
        report = predict_set(c.predictor(), data, c.labels, each);
    } else {
        Predictor predictor = c.predictor();
        LabelledFile rows(cf.data, cf.columns);
        std::vector<int> tokens, types;
        LabelledRow row;
        for (size_t number = 1; rows.next(row); number++) {
            const auto found = c.number.find(row.label);
            const int gold = found == c.number.end() ? -1 : found->second;
            if (row.error.empty() && gold < 0)
                row.error = row.where() + ": expected a label of the model (" + name_list(c.labels) + "), found " +
                            start_of(row.label) +
                            (bad.count < bad.shown ? nearest_hint(row.label, c.labels) : "");  // it takes a while
            if (row.error.empty()) row.error = c.encode(row.where(), row.text, row.text2, tokens, types, cut);
            if (!row.error.empty()) {
                bad.add(row.error);
                continue;
            }
            std::string shown;
            append_shown(shown, row);
            predictor.add(tokens, types, [&, shown, gold, number](const double* probabilities) {
                files.add(shown, gold, report.add(gold, probabilities), probabilities, name, number);
            });
        }
        predictor.flush();
    }
    if (report.confusion.total() == 0) fail("%s: expected rows with a text and a label, found none", cf.data.c_str());
    if (cf.json) printf("%s\n", dump_json(report.json()).c_str());
    else printf("%s: %s\n%s\n", name.c_str(), report.line().c_str(), report.table().c_str());
    print_warning(stderr, report.warning());
    if (cut) fprintf(stderr, "warning: %zu of them have more than %zu tokens and were cut\n", cut, c.T);
    if (!cf.out.empty()) {
        files.write(cf.out);
        if (!cf.json)
            printf(
                "%s/predictions.tsv, errors.tsv (the most confident mistakes first)\n", without_slash(cf.out).c_str());
    }
    flush_output();
    bad.finish("the others were evaluated");
    return EXIT_OK;
}

// ---------------------------------------------------------------- predict
// Of a line that holds a pair, the texts before and after its first tab
std::pair<std::string_view, std::string_view> both_texts(std::string_view line) {
    const size_t tab = std::min(line.find('\t'), line.size());
    return {line.substr(0, tab), line.substr(std::min(tab + 1, line.size()))};
}
// The line of output for a text: its likeliest classes, each with its probability, and the text, in columns; or JSON.
std::string prediction_line(const std::string& text, const std::vector<std::string>& labels,
    const double* probabilities /* (K) */, const ClassifyFlags& cf) {
    std::vector<int> order(labels.size());
    std::iota(order.begin(), order.end(), 0);
    if (cf.top || !cf.json)  // else in the model's order
        std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return probabilities[a] > probabilities[b]; });
    if (cf.top || !cf.json) order.resize(std::min<size_t>(std::max<int64_t>(cf.top, 1), order.size()));
    if (cf.json) {
        Json all = Json::make_object();
        for (int k : order) all.o.emplace_back(labels[k], probabilities[k]);
        const auto best = std::max_element(probabilities, probabilities + labels.size()) - probabilities;
        return dump_json(Json().set("text", text).set("label", labels[best]).set("probabilities", all)) + "\n";
    }
    std::string line;
    for (int k : order) {
        append_tsv_field(line, labels[k]);
        line += cf.labels_only ? "\t" : format("\t%.4f\t", probabilities[k]);
    }
    if (cf.labels_only) return line.substr(0, line.size() - 1) + "\n";
    const auto [first, second] = both_texts(text);
    append_tsv_field(line, first);
    if (text.find('\t') != text.npos) append_tsv_field(line += '\t', second);
    return line + "\n";
}

// Texts as arguments, or one on each line of standard input, a tab between two of a pair. A line of output for each.
int predict(const ClassifyFlags& cf, AnsweredRows& rows, const std::vector<std::string>& texts) {
    if (cf.labels_only && cf.json) fail_usage("--labels-only with --json: expected one of them");
    LoadedClassifier c(cf.model, cf.adapter);
    Predictor predictor = c.predictor();
    size_t cut = 0;
    auto print = [](const std::string& line) {
        if (fwrite(line.data(), 1, line.size(), stdout) != line.size())
            fail("cannot write standard output: %s", strerror(errno));
    };
    auto answer_all = [&] {
        predictor.flush();
        flush_output();
    };
    std::vector<int> tokens, types;
    auto add = [&](const std::string& line, const std::string& where) {
        const auto [text, text2] = both_texts(line);
        const std::string error = c.encode(where, text, text2, tokens, types, cut);
        rows.row(error, blank(line));
        if (error.empty())
            return predictor.add(tokens, types,
                [&, line](const double* probabilities) { print(prediction_line(line, c.labels, probabilities, cf)); });
        predictor.flush();  // those before it
        print((cf.json ? dump_json(Json().set("text", line).set("error", error)) : "") + "\n");
    };
    try {
        for (size_t i = 0; i < texts.size(); i++) add(texts[i], format("text %zu", i + 1));
        if (!texts.empty()) rows.row("");  // blank ones count
        const bool terminal = texts.empty() && isatty(0);
        if (terminal) fprintf(stderr, "a text on each line, Ctrl-D ends\n");
        LineReader lines("standard input", stdin);
        while (texts.empty() && lines.next_line()) {
            add(std::string(lines.line), lines.where());
            if (terminal) answer_all();
        }
    } catch (const Error&) {
        answer_all();  // what came before
        throw;
    }
    answer_all();
    if (cut) fprintf(stderr, "warning: %zu texts have more than %zu tokens and were cut\n", cut, c.T);
    rows.finish("the others have their answers");
    return EXIT_OK;
}

// ---------------------------------------------------------------- merge
// A classifier whose weights hold what its adapters added
int merge(const ClassifyFlags& cf) {
    LoadedClassifier c(cf.model, cf.adapter);
    return merge_model(c, c.model.point(nullptr, nullptr), cf.out, [&](const std::string& dir) {
        write_classifier_config(dir, c.model.config, c.labels);
        c.tokenizer.save(dir, (int)c.T, true);
    });
}

// ---------------------------------------------------------------- main
#if __INCLUDE_LEVEL__ == 0  // not when another program or a test includes this file
int main(int argc, char** argv) {
    reexec_with_omp_policy(argv);
    return run_program([&] {
        blas_init();
        TrainFlags f = tuning_flags(0.1);
        ClassifyFlags cf;
        AnsweredRows rows;
        std::vector<FlagGroup> groups = f.groups();
        without(groups, {"batch-tokens", "eval-tokens"});
        describe(groups, "data", "directory with train.bin and, to report on, val.bin and test.bin (data/classify.py)");
        describe(groups, "out",
            "directory of the run: best/, last/, metrics.jsonl, config.json, results.json, predictions.tsv, "
            "errors.tsv");
        describe(groups, "init", "the pretrained encoder, a run of train_bert or a Hugging Face directory");
        describe(groups, "lr",
            "peak learning rate; 0: by the hidden size: 3e-4 up to 256, 1e-4 up to 512, 2e-5 up to 768, else 1e-5; "
            "with --lora-r ten times that");
        groups.push_back({"Task", "train",
            {{"batch", &cf.batch, between(1, 1 << 16), "examples in a micro-batch"},
                {"max-len", &cf.max_len, between(5, 1 << 16), "longest example, in tokens; what is longer is cut"},
                {"examples", &cf.examples, at_least(0),
                    "number of examples of train.bin to use, drawn with --seed; 0: all"},
                {"dev-split", &cf.dev_split, up_to(0, 1),
                    "fraction of these that is held out to choose the best epoch; 0: none, the last epoch's model is "
                    "taken"},
                {"best-by", &cf.best_by, "accuracy|macro-f1|mcc|loss", "metric by which the best epoch is chosen"},
                {"seeds", &cf.seeds, between(1, 1000),
                    "number of runs, with --seed and the numbers after it; reports mean and standard deviation"},
                {"from-scratch", &cf.from_scratch,
                    "start with random parameters in the shape of --init, to measure what pretraining is worth"},
                {"freeze", &cf.freeze, between(-1, MAX_LAYERS),
                    "number of first layers that stay as they are, the embeddings included; -1: nothing is frozen"},
                {"layer-decay", &cf.layer_decay, between(0.01, 1),
                    "factor by which the learning rate falls from each layer to the one below"},
                {"class-weights", &cf.class_weights, "WEIGHTS",
                    "weights of the classes in the loss: none, balanced, or a number for each class (1,2.5)"},
                {"patience", &f.patience, at_least(0),
                    "early stopping: number of validations without a better model after which training stops; 0: "
                    "never"}}});
        groups.push_back(cf.lora.group());
        groups.push_back({"Model", "eval predict merge",
            {{"model", &cf.model, "DIR", "directory of a fine-tuning run, or a model directory"},
                {"adapter", &cf.adapter, "DIR", "low-rank adapters of the model, ours or PEFT's"}}});
        groups.push_back({"Merging", "merge",
            {{"out", &cf.out, "DIR",
                "directory for the model that holds the adapters of --model, or --adapter, too"}}});
        groups.push_back(
            {"Inference", "eval predict", {{"json", &cf.json, "print JSON instead of text"}, rows.flag()}});
        groups.push_back({"Output", "predict",
            {{"top", &cf.top, at_least(0),
                 "the K likeliest classes, each with its probability, then the text; 0: one, in JSON all in order"},
                {"labels-only", &cf.labels_only, "print the labels alone"}}});
        groups.push_back({"Evaluation", "eval",
            {{"data", &cf.data, "FILE", "labelled texts, as .bin, .tsv, .csv or .jsonl"},
                {"out", &cf.out, "DIR", "directory to write predictions.tsv and errors.tsv to"}}});
        groups.push_back({"Columns", "eval", cf.columns.flags()});
        Cli cli{"finetune_cls", "fine-tuning of a pretrained encoder to a labelled task.",
            "  ./finetune_cls --init runs/bert --data datasets/sst2 --out runs/sst2\n"
            "  ./finetune_cls eval --model runs/sst2 --data reviews.tsv\n"
            "  ./finetune_cls predict --model runs/sst2 \"a gorgeous, witty film\"\n",
            {{"train", "", "fine-tune on DATA/train.bin, report on val.bin and test.bin"},
                {"eval", "", "accuracy, F1, MCC and confusion matrix on a file"},
                {"predict", "[TEXT...]", "the class of each text, or of each line of standard input", 0, CLI_MANY},
                {"merge", "", "adds low-rank adapters to the weights of their model: a model like any other"}},
            groups};
        if (!cli.parse(argc, argv)) return (int)EXIT_OK;
        if (cli.command == "eval") return eval_classifier(cf, rows);
        if (cli.command == "merge") return merge(cf);
        if (cli.command == "predict") return predict(cf, rows, cli.positional);
        return train_classifier(cli, f, cf);
    });
}
#endif
#endif  // FINETUNE_CLS_CU
