// What lies in the shared memory of a block of attention on Hopper, and the warp that fills it: a ring
// (hopper_ring.cuh) of STAGES tiles of keys and one of values. Keys are given back before their values are
// needed, so each has a ring of its own.
#pragma once

#include "arguments.cuh"
#include "hopper_ring.cuh"

#if HOPPER

template <class T, int WIDTH, int VALUE_WIDTH, int KEYS, int STAGES>
struct HopperBlock {
    using Queries = SwizzledTile<T, HOPPER_ROWS, WIDTH>;
    using Keys = SwizzledTile<T, KEYS, WIDTH>;
    using Values = SwizzledTile<T, KEYS, VALUE_WIDTH>;

    T* start;
    SharedBarrier* queries_full;
    int* place;  // HOPPER_PLACE numbers: which tile and head
    TileRing<Keys, STAGES> keys;
    TileRing<Values, STAGES> values;

    // Swizzles are patterns of so many bytes.
    static constexpr int ALIGNMENT = 1024;
    static_assert(Queries::BYTES % ALIGNMENT == 0 && Keys::BYTES % ALIGNMENT == 0 &&
                  Values::BYTES % ALIGNMENT == 0);

    __device__ __forceinline__ explicit HopperBlock(unsigned char* memory) {
        start = reinterpret_cast<T*>(memory);
        memory += HOPPER_CONSUMERS * Queries::BYTES;
        keys.first = Keys{reinterpret_cast<T*>(memory)};
        memory += STAGES * Keys::BYTES;
        values.first = Values{reinterpret_cast<T*>(memory)};
        memory += STAGES * Values::BYTES;
        queries_full = reinterpret_cast<SharedBarrier*>(memory);
        keys.full = queries_full + 1;
        keys.empty = keys.full + STAGES;
        values.full = keys.empty + STAGES;
        values.empty = values.full + STAGES;
        place = reinterpret_cast<int*>(values.empty + STAGES);
    }

    __device__ __forceinline__ Queries queries(int consumer) const {
        return Queries{start + consumer * (Queries::BYTES / 2)};
    }

    // By one thread, before the others look.
    __device__ __forceinline__ void initialise() const {
        barrier_init(queries_full, 1);
        keys.initialise();
        values.initialise();
        barrier_init_fence();
    }

    // By one thread: the queries of all consumers, then `tiles` tiles from `begin` on.
    __device__ __forceinline__ void fill(const AttentionHopperArguments& args, AttentionTile tile,
                                         int head, int kv_head, int begin, int tiles) const {
        const TensorMap* maps = static_cast<const TensorMap*>(args.maps) + tile.sequence * 3;
        for (int i = 0; i < 3; i++) tensor_map_acquire(maps + i);
        const int positions = HOPPER_ROWS / args.packed;
        barrier_arrive_expecting(queries_full,
                                 HOPPER_CONSUMERS * positions * args.packed * WIDTH * 2);
#pragma unroll
        for (int consumer = 0; consumer < HOPPER_CONSUMERS; consumer++) {
            queries(consumer).copy(maps, queries_full, head, tile.first + consumer * positions);
        }
        RingPlace<STAGES> key_place, value_place;
        keys.fill(key_place, maps + 1, kv_head, begin);
        for (int i = 1; i < tiles; i++) {
            // In the order in which they are needed.
            keys.fill(key_place, maps + 1, kv_head, begin + i * KEYS);
            values.fill(value_place, maps + 2, kv_head, begin + (i - 1) * KEYS);
        }
        values.fill(value_place, maps + 2, kv_head, begin + (tiles - 1) * KEYS);
    }
};

#endif
