// LogitRule::finish for an accumulator of a warpgroup. Each part is a loop of its own: one with the branches
// inside would be many times as long.
#pragma once

#include "logits.cuh"

// Up to the bias.
template <class T, int N>
__device__ __forceinline__ void scale_and_cap(float (&scores)[N][4], const LogitRule<T>& rule) {
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) scores[n][i] *= rule.args.scale;
    }
    if (rule.args.soft_cap == 0.0f) return;
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            scores[n][i] = soft_capped<T>(scores[n][i], rule.args.soft_cap);
        }
    }
}

// All of it for a thread's two rows, queries that may be of two heads, from the thread's first key on.
template <class T, int N>
__device__ __forceinline__ void finish_scores(float (&scores)[N][4], const LogitRule<T> (&rules)[2],
                                              int own_key) {
    if (rules[0].plain) return;
    scale_and_cap(scores, rules[0]);
    if (rules[0].args.slopes) {
#pragma unroll
        for (int n = 0; n < N; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                scores[n][i] += rules[i / 2].bias(own_key + n * 8 + i % 2);
            }
            one_by_one(scores[n]);
        }
    }
}
