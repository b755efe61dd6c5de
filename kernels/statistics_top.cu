// Merges the k largest that the blocks of statistics_read.cu saw, looks their values up, and adds up
// the blocks' sums, if asked for.
//
// top       [sequences, blocks, 32]: keys, best first
// sums      float64 [sequences, blocks, 2]
// total     float64 [sequences, 2], absent where nobody asks and in later rounds of a longer list
// entries   [sequences, stride] of (index, bits of the float32 value): k are written from `offset`
//           on; where there are fewer values the index is 2^32 - 1
// below     [sequences]: receives the k-th key, where the next round of a longer list begins
//
// Grid (1, sequences), one warp. A few kilobytes; bound by latency.
#include "reduce.cuh"
#include "top.cuh"

template <class T>
__device__ __forceinline__ void merge(const T* x, const unsigned long long* starts, const Key* top,
                                      const double* sums, double* total, uint2* entries,
                                      Key* below, int blocks, int k, int offset, int stride) {
    const int lane = threadIdx.x, sequence = blockIdx.y;
    WarpTop best;
    for (int block = 0; block < blocks; block++) {
        best.offer(top[((size_t)sequence * blocks + block) * 32 + lane], k);
    }
    if (lane < k) {
        unsigned index = 0xffffffffu, bits = 0;
        if (best.mine != 0) {
            index = key_index(best.mine);
            bits = __float_as_uint(float(x[starts[sequence] + index]));
        }
        entries[(size_t)sequence * stride + offset + lane] = make_uint2(index, bits);
    }
    if (lane == 0) below[sequence] = best.last;
    if (!total) return;
    const double* own = sums + (size_t)sequence * blocks * 2;
    double sum = 0.0, squares = 0.0;
    for (int block = lane; block < blocks; block += 32) {
        sum += own[2 * block];
        squares += own[2 * block + 1];
    }
    sum = warp_sum(sum);
    squares = warp_sum(squares);
    if (lane == 0) {
        total[2 * sequence] = sum;
        total[2 * sequence + 1] = squares;
    }
}

#define DEFINE(T, suffix)                                                                        \
    KERNEL_BOUNDED(32) statistics_top_##suffix(                                        \
        const T* x, const unsigned long long* starts, const Key* top, const double* sums,        \
        double* total, uint2* entries, Key* below, int blocks, int k, int offset, int stride) {  \
        merge(x, starts, top, sums, total, entries, below, blocks, k, offset, stride);           \
    }                                                                                            \
    REGISTER(statistics_top_##suffix)
FOR_EACH_FLOAT(DEFINE)
#undef DEFINE
