// stubs.cpp: every function that the real library has and the stand-in has not. It says its name and returns
// "not supported". STUBS is a file with a line STUB(name) for each function of the real library, made by tests.mk;
// those that exist are stronger.
namespace emulator {
int unsupported(const char* function);
}
#define STUB(name) \
    extern "C" __attribute__((weak)) int name() { return emulator::unsupported(#name); }
#include STUBS
