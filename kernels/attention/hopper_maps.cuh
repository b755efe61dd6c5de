// Attention maps (maps.cuh says what) by the instructions of compute capability 9.0.
//
// A block owns the entries of 128 queries, 64 a warpgroup, and KEYS keys, and walks over the heads, adding up in
// registers. A warp copies the queries of each head and the keys of each key/value head, once for all heads that
// share them, into two rings (hopper_ring.cuh); the warpgroups take turns at starting products, so that the
// exponentials of one run under the products of the other.
//
// Layout: maps.cuh's, of heads whose widths are multiples of 8 (hopper.cuh). Keys chosen for each query are
// maps.cuh's alone. Grid: (key tiles, query tiles) of one sequence.
//
// Work: maps.cuh's. For means a tile of 128 x 96 entries reads 448 head_dim bytes a head from the second-level cache,
// fewer where heads share keys, for 24,576 head_dim FLOP and 12,288 exponentials: at the published rates the cache
// is what bounds it. Maps of each head are bound by memory, to which they write 8 bytes an entry.
#pragma once

#include "arguments.cuh"
#include "hopper_logits.cuh"
#include "hopper_products.cuh"
#include "hopper_ring.cuh"
#include "map_tile.cuh"

#if HOPPER

constexpr int HOPPER_MAP_QUERIES = HOPPER_CONSUMERS * HOPPER_ROWS;

// What lies in a block's shared memory, and the warp that fills it.
template <class T, int WIDTH, int KEYS, int STAGES>
struct HopperMapBlock {
    using Queries = SwizzledTile<T, HOPPER_MAP_QUERIES, WIDTH>;
    using Keys = SwizzledTile<T, KEYS, WIDTH>;

    TileRing<Queries, STAGES> queries;
    TileRing<Keys, STAGES> keys;

    // Swizzles are patterns of so many bytes.
    static constexpr int ALIGNMENT = 1024;
    static_assert(Queries::BYTES % ALIGNMENT == 0 && Keys::BYTES % ALIGNMENT == 0);

    __device__ __forceinline__ explicit HopperMapBlock(unsigned char* memory) {
        queries.first = Queries{reinterpret_cast<T*>(memory)};
        memory += STAGES * Queries::BYTES;
        keys.first = Keys{reinterpret_cast<T*>(memory)};
        memory += STAGES * Keys::BYTES;
        queries.full = reinterpret_cast<SharedBarrier*>(memory);
        queries.empty = queries.full + STAGES;
        keys.full = queries.empty + STAGES;
        keys.empty = keys.full + STAGES;
    }

    // By one thread, before the others look.
    __device__ __forceinline__ void initialise() const {
        queries.initialise();
        keys.initialise();
        barrier_init_fence();
    }

    // By one thread: every head's queries, and its keys where they are not those of the head before.
    __device__ __forceinline__ void fill(const AttentionMapHopperArguments& told, int first_query,
                                         int first_key) const {
        const AttentionArguments& args = told.map.attention;
        const TensorMap* maps = static_cast<const TensorMap*>(told.maps);
        for (int i = 0; i < 2; i++) tensor_map_acquire(maps + i);
        const int group = args.heads / args.kv_heads;
        RingPlace<STAGES> query_place, key_place;
        for (int head = 0; head < args.heads; head++) {
            if (head % group == 0) keys.fill(key_place, maps + 1, head / group, first_key);
            queries.fill(query_place, maps, head, first_query);
        }
    }
};

// Of a warpgroup: its queries' entries.
template <class T, int WIDTH, int KEYS, int STAGES>
__device__ __forceinline__ void map_heads(const AttentionMapArguments& map,
                                          const HopperMapBlock<T, WIDTH, KEYS, STAGES>& block,
                                          int first_query, int first_key) {
    constexpr int N = KEYS / 8;
    const AttentionArguments& args = map.attention;
    const int group = args.heads / args.kv_heads;
    // By a shuffle, so that the compiler knows it to be the same in all lanes, and with it the descriptors.
    const int consumer = __shfl_sync(FULL_WARP, int(threadIdx.x / 128) - 1, 0);
    const int row = consumer * HOPPER_ROWS;
    const MapTile<T, N> tile(map, first_query + row + threadIdx.x / 32 % 4 * 16, first_key);

    float scores[N][4], probs[N][4], logits[N][4];
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
        for (int j = 0; j < 4; j++) probs[n][j] = logits[n][j] = 0.0f;
    }
    RingPlace<STAGES> query_place, key_place;
    const ProductTurns turns(consumer);
    for (int head = 0; head < args.heads; head++) {
        float log_sums[2];
        tile.load_log_sums(log_sums, head);
        turns.await();
        const auto queries = block.queries.await(query_place);
        const auto keys = block.keys.await(key_place);
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < WIDTH / 16; step++) {
            start_product<T>(scores, queries.along_rows(row, step), keys.along_rows(0, step),
                             step > 0);
        }
        wgmma_commit();
        turns.pass(head + 1 == args.heads);
        wgmma_wait<0>(scores);
        block.queries.release(query_place);
        if ((head + 1) % group == 0) block.keys.release(key_place);

        const LogitRule<T> rule(args, head, map.length);
        finish_scores(scores, {rule, rule}, anew(first_key + fragment_column(0, 0)));
        add_weighed(probs, logits, scores, rule, log_sums);
        tile.store_head(head, scores, rule, log_sums);
    }
    tile.store_means(probs, logits);
}

template <class T, int WIDTH, int KEYS, int STAGES>
__device__ __forceinline__ void attention_maps_on_hopper(const AttentionMapHopperArguments& told) {
    using Block = HopperMapBlock<T, WIDTH, KEYS, STAGES>;
    const AttentionMapArguments& map = told.map;
    const int first_key = blockIdx.x * KEYS;
    const int first_query = blockIdx.y * HOPPER_MAP_QUERIES;
    const int thread = int(threadIdx.x) - 128;  // of the consumers
    // By the blocks at the left edge.
    if (map.attention.extra_logits && blockIdx.x == 0 && thread >= 0) {
        store_extra_column(map, first_query + thread, first_query + HOPPER_MAP_QUERIES,
                           HOPPER_THREADS - 128);
    }
    if (first_key >= first_query + HOPPER_MAP_QUERIES ||
        first_key + KEYS - 1 < Mask(map.attention, map.start, map.length).first(first_query)) {
        if (thread >= 0) MapTile<T, KEYS / 8>(map, first_query + thread / 32 * 16, first_key).hide();
        return;
    }

    SHARED_DYNAMIC_ALIGNED(unsigned char, memory, Block::ALIGNMENT);
    const Block block(memory);
    if (threadIdx.x == 0) block.initialise();
    __syncthreads();
    if (threadIdx.x < 128) {
        keep_registers<24>();
        if (threadIdx.x < 32 && elect_one()) block.fill(told, first_query, first_key);
    } else {
        take_registers<240>();
        map_heads(map, block, first_query, first_key);
    }
}

#else

// Nobody starts it on other cards.
template <class T, int WIDTH, int KEYS, int STAGES>
__device__ __forceinline__ void attention_maps_on_hopper(const AttentionMapHopperArguments&) {}

#endif
