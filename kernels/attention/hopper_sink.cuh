// What each key receives (sink.cuh says what) by the instructions of compute capability 9.0.
//
// Scores are transposed, K Q^T: a block owns 128 keys of one head, 64 a warpgroup, which stay in shared
// memory as the products' left operand, and a warp copies tiles of the queries that see them into a ring
// (hopper_ring.cuh). A key is a row of the accumulator, so its sum stays in two registers of each of four
// threads and is the same in every run; a query is a column, whose softmax denominator a warpgroup fetches
// through shared memory while its products are under way. The warpgroups take turns at starting products, so
// that the exponentials of one run under the products of the other.
//
// Layout: sink.cuh's, of heads whose widths are multiples of 8 (hopper.cuh). Keys chosen for each query are
// sink.cuh's alone. Grid: heads x tiles, in the order of AttentionSection, so that the queries of the heads
// under way stay in the second-level cache; of a sequence the host lists first the tiles that most queries see.
//
// A head of a sequence: T^2 head_dim FLOP, half of the forward pass's with equal widths, and T^2 / 2
// exponentials. Every query is read once a tile of keys that sees it, 2 head_dim bytes from the second-level
// cache for 128 of its scores; keys once, and 8 bytes a key are written. Bound by the tensor cores and the
// exponentials together: with heads of 128 a tile takes as many clocks of the one as of the other, with
// narrower heads the exponentials are the longer part.
#pragma once

#include "hopper_logits.cuh"
#include "hopper_products.cuh"
#include "hopper_sink_block.cuh"
#include "received.cuh"

#if HOPPER

// Of a warpgroup: its keys against all queries of the tiles.
template <class T, int WIDTH, int STAGES>
__device__ __forceinline__ void receive(const AttentionSinkArguments& sink,
                                        const HopperSinkBlock<T, WIDTH, STAGES>& block,
                                        AttentionTile tile, int head, int tiles) {
    constexpr int QUERIES = HOPPER_SINK_QUERIES, N = QUERIES / 8;
    static_assert(QUERIES == 128);  // a log-sum a thread
    const AttentionArguments& args = sink.attention;
    // By a shuffle, so that the compiler knows it to be the same in all lanes, and with it the descriptors.
    const int consumer = __shfl_sync(FULL_WARP, int(threadIdx.x / 128) - 1, 0);
    const int warp_key = tile.first + consumer * HOPPER_ROWS + threadIdx.x / 32 % 4 * 16;
    const int own[2] = {warp_key + fragment_row(0, 0), warp_key + fragment_row(0, 1)};
    const auto keys = block.keys(consumer);
    const float* log_sums = args.log_sums + size_t(head) * args.rows + tile.start;
    const LogitRule<T> rule(args, head, tile.length);
    const Mask mask(args, tile.start, tile.length);
    const int end[2] = {mask.end(own[0]), mask.end(own[1])};
    // The queries that see all keys of the warp.
    const int common_begin = warp_key + 15, common_end = mask.end(warp_key);

    float mass[2] = {0.0f, 0.0f}, peak[2] = {-INFINITY, -INFINITY};
    float scores[N][4];
    RingPlace<STAGES> place;
    const ProductTurns turns(consumer);
    barrier_wait(block.keys_full, 0);
    for (int i = 0; i < tiles; i++) {
        const int first_query = tile.first + i * QUERIES;
        const int fetched = first_query + threadIdx.x % 128;
        const float log_sum = fetched < tile.length ? log_sums[fetched] : 0.0f;

        turns.await();
        const auto queries = block.queries.await(place);
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < WIDTH / 16; step++) {
            start_product<T>(scores, keys.along_rows(0, step), queries.along_rows(0, step), step > 0);
        }
        wgmma_commit();
        turns.pass(i + 1 == tiles);

        // What was read of this place two tiles ago was read before the last tile's synchronisation.
        float* sums = block.log_sums(consumer, i);
        sums[threadIdx.x % 128] = log_sum;
        warpgroup_sync(consumer);
        wgmma_wait<0>(scores);
        block.queries.release(place);

        if (!rule.plain) {
            scale_and_cap(scores, rule);
            if (args.slopes) {
                const float bias[2] = {rule.bias(own[0]), rule.bias(own[1])};
#pragma unroll
                for (int n = 0; n < N; n++) {
#pragma unroll
                    for (int j = 0; j < 4; j++) scores[n][j] += bias[j / 2];
                }
            }
        }
        if (first_query < common_begin || first_query + QUERIES > common_end) {
            const int own_query = first_query + fragment_column(0, 0);
#pragma unroll
            for (int n = 0; n < N; n++) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const int query = own_query + n * 8 + j % 2;
                    if (query < own[j / 2] || query >= end[j / 2]) scores[n][j] = -INFINITY;
                }
            }
        }
#pragma unroll
        for (int n = 0; n < N; n++) {
            const float2 pair = *reinterpret_cast<const float2*>(sums + fragment_column(n, 0));
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float subtract = j % 2 ? pair.y : pair.x;
                mass[j / 2] += exp2_approximate(fmaf(scores[n][j], rule.factor, -subtract));
                peak[j / 2] = fmaxf(peak[j / 2], scores[n][j]);
            }
        }
    }

#pragma unroll
    for (int half = 0; half < 2; half++) {
        const float total = row_sum(mass[half]), largest = row_max(peak[half]);
        store_received(sink, tile, head, own[half], total / float(end[half] - own[half]),
                       largest * rule.unit);
    }
    if (args.extra_logits && tile.first == 0 && threadIdx.x / 32 == 4) {
        extra_key_sink(sink, tile, head);
    }
}

template <class T, int WIDTH, int STAGES>
__device__ __forceinline__ void attention_sink_on_hopper(const AttentionSinkHopperArguments& told) {
    using Block = HopperSinkBlock<T, WIDTH, STAGES>;
    const AttentionArguments& args = told.sink.attention;
    SHARED_DYNAMIC_ALIGNED(unsigned char, memory, Block::ALIGNMENT);
    const Block block(memory);
    if (threadIdx.x == 0) block.initialise();
    __syncthreads();

    const AttentionPlace place(args, blockIdx.x, args.heads);
    const AttentionTile tile = place.tile;
    // The first key is seen from its own position on, the last one the longest.
    const int last_key = min(tile.first + HOPPER_CONSUMERS * HOPPER_ROWS, tile.length) - 1;
    const int queries = Mask(args, tile.start, tile.length).end(last_key) - tile.first;
    const int tiles = (queries + HOPPER_SINK_QUERIES - 1) / HOPPER_SINK_QUERIES;
    if (threadIdx.x < 128) {
        keep_registers<24>();
        if (threadIdx.x < 32 && elect_one()) block.fill(told, tile, place.head, tiles);
    } else {
        take_registers<240>();
        receive(told.sink, block, tile, place.head, tiles);
    }
}

#else

// Nobody starts it on other cards.
template <class T, int WIDTH, int STAGES>
__device__ __forceinline__ void attention_sink_on_hopper(const AttentionSinkHopperArguments&) {}

#endif
