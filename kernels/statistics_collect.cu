// Appends the massive entries of sequences to a list that many launches share: now the median is known, and with it
// the threshold.
//
// select      [sequences, 2]: the median's magnitude
// candidates  [sequences, capacity] of (index, bits of the float32 value): what statistics_read.cu found above the
//             absolute threshold
// counters    [sequences, 2]: [0] how many it found; if more than `capacity`, the sequence is read once more
// massive     [room] of Massive, in no order
// taken       entries of `massive` that earlier launches appended, and then those of this one too; more than `room`
//             where some found none
// owner       of the first sequence's entries; the next sequence's is one more
//
// Grid (blocks per sequence, sequences), 1024 threads. Usually one block a sequence looks at some candidates, bound by
// the launch; otherwise moves size(x) bytes and is bound by memory.
#include "statistics.cuh"

// MassiveEntry in src/backend/cuda/massive.rs.
struct Massive {
    unsigned owner, index, value_bits;
};

template <class T>
__device__ __forceinline__ void collect(const T* x, const unsigned long long* starts,
                                        const unsigned* counts, const unsigned* select,
                                        const uint2* candidates, const unsigned* counters,
                                        Massive* massive, unsigned* taken, unsigned owner,
                                        unsigned room, float abs_threshold, float rel_threshold,
                                        int capacity) {
    const unsigned found = counters[2 * blockIdx.y];
    const float median = magnitude_value<T>(select[2 * blockIdx.y]);
    const float threshold = fmaxf(abs_threshold, rel_threshold * median);
    auto append = [&](unsigned index, float value) {
        // One that found no room is enough to tell, and more could count beyond 32 bits.
        if (load_relaxed(taken) > room) return;
        const unsigned place = atomicAdd(taken, 1u);
        if (place < room) {
            massive[place] = {owner + blockIdx.y, index, __float_as_uint(value)};
        }
    };
    if (found <= (unsigned)capacity) {
        if (blockIdx.x > 0) return;
        const uint2* own = candidates + (size_t)blockIdx.y * capacity;
        for (unsigned i = threadIdx.x; i < found; i += blockDim.x) {
            const float value = __uint_as_float(own[i].y);
            if (fabsf(value) > threshold) append(own[i].x, value);
        }
        return;
    }
    const Sequence sequence = sequence_of(starts, counts);
    for_each_vector(x, sequence, [&](const MagnitudeVector<T>& magnitudes, long long first,
                                     unsigned inside) {
        for (int i = 0; i < MagnitudeVector<T>::SIZE; i++) {
            if (!(inside >> i & 1) || !(magnitude_value<T>(magnitudes[i]) > threshold)) continue;
            const unsigned index = (unsigned)(first + i);
            append(index, float(x[sequence.start + index]));
        }
    });
}

#define DEFINE(T, suffix)                                                                      \
    KERNEL_BOUNDED(STATISTICS_THREADS) statistics_collect_##suffix(                            \
        const T* x, const unsigned long long* starts, const unsigned* counts,                  \
        const unsigned* select, const uint2* candidates, const unsigned* counters,             \
        Massive* massive, unsigned* taken, unsigned owner, unsigned room, float abs_threshold, \
        float rel_threshold, int capacity) {                                                   \
        collect(x, starts, counts, select, candidates, counters, massive, taken, owner, room,  \
                abs_threshold, rel_threshold, capacity);                                       \
    }                                                                                          \
    REGISTER(statistics_collect_##suffix)
FOR_EACH_FLOAT(DEFINE)
#undef DEFINE
