// Moving rows: gather, weighted sums, factors, and heads that share a part.
//
// A block per row (grid-stride). All move their tensors once and are bound by memory.
#include "rows.cuh"

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

// Columns first..first + width of x ([rows, columns])
template <class T>
__device__ __forceinline__ void gather_columns(const T* x, T* out, int rows, int columns, int first,
                                               int width) {
    for (int row = blockIdx.x; row < rows; row += gridDim.x) {
        for (int i = threadIdx.x; i < width; i += blockDim.x) {
            out[(size_t)row * width + i] = x[(size_t)row * columns + first + i];
        }
    }
}

#define DEFINE(T, suffix)                                                                       \
    KERNEL gather_rows_##suffix(const T* x, T* out, const unsigned* rows, int count,            \
                                int columns) {                                                  \
        gather(x, out, rows, count, columns);                                                   \
    }                                                                                           \
    REGISTER(gather_rows_##suffix)                                                              \
    KERNEL gather_columns_##suffix(const T* x, T* out, int rows, int columns, int first,        \
                                   int width) {                                                 \
        gather_columns(x, out, rows, columns, first, width);                                    \
    }                                                                                           \
    REGISTER(gather_columns_##suffix)                                                           \
    KERNEL add_scaled_##suffix(T* out, const T* x, const float* factors, int count,             \
                               int columns) {                                                   \
        add(out, x, nullptr, factors, count, columns);                                          \
    }                                                                                           \
    REGISTER(add_scaled_##suffix)                                                               \
    KERNEL scale_rows_##suffix(T* x, const float* factors, int count, int columns) {            \
        scale(x, factors, count, columns);                                                      \
    }                                                                                           \
    REGISTER(scale_rows_##suffix)                                                               \
    KERNEL join_heads_##suffix(const T* own, const T* shared, T* out, int rows, int heads,      \
                               int first, int second) {                                         \
        join(own, shared, out, rows, heads, first, second);                                     \
    }                                                                                           \
    REGISTER(join_heads_##suffix)
FOR_EACH_FLOAT(DEFINE)
#undef DEFINE
