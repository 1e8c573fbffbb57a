// train_bert.cu: pretraining of an encoder, BERT (Devlin et al. 2018) or ModernBERT (Warner et al. 2024) and their
// relatives, by masked LM, from one end to the other.
//
//   make && ./train_bert --data datasets/books --size mini --out runs/bert     train
//   ./train_bert fill-mask --model runs/bert "the old man was very [MASK] ."   predict masked words
//
// Read in this order: parameters → activations → forward → backward → pretraining → fill-mask → main. A BERT is
// post-LN: x = LN(x + dropout(attention(x))), x = LN(x + dropout(mlp(x))). Where a ModernBERT differs, the line says
// `config.modern`; it is pre-LN: x += dropout(attention(LN(x))), x += dropout(mlp(LN(x))), and a last LN. Both are one
// row of the same norms: what differs is whether a branch is added to what the norm before it put out or to what it
// took in. So ln2 of a layer is here the norm after its feed-forward part, in a ModernBERT's files the first one of the
// next layer, or the last one of all; its first layer has none of its own. Dimensions: common/base/types.h, and
//
//   UP   what goes into the activation: FF for GELU; of GeGLU gate and up, 2 FF
//   K    what the head puts out: V words, or of finetune_cls.cu the classes; Kp: rounded up, for the kernels
#ifndef TRAIN_BERT_CU
#define TRAIN_BERT_CU
#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/base/cli.h"
#include "common/data/classify_data.h"
#include "common/data/masked_lm.h"
#include "common/ops/attention.cuh"
#include "common/ops/crossentropy.cuh"
#include "common/ops/embedding.cuh"
#include "common/ops/gather.cuh"
#include "common/ops/glu.cuh"
#include "common/ops/layernorm.cuh"
#include "common/ops/matmul.cuh"
#include "common/ops/rope.cuh"
#include "common/train/bert_config.h"
#include "common/train/lora.h"
#include "common/train/parameters.h"
#include "common/train/pretrain.h"

using namespace device;  // cpu:: or gpu::, as device.cuh has picked: the loops run, or the kernels

// ---------------------------------------------------------------- parameters
template <class X>  // X: real for the parameters, areal for their gradients
struct BertTensors {
    X* wte;                      // (Vp, C)  word embeddings, and the decoder of the masked-LM head
    X* wpe;                      // (positions, C)  nullptr with RoPE
    X* wtt;                      // (types, C)      nullptr without types
    X *ln_embed_w, *ln_embed_b;  // (C)             here and below: biases are nullptr where there are none
    struct Layer {
        X *qkvw, *qkvb;    // (3C, C), (3C)
        X *attw, *attb;    // (C, C), (C)
        X *ln1w, *ln1b;    // (C)
        X *fcw, *fcb;      // (UP, C), (UP)
        X *projw, *projb;  // (C, FF), (C)
        X *ln2w, *ln2b;    // (C)
    } layer[MAX_LAYERS];
    X *headw, *headb;          // (C, C), (C)
    X *ln_head_w, *ln_head_b;  // (C)              nullptr: a head without a norm
    X *outw, *outb;            // (Kp, C), (Kp)    outw of masked LM: wte
};

// The table of parameters: sizes, pointers, initialisation, weight decay, checkpoints and tests all come from it. head:
// where those of the head are, if they do not follow the others
template <class X>
std::vector<ParamSpec> bert_table(BertTensors<X>& t, const BertConfig& c, X* memory, X* head = nullptr) {
    TableBuilder<X> table{c.init_std, {}, {}};
    const BertType& names = bert_type(c.type);
    const std::string base = names.base;
    size_t C = c.C, FF = c.FF, V = c.V, Vp = round_up(V, 64), positions = c.T + c.first_position;
    // the matrices that write into a residual stream without a norm begin smaller: so many of them add up there
    const double std = c.init_std, residual_std = c.modern ? std / sqrt(2.0 * (double)c.L) : std;
    auto embedding = [&](X*& w, const char* name, size_t rows, size_t count = 0) {
        table.tensor(w, {base + name + ".weight"}, {rows, C}, true, Init::normal, -1, count);
    };
    t = {};
    table.biases = !c.modern;
    embedding(t.wte, names.words, V, Vp * C);
    if (!c.modern) embedding(t.wpe, names.positions, positions);
    if (c.types) embedding(t.wtt, names.types, c.types);
    table.layernorm(t.ln_embed_w, t.ln_embed_b, base + names.norm, C, -1);
    for (int l = 0; l < c.L; l++) {
        auto& w = t.layer[l];
        auto layer = [&](int l) { return base + names.layers + format(".%d.", l); };
        const std::string name = layer(l);
        table.linear(w.qkvw, w.qkvb, name, names.qkv, 3 * C / names.qkv.size(), C, l);
        table.std = residual_std;
        table.linear(w.attw, w.attb, name, {names.attention}, C, C, l);
        table.std = std;
        table.layernorm(w.ln1w, w.ln1b, name + names.norm1, C, l);
        table.linear(w.fcw, w.fcb, name, {names.fc}, c.modern ? 2 * FF : FF, C, l);
        table.std = residual_std;
        table.linear(w.projw, w.projb, name, {names.projection}, C, FF, l);
        table.std = std;
        const std::string norm2 = c.modern && l == c.L - 1 ? base + "final_norm" : layer(l + c.modern) + names.norm2;
        table.layernorm(w.ln2w, w.ln2b, norm2, C, l);
    }
    const int L = (int)c.L;
    const size_t encoder = table.rows.size();
    table.linear(t.headw, t.headb, "", {c.classes ? names.pooler : names.head}, C, C, L);
    if (c.head() == Head::gelu_norm) table.layernorm(t.ln_head_w, t.ln_head_b, names.head_norm, C, L);
    table.biases = true;
    if (c.classes) table.linear(t.outw, t.outb, "", {names.classifier}, c.K(), C, L, c.Kp());
    else table.tensor(t.outb, {names.decoder + std::string(".bias")}, {V}, false, Init::zeros, L, Vp);
    const std::vector<ParamSpec> rows = table.point(memory);
    for (size_t i = encoder; head && i < rows.size(); i++)
        *table.members[i] = head + (rows[i].offset - rows[encoder].offset);
    if (!c.classes) t.outw = t.wte;
    return rows;
}

