// train_gpt.cu: pretraining of a decoder, GPT-2 (Radford et al. 2019) or Llama (Touvron et al. 2023) and its relatives,
// and text generation, from one end to the other.
//
//   make && ./train_gpt --data datasets/shakespeare --size tiny --out runs/gpt                train
//   ./train_gpt generate --model runs/gpt --prompt "KING RICHARD:" --max-new-tokens 100       continue a text
//
// Read in this order: parameters → activations → forward → backward → generation → pretraining → generate → main. The
// model is pre-LN: x += dropout(attention(LN(x))), x += dropout(mlp(LN(x))), and a last LN. Where a Llama differs, the
// line says `config.llama`; LN is then RMSNorm. Dimensions: common/base/types.h, of a layer besides:
//
//   A    NH · HS, the heads' outputs side by side            GPT-2: C
//   QKV  (NH + 2 NKV) HS, queries, keys and values           GPT-2: 3C
//   UP   what goes into the activation: FF for GELU; of SwiGLU gate and up, 2 FF
#ifndef TRAIN_GPT_CU
#define TRAIN_GPT_CU
#include <algorithm>
#include <array>
#include <cmath>

#include "common/base/cli.h"
#include "common/base/terminal.h"
#include "common/data/causal_lm.h"
#include "common/data/instruct_encoding.h"
#include "common/ops/attention.cuh"
#include "common/ops/crossentropy.cuh"
#include "common/ops/embedding.cuh"
#include "common/ops/gather.cuh"
#include "common/ops/glu.cuh"
#include "common/ops/layernorm.cuh"
#include "common/ops/matmul.cuh"
#include "common/ops/rope.cuh"
#include "common/text/line_reader.h"
#include "common/text/tokenizer.h"
#include "common/train/gpt_config.h"
#include "common/train/lora.h"
#include "common/train/parameters.h"
#include "common/train/pretrain.h"

using namespace device;  // cpu:: or gpu::, as device.cuh has picked: the loops run, or the kernels

// ---------------------------------------------------------------- parameters
template <class X>  // X: real for the parameters, areal for their gradients
struct GptTensors {
    X* wte;   // (Vp, C)  word embeddings
    X* head;  // (Vp, C)  the output matrix: wte, or one of its own
    X* wpe;   // (T, C)   nullptr with RoPE
    struct Layer {
        X *ln1w, *ln1b;       // (C)            RMSNorm has no bias
        X *qkvw, *qkvb;       // (QKV, C), (QKV) here and below: nullptr where there is no bias
        X *qnormw, *knormw;   // (HS)           nullptr without QK-norm
        X *attw, *attb;       // (C, A), (C)
        X *ln2w, *ln2b;       // (C)
        X *fcw, *fcb;         // (UP, C), (UP)
        X *projw, *projb;     // (C, FF), (C)
    } layer[MAX_LAYERS + 1];  // layer[L] has the last norm alone, as ln1
};

// The table of parameters: sizes, pointers, initialisation, weight decay, checkpoints and tests all come from it. The
// two matrices of a layer that write into the residual stream begin smaller, by √(2L): so many of them add up there.
template <class X> std::vector<ParamSpec> gpt_table(GptTensors<X>& t, const GptConfig& c, X* base) {
    t = {};
    TableBuilder<X> table{c.init_std, {}, {}, c.bf16_matrices};
    size_t C = c.C, FF = c.FF, V = c.V, Vp = round_up(V, 64), Q = c.NH * c.HS;
    const std::vector<size_t> qkv_rows = {Q, (size_t)(c.NKV * c.HS), (size_t)(c.NKV * c.HS)};
    double residual_std = c.init_std / sqrt(2.0 * (double)c.L);
    if (!c.llama) {
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
        table.layernorm(t.layer[c.L].ln1w, t.layer[c.L].ln1b, "transformer.ln_f", C, (int)c.L);
    } else {
        auto rms_norm = [&](X*& w, std::string name, size_t n, int l) {
            table.tensor(w, {name}, {n}, false, Init::ones, l);
        };
        auto matrix = [&](X*& w, std::vector<std::string> names, size_t out, size_t in, int l, double std) {
            table.tensor(w, names, {out, in}, true, Init::normal, l);
            table.rows.back().std = std;
        };
        table.tensor(t.wte, {"model.embed_tokens.weight"}, {V, C}, true, Init::normal, -1, Vp * C);
        for (int l = 0; l < c.L; l++) {
            auto& w = t.layer[l];
            std::string name = format("model.layers.%d.", l), att = name + "self_attn.", mlp = name + "mlp.";
            rms_norm(w.ln1w, name + "input_layernorm.weight", C, l);
            matrix(w.qkvw, {att + "q_proj.weight", att + "k_proj.weight", att + "v_proj.weight"}, Q, C, l, c.init_std);
            table.rows.back().rows = qkv_rows;
            if (c.qkv_bias) {
                table.tensor(w.qkvb, {att + "q_proj.bias", att + "k_proj.bias", att + "v_proj.bias"}, {Q}, false,
                    Init::zeros, l);
                table.rows.back().rows = qkv_rows;
            }
            if (c.qk_norm) {
                rms_norm(w.qnormw, att + "q_norm.weight", c.HS, l);
                rms_norm(w.knormw, att + "k_norm.weight", c.HS, l);
            }
            matrix(w.attw, {att + "o_proj.weight"}, C, Q, l, residual_std);
            rms_norm(w.ln2w, name + "post_attention_layernorm.weight", C, l);
            matrix(w.fcw, {mlp + "gate_proj.weight", mlp + "up_proj.weight"}, FF, C, l, c.init_std);
            matrix(w.projw, {mlp + "down_proj.weight"}, C, FF, l, residual_std);
        }
        rms_norm(t.layer[c.L].ln1w, "model.norm.weight", C, (int)c.L);
    }
    if (!c.tied) table.tensor(t.head, {"lm_head.weight"}, {V, C}, true, Init::normal, (int)c.L, Vp * C);
    std::vector<ParamSpec> rows = table.point(base);
    if (c.tied) t.head = t.wte;
    return rows;
}

