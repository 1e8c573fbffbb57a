// test_interpreter.cpp: the emulator's instructions one by one against the formulas of the PTX manual at edge values,
// small kernels, and kernels that are wrong, each of which its check must catch.
//
// How fast it is: EMULATOR_SPEED=1 build/test/test_interpreter -tc='speed*'
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <chrono>
#include <limits>
#include <memory>
#include <tuple>

#include <doctest/doctest.h>

#include "test/emulator/emulator.h"

using namespace emulator;

template <class T> struct Buffer {  // device memory that the test may look at
    std::vector<T> data;
    explicit Buffer(std::vector<T> values, bool written = true) : data(std::move(values)) {
        register_allocation(address(), bytes(), (char*)data.data());
        if (written) access(address(), bytes(), true);
    }
    explicit Buffer(size_t n) : Buffer(std::vector<T>(n), false) {}
    ~Buffer() { unregister_allocation(address()); }
    Buffer(const Buffer&) = delete;
    uint64_t address() const { return (uint64_t)data.data(); }
    size_t bytes() const { return data.size() * sizeof(T); }
};

// A kernel of one body; `params` are all .u64. %a, %b, %c, %o are the first four parameters, %t is the thread.
static const Kernel* kernel(const std::string& body, int params = 4, const std::string& outside = "") {
    std::string ptx = ".version 8.0\n.target sm_90\n.address_size 64\n" + outside + "\n.visible .entry k(";
    for (int i = 0; i < params; i++) ptx += (i ? ", .param .u64 p" : ".param .u64 p") + std::to_string(i);
    ptx +=
        ")\n{\n.reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<99>; .reg .f32 %f<19>; .reg .b64 %rd<19>;\n"
        ".reg .f64 %fd<9>; .reg .b64 %a, %b, %c, %o; .reg .b32 %t;\nmov.u32 %t, %tid.x;\n";
    const char* names[] = {"%a", "%b", "%c", "%o"};
    for (int i = 0; i < params && i < 4; i++)
        ptx += std::string("ld.param.u64 ") + names[i] + ", [p" + std::to_string(i) + "];\n";
    return find_kernel(load_module(ptx + body + "\nret;\n}\n", "test.ptx"), "k");
}
static void run(const Kernel* k, Dim grid, Dim block, std::vector<uint64_t> args, size_t shared = 0) {
    std::vector<const void*> pointers;
    for (uint64_t& a : args) pointers.push_back(&a);
    launch(k, grid, block, shared, pointers.data());
}

// ---------------------------------------------------------------- instructions
template <class T> const char* suffix() { return sizeof(T) == 8 ? ".b64" : sizeof(T) == 4 ? ".b32" : ".b16"; }
template <class T> const char* prefix() { return sizeof(T) == 8 ? "%rd" : sizeof(T) == 4 ? "%r" : "%h"; }
template <class T> std::vector<T> edges() {
    using L = std::numeric_limits<T>;
    if constexpr (std::is_floating_point_v<T>) {
        return {0, (T)-0.0, 1, -1, (T)0.5, (T)1.5, (T)2.5, (T)-2.5, (T)0.1, (T)1e10, (T)-1e20, (T)3.3e38, L::min(),
            L::denorm_min(), -L::denorm_min(), L::max(), L::lowest(), L::infinity(), -L::infinity(), L::quiet_NaN(),
            (T)255.5, (T)-128.5, (T)65535.5, (T)2147483648.0, (T)4294967296.0, (T)1.9999999};
    } else
        return {0, 1, 2, 3, 7, 8, 15, 16, 31, (T)32, (T)33, (T)63, (T)64, (T)100, (T)-1, (T)-2, (T)-7, L::min(),
            L::max(), (T)(L::max() - 1), (T)(L::min() + 1), (T)0x5555, (T)0xdeadbeef};
}
template <class T> bool same_value(T x, T y) { return !memcmp(&x, &y, sizeof x) || (x != x && y != y); }

