// train_gpt.cu: pretraining of a GPT-2-type decoder (Radford et al. 2019), and text generation, from one end to the
// other.
//
//   make && ./train_gpt --data datasets/shakespeare --size tiny --out runs/gpt                train
//   ./train_gpt generate --model runs/gpt --prompt "KING RICHARD:" --max-new-tokens 100       continue a text
//
// Read in this order: parameters → activations → forward → backward → generation → pretraining → generate → main. The
// model is pre-LN: x += dropout(attention(LN(x))), x += dropout(mlp(LN(x))), and a last LN. Dimensions:
// common/base/types.h.
#ifndef TRAIN_GPT_CU
#define TRAIN_GPT_CU
#include <algorithm>
#include <cmath>
#include <functional>

#include "common/base/cli.h"
#include "common/data/batch.h"
#include "common/data/causal_lm.h"
#include "common/device/arena.h"
#include "common/ops/adamw.cuh"
#include "common/ops/attention.cuh"
#include "common/ops/crossentropy.cuh"
#include "common/ops/embedding.cuh"
#include "common/ops/gather.cuh"
#include "common/ops/layernorm.cuh"
#include "common/ops/matmul.cuh"
#include "common/text/answered_rows.h"
#include "common/text/bpe.h"
#include "common/train/gpt_config.h"
#include "common/train/parameters.h"
#include "common/train/pretrain.h"

using namespace device;  // cpu:: or gpu::, as device.cuh has picked: the loops run, or the kernels

// ---------------------------------------------------------------- parameters
template <class X>  // X: real for the parameters, areal for their gradients
struct GptTensors {
    X* wte;  // (Vp, C)  word embeddings, and the output matrix
    X* wpe;  // (T, C)
    struct Layer {
        X *ln1w, *ln1b;    // (C)
        X *qkvw, *qkvb;    // (3C, C), (3C)
        X *attw, *attb;    // (C, C), (C)
        X *ln2w, *ln2b;    // (C)
        X *fcw, *fcb;      // (FF, C), (FF)
        X *projw, *projb;  // (C, FF), (C)
    } layer[MAX_LAYERS];
    X *lnfw, *lnfb;  // (C)
};

// The table of parameters: sizes, pointers, initialisation, weight decay, checkpoints and tests all come from it. The
// two matrices of a layer that write into the residual stream begin smaller, by √(2L): so many of them add up there.
template <class X>
std::vector<ParamSpec> gpt_table(GptTensors<X>& t, const GptConfig& c, X* base) {
    TableBuilder<X> table{c.init_std, {}, {}};
    size_t C = c.C, FF = c.FF, V = c.V, Vp = round_up(V, 64);
    double residual_std = c.init_std / sqrt(2.0 * (double)c.L);
    table.tensor(t.wte, {"transformer.wte.weight"}, {V, C}, true, Init::normal, -1, Vp * C);
    table.tensor(t.wpe, {"transformer.wpe.weight"}, {(size_t)c.T, C}, true, Init::normal, -1);
    for (int l = 0; l < c.L; l++) {
        auto& w = t.layer[l];
        std::string name = format("transformer.h.%d.", l);
        table.layernorm(w.ln1w, w.ln1b, name + "ln_1", C, l);
        table.conv1d(w.qkvw, w.qkvb, name + "attn.c_attn", 3 * C, C, l, c.init_std);
        table.conv1d(w.attw, w.attb, name + "attn.c_proj", C, C, l, residual_std);
        table.layernorm(w.ln2w, w.ln2b, name + "ln_2", C, l);
        table.conv1d(w.fcw, w.fcb, name + "mlp.c_fc", FF, C, l, c.init_std);
        table.conv1d(w.projw, w.projb, name + "mlp.c_proj", C, FF, l, residual_std);
    }
    table.layernorm(t.lnfw, t.lnfb, "transformer.ln_f", C, (int)c.L);
    return table.point(base);
}

// ---------------------------------------------------------------- activations
struct GptActivations {
    struct Layer {
        real* x;               // (N, C)  input of the layer: the residual stream
        areal *mean1, *rstd1;  // (N)
        real* ln1;             // (N, C)
        real* qkv;             // (N, 3, NH, HS)
        real* att;             // (N, C)  heads side by side
        areal* lse;            // (NH, N)
        real* sum;             // (N, C)  x + dropout(attention's output)
        areal *mean2, *rstd2;  // (N)
        real* ln2;             // (N, C)
        real *pre, *act;       // (N, FF) before and after GELU
    } layer[MAX_LAYERS];       // of the last layer everything after `lse` has only the M rows that have a target
    real *last_att, *last_x;   // (M, C)  these rows of the last layer's att and x
    real* x;                   // (M, C)  the residual stream after the last layer
    areal *meanf, *rstdf;      // (M)
    real* lnf;                 // (M, C)
    real* logits;              // (logits_chunk_rows, Vp) of so many rows at a time; overwritten by their gradient
    areal *losses, *correct;   // (M)
    // gradients on the way back
    real* dlast;               // (M, C)
    real *dx, *dln, *dbranch;  // (N, C)
    real* dscratch;            // (N, max(FF, 4C))
    areal *delta, *scratch;    // (NH, N); partial sums
};

// What generation keeps: the keys and values of all layers, in slots of one sequence each.
struct KvCache {
    real *k, *v;  // (L, slots, NH, context, HS)
    int slots, context;
    KvCacheView<real> layer(int l, int C) const {
        size_t n = (size_t)slots * context * C;
        return {k + l * n, v + l * n, context};
    }
};

struct Gpt {
    GptConfig config;
    GptTensors<real> params;
    GptTensors<areal> grads;
    GptActivations acts;
    BatchShape shape;           // capacities
    int logits_chunk_rows = 0;  // rows of logits at a time
    float dropout = 0;
    bool recompute = false;  // the backward pass computes ln1, ln2 and act again: all layers share one buffer of each

