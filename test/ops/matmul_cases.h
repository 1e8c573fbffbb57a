// matmul_cases.h: the linear layer against the loops: on the shim, on a GPU, and with cublaslt.h in place of cuBLASLt.
#pragma once
#include "common/ops/matmul.cuh"
#include "test/close.h"
#include "test/ops/kernels.h"

struct MatmulCase {
    int N, C, OC;
};

// How many roundings lie between the two sides, in bf16: the loops, and our kernels for bias and GELU, store the
// product in T and continue with it; cuBLASLt continues with its fp32 sum. Stored once is one rounding (either side may
// go the other way), a product with a bias two. GELU's slope is at most 1.13, so two of half an ulp each in pre move
// act by 1.13 ulp of it; its own rounding is the third. The product times gelu' is two again. Arrays start `odd`
// elements after an aligned address.
template <class T> void test_matmul(MatmulCase s, size_t odd = 0) {
    CAPTURE(s.N);
    CAPTURE(s.C);
    CAPTURE(s.OC);
    size_t N = s.N, C = s.C, OC = s.OC;
    auto at = [&](auto host) {
        host.insert(host.begin(), odd, host[0]);
        return host;
    };
    auto get = [&](auto& device) {
        auto host = device.get();
        host.erase(host.begin(), host.begin() + (ptrdiff_t)odd);
        return host;
    };
    auto inp = noise<T>(N * C), weight = noise<T>(OC * C, 0.1), bias = noise<T>(OC), dout = noise<T>(N * OC),
         out = nothing<T>(N * OC), pre = out;
    Device<T> d_inp(at(inp)), d_weight(at(weight)), d_bias(at(bias)), d_dout(at(dout)), d_out(at(out)), d_pre(at(out));
    const T *x = d_inp.p + odd, *w = d_weight.p + odd, *b = d_bias.p + odd,
            *d = d_dout.p + odd;  // (N, C), (OC, C), (OC), (N, OC)
    cpu::matmul_forward<T>(out.data(), inp.data(), weight.data(), nullptr, s.N, s.C, s.OC);
    gpu::matmul_forward<T>(d_out.p + odd, x, w, nullptr, s.N, s.C, s.OC);
    check("matmul_forward", get(d_out), out, C);
    cpu::matmul_forward<T>(out.data(), inp.data(), weight.data(), bias.data(), s.N, s.C, s.OC);
    gpu::matmul_forward<T>(d_out.p + odd, x, w, b, s.N, s.C, s.OC);
    check("matmul_forward, bias", get(d_out), out, C, 2);
    cpu::matmul_gelu_forward<Gelu::tanh, T>(
        out.data(), pre.data(), inp.data(), weight.data(), bias.data(), s.N, s.C, s.OC);
    gpu::matmul_gelu_forward<Gelu::tanh, T>(d_out.p + odd, d_pre.p + odd, x, w, b, s.N, s.C, s.OC);
    check("matmul_gelu_forward pre, tanh", get(d_pre), pre, C, 2);
    check("matmul_gelu_forward tanh", get(d_out), out, C, 3);
    cpu::matmul_gelu_forward<Gelu::erf, T>(
        out.data(), pre.data(), inp.data(), weight.data(), bias.data(), s.N, s.C, s.OC);
    gpu::matmul_gelu_forward<Gelu::erf, T>(d_out.p + odd, d_pre.p + odd, x, w, b, s.N, s.C, s.OC);
    check("matmul_gelu_forward pre", get(d_pre), pre, C, 2);
    check("matmul_gelu_forward erf", get(d_out), out, C, 3);

    auto dinp = noise<T>(N * C);
    Device<T> d_dinp(at(dinp));
    cpu::matmul_backward_input<T>(dinp.data(), dout.data(), weight.data(), s.N, s.C, s.OC, true);
    gpu::matmul_backward_input<T>(d_dinp.p + odd, d, w, s.N, s.C, s.OC, true);
    check("matmul_backward_input, add", get(d_dinp), dinp, OC);
    cpu::matmul_backward_input<T>(dinp.data(), dout.data(), weight.data(), s.N, s.C, s.OC);
    gpu::matmul_backward_input<T>(d_dinp.p + odd, d, w, s.N, s.C, s.OC);
    check("matmul_backward_input", get(d_dinp), dinp, OC);
    cpu::matmul_backward_input_gelu<Gelu::erf, T>(dinp.data(), dout.data(), weight.data(), inp.data(), s.N, s.C, s.OC);
    gpu::matmul_backward_input_gelu<Gelu::erf, T>(d_dinp.p + odd, d, w, x, s.N, s.C, s.OC);
    check("matmul_backward_input_gelu erf", get(d_dinp), dinp, OC, 2);
    cpu::matmul_backward_input_gelu<Gelu::tanh, T>(dinp.data(), dout.data(), weight.data(), inp.data(), s.N, s.C, s.OC);
    gpu::matmul_backward_input_gelu<Gelu::tanh, T>(d_dinp.p + odd, d, w, x, s.N, s.C, s.OC);
    check("matmul_backward_input_gelu tanh", get(d_dinp), dinp, OC, 2);

    auto dw = noise<float>(OC * C), db = noise<float>(OC),
         scratch = nothing<float>(column_sum_scratch(N, OC));  // gradients of a micro-batch before
    Device<float> d_dw(at(dw)), d_db(at(db)), d_scratch(at(scratch));
    for (bool with_bias : {true, false, true}) {
        cpu::matmul_backward_weight<T>(
            dw.data(), with_bias ? db.data() : nullptr, dout.data(), inp.data(), scratch.data(), s.N, s.C, s.OC);
        gpu::matmul_backward_weight<T>(
            d_dw.p + odd, with_bias ? d_db.p + odd : nullptr, d, x, d_scratch.p + odd, s.N, s.C, s.OC);
    }
    check("matmul_backward_weight", get(d_dw), dw, 3 * N);
    check("matmul_backward_weight, bias", get(d_db), db, 2 * N);
    gpu::matmul_backward_weight<T>(d_dw.p + odd, d_db.p + odd, d, x, d_scratch.p + odd, 0, s.C,
        s.OC);  // no row has a target
    gpu::matmul_forward<T>(d_out.p + odd, x, w, b, 0, s.C, s.OC);
    check("matmul_backward_weight, N = 0", get(d_dw), dw, 3 * N);
}
