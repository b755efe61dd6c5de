// Moving rows: gather, weighted scatter-add (mixture of experts), and heads that share a part.
//
// A block per row (grid-stride). All move their tensors once and are bound by memory.
#include "device.cuh"

// out[i] = x[rows[i]]
template <class T>
__device__ __forceinline__ void gather(const T* x, T* out, const unsigned* rows, int count,
                                       int columns) {
    for (int i = blockIdx.x; i < count; i += gridDim.x) {
        const T* from = x + (size_t)rows[i] * columns;
        for (int column = threadIdx.x; column < columns; column += blockDim.x) {
            out[(size_t)i * columns + column] = from[column];
        }
    }
}

// out[rows[i]] += x[i] * factors[i], with rows[i] = i where there is no list; no row is named twice in
// one call
template <class T>
__device__ __forceinline__ void scatter_add(T* out, const T* x, const unsigned* rows,
                                            const float* factors, int count, int columns) {
    for (int i = blockIdx.x; i < count; i += gridDim.x) {
        T* to = out + (size_t)(rows ? rows[i] : i) * columns;
        const T* from = x + (size_t)i * columns;
        for (int column = threadIdx.x; column < columns; column += blockDim.x) {
            to[column] = T(float(to[column]) + float(from[column]) * factors[i]);
        }
    }
}

// Every head of `own` ([rows, heads * first]) followed by the row of `shared` ([rows, second])
template <class T>
__device__ __forceinline__ void join(const T* own, const T* shared, T* out, int rows, int heads,
                                     int first, int second) {
    const int width = first + second;
    for (int row = blockIdx.x; row < rows; row += gridDim.x) {
        for (int i = threadIdx.x; i < heads * width; i += blockDim.x) {
            int head = i / width, column = i % width;
            out[(size_t)row * heads * width + i] =
                column < first ? own[((size_t)row * heads + head) * first + column]
                               : shared[(size_t)row * second + column - first];
        }
    }
}

#define DEFINE(T, suffix)                                                                       \
    KERNEL gather_rows_##suffix(const T* x, T* out, const unsigned* rows, int count,            \
                                int columns) {                                                  \
        gather(x, out, rows, count, columns);                                                   \
    }                                                                                           \
    REGISTER(gather_rows_##suffix)                                                              \
    KERNEL add_rows_##suffix(T* out, const T* x, const unsigned* rows, const float* factors,    \
                             int count, int columns) {                                          \
        scatter_add(out, x, rows, factors, count, columns);                                     \
    }                                                                                           \
    REGISTER(add_rows_##suffix)                                                                 \
    KERNEL join_heads_##suffix(const T* own, const T* shared, T* out, int rows, int heads,      \
                               int first, int second) {                                         \
        join(own, shared, out, rows, heads, first, second);                                     \
    }                                                                                           \
    REGISTER(join_heads_##suffix)
FOR_EACH_FLOAT(DEFINE)
#undef DEFINE
