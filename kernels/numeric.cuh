// Element types and 16-byte vectors of them. Arithmetic is in float32 throughout.
#pragma once
#include "device.cuh"

// The values of one 16-byte access: 4 of float32, 8 of 16 bits.
template <class T>
struct Vector {
    static constexpr int SIZE = 16 / sizeof(T);
    T values[SIZE];

    __device__ __forceinline__ float operator[](int i) const { return float(values[i]); }
    __device__ __forceinline__ void set(int i, float value) { values[i] = T(value); }
};

template <class T>
__device__ __forceinline__ Vector<T> load_vector(const T* place) {
    uint4 raw = load_16(place);
    Vector<T> vector;
    memcpy(&vector, &raw, sizeof raw);
    return vector;
}

template <class T>
__device__ __forceinline__ void store_vector(T* place, const Vector<T>& vector) {
    uint4 raw;
    memcpy(&raw, &vector, sizeof raw);
    store_16(place, raw);
}

// Four neighbours, 16-byte aligned, in shared memory.
__device__ __forceinline__ float4 four(const float* place) {
    return *reinterpret_cast<const float4*>(place);
}

// Index of this thread in a grid of one dimension, and how many there are.
__device__ __forceinline__ unsigned long long global_thread() {
    return (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ unsigned long long global_threads() {
    return (unsigned long long)gridDim.x * blockDim.x;
}