    int Vp() const { return (int)round_up(config.V, 64); }

    // Points the tensors into these two arrays (nullptr: nowhere yet); returns their table.
    std::vector<ParamSpec> point(real* parameters, areal* gradients) {
        gpt_table(grads, config, gradients);
        return gpt_table(params, config, parameters);
    }

    // Buffers for `shape`; without `backward` only what the forward pass needs.
    void plan_activations(Arena& arena, bool backward) {
        size_t N = shape.N, M = shape.M, C = config.C, FF = config.FF, NH = config.NH;
        arena.region("LayerNorms, GELU");
        for (int l = 0; l < config.L; l++) {
            auto &a = acts.layer[l], &first = acts.layer[0];
            size_t R = l == config.L - 1 ? M : N;
            if (l > 0 && (recompute || !backward)) {
                a.ln1 = first.ln1;
                a.ln2 = first.ln2;
                a.act = first.act;
            } else {
                arena.take(a.ln1, N * C);
                arena.take(a.ln2, R * C);
                arena.take(a.act, R * FF);
            }
        }
        arena.region("decoder");
        for (int l = 0; l < config.L; l++) {
            auto& a = acts.layer[l];
            if (l > 0 && !backward) {  // without a backward pass all layers share the first one's buffers
                a = acts.layer[0];
                continue;
            }
            size_t R = l == config.L - 1 ? M : N;
            arena.take(a.x, N * C);
            arena.take(a.mean1, N);
            arena.take(a.rstd1, N);
            arena.take(a.qkv, N * 3 * C);
            arena.take(a.att, N * C);
            arena.take(a.lse, NH * N);
            arena.take(a.sum, R * C);
            arena.take(a.mean2, R);
            arena.take(a.rstd2, R);
            arena.take(a.pre, R * FF);
        }
        arena.take(acts.last_att, M * C);
        arena.take(acts.last_x, M * C);
        arena.take(acts.x, M * C);
        arena.take(acts.meanf, M);
        arena.take(acts.rstdf, M);
        arena.take(acts.lnf, M * C);
        logits_chunk_rows = (int)std::min(round_up(std::max<size_t>(M, 1), 128),
                                          std::max<size_t>(128, LOGITS_BUDGET / (Vp() * sizeof(real)) / 128 * 128));
        arena.region("vocabulary");
        arena.take(acts.logits, (size_t)logits_chunk_rows * Vp());
        arena.take(acts.losses, M);
        arena.take(acts.correct, M);
        if (!backward) return;
        size_t wide = std::max(FF, 4 * C);
        arena.region("backward");
        arena.take(acts.dlast, M * C);
        arena.take(acts.dx, N * C);
        arena.take(acts.dln, N * C);
        arena.take(acts.dbranch, N * C);
        arena.take(acts.dscratch, N * wide);
        arena.take(acts.delta, NH * N);
        arena.take(acts.scratch,
                   std::max({layernorm_scratch(N, C), column_sum_scratch(N, wide), embedding_slots(N) * C}));
    }

    // Dropout of a site: 0 embeddings; 3l+1 attention, 3l+2 its output, 3l+3 the feed-forward output of layer l. Its
    // rows are the tokens, or after the last attention the M rows that have a target.
    Dropout drop(const Batch& batch, int site) const {
        return {batch.counters, (uint32_t)site, dropout, site > 3 * (int)config.L - 2 ? batch.rows : nullptr};
    }

    // ---------------------------------------------------------------- forward
    // The decoder over the batch's N tokens; returns its output (M, C) for the rows that have a target. Nobody reads
    // the others, so after the attention of the last layer they are not computed. With `cache`, the keys and values
    // of sequence s are kept in slot slots[s], slots(S).
    real* decode(const Batch& b, const KvCache* cache = nullptr, const int* slots = nullptr) {
        int N = b.N, M = b.M, C = config.C, NH = config.NH, HS = C / NH, FF = config.FF;
        areal eps = (areal)config.eps;
        real* x = acts.layer[0].x;  // (N, C)
        embedding_forward(x, params.wte, params.wpe, (const real*)nullptr, b.tokens, b.pos, b.types, N, C);
        dropout_forward(x, x, N, C, drop(b, 0));
        layernorm_forward(acts.layer[0].ln1, acts.layer[0].mean1, acts.layer[0].rstd1, x, params.layer[0].ln1w,
                          params.layer[0].ln1b, N, C, eps);
        for (int l = 0; l < config.L; l++) {
            auto& w = params.layer[l];
            auto& a = acts.layer[l];
            matmul_forward(a.qkv, a.ln1, w.qkvw, w.qkvb, N, C, 3 * C);
            attention_forward(a.att, a.lse, a.qkv, b.seq, NH, HS, true, drop(b, 3 * l + 1));
            if (cache) attention_cache(cache->layer(l, C), a.qkv, b.seq, slots, NH, HS);
            bool last = l == config.L - 1;
            real* att = a.att;  // (R, C)
            int R = N;
            if (last) {
                gather_rows(acts.last_att, a.att, b.rows, M, C);
                gather_rows(acts.last_x, x, b.rows, M, C);
                att = acts.last_att;
                x = acts.last_x;
                R = M;
            }
            matmul_forward(a.sum, att, w.attw, w.attb, R, C, C);
            residual_layernorm_forward(a.ln2, a.sum, a.mean2, a.rstd2, x, a.sum, w.ln2w, w.ln2b, R, C, eps,
                                       drop(b, 3 * l + 2));
            matmul_gelu_forward<Gelu::tanh>(a.act, a.pre, a.ln2, w.fcw, w.fcb, R, C, FF);
            // the layer's output, and the LayerNorm that follows: the next layer's first one, or the model's last one
            if (last) {
                matmul_forward(acts.x, a.act, w.projw, w.projb, M, FF, C);
                residual_layernorm_forward(acts.lnf, acts.x, acts.meanf, acts.rstdf, a.sum, acts.x, params.lnfw,
                                           params.lnfb, M, C, eps, drop(b, 3 * l + 3));
            } else {
                auto& next = acts.layer[l + 1];
                x = next.x;
                matmul_forward(x, a.act, w.projw, w.projb, N, FF, C);
                residual_layernorm_forward(next.ln1, x, next.mean1, next.rstd1, a.sum, x, params.layer[l + 1].ln1w,
                                           params.layer[l + 1].ln1b, N, C, eps, drop(b, 3 * l + 3));
            }
        }
        return acts.lnf;
    }
    // Rows [m, m + rows) of the logits, in acts.logits (rows, Vp)
    void logits_forward(int m, int rows) {
        matmul_forward(acts.logits, acts.lnf + (size_t)m * config.C, params.wte, (const real*)nullptr, rows, config.C,
                       Vp());
    }

