// train_bert.cu: pretraining of a BERT encoder by masked LM (Devlin et al. 2018), from one end to the other.
//
//   make && ./train_bert --data data/books --size mini --out runs/bert       train
//   ./train_bert fill-mask --model runs/bert "the old man was very [MASK] ." ask
//
// Read in this order: config → parameters → activations → forward → backward → the task (data, validation) → main.
// The model is post-LN: x = LN(x + dropout(attention(x))), x = LN(x + dropout(mlp(x))). Dimensions:
// common/base/common.h.
#ifndef TRAIN_BERT_CU
#define TRAIN_BERT_CU
#include <algorithm>
#include <cmath>

#include "common/base/cli.h"
#include "common/data/dataloader.h"
#include "common/device/arena.h"
#include "common/ops/adamw.cuh"
#include "common/ops/attention.cuh"
#include "common/ops/crossentropy.cuh"
#include "common/ops/embedding.cuh"
#include "common/ops/gather.cuh"
#include "common/ops/layernorm.cuh"
#include "common/ops/matmul.cuh"
#include "common/train/bert_config.h"
#include "common/train/console.h"
#include "common/train/flags.h"
#include "common/train/identity.h"
#include "common/train/loop.h"
#include "common/train/memory.h"
#include "common/train/optimizer.h"
#include "common/train/parameters.h"
#include "common/train/resume.h"
#include "common/train/validation.h"

using namespace device;  // the one place that picks what runs: the loops of cpu:: or the kernels of gpu::

// ---------------------------------------------------------------- parameters
template <class X>  // X: real for the parameters, areal for their gradients
struct BertTensors {
    X* wte;                      // (Vp, C)  word embeddings, and the decoder of the masked-LM head
    X* wpe;                      // (T, C)
    X* wtt;                      // (types, C)
    X *ln_embed_w, *ln_embed_b;  // (C)
    struct Layer {
        X *qkvw, *qkvb;    // (3C, C), (3C)
        X *attw, *attb;    // (C, C), (C)
        X *ln1w, *ln1b;    // (C)
        X *fcw, *fcb;      // (FF, C), (FF)
        X *projw, *projb;  // (C, FF), (C)
        X *ln2w, *ln2b;    // (C)
    } layer[MAX_LAYERS];
    X *headw, *headb;          // (C, C), (C)
    X *ln_head_w, *ln_head_b;  // (C)
    X* decoder_bias;           // (Vp)
};

// The encoder's part of the table of parameters: sizes, pointers, initialisation, weight decay, checkpoints and tests
// all come from it.
template <class X>
void encoder_table(TableBuilder<X>& table, BertTensors<X>& t, const BertConfig& c) {
    size_t C = c.C, FF = c.FF, V = c.V, Vp = round_up(V, 64);
    table.tensor(t.wte, {"bert.embeddings.word_embeddings.weight"}, {V, C}, true, Init::normal, -1, Vp * C);
    table.tensor(t.wpe, {"bert.embeddings.position_embeddings.weight"}, {(size_t)c.T, C}, true, Init::normal, -1);
    table.tensor(t.wtt, {"bert.embeddings.token_type_embeddings.weight"}, {(size_t)c.types, C}, true, Init::normal, -1);
    table.layernorm(t.ln_embed_w, t.ln_embed_b, "bert.embeddings.LayerNorm", C, -1);
    for (int l = 0; l < c.L; l++) {
        auto& p = t.layer[l];
        std::string name = format("bert.encoder.layer.%d.", l);
        table.linear(p.qkvw, p.qkvb, name + "attention.self.", {"query", "key", "value"}, C, C, l);
        table.linear(p.attw, p.attb, name + "attention.output.", {"dense"}, C, C, l);
        table.layernorm(p.ln1w, p.ln1b, name + "attention.output.LayerNorm", C, l);
        table.linear(p.fcw, p.fcb, name + "intermediate.", {"dense"}, FF, C, l);
        table.linear(p.projw, p.projb, name + "output.", {"dense"}, C, FF, l);
        table.layernorm(p.ln2w, p.ln2b, name + "output.LayerNorm", C, l);
    }
}
// The whole table: the encoder and the masked-LM head.
template <class X>
std::vector<ParamSpec> bert_table(BertTensors<X>& t, const BertConfig& c, X* base) {
    TableBuilder<X> table{c.init_std, {}, {}};
    int L = (int)c.L;
    encoder_table(table, t, c);
    table.linear(t.headw, t.headb, "cls.predictions.transform.", {"dense"}, c.C, c.C, L);
    table.layernorm(t.ln_head_w, t.ln_head_b, "cls.predictions.transform.LayerNorm", c.C, L);
    table.tensor(t.decoder_bias, {"cls.predictions.bias"}, {(size_t)c.V}, false, Init::zeros, L, round_up(c.V, 64));
    return table.point(base);
}

