// test_shim.cu: does the shim run right kernels right, and does it catch the wrong ones of bugs.cu?
//   test_shim              all checks that this build can make (plain, -fsanitize=address, -fsanitize=thread)
//   test_shim bug NAME     run one kernel of bugs.cu and see what happens
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
#include <sys/wait.h>

#include "common/device/pipeline.cuh"
#include "test/device/bugs.cu"

struct Outcome {
    int status;        // exit status, or 128 + signal
    std::string text;  // what it printed, stdout and stderr
};

static Outcome run_bug(const char* name, const char* order) {
    std::string command = format(
        "SHIM_ORDER=%s ASAN_OPTIONS=detect_leaks=0 TSAN_OPTIONS=exitcode=66:atexit_sleep_ms=0 '%s' bug %s 2>&1", order,
        std::string(program_invocation_name).c_str(), name);
    FILE* f = popen(command.c_str(), "r");
    REQUIRE(f != nullptr);
    Outcome o;
    char line[4096];
    while (fgets(line, sizeof line, f)) o.text += line;
    int s = pclose(f);
    o.status = WIFEXITED(s) ? WEXITSTATUS(s) : 128 + WTERMSIG(s);
    return o;
}

// `name` has to end with this status and print this text, in each of the orders
static void expect(const char* name, int status, const char* text,
    std::vector<const char*> orders = {"forward", "reverse", "random"}) {
    for (const char* order : orders) {
        Outcome o = run_bug(name, order);
        std::string said = format("%s, SHIM_ORDER=%s: expected exit status %d and \"%s\"; it printed:\n%s", name, order,
            status, text, o.text.c_str());
        INFO(said);
        CHECK(o.status == status);
        CHECK(o.text.find(text) != std::string::npos);
    }
}

constexpr int WRONG_RESULT = 1, ABORTED = 128 + 6, RACE = 66;
constexpr bool tsan = SHIM_TSAN(true ||) false, asan = SHIM_ASAN(true ||) false;

TEST_SUITE("shim") {
    TEST_CASE("right kernels pass") {
        expect("early-return", 0, "right");
        expect("async-right", 0, "right");
        expect("syncwarp-as-barrier", 0, "right");
        expect("two-blocks-atomic", 0, "right");
    }
    TEST_CASE("waiting for a thread that never comes") {
        expect("divergent-barrier", ABORTED, "deadlock");
        expect("divergent-barrier", ABORTED, "waits at __shfl_xor_sync()");
    }
    TEST_CASE("lanes of a warp that disagree") {
        expect("mixed-collectives", ABORTED, "different collectives");
        expect("lane-outside-mask", ABORTED, "outside the mask");
        expect("shuffle-from-returned-lane", WRONG_RESULT, "nan");
    }
    TEST_CASE("a missing __syncthreads") {
        if (tsan) expect("missing-barrier", RACE, "data race");
        else
            expect("missing-barrier", WRONG_RESULT, "wrong",
                {"reverse", "random"});  // in step, nobody runs far enough ahead
    }
    TEST_CASE("shared memory that nobody wrote") { expect("uninitialised-shared", WRONG_RESULT, "nan"); }
    TEST_CASE("writes beyond dynamic shared memory") {
        if (tsan) return;  // a race on the way there
        if (asan) expect("shared-overrun-write", 1, "AddressSanitizer");
        else expect("shared-overrun-write", ABORTED, "beyond its dynamic shared memory");
    }
    TEST_CASE("a stack that is too small") {
        if (!tsan && !asan) expect("deep-stack", ABORTED, "stack overflowed");
    }
    TEST_CASE("cp.async: the wait is forgotten, too late, or for too little") {
        expect("async-no-wait", ABORTED, "cp.async copies in flight");
        expect("async-no-commit", ABORTED, "cp.async copies in flight");
        if (tsan) {
            expect("async-late-wait", RACE, "data race");
            expect("async-wait-off-by-one", RACE, "data race");
        } else {
            expect("async-late-wait", WRONG_RESULT, "nan");
            expect("async-wait-off-by-one", WRONG_RESULT, "nan");
        }
        expect("async-unaligned", ABORTED, "multiple of 16");
    }
    TEST_CASE("cp.async: other threads read without a barrier") {
        if (tsan) expect("async-no-barrier", RACE, "data race");
        else expect("async-no-barrier", WRONG_RESULT, "wrong");
    }
    TEST_CASE("reads beyond memory (ASan)" * doctest::skip(!asan)) {
        expect("shared-overrun-read", 1, "AddressSanitizer");
        expect("global-overrun", 1, "AddressSanitizer");
    }
    TEST_CASE("a shuffle in place of __syncwarp (TSan)" * doctest::skip(!tsan)) {
        expect("shuffle-as-barrier", RACE, "data race");
    }
    TEST_CASE("the host reads and writes device memory") {
        for (const char* name : {"host-reads-device", "host-writes-device"}) {
            expect(name, ABORTED, "right until here", {"forward"});
            expect(name, ABORTED, "the host reads or writes device memory (byte 100 of an allocation of", {"forward"});
        }
    }
    TEST_CASE("two blocks that write the same address (TSan)" * doctest::skip(!tsan)) {
        expect("two-blocks-one-address", RACE, "data race");
    }
}

