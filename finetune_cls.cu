// finetune_cls.cu: fine-tuning of a pretrained encoder to a labelled task (Devlin et al. 2018, section 4.1), and using
// what comes out.
//
//   ./finetune_cls --init runs/bert --data data/sst2 --out runs/sst2       train
//   ./finetune_cls eval --model runs/sst2 --data reviews.tsv              how good is it?
//   ./finetune_cls predict --model runs/sst2 "a gorgeous, witty film"     ask
//
// The encoder is that of train_bert.cu. New is what stands on it: of each sequence the first token's row, [CLS], goes
// through
//   pooled = tanh(x[CLS] poolwᵀ + poolb),   logits = dropout(pooled) clswᵀ + clsb,   cross-entropy over the K classes
// and the gradient goes all the way down. Read in this order: parameters → forward → backward → data → the task →
// results → main.
#ifndef FINETUNE_CLS_CU
#define FINETUNE_CLS_CU
#include "train_bert.cu"

#include <deque>
#include <functional>

#include "common/eval/metrics.h"
#include "common/ops/tanh.cuh"
#include "common/text/labelled_rows.h"

// ---------------------------------------------------------------- parameters
template <class X>
struct ClassifierTensors {
    BertTensors<X> bert;  // without its masked-LM head
    X *poolw, *poolb;     // (C, C), (C)
    X *clsw, *clsb;       // (Kp, C), (Kp)   Kp: K rounded up to 8, for the kernels
};
inline int padded_classes(int K) { return (int)round_up(K, 8); }

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
    real *pooled, *dropped, *logits;        // (M, C) twice, (M, Kp)
    areal *losses, *correct;                // (M)
    real* dpooled;                          // (M, C)
    areal* head_scratch;                    // partial sums
    const double* class_weights = nullptr;  // (K) in device memory, or nullptr: all 1

    int Kp() const { return padded_classes(K); }
    Dropout drop(const Batch& batch) const {
        return bert.drop(batch, 3 * (int)bert.config.L + 1);
    }  // the site after those of the encoder

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
    std::vector<ParamSpec> point(real* p, areal* g) {
        if (g) classifier_table(grads, bert.config, K, g);
        std::vector<ParamSpec> table = classifier_table(params, bert.config, K, p);
        bert.params = params.bert;
        bert.grads = grads.bert;
        return table;
    }

    // logits (M, Kp) of the batch's M sequences, whose first tokens are its rows. Returns the encoder's output (M, C).
    real* forward(const Batch& b) {
        int M = b.M, C = bert.config.C;
        real* x = bert.encode(b);  // (M, C)
        matmul_forward(pooled, x, params.poolw, params.poolb, M, C, C);
        tanh_forward(pooled, pooled, (size_t)M * C);
        dropout_forward(dropped, pooled, M, C, drop(b));
        matmul_forward(logits, dropped, params.clsw, params.clsb, M, C, Kp());
        return x;
    }

    // Adds the batch's share of the loss to `stats` and of the gradients to `grads`.
    void forward_backward(const Batch& b, StepStats* stats) {
        int M = b.M, C = bert.config.C;
        real* x = forward(b);  // (M, C)
        crossentropy(losses, correct, logits, b.targets, b.loss_scale, M, K, Kp(), true, class_weights);
        sum_losses(stats, losses, correct, M);
        // logits = dropped clswᵀ + clsb
        matmul_backward_weight(grads.clsw, grads.clsb, logits, dropped, head_scratch, M, C, Kp());
        matmul_backward_input(dpooled, logits, params.clsw, M, C, Kp());
        // dropped = dropout(pooled), pooled = tanh(x poolwᵀ + poolb)
        dropout_forward(dpooled, dpooled, M, C, drop(b));
        tanh_backward(dpooled, dpooled, pooled, (size_t)M * C);
        matmul_backward_weight(grads.poolw, grads.poolb, dpooled, x, head_scratch, M, C, C);
        if (bert.frozen >= bert.config.L) return;
        matmul_backward_input(bert.acts.dx, dpooled, params.poolw, M, C, C);
        bert.encode_backward(b);
    }

    // Work of so many tokens in so many sequences, forward and backward, in FLOP; what is frozen has no backward pass,
    // and only [CLS] gets past the last attention.
    double flops(double tokens, double sequences, double T) const {
        double C = bert.config.C, L = bert.config.L,
               passes = 3 * L - 2 * std::max(0, bert.frozen);  // a backward pass counts twice
        double below = tokens * (2 * 3 * C * C + 4 * T * C),
               behind = 2 * (C * C + 2 * C * bert.config.FF);  // of a layer, forward
        double last = bert.frozen < L ? 3 : 1;
        return passes * below + ((passes - last) * tokens + last * sequences) * behind +
               6 * sequences * (C * C + C * K);
    }
};

// ---------------------------------------------------------------- data
// [CLS] A [SEP], or [CLS] A [SEP] B [SEP] with types 0 and 1, of at most T tokens: the longer segment is cut first (of
// equals B). Was it cut?
bool join_segments(std::vector<int>& tokens, std::vector<int>& types, const int* a, size_t na, const int* b, size_t nb,
                   const WordPiece& words, size_t T) {
    bool pair = nb > 0, cut = false;
    for (size_t room = T - (pair ? 3 : 2); na + nb > room; cut = true) nb >= na ? nb-- : na--;
    tokens.assign(1, words.cls());
    tokens.insert(tokens.end(), a, a + na);
    tokens.push_back(words.sep());
    types.assign(tokens.size(), 0);
    if (!pair) return cut;
    tokens.insert(tokens.end(), b, b + nb);
    tokens.push_back(words.sep());
    types.resize(tokens.size(), 1);
    return cut;
}

// Some of the examples of a .bin file, in the form that fill_batch() takes: make(epoch, q) makes the q-th of them.
struct ClassifyData {
    const BinFile& file;
    const WordPiece& words;
    size_t T;
    std::vector<int> label_id;    // of the file's labels among the model's
    std::vector<uint32_t> which;  // examples of the file
    std::vector<int> tokens, types, positions{0}, targets{0}, ids;

