// From each row's experts to each expert's rows, and the way there and back: gathering the rows that
// visit an expert, and adding what it made of them.
//
// chosen, factors  [count]: expert and weight of every visit, rows one after the other, `k` visits
//                  each
// visitors         [count]: the rows that visit expert 0, ascending, then those of expert 1, ...
// weights          float32 [count]: the visits' weights in the same order
// counts           [experts]: how many rows visit each
//
// A block per expert, 1024 threads: counts the visits of earlier experts, which is where its own
// begin, then moves its own, keeping their order, so that the lists are the same in every run. Reads
// the choices twice for every expert, from the second-level cache: some megabytes; bound by latency.
#include "reduce.cuh"
#include "rows.cuh"

KERNEL_BOUNDED(VISITORS_THREADS)
route_visitors(const unsigned* chosen, const float* factors, unsigned* visitors, float* weights,
                unsigned* counts, int count, int k) {
    SHARED(unsigned, sums, [32]);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int warps = blockDim.x / 32;
    const unsigned expert = blockIdx.x;

    unsigned earlier = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) earlier += chosen[i] < expert;
    const unsigned begin = block_sum(earlier, sums);

    unsigned place = begin;
    for (int base = 0; base < count; base += blockDim.x) {
        const int i = base + threadIdx.x;
        const bool here = i < count && chosen[i] == expert;
        const unsigned who = __ballot_sync(FULL_WARP, here);
        if (lane == 0) sums[warp] = __popc(who);
        __syncthreads();
        unsigned ahead = 0, all = 0;
        for (int other = 0; other < warps; other++) {
            if (other < warp) ahead += sums[other];
            all += sums[other];
        }
        if (here) {
            const unsigned to = place + ahead + __popc(who & ((1u << lane) - 1u));
            visitors[to] = i / k;
            weights[to] = factors[i];
        }
        place += all;
        __syncthreads();
    }
    if (threadIdx.x == 0) counts[expert] = place - begin;
}
REGISTER(route_visitors)

#define DEFINE(T, suffix)                                                                    \
    KERNEL gather_visitors_##suffix(const T* x, T* out, const unsigned* visitors, int count, \
                                    int columns) {                                           \
        gather(x, out, visitors, count, columns);                                            \
    }                                                                                        \
    REGISTER(gather_visitors_##suffix)                                                       \
    KERNEL add_visitors_##suffix(T* out, const T* x, const unsigned* visitors,               \
                                 const float* weights, int count, int columns) {             \
        add(out, x, visitors, weights, count, columns);                                      \
    }                                                                                        \
    REGISTER(add_visitors_##suffix)
FOR_EACH_FLOAT(DEFINE)
#undef DEFINE