    // Adds the batch's Σ losses and hits to `stats`. No gradients.
    void forward(const Batch& b, StepStats* stats) {
        decode(b);
        for (int m = 0; m < b.M; m += logits_chunk_rows) {
            int rows = std::min(logits_chunk_rows, b.M - m);
            logits_forward(m, rows);
            crossentropy(acts.losses + m, acts.correct + m, acts.logits, b.targets + m, b.loss_scale, rows, config.V,
                         Vp(), false);
        }
        sum_losses(stats, acts.losses, acts.correct, b.M);
    }

    // ---------------------------------------------------------------- forward and backward
    // Adds the batch's part of the loss to `stats` and of the gradients to `grads`. Each line of the backward pass
    // stands under the forward line that it differentiates.
    void forward_backward(const Batch& b, StepStats* stats) {
        int N = b.N, M = b.M, C = config.C, NH = config.NH, HS = C / NH, FF = config.FF, L = config.L;
        areal eps = (areal)config.eps;
        decode(b);

        // the vocabulary, in chunks of rows: logits = lnf wteᵀ, loss, and straight back
        for (int m = 0; m < M; m += logits_chunk_rows) {
            int rows = std::min(logits_chunk_rows, M - m);
            logits_forward(m, rows);
            crossentropy(acts.losses + m, acts.correct + m, acts.logits, b.targets + m, b.loss_scale, rows, config.V,
                         Vp(), true);
            matmul_backward_input(acts.dlast + (size_t)m * C, acts.logits, params.wte, rows, C, Vp());
            matmul_backward_weight(grads.wte, (areal*)nullptr, acts.logits, acts.lnf + (size_t)m * C, acts.scratch,
                                   rows, C, Vp());
        }
        sum_losses(stats, acts.losses, acts.correct, M);

        // lnf = layernorm(x = sum + dropout(act projwᵀ + projb)): dx goes to sum, dbranch into the branch
        real* dx = acts.dlast;  // (R, C) gradient of the residual stream
        residual_layernorm_backward(dx, acts.dbranch, grads.lnfw, grads.lnfb, acts.dlast, (const real*)nullptr, acts.x,
                                    params.lnfw, acts.meanf, acts.rstdf, acts.scratch, M, C, drop(b, 3 * L));
        real *dqkv = acts.dscratch, *datt = acts.dscratch + (size_t)N * 3 * C;  // (N, 3C), (N, C)
        real* dpre = acts.dscratch;                                             // (N, FF)
        for (int l = L - 1; l >= 0; l--) {
            auto& w = params.layer[l];
            auto& g = grads.layer[l];
            auto& a = acts.layer[l];
            bool last = l == L - 1;
            int R = last ? M : N;
            // branch = act projwᵀ + projb, act = gelu(pre)
            if (recompute) gelu_forward<Gelu::tanh>(a.act, a.pre, (size_t)R * FF);
            matmul_backward_weight(g.projw, g.projb, acts.dbranch, a.act, acts.scratch, R, FF, C);
            matmul_backward_input_gelu<Gelu::tanh>(dpre, acts.dbranch, w.projw, a.pre, R, FF, C);
            // pre = ln2 fcwᵀ + fcb
            if (recompute) layernorm_forward(a.ln2, a.mean2, a.rstd2, a.sum, w.ln2w, w.ln2b, R, C, eps);
            matmul_backward_weight(g.fcw, g.fcb, dpre, a.ln2, acts.scratch, R, C, FF);
            matmul_backward_input(acts.dln, dpre, w.fcw, R, C, FF);
            // ln2 = layernorm(sum = x + dropout(att attwᵀ + attb)); sum has two uses: dx, and through the LayerNorm
            residual_layernorm_backward(dx, acts.dbranch, g.ln2w, g.ln2b, acts.dln, dx, a.sum, w.ln2w, a.mean2, a.rstd2,
                                        acts.scratch, R, C, drop(b, 3 * l + 2));
            matmul_backward_weight(g.attw, g.attb, acts.dbranch, last ? acts.last_att : a.att, acts.scratch, R, C, C);
            matmul_backward_input(last ? acts.dln : datt, acts.dbranch, w.attw, R, C, C);
            if (last) {  // last_att = att[rows], last_x = x[rows]
                scatter_rows(datt, acts.dln, b.rows, N, M, C);
                scatter_rows(acts.dx, acts.dlast, b.rows, N, M, C);
                dx = acts.dx;
            }
            // att = attention(qkv)
            attention_backward(dqkv, acts.delta, datt, a.att, a.qkv, a.lse, b.seq, NH, HS, true, drop(b, 3 * l + 1));
            // qkv = ln1 qkvwᵀ + qkvb
            if (recompute) layernorm_forward(a.ln1, a.mean1, a.rstd1, a.x, w.ln1w, w.ln1b, N, C, eps);
            matmul_backward_weight(g.qkvw, g.qkvb, dqkv, a.ln1, acts.scratch, N, C, 3 * C);
            matmul_backward_input(acts.dln, dqkv, w.qkvw, N, C, 3 * C);
            // ln1 = layernorm(x), x = the sum of the layer before + dropout(its branch), or of layer 0
            // dropout(embeddings): the same site 3l
            residual_layernorm_backward(dx, acts.dbranch, g.ln1w, g.ln1b, acts.dln, dx, a.x, w.ln1w, a.mean1, a.rstd1,
                                        acts.scratch, N, C, drop(b, 3 * l));
        }
        // embeddings = wte[tokens] + wpe[pos]
        embedding_backward(grads.wte, acts.dbranch, b.by_token, acts.scratch, C);
        embedding_backward(grads.wpe, acts.dbranch, b.by_pos, acts.scratch, C);
    }

