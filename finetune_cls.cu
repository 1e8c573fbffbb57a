// finetune_cls.cu: fine-tuning of a pretrained encoder to a labelled task (Devlin et al. 2018, section 4.1), and using
// what comes out.
//
//   ./finetune_cls --init runs/bert --data datasets/sst2 --out runs/sst2   train
//   ./finetune_cls eval --model runs/sst2 --data reviews.tsv               how good is it?
//   ./finetune_cls predict --model runs/sst2 "a gorgeous, witty film"      the class of a text
//
// The encoder is that of train_bert.cu. New is what stands on it: of each sequence the first token's row, [CLS], goes
// through
//   pooled = tanh(x[CLS] poolwᵀ + poolb),   logits = dropout(pooled) clswᵀ + clsb,   cross-entropy over the K classes
// and the gradient goes all the way down. Read in this order: parameters → model (forward, backward) → prediction → the
// task → train → eval → predict → main. How a text becomes a sequence: common/data/classify_data.h; what is reported:
// common/eval/classification_report.h.
#ifndef FINETUNE_CLS_CU
#define FINETUNE_CLS_CU
#include "train_bert.cu"  // the model and its files; a program that is included leaves out its main (see its end)

#include <deque>
#include <numeric>
#include <unordered_map>

#include "common/data/classify_data.h"
#include "common/eval/classification_report.h"
#include "common/text/answered_rows.h"
#include "common/text/labelled_rows.h"

// ---------------------------------------------------------------- parameters
template <class X> struct ClassifierTensors {
    BertTensors<X> bert;  // without its masked-LM head
    X *poolw, *poolb;     // (C, C), (C)
    X *clsw, *clsb;       // (Kp, C), (Kp)   Kp: K rounded up to 8, for the kernels
};
inline int padded_classes(int K) { return (int)round_up(K, 8); }

// The table of parameters: the encoder, the pooler, the classifier (train_bert.cu has more about it).
template <class X>
std::vector<ParamSpec> classifier_table(ClassifierTensors<X>& t, const BertConfig& c, int K, X* base) {
    TableBuilder<X> table{c.init_std, {}, {}};
    encoder_table(table, t.bert, c);
    table.linear(t.poolw, t.poolb, "bert.pooler.", {"dense"}, c.C, c.C, (int)c.L);
    table.linear(t.clsw, t.clsb, "", {"classifier"}, K, c.C, (int)c.L, padded_classes(K));
    return table.point(base);
}

// ---------------------------------------------------------------- model
struct Classifier {
    Bert bert;
    int K = 2;  // classes
    ClassifierTensors<real> params;
    ClassifierTensors<areal> grads;
    real* encoded;                          // (M, C) the encoder's output
    real *pooled, *dropped, *logits;        // (M, C) twice, (M, Kp)
    areal *losses, *correct;                // (M)
    real* dpooled;                          // (M, C)
    areal* head_scratch;                    // partial sums
    const double* class_weights = nullptr;  // (K) in device memory, or nullptr: all 1

    int Kp() const { return padded_classes(K); }
    // the site after those of the encoder
    Dropout drop(const Batch& batch) const { return bert.drop(batch, 3 * (int)bert.config.L + 1); }

    void plan_activations(Arena& arena, bool backward) {
        size_t M = bert.shape.M, C = bert.config.C;
        bert.plan_encoder(arena, backward);
        arena.region("pooler, classifier");
        arena.take(pooled, M * C);
        arena.take(dropped, M * C);
        arena.take(logits, M * Kp());
        if (!backward) return;
        arena.take(losses, M);
        arena.take(correct, M);
        arena.take(dpooled, M * C);
        arena.take(head_scratch, column_sum_scratch(M, std::max((int)C, Kp())));
    }
    // Points parameters (and gradients) into their arrays.
    std::vector<ParamSpec> point(real* parameters, areal* gradients) {
        if (gradients) classifier_table(grads, bert.config, K, gradients);
        std::vector<ParamSpec> table = classifier_table(params, bert.config, K, parameters);
        bert.params = params.bert;
        bert.grads = grads.bert;
        return table;
    }

    // The logits (M, Kp) of the batch's M sequences, whose first tokens are its rows
    real* forward(const Batch& b) {
        int M = b.M, C = bert.config.C;
        encoded = bert.encode(b);
        matmul_forward(pooled, encoded, params.poolw, params.poolb, M, C, C);
        tanh_forward(pooled, pooled, (size_t)M * C);
        dropout_forward(dropped, pooled, M, C, drop(b));
        matmul_forward(logits, dropped, params.clsw, params.clsb, M, C, Kp());
        return logits;
    }

    // Adds the batch's part of the loss to `stats` and of the gradients to `grads`.
    void forward_backward(const Batch& b, StepStats* stats) {
        int M = b.M, C = bert.config.C;
        forward(b);
        crossentropy(losses, correct, logits, b.targets, b.loss_scale, M, K, Kp(), true, class_weights);
        sum_losses(stats, losses, correct, M);
        // logits = dropped clswᵀ + clsb
        matmul_backward_weight(grads.clsw, grads.clsb, logits, dropped, head_scratch, M, C, Kp());
        matmul_backward_input(dpooled, logits, params.clsw, M, C, Kp());
        // dropped = dropout(pooled), pooled = tanh(encoded poolwᵀ + poolb)
        dropout_forward(dpooled, dpooled, M, C, drop(b));
        tanh_backward(dpooled, dpooled, pooled, (size_t)M * C);
        matmul_backward_weight(grads.poolw, grads.poolb, dpooled, encoded, head_scratch, M, C, C);
        if (bert.frozen >= bert.config.L) return;
        matmul_backward_input(bert.acts.dx, dpooled, params.poolw, M, C, C);
        bert.encode_backward(b);
    }

