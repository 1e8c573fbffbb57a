// test_pipeline.cpp: the host runs ahead of the GPU (common/device/pipeline.cuh), on a stand-in for CUDA that does
// things as late as it may, or whenever it likes.
#include <doctest/doctest.h>

#include "test/device/cuda_streams.h"

#define CUDA_CHECK(call)                                                         \
    do {                                                                         \
        if ((call) != cudaSuccess) fail("%s:%d: %s", __FILE__, __LINE__, #call); \
    } while (0)
namespace gpu {
inline cudaStream_t compute_stream = nullptr;
inline void device_sync() { CUDA_CHECK(cudaStreamSynchronize(compute_stream)); }
}  // namespace gpu
#include "common/device/pipeline.cuh"

static void kernel(std::function<void()> work) { cuda::put(gpu::compute_stream, work); }

// Runs f under many orders of what streams do, and looks that everything was given back.
template <class F> static void in_many_orders(F f) {
    for (int patience : {0, 2, 3, 8})
        for (uint64_t seed = 0; seed < 20; seed++) {
            CAPTURE(patience);
            CAPTURE(seed);
            cuda::patience = patience;
            cuda::seed = seed;
            cuda::drawn = 0;
            cudaStreamCreateWithFlags(&gpu::compute_stream, 0);
            f();
            CHECK(cuda::alive.empty());
            cudaStreamDestroy(gpu::compute_stream);
            CHECK(cuda::streams.empty());
        }
}

TEST_SUITE("pipeline") {
    TEST_CASE("uploads: every launch sees the block that was sent before it") {
        in_many_orders([] {
            constexpr int BYTES = 24, N = 50;
            std::vector<char> device(BYTES);
            std::vector<int> seen;
            {
                gpu::Upload upload(device.data(), BYTES);
                for (int i = 0; i < N; i++) {
                    memset(upload.next(), i, BYTES);
                    upload.send();
                    for (int times = i % 3; times >= 0; times--)
                        kernel([&] {
                            seen.push_back(
                                std::count(device.begin(), device.end(), device[0]) == BYTES ? device[0] : -1);
                        });
                }
                gpu::device_sync();
            }
            std::vector<int> want;
            for (int i = 0; i < N; i++) want.insert(want.end(), 1 + i % 3, i);
            CHECK(seen == want);
        });
    }
    TEST_CASE("the host is not held up before two blocks are on their way") {
        cuda::patience = 0;
        cudaStreamCreateWithFlags(&gpu::compute_stream, 0);
        std::vector<char> device(8);
        {
            gpu::Upload upload(device.data(), 8);
            uint64_t before = cuda::drawn;
            for (int i = 0; i < 2; i++) {
                upload.next();
                upload.send();
                kernel([] {});
            }
            CHECK(cuda::drawn == before);  // nothing had to be done for that
            upload.next();
            CHECK(cuda::drawn > before);
            gpu::device_sync();
        }
        cudaStreamDestroy(gpu::compute_stream);
    }
    TEST_CASE("readbacks: in order, as they were when they were sent") {
        in_many_orders([] {
            double device = -1;
            int taken = 0, sent = 0;
            {
                gpu::Readback<double> readback;
                for (; sent < 50; sent++) {
                    int i = sent;
                    kernel([&device, i] { device = i; });
                    readback.send(&device);
                    while (taken < sent || (taken == sent && readback.ready()))
                        REQUIRE(readback.take() == taken++);  // at most one is left in flight
                }
                while (taken < sent) REQUIRE(readback.take() == taken++);
            }
        });
    }
    TEST_CASE("graphs: run, captured, repeated; too many begin anew") {
        in_many_orders([] {
            std::vector<int> done, want;
            int calls = 0, most = (int)gpu::Graphs::MAX_GRAPHS;
            {
                gpu::Graphs graphs;
                auto run = [&](int key, int argument) {
                    graphs.run({key, 7}, [&] {
                        calls++;
                        kernel([&done, key, argument] { done.push_back(100 * key + argument); });
                        kernel([&done, key] { done.push_back(-key); });
                    });
                };
                for (int i = 0; i < 5; i++)
                    for (int key : {1, 2}) {
                        run(key, i);
                        want.push_back(100 * key + std::min(i, 1));
                        want.push_back(-key);  // the argument of the capture stays
                    }
                CHECK(calls == 4);
                gpu::device_sync();
                CHECK(done == want);
                for (int key = 3; key <= most; key++) {
                    run(key, 0);
                    run(key, 0);
                }
                run(1, 0);
                CHECK((graphs.graphs.size() == gpu::Graphs::MAX_GRAPHS && calls == 4 + 2 * (most - 2)));
                run(most + 1, 0);
                CHECK((graphs.graphs.count({most + 1, 7}) == 1 && graphs.graphs.size() == 1));
                calls = 0;
                for (int i = 0; i < 3; i++) run(1, 0);
                CHECK(calls == 2);
                gpu::device_sync();
            }
        });
    }
    TEST_CASE("steps as train() makes them give what they give one by one") {
        in_many_orders([] {
            constexpr int STEPS = 20, MICRO = 3;
            typedef uint64_t Number;
            struct Block {
                Number value[4];
            };
            struct Stats {
                Number loss, weight;
            };
            std::vector<Number> losses, want;
            Number x = 1;
            for (int s = 0; s < STEPS; s++) {
                Number loss = 0;
                for (int m = 0; m < MICRO; m++) loss += x * (10 * s + m);
                want.push_back(loss);
                x = x * 31 + loss + s;
            }
            std::vector<Block> block(1);
            std::vector<Number> rate(1);
            Number w = 1;
            Stats stats{};
            int wrong_errors = 0;
            {
                gpu::Upload batches(block.data(), sizeof(Block)), hyper(rate.data(), sizeof(Number));
                gpu::Graphs graphs;
                gpu::Readback<Stats> readback;
                int in_flight = 0;
                auto ready = [&] {
                    bool yes = readback.ready();
                    wrong_errors += cudaGetLastError() != cudaSuccess;  // a launch would take it for its own
                    return yes;
                };
                for (int s = 0; s < STEPS; s++) {
                    kernel([&] { stats = {}; });
                    for (int m = 0; m < MICRO; m++) {
                        Number value = 10 * s + m;
                        *(Block*)batches.next() = {{value, value, value, value}};
                        batches.send();
                        graphs.run({m % 2}, [&] {
                            kernel(
                                [&] { stats.loss += w * (block[0].value[0] + block[0].value[3] - block[0].value[1]); });
                        });
                    }
                    *(Number*)hyper.next() = s;
                    hyper.send();
                    graphs.run({}, [&] { kernel([&] { w = w * 31 + stats.loss + rate[0]; }); });
                    readback.send(&stats);
                    in_flight++;
                    while (in_flight && (in_flight > 1 || ready())) {
                        losses.push_back(readback.take().loss);
                        in_flight--;
                    }
                }
                while (in_flight--) losses.push_back(readback.take().loss);
            }
            CHECK(losses == want);
            CHECK(wrong_errors == 0);
            CHECK(w == x);
        });
    }
}
