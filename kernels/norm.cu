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
// block (norm_block_*). The group is read from memory once, into registers of float32 as far as
// they reach, else from the first-level cache again. Moves size(x) + size(out) bytes, with `added`
// 2 size(x) more; bound by memory.
#include "numeric.cuh"
#include "reduce.cuh"

enum NormKind { RMS, LAYER, TANH };

// KEPT is the number of values that a member keeps in registers.
struct WarpTeam {
    static constexpr int KEPT = 16;
    static __device__ __forceinline__ unsigned long long group() {
        return (unsigned long long)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    }
    static __device__ __forceinline__ int member() { return threadIdx.x % 32; }
    static __device__ __forceinline__ int size() { return 32; }
    static __device__ __forceinline__ float sum(float value, float*) { return warp_sum(value); }
};

struct BlockTeam {
    static constexpr int KEPT = 8;
    static __device__ __forceinline__ unsigned long long group() { return blockIdx.x; }
    static __device__ __forceinline__ int member() { return threadIdx.x; }
    static __device__ __forceinline__ int size() { return blockDim.x; }
    static __device__ __forceinline__ float sum(float value, float* sums) {
        return block_sum(value, sums);
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

    constexpr int KEPT = Team::KEPT;
    float kept[KEPT];
#pragma unroll
    for (int i = 0; i < KEPT; i++) {
        int column = Team::member() + i * Team::size();
        kept[i] = column < width ? float(row[column]) : 0.0f;
    }
    const int beyond = Team::member() + KEPT * Team::size();
    if (added) {
#pragma unroll
        for (int i = 0; i < KEPT; i++) {
            int column = Team::member() + i * Team::size();
            if (column >= width) continue;
            // The sum counts as it is stored.
            In sum = In(kept[i] + float(added_row[column]));
            row[column] = sum;
            kept[i] = float(sum);
        }
#pragma unroll 1
        for (int column = beyond; column < width; column += Team::size()) {
            row[column] = In(float(row[column]) + float(added_row[column]));
        }
    }
    float total = 0.0f;
#pragma unroll
    for (int i = 0; i < KEPT; i++) total += kept[i];
#pragma unroll 1
    for (int column = beyond; column < width; column += Team::size()) total += float(row[column]);
    float mean = kind == LAYER ? Team::sum(total, sums) / width : 0.0f;

    // From the mean rather than as a difference of squares, which would cancel.
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < KEPT; i++) {
        float distance = kept[i] - mean;
        if (Team::member() + i * Team::size() < width) squares += distance * distance;
    }
#pragma unroll 1
    for (int column = beyond; column < width; column += Team::size()) {
        float distance = float(row[column]) - mean;
        squares += distance * distance;
    }
    float inverse = 1.0f / sqrtf(Team::sum(squares, sums) / width + epsilon);
    float inner = kind == TANH ? alpha[group % alphas] : 0.0f;

    const size_t part = (size_t)(group % parts) * width;
    auto store = [&](int column, float value) {
        float result = kind == TANH ? tanhf(inner * value) : (value - mean) * inverse;
        if (weight) result *= weight[part + column];
        if (bias) result += bias[part + column];
        out_row[column] = Out(result);
    };
#pragma unroll
    for (int i = 0; i < KEPT; i++) {
        int column = Team::member() + i * Team::size();
        if (column < width) store(column, kept[i]);
    }
#pragma unroll 1
    for (int column = beyond; column < width; column += Team::size()) {
        store(column, float(row[column]));
    }
}

#define DEFINE_TEAM(In, in, Out, to, Team, team)                                             \
    KERNEL __launch_bounds__(1024, 1) norm_##team##_##in##_##to(                                \
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
