// attention.cu: how long the attention kernels in bf16 take: forward and backward.
//   make DEVICE=gpu build/gpu-bf16/bench_attention && build/gpu-bf16/bench_attention
// One JSON object a line: the median of 20 launches in microseconds; TFLOP/s counts 4 N T C forward and 2.5 times that
// backward, half of it if causal. Without nvcc (make DEVICE=shim build/shim-bf16/bench_attention) it runs tiny shapes,
// to see that it works; those times mean nothing.
#include "common/ops/attention.cuh"
#include "dev/bench/timing.h"

// N tokens in sequences of T
static void bench(int N, int T, int NH, int NKV, int HS, bool causal, float p, int times) {
    int S = N / T, C = NH * HS, row = C + 2 * NKV * HS;
    std::vector<int> start, tiles(2 * ((size_t)S * ceil_div(T, ATTENTION_TILE)));
    for (int s = 0; s <= S; s++) start.push_back(s * T);
    int W = make_tiles(tiles.data(), start.data(), S, true);
    N = S * T;
    Sequences seq = {on_device(start), on_device(tiles), S, W, N};
    StepCounters* counters = on_device(std::vector<StepCounters>{{1, 2, 0}});
    Dropout dropout = {counters, 1, p, nullptr};
    bf16 *qkv = random_numbers((size_t)N * row, 1, 1), *dout = random_numbers((size_t)N * C, 2, 1);
    bf16* out = (bf16*)gpu::device_alloc((size_t)N * C * sizeof(bf16));
    bf16* dqkv = (bf16*)gpu::device_alloc((size_t)N * row * sizeof(bf16));
    float* lse = (float*)gpu::device_alloc((size_t)NH * N * sizeof(float));
    float* delta = (float*)gpu::device_alloc((size_t)NH * N * sizeof(float));
    double forward = median_us(
        times, [&] { gpu::attention_forward(out, lse, qkv, seq, NH, NKV, HS, causal ? CAUSAL : ALL_KEYS, dropout); });
    double backward = median_us(times, [&] {
        gpu::attention_backward(
            dqkv, delta, dout, out, qkv, lse, seq, NH, NKV, HS, causal ? CAUSAL : ALL_KEYS, dropout);
    });
    double flop = 4.0 * N * T * C * (causal ? 0.5 : 1);
    printf(
        "{\"N\": %d, \"T\": %d, \"NH\": %d, \"NKV\": %d, \"HS\": %d, \"causal\": %s, \"dropout\": %.1f, "
        "\"forward_us\": %.1f, "
        "\"backward_us\": %.1f, \"forward_tflops\": %.1f, \"backward_tflops\": %.1f}\n",
        N, T, NH, NKV, HS, causal ? "true" : "false", p, forward, backward, flop / forward * 1e-6,
        2.5 * flop / backward * 1e-6);
    fflush(stdout);
    void* all[] = {(void*)seq.start, (void*)seq.tiles, counters, qkv, dout, out, dqkv, lse, delta};
    for (void* x : all) release(x);
}
int main() {
    try {
#ifdef __CUDACC__
        int devices = 0;
        if (cudaGetDeviceCount(&devices) != cudaSuccess || !devices) fail_usage("there is no GPU here");
        const int N = 32768, times = 20;
        for (float p : {0.0f, 0.1f})
            for (int T : {16, 128, 512, 1024, 4096}) {
                for (bool causal : {false, true}) bench(N, T, 12, 12, 64, causal, p, times);
                if (T < 512) continue;
                bench(N, T, 6, 6, 128, true, p, times);
                bench(N, T, 32, 8, 64, true, p, times);   // Llama-3.2-1B
                bench(N, T, 16, 8, 128, true, p, times);  // Qwen3-0.6B
            }
#else
        for (int HS : {32, 64, 128}) bench(256, 128, 2, HS == 64 ? 1 : 2, HS, HS == 64, 0.1f, 1);
#endif
    } catch (const Error& e) {
        fprintf(stderr, "error: %s\n", e.what());
        return e.code;
    }
}