    // Work of so many tokens in so many sequences, forward and backward, in FLOP; what is frozen has no backward pass,
    // and only [CLS] gets past the last attention.
    double flops(double tokens, double sequences, double T) const {
        const BertConfig& c = bert.config;
        double C = c.C, L = c.L;
        double passes = 3 * L - 2 * std::max(0, bert.frozen);     // of a layer; a backward pass counts twice
        double last = bert.frozen < L ? 3 : 1;                    // of the last layer
        double attention = tokens * (2 * 3 * C * C + 4 * T * C);  // with its input projections, forward
        double rest = 2 * (C * C + 2 * C * c.FF);                 // of a row, after the attention
        return passes * attention + ((passes - last) * tokens + last * sequences) * rest +
               6 * sequences * (C * C + C * K);
    }
};

// ---------------------------------------------------------------- prediction
// Collects sequences, runs the model over full batches and calls on_prediction(probabilities (K)) for each sequence, in
// order.
struct Predictor {
    Classifier& model;
    BatchBuilder& builder;
    char *host, *block;  // a batch in host and device memory
    std::function<void(const double*)> on_prediction;
    std::vector<real> logits{};  // (M, Kp)

    void add(const std::vector<int>& tokens, const std::vector<int>& types) {
        if (!builder.fits(tokens.size(), 1)) flush();
        builder.add(tokens, types, {0}, {0});
    }
    void flush() {
        int M = (int)builder.rows.size(), K = model.K, Kp = model.Kp();
        if (M == 0) return;
        Batch b = to_device(builder.finish(host, StepCounters{}, 1), model.bert.shape, block, host);
        NoDropout inference(model.bert.dropout);
        const real* x = model.forward(b);  // (M, Kp)
        logits.resize((size_t)M * Kp);
        copy_to_host(logits.data(), x, logits.size() * sizeof(real));
        builder.clear();
        for (int m = 0; m < M; m++) on_prediction(softmax(&logits[(size_t)m * Kp], K).data());
    }
};

// The names of its classes, in order; none if it is no classifier. Regression and several labels at once are refused.
std::vector<std::string> read_labels(const std::string& dir) {
    std::string path = dir + "/config.json";
    Json config = parse_json(read_file(path), path);
    const Json *problem = config.find("problem_type"), *names = config.find("id2label");
    if (problem && problem->kind == Json::string && problem->s != "single_label_classification")
        fail(
            "%s: problem_type: expected \"single_label_classification\", found %s: only classifiers that give a text "
            "one label are supported",
            path.c_str(), dump_json(*problem).c_str());
    std::vector<std::string> labels;
    if (names && names->kind == Json::object) {
        labels.resize(names->o.size());
        for (auto& [key, name] : names->o) {
            size_t k = strtoul(key.c_str(), nullptr, 10);
            if (std::to_string(k) != key || k >= labels.size() || name.kind != Json::string || name.s.empty() ||
                !labels[k].empty())
                fail("%s: id2label: expected a name for each of 0 to %zu, found \"%s\": %s", path.c_str(),
                     labels.size() - 1, key.c_str(), dump_json(name).c_str());
            labels[k] = name.s;
        }
        if (labels.size() == 1)
            fail("%s: id2label: expected at least two labels, found one: regression is not supported", path.c_str());
        std::unordered_map<std::string, size_t> places;
        for (size_t k = 0; k < labels.size(); k++)
            if (auto [at, is_new] = places.insert({labels[k], k}); !is_new)
                fail("%s: id2label: \"%s\" stands for %zu and for %zu: expected names that differ", path.c_str(),
                     labels[k].c_str(), at->second, k);
        return labels;
    }
    // transformers leaves out id2label where it is {0: LABEL_0, 1: LABEL_1}
    if (const Json* kind = config.find("architectures");
        kind && dump_json(*kind).find("ForSequenceClassification") != std::string::npos)
        labels = {"LABEL_0", "LABEL_1"};
    return labels;
}

// A classifier of a directory, ready to predict up to `tokens` tokens at a time.
struct LoadedClassifier {
    Classifier model;
    std::vector<std::string> labels;
    WordPiece tokenizer;
    BatchBuilder builder;
    std::vector<char> host;
    char* block = nullptr;
    std::shared_ptr<void> memory;
    std::string dir;
    size_t T = 0;  // the longest input, in tokens: what the model was fine-tuned with

    explicit LoadedClassifier(const std::string& path) {
        if (path.empty()) fail_usage("--model DIR is missing: the --out of a fine-tuning run, or a model directory");
        dir = resolve_model_dir(path);
        BertConfig& c = model.bert.config = read_bert_config(dir);
        labels = read_labels(dir);
        if (labels.empty())
            fail(
                "%s: expected a classifier, found an encoder without labels: fine-tune it first: ./finetune_cls --init "
                "%s --data DIR --out DIR",
                dir.c_str(), path.c_str());
        model.K = (int)labels.size();
        tokenizer = WordPiece::load(dir);
        check_vocabulary(dir, tokenizer.tokens.size(), c.V);
        T = (size_t)c.T;
        if (const std::string path = dir + "/tokenizer_config.json"; exists(path)) {
            const Json tokenizer_config = parse_json(read_file(path), path);
            const Json* most = tokenizer_config.find("model_max_length");
            if (most && most->kind == Json::integer && most->i >= 5) T = std::min(T, (size_t)most->i);
        }
        BatchShape& shape = model.bert.shape;
        shape.N = (int)round_up(std::max<size_t>(4096, T), 128);
        shape.M = shape.N / 4;
        builder.set_up(shape, tokenizer.pad(), (int)T, 128);
        memory = load_parameters(
            dir, [&](real* base) { return model.point(base, nullptr); },
            [&](Arena& arena) {
                model.plan_activations(arena, false);
                arena.take(block, shape.bytes());
            });
        host.resize(shape.bytes());
    }
    // Why a pair cannot be read; "": it can
    std::string pair_error(const std::string& where) const {
        if (model.bert.config.types >= 2) return "";
        return where + ": expected one text, found a pair: " + dir + "/config.json says type_vocab_size 1";
    }
};

// ---------------------------------------------------------------- the task
struct ClassifyFlags {
    bool from_scratch = false;
    int64_t batch = 32, max_len = CLASSIFY_MAX_LEN, freeze = -1, examples = 0, seeds = 1;
    double dev_split = 0.1, layer_decay = 1;
    std::string class_weights = "none", best_by = "accuracy";
    // eval, predict
    std::string model, data, out;
    LabelledColumns columns;
    bool json = false, labels_only = false;
    int64_t top = 0;
};

