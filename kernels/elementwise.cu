// Operations on single values, in place: activations, gates, x *= y, x += y, x = x a + b, clamp.
//
// x, y  `count` values; both start at 16-byte boundaries
//       of gate_halves x has rows of gates and what they multiply, and the result is another tensor
//       of multiply_heads y has `count / width`, one for `width` neighbouring values of x
//
// Grid-stride over 16-byte vectors, a partial one at the end value by value. One-operand kernels
// move 2 size(x) bytes, two-operand ones 3 size(x); bound by memory (a gate with an
// exponential costs some 37 instructions a value, for 16-bit values 2/3 of the memory's time on an H100
// and nearly all of it on an H200: docs/cuda-bounds.md).
#include "activation.cuh"
#include "numeric.cuh"

// x = f(x, i) for all indices i
template <class T, class F>
__device__ __forceinline__ void update(T* x, unsigned long long count, F f) {
    constexpr int SIZE = Vector<T>::SIZE;
    unsigned long long whole = count / SIZE;
    for (unsigned long long v = global_thread(); v < whole; v += global_threads()) {
        f.start(v * SIZE);
        Vector<T> vector = load_vector(x + v * SIZE);
#pragma unroll
        for (int i = 0; i < SIZE; i++) vector.set(i, f(vector[i], i));
        store_vector(x + v * SIZE, vector);
    }
    unsigned long long rest = whole * SIZE + global_thread();
    if (rest < count) x[rest] = T(f.single(float(x[rest]), rest));
}

// f(x)
template <class F>
struct OneOperand {
    F f;
    __device__ __forceinline__ void start(unsigned long long) {}
    __device__ __forceinline__ float operator()(float x, int) { return f(x); }
    __device__ __forceinline__ float single(float x, unsigned long long) { return f(x); }
};
template <class F>
__device__ __forceinline__ OneOperand<F> one_operand(F f) {
    return {f};
}

// f(x, y)
template <class T, class F>
struct TwoOperands {
    const T* y;
    F f;
    Vector<T> vector;
    __device__ __forceinline__ void start(unsigned long long index) {
        vector = load_vector(y + index);
    }
    __device__ __forceinline__ float operator()(float x, int i) { return f(x, vector[i]); }
    __device__ __forceinline__ float single(float x, unsigned long long index) {
        return f(x, float(y[index]));
    }
};
template <class T, class F>
__device__ __forceinline__ TwoOperands<T, F> two_operands(const T* y, F f) {
    return {y, f, {}};
}

// x y, where a y counts for `width` neighbouring values
template <class T>
struct HeadFactors {
    const T* y;
    int width;
    unsigned long long first;
    __device__ __forceinline__ void start(unsigned long long index) { first = index; }
    __device__ __forceinline__ float operator()(float x, int i) { return single(x, first + i); }
    __device__ __forceinline__ float single(float x, unsigned long long index) {
        return x * float(y[index / width]);
    }
};

// out = activation(the first half of a row of x) * its second half, rounded in between as gate does. A block per
// row (grid-stride), in 16-byte vectors where a half is whole ones.
template <class T>
__device__ __forceinline__ void gate_halves(const T* x, T* out, int rows, int columns,
                                            int activation, float parameter) {
    constexpr int SIZE = Vector<T>::SIZE;
    for (int row = blockIdx.x; row < rows; row += gridDim.x) {
        const T* gate = x + (size_t)row * 2 * columns;
        const T* up = gate + columns;
        T* to = out + (size_t)row * columns;
        if (columns % SIZE == 0) {
            for (int i = threadIdx.x * SIZE; i < columns; i += blockDim.x * SIZE) {
                Vector<T> gates = load_vector(gate + i), ups = load_vector(up + i);
#pragma unroll
                for (int j = 0; j < SIZE; j++) {
                    gates.set(j, float(T(activate(gates[j], activation, parameter))) * ups[j]);
                }
                store_vector(to + i, gates);
            }
        } else {
            for (int i = threadIdx.x; i < columns; i += blockDim.x) {
                float value = float(T(activate(float(gate[i]), activation, parameter)));
                to[i] = T(value * float(up[i]));
            }
        }
    }
}

#define DEFINE(T, suffix)                                                                      \
    KERNEL activate_##suffix(T* x, unsigned long long count, int activation, float parameter) { \
        update(x, count,                                                                       \
               one_operand([=](float x) { return activate(x, activation, parameter); }));      \
    }                                                                                          \
    REGISTER(activate_##suffix)                                                                \
    KERNEL xielu_##suffix(T* x, unsigned long long count, float square, float exponential,     \
                          float linear, float limit) {                                         \
        update(x, count, one_operand([=](float x) {                                            \
                   return xielu(x, square, exponential, linear, limit);                        \
               }));                                                                            \
    }                                                                                          \
    REGISTER(xielu_##suffix)                                                                   \
    /* Rounded in between, so that it does not matter whether the activation is looked at. */  \
    KERNEL gate_##suffix(T* x, const T* y, unsigned long long count, int activation,           \
                         float parameter) {                                                    \
        update(x, count, two_operands(y, [=](float x, float y) {                               \
                   return float(T(activate(x, activation, parameter))) * y;                    \
               }));                                                                            \
    }                                                                                          \
    REGISTER(gate_##suffix)                                                                    \
    KERNEL gate_halves_##suffix(const T* x, T* out, int rows, int columns, int activation,     \
                                float parameter) {                                             \
        gate_halves(x, out, rows, columns, activation, parameter);                             \
    }                                                                                          \
    REGISTER(gate_halves_##suffix)                                                             \
    KERNEL affine_##suffix(T* x, unsigned long long count, float factor, float offset) {       \
        update(x, count, one_operand([=](float x) { return x * factor + offset; }));           \
    }                                                                                          \
    REGISTER(affine_##suffix)                                                                  \
    /* Not fmin and fmax, which would hide a NaN. */                                           \
    KERNEL clamp_##suffix(T* x, unsigned long long count, float low, float high) {             \
        update(x, count,                                                                       \
               one_operand([=](float x) { return x < low ? low : x > high ? high : x; }));     \
    }                                                                                          \
    REGISTER(clamp_##suffix)                                                                   \
    KERNEL multiply_##suffix(T* x, const T* y, unsigned long long count) {                     \
        update(x, count, two_operands(y, [](float x, float y) { return x * y; }));             \
    }                                                                                          \
    REGISTER(multiply_##suffix)                                                                \
    KERNEL multiply_heads_##suffix(T* x, const T* y, unsigned long long count, int width) {    \
        update(x, count, HeadFactors<T>{y, width, 0});                                         \
    }                                                                                          \
    REGISTER(multiply_heads_##suffix)                                                          \
    KERNEL add_##suffix(T* x, const T* y, unsigned long long count) {                          \
        update(x, count, two_operands(y, [](float x, float y) { return x + y; }));             \
    }                                                                                          \
    REGISTER(add_##suffix)
FOR_EACH_FLOAT(DEFINE)
#undef DEFINE