// ---------------------------------------------------------------- activations
struct BertActivations {
    real* embedded;                  // (N, C)  sum of the three embeddings
    areal *mean_embed, *rstd_embed;  // (N)
    real* x0;                        // (N, C)  input of the first layer
    struct Layer {
        real* qkv;             // (N, 3, NH, HS)
        real* att;             // (N, C)  heads side by side
        areal* lse;            // (NH, N)
        real* sum1;            // (N, C)  residual + dropout(attention's output)
        areal *mean1, *rstd1;  // (N)
        real* x1;              // (N, C)  after the first LayerNorm
        real *pre, *act;       // (N, FF) before and after GELU
        real* sum2;            // (N, C)
        areal *mean2, *rstd2;  // (N)
        real* x2;              // (N, C)  output of the layer
    } layer[MAX_LAYERS];       // of the last layer everything behind `lse` has only the M rows that have a target
    real *last_att, *last_x;   // (M, C)  these rows of the last layer's att and input
    // head, over the M rows that have a target
    real *head_pre, *head_act, *head_out;  // (M, C)
    areal *mean_head, *rstd_head;          // (M)
    real* logits;                          // (head_rows, Vp) of so many rows at a time; overwritten by their gradient
    areal *losses, *correct;               // (M)
    // gradients on the way back
    real* dhead;                // (M, C)
    areal* head_scratch;        // partial sums
    real *dx, *dsum, *dbranch;  // (N, C)
    real* dwide;                // (N, max(FF, 4C))
    areal *delta, *scratch;     // (NH, N); partial sums
};

struct Bert {
    BertConfig config;
    BertTensors<real> params;
    BertTensors<areal> grads;
    BertActivations acts;
    BatchShape shape;   // capacities
    int head_rows = 0;  // rows of logits at a time
    float dropout = 0;
    bool recompute =
        false;        // the backward pass computes x1, x2 and act again: all layers share the buffers of the first
    int frozen = -1;  // fine-tuning: embeddings and so many first layers get no gradient; −1: all do

    int Vp() const { return (int)round_up(config.V, 64); }

    // Buffers for `shape`; without `backward` only what the forward pass needs.
    void plan_activations(Arena& arena, bool backward) {
        plan_encoder(arena, backward);
        plan_head(arena, backward);
    }
    void plan_encoder(Arena& arena, bool backward) {
        size_t N = shape.N, C = config.C, FF = config.FF, NH = config.NH;
        auto& a = acts;
        arena.region("LayerNorms, GELU");
        for (int l = 0; l < config.L; l++) {
            auto &p = a.layer[l], &first = a.layer[0];
            size_t R = l == config.L - 1 ? shape.M : N;
            if (l > 0 && (recompute || !backward)) {
                p.x1 = first.x1;
                p.x2 = first.x2;
                p.act = first.act;
            } else {
                arena.take(p.x1, R * C);
                arena.take(p.x2, R * C);
                arena.take(p.act, R * FF);
            }
        }
        arena.region("encoder");
        arena.take(a.embedded, N * C);
        arena.take(a.mean_embed, N);
        arena.take(a.rstd_embed, N);
        arena.take(a.x0, N * C);
        for (int l = 0; l < config.L; l++) {
            auto& p = a.layer[l];
            if (l > 0 && !backward) {  // without a backward pass all layers share the first one's buffers
                p = a.layer[0];
                continue;
            }
            size_t R = l == config.L - 1 ? shape.M : N;
            arena.take(p.qkv, N * 3 * C);
            arena.take(p.att, N * C);
            arena.take(p.lse, NH * N);
            arena.take(p.sum1, R * C);
            arena.take(p.mean1, R);
            arena.take(p.rstd1, R);
            arena.take(p.pre, R * FF);
            arena.take(p.sum2, R * C);
            arena.take(p.mean2, R);
            arena.take(p.rstd2, R);
        }
        arena.take(a.last_att, shape.M * C);
        arena.take(a.last_x, shape.M * C);
        if (!backward) return;
        size_t wide = std::max(FF, 4 * C);
        arena.take(a.dx, N * C);
        arena.take(a.dsum, N * C);
        arena.take(a.dbranch, N * C);
        arena.take(a.dwide, N * wide);
        arena.take(a.delta, NH * N);
        arena.take(a.scratch, std::max({layernorm_scratch(N, C), column_sum_scratch(N, wide), embedding_slots(N) * C}));
    }
    void plan_head(Arena& arena, bool backward) {
        size_t M = shape.M, C = config.C;
        head_rows = (int)std::min(round_up(std::max<size_t>(M, 1), 128),
                                  std::max<size_t>(128, LOGITS_BUDGET / (Vp() * sizeof(real)) / 128 * 128));
        auto& a = acts;
        arena.region("masked-LM head");
        arena.take(a.head_pre, M * C);
        arena.take(a.head_act, M * C);
        arena.take(a.head_out, M * C);
        arena.take(a.mean_head, M);
        arena.take(a.rstd_head, M);
        arena.take(a.logits, (size_t)head_rows * Vp());
        arena.take(a.losses, M);
        arena.take(a.correct, M);
        if (!backward) return;
        arena.take(a.dhead, M * C);
        arena.take(a.head_scratch,
                   std::max({layernorm_scratch(M, C), column_sum_scratch(M, C), column_sum_scratch(head_rows, Vp())}));
    }

