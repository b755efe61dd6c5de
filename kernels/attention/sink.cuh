// What each key receives: its probability, averaged over the queries that see it, and its largest
// logit, per head.
//
// A second pass over K Q^T after the forward pass saved the softmax's denominators. Keys are the
// rows here: a block owns some keys of one head and walks over the queries that see them, so a
// thread adds up a key's probabilities in one register and the same sums come out in every run.
//
// Grid: (heads, key tiles); the first keys have the most queries and come first. Causal: T^2
// head_dim FLOP a head, half of what the forward pass does with equal widths; memory linear in T.
// Bound by the tensor cores and, at small head_dim, by the exponentials.
#pragma once

#include "received.cuh"
#include "score_stream.cuh"

// Keys of a block.
template <class T>
constexpr int SINK_KEYS = sizeof(T) == 4 ? SINK_KEYS_32 : SINK_KEYS_16;

template <class T>
__device__ __forceinline__ void attention_sink(const AttentionSinkArguments& sink) {
    constexpr int KEYS = SINK_KEYS<T>, N = SINK_QUERIES / 8;
    constexpr int M = KEYS / (CAPTURE_THREADS / 32 * 16);  // 16-row tiles of keys a warp
    const AttentionArguments& args = sink.attention;
    const AttentionTile tile = args.tiles[blockIdx.y];
    const int head = blockIdx.x;
    const int kv_head = head / (args.heads / args.kv_heads);
    const int warp_key = tile.first + threadIdx.x / 32 * (M * 16);
    const HeadRows<T> queries(args.q, tile.start, tile.length, args.heads, head, args.head_dim,
                              args.aligned);
    const HeadRows<T> keys(args.k, tile.start, tile.length, args.kv_heads, kv_head, args.head_dim,
                           args.aligned);
    const float* log_sums = args.log_sums + size_t(head) * args.rows + tile.start;
    const LogitRule<T> rule(args, head, tile.length);

    // Queries that see at least one of the block's keys.
    const int begin = tile.first / SINK_QUERIES * SINK_QUERIES;
    const int last_key = min(tile.first + KEYS, tile.length) - 1;
    const Mask mask(args, tile.start, tile.length);
    const int end = mask.end(last_key);

    float mass[M][2], peak[M][2], viewers[M][2];
#pragma unroll
    for (int m = 0; m < M; m++) {
        mass[m][0] = mass[m][1] = 0.0f;
        peak[m][0] = peak[m][1] = -INFINITY;
        viewers[m][0] = viewers[m][1] = 0.0f;
    }
    SHARED_DYNAMIC(T, memory);
    const ScoreStream<T, KEYS, SINK_QUERIES, CAPTURE_THREADS> stream{memory, args.head_dim};
    auto load = [&](int step, auto k, auto q, int column) {
        load_rows<KEYS, CAPTURE_THREADS>(k, keys, tile.first, column);
        load_rows<SINK_QUERIES, CAPTURE_THREADS>(q, queries, begin + step * SINK_QUERIES, column);
    };
    auto use = [&](int step, float (&scores)[M][N][4]) {
        const int first_query = begin + step * SINK_QUERIES;
#pragma unroll
        for (int m = 0; m < M; m++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int key = warp_key + fragment_row(m, half);
                const float bias = rule.bias(key);
#pragma unroll
                for (int n = 0; n < N; n++) {
#pragma unroll
                    for (int j = 0; j < 2; j++) {
                        const int query = first_query + fragment_column(n, j);
                        if (query >= tile.length || !mask(query, key)) continue;
                        float value = scores[m][n][2 * half + j];
                        if (!rule.plain) value = rule.finish(value, bias);
                        mass[m][half] +=
                            exp2_approximate(fmaf(value, rule.factor, -log_sums[query]));
                        peak[m][half] = fmaxf(peak[m][half], value);
                        if (mask.chosen) viewers[m][half] += 1.0f;
                    }
                }
            }
        }
    };
    stream.template run<M>((end - begin + SINK_QUERIES - 1) / SINK_QUERIES, load, use);

#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float total = row_sum(mass[m][half]);
            const float largest = row_max(peak[m][half]);
            const float chosen = row_sum(viewers[m][half]);
            const int key = warp_key + fragment_row(m, half);
            // A key that no query sees receives nothing.
            const float seen = mask.chosen ? fmaxf(chosen, 1.0f) : float(mask.end(key) - key);
            store_received(sink, tile, head, key, total / seen, largest * rule.unit);
        }
    }
    if (args.extra_logits && tile.first == 0 && threadIdx.x < 32) extra_key_sink(sink, tile, head);
}
