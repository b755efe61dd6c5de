// What lies in the shared memory of a block that finds what keys receive on Hopper, and the warp that
// fills it: the keys of each warpgroup, which stay, a ring of tiles of queries (hopper_ring.cuh), and of each
// warpgroup the log-sums of two tiles, the one that it reads and the one that it writes.
#pragma once

#include "arguments.cuh"
#include "hopper_ring.cuh"

#if HOPPER

template <class T, int WIDTH, int STAGES>
struct HopperSinkBlock {
    using Keys = SwizzledTile<T, HOPPER_ROWS, WIDTH>;
    using Queries = SwizzledTile<T, HOPPER_SINK_QUERIES, WIDTH>;

    T* start;
    TileRing<Queries, STAGES> queries;
    float* sums;
    SharedBarrier* keys_full;

    // Swizzles are patterns of so many bytes.
    static constexpr int ALIGNMENT = 1024;
    static_assert(Keys::BYTES % ALIGNMENT == 0 && Queries::BYTES % ALIGNMENT == 0);

    __device__ __forceinline__ explicit HopperSinkBlock(unsigned char* memory) {
        start = reinterpret_cast<T*>(memory);
        memory += HOPPER_CONSUMERS * Keys::BYTES;
        queries.first = Queries{reinterpret_cast<T*>(memory)};
        memory += STAGES * Queries::BYTES;
        sums = reinterpret_cast<float*>(memory);
        memory += HOPPER_CONSUMERS * 2 * HOPPER_SINK_QUERIES * sizeof(float);
        keys_full = reinterpret_cast<SharedBarrier*>(memory);
        queries.full = keys_full + 1;
        queries.empty = queries.full + STAGES;
    }

    __device__ __forceinline__ Keys keys(int consumer) const {
        return Keys{start + consumer * (Keys::BYTES / 2)};
    }
    __device__ __forceinline__ float* log_sums(int consumer, int tile) const {
        return sums + (consumer * 2 + tile % 2) * HOPPER_SINK_QUERIES;
    }

    // By one thread, before the others look.
    __device__ __forceinline__ void initialise() const {
        barrier_init(keys_full, 1);
        queries.initialise();
        barrier_init_fence();
    }

    // By one thread: the keys of all consumers, then `tiles` tiles of queries from the first key's on.
    __device__ __forceinline__ void fill(const AttentionSinkHopperArguments& args,
                                         AttentionTile tile, int head, int tiles) const {
        const AttentionArguments& attention = args.sink.attention;
        const TensorMap* maps = static_cast<const TensorMap*>(args.maps) + tile.sequence * 2;
        for (int i = 0; i < 2; i++) tensor_map_acquire(maps + i);
        const int kv_head = head / (attention.heads / attention.kv_heads);
        barrier_arrive_expecting(keys_full, HOPPER_CONSUMERS * Keys::BYTES);
#pragma unroll
        for (int consumer = 0; consumer < HOPPER_CONSUMERS; consumer++) {
            keys(consumer).copy(maps + 1, keys_full, kv_head, tile.first + consumer * HOPPER_ROWS);
        }
        RingPlace<STAGES> place;
        for (int i = 0; i < tiles; i++) {
            queries.fill(place, maps, head, tile.first + i * HOPPER_SINK_QUERIES);
        }
    }
};

#endif