// ---------------------------------------------------------------- the collectives, against their definition
static __global__ void collectives_kernel(int* out, double* sums) {
    int t = threadIdx.x, lane = t % 32, n = blockDim.x;
    int* o = out + (size_t)blockIdx.x * n * 8 + t * 8;
    o[0] = __shfl_sync(~0u, t, 7);
    o[1] = __shfl_xor_sync(~0u, t, 5);
    o[2] = __shfl_down_sync(~0u, t, 3);
    o[3] = __shfl_up_sync(~0u, t, 3);
    o[4] = __shfl_sync(~0u, t, 5, 8);
    o[5] = (int)__ballot_sync(~0u, lane % 3 == 0);
    o[6] = __any_sync(~0u, lane == 31) * 2 + __any_sync(~0u, 0);
    o[7] = __all_sync(~0u, lane < 32) * 2 + __all_sync(~0u, lane < 31);
    double s = block_sum((double)t), m = block_max(-(double)t);
    float sf = block_sum((float)t);
    if (t == 0) sums[blockIdx.x] = s + m + sf;
}

TEST_SUITE("collectives") {
    TEST_CASE("shuffles, votes and reductions, in three orders") {
        shim::Order before = shim::order;
        for (shim::Order order : {shim::FORWARD, shim::REVERSE, shim::RANDOM}) {
            shim::order = order;
            CAPTURE(order);
            const int blocks = 5, n = 96;
            std::vector<int> out(blocks * n * 8);
            std::vector<double> sums(blocks);
            launch(collectives_kernel, blocks, n, 0, out.data(), sums.data());
            int bad = 0;
            for (int b = 0; b < blocks; b++) {
                for (int t = 0; t < n; t++) {
                    int lane = t % 32, w = t - lane;
                    unsigned ballot = 0;
                    for (int i = 0; i < 32; i += 3) ballot |= 1u << i;
                    int want[8] = {w + 7, t ^ 5, lane + 3 < 32 ? t + 3 : t, lane >= 3 ? t - 3 : t, (t & ~7) + 5,
                        (int)ballot, 2, 2};
                    for (int i = 0; i < 8; i++) bad += out[(size_t)(b * n + t) * 8 + i] != want[i];
                }
                CHECK(sums[b] == 2.0 * (n * (n - 1) / 2));
            }
            CHECK(bad == 0);
        }
        shim::order = before;
    }
    TEST_CASE("a launch that no GPU would take is an error") {
        int* none = nullptr;
        double* no = nullptr;
        CHECK_THROWS_AS(launch(collectives_kernel, 1, 2048, 0, none, no), Error);
        CHECK_THROWS_AS(launch(collectives_kernel, 1, 32, 1 << 20, none, no), Error);
        CHECK_THROWS_AS(launch(collectives_kernel, dim3(1, 70000), 32, 0, none, no), Error);
        CHECK_THROWS_AS(launch(collectives_kernel, 1, 0, 0, none, no), Error);
        CHECK_NOTHROW(launch(collectives_kernel, 0, 32, 0, none, no));  // no blocks: nothing to do
    }
}