// ---------------------------------------------------------------- activations
struct BertActivations {
    real* embedded;                  // (N, C)  sum of the three embeddings
    areal *mean_embed, *rstd_embed;  // (N)
    real* x0;                        // (N, C)  input of the first layer
    struct Layer {
        real* qkv;                    // (N, 3, NH, HS)
        real* att;                    // (N, C)  heads side by side
        areal* lse;                   // (NH, N)
        real* sum1;                   // (N, C)  residual + dropout(attention's output)
        areal *mean1, *rstd1;         // (N)
        real* x1;                     // (N, C)  after the first LayerNorm
        real *pre, *act;              // (N, UP), (N, FF) before and after GELU or GeGLU
        real* sum2;                   // (N, C)
        areal *mean2, *rstd2;         // (N)
        real* x2;                     // (N, C)  output of the layer
    } layer[MAX_LAYERS];              // of the last layer everything after `lse` has only the M rows that have a target
    real *last_att, *last_x;          // (M, C)  these rows of the last layer's att and of what it is added to
    areal *global_rope, *local_rope;  // (positions, 2, HS/2) cosines and sines
    // head, over the M rows that have a target
    real *head_pre, *head_act, *head_out;  // (M, C) before and after its activation; after its norm and dropout
    areal *mean_head, *rstd_head;          // (M)
    real* logits;             // (logits_chunk_rows, Kp) of so many rows at a time; overwritten by their gradient
    areal *losses, *correct;  // (M)
    // gradients on the way back
    real* dhead;                // (M, C)
    areal* head_scratch;        // partial sums
    real *dx, *dsum, *dbranch;  // (N, C)
    real* dscratch;             // (N, max(UP, 4C))
    areal *delta, *scratch;     // (NH, N); partial sums
};

struct Bert {
    BertConfig config;
    BertTensors<real> params;
    BertTensors<areal> grads;
    BertActivations acts{};
    BatchShape shape;           // capacities
    int logits_chunk_rows = 0;  // rows of logits at a time
    float dropout = 0;
    Adapters linear;         // the linear layers; with low-rank adapters these and the head alone are trained
    bool recompute = false;  // the backward pass computes x1, x2 and act again: all layers share one buffer of each
    int frozen = -1;         // fine-tuning: embeddings and so many first layers get no gradient; −1: all do
    const double* class_weights = nullptr;  // (K) in device memory, or nullptr: all 1

    int K() const { return (int)config.K(); }
    int Kp() const { return (int)config.Kp(); }
    int UP() const { return (int)(config.modern ? 2 * config.FF : config.FF); }

    // Points the tensors into these two arrays (nullptr: nowhere yet), those of the head into others, if there are
    // such; returns their table.
    std::vector<ParamSpec> point(
        real* parameters, areal* gradients, real* head = nullptr, areal* head_gradients = nullptr) {
        bert_table(grads, config, gradients, head_gradients);
        return bert_table(params, config, parameters, head);
    }