// ---------------------------------------------------------------- activations
struct GptActivations {
    struct Layer {
        real* x;               // (N, C)  input of the layer: the residual stream
        areal *mean1, *rstd1;  // (N)     RMSNorm: mean is nullptr
        real* ln1;             // (N, C)
        real* proj;            // (N, NH + 2 NKV, HS) of ln1; with QK-norm kept for the backward pass, else it is qkv
        areal* qk_rstd;        // (N, NH + NKV) of QK-norm
        real* qkv;             // (N, NH + 2 NKV, HS) what attention takes: normalised, turned by RoPE
        real* att;             // (N, A)  heads side by side
        areal* lse;            // (NH, N)
        real* sum;             // (N, C)  x + dropout(attention's output)
        areal *mean2, *rstd2;  // (N)
        real* ln2;             // (N, C)
        real *pre, *act;       // (N, UP), (N, FF) before and after GELU or SwiGLU
    } layer[MAX_LAYERS + 1];   // of the last layer everything after `lse` has only the M rows that have a target, and
                               // layer[L] is what follows: x, and ln1, the model's last norm
    real *last_att, *last_x;   // (M, A), (M, C)  these rows of the last layer's att and x
    real* logits;              // (logits_chunk_rows, Vp) of so many rows at a time; overwritten by their gradient
    areal *losses, *correct;   // (M)
    areal* rope;               // (positions, 2, HS/2) cosines and sines
    // gradients on the way back
    real* dlast;               // (M, C)
    real *dx, *dln, *dbranch;  // (N, C), (N, max(C, A)), (N, C)
    real* dscratch;            // (N, max(UP, QKV + A))
    areal *delta, *scratch;    // (NH, N); partial sums
};

// What generation keeps: the keys and values of all layers, in slots of one sequence each.
struct KvCache {
    real *k, *v;  // (L, slots, NKV, context, HS)
    int slots, context;
    const int* slot_of = nullptr;  // (S) the slot of each sequence of a batch, in device memory
    bool one_more = false;         // a batch holds one token more of each sequence, not whole ones
    KvCacheView<real> layer(int l, int KV /* NKV · HS */) const {
        size_t n = (size_t)slots * context * KV;
        return {k + l * n, v + l * n, context};
    }
};

struct Gpt {
    GptConfig config;
    GptTensors<real> params;
    GptTensors<areal> grads;
    GptActivations acts{};
    BatchShape shape;           // capacities
    int logits_chunk_rows = 0;  // rows of logits at a time
    int context = 0;            // the longest text that generation makes, beside those of a batch
    float dropout = 0;
    Adapters linear;         // the linear layers; with low-rank adapters these alone are trained
    bool recompute = false;  // the backward pass computes ln1, ln2 and act again: all layers share one buffer of each

    int Vp() const { return (int)round_up(config.V, 64); }
    int A() const { return (int)(config.NH * config.HS); }
    int QKV() const { return (int)((config.NH + 2 * config.NKV) * config.HS); }
    int UP() const { return (int)(config.llama ? 2 * config.FF : config.FF); }

    // Points the tensors into these two arrays (nullptr: nowhere yet); returns their table.
    std::vector<ParamSpec> point(real* parameters, areal* gradients) {
        gpt_table(grads, config, gradients);
        return gpt_table(params, config, parameters);
    }

    bool frozen() const { return !linear.of.empty(); }

    // Buffers for `shape`; without `backward` only what the forward pass needs.
    void plan_activations(Arena& arena, bool backward) {
        size_t N = shape.N, M = shape.M, C = config.C, FF = config.FF, NH = config.NH, HS = config.HS;
        arena.region("decoder");
        for (int l = 0; l < config.L; l++) {
            auto& a = acts.layer[l] = acts.layer[0];  // what a layer does not take for itself it shares with the first
            size_t R = l == config.L - 1 ? M : N;
            if (l > 0 && !backward) continue;
            if (l == 0 || !recompute) {
                arena.take(a.ln1, N * C);
                arena.take(a.ln2, R * C);
                arena.take(a.act, R * FF);
            }
            arena.take(a.x, N * C);
            arena.take_each(N, a.rstd1, a.rstd2);
            if (!config.llama) arena.take_each(N, a.mean1, a.mean2);
            arena.take(a.qkv, N * QKV());
            a.proj = a.qkv;
            if (config.qk_norm) {
                arena.take(a.proj, N * QKV());
                arena.take(a.qk_rstd, N * (NH + config.NKV));
            }
            arena.take(a.att, N * A());
            arena.take(a.lse, NH * N);
            arena.take(a.sum, R * C);
            arena.take(a.pre, R * UP());
        }
        arena.take(acts.last_att, M * A());
        auto& end = acts.layer[config.L];
        arena.take_each(M * C, acts.last_x, end.x, end.ln1);
        arena.take(end.rstd1, M);
        if (!config.llama) arena.take(end.mean1, M);
        logits_chunk_rows = (int)std::min(round_up(std::max<size_t>(M, 1), 128),
            std::max<size_t>(128, LOGITS_BUDGET / (Vp() * sizeof(real)) / 128 * 128));
        arena.region("vocabulary");
        arena.take(acts.logits, (size_t)logits_chunk_rows * Vp());
        arena.take_each(M, acts.losses, acts.correct);
        if (config.llama) {
            const int positions = std::min((int)config.T, std::max(shape.N, context));
            arena.region("RoPE");
            arena.take(acts.rope, positions * HS);
            if (arena.base)
                copy_to_device(acts.rope, rope_table<areal>(config.rope, positions, (int)HS).data(),
                    positions * HS * sizeof(areal));
        }
        if (!backward) return;
        size_t wide = std::max(UP(), QKV() + A());
        linear.plan(arena, N, std::max<size_t>(FF, std::max<size_t>(C, A())));
        arena.region("backward");
        arena.take(acts.dlast, M * C);
        arena.take_each(N * C, acts.dx, acts.dbranch);
        arena.take(acts.dln, N * std::max<size_t>(C, A()));
        arena.take(acts.dscratch, N * wide);
        arena.take(acts.delta, NH * N);
        arena.take(acts.scratch,
            std::max({layernorm_scratch(N, std::max(C, HS)), column_sum_scratch(N, wide), embedding_slots(N) * C}));
    }

