// Entries that stand for neighbouring tokens, and which of them a query sees.
// src/backend/cpu/compression.rs is the definition.
//
// compress     of one sequence
//   values, gate  [tokens, columns]
//   bias          float32 [rate, columns]
//   out           [entries, columns, or half of them where entries overlap]
//   a block an entry, a thread a value: two walks over its tokens. Moves values and gate once (twice where
//   entries overlap, but for the first time from the caches) and once more the gate; bound by memory.
// gather_both  out[i] = row rows[i] of `first` and `second` together; a block a row
// see_entries  of one sequence
//   chosen  [tokens, its words] or null: entry j of a token is bit j % 32 of word j / 32
//   bits    [entries + tokens, words]: entries are the first keys, tokens the others
//   a block a row, a thread a word; bound by latency.
#include "device.cuh"

// Token `i` of what an entry is made of: its row, its place in its own entry, the first of its columns.
struct Token {
    int row, place, column;
};
__device__ __forceinline__ Token token_of(int i, int entry, int rate, int half) {
    // The tokens before come first, as those of their own entry follow.
    if (i < 0) return {entry * rate + i, i + rate, 0};
    return {entry * rate + i, i, half};
}

template <class T>
__device__ __forceinline__ void compress(const T* values, const T* gate, const float* bias, T* out,
                                         int entries, int columns, int rate, int overlaps) {
    const int width = overlaps ? columns / 2 : columns, half = columns - width;
    for (int entry = blockIdx.x; entry < entries; entry += gridDim.x) {
        const int first = overlaps && entry > 0 ? -rate : 0;
        for (int column = threadIdx.x; column < width; column += blockDim.x) {
            float top = -INFINITY, sum = 0.0f, mean = 0.0f;
            for (int i = first; i < rate; i++) {
                const Token token = token_of(i, entry, rate, half);
                const int own = token.column + column;
                top = fmaxf(top, float(gate[(size_t)token.row * columns + own]) +
                                     bias[token.place * columns + own]);
            }
            for (int i = first; i < rate; i++) {
                const Token token = token_of(i, entry, rate, half);
                const int own = token.column + column;
                const size_t place = (size_t)token.row * columns + own;
                const float weight =
                    expf(float(gate[place]) + bias[token.place * columns + own] - top);
                sum += weight;
                mean += weight * float(values[place]);
            }
            out[(size_t)entry * width + column] = T(mean / sum);
        }
    }
}

template <class T>
__device__ __forceinline__ void gather_both(const T* first, const T* second, T* out,
                                            const unsigned* rows, int count_first, int count,
                                            int columns) {
    for (int i = blockIdx.x; i < count; i += gridDim.x) {
        const int row = (int)rows[i];
        const T* from = row < count_first ? first + (size_t)row * columns
                                          : second + (size_t)(row - count_first) * columns;
        for (int column = threadIdx.x; column < columns; column += blockDim.x) {
            out[(size_t)i * columns + column] = from[column];
        }
    }
}

KERNEL see_entries(const unsigned* chosen, unsigned* bits, int tokens, int rate, int window,
                   int chosen_words, int words) {
    const int entries = tokens / rate;
    for (int row = blockIdx.x; row < entries + tokens; row += gridDim.x) {
        const int token = row - entries;
        const int finished = token < 0 ? 0 : (token + 1) / rate;
        const int near = token < window ? 0 : token + 1 - window;
        for (int word = threadIdx.x; word < words; word += blockDim.x) {
            unsigned seen = 0;
            for (int bit = 0; bit < 32; bit++) {
                const int key = word * 32 + bit, place = key - entries;
                bool sees = false;
                if (token >= 0 && place >= 0) {
                    sees = place >= near && place <= token;
                } else if (key < finished) {
                    sees = !chosen || chosen[(size_t)token * chosen_words + key / 32] >> (key % 32) & 1;
                }
                seen |= (unsigned)sees << bit;
            }
            bits[(size_t)row * words + word] = seen;
        }
    }
}
REGISTER(see_entries)

#define DEFINE(T, suffix)                                                                        \
    KERNEL compress_##suffix(const T* values, const T* gate, const float* bias, T* out,          \
                             int entries, int columns, int rate, int overlaps) {                 \
        compress(values, gate, bias, out, entries, columns, rate, overlaps);                     \
    }                                                                                            \
    REGISTER(compress_##suffix)                                                                  \
    KERNEL gather_both_##suffix(const T* first, const T* second, T* out, const unsigned* rows,   \
                                int count_first, int count, int columns) {                       \
        gather_both(first, second, out, rows, count_first, count, columns);                      \
    }                                                                                            \
    REGISTER(gather_both_##suffix)
FOR_EACH_FLOAT(DEFINE)
#undef DEFINE
