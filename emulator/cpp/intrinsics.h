// Functions of one thread.
#pragma once

namespace {

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float exp2_approximate(float x) { return exp2f(x); }
inline void one_by_one(float (&)[4]) {}
inline int anew(int x) { return x; }

// Never contracted, as nothing is here.
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __double2float_rn(double a) { return float(a); }

inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
// The 32 bits from bit `shift` on of 64, of which `low` comes first.
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    return unsigned((uint64_t(high) << 32 | low) >> (shift & 31));
}

// CUDA mixes the integer types here.
template <class A, class B>
constexpr std::common_type_t<A, B> max(A a, B b) {
    using C = std::common_type_t<A, B>;
    return C(a) > C(b) ? C(a) : C(b);
}
template <class A, class B>
constexpr std::common_type_t<A, B> min(A a, B b) {
    using C = std::common_type_t<A, B>;
    return C(b) < C(a) ? C(b) : C(a);
}

template <class T>
inline T __ldg(const T* p) {
    return *p;
}

// Vectors of 16 bytes (ptx.cuh). A card faults on a misaligned one.
__attribute__((no_sanitize("thread"), noinline)) inline uint4 load_16(const void* place) {
    if (reinterpret_cast<uintptr_t>(place) % 16 != 0) {
        emulator::engine().fail("misaligned read of 16 bytes");
    }
    emulator::checker().access(place, 16, false, false);
    return *static_cast<const uint4*>(place);
}
__attribute__((no_sanitize("thread"), noinline)) inline void store_16(void* place, uint4 value) {
    if (reinterpret_cast<uintptr_t>(place) % 16 != 0) {
        emulator::engine().fail("misaligned write of 16 bytes");
    }
    emulator::checker().access(place, 16, true, false);
    *static_cast<uint4*>(place) = value;
}

inline void __threadfence() {}
inline void __threadfence_block() {}

inline void __syncthreads(emulator::Place place = emulator::Place::here()) {
    emulator::engine().block_barrier(place);
}

}  // namespace
