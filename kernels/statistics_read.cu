// The first read of activation statistics: of every sequence a histogram of |x|, the k largest,
// the sums of x and of its squares if asked for, how many values are not finite, and a list of those above the
// absolute threshold.
//
// x            [rows, columns], a sequence is a range of rows; sequences may start anywhere
// histogram    [sequences, 2^bins_log2]: how many magnitudes have these upper bits. For 16-bit types
//              2^15 bins are exact: this read alone gives the median.
// top          [sequences, gridDim.x, 32]: keys (top.cuh) of the k largest that each block saw
// sums         float64 [sequences, gridDim.x, 2]: sum of the block's values, sum of their squares;
//              every value is widened first, so 100 million of them lose nothing, nothing overflows,
//              and the order of adding up is fixed; absent where nobody asks
// list         [sequences, capacity] of (index, bits of the float32 value), in no order
// counters     [sequences, 2]: entries offered to the list, non-finite values
//
// statistics_read_added adds another tensor to x first, value by value, and writes the sum, which costs a read and a
// write of it beside the read that is due: what statistics add to a sum that is made anyway is their atomics.
//
// Grid (blocks per sequence, sequences), 1024 threads, 4 * 2^bins_log2 bytes of dynamic shared
// memory for the block's own histogram. Moves size(x) bytes and about one shared atomic a value; bound
// by memory and, for 16-bit values, by issue (some 20 instructions a value: docs/cuda-bounds.md) as
// long as values spread over many bins, by atomics on one bank otherwise (equal neighbours are merged
// by the hardware). The k largest cost next to nothing: a warp looks closer only when one of its
// values beats the k-th best of its own or of any warp's in the block, which happens some k ln(n / k)
// times. The sums take a conversion and two float64 additions a value: beside the atomics where
// float64 has half or all of float32's rate (data-centre cards), some half of the time more where it
// has a 64th.
#include "reduce.cuh"
#include "statistics.cuh"
#include "top.cuh"

template <class T, bool MOMENTS, class ForEach>
__device__ __forceinline__ void read(const T* x, ForEach for_each, const unsigned long long* starts,
                                     const unsigned* counts, const Key* below, unsigned* histogram,
                                     Key* top, double* sums, uint2* list, unsigned* counters,
                                     int bins_log2, int k, unsigned list_above, int capacity) {
    using M = Magnitude<T>;
    SHARED_DYNAMIC(unsigned, bins);
    SHARED(Key, merged, [32 * 32]);
    SHARED(unsigned, block_floor, [1]);
    SHARED(double, warp_sums, [2 * 32]);
    // With the gaps that alignment leaves.
    static_assert(sizeof merged + sizeof block_floor + sizeof warp_sums + 64 <=
                  STATISTICS_STATIC_BYTES);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int sequence_index = blockIdx.y;
    const Sequence sequence = sequence_of(starts, counts);
    const int shift = M::BITS - bins_log2;
    // Later rounds of a long list: only what comes after the entries found so far.
    const Key limit = below ? below[sequence_index] : ~(Key)0;
    // From here on a value is worth a closer look for the list or because it is not finite.
    const unsigned unusual = min(list_above + 1, M::INFINITE);
    unsigned* offered = counters + 2 * sequence_index;

    for (unsigned bin = threadIdx.x; bin < 1u << bins_log2; bin += blockDim.x) bins[bin] = 0;
    if (threadIdx.x == 0) block_floor[0] = 0;
    __syncthreads();

    WarpTop best;
    unsigned non_finite = 0;
    double sum = 0.0, squares = 0.0;
    for_each(sequence, [&](const MagnitudeVector<T>& magnitudes, long long first, unsigned inside) {
        constexpr int SIZE = MagnitudeVector<T>::SIZE;
        unsigned largest = 0;
#pragma unroll
        for (int i = 0; i < SIZE; i++) {
            if (inside >> i & 1) {
                unsigned magnitude = magnitudes[i];
                atomicAdd(&bins[magnitude >> shift], 1u);
                if constexpr (MOMENTS) {
                    double value = magnitudes.value(i);
                    sum += value;
                    squares += value * value;
                }
                largest = max(largest, magnitude);
            }
        }
        // A later value equal to the warp's own k-th best loses by its index; one equal to another
        // warp's may still win.
        bool beats = best.last == 0 || largest > key_magnitude(best.last);
        beats = beats && largest >= load_relaxed(block_floor) && inside != 0;
        if (__any_sync(FULL_WARP, beats)) {
            bool entered = false;
            for (int i = 0; i < SIZE; i++) {
                Key key = inside >> i & 1 ? make_key(magnitudes[i], (unsigned)(first + i)) : 0;
                if (key >= limit) key = 0;
                entered = best.offer(key, k) || entered;
            }
            if (entered && best.last != 0 && lane == 0) {
                atomicMax(block_floor, key_magnitude(best.last));
            }
        }
        if (largest >= unusual) {
            for (int i = 0; i < SIZE; i++) {
                if (!(inside >> i & 1)) continue;
                unsigned magnitude = magnitudes[i];
                if (magnitude >= M::INFINITE) non_finite++;
                if (magnitude > list_above && magnitude <= M::INFINITE) {
                    unsigned place = atomicAdd(offered, 1u);
                    if (place < (unsigned)capacity) {
                        unsigned index = (unsigned)(first + i);
                        float value = float(x[sequence.start + index]);
                        list[(size_t)sequence_index * capacity + place] =
                            make_uint2(index, __float_as_uint(value));
                    }
                }
            }
        }
    });

    merged[warp * 32 + lane] = best.mine;
    if constexpr (MOMENTS) {
        sum = warp_sum(sum);
        squares = warp_sum(squares);
        if (lane == 0) {
            warp_sums[2 * warp] = sum;
            warp_sums[2 * warp + 1] = squares;
        }
    }
    if (non_finite > 0) atomicAdd(offered + 1, non_finite);
    __syncthreads();
    if (warp == 0) {
        for (int other = 1; other < (int)blockDim.x / 32; other++) {
            best.offer(merged[other * 32 + lane], k);
        }
        const size_t place = (size_t)sequence_index * gridDim.x + blockIdx.x;
        top[place * 32 + lane] = best.mine;
        if constexpr (MOMENTS) {
            const bool used = lane < (int)blockDim.x / 32;
            sum = warp_sum(used ? warp_sums[2 * lane] : 0.0);
            squares = warp_sum(used ? warp_sums[2 * lane + 1] : 0.0);
            if (lane == 0) {
                sums[2 * place] = sum;
                sums[2 * place + 1] = squares;
            }
        }
    }
    unsigned* out = histogram + ((size_t)sequence_index << bins_log2);
    for (unsigned bin = threadIdx.x; bin < 1u << bins_log2; bin += blockDim.x) {
        if (bins[bin] > 0) atomicAdd(&out[bin], bins[bin]);
    }
}