// Runs "op d, a, b, c" at all combinations of edge values; `want` is the manual's formula.
template <class D, class... S, class F> void check(const char* op, F want) {
    constexpr size_t N = sizeof...(S);
    std::tuple<std::vector<S>...> e{edges<S>()...};
    std::tuple<std::vector<S>...> in;
    std::vector<D> expected;
    auto combine = [&](auto... values) {
        expected.push_back(want(values...));
        std::apply([&](auto&... v) { (v.push_back(values), ...); }, in);
    };
    if constexpr (N == 1)
        for (auto a : std::get<0>(e)) combine(a);
    if constexpr (N == 2)
        for (auto a : std::get<0>(e))
            for (auto b : std::get<1>(e)) combine(a, b);
    if constexpr (N == 3)
        for (auto a : std::get<0>(e))
            for (auto b : std::get<1>(e))
                for (auto c : std::get<2>(e)) combine(a, b, c);
    size_t n = expected.size();
    std::string body = "mov.u32 %r50, %ctaid.x; mad.lo.s32 %t, %r50, 96, %t; setp.ge.u32 %p0, %t, " +
                       std::to_string(n) + "; @%p0 ret;\n";
    const char* pointer[] = {"%a", "%b", "%c"};
    std::string operands;
    size_t i = 0;
    auto argument = [&](auto zero) {
        using T = decltype(zero);
        std::string r = std::string(prefix<T>()) + std::to_string(i + 1);
        body += "mul.wide.u32 %rd9, %t, " + std::to_string(sizeof(T)) + "; add.s64 %rd9, %rd9, " + pointer[i] +
                "; ld.global" + suffix<T>() + " " + r + ", [%rd9];\n";
        operands += ", " + r;
        i++;
    };
    (argument(S()), ...);
    std::string d = std::string(prefix<D>()) + "0";
    body += std::string(op) + " " + d + operands + ";\nmul.wide.u32 %rd9, %t, " + std::to_string(sizeof(D)) +
            "; add.s64 %rd9, %rd9, %o; st.global" + suffix<D>() + " [%rd9], " + d + ";\n";
    Buffer<D> out(n);
    std::vector<uint64_t> args;
    std::apply(
        [&](auto&... v) {
            auto buffers = std::make_tuple(std::make_unique<Buffer<S>>(v)...);
            std::apply([&](auto&... b) { (args.push_back(b->address()), ...); }, buffers);
            args.resize(4);
            args[3] = out.address();
            run(kernel(body), {(uint32_t)(n + 95) / 96}, {96}, args);
        },
        in);
    size_t bad = 0;
    std::string first;
    for (size_t j = 0; j < n; j++) {
        if (same_value(out.data[j], expected[j])) continue;
        if (!bad++) {
            std::apply([&](auto&... v) { ((first += std::to_string(v[j]) + " "), ...); }, in);
            first += "-> " + std::to_string(out.data[j]) + ", expected " + std::to_string(expected[j]);
        }
    }
    CHECK_MESSAGE(bad == 0, std::string(op) << ": " << bad << " of " << n << " wrong: " << first);
}
using s16 = int16_t;
using s32 = int32_t;
using s64 = int64_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;
template <class To, class From> To bits(From from) {
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

TEST_CASE("integer arithmetic") {
    check<u32, u32, u32>("add.s32", [](u32 a, u32 b) { return a + b; });
    check<u64, u64, u64>("sub.s64", [](u64 a, u64 b) { return a - b; });
    check<u32, u32, u32>("mul.lo.s32", [](u32 a, u32 b) { return a * b; });
    check<u64, u64, u64>("mul.lo.s64", [](u64 a, u64 b) { return a * b; });
    check<u16, u16, u16>("mul.lo.s16", [](u16 a, u16 b) { return (u16)((u32)a * b); });
    check<s64, s32, s32>("mul.wide.s32", [](s32 a, s32 b) { return (s64)a * b; });
    check<u64, u32, u32>("mul.wide.u32", [](u32 a, u32 b) { return (u64)a * b; });
    check<u32, u32, u32>("mul.hi.u32", [](u32 a, u32 b) { return (u32)((u64)a * b >> 32); });
    check<s32, s32, s32>("mul.hi.s32", [](s32 a, s32 b) { return (s32)((s64)a * b >> 32); });
    check<s64, s64, s64>("mul.hi.s64", [](s64 a, s64 b) { return (s64)((__int128)a * b >> 64); });
    check<u32, u32, u32, u32>("mad.lo.s32", [](u32 a, u32 b, u32 c) { return a * b + c; });
    check<u64, u32, u32, u64>("mad.wide.u32", [](u32 a, u32 b, u64 c) { return (u64)a * b + c; });
    check<s64, s32, s32, s64>("mad.wide.s32", [](s32 a, s32 b, s64 c) { return (s64)((u64)((s64)a * b) + (u64)c); });
    check<s32, s32>("abs.s32", [](s32 a) { return a < 0 ? (s32)(0u - (u32)a) : a; });
    check<u32, u32>("neg.s32", [](u32 a) { return 0u - a; });
    check<s32, s32, s32>("min.s32", [](s32 a, s32 b) { return a < b ? a : b; });
    check<u64, u64, u64>("max.u64", [](u64 a, u64 b) { return a > b ? a : b; });
    check<u64, u64, u64>("min.u64", [](u64 a, u64 b) { return a < b ? a : b; });
    check<s32, s32, s32>("max.s32", [](s32 a, s32 b) { return a > b ? a : b; });
    // what a division by zero gives, the manual leaves open: the machine's all ones
    check<u32, u32, u32>("div.u32", [](u32 a, u32 b) { return b ? a / b : ~0u; });
    check<s32, s32, s32>("div.s32", [](s32 a, s32 b) { return b == 0 ? -1 : b == -1 ? (s32)(0u - (u32)a) : a / b; });
    check<s32, s32, s32>("rem.s32", [](s32 a, s32 b) { return b == 0 ? a : b == -1 ? 0 : a % b; });
    check<u64, u64, u64>("rem.u64", [](u64 a, u64 b) { return b ? a % b : a; });
    check<u32, u32, u32>("rem.u32", [](u32 a, u32 b) { return b ? a % b : a; });
}
TEST_CASE("bits") {
    check<u32, u32, u32>("and.b32", [](u32 a, u32 b) { return a & b; });
    check<u64, u64, u64>("and.b64", [](u64 a, u64 b) { return a & b; });
    check<u64, u64, u64>("or.b64", [](u64 a, u64 b) { return a | b; });
    check<u64, u64, u64>("xor.b64", [](u64 a, u64 b) { return a ^ b; });
    check<u32, u32>("not.b32", [](u32 a) { return ~a; });
    check<u16, u16>("not.b16", [](u16 a) { return (u16)~a; });
    check<u32, u32, u32>("shl.b32", [](u32 a, u32 n) { return n > 31 ? 0 : a << n; });
    check<u64, u64, u32>("shl.b64", [](u64 a, u32 n) { return n > 63 ? 0 : a << n; });
    check<u32, u32, u32>("shr.u32", [](u32 a, u32 n) { return n > 31 ? 0 : a >> n; });
    check<s32, s32, u32>("shr.s32", [](s32 a, u32 n) { return a >> (n > 31 ? 31 : n); });
    check<u64, u64, u32>("shr.u64", [](u64 a, u32 n) { return n > 63 ? 0 : a >> n; });
    check<u16, u16, u32>("shr.u16", [](u16 a, u32 n) { return (u16)(n > 15 ? 0 : a >> n); });
    check<u32, u32, u32, u32>(
        "shf.l.wrap.b32", [](u32 a, u32 b, u32 c) { return (c & 31) ? b << (c & 31) | a >> (32 - (c & 31)) : b; });
    check<u32, u32, u32, u32>(
        "shf.r.wrap.b32", [](u32 a, u32 b, u32 c) { return (c & 31) ? b << (32 - (c & 31)) | a >> (c & 31) : a; });
    check<u32, u32, u32, u32>("shf.r.clamp.b32", [](u32 a, u32 b, u32 c) {
        u32 n = c > 32 ? 32 : c;
        return n == 0 ? a : n == 32 ? b : b << (32 - n) | a >> n;
    });
    check<u32, u32, u32, u32>("shf.l.clamp.b32", [](u32 a, u32 b, u32 c) {
        u32 n = c > 32 ? 32 : c;
        return n == 0 ? b : n == 32 ? a : b << n | a >> (32 - n);
    });
    check<u32, u32>("popc.b32", [](u32 a) {
        u32 n = 0;
        for (; a; a &= a - 1) n++;
        return n;
    });
    check<u32, u64>("clz.b64", [](u64 a) {
        u32 n = 0;
        while (n < 64 && !(a >> (63 - n) & 1)) n++;
        return n;
    });
    check<u32, u32>("brev.b32", [](u32 a) {
        u32 r = 0;
        for (int i = 0; i < 32; i++) r |= (a >> i & 1) << (31 - i);
        return r;
    });
    // the manual's pseudo code of bfe, bit by bit
    auto bfe = [](u32 a, u32 b, u32 c, bool is_signed) {
        u32 pos = b & 255, len = c & 255, d = 0;
        bool sbit = !is_signed || len == 0 ? false : a >> (pos + len - 1 > 31 ? 31 : pos + len - 1) & 1;
        for (u32 i = 0; i < 32; i++) d |= (u32)((i < len && pos + i <= 31) ? a >> (pos + i) & 1 : sbit) << i;
        return d;
    };
    check<u32, u32, u32, u32>("bfe.u32", [&](u32 a, u32 b, u32 c) { return bfe(a, b, c, false); });
    check<u32, u32, u32, u32>("bfe.s32", [&](u32 a, u32 b, u32 c) { return bfe(a, b, c, true); });
    for (u32 pos : {0u, 5u, 29u, 31u, 32u, 255u}) {
        for (u32 len : {0u, 1u, 3u, 32u, 255u}) {
            std::string op = "mov.b32 %r20, " + std::to_string(pos) + "; mov.b32 %r21, " + std::to_string(len) +
                             "; bfi.b32 %r0, %r1, %r2, %r20, %r21; mov.b32 %r1, %r0; mov.b32 %r2, %r0; or.b32";
            check<u32, u32, u32>(op.c_str(), [&](u32 a, u32 b) {
                for (u32 i = 0; i < len && pos + i <= 31; i++) b = (b & ~(1u << (pos + i))) | (a >> i & 1) << (pos + i);
                return b;
            });
        }
    }
    check<u32, u32, u32, u32>("prmt.b32", [](u32 a, u32 b, u32 c) {
        u32 d = 0;
        for (int i = 0; i < 4; i++) {
            u32 s = c >> 4 * i & 15, byte = ((s & 4 ? b : a) >> 8 * (s & 3)) & 255;
            if (s & 8) byte = byte >> 7 ? 255 : 0;
            d |= byte << 8 * i;
        }
        return d;
    });
}
template <class F> float ftz_of(F f) { return fabsf((float)f) < 1.17549435e-38f ? copysignf(0, (float)f) : (float)f; }
TEST_CASE("floating point") {
    check<float, float, float>("add.f32", [](float a, float b) { return a + b; });
    check<float, float, float>("mul.rn.f32", [](float a, float b) { return a * b; });
    check<float, float, float>("div.rn.f32", [](float a, float b) { return a / b; });
    check<float, float, float, float>("fma.rn.f32", [](float a, float b, float c) { return fmaf(a, b, c); });
    check<float, float>("sqrt.rn.f32", [](float a) { return sqrtf(a); });
    check<float, float>("rcp.rn.f32", [](float a) { return 1 / a; });
    check<double, double, double>("add.f64", [](double a, double b) { return a + b; });
    check<double, double, double, double>("fma.rn.f64", [](double a, double b, double c) { return fma(a, b, c); });
    check<double, double>("abs.f64", [](double a) { return fabs(a); });
    check<double, double, double>("sub.f64", [](double a, double b) { return a - b; });
    check<double, double, double>("mul.f64", [](double a, double b) { return a * b; });
    check<double, double, double>("div.rn.f64", [](double a, double b) { return a / b; });
    check<double, double>("sqrt.rn.f64", [](double a) { return sqrt(a); });
    check<double, double>("rcp.rn.f64", [](double a) { return 1 / a; });
    check<float, float, float>("sub.f32", [](float a, float b) { return a - b; });
    check<float, float>("abs.f32", [](float a) { return fabsf(a); });
    check<float, float>("neg.f32", [](float a) { return -a; });
    check<float, float>("rcp.approx.ftz.f32", [](float a) { return ftz_of(1 / ftz_of(a)); });
    check<float, float>("ex2.approx.ftz.f32", [](float a) { return ftz_of(exp2f(ftz_of(a))); });
    check<float, float, float>("copysign.f32", [](float a, float b) { return copysignf(b, a); });
    auto min = [](float a, float b) { return a != a ? b : b != b ? a : a == b ? (signbit(a) ? a : b) : a < b ? a : b; };
    check<float, float, float>("min.f32", min);
    check<float, float, float>("max.f32", [&](float a, float b) { return -min(-a, -b); });
    // towards minus infinity: the exact result is x + r with x its nearest, found in twice the precision
    check<float, float, float>("mul.rm.f32", [](float a, float b) {
        double exact = (double)a * b;
        float near = (float)exact;
        if (std::isinf(near) && !std::isinf(exact)) return exact > 0 ? 3.40282347e38f : -INFINITY;
        return near > exact ? nextafterf(near, -INFINITY) : near;
    });
    check<float, float, float>("mul.rz.f32", [](float a, float b) {
        double exact = (double)a * b;
        float near = (float)exact;
        return fabs((double)near) > fabs(exact) ? nextafterf(near, 0) : near;
    });
    // … of a sum of three whole numbers that fp32 has not, but double has; the edges are too far from each other
    check<float, u32, u32>(
        "cvt.rn.f32.u32 %f1, %r1; cvt.rn.f32.u32 %f2, %r2; mov.f32 %f3, 0f3F800001; fma.rm.f32 %f0, "
        "%f1, %f3, %f2; mov.b32 %r0, %f0; mov.b32 %r2, %r0; or.b32 %r1, %r2, %r0; or.b32",
        [](u32 a, u32 b) {
            long double exact = (long double)(float)a * (1 + 0x1p-23L) + (float)b;
            float near = (float)exact;
            return near > exact ? nextafterf(near, -INFINITY) : near;
        });
    Buffer<u32> out(1);
    run(kernel("mov.f32 %f0, 0f7f800000; sub.f32 %f0, %f0, %f0; st.global.f32 [%o], %f0;"), {1}, {1},
        {0, 0, 0, out.address()});
    CHECK(out.data[0] == 0x7fffffff);  // the NaN that arithmetic makes
}
template <class D, class S> D clamp_convert(S x, S (*round)(S)) {
    if (x != x) return 0;
    long double r = round(x);
    if (r < (long double)std::numeric_limits<D>::min()) return std::numeric_limits<D>::min();
    if (r > (long double)std::numeric_limits<D>::max()) return std::numeric_limits<D>::max();
    return (D)r;
}
TEST_CASE("conversions") {
    check<s64, s32>("cvt.s64.s32", [](s32 a) { return (s64)a; });
    check<u64, u32>("cvt.u64.u32", [](u32 a) { return (u64)a; });
    check<u16, u32>("cvt.u16.u32", [](u32 a) { return (u16)a; });
    check<s32, s32>("cvt.s32.s8", [](s32 a) { return (s32)(int8_t)a; });
    check<u32, u64>("cvt.u32.u64", [](u64 a) { return (u32)a; });
    check<s32, s64>(
        "cvt.sat.s32.s64", [](s64 a) { return (s32)std::max<s64>(INT32_MIN, std::min<s64>(a, INT32_MAX)); });
    check<float, s32>("cvt.rn.f32.s32", [](s32 a) { return (float)a; });
    check<float, u64>("cvt.rn.f32.u64", [](u64 a) { return (float)a; });
    check<float, u32>("cvt.rn.f32.u32", [](u32 a) { return (float)a; });
    check<double, float>("cvt.f64.f32", [](float a) { return (double)a; });
    check<float, double>("cvt.rn.f32.f64", [](double a) { return (float)a; });
    check<s32, float>("cvt.rzi.s32.f32", [](float a) { return clamp_convert<s32, float>(a, truncf); });
    check<u32, double>("cvt.rzi.u32.f64", [](double a) { return clamp_convert<u32, double>(a, trunc); });
    check<s64, float>("cvt.rni.s64.f32", [](float a) { return clamp_convert<s64, float>(a, nearbyintf); });
    check<u32, float>("cvt.rpi.u32.f32", [](float a) { return clamp_convert<u32, float>(a, ceilf); });
    check<float, float>("cvt.rzi.f32.f32", [](float a) { return truncf(a); });
    check<float, float>("cvt.rmi.f32.f32", [](float a) { return floorf(a); });
    check<float, float>("cvt.sat.f32.f32", [](float a) { return a > 0 ? fminf(a, 1) : 0.0f; });
    auto bf16 = [](float a) -> u32 {  // the nearest of all bf16, found by its neighbours
        if (a != a) return 0x7fff;
        u32 down = bits<u32>(a) >> 16, rest = bits<u32>(a) & 0xffff;
        return rest > 0x8000 || (rest == 0x8000 && down & 1) ? down + 1 : down;
    };
    check<u16, float>("cvt.rn.bf16.f32", [&](float a) { return (u16)bf16(a); });
    check<u32, float, float>("cvt.rn.bf16x2.f32", [&](float a, float b) { return bf16(a) << 16 | bf16(b); });
}
TEST_CASE("comparisons") {
    auto compare = [&](const char* name, auto zero, auto f) {
        using T = decltype(zero);
        std::string p = prefix<T>();
        Buffer<u32> out(edges<T>().size() * edges<T>().size());
        std::vector<T> a, b;
        for (T x : edges<T>())
            for (T y : edges<T>()) a.push_back(x), b.push_back(y);
        Buffer<T> in_a(a), in_b(b);
        std::string w = std::to_string(sizeof(T)), body;
        body = "mov.u32 %r50, %ctaid.x; mad.lo.s32 %t, %r50, 64, %t; setp.ge.u32 %p0, %t, " + std::to_string(a.size()) +
               "; @%p0 ret; mul.wide.u32 %rd9, %t, " + w +
               "; add.s64 %rd8, %rd9, %a; add.s64 %rd7, %rd9, %b; ld.global" + suffix<T>() + " " + p +
               "1, [%rd8]; ld.global" + suffix<T>() + " " + p + "2, [%rd7];\n" + name + " %p1, " + p + "1, " + p +
               "2; selp.u32 %r0, 1, 0, %p1; mul.wide.u32 %rd9, %t, 4; add.s64 %rd9, %rd9, %o; "
               "st.global.u32 [%rd9], %r0;";
        run(kernel(body), {(u32)(a.size() + 63) / 64}, {64}, {in_a.address(), in_b.address(), 0, out.address()});
        size_t bad = 0;
        for (size_t i = 0; i < a.size(); i++) bad += out.data[i] != (u32)f(a[i], b[i]);
        CHECK_MESSAGE(bad == 0, name);
    };
    compare("setp.lt.s32", s32(), [](s32 a, s32 b) { return a < b; });
    compare("setp.lt.u32", u32(), [](u32 a, u32 b) { return a < b; });
    compare("setp.ge.u64", u64(), [](u64 a, u64 b) { return a >= b; });
    compare("setp.ne.s64", s64(), [](s64 a, s64 b) { return a != b; });
    compare("setp.eq.f32", 0.0f, [](float a, float b) { return a == b; });
    compare("setp.ne.f32", 0.0f, [](float a, float b) { return a < b || a > b; });
    compare("setp.neu.f32", 0.0f, [](float a, float b) { return a != b; });
    compare("setp.leu.f32", 0.0f, [](float a, float b) { return !(a > b); });
    compare("setp.gtu.f64", 0.0, [](double a, double b) { return !(a <= b); });
    compare("setp.geu.f64", 0.0, [](double a, double b) { return !(a < b); });
    compare("setp.nan.f32", 0.0f, [](float a, float b) { return a != a || b != b; });
    compare("setp.eq.s16", s16(), [](s16 a, s16 b) { return a == b; });
    compare("setp.eq.b32", u32(), [](u32 a, u32 b) { return a == b; });
    compare("setp.eq.s64", s64(), [](s64 a, s64 b) { return a == b; });
    compare("setp.gt.s32", s32(), [](s32 a, s32 b) { return a > b; });
    compare("setp.gt.u32", u32(), [](u32 a, u32 b) { return a > b; });
    compare("setp.le.s32", s32(), [](s32 a, s32 b) { return a <= b; });
    compare("setp.le.u64", u64(), [](u64 a, u64 b) { return a <= b; });
    compare("setp.lt.s64", s64(), [](s64 a, s64 b) { return a < b; });
    compare("setp.lt.u64", u64(), [](u64 a, u64 b) { return a < b; });
    compare("setp.ge.s32", s32(), [](s32 a, s32 b) { return a >= b; });
    compare("setp.ge.f32", 0.0f, [](float a, float b) { return a >= b; });
    compare("setp.gt.f32", 0.0f, [](float a, float b) { return a > b; });
    compare("setp.le.f32", 0.0f, [](float a, float b) { return a <= b; });
    compare("setp.lt.f64", 0.0, [](double a, double b) { return a < b; });
    compare("setp.leu.f64", 0.0, [](double a, double b) { return !(a > b); });
    compare("setp.neu.f64", 0.0, [](double a, double b) { return a != b; });
    compare("setp.gtu.f32", 0.0f, [](float a, float b) { return !(a <= b); });
}
TEST_CASE("predicates and selections") {
    // p and q of all lanes, from the lowest two bits of each number
    auto on = [](const char* op, auto f) {
        check<u32, u32>(
            (std::string("and.b32 %r2, %r1, 1; and.b32 %r3, %r1, 2; setp.ne.s32 %p1, %r2, 0; setp.ne.s32 %p2, "
                         "%r3, 0; ") +
                op + "; selp.b32 %r0, 5, 9, %p3; mov.b32 %r1, %r0; mov.b32")
                .c_str(),
            [&](u32 a) { return f((a & 1) != 0, (a & 2) != 0) ? 5u : 9u; });
    };
    on("and.pred %p3, %p1, %p2", [](bool p, bool q) { return p && q; });
    on("or.pred %p3, %p1, %p2", [](bool p, bool q) { return p || q; });
    on("xor.pred %p3, %p1, %p2", [](bool p, bool q) { return p != q; });
    on("not.pred %p3, %p1", [](bool p, bool) { return !p; });
    on("mov.pred %p3, %p2", [](bool, bool q) { return q; });
    check<u64, u64, u64>(
        "setp.lt.u64 %p1, %rd1, %rd2; selp.b64 %rd0, %rd1, %rd2, %p1; mov.b64 %rd1, %rd0; mov.b64 %rd2, "
        "%rd0; and.b64",
        [](u64 a, u64 b) { return a < b ? a : b; });
}
// Loads extend what they read to the register, stores write its lower part; a vector is in order.
TEST_CASE("loads and stores of every type") {
    std::vector<u32> values;
    for (u32 i = 0; i < 64; i++) values.push_back(0x9e3779b9u * (i + 1));
    const char* in_bytes = (const char*)values.data();
    struct Type {
        const char* name;
        int bytes;
        bool is_signed;
    };
    for (const std::string space : {"global", "shared"}) {
        for (Type t : {Type{"u8", 1, false}, {"s8", 1, true}, {"u16", 2, false}, {"s16", 2, true}, {"b16", 2, false},
                 {"u32", 4, false}, {"s32", 4, true}, {"f32", 4, false}, {"u64", 8, false}, {"f64", 8, false}}) {
            for (int n : {1, 2, 4}) {
                if (n * t.bytes > 16) continue;
                // each of 16 lanes moves n elements from its place in `a` to the same place in `o`, over `space`; its
                // first element is stored once more as 64 bits
                std::string reg = t.bytes == 8       ? (t.name[0] == 'f' ? "%fd" : "%rd")
                                  : t.name[0] == 'f' ? "%f"
                                  : t.bytes == 2     ? "%h"
                                                     : "%r";
                std::string list, v = n > 1 ? ".v" + std::to_string(n) : "", size = std::to_string(n * t.bytes);
                for (int i = 0; i < n; i++) list += (i ? ", " : "") + reg + std::to_string(i);
                if (n > 1) list = "{" + list + "}";
                std::string
                    op = v + "." + t.name + " ",
                    body =
                        "mul.lo.s32 %r50, %t, " + size +
                        "; cvt.u64.u32 %rd9, %r50; "
                        "add.s64 %rd8, %rd9, %a; add.s64 %rd7, %rd9, %o; mov.u32 %r51, d; add.s32 %r51, %r51, %r50; ";
                if (space == "shared") {
                    body += "ld.global" + op + list + ", [%rd8]; st.shared" + op + "[%r51], " + list + "; ld.shared" +
                            op + list + ", [%r51]; st.global" + op + "[%rd7], " + list + ";";
                } else {
                    body += "ld.global" + op + list + ", [%rd8]; st.global" + op + "[%rd7], " + list + ";";
                    if (t.bytes < 4)
                        body += "cvt." + std::string(t.is_signed ? "s64.s" : "u64.u") + (t.bytes == 1 ? "32" : "16") +
                                " %rd1, " + reg +
                                "0; mul.wide.u32 %rd2, %t, 8; add.s64 %rd2, %rd2, %b; st.global.u64 [%rd2], %rd1;";
                }
                Buffer<u32> in(values), out(64);
                Buffer<s64> first(16);
                run(kernel(body, 4, ".extern .shared .align 16 .b8 d[];"), {1}, {16},
                    {in.address(), first.address(), 0, out.address()}, 256);
                CHECK_MESSAGE(!memcmp(out.data.data(), in_bytes, (size_t)(16 * n * t.bytes)), space, v, ".", t.name);
                for (int i = 0; i < 16 && t.bytes < 4 && space == "global"; i++) {
                    s64 want = 0;
                    memcpy(&want, in_bytes + i * n * t.bytes, (size_t)t.bytes);
                    if (t.is_signed) want = t.bytes == 1 ? (int8_t)want : (s16)want;
                    CHECK_MESSAGE(first.data[(size_t)i] == want, v, ".", t.name);
                }
            }
        }
    }
}

// ---------------------------------------------------------------- control flow, shared memory, lanes together
TEST_CASE("divergent loops and branches") {
    // o[t] = sum of i < t of (i odd ? 3i : 1), with a loop of t turns: every lane leaves it at another time
    const char* body = R"(
        mov.u32 %r1, 0; mov.u32 %r2, 0;
        HEAD: setp.ge.u32 %p1, %r1, %t; @%p1 bra DONE;
        and.b32 %r3, %r1, 1; setp.eq.u32 %p2, %r3, 0; @%p2 bra EVEN;
        mad.lo.s32 %r2, %r1, 3, %r2; bra NEXT;
        EVEN: add.s32 %r2, %r2, 1;
        NEXT: add.s32 %r1, %r1, 1; bra HEAD;
        DONE: bar.sync 0; mul.wide.u32 %rd1, %t, 4; add.s64 %rd1, %rd1, %o; st.global.u32 [%rd1], %r2;)";
    Buffer<u32> out(100);
    run(kernel(body), {1}, {100}, {0, 0, 0, out.address()});
    for (u32 t = 0; t < 100; t++) {
        u32 want = 0;
        for (u32 i = 0; i < t; i++) want += i % 2 ? 3 * i : 1;
        CHECK(out.data[t] == want);
    }
}
TEST_CASE("shared memory, static and dynamic, and barriers") {
    const char* body = R"(
        mov.u32 %r1, s; mov.u32 %r2, d; shl.b32 %r3, %t, 2; add.s32 %r1, %r1, %r3; st.shared.u32 [%r1], %t;
        add.s32 %r2, %r2, %r3; add.s32 %r4, %t, 1000; st.shared.u32 [%r2], %r4; bar.sync 0;
        mov.u32 %r1, s; mov.u32 %r2, d; mov.u32 %r5, 252;
        sub.s32 %r5, %r5, %r3; add.s32 %r1, %r1, %r5; add.s32 %r2, %r2, %r5;
        ld.shared.u32 %r6, [%r1]; cvt.u64.u32 %rd3, %r2; cvta.shared.u64 %rd3, %rd3; ld.u32 %r7, [%rd3];
        add.s32 %r6, %r6, %r7; mul.wide.u32 %rd1, %t, 4; add.s64 %rd1, %rd1, %o; st.global.u32 [%rd1], %r6;)";
    Buffer<u32> out(64);
    const Kernel* k = kernel(body, 4, ".shared .align 4 .b8 s[256];\n.extern .shared .align 16 .b8 d[];");
    CHECK(attributes(k).static_shared == 256);
    run(k, {1}, {64}, {0, 0, 0, out.address()}, 256);
    for (u32 t = 0; t < 64; t++) CHECK(out.data[t] == 2 * (63 - t) + 1000);
}
TEST_CASE("shfl.sync") {
    auto shuffle = [](const std::string& mode, int b, int c) {
        Buffer<u32> out(64);
        run(kernel(
                "shfl.sync." + mode + ".b32 %r1|%p1, %t, " + std::to_string(b) + ", " + std::to_string(c) +
                ", -1; selp.b32 %r2, 100, 0, %p1; add.s32 %r1, %r1, %r2; mul.wide.u32 %rd1, %t, 4; add.s64 %rd1, %rd1, "
                "%o; st.global.u32 [%rd1], %r1;"),
            {1}, {32}, {0, 0, 0, out.address()});
        return std::vector<u32>(out.data.begin(), out.data.begin() + 32);
    };
    for (int width : {32, 16, 8}) {
        int segment = (32 - width) << 8;
        for (int b : {0, 1, 3, 5, 8, 16, 31}) {
            std::vector<u32> up = shuffle("up", b, segment), down = shuffle("down", b, segment | 31),
                             bfly = shuffle("bfly", b, segment | 31), idx = shuffle("idx", b, segment | 31);
            for (int i = 0; i < 32; i++) {
                int first = i / width * width, last = first + width - 1;
                auto want = [&](int j, bool inside) { return (u32)(inside ? j + 100 : i); };
                CHECK(up[(size_t)i] == want(i - b, i - b >= first));
                CHECK(down[(size_t)i] == want(i + b, i + b <= last));
                CHECK(bfly[(size_t)i] == want(i ^ b, (i ^ b) <= last));
                CHECK(idx[(size_t)i] == want(first + b % width, true));
            }
        }
    }
}
static float of_bf16(u16 x) { return bits<float>((u32)x << 16); }
// What the manual's figures say: g = lane / 4, t = lane % 4; register r of A holds A[g + 8 (r % 2)][2t + 8 (r / 2) ..],
// of B it holds B[2t + 8r ..][g], and the four of D are D[g][2t], D[g][2t+1], D[g+8][2t], D[g+8][2t+1].
TEST_CASE("mma.sync m16n8k16 in bf16") {
    u16 a[16][16], b[16][8];
    u32 seed = 1;
    auto number = [&] { return (u16)(0x3f80 + ((seed = seed * 1664525 + 1013904223) >> 16 & 0x807f)); };  // ±1 … ±2
    for (auto& row : a)
        for (u16& x : row) x = number();
    for (auto& row : b)
        for (u16& x : row) x = number();
    Buffer<u32> in(std::vector<u32>(32 * 6));
    Buffer<float> c(std::vector<float>(32 * 4, 0.25f)), out(32 * 4);
    for (u32 lane = 0; lane < 32; lane++) {
        u32 g = lane / 4, t = 2 * (lane % 4);
        for (u32 r = 0; r < 4; r++)
            in.data[6 * lane + r] = a[g + 8 * (r % 2)][t + 8 * (r / 2)] | (u32)a[g + 8 * (r % 2)][t + 8 * (r / 2) + 1]
                                                                              << 16;
        for (u32 r = 0; r < 2; r++) in.data[6 * lane + 4 + r] = b[t + 8 * r][g] | (u32)b[t + 8 * r + 1][g] << 16;
    }
    run(kernel(R"(
        mul.wide.u32 %rd1, %t, 24; add.s64 %rd1, %rd1, %a; mul.wide.u32 %rd2, %t, 16; add.s64 %rd3, %rd2, %b;
        add.s64 %rd4, %rd2, %o; ld.global.v2.u32 {%r1, %r2}, [%rd1]; ld.global.v2.u32 {%r3, %r4}, [%rd1+8];
        ld.global.v2.u32 {%r5, %r6}, [%rd1+16]; ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%rd3];
        mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1,%f2,%f3,%f4},
            {%r1,%r2,%r3,%r4}, {%r5,%r6}, {%f1,%f2,%f3,%f4};
        st.global.v4.f32 [%rd4], {%f1, %f2, %f3, %f4};)"),
        {1}, {32}, {in.address(), c.address(), 0, out.address()});
    for (u32 i = 0; i < 16; i++) {
        for (u32 j = 0; j < 8; j++) {
            double sum = 0.25;
            for (u32 k = 0; k < 16; k++) sum += (double)of_bf16(a[i][k]) * of_bf16(b[k][j]);
            u32 lane = i % 8 * 4 + j / 2, r = i / 8 * 2 + j % 2;
            CHECK(fabs(out.data[4 * lane + r] - sum) <= 64 * 17 * 1.2e-7);  // 17 roundings of sums below 64
        }
    }
}
// Row i of matrix m is at the address of lane 8m + i; lane (g, t) gets X[g][2t..], transposed X[2t][g], X[2t+1][g].
TEST_CASE("ldmatrix") {
    for (bool transposed : {false, true}) {
        std::vector<u16> rows(32 * 8);
        for (u32 i = 0; i < rows.size(); i++) rows[i] = (u16)(1000 + i);
        Buffer<u16> in(rows);
        Buffer<u32> out(32 * 4);
        std::string name = std::string("ldmatrix.sync.aligned.m8n8.x4") + (transposed ? ".trans" : "") + ".shared.b16";
        run(kernel("mul.wide.u32 %rd1, %t, 16; add.s64 %rd2, %rd1, %a; ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%rd2]; "
                   "shl.b32 %r5, %t, 4; mov.u32 %r6, d; add.s32 %r5, %r5, %r6; st.shared.v4.u32 [%r5], {%r1, %r2, %r3, "
                   "%r4}; "
                   "bar.sync 0; " +
                       name +
                       " {%r1, %r2, %r3, %r4}, [%r5]; add.s64 %rd2, %rd1, %o; "
                       "st.global.v4.u32 [%rd2], {%r1, %r2, %r3, %r4};",
                4, ".extern .shared .align 16 .b8 d[];"),
            {1}, {32}, {in.address(), 0, 0, out.address()}, 512);
        for (u32 lane = 0; lane < 32; lane++) {
            for (u32 m = 0; m < 4; m++) {
                u32 g = lane / 4, t = 2 * (lane % 4);
                auto x = [&](u32 i, u32 j) { return 1000 + 64 * m + 8 * i + j; };
                u32 want = transposed ? x(t, g) | x(t + 1, g) << 16 : x(g, t) | x(g, t + 1) << 16;
                CHECK(out.data[4 * lane + m] == want);
            }
        }
    }
}
TEST_CASE("atomics from many blocks") {
    Buffer<u32> sum(std::vector<u32>{0});
    Buffer<float> total(std::vector<float>{0});
    run(kernel("atom.global.add.u32 %r1, [%a], %t; mov.f32 %f1, 0f3F800000; atom.global.add.f32 %f2, [%b], %f1;"), {50},
        {100}, {sum.address(), total.address(), 0, 0});
    CHECK(sum.data[0] == 50 * 4950);
    CHECK(total.data[0] == 5000);
}
// 3 blocks of 40 threads; thread i (of all) brings b(i). What is left does not depend on the order.
TEST_CASE("every atomic operation") {
    constexpr u32 N = 120;
    auto after = [](const std::string& op, u32 begin) {
        Buffer<u32> a(std::vector<u32>{begin});
        std::string body =
            "mov.u32 %r2, %ctaid.x; mad.lo.s32 %r3, %r2, 40, %t; mul.lo.s32 %r4, %r3, 7; xor.b32 %r4, %r4, 64; ";
        run(kernel(body + op), {3}, {40}, {a.address(), 0, 0, 0});
        return a.data[0];
    };
    auto fold = [](u32 x, auto f) {
        for (u32 i = 0; i < N; i++) x = f(x, i * 7 ^ 64);
        return x;
    };
    CHECK(after("atom.global.add.u32 %r5, [%a], %r4;", 3) == fold(3, [](u32 x, u32 b) { return x + b; }));
    CHECK(after("red.global.add.u32 [%a], %r4;", 3) == fold(3, [](u32 x, u32 b) { return x + b; }));
    CHECK(after("atom.global.max.u32 %r5, [%a], %r4;", 3) == fold(3, [](u32 x, u32 b) { return x > b ? x : b; }));
    CHECK(after("atom.global.min.s32 %r5, [%a], %r4;", 3) ==
          fold(3, [](u32 x, u32 b) { return (s32)x < (s32)b ? x : b; }));
    CHECK(after("atom.global.min.s32 %r5, [%a], %r4;", (u32)-3) == (u32)-3);
    CHECK(after("atom.global.min.u32 %r5, [%a], %r4;", 900) == fold(900, [](u32 x, u32 b) { return x < b ? x : b; }));
    CHECK(after("atom.global.and.b32 %r5, [%a], %r4;", ~0u) == fold(~0u, [](u32 x, u32 b) { return x & b; }));
    CHECK(after("atom.global.or.b32 %r5, [%a], %r4;", 1) == fold(1, [](u32 x, u32 b) { return x | b; }));
    CHECK(after("red.global.xor.b32 [%a], %r4;", 1) == fold(1, [](u32 x, u32 b) { return x ^ b; }));
    CHECK(after("atom.global.inc.u32 %r5, [%a], 6;", 0) == N % 7);
    CHECK(after("atom.global.dec.u32 %r5, [%a], 6;", 0) == (7 - N % 7) % 7);
    CHECK(after("mov.f32 %f1, 0f3E800000; red.global.add.f32 [%a], %f1;", 0) == bits<u32>(N * 0.25f));
    // one thread gets in: what was there before is 0 for it alone
    CHECK(after("atom.global.cas.b32 %r5, [%a], 0, 1; setp.eq.u32 %p1, %r5, 0; @%p1 red.global.add.u32 [%a], 100;",
              0) == 101);
    CHECK(after("atom.global.exch.b32 %r5, [%a], 9;", 5) == 9);
    // what each returns is what was there: the tickets 0 … 119, each once
    Buffer<u32> counter(std::vector<u32>{0}), tickets(std::vector<u32>(N, 0));
    run(kernel(
            "atom.global.add.u32 %r5, [%a], 1; mul.wide.u32 %rd1, %r5, 4; add.s64 %rd1, %rd1, %o; red.global.add.u32 "
            "[%rd1], 1;"),
        {3}, {40}, {counter.address(), 0, 0, tickets.address()});
    CHECK(tickets.data == std::vector<u32>(N, 1));
    // in shared memory, and in fp64
    Buffer<u32> out(2);
    run(kernel(
            "setp.eq.u32 %p1, %t, 0; @%p1 st.shared.u64 [d], 0; bar.sync 0; mov.f64 %fd1, 0d3FE0000000000000; "
            "atom.shared.add.f64 %fd2, [d], %fd1; bar.sync 0; ld.shared.u64 %rd1, [d]; @%p1 st.global.u64 [%o], %rd1;",
            4, ".extern .shared .align 16 .b8 d[];"),
        {1}, {40}, {0, 0, 0, out.address()}, 16);
    CHECK(bits<double>((u64)out.data[1] << 32 | out.data[0]) == 20);
}

