// Which bin of a histogram holds the value of a certain rank: one step of a radix select.
//
// histogram  [sequences, 2^bins_log2]
// counts     [sequences]: values of the sequence; the median's rank is (count - 1) / 2, the lower
//            of the two middle values, as torch.median
// select     [sequences, 2]: upper bits of the median found so far, and its rank among the values
//            that have them. The first step (`first` = 1) starts from none; every step appends
//            bins_log2 bits.
//
// Grid (1, sequences), 1024 threads. Reads the histogram once, 128 to 512 KiB that lie in the
// second-level cache; bound by latency.
#include "device.cuh"

KERNEL_BOUNDED(STATISTICS_THREADS)
statistics_rank(const unsigned* histogram, const unsigned* counts, unsigned* select, int bins_log2,
                int first) {
    SHARED(unsigned, sums, [32]);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int sequence = blockIdx.y;
    const unsigned* bins = histogram + ((size_t)sequence << bins_log2);
    unsigned count = counts[sequence];
    unsigned prefix = first ? 0 : select[2 * sequence];
    unsigned rank = first ? (count > 0 ? (count - 1) / 2 : 0) : select[2 * sequence + 1];

    // Every thread takes some neighbouring bins and learns how many values lie before them.
    const unsigned share = ((1u << bins_log2) + blockDim.x - 1) / blockDim.x;
    const unsigned begin = threadIdx.x * share;
    const unsigned end = min(begin + share, 1u << bins_log2);
    unsigned own = 0;
    for (unsigned bin = begin; bin < end; bin++) own += bins[bin];
    unsigned up_to = own;
    for (int distance = 1; distance < 32; distance *= 2) {
        unsigned other = __shfl_up_sync(FULL_WARP, up_to, distance);
        if (lane >= distance) up_to += other;
    }
    if (lane == 31) sums[warp] = up_to;
    __syncthreads();
    unsigned before = up_to - own;
    for (int other = 0; other < warp; other++) before += sums[other];

    // The values of rank `before` to `before + own - 1` are this thread's. With no value at all
    // nobody finds one, and the median of nothing is 0. `select` was read before the barrier.
    if (rank >= before && rank - before < own) {
        unsigned bin = begin, left = rank - before;
        while (left >= bins[bin]) left -= bins[bin++];
        select[2 * sequence] = prefix << bins_log2 | bin;
        select[2 * sequence + 1] = left;
    }
    if (count == 0 && threadIdx.x == 0) select[2 * sequence] = 0;
}
REGISTER(statistics_rank)
