// flash_kernels.cu: the attention kernels in bf16 of all head sizes, compiled for test_machine_code.py to look at.
#include "../common/attention.cuh"

namespace gpu {
template void flash_forward<32>(bf16*, float*, const bf16*, Sequences, int, bool, Dropout);
template void flash_forward<64>(bf16*, float*, const bf16*, Sequences, int, bool, Dropout);
template void flash_forward<128>(bf16*, float*, const bf16*, Sequences, int, bool, Dropout);
template void flash_backward<32>(bf16*, const float*, const bf16*, const bf16*, const float*, Sequences, int, bool, Dropout);
template void flash_backward<64>(bf16*, const float*, const bf16*, const bf16*, const float*, Sequences, int, bool, Dropout);
template void flash_backward<128>(bf16*, const float*, const bf16*, const bf16*, const float*, Sequences, int, bool, Dropout);
template void flash_backward_atomic<32>(bf16*, float*, const float*, const bf16*, const bf16*, const float*, Sequences, int, bool, Dropout);
template void flash_backward_atomic<64>(bf16*, float*, const float*, const bf16*, const bf16*, const float*, Sequences, int, bool, Dropout);
template void flash_backward_atomic<128>(bf16*, float*, const float*, const bf16*, const bf16*, const float*, Sequences, int, bool, Dropout);
template void attention_delta<32>(float*, const bf16*, const bf16*, int, int);
template void attention_delta<64>(float*, const bf16*, const bf16*, int, int);
template void attention_delta<128>(float*, const bf16*, const bf16*, int, int);
}  // namespace gpu