    // Dropout of a site: 0 embeddings; 3l+1 attention, 3l+2 its output, 3l+3 the feed-forward output of layer l. Its
    // rows are the tokens, or after the last attention the M rows that have a target.
    // With adapters their inputs' dropout is the only one; its number is theirs.
    Dropout drop(const Batch& batch, int site, bool of_adapter = false) const {
        return {batch.counters, (uint32_t)site, frozen() == of_adapter ? dropout : 0,
            site > 3 * (int)config.L - 2 ? batch.rows : nullptr};
    }

    // ---------------------------------------------------------------- forward
    // The decoder over the batch's N tokens; returns its output (M, C) for the rows that have a target. Nobody reads
    // the others, so after the attention of the last layer they are not computed. `cache` keeps keys and values.
    real* decode(const Batch& b, const KvCache* cache = nullptr) {
        int N = b.N, M = b.M, C = config.C, NH = config.NH, NKV = config.NKV, HS = config.HS, FF = config.FF;
        areal eps = (areal)config.eps;
        real* x = acts.layer[0].x;  // (N, C)
        if (config.bf16_matrices)
            cpu::embedding_forward(x, bf16_matrix(params.wte), bf16_matrix(params.wpe), bf16_matrix(nullptr), b.tokens,
                b.pos, b.types, N, C);
        else embedding_forward(x, params.wte, params.wpe, (const real*)nullptr, b.tokens, b.pos, b.types, N, C);
        dropout_forward(x, x, N, C, drop(b, 0));
        norm_forward(acts.layer[0].ln1, acts.layer[0].mean1, acts.layer[0].rstd1, x, params.layer[0].ln1w,
            params.layer[0].ln1b, N, C, eps);
        for (int l = 0; l < config.L; l++) {
            auto& w = params.layer[l];
            auto& a = acts.layer[l];
            linear.forward(a.proj, a.ln1, w.qkvw, w.qkvb, N, C, QKV(), drop(b, 3 * l + 1, true));
            if (config.has_rope(l))
                rope_forward(a.qkv, a.qk_rstd, a.proj, w.qnormw, w.knormw, acts.rope, b.pos, N, NH, NKV, HS, eps);
            if (cache && cache->one_more) {
                attention_decode(a.att, cache->layer(l, NKV * HS), a.qkv, cache->slot_of, b.pos, N, NH, NKV, HS);
            } else {
                attention_forward(a.att, a.lse, a.qkv, b.seq, NH, NKV, HS, CAUSAL, drop(b, 3 * l + 1));
                if (cache) attention_cache(cache->layer(l, NKV * HS), a.qkv, b.seq, cache->slot_of, NH, NKV, HS);
            }
            real* att = a.att;  // (R, A)
            int R = N;
            if (l == config.L - 1) {
                gather_rows(acts.last_att, a.att, b.rows, M, A());
                gather_rows(acts.last_x, x, b.rows, M, C);
                att = acts.last_att;
                x = acts.last_x;
                R = M;
            }
            const Dropout d = drop(b, 3 * l + 2, true);
            linear.forward(a.sum, att, w.attw, w.attb, R, A(), C, d);
            residual_norm_forward(
                a.ln2, a.sum, a.mean2, a.rstd2, x, a.sum, w.ln2w, w.ln2b, R, C, eps, drop(b, 3 * l + 2));
            if (config.llama || config.bf16_matrices || linear.find(w.fcw)) {
                linear.forward(a.pre, a.ln2, w.fcw, w.fcb, R, C, UP(), d);
                if (config.llama) glu_forward<Silu>(a.act, a.pre, R, FF);
                else elementwise(GeluOf<Gelu::tanh>(), (size_t)R * FF, a.act, a.pre);
            } else {
                matmul_gelu_forward<Gelu::tanh>(a.act, a.pre, a.ln2, w.fcw, w.fcb, R, C, FF);
            }
            // the layer's output, and the norm that follows: the next layer's first one, or the model's last one
            auto& next = acts.layer[l + 1];
            x = next.x;
            linear.forward(x, a.act, w.projw, w.projb, R, FF, C, d);
            residual_norm_forward(next.ln1, x, next.mean1, next.rstd1, a.sum, x, params.layer[l + 1].ln1w,
                params.layer[l + 1].ln1b, R, C, eps, drop(b, 3 * l + 3));
        }
        return acts.layer[config.L].ln1;
    }
    // Rows [m, m + rows) of the logits, in acts.logits (rows, Vp)
    void logits_forward(int m, int rows) {
        const real* lnf = acts.layer[config.L].ln1 + (size_t)m * config.C;  // (rows, C)
        linear.forward(acts.logits, lnf, params.head, (const real*)nullptr, rows, config.C, Vp(), {});
    }

    // The loss of lnf(M, C), what decode() returned: adds its Σ and the hits to `stats`. In chunks of rows: logits =
    // lnf headᵀ, loss, and with `backward` straight back to acts.dlast(M, C).
    void loss(const Batch& b, StepStats* stats, bool backward) {
        int C = config.C;
        for (int m = 0; m < b.M; m += logits_chunk_rows) {
            int rows = std::min(logits_chunk_rows, b.M - m);
            logits_forward(m, rows);
            crossentropy(acts.losses + m, acts.correct + m, acts.logits, b.targets + m, b.loss_scale, rows, config.V,
                Vp(), backward);
            if (!backward) continue;
            matmul_backward_input(acts.dlast + (size_t)m * C, acts.logits, params.head, rows, C, Vp());
            if (grads.head)
                matmul_backward_weight(grads.head, (areal*)nullptr, acts.logits,
                    acts.layer[config.L].ln1 + (size_t)m * C, acts.scratch, rows, C, Vp());
        }
        sum_losses(stats, acts.losses, acts.correct, b.M);
    }
    // Adds the batch's Σ losses and hits to `stats`. No gradients.
    void forward(const Batch& b, StepStats* stats) {
        decode(b);
        loss(b, stats, false);
    }

