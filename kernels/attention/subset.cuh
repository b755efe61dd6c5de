// The parts of attention's output that some keys give and that all others give, as far as the query
// sees them: sums over j of p_j v_j, with the p of the softmax over all keys. Each is a sum of its
// own, since a difference from the whole has no digits where one part is nearly all of it. The extra
// key counts among the others.
//
// After the forward pass saved the softmax's denominators. A warp takes a query and goes through its
// keys: 2 (head_dim + value_dim) FLOP a query and key, as the forward pass has, without tensor cores.
// Grid: (heads, query tiles). Bound by the instructions of a warp a key (a product of head_dim, its sum
// over the lanes); keys and values of a tile's queries stay in the caches. It runs for one sequence
// whose attention is looked at, not in walks over many.
#pragma once

#include "logits.cuh"
#include "tile.cuh"

// A row of one head, 32 values apart in a lane.
template <class T, int PARTS>
__device__ __forceinline__ void store_lanes(void* out, size_t start, int width,
                                            const float (&values)[PARTS]) {
#pragma unroll
    for (int part = 0; part < PARTS; part++) {
        const int column = part * 32 + lane_id();
        if (column < width) {
            static_cast<T*>(out)[start + column] = Element<T>::narrow(values[part]);
        }
    }
}

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
    const int end = min(tile.first + SUBSET_QUERIES, tile.length);

    for (int query = tile.first + threadIdx.x / 32; query < end; query += CAPTURE_THREADS / 32) {
        const T* query_row = queries.values + size_t(query) * queries.stride;
        const float log_sum = args.log_sums[size_t(head) * args.rows + tile.start + query];
        float q[PARTS], followed[PARTS], rest[PARTS];
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
            const int column = part * 32 + lane_id();
            q[part] = column < args.head_dim ? Element<T>::widen(query_row[column]) : 0.0f;
            followed[part] = rest[part] = 0.0f;
        }
        for (int key = max(mask.first(query), 0); key <= query; key++) {
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
            const int row = tile.start + key;
            const bool own = subset.listed[row / 32] >> (row % 32) & 1;
#pragma unroll
            for (int part = 0; part < PARTS; part++) {
                const int column = part * 32 + lane_id();
                if (column < args.value_dim) {
                    const float given = prob * Element<T>::widen(value_row[column]);
                    if (own) {
                        followed[part] += given;
                    } else {
                        rest[part] += given;
                    }
                }
            }
        }
        if (args.extra_logits) {
            const size_t row = size_t(head) * args.rows + tile.start + query;
            const float prob = exp2_approximate(args.extra_logits[row] - log_sum);
#pragma unroll
            for (int part = 0; part < PARTS; part++) {
                const int column = part * 32 + lane_id();
                if (column < args.value_dim) {
                    rest[part] += prob * args.extra_value[head * args.value_dim + column];
                }
            }
        }
        const size_t start =
            size_t(tile.start + query) * args.heads * args.value_dim + head * args.value_dim;
        store_lanes<T>(args.out, start, args.value_dim, followed);
        store_lanes<T>(subset.rest, start, args.value_dim, rest);
    }
}
