// What keys receive on Hopper with one mistake each: the kernel's own source, over instructions of which some do
// something else in the kernel of that name. Those of the ring are in hopper_attention.cu.
#include "attention/hopper_products.cuh"
#include "attention/hopper_sink_block.cuh"

// Whether this is the kernel that makes the mistake.
static bool makes(const char* mistake) {
    return strcmp(emulator::engine().kernel + strlen("sink_"), mistake) == 0;
}

static void await_keys(SharedBarrier* barrier, unsigned parity) {
    if (!makes("uses_keys_before_arrival")) barrier_wait(barrier, parity);
}
template <int groups_left, int N>
static void await_products(float (&d)[N][4]) {
    if (!makes("reads_scores_early")) wgmma_wait<groups_left>(d);
}
static void await_log_sums(int consumer) {
    if (!makes("reads_log_sums_early")) warpgroup_sync(consumer);
}
#define barrier_wait await_keys
#define wgmma_wait await_products
#define warpgroup_sync await_log_sums
#include "attention/hopper_sink.cuh"

#define PLANTED(mistake)                                                             \
    KERNEL_BOUNDED(HOPPER_THREADS)                                                   \
        sink_##mistake(const __grid_constant__ AttentionSinkHopperArguments args) {  \
        attention_sink_on_hopper<__nv_bfloat16, 64, 4>(args);                        \
    }                                                                                \
    REGISTER(sink_##mistake)
PLANTED(faultless)
PLANTED(uses_keys_before_arrival)
PLANTED(reads_scores_early)
PLANTED(reads_log_sums_early)