    // Dropout of a site: 0 embeddings; 3l+1 attention, 3l+2 its output, 3l+3 the feed-forward output of layer l. Its
    // rows are the tokens, or behind the last attention the M rows that have a target.
    Dropout drop(const Batch& batch, int site) const {
        return {batch.counters, (uint32_t)site, dropout, site > 3 * (int)config.L - 2 ? batch.rows : nullptr};
    }

    // ---------------------------------------------------------------- forward
    // The encoder over the batch's N tokens; returns its output (M, C) for the rows that have a target. Nobody reads
    // the others, so behind the attention of the last layer they are not computed.
    real* encode(const Batch& b) {
        int N = b.N, M = b.M, C = config.C, NH = config.NH, HS = C / NH, FF = config.FF;
        areal eps = (areal)config.eps;
        auto& a = acts;
        embedding_forward(a.embedded, params.wte, params.wpe, params.wtt, b.tokens, b.pos, b.types, N, C);
        layernorm_forward(a.x0, a.mean_embed, a.rstd_embed, a.embedded, params.ln_embed_w, params.ln_embed_b, N, C,
                          eps);
        dropout_forward(a.x0, a.x0, N, C, drop(b, 0));
        real* x = a.x0;  // (N, C)
        for (int l = 0; l < config.L; l++) {
            auto& p = params.layer[l];
            auto& q = a.layer[l];
            matmul_forward(q.qkv, x, p.qkvw, p.qkvb, N, C, 3 * C);
            attention_forward(q.att, q.lse, q.qkv, b.seq, NH, HS, false, drop(b, 3 * l + 1));
            real* att = q.att;  // (R, C)
            int R = N;
            if (l == config.L - 1) {
                gather_rows(a.last_att, q.att, b.rows, M, C);
                gather_rows(a.last_x, x, b.rows, M, C);
                att = a.last_att;
                x = a.last_x;
                R = M;
            }
            matmul_forward(q.sum1, att, p.attw, p.attb, R, C, C);
            residual_layernorm_forward(q.x1, q.sum1, q.mean1, q.rstd1, x, q.sum1, p.ln1w, p.ln1b, R, C, eps,
                                       drop(b, 3 * l + 2));
            matmul_gelu_forward<Gelu::erf>(q.act, q.pre, q.x1, p.fcw, p.fcb, R, C, FF);
            matmul_forward(q.sum2, q.act, p.projw, p.projb, R, FF, C);
            residual_layernorm_forward(q.x2, q.sum2, q.mean2, q.rstd2, q.x1, q.sum2, p.ln2w, p.ln2b, R, C, eps,
                                       drop(b, 3 * l + 3));
            x = q.x2;
        }
        return x;
    }
    // The masked-LM head up to its last LayerNorm, of x (M, C): acts.head_out (M, C).
    void head_forward(const Batch& b, const real* x) {
        int M = b.M, C = config.C;
        auto& a = acts;
        matmul_gelu_forward<Gelu::erf>(a.head_act, a.head_pre, x, params.headw, params.headb, M, C, C);
        layernorm_forward(a.head_out, a.mean_head, a.rstd_head, a.head_act, params.ln_head_w, params.ln_head_b, M, C,
                          (areal)config.eps);
    }
    // Rows [m, m + rows) of the logits, in acts.logits (rows, Vp)
    void logits_forward(int m, int rows) {
        matmul_forward(acts.logits, acts.head_out + (size_t)m * config.C, params.wte, params.decoder_bias, rows,
                       config.C, Vp());
    }