    ClassifyData(const BinFile& file, const WordPiece& words, size_t T, const std::vector<std::string>& labels)
        : file(file), words(words), T(T) {
        for (const std::string& name : file.labels) {
            size_t k = std::find(labels.begin(), labels.end(), name) - labels.begin();
            if (k == labels.size())
                fail(
                    "%s: expected the labels of the training data (%s), found \"%s\" as well: pack it with --labels "
                    "and their train.bin",
                    file.path.c_str(), name_list(labels).c_str(), name.c_str());
            label_id.push_back((int)k);
        }
        for (size_t s = 0; s < file.sequences(); s++) which.push_back((uint32_t)s);
    }
    uint64_t sequences() const { return which.size(); }
    int label(uint64_t q) const { return label_id[file.label(which[q])]; }
    bool make(uint64_t, uint64_t q) {  // was it cut?
        size_t s = which[q], n = file.length(s), na = file.second(s);
        ids.resize(n);
        for (size_t i = 0; i < n; i++) ids[i] = file.token(s, i);
        targets[0] = label(q);
        return join_segments(tokens, types, ids.data(), na, ids.data() + na, n - na, words, T);
    }
    size_t count_cut() const {
        size_t cut = 0;
        for (uint32_t s : which) cut += file.length(s) + (file.second(s) < file.length(s) ? 3 : 2) > T;
        return cut;
    }
};

// The examples in an order drawn with `seed` in which every stretch from the start holds the classes in nearly the same
// shares as the whole.
std::vector<uint32_t> stratified_order(const ClassifyData& data, int K, uint64_t seed) {
    uint64_t n = data.sequences();
    Permutation shuffled(n, mix64(seed, 0x5eed));
    std::vector<uint64_t> size(K, 0), rank(K, 0);
    for (uint64_t q = 0; q < n; q++) size[data.label(q)]++;
    std::vector<std::pair<double, uint32_t>> keys;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t q = shuffled(i);
        int k = data.label(q);
        keys.push_back({((double)rank[k]++ + 0.5) / (double)size[k], data.which[q]});
    }
    std::stable_sort(keys.begin(), keys.end(), [](auto& a, auto& b) { return a.first < b.first; });
    std::vector<uint32_t> order;
    for (auto& [key, s] : keys) order.push_back(s);
    return order;
}

// ---------------------------------------------------------------- prediction
// Collects sequences, runs the model over full batches and calls on(probabilities (K)) for each sequence, in order.
struct Predictor {
    Classifier& model;
    BatchBuilder& builder;
    char *host, *block;  // a batch in host and device memory
    std::function<void(const double*)> on;
    std::vector<real> logits;  // (M, Kp)

    void add(const std::vector<int>& tokens, const std::vector<int>& types) {
        if (!builder.fits(tokens.size(), 1)) flush();
        builder.add(tokens, types, {0}, {0});
    }
    void flush() {
        int M = (int)builder.rows.size(), K = model.K, Kp = model.Kp();
        if (M == 0) return;
        Batch b = to_device(builder.finish(host, StepCounters{}, 1), model.bert.shape, block, host);
        float dropout = model.bert.dropout;
        model.bert.dropout = 0;
        model.forward(b);
        model.bert.dropout = dropout;
        logits.resize((size_t)M * Kp);
        copy_to_host(logits.data(), model.logits, logits.size() * sizeof(real));
        builder.clear();
        std::vector<double> p(K);
        for (int m = 0; m < M; m++) {
            const real* x = &logits[(size_t)m * Kp];  // (K)
            double top = -INFINITY, sum = 0;
            for (int k = 0; k < K; k++) top = std::max(top, (double)x[k]);
            for (int k = 0; k < K; k++) sum += p[k] = std::exp((double)x[k] - top);
            for (double& v : p) v /= sum;
            if (!std::isfinite(sum))
                throw Error(EXIT_NOT_FINITE,
                            "the model's output is not finite: its parameters are damaged, or training went wrong");
            on(p.data());
        }
    }
};

// What a model made of a set of examples.
struct Results {
    std::vector<std::string> labels;
    Confusion confusion;
    double loss = 0;  // Σ −log p[gold]
    explicit Results(const std::vector<std::string>& labels) : labels(labels), confusion((int)labels.size()) {}

    int add(int gold, const double* p) {  // the prediction
        int best = (int)(std::max_element(p, p + confusion.K) - p);
        confusion.add(gold, best);
        loss -= std::log(std::max(p[gold], 1e-300));
        return best;
    }
    double mean_loss() const { return loss / (double)std::max<int64_t>(1, confusion.total()); }
    std::string line() const {
        auto [lo, hi] = wilson_interval((double)confusion.right(), (double)confusion.total());
        return format("loss %.4f | accuracy %.2f %% (95 %% interval %.2f to %.2f, n = %lld) | macro F1 %.4f | MCC %.4f",
                      mean_loss(), 100 * confusion.accuracy(), 100 * lo, 100 * hi, (long long)confusion.total(),
                      confusion.macro_f1(), confusion.mcc());
    }
    // precision, recall and F1 of each class, and what it was taken for
    std::string table() const {
        int K = confusion.K;
        bool matrix = K <= 10;
        size_t width = 5;
        for (const std::string& l : labels) width = std::max(width, std::min<size_t>(l.size(), 24));
        std::string s = format("  %-*s  precision  recall      F1       n", (int)width, "class");
        if (matrix) s += "   taken for:";
        for (int k = 0; matrix && k < K; k++)
            s += format(" %*.24s", (int)std::max<size_t>(6, std::min<size_t>(labels[k].size(), 24)), labels[k].c_str());
        for (int k = 0; k < K; k++) {
            s += format("\n  %-*.24s     %.4f  %.4f  %.4f  %6lld", (int)width, labels[k].c_str(),
                        confusion.precision(k), confusion.recall(k), confusion.f1(k), (long long)confusion.gold(k));
            if (matrix) s += "             ";
            for (int j = 0; matrix && j < K; j++)
                s += format(" %*lld", (int)std::max<size_t>(6, std::min<size_t>(labels[j].size(), 24)),
                            (long long)confusion.at(k, j));
        }
        if (!matrix) {
            std::vector<std::pair<int64_t, int>> wrong;
            for (int i = 0; i < (int)confusion.count.size(); i++)
                if (i / K != i % K && confusion.count[i] > 0) wrong.push_back({-confusion.count[i], i});
            std::sort(wrong.begin(), wrong.end());
            for (size_t i = 0; i < wrong.size() && i < 10; i++)
                s += format("\n  %s taken for %s: %lld times", labels[wrong[i].second / K].c_str(),
                            labels[wrong[i].second % K].c_str(), (long long)-wrong[i].first);
        }
        return s;
    }
    Json json() const {
        auto [lo, hi] = wilson_interval((double)confusion.right(), (double)confusion.total());
        Json classes = Json::make_object(), matrix = Json::make_array(), interval = Json::make_array();
        interval.a = {lo, hi};
        for (int k = 0; k < confusion.K; k++) {
            Json row = Json::make_array();
            for (int j = 0; j < confusion.K; j++) row.a.push_back(confusion.at(k, j));
            matrix.a.push_back(row);
            classes.set(labels[k], Json::make_object()
                                       .set("precision", confusion.precision(k))
                                       .set("recall", confusion.recall(k))
                                       .set("f1", confusion.f1(k))
                                       .set("n", confusion.gold(k)));
        }
        return Json::make_object()
            .set("n", confusion.total())
            .set("loss", mean_loss())
            .set("accuracy", confusion.accuracy())
            .set("interval", interval)
            .set("macro_f1", confusion.macro_f1())
            .set("mcc", confusion.mcc())
            .set("classes", classes)
            .set("confusion", matrix);
    }
};