// ---------------------------------------------------------------- wrong kernels
static std::string caught(Fault fault, const std::string& body, Dim block = {32}, size_t shared = 256) {
    Buffer<u32> a(64), o(64);
    access(a.address(), 32 * 4, true);  // the second half is never written
    const Kernel* k = kernel(body, 4, ".extern .shared .align 16 .b8 d[];");
    try {
        run(k, {1}, block, {a.address(), 0, 0, o.address()}, shared);
    } catch (const Error& e) {
        CHECK_MESSAGE(e.fault == fault, e.what());
        return e.what();
    }
    FAIL_CHECK("nothing was caught");
    return "";
}
TEST_CASE("wrong kernels: global memory") {
    std::string at = "mul.wide.u32 %rd1, %t, 4; add.s64 %rd1, %rd1, %a; ";
    std::string said = caught(Fault::address, at + "\nld.global.u32 %r1, [%rd1+256];");
    CHECK(said.find("kernel k, block (0,0,0), thread (0,0,0): ") == 0);
    CHECK(said.find("test.ptx:15: ld.global.u32 %r1, [%rd1+256];") != std::string::npos);
    caught(Fault::address, "st.global.u32 [%b], %t;");
    caught(Fault::misaligned, at + "ld.global.v2.u32 {%r1, %r2}, [%rd1];");
    said = caught(Fault::uninitialised, at + "ld.global.u32 %r1, [%rd1+4];");
    CHECK(said.find("thread (31,0,0)") != std::string::npos);
}
TEST_CASE("wrong kernels: shared memory") {
    std::string at = "mov.u32 %r1, d; shl.b32 %r2, %t, 2; add.s32 %r1, %r1, %r2; ";
    caught(Fault::address, at + "st.shared.u32 [%r1+252], %t;");
    caught(Fault::misaligned, at + "st.shared.v4.u32 [%r1], {%t, %t, %t, %t};");
    caught(Fault::uninitialised, at + "ld.shared.u32 %r3, [%r1];");
    // the neighbour's word without a barrier: of the warp's own lanes, and of another warp
    caught(Fault::race, at + "st.shared.u32 [%r1], %t; xor.b32 %r2, %r2, 4; mov.u32 %r1, d; add.s32 %r1, %r1, %r2; "
                             "ld.shared.u32 %r3, [%r1];");
    std::string other = "xor.b32 %r2, %r2, 128; mov.u32 %r1, d; add.s32 %r1, %r1, %r2; ";
    caught(Fault::race, at + "st.shared.u32 [%r1], %t; bar.warp.sync -1; " + other + "st.shared.u32 [%r1], %t;", {64});
    // a write after others' reads
    caught(Fault::race, at + "st.shared.u32 [%r1], %t; bar.sync 0; ld.shared.u32 %r3, [d]; st.shared.u32 [%r1], %t;",
        {64});
    // all lanes to one place
    caught(Fault::race, "st.shared.u32 [d], %t;");
}
// %r3: the block
static std::string block_race(const std::string& body, u32 blocks = 2) {
    options.global_races = true;
    Buffer<u32> a(std::vector<u32>(128, 0)), b(std::vector<u32>(128, 0));
    std::string said;
    try {
        std::string own =
            "mov.u32 %r3, %ctaid.x; mad.lo.s32 %r4, %r3, 32, %t; mul.wide.u32 %rd1, %r4, 4; add.s64 %rd2, %rd1, "
            "%b; add.s64 %rd1, %rd1, %a; ";  // %rd1, %rd2: the thread's own words
        const Kernel* k = kernel(own + body);
        for (int launches = 0; launches < 2; launches++) run(k, {blocks}, {32}, {a.address(), b.address(), 0, 0});
    } catch (const Error& e) {
        CHECK(e.fault == Fault::race);
        said = e.what();
        said = said.substr(said.find("race: "), said.find(';') - said.find("race: "));
    }
    options.global_races = false;
    return said;
}
TEST_CASE("wrong kernels: blocks that meet in global memory") {
    std::string first = "setp.eq.u32 %p1, %t, 0; setp.eq.u32 %p2, %r3, 0; ";
    CHECK(block_race("st.global.u32 [%a], %t;", 2) == "race: writes global memory that another block wrote");
    // the same value, too
    CHECK(
        block_race(first + "@%p1 st.global.u32 [%a], 7;", 3) == "race: writes global memory that another block wrote");
    // block 1 reads what block 0 writes: which of them sees it depends on who comes first
    std::string meet = block_race(first + "@%p2 st.global.u32 [%rd1], %t; ld.global.u32 %r5, [%a];");
    CHECK((meet == "race: reads global memory that another block wrote" ||
           meet == "race: writes global memory that another block read"));
    meet = block_race(first + "@%p2 bra A; ld.global.u32 %r5, [%a]; bra B; A: st.global.u32 [%a], %t; B:", 90);
    CHECK(meet.find("another block") != std::string::npos);
    // an atomic and a plain write
    CHECK(block_race(first + "@%p2 bra A; red.global.add.u32 [%a], 1; bra B; A: @%p1 st.global.u32 [%a], 5; B:") ==
          "race: writes global memory that another block wrote");
    // in a vector's last word
    CHECK(block_race("mul.wide.u32 %rd3, %r3, 12; add.s64 %rd3, %rd3, %a; @%p1 bra A; A: st.global.u32 [%rd3+12], %t; "
                     "st.global.u32 [%rd3], %t;") == "race: writes global memory that another block wrote");
}
TEST_CASE("right kernels: blocks that do not meet") {
    CHECK(block_race("st.global.u32 [%rd1], %t; ld.global.u32 %r5, [%rd1]; ld.global.u32 %r6, [%b]; ", 4) == "");
    CHECK(block_race("red.global.add.u32 [%a], %t;", 4) == "");
    // the two halves of a word
    CHECK(block_race(
              "mul.wide.u32 %rd3, %r3, 2; mul.wide.u32 %rd4, %t, 4; add.s64 %rd3, %rd3, %rd4; add.s64 %rd3, %rd3, %a; "
              "mov.u16 %h1, 3; st.global.u16 [%rd3], %h1;") == "");
    // what one launch wrote the next one reads, in other blocks
    CHECK(block_race(
              "xor.b32 %r5, %r3, 1; mad.lo.s32 %r5, %r5, 32, %t; mul.wide.u32 %rd3, %r5, 4; add.s64 %rd3, %rd3, %b; "
              "ld.global.u32 %r6, [%rd3]; st.global.u32 [%rd1], %r6;") == "");
}
TEST_CASE("right kernels: barriers order") {
    std::string at = "mov.u32 %r1, d; shl.b32 %r2, %t, 2; add.s32 %r1, %r1, %r2; st.shared.u32 [%r1], %t; ";
    std::string neighbour = "xor.b32 %r2, %r2, 4; mov.u32 %r1, d; add.s32 %r1, %r1, %r2; ld.shared.u32 %r3, [%r1];";
    run(kernel(at + "bar.warp.sync -1; " + neighbour, 4, ".extern .shared .align 16 .b8 d[];"), {2}, {64}, {0, 0, 0, 0},
        256);
    run(kernel(
            at + "bar.sync 0; ld.shared.u32 %r3, [d]; bar.sync 0; st.shared.u32 [%r1], %r3; bar.sync 0; " + neighbour,
            4, ".extern .shared .align 16 .b8 d[];"),
        {2}, {64}, {0, 0, 0, 0}, 256);
}
TEST_CASE("wrong kernels: lanes and threads that are missing") {
    caught(Fault::barrier, "setp.lt.u32 %p1, %t, 16; @%p1 bra A; bar.sync 0; A:");
    caught(Fault::barrier, "setp.lt.u32 %p1, %t, 32; @%p1 ret; bar.sync 0;", {64});
    caught(Fault::barrier, "setp.lt.u32 %p1, %t, 32; @%p1 bra A; bar.sync 0; A:", {64});
    caught(Fault::barrier, "setp.lt.u32 %p1, %t, 16; @%p1 bra A; shfl.sync.bfly.b32 %r1, %t, 1, 31, -1; A:");
    caught(Fault::barrier, "setp.lt.u32 %p1, %t, 16; @%p1 bra A; bar.warp.sync -1; A:");
    caught(Fault::trap, "setp.eq.u32 %p1, %t, 7; @%p1 trap;");
}
TEST_CASE("wrong kernels: cp.async that nobody waited for") {
    std::string copy =
        "mov.u32 %r1, d; shl.b32 %r2, %t, 2; add.s32 %r1, %r1, %r2; cvt.u64.u32 %rd2, %r2; add.s64 %rd1, %a, "
        "%rd2; cp.async.ca.shared.global [%r1], [%rd1], 4; cp.async.commit_group; ";
    caught(Fault::uninitialised, copy + "ld.shared.u32 %r3, [%r1];");
    caught(Fault::uninitialised, copy + "cp.async.wait_group 1; ld.shared.u32 %r3, [%r1];");
    caught(Fault::race, copy + "cp.async.wait_group 0; ld.shared.u32 %r3, [d];");
    Buffer<u32> a(std::vector<u32>(32, 7)), o(32);
    run(kernel(
            copy +
                "cp.async.wait_group 0; ld.shared.u32 %r3, [%r1]; add.s64 %rd1, %o, %rd2; st.global.u32 [%rd1], %r3;",
            4, ".extern .shared .align 16 .b8 d[];"),
        {1}, {32}, {a.address(), 0, 0, o.address()}, 256);
    CHECK(o.data == a.data);
}
TEST_CASE("launches that cannot be") {
    const Kernel* k = kernel("");
    CHECK_THROWS_AS(run(k, {1}, {1025}, {0, 0, 0, 0}), Error);
    CHECK_THROWS_AS(run(k, {0}, {32}, {0, 0, 0, 0}), Error);
    CHECK_THROWS_AS(run(k, {1}, {32}, {0, 0, 0, 0}, 240000), Error);
    try {
        attributes(kernel("\nadd.what.s32 %r1, %r2, %r3;"));
        FAIL_CHECK("unknown opcode");
    } catch (const Error& e) {
        CHECK(std::string(e.what()) == "test.ptx:15: instruction unknown to the emulator: add.what.s32 %r1, %r2, %r3;");
    }
}

