// Rotary position embedding, in place: rotates pairs of dimensions of every head.
//
// x         [rows, heads * head_dim]; the rotated part of a head starts at `first`
// cos, sin  float32 [positions, pairs]; row r of the call has position r
// A pair is dimension i with i + pairs, or 2i with 2i + 1 where `interleaved`.
//
// A block per row (grid-stride), a thread per pair. Moves twice the rotated part of x and, from
// cache, the tables; bound by memory.
#include "device.cuh"

template <class T>
__device__ __forceinline__ void rotate(T* x, const float* cosines, const float* sines, int rows,
                                       int heads, int head_dim, int first, int pairs,
                                       int interleaved) {
    for (int row = blockIdx.x; row < rows; row += gridDim.x) {
        const float* cosine = cosines + (size_t)row * pairs;
        const float* sine = sines + (size_t)row * pairs;
        for (int i = threadIdx.x; i < heads * pairs; i += blockDim.x) {
            int pair = i % pairs;
            T* part = x + ((size_t)row * heads + i / pairs) * head_dim + first;
            T* left = part + (interleaved ? 2 * pair : pair);
            T* right = left + (interleaved ? 1 : pairs);
            float a = float(*left), b = float(*right);
            *left = T(a * cosine[pair] - b * sine[pair]);
            *right = T(b * cosine[pair] + a * sine[pair]);
        }
    }
}

#define DEFINE(T, suffix)                                                                        \
    KERNEL rotate_##suffix(T* x, const float* cosines, const float* sines, int rows, int heads,  \
                           int head_dim, int first, int pairs, int interleaved) {                \
        rotate(x, cosines, sines, rows, heads, head_dim, first, pairs, interleaved);             \
    }                                                                                            \
    REGISTER(rotate_##suffix)
FOR_EACH_FLOAT(DEFINE)
#undef DEFINE