// OUT/predictions.tsv: text, [text2], gold, prediction, a probability for each class, set, row (which example of the
// set, from 1); OUT/errors.tsv: the mistakes, the most confident first.
struct PredictionFiles {
    std::vector<std::string> labels;
    struct Row {
        std::string shown, rest;
        double confidence;
        bool wrong;
    };
    std::vector<Row> rows;

    static std::string clean(std::string s) {
        for (char& c : s)
            if ((unsigned char)c < 32) c = ' ';
        return s;
    }
    // shown: the text, of a pair both with a tab between them
    void add(std::string_view shown, int gold, int prediction, const double* p, const std::string& set, size_t number) {
        std::string rest = "\t" + clean(labels[gold]) + "\t" + clean(labels[prediction]);
        for (size_t k = 0; k < labels.size(); k++) rest += format("\t%.6f", p[k]);
        rows.push_back(
            {std::string(shown), rest + "\t" + set + format("\t%zu\n", number), p[prediction], gold != prediction});
    }
    void write(const std::string& out) {
        bool pairs = std::any_of(rows.begin(), rows.end(),
                                 [](const Row& r) { return r.shown.find('\t') != r.shown.npos; });
        std::string columns = pairs ? "text\ttext2\tgold\tprediction" : "text\tgold\tprediction";
        for (const std::string& l : labels) columns += "\tp(" + clean(l) + ")";
        columns += "\tset\trow\n";
        auto line = [&](const Row& r) {
            return r.shown + (pairs && r.shown.find('\t') == r.shown.npos ? "\t" : "") + r.rest;
        };
        std::string text = columns;
        for (const Row& r : rows) text += line(r);
        write_file_atomic(out + "/predictions.tsv", text);
        std::stable_sort(rows.begin(), rows.end(),
                         [](const Row& a, const Row& b) { return a.confidence > b.confidence; });
        text = columns;
        for (const Row& r : rows)
            if (r.wrong) text += line(r);
        write_file_atomic(out + "/errors.tsv", text);
    }
};

// ---------------------------------------------------------------- the labels of a model directory
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
                fail("%s: id2label: expected a name for each of 0 to %zu, found %s", path.c_str(), labels.size() - 1,
                     dump_json(*names).c_str());
            labels[k] = name.s;
        }
        if (labels.size() == 1)
            fail("%s: id2label: expected at least two labels, found one: regression is not supported", path.c_str());
        for (size_t k = 0; k < labels.size(); k++)
            for (size_t j = 0; j < k; j++)
                if (labels[j] == labels[k])
                    fail("%s: id2label: \"%s\" stands for %zu and for %zu: expected names that differ", path.c_str(),
                         labels[k].c_str(), j, k);
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
    WordPiece words;
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
        check_bert_config(c, dir);
        labels = read_labels(dir);
        if (labels.empty())
            fail(
                "%s: expected a classifier, found an encoder without labels: fine-tune it first: ./finetune_cls --init "
                "%s --data DIR --out DIR",
                dir.c_str(), path.c_str());
        model.K = (int)labels.size();
        words = WordPiece::load(dir);
        check_vocabulary(dir, words.tokens.size(), c.V);
        T = (size_t)c.T;
        if (exists(dir + "/tokenizer_config.json")) {
            const Json tokenizer = parse_json(read_file(dir + "/tokenizer_config.json"),
                                              dir + "/tokenizer_config.json");
            const Json* most = tokenizer.find("model_max_length");
            if (most && most->kind == Json::integer && most->i >= 5) T = std::min(T, (size_t)most->i);
        }
        BatchShape& shape = model.bert.shape;
        shape.N = (int)round_up(std::max<size_t>(4096, T), 128);
        shape.M = shape.N / 4;
        builder.set_up(shape, words.pad(), (int)T, 128);
        memory = load_parameters(
            dir, [&](real* base) { return model.point(base, nullptr); },
            [&](Arena& arena) {
                model.plan_activations(arena, false);
                arena.take(block, shape.bytes());
            });
        host.resize(shape.bytes());
    }
    void refuse_pair(const std::string& where) const {
        if (model.bert.config.types < 2)
            fail("%s: expected one text, found a pair: %s/config.json says type_vocab_size 1", where.c_str(),
                 dir.c_str());
    }
};

// ---------------------------------------------------------------- the task
struct ClassifyFlags {
    bool from_scratch = false;
    int64_t batch = 32, max_len = 128, freeze = -1, examples = 0, seeds = 1;
    double dev_split = 0.1, layer_decay = 1;
    std::string class_weights = "none", best_by = "accuracy";
    // eval, predict
    std::string model, data, out;
    LabelledColumns columns;
    bool json = false;
};