    // Buffers for `shape`; without `backward` only what the forward pass needs.
    void plan_activations(Arena& arena, bool backward) {
        size_t N = shape.N, M = shape.M, C = config.C, FF = config.FF, NH = config.NH;
        arena.region("encoder");
        arena.take_each(N * C, acts.embedded, acts.x0);
        arena.take_each(N, acts.mean_embed, acts.rstd_embed);
        for (int l = 0; l < config.L; l++) {
            auto& a = acts.layer[l] = acts.layer[0];  // what a layer does not take for itself it shares with the first
            size_t R = drops_rows(l) ? M : N;
            if (l > 0 && !backward) continue;
            if (l == 0 || !recompute) {
                arena.take_each(R * C, a.x1, a.x2);
                arena.take(a.act, R * FF);
            }
            arena.take(a.qkv, N * 3 * C);
            arena.take(a.att, N * C);
            arena.take(a.lse, NH * N);
            arena.take_each(R * C, a.sum1, a.sum2);
            arena.take_each(R, a.mean1, a.rstd1, a.mean2, a.rstd2);
            arena.take(a.pre, R * UP());
        }
        arena.take_each(M * C, acts.last_att, acts.last_x);
        const int HS = (int)(C / NH), positions = config.modern ? (int)std::min<size_t>(config.T, N) : 0;
        for (auto [table, rope] :
            {std::pair{&acts.global_rope, &config.global_rope}, {&acts.local_rope, &config.local_rope}}) {
            arena.take(*table, positions * HS);
            if (arena.base && positions)
                copy_to_device(*table, rope_table<areal>(*rope, positions, HS).data(), positions * HS * sizeof(areal));
        }
        arena.region("head");
        logits_chunk_rows = (int)round_up(std::max<size_t>(M, 1), 128);
        if (!config.classes)
            logits_chunk_rows = (int)std::min<size_t>(
                logits_chunk_rows, std::max<size_t>(128, LOGITS_BUDGET / (Kp() * sizeof(real)) / 128 * 128));
        arena.take_each(M * C, acts.head_pre, acts.head_act, acts.head_out);
        arena.take_each(M, acts.mean_head, acts.rstd_head, acts.losses, acts.correct);
        arena.take(acts.logits, (size_t)logits_chunk_rows * Kp());
        if (!backward) return;
        linear.plan(arena, N, std::max(C, FF));
        arena.region("backward pass");
        size_t wide = std::max<size_t>(UP(), 4 * C);
        arena.take_each(N * C, acts.dx, acts.dsum, acts.dbranch);
        arena.take(acts.dscratch, N * wide);
        arena.take(acts.delta, NH * N);
        arena.take(
            acts.scratch, std::max({layernorm_scratch(N, C), column_sum_scratch(N, wide), embedding_slots(N) * C}));
        arena.take(acts.dhead, M * C);
        arena.take(acts.head_scratch,
            std::max({layernorm_scratch(M, C), column_sum_scratch(M, C), column_sum_scratch(logits_chunk_rows, Kp())}));
    }

    // Dropout of a site: 0 embeddings; 3l+1 attention, 3l+2 its output, 3l+3 the feed-forward output of layer l; 3L+1
    // a classifier's, 3L+2 that before its first matrix. Its rows are the tokens, or after the last attention the M
    // rows that have a target. With adapters what they read has the only one beside the head, and they know their
    // number.
    Dropout drop(const Batch& batch, int site, bool of_adapter = false) const {
        const bool of_rows = site > 3 * (int)config.L - (config.mean_pooling ? 0 : 2);
        const bool drops = site > 3 * (int)config.L || is_lora() == of_adapter;
        return {batch.counters, (uint32_t)site, drops ? dropout : 0, of_rows ? batch.rows : nullptr};
    }
    bool is_lora() const { return !linear.of.empty(); }

    // ---------------------------------------------------------------- forward
    const areal* rope(int l) const { return config.is_local(l) ? acts.local_rope : acts.global_rope; }
    // Do only the rows that have a target get past the attention of layer l? Nobody reads the others of the last one.
    bool drops_rows(int l) const { return l == config.L - 1 && !config.mean_pooling; }