struct ClassifyTask {
    Classifier model;
    Optimizer opt;
    BatchShape shape;
    BatchBuilder builder;
    TrainFlags& f;
    const ClassifyFlags& cf;
    const WordPiece& tokenizer;
    const std::vector<std::string>& labels;
    ClassifyData train_data, dev_data;
    std::vector<double> weights;  // (K)
    std::vector<char> host;       // validation batches
    char* block = nullptr;
    double* class_weights = nullptr;  // (K) in device memory

    ClassifyTask(TrainFlags& f, const ClassifyFlags& cf, const BinFile& train, const WordPiece& tokenizer,
                 const BertConfig& config)
        : f(f),
          cf(cf),
          tokenizer(tokenizer),
          labels(train.labels),
          train_data(train, tokenizer, cf.max_len, labels),
          dev_data(train_data) {
        int K = (int)labels.size();
        // the examples of this run, and of these the part that chooses the epoch
        std::vector<uint32_t> order = stratified_order(train_data, K, (uint64_t)f.seed);
        if (cf.examples > (int64_t)order.size())
            fail_usage("--examples: %s has %zu examples, found %lld", train.path.c_str(), order.size(),
                       (long long)cf.examples);
        if (cf.examples) order.resize(cf.examples);
        size_t n_dev = (size_t)llround(cf.dev_split * (double)order.size());
        if (cf.dev_split > 0 && (n_dev == 0 || n_dev == order.size()))
            fail_usage(
                "--dev-split %g: expected a fraction of the %zu examples that leaves some on both sides; 0: take the "
                "last epoch's model",
                cf.dev_split, order.size());
        dev_data.which.assign(order.begin(), order.begin() + n_dev);
        train_data.which.assign(order.begin() + n_dev, order.end());
        weights = class_weight_list(K);
        for (double w : weights)
            if (w != 1) builder.weights = weights.data();

        set_shape(shape_for(cf.batch));
        builder.set_up(shape, tokenizer.pad(), (int)cf.max_len, 128);
        model.bert.config = config;
        model.bert.dropout = (float)f.dropout;
        model.bert.frozen = (int)cf.freeze;
        model.bert.recompute = f.recompute;
        model.K = K;
        opt.table = model.point(nullptr, nullptr);
        opt.n = total_count(opt.table);
    }
    // rows: those of a batch, and more for validation, where short sequences fill the tokens
    BatchShape shape_for(int64_t batch) const {
        BatchShape s;
        s.N = (int)round_up(batch * cf.max_len, 128);
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
                fail_usage(
                    "--class-weights: expected none, balanced or %d positive numbers with commas between, in the order "
                    "%s, found \"%s\"",
                    K, name_list(labels, 100).c_str(), cf.class_weights.c_str());
            at = end + 1;
        }
        return w;
    }
    void set_shape(const BatchShape& s) { shape = model.bert.shape = s; }
    void plan(Arena& arena) {
        opt.plan(arena);
        model.plan_activations(arena, true);
        arena.region("batch");
        arena.take(block, shape.device_bytes());
        arena.take(class_weights, labels.size());
    }
    void allocate(Arena& arena) {
        plan(arena);
        model.point(opt.params, opt.grads);
        host.resize(shape.bytes());
        copy_to_device(class_weights, weights.data(), weights.size() * sizeof(double));
        device_sync();
        model.class_weights = builder.weights ? class_weights : nullptr;
    }

    // What train() needs of a task
    int fill(BatchBuilder& b, Cursor& cursor) {
        return fill_batch(b, train_data, cursor, (uint64_t)f.seed, true, cursor.next + (uint64_t)cf.batch);
    }
    void forward_backward(const Batch& b, StepStats* stats) { model.forward_backward(b, stats); }
    void set_dropout(double rate) { model.bert.dropout = (float)rate; }
    double flops(double tokens, double targets, double mean_length) const {
        return model.flops(tokens, targets, mean_length);
    }
    // Layer-wise decay: 1 for the head, then each layer downwards `layer_decay` times the one above, the embeddings
    // last.
    float lr_factor(const ParamSpec& s) const {
        return s.layer < cf.freeze ? 0.0f : (float)pow(cf.layer_decay, (double)(model.bert.config.L - s.layer));
    }

    // Runs the model over a set; each(i, gold, prediction, probabilities (K)) is called for its examples in order.
    template <class Each> ClassificationReport predict(ClassifyData& data, Each each) {
        ClassificationReport report(labels);
        uint64_t answered = 0;
        builder.clear();
        Predictor predictor{model, builder, host.data(), block, [&](const double* probabilities) {
                                int gold = data.label(answered), prediction = report.add(gold, probabilities);
                                each(answered++, gold, prediction, probabilities);
                            }};
        for (uint64_t i = 0; i < data.sequences(); i++) {
            data.make(0, i);
            predictor.add(data.tokens, data.types);
        }
        predictor.flush();
        return report;
    }
    ClassificationReport predict(ClassifyData& data) {
        return predict(data, [](uint64_t, int, int, const double*) {});
    }
    Eval evaluate() {
        Eval e;
        e.targets = dev_data.sequences();
        if (e.targets == 0) return e;
        ClassificationReport r = predict(dev_data);
        e.name = "dev split";
        e.loss = r.mean_loss();
        e.accuracy = r.confusion.accuracy();
        e.score = cf.best_by == "macro-f1" ? r.confusion.macro_f1()
                  : cf.best_by == "mcc"    ? r.confusion.mcc()
                  : cf.best_by == "loss"   ? -e.loss
                                           : e.accuracy;
        e.report = r.line();
        e.table = r.table() + "\n";
        e.numbers.set("dev", r.json());
        return e;
    }
    void save_model(const std::string& dir) {
        Json extra = Json::make_object(), id2label = Json::make_object(), label2id = Json::make_object();
        for (size_t k = 0; k < labels.size(); k++) {
            id2label.o.emplace_back(std::to_string(k), labels[k]);
            label2id.o.emplace_back(labels[k], (int64_t)k);
        }
        extra.set("id2label", id2label).set("label2id", label2id).set("problem_type", "single_label_classification");
        write_bert_config(dir, model.bert.config, "BertForSequenceClassification", extra);
        tokenizer.save(dir, (int)cf.max_len, true);
        opt.save(dir);
    }
    Json identity() const {
        Json names = Json::make_array();
        for (const std::string& l : labels) names.a.push_back(l);
        return model_identity(model.bert.config)
            .set("labels", names)
            .set("tokenizer", hex(tokenizer.fingerprint()))
            .set("train_data", hex(train_data.file.header.content));
    }
};