    // Work of one token, forward and backward, in FLOP: 6 per weight of a matrix product. T: the length of its
    // sequence, at half of which it looks back; fraction: of the tokens, those that have a target, which alone get past
    // the last attention
    double flops_per_token(double T, double fraction) const {
        double C = config.C, rest = C * C + 2 * C * config.FF;  // rest: of a layer, after its attention
        double matrices = config.L * 3 * C * C + (config.L - 1 + fraction) * rest + fraction * C * config.V;
        return 6 * matrices + 3 * 4 * config.L * T / 2 * C;
    }
    static void check_config(const GptConfig& c, const std::string& where) {
        int64_t HS = c.C / c.NH;
        if (HS != 32 && HS != 64 && HS != 128)
            fail("%s: expected heads of 32, 64 or 128 channels, found %lld", where.c_str(), (long long)HS);
        if (c.L > MAX_LAYERS)
            fail("%s: expected at most %d layers, found %lld", where.c_str(), MAX_LAYERS, (long long)c.L);
    }
};

// ---------------------------------------------------------------- generation
// Picks a token by its logits: those of the top_k largest (0: all), of these the fewest that hold top_p of the
// probability.
struct Sampler {
    double temperature = 1, top_p = 1;  // temperature 0: always the largest
    int64_t top_k = 0;
    uint64_t seed = 1;
    std::vector<std::pair<float, int>> candidates;  // logit, token

    // What is drawn depends on (seed, prompt, position) alone, and so not on what else is in the batch.
    template <class T>
    int pick(const T* logits /* (V) */, int V, uint64_t prompt, uint64_t position) {
        if (temperature == 0) {
            int best = 0;
            for (int v = 1; v < V; v++)
                if ((float)logits[v] > (float)logits[best]) best = v;
            return best;
        }
        candidates.resize(V);
        float max_logit = -INFINITY;
        for (int v = 0; v < V; v++) {
            candidates[v] = {(float)logits[v], v};
            max_logit = std::max(max_logit, candidates[v].first);
        }
        auto larger = [](auto& a, auto& b) { return a.first != b.first ? a.first > b.first : a.second < b.second; };
        size_t n = V;
        if (top_k > 0 && top_k < V) {
            n = (size_t)top_k;
            std::partial_sort(candidates.begin(), candidates.begin() + n, candidates.end(), larger);
        }
        double total = 0;
        auto weight = [&](size_t i) { return exp((double)(candidates[i].first - max_logit) / temperature); };
        for (size_t i = 0; i < n; i++) total += weight(i);
        if (top_p < 1) {  // sort as many as it takes
            double sum = 0;
            size_t kept = 0;
            for (size_t sorted = 64; kept < n && (kept == 0 || sum < top_p * total); sorted *= 4) {
                std::partial_sort(candidates.begin() + kept, candidates.begin() + std::min(sorted, n),
                                  candidates.begin() + n, larger);
                while (kept < std::min(sorted, n) && (kept == 0 || sum < top_p * total)) sum += weight(kept++);
            }
            n = kept;
            total = sum;
        }
        double left = uniform(mix64(seed, prompt, position)) * total;
        size_t i = 0;
        while (i + 1 < n && (left -= weight(i)) >= 0) i++;
        return candidates[i].second;
    }
};

// Why a text ends
enum class Stop {
    end,         // <|endoftext|> was drawn
    length,      // it has max_new tokens
    context,     // the context is full
    interrupted  // on_token() returned false
};
inline const char* stop_name(Stop s) {
    return s == Stop::end ? "end" : s == Stop::length ? "length" : s == Stop::context ? "context" : "interrupted";
}

struct Answer {
    std::vector<int> tokens;  // without <|endoftext|>
    Stop stop = Stop::interrupted;
};

// Continues texts, `slots` of them at a time: the prompts go through the packed forward pass of the model, which leaves
// their keys and values in the cache; then every step adds a token to each. A text that is done makes room for the next
// prompt.
struct Generator {
    Gpt* model = nullptr;
    KvCache cache{};
    int vocab_limit = 0;  // tokens that may be drawn: those that the tokenizer knows, if the model has more; 0: all
    BatchBuilder builder;
    char* block = nullptr;                       // a batch in device memory, the owner's
    std::vector<char> host;                      // the same on the host
    int* index = nullptr;                        // (3, slots) tokens, positions and slots of the rows of a step
    real *x, *ln, *qkv, *att, *sum, *pre, *act;  // (R, C), (R, C), (R, 3C), (R, C), (R, C), (R, FF), (R, FF)
    areal *mean, *rstd;                          // (R)
    real* logits = nullptr;                      // (R, Vp)
    std::vector<real> host_logits;
    std::vector<int> host_index;
    struct Row {
        size_t prompt;
        int slot, pos, token;  // the last token, not yet seen by the model, and where it stands
        bool done;
    };
    std::vector<Row> rows;
    std::vector<int> free_slots;