    // The encoder over the batch's N tokens; returns its output (M, C) for the rows that have a target, or with
    // mean_pooling the mean over each of their sequences.
    real* encode(const Batch& b) {
        int N = b.N, M = b.M, C = config.C, NH = config.NH, HS = C / NH, FF = config.FF;
        areal eps = (areal)config.eps;
        const real* wpe = params.wpe ? params.wpe + config.first_position * C : nullptr;
        embedding_forward(acts.embedded, params.wte, wpe, params.wtt, b.tokens, b.pos, b.types, N, C);
        norm_forward(
            acts.x0, acts.mean_embed, acts.rstd_embed, acts.embedded, params.ln_embed_w, params.ln_embed_b, N, C, eps);
        dropout_forward(acts.x0, acts.x0, N, C, drop(b, 0));
        real* x = acts.x0;  // (N, C) what the norms put out
        real* sum = x;      // (N, C) what a ModernBERT's branches are added to
        for (int l = 0; l < config.L; l++) {
            auto& w = params.layer[l];
            auto& a = acts.layer[l];
            linear.forward(a.qkv, x, w.qkvw, w.qkvb, N, C, 3 * C, drop(b, 3 * l + 1, true));
            if (config.modern)
                rope_forward(a.qkv, (areal*)nullptr, a.qkv, (const real*)nullptr, (const real*)nullptr, rope(l), b.pos,
                    N, NH, NH, HS, eps);
            attention_forward(a.att, a.lse, a.qkv, b.seq, NH, NH, HS, config.reach(l), drop(b, 3 * l + 1));
            real *att = a.att, *residual = config.modern ? sum : x;  // (R, C)
            int R = N;
            if (drops_rows(l)) {
                gather_rows(acts.last_att, a.att, b.rows, M, C);
                gather_rows(acts.last_x, residual, b.rows, M, C);
                att = acts.last_att;
                residual = acts.last_x;
                R = M;
            }
            const Dropout d = drop(b, 3 * l + 2, true);
            linear.forward(a.sum1, att, w.attw, w.attb, R, C, C, d);
            residual_norm_forward(
                a.x1, a.sum1, a.mean1, a.rstd1, residual, a.sum1, w.ln1w, w.ln1b, R, C, eps, drop(b, 3 * l + 2));
            if (config.modern || linear.find(w.fcw)) {
                linear.forward(a.pre, a.x1, w.fcw, w.fcb, R, C, UP(), d);
                activation_forward(a, R);
            } else {
                matmul_gelu_forward<Gelu::erf>(a.act, a.pre, a.x1, w.fcw, w.fcb, R, C, FF);
            }
            linear.forward(a.sum2, a.act, w.projw, w.projb, R, FF, C, d);
            residual_norm_forward(a.x2, a.sum2, a.mean2, a.rstd2, config.modern ? a.sum1 : a.x1, a.sum2, w.ln2w, w.ln2b,
                R, C, eps, drop(b, 3 * l + 3));
            x = a.x2;
            sum = a.sum2;
        }
        if (!config.mean_pooling) return x;  // else last_x is free
        mean_forward(acts.last_x, x, b.rows, b.seq.start, M, C);
        return acts.last_x;
    }
    void activation_forward(const BertActivations::Layer& a, int R) {
        if (config.modern) glu_forward<GeluErf>(a.act, a.pre, R, (int)config.FF);
        else elementwise(GeluOf<Gelu::erf>(), (size_t)R * config.FF, a.act, a.pre);
    }
    // The head up to its last product, of x (M, C): acts.head_out (M, C). Masked LM: layernorm(gelu(x headwᵀ + headb));
    // a classifier: dropout(tanh(x headwᵀ + headb)), but relu of DistilBERT, of RoBERTa with dropout of x as well, of
    // ModernBERT with masked LM's layernorm(gelu(...)).
    void head_forward(const Batch& b, real* x) {
        const int M = b.M, C = config.C, L = (int)config.L;
        const size_t n = (size_t)M * C;
        if (config.head() == Head::dropout_tanh) dropout_forward(x, x, M, C, drop(b, 3 * L + 2));
        if (config.head() == Head::gelu_norm) {
            matmul_gelu_forward<Gelu::erf>(acts.head_act, acts.head_pre, x, params.headw, params.headb, M, C, C);
            norm_forward(acts.head_out, acts.mean_head, acts.rstd_head, acts.head_act, params.ln_head_w,
                params.ln_head_b, M, C, (areal)config.eps);
        } else {
            matmul_forward(acts.head_act, x, params.headw, params.headb, M, C, C);
            if (config.head() == Head::relu) elementwise(ReluOf(), n, acts.head_act, acts.head_act);
            else elementwise(TanhOf(), n, acts.head_act, acts.head_act);
        }
        const real* out = config.head() == Head::gelu_norm ? acts.head_out : acts.head_act;
        if (config.classes) dropout_forward(acts.head_out, out, M, C, drop(b, 3 * L + 1));
    }
    // Rows [m, m + rows) of the logits, in acts.logits (rows, Kp)
    void logits_forward(int m, int rows) {
        matmul_forward(
            acts.logits, acts.head_out + (size_t)m * config.C, params.outw, params.outb, rows, config.C, Kp());
    }

    // The loss of acts.head_out(M, C): adds its Σ and the hits to `stats`. In chunks of rows: logits = head_out outwᵀ +
    // outb, loss, and with `backward` straight back to acts.dhead(M, C).
    void loss(const Batch& b, StepStats* stats, bool backward) {
        int C = config.C;
        for (int m = 0; m < b.M; m += logits_chunk_rows) {
            int rows = std::min(logits_chunk_rows, b.M - m);
            logits_forward(m, rows);
            crossentropy(acts.losses + m, acts.correct + m, acts.logits, b.targets + m, b.loss_scale, rows, K(), Kp(),
                backward, class_weights);
            if (!backward) continue;
            matmul_backward_input(acts.dhead + (size_t)m * C, acts.logits, params.outw, rows, C, Kp());
            matmul_backward_weight(
                grads.outw, grads.outb, acts.logits, acts.head_out + (size_t)m * C, acts.head_scratch, rows, C, Kp());
        }
        sum_losses(stats, acts.losses, acts.correct, b.M);
    }
    // Adds the batch's Σ losses and hits to `stats`. No gradients.
    void forward(const Batch& b, StepStats* stats) {
        head_forward(b, encode(b));
        loss(b, stats, false);
    }

    // ---------------------------------------------------------------- forward and backward
    // Adds the batch's part of the loss to `stats` and of the gradients to `grads`. Each line of the backward pass
    // stands under the forward line that it differentiates.
    void forward_backward(const Batch& b, StepStats* stats) {
        const int M = b.M, C = config.C, L = (int)config.L;
        const size_t n = (size_t)M * C;
        real* x = encode(b);  // (M, C)
        head_forward(b, x);
        loss(b, stats, true);

        // head_out = dropout(layernorm(head_act)), head_act = gelu(head_pre), or its like; head_pre = x headwᵀ + headb
        if (config.classes) dropout_forward(acts.dhead, acts.dhead, M, C, drop(b, 3 * L + 1));
        if (config.head() == Head::gelu_norm) {
            norm_backward(acts.dhead, grads.ln_head_w, grads.ln_head_b, acts.dhead, acts.head_act, params.ln_head_w,
                acts.mean_head, acts.rstd_head, acts.head_scratch, M, C);
            elementwise(GeluGradient<Gelu::erf>(), n, acts.dhead, acts.dhead, acts.head_pre);
        } else if (config.head() == Head::relu) {
            elementwise(ReluGradient(), n, acts.dhead, acts.dhead, acts.head_act);
        } else {
            elementwise(TanhGradient(), n, acts.dhead, acts.dhead, acts.head_act);
        }
        matmul_backward_weight(grads.headw, grads.headb, acts.dhead, x, acts.head_scratch, M, C, C);
        if (frozen >= config.L) return;
        real* dx = config.mean_pooling ? acts.dbranch : acts.dx;  // (M, C)
        matmul_backward_input(dx, acts.dhead, params.headw, M, C, C);
        if (config.head() == Head::dropout_tanh) dropout_forward(dx, dx, M, C, drop(b, 3 * L + 2));
        if (config.mean_pooling) mean_backward(acts.dx, dx, b.rows, b.seq.start, b.N, M, C);
        encode_backward(b);
    }