// ---------------------------------------------------------------- train
// What a run, or each of --seeds runs, starts from
struct ClassifierRun {
    TrainFlags& f;
    ClassifyFlags& cf;
    std::string init;
    BertConfig config;
    const WordPiece& tokenizer;
    const BinFile& train_file;
    std::vector<std::pair<std::string, const BinFile*>> sets;  // to report: val, test
    std::vector<std::string> new_tensors{};                    // those that are not taken from init
    std::vector<size_t> head_rows{};  // (K) of each class, where its row is in the classifier of init; empty: as it is
};

// The rows of the classifier go where the names of their classes are. values: (total_count(table))
void reorder_head(std::vector<areal>& values, const std::vector<ParamSpec>& table, const std::vector<size_t>& rows) {
    for (const ParamSpec& s : table) {
        if (rows.empty() || s.names[0].rfind("classifier.", 0) != 0) continue;
        const size_t width = s.elements() / rows.size();  // C of the matrix, 1 of the bias
        const std::vector<areal> old(values.begin() + s.offset, values.begin() + s.offset + s.elements());
        for (size_t k = 0; k < rows.size(); k++)
            std::copy_n(&old[rows[k] * width], width, &values[s.offset + k * width]);
    }
}

// What the run learns from. Returns the loss of the unigram baseline, which predicts each class as often as it occurs,
// on the examples that choose the epoch; NAN: there are none.
double print_data(const ClassifierRun& run, const ClassifyTask& task) {
    const ClassifyData &train_data = task.train_data, &dev_data = task.dev_data;
    const int K = task.model.K;
    const double examples = (double)train_data.sequences();
    std::vector<int64_t> count(K, 0);
    for (uint64_t i = 0; i < train_data.sequences(); i++) count[train_data.label(i)]++;
    const double one = 1.0 / (double)(train_data.sequences() + K);  // add-one smoothing
    std::vector<double> frequency(K, one);
    for (uint64_t i = 0; i < train_data.sequences(); i++) frequency[train_data.label(i)] += one;
    ClassificationReport unigram(task.labels);
    for (uint64_t i = 0; i < dev_data.sequences(); i++) unigram.add(dev_data.label(i), frequency.data());

    std::string dev = "none choose the epoch: the last model is taken";
    if (unigram.confusion.total())
        dev = format("%lld others of train.bin choose the epoch (always the most frequent class: %.2f %%)",
                     (long long)unigram.confusion.total(), 100 * unigram.confusion.accuracy());
    printf("%s examples for training, %s; %lld steps of %lld x %lld: %.2f epochs\n", thousands(examples).c_str(),
           dev.c_str(), (long long)run.f.steps, (long long)run.f.accum, (long long)run.cf.batch,
           (double)run.f.steps * (double)(run.f.accum * run.cf.batch) / examples);
    std::vector<std::string> counts;
    for (int k = 0; k < K; k++) {
        counts.push_back(format("%s %s", task.labels[k].c_str(), thousands((double)count[k]).c_str()));
        if (count[k] == 0) printf("warning: there is no training example of \"%s\"\n", visible(task.labels[k]).c_str());
    }
    printf("training examples: %s\n", name_list(counts, 20).c_str());
    for (auto* data : {&train_data, &dev_data})
        if (size_t cut = data->count_cut())
            printf("%zu of %llu %s examples are longer than --max-len %lld and were cut\n", cut,
                   (unsigned long long)data->sequences(), data == &dev_data ? "dev" : "training",
                   (long long)run.cf.max_len);
    return unigram.confusion.total() ? unigram.mean_loss() : NAN;
}

void print_warning(FILE* to, const std::string& text) {
    if (!text.empty()) fprintf(to, "warning: %s\n", text.c_str());
}
// The accuracies in OUT/metrics.jsonl: all validations of the run, also those before a --resume
std::vector<double> dev_accuracies(const std::string& out) {
    std::vector<double> accuracies;
    LineReader lines(out + "/metrics.jsonl");
    for (Json line; lines.next_object(line);)
        if (const Json *dev = line.find("dev"), *accuracy = dev ? dev->find("accuracy") : nullptr; accuracy)
            accuracies.push_back(accuracy->d);
    return accuracies;
}

// Writes OUT/results.json, predictions.tsv and errors.tsv: the best model on the sets that are reported, once.
void report_best(const ClassifierRun& run, ClassifyTask& task) {
    const std::string dir = resolve_model_dir(run.f.out);
    const int64_t n_dev = (int64_t)task.dev_data.sequences();
    task.opt.load(dir);
    printf("\nreported: %s\n", dir.c_str());
    fflush(stdout);  // a report may take long, and a signal ends it
    if (n_dev) print_warning(stdout, doubtful_choice(dev_accuracies(run.f.out), n_dev));
    Json results = Json::make_object()
                       .set("model", dir)
                       .set("seed", run.f.seed)
                       .set("training_examples", (int64_t)task.train_data.sequences());
    PredictionFiles files{task.labels};
    for (auto& [name, file] : run.sets) {
        ClassifyData data(*file, run.tokenizer, (size_t)run.cf.max_len, task.labels);
        const std::string set = name;
        ClassificationReport report = task.predict(
            data, [&](uint64_t i, int gold, int prediction, const double* probabilities) {
                files.add(data.file.text(i), gold, prediction, probabilities, set, i + 1);
            });
        printf("\n%s: %s\n%s\n", name.c_str(), report.line().c_str(), report.table().c_str());
        print_warning(stdout, report.warning());
        if (size_t cut = data.count_cut())
            printf("  %zu of them are longer than --max-len %lld and were cut\n", cut, (long long)run.cf.max_len);
        results.set(name, report.json());
    }
    if (run.sets.empty()) {
        printf("\nno val.bin or test.bin in %s: nothing to report on but the examples that chose the epoch\n",
               run.f.data.c_str());
        // its numbers are a little too high, since they chose the model
        if (n_dev) {
            const ClassificationReport report = task.predict(task.dev_data);
            print_warning(stdout, report.warning());
            results.set("dev", report.json());
        }
    } else {
        files.write(run.f.out);
        printf("%s/predictions.tsv, errors.tsv (the most confident mistakes first), results.json\n",
               without_slash(run.f.out).c_str());
    }
    write_file_atomic(run.f.out + "/results.json", dump_json(results, 2) + "\n");
}