// ---------------------------------------------------------------- what a CUDA graph would repeat
struct Padded {
    float* p;
    int n;  // and four bytes that nobody sets
};
static __global__ void add_kernel(Padded a, float by) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < a.n) a.p[i] += by;
}
static __global__ void other_kernel(Padded, float) {}
static __global__ void number_kernel(size_t, uint64_t) {}

TEST_SUITE("graphs") {
    TEST_CASE("a body that launches the same again, and all that must not differ") {
        std::vector<float> x(100, 0.0f), y(100);
        struct Body {
            float* p;
            int n = 100;
            unsigned grid = 1, block = 128;
            size_t smem = 0;
            float by = 1;
            int times = 1;
            bool other = false, zero = false, zero_less = false, copy = false, sync = false;
        } usual{x.data()};
        auto run = [&](const Body& b) {
            if (b.zero || b.zero_less) gpu::device_zero(x.data(), b.zero_less ? 4 : 8);
            for (int i = 0; i < b.times; i++) {
                Padded a;
                memset((void*)&a, rand() % 256, sizeof a);  // what is in the padding does not count
                a.p = b.p;
                a.n = b.n;
                launch(b.other ? other_kernel : add_kernel, b.grid, b.block, b.smem, a, b.by);
            }
            if (b.copy) gpu::copy_to_host(y.data(), x.data(), 4);
            if (b.sync) gpu::device_sync();
        };
        auto expect_error = [&](const char* text, Body first, Body second) {
            gpu::Graphs graphs;
            std::string said = "nothing";
            try {
                graphs.run({1, 2}, [&] { run(first); });
                graphs.run({1, 3}, [&] { run(second); });  // another key may do something else
                graphs.run({1, 2}, [&] { run(second); });
            } catch (const Error& e) {
                said = e.what();
            }
            CHECK_MESSAGE(said.find(text) != said.npos, "expected \"", std::string(text), "\", found: ", said);
            CHECK(shim::recorder == nullptr);
        };
        auto but = [&](auto change) {
            Body b = usual;
            change(b);
            return b;
        };
        expect_error("nothing", usual, usual);
        expect_error("same arguments", usual, but([](Body& b) { b.by = 2; }));
        expect_error("same arguments", usual, but([](Body& b) { b.n = 99; }));
        expect_error("same arguments", usual, but([](Body& b) {
            b.p++;
            b.n = 99;
        }));
        expect_error("same arguments", but([](Body& b) { b.zero = true; }), but([](Body& b) { b.zero_less = true; }));
        expect_error("same grid", usual, but([](Body& b) { b.grid = 2; }));
        expect_error("same grid", usual, but([](Body& b) { b.block = 160; }));
        expect_error("same shared memory", usual, but([](Body& b) { b.smem = 16; }));
        expect_error("same kernel", usual, but([](Body& b) { b.other = true; }));
        expect_error("same kernel", usual, but([](Body& b) { b.zero = true; }));
        expect_error("expected 1 launches", usual, but([](Body& b) { b.times = 2; }));
        expect_error("expected 2 launches", but([](Body& b) { b.times = 2; }), usual);
        expect_error("copy_to_host", but([](Body& b) { b.copy = true; }), usual);
        expect_error("device_sync", but([](Body& b) { b.sync = true; }), usual);
    }
}

