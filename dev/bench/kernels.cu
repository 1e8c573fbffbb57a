// kernels.cu: how long single kernels take in bf16: LayerNorm, RMSNorm, RoPE, SwiGLU, cross-entropy, AdamW and its norm
// beside the bytes that they have to move, and every matrix product of GPT-2 124M and BERT-base beside its FLOPs.
// Attention: attention.cu.
//   make DEVICE=gpu PRECISION=bf16 build/gpu-bf16/bench_kernels && build/gpu-bf16/bench_kernels
// One JSON object a line: the median of 20 launches in microseconds; TB/s of the bytes that have to be read and
// written, or TFLOP/s. Without nvcc (make DEVICE=shim build/shim-bf16/bench_kernels) it runs tiny shapes, to see that
// it works; those times mean nothing.
#include "common/ops/adamw.cuh"
#include "common/ops/crossentropy.cuh"
#include "common/ops/glu.cuh"
#include "common/ops/layernorm.cuh"
#include "common/ops/matmul.cuh"
#include "common/ops/rope.cuh"
#include "dev/bench/timing.h"

static int times = 20;
static bf16* pool;  // random numbers; every matrix below is another part of it
static size_t pool_size, pool_at;
static bf16* part(size_t n) {
    if (n > pool_size) fail("expected a matrix of at most %zu elements, found %zu", pool_size, n);
    if (pool_at + n > pool_size) pool_at = 0;
    pool_at += round_up(n, 128);
    return pool + pool_at - round_up(n, 128);
}
template <class T> T* alloc(size_t n) { return (T*)gpu::device_alloc(n * sizeof(T)); }

static void report(const std::string& kernel, const std::string& shape, double us, double bytes, double flop) {
    printf(
        "{\"kernel\": \"%s\", \"shape\": \"%s\", \"us\": %.2f, \"bytes\": %.0f, \"flop\": %.0f, \"tb_s\": %.3f, "
        "\"tflops\": %.1f}\n",
        kernel.c_str(), shape.c_str(), us, bytes, flop, bytes / us * 1e-6, flop / us * 1e-6);
    fflush(stdout);
}