    void plan(Arena& arena, Gpt& gpt, int slots, int context) {
        model = &gpt;
        const GptConfig& c = gpt.config;
        size_t R = slots, C = c.C;
        cache.slots = slots;
        cache.context = context;
        arena.region("keys and values");
        arena.take(cache.k, c.L * R * context * C);
        arena.take(cache.v, c.L * R * context * C);
        arena.region("generation");
        arena.take(index, 3 * R);
        arena.take(x, R * C);
        arena.take(ln, R * C);
        arena.take(qkv, R * 3 * C);
        arena.take(att, R * C);
        arena.take(sum, R * C);
        arena.take(pre, R * c.FF);
        arena.take(act, R * c.FF);
        arena.take(mean, R);
        arena.take(rstd, R);
        arena.take(logits, R * gpt.Vp());
        builder.shape = gpt.shape;
        if (!arena.base) return;
        host.resize(gpt.shape.bytes());
        host_index.resize(3 * R);
        host_logits.resize(device_is_host ? 0 : R * gpt.Vp());
        rows.reserve(R);
        free_slots.reserve(R);
    }

    // The prompts in the builder, which belong to rows [first, …): their logits, of the last token of each.
    void prefill(size_t first) {
        int M = (int)builder.targets.size();
        for (int m = 0; m < M; m++) host_index[m] = rows[first + m].slot;
        copy_to_device(index, host_index.data(), M * sizeof(int));
        Batch b = to_device(builder.finish(host.data(), StepCounters{}, 1), model->shape, block, host.data());
        NoDropout inference(model->dropout);
        real* out = model->decode(b, &cache, index);  // (M, C)
        matmul_forward(logits, out, model->params.wte, (const real*)nullptr, M, model->config.C, model->Vp());
    }
    // One token more of every row: the logits of the one after it. decode(), with one query a row.
    void step() {
        const GptConfig& c = model->config;
        auto& params = model->params;
        int R = (int)rows.size(), C = c.C, NH = c.NH, HS = C / NH, FF = c.FF;
        areal eps = (areal)c.eps;
        for (int r = 0; r < R; r++) {
            host_index[r] = rows[r].token;
            host_index[R + r] = rows[r].pos;
            host_index[2 * R + r] = rows[r].slot;
        }
        copy_to_device(index, host_index.data(), 3 * R * sizeof(int));
        const int *tokens = index, *pos = index + R, *slots = index + 2 * R;  // (R)
        embedding_forward(x, params.wte, params.wpe, (const real*)nullptr, tokens, pos, (const int*)nullptr, R, C);
        layernorm_forward(ln, mean, rstd, x, params.layer[0].ln1w, params.layer[0].ln1b, R, C, eps);
        for (int l = 0; l < c.L; l++) {
            auto& w = params.layer[l];
            matmul_forward(qkv, ln, w.qkvw, w.qkvb, R, C, 3 * C);
            attention_decode(att, cache.layer(l, C), qkv, slots, pos, R, NH, HS);
            matmul_forward(sum, att, w.attw, w.attb, R, C, C);
            residual_layernorm_forward(ln, sum, mean, rstd, x, sum, w.ln2w, w.ln2b, R, C, eps, Dropout());
            matmul_gelu_forward<Gelu::tanh>(act, pre, ln, w.fcw, w.fcb, R, C, FF);
            matmul_forward(x, act, w.projw, w.projb, R, FF, C);
            bool last = l == c.L - 1;
            const real* lnw = last ? params.lnfw : params.layer[l + 1].ln1w;  // (C)
            const real* lnb = last ? params.lnfb : params.layer[l + 1].ln1b;  // (C)
            residual_layernorm_forward(ln, x, mean, rstd, sum, x, lnw, lnb, R, C, eps, Dropout());
        }
        matmul_forward(logits, ln, params.wte, (const real*)nullptr, R, C, model->Vp());
    }

    // Continues every prompt (1 … min(context, shape.N) tokens) by up to max_new tokens. on_token(prompt, token) sees
    // each token at once, and ends everything by returning false.
    std::vector<Answer> generate(const std::vector<std::vector<int>>& prompts, int64_t max_new, Sampler sampler,
                                 const std::function<bool(size_t, int)>& on_token = nullptr) {
        std::vector<Answer> answers(prompts.size());
        for (size_t i = 0; i < prompts.size(); i++) {
            size_t n = prompts[i].size(), most = std::min(cache.context, model->shape.N);
            if (n < 1 || n > most) fail("prompt %zu: expected 1 to %zu tokens, found %zu", i + 1, most, n);
            answers[i].tokens.reserve(std::min<size_t>(max_new, cache.context - n + 1));
        }
        bool go_on = true;
        rows.clear();
        free_slots.clear();
        for (int s = cache.slots - 1; s >= 0; s--) free_slots.push_back(s);
        // the next token of rows [first, …), by the logits in row 0, 1, … of `logits`
        auto take = [&](size_t first) {
            const real* x = logits;  // (rows, Vp)
            if (!device_is_host) {
                copy_to_host(host_logits.data(), logits, (rows.size() - first) * model->Vp() * sizeof(real));
                x = host_logits.data();
            }
            for (size_t r = first; r < rows.size() && go_on; r++, x += model->Vp()) {
                Row& row = rows[r];
                Answer& answer = answers[row.prompt];
                row.token = sampler.pick(x, vocab_limit ? vocab_limit : (int)model->config.V, row.prompt, row.pos);
                row.done = true;
                if (row.token == model->config.eot) {
                    answer.stop = Stop::end;
                } else {
                    answer.tokens.push_back(row.token);
                    if (on_token) go_on = on_token(row.prompt, row.token);
                    if ((int64_t)answer.tokens.size() == max_new)
                        answer.stop = Stop::length;
                    else if (row.pos == cache.context)
                        answer.stop = Stop::context;
                    else
                        row.done = false;
                }
                if (row.done) free_slots.push_back(row.slot);
            }
            rows.erase(std::remove_if(rows.begin() + first, rows.end(), [](const Row& row) { return row.done; }),
                       rows.end());
        };
        for (size_t next = 0; go_on && (next < prompts.size() || !rows.empty());) {
            builder.clear();
            size_t first = rows.size();
            while (next < prompts.size() && !free_slots.empty() && builder.fits(prompts[next].size(), 1)) {
                const std::vector<int>& prompt = prompts[next];
                builder.add(prompt, std::vector<int>(prompt.size(), 0), {(int)prompt.size() - 1}, {0});
                rows.push_back({next++, free_slots.back(), (int)prompt.size(), -1, false});
                free_slots.pop_back();
            }
            if (rows.size() > first) {
                prefill(first);
                take(first);
                continue;  // more prompts may fit
            }
            step();
            for (Row& row : rows) row.pos++;
            take(0);
        }
        return answers;
    }
};

