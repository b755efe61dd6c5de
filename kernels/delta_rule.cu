// The gated delta rule (Yang et al. 2024, arXiv 2412.06464): linear attention whose state unlearns what a
// key meant before. Of each sequence and value head, from S = 0, S [key_dim, value_dim]:
//
//   q, k = l2(q) / sqrt(key_dim), l2(k)     l2(x) = x / sqrt(sum x^2 + 1e-6)
//   g = -exp(a_log) softplus(a + dt_bias)   beta = beta_scale sigmoid(b)
//   S = exp(g) S;  S = S + k (beta (v - S^T k))^T;  o = S^T q
//
// q, k       [rows, key_heads * key_dim]; key head h / (heads / key_heads) serves value head h
// v, out     [rows, heads * value_dim]
// decay      a [rows, heads], or in delta_rule_channels_* [rows, heads * key_dim]: a decay for every row
//            of S (Kimi Linear)
// beta       b [rows, heads]
// a_log      float32 [heads]; dt_bias: float32, as many as a row of decay has
// sequences  a tile for each, the longest first, so that the last blocks are short
//
// Grid: (heads * slices, sequences), a slice being RECURRENCE_COLUMNS columns of S; token after token, as
// recurrence.cuh says. Norms, decay and beta of a tile are made by every block that needs them.
//
// A token of a head: 7 key_dim value_dim FLOP, on the FMA units, which keep the state in float32. With states
// of 128 x 128 a warp, which has 8 of their columns, takes 200 instructions a token, and some 30 to prepare
// it: by that count it is bound by their issue where a scheduler has two warps or more (heads * sequences of
// 66 on 132 multiprocessors), else by the latency of a token. Memory carries v and out once, q and k
// as often as a key head has value heads and slices, from the L2 cache where they fit.
#include "attention/arguments.cuh"
#include "recurrence.cuh"

template <class T, int W, bool PER_CHANNEL>
struct DeltaRule {
    static constexpr int WIDTH = W, OWN = W / 32;
    static constexpr bool CORRECTS = true, ROW_DECAYS = PER_CHANNEL;
    using Tile = RecurrenceTile<WIDTH, ROW_DECAYS>;

    // Of the sequence's first token: this head's part, of values the block's.
    const T *queries, *keys, *values, *decays, *betas;
    const float* dt_bias;
    size_t key_stride, value_stride, decay_stride, beta_stride;
    int key_dim, columns;
    float rate, beta_scale, query_scale;
    static constexpr float skip = 0.0f;

    struct Token {
        T query[OWN], key[OWN], decay[PER_CHANNEL ? OWN : 1], value;
    };
    struct Gates {
        T decay, beta;
    };

    __device__ __forceinline__ void read(Token& token, int row, bool there) const {
        const int lane = threadIdx.x % 32, width = there ? key_dim : 0;
        read_own(token.query, queries + row * key_stride, width);
        read_own(token.key, keys + row * key_stride, width);
        if constexpr (PER_CHANNEL) read_own(token.decay, decays + row * decay_stride, width);
        token.value = there && lane < columns ? values[row * value_stride + lane] : T(0.0f);
    }
    __device__ __forceinline__ void read(Gates& gates, int row, bool there) const {
        gates.beta = there ? betas[row * beta_stride] : T(0.0f);
        gates.decay = there && !PER_CHANNEL ? decays[row * decay_stride] : T(0.0f);
    }

    __device__ __forceinline__ float kept(T decay, float bias) const {
        return expf(rate * softplus(float(decay) + bias));
    }

