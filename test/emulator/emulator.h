// emulator.h: runs the PTX that nvcc put into an executable, warp by warp, on the CPU. interpreter.cpp runs it, ptx.cpp
// reads it, memory.cpp knows which memory there is and what was written; cudart.cpp is the runtime library on top.
//
// An address of the device is a number that the host need not be able to touch: the emulator reads and writes at `data`
// of the allocation. Every function may be called from one thread at a time only; a launch uses all OpenMP threads.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace emulator {
// What the emulated program, its kernels or its PTX do wrong. what() is one line: for a fault in a kernel
//   "kernel NAME, block (x,y,z), thread (x,y,z): WHAT; MODULE:LINE: the instruction"
enum class Fault {
    address,        // outside every allocation: cudaErrorIllegalAddress
    misaligned,     // not a multiple of the access's size: cudaErrorMisalignedAddress
    uninitialised,  // a read of memory that nobody wrote
    race,           // two threads at one place, one of them writes, and nothing orders them
    barrier,        // a barrier, shfl or other .sync instruction that some of its threads do not reach
    trap,           // trap, or an assertion of the kernel
    launch,         // a grid, a block or an amount of shared memory that the kernel cannot have
    unsupported,    // PTX that the emulator does not know
};
struct Error : std::runtime_error {
    Fault fault;
    Error(Fault f, const std::string& what) : std::runtime_error(what), fault(f) {}
};

// ---------------------------------------------------------------- memory
// Device memory at [address, address + bytes), stored by the host at `data` (data == (char*)address for managed
// memory, which the host reads and writes itself and which therefore always counts as written).
void register_allocation(uint64_t address, size_t bytes, char* data, bool managed = false);
void unregister_allocation(uint64_t address);
// The place of [address, address + bytes) for a copy, memset or library call of the host. Error if it lies in no
// allocation or, when read, was never written; marks it written when `writes`.
char* access(uint64_t address, size_t bytes, bool writes);
// Is the address in an allocation? For cudaPointerGetAttributes and cudaMemcpyDefault.
bool is_device_address(uint64_t address);

// ---------------------------------------------------------------- modules and kernels
struct Module;
struct Kernel;

// The text of one PTX file; `name` is what errors call it. Only the names and sizes of its entries are read now, the
// instructions of a kernel when it is first launched. Lives as long as the process.
Module* load_module(std::string ptx, std::string name);
const Kernel* find_kernel(Module*, const std::string& name);  // nullptr if there is none of this name

// A global variable of a module: it is an allocation like others. Error if there is none of this name.
struct Variable {
    uint64_t address;
    size_t bytes;
};
Variable find_variable(Module*, const std::string& name);

struct Attributes {
    std::string name;                 // as in the PTX: mangled
    std::vector<size_t> param_bytes;  // of each parameter
    size_t static_shared, local;      // bytes of a block, of a thread
    int max_threads;                  // by .maxntid or .reqntid, else 1024
    int target;                       // sm_XX of the module
};
const Attributes& attributes(const Kernel*);

struct Dim {
    uint32_t x = 1, y = 1, z = 1;
};
// Runs the kernel to its end. args[i] points to parameter i. Throws Error for what goes wrong; blocks that ran
// before have then written their results.
void launch(const Kernel*, Dim grid, Dim block, size_t dynamic_shared, const void* const* args);

// ---------------------------------------------------------------- options and counts
struct Options {
    bool uninitialised = true;  // reads of memory that nobody wrote
    bool shared_races = true;   // between two barriers of a block
    bool global_races = false;  // between blocks of one launch; 16 bytes for each element that is touched
    size_t max_dynamic_shared = 232448 - 1024;
    bool count = false;  // costs (count.h); on if EMULATOR_COUNTS names a file
    uint64_t sample =
        0;  // blocks of a launch that run, if not all (EMULATOR_SAMPLE); no check knows what it means then
};
extern Options options;  // first from EMULATOR_CHECKS=[no-]uninitialised,[no-]shared-races,[no-]global-races

struct Counts {
    uint64_t launches = 0, blocks = 0;
    uint64_t warp_instructions = 0, lane_instructions = 0;
    std::map<std::string, uint64_t> by_opcode;  // warp instructions by opcode with modifiers, as in the PTX
};
const std::map<std::string, Counts>& counts();  // of all launches until now, by the name of the kernel
uint64_t lane_instructions();                   // of all launches until now: a clock that advances by work
}  // namespace emulator
