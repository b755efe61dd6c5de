// The part of attention's output that some keys give, or that all others give (subset.cuh says what), by the
// instructions of compute capability 9.0: the forward pass (hopper.cuh) once more, without the keys of the other
// part.
//
// Weights are relative to the part's own until the end, when the row is multiplied by the part's share in the
// denominator of all keys, which the forward pass saved: so a part of little weight has as many digits as another.
//
// Layout, grid and bounds are hopper.cuh's: a part costs a forward pass, and a bit of a word to look at for each key.
// The host gives the extra key to the part of the others, and sinks, which have no values, to neither. Keys chosen for
// each query are subset.cuh's alone.
#pragma once

#include "hopper.cuh"

// Instead of hopper.cuh's WholeOutput.
struct PartOfOutput {
    const unsigned* listed;  // bit r is set if row r's key is one of the listed
    unsigned others;         // all bits: the part of the others; or none
    const float* log_sums;   // [heads, rows]: log2 of the denominators of all keys

    // Hides the keys of the other part in a tile whose first key is this row of the batch.
    template <int N>
    __device__ __forceinline__ void hide(float (&scores)[N][4], int first_row) const {
        const unsigned* words = listed + first_row / 32;
        unsigned word = words[0];
#pragma unroll
        for (int n = 0; n < N; n += 4) {
            const unsigned next = words[n / 4 + 1];
            // Of 32 keys, from the thread's first on.
            const unsigned own =
                (__funnelshift_r(word, next, first_row) ^ others) >> fragment_column(0, 0);
            word = next;
#pragma unroll
            for (int i = n; i < n + 4 && i < N; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    if (!(own >> ((i - n) * 8 + j % 2) & 1)) scores[i][j] = -INFINITY;
                }
            }
        }
    }

    // A part is a softmax of its own, which counts as much as it has of all weight.
    template <int I>
    __device__ __forceinline__ float finish(RunningSoftmax<1, I>& softmax, int half, bool stored,
                                            size_t place) const {
        const float own = softmax.finish(0, half);
        const float share = stored ? exp2_approximate(own - log_sums[place]) : 0.0f;
#pragma unroll
        for (int i = 0; i < I; i++) {
#pragma unroll
            for (int j = 2 * half; j < 2 * half + 2; j++) {
                float& value = softmax.output[0][i][j];
                // Where a row sees no key of the part it was divided by nothing. What is not a number stays so.
                value = share == 0.0f ? 0.0f : value * share;
            }
        }
        return own;
    }
};
