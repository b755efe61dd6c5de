// Weights that are made (packed.cuh), for timing models that nobody has: nothing is moved but the result.
#include "packed.cuh"

// src/model/weights/encodings/random.rs. No parts. Numbers: the seed. Factor: the spread.
struct Random {
    unsigned start;
    float spread;

    __device__ __forceinline__ Random(const PackedArguments& p, int line) : spread(p.factor) {
        unsigned x = (unsigned)p.numbers[0] ^ (unsigned)line * STEP;
        x = (x ^ x >> 16) * 0x7feb352du;
        x = (x ^ x >> 15) * 0x846ca68bu;
        start = x ^ x >> 16;
    }

    __device__ __forceinline__ float operator()(int column) const {
        unsigned x = start + (unsigned)column * STEP;
        x = (x ^ x >> 15) * 0x2c1b3c6du;
        // Exact up to the last product.
        return ((float)(int)(x >> 8) * 0x1p-24f - 0.5f) * spread;
    }

    static constexpr unsigned STEP = 0x9e3779b9u;
};
DEFINE_DECODES(random, Random, decode_by_output)
