// test_count.cpp: what the emulator counts of small kernels, beside a count by hand.
#include <stdint.h>

#include <doctest/doctest.h>

#include "test/emulator/count.h"

using namespace emulator;

alignas(256) static char memory[1 << 16];
// Runs a kernel with a buffer of 64 KiB at %a; %t is the thread of the block, %g that of the grid.
static Cost cost_of(const std::string& body, Dim grid = {1}, Dim block = {32}) {
    std::string ptx =
        ".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 p)\n{\n.reg .pred %p<9>; .reg "
        ".b32 "
        "%r<99>; .reg .f32 %f<19>; .reg .b64 %rd<19>; .reg .b64 %a; .reg .b32 %t, %g;\n"
        ".shared .align 16 .b8 d[16384];\n"
        "mov.u32 %t, %tid.x; mov.u32 %g, %ctaid.x; ld.param.u64 %a, [p];\n";
    const Kernel* k = find_kernel(load_module(ptx + body + "\nret;\n}\n", "test.ptx"), "k");
    uint64_t address = (uint64_t)memory;
    register_allocation(address, sizeof memory, memory);
    access(address, sizeof memory, true);
    options.count = true;
    const void* args[] = {&address};
    launch(k, grid, block, 0, args);
    options.count = false;
    unregister_allocation(address);
    return last_cost;
}
// %rd1 = %a + OFFSET of the thread; %r2 = d + the same
static std::string at(const std::string& scale) {
    return "mul.lo.u32 %r1, %t, " + scale + "; cvt.u64.u32 %rd2, %r1; add.s64 %rd1, %a, %rd2; mov.u32 %r3, d; " +
           "add.u32 %r2, %r3, %r1;\n";
}
static void check(const Traffic& t, uint64_t bytes, uint64_t sectors, uint64_t lines) {
    CHECK(t.bytes == bytes);
    CHECK(t.sectors == sectors);
    CHECK(t.lines == lines);
}
TEST_CASE("count: global memory, coalesced and strided") {
    check(cost_of(at("4") + "ld.global.u32 %r4, [%rd1];").loads, 128, 4, 1);
    check(cost_of(at("16") + "ld.global.v4.u32 {%r4, %r5, %r6, %r7}, [%rd1];").loads, 512, 16, 4);
    check(cost_of(at("128") + "ld.global.u32 %r4, [%rd1];").loads, 128, 32, 32);
    check(cost_of(at("8") + "ld.global.u32 %r4, [%rd1];").loads, 128, 8, 2);
    check(cost_of(at("4") + "ld.global.u32 %r4, [%rd1+16];").loads, 128, 5, 2);
    check(cost_of("ld.global.u32 %r4, [%a];").loads, 4, 1, 1);  // all lanes the same place
    Cost c = cost_of(at("4") + "st.global.u32 [%rd1], %t; setp.lt.u32 %p1, %t, 8; @%p1 red.global.add.u32 [%rd1], 1;");
    check(c.stores, 128 + 32, 4 + 1, 2);
    check(c.loads, 0, 0, 0);
    CHECK(c.l1_lines == 2);
    CHECK(c.memory_written == 128);  // the second access finds the first one's sectors in a cache
}
TEST_CASE("count: shared memory, bank conflicts") {
    auto wavefronts = [](const std::string& scale, const std::string& access, uint64_t expected, uint64_t least) {
        Cost c = cost_of(at(scale) + access);
        CHECK(c.shared_wavefronts == expected);
        CHECK(c.shared_least == least);
    };
    std::string word = "st.shared.u32 [%r2], %t;", four = "st.shared.v4.u32 [%r2], {%t, %t, %t, %t};";
    wavefronts("4", word, 1, 1);
    wavefronts("8", word, 2, 1);
    wavefronts("128", word, 32, 1);  // all lanes one bank
    wavefronts("132", word, 1, 1);   // a word of padding to each row
    wavefronts("0", "setp.eq.u32 %p1, %t, 0; @%p1 st.shared.u32 [d], 0; bar.warp.sync -1; ld.shared.u32 %r4, [%r2];", 2,
        2);                          // one word for all
    wavefronts("16", four, 4, 4);    // 512 bytes
    wavefronts("128", four, 32, 4);  // a quarter of the warp goes together: 8 conflicts in each
    wavefronts("8", "st.shared.v2.u32 [%r2], {%t, %t};", 2, 2);
    // ldmatrix: 8 rows of 16 bytes at a time, 128 bytes apart or side by side
    std::string fill =
        "mov.u32 %r5, 0; A: mad.lo.u32 %r6, %r5, 128, %r3; shl.b32 %r7, %t, 2; add.u32 %r6, %r6, %r7; "
        "st.shared.u32 [%r6], 0; add.u32 %r5, %r5, 1; setp.lt.u32 %p1, %r5, 32; @%p1 bra A; "
        "bar.warp.sync -1; ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r10, %r11, %r12, %r13}, [%r2];";
    wavefronts("128", fill, 32 + 32, 32 + 4);
    wavefronts("16", fill, 32 + 4, 32 + 4);
}
TEST_CASE("count: cp.async") {
    Cost c = cost_of(
        at("16") + "cp.async.cg.shared.global [%r2], [%rd1], 16; cp.async.commit_group; cp.async.wait_group 0;");
    check(c.loads, 512, 16, 4);
    CHECK(c.shared_wavefronts == 4);
    CHECK(c.pipe[LSU] == 1);
    CHECK(c.l1_lines == 0);
}
TEST_CASE("count: instructions by pipe") {
    // 3 blocks of 2 warps, a loop of 5 rounds
    Cost c = cost_of(R"(
        mov.u32 %r1, 0; mov.f32 %f1, 0f3F800000;
        A: fma.rn.f32 %f1, %f1, %f1, %f1; mul.f32 %f2, %f1, %f1; ex2.approx.ftz.f32 %f3, %f2;
        mad.lo.s32 %r2, %r1, %r1, %r1; add.s32 %r1, %r1, 1; shfl.sync.bfly.b32 %r3, %r1, 1, 31, -1;
        setp.lt.u32 %p1, %r1, 5; @%p1 bra A;
        and.b64 %rd1, %a, %a;
        bar.sync 0;)",
        {3}, {64});
    double warps = 6, rounds = 5 * warps;
    CHECK(c.pipe[FMA] == 2 * rounds);
    CHECK(c.pipe[MUFU] == rounds);
    CHECK(c.pipe[IMAD] == rounds);
    CHECK(c.pipe[LSU] == rounds);
    CHECK(c.pipe[ALU] == 2 * rounds + 2 * warps);  // add and setp; 64 bits are two instructions
    CHECK(c.pipe[CONTROL] == rounds + 2 * warps);  // bra; bar and ret
    CHECK(c.pipe[TENSOR] == 0);
}
TEST_CASE("count: mma") {
    Cost c = cost_of(
        "mov.f32 %f1, 0f00000000; mov.b32 %r1, 0; mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1, %f2, %f3, "
        "%f4}, {%r1, %r1, %r1, %r1}, {%r1, %r1}, {%f1, %f1, %f1, %f1};",
        {1}, {128});
    CHECK(c.pipe[TENSOR] == 4);
    CHECK(c.pipe[CONTROL] == 4);  // ret
    for (Pipe p : {FMA, IMAD, ALU, FP64, MUFU, LSU}) CHECK(c.pipe[p] == 0);
}
TEST_CASE("count: a sample of the blocks, scaled to all") {
    std::string store =
        "mad.lo.u32 %r1, %g, 32, %t; mul.wide.u32 %rd2, %r1, 4; add.s64 %rd1, %a, %rd2; "
        "st.global.u32 [%rd1], %r1; ld.global.u32 %r4, [%a];";
    Cost all = cost_of(store, {100});
    options.sample = 10;
    Cost some = cost_of(store, {100});
    options.sample = 0;
    CHECK(all.ran == 100);
    CHECK(some.ran == 10);
    CHECK(some.blocks == 100);
    CHECK(10 * some.pipe[LSU] == all.pipe[LSU]);
    CHECK(10 * some.stores.sectors == all.stores.sectors);
    CHECK(all.memory_written == 12800);
    CHECK(all.memory_read == 32);  // all blocks read one sector
    CHECK(some.memory_read == 32);
    CHECK(some.memory_written > 12000);  // the first and the last of the sample are not quite those of the grid
    CHECK(some.memory_written <= 12800);
    for (uint64_t i = 0; i < 10; i++) CHECK(block_to_run(i, 100, 10) / 10 == i);
}