    // ---------------------------------------------------------------- forward and backward
    // Adds the batch's part of the loss to `stats` and of the gradients to `grads`. Each line of the backward pass
    // stands under the forward line that it differentiates.
    void forward_backward(const Batch& b, StepStats* stats) {
        int N = b.N, M = b.M, C = config.C, NH = config.NH, NKV = config.NKV, HS = config.HS;
        int FF = config.FF, L = config.L;
        areal eps = (areal)config.eps;
        decode(b);
        loss(b, stats, true);

        // lnf = norm(x = sum + dropout(act projwᵀ + projb)): dx goes to sum, dbranch into the branch
        real* dx = acts.dlast;  // (R, C) gradient of the residual stream
        auto& end = acts.layer[L];
        residual_norm_backward(dx, acts.dbranch, grads.layer[L].ln1w, grads.layer[L].ln1b, acts.dlast,
            (const real*)nullptr, end.x, params.layer[L].ln1w, end.mean1, end.rstd1, acts.scratch, M, C,
            drop(b, 3 * L));
        real *dqkv = acts.dscratch, *datt = acts.dscratch + (size_t)N * QKV();  // (N, QKV), (N, A)
        real* dpre = acts.dscratch;                                             // (N, UP)
        for (int l = L - 1; l >= 0; l--) {
            auto& w = params.layer[l];
            auto& g = grads.layer[l];
            auto& a = acts.layer[l];
            bool last = l == L - 1;
            int R = last ? M : N;
            // branch = act projwᵀ + projb, act = gelu(pre) or swiglu(pre)
            if (recompute && config.llama) glu_forward<Silu>(a.act, a.pre, R, FF);
            if (recompute && !config.llama) elementwise(GeluOf<Gelu::tanh>(), (size_t)R * FF, a.act, a.pre);
            const Dropout d = drop(b, 3 * l + 2, true);
            linear.backward_weight(g.projw, g.projb, acts.dbranch, a.act, w.projw, acts.scratch, R, FF, C, d);
            if (config.llama || linear.find(w.projw)) {
                linear.backward_input(a.act, acts.dbranch, w.projw, R, FF, C, d);  // act is not needed any more
                if (config.llama) glu_backward<Silu>(dpre, a.act, a.pre, R, FF);
                else elementwise(GeluGradient<Gelu::tanh>(), (size_t)R * FF, dpre, a.act, a.pre);
            } else {
                matmul_backward_input_gelu<Gelu::tanh>(dpre, acts.dbranch, w.projw, a.pre, R, FF, C);
            }
            // pre = ln2 fcwᵀ + fcb
            if (recompute) norm_forward(a.ln2, a.mean2, a.rstd2, a.sum, w.ln2w, w.ln2b, R, C, eps);
            linear.backward_weight(g.fcw, g.fcb, dpre, a.ln2, w.fcw, acts.scratch, R, C, UP(), d);
            linear.backward_input(acts.dln, dpre, w.fcw, R, C, UP(), d);
            // ln2 = norm(sum = x + dropout(att attwᵀ + attb)); sum has two uses: dx, and through the norm
            residual_norm_backward(dx, acts.dbranch, g.ln2w, g.ln2b, acts.dln, dx, a.sum, w.ln2w, a.mean2, a.rstd2,
                acts.scratch, R, C, drop(b, 3 * l + 2));
            linear.backward_weight(
                g.attw, g.attb, acts.dbranch, last ? acts.last_att : a.att, w.attw, acts.scratch, R, A(), C, d);
            linear.backward_input(last ? acts.dln : datt, acts.dbranch, w.attw, R, A(), C, d);
            if (last) {  // last_att = att[rows], last_x = x[rows]
                scatter_rows(datt, acts.dln, b.rows, N, M, A());
                scatter_rows(acts.dx, acts.dlast, b.rows, N, M, C);
                dx = acts.dx;
            }
            // att = attention(qkv)
            attention_backward(
                dqkv, acts.delta, datt, a.att, a.qkv, a.lse, b.seq, NH, NKV, HS, CAUSAL, drop(b, 3 * l + 1));
            // qkv = proj, normalised and turned: dqkv becomes dproj
            if (config.has_rope(l))
                rope_backward(dqkv, g.qnormw, g.knormw, a.proj, w.qnormw, w.knormw, a.qk_rstd, acts.rope, b.pos,
                    acts.scratch, N, NH, NKV, HS);
            // proj = ln1 qkvwᵀ + qkvb
            if (recompute) norm_forward(a.ln1, a.mean1, a.rstd1, a.x, w.ln1w, w.ln1b, N, C, eps);
            const Dropout all = drop(b, 3 * l + 1, true);
            linear.backward_weight(g.qkvw, g.qkvb, dqkv, a.ln1, w.qkvw, acts.scratch, N, C, QKV(), all);
            linear.backward_input(acts.dln, dqkv, w.qkvw, N, C, QKV(), all);
            // ln1 = norm(x), x = the sum of the layer before + dropout(its branch), or of layer 0
            // dropout(embeddings): the same site 3l
            residual_norm_backward(dx, acts.dbranch, g.ln1w, g.ln1b, acts.dln, dx, a.x, w.ln1w, a.mean1, a.rstd1,
                acts.scratch, N, C, drop(b, 3 * l));
        }
        // embeddings = wte[tokens] + wpe[pos]
        if (grads.wte) embedding_backward(grads.wte, acts.dbranch, b.by_token, acts.scratch, C);
        if (grads.wpe) embedding_backward(grads.wpe, acts.dbranch, b.by_pos, acts.scratch, C);
    }

    // Work of one token, forward and backward, in FLOP: 6 per weight of a matrix product. T: the length of its
    // sequence, at half of which it looks back; fraction: of the tokens, those that have a target, which alone get past
    // the last attention
    double flops_per_token(double T, double fraction) const {
        double C = config.C, rest = A() * C + UP() * C + C * config.FF;  // rest: of a layer, after its attention
        double matrices = config.L * QKV() * C + (config.L - 1 + fraction) * rest + fraction * C * config.V;
        // frozen weights have no gradient: two products instead of three; what adapters add is left out
        return (frozen() ? 4 : 6) * matrices + 3 * 4 * config.L * T / 2 * A();
    }
};