struct SamplingFlags {
    std::string model;
    int64_t max_new = 100, top_k = 40, seed = 1, batch = 16;
    double temperature = 0.8, top_p = 1;
    bool greedy = false;

    std::vector<Flag> flags() {
        return {
            {"max-new-tokens", &max_new, between(1, 1 << 24), "largest number of tokens to write"},
            {"temperature", &temperature, between(0, 100),
             "1: the model's probabilities; below 1: likely tokens become likelier; 0: always the most likely token"},
            {"greedy", &greedy, "always take the most likely token, as with --temperature 0"},
            {"top-k", &top_k, between(0, 1 << 30), "draw from the K most likely tokens only; 0: from all"},
            {"top-p", &top_p, between(0, 1), "draw from the fewest tokens that together have this probability"},
            {"seed", &seed, at_least(0),
             "seed of the draws: the same seed, prompt and place in the list give the same text"}};
    }
    Sampler sampler() const {
        Sampler s;
        s.temperature = greedy ? 0 : temperature;
        s.top_k = top_k;
        s.top_p = top_p;
        s.seed = (uint64_t)seed;
        return s;
    }
};

// ---------------------------------------------------------------- pretraining
struct GptFlags {
    ModelFlags model{{{"tiny", 2, 128},
                      {"mini", 4, 256},
                      {"small", 6, 384},
                      {"gpt2", 12, 768},
                      {"medium", 24, 1024},
                      {"large", 36, 1280},
                      {"xl", 48, 1600}},
                     256};
    std::string sample_prompt;
    int64_t sample_every = 0;
};

struct GptTask : PretrainTask<Gpt, CausalLmData, Bpe> {
    Generator generator;  // of samples
    bool samples;
    int end_token;
    std::vector<std::string> head{};  // the output matrix is that of the embeddings

    GptTask(const TrainFlags& f, const GptFlags& gf, const PretrainData<Bpe>& data, const GptConfig& config)
        : PretrainTask(f, data, CausalLmData(data.train, (int)gf.model.max_len, data.tokenizer.eot()),
                       CausalLmData(data.val, (int)gf.model.max_len, data.tokenizer.eot())),
          samples(gf.sample_every > 0),
          end_token(data.tokenizer.eot()) {
        train_data.draw_offsets = true;
        set_up(config, shape_for(f.batch_tokens), data.tokenizer.eot(), (int)gf.model.max_len);
    }
    static BatchShape shape_for(int64_t tokens) {  // every position has a target
        BatchShape s;
        s.N = s.M = (int)tokens;
        return s;
    }
    void plan(Arena& arena) {
        PretrainTask::plan(arena);
        if (samples) generator.plan(arena, model, 1, (int)model.config.T);
        generator.block = block;
        generator.vocab_limit = (int)data.tokenizer.size();
    }
    BatchShape plan_with(Arena& arena, int64_t tokens) const {
        Gpt planned;
        Generator planned_generator;
        planned.config = model.config;
        planned.recompute = f.recompute;
        planned.shape = shape_for(tokens);
        planned.plan_activations(arena, true);
        if (samples) planned_generator.plan(arena, planned, 1, (int)model.config.T);
        return planned.shape;
    }
    double tokens_per_epoch() const { return (double)data.train.tokens() + (double)data.train.sequences(); }
    std::string sequences() const { return "windows"; }

    // Bytes of text that a target stands for: <|endoftext|> is a target like any other, but no text, so that the bits
    // spent on it count and bits per byte compare between tokenizers.
    double bytes_of(int token) const { return token == end_token ? 0 : (double)data.tokenizer.tokens[token].size(); }
    Eval evaluate() {
        double bytes = 0;
        Eval e = mean_loss(*this, val_data, val_sequences, [&](const std::vector<int>& targets) {
            for (int t : targets) bytes += bytes_of(t);
        });
        double bits = e.sum / log(2.0) / bytes;
        e.report = format("loss %.4f | perplexity %.2f | %.4f bits per byte | accuracy %.2f %%", e.loss, exp(e.loss),
                          bits, 100 * e.accuracy);
        e.numbers.set("val_perplexity", exp(e.loss)).set("val_bits_per_byte", bits);
        return e;
    }
    void save_model(const std::string& dir) {
        write_gpt_config(dir, model.config);
        data.tokenizer.save(dir, (int)model.config.T);
        opt.save(dir);
    }
};

