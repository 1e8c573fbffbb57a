// flags.h: the command-line flags that training programs share.
#pragma once
#include <fcntl.h>
#include <sys/file.h>

#include "common/base/cli.h"
#include "common/train/model_dir.h"

struct TrainFlags {
    std::string data, out, init;
    bool resume = false, retune = false, overfit = false, recompute = false;
    int64_t steps = 1000, batch_tokens = 4096, accum = 1, seed = 1, eval_every = 100, eval_tokens = 65536,
            log_every = 1, patience = 0;
    double epochs = 0, lr = 0, warmup = 0.06, final_lr = 0, decay_share = 0.2, weight_decay = 0.01, beta1 = 0.9,
           beta2 = 0.98, eps = 1e-6, clip = 1, dropout = 0.1;
    std::string schedule = "linear";

    // A program may take some out (without()) and say of others what they mean to it (describe()).
    std::vector<FlagGroup> groups() {
        return {{"Run",
                 "train",
                 {{"data", &data, "DIR", "train.bin, val.bin and the tokenizer, as data/*.py make them"},
                  {"out", &out, "DIR", "run directory: best/, last/, metrics.jsonl, config.json"},
                  {"init", &init, "DIR",
                   "go on from this model directory (ours or Hugging Face's) instead of from scratch"},
                  {"resume", &resume, "go on where the run in --out stopped, bit for bit"},
                  {"retune", &retune,
                   "with --resume on a GPU: time the matrix products anew (after a change of driver, say); the last "
                   "bits may then differ"},
                  {"seed", &seed, at_least(0), "of initialisation, order, masks and dropout"}}},
                {"Training",
                 "train",
                 {{"steps", &steps, at_least(steps ? 1 : 0),
                   steps ? "optimiser steps" : "optimiser steps, instead of --epochs"},
                  {"epochs", &epochs, between(0, 1e6),
                   steps ? "instead of --steps: passes over the data; 0: use --steps" : "passes over the data"},
                  {"batch-tokens", &batch_tokens, between(128, 1 << 22), "tokens of a micro-batch, a multiple of 128"},
                  {"accum", &accum, between(1, 1 << 20), "micro-batches of an optimiser step"},
                  {"lr", &lr, at_least(0),
                   "peak learning rate; 0: by the width, 1e-3 up to 256, 5e-4 up to 512, 2e-4 up to 768, 1e-4"},
                  {"schedule", &schedule, "linear|cosine|constant|wsd",
                   "of the learning rate after the warmup; wsd: constant, then down in the last part"},
                  {"warmup", &warmup, at_least(0), "rising from 0: a number of steps, or below 1 a share of them"},
                  {"final-lr", &final_lr, between(0, 1), "where the schedule ends, as a share of --lr"},
                  {"decay-share", &decay_share, between(0, 1), "wsd: share of the steps in which the rate falls"},
                  {"weight-decay", &weight_decay, at_least(0), "AdamW, on matrices and embeddings"},
                  {"beta1", &beta1, up_to(0, 1), "AdamW"},
                  {"beta2", &beta2, up_to(0, 1), "AdamW"},
                  {"eps", &eps, above(0), "AdamW"},
                  {"clip", &clip, at_least(0), "largest norm of the gradient; 0: no clipping"},
                  {"dropout", &dropout, between(0, 0.999), "of embeddings, attention and both branches of every layer"},
                  {"recompute", &recompute,
                   "compute what LayerNorms and GELU gave again in the backward pass instead of keeping it: less "
                   "memory, a little more time"},
                  {"overfit-one-batch", &overfit,
                   "repeat the first step's batches without dropout: the loss must fall to almost nothing"}}},
                {"Validation",
                 "train",
                 {{"eval-every", &eval_every, at_least(0),
                   "steps from one validation to the next, each writes last/ and, if it is the best, best/; 0: only at "
                   "the end"},
                  {"eval-tokens", &eval_tokens, at_least(0),
                   "tokens of val.bin to validate on, the same ones each time; 0: all"},
                  {"log-every", &log_every, at_least(1), "steps from one line on the console to the next"}}}};
    }
    // Makes --out ready for this process alone, before anything takes time.
    void open_run() const {
        if (!resume && (exists(out + "/metrics.jsonl") || exists(out + "/last") || exists(out + "/best") ||
                        is_model_directory(out)))
            fail_usage("--out %s: a run or a model is there already; go on with --resume or take another directory",
                       out.c_str());
        make_directories(out);
        int lock = open(out.c_str(),
                        O_RDONLY | O_DIRECTORY |
                            O_CLOEXEC);  // a lock on the directory, released when the process ends, however it does
        if (lock < 0) fail("--out %s: expected a directory: %s", out.c_str(), strerror(errno));
        if (flock(lock, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
            fail("--out %s: another process is training there", out.c_str());
    }
};

// The dimensions of a new model: those of a --size of the program, or each given by itself.
struct ModelFlags {
    struct Size {
        const char* name;
        int64_t L, C;
    };
    std::vector<Size> sizes;
    int64_t max_len, layers = 0, width = 0, heads = 0, inner = 0, positions = 0;
    std::string size = "mini";
    double init_std = 0.02;

    FlagGroup group(int most_layers, int least_len, const char* max_len_help, const char* positions_help) {
        std::string names, dimensions;
        for (const Size& s : sizes) {
            names += (names.empty() ? "" : "|") + std::string(s.name);
            dimensions += format("%s%lld/%lld", dimensions.empty() ? "" : ", ", (long long)s.L, (long long)s.C);
        }
        return {
            "Model",
            "train",
            {{"size", &size, names.c_str(), (dimensions + " layers/width").c_str()},
             {"layers", &layers, between(0, most_layers), "0: of the size"},
             {"width", &width, between(0, 1 << 16), "channels, 0: of the size"},
             {"heads", &heads, between(0, 1 << 12), "0: width / 64"},
             {"inner", &inner, between(0, 1 << 18), "width of the feed-forward part; 0: 4 x width"},
             {"max-len", &max_len, between(least_len, 1 << 16), max_len_help},
             {"init-std", &init_std, between(0.001, 1), "standard deviation of the initial matrices and embeddings"},
             {"positions", &positions, between(0, 1 << 16), positions_help}}};
    }
    template <class Config>
    Config config() const {
        Config c;
        for (const Size& s : sizes)
            if (size == s.name) {
                c.L = s.L;
                c.C = s.C;
            }
        if (layers) c.L = layers;
        if (width) c.C = width;
        if (!heads && c.C % 64)
            fail_usage("--width: expected a multiple of 64 (or --heads as well), found %lld", (long long)c.C);
        c.NH = heads ? heads : c.C / 64;
        c.FF = inner ? inner : 4 * c.C;
        c.T = positions ? positions : max_len;
        c.init_std = init_std;
        if (c.C % c.NH)
            fail_usage("--heads: expected a divisor of the width %lld, found %lld", (long long)c.C, (long long)c.NH);
        if (int64_t HS = c.C / c.NH; HS != 32 && HS != 64 && HS != 128)
            fail_usage("--heads: expected heads of 32, 64 or 128 channels, found %lld / %lld = %lld", (long long)c.C,
                       (long long)c.NH, (long long)HS);
        return c;
    }
    static void refuse_with_init(Cli& cli) {
        for (const char* flag : {"size", "layers", "width", "heads", "inner", "positions"})
            if (cli.given(flag)) fail_usage("--%s: with --init the dimensions are those of the model", flag);
    }
    void check_max_len(int64_t T, int64_t batch_tokens) const {
        if (max_len > T)
            fail_usage("--max-len: the model has %lld positions, found %lld", (long long)T, (long long)max_len);
        if (max_len > batch_tokens)
            fail_usage("--batch-tokens: expected at least --max-len %lld, found %lld", (long long)max_len,
                       (long long)batch_tokens);
    }
};

inline const char* EXIT_CODES_TEXT =
    "\nExit codes: 0 done, 1 failed, 2 the command line makes no sense, 3 the loss was not finite, 130 stopped by "
    "Ctrl-C or SIGTERM (the first finishes\n"
    "the step and saves, a second one stops at once). OMP_NUM_THREADS sets the number of CPU threads; it changes no "
    "result.\n";
