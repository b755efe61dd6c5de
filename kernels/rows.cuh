// Rows to other places, and sums of rows: a block per row (grid-stride).
#pragma once
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

// out[rows[i]] += x[i] * factors[i], with rows[i] = i and factors[i] = 1 where there is no list; no row
// is named twice in one call
template <class T>
__device__ __forceinline__ void add(T* out, const T* x, const unsigned* rows,
                                    const float* factors, int count, int columns) {
    for (int i = blockIdx.x; i < count; i += gridDim.x) {
        T* to = out + (size_t)(rows ? rows[i] : i) * columns;
        const T* from = x + (size_t)i * columns;
        const float factor = factors ? factors[i] : 1.0f;
        for (int column = threadIdx.x; column < columns; column += blockDim.x) {
            to[column] = T(float(to[column]) + float(from[column]) * factor);
        }
    }
}

// x[i] *= factors[i]
template <class T>
__device__ __forceinline__ void scale(T* x, const float* factors, int count, int columns) {
    for (int i = blockIdx.x; i < count; i += gridDim.x) {
        T* row = x + (size_t)i * columns;
        for (int column = threadIdx.x; column < columns; column += blockDim.x) {
            row[column] = T(float(row[column]) * factors[i]);
        }
    }
}