// One run, in memory of the size that its task plans: train, then report the best model. Returns the exit code.
int train_once(ClassifierRun& run, Cli& cli, Arena arena) {
    ClassifyTask task(run.f, run.cf, run.train_file, run.tokenizer, run.config);
    task.allocate(arena);
    if (!run.f.resume) {
        std::vector<areal> values = initial_values(task.opt.table, task.opt.n, (uint64_t)run.f.seed);
        if (!run.cf.from_scratch) {
            load_tensors(run.init, task.opt.table, values.data(), run.new_tensors)
                .announce(run.init, {"bert.pooler.", "classifier."});
            reorder_head(values, task.opt.table, run.head_rows);
            refuse_not_finite(task.opt.table, values, run.init);
        }
        task.opt.upload(values);
    }
    const double unigram_loss = print_data(run, task);
    if (int code = train(task, cli, run.f, unigram_loss); code != EXIT_OK) return code;
    report_best(run, task);
    return EXIT_OK;
}

// The mean and standard deviation over runs of each number in their results.json, as OUT/results.json
void report_seeds(const std::string& out, const std::vector<std::string>& runs, const std::vector<std::string>& sets) {
    printf("\n%zu seeds: mean +- standard deviation\n", runs.size());
    Json all = Json::make_object();
    for (const std::string& set : sets) {
        Json numbers = Json::make_object();
        std::string line;
        for (const char* key : {"accuracy", "macro_f1", "mcc"}) {
            std::vector<double> values;
            Json list = Json::make_array();
            for (const std::string& run : runs) {
                const std::string path = run + "/results.json";
                const Json results = parse_json(read_file(path), path);
                const Json* part = results.find(set);
                const Json* value = part ? part->find(key) : nullptr;
                if (!value)
                    fail("%s: expected %s of %s, found none: remove the directory and run again", path.c_str(), key,
                         set.c_str());
                values.push_back(value->d);
                list.a.push_back(value->d);
            }
            auto [mean, sd] = mean_and_sd(values);
            if (!strcmp(key, "accuracy")) line += format(" | %s %.2f +- %.2f %%", key, 100 * mean, 100 * sd);
            else line += format(" | %s %.4f +- %.4f", key, mean, sd);
            numbers.set(key, Json::make_object().set("mean", mean).set("sd", sd).set("runs", list));
        }
        printf("%s%s\n", set.c_str(), line.c_str());
        all.set(set, numbers);
    }
    write_file_atomic(out + "/results.json", dump_json(all, 2) + "\n");
    printf("%s/results.json; models: %s ...\n", out.c_str(), runs[0].c_str());
}

// --seeds: OUT/seed-1, OUT/seed-2, ..., each a run of its own, and their mean. memory: of the size
// that sizing_task plans, as every run does
int train_seeds(ClassifierRun& run, Cli& cli, void* memory, ClassifyTask& sizing_task) {
    TrainFlags& f = run.f;
    const std::string out = f.out;
    const int64_t seeds = run.cf.seeds, first = f.seed;
    const bool resume = f.resume;
    write_file_atomic(out + "/config.json",
                      dump_json(Json::make_object().set("program", cli.program).set("flags", cli.to_json()), 2) + "\n");
    run.cf.seeds = 1;
    std::vector<std::string> runs;
    for (int64_t k = 0; k < seeds; k++) {
        f.seed = first + k;
        f.out = out + format("/seed-%lld", (long long)f.seed);
        f.resume = resume && exists(f.out + "/last");
        runs.push_back(f.out);
        printf("\n---- seed %lld (%lld of %lld)\n", (long long)f.seed, (long long)k + 1, (long long)seeds);
        if (!f.resume) open_run_dir(f);
        Arena whole;
        sizing_task.plan(whole);
        device_zero(memory, whole.used);  // as device_alloc() gives it: AdamW's m and v are zero when a run begins
        if (int code = train_once(run, cli, Arena(memory)); code != EXIT_OK) {
            if (code == EXIT_INTERRUPTED)
                printf("all of the %lld seeds: --resume --out %s\n", (long long)seeds, out.c_str());
            return code;
        }
    }
    std::vector<std::string> sets;
    for (auto& set : run.sets) sets.push_back(set.first);
    if (sets.empty() && sizing_task.dev_data.sequences()) sets = {"dev"};
    report_seeds(out, runs, sets);
    return EXIT_OK;
}

// Was the data packed with the tokenizer of the model in `init`, and does the model take its pairs?
void check_classify_data(const BinFile& file, const WordPiece& tokenizer, const BertConfig& config,
                         const std::string& init) {
    if (file.fingerprint() != tokenizer.fingerprint() || file.vocab() != tokenizer.tokens.size())
        fail("%s: it was packed with another tokenizer than that of %s: make the data again with --tokenizer %s",
             file.path.c_str(), init.c_str(), init.c_str());
    bool pairs = false;
    for (size_t s = 0; s < file.sequences() && !pairs; s++) pairs = file.pair(s);
    if (pairs && config.types < 2)
        fail("%s: it holds pairs, and %s/config.json says type_vocab_size %lld: expected at least 2", file.path.c_str(),
             init.c_str(), (long long)config.types);
}