    // Adds the batch's Σ losses and hits to `stats`. No gradients.
    void forward(const Batch& b, StepStats* stats) {
        head_forward(b, encode(b));
        for (int m = 0; m < b.M; m += head_rows) {
            int rows = std::min(head_rows, b.M - m);
            logits_forward(m, rows);
            crossentropy(acts.losses + m, acts.correct + m, acts.logits, b.targets + m, b.loss_scale, rows, config.V,
                         Vp(), false);
        }
        sum_losses(stats, acts.losses, acts.correct, b.M);
    }

    // ---------------------------------------------------------------- forward and backward
    // Adds the batch's share of the loss to `stats` and of the gradients to `grads`. Each line of the backward pass
    // stands under the forward line that it differentiates.
    void forward_backward(const Batch& b, StepStats* stats) {
        int M = b.M, C = config.C;
        auto& a = acts;
        real* x = encode(b);  // (M, C)
        head_forward(b, x);

        // the vocabulary, in chunks of rows: logits = head_out wteᵀ + decoder_bias, loss, and straight back
        for (int m = 0; m < M; m += head_rows) {
            int rows = std::min(head_rows, M - m);
            logits_forward(m, rows);
            crossentropy(a.losses + m, a.correct + m, a.logits, b.targets + m, b.loss_scale, rows, config.V, Vp(),
                         true);
            matmul_backward_input(a.dhead + (size_t)m * C, a.logits, params.wte, rows, C, Vp());
            matmul_backward_weight(grads.wte, grads.decoder_bias, a.logits, a.head_out + (size_t)m * C, a.head_scratch,
                                   rows, C, Vp());
        }
        sum_losses(stats, a.losses, a.correct, M);

        // head_out = layernorm(head_act)
        layernorm_backward(a.dhead, grads.ln_head_w, grads.ln_head_b, a.dhead, a.head_act, params.ln_head_w,
                           a.mean_head, a.rstd_head, a.head_scratch, M, C);
        // head_act = gelu(head_pre), head_pre = x headwᵀ + headb
        gelu_backward<Gelu::erf>(a.dhead, a.dhead, a.head_pre, (size_t)M * C);
        matmul_backward_weight(grads.headw, grads.headb, a.dhead, x, a.head_scratch, M, C, C);
        matmul_backward_input(a.dx, a.dhead, params.headw, M, C, C);
        encode_backward(b);
    }

