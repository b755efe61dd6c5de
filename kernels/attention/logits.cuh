// From products q.k to logits, and which keys a query sees.
//
// A kernel calls `finish` once for a tile of products. The ordinary rule leaves them alone: their
// scale is part of `factor`, which the exponential multiplies by anyway. Soft cap and ALiBi change
// the products in place, behind one branch that all threads take together. Then, whatever the rule,
//     logit = value * unit        and        exp(logit) = exp2(value * factor).
#pragma once

#include "arguments.cuh"
#include "elements.cuh"

constexpr float LOG2_E = 1.4426950408889634f;
constexpr float LN_2 = 0.6931471805599453f;

// cap * tanh(x / cap). In 16-bit kernels through exp2, whose absolute error of 1e-7 * cap is far
// below what their products carry; the float32 kernels are exact for small x, too.
template <class T>
__device__ __forceinline__ float soft_capped(float x, float cap) {
    if constexpr (sizeof(T) == 4) return cap * tanhf(x / cap);
    const float power = exp2_approximate(x * __fdividef(2.0f * LOG2_E, cap));
    return cap - __fdividef(2.0f * cap, power + 1.0f);
}

// The rule of one head.
template <class T>
struct LogitRule {
    const AttentionArguments& args;
    float slope;
    float last;  // position from which ALiBi counts
    bool plain;
    float unit;
    float factor;

    __device__ LogitRule(const AttentionArguments& args, int head, int length)
        : args(args),
          slope(args.slopes ? args.slopes[head] : 0.0f),
          last(args.alibi_from_last ? float(length - 1) : 0.0f),
          // A scale that is not positive cannot be left to the exponential: it moves the maximum.
          plain(args.soft_cap == 0.0f && !args.slopes && args.scale > 0.0f),
          unit(plain ? args.scale : 1.0f),
          factor(unit * LOG2_E) {}

    // ALiBi's bias of a key, with the model's roundings (src/model/spec/alibi.rs).
    __device__ float bias(int key) const {
        if (!args.slopes) return 0.0f;
        float position = float(key) - last;
        if (!args.alibi_bfloat16) return args.alibi_factor * (slope * position);
        if (!args.alibi_from_last) position = rounded<__nv_bfloat16>(position);
        return args.alibi_factor * rounded<__nv_bfloat16>(slope * position);
    }

    __device__ float finish(float product, float bias) const {
        float logit = product * args.scale;
        if (args.soft_cap != 0.0f) logit = soft_capped<T>(logit, args.soft_cap);
        return logit + bias;
    }

    // Products of rows with the keys first_key.. in the columns.
    template <int M, int N>
    __device__ void finish(float (&products)[M][N][4], int first_key) const {
        if (plain) return;
#pragma unroll
        for (int n = 0; n < N; n++) {
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const float offset = bias(first_key + fragment_column(n, j));
#pragma unroll
                for (int m = 0; m < M; m++) {
                    products[m][n][j] = finish(products[m][n][j], offset);
                    products[m][n][2 + j] = finish(products[m][n][2 + j], offset);
                }
            }
        }
    }
};

// Which keys a query of a sequence sees: no later ones, within a window and a chunk, and of these the chosen.
struct Mask {
    int length;
    int window;
    int chunk;
    const unsigned* chosen;  // of the sequence's first query
    int words;

    __device__ Mask(const AttentionArguments& args, int start, int length)
        : length(length),
          window(args.window),
          chunk(args.chunk),
          chosen(args.chosen ? args.chosen + size_t(start) * args.words : nullptr),
          words(args.words) {}

    // The first key that window and chunk leave to the query; may be negative.
    __device__ int first(int query) const {
        return max(query - window + 1, query / chunk * chunk);
    }

    // The first query that window and chunk keep from seeing the key.
    __device__ int end(int key) const {
        const int within = window < length - key ? key + window : length;
        const int start = key / chunk * chunk;
        return chunk < length - start ? min(within, start + chunk) : within;
    }

    __device__ bool chose(int query, int key) const {
        return !chosen ||
               (query < length && (chosen[size_t(query) * words + key / 32] >> (key % 32) & 1));
    }

    __device__ bool operator()(int query, int key) const {
        return key <= query && key >= first(query) && chose(query, key);
    }
};