int train_classifier(Cli& cli, TrainFlags& f, ClassifyFlags& cf) {
    prepare_flags(cli, f, {"train.bin"}, {"data/sst2.py", "data/classify.py"});
    if (f.init.empty())
        fail_usage(
            "--init DIR is missing: the pretrained encoder, a run of train_bert or a Hugging Face directory "
            "(data/pretrained.py)");
    bool taken = exists(f.out + "/results.json");
    for (int64_t seed = f.seed; seed < f.seed + cf.seeds; seed++)
        taken = taken || exists(f.out + format("/seed-%lld", (long long)seed));
    if (!f.resume && taken)
        fail_usage("--out %s: a run is there already; continue it with --resume or take another directory",
                   f.out.c_str());
    open_run_dir(f);

    // the model: a resumed run finds all that it needs in last/
    const std::string init = resolve_model_dir(f.resume && exists(f.out + "/last") ? f.out + "/last" : f.init);
    const WordPiece tokenizer = WordPiece::load(init);
    BertConfig config = read_bert_config(init);
    check_vocabulary(init, tokenizer.tokens.size(), config.V);
    config.dropout = config.attention_dropout = f.dropout;
    if (cf.freeze > config.L)
        fail_usage("--freeze: %s has %lld layers, found %lld", init.c_str(), (long long)config.L, (long long)cf.freeze);
    if (cf.freeze >= 0 && cf.from_scratch)
        fail_usage("--freeze with --from-scratch: what is frozen would never learn anything");
    if (cli.given("max-len") && cf.max_len > config.T)
        fail_usage("--max-len: %s has %lld positions, found %lld", init.c_str(), (long long)config.T,
                   (long long)cf.max_len);
    cf.max_len = std::min(cf.max_len, config.T);
    // Wider encoders take lower rates
    if (f.lr == 0) f.lr = config.C <= 256 ? 3e-4 : config.C <= 512 ? 1e-4 : config.C <= 768 ? 2e-5 : 1e-5;

    // the data
    const BinFile train_file(f.data + "/train.bin", BIN_CLASSIFY);
    check_classify_data(train_file, tokenizer, config, init);
    ClassifierRun run{f, cf, init, config, tokenizer, train_file, {}};
    std::vector<std::unique_ptr<BinFile>> files;
    for (const char* name : {"val", "test"}) {
        const std::string path = f.data + "/" + name + ".bin";
        if (!exists(path)) continue;
        const BinFile& file = *files.emplace_back(std::make_unique<BinFile>(path, BIN_CLASSIFY));
        check_classify_data(file, tokenizer, config, init);
        ClassifyData(file, tokenizer, (size_t)cf.max_len, train_file.labels);  // its labels are checked before training
        run.sets.push_back({name, &file});
    }
    if (const std::vector<std::string> old = read_labels(init); old != train_file.labels) {
        std::unordered_map<std::string, size_t> rows;
        for (size_t k = 0; k < old.size(); k++) rows[old[k]] = k;
        for (const std::string& label : train_file.labels)
            if (auto row = rows.find(label); row != rows.end()) run.head_rows.push_back(row->second);
        if (run.head_rows.size() == old.size() && old.size() == train_file.labels.size()) {
            printf("%s has the labels of the data in another order: the rows of its classifier go with their names\n",
                   init.c_str());
        } else {
            run.head_rows.clear();
            run.new_tensors = {"classifier.weight", "classifier.bias"};
        }
    }

    ClassifyTask sizing_task(f, cf, train_file, tokenizer, config);
    check_tensors(init, sizing_task.opt.table, {"bert.pooler.", "classifier."}, run.new_tensors);
    const int64_t examples_per_step = cf.batch * f.accum, examples = (int64_t)sizing_task.train_data.sequences();
    if (f.epochs > 0) f.steps = std::max<int64_t>(1, llround(f.epochs * (double)examples / (double)examples_per_step));
    if (f.steps == 0 && !cli.given("steps")) fail_usage("--epochs 0: expected more than 0, or --steps");
    if (f.eval_every == 0) f.eval_every = (int64_t)ceil((double)examples / (double)examples_per_step);  // an epoch
    if (f.patience > 0 && cf.dev_split == 0)
        fail_usage("--patience: expected a --dev-split above 0 with it: nothing else says which model is better");

    print_machine("finetune_cls");
    print_parameters(sizing_task.opt.table, f.verbose);
    void* memory = allocate_run(sizing_task, "--batch", 1, 1 << 16);
    printf("data: %s examples in train.bin of %zu classes: %s\n", thousands((double)train_file.sequences()).c_str(),
           train_file.labels.size(), name_list(train_file.labels, 20).c_str());
    return cf.seeds == 1 ? train_once(run, cli, Arena(memory)) : train_seeds(run, cli, memory, sizing_task);
}

// ---------------------------------------------------------------- eval
struct LabelledExample {
    std::vector<int> tokens, types;
    std::string shown;  // its text, of a pair both with a tab between them
    int gold;
    size_t number;  // in the file, from 1
    bool cut;
};