    // From acts.dx (M, C), or with mean_pooling (N, C), the gradient of the encoder's output, to those of all its
    // parameters that are not frozen
    void encode_backward(const Batch& b) {
        int N = b.N, M = b.M, C = config.C, NH = config.NH, HS = C / NH, FF = config.FF;
        areal eps = (areal)config.eps;
        real *dqkv = acts.dscratch, *datt = acts.dscratch + (size_t)N * 3 * C;  // (N, 3C), (N, C)
        real* dpre = acts.dscratch;                                             // (N, UP)
        const bool modern = config.modern;
        real* dx1 = modern ? acts.dx : acts.dsum;        // (N, C) gradient of x1
        real* dresidual = modern ? acts.dsum : acts.dx;  // (N, C) of what a layer's attention is added to
        for (int l = config.L - 1; l >= std::max(frozen, 0); l--) {
            auto& w = params.layer[l];
            auto& g = grads.layer[l];
            auto& a = acts.layer[l];
            const real* x = l == 0 ? acts.x0 : acts.layer[l - 1].x2;  // (N, C) input of the layer
            const bool last = drops_rows(l);
            const int R = last ? M : N;
            // x2 = layernorm(sum2 = x1 + dropout(act projwᵀ + projb)): dsum goes to x1, dbranch into the branch; of a
            // ModernBERT it goes to sum1, and there is already in dsum what reaches sum2 from later layers
            residual_norm_backward(acts.dsum, acts.dbranch, g.ln2w, g.ln2b, acts.dx,
                modern && l < config.L - 1 ? acts.dsum : nullptr, a.sum2, w.ln2w, a.mean2, a.rstd2, acts.scratch, R, C,
                drop(b, 3 * l + 3));
            if (recompute) activation_forward(a, R);
            const Dropout d = drop(b, 3 * l + 2, true), all = drop(b, 3 * l + 1, true);
            linear.backward_weight(g.projw, g.projb, acts.dbranch, a.act, w.projw, acts.scratch, R, FF, C, d);
            if (modern || linear.find(w.projw)) {
                linear.backward_input(a.act, acts.dbranch, w.projw, R, FF, C, d);  // act is not needed any more
                if (modern) glu_backward<GeluErf>(dpre, a.act, a.pre, R, FF);
                else elementwise(GeluGradient<Gelu::erf>(), (size_t)R * FF, dpre, a.act, a.pre);
            } else {
                matmul_backward_input_gelu<Gelu::erf>(dpre, acts.dbranch, w.projw, a.pre, R, FF, C);
            }
            // act = gelu(pre), pre = x1 fcwᵀ + fcb; x1 has two uses in a BERT, the second gradient is added to the
            // first
            if (recompute) norm_forward(a.x1, a.mean1, a.rstd1, a.sum1, w.ln1w, w.ln1b, R, C, eps);
            linear.backward_weight(g.fcw, g.fcb, dpre, a.x1, w.fcw, acts.scratch, R, C, UP(), d);
            linear.backward_input(dx1, dpre, w.fcw, R, C, UP(), d, !modern);
            // x1 = layernorm(sum1 = residual + dropout(att attwᵀ + attb)), residual = x; of a ModernBERT the sum below
            real* dres = last ? acts.dscratch : dresidual;  // (R, C)
            residual_norm_backward(dres, acts.dbranch, g.ln1w, g.ln1b, dx1, modern ? acts.dsum : nullptr, a.sum1,
                w.ln1w, a.mean1, a.rstd1, acts.scratch, R, C, drop(b, 3 * l + 2));
            linear.backward_weight(
                g.attw, g.attb, acts.dbranch, last ? acts.last_att : a.att, w.attw, acts.scratch, R, C, C, d);
            linear.backward_input(last ? dx1 : datt, acts.dbranch, w.attw, R, C, C, d);
            if (last) {  // last_att = att[rows], last_x = residual[rows]
                scatter_rows(datt, dx1, b.rows, N, M, C);
                scatter_rows(dresidual, dres, b.rows, N, M, C);
            }
            // att = attention(qkv)
            attention_backward(
                dqkv, acts.delta, datt, a.att, a.qkv, a.lse, b.seq, NH, NH, HS, config.reach(l), drop(b, 3 * l + 1));
            if (modern)
                rope_backward(dqkv, (areal*)nullptr, (areal*)nullptr, a.qkv, (const real*)nullptr, (const real*)nullptr,
                    (areal*)nullptr, rope(l), b.pos, acts.scratch, N, NH, NH, HS);
            // qkv = x qkvwᵀ + qkvb; x has two uses, but in a ModernBERT only x0
            if (recompute && l > 0) {
                auto& w_below = params.layer[l - 1];
                auto& below = acts.layer[l - 1];
                norm_forward(below.x2, below.mean2, below.rstd2, below.sum2, w_below.ln2w, w_below.ln2b, N, C, eps);
            }
            linear.backward_weight(g.qkvw, g.qkvb, dqkv, x, w.qkvw, acts.scratch, N, C, 3 * C, all);
            const bool two_uses = !modern || l == 0;
            linear.backward_input(two_uses ? dresidual : acts.dx, dqkv, w.qkvw, N, C, 3 * C, all, two_uses);
        }
        if (frozen >= 0) return;
        // x0 = dropout(layernorm(embedded))
        real* dx0 = dresidual;
        dropout_forward(dx0, dx0, N, C, drop(b, 0));
        norm_backward(dx0, grads.ln_embed_w, grads.ln_embed_b, dx0, acts.embedded, params.ln_embed_w, acts.mean_embed,
            acts.rstd_embed, acts.scratch, N, C);
        // embedded = wte[tokens] + wpe[pos] + wtt[types]
        embedding_backward(grads.wte, dx0, b.by_token, acts.scratch, C);
        if (grads.wpe) embedding_backward(grads.wpe + config.first_position * C, dx0, b.by_pos, acts.scratch, C);
        if (grads.wtt) embedding_backward(grads.wtt, dx0, b.by_type, acts.scratch, C);
    }

