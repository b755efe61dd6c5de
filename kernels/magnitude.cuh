// |x| as an integer that orders as |x| does: the bits of a float without its sign.
#pragma once
#include "device.cuh"

template <class T>
struct Magnitude;

template <>
struct Magnitude<float> {
    using Raw = uint32_t;
    static constexpr int BITS = 31;
    static constexpr unsigned INFINITE = 0x7f800000u;
};
template <>
struct Magnitude<__nv_bfloat16> {
    using Raw = uint16_t;
    static constexpr int BITS = 15;
    static constexpr unsigned INFINITE = 0x7f80u;
};
template <>
struct Magnitude<__half> {
    using Raw = uint16_t;
    static constexpr int BITS = 15;
    static constexpr unsigned INFINITE = 0x7c00u;
};

// The magnitudes in one 16-byte vector.
template <class T>
struct MagnitudeVector {
    static constexpr int SIZE = 16 / sizeof(T);
    typename Magnitude<T>::Raw raw[SIZE];

    __device__ __forceinline__ unsigned operator[](int i) const {
        return raw[i] & ((1u << Magnitude<T>::BITS) - 1u);
    }
    // The signed value.
    __device__ __forceinline__ float value(int i) const {
        T value;
        memcpy(&value, &raw[i], sizeof value);
        return float(value);
    }
};

template <class T>
__device__ __forceinline__ MagnitudeVector<T> load_magnitudes(const T* place) {
    uint4 bits = load_16(place);
    MagnitudeVector<T> vector;
    memcpy(&vector, &bits, sizeof bits);
    return vector;
}

// The float with this magnitude.
template <class T>
__device__ __forceinline__ float magnitude_value(unsigned magnitude) {
    typename Magnitude<T>::Raw raw = magnitude;
    T value;
    memcpy(&value, &raw, sizeof raw);
    return float(value);
}
