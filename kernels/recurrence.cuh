// What the gated delta rule and Mamba-2 have in common: a head's state S [rows, columns] goes from token
// to token, and its columns do not know of each other:
//
//   S = decay S + k step^T       o = S^T q + skip v
//   step = strength v, or corrected: strength (v - decay S^T k)
//
// A block takes RECURRENCE_COLUMNS columns of one head of one sequence, and keeps them in registers: eight
// lanes share two columns, WIDTH / 8 rows each, so that a token costs three shuffles and no barrier. Since
// o = decay S^T q + (k.q) step with the S before, both sums over the rows are made in the same shuffles.
//
// Tokens come in tiles through shared memory, in float32: a Rule reads them (the next tile's into registers,
// while this one is at work) and writes what a tile needs. Of each of a warp's tokens lane l reads and
// prepares the entries l, l + 32, .. of key and query, so that loads are coalesced whatever the widths are;
// what a token has only one of, decay and strength, lane l does for the l-th token.
#pragma once
#include "activation.cuh"
#include "numeric.cuh"
#include "reduce.cuh"

// A tile of tokens.
template <int WIDTH, bool ROW_DECAYS>
struct RecurrenceTile {
    // So that a tile of the widest heads, too, is within the 48 KiB that every block may have.
    static constexpr int TOKENS = WIDTH > 128 ? 8 : 16;
    // k and q, zeros beyond the state's rows.
    float keys[TOKENS][WIDTH];
    float queries[TOKENS][WIDTH];
    // One, or one a row.
    float decays[TOKENS][ROW_DECAYS ? WIDTH : 1];
    float values[TOKENS][RECURRENCE_COLUMNS];
    float out[TOKENS][RECURRENCE_COLUMNS];
    float strengths[TOKENS];
    // k.q
    float products[TOKENS];
};

// The entries of one row that this lane reads: 0 beyond its `width` entries.
template <class T, int OWN>
__device__ __forceinline__ void read_own(T (&own)[OWN], const T* row, int width) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < OWN; i++) {
        own[i] = lane + 32 * i < width ? row[lane + 32 * i] : T(0.0f);
    }
}

template <int OWN, int WIDTH>
__device__ __forceinline__ void write_own(float (&row)[WIDTH], const float (&own)[OWN]) {
    static_assert(OWN * 32 == WIDTH);
#pragma unroll
    for (int i = 0; i < OWN; i++) row[threadIdx.x % 32 + 32 * i] = own[i];
}

// Takes the sequence of `length` tokens through the state. `out` is the first token's first value of this
// block, of which `columns` exist; a token's values are `stride` apart from the next one's.
template <class Rule, class T>
__device__ __forceinline__ void walk(const Rule& rule, T* out, int length, int columns,
                                     size_t stride) {
    constexpr int WIDTH = Rule::WIDTH;
    using Tile = RecurrenceTile<WIDTH, Rule::ROW_DECAYS>;
    constexpr int TOKENS = Tile::TOKENS, WARPS = RECURRENCE_COLUMNS / 8, OWN_TOKENS = TOKENS / WARPS;
    constexpr int PARTS = 8, ROWS = WIDTH / PARTS;
    SHARED(Tile, tile, [1]);

    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    // Rows part * 4.. of every PARTS * 4, of two columns.
    const int part = lane % PARTS, column = warp * 8 + lane / PARTS * 2;
    float state[2][ROWS];
#pragma unroll
    for (int row = 0; row < ROWS; row++) state[0][row] = state[1][row] = 0.0f;

    // Zeros beyond the sequence's end.
    typename Rule::Token next[OWN_TOKENS];
    typename Rule::Gates next_gates;
    const auto read = [&](int first) {
        first += warp * OWN_TOKENS;
#pragma unroll
        for (int i = 0; i < OWN_TOKENS; i++) rule.read(next[i], first + i, first + i < length);
        const bool there = lane < OWN_TOKENS && first + lane < length;
        rule.read(next_gates, first + lane, there);
    };
    read(0);
    for (int first = 0; first < length; first += TOKENS) {
#pragma unroll
        for (int i = 0; i < OWN_TOKENS; i++) {
            rule.prepare(next[i], tile[0], warp * OWN_TOKENS + i);
        }
        if (lane < OWN_TOKENS) rule.prepare(next_gates, tile[0], warp * OWN_TOKENS + lane);
        __syncthreads();
        read(first + TOKENS);

        const int count = min(TOKENS, length - first);
        for (int token = 0; token < count; token++) {
            float keys[ROWS], queries[ROWS];
            float known[2] = {0.0f, 0.0f}, answer[2] = {0.0f, 0.0f};
#pragma unroll
            for (int i = 0; i < ROWS; i += 4) {
                const int row = (i / 4 * PARTS + part) * 4;
                const float4 key = four(&tile[0].keys[token][row]);
                const float4 query = four(&tile[0].queries[token][row]);
                keys[i] = key.x, keys[i + 1] = key.y, keys[i + 2] = key.z, keys[i + 3] = key.w;
                queries[i] = query.x, queries[i + 1] = query.y;
                queries[i + 2] = query.z, queries[i + 3] = query.w;
                if constexpr (Rule::ROW_DECAYS) {
                    const float4 decay = four(&tile[0].decays[token][row]);
#pragma unroll
                    for (int c = 0; c < 2; c++) {
                        state[c][i] *= decay.x, state[c][i + 1] *= decay.y;
                        state[c][i + 2] *= decay.z, state[c][i + 3] *= decay.w;
                    }
                }
#pragma unroll
                for (int row = i; row < i + 4; row++) {
#pragma unroll
                    for (int c = 0; c < 2; c++) {
                        if constexpr (Rule::CORRECTS) known[c] += state[c][row] * keys[row];
                        answer[c] += state[c][row] * queries[row];
                    }
                }
            }
#pragma unroll
            for (int distance = PARTS / 2; distance > 0; distance /= 2) {
#pragma unroll
                for (int c = 0; c < 2; c++) {
                    if constexpr (Rule::CORRECTS) {
                        known[c] += __shfl_xor_sync(FULL_WARP, known[c], distance);
                    }
                    answer[c] += __shfl_xor_sync(FULL_WARP, answer[c], distance);
                }
            }
            const float decay = Rule::ROW_DECAYS ? 1.0f : tile[0].decays[token][0];
            const float strength = tile[0].strengths[token], product = tile[0].products[token];
#pragma unroll
            for (int c = 0; c < 2; c++) {
                const float value = tile[0].values[token][column + c];
                const float step = strength * (value - decay * known[c]);
                answer[c] = decay * answer[c] + product * step + rule.skip * value;
#pragma unroll
                for (int row = 0; row < ROWS; row++) {
                    const float kept = Rule::ROW_DECAYS ? state[c][row] : decay * state[c][row];
                    state[c][row] = kept + keys[row] * step;
                }
            }
            if (part < 2) tile[0].out[token][column + part] = part == 0 ? answer[0] : answer[1];
        }
        __syncthreads();
#pragma unroll
        for (int token = warp; token < TOKENS; token += WARPS) {
            if (token < count && lane < columns) {
                out[(first + token) * stride + lane] = T(tile[0].out[token][lane]);
            }
        }
    }
}
