// Fused causal attention: out = softmax(mask(rule(Q K^T))) V without the T x T matrix.
//
// Computes, for every sequence (a range of rows) and query head h, whose KV head is
// h / (heads / kv_heads), the attention of transformers' eager implementation: logits q.k * scale,
// soft cap, ALiBi; keys i - window < j <= i of the query's chunk that were chosen for it; a sink logit without value; an extra learned key and
// value in front (KV bias).
//
// FlashAttention-2's structure (Dao 2023): a block owns WARPS * M * 16 queries of one head, whose
// output stays in registers, and walks over tiles of KEYS keys. Keys and values have one place each in shared
// memory and are copied by cp.async in turn: a tile's values while the tensor cores multiply its keys, the next
// tile's keys under the softmax and the product with the values. One barrier each, after which the copy is
// there and nobody reads what the next one writes over. With two places of each a tile would be half as long in the
// same memory: as many barriers for as many keys, and queries read from shared memory twice as often. One turn is long
// enough for a copy: at width 128 a product of a tile takes the tensor cores of capability 8.0 a thousand clocks, twice
// that with two blocks, and the second-level cache gives a multiprocessor the tile's keys in 350.
//
// Layout: tensors [rows, heads * width]; heads narrower than WIDTH (VALUE_WIDTH) are filled up with
// zeros in shared memory only. Grid: (heads x tiles in the order of AttentionSection, 1, parts of a head's
// values); of a sequence the host lists the tiles with the most keys first, so that the last blocks are
// short. Shared memory: a tile of queries, one of keys, one of values.
//
// Per sequence of length T and head, causal: T^2 (head_dim + value_dim) FLOP; K and V are read
// T / (2 * queries of a tile) times, from the L2 cache but for the first. From T of about 1,000 on it
// is bound by the tensor cores, on capability 9.0 by shared memory (float32: by FMA issue), below by
// launch and latency (docs/cuda-bounds.md).
#pragma once

#include "products.cuh"
#include "softmax.cuh"

// How a block is cut: the widths of keys and values that it has room for, its warps, rows of each, keys of a tile.
template <int WIDTH_, int VALUE_WIDTH_, int WARPS_, int ROWS, int KEYS_>
struct ForwardPlan {
    static constexpr int WIDTH = WIDTH_, VALUE_WIDTH = VALUE_WIDTH_, KEYS = KEYS_;
    static constexpr int M = ROWS / 16, THREADS = WARPS_ * 32, QUERIES = WARPS_ * ROWS;
    static_assert(VALUE_WIDTH <= WIDTH);  // the output passes through the queries' tile
};

// The extra key's logit (times log2 e) for each of a thread's rows.
template <class T, int M, int WIDTH>
__device__ __forceinline__ void extra_logits(float (&logits)[M][2], SharedTile<T, WIDTH> q,
                                             int q_row, const float* key, int width,
                                             const LogitRule<T>& rule) {
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const T* row = q.at(q_row + fragment_row(m, half), 0);
            float product = 0.0f;
            for (int i = lane_id() & 3; i < width; i += 4) {
                product = fmaf(Element<T>::widen(row[i]), key[i], product);
            }
            product = row_sum(product);
            // It has no position, so ALiBi leaves it alone.
            logits[m][half] = (rule.plain ? product : rule.finish(product, 0.0f)) * rule.factor;
        }
    }
}

