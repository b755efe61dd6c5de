// Several residual streams a token, one behind the other in its row. src/backend/cpu/streams.rs is the
// definition.
//
// x, out   [rows, count * columns]
// y        [rows, columns]
// weights  [rows, columns of theirs]: `pre` of each stream, then perhaps `post`, then `mix` row by row
//
// spread          every stream of `out` is x
// stream_weights  products to weights, in place
// collapse        out = sum_n weights_n x_n, or the plain sum
// mix_streams     out_n = post_n y + sum_m mix_mn x_m
//
// A block a row (grid-stride), and of stream_weights a thread a row, which keeps all numbers of its row to
// itself. Bound by memory; mix_streams reads x `count` times, but for the first time from the caches.
#include "numeric.cuh"

template <class T>
__device__ __forceinline__ void spread(const T* x, T* out, int rows, int columns, int count) {
    for (int row = blockIdx.x; row < rows; row += gridDim.x) {
        for (int i = threadIdx.x; i < columns; i += blockDim.x) {
            const T value = x[(size_t)row * columns + i];
            for (int n = 0; n < count; n++) out[((size_t)row * count + n) * columns + i] = value;
        }
    }
}

// Divides the columns of a matrix by their sums.
__device__ __forceinline__ void balance_columns(float* mix, int count, float epsilon) {
    for (int n = 0; n < count; n++) {
        float sum = 0.0f;
        for (int m = 0; m < count; m++) sum += mix[m * count + n];
        for (int m = 0; m < count; m++) mix[m * count + n] /= sum + epsilon;
    }
}

__device__ __forceinline__ void balance_rows(float* mix, int count, float epsilon) {
    for (int m = 0; m < count; m++) {
        float sum = 0.0f;
        for (int n = 0; n < count; n++) sum += mix[m * count + n];
        for (int n = 0; n < count; n++) mix[m * count + n] /= sum + epsilon;
    }
}

__device__ __forceinline__ float gate(float x) { return 1.0f / (1.0f + expf(-x)); }

template <class T>
__device__ __forceinline__ void weights_of(T* products, const float* base, const float* scale,
                                           int rows, int columns, int count, int iterations,
                                           float epsilon) {
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;  // there is no barrier
    T* own = products + (size_t)row * columns;
    for (int i = 0; i < count; i++) {
        own[i] = T(gate(float(own[i]) * scale[0] + base[i]) + epsilon);
    }
    if (columns == count) return;
    for (int i = count; i < 2 * count; i++) {
        own[i] = T(2.0f * gate(float(own[i]) * scale[1] + base[i]));
    }
    float mix[STREAMS_MOST * STREAMS_MOST];
    own += 2 * count, base += 2 * count;
    for (int m = 0; m < count; m++) {
        float* line = mix + m * count;
        float top = -INFINITY, sum = 0.0f;
        for (int n = 0; n < count; n++) {
            line[n] = float(own[m * count + n]) * scale[2] + base[m * count + n];
            top = fmaxf(top, line[n]);
        }
        for (int n = 0; n < count; n++) sum += line[n] = expf(line[n] - top);
        for (int n = 0; n < count; n++) line[n] = line[n] / sum + epsilon;
    }
    for (int iteration = 0; iteration < iterations; iteration++) {
        if (iteration > 0) balance_rows(mix, count, epsilon);
        balance_columns(mix, count, epsilon);
    }
    for (int i = 0; i < count * count; i++) own[i] = T(mix[i]);
}

template <class T>
__device__ __forceinline__ void collapse(const T* x, const T* weights, T* out, int rows,
                                         int columns, int count, int stride) {
    for (int row = blockIdx.x; row < rows; row += gridDim.x) {
        const T* streams = x + (size_t)row * count * columns;
        for (int i = threadIdx.x; i < columns; i += blockDim.x) {
            float sum = 0.0f;
            for (int n = 0; n < count; n++) {
                const float weight = weights ? float(weights[(size_t)row * stride + n]) : 1.0f;
                sum += float(streams[(size_t)n * columns + i]) * weight;
            }
            out[(size_t)row * columns + i] = T(sum);
        }
    }
}

template <class T>
__device__ __forceinline__ void mix(const T* x, const T* y, const T* weights, T* out, int rows,
                                    int columns, int count) {
    for (int row = blockIdx.x; row < rows; row += gridDim.x) {
        const T* post = weights + (size_t)row * (2 + count) * count + count;
        const T* mixing = post + count;
        const T* streams = x + (size_t)row * count * columns;
        for (int i = threadIdx.x; i < columns; i += blockDim.x) {
            const float added = float(y[(size_t)row * columns + i]);
            for (int n = 0; n < count; n++) {
                float sum = added * float(post[n]);
                for (int m = 0; m < count; m++) {
                    sum += float(streams[(size_t)m * columns + i]) * float(mixing[m * count + n]);
                }
                out[((size_t)row * count + n) * columns + i] = T(sum);
            }
        }
    }
}

#define DEFINE(T, suffix)                                                                        \
    KERNEL spread_##suffix(const T* x, T* out, int rows, int columns, int count) {               \
        spread(x, out, rows, columns, count);                                                    \
    }                                                                                            \
    REGISTER(spread_##suffix)                                                                    \
    KERNEL_BOUNDED(STREAMS_THREADS)                                                              \
    stream_weights_##suffix(T* products, const float* base, const float* scale, int rows,        \
                            int columns, int count, int iterations, float epsilon) {             \
        weights_of(products, base, scale, rows, columns, count, iterations, epsilon);            \
    }                                                                                            \
    REGISTER(stream_weights_##suffix)                                                            \
    KERNEL collapse_##suffix(const T* x, const T* weights, T* out, int rows, int columns,        \
                             int count, int stride) {                                            \
        collapse(x, weights, out, rows, columns, count, stride);                                 \
    }                                                                                            \
    REGISTER(collapse_##suffix)                                                                  \
    KERNEL mix_streams_##suffix(const T* x, const T* y, const T* weights, T* out, int rows,      \
                                int columns, int count) {                                        \
        mix(x, y, weights, out, rows, columns, count);                                           \
    }                                                                                            \
    REGISTER(mix_streams_##suffix)
FOR_EACH_FLOAT(DEFINE)
#undef DEFINE