    // Work of one token, forward and backward, in FLOP: 2 per weight of a matrix product and pass, of which there are
    // three, one through what is frozen, two below adapters, which are left out. T: the length of its sequence;
    // fraction: of the tokens, those that have a target, which alone get past the last attention
    double flops_per_token(double T, double fraction) const {
        double C = config.C, products = 3 * fraction * (C * K() + C * C);
        for (int l = 0; l < config.L; l++) {
            double seen = std::min(T, 1.0 + config.reach(l).before + config.reach(l).after);
            double rest = (drops_rows(l) ? fraction : 1) * (C * C + (UP() + config.FF) * C);  // after its attention
            products += (l < frozen ? 1 : is_lora() ? 2 : 3) * (3 * C * C + rest) + (l < frozen ? 1 : 3) * 2 * seen * C;
        }
        return 2 * products;
    }
};

// ---------------------------------------------------------------- pretraining
struct BertFlags {
    ModelFlags model{{{"tiny", 2, 128}, {"mini", 4, 256}, {"small", 4, 512}, {"medium", 8, 512}, {"base", 12, 768},
                         {"large", 24, 1024}},
        128};
    std::string arch = "bert";
    double mask_rate = 0.15;
    bool whole_words = false;

    // A new model. A ModernBERT of a size has the layers and the width of that BERT, and two thirds of its parameters.
    BertConfig config(const Tokenizer& tokenizer) const {
        BertConfig c = model.config<BertConfig>();
        c.type = arch;
        c.modern = arch == "modernbert";
        c.V = (int64_t)tokenizer.tokens.size();
        c.pad_id = tokenizer.pad();
        if (!c.modern) return c;
        c.types = 0;
        c.eps = 1e-5;
        c.bos = tokenizer.cls();
        c.eos = tokenizer.sep();
        if (!model.ffn_dim) c.FF = 3 * c.C / 2;
        return c;
    }
};

// What of a model may not change in a resumed run (resume.h)
Json model_identity(const BertConfig& c) {
    Json all = model_identity<BertConfig>(c).set("model_type", c.type);
    if (c.modern) all.set("window", c.window).set("global_every", c.global_every).set("mean_pooling", c.mean_pooling);
    if (c.modern) all.set("global_theta", c.global_rope.theta).set("local_theta", c.local_rope.theta);
    return all;
}

struct BertTask : PretrainTask<Bert, MaskedLmData, Tokenizer> {
    const BertFlags& bf;

    BertTask(const TrainFlags& f, const BertFlags& bf, const PretrainData<Tokenizer>& data, const BertConfig& config)
        : PretrainTask(f, data, (int)bf.model.max_len, data.tokenizer), bf(bf) {
        const BertType& names = bert_type(config.type);
        head = {names.head, names.head_norm, names.decoder};
        train_data.rate = bf.mask_rate;
        train_data.whole_words = bf.whole_words;
        set_up(config, shape_for(f.batch_tokens), data.tokenizer.pad(), bf.model.max_len);
        builder.last_type = config.last_type();
    }
    // Rows for the targets of a micro-batch: 25 % more than the average; the builder closes a batch that has so many.
    BatchShape shape_for(int64_t tokens) const {
        double rows = 1.25 * std::max(bf.mask_rate, 0.15) * (double)tokens;
        rows = std::max(rows, 0.15 * (double)bf.model.max_len) + 64;
        BatchShape s;
        s.N = (int)tokens;
        s.M = (int)std::min((size_t)tokens, round_up((size_t)rows, 128));
        return s;
    }
    // What the tokenizer puts around a text and, in every second sequence, around two
    double tokens_per_epoch() const {
        const double added = (double)(data.tokenizer.added(false) + data.tokenizer.added(true)) / 2;
        return (double)data.train.tokens() + added * (double)train_data.sequences();
    }
    std::string sequences() const { return thousands((double)train_data.sequences()) + " sequences"; }