// Calls add(example) for the examples of a .bin file ...
template <class Add> void for_each_packed_example(const LoadedClassifier& c, const std::string& path, Add add) {
    BinFile file(path, BIN_CLASSIFY);
    if (file.fingerprint() != c.tokenizer.fingerprint() || file.vocab() != c.tokenizer.tokens.size())
        fail(
            "%s: it was packed with another tokenizer than that of %s: pack it again, or give the .tsv, .csv or .jsonl "
            "itself",
            path.c_str(), c.dir.c_str());
    ClassifyData data(file, c.tokenizer, c.T, c.labels);
    for (uint64_t i = 0; i < data.sequences(); i++) {
        const std::string error = c.pair_error(format("%s, example %zu", path.c_str(), (size_t)i + 1));
        if (file.pair(i) && !error.empty()) fail("%s", error.c_str());
        bool cut = data.make(0, i);
        add({data.tokens, data.types, std::string(file.text(i)), data.label(i), (size_t)i + 1, cut});
    }
}
// ... and for those of a .tsv, .csv or .jsonl file that can be used
template <class Add>
void for_each_labelled_example(const LoadedClassifier& c, const std::string& path, const LabelledColumns& columns,
                               BadRows& bad, Add add) {
    LabelledFile file(path, columns);
    LabelledRow row;
    std::unordered_map<std::string, int> classes;
    for (size_t k = 0; k < c.labels.size(); k++) classes[c.labels[k]] = (int)k;
    for (size_t number = 1; file.next(row); number++) {
        LabelledExample example;
        example.number = number;
        auto gold = classes.find(row.label);
        example.gold = gold == classes.end() ? (int)c.labels.size() : gold->second;
        std::vector<int> a, b;
        c.tokenizer.encode(row.text, a);
        c.tokenizer.encode(row.text2, b);
        const std::string where = row.where();
        if (row.error.empty() && example.gold == (int)c.labels.size())
            row.error = where + ": expected a label of the model (" + name_list(c.labels) + "), found " +
                        start_of(row.label) + nearest_hint(row.label, c.labels);
        if (row.error.empty() && (a.empty() || (row.pair && b.empty())))
            row.error = where + ": expected a text in \"" + (a.empty() ? columns.text : columns.text2) +
                        "\", found only characters that give no token";
        if (row.error.empty() && row.pair) row.error = c.pair_error(where);
        if (!row.error.empty()) {
            bad.add(row.error);
            continue;
        }
        example.cut = join_segments(example.tokens, example.types, a.data(), a.size(), b.data(), b.size(), c.tokenizer,
                                    c.T);
        append_shown(example.shown, row);
        add(std::move(example));
    }
}

int eval_classifier(const ClassifyFlags& cf, BadRows& bad) {
    if (cf.data.empty()) fail_usage("--data FILE is missing: a .bin, .tsv, .csv or .jsonl with labels");
    if (is_directory(cf.data))
        fail_usage("--data %s: expected a file, .bin, .tsv, .csv or .jsonl, found a directory", cf.data.c_str());
    if (!cf.out.empty() && (exists(cf.out + "/metrics.jsonl") || is_model_directory(cf.out)))
        fail_usage(
            "--out %s: a run or a model is there already, whose files this would overwrite: take another directory",
            cf.out.c_str());
    if (!cf.out.empty()) refuse_existing("--out", cf.out, {"predictions.tsv", "errors.tsv"});
    LoadedClassifier c(cf.model);
    const std::string name = file_stem(cf.data);
    if (!cf.out.empty()) make_directories(cf.out);
    size_t cut = 0;
    std::deque<LabelledExample> waiting;  // for their probabilities
    ClassificationReport report(c.labels);
    PredictionFiles files{c.labels};
    Predictor predictor{c.model, c.builder, c.host.data(), c.block, [&](const double* probabilities) {
                            const LabelledExample& example = waiting.front();
                            int prediction = report.add(example.gold, probabilities);
                            if (!cf.out.empty())
                                files.add(example.shown, example.gold, prediction, probabilities, name, example.number);
                            waiting.pop_front();
                        }};
    auto add = [&](LabelledExample example) {
        cut += example.cut;
        waiting.push_back(std::move(example));
        predictor.add(waiting.back().tokens, waiting.back().types);
    };
    if (cf.data.size() > 4 && cf.data.substr(cf.data.size() - 4) == ".bin") for_each_packed_example(c, cf.data, add);
    else for_each_labelled_example(c, cf.data, cf.columns, bad, add);
    predictor.flush();
    if (report.confusion.total() == 0) fail("%s: expected rows with a text and a label, found none", cf.data.c_str());
    if (cf.json) printf("%s\n", dump_json(report.json()).c_str());
    else printf("%s: %s\n%s\n", name.c_str(), report.line().c_str(), report.table().c_str());
    print_warning(stderr, report.warning());
    if (cut) fprintf(stderr, "warning: %zu of them have more than %zu tokens and were cut\n", cut, c.T);
    if (!cf.out.empty()) {
        files.write(cf.out);
        if (!cf.json)
            printf("%s/predictions.tsv, errors.tsv (the most confident mistakes first)\n",
                   without_slash(cf.out).c_str());
    }
    flush_output();
    bad.finish("the others were evaluated");
    return EXIT_OK;
}

// ---------------------------------------------------------------- predict
// The line of output for a text: its likeliest classes, each with its probability, and the text, in columns; or JSON.
// probabilities: (K)
std::string prediction_line(const std::string& text, const std::vector<std::string>& labels,
                            const double* probabilities, const ClassifyFlags& cf) {
    const int K = (int)labels.size(), top = (int)std::min<int64_t>(cf.top ? cf.top : cf.json ? K : 1, K);
    std::vector<int> order(K);
    std::iota(order.begin(), order.end(), 0);
    if (cf.top || !cf.json)  // else in the model's order
        std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return probabilities[a] > probabilities[b]; });
    if (cf.json) {
        Json all = Json::make_object();
        for (int i = 0; i < top; i++) all.o.emplace_back(labels[order[i]], probabilities[order[i]]);
        const std::string& best = labels[std::max_element(probabilities, probabilities + K) - probabilities];
        return dump_json(Json::make_object().set("text", text).set("label", best).set("probabilities", all)) + "\n";
    }
    std::string line;
    for (int i = 0; i < top; i++) {
        append_tsv_field(line += i ? "\t" : "", labels[order[i]]);
        if (!cf.labels_only) line += format("\t%.4f", probabilities[order[i]]);
    }
    const size_t tab = text.find('\t');
    if (!cf.labels_only) append_tsv_field(line += '\t', std::string_view(text).substr(0, tab));
    if (!cf.labels_only && tab != text.npos) append_tsv_field(line += '\t', std::string_view(text).substr(tab + 1));
    return line + "\n";
}

