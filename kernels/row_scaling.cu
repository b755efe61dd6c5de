// Rows that their own values scale, or those of a like tensor; columns that a vector scales. In place.
//
// x, like  [rows, columns]
// factors  float32 [columns]
//
// match_magnitude   x *= rms(like) / sqrt(max(mean(x^2), floor)), row by row
// keep_largest      x = max(x - mean - deviations * sigma, 0), with mean and standard deviation of the row
// multiply_columns  x[:, c] *= factors[c]
//
// A block a row (grid-stride); rows are read from memory once and then from the caches. Moves 2 size(x)
// bytes, match_magnitude 3; bound by memory.
#include "numeric.cuh"
#include "reduce.cuh"

template <class T>
__device__ __forceinline__ void match_magnitude(T* x, const T* like, int rows, int columns,
                                                float floor) {
    SHARED(float, sums, [32]);
    for (int row = blockIdx.x; row < rows; row += gridDim.x) {
        T* own = x + (size_t)row * columns;
        const T* other = like + (size_t)row * columns;
        float squares = 0.0f, wanted = 0.0f;
        for (int i = threadIdx.x; i < columns; i += blockDim.x) {
            squares += float(own[i]) * float(own[i]);
            wanted += float(other[i]) * float(other[i]);
        }
        squares = block_sum(squares, sums) / columns;
        wanted = block_sum(wanted, sums) / columns;
        const float factor = sqrtf(wanted) / sqrtf(fmaxf(squares, floor));
        for (int i = threadIdx.x; i < columns; i += blockDim.x) own[i] = T(float(own[i]) * factor);
    }
}

template <class T>
__device__ __forceinline__ void keep_largest(T* x, int rows, int columns, float deviations) {
    SHARED(float, sums, [32]);
    for (int row = blockIdx.x; row < rows; row += gridDim.x) {
        T* own = x + (size_t)row * columns;
        float sum = 0.0f, squares = 0.0f;
        for (int i = threadIdx.x; i < columns; i += blockDim.x) sum += float(own[i]);
        const float mean = block_sum(sum, sums) / columns;
        for (int i = threadIdx.x; i < columns; i += blockDim.x) {
            const float distance = float(own[i]) - mean;
            squares += distance * distance;
        }
        const float cutoff = mean + sqrtf(block_sum(squares, sums) / columns) * deviations;
        for (int i = threadIdx.x; i < columns; i += blockDim.x) {
            // Not fmaxf, which would turn NaN into 0.
            const float rest = float(own[i]) - cutoff;
            own[i] = T(rest < 0.0f ? 0.0f : rest);
        }
    }
}

template <class T>
__device__ __forceinline__ void multiply_columns(T* x, const float* factors, int rows,
                                                 int columns) {
    for (int row = blockIdx.x; row < rows; row += gridDim.x) {
        T* own = x + (size_t)row * columns;
        for (int i = threadIdx.x; i < columns; i += blockDim.x) {
            own[i] = T(float(own[i]) * factors[i]);
        }
    }
}

#define DEFINE(T, suffix)                                                                       \
    KERNEL match_magnitude_##suffix(T* x, const T* like, int rows, int columns, float floor) {  \
        match_magnitude(x, like, rows, columns, floor);                                         \
    }                                                                                           \
    REGISTER(match_magnitude_##suffix)                                                          \
    KERNEL keep_largest_##suffix(T* x, int rows, int columns, float deviations) {               \
        keep_largest(x, rows, columns, deviations);                                             \
    }                                                                                           \
    REGISTER(keep_largest_##suffix)                                                             \
    KERNEL multiply_columns_##suffix(T* x, const float* factors, int rows, int columns) {       \
        multiply_columns(x, factors, rows, columns);                                            \
    }                                                                                           \
    REGISTER(multiply_columns_##suffix)
FOR_EACH_FLOAT(DEFINE)
#undef DEFINE