template <class T, class Plan>
__device__ __forceinline__ void attend(const AttentionArguments& args) {
    constexpr int WIDTH = Plan::WIDTH, VALUE_WIDTH = Plan::VALUE_WIDTH, KEYS = Plan::KEYS;
    constexpr int THREADS = Plan::THREADS, QUERIES = Plan::QUERIES;
    constexpr int M = Plan::M, N = KEYS / 8, I = VALUE_WIDTH / 8;

    SHARED_DYNAMIC(T, memory);
    const SharedTile<T, WIDTH> q{memory};
    const SharedTile<T, WIDTH> k{q.at(QUERIES, 0)};
    const SharedTile<T, VALUE_WIDTH> v{k.at(KEYS, 0)};

    const AttentionPlace place(args, blockIdx.x, args.heads);
    const AttentionTile tile = place.tile;
    const int head = place.head;
    const int kv_head = head / (args.heads / args.kv_heads);
    // The block's part of the head's values: all of them, except in the widest kernel.
    const int first_value = WIDTH > VALUE_WIDTH ? int(blockIdx.z) * VALUE_WIDTH : 0;
    const bool aligned = args.aligned != 0;
    const HeadRows<T> queries(args.q, tile.start, tile.length, args.heads, head, args.head_dim,
                              aligned);
    // The head is a number of its own in each: addresses that are known before the loop would stay in registers that
    // scores and output need.
    const auto load_keys = [&](int first_key) {
        const HeadRows<T> keys(args.k, tile.start, tile.length, args.kv_heads, anew(kv_head),
                               args.head_dim, aligned);
        load_rows<KEYS, THREADS>(k, keys, first_key);
        cp_async_commit();
    };
    const auto load_values = [&](int first_key) {
        const HeadRows<T> values(args.v, tile.start, tile.length, args.kv_heads, anew(kv_head),
                                 args.value_dim, aligned);
        load_rows<KEYS, THREADS>(v, values, first_key, first_value);
        cp_async_commit();
    };

    // The warp's rows, and the keys that the block's rows can see.
    const int warp_row = threadIdx.x / 32 * (M * 16);
    const int first_query = tile.first + warp_row;
    const int last_query = first_query + M * 16 - 1;
    const int end = min(tile.length, tile.first + QUERIES);
    const Mask mask(args, tile.start, tile.length);
    const int begin = max(0, mask.first(tile.first)) / KEYS * KEYS;

    load_rows<QUERIES, THREADS>(q, queries, tile.first);
    load_keys(begin);

    const LogitRule<T> rule(args, head, tile.length);
    RunningSoftmax<M, I> softmax;
    for (int first_key = begin; first_key < end; first_key += KEYS) {
        cp_async_wait<0>();
        __syncthreads();  // the keys are there, and every warp has left the values before
        load_values(first_key);

        float scores[M][N][4];
#pragma unroll
        for (int m = 0; m < M; m++) {
#pragma unroll
            for (int n = 0; n < N; n++) {
#pragma unroll
                for (int j = 0; j < 4; j++) scores[m][n][j] = 0.0f;
            }
        }
        add_scores(scores, q, warp_row, k);
        rule.finish(scores, first_key);
        if (first_key + KEYS - 1 > first_query || first_key < mask.first(last_query) || mask.chosen) {
#pragma unroll
            for (int m = 0; m < M; m++) {
#pragma unroll
                for (int n = 0; n < N; n++) {
#pragma unroll
                    for (int j = 0; j < 4; j++) {
                        const int query = first_query + fragment_row(m, j / 2);
                        const int key = first_key + fragment_column(n, j % 2);
                        if (!mask(query, key)) scores[m][n][j] = -INFINITY;
                    }
                }
            }
        }
        cp_async_wait<0>();
        __syncthreads();  // the values are there, and every warp has left the keys
        if (first_key + KEYS < end) load_keys(first_key + KEYS);
        softmax.add_tile(scores, rule.factor);
        add_values(softmax.output, scores, v);
    }

    // What takes part without being a key of the sequence.
    const float* extra_value = nullptr;
    float extra[M][2];
    if (args.extra_key) {
        extra_logits(extra, q, warp_row, args.extra_key + head * args.head_dim, args.head_dim,
                     rule);
        extra_value = args.extra_value + head * args.value_dim + first_value;
    }
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            if (args.sinks) softmax.add_logit(m, half, args.sinks[head] * LOG2_E);
            if (extra_value) {
                const float weight = softmax.add_logit(m, half, extra[m][half]);
#pragma unroll
                for (int i = 0; i < I; i++) {
#pragma unroll
                    for (int j = 0; j < 2; j++) {
                        const int column = fragment_column(i, j);
                        if (first_value + column < args.value_dim) {
                            softmax.output[m][i][2 * half + j] += weight * extra_value[column];
                        }
                    }
                }
            }
        }
    }

    // Out through the queries' tile, whose rows only their own warp reads.
    __syncwarp();
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float log_sum = softmax.finish(m, half);
            const int row = fragment_row(m, half);
            const int query = first_query + row;
            if (first_value == 0 && query < tile.length && (lane_id() & 3) == 0) {
                const size_t place = size_t(head) * args.rows + tile.start + query;
                if (args.log_sums) args.log_sums[place] = log_sum;
                if (args.extra_logits) args.extra_logits[place] = extra[m][half];
            }
#pragma unroll
            for (int i = 0; i < I; i++) {
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    *q.at(warp_row + row, fragment_column(i, j)) =
                        Element<T>::narrow(softmax.output[m][i][2 * half + j]);
                }
            }
        }
    }
    __syncwarp();
    const size_t columns = size_t(args.heads) * args.value_dim;
    T* out = static_cast<T*>(args.out) + size_t(tile.start) * columns +
             size_t(head) * args.value_dim + first_value;
    store_rows<M * 16>(q, warp_row, out, columns, first_query, tile.length,
                       min(VALUE_WIDTH, args.value_dim - first_value), aligned);
}