    // Validation always masks 15 %, with masks and sequences that depend on the data alone, so that all runs compare.
    Eval evaluate() {
        Eval e = mean_loss(*this, val_data, val_sequences);
        e.report = format("loss %.4f | perplexity %.2f | accuracy %.2f %%", e.loss, exp(e.loss), 100 * e.accuracy);
        e.numbers.set("val_perplexity", exp(e.loss));
        return e;
    }
    void save_model(const std::string& dir) {
        write_bert_config(dir, model.config);
        data.tokenizer.save(dir, (int)model.config.T);
        opt.save(dir);
    }
};

int train_bert(Cli& cli, TrainFlags& f, const BertFlags& bf) {
    prepare_flags(cli, f, {"train.bin", "val.bin"}, {"data/books.py", "data/text.py"});
    open_run_dir(f);
    PretrainData<Tokenizer> data(f.data);

    BertConfig config = bf.config(data.tokenizer);
    std::string init = starting_model(cli, f);
    if (!init.empty()) {
        config = read_bert_config(init);
        if (!config.takes_pairs())
            fail("%s/config.json: type_vocab_size: expected at least 2, for pairs of segments, found %lld",
                init.c_str(), (long long)config.types);
        data.check_init(init, config.V);
    }
    // Wider encoders take lower rates; BERT-base was published with 1e-4 (Devlin et al. 2018)
    if (f.lr == 0) f.lr = config.C <= 256 ? 1e-3 : config.C <= 512 ? 5e-4 : config.C <= 768 ? 2e-4 : 1e-4;
    if (config.modern && !f.resume && !cli.given("dropout")) f.dropout = 0;
    config.dropout = config.attention_dropout = f.dropout;
    bf.model.check_max_len(config.T, f.batch_tokens);

    BertTask task(f, bf, data, config);
    return pretrain(task, cli, f, init, bf.model.max_len);
}

// ---------------------------------------------------------------- fill-mask
// A model without gradients
struct LoadedEncoder : ModelPaths {
    const std::string dir;  // where its config is
    Bert model;
    Tokenizer tokenizer;
    BatchBuilder builder;
    char* block = nullptr;  // a batch in device memory
    std::shared_ptr<void> memory;

    explicit LoadedEncoder(const std::string& path, const std::string& adapter_path = "")
        : ModelPaths(path, adapter_path), dir(of("config.json")) {
        model.config = read_bert_config(dir);
        tokenizer = Tokenizer::load(of("tokenizer_config.json"));
        check_vocabulary(dir, tokenizer.tokens.size(), model.config.V);
        tokenizer.check_encoder();
    }
    // For batches of N tokens and M rows, and sequences of up to T tokens
    void load(int N, int M, int64_t T, int multiple) {
        BatchShape& shape = model.shape;
        shape.N = N;
        shape.M = M;
        builder.set_up(shape, tokenizer.pad(), (int)T, multiple);
        builder.last_type = model.config.last_type();
        memory = load_parameters(
            *this, [&](real* params) { return model.point(params, nullptr); },
            [&](Arena& arena) {
                model.plan_activations(arena, false);
                arena.take(block, shape.bytes());
            });
    }
};
// For up to `tokens` tokens at a time
struct LoadedBert : LoadedEncoder {
    LoadedBert(const std::string& path, int tokens) : LoadedEncoder(path) {
        load(tokens, tokens, model.config.T, tokens);
    }
    // The logits (masks, Kp) of the [MASK]s of a text
    std::vector<std::vector<real>> run(const std::string& text, size_t number) {
        std::vector<int> ids, types, words = tokenizer.encode(text);
        if (size_t invalid = count_invalid(text))
            fail("text %zu: expected UTF-8, found %zu bytes that are not", number, invalid);
        join_segments(ids, types, words.data(), words.size(), nullptr, 0, tokenizer, SIZE_MAX);
        if (int64_t longest = std::min<int64_t>(model.config.T, model.shape.N); (int64_t)ids.size() > longest)
            fail("the text has %zu tokens, the model takes %lld: shorten it: \"%.60s...\"", ids.size(),
                (long long)longest, text.c_str());
        std::vector<int> positions;
        for (size_t i = 0; i < ids.size(); i++)
            if (ids[i] == tokenizer.mask()) positions.push_back((int)i);
        builder.clear();
        builder.add(ids, types, positions, std::vector<int>(positions.size(), 0));
        Batch batch = builder.send(block);
        model.head_forward(batch, model.encode(batch));
        std::vector<std::vector<real>> logits(positions.size(), std::vector<real>(model.Kp()));
        for (size_t k = 0; k < logits.size(); k++) {
            model.logits_forward((int)k, 1);
            copy_to_host(logits[k].data(), model.acts.logits, model.Kp() * sizeof(real));
        }
        return logits;
    }
};

// The probabilities (n) of n classes or tokens
std::vector<double> softmax(const real* logits /* (n) */, int n) {
    std::vector<double> p(logits, logits + n);
    const double max = *std::max_element(p.begin(), p.end());
    double sum = 0;
    for (double& x : p) sum += x = std::exp(x - max);
    if (!std::isfinite(sum))
        throw Error(
            EXIT_NOT_FINITE, "the model's output is not finite: its parameters are damaged, or training went wrong");
    for (double& x : p) x /= sum;
    return p;
}