struct ClassifyTask {
    Classifier model;
    Optimizer opt;
    BatchShape shape;
    BatchBuilder builder;
    TrainFlags& f;
    const ClassifyFlags& cf;
    const WordPiece& words;
    const std::vector<std::string>& labels;
    ClassifyData train_data, dev_data;
    std::vector<double> weights;  // (K)
    std::vector<char> host;       // validation batches
    char* block = nullptr;
    double* class_weights = nullptr;

    ClassifyTask(TrainFlags& f, const ClassifyFlags& cf, const BinFile& train, const WordPiece& words,
                 const BertConfig& config)
        : f(f),
          cf(cf),
          words(words),
          labels(train.labels),
          train_data(train, words, cf.max_len, labels),
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
                "--dev-split %g: expected a share of the %zu examples that leaves some on both sides; 0: take the last "
                "epoch's model",
                cf.dev_split, order.size());
        dev_data.which.assign(order.begin(), order.begin() + n_dev);
        train_data.which.assign(order.begin() + n_dev, order.end());
        weights = class_weight_list(K);
        for (double w : weights)
            if (w != 1) builder.weights = weights.data();

        shape = shape_for(cf.batch, cf.max_len);
        builder.set_up(shape, words.pad(), (int)cf.max_len, 128);
        model.bert.config = config;
        model.bert.shape = shape;
        model.bert.dropout = (float)f.dropout;
        model.bert.frozen = (int)cf.freeze;
        model.bert.recompute = f.recompute;
        model.K = K;
        opt.table = model.point(nullptr, nullptr);
        opt.n = total_count(opt.table);
    }
    // rows: those of a batch, and more for validation, where short sequences fill the tokens
    static BatchShape shape_for(int64_t batch, int64_t T) {
        BatchShape s;
        s.N = (int)round_up(batch * T, 128);
        s.M = (int)round_up(std::max<int64_t>(batch, std::min<int64_t>(1024, s.N / 4)), 128);
        return s;
    }
    std::vector<double> class_weight_list(int K) const {
        std::vector<double> w(K, 1.0), n(K, 0.0);
        if (cf.class_weights == "none") return w;
        for (uint64_t q = 0; q < train_data.sequences(); q++) n[train_data.label(q)]++;
        if (cf.class_weights == "balanced") {  // n / (K n_k): every class weighs the same in the whole
            for (int k = 0; k < K; k++) {
                if (n[k] == 0)
                    fail("--class-weights balanced: there is no training example of \"%s\": take more --examples",
                         labels[k].c_str());
                w[k] = (double)train_data.sequences() / (K * n[k]);
            }
            return w;
        }
        const char* p = cf.class_weights.c_str();
        for (int k = 0; k < K; k++) {
            char* end;
            w[k] = strtod(p, &end);
            if (end == p || !(w[k] > 0) || !std::isfinite(w[k]) || *end != (k + 1 < K ? ',' : '\0'))
                fail_usage(
                    "--class-weights: expected none, balanced or %d positive numbers with commas between, in the order "
                    "%s, found \"%s\"",
                    K, name_list(labels, 100).c_str(), cf.class_weights.c_str());
            p = end + 1;
        }
        return w;
    }
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

    // What train() asks for
    int fill(BatchBuilder& b, Cursor& cursor) {
        return fill_batch(b, train_data, cursor, (uint64_t)f.seed, true, cursor.next + (uint64_t)cf.batch);
    }
    void forward_backward(const Batch& b, StepStats* stats) { model.forward_backward(b, stats); }
    void set_dropout(double p) { model.bert.dropout = (float)p; }
    double flops(double tokens, double targets, double mean_length) const {
        return model.flops(tokens, targets, mean_length);
    }
    // Layer-wise decay: 1 for the head, then each layer downwards `layer_decay` times the one above, the embeddings
    // last.
    float lr_factor(const ParamSpec& s) const {
        return s.layer < cf.freeze ? 0.0f : (float)pow(cf.layer_decay, (double)(model.bert.config.L - s.layer));
    }

    // Runs the model over a set; `each` is called with (q, gold, prediction, probabilities).
    template <class F>
    Results run(ClassifyData& data, F each) {
        Results results(labels);
        uint64_t q = 0;
        builder.clear();
        Predictor predictor{model,
                            builder,
                            host.data(),
                            block,
                            [&](const double* p) {
                                int gold = data.label(q), best = results.add(gold, p);
                                each(q++, gold, best, p);
                            },
                            {}};
        for (uint64_t i = 0; i < data.sequences(); i++) {
            data.make(0, i);
            predictor.add(data.tokens, data.types);
        }
        predictor.flush();
        return results;
    }
    Eval evaluate() {
        Eval e;
        e.targets = dev_data.sequences();
        if (e.targets == 0) return e;
        Results r = run(dev_data, [](uint64_t, int, int, const double*) {});
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
            id2label.set(std::to_string(k), labels[k]);
            label2id.set(labels[k], (int64_t)k);
        }
        extra.set("id2label", id2label).set("label2id", label2id).set("problem_type", "single_label_classification");
        write_bert_config(dir, model.bert.config, "BertForSequenceClassification", extra);
        words.save(dir, (int)cf.max_len);
        opt.save(dir);
    }
    Json identity() const {
        Json names = Json::make_array();
        for (const std::string& l : labels) names.a.push_back(l);
        return model_identity(model.bert.config)
            .set("labels", names)
            .set("tokenizer", hex(words.fingerprint()))
            .set("train_data", hex(train_data.file.header.content));
    }
};

// ---------------------------------------------------------------- train
// What a run, or all of --seeds runs, start from.
struct Run {
    TrainFlags f;
    ClassifyFlags cf;
    std::string init;
    const BinFile& train_file;
    std::vector<std::pair<std::string, const BinFile*>> sets;  // to report: val, test
    const WordPiece& words;
    BertConfig config;
    std::vector<std::string> new_tensors;  // those that are not taken from init
};

