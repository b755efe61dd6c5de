// Attention maps: logits and probabilities, their mean over heads or those of every head.
//
// A second pass over Q K^T after the forward pass saved the softmax's denominators. A block owns
// 64 x 64 entries of the map and walks over the heads, adding up in registers: no T x T matrix of a
// head exists in memory unless heads are asked for, no atomics, the same sums in every run. Entries
// that the mask hides are NaN. With an extra key, its column comes first.
//
// Grid: (key tiles, query tiles) of one sequence. Causal: T^2 head_dim heads FLOP, 4 T^2 bytes
// written a map; q and k are read T / 64 times from the L2 cache. Bound by the tensor cores for
// head means, by memory for per-head maps.
#pragma once

#include "map_tile.cuh"
#include "score_stream.cuh"

template <class T>
__device__ __forceinline__ void attention_maps(const AttentionMapArguments& map) {
    constexpr int N = MAP_TILE / 8;
    const AttentionArguments& args = map.attention;
    const int first_key = blockIdx.x * MAP_TILE;
    const int first_query = blockIdx.y * MAP_TILE;
    const MapTile<T, N> tile(map, first_query + threadIdx.x / 32 * 16, first_key);
    // By the blocks at the left edge.
    if (args.extra_logits && blockIdx.x == 0) {
        store_extra_column(map, first_query + threadIdx.x, first_query + MAP_TILE, CAPTURE_THREADS);
    }
    if (first_key >= first_query + MAP_TILE ||
        first_key + MAP_TILE - 1 < tile.mask.first(first_query)) {
        tile.hide();
        return;
    }
    float probs[N][4], logits[N][4];
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
        for (int j = 0; j < 4; j++) probs[n][j] = logits[n][j] = 0.0f;
    }

    SHARED_DYNAMIC(T, memory);
    const ScoreStream<T, MAP_TILE, MAP_TILE, CAPTURE_THREADS> stream{memory, args.head_dim};
    const int group = args.heads / args.kv_heads;
    auto load = [&](int head, auto q, auto k, int column) {
        const HeadRows<T> queries(args.q, map.start, map.length, args.heads, head, args.head_dim,
                                  args.aligned);
        const HeadRows<T> keys(args.k, map.start, map.length, args.kv_heads, head / group,
                               args.head_dim, args.aligned);
        load_rows<MAP_TILE, CAPTURE_THREADS>(q, queries, first_query, column);
        load_rows<MAP_TILE, CAPTURE_THREADS>(k, keys, first_key, column);
    };
    auto use = [&](int head, float (&scores)[1][N][4]) {
        const LogitRule<T> rule(args, head, map.length);
        rule.finish(scores, first_key);
        float log_sums[2];
        tile.load_log_sums(log_sums, head);
        add_weighed(probs, logits, scores[0], rule, log_sums);
        tile.store_head(head, scores[0], rule, log_sums);
    };
    stream.template run<1>(args.heads, load, use);
    tile.store_means(probs, logits);
}