    // From acts.dx (M, C), the gradient of the encoder's output, to the gradients of all its parameters that are not
    // frozen.
    void encode_backward(const Batch& b) {
        int N = b.N, M = b.M, C = config.C, NH = config.NH, HS = C / NH, FF = config.FF;
        areal eps = (areal)config.eps;
        auto& a = acts;
        real *dqkv = a.dwide, *datt = a.dwide + (size_t)N * 3 * C, *dpre = a.dwide;  // (N, 3C), (N, C), (N, FF)
        for (int l = config.L - 1; l >= std::max(frozen, 0); l--) {
            auto& p = params.layer[l];
            auto& g = grads.layer[l];
            auto& q = a.layer[l];
            const real* x = l == 0 ? a.x0 : a.layer[l - 1].x2;  // (N, C) input of the layer
            bool last = l == config.L - 1;
            int R = last ? M : N;
            // x2 = layernorm(sum2 = x1 + dropout(act projwᵀ + projb)): dsum goes to x1, dbranch into the branch
            residual_layernorm_backward(a.dsum, a.dbranch, g.ln2w, g.ln2b, a.dx, (const real*)nullptr, q.sum2, p.ln2w,
                                        q.mean2, q.rstd2, a.scratch, R, C, drop(b, 3 * l + 3));
            if (recompute) gelu_forward<Gelu::erf>(q.act, q.pre, (size_t)R * FF);
            matmul_backward_weight(g.projw, g.projb, a.dbranch, q.act, a.scratch, R, FF, C);
            matmul_backward_input_gelu<Gelu::erf>(dpre, a.dbranch, p.projw, q.pre, R, FF, C);
            // act = gelu(pre), pre = x1 fcwᵀ + fcb; x1 has two uses, the second gradient is added to the first
            if (recompute) layernorm_forward(q.x1, q.mean1, q.rstd1, q.sum1, p.ln1w, p.ln1b, R, C, eps);
            matmul_backward_weight(g.fcw, g.fcb, dpre, q.x1, a.scratch, R, C, FF);
            matmul_backward_input(a.dsum, dpre, p.fcw, R, C, FF, true);
            // x1 = layernorm(sum1 = x + dropout(att attwᵀ + attb))
            real* dx = last ? a.dwide : a.dx;  // (R, C)
            residual_layernorm_backward(dx, a.dbranch, g.ln1w, g.ln1b, a.dsum, (const real*)nullptr, q.sum1, p.ln1w,
                                        q.mean1, q.rstd1, a.scratch, R, C, drop(b, 3 * l + 2));
            matmul_backward_weight(g.attw, g.attb, a.dbranch, last ? a.last_att : q.att, a.scratch, R, C, C);
            matmul_backward_input(last ? a.dsum : datt, a.dbranch, p.attw, R, C, C);
            if (last) {  // last_att = att[rows], last_x = x[rows]
                scatter_rows(datt, a.dsum, b.rows, N, M, C);
                scatter_rows(a.dx, dx, b.rows, N, M, C);
            }
            // att = attention(qkv)
            attention_backward(dqkv, a.delta, datt, q.att, q.qkv, q.lse, b.seq, NH, HS, false, drop(b, 3 * l + 1));
            // qkv = x qkvwᵀ + qkvb; x has two uses
            if (recompute && l > 0) {
                auto& w = params.layer[l - 1];
                auto& below = a.layer[l - 1];
                layernorm_forward(below.x2, below.mean2, below.rstd2, below.sum2, w.ln2w, w.ln2b, N, C, eps);
            }
            matmul_backward_weight(g.qkvw, g.qkvb, dqkv, x, a.scratch, N, C, 3 * C);
            matmul_backward_input(a.dx, dqkv, p.qkvw, N, C, 3 * C, true);
        }
        if (frozen >= 0) return;
        // x0 = dropout(layernorm(embedded))
        dropout_forward(a.dx, a.dx, N, C, drop(b, 0));
        layernorm_backward(a.dx, grads.ln_embed_w, grads.ln_embed_b, a.dx, a.embedded, params.ln_embed_w, a.mean_embed,
                           a.rstd_embed, a.scratch, N, C);
        // embedded = wte[tokens] + wpe[pos] + wtt[types]
        embedding_backward(grads.wte, a.dx, b.by_token, a.scratch, C);
        embedding_backward(grads.wpe, a.dx, b.by_pos, a.scratch, C);
        embedding_backward(grads.wtt, a.dx, b.by_type, a.scratch, C);
    }

    // Work of one token, forward and backward, in FLOP: 6 per weight of a matrix product; only `share` of the rows get
    // past the last attention
    double flops_per_token(double T, double share) const {
        double C = config.C, rest = C * C + 2 * C * config.FF,
               matrices = config.L * 3 * C * C + (config.L - 1 + share) * rest + share * (C * config.V + C * C);
        return 6 * matrices + 3 * 4 * config.L * T * C;
    }
};

// ---------------------------------------------------------------- the task
struct BertTask {
    Bert model;
    Optimizer opt;
    BatchShape shape;
    BatchBuilder builder;
    TrainFlags& f;
    MaskedLmData train_data, val_data;
    WordPiece words;
    BertConfig config;
    std::vector<char> host;  // validation batches
    char* block = nullptr;
    uint64_t val_sequences;

    BertTask(TrainFlags& f, const BinFile& train, const BinFile& val, const WordPiece& words, const BertConfig& config,
             int max_len, double mask_rate, bool whole_words)
        : f(f),
          train_data(train, max_len, (int)config.V, words),
          val_data(val, max_len, (int)config.V, words),
          words(words),
          config(config) {
        train_data.rate = mask_rate;
        train_data.seed = f.seed;
        train_data.whole_words = whole_words;
        for (size_t id = 0; id < words.tokens.size(); id++)
            train_data.continues.push_back(words.is_continuation((int)id));  // V may be larger
        // rows for the targets of a micro-batch: 25 % more than the mean share; the builder closes a batch that reaches
        // it
        shape = shape_for(f.batch_tokens, mask_rate, max_len);
        builder.set_up(shape, words.pad(), max_len, shape.N);
        model.config = config;
        model.shape = shape;
        model.dropout = (float)f.dropout;
        model.recompute = f.recompute;
        opt.table = bert_table(model.params, config, (real*)nullptr);
        opt.n = total_count(opt.table);
        val_sequences = validation_sequences(val_data, f.eval_tokens);
    }
    static BatchShape shape_for(int64_t tokens, double rate, int max_len) {
        BatchShape s;
        s.N = (int)tokens;
        double most = std::max(1.25 * std::max(rate, 0.15) * (double)tokens, 0.15 * max_len) + 64;
        s.M = (int)std::min((size_t)tokens, round_up((size_t)most, 128));
        return s;
    }
    // All of the run's device memory, in order.
    void plan(Arena& arena) {
        opt.plan(arena);
        model.plan_activations(arena, true);
        arena.region("batch");
        arena.take(block, shape.device_bytes());
    }
    void allocate(Arena& arena) {
        plan(arena);
        bert_table(model.params, config, opt.params);
        bert_table(model.grads, config, opt.grads);
        host.resize(shape.bytes());
    }

