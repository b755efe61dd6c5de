// Softmax over keys that pass in tiles (online softmax, Milakov & Gimelshein 2018).
//
// Of each row the largest logit so far and the sum of exponentials relative to it are kept; when a
// larger one comes, the sum and the output so far shrink. Everything is in powers of two. A thread
// holds the part of the sum that its columns give; the four threads of a row add theirs at the end.
#pragma once

#include "logits.cuh"

template <int M, int I>
struct RunningSoftmax {
    float max[M][2];
    float sum[M][2];
    float output[M][I][4];

    __device__ RunningSoftmax() {
#pragma unroll
        for (int m = 0; m < M; m++) {
            for (int half = 0; half < 2; half++) {
                max[m][half] = -INFINITY;
                sum[m][half] = 0.0f;
            }
#pragma unroll
            for (int i = 0; i < I; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) output[m][i][j] = 0.0f;
            }
        }
    }

    // Makes room for a logit of one row; returns the factor by which the row has to shrink.
    __device__ float raise(int m, int half, float largest) {
        const float raised = fmaxf(max[m][half], largest);
        const float shrink = exp2_approximate(max[m][half] - base(raised));
        max[m][half] = raised;
        sum[m][half] *= shrink;
        return shrink;
    }

    // What to subtract from a row's logits. A row that has seen no key yet must not compute
    // -inf - -inf.
    static __device__ float base(float max) { return max == -INFINITY ? 0.0f : max; }

    __device__ void shrink_output(int m, int half, float shrink) {
#pragma unroll
        for (int i = 0; i < I; i++) {
            output[m][i][2 * half] *= shrink;
            output[m][i][2 * half + 1] *= shrink;
        }
    }

    // One logit (times log2 e) that has no key in the tiles; returns its weight.
    __device__ float add_logit(int m, int half, float logit) {
        shrink_output(m, half, raise(m, half, logit));
        const float weight = exp2_approximate(logit - base(max[m][half]));
        if ((lane_id() & 3) == 0) sum[m][half] += weight;
        return weight;
    }

    // Turns a tile's values into weights; hidden ones are -inf.
    template <int N>
    __device__ void add_tile(float (&values)[M][N][4], float factor) {
        weigh(values, factor, [&](int m, int half, float shrink) {
            // Rare once the first token's logits, often the largest, have passed.
            if (__any_sync(0xffffffffu, shrink != 1.0f)) shrink_output(m, half, shrink);
        });
    }

    // The same, but the output is left to `shrinks(m, half, factor)`.
    template <int N, class Shrinks>
    __device__ __forceinline__ void weigh(float (&values)[M][N][4], float factor, Shrinks shrinks) {
#pragma unroll
        for (int m = 0; m < M; m++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float largest = -INFINITY;
#pragma unroll
                for (int n = 0; n < N; n++) {
                    largest =
                        fmaxf(largest, fmaxf(values[m][n][2 * half], values[m][n][2 * half + 1]));
                }
                shrinks(m, half, raise(m, half, row_max(largest) * factor));
                const float subtract = base(max[m][half]);
#pragma unroll
                for (int n = 0; n < N; n++) {
#pragma unroll
                    for (int j = 0; j < 2; j++) {
                        float& value = values[m][n][2 * half + j];
                        value = exp2_approximate(fmaf(value, factor, -subtract));
                        sum[m][half] += value;
                    }
                }
            }
        }
    }

    // log2 of the softmax's denominator; `output` becomes the weighted mean.
    __device__ float finish(int m, int half) {
        const float total = row_sum(sum[m][half]);
        const float inverse = 1.0f / total;
#pragma unroll
        for (int i = 0; i < I; i++) {
            output[m][i][2 * half] *= inverse;
            output[m][i][2 * half + 1] *= inverse;
        }
        return max[m][half] + log2f(total);
    }
};