struct FillFlags {
    std::string model, logits;
    bool json = false;
    int64_t top_k = 5;
};

// Prints the most likely tokens for every [MASK] of every text.
int fill_mask(const FillFlags& f, const std::vector<std::string>& texts) {
    if (!f.logits.empty()) refuse_existing("--logits", f.logits);
    LoadedBert bert(f.model, 4096);
    const std::vector<std::string>& tokens = bert.tokenizer.tokens;
    const std::string mask = tokens[bert.tokenizer.mask()];
    for (const std::string& text : texts)
        if (text.find(mask) == std::string::npos)
            fail_usage("expected at least one %s in every text, found none: \"%s\"", mask.c_str(), text.c_str());
    const int V = (int)bert.model.config.V, top_k = (int)std::min<int64_t>(f.top_k, V);
    std::vector<float> all_logits;  // (masks, V)
    size_t masks = 0;
    for (const std::string& text : texts) {
        const std::vector<std::vector<real>> logits = bert.run(text, &text - &texts[0] + 1);
        Json answers = Json::make_array();
        if (!f.json) printf("%s%s\n", masks ? "\n" : "", visible(text).c_str());
        for (size_t k = 0; k < logits.size(); k++, masks++) {
            const std::vector<double> p = softmax(logits[k].data(), V);
            if (!f.logits.empty()) all_logits.insert(all_logits.end(), logits[k].begin(), logits[k].begin() + V);
            std::vector<int> order(V);
            std::iota(order.begin(), order.end(), 0);
            std::partial_sort(
                order.begin(), order.begin() + top_k, order.end(), [&](int v, int w) { return p[v] > p[w]; });
            Json guesses = Json::make_array();
            for (int i = 0; i < top_k; i++) {
                int id = order[i];
                std::string token = id < (int)tokens.size() ? tokens[id] : format("[%d]", id);
                if (!f.json)
                    printf("  %s %-3zu %5.1f %%  %s\n", mask.c_str(), k + 1, 100 * p[id], visible(token).c_str());
                guesses.a.push_back(Json::make_object().set("token", token).set("id", id).set("p", p[id]));
            }
            answers.a.push_back(guesses);
        }
        if (f.json) printf("%s\n", dump_json(Json::make_object().set("text", text).set("masks", answers)).c_str());
    }
    flush_output();
    if (!f.logits.empty()) write_safetensors(f.logits, {{"logits", "F32", {masks, (size_t)V}, all_logits.data()}});
    return EXIT_OK;
}

// ---------------------------------------------------------------- main
#if __INCLUDE_LEVEL__ == 0  // not when another program or a test includes this file
int main(int argc, char** argv) {
    reexec_with_omp_policy(argv);
    return run_program([&] {
        blas_init();
        TrainFlags f;
        BertFlags bf;
        FillFlags ff;
        std::vector<FlagGroup> groups = f.groups();
        FlagGroup dimensions = bf.model.group(MAX_LAYERS, 5,
            "longest training sequence, in tokens; a model from scratch learns much faster from short ones (32) at "
            "first",
            "longest input that the model will take, in tokens; 0: --max-len");
        dimensions.flags.insert(dimensions.flags.begin(),
            {"arch", &bf.arch, "bert|modernbert",
                "norms last, learned positions and GELU; or norms first, RoPE and GeGLU, without biases, two of three "
                "layers seeing 64 tokens to each side, dropout 0 if no other is asked for"});
        groups.insert(groups.begin() + 1, dimensions);
        describe(groups, "ffn-dim",
            "number of channels inside the feed-forward part; 0: 4 x hidden size, or 1.5 x for modernbert");
        groups.push_back({"Masked LM", "train",
            {{"mlm-probability|mask-rate", &bf.mask_rate, between(0.01, 0.9),
                 "fraction of the tokens to predict in training (validation: always 0.15)"},
                {"whole-word-mask|whole-words", &bf.whole_words, "mask all pieces of a word together"}}});
        groups.push_back({"Inference", "fill-mask",
            {{"model", &ff.model, "DIR", "run directory or model directory"},
                {"top-k|top", &ff.top_k, between(1, 1000), "number of tokens to show for each [MASK]"},
                {"json", &ff.json, "print a line of JSON for each text"},
                {"logits", &ff.logits, "FILE", "also write the logits (masks, V) as safetensors"}}});
        Cli cli{"train_bert", "pretraining of a BERT encoder by masked LM.",
            "  ./train_bert --data datasets/books --size mini --steps 2000 --out runs/bert\n"
            "  ./train_bert --resume --out runs/bert\n"
            "  ./train_bert fill-mask --model runs/bert \"the old man was very [MASK] .\"\n",
            {{"train", "", "pretrain on DATA/train.bin"},
                {"fill-mask", "TEXT...", "the most likely tokens for every [MASK]", 1, CLI_MANY}},
            groups};
        if (!cli.parse(argc, argv)) return (int)EXIT_OK;
        return cli.command == "fill-mask" ? fill_mask(ff, cli.positional) : train_bert(cli, f, bf);
    });
}
#endif
#endif  // TRAIN_BERT_CU