#define READ(MOMENTS, FOR_EACH)                                                                    \
    read<T, MOMENTS>(x, FOR_EACH, starts, counts, below, histogram, top, sums, list, counters,     \
                     bins_log2, k, list_above, capacity)
#define READ_EITHER(FOR_EACH)        \
    if (sums) {                      \
        READ(true, FOR_EACH);        \
    } else {                         \
        READ(false, FOR_EACH);       \
    }

template <class T>
__device__ __forceinline__ void read_stored(const T* x, const unsigned long long* starts,
                                            const unsigned* counts, const Key* below,
                                            unsigned* histogram, Key* top, double* sums,
                                            uint2* list, unsigned* counters, int bins_log2, int k,
                                            unsigned list_above, int capacity) {
    auto vectors = [=](Sequence sequence, auto use) { for_each_vector(x, sequence, use); };
    READ_EITHER(vectors)
}

// x += other on the way; no vector is shared by two sequences.
template <class T>
__device__ __forceinline__ void read_added(T* x, const T* other, const unsigned long long* starts,
                                           const unsigned* counts, unsigned* histogram, Key* top,
                                           double* sums, uint2* list, unsigned* counters,
                                           int bins_log2, int k, unsigned list_above,
                                           int capacity) {
    const Key* below = nullptr;
    auto vectors = [=](Sequence sequence, auto use) { for_each_sum(x, other, sequence, use); };
    READ_EITHER(vectors)
}

#define DEFINE(T, suffix)                                                                          \
    KERNEL_BOUNDED(STATISTICS_THREADS) statistics_read_##suffix(                                   \
        const T* x, const unsigned long long* starts, const unsigned* counts, const Key* below,    \
        unsigned* histogram, Key* top, double* sums, uint2* list, unsigned* counters,              \
        int bins_log2, int k, unsigned list_above, int capacity) {                                 \
        read_stored(x, starts, counts, below, histogram, top, sums, list, counters, bins_log2, k,  \
                    list_above, capacity);                                                         \
    }                                                                                              \
    REGISTER(statistics_read_##suffix)                                                             \
    KERNEL_BOUNDED(STATISTICS_THREADS) statistics_read_added_##suffix(                             \
        T* x, const T* other, const unsigned long long* starts, const unsigned* counts,            \
        unsigned* histogram, Key* top, double* sums, uint2* list, unsigned* counters,              \
        int bins_log2, int k, unsigned list_above, int capacity) {                                 \
        read_added(x, other, starts, counts, histogram, top, sums, list, counters, bins_log2, k,   \
                   list_above, capacity);                                                          \
    }                                                                                              \
    REGISTER(statistics_read_added_##suffix)
FOR_EACH_FLOAT(DEFINE)
#undef DEFINE
#undef READ
#undef READ_EITHER
