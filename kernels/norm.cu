// RMSNorm, LayerNorm and DyT of groups of `width` neighbouring values: a whole row, or a head of it.
// Of a residual stream first what is added to it, so that the sum is not read again.
//
// x, out        [groups, width]; x may be in float32 where out is in 16 bits
// added         [groups, width] in the type of x, or null; x becomes x + added
// weight, bias  float32 [parts, width] or null; group g uses part g % parts, so that one vector
//               serves every row, or every head has its own
// alpha         float32 [alphas], DyT's factor inside the tanh; group g uses g % alphas
//
// A team normalises a group: a warp where groups are narrow (norm_warp_*, four a block), else a
// block (norm_block_*). Its members take chunks of 8 neighbouring values, by 16-byte accesses where
// every group starts at a boundary (8 divides the width), else value by value. The group is read from
// memory once, into registers of float32 as far as they reach, else from the first-level cache again.
// Moves size(x) + size(out) bytes, with `added` 2 size(x) more; bound by memory.
#include "numeric.cuh"
#include "reduce.cuh"

// KEPT is the number of chunks that a member keeps in registers, THREADS the most of a block.
struct WarpTeam {
    static constexpr int THREADS = NORM_WARPS * 32;
    static constexpr int KEPT = 2;
    static __device__ __forceinline__ unsigned long long group() {
        return (unsigned long long)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    }
    static __device__ __forceinline__ int member() { return threadIdx.x % 32; }
    static __device__ __forceinline__ int size() { return 32; }
    static __device__ __forceinline__ float sum(float value, float*) { return warp_sum(value); }
};

struct BlockTeam {
    static constexpr int THREADS = NORM_BLOCK_THREADS;
    static constexpr int KEPT = 1;
    static __device__ __forceinline__ unsigned long long group() { return blockIdx.x; }
    static __device__ __forceinline__ int member() { return threadIdx.x; }
    static __device__ __forceinline__ int size() { return blockDim.x; }
    static __device__ __forceinline__ float sum(float value, float* sums) {
        return block_sum(value, sums);
    }
};

// A chunk of a row in float32; what is beyond the row's end is 0.
struct Chunk {
    float values[NORM_CHUNK];

    // `vectors`: whether the row consists of whole chunks at 16-byte boundaries.
    template <class T>
    __device__ __forceinline__ void load(const T* row, int column, int width, bool vectors) {
        if (vectors && column < width) {
#pragma unroll
            for (int first = 0; first < NORM_CHUNK; first += Vector<T>::SIZE) {
                Vector<T> vector = load_vector(row + column + first);
#pragma unroll
                for (int i = 0; i < Vector<T>::SIZE; i++) values[first + i] = vector[i];
            }
        } else {
#pragma unroll
            for (int i = 0; i < NORM_CHUNK; i++) {
                values[i] = column + i < width ? float(row[column + i]) : 0.0f;
            }
        }
    }

    template <class T>
    __device__ __forceinline__ void store(T* row, int column, int width, bool vectors) const {
        if (vectors && column < width) {
            // 8 values of 16 bits are one access, of float32 two.
#pragma unroll
            for (int first = 0; first < NORM_CHUNK; first += Vector<T>::SIZE) {
                Vector<T> vector;
#pragma unroll
                for (int i = 0; i < Vector<T>::SIZE; i++) vector.set(i, values[first + i]);
                store_vector(row + column + first, vector);
            }
        } else {
#pragma unroll
            for (int i = 0; i < NORM_CHUNK; i++) {
                if (column + i < width) row[column + i] = T(values[i]);
            }
        }
    }
};

