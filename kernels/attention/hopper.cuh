// Fused causal attention (forward.cuh says what) by the instructions of compute capability 9.0.
//
// FlashAttention-3's structure (Shah et al. 2024): a warp copies tiles of keys and values into a ring
// (hopper_block.cuh), and two warpgroups of 64 rows each multiply. Scores = Q K^T have both operands in
// shared memory, output += P V the weights in registers. A warpgroup starts the scores of the next tile
// before the output of this one, and makes weights of them while the output is under way; the two take
// turns at starting products, so that one's softmax runs under the other's.
//
// The rows of a tile are a few neighbouring heads that share a key/value head (`packed`), at some
// positions, heads fastest: short sequences and narrow windows leave fewer rows idle so. Rows that are
// left over where `packed` does not divide 64 hold zeros. Grid: tiles x tiles of heads, in the order of
// AttentionSection; of a sequence the host lists the tiles with the most keys first.
//
// Layout: forward.cuh's, of heads whose widths are multiples of 8, as tensor copies need them; these put
// zeros beyond the head and beyond the sequence. Keys chosen for each query are forward.cuh's alone.
//
// A value that is not finite makes the outputs of all rows of its tile no numbers, also of those that do not see its
// key: zero times it is none. Their own key's row is among them, so that the engine refuses such a run in any case.
//
// Work and traffic are forward.cuh's. It is bound by the tensor cores from some thousand tokens on,
// with shared memory, the second-level cache and the exponentials close behind (docs/cuda-bounds.md).
#pragma once

#include "hopper_block.cuh"
#include "hopper_logits.cuh"
#include "hopper_products.cuh"
#include "softmax.cuh"

// The output that all keys of a row give (hopper_subset.cuh has another one).
struct WholeOutput {
    // Hides what is not part of it, in a tile whose first key is this row of the batch.
    template <int N>
    __device__ __forceinline__ void hide(float (&)[N][4], int) const {}

    // Divides a row by its denominator, whose logarithm it returns; it may be stored, at a place among all rows.
    template <int I>
    __device__ __forceinline__ float finish(RunningSoftmax<1, I>& softmax, int half, bool,
                                            size_t) const {
        return softmax.finish(0, half);
    }
};

#if HOPPER

// What a row of a tile is; `stored` if there is such a row and position.
struct PackedRow {
    int query;
    int head;
    bool stored;

    __device__ PackedRow(int row, int first_query, int first_head, int packed, int length)
        : query(first_query + row / packed),
          head(first_head + row % packed),
          stored(row < HOPPER_ROWS / packed * packed && query < length) {}
};

// Adds what takes part without being a key of the sequence; `extra` becomes the logits of the extra key.
template <class T, int I, int WIDTH>
__device__ __forceinline__ void add_keyless(RunningSoftmax<1, I>& softmax, float (&extra)[2],
                                            const AttentionArguments& args,
                                            const SwizzledTile<T, HOPPER_ROWS, WIDTH>& q,
                                            const PackedRow (&rows)[2], int warp_row) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int head = rows[half].head;
        if (args.sinks) softmax.add_logit(0, half, args.sinks[head] * LOG2_E);
        if (!args.extra_key) continue;
        const float* key = args.extra_key + head * args.head_dim;
        float product = 0.0f;
        for (int i = lane_id() & 3; i < args.head_dim; i += 4) {
            const T* value = q.at(warp_row + fragment_row(0, half), i);
            product = fmaf(Element<T>::widen(*value), key[i], product);
        }
        product = row_sum(product);
        // It has no position, so ALiBi leaves it alone.
        const LogitRule<T> rule(args, head, 0);
        extra[half] = (rule.plain ? product : rule.finish(product, 0.0f)) * rule.factor;
        const float weight = softmax.add_logit(0, half, extra[half]);
        const float* value = args.extra_value + head * args.value_dim;
#pragma unroll
        for (int i = 0; i < I; i++) {
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const int column = fragment_column(i, j);
                if (column < args.value_dim) {
                    softmax.output[0][i][2 * half + j] += weight * value[column];
                }
            }
        }
    }
}

