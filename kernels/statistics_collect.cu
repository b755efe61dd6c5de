// Lists the massive entries of sequences where too many values passed the absolute threshold for
// the list of statistics_read.cu: now the median is known, and with it the real threshold.
//
// select    [sequences, 2]: the median's magnitude
// list      [sequences, capacity] of (index, bits of the float32 value), written anew
// counters  [sequences, 4]: [0] entries of the first list (not more than `capacity`: nothing to do),
//           [2] entries of this one
//
// Grid (blocks per sequence, sequences). Usually returns at once; otherwise moves size(x) bytes and
// is bound by memory.
#include "statistics.cuh"

template <class T>
__device__ __forceinline__ void collect(const T* x, const unsigned long long* starts,
                                        const unsigned* counts, const unsigned* select,
                                        uint2* list, unsigned* counters, float abs_threshold,
                                        float rel_threshold, int capacity) {
    unsigned* found = counters + 4 * blockIdx.y;
    if (found[0] <= (unsigned)capacity) return;
    const Sequence sequence = sequence_of(starts, counts);
    const float median = magnitude_value<T>(select[2 * blockIdx.y]);
    const float threshold = fmaxf(abs_threshold, rel_threshold * median);
    for_each_vector(x, sequence, [&](const MagnitudeVector<T>& magnitudes, long long first,
                                     unsigned inside) {
        for (int i = 0; i < MagnitudeVector<T>::SIZE; i++) {
            if (!(inside >> i & 1) || !(magnitude_value<T>(magnitudes[i]) > threshold)) continue;
            unsigned place = atomicAdd(found + 2, 1u);
            if (place < (unsigned)capacity) {
                unsigned index = (unsigned)(first + i);
                float value = float(x[sequence.start + index]);
                list[(size_t)blockIdx.y * capacity + place] =
                    make_uint2(index, __float_as_uint(value));
            }
        }
    });
}

#define DEFINE(T, suffix)                                                                   \
    KERNEL_BOUNDED(STATISTICS_THREADS) statistics_collect_##suffix(                             \
        const T* x, const unsigned long long* starts, const unsigned* counts,               \
        const unsigned* select, uint2* list, unsigned* counters, float abs_threshold,       \
        float rel_threshold, int capacity) {                                                \
        collect(x, starts, counts, select, list, counters, abs_threshold, rel_threshold,    \
                capacity);                                                                  \
    }                                                                                       \
    REGISTER(statistics_collect_##suffix)
FOR_EACH_FLOAT(DEFINE)
#undef DEFINE