// Does <|endoftext|> go before a prompt? In training each text begins with it; a model knows what it means if it has
// read many beginnings: if a text has at most 16 windows on average. Of one long text, a book in characters, it has
// hardly read any, and a prompt is then better taken as the middle.
bool texts_are_short(const BinFile& file, int64_t max_len) {
    return file.tokens() <= 16 * (uint64_t)max_len * file.sequences();
}
// The tokens of a prompt, at least one; bos: with <|endoftext|> before them, if it is not there
std::vector<int> prompt_ids(const Bpe& bpe, const std::string& text, bool bos) {
    std::vector<int> ids;
    bpe.encode(text, ids);
    if (ids.empty() || (ids[0] != bpe.eot() && bos)) ids.insert(ids.begin(), bpe.eot());
    return ids;
}

int train_gpt(Cli& cli, TrainFlags& f, const GptFlags& gf) {
    prepare_flags(cli, f, {"train.bin", "val.bin"}, {"data/shakespeare.py", "data/text.py"});
    open_run_dir(f);
    PretrainData<Bpe> data(f.data);
    Bpe& bpe = data.tokenizer;
    bpe.add_bos = texts_are_short(data.train, gf.model.max_len);

    GptConfig config = gf.model.config<GptConfig>();
    config.V = (int64_t)bpe.size();
    std::string init = starting_model(cli, f);
    if (!init.empty()) {
        config = read_gpt_config(init);
        Gpt::check_config(config, init);
        check_init(init, config.V, bpe, f.data);
    }
    // Wider decoders take lower rates; GPT-2 124M is commonly trained with 6e-4, medium with 3e-4, larger ones with
    // 2e-4 (Brown et al. 2020)
    if (f.lr == 0) f.lr = config.C <= 512 ? 1e-3 : config.C <= 768 ? 6e-4 : config.C <= 1024 ? 3e-4 : 2e-4;
    config.dropout = f.dropout;
    config.eot = bpe.eot();
    gf.model.check_max_len(config.T, f.batch_tokens);
    std::vector<std::vector<int>> prompts = {prompt_ids(bpe, gf.sample_prompt, bpe.add_bos)};
    if (int64_t longest = std::min(config.T, f.batch_tokens); gf.sample_every && (int64_t)prompts[0].size() > longest)
        fail_usage("--sample-prompt: expected at most %lld tokens, found %zu%s", (long long)longest, prompts[0].size(),
                   bpe.add_bos ? " with <|endoftext|> before it" : "");

    GptTask task(f, gf, data, config);
    return pretrain(task, cli, f, init, gf.model.max_len, gf.sample_every, [&](int64_t) {
        SamplingFlags defaults;
        Answer a = task.generator.generate(prompts, defaults.max_new, defaults.sampler())[0];
        printf("sample: %s%s\n", gf.sample_prompt.c_str(), bpe.decode(a.tokens.data(), a.tokens.size()).c_str());
        fflush(stdout);
    });
}

// ---------------------------------------------------------------- generate
// The model of a directory, without gradients: first its config and tokenizer, then the memory that the caller wants
struct LoadedGpt {
    std::string dir;
    Gpt model;
    Bpe bpe;
    Generator generator;
    char* block = nullptr;         // a batch, in device memory
    std::shared_ptr<void> memory;  // all of the model's and the generator's

    explicit LoadedGpt(const std::string& path) : dir(resolve_model_dir(path)) {
        model.config = read_gpt_config(dir);
        Gpt::check_config(model.config, dir);
        bpe = Bpe::load(dir);
        check_vocabulary(dir, bpe.size(), model.config.V);
        model.config.eot = bpe.eot();
        generator.vocab_limit = (int)bpe.size();
    }
    LoadedGpt(const LoadedGpt&) = delete;
    // For up to N tokens with M targets at a time, and `slots` texts of up to `context` tokens that are generated at
    // once.
    void allocate(int N, int M, int slots, int context) {
        model.shape.N = N;
        model.shape.M = M;
        memory = load_parameters(
            dir, [&](real* params) { return model.point(params, nullptr); },
            [&](Arena& arena) {
                model.plan_activations(arena, false);
                arena.take(block, model.shape.bytes());
                generator.plan(arena, model, slots, context);
                generator.block = block;
            });
    }
};

// A text to continue, or why it cannot be
struct Prompt {
    std::string text, where, error{};
    bool blank = false;  // an empty line of a JSON input
    Json row{};          // of a JSON input, for the user's other keys
};
// The lines of standard input, of JSON each one's "prompt"
std::vector<Prompt> read_prompts(bool json) {
    LineReader lines("standard input", stdin);
    return read_rows<Prompt>(lines, [&](Prompt& prompt) {
        try {
            if (!(json ? lines.next_object(prompt.row) : lines.next())) return false;
            prompt.where = lines.where();
            const Json* text = prompt.row.find("prompt");
            if (json && (!text || text->kind != Json::string))
                lines.bad(lines.number, "expected an object with a text \"prompt\", found " + start_of(lines.line));
            prompt.text = json ? text->s : std::string(lines.line);
        } catch (const BadRow& e) {
            prompt.error = e.what();
        }
        return true;
    });
}