// Leaves behind, beside what train() does: OUT/results.json, predictions.tsv, errors.tsv.
int train_once(Run& run, Cli& cli, Arena arena) {
    TrainFlags& f = run.f;
    ClassifyTask task(f, run.cf, run.train_file, run.words, run.config);
    task.allocate(arena);
    if (!f.resume) {
        std::vector<areal> values = initial_values(task.opt.table, task.opt.n, (uint64_t)f.seed);
        if (!run.cf.from_scratch) {
            load_tensors(run.init, task.opt.table, values.data(), run.new_tensors)
                .announce(run.init, {"bert.pooler.", "classifier."});
            refuse_not_finite(task.opt.table, values, run.init);
        }
        task.opt.upload(values);
    }
    // the loss of guessing every class as often as it occurs, on the examples that choose the epoch
    Results guess(task.labels);
    std::vector<double> share(task.model.K, 1.0 / (double)(task.train_data.sequences() + task.model.K));
    for (uint64_t q = 0; q < task.train_data.sequences(); q++)
        share[task.train_data.label(q)] += 1.0 / (double)(task.train_data.sequences() + task.model.K);
    for (uint64_t q = 0; q < task.dev_data.sequences(); q++) guess.add(task.dev_data.label(q), share.data());
    printf("%s examples for training, %s; %lld steps of %lld x %lld: %.2f epochs\n",
           thousands((double)task.train_data.sequences()).c_str(),
           guess.confusion.total()
               ? format("%lld others of train.bin choose the epoch (always the most frequent class: %.2f %%)",
                        (long long)guess.confusion.total(), 100 * guess.confusion.accuracy())
                     .c_str()
               : "none choose the epoch: the last model is taken",
           (long long)f.steps, (long long)f.accum, (long long)run.cf.batch,
           (double)f.steps * (double)(f.accum * run.cf.batch) / (double)task.train_data.sequences());
    std::vector<int64_t> count(task.model.K, 0);
    for (uint64_t q = 0; q < task.train_data.sequences(); q++) count[task.train_data.label(q)]++;
    std::vector<std::string> shares;
    for (int k = 0; k < task.model.K; k++) {
        shares.push_back(format("%s %s", task.labels[k].c_str(), thousands((double)count[k]).c_str()));
        if (count[k] == 0) printf("warning: there is no training example of \"%s\"\n", task.labels[k].c_str());
    }
    printf("training examples: %s\n", name_list(shares, 20).c_str());
    for (auto* data : {&task.train_data, &task.dev_data})
        if (size_t cut = data->count_cut())
            printf("%zu of %llu %s examples are longer than --max-len %lld and were cut\n", cut,
                   (unsigned long long)data->sequences(), data == &task.dev_data ? "dev" : "training",
                   (long long)run.cf.max_len);
    if (int code = train(task, cli, f, guess.confusion.total() ? guess.mean_loss() : NAN); code != EXIT_OK) return code;

    // the sets that are reported: by the best model, once
    std::string dir = resolve_model_dir(f.out);
    task.opt.load(dir);
    Json results = Json::make_object()
                       .set("model", dir)
                       .set("seed", f.seed)
                       .set("training_examples", (int64_t)task.train_data.sequences());
    std::vector<ClassifyData> data;
    for (auto& set : run.sets) data.emplace_back(*set.second, run.words, (size_t)run.cf.max_len, task.labels);
    PredictionFiles files{task.labels, {}};
    for (size_t i = 0; i < run.sets.size(); i++) {
        const std::string& name = run.sets[i].first;
        Results r = task.run(data[i], [&](uint64_t q, int gold, int prediction, const double* p) {
            files.add(data[i].file.text(q), gold, prediction, p, name, q + 1);
        });
        printf("\n%s: %s\n%s\n", name.c_str(), r.line().c_str(), r.table().c_str());
        if (size_t cut = data[i].count_cut())
            printf("  %zu of them are longer than --max-len %lld and were cut\n", cut, (long long)run.cf.max_len);
        results.set(name, r.json());
    }
    if (run.sets.empty()) {  // what chose the epoch: a little too kind a figure
        printf("\nno val.bin or test.bin in %s: nothing to report on but the examples that chose the epoch\n",
               f.data.c_str());
        if (task.dev_data.sequences())
            results.set("dev", task.run(task.dev_data, [](uint64_t, int, int, const double*) {}).json());
    } else {
        files.write(f.out);
        printf("%s/predictions.tsv, errors.tsv (the most confident mistakes first), results.json\n",
               without_slash(f.out).c_str());
    }
    write_file_atomic(f.out + "/results.json", dump_json(results, 2) + "\n");
    return EXIT_OK;
}

