// flags.h: flags that several programs take: TrainFlags of a training run, ModelFlags of a new model's dimensions.
#pragma once
#include "common/base/cli.h"

struct TrainFlags {
    std::string data, out, init;
    bool resume = false, retune = false, verbose = false, overfit = false, recompute = false;
    int64_t steps = 1000, batch_tokens = 4096, accum = 1, seed = 1;
    int64_t eval_every = 100, eval_tokens = 65536, log_every = 1, patience = 0;
    double epochs = 0, lr = 0, warmup = 0.06, final_lr_fraction = 0, decay_fraction = 0.2;
    double weight_decay = 0.01, beta1 = 0.9, beta2 = 0.98, eps = 1e-6, clip = 1, dropout = 0.1;
    std::string schedule = "linear";

    // A program may take some out (without()) and say of others what they mean to it (describe()).
    std::vector<FlagGroup> groups() {
        return {
            {"Run", "train",
                {{"data", &data, "DIR", "directory with train.bin, val.bin and the tokenizer, as data/*.py make them"},
                    {"out", &out, "DIR", "run directory to create: best/, last/, metrics.jsonl, config.json"},
                    {"init", &init, "DIR", "start from this model directory, ours or Hugging Face's, not from scratch"},
                    {"resume", &resume, "continue the run in --out where it stopped, bit for bit"},
                    {"retune", &retune,
                        "with --resume on a GPU: time the matrix products again, for instance after a change of "
                        "driver; the last bits may then differ"},
                    {"verbose", &verbose, "list every parameter tensor and every part of the memory at the start"},
                    {"seed", &seed, at_least(0),
                        "seed of initial values, of the choice and order of the data, masks and dropout"}}},
            {"Training", "train",
                {{"steps", &steps, at_least(steps ? 1 : 0),
                     steps ? "number of optimiser steps" : "number of optimiser steps; 0: as many as --epochs say"},
                    {"epochs", &epochs, between(0, 1e6),
                        steps ? "number of passes over the data, instead of --steps; 0: as many as --steps say"
                              : "number of passes over the data"},
                    {"batch-tokens", &batch_tokens, between(128, 1 << 22),
                        "tokens of a micro-batch, a multiple of 128"},
                    {"accum", &accum, between(1, 1 << 20), "number of micro-batches of an optimiser step"},
                    {"lr", &lr, at_least(0),
                        "peak learning rate; 0: chosen by the hidden size: 1e-3 up to 256, 5e-4 up to 512, 2e-4 up to "
                        "768, else 1e-4"},
                    {"schedule", &schedule, "linear|cosine|constant|wsd",
                        "how the learning rate falls after the warmup; wsd: it stays constant, then falls in the last "
                        "part"},
                    {"warmup", &warmup, at_least(0),
                        "steps in which the learning rate rises from 0; below 1: a fraction of all steps"},
                    {"final-lr-fraction|final-lr", &final_lr_fraction, between(0, 1),
                        "learning rate at the end of the schedule, as a fraction of --lr"},
                    {"decay-fraction|decay-share", &decay_fraction, between(0, 1),
                        "fraction of the steps in which the learning rate of --schedule wsd falls"},
                    {"weight-decay", &weight_decay, at_least(0), "weight decay of AdamW, on matrices and embeddings"},
                    {"beta1", &beta1, up_to(0, 1), "beta1 of AdamW"}, {"beta2", &beta2, up_to(0, 1), "beta2 of AdamW"},
                    {"eps", &eps, above(0), "epsilon of AdamW"},
                    {"clip", &clip, at_least(0),
                        "largest norm of the gradient, which is scaled down to it; 0: no clipping"},
                    {"dropout", &dropout, between(0, 0.999),
                        "dropout rate of embeddings, attention, both branches of every layer, and before a classifier"},
                    {"recompute", &recompute,
                        "compute the outputs of norms and activations again in the backward pass instead of keeping "
                        "them: less memory, a little more time"},
                    {"overfit-one-batch", &overfit,
                        "repeat the batches of the first step, without dropout: the loss must fall to almost "
                        "nothing"}}},
            {"Validation", "train",
                {{"eval-every", &eval_every, at_least(0),
                     "steps between two validations; each writes last/ and, if it is the best so far, best/; 0: only "
                     "at the end, in fine-tuning once an epoch"},
                    {"eval-tokens", &eval_tokens, at_least(0),
                        "number of tokens of val.bin to validate on, always the same ones; 0: all of them"},
                    {"log-every", &log_every, at_least(1), "steps between two lines on the console"}}}};
    }
};

// The dimensions of a new model: those of a --size of the program, or each given by itself.
struct ModelFlags {
    struct Size {
        const char* name;
        int64_t L, C;
    };
    std::vector<Size> sizes;
    int64_t max_len, layers = 0, hidden_size = 0, heads = 0, ffn_dim = 0, positions = 0;
    std::string size = "mini";
    double init_std = 0.02;

    FlagGroup group(int max_layers, int min_len, const char* max_len_help, const char* positions_help) {
        std::string names, dimensions;
        for (const Size& s : sizes) {
            names += (names.empty() ? "" : "|") + std::string(s.name);
            dimensions += format("%s%lld/%lld", dimensions.empty() ? "" : ", ", (long long)s.L, (long long)s.C);
        }
        return {"Model", "train",
            {{"size", &size, names.c_str(), ("layers and hidden size: " + dimensions).c_str()},
                {"layers", &layers, between(0, max_layers), "number of layers; 0: that of --size"},
                {"hidden-size|width", &hidden_size, between(0, 1 << 16), "number of channels; 0: that of --size"},
                {"heads", &heads, between(0, 1 << 12), "number of attention heads; 0: hidden size / 64"},
                {"ffn-dim|inner", &ffn_dim, between(0, 1 << 18),
                    "number of channels inside the feed-forward part; 0: 4 x hidden size"},
                {"max-len", &max_len, between(min_len, 1 << 16), max_len_help},
                {"init-std", &init_std, between(0.001, 1), "standard deviation of the initial matrices and embeddings"},
                {"positions", &positions, between(0, 1 << 16), positions_help}}};
    }
    template <class Config> Config config() const {
        Config c;
        for (const Size& s : sizes)
            if (size == s.name) {
                c.L = s.L;
                c.C = s.C;
            }
        if (layers) c.L = layers;
        if (hidden_size) c.C = hidden_size;
        if (!heads && c.C % 64)
            fail_usage("--hidden-size: expected a multiple of 64 (or --heads as well), found %lld", (long long)c.C);
        c.NH = heads ? heads : c.C / 64;
        c.FF = ffn_dim ? ffn_dim : 4 * c.C;
        c.T = positions ? positions : max_len;
        c.init_std = init_std;
        if (c.C % c.NH)
            fail_usage(
                "--heads: expected a divisor of the hidden size %lld, found %lld", (long long)c.C, (long long)c.NH);
        if (int64_t HS = c.C / c.NH; HS != 32 && HS != 64 && HS != 128)
            fail_usage("--heads: expected heads of 32, 64 or 128 channels, found %lld / %lld = %lld", (long long)c.C,
                (long long)c.NH, (long long)HS);
        return c;
    }
    void check_max_len(int64_t T, int64_t batch_tokens) const {
        if (max_len > T)
            fail_usage("--max-len: the model has %lld positions, found %lld", (long long)T, (long long)max_len);
        if (max_len > batch_tokens)
            fail_usage("--batch-tokens: expected at least --max-len %lld, found %lld", (long long)max_len,
                (long long)batch_tokens);
    }
};
