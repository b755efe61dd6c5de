// What keys received, from registers to memory.
#pragma once

#include "logits.cuh"

// Of one key, by the four threads that share its row; rows beyond the sequence are nobody's.
__device__ __forceinline__ void store_received(const AttentionSinkArguments& sink,
                                               const AttentionTile& tile, int head, int key,
                                               float mass, float peak) {
    if (key >= tile.length || (lane_id() & 3) != 0) return;
    const size_t place = size_t(head) * sink.attention.rows + tile.start + key;
    sink.mass[place] = mass;
    sink.peak[place] = peak;
}

// The extra key's part for one head and sequence. One warp, which adds up in a fixed order.
__device__ __forceinline__ void extra_key_sink(const AttentionSinkArguments& sink,
                                               const AttentionTile& tile, int head) {
    const AttentionArguments& args = sink.attention;
    const size_t first = size_t(head) * args.rows + tile.start;
    float sum = 0.0f, largest = -INFINITY;
    for (int query = lane_id(); query < tile.length; query += 32) {
        const float logit = args.extra_logits[first + query];
        sum += exp2_approximate(logit - args.log_sums[first + query]);
        largest = fmaxf(largest, logit * LN_2);
    }
    for (int distance = 16; distance > 0; distance /= 2) {
        sum += __shfl_xor_sync(0xffffffffu, sum, distance);
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
    }
    if (lane_id() == 0) {
        sink.extra_mass[head * sink.sequences + tile.sequence] = sum / tile.length;
        sink.extra_peak[head * sink.sequences + tile.sequence] = largest;
    }
}