// The residual's LayerNorm as a layer calls it, N rows of C
static void bench_layernorm(size_t N, size_t C) {
    bf16 *out = alloc<bf16>(N * C), *sum = alloc<bf16>(N * C);
    bf16 *dsum = alloc<bf16>(N * C), *dbranch = alloc<bf16>(N * C);
    float *mean = alloc<float>(N), *rstd = alloc<float>(N), *dw = alloc<float>(C), *db = alloc<float>(C);
    float* scratch = alloc<float>(layernorm_scratch(N, C));
    std::string shape = format("%zu x %zu", N, C);
    bf16 *x = part(N * C), *branch = part(N * C), *w = part(C), *b = part(C);
    bf16 *dout = part(N * C), *dresidual = part(N * C);
    double us = median_us(times, [&] {
        gpu::residual_norm_forward<bf16>(out, sum, mean, rstd, x, branch, w, b, (int)N, (int)C, 1e-5f, Dropout());
    });
    report("layernorm forward", shape, us, 8.0 * N * C, 0);
    us = median_us(times, [&] {
        gpu::residual_norm_backward<bf16>(
            dsum, dbranch, dw, db, dout, dresidual, sum, w, mean, rstd, scratch, (int)N, (int)C, Dropout());
    });
    report("layernorm backward", shape, us, 10.0 * N * C, 0);
    for (void* p : {(void*)out, (void*)sum, (void*)dsum, (void*)dbranch, (void*)mean, (void*)rstd, (void*)dw, (void*)db,
             (void*)scratch})
        release(p);
}
// What a Llama's layer has in place of LayerNorm, positions and GELU; and the QK-norm of Qwen3
static void bench_llama(size_t N, size_t C, size_t FF, size_t NH, size_t NKV, size_t HS) {
    size_t turned = (NH + NKV) * HS, row = turned + NKV * HS, scratch_size = layernorm_scratch(N, std::max(C, HS));
    bf16 *out = alloc<bf16>(N * std::max({C, row, 2 * FF})), *sum = alloc<bf16>(N * C);
    float *rstd = alloc<float>(N * (NH + NKV)), *dw = alloc<float>(std::max(C, 2 * HS));
    float *scratch = alloc<float>(scratch_size), *table = on_device(rope_table<float>(RopeConfig(), 2048, (int)HS));
    std::vector<int> host(N);
    for (size_t i = 0; i < N; i++) host[i] = (int)(i % 2048);
    int *pos = on_device(host), n = (int)N, nh = (int)NH, nkv = (int)NKV, hs = (int)HS;
    bf16 *x = part(N * C), *branch = part(N * C), *dout = part(N * C), *w = part(C), *qkv = part(N * row);
    auto time = [&](const char* name, size_t width, double bytes, auto f) {
        report(name, format("%zu x %zu", N, width), median_us(times, f), bytes * (double)N, 0);
    };
    time("rmsnorm forward", C, 8.0 * C, [&] {
        gpu::residual_norm_forward<bf16>(out, sum, nullptr, rstd, x, branch, w, nullptr, n, (int)C, 1e-5f, Dropout());
    });
    time("rmsnorm backward", C, 10.0 * C, [&] {
        gpu::residual_norm_backward<bf16>(
            out, sum, dw, nullptr, dout, x, branch, w, nullptr, rstd, scratch, n, (int)C, Dropout());
    });
    time("rope", turned, 4.0 * turned,
        [&] { gpu::rope_forward<bf16>(qkv, nullptr, qkv, nullptr, nullptr, table, pos, n, nh, nkv, hs, 0); });
    time("qk norm and rope forward", row, 4.0 * row,
        [&] { gpu::rope_forward<bf16>(out, rstd, qkv, w, w, table, pos, n, nh, nkv, hs, 1e-6f); });
    time("qk norm and rope backward", turned, 6.0 * turned,
        [&] { gpu::rope_backward<bf16>(out, dw, dw + HS, qkv, w, w, rstd, table, pos, scratch, n, nh, nkv, hs); });
    bf16 *gate_up = part(N * 2 * FF), *dact = part(N * FF);
    time("swiglu forward", FF, 6.0 * FF, [&] { gpu::glu_forward<Silu, bf16>(out, gate_up, n, (int)FF); });
    time("swiglu backward", FF, 10.0 * FF, [&] { gpu::glu_backward<Silu, bf16>(out, dact, gate_up, n, (int)FF); });
    for (void* p : {(void*)out, (void*)sum, (void*)rstd, (void*)dw, (void*)scratch, (void*)table, (void*)pos})
        release(p);
}
// Loss and gradient in place, M rows of V logits
static void bench_crossentropy(size_t M, int V) {
    size_t Vp = round_up(V, 64);
    std::vector<int> host(M);
    for (size_t m = 0; m < M; m++) host[m] = (int)below(mix64(7, m), V);
    int* targets = on_device(host);
    double* scale = on_device(std::vector<double>{1});  // so that the gradients stay numbers of size 1
    float *losses = alloc<float>(M), *correct = alloc<float>(M);
    bf16* logits = part(M * Vp);
    double us = median_us(
        times, [&] { gpu::crossentropy<bf16>(losses, correct, logits, targets, scale, (int)M, V, (int)Vp, true); });
    report("cross-entropy forward + backward", format("%zu x %d", M, V), us, 4.0 * M * Vp, 0);
    for (void* p : {(void*)targets, (void*)scale, (void*)losses, (void*)correct}) release(p);
}
static void bench_adamw(size_t n) {
    n = round_up(n, PARAM_BLOCK);
    float *master = alloc<float>(n), *m = alloc<float>(n), *v = alloc<float>(n), *grads = alloc<float>(n);
    bf16* params = alloc<bf16>(n);
    std::vector<float> values(n);
#pragma omp parallel for
    for (size_t i = 0; i < n; i++) values[i] = (float)normal(mix64(11, i));
    for (float* p : {master, grads}) gpu::copy_to_device(p, values.data(), n * sizeof(float));
    float* factor = on_device(std::vector<float>(n / PARAM_BLOCK, 1.0f));
    float* decay = on_device(std::vector<float>(n / PARAM_BLOCK, 0.1f));
    double* scratch = alloc<double>(NORM_CHUNKS);
    StepStats* stats = on_device(std::vector<StepStats>{{1, 0, 1, 0}});
    AdamWStep* step = on_device(std::vector<AdamWStep>{{1e-6, 0.9, 0.95, 1e-8, 0.1, 0.05, 1}});
    double us = median_us(times, [&] { gpu::norm_squared(stats, grads, scratch, n); });
    report("gradient norm", format("%zu", n), us, 4.0 * n, 0);
    us = median_us(times,
        [&] { gpu::adamw_update<bf16>(params, master, m, v, grads, stats, step, ParamBlocks{factor, decay}, n); });
    report("AdamW", format("%zu", n), us, 30.0 * n, 0);
    for (void* p : {(void*)master, (void*)m, (void*)v, (void*)grads, (void*)params, (void*)factor, (void*)decay,
             (void*)scratch, (void*)stats, (void*)step})
        release(p);
}
// The linear layer C → OC over N rows, forward and its two gradients; with GELU where the model has one after it
template <Gelu kind> void bench_matmul(const std::string& name, size_t N, size_t C, size_t OC, bool bias, bool act) {
    bf16 *out = alloc<bf16>(N * OC), *pre = alloc<bf16>(N * OC), *dinp = alloc<bf16>(N * C);
    float *dw = alloc<float>(OC * C), *db = alloc<float>(OC), *scratch = alloc<float>(column_sum_scratch(N, OC));
    bf16 *inp = part(N * C), *w = part(OC * C), *b = bias ? part(OC) : nullptr, *dout = part(N * OC);
    std::string shape = format("%zu x %zu -> %zu", N, C, OC);
    double flop = 2.0 * N * C * OC;
    double us = median_us(times, [&] {
        if (act) gpu::matmul_gelu_forward<kind, bf16>(out, pre, inp, w, b, (int)N, (int)C, (int)OC);
        else gpu::matmul_forward<bf16>(out, inp, w, b, (int)N, (int)C, (int)OC);
    });
    report(name + " forward", shape, us, 2.0 * (N * C + OC * C + N * OC * (act ? 2 : 1)), flop);
    us = median_us(times, [&] { gpu::matmul_backward_input<bf16>(dinp, dout, w, (int)N, (int)C, (int)OC); });
    report(name + " backward, input", shape, us, 2.0 * (N * C + OC * C + N * OC), flop);
    us = median_us(times, [&] {
        gpu::matmul_backward_weight<bf16>(dw, bias ? db : nullptr, dout, inp, scratch, (int)N, (int)C, (int)OC);
    });
    report(name + " backward, weight", shape, us, 2.0 * (N * C + N * OC) + 8.0 * OC * C, flop);
    for (void* p : {(void*)out, (void*)pre, (void*)dinp, (void*)dw, (void*)db, (void*)scratch}) release(p);
}
template <Gelu kind>
void bench_model(const std::string& name, size_t N, size_t C, size_t rows, size_t V, bool head_bias) {
    bench_matmul<kind>(name + " qkv", N, C, 3 * C, true, false);
    bench_matmul<kind>(name + " attention output", N, C, C, true, false);
    bench_matmul<kind>(name + " fc", N, C, 4 * C, true, true);
    bench_matmul<kind>(name + " proj", N, 4 * C, C, true, false);
    bench_matmul<kind>(name + " vocabulary", rows, C, round_up(V, 64), head_bias, false);
}