    // What train() asks for
    int fill(BatchBuilder& b, Cursor& cursor) { return fill_batch(b, train_data, cursor, f.seed, true); }
    void forward_backward(const Batch& b, StepStats* stats) { model.forward_backward(b, stats); }
    void set_dropout(double p) { model.dropout = (float)p; }
    float lr_factor(const ParamSpec&) const { return 1; }
    double flops(double tokens, double targets, double mean_length) const {
        return tokens * model.flops_per_token(mean_length, targets / tokens);
    }

    // Validation always masks 15 %, with masks and sequences that depend on nothing but the data: figures of all runs
    // compare.
    Eval evaluate() {
        Eval e = mean_loss(*this, val_data, val_sequences);
        e.report = format("loss %.4f | perplexity %.2f | accuracy %.2f %%", e.loss, exp(e.loss), 100 * e.accuracy);
        e.numbers.set("val_perplexity", exp(e.loss));
        return e;
    }
    void save_model(const std::string& dir) {
        write_bert_config(dir, config);
        words.save(dir, (int)config.T);
        opt.save(dir);
    }
    Json identity() const { return pretraining_identity(config, words.fingerprint(), train_data.file, val_data.file); }
};

// ---------------------------------------------------------------- fill-mask
void check_bert_config(const BertConfig& c, const std::string& where) {
    int64_t HS = c.C / c.NH;
    if (HS != 32 && HS != 64 && HS != 128)
        fail("%s: expected heads of 32, 64 or 128 channels, found %lld", where.c_str(), (long long)HS);
    if (c.T < 5)
        fail("%s/config.json: max_position_embeddings: expected at least 5, found %lld", where.c_str(), (long long)c.T);
    if (c.L > MAX_LAYERS) fail("%s: expected at most %d layers, found %lld", where.c_str(), MAX_LAYERS, (long long)c.L);
}

// The model of a directory, for up to `tokens` tokens at a time, without gradients.
struct LoadedBert {
    Bert model;
    WordPiece words;
    BatchBuilder builder;
    std::vector<char> host;
    char* block = nullptr;
    std::shared_ptr<void> memory;

    LoadedBert(const std::string& path, int tokens) {
        std::string dir = resolve_model_dir(path);
        model.config = read_bert_config(dir);
        check_bert_config(model.config, dir);
        words = WordPiece::load(dir);
        check_vocabulary(dir, words.tokens.size(), model.config.V);
        model.shape.N = model.shape.M = tokens;
        builder.set_up(model.shape, words.pad(), (int)model.config.T, tokens);
        memory = load_parameters(
            dir, [&](real* base) { return bert_table(model.params, model.config, base); },
            [&](Arena& arena) {
                model.plan_activations(arena, false);
                arena.take(block, model.shape.bytes());
            });
        host.resize(model.shape.bytes());
    }
};

struct FillFlags {
    std::string model, logits;
    bool json = false;
    int64_t top = 5;
};

