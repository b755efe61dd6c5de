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

#include "logits.cuh"
#include "score_stream.cuh"

template <class T>
__device__ __forceinline__ void attention_maps(const AttentionMapArguments& map) {
    constexpr int N = MAP_TILE / 8;
    const AttentionArguments& args = map.attention;
    const int first_key = blockIdx.x * MAP_TILE;
    const int first_query = blockIdx.y * MAP_TILE;
    const int warp_query = first_query + threadIdx.x / 32 * 16;
    const int extra = args.extra_logits ? 1 : 0;
    const size_t columns = map.length + extra;
    auto place = [&](int query, int key) { return query * columns + extra + key; };
    const size_t head_size = map.length * columns;

    // What each thread does for its entries of the tile.
    auto for_each = [&](auto visit) {
#pragma unroll
        for (int n = 0; n < N; n++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int query = warp_query + fragment_row(0, j / 2);
                const int key = first_key + fragment_column(n, j % 2);
                if (query < map.length && key < map.length) visit(n, j, query, key);
            }
        }
    };

    const Mask mask(args, map.start, map.length);
    const bool hidden = first_key >= first_query + MAP_TILE ||
                        first_key + MAP_TILE - 1 < mask.first(first_query);
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
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int query = min(warp_query + fragment_row(0, half), map.length - 1);
            log_sums[half] = args.log_sums[size_t(head) * args.rows + map.start + query];
        }
#pragma unroll
        for (int n = 0; n < N; n++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float value = scores[0][n][j];
                probs[n][j] += exp2_approximate(fmaf(value, rule.factor, -log_sums[j / 2]));
                logits[n][j] += value * rule.unit;
            }
        }
        if (map.probs) {
            for_each([&](int n, int j, int query, int key) {
                const float value = scores[0][n][j];
                const bool seen = mask(query, key);
                const size_t at = head * head_size + place(query, key);
                map.probs[at] =
                    seen ? exp2_approximate(fmaf(value, rule.factor, -log_sums[j / 2])) : NAN;
                map.logits[at] = seen ? value * rule.unit : NAN;
            });
        }
    };
    if (!hidden) {
        stream.template run<1>(args.heads, load, use);
    } else if (map.probs) {
        for (int head = 0; head < args.heads; head++) {
            for_each([&](int, int, int query, int key) {
                const size_t at = head * head_size + place(query, key);
                map.probs[at] = NAN;
                map.logits[at] = NAN;
            });
        }
    }
    if (map.probs_mean) {
        for_each([&](int n, int j, int query, int key) {
            const bool seen = !hidden && mask(query, key);
            map.probs_mean[place(query, key)] = seen ? probs[n][j] / args.heads : NAN;
            map.logits_mean[place(query, key)] = seen ? logits[n][j] / args.heads : NAN;
        });
    }

    // The extra key's column, by the blocks at the left edge.
    if (!extra || blockIdx.x != 0) return;
    for (int query = first_query + threadIdx.x; query < min(first_query + MAP_TILE, map.length);
         query += CAPTURE_THREADS) {
        float prob_sum = 0.0f, logit_sum = 0.0f;
        for (int head = 0; head < args.heads; head++) {
            const size_t row = size_t(head) * args.rows + map.start + query;
            const float prob = exp2_approximate(args.extra_logits[row] - args.log_sums[row]);
            const float logit = args.extra_logits[row] * LN_2;
            prob_sum += prob;
            logit_sum += logit;
            if (map.probs) {
                map.probs[head * head_size + query * columns] = prob;
                map.logits[head * head_size + query * columns] = logit;
            }
        }
        if (map.probs_mean) {
            map.probs_mean[query * columns] = prob_sum / args.heads;
            map.logits_mean[query * columns] = logit_sum / args.heads;
        }
    }
}
