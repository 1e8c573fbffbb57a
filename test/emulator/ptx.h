// ptx.h: the PTX of a kernel, decoded once: instructions with a function each, registers and constants as offsets.
#pragma once
#include <stdint.h>

#include <string>
#include <unordered_map>
#include <vector>

#include "test/emulator/emulator.h"

namespace emulator {
struct Warp;
struct Inst;
using Run = void (*)(Warp&, const Inst&, uint32_t mask);  // executes the instruction for the lanes of the mask

enum class Space : uint8_t { generic, global, shared, local, param };
// Generic addresses of shared and local memory; no host has memory there.
constexpr uint64_t SHARED_WINDOW = 1ull << 60, LOCAL_WINDOW = 1ull << 61;
constexpr uint32_t SHARED_START = 1024;  // the hardware keeps the first KiB of a block's shared memory

enum class Kind : uint8_t { plain, branch, exit, barrier };
// An opcode: what runs it, and its operands, a letter each, in the order of the PTX:
//   w  lanes of 32 bits: registers of 16 and 32 bits, constants       d  lanes of 64 bits
//   p  a predicate: one bit a lane in a 32-bit word                   q  the same after '|': may be missing
//   a  an address [register + constant], [name + constant]            i  an integer constant     l  a label
struct Op {
    Run run = nullptr;
    std::string operands;
    Kind kind = Kind::plain;
    Space space = Space::generic;
};
const Op* find_op(const std::string& opcode);  // interpreter.cpp; nullptr: unknown

constexpr int32_t CONSTANT = INT32_MIN;  // this bit of an operand: an offset in the constants, not in the registers
struct Inst {
    Run run;
    const int32_t* op;    // an offset for each operand; `i` and `l` have none
    int64_t imm;          // of an address or `i`
    int32_t target, rpc;  // of a branch: where it goes, and where its lanes meet again
    int32_t guard;        // the offset of @p, or -1
    uint32_t negate;      // ~0 for @!p
    int32_t line;
    Kind kind;
    Space space;
};

struct Special {
    int name;  // index in SPECIALS
    int32_t at;
};
extern const std::vector<std::string> SPECIALS;  // %tid.x …

struct Param {
    std::string name;
    size_t offset, bytes;
};

struct Symbol {
    Space space;
    size_t bytes, align;
    uint64_t address = 0;  // of a global variable
    bool external = false;
};

struct Kernel {
    Module* module;
    Attributes attributes;
    std::vector<Param> params;
    size_t param_bytes = 0;
    size_t begin = 0, end = 0;  // of the body in the module's text
    int line = 0;
    bool decoded = false;

    std::vector<Inst> code;
    std::vector<std::string> opcodes;  // of each instruction
    std::vector<int32_t> operands;
    std::vector<char> constants;  // 32 lanes each
    std::vector<Special> specials;
    size_t register_bytes = 0;  // of a warp
    unsigned shared_unit = 4;   // the smallest access to shared memory, at most 4 bytes
    unsigned global_unit = 4;   // … to global memory
    size_t dynamic_offset = 0;  // of dynamic shared memory behind SHARED_START
};

struct Module {
    std::string text, name;
    int target = 0;
    std::unordered_map<std::string, Kernel> kernels;
    std::unordered_map<std::string, Symbol> symbols;
};
void decode(Kernel&);  // the body; does nothing the second time
std::string source_line(const Module&, int line);
}  // namespace emulator
