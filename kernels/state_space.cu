// Mamba-2 (Dao and Gu 2024, arXiv 2405.21060): of each sequence and head, from S = 0, S [head_dim, state]:
//
//   dt = clamp(softplus(dt + dt_bias))
//   S = exp(-exp(a_log) dt) S + dt x b^T;  y = S c + d x
//
// x, out     [rows, heads * head_dim]
// b, c       [rows, groups * state]; head h reads group h / (heads / groups)
// dt         [rows, heads], as the projection made it
// a_log, dt_bias, d  float32 [heads]
// sequences  a tile for each, the longest first, so that the last blocks are short
//
// Grid: (heads * slices, sequences), a slice being RECURRENCE_COLUMNS values of a head; token after token, as
// recurrence.cuh says, with b as the keys and c as the queries.
//
// A token of a head: 5 head_dim state FLOP, on the FMA units, which keep the state in float32. With 128
// numbers a state a warp, which has 8 of a head's values, takes 170 instructions a token, and some 20 to
// prepare it: by that count it is bound by their issue where a scheduler has two warps or more (64 heads of
// 64 values in two sequences on 132 multiprocessors), else by the latency of a token. Memory carries x and
// out once, b and c, from the L2 cache where they fit, as often as a group has slices.
#include "attention/arguments.cuh"
#include "recurrence.cuh"

template <class T, int W>
struct StateSpace {
    static constexpr int WIDTH = W, OWN = W / 32;
    static constexpr bool CORRECTS = false, ROW_DECAYS = false;
    using Tile = RecurrenceTile<WIDTH, ROW_DECAYS>;

    // Of the sequence's first token: this head's part, of x the block's.
    const T *x, *b, *c, *dt;
    size_t x_stride, group_stride, dt_stride;
    int state, columns;
    float rate, dt_bias, low, high, skip;

    struct Token {
        T b[OWN], c[OWN], x;
    };
    struct Gates {
        T dt;
    };

    __device__ __forceinline__ void read(Token& token, int row, bool there) const {
        const int lane = threadIdx.x % 32, width = there ? state : 0;
        read_own(token.b, b + row * group_stride, width);
        read_own(token.c, c + row * group_stride, width);
        token.x = there && lane < columns ? x[row * x_stride + lane] : T(0.0f);
    }
    __device__ __forceinline__ void read(Gates& gates, int row, bool there) const {
        gates.dt = there ? dt[row * dt_stride] : T(0.0f);
    }

    __device__ __forceinline__ void prepare(const Token& token, Tile& tile, int place) const {
        const int lane = threadIdx.x % 32;
        float key[OWN], query[OWN], product = 0.0f;
#pragma unroll
        for (int i = 0; i < OWN; i++) {
            key[i] = float(token.b[i]), query[i] = float(token.c[i]);
            product += key[i] * query[i];
        }
        product = warp_sum(product);
        write_own(tile.keys[place], key);
        write_own(tile.queries[place], query);
        tile.values[place][lane] = float(token.x);
        if (lane == 0) tile.products[place] = product;
    }
    __device__ __forceinline__ void prepare(const Gates& gates, Tile& tile, int place) const {
        float step = softplus(float(gates.dt) + dt_bias);
        // Not fmin and fmax, which would hide a NaN.
        step = step < low ? low : step > high ? high : step;
        tile.decays[place][0] = expf(rate * step);
        tile.strengths[place] = step;
    }
};

template <class T, int WIDTH>
__device__ __forceinline__ void state_space(const T* x, const T* b, const T* c, const T* dt,
                                            const float* a_log, const float* dt_bias, const float* d,
                                            T* out, const AttentionTile* sequences, int heads, int head_dim,
                                            int groups, int state, float low, float high) {
    const int slices = (head_dim + RECURRENCE_COLUMNS - 1) / RECURRENCE_COLUMNS;
    const int head = blockIdx.x / slices, first = blockIdx.x % slices * RECURRENCE_COLUMNS;
    const size_t start = sequences[blockIdx.y].start;
    const int length = sequences[blockIdx.y].length;
    const size_t x_stride = (size_t)heads * head_dim, group_stride = (size_t)groups * state;
    const size_t group = start * group_stride + (size_t)(head / (heads / groups)) * state;
    const size_t place = start * x_stride + (size_t)head * head_dim + first;
    const int columns = min(RECURRENCE_COLUMNS, head_dim - first);
    const StateSpace<T, WIDTH> rule{x + place,
                                    b + group,
                                    c + group,
                                    dt + start * heads + head,
                                    x_stride,
                                    group_stride,
                                    (size_t)heads,
                                    state,
                                    columns,
                                    -expf(a_log[head]),
                                    dt_bias[head],
                                    low,
                                    high,
                                    d[head]};
    walk(rule, out + place, length, columns, x_stride);
}

#define DEFINE(T, suffix, width)                                                                   \
    KERNEL_BOUNDED(RECURRENCE_THREADS, 1)                                                          \
    state_space_##width##_##suffix(const T* x, const T* b, const T* c, const T* dt,                \
                                   const float* a_log, const float* dt_bias, const float* d,       \
                                   T* out, const AttentionTile* sequences, int heads, int head_dim,          \
                                   int groups, int state, float low, float high) {                 \
        state_space<T, width>(x, b, c, dt, a_log, dt_bias, d, out, sequences, heads, head_dim,     \
                              groups, state, low, high);                                           \
    }                                                                                              \
    REGISTER(state_space_##width##_##suffix)
RECURRENCE_KERNELS(DEFINE, float, f32)
RECURRENCE_KERNELS(DEFINE, __nv_bfloat16, bf16)
RECURRENCE_KERNELS(DEFINE, __half, f16)
#undef DEFINE