int finetune(Cli& cli, TrainFlags& f, ClassifyFlags& cf) {
    prepare_flags(cli, f, {"train.bin"}, {"data/sst2.py", "data/classify.py"});
    if (f.init.empty())
        fail_usage(
            "--init DIR is missing: the pretrained encoder, a run of train_bert or a Hugging Face directory "
            "(data/pretrained.py)");
    if (!f.resume && (exists(f.out + "/results.json") || exists(f.out + format("/seed-%lld", (long long)f.seed))))
        fail_usage("--out %s: a run is there already; go on with --resume or take another directory", f.out.c_str());
    open_run_dir(f);
    BinFile train_file(f.data + "/train.bin", BIN_CLASSIFY);
    std::vector<std::unique_ptr<BinFile>> files;
    std::string init = resolve_model_dir(
        f.resume && exists(f.out + "/last") ? f.out + "/last" : f.init);  // last/ has all that a resumed run needs
    WordPiece words = WordPiece::load(init);
    Run run{f, cf, init, train_file, {}, words, read_bert_config(init), {}};
    for (const char* name : {"val", "test"})
        if (exists(f.data + "/" + name + ".bin")) {
            files.push_back(std::make_unique<BinFile>(f.data + "/" + name + ".bin", BIN_CLASSIFY));
            run.sets.push_back({name, files.back().get()});
        }
    BertConfig& c = run.config;
    check_bert_config(c, init);
    auto check_file = [&](const BinFile& file) {
        if (file.fingerprint() != words.fingerprint() || file.vocab() != words.tokens.size())
            fail("%s: it was packed with another tokenizer than that of %s: make the data anew with --tokenizer %s",
                 file.path.c_str(), init.c_str(), f.init.c_str());
        bool pairs = false;
        for (size_t s = 0; s < file.sequences() && !pairs; s++) pairs = file.pair(s);
        if (pairs && c.types < 2)
            fail("%s: it holds pairs, and %s/config.json says type_vocab_size %lld: expected at least 2",
                 file.path.c_str(), init.c_str(), (long long)c.types);
    };
    check_file(train_file);
    for (auto& file : files) check_file(*file);
    check_vocabulary(init, words.tokens.size(), c.V);
    if (cli.given("max-len") && cf.max_len > c.T)
        fail_usage("--max-len: %s has %lld positions, found %lld", init.c_str(), (long long)c.T, (long long)cf.max_len);
    run.cf.max_len = std::min(cf.max_len, c.T);
    for (auto& file : files)
        ClassifyData(*file, words, (size_t)run.cf.max_len,
                     train_file.labels);  // checks its labels now, not behind the training
    if (cf.freeze > c.L)
        fail_usage("--freeze: %s has %lld layers, found %lld", init.c_str(), (long long)c.L, (long long)cf.freeze);
    if (cf.freeze >= 0 && cf.from_scratch)
        fail_usage("--freeze with --from-scratch: what is frozen would never learn anything");
    if (read_labels(init) != train_file.labels) run.new_tensors = {"classifier.weight", "classifier.bias"};
    if (f.lr == 0) run.f.lr = c.C <= 256 ? 3e-4 : c.C <= 512 ? 1e-4 : c.C <= 768 ? 2e-5 : 1e-5;
    c.dropout = c.attention_dropout = f.dropout;

    ClassifyTask measured(run.f, run.cf, train_file, words, c);
    int64_t per_step = cf.batch * f.accum, examples = (int64_t)measured.train_data.sequences();
    if (f.epochs > 0)
        run.f.steps = f.steps = std::max<int64_t>(1, llround(f.epochs * (double)examples / (double)per_step));
    if (run.f.steps == 0 && !cli.given("steps")) fail_usage("--epochs 0: expected more than 0, or --steps");
    if (f.patience > 0 && cf.dev_split == 0)
        fail_usage("--patience: expected a --dev-split above 0 with it: nothing else says which model is better");
    if (run.f.eval_every == 0)
        run.f.eval_every = std::max<int64_t>(1, (int64_t)ceil((double)examples / (double)per_step));  // an epoch

    print_machine("finetune_cls");
    print_parameter_table(measured.opt.table);
    void* memory = allocate_run(measured, "--batch", 1, 1 << 16, [&](Arena& arena, int64_t batch) {
        Classifier planned;
        planned.bert.config = c;
        planned.bert.recompute = run.f.recompute;
        planned.K = measured.model.K;
        planned.bert.shape = ClassifyTask::shape_for(batch, run.cf.max_len);
        planned.plan_activations(arena, true);
        return planned.bert.shape;
    });

    printf("data: %s examples in train.bin of %zu classes: %s\n", thousands((double)train_file.sequences()).c_str(),
           train_file.labels.size(), name_list(train_file.labels, 20).c_str());
    if (cf.seeds == 1) return train_once(run, cli, Arena(memory));

    // the same with several seeds: OUT/seed-1, OUT/seed-2, ... and their mean
    std::string out = f.out;
    int64_t seeds = cf.seeds, first = f.seed;
    write_file_atomic(out + "/config.json",
                      dump_json(Json::make_object().set("program", cli.program).set("flags", cli.to_json()), 2) + "\n");
    Json all = Json::make_object();
    std::vector<std::string> dirs;
    cf.seeds = 1;  // these flags go into config.json: each of them is a run of its own
    for (int64_t k = 0; k < seeds; k++) {
        f.seed = first + k;
        f.out = out + format("/seed-%lld", (long long)f.seed);
        Run one = run;
        one.f.seed = f.seed;
        one.f.out = f.out;
        dirs.push_back(f.out);
        printf("\n---- seed %lld (%lld of %lld)\n", (long long)f.seed, (long long)k + 1, (long long)seeds);
        one.f.resume = f.resume && exists(one.f.out + "/last");
        if (!one.f.resume) open_run_dir(one.f);
        Arena all_of_it;
        measured.plan(all_of_it);
        device_zero(memory, all_of_it.used);  // as device_alloc() gives it: AdamW's m and v are zero when a run begins
        if (int code = train_once(one, cli, Arena(memory)); code != EXIT_OK) {
            if (code == EXIT_INTERRUPTED)
                printf("all of the %lld seeds: --resume --out %s\n", (long long)seeds, out.c_str());
            return code;
        }
    }
    printf("\n%lld seeds: mean +- standard deviation\n", (long long)seeds);
    std::vector<std::string> set_names;
    for (auto& set : run.sets) set_names.push_back(set.first);
    if (set_names.empty() && measured.dev_data.sequences()) set_names = {"dev"};
    for (const std::string& name : set_names) {
        Json set = Json::make_object();
        std::string line;
        for (const char* key : {"accuracy", "macro_f1", "mcc"}) {
            std::vector<double> values;
            Json list = Json::make_array();
            for (const std::string& dir : dirs) {
                std::string path = dir + "/results.json";
                Json results = parse_json(read_file(path), path);
                const Json* part = results.find(name);
                const Json* value = part ? part->find(key) : nullptr;
                if (!value)
                    fail("%s: expected %s of %s, found none: remove the directory and run again", path.c_str(), key,
                         name.c_str());
                values.push_back(value->d);
                list.a.push_back(value->d);
            }
            auto [mean, sd] = mean_and_sd(values);
            bool percent = !strcmp(key, "accuracy");
            line += format(percent ? " | %s %.2f +- %.2f %%" : " | %s %.4f +- %.4f", key, percent ? 100 * mean : mean,
                           percent ? 100 * sd : sd);
            set.set(key, Json::make_object().set("mean", mean).set("sd", sd).set("runs", list));
        }
        printf("%s%s\n", name.c_str(), line.c_str());
        all.set(name, set);
    }
    write_file_atomic(out + "/results.json", dump_json(all, 2) + "\n");
    printf("%s/results.json; models: %s ...\n", out.c_str(), dirs[0].c_str());
    return EXIT_OK;
}