// Prints the most likely words for every [MASK] of every text.
int fill_mask(const FillFlags& f, const std::vector<std::string>& texts) {
    if (f.model.empty()) fail_usage("--model DIR is missing: a run directory or a model directory");
    for (const std::string& text : texts)
        if (text.find("[MASK]") == std::string::npos)
            fail_usage("expected at least one [MASK], in upper case, in every text, found none: \"%s\"", text.c_str());
    std::vector<std::vector<int>> sequences;
    LoadedBert bert(f.model, 4096);
    const BertConfig& c = bert.model.config;
    std::vector<float> all_logits;
    int64_t masks = 0;
    for (const std::string& text : texts) {
        std::vector<int> ids{bert.words.cls()};
        if (size_t invalid = bert.words.encode(text, ids))
            fail("text %zu: expected UTF-8, found %zu bytes that are not", &text - &texts[0] + 1, invalid);
        ids.push_back(bert.words.sep());
        if ((int64_t)ids.size() > std::min<int64_t>(c.T, bert.model.shape.N))
            fail("the text has %zu tokens, the model takes %lld: shorten it: \"%.60s...\"", ids.size(),
                 (long long)std::min<int64_t>(c.T, bert.model.shape.N), text.c_str());
        std::vector<int> positions;
        for (size_t i = 0; i < ids.size(); i++)
            if (ids[i] == bert.words.mask()) positions.push_back((int)i);
        bert.builder.clear();
        bert.builder.add(ids, std::vector<int>(ids.size(), 0), positions, std::vector<int>(positions.size(), 0));
        Batch host = bert.builder.finish(bert.host.data(), StepCounters{}, 1);
        Batch b = to_device(host, bert.model.shape, bert.block, bert.host.data());
        bert.model.head_forward(b, bert.model.encode(b));
        std::vector<real> row(bert.model.Vp());
        Json answers = Json::make_array();
        if (!f.json) printf("%s%s\n", masks ? "\n" : "", text.c_str());
        for (size_t k = 0; k < positions.size(); k++, masks++) {
            bert.model.logits_forward((int)k, 1);
            copy_to_host(row.data(), bert.model.acts.logits, row.size() * sizeof(real));
            std::vector<double> p(c.V);
            double top = -INFINITY, sum = 0;
            for (int v = 0; v < c.V; v++) {
                p[v] = (double)row[v];
                top = std::max(top, p[v]);
            }
            if (!f.logits.empty()) all_logits.insert(all_logits.end(), p.begin(), p.end());
            for (double& x : p) sum += x = exp(x - top);
            std::vector<int> order(c.V);
            for (int v = 0; v < c.V; v++) order[v] = v;
            int best = (int)std::min<int64_t>(f.top, c.V);
            std::partial_sort(order.begin(), order.begin() + best, order.end(),
                              [&](int a, int b) { return p[a] > p[b]; });
            Json guesses = Json::make_array();
            for (int i = 0; i < best; i++) {
                std::string token = order[i] < (int)bert.words.tokens.size() ? bert.words.tokens[order[i]]
                                                                             : format("[%d]", order[i]);
                if (!f.json) printf("  [MASK] %-3zu %5.1f %%  %s\n", k + 1, 100 * p[order[i]] / sum, token.c_str());
                guesses.a.push_back(
                    Json::make_object().set("token", token).set("id", order[i]).set("p", p[order[i]] / sum));
            }
            answers.a.push_back(guesses);
        }
        if (f.json) printf("%s\n", dump_json(Json::make_object().set("text", text).set("masks", answers)).c_str());
    }
    flush_output();
    if (!f.logits.empty())
        write_safetensors(f.logits, {{"logits", "F32", {(size_t)masks, (size_t)c.V}, all_logits.data()}});
    return EXIT_OK;
}

// ---------------------------------------------------------------- main
struct BertFlags {
    ModelFlags size{{{"tiny", 2, 128},
                     {"mini", 4, 256},
                     {"small", 4, 512},
                     {"medium", 8, 512},
                     {"base", 12, 768},
                     {"large", 24, 1024}},
                    128};
    double mask_rate = 0.15;
    bool whole_words = false;
};

