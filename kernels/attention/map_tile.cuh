// A tile of a map in the registers of warps, each 16 queries of it, on its way to memory; and the extra key's
// column.
#pragma once

#include "logits.cuh"

// N * 8 keys from the first on.
template <class T, int N>
struct MapTile {
    const AttentionMapArguments& map;
    int warp_query;
    int first_key;
    Mask mask;
    int extra;  // columns before the first key's
    size_t columns;
    size_t head_size;

    __device__ MapTile(const AttentionMapArguments& map, int warp_query, int first_key)
        : map(map),
          warp_query(warp_query),
          first_key(first_key),
          mask(map.attention, map.start, map.length),
          extra(map.attention.extra_logits ? 1 : 0),
          columns(map.length + extra),
          head_size(map.length * columns) {}

    // log2 of the softmax's denominators of a thread's two queries.
    __device__ __forceinline__ void load_log_sums(float (&log_sums)[2], int head) const {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int query = min(warp_query + fragment_row(0, half), map.length - 1);
            log_sums[half] =
                map.attention.log_sums[size_t(head) * map.attention.rows + map.start + query];
        }
    }

    // The maps of one head, where these are wanted.
    __device__ __forceinline__ void store_head(int head, const float (&values)[N][4],
                                               const LogitRule<T>& rule,
                                               const float (&log_sums)[2]) const {
        if (!map.probs) return;
        const size_t start = head * head_size;
        for_each([&](int n, int j, size_t place, bool seen) {
            const float value = values[n][j];
            map.probs[start + place] =
                seen ? exp2_approximate(fmaf(value, rule.factor, -log_sums[j / 2])) : NAN;
            map.logits[start + place] = seen ? value * rule.unit : NAN;
        });
    }

    // The means, where these are wanted, out of sums over the heads.
    __device__ __forceinline__ void store_means(const float (&probs)[N][4],
                                                const float (&logits)[N][4]) const {
        if (!map.probs_mean) return;
        const int heads = map.attention.heads;
        for_each([&](int n, int j, size_t place, bool seen) {
            map.probs_mean[place] = seen ? probs[n][j] / heads : NAN;
            map.logits_mean[place] = seen ? logits[n][j] / heads : NAN;
        });
    }

    // A tile of keys that none of the queries sees.
    __device__ __forceinline__ void hide() const {
        for_each([&](int, int, size_t place, bool) {
            if (map.probs_mean) map.probs_mean[place] = map.logits_mean[place] = NAN;
            if (!map.probs) return;
            for (int head = 0; head < map.attention.heads; head++) {
                map.probs[head * head_size + place] = map.logits[head * head_size + place] = NAN;
            }
        });
    }

private:
    // What a thread does for its entries of the tile: entry j of the n-th eight keys, its place in a map, and
    // whether the query sees the key.
    template <class Visit>
    __device__ __forceinline__ void for_each(Visit visit) const {
        const int own_key = anew(first_key + fragment_column(0, 0));
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int query = warp_query + fragment_row(0, half);
            if (query >= map.length) continue;
            const size_t own = query * columns + extra + own_key;
            const int first = mask.first(query);
#pragma unroll
            for (int n = 0; n < N; n++) {
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    const int key = own_key + n * 8 + j;
                    const bool seen = key >= first && key <= query && mask.chose(query, key);
                    if (key < map.length) visit(n, 2 * half + j, own + n * 8 + j, seen);
                }
            }
        }
    }
};

// Adds a head's probabilities and logits to sums over the heads.
template <class T, int N>
__device__ __forceinline__ void add_weighed(float (&probs)[N][4], float (&logits)[N][4],
                                            const float (&values)[N][4], const LogitRule<T>& rule,
                                            const float (&log_sums)[2]) {
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            probs[n][j] += exp2_approximate(fmaf(values[n][j], rule.factor, -log_sums[j / 2]));
            logits[n][j] += values[n][j] * rule.unit;
        }
    }
}

// The extra key's column of the queries from `query` on, every so many of them, before `end`.
__device__ __forceinline__ void store_extra_column(const AttentionMapArguments& map, int query,
                                                   int end, int every) {
    const AttentionArguments& args = map.attention;
    const size_t columns = map.length + 1, head_size = map.length * columns;
    for (; query < min(end, map.length); query += every) {
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