template <class Team, class In, class Out>
__device__ __forceinline__ void normalise(In* x, const In* added, Out* out, const float* weight,
                                          const float* bias, const float* alpha,
                                          unsigned long long groups, int width, int parts,
                                          int alphas, int kind, float epsilon) {
    SHARED(float, sums, [32]);
    unsigned long long group = Team::group();
    // Whole teams leave, so the others' barriers stay complete.
    if (group >= groups) return;
    In* row = x + group * width;
    // Promised to be elsewhere, or each read would wait for the write before.
    const In* __restrict__ added_row = added + group * width;
    Out* out_row = out + group * width;
    const bool vectors = width % NORM_CHUNK == 0;

    constexpr int KEPT = Team::KEPT;
    const int stride = Team::size() * NORM_CHUNK, first = Team::member() * NORM_CHUNK;
    Chunk kept[KEPT];
#pragma unroll
    for (int i = 0; i < KEPT; i++) kept[i].load(row, first + i * stride, width, vectors);
    // f(chunk, column) for all chunks of this member, those that no register holds read again.
    auto for_each_chunk = [&](auto f) {
#pragma unroll
        for (int i = 0; i < KEPT; i++) f(kept[i], first + i * stride);
#pragma unroll 1
        for (int column = first + KEPT * stride; column < width; column += stride) {
            Chunk chunk;
            chunk.load(row, column, width, vectors);
            f(chunk, column);
        }
    };
    if (added) {
        for_each_chunk([&](Chunk& chunk, int column) {
            Chunk other;
            other.load(added_row, column, width, vectors);
            // The sum counts as it is stored.
#pragma unroll
            for (int i = 0; i < NORM_CHUNK; i++) {
                chunk.values[i] = float(In(chunk.values[i] + other.values[i]));
            }
            chunk.store(row, column, width, vectors);
        });
    }
    float mean = 0.0f;
    if (kind == NORM_LAYER) {
        float total = 0.0f;
        for_each_chunk([&](const Chunk& chunk, int) {
#pragma unroll
            for (int i = 0; i < NORM_CHUNK; i++) total += chunk.values[i];
        });
        mean = Team::sum(total, sums) / width;
    }

    // From the mean rather than as a difference of squares, which would cancel.
    float squares = 0.0f;
    for_each_chunk([&](const Chunk& chunk, int column) {
#pragma unroll
        for (int i = 0; i < NORM_CHUNK; i++) {
            float distance = chunk.values[i] - mean;
            if (column + i < width) squares += distance * distance;
        }
    });
    float inverse = 1.0f / sqrtf(Team::sum(squares, sums) / width + epsilon);
    float inner = kind == NORM_TANH ? alpha[group % alphas] : 0.0f;

    const size_t part = (size_t)(group % parts) * width;
    for_each_chunk([&](Chunk& chunk, int column) {
#pragma unroll
        for (int i = 0; i < NORM_CHUNK; i++) {
            float value = chunk.values[i];
            chunk.values[i] = kind == NORM_TANH ? tanhf(inner * value) : (value - mean) * inverse;
        }
        Chunk learned;
        if (weight) {
            learned.load(weight + part, column, width, vectors);
#pragma unroll
            for (int i = 0; i < NORM_CHUNK; i++) chunk.values[i] *= learned.values[i];
        }
        if (bias) {
            learned.load(bias + part, column, width, vectors);
#pragma unroll
            for (int i = 0; i < NORM_CHUNK; i++) chunk.values[i] += learned.values[i];
        }
        chunk.store(out_row, column, width, vectors);
    });
}

#define DEFINE_TEAM(In, in, Out, to, Team, team)                                             \
    KERNEL_BOUNDED(Team::THREADS, 1) norm_##team##_##in##_##to(                    \
        In* x, const In* added, Out* out, const float* weight, const float* bias,            \
        const float* alpha, unsigned long long groups, int width, int parts, int alphas,     \
        int kind, float epsilon) {                                                           \
        normalise<Team>(x, added, out, weight, bias, alpha, groups, width, parts, alphas,    \
                        kind, epsilon);                                                      \
    }                                                                                        \
    REGISTER(norm_##team##_##in##_##to)
#define DEFINE(In, in, Out, to)                  \
    DEFINE_TEAM(In, in, Out, to, WarpTeam, warp) \
    DEFINE_TEAM(In, in, Out, to, BlockTeam, block)
DEFINE(float, f32, float, f32)
DEFINE(float, f32, __nv_bfloat16, bf16)
DEFINE(float, f32, __half, f16)
DEFINE(__nv_bfloat16, bf16, __nv_bfloat16, bf16)
DEFINE(__half, f16, __half, f16)
#undef DEFINE
#undef DEFINE_TEAM