int train_bert(Cli& cli, TrainFlags& f, BertFlags& bf) {
    prepare_flags(cli, f, {"train.bin", "val.bin"}, {"data/books.py", "data/text.py"});
    f.open_run();
    BinFile train_file(f.data + "/train.bin"), val_file(f.data + "/val.bin");
    WordPiece words = WordPiece::load(f.data);
    for (const BinFile* file : {&train_file, &val_file}) check_text(*file, words, f.data);

    const int64_t max_len = bf.size.max_len;
    BertConfig config = bf.size.config<BertConfig>();
    config.V = (int64_t)words.tokens.size();
    config.pad_id = words.pad();
    std::string init;
    if (f.resume ||
        !f.init.empty()) {  // the dimensions are those of the model (and a resumed run may have begun with --init)
        init = resolve_model_dir(f.resume ? f.out + "/last" : f.init);
        if (!f.resume) ModelFlags::refuse_with_init(cli);
        config = read_bert_config(init);
        check_bert_config(config, init);
        if (config.types < 2)
            fail("%s/config.json: type_vocab_size: expected at least 2, for pairs of segments, found %lld",
                 init.c_str(), (long long)config.types);
        check_init(init, config.V, words, f.data);
    }
    // Wider encoders take lower rates; BERT-base was published with 1e-4 (Devlin et al. 2018)
    if (f.lr == 0) f.lr = config.C <= 256 ? 1e-3 : config.C <= 512 ? 5e-4 : config.C <= 768 ? 2e-4 : 1e-4;
    config.dropout = config.attention_dropout = f.dropout;
    bf.size.check_max_len(config.T, f.batch_tokens);

    BertTask task(f, train_file, val_file, words, config, (int)max_len, bf.mask_rate, bf.whole_words);
    double tokens_per_epoch = (double)train_file.tokens() + 2.5 * (double)task.train_data.sequences();
    if (f.epochs > 0)
        f.steps = std::max<int64_t>(1, llround(f.epochs * tokens_per_epoch / (double)(f.batch_tokens * f.accum)));

    print_machine("train_bert");
    print_parameter_table(task.opt.table);
    Arena arena(allocate_run(task, "--batch-tokens", 128, 1 << 22, [&](Arena& a, int64_t tokens) {
        Bert planned;
        planned.config = config;
        planned.recompute = f.recompute;
        planned.shape = BertTask::shape_for(tokens, bf.mask_rate, (int)max_len);
        planned.plan_activations(a, true);
        return planned.shape;
    }));
    task.allocate(arena);

    if (!f.resume) {
        std::vector<areal> values = initial_values(task.opt.table, task.opt.n, f.seed);
        if (!init.empty()) load_tensors(init, task.opt.table, values.data()).announce(init, {"cls."});
        task.opt.upload(values);
    }
    double unigram = unigram_baseline(train_file, -1, config.V, task.val_data, task.val_sequences);
    printf("data: %s tokens in %s documents for training, %s for validation; %s sequences of at most %lld tokens\n",
           thousands((double)train_file.tokens()).c_str(), thousands((double)train_file.sequences()).c_str(),
           thousands((double)val_file.tokens()).c_str(), thousands((double)task.train_data.sequences()).c_str(),
           (long long)max_len);
    printf("%lld steps of %lld x %lld tokens: %.2f epochs. Guessing by frequency gives a validation loss of %.4f\n",
           (long long)f.steps, (long long)f.accum, (long long)f.batch_tokens,
           (double)f.steps * (double)f.accum * (double)f.batch_tokens / tokens_per_epoch, unigram);
    return train(task, cli, f, unigram);
}

#if __INCLUDE_LEVEL__ == 0  // not when another program or a test includes this file
int main(int argc, char** argv) {
    wait_passively(argv);
    return run_program([&] {
        blas_init();
        TrainFlags f;
        BertFlags bf;
        FillFlags ff;
        std::vector<FlagGroup> groups = f.groups();
        groups.insert(
            groups.begin() + 1,
            bf.size.group(
                MAX_LAYERS, 5,
                "tokens of a training sequence; a model from scratch learns much faster from short ones (32) at first",
                "longest input the model takes; 0: --max-len"));
        groups.push_back({"Masked LM",
                          "train",
                          {{"mask-rate", &bf.mask_rate, between(0.01, 0.9),
                            "share of tokens to guess in training (validation: always 0.15)"},
                           {"whole-words", &bf.whole_words, "mask all pieces of a word together"}}});
        groups.push_back({"Asking",
                          "fill-mask",
                          {{"model", &ff.model, "DIR", "a run directory or a model directory"},
                           {"top", &ff.top, between(1, 1000), "how many guesses"},
                           {"json", &ff.json, "a line of JSON per text"},
                           {"logits", &ff.logits, "FILE", "also write the logits (masks, V) as safetensors"}}});
        Cli cli{"train_bert",
                "pretraining of a BERT encoder by masked LM.",
                "  ./train_bert --data data/books --size mini --steps 2000 --out runs/bert\n"
                "  ./train_bert --resume --out runs/bert\n"
                "  ./train_bert fill-mask --model runs/bert \"the old man was very [MASK] .\"\n",
                {{"train", "", "pretrain on DATA/train.bin"},
                 {"fill-mask", "TEXT...", "the most likely words for every [MASK]", 1, CLI_MANY}},
                groups};
        cli.closing = EXIT_CODES_TEXT;
        if (!cli.parse(argc, argv)) return (int)EXIT_OK;
        return cli.verb == "fill-mask" ? fill_mask(ff, cli.words) : train_bert(cli, f, bf);
    });
}
#endif
#endif  // TRAIN_BERT_CU