// ---------------------------------------------------------------- eval
int evaluate_file(const ClassifyFlags& cf) {
    if (cf.data.empty()) fail_usage("--data FILE is missing: a .bin, .tsv, .csv or .jsonl with labels");
    if (is_directory(cf.data))
        fail_usage("--data %s: expected a file, .bin, .tsv, .csv or .jsonl, found a directory", cf.data.c_str());
    if (!cf.out.empty() && (exists(cf.out + "/metrics.jsonl") || is_model_directory(cf.out)))
        fail_usage(
            "--out %s: a run or a model is there already, whose files this would overwrite: take another directory",
            cf.out.c_str());
    if (!cf.out.empty()) refuse_existing("--out", cf.out, {"predictions.tsv", "errors.tsv"});
    LoadedClassifier c(cf.model);
    size_t T = c.T, cut = 0;
    std::string name = cf.data.substr(cf.data.rfind('/') + 1);
    name = name.substr(0, name.rfind('.'));
    if (!cf.out.empty()) make_directories(cf.out);
    struct Row {
        std::string text;
        int gold;
        size_t number;
    };
    std::deque<Row> waiting;  // for their probabilities
    Results results(c.labels);
    PredictionFiles files{c.labels, {}};
    Predictor predictor{c.model,
                        c.builder,
                        c.host.data(),
                        c.block,
                        [&](const double* p) {
                            const Row& row = waiting.front();
                            int prediction = results.add(row.gold, p);
                            if (!cf.out.empty()) files.add(row.text, row.gold, prediction, p, name, row.number);
                            waiting.pop_front();
                        },
                        {}};
    auto add = [&](const std::vector<int>& tokens, const std::vector<int>& types, Row row) {
        waiting.push_back(std::move(row));
        predictor.add(tokens, types);
    };
    std::vector<int> tokens, types;
    if (cf.data.size() > 4 && cf.data.substr(cf.data.size() - 4) == ".bin") {
        BinFile file(cf.data, BIN_CLASSIFY);
        if (file.fingerprint() != c.words.fingerprint() || file.vocab() != c.words.tokens.size())
            fail(
                "%s: it was packed with another tokenizer than that of %s: pack it anew, or give the .tsv, .csv or "
                ".jsonl itself",
                cf.data.c_str(), c.dir.c_str());
        ClassifyData data(file, c.words, T, c.labels);
        for (uint64_t q = 0; q < data.sequences(); q++) {
            if (file.pair(q)) c.refuse_pair(format("%s, example %zu", cf.data.c_str(), (size_t)q + 1));
            cut += data.make(0, q);
            add(data.tokens, data.types, {std::string(file.text(q)), data.label(q), (size_t)q + 1});
        }
    } else {
        LabelledFile file(cf.data, cf.columns, true);
        LabelledRow row;
        std::vector<int> a, b;
        size_t number = 0;
        while (file.next(row)) {
            size_t gold = std::find(c.labels.begin(), c.labels.end(), row.label) - c.labels.begin();
            if (gold == c.labels.size())
                fail("%s, line %zu: expected a label of the model (%s), found \"%s\"", cf.data.c_str(), row.line,
                     name_list(c.labels).c_str(), row.label.c_str());
            a.clear();
            b.clear();
            c.words.encode(row.text, a);
            c.words.encode(row.text2, b);
            if (a.empty() || (row.pair && b.empty()))
                fail("%s, line %zu: expected a text in \"%s\", found only characters that give no token",
                     cf.data.c_str(), row.line, (a.empty() ? cf.columns.text : cf.columns.text2).c_str());
            if (row.pair) c.refuse_pair(format("%s, line %zu", cf.data.c_str(), row.line));
            cut += join_segments(tokens, types, a.data(), a.size(), b.data(), b.size(), c.words, T);
            std::string shown;
            append_shown(shown, row);
            add(tokens, types, {shown, (int)gold, ++number});
        }
    }
    predictor.flush();
    if (results.confusion.total() == 0) fail("%s: expected rows with a text and a label, found none", cf.data.c_str());
    if (cf.json)
        printf("%s\n", dump_json(results.json()).c_str());
    else
        printf("%s: %s\n%s\n", name.c_str(), results.line().c_str(), results.table().c_str());
    if (cut) fprintf(stderr, "warning: %zu of them have more than %zu tokens and were cut\n", cut, T);
    if (!cf.out.empty()) {
        files.write(cf.out);
        if (!cf.json)
            printf("%s/predictions.tsv, errors.tsv (the most confident mistakes first)\n",
                   without_slash(cf.out).c_str());
    }
    flush_output();
    return EXIT_OK;
}