// Of a warpgroup: its rows against all keys that they see.
template <class T, class Block, int VALUE_WIDTH, int KEYS, int STAGES, class Output>
__device__ __forceinline__ void consume(const AttentionHopperArguments& told, const Block& block,
                                        const Output& output, AttentionTile tile, int first_head,
                                        int begin, int tiles) {
    constexpr int N = KEYS / 8, I = VALUE_WIDTH / 8;
    constexpr int WIDTH = Block::Queries::CHUNKS * Block::Queries::COLUMNS;
    const AttentionArguments& args = told.attention;
    const int packed = told.packed, positions = HOPPER_ROWS / packed;
    // By a shuffle, so that the compiler knows it to be the same in all lanes, and with it the descriptors.
    const int consumer = __shfl_sync(FULL_WARP, int(threadIdx.x / 128) - 1, 0);
    const int warp_row = threadIdx.x / 32 % 4 * 16;
    const int first_query = tile.first + consumer * positions;
    const auto q = block.queries(consumer);

    if (positions * packed < HOPPER_ROWS) {
        for (int i = threadIdx.x % 128; i < (HOPPER_ROWS - positions * packed) * (WIDTH / 8);
             i += 128) {
            store_16(q.at(positions * packed + i / (WIDTH / 8), i % (WIDTH / 8) * 8), uint4{});
        }
        async_proxy_fence();
        warpgroup_sync(consumer);
    }

    const auto row_of = [&](int half) {
        return PackedRow(warp_row + fragment_row(0, half), first_query, first_head, packed,
                         tile.length);
    };
    const PackedRow rows[2] = {row_of(0), row_of(1)};
    const Mask mask(args, tile.start, tile.length);
    // The warp's first and last position.
    const int earliest = first_query + warp_row / packed;
    const int latest = first_query + (warp_row + 15) / packed;

    RunningSoftmax<1, I> softmax;
    float scores[1][N][4];
    uint32_t weights[N / 2][4];
    RingPlace<STAGES> key_place, value_place;
    const ProductTurns turns(consumer);

    const auto start_scores = [&] {
        const auto keys = block.keys.await(key_place);
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < WIDTH / 16; step++) {
            start_product<T>(scores[0], q.along_rows(0, step), keys.along_rows(0, step), step > 0);
        }
        wgmma_commit();
    };
    const auto start_output = [&] {
        const auto values = block.values.await(value_place);
#pragma unroll
        for (int step = 0; step < KEYS / 16; step++) {
            start_product<T>(softmax.output[0], weights[step], values.along_columns(step));
        }
        wgmma_commit();
    };
    // From scores to weights, and how much the output has to shrink.
    const auto weigh = [&](int first_key, float (&shrinks)[2]) {
        // The thread's first key: of the others it differs by constants.
        const int own_key = first_key + fragment_column(0, 0);
        const LogitRule<T> rules[2] = {LogitRule<T>(args, rows[0].head, tile.length),
                                       LogitRule<T>(args, rows[1].head, tile.length)};
        finish_scores(scores[0], rules, own_key);
        if (first_key + KEYS - 1 > earliest || first_key < mask.first(latest)) {
            const int first[2] = {mask.first(rows[0].query), mask.first(rows[1].query)};
#pragma unroll
            for (int n = 0; n < N; n++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const int key = own_key + n * 8 + i % 2;
                    if (key < first[i / 2] || key > rows[i / 2].query) scores[0][n][i] = -INFINITY;
                }
            }
        }
        output.hide(scores[0], tile.start + first_key);
        softmax.weigh(scores, rules[0].factor,
                      [&](int, int half, float shrink) { shrinks[half] = shrink; });
    };

    barrier_wait(block.queries_full, 0);
    turns.await();
    start_scores();
    turns.pass(tiles == 1);
    wgmma_wait<0>(scores[0]);
    block.keys.release(key_place);
    float shrinks[2];
    weigh(begin, shrinks);  // there is no output yet
    pack_weights<T>(weights, scores[0]);

    for (int i = 1; i < tiles; i++) {
        turns.await();
        start_scores();
        start_output();
        turns.pass(i + 1 == tiles);
        wgmma_wait<1>(scores[0]);
        block.keys.release(key_place);
        weigh(begin + i * KEYS, shrinks);
        wgmma_wait<0>(softmax.output[0]);
        block.values.release(value_place);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            if (__any_sync(0xffffffffu, shrinks[half] != 1.0f)) {
                softmax.shrink_output(0, half, shrinks[half]);
            }
        }
        pack_weights<T>(weights, scores[0]);
    }
    wgmma_fence();
    start_output();
    wgmma_wait<0>(softmax.output[0]);

    float extra[2];
    add_keyless(softmax, extra, args, q, rows, warp_row);

    // Out through the queries' tile, once no product of the warpgroup reads it any more.
    warpgroup_sync(consumer);
    const SwizzledTile<T, HOPPER_ROWS, VALUE_WIDTH> result{q.values};
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const size_t place = size_t(rows[half].head) * args.rows + tile.start + rows[half].query;
        const float log_sum = output.finish(softmax, half, rows[half].stored, place);
        if (rows[half].stored && (lane_id() & 3) == 0) {
            if (args.log_sums) args.log_sums[place] = log_sum;
            if (args.extra_logits) args.extra_logits[place] = extra[half];
        }
