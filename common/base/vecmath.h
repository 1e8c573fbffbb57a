// vecmath.h: exp, tanh and the normal distribution function in a form that g++ turns into vector instructions. On a GPU
// and in double they are the library's. Each float function is tested against libm in double over its whole range.
#pragma once
#include <math.h>
#include <string.h>

#include "common/base/types.h"

HOST_DEVICE inline double vec_exp(double x) { return exp(x); }
HOST_DEVICE inline double vec_tanh(double x) { return tanh(x); }
HOST_DEVICE inline double normal_cdf(double x) { return 0.5 * erfc(-x * 0.70710678118654752440); }

#ifdef __CUDA_ARCH__
__device__ inline float vec_exp(float x) { return expf(x); }
__device__ inline float vec_tanh(float x) { return tanhf(x); }
__device__ inline float normal_cdf(float x) { return 0.5f * erfcf(-x * 0.70710678f); }
#else
// eˣ = 2ⁿ 2ᶠ with n = round(x log₂e), |f| ≤ 1/2. f is taken from x itself by an fma, because t = x log₂e is rounded (to
// 4e-6 where x is large), 2ᶠ is the Taylor series to f⁷ (error 5e-9). Relative error ≤ 2e-7; 0 below −87.3, +inf above
// 88, NaN stays NaN.
HOST_DEVICE inline float vec_exp(float x) {
    float t = x * 1.44269504f;
    float n = floorf(t + 0.5f);
    float f = __builtin_fmaf(x, 1.44269504f, -n) + x * 1.925963033e-8f;  // log₂e = 1.44269504 + 1.926e-8
    float p = (((1.5252734e-5f * f + 1.5403530e-4f) * f + 1.3333558e-3f) * f + 9.6181291e-3f) * f;
    p = (((p + 5.5504109e-2f) * f + 2.4022651e-1f) * f + 6.9314718e-1f) * f + 1.0f;
    uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, 4);
    float y = p * scale;
    y = x < -87.3f ? 0.0f : y;
    y = x > 88.0f ? INFINITY : y;
    return x != x ? x : y;
}
HOST_DEVICE inline float vec_tanh(float x) {  // absolute error ≤ 2e-7
    float e = vec_exp(-2.0f * fabsf(x));      // in (0, 1]: no overflow
    float y = (1.0f - e) / (1.0f + e);
    return x < 0 ? -y : y;
}
// Φ(x) by Abramowitz and Stegun 7.1.26 for erfc; absolute error ≤ 3e-7: 0.75e-7 of the formula, the rest is rounding
HOST_DEVICE inline float normal_cdf(float x) {
    float z = fabsf(x) * 0.70710678f, t = 1.0f / (1.0f + 0.3275911f * z);
    float p = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t;
    float tail = 0.5f * p * vec_exp(-0.5f * x * x);
    return x < 0 ? tail : 1.0f - tail;
}
#endif
