// The part of attention's output that some keys give: sum over the keys j of a list, as far as the
// query sees them, of p_j v_j, with the p of the softmax over all keys.
//
// After the forward pass saved the softmax's denominators. The lists are short (the positions of
// massive activations), so a warp takes a query and goes through the list: 2 (head_dim + value_dim)
// FLOP a query and key. Grid: (heads, query tiles). Bound by reads of the listed rows, which stay
// in the L1 cache.
#pragma once

#include "logits.cuh"
#include "tile.cuh"

template <class T>
__device__ __forceinline__ void attention_subset(const AttentionSubsetArguments& subset) {
    constexpr int PARTS = 512 / 32;  // values of a head that a lane holds
    const AttentionArguments& args = subset.attention;
    const AttentionTile tile = args.tiles[blockIdx.y];
    const int head = blockIdx.x;
    const int kv_head = head / (args.heads / args.kv_heads);
    const HeadRows<T> queries(args.q, tile.start, tile.length, args.heads, head, args.head_dim,
                              false);
    const HeadRows<T> keys(args.k, tile.start, tile.length, args.kv_heads, kv_head, args.head_dim,
                           false);
    const HeadRows<T> values(args.v, tile.start, tile.length, args.kv_heads, kv_head,
                             args.value_dim, false);
    const LogitRule<T> rule(args, head, tile.length);
    const Mask mask(args, tile.start, tile.length);
    const int* list = subset.keys + subset.offsets[tile.sequence];
    const int count = subset.offsets[tile.sequence + 1] - subset.offsets[tile.sequence];
    const int end = min(tile.first + SUBSET_QUERIES, tile.length);

    for (int query = tile.first + threadIdx.x / 32; query < end; query += CAPTURE_THREADS / 32) {
        const T* query_row = queries.values + size_t(query) * queries.stride;
        const float log_sum = args.log_sums[size_t(head) * args.rows + tile.start + query];
        float q[PARTS], output[PARTS];
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
            const int column = part * 32 + lane_id();
            q[part] = column < args.head_dim ? Element<T>::widen(query_row[column]) : 0.0f;
            output[part] = 0.0f;
        }
        for (int i = 0; i < count; i++) {
            const int key = list[i];
            if (!mask(query, key)) continue;
            const T* key_row = keys.values + size_t(key) * keys.stride;
            const T* value_row = values.values + size_t(key) * values.stride;
            float value = 0.0f;
#pragma unroll
            for (int part = 0; part < PARTS; part++) {
                const int column = part * 32 + lane_id();
                if (column < args.head_dim) {
                    value = fmaf(q[part], Element<T>::widen(key_row[column]), value);
                }
            }
            for (int distance = 16; distance > 0; distance /= 2) {
                value += __shfl_xor_sync(0xffffffffu, value, distance);
            }
            if (!rule.plain) value = rule.finish(value, rule.bias(key));
            const float prob = exp2_approximate(fmaf(value, rule.factor, -log_sum));
#pragma unroll
            for (int part = 0; part < PARTS; part++) {
                const int column = part * 32 + lane_id();
                if (column < args.value_dim) {
                    output[part] = fmaf(prob, Element<T>::widen(value_row[column]), output[part]);
                }
            }
        }
        T* out = static_cast<T*>(args.out) +
                 size_t(tile.start + query) * args.heads * args.value_dim + head * args.value_dim;
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
            const int column = part * 32 + lane_id();
            if (column < args.value_dim) out[column] = Element<T>::narrow(output[part]);
        }
    }
}