// ---------------------------------------------------------------- generation
// Picks a token by its logits: of the top_k largest (0: all) the fewest that hold top_p of the probability.
struct Sampler {
    double temperature = 1, top_p = 1;  // temperature 0, or greedy: always the largest
    int64_t top_k = 0, seed = 1;
    bool greedy = false;
    std::vector<std::pair<float, int>> candidates{};  // logit, token

    // What is drawn depends on (seed, prompt, position) alone, and so not on what else is in the batch.
    template <class T> int pick(const T* logits /* (V) */, int V, uint64_t prompt, uint64_t position) {
        float largest = (float)logits[0];
        int wrong = 0;
#pragma omp simd reduction(max : largest) reduction(+ : wrong)
        for (int v = 0; v < V; v++) {
            largest = (float)logits[v] > largest ? (float)logits[v] : largest;
            wrong += !(fabsf((float)logits[v]) < HUGE_VALF);
        }
        if (wrong) throw Error(EXIT_NOT_FINITE, format("%d of %d logits are not finite: take another model", wrong, V));
        auto is_largest = [&](const T& x) { return (float)x == largest; };
        if (greedy || temperature == 0) return (int)(std::find_if(logits, logits + V - 1, is_largest) - logits);
        candidates.resize(V);
        for (int v = 0; v < V; v++) candidates[v] = {(float)logits[v], v};
        auto larger = [](auto& a, auto& b) { return a.first != b.first ? a.first > b.first : a.second < b.second; };
        const auto begin = candidates.begin();
        size_t n = V;
        if (top_k > 0 && top_k < V) {
            n = (size_t)top_k;
            std::partial_sort(begin, begin + n, candidates.end(), larger);
        }
        double total = 0;
        auto weight = [&](size_t i) { return exp((double)(candidates[i].first - largest) / temperature); };
        for (size_t i = 0; i < n; i++) total += weight(i);
        if (top_p < 1) {  // sort as many as it takes
            double sum = 0;
            size_t kept = 0;
            for (size_t sorted = 64; kept < n && (kept == 0 || sum < top_p * total); sorted *= 4) {
                std::partial_sort(begin + kept, begin + std::min(sorted, n), begin + n, larger);
                while (kept < std::min(sorted, n) && (kept == 0 || sum < top_p * total)) sum += weight(kept++);
            }
            n = kept;
            total = sum;
        }
        double left = uniform(mix64((uint64_t)seed, prompt, position)) * total;
        size_t i = 0;
        while (i + 1 < n && (left -= weight(i)) >= 0) i++;
        return candidates[i].second;
    }
};

// Why a text ends: a token was drawn that ends one, it has max_new tokens, the context is full, or on_token() said so
enum class Stop { end, length, context, interrupted };
inline const char* stop_name(Stop s) { return std::array{"end", "length", "context", "interrupted"}[(size_t)s]; }

struct Answer {
    std::vector<int> tokens;  // without the one that ends it
    Stop stop = Stop::interrupted;
    bool done = false;
};

// Continues texts, `slots` of them at a time: the prompts go through the packed forward pass of the model, which leaves
// their keys and values in the cache; then every step adds a token to each. A text that is done makes room for the next
// prompt.
struct Generator {
    Gpt* model = nullptr;
    KvCache cache{};
    int vocab_limit = 0;  // tokens that may be drawn: those that the tokenizer knows, if the model has more; 0: all
    BatchBuilder builder;
    char* block = nullptr;   // a batch in device memory, the owner's
    int* index = nullptr;    // (4, slots) of the sequences of a step: slots, tokens, positions; 0, 1, 2, …
    real* logits = nullptr;  // (slots, Vp)
    std::vector<real> host_logits;
    std::vector<int> host_index;
    struct Row {
        size_t prompt;
        int slot, pos, token;  // the last token, not yet seen by the model; where the next one will stand
        bool done;
    };
    std::vector<Row> rows;
    std::vector<int> free_slots;

    // A step has at most as many rows as the model's batch has tokens.
    void plan(Arena& arena, Gpt& gpt, int slots, int context) {
        model = &gpt;
        const GptConfig& c = gpt.config;
        size_t R = slots;
        cache.slots = slots;
        cache.context = context;
        arena.region("keys and values");
        arena.take_each(c.L * R * context * c.NKV * c.HS, cache.k, cache.v);
        arena.region("generation");
        arena.take(index, 4 * R);
        arena.take(logits, R * gpt.Vp());
        builder.shape = gpt.shape;
        if (!arena.base) return;
        host_index.resize(4 * R);
        if (!device_is_host) host_logits.resize(R * gpt.Vp());
    }

    // The logits (R, Vp) of the R rows [first, …), on a GPU in host_logits too: of their prompts, in the builder, or of
    // one token more of each
    void run(size_t first, bool one_more) {
        const int R = (int)(rows.size() - first), slots = cache.slots;
        for (int r = 0; r < R; r++) {
            const Row& row = rows[first + r];
            host_index[r] = row.slot;
            host_index[slots + r] = row.token;
            host_index[2 * slots + r] = row.pos - 1;
            host_index[3 * slots + r] = r;
        }
        copy_to_device(index, host_index.data(), host_index.size() * sizeof(int));
        cache.slot_of = index;
        cache.one_more = one_more;
        Batch b{};
        b.N = b.M = R;
        b.tokens = index + slots;
        b.pos = index + 2 * slots;
        b.rows = index + 3 * slots;
        if (!one_more) b = builder.send(block);
        NoDropout inference(model->dropout);
        real* out = model->decode(b, &cache);  // (R, C), and perhaps padding
        model->linear.forward(
            logits, out, model->params.head, (const real*)nullptr, R, model->config.C, model->Vp(), {});
        if (!device_is_host) copy_to_host(host_logits.data(), logits, (size_t)R * model->Vp() * sizeof(real));
    }