    __device__ __forceinline__ void prepare(const Token& token, Tile& tile, int place) const {
        const int lane = threadIdx.x % 32;
        float query[OWN], key[OWN], queries_squared = 0.0f, keys_squared = 0.0f, product = 0.0f;
#pragma unroll
        for (int i = 0; i < OWN; i++) {
            query[i] = float(token.query[i]), key[i] = float(token.key[i]);
            queries_squared += query[i] * query[i];
            keys_squared += key[i] * key[i];
            product += query[i] * key[i];
        }
        const float query_factor = rsqrtf(warp_sum(queries_squared) + 1e-6f) * query_scale;
        const float key_factor = rsqrtf(warp_sum(keys_squared) + 1e-6f);
        product = warp_sum(product) * query_factor * key_factor;
#pragma unroll
        for (int i = 0; i < OWN; i++) query[i] *= query_factor, key[i] *= key_factor;
        write_own(tile.queries[place], query);
        write_own(tile.keys[place], key);
        tile.values[place][lane] = float(token.value);
        if (lane == 0) tile.products[place] = product;
        if constexpr (PER_CHANNEL) {
            float decay[OWN];
#pragma unroll
            for (int i = 0; i < OWN; i++) {
                const int row = lane + 32 * i;
                decay[i] = row < key_dim ? kept(token.decay[i], dt_bias[row]) : 0.0f;
            }
            write_own(tile.decays[place], decay);
        }
    }
    __device__ __forceinline__ void prepare(const Gates& gates, Tile& tile, int place) const {
        if constexpr (!PER_CHANNEL) tile.decays[place][0] = kept(gates.decay, dt_bias[0]);
        tile.strengths[place] = beta_scale / (1.0f + expf(-float(gates.beta)));
    }
};

template <class T, int WIDTH, bool PER_CHANNEL>
__device__ __forceinline__ void delta_rule(const T* q, const T* k, const T* v, const T* decay,
                                           const T* beta, const float* a_log, const float* dt_bias,
                                           T* out, const AttentionTile* sequences, int key_heads, int heads,
                                           int key_dim, int value_dim, float beta_scale) {
    const int slices = (value_dim + RECURRENCE_COLUMNS - 1) / RECURRENCE_COLUMNS;
    const int head = blockIdx.x / slices, first = blockIdx.x % slices * RECURRENCE_COLUMNS;
    const size_t start = sequences[blockIdx.y].start;
    const int length = sequences[blockIdx.y].length;
    const size_t key_stride = (size_t)key_heads * key_dim, value_stride = (size_t)heads * value_dim;
    const int channels = PER_CHANNEL ? key_dim : 1;
    const size_t decay_stride = (size_t)heads * channels;
    const size_t key = start * key_stride + (size_t)(head / (heads / key_heads)) * key_dim;
    const size_t value = start * value_stride + (size_t)head * value_dim + first;
    const size_t channel = (size_t)head * channels;
    const int columns = min(RECURRENCE_COLUMNS, value_dim - first);
    const DeltaRule<T, WIDTH, PER_CHANNEL> rule{q + key,
                                                k + key,
                                                v + value,
                                                decay + start * decay_stride + channel,
                                                beta + start * heads + head,
                                                dt_bias + channel,
                                                key_stride,
                                                value_stride,
                                                decay_stride,
                                                (size_t)heads,
                                                key_dim,
                                                columns,
                                                -expf(a_log[head]),
                                                beta_scale,
                                                rsqrtf(float(key_dim))};
    walk(rule, out + value, length, columns, value_stride);
}

#define DEFINE_RULE(T, suffix, width, per_channel, name)                                           \
    KERNEL_BOUNDED(RECURRENCE_THREADS, 1)                                                          \
    name##_##width##_##suffix(const T* q, const T* k, const T* v, const T* decay, const T* beta,   \
                              const float* a_log, const float* dt_bias, T* out,                    \
                              const AttentionTile* sequences, int key_heads, int heads, int key_dim,         \
                              int value_dim, float beta_scale) {                                   \
        delta_rule<T, width, per_channel>(q, k, v, decay, beta, a_log, dt_bias, out, sequences,    \
                                          key_heads, heads, key_dim, value_dim, beta_scale);       \
    }                                                                                              \
    REGISTER(name##_##width##_##suffix)
#define DEFINE(T, suffix, width)                              \
    DEFINE_RULE(T, suffix, width, false, delta_rule)          \
    DEFINE_RULE(T, suffix, width, true, delta_rule_channels)
RECURRENCE_KERNELS(DEFINE, float, f32)
RECURRENCE_KERNELS(DEFINE, __nv_bfloat16, bf16)
RECURRENCE_KERNELS(DEFINE, __half, f16)
#undef DEFINE
#undef DEFINE_RULE