// ---------------------------------------------------------------- the host's memory and the device's
TEST_SUITE("two memories") {
    TEST_CASE("kernels and copies see device memory, and are refused the host's") {
        shim::host_may_touch = false;
        struct Restore {
            ~Restore() { shim::host_may_touch = true; }
        } restore;
        std::vector<float> y(100, 1.0f), z(100);
        float *p = y.data(), *x = (float*)gpu::device_alloc(400), *block = (float*)gpu::device_alloc(400),
              *other = (float*)gpu::device_alloc(5 << 20);
        gpu::copy_to_device(x, p, 400);
        launch(add_kernel, 1, 128, 0, Padded{x, 100}, 2.0f);
        gpu::copy_to_host(z.data(), x, 400);
        CHECK(z == std::vector<float>(100, 3.0f));
        gpu::device_zero(other + (1 << 20), 1 << 20);
        gpu::Upload upload(block, 400);
        memcpy(upload.next(), p, 400);
        upload.send();
        gpu::Readback<float> readback;
        readback.send(block + 99);
        CHECK(readback.take() == 1.0f);

        auto expect_error = [](const char* text, auto body) {
            std::string said = "nothing";
            try {
                body();
            } catch (const Error& e) {
                said = e.what();
            }
            CHECK_MESSAGE(said.find(text) != said.npos, "expected \"", std::string(text), "\", found: ", said);
            CHECK(shim::at_work == 0);
        };
        expect_error("kernel: argument 1 holds an address of the host's",
            [&] { launch(add_kernel, 1, 128, 0, Padded{p, 100}, 2.0f); });
        expect_error("kernel: argument 1 holds an address of the host's",
            [&] { launch(add_kernel, 1, 128, 0, Padded{(float*)&p, 1}, 2.0f); });
        launch(add_kernel, 1, 128, 0, Padded{x + 100, 0}, 2.0f);  // the end is of it, for an array of no elements
        expect_error("copy_to_device: expected an address of the device's", [&] { gpu::copy_to_device(p, p, 4); });
        expect_error("copy_to_device: 404 bytes from byte 0 on, of an allocation of 400",
            [&] { gpu::copy_to_device(x, p, 404); });
        expect_error("copy_to_host: 8 bytes from byte 396 on, of an allocation of 400",
            [&] { gpu::copy_to_host(p, x + 99, 8); });
        expect_error("device_zero: 1048576 bytes", [&] { gpu::device_zero(x, 1 << 20); });
        expect_error("Upload: 404 bytes from byte 0 on, of an allocation of 400", [&] { gpu::Upload(x, 404).send(); });
        expect_error("copy_to_device: expected an address of the host's", [&] { gpu::copy_to_device(x, other, 4); });
        expect_error("copy_to_host: expected an address of the device's", [&] { gpu::copy_to_host(p, p, 4); });
        expect_error("copy_to_host: expected an address of the host's", [&] { gpu::copy_to_host(x, other, 4); });
        expect_error("device_zero: expected an address of the device's", [&] { gpu::device_zero(p, 4); });
        expect_error("Upload: expected an address of the device's", [&] { gpu::Upload(p, 400).send(); });
        expect_error("Readback: expected an address of the device's", [&] { readback.send(p); });
        expect_error("nothing", [&] { launch(add_kernel, 1, 128, 0, Padded{nullptr, 0}, 2.0f); });
        // numbers are no addresses, whatever they are
        launch(number_kernel, 1, 1, 0, (size_t)p, (uint64_t)(uintptr_t)&p);
        // what cannot be in a graph
        gpu::Graphs graphs;
        expect_error(
            "device_alloc: it cannot be part of a CUDA graph", [&] { graphs.run({1}, [&] { gpu::device_alloc(1); }); });
        expect_error("Upload: it cannot be part", [&] { graphs.run({1}, [&] { upload.next(); }); });
        expect_error("Upload: it cannot be part", [&] { graphs.run({1}, [&] { upload.send(); }); });
        expect_error("Readback: it cannot be part", [&] { graphs.run({1}, [&] { readback.send(x); }); });
        expect_error("Readback: it cannot be part", [&] { graphs.run({1}, [&] { readback.take(); }); });
        gpu::device_free(block, 400);
        gpu::device_free(other, 5 << 20);
        expect_error("nothing", [&] { launch(add_kernel, 1, 128, 0, Padded{x, 100}, 2.0f); });
        gpu::device_free(x, 400);
        CHECK(shim::allocations.empty());
    }
}

int main(int argc, char** argv) {
    if (argc == 3 && !strcmp(argv[1], "bug")) return bugs::run(argv[2]);
    return doctest::Context(argc, argv).run();
}
