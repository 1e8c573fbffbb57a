// interpreter_ops.cpp: the instructions, after chapter 9 of the PTX manual: a table from the opcode, as it stands in
// the PTX with all its modifiers, to the function that executes it.
//
// Compile with -ffp-contract=off, and for speed with -march=native -O3 -fno-math-errno -fno-trapping-math.
#include <fenv.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>

#include "test/emulator/interpreter.h"

namespace emulator {
namespace {
using s8 = int8_t;
using s16 = int16_t;
using s32 = int32_t;
using s64 = int64_t;
using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;
using f32 = float;
using f64 = double;

// ---------------------------------------------------------------- lanes
// A lane is a slot of 32 or 64 bits; narrower values lie in its lower bits, extended by their sign. A predicate (bool)
// is one bit of a word.
template <class T> using Slot = std::conditional_t<sizeof(T) == 8, u64, u32>;
template <class T> inline T get(const char* lanes, int i) {
    if constexpr (std::is_same_v<T, bool>) return *(const u32*)lanes >> i & 1;
    Slot<T> slot;
    T value;
    memcpy(&slot, lanes + i * (int)sizeof slot, sizeof slot);
    memcpy(&value, &slot, sizeof value);
    return value;
}
template <class T> inline void set(char* lanes, int i, T value) {
    Slot<T> slot;
    if constexpr (sizeof(T) < 4) slot = (u32)(s32)value;
    else memcpy(&slot, &value, sizeof slot);
    memcpy(lanes + i * (int)sizeof slot, &slot, sizeof slot);
}
template <class F> inline void each(u32 mask, F f) {
    if (mask == ~0u) {
#pragma GCC ivdep
        for (int i = 0; i < 32; i++) f(i);
    } else {
        for (int i = 0; i < 32; i++)
            if (mask >> i & 1) f(i);
    }
}
template <class To, class From> inline To bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
template <class T> inline T canonical(T x) {  // a NaN that arithmetic in fp32 makes is this one
    if constexpr (std::is_same_v<T, f32>) return x != x ? bits<f32>(0x7fffffffu) : x;
    return x;
}
inline f32 flush(f32 x) { return fabsf(x) < FLT_MIN ? copysignf(0, x) : x; }
inline f64 flush(f64 x) { return x; }

// D result of F(S...), lane by lane
template <const auto& F, class D, class... S, size_t... I>
inline void apply(Warp& w, const Inst& in, u32 mask, std::index_sequence<I...>) {
    char* d = w.operand(in, 0);
    const char* s[] = {w.operand(in, (int)I + 1)...};
    if constexpr (std::is_same_v<D, bool>) {
        u8 result[32] = {};
        each(~0u, [&](int i) { result[i] = F(get<S>(s[I], i)...); });
        u32 all = 0;
        for (int i = 0; i < 32; i += 8) {  // the lowest bits of eight bytes, together
            u64 eight;
            memcpy(&eight, result + i, 8);
            all |= (u32)(eight * 0x0102040810204080 >> 56) << i;
        }
        u32& word = *(u32*)d;
        word = (word & ~mask) | (all & mask);
    } else each(mask, [&](int i) { set<D>(d, i, canonical<D>(F(get<S>(s[I], i)...))); });
}
template <const auto& F, class D, class... S> void lanewise(Warp& w, const Inst& in, u32 mask) {
    apply<F, D, S...>(w, in, mask, std::index_sequence_for<S...>());
}
// the same with a rounding mode of the host
template <int MODE, const auto& F, class D, class... S> void rounded(Warp& w, const Inst& in, u32 mask) {
    fesetround(MODE);
    lanewise<F, D, S...>(w, in, mask);
    fesetround(FE_TONEAREST);
}
template <class T> constexpr char letter = std::is_same_v<T, bool> ? 'p' : sizeof(T) == 8 ? 'd' : 'w';

struct Table {
    std::unordered_map<std::string, Op> ops;
    void add(const std::string& name, Run run, const std::string& operands, Space space = Space::generic) {
        ops[name] = {run, operands, Kind::plain, space};
    }
    template <const auto& F, class D, class... S> void add(const std::string& name) {
        add(name, lanewise<F, D, S...>, {letter<D>, letter<S>...});
    }
    template <int MODE, const auto& F, class D, class... S> void add_mode(const std::string& name) {
        add(name, rounded<MODE, F, D, S...>, {letter<D>, letter<S>...});
    }
};
template <class T> const std::string type_name = [] {
    std::string kind = std::is_floating_point_v<T> ? ".f" : std::is_signed_v<T> ? ".s" : ".u";
    return std::is_same_v<T, bool> ? ".pred" : kind + std::to_string(8 * sizeof(T));
}();
template <class T> const std::string bits_name = std::is_same_v<T, bool> ? ".pred"
                                                                         : ".b" + std::to_string(8 * sizeof(T));
template <class T> struct Twice;
template <> struct Twice<u16> {
    using type = u32;
};
template <> struct Twice<s16> {
    using type = s32;
};
template <> struct Twice<u32> {
    using type = u64;
};
template <> struct Twice<s32> {
    using type = s64;
};
template <> struct Twice<u64> {
    using type = unsigned __int128;
};
template <> struct Twice<s64> {
    using type = __int128;
};

// ---------------------------------------------------------------- functions of a lane
#define FUNCTION(name, ...) constexpr auto name = [](__VA_ARGS__)
FUNCTION(same, auto a) { return a; };
FUNCTION(add, auto a, auto b) { return (decltype(a))(a + b); };
FUNCTION(subtract, auto a, auto b) { return (decltype(a))(a - b); };
FUNCTION(multiply, auto a, auto b) {
    return (decltype(a))((std::conditional_t < sizeof a == 2, u32, decltype(a) >) a * b);
};
FUNCTION(multiply_add, auto a, auto b, auto c) { return (decltype(a))(multiply(a, b) + c); };
FUNCTION(multiply_wide, auto a, auto b) { return (typename Twice<decltype(a)>::type)a * b; };
FUNCTION(multiply_add_wide, auto a, auto b, auto c) {
    return (decltype(c))((std::make_unsigned_t<decltype(c)>)multiply_wide(a, b) + c);
};
FUNCTION(multiply_high, auto a, auto b) { return (decltype(a))(multiply_wide(a, b) >> 8 * sizeof a); };
FUNCTION(multiply_add_high, auto a, auto b, auto c) {
    return (decltype(a))((std::make_unsigned_t<decltype(a)>)multiply_high(a, b) + c);
};
// a division by zero gives all ones, as the machine's; INT_MIN / -1 overflows to INT_MIN
template <class T> constexpr bool overflows(T a, T b) {
    return std::is_signed_v<T> && b == (T)-1 && a == std::numeric_limits<T>::min();
}
FUNCTION(divide, auto a, auto b) { return (decltype(a))(b == 0 ? -1 : overflows(a, b) ? a : a / b); };
FUNCTION(remainder_of, auto a, auto b) { return (decltype(a))(b == 0 ? a : overflows(a, b) ? 0 : a % b); };
FUNCTION(negate, auto a) { return (decltype(a))(0 - a); };
FUNCTION(absolute, auto a) { return (decltype(a))(a < 0 ? 0 - (std::make_unsigned_t<decltype(a)>)a : a); };
FUNCTION(bit_and, auto a, auto b) { return (decltype(a))(a & b); };
FUNCTION(bit_or, auto a, auto b) { return (decltype(a))(a | b); };
FUNCTION(bit_xor, auto a, auto b) { return (decltype(a))(a ^ b); };
FUNCTION(bit_not, auto a) { return (decltype(a))~a; };
FUNCTION(logical_not, bool a) { return !a; };
FUNCTION(zero_not, auto a) { return (decltype(a))(a == 0); };
FUNCTION(shift_left, auto a, u32 n) {
    return (decltype(a))(n >= 8 * sizeof a ? 0 : (std::make_unsigned_t<decltype(a)>)a << n);
};
FUNCTION(shift_right, auto a, u32 n) {
    return (decltype(a))(a >> std::min(n, (u32)(8 * sizeof a - 1)) >>
                         (std::is_unsigned_v<decltype(a)> && n >= 8 * sizeof a));
};
FUNCTION(minimum, auto a, auto b) { return b < a ? b : a; };
FUNCTION(maximum, auto a, auto b) { return a < b ? b : a; };
// of a number and a NaN the number; -0 is below +0
FUNCTION(float_minimum, auto a, auto b) { return a < b || b != b || (a == b && std::signbit(a)) ? a : b; };
FUNCTION(float_maximum, auto a, auto b) { return a > b || b != b || (a == b && !std::signbit(a)) ? a : b; };
FUNCTION(select, auto a, auto b, bool p) { return p ? a : b; };
FUNCTION(select_sign, auto a, auto b, auto c) { return c >= 0 ? a : b; };
FUNCTION(population, auto a) { return (u32)__builtin_popcountll(a); };
FUNCTION(leading_zeros, auto a) {
    return (u32)(a ? __builtin_clzll(a) - 64 + (int)(8 * sizeof a) : 8 * (int)sizeof a);
};
FUNCTION(reverse_bits, auto a) {
    decltype(a) r = 0;
    for (size_t i = 0; i < 8 * sizeof a; i++) r = (decltype(a))(r << 1 | (a >> i & 1));
    return r;
};
FUNCTION(find_first, auto a) {  // the highest bit that differs from the sign; ~0: none
    using U = std::make_unsigned_t<decltype(a)>;
    U u = (U)(a < 0 ? ~a : a);
    return u ? (u32)(63 - __builtin_clzll(u)) : ~0u;
};
FUNCTION(extract_field, auto a, u32 position, u32 length) {
    using U = std::make_unsigned_t<decltype(a)>;
    constexpr u32 W = 8 * sizeof a;
    position &= 255, length &= 255;
    bool sign = std::is_signed_v<decltype(a)> && length && ((U)a >> std::min(position + length - 1, W - 1) & 1);
    U field = position < W ? (U)a >> position : 0;
    U mask = length >= W ? (U) ~(U)0 : (U)(((U)1 << length) - 1);
    if (position + length > W) mask = position < W ? (U) ~(U)0 >> position : 0;
    return (decltype(a))((field & mask) | (sign ? (U)~mask : 0));
};
FUNCTION(insert_field, auto a, auto b, u32 position, u32 length) {
    using U = decltype(a);
    constexpr u32 W = 8 * sizeof a;
    position &= 255, length &= 255;
    if (position >= W) return b;
    U mask = (length >= W ? (U) ~(U)0 : (U)(((U)1 << length) - 1)) << position;
    return (U)((b & ~mask) | (a << position & mask));
};
FUNCTION(permute, u32 a, u32 b, u32 selector) {
    u64 bytes = (u64)b << 32 | a;
    u32 r = 0;
    for (int i = 0; i < 4; i++) {
        u32 s = selector >> 4 * i & 15, byte = (u32)(bytes >> 8 * (s & 7)) & 255;
        if (s & 8) byte = byte & 128 ? 255 : 0;
        r |= byte << 8 * i;
    }
    return r;
};
FUNCTION(logic3, u32 a, u32 b, u32 c, u32 table) {
    u32 r = 0;
    for (u32 i = 0; i < 8; i++)
        if (table >> i & 1) r |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
    return r;
};
FUNCTION(funnel_left_wrap, u32 a, u32 b, u32 n) { return (u32)((((u64)b << 32 | a) << (n & 31)) >> 32); };
FUNCTION(funnel_right_wrap, u32 a, u32 b, u32 n) { return (u32)(((u64)b << 32 | a) >> (n & 31)); };
FUNCTION(funnel_left_clamp, u32 a, u32 b, u32 n) { return n >= 32 ? a : (u32)((((u64)b << 32 | a) << n) >> 32); };
FUNCTION(funnel_right_clamp, u32 a, u32 b, u32 n) { return (u32)(((u64)b << 32 | a) >> std::min(n, 32u)); };
FUNCTION(pack2, u32 a, u32 b) { return (u64)b << 32 | a; };
FUNCTION(pack2_half, u16 a, u16 b) { return (u32)b << 16 | a; };

FUNCTION(fused, auto a, auto b, auto c) { return std::fma(a, b, c); };
FUNCTION(float_add, auto a, auto b) { return a + b; };
FUNCTION(float_subtract, auto a, auto b) { return a - b; };
FUNCTION(float_multiply, auto a, auto b) { return a * b; };
FUNCTION(float_divide, auto a, auto b) { return a / b; };
FUNCTION(float_negate, auto a) { return -a; };
FUNCTION(float_absolute, auto a) { return std::fabs(a); };
FUNCTION(copy_sign, auto sign, auto a) { return std::copysign(a, sign); };
FUNCTION(square_root, auto a) { return std::sqrt(a); };
FUNCTION(reciprocal, auto a) { return 1 / a; };
FUNCTION(reciprocal_root, f32 a) { return (f32)(1 / std::sqrt((f64)a)); };
FUNCTION(exp2_of, f32 a) { return exp2f(a); };
FUNCTION(log2_of, f32 a) { return log2f(a); };
FUNCTION(sine, f32 a) { return (f32)sin((f64)a); };
FUNCTION(cosine, f32 a) { return (f32)cos((f64)a); };
FUNCTION(tanh_of, f32 a) { return (f32)tanh((f64)a); };
template <const auto& F> constexpr auto flushed = [](auto... a) { return flush(F(flush(a)...)); };
template <const auto& F> constexpr auto saturated = [](auto... a) {
    auto x = F(a...);
    return x > 0 ? std::min(x, decltype(x)(1)) : 0;  // NaN: 0
};

FUNCTION(equal, auto a, auto b) { return a == b; };
FUNCTION(less, auto a, auto b) { return a < b; };
FUNCTION(less_equal, auto a, auto b) { return a <= b; };
FUNCTION(greater, auto a, auto b) { return a > b; };
FUNCTION(greater_equal, auto a, auto b) { return a >= b; };
FUNCTION(not_equal, auto a, auto b) { return a < b || a > b; };
FUNCTION(ordered, auto a, auto b) { return a == a && b == b; };
template <const auto& F> constexpr auto opposite = [](auto a, auto b) { return !F(a, b); };
template <const auto& F> constexpr auto with_and = [](auto a, auto b, bool p) { return F(a, b) && p; };
template <const auto& F> constexpr auto with_or = [](auto a, auto b, bool p) { return F(a, b) || p; };
template <const auto& F> constexpr auto with_xor = [](auto a, auto b, bool p) { return F(a, b) != p; };

// ---------------------------------------------------------------- conversions
enum Rounding { NEAREST, TO_ZERO, DOWN, UP };
template <Rounding R, class T> inline T integral(T x) {
    if constexpr (R == NEAREST) return std::nearbyint(x);
    else if constexpr (R == TO_ZERO) return std::trunc(x);
    else if constexpr (R == DOWN) return std::floor(x);
    else return std::ceil(x);
}
// of a floating-point number: what does not fit becomes the nearest end, NaN becomes 0
template <Rounding R, class D> constexpr auto to_integer = [](auto x) {
    x = integral<R>(x);
    const auto above = std::ldexp((decltype(x))1, std::numeric_limits<D>::digits);  // the first that is too large
    if (x >= above) return std::numeric_limits<D>::max();
    if (x < (decltype(x))std::numeric_limits<D>::min()) return std::numeric_limits<D>::min();
    return x == x ? (D)x : (D)0;
};
template <Rounding R> constexpr auto to_integral = [](auto x) { return integral<R>(x); };
template <class D> constexpr auto convert = [](auto x) { return (D)x; };
template <class D> constexpr auto clamp_to = [](auto x) {
    if constexpr (std::is_signed_v<decltype(x)>) {
        if (x < 0) return std::is_signed_v<D> ? (D)std::max<s64>(x, std::numeric_limits<D>::min()) : (D)0;
    }
    return (D)std::min<u64>((u64)x, std::numeric_limits<D>::max());
};
inline u16 to_bf16(f32 x) {  // to nearest, ties to even
    u32 u = bits<u32>(x);
    return x != x ? 0x7fff : (u16)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
FUNCTION(bf16_of, f32 x) { return to_bf16(x); };
FUNCTION(bf16_pair, f32 high, f32 low) { return (u32)to_bf16(high) << 16 | to_bf16(low); };
FUNCTION(f32_of_bf16, u16 x) { return bits<f32>((u32)x << 16); };

// ---------------------------------------------------------------- memory
// A register may be wider than what is loaded, which is then extended: R is the type of the register.
template <class T, int N, class R = T> void load(Warp& w, const Inst& in, u32 mask) {
    char* place[32];
    w.places(in, N, N * sizeof(T), Warp::READ, mask, place);
    for (int n = 0; n < N; n++) {
        char* d = w.operand(in, n);
        each(mask, [&](int i) {
            T value;
            memcpy(&value, place[i] + n * (int)sizeof(T), sizeof(T));
            set<R>(d, i, (R)value);
        });
    }
}
template <class T, int N, class R = T> void store(Warp& w, const Inst& in, u32 mask) {
    char* place[32];
    w.places(in, 0, N * sizeof(T), Warp::WRITE, mask, place);
    for (int n = 0; n < N; n++) {
        const char* s = w.operand(in, n + 1);
        each(mask, [&](int i) {
            T value = (T)get<R>(s, i);
            memcpy(place[i] + n * (int)sizeof(T), &value, sizeof(T));
        });
    }
}
FUNCTION(exchange, auto, auto b) { return b; };
FUNCTION(increase, auto a, auto b) { return (decltype(a))(a >= b ? 0 : a + 1); };
FUNCTION(decrease, auto a, auto b) { return (decltype(a))(a == 0 || a > b ? b : a - 1); };
// d = [a]; [a] = F([a], b). Blocks run at the same time, so the host does it atomically as well.
template <const auto& F, class T, bool RETURNS> void atomic(Warp& w, const Inst& in, u32 mask) {
    char* place[32];
    w.places(in, RETURNS, sizeof(T), Warp::ATOMIC, mask, place);
    char* d = w.operand(in, 0);
    const char* b = w.operand(in, RETURNS + 1);
    for (int i = 0; i < 32; i++) {
        if (!(mask >> i & 1)) continue;
        Slot<T>* p = (Slot<T>*)place[i];
        Slot<T> old = __atomic_load_n(p, __ATOMIC_RELAXED);
        while (!__atomic_compare_exchange_n(
            p, &old, bits<Slot<T>>((T)F(bits<T>(old), get<T>(b, i))), false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {}
        if (RETURNS) set<T>(d, i, bits<T>(old));
    }
}
template <class T> void compare_and_swap(Warp& w, const Inst& in, u32 mask) {
    char* place[32];
    w.places(in, 1, sizeof(T), Warp::ATOMIC, mask, place);
    for (int i = 0; i < 32; i++) {
        if (!(mask >> i & 1)) continue;
        T old = get<T>(w.operand(in, 2), i);
        __atomic_compare_exchange_n(
            (T*)place[i], &old, get<T>(w.operand(in, 3), i), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        set<T>(w.operand(in, 0), i, old);
    }
}
// BYTES from global to shared memory, of which the last operand says how many are read; the rest becomes 0. Until the
// wait, the place counts as never written.
template <int BYTES, bool SIZED> void copy_async(Warp& w, const Inst& in, u32 mask) {
    const char *to = w.operand(in, 0), *size = SIZED ? w.operand(in, 2) : nullptr;
    Inst source = in;
    source.space = Space::global;
    source.target = 8;
    source.imm = 0;
    u32 reads = 0;  // lanes that read something
    each(mask, [&](int i) { reads |= (u32)(!SIZED || get<u32>(size, i) > 0) << i; });
    char* from[32] = {};
    w.places(source, 1, BYTES, Warp::READ, reads, from);
    u64 addresses[32];
    for (int i = 0; i < 32; i++) {
        if (!(mask >> i & 1)) continue;
        u32 read = SIZED ? std::min(get<u32>(size, i), (u32)BYTES) : BYTES, address = get<u32>(to, i);
        addresses[i] = address;
        if (get<u64>(w.operand(in, 1), i) % BYTES) w.fail(Fault::misaligned, i, "the address in global memory");
        if (address % BYTES) w.fail(Fault::misaligned, i, "the address in shared memory");
        w.shared_place(address, BYTES, Warp::WRITE, i);
        w.block->shared.forget(address - SHARED_START, BYTES);
        w.copies.push_back({address, from[i], i, w.groups[i], BYTES, read});
    }
    w.count(Space::shared, addresses, BYTES, mask);
}
void commit_copies(Warp& w, const Inst&, u32 mask) {
    each(mask, [&](int i) { w.groups[i]++; });
}
void wait_copies(Warp& w, const Inst& in, u32 mask) { w.land((int)in.imm, mask); }
void wait_all_copies(Warp& w, const Inst& in, u32 mask) {
    commit_copies(w, in, mask);
    w.land(0, mask);
}

// ---------------------------------------------------------------- lanes together
enum Shuffle { UP_LANE, DOWN_LANE, XOR_LANE, INDEX_LANE };
template <Shuffle MODE> void shuffle(Warp& w, const Inst& in, u32 mask) {
    const char *a = w.operand(in, 2), *b = w.operand(in, 3), *c = w.operand(in, 4), *members = w.operand(in, 5);
    u32 source[32], result[32], inside = 0;
    memcpy(source, a, sizeof source);
    memcpy(result, w.operand(in, 0), sizeof result);
    for (int i = 0; i < 32; i++) {
        if (!(mask >> i & 1)) continue;
        w.need_lanes(get<u32>(members, i), mask, i);
        int by = get<u32>(b, i) & 31, clamp = get<u32>(c, i) & 31, segment = get<u32>(c, i) >> 8 & 31;
        int last = (i & segment) | (clamp & ~segment);
        int j = MODE == UP_LANE     ? i - by
                : MODE == DOWN_LANE ? i + by
                : MODE == XOR_LANE  ? i ^ by
                                    : (i & segment) | (by & ~segment);
        bool in_range = MODE == UP_LANE ? j >= last : j <= last;
        if (!in_range) j = i;
        if (!(mask >> j & 1))
            w.fail(Fault::barrier, i, "reads lane " + std::to_string(j) + ", which does not take part");
        inside |= (u32)in_range << i;
        result[i] = source[j];
    }
    memcpy(w.operand(in, 0), result, sizeof result);
    u32& p = w.predicate(in, 1);
    p = (p & ~mask) | inside;
}
void warp_barrier(Warp& w, const Inst& in, u32 mask) {
    for (int i = 0; i < 32; i++)
        if (mask >> i & 1) w.need_lanes(get<u32>(w.operand(in, 0), i), mask, i);
    if (mask != w.live) return;  // it orders some lanes only; we count it for none
    if (w.epoch++ == SharedMemory::LAST_EPOCH) {
        w.block->shared.restart();
        w.epoch = 0;
    }
}
enum Vote { ALL, ANY, UNI, BALLOT };
template <Vote V> void vote(Warp& w, const Inst& in, u32 mask) {
    const char* members = w.operand(in, 2);
    u32 p = w.predicate(in, 1);
    for (int i = 0; i < 32; i++) {
        if (!(mask >> i & 1)) continue;
        u32 m = get<u32>(members, i), yes = p & m & mask, all = m & mask;
        w.need_lanes(m, mask, i);
        if (V == BALLOT) set<u32>(w.operand(in, 0), i, yes);
        else {
            bool result = V == ALL ? yes == all : V == ANY ? yes != 0 : yes == all || !yes;
            u32& d = w.predicate(in, 0);
            d = (d & ~(1u << i)) | (u32)result << i;
        }
    }
}
void active_mask(Warp& w, const Inst& in, u32 mask) {
    each(mask, [&](int i) { set<u32>(w.operand(in, 0), i, mask); });
}
void whole_warp(const Warp& w, u32 mask) {
    if (mask != ~0u)
        w.fail(Fault::barrier, __builtin_ctz(~mask), "does not take part in an instruction of all 32 lanes");
}
// N matrices of 8 rows of 8 elements of 16 bits. Lane 8m + i has the address of row i of matrix m.
template <int N, bool TRANSPOSED> void load_matrices(Warp& w, const Inst& in, u32 mask) {
    whole_warp(w, mask);
    char* row[32];
    w.places(in, N, 16, Warp::READ, N == 4 ? ~0u : (1u << 8 * N) - 1, row);
    auto element = [&](int m, int i, int j) {
        u16 x;
        memcpy(&x, row[8 * m + i] + 2 * j, 2);
        return (u32)x;
    };
    for (int m = 0; m < N; m++) {
        char* d = w.operand(in, m);
        for (int lane = 0; lane < 32; lane++) {
            int g = lane / 4, t = lane % 4 * 2;
            u32 low = TRANSPOSED ? element(m, t, g) : element(m, g, t);
            u32 high = TRANSPOSED ? element(m, t + 1, g) : element(m, g, t + 1);
            set<u32>(d, lane, high << 16 | low);
        }
    }
}
// D(16,8) = A(16,16) B(16,8) + C(16,8), bf16 in, summed in fp32; who holds what: common/device/ptx.cuh
void multiply_matrices(Warp& w, const Inst& in, u32 mask) {
    whole_warp(w, mask);
    f32 a[16][16], b[16][8], c[16][8];
    auto split = [&](int operand, int lane, f32& low, f32& high) {
        u32 pair = get<u32>(w.operand(in, operand), lane);
        low = bits<f32>(pair << 16);
        high = bits<f32>(pair & 0xffff0000u);
    };
    for (int lane = 0; lane < 32; lane++) {
        int g = lane / 4, t = lane % 4 * 2;
        for (int r = 0; r < 4; r++) {
            f32* pair = &a[g + r % 2 * 8][t + r / 2 * 8];
            split(4 + r, lane, pair[0], pair[1]);
            c[g + r / 2 * 8][t + r % 2] = get<f32>(w.operand(in, 10 + r), lane);
        }
        for (int r = 0; r < 2; r++) split(8 + r, lane, b[t + 8 * r][g], b[t + 8 * r + 1][g]);
    }
    for (int k = 0; k < 16; k++)
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < 8; j++) c[i][j] = std::fma(a[i][k], b[k][j], c[i][j]);
    for (int lane = 0; lane < 32; lane++) {
        int g = lane / 4, t = lane % 4 * 2;
        for (int r = 0; r < 4; r++) set<f32>(w.operand(in, r), lane, canonical(c[g + r / 2 * 8][t + r % 2]));
    }
}
template <class T, class Half> void unpack2(Warp& w, const Inst& in, u32 mask) {
    each(mask, [&](int i) {
        T value = get<T>(w.operand(in, 2), i);
        set<Half>(w.operand(in, 0), i, (Half)value);
        set<Half>(w.operand(in, 1), i, (Half)(value >> 8 * sizeof(Half)));
    });
}
void nothing(Warp&, const Inst&, u32) {}
void trap(Warp& w, const Inst&, u32 mask) { w.fail(Fault::trap, __builtin_ctz(mask), "trap"); }
constexpr u64 window(Space s) { return s == Space::shared ? SHARED_WINDOW : s == Space::local ? LOCAL_WINDOW : 0; }
template <Space S> constexpr auto to_generic = [](u64 a) { return a + window(S); };
template <Space S> constexpr auto from_generic = [](u64 a) { return a - window(S); };

// ---------------------------------------------------------------- the table
template <class T> void add_integer(Table& t) {
    using U = std::make_unsigned_t<T>;
    const std::string& n = type_name<T>;
    t.add<add, T, U, U>("add" + n);
    t.add<subtract, T, U, U>("sub" + n);
    t.add<multiply, T, U, U>("mul.lo" + n);
    t.add<multiply_add, T, U, U, U>("mad.lo" + n);
    t.add<multiply_high, T, T, T>("mul.hi" + n);
    t.add<multiply_add_high, T, T, T, T>("mad.hi" + n);
    t.add<divide, T, T, T>("div" + n);
    t.add<remainder_of, T, T, T>("rem" + n);
    t.add<minimum, T, T, T>("min" + n);
    t.add<maximum, T, T, T>("max" + n);
    t.add<shift_right, T, T, u32>("shr" + n);
    if constexpr (std::is_signed_v<T>) {
        t.add<negate, T, U>("neg" + n);
        t.add<absolute, T, T>("abs" + n);
    }
    if constexpr (sizeof(T) < 8) {
        using W = typename Twice<T>::type;
        t.add<multiply_wide, W, T, T>("mul.wide" + n);
        t.add<multiply_add_wide, W, T, T, W>("mad.wide" + n);
    }
    if constexpr (sizeof(T) > 2) {
        t.add<extract_field, T, T, u32, u32>("bfe" + n);
        t.add<find_first, u32, T>("bfind" + n);
    }
}
template <class T> void add_logic(Table& t) {  // of bits
    const std::string& n = bits_name<T>;
    t.add<bit_and, T, T, T>("and" + n);
    t.add<bit_or, T, T, T>("or" + n);
    t.add<bit_xor, T, T, T>("xor" + n);
    if constexpr (!std::is_same_v<T, bool>) {
        t.add<bit_not, T, T>("not" + n);
        t.add<zero_not, T, T>("cnot" + n);
        t.add<shift_left, T, T, u32>("shl" + n);
        t.add<shift_right, T, T, u32>("shr" + n);
        if constexpr (sizeof(T) > 2) {
            t.add<population, u32, T>("popc" + n);
            t.add<leading_zeros, u32, T>("clz" + n);
            t.add<reverse_bits, T, T>("brev" + n);
            t.add<insert_field, T, T, T, u32, u32>("bfi" + n);
        }
    }
}
template <const auto& F, class T, class... S> void add_rounded(Table& t, const std::string& name) {
    const std::string& n = type_name<T>;
    t.add<F, T, S...>(name + ".rn" + n);
    t.add_mode<FE_TOWARDZERO, F, T, S...>(name + ".rz" + n);
    t.add_mode<FE_DOWNWARD, F, T, S...>(name + ".rm" + n);
    t.add_mode<FE_UPWARD, F, T, S...>(name + ".rp" + n);
    if constexpr (std::is_same_v<T, f32>) {
        t.add<flushed<F>, T, S...>(name + ".rn.ftz" + n);
        t.add<saturated<F>, T, S...>(name + ".rn.sat" + n);
    }
}
template <class T> void add_float(Table& t) {
    const std::string& n = type_name<T>;
    add_rounded<float_add, T, T, T>(t, "add");
    add_rounded<float_subtract, T, T, T>(t, "sub");
    add_rounded<float_multiply, T, T, T>(t, "mul");
    add_rounded<float_divide, T, T, T>(t, "div");
    add_rounded<fused, T, T, T, T>(t, "fma");
    add_rounded<square_root, T, T>(t, "sqrt");
    add_rounded<reciprocal, T, T>(t, "rcp");
    for (const char* op : {"add", "sub", "mul"}) {  // to nearest if nothing is said
        t.ops[op + n] = t.ops[op + (".rn" + n)];
        if (sizeof(T) == 4) t.ops[op + (".ftz" + n)] = t.ops[op + (".rn.ftz" + n)];
        if (sizeof(T) == 4) t.ops[op + (".sat" + n)] = t.ops[op + (".rn.sat" + n)];
    }
    t.add<float_minimum, T, T, T>("min" + n);
    t.add<float_maximum, T, T, T>("max" + n);
    t.add<float_negate, T, T>("neg" + n);
    t.add<float_absolute, T, T>("abs" + n);
    t.add<copy_sign, T, T, T>("copysign" + n);
}
template <const auto& F> void add_approximate(Table& t, const std::string& name) {
    t.add<F, f32, f32>(name + ".approx.f32");
    t.add<flushed<F>, f32, f32>(name + ".approx.ftz.f32");
}
template <const auto& F, class T> void add_comparison(Table& t, const std::string& name, const std::string& type) {
    t.add<F, bool, T, T>("setp." + name + type);
    t.add<with_and<F>, bool, T, T, bool>("setp." + name + ".and" + type);
    t.add<with_or<F>, bool, T, T, bool>("setp." + name + ".or" + type);
    t.add<with_xor<F>, bool, T, T, bool>("setp." + name + ".xor" + type);
}
template <class T> void add_comparisons(Table& t) {
    const std::string& n = type_name<T>;
    add_comparison<equal, T>(t, "eq", n);
    add_comparison<less, T>(t, "lt", n);
    add_comparison<less_equal, T>(t, "le", n);
    add_comparison<greater, T>(t, "gt", n);
    add_comparison<greater_equal, T>(t, "ge", n);
    add_comparison<not_equal, T>(t, "ne", n);
    if constexpr (std::is_floating_point_v<T>) {  // …u: or one of them is NaN
        add_comparison<opposite<not_equal>, T>(t, "equ", n);
        add_comparison<opposite<equal>, T>(t, "neu", n);
        add_comparison<opposite<greater_equal>, T>(t, "ltu", n);
        add_comparison<opposite<greater>, T>(t, "leu", n);
        add_comparison<opposite<less_equal>, T>(t, "gtu", n);
        add_comparison<opposite<less>, T>(t, "geu", n);
        add_comparison<ordered, T>(t, "num", n);
        add_comparison<opposite<ordered>, T>(t, "nan", n);
    } else if constexpr (std::is_unsigned_v<T>) {
        add_comparison<equal, T>(t, "eq", bits_name<T>);
        add_comparison<not_equal, T>(t, "ne", bits_name<T>);
        add_comparison<less, T>(t, "lo", n);
        add_comparison<less_equal, T>(t, "ls", n);
        add_comparison<greater, T>(t, "hi", n);
        add_comparison<greater_equal, T>(t, "hs", n);
    }
}
template <class D, class S> void add_conversion(Table& t) {
    std::string n = type_name<D> + type_name<S>;
    constexpr bool to_float = std::is_floating_point_v<D>, from_float = std::is_floating_point_v<S>;
    if constexpr (!to_float && !from_float) {
        t.add<convert<D>, D, S>("cvt" + n);
        t.add<clamp_to<D>, D, S>("cvt.sat" + n);
    } else if constexpr (!to_float) {
        t.add<to_integer<NEAREST, D>, D, S>("cvt.rni" + n);
        t.add<to_integer<TO_ZERO, D>, D, S>("cvt.rzi" + n);
        t.add<to_integer<DOWN, D>, D, S>("cvt.rmi" + n);
        t.add<to_integer<UP, D>, D, S>("cvt.rpi" + n);
    } else if constexpr (std::is_same_v<D, S>) {
        t.add<same, D, S>("cvt" + n);
        t.add<saturated<same>, D, S>("cvt.sat" + n);
        t.add<to_integral<NEAREST>, D, S>("cvt.rni" + n);
        t.add<to_integral<TO_ZERO>, D, S>("cvt.rzi" + n);
        t.add<to_integral<DOWN>, D, S>("cvt.rmi" + n);
        t.add<to_integral<UP>, D, S>("cvt.rpi" + n);
    } else if constexpr (from_float && sizeof(D) > sizeof(S)) t.add<convert<D>, D, S>("cvt" + n);
    else {
        t.add<convert<D>, D, S>("cvt.rn" + n);
        t.add_mode<FE_TOWARDZERO, convert<D>, D, S>("cvt.rz" + n);
        t.add_mode<FE_DOWNWARD, convert<D>, D, S>("cvt.rm" + n);
        t.add_mode<FE_UPWARD, convert<D>, D, S>("cvt.rp" + n);
    }
}
template <class D> void add_conversions_to(Table& t) {
    add_conversion<D, u8>(t), add_conversion<D, s8>(t), add_conversion<D, u16>(t), add_conversion<D, s16>(t);
    add_conversion<D, u32>(t), add_conversion<D, s32>(t), add_conversion<D, u64>(t), add_conversion<D, s64>(t);
    add_conversion<D, f32>(t), add_conversion<D, f64>(t);
}
template <class T> void add_data(Table& t, const std::string& n) {  // moves, loads and stores
    const std::pair<const char*, Space> spaces[] = {{"", Space::generic}, {".global", Space::global},
        {".shared", Space::shared}, {".local", Space::local}, {".param", Space::param}, {".const", Space::global}};
    const std::string l(1, letter<T>);
    for (auto& [name, space] : spaces) {
        t.add(std::string("ld") + name + n, load<T, 1>, l + "a", space);
        t.add(std::string("st") + name + n, store<T, 1>, "a" + l, space);
        t.add(std::string("ld") + name + ".v2" + n, load<T, 2>, l + l + "a", space);
        t.add(std::string("st") + name + ".v2" + n, store<T, 2>, "a" + l + l, space);
        if constexpr (std::is_integral_v<T> && sizeof(T) < 8) {
            using R = std::conditional_t<std::is_signed_v<T>, s64, u64>;
            t.add(std::string("ld") + name + n + " wide", load<T, 1, R>, "da", space);
            t.add(std::string("st") + name + n + " wide", store<T, 1, R>, "ad", space);
        }
        if (sizeof(T) == 8) continue;
        t.add(std::string("ld") + name + ".v4" + n, load<T, 4>, l + l + l + l + "a", space);
        t.add(std::string("st") + name + ".v4" + n, store<T, 4>, "a" + l + l + l + l, space);
    }
    if constexpr (sizeof(T) > 1) {
        t.add<same, T, T>("mov" + n);
        t.add<select, T, T, T, bool>("selp" + n);
        t.add<select_sign, T, T, T, s32>("slct" + n + ".s32");
        t.add<select_sign, T, T, T, f32>("slct" + n + ".f32");
    }
}
template <const auto& F, class T> void add_atomic(Table& t, const std::string& name) {
    const std::pair<const char*, Space> spaces[] = {
        {"", Space::generic}, {".global", Space::global}, {".shared", Space::shared}};
    const std::string l(1, letter<T>);
    for (auto& [space_name, space] : spaces) {
        t.add(std::string("atom") + space_name + name, atomic<F, T, true>, l + "a" + l, space);
        t.add(std::string("red") + space_name + name, atomic<F, T, false>, "a" + l, space);
        if constexpr (std::is_unsigned_v<T>)
            t.add(
                std::string("atom") + space_name + ".cas" + bits_name<T>, compare_and_swap<T>, l + "a" + l + l, space);
    }
}
template <class T> void add_atomics(Table& t) {
    const std::string& n = type_name<T>;
    add_atomic<add, T>(t, ".add" + n);
    if constexpr (std::is_integral_v<T>) {
        add_atomic<minimum, T>(t, ".min" + n);
        add_atomic<maximum, T>(t, ".max" + n);
        if constexpr (std::is_unsigned_v<T>) {
            add_atomic<bit_and, T>(t, ".and" + bits_name<T>);
            add_atomic<bit_or, T>(t, ".or" + bits_name<T>);
            add_atomic<bit_xor, T>(t, ".xor" + bits_name<T>);
            add_atomic<exchange, T>(t, ".exch" + bits_name<T>);
            add_atomic<increase, T>(t, ".inc" + n);
            add_atomic<decrease, T>(t, ".dec" + n);
        }
    }
}
template <int N, bool TRANSPOSED> void add_ldmatrix(Table& t) {
    std::string name = "ldmatrix.sync.aligned.m8n8.x" + std::to_string(N) + (TRANSPOSED ? ".trans" : "");
    for (const char* state : {".shared", ".shared::cta"})
        t.add(name + state + ".b16", load_matrices<N, TRANSPOSED>, std::string(N, 'w') + "a", Space::shared);
}

Table make_table() {
    Table t;
    add_integer<u16>(t), add_integer<s16>(t), add_integer<u32>(t), add_integer<s32>(t), add_integer<u64>(t);
    add_integer<s64>(t);
    add_logic<bool>(t), add_logic<u16>(t), add_logic<u32>(t), add_logic<u64>(t);
    t.add<logical_not, bool, bool>("not.pred");
    t.add<same, bool, bool>("mov.pred");
    t.add<permute, u32, u32, u32, u32>("prmt.b32");
    t.add<logic3, u32, u32, u32, u32, u32>("lop3.b32");
    t.add<funnel_left_wrap, u32, u32, u32, u32>("shf.l.wrap.b32");
    t.add<funnel_right_wrap, u32, u32, u32, u32>("shf.r.wrap.b32");
    t.add<funnel_left_clamp, u32, u32, u32, u32>("shf.l.clamp.b32");
    t.add<funnel_right_clamp, u32, u32, u32, u32>("shf.r.clamp.b32");
    t.add<pack2, u64, u32, u32>("mov.b64.pack2");
    t.add<pack2_half, u32, u16, u16>("mov.b32.pack2");
    t.add("mov.b64.unpack2", unpack2<u64, u32>, "wwd");
    t.add("mov.b32.unpack2", unpack2<u32, u16>, "www");

    add_float<f32>(t), add_float<f64>(t);
    t.add<flushed<float_minimum>, f32, f32, f32>("min.ftz.f32");
    t.add<flushed<float_maximum>, f32, f32, f32>("max.ftz.f32");
    t.add<flushed<float_absolute>, f32, f32>("abs.ftz.f32");
    add_approximate<exp2_of>(t, "ex2"), add_approximate<log2_of>(t, "lg2"), add_approximate<reciprocal>(t, "rcp");
    add_approximate<square_root>(t, "sqrt"), add_approximate<reciprocal_root>(t, "rsqrt");
    add_approximate<sine>(t, "sin"), add_approximate<cosine>(t, "cos");
    t.add<tanh_of, f32, f32>("tanh.approx.f32");
    t.add<float_divide, f32, f32, f32>("div.approx.f32");
    t.add<float_divide, f32, f32, f32>("div.full.f32");

    add_comparisons<u16>(t), add_comparisons<s16>(t), add_comparisons<u32>(t), add_comparisons<s32>(t);
    add_comparisons<u64>(t), add_comparisons<s64>(t), add_comparisons<f32>(t), add_comparisons<f64>(t);

    add_conversions_to<u8>(t), add_conversions_to<s8>(t), add_conversions_to<u16>(t), add_conversions_to<s16>(t);
    add_conversions_to<u32>(t), add_conversions_to<s32>(t), add_conversions_to<u64>(t), add_conversions_to<s64>(t);
    add_conversions_to<f32>(t), add_conversions_to<f64>(t);
    t.add<bf16_of, u16, f32>("cvt.rn.bf16.f32");
    t.add<bf16_pair, u32, f32, f32>("cvt.rn.bf16x2.f32");
    t.add<f32_of_bf16, f32, u16>("cvt.f32.bf16");

    add_data<u8>(t, ".u8"), add_data<s8>(t, ".s8"), add_data<u8>(t, ".b8"), add_data<u16>(t, ".u16");
    add_data<s16>(t, ".s16"), add_data<u16>(t, ".b16"), add_data<u32>(t, ".u32"), add_data<s32>(t, ".s32");
    add_data<u32>(t, ".b32"), add_data<f32>(t, ".f32"), add_data<u64>(t, ".u64"), add_data<s64>(t, ".s64");
    add_data<u64>(t, ".b64"), add_data<f64>(t, ".f64");
    t.add<to_generic<Space::shared>, u64, u64>("cvta.shared.u64");
    t.add<to_generic<Space::local>, u64, u64>("cvta.local.u64");
    t.add<to_generic<Space::global>, u64, u64>("cvta.global.u64");
    t.add<from_generic<Space::shared>, u64, u64>("cvta.to.shared.u64");
    t.add<from_generic<Space::local>, u64, u64>("cvta.to.local.u64");
    t.add<from_generic<Space::global>, u64, u64>("cvta.to.global.u64");
    add_atomics<u32>(t), add_atomics<s32>(t), add_atomics<u64>(t), add_atomics<f32>(t), add_atomics<f64>(t);
    for (const char* level : {".cg", ".ca"}) {
        std::string name = "cp.async" + std::string(level) + ".shared.global";
        t.add(name + " 16", copy_async<16, true>, "wdw");
        t.add(name + " 8", copy_async<8, true>, "wdw");
        t.add(name + " 4", copy_async<4, true>, "wdw");
        t.add(name + " 16 whole", copy_async<16, false>, "wd");
        t.add(name + " 8 whole", copy_async<8, false>, "wd");
        t.add(name + " 4 whole", copy_async<4, false>, "wd");
    }
    t.add("cp.async.commit_group", commit_copies, "");
    t.add("cp.async.wait_group", wait_copies, "i");
    t.add("cp.async.wait_all", wait_all_copies, "");

    t.add("shfl.sync.up.b32", shuffle<UP_LANE>, "wqwwww");
    t.add("shfl.sync.down.b32", shuffle<DOWN_LANE>, "wqwwww");
    t.add("shfl.sync.bfly.b32", shuffle<XOR_LANE>, "wqwwww");
    t.add("shfl.sync.idx.b32", shuffle<INDEX_LANE>, "wqwwww");
    t.add("vote.sync.all.pred", vote<ALL>, "ppw");
    t.add("vote.sync.any.pred", vote<ANY>, "ppw");
    t.add("vote.sync.uni.pred", vote<UNI>, "ppw");
    t.add("vote.sync.ballot.b32", vote<BALLOT>, "wpw");
    t.add("activemask.b32", active_mask, "w");
    add_ldmatrix<1, false>(t), add_ldmatrix<2, false>(t), add_ldmatrix<4, false>(t);
    add_ldmatrix<1, true>(t), add_ldmatrix<2, true>(t), add_ldmatrix<4, true>(t);
    t.add("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", multiply_matrices, "wwwwwwwwwwwwww");

    t.add("bar.warp.sync", warp_barrier, "w");
    t.add("membar.gl", nothing, ""), t.add("membar.cta", nothing, ""), t.add("fence.acq_rel.gpu", nothing, "");
    t.add("trap", trap, "");
    for (const char* name : {"bar.sync", "barrier.sync", "barrier.sync.aligned"})
        t.ops[name] = {nullptr, "i", Kind::barrier};
    for (const char* name : {"bra", "bra.uni"}) t.ops[name] = {nullptr, "l", Kind::branch};
    for (const char* name : {"ret", "ret.uni", "exit"}) t.ops[name] = {nullptr, "", Kind::exit};
    return t;
}
}  // namespace

const Op* find_op(const std::string& opcode) {
    static const Table table = make_table();
    std::string name = opcode;
    bool memory = !name.compare(0, 3, "ld.") || !name.compare(0, 3, "st.");
    bool atomic = !name.compare(0, 5, "atom.") || !name.compare(0, 4, "red.");
    // what changes nothing here: hints for caches, and the order and reach of what is executed one after another anyway
    for (const char* hint : {".nc", ".volatile", ".relaxed", ".acquire", ".release", ".gpu", ".cta", ".sys", ".ca",
             ".cg", ".cs", ".lu", ".cv", ".wb", ".wt", ".L1::no_allocate", ".L1::evict_last", ".L2::128B", ".weak"}) {
        std::string h = hint;
        size_t at = memory || atomic ? name.find(h) : std::string::npos;
        while (at != std::string::npos && at + h.size() < name.size() && name[at + h.size()] != '.')
            at = name.find(h, at + 1);
        if (at != std::string::npos) name.erase(at, h.size());
    }
    auto found = table.ops.find(name);
    return found == table.ops.end() ? nullptr : &found->second;
}
}  // namespace emulator
