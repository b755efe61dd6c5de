// The k <= 32 best of a stream of keys, kept by one warp: lane i holds the i-th best.
#pragma once
#include "device.cuh"

using Key = unsigned long long;

// Orders by magnitude, then by index, the lower one first. No entry has key 0.
__device__ __forceinline__ Key make_key(unsigned magnitude, unsigned index) {
    return (Key)magnitude << 32 | (0xffffffffu - index);
}
__device__ __forceinline__ unsigned key_index(Key key) { return 0xffffffffu - (unsigned)key; }
__device__ __forceinline__ unsigned key_magnitude(Key key) { return (unsigned)(key >> 32); }

struct WarpTop {
    Key mine;  // the lane-th best so far; 0: none
    Key last;  // the k-th best so far, the same in all lanes

    __device__ __forceinline__ WarpTop() : mine(0), last(0) {}

    // Takes one key of every lane (0: none); k is the same everywhere. Returns whether any entered.
    __device__ __forceinline__ bool offer(Key key, int k) {
        int lane = threadIdx.x % 32;
        bool entered = false;
        while (__any_sync(FULL_WARP, key > last)) {
            Key best = key > last ? key : 0;
            for (int distance = 16; distance > 0; distance /= 2) {
                Key other = __shfl_xor_sync(FULL_WARP, best, distance);
                best = other > best ? other : best;
            }
            if (key == best) key = 0;
            int rank = __popc(__ballot_sync(FULL_WARP, mine > best));
            Key above = __shfl_up_sync(FULL_WARP, mine, 1);
            if (lane == rank) mine = best;
            if (lane > rank) mine = above;
            last = __shfl_sync(FULL_WARP, mine, k - 1);
            entered = true;
        }
        return entered;
    }
};