    // Continues every prompt (1 … min(context, shape.N) tokens) by up to max_new tokens. on_token(prompt, token) sees
    // each token at once, and ends everything by returning false; on_answer(answer) each answer, in the prompts' order.
    std::vector<Answer> generate(const std::vector<std::vector<int>>& prompts, int64_t max_new, Sampler sampler,
        const std::function<bool(size_t, int)>& on_token = nullptr,
        const std::function<void(const Answer&)>& on_answer = nullptr) {
        std::vector<Answer> answers(prompts.size());
        size_t told = 0;
        for (size_t i = 0; i < prompts.size(); i++) {
            size_t n = prompts[i].size(), most = std::min(cache.context, model->shape.N);
            if (n < 1 || n > most) fail("prompt %zu: expected 1 to %zu tokens, found %zu", i + 1, most, n);
        }
        bool go_on = true;
        rows.clear();
        free_slots.clear();
        for (int s = cache.slots - 1; s >= 0; s--) free_slots.push_back(s);
        for (size_t next = 0; go_on && (next < prompts.size() || !rows.empty());) {
            builder.clear();
            size_t first = rows.size();
            while (next < prompts.size() && !free_slots.empty() && builder.fits(prompts[next].size(), 1)) {
                const std::vector<int>& prompt = prompts[next];
                builder.add(prompt, std::vector<int>(prompt.size(), 0), {(int)prompt.size() - 1}, {0});
                rows.push_back({next++, free_slots.back(), (int)prompt.size(), -1, false});
                free_slots.pop_back();
            }
            const bool one_more = rows.size() == first;  // no prompt was added
            if (one_more) first = 0;
            run(first, one_more);
            const real* x = device_is_host ? logits : host_logits.data();  // (Vp) of a row
            for (size_t r = first; r < rows.size() && go_on; r++, x += model->Vp()) {
                Row& row = rows[r];
                Answer& answer = answers[row.prompt];
                row.token = sampler.pick(x, vocab_limit ? vocab_limit : (int)model->config.V, row.prompt, row.pos);
                row.done = true;
                if (model->config.ends(row.token)) {
                    answer.stop = Stop::end;
                } else {
                    answer.tokens.push_back(row.token);
                    if (on_token) go_on = on_token(row.prompt, row.token);
                    if ((int64_t)answer.tokens.size() == max_new) answer.stop = Stop::length;
                    else if (row.pos++ == cache.context) answer.stop = Stop::context;
                    else row.done = false;
                }
                answer.done = row.done;
                if (row.done) free_slots.push_back(row.slot);
            }
            auto is_done = [](const Row& row) { return row.done; };
            rows.erase(std::remove_if(rows.begin() + first, rows.end(), is_done), rows.end());
            for (; on_answer && told < answers.size() && answers[told].done; told++) on_answer(answers[told]);
        }
        return answers;
    }
};

struct SamplingFlags {
    std::string model, adapter, weights = "full";
    int64_t max_new = 100, batch = 16, context = 2048;
    Sampler sampler{0.8, 1, 40};

    Flag weights_flag() {
        return {"weights", &weights, "full|bf16",
            "bf16, on a CPU: matrices are rounded to bfloat16 and kept so, which halves what a token reads of memory"};
    }
    std::vector<Flag> flags() {
        return {{"max-new-tokens", &max_new, between(1, 1 << 24), "largest number of tokens to write"},
            {"temperature", &sampler.temperature, between(0, 100),
                "1: the model's probabilities; below 1: likely tokens become likelier; 0: always the most likely "
                "token"},
            {"greedy", &sampler.greedy, "always take the most likely token, as with --temperature 0"},
            {"top-k", &sampler.top_k, between(0, 1 << 30), "draw from the K most likely tokens only; 0: from all"},
            {"top-p", &sampler.top_p, between(0, 1), "draw from the fewest tokens that together have this probability"},
            {"seed", &sampler.seed, at_least(0),
                "seed of the draws: the same seed, prompt and place in the list give the same text"}};
    }
};

// ---------------------------------------------------------------- pretraining
struct GptFlags {
    ModelFlags model{{{"tiny", 2, 128}, {"mini", 4, 256}, {"small", 6, 384}, {"gpt2", 12, 768}, {"medium", 24, 1024},
                         {"large", 36, 1280}, {"xl", 48, 1600}},
        256};
    std::string arch = "gpt2", sample_prompt;
    int64_t kv_heads = 0, sample_every = 0;

    // A new model. A Llama of a size has as many parameters as the GPT-2 of that size, but for the positions.
    GptConfig config(const Tokenizer& bpe) const {
        GptConfig c = model.config<GptConfig>();
        c.V = (int64_t)bpe.size();
        c.bos = bpe.bos();
        c.eot = bpe.eot();
        c.HS = c.C / c.NH;
        c.NKV = kv_heads ? kv_heads : c.NH;
        if (c.NH % c.NKV || (arch == "gpt2" && c.NKV != c.NH))
            fail_usage("--kv-heads: expected a divisor of --heads %lld, with --arch gpt2 as many, found %lld",
                (long long)c.NH, (long long)c.NKV);
        if (arch == "gpt2") return c;
        c.type = arch;
        c.llama = true;
        c.qkv_bias = false;
        if (!model.ffn_dim) c.FF = (int64_t)round_up(ceil_div(8 * c.C, 3), 64);
        return c;
    }
};
// Models of Llama's kind are trained without dropout, if none is asked for.
void preset_dropout(Cli& cli, TrainFlags& f, const GptConfig& c) {
    if (c.llama && !f.resume && !cli.given("dropout")) f.dropout = 0;
}

struct GptTask : PretrainTask<Gpt, CausalLmData, Tokenizer> {
    Generator generator;  // of samples

    GptTask(const TrainFlags& f, const GptFlags& gf, const PretrainData<Tokenizer>& data, const GptConfig& config)
        : PretrainTask(f, data, (int)gf.model.max_len, data.tokenizer.eot(), data.tokenizer.bos()) {
        end_token = data.tokenizer.eot();
        train_data.draw_offsets = true;
        // a sample continues a prompt, of a batch's length at most, by a hundred tokens
        if (gf.sample_every) model.context = (int)std::min(config.T, std::max<int64_t>(1024, f.batch_tokens + 128));
        set_up(config, shape_for(f.batch_tokens), data.tokenizer.eot(), gf.model.max_len);
    }
    static BatchShape shape_for(int64_t tokens) {  // every position has a target
        BatchShape s;
        s.N = s.M = (int)tokens;
        return s;
    }
    void plan(Arena& arena) {
        PretrainTask::plan(arena);
        if (model.context) generator.plan(arena, model, 1, model.context);
        generator.block = block;
        generator.vocab_limit = (int)data.tokenizer.size();
    }
    double tokens_per_epoch() const { return (double)data.train.tokens() + (double)data.train.sequences(); }
    std::string sequences() const { return "windows"; }

