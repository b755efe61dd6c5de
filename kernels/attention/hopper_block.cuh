// What lies in the shared memory of a block of attention on Hopper, and the warp that fills it.
//
// A ring of STAGES tiles of keys and one of values, each with a pair of barriers a stage: `full` ends its
// phase when a tensor copy's bytes are there, `empty` when every warp of the consumers has read them. Keys
// are given back before their values are needed, so each has a ring of its own.
#pragma once

#include "../warpgroup.cuh"
#include "arguments.cuh"

#if HOPPER

// A place in a ring: the stage, and which time around it is.
template <int STAGES>
struct RingPlace {
    int stage = 0;
    unsigned round = 0;

    __device__ __forceinline__ void advance() {
        if (++stage == STAGES) {
            stage = 0;
            round ^= 1;
        }
    }
};

// The tiles of a ring and its barriers.
template <class Tile, int STAGES>
struct TileRing {
    Tile first;
    SharedBarrier* full;
    SharedBarrier* empty;

    __device__ __forceinline__ Tile at(int stage) const {
        return Tile{first.values + stage * (Tile::BYTES / 2)};
    }
    __device__ __forceinline__ void initialise() const {
        for (int stage = 0; stage < STAGES; stage++) {
            barrier_init(&full[stage], 1);
            barrier_init(&empty[stage], HOPPER_CONSUMERS * 4);
        }
    }

    // Of the copying thread: brings the tile from this row of a head on.
    __device__ __forceinline__ void fill(RingPlace<STAGES>& place, const TensorMap* map, int head,
                                         int row) const {
        barrier_wait(&empty[place.stage], place.round ^ 1);
        barrier_arrive_expecting(&full[place.stage], Tile::BYTES);
        at(place.stage).copy(map, &full[place.stage], head, row);
        place.advance();
    }

    // Of the consumers: waits for the tile, and gives it back once the warp's products have ended.
    __device__ __forceinline__ Tile await(const RingPlace<STAGES>& place) const {
        barrier_wait(&full[place.stage], place.round);
        return at(place.stage);
    }
    __device__ __forceinline__ void release(RingPlace<STAGES>& place) const {
        if (threadIdx.x % 32 == 0) barrier_arrive(&empty[place.stage]);
        place.advance();
    }
};

template <class T, int WIDTH, int VALUE_WIDTH, int KEYS, int STAGES>
struct HopperBlock {
    using Queries = SwizzledTile<T, HOPPER_ROWS, WIDTH>;
    using Keys = SwizzledTile<T, KEYS, WIDTH>;
    using Values = SwizzledTile<T, KEYS, VALUE_WIDTH>;

    T* start;
    SharedBarrier* queries_full;
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