// ---------------------------------------------------------------- predict
// Texts as arguments, or one on each line of standard input; a tab separates the two texts of a pair.
int predict(const ClassifyFlags& cf, const std::vector<std::string>& texts) {
    LoadedClassifier c(cf.model);
    size_t T = c.T, cut = 0, line = 0;
    bool terminal = isatty(0);
    std::deque<std::string> waiting;
    Predictor predictor{
        c.model,
        c.builder,
        c.host.data(),
        c.block,
        [&](const double* p) {
            std::string text = std::move(waiting.front());
            waiting.pop_front();
            int best = (int)(std::max_element(p, p + c.model.K) - p);
            std::string out;
            if (cf.json) {
                Json shares = Json::make_object();
                for (int k = 0; k < c.model.K; k++) shares.set(c.labels[k], p[k]);
                out = dump_json(
                    Json::make_object().set("text", text).set("label", c.labels[best]).set("probabilities", shares));
            } else {
                out = c.labels[best];
                for (int k = 0; k < c.model.K; k++)
                    out += format("%s%s %.4f", k ? "  " : "\t", c.labels[k].c_str(), p[k]);
                size_t tab = text.find('\t');
                append_cell(out += '\t', std::string_view(text).substr(0, tab));
                if (tab != text.npos) append_cell(out += '\t', std::string_view(text).substr(tab + 1));
            }
            out += '\n';
            if (fwrite(out.data(), 1, out.size(), stdout) != out.size())
                fail("cannot write standard output: %s", strerror(errno));
        },
        {}};
    std::vector<int> tokens, types, a, b;
    auto add = [&](const std::string& text, const std::string& where) {
        size_t tab = text.find('\t'), nul = text.find('\0');
        a.clear();
        b.clear();
        size_t invalid = c.words.encode(std::string_view(text).substr(0, tab), a);
        if (tab != text.npos) invalid += c.words.encode(std::string_view(text).substr(tab + 1), b);
        if (invalid || a.empty() || nul != text.npos) {  // what came before is answered first
            predictor.flush();
            fflush(stdout);
            if (nul != text.npos) fail("%s: expected a text, found a NUL byte", where.c_str());
            if (invalid) fail("%s: expected UTF-8, found %zu bytes that are not", where.c_str(), invalid);
            fail("%s: expected a text, found nothing", where.c_str());
        }
        if (!b.empty()) c.refuse_pair(where);
        cut += join_segments(tokens, types, a.data(), a.size(), b.data(), b.size(), c.words, T);
        waiting.push_back(text);
        predictor.add(tokens, types);
    };
    for (size_t i = 0; i < texts.size(); i++) add(texts[i], format("text %zu", i + 1));
    if (texts.empty()) {
        if (terminal) fprintf(stderr, "a text on each line, Ctrl-D ends\n");
        char* buffer = nullptr;
        size_t capacity = 0;
        for (ssize_t n; (n = getline(&buffer, &capacity, stdin)) >= 0;) {
            while (n > 0 && (buffer[n - 1] == '\n' || buffer[n - 1] == '\r')) n--;
            add(std::string(buffer, n), format("standard input, line %zu", ++line));
            if (terminal) {
                predictor.flush();
                fflush(stdout);
            }
        }
        free(buffer);
        if (ferror(stdin)) fail("cannot read standard input: %s", strerror(errno));
    }
    predictor.flush();
    flush_output();
    if (cut) fprintf(stderr, "warning: %zu texts have more than %zu tokens and were cut\n", cut, T);
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
        std::vector<FlagGroup> groups = f.groups();
        without(groups, {"batch-tokens", "eval-tokens"});
        describe(
            groups, "data",
            "train.bin, and val.bin and test.bin to report on, made with --tokenizer of --init (data/classify.py)");
        describe(groups, "out",
                 "run directory: best/, last/, metrics.jsonl, config.json, results.json; with a val.bin or test.bin "
                 "predictions.tsv, errors.tsv");
        describe(groups, "seed",
                 "of new layers, order and dropout, and of the choice of --examples and of the dev split");
        describe(groups, "dropout",
                 "of embeddings, attention, both branches of every layer and what the classifier sees");
        describe(groups, "init", "the pretrained encoder: a run of train_bert or a Hugging Face directory");
        describe(groups, "lr",
                 "peak learning rate; 0: by the width, 3e-4 up to 256, 1e-4 up to 512, 2e-5 up to 768, 1e-5");
        describe(
            groups, "eval-every",
            "steps from one validation to the next, each writes last/ and, if it is the best, best/; 0: once an epoch");
        groups.insert(
            groups.begin() + 1,
            {"Task",
             "train",
             {{"batch", &cf.batch, between(1, 1 << 16), "examples of a micro-batch"},
              {"max-len", &cf.max_len, between(5, 1 << 16), "tokens of an example; what is longer is cut"},
              {"examples", &cf.examples, at_least(0),
               "use only so many examples of train.bin, drawn with --seed; 0: all"},
              {"dev-split", &cf.dev_split, up_to(0, 1),
               "share of them that chooses the best epoch (where texts repeat or overlap its figures are too high); 0: "
               "the last epoch's model"},
              {"best-by", &cf.best_by, "accuracy|macro-f1|mcc|loss", "what makes one epoch better than another"},
              {"seeds", &cf.seeds, between(1, 1000),
               "train so many times, with --seed and the numbers behind it; report mean and deviation"},
              {"from-scratch", &cf.from_scratch,
               "the model of --init, but with random parameters: what pretraining is worth"},
              {"freeze", &cf.freeze, between(-1, MAX_LAYERS),
               "embeddings and so many first layers stay as they are; -1: nothing does"},
              {"layer-decay", &cf.layer_decay, between(0.01, 1),
               "the learning rate of each layer is so much that of the one above"},
              {"class-weights", &cf.class_weights, "WEIGHTS", "none, balanced, or a number for each class: 1,2.5"},
              {"patience", &f.patience, at_least(0),
               "stop after so many validations without a better model; 0: never"}}});
        groups.push_back({"Asking",
                          "eval predict",
                          {{"model", &cf.model, "DIR", "the --out of a fine-tuning run, or a model directory"},
                           {"json", &cf.json, "JSON instead of text"}}});
        groups.push_back({"Evaluation",
                          "eval",
                          {{"data", &cf.data, "FILE", ".bin, .tsv, .csv or .jsonl"},
                           {"out", &cf.out, "DIR", "also write predictions.tsv and errors.tsv there"},
                           {"text-column", &cf.columns.text, "NAME", "column of the text"},
                           {"text2-column", &cf.columns.text2, "NAME", "column of the second text, if there is one"},
                           {"label-column", &cf.columns.label, "NAME", "column of the label"}}});
        Cli cli{"finetune_cls",
                "fine-tuning of a pretrained encoder to a labelled task.",
                "  ./finetune_cls --init runs/bert --data data/sst2 --out runs/sst2\n"
                "  ./finetune_cls eval --model runs/sst2 --data reviews.tsv\n"
                "  ./finetune_cls predict --model runs/sst2 \"a gorgeous, witty film\"\n",
                {{"train", "", "fine-tune on DATA/train.bin, report on val.bin and test.bin"},
                 {"eval", "", "accuracy, F1, MCC and confusion matrix on a file"},
                 {"predict", "[TEXT...]", "the class of each text, or of each line of standard input", 0, CLI_MANY}},
                groups};
        cli.closing = EXIT_CODES_TEXT;
        if (!cli.parse(argc, argv)) return (int)EXIT_OK;
        return cli.command == "eval"      ? evaluate_file(cf)
               : cli.command == "predict" ? predict(cf, cli.positional)
                                          : finetune(cli, f, cf);
    });
}
#endif
#endif  // FINETUNE_CLS_CU