    Eval evaluate() {
        double bytes = 0;  // of the targets; <|endoftext|> is one, but no text: the bits spent on it count
        Eval e = mean_loss(*this, val_data, val_sequences, [&](const std::vector<int>& targets) {
            for (int t : targets) bytes += t == end_token ? 0 : (double)data.tokenizer.decode(&t, 1, false).size();
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

// The tokens of a prompt, at least one; bos: with what begins a text before them, if it is not there
std::vector<int> prompt_ids(const Tokenizer& bpe, const std::string& text, bool bos) {
    std::vector<int> ids;
    bpe.encode(text, ids);
    if (ids.empty() || (ids[0] != bpe.bos() && bos)) ids.insert(ids.begin(), bpe.bos());
    return ids;
}

int train_gpt(Cli& cli, TrainFlags& f, const GptFlags& gf) {
    prepare_flags(cli, f, {"train.bin", "val.bin"}, {"data/shakespeare.py", "data/text.py"});
    open_run_dir(f);
    PretrainData<Tokenizer> data(f.data);
    Tokenizer& bpe = data.tokenizer;
    // Does <|endoftext|> go before a prompt? In training each text begins with it; a model knows what it means if it
    // has read many beginnings: if a text has at most 16 windows on average. Of one long text, a book in characters, it
    // has hardly read any, and a prompt is then better taken as the middle.
    bpe.add_bos = data.train.tokens() <= 16 * (uint64_t)gf.model.max_len * data.train.sequences();

    const std::string init = starting_model(cli, f);
    GptConfig config = init.empty() ? gf.config(bpe) : read_gpt_config(init);
    if (!init.empty()) data.check_init(init, config.V);
    // Wider decoders take lower rates; GPT-2 124M is commonly trained with 6e-4, medium with 3e-4, larger ones with
    // 2e-4 (Brown et al. 2020)
    if (f.lr == 0) f.lr = config.C <= 512 ? 1e-3 : config.C <= 768 ? 6e-4 : config.C <= 1024 ? 3e-4 : 2e-4;
    preset_dropout(cli, f, config);
    config.dropout = f.dropout;
    if (!config.llama || config.eot < 0) config.eot = bpe.eot();
    gf.model.check_max_len(config.T, f.batch_tokens);
    std::vector<std::vector<int>> prompts = {prompt_ids(bpe, gf.sample_prompt, bpe.add_bos)};
    if (int64_t longest = std::min(config.T, f.batch_tokens); gf.sample_every && (int64_t)prompts[0].size() > longest)
        fail_usage("--sample-prompt: expected at most %lld tokens, found %zu%s", (long long)longest, prompts[0].size(),
            bpe.add_bos ? " with <|endoftext|> before it" : "");

    GptTask task(f, gf, data, config);
    return pretrain(task, cli, f, init, gf.model.max_len, gf.sample_every, [&](int64_t) {
        SamplingFlags defaults;
        Answer a = task.generator.generate(prompts, defaults.max_new, defaults.sampler)[0];
        const std::string text = gf.sample_prompt + bpe.decode(a.tokens.data(), a.tokens.size());
        printf("sample: %s\n", visible(text, "\n\t").c_str());
        fflush(stdout);
    });
}

// ---------------------------------------------------------------- generate
// A model without gradients: first its config and tokenizer, then the memory that the caller wants
struct LoadedGpt : ModelPaths {
    std::string dir;  // where the tokenizer is
    Gpt model;
    Tokenizer bpe;
    Generator generator;
    std::shared_ptr<void> memory;  // all of the model's and the generator's

    explicit LoadedGpt(const std::string& path, const std::string& adapter_path = "")
        : ModelPaths(path, adapter_path), dir(of("tokenizer_config.json")) {
        model.config = read_gpt_config(weights);
        bpe = Tokenizer::load(dir);
        check_vocabulary(dir, bpe.size(), model.config.V);
        if (!model.config.llama || model.config.eot < 0) model.config.eot = bpe.eot();
        if (const std::string file = adapter + "/template.json"; !adapter.empty() && exists(file))
            model.config.stops.push_back(end_token(bpe, ChatTemplate::read(file)));  // what the adapters end with
        generator.vocab_limit = (int)bpe.size();
    }
    LoadedGpt(const LoadedGpt&) = delete;
    // For up to N tokens with M targets at a time, and `slots` texts of up to `context` tokens in the making; the
    // matrices of the model as "bf16" or as they are
    void allocate(int N, int M, int slots, int context, const std::string& matrices = "") {
        if (matrices == "bf16" && !device_is_host)
            fail_usage(
                "--weights bf16: expected a build for the CPU, found one for a GPU, where make PRECISION=bf16 is it");
        model.shape.N = std::max(N, slots);
        model.shape.M = std::max(M, slots);
        model.context = context;
        memory = load_parameters(
            *this, [&](real* params) { return model.point(params, nullptr); },
            [&](Arena& arena) {
                model.plan_activations(arena, false);
                arena.take(generator.block, model.shape.bytes());
                generator.plan(arena, model, slots, context);
            },
            [&](const std::vector<ParamSpec>& table, std::vector<areal>& values) {
                if (matrices != "bf16") return;
                model.config.bf16_matrices = model.linear.bf16_weights = true;
                const double before = (double)values.size();
                values = pack_bf16(table, model.point(nullptr, nullptr), values);
                fprintf(stderr, "weights as bf16: %.1f MiB in place of %.1f\n",
                    (double)(values.size() * sizeof(real)) / MiB, before * sizeof(real) / MiB);
            });
    }
};

// Continues prompts, those of the rows without an error. print(row, answer) is called for every row in their order,
// with nullptr for one that has an error. `texts` is what the answers are called where the context is too small for
// some.
template <class Row, class OnToken, class Print> void answer_rows(LoadedGpt& gpt, const SamplingFlags& f,
    const std::vector<Row>& rows, const std::vector<std::vector<int>>& prompts, OnToken on_token, Print print,
    const char* texts) {
    size_t full = 0, next = 0;  // of the rows
    auto print_bad = [&] {
        for (; next < rows.size() && !rows[next].error.empty(); next++) print(rows[next], nullptr);
    };
    gpt.generator.generate(prompts, f.max_new, f.sampler, on_token, [&](const Answer& a) {
        print_bad();
        print(rows[next++], &a);
        flush_output();
        full += a.stop == Stop::context;
    });
    print_bad();
    flush_output();
    if (full)
        fprintf(stderr, "%zu of %zu %s end because the model's context of %lld tokens is full\n", full, prompts.size(),
            texts, (long long)gpt.model.config.T);
}

// A text to continue, or why it cannot be
struct Prompt {
    std::string text, where, error{};
    Json row{};  // of a JSON input, for the user's other keys
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
    if (!pf.prompt.empty()) words.insert(words.begin(), pf.prompt);
    LoadedGpt gpt(f.model, f.adapter);
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
                tokens.size(), bos ? " with <|endoftext|> before it" : "", (long long)T, start_of(p.text).c_str());
        rows.row(p.error);
        if (!p.error.empty()) continue;
        longest = std::max(longest, tokens.size());
        all += tokens.size();
        ids.push_back(tokens);
    }
    const bool show_tokens = prompts.size() == 1 && ids.size() == 1 && !pf.json;  // as they come
    WordWrap shown;
    if (show_tokens) shown.print(prompts[0].text);
    auto on_token = [&](size_t, int token) {
        if (show_tokens) shown.print(gpt.bpe.decode(&token, 1, false));
        return true;
    };
    auto print = [&](const Prompt& p, const Answer* a) {
        const std::string text = a ? gpt.bpe.decode(a->tokens.data(), a->tokens.size()) : "";
        Json line = p.row.kind == Json::object ? p.row : Json().set("prompt", p.text);
        if (!a) line.set("error", p.error);
        else line.set("text", text).set("tokens", (int64_t)a->tokens.size()).set("stop", stop_name(a->stop));
        if (pf.json) printf("%s\n", dump_json(line).c_str());
        else if (show_tokens) shown.print("\n");
        else shown.print((&p == &prompts[0] ? "" : "--------\n") + (a ? p.text : "") + text + "\n");
    };
    if (!ids.empty()) {
        int slots = (int)std::min<size_t>(f.batch, ids.size());
        int context = (int)std::min<int64_t>(T, (int64_t)longest + f.max_new);
        gpt.allocate(
            (int)std::clamp<size_t>(all, longest, std::max<size_t>(longest, 4096)), slots, slots, context, f.weights);
    }
    answer_rows(gpt, f, prompts, ids, on_token, print, "texts");
    rows.finish("the others have their answers");
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
        FlagGroup dimensions = gf.model.group(MAX_LAYERS, 2, "longest window of training text, in tokens",
            "context: the longest text that the model will take, in tokens; 0: --max-len");
        dimensions.flags.insert(dimensions.flags.begin(),
            {{"arch", &gf.arch, "gpt2|llama",
                 "LayerNorm, learned positions and GELU; or RMSNorm, RoPE and SwiGLU, without biases"},
                {"kv-heads", &gf.kv_heads, between(0, 1 << 12),
                    "llama: number of heads of keys and values, a divisor of --heads; 0: as many"}});
        groups.insert(groups.begin() + 1, dimensions);
        describe(groups, "ffn-dim",
            "number of channels inside the feed-forward part; 0: 4 x hidden size, or 8/3 x for llama, in 64s");
        describe(groups, "dropout",
            "dropout rate of embeddings, attention and both branches of every layer; models of Llama's kind have "
            "none if this is not given");
        groups.push_back({"Samples", "train",
            {{"sample-every", &gf.sample_every, at_least(0),
                 "steps between two samples of what the model writes; 0: none"},
                {"sample-prompt", &gf.sample_prompt, "TEXT", "text that the samples begin with"}}});
        groups.push_back({"Sampling", "generate", sf.flags()});
        groups.push_back({"Prompts", "generate",
            {{"model", &sf.model, "DIR", "run directory or model directory"},
                {"adapter", &sf.adapter, "DIR", "low-rank adapters of this model, ours or PEFT's"}, sf.weights_flag(),
                {"prompt", &pf.prompt, "TEXT",
                    "text to continue; words after the flags are more prompts; without any, each line of "
                    "standard input is one"},
                {"add-bos", &pf.add_bos, "auto|yes|no",
                    "put <|endoftext|> before a prompt, as it stands before every text in training; auto: if "
                    "the training texts were short (add_bos_token in tokenizer_config.json)"},
                {"batch", &sf.batch, between(1, 1 << 16), "number of texts to continue at a time"},
                {"json", &pf.json, "read lines of JSON, {\"prompt\": ...}, and print lines of JSON"}, rows.flag()}});
        Cli cli{"train_gpt", "pretraining of a decoder, GPT-2 or Llama, and text generation.",
            "  ./train_gpt --data datasets/shakespeare --size tiny --steps 2000 --out runs/gpt\n"
            "  ./train_gpt --resume --out runs/gpt\n"
            "  ./train_gpt generate --model runs/gpt --prompt \"KING RICHARD:\" --max-new-tokens 200 --temperature 0.8 "
            "--top-k 40\n",
            {{"train", "", "pretrain on DATA/train.bin"}, {"generate", "[PROMPT...]", "continue texts", 0, CLI_MANY}},
            groups};
        if (!cli.parse(argc, argv)) return (int)EXIT_OK;
        return cli.command == "generate" ? generate(sf, pf, rows, cli.positional) : train_gpt(cli, f, gf);
    });
}
#endif
#endif  // TRAIN_GPT_CU
