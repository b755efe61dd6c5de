// LogitRule::finish for an accumulator of a warpgroup, up to the bias. Each part is a loop of its own: one
// with the branches inside would be many times as long.
#pragma once

#include "logits.cuh"

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