int main() {
    try {
#ifdef __CUDACC__
        int devices = 0;
        if (cudaGetDeviceCount(&devices) != cudaSuccess || !devices) fail_usage("there is no GPU here");
        size_t N = 65536, C = 768, V = 50257, encoder_V = 30522, n = 124475904;
#else
        times = 1;
        size_t N = 256, C = 128, V = 500, encoder_V = 300, n = 4096;
#endif
        gpu::blas_init();
        gpu::enable_autotune(true);  // as in a training step
        pool_size = round_up(std::max({8 * N * C, N / 8 * round_up(V, 64), N / 2 * 32 * 128}), 128);  // 32 heads of 128
        pool = random_numbers(pool_size, 1, 1);
        bench_layernorm(N / 2, C);
        bench_llama(N / 2, C * 3 / 4, 2 * C, 9, 3, 64);    // SmolLM2-135M
        bench_llama(N / 2, C * 4 / 3, 4 * C, 16, 8, 128);  // Qwen3-0.6B
        bench_crossentropy(N / 8, (int)V);
        bench_adamw(n);
        bench_model<Gelu::tanh>("GPT-2", N, C, N / 8, V, false);
        bench_model<Gelu::erf>("BERT", N / 2, C, N / 16, encoder_V, true);
    } catch (const Error& e) {
        fprintf(stderr, "error: %s\n", e.what());
        return e.code;
    }
}
