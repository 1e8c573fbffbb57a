// count.h: what a launch costs a GPU: instructions by the pipe that executes them, global memory by sectors and lines,
// shared memory by wavefronts. dev/predict.py makes a time of it.
//
// EMULATOR_COUNTS=FILE writes a line of JSON for every launch, product, copy and fill. With EMULATOR_SAMPLE=N a launch
// runs N of its blocks, spread over the grid, and no product or large fill runs at all: results are garbage, counts are
// those of real shapes in a small part of the time.
#pragma once
#include <stdint.h>

#include <string>
#include <vector>

#include "test/emulator/emulator.h"

namespace emulator {
// The pipes of a multiprocessor (CUDA C++ programming guide, "Arithmetic Instructions").
enum Pipe {
    FMA,      // fp32, 128 lanes a clock
    IMAD,     // integer products: on the same pipe, 64
    ALU,      // integers, logic, comparisons, conversions: 64
    FP64,     // 64
    MUFU,     // 2^x, 1/x, …, and counting bits: 16
    LSU,      // loads, stores, atomics, shuffles: 32
    TENSOR,   // mma
    CONTROL,  // branches, barriers: they only take a place in the instruction stream
    PIPES
};
extern const char* const PIPE_NAMES[PIPES];

// Machine instructions that ptxas makes of one of PTX, by pipe. 0 for what it mostly removes: moves, parameters (they
// are constants), changes of the address space.
struct Machine {
    double pipe[PIPES] = {};
};
Machine machine_code(const std::string& opcode);

struct Traffic {
    uint64_t bytes = 0;                   // of global memory that an instruction's lanes ask for, each byte once
    uint64_t sectors = 0, lines = 0;      // of 32 and 128 bytes, each once in an instruction
    uint64_t low = UINT64_MAX, high = 0;  // its addresses are in [low, high)
    uint64_t wavefronts = 0, least = 0;   // of shared memory, and how many there would be without bank conflicts

    void global(const uint64_t* address, unsigned bytes_each, uint32_t mask);
    void shared(const uint64_t* address, unsigned bytes_each, uint32_t mask);
    void add(const Traffic&);
};
// Of each instruction of a kernel, by one thread of the host
struct Executed {
    std::vector<uint64_t> warps, lanes;
    std::vector<Traffic> traffic;  // empty: it is not asked for
    explicit Executed(size_t instructions);
    void add(const Executed&);
};

// What the blocks that ran did; `blocks` is how many there are.
struct Cost {
    std::string kernel;
    Dim grid, block;
    size_t shared = 0;  // bytes of a block
    uint64_t blocks = 0, ran = 0;
    double pipe[PIPES] = {};  // warp instructions
    Traffic loads, stores;    // of global memory (atomics are stores), all instructions together
    uint64_t shared_wavefronts = 0, shared_least = 0;
    uint64_t l1_lines = 0;                       // lines of global memory that pass the L1 cache: not those of cp.async
    double memory_read = 0, memory_written = 0;  // bytes, of the whole grid: see count.cpp
};
struct Kernel;
// Called by launch()
void count_launch(const Kernel&, Dim grid, Dim block, size_t shared, uint64_t blocks, uint64_t ran, const Executed&);
extern Cost last_cost;  // of the last launch, if options.count

uint64_t blocks_to_run(uint64_t blocks);                           // options.sample of them at most
uint64_t block_to_run(uint64_t i, uint64_t blocks, uint64_t run);  // the i-th of `run`
void log_line(const std::string& json);                            // into EMULATOR_COUNTS, if there is such a file
}  // namespace emulator
