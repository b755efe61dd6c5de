// A ring of tiles in shared memory, which one thread fills by tensor copies and warpgroups read.
//
// Each of its STAGES places has a pair of barriers: `full` ends its phase when a tensor copy's bytes are
// there, `empty` when every warp of the consumers has read them.
#pragma once

#include "../warpgroup.cuh"

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

#endif
