// Conversion between element types, to nearest even.
//
// Grid-stride over vectors of 8 values (the 16-bit side's 16 bytes). Moves both tensors once; bound
// by memory.
#include "numeric.cuh"

template <class From, class To>
__device__ __forceinline__ void cast(const From* x, To* out, unsigned long long count) {
    constexpr int SIZE = 8;
    constexpr int IN = Vector<From>::SIZE, OUT = Vector<To>::SIZE;
    unsigned long long whole = count / SIZE;
    for (unsigned long long v = global_thread(); v < whole; v += global_threads()) {
        float values[SIZE];
#pragma unroll
        for (int part = 0; part < SIZE / IN; part++) {
            Vector<From> vector = load_vector(x + v * SIZE + part * IN);
#pragma unroll
            for (int i = 0; i < IN; i++) values[part * IN + i] = vector[i];
        }
#pragma unroll
        for (int part = 0; part < SIZE / OUT; part++) {
            Vector<To> vector;
#pragma unroll
            for (int i = 0; i < OUT; i++) vector.set(i, values[part * OUT + i]);
            store_vector(out + v * SIZE + part * OUT, vector);
        }
    }
    unsigned long long rest = whole * SIZE + global_thread();
    if (rest < count) out[rest] = To(float(x[rest]));
}

#define DEFINE(From, from, To, to)                                              \
    KERNEL cast_##from##_##to(const From* x, To* out, unsigned long long count) { \
        cast(x, out, count);                                                    \
    }                                                                           \
    REGISTER(cast_##from##_##to)
DEFINE(float, f32, __nv_bfloat16, bf16)
DEFINE(float, f32, __half, f16)
DEFINE(__nv_bfloat16, bf16, float, f32)
DEFINE(__half, f16, float, f32)
DEFINE(__nv_bfloat16, bf16, __half, f16)
DEFINE(__half, f16, __nv_bfloat16, bf16)
#undef DEFINE
