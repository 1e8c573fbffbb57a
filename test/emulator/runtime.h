// runtime.h: what the stand-in for cuBLASLt (cublaslt.cpp) needs of the one for the CUDA runtime (cudart.cpp), beside
// the runtime's documented functions.
#pragma once
#include <cuda_runtime_api.h>

#include <functional>

namespace emulator {
// Puts work that takes `ns` on the device's clock into a stream, or into the graph that is captured from it.
cudaError_t enqueue(cudaStream_t stream, double ns, std::function<void()> work);
// One line on stderr, with the emulator's name
void say(const char* format, ...) __attribute__((format(printf, 1, 2)));
}  // namespace emulator