TEST_CASE("speed: lane-instructions a second") {
    if (!getenv("EMULATOR_SPEED")) return;
    const char* loop = R"(
        mov.u32 %r1, 0; mov.f32 %f1, 0f3F800000;
        mov.f32 %f2, 0f3F000000; mul.wide.u32 %rd1, %t, 4; add.s64 %rd1, %rd1, %o;
        st.global.u32 [%rd1], %t;
        HEAD: fma.rn.f32 %f1, %f1, %f2, %f2; add.s32 %r2, %r1, %t; xor.b32 %r3, %r2, %r1; MEMORY
        mul.f32 %f3, %f1, %f2; add.f32 %f4, %f3, %f1; shl.b32 %r4, %r3, 3; add.s32 %r1, %r1, 1;
        setp.lt.u32 %p1, %r1, 20000; @%p1 bra HEAD;)";
    for (const char* memory : {"", "ld.global.u32 %r5, [%rd1]; st.global.u32 [%rd1], %r5;"}) {
        std::string body = loop;
        body.replace(body.find("MEMORY"), 6, memory);
        Buffer<u32> out(256);
        uint64_t before = lane_instructions();
        auto start = std::chrono::steady_clock::now();
        run(kernel(body), {1}, {256}, {0, 0, 0, out.address()});
        double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        printf("%s: %.0f million lane-instructions a second on a core\n", *memory ? "2 of 11 to memory" : "arithmetic",
            (double)(lane_instructions() - before) / seconds / 1e6);
    }
}