struct PromptFlags {
    std::string prompt, add_bos = "auto";
    bool json = false;
};
// Continues the prompts: --prompt, the words of the command line, or the lines of standard input.
int generate(const SamplingFlags& f, const PromptFlags& pf, AnsweredRows& rows, std::vector<std::string> words) {
    if (f.model.empty()) fail_usage("--model DIR is missing: a run directory or a model directory");
    if (!pf.prompt.empty()) words.insert(words.begin(), pf.prompt);
    LoadedGpt gpt(f.model);
    std::vector<Prompt> prompts;
    for (const std::string& word : words) prompts.push_back({word, format("prompt %zu", prompts.size() + 1)});
    if (prompts.empty()) prompts = read_prompts(pf.json);
    const int64_t T = gpt.model.config.T;
    const bool bos = pf.add_bos == "yes" || (pf.add_bos == "auto" && gpt.bpe.add_bos);
    std::vector<std::vector<int>> ids;  // of the prompts without an error
    size_t longest = 0, all = 0;        // tokens
    for (Prompt& p : prompts) {
        std::vector<int> tokens;
        if (size_t at = invalid_utf8(p.text); p.error.empty() && at != p.text.npos)
            p.error = format("%s: expected UTF-8, found another byte at %zu", p.where.c_str(), at);
        if (p.error.empty()) tokens = prompt_ids(gpt.bpe, p.text, bos);
        if ((int64_t)tokens.size() > T)
            p.error = format("%s has %zu tokens%s, the model takes %lld: shorten it: %s ...", p.where.c_str(),
                             tokens.size(), bos ? " with <|endoftext|> before it" : "", (long long)T,
                             start_of(p.text).c_str());
        rows.row(p.error, p.blank);
        if (!p.error.empty()) continue;
        longest = std::max(longest, tokens.size());
        all += tokens.size();
        ids.push_back(tokens);
    }
    const bool show_tokens = prompts.size() == 1 && ids.size() == 1 && !pf.json;  // as they come
    if (show_tokens) {
        fputs(prompts[0].text.c_str(), stdout);
        fflush(stdout);
    }
    auto on_token = [&](size_t, int token) {
        if (!show_tokens) return true;
        std::string bytes = gpt.bpe.decode(&token, 1);
        fwrite(bytes.data(), 1, bytes.size(), stdout);
        fflush(stdout);
        return true;
    };
    std::vector<Answer> answers;
    if (!ids.empty()) {
        int slots = (int)std::min<size_t>(f.batch, ids.size());
        int context = (int)std::min<int64_t>(T, (int64_t)longest + f.max_new);
        gpt.allocate((int)std::clamp<size_t>(all, longest, std::max<size_t>(longest, 4096)), slots, slots, context);
        answers = gpt.generator.generate(ids, f.max_new, f.sampler(), on_token);
    }
    size_t full = 0, answered = 0;
    for (size_t i = 0; i < prompts.size(); i++) {
        Prompt& p = prompts[i];
        const bool is_bad = !p.error.empty();
        const Answer none, &a = is_bad ? none : answers[answered++];
        std::string text = gpt.bpe.decode(a.tokens.data(), a.tokens.size());
        full += a.stop == Stop::context;
        if (p.row.kind != Json::object) p.row = Json::make_object().set("prompt", p.text);
        if (pf.json && is_bad)
            printf("%s\n", dump_json(p.row.set("error", p.error)).c_str());
        else if (pf.json)
            printf("%s\n",
                   dump_json(
                       p.row.set("text", text).set("tokens", (int64_t)a.tokens.size()).set("stop", stop_name(a.stop)))
                       .c_str());
        else if (show_tokens)
            printf("\n");
        else
            printf("%s%s%s\n", i ? "--------\n" : "", is_bad ? "" : p.text.c_str(), text.c_str());
    }
    flush_output();
    if (full)
        fprintf(stderr, "%zu of %zu texts end because the model's context of %lld tokens is full\n", full,
                prompts.size(), (long long)T);
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
        f.beta2 = 0.95;
        f.eps = 1e-8;
        f.weight_decay = 0.1;
        f.schedule = "cosine";
        GptFlags gf;
        SamplingFlags sf;
        PromptFlags pf;
        AnsweredRows rows;
        std::vector<FlagGroup> groups = f.groups();
        describe(groups, "lr",
                 "peak learning rate; 0: chosen by the hidden size: 1e-3 up to 512, 6e-4 up to 768, 3e-4 up to 1024, "
                 "else 2e-4");
        groups.insert(groups.begin() + 1,
                      gf.model.group(MAX_LAYERS, 2, "longest window of training text, in tokens",
                                     "context: the longest text that the model will take, in tokens; 0: --max-len"));
        groups.push_back({"Samples",
                          "train",
                          {{"sample-every", &gf.sample_every, at_least(0),
                            "steps between two samples of what the model writes; 0: none"},
                           {"sample-prompt", &gf.sample_prompt, "TEXT", "text that the samples begin with"}}});
        groups.push_back({"Sampling", "generate", sf.flags()});
        groups.push_back({"Prompts",
                          "generate",
                          {{"model", &sf.model, "DIR", "run directory or model directory"},
                           {"prompt", &pf.prompt, "TEXT",
                            "text to continue; words after the flags are more prompts; without any, each line of "
                            "standard input is one"},
                           {"add-bos", &pf.add_bos, "auto|yes|no",
                            "put <|endoftext|> before a prompt, as it stands before every text in training; auto: if "
                            "the training texts were short (add_bos_token in tokenizer_config.json)"},
                           {"batch", &sf.batch, between(1, 1 << 16), "number of texts to continue at a time"},
                           {"json", &pf.json, "read lines of JSON, {\"prompt\": ...}, and print lines of JSON"},
                           rows.flag()}});
        Cli cli{
            "train_gpt",
            "pretraining of a GPT-2-type decoder, and text generation.",
            "  ./train_gpt --data datasets/shakespeare --size tiny --steps 2000 --out runs/gpt\n"
            "  ./train_gpt --resume --out runs/gpt\n"
            "  ./train_gpt generate --model runs/gpt --prompt \"KING RICHARD:\" --max-new-tokens 200 --temperature 0.8 "
            "--top-k 40\n",
            {{"train", "", "pretrain on DATA/train.bin"}, {"generate", "[PROMPT...]", "continue texts", 0, CLI_MANY}},
            groups};
        cli.closing = EXIT_CODES_TEXT;
        if (!cli.parse(argc, argv)) return (int)EXIT_OK;
        return cli.command == "generate" ? generate(sf, pf, rows, cli.positional) : train_gpt(cli, f, gf);
    });
}
#endif
#endif  // TRAIN_GPT_CU