#pragma unroll
        for (int i = 0; i < I; i++) {
            const float(&pair)[4] = softmax.output[0][i];
            *reinterpret_cast<uint32_t*>(
                result.at(warp_row + fragment_row(0, half), fragment_column(i, 0))) =
                pack<T>(pair[2 * half], pair[2 * half + 1]);
        }
    }
    __syncwarp();
    for (int i = lane_id(); i < 16 * I; i += 32) {
        const int row = warp_row + i / I, column = i % I * 8;
        const PackedRow place(row, first_query, first_head, packed, tile.length);
        if (!place.stored || column >= args.value_dim) continue;
        T* out = static_cast<T*>(args.out) +
                 (size_t(tile.start + place.query) * args.heads + place.head) * args.value_dim;
        store_16(out + column, load_16(result.at(row, column)));
    }
}

template <class T, int WIDTH, int VALUE_WIDTH, int KEYS, int STAGES, class Output>
__device__ __forceinline__ void attend_on_hopper(const AttentionHopperArguments& told,
                                                 const Output& output) {
    using Block = HopperBlock<T, WIDTH, VALUE_WIDTH, KEYS, STAGES>;
    static_assert(VALUE_WIDTH <= WIDTH);  // the output passes through the queries' tile
    const AttentionArguments& args = told.attention;
    SHARED_DYNAMIC_ALIGNED(unsigned char, memory, Block::ALIGNMENT);
    const Block block(memory);
    // Found by one thread: registers are few, and what finding it takes would be kept in them.
    int* const found = block.place;
    if (threadIdx.x == 0) {
        block.initialise();
        const AttentionPlace place(args, blockIdx.x, told.blocks);
        found[0] = place.tile.start;
        found[1] = place.tile.length;
        found[2] = place.tile.first;
        found[3] = place.tile.sequence;
        found[4] = place.head;
    }
    __syncthreads();

    const AttentionTile tile{found[0], found[1], found[2], found[3]};
    const int head = found[4] * told.packed;
    // The keys that the block's rows can see.
    const int positions = HOPPER_CONSUMERS * (HOPPER_ROWS / told.packed);
    const int begin = max(0, Mask(args, tile.start, tile.length).first(tile.first));
    const int end = min(tile.length, tile.first + positions);
    const int tiles = (end - begin + KEYS - 1) / KEYS;
    if (threadIdx.x < 128) {
        keep_registers<24>();
        if (threadIdx.x < 32 && elect_one()) {
            block.fill(told, tile, head, head / (args.heads / args.kv_heads), begin, tiles);
        }
    } else {
        take_registers<240>();
        consume<T, Block, VALUE_WIDTH, KEYS, STAGES>(told, block, output, tile, head, begin, tiles);
    }
}

#else

// Nobody starts it on other cards.
template <class T, int WIDTH, int VALUE_WIDTH, int KEYS, int STAGES, class Output>
__device__ __forceinline__ void attend_on_hopper(const AttentionHopperArguments&, const Output&) {}

#endif