// Texts as arguments, or one on each line of standard input; a tab separates the two texts of a pair. As many lines of
// output, in the same order.
int predict(const ClassifyFlags& cf, AnsweredRows& rows, const std::vector<std::string>& texts) {
    if (cf.labels_only && cf.json) fail_usage("--labels-only with --json: expected one of them");
    LoadedClassifier c(cf.model);
    size_t cut = 0;
    struct Row {
        std::string text, error;
    };
    std::deque<Row> waiting;  // for their probabilities; those with an error: for their turn
    auto print = [&](const std::string& line) {
        waiting.pop_front();
        if (fwrite(line.data(), 1, line.size(), stdout) != line.size())
            fail("cannot write standard output: %s", strerror(errno));
    };
    auto print_errors = [&] {
        while (!waiting.empty() && !waiting.front().error.empty()) {
            const Row& row = waiting.front();
            const Json json = Json::make_object().set("text", row.text).set("error", row.error);
            print((cf.json ? dump_json(json) : "") + "\n");
        }
    };
    Predictor predictor{c.model, c.builder, c.host.data(), c.block, [&](const double* probabilities) {
                            print_errors();
                            print(prediction_line(waiting.front().text, c.labels, probabilities, cf));
                        }};
    auto answer_all = [&] {
        predictor.flush();
        print_errors();
        flush_output();
    };
    std::vector<int> tokens, types, a, b;
    auto add = [&](const std::string& text, const std::string& where) {
        const size_t tab = text.find('\t');
        a.clear();
        b.clear();
        size_t invalid = c.tokenizer.encode(std::string_view(text).substr(0, tab), a);
        if (tab != text.npos) invalid += c.tokenizer.encode(std::string_view(text).substr(tab + 1), b);
        std::string error;
        if (text.find('\0') != text.npos) error = where + ": expected a text, found a NUL byte";
        else if (invalid) error = where + format(": expected UTF-8, found %zu bytes that are not", invalid);
        else if (a.empty()) error = where + ": expected a text, found nothing";
        else if (!b.empty()) error = c.pair_error(where);
        rows.row(error, blank(text));
        waiting.push_back({text, error});
        if (!error.empty()) return;
        cut += join_segments(tokens, types, a.data(), a.size(), b.data(), b.size(), c.tokenizer, c.T);
        predictor.add(tokens, types);
    };
    try {
        for (size_t i = 0; i < texts.size(); i++) add(texts[i], format("text %zu", i + 1));
        if (!texts.empty()) rows.add_blank_rows();
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
    rows.finish();
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
        f.warmup = 0.1;
        f.beta2 = 0.999;
        f.eps = 1e-8;
        f.eval_every = 0;
        f.log_every = 25;
        ClassifyFlags cf;
        AnsweredRows rows;
        std::vector<FlagGroup> groups = f.groups();
        without(groups, {"batch-tokens", "eval-tokens"});
        describe(groups, "data",
                 "directory with train.bin, and with val.bin and test.bin to report on, where there are such; packed "
                 "with the tokenizer of --init (data/classify.py)");
        describe(
            groups, "out",
            "directory of the run, for best/, last/, metrics.jsonl, config.json and results.json; where there is a "
            "val.bin or test.bin also predictions.tsv and errors.tsv");
        describe(groups, "seed",
                 "seed of new layers, order and dropout, and of the choice of --examples and of the dev split");
        describe(groups, "dropout",
                 "dropout rate of embeddings, attention, both branches of every layer and of what the classifier sees");
        describe(groups, "init", "the pretrained encoder, a run of train_bert or a Hugging Face directory");
        describe(groups, "lr",
                 "peak learning rate; 0: chosen by the hidden size: 3e-4 up to 256, 1e-4 up to 512, 2e-5 up to 768, "
                 "else 1e-5");
        describe(
            groups, "eval-every",
            "steps between two validations; each writes last/ and, if it is the best so far, best/; 0: once an epoch");
        groups.insert(
            groups.begin() + 1,
            {"Task",
             "train",
             {{"batch", &cf.batch, between(1, 1 << 16), "examples in a micro-batch"},
              {"max-len", &cf.max_len, between(5, 1 << 16), "longest example, in tokens; what is longer is cut"},
              {"examples", &cf.examples, at_least(0),
               "number of examples of train.bin to use, drawn with --seed; 0: all"},
              {"dev-split", &cf.dev_split, up_to(0, 1),
               "fraction of these examples that is held out to choose the best epoch (its metrics are too high where "
               "texts repeat or overlap); 0: none, the last epoch's model is taken"},
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
               "early stopping: number of validations without a better model after which training stops; 0: never"}}});
        groups.push_back({"Inference",
                          "eval predict",
                          {{"model", &cf.model, "DIR", "directory of a fine-tuning run, or a model directory"},
                           {"json", &cf.json, "print JSON instead of text"},
                           rows.flag()}});
        groups.push_back({"Output",
                          "predict",
                          {{"top", &cf.top, at_least(0),
                            "the K likeliest classes, each with its probability in the column after it, then the text "
                            "in the last; 0: one, in JSON all in the model's order"},
                           {"labels-only", &cf.labels_only, "print the labels alone"}}});
        groups.push_back({"Evaluation",
                          "eval",
                          {{"data", &cf.data, "FILE", "labelled texts, as .bin, .tsv, .csv or .jsonl"},
                           {"out", &cf.out, "DIR", "directory to write predictions.tsv and errors.tsv to"}}});
        groups.push_back({"Columns", "eval", cf.columns.flags()});
        Cli cli{"finetune_cls",
                "fine-tuning of a pretrained encoder to a labelled task.",
                "  ./finetune_cls --init runs/bert --data datasets/sst2 --out runs/sst2\n"
                "  ./finetune_cls eval --model runs/sst2 --data reviews.tsv\n"
                "  ./finetune_cls predict --model runs/sst2 \"a gorgeous, witty film\"\n",
                {{"train", "", "fine-tune on DATA/train.bin, report on val.bin and test.bin"},
                 {"eval", "", "accuracy, F1, MCC and confusion matrix on a file"},
                 {"predict", "[TEXT...]", "the class of each text, or of each line of standard input", 0, CLI_MANY}},
                groups};
        cli.closing = EXIT_CODES_TEXT;
        if (!cli.parse(argc, argv)) return (int)EXIT_OK;
        if (cli.command == "eval") return eval_classifier(cf, rows.bad);
        if (cli.command == "predict") return predict(cf, rows, cli.positional);
        return train_classifier(cli, f, cf);
    });
}
#endif
#endif  // FINETUNE_CLS_CU
