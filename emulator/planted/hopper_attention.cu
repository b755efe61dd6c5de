// Attention on Hopper with one mistake each: the kernel's own source, over instructions of which some do
// something else in the kernel of that name.
#include "warpgroup.cuh"

// Whether this is the kernel that makes the mistake.
static bool makes(const char* mistake) {
    return strcmp(emulator::engine().kernel + strlen("attention_"), mistake) == 0;
}
static bool copies() { return threadIdx.x < 128; }

static void await_barrier(SharedBarrier* barrier, unsigned parity) {
    if (copies() ? makes("fills_unread_stages") : makes("uses_keys_before_arrival")) return;
    barrier_wait(barrier, parity);
    // `empty` is as many barriers behind `full` as there are stages.
    if (!copies() && makes("releases_stages_early") && threadIdx.x % 32 == 0) {
        barrier_arrive(barrier + 4);
    }
}
static void give_back(SharedBarrier* barrier) {
    if (!makes("releases_stages_early")) barrier_arrive(barrier);
}
#define barrier_wait await_barrier
#define barrier_arrive give_back
#include "attention/hopper_block.cuh"
#undef barrier_wait
#undef barrier_arrive

template <int groups_left, int N>
static void await_products(float (&d)[N][4]) {
    if (groups_left == 1 && makes("reads_scores_early")) return;
    wgmma_wait<groups_left>(d);
}
static void fence_proxy() {
    if (!makes("leaves_out_proxy_fence")) async_proxy_fence();
}
#define wgmma_wait await_products
#define async_proxy_fence fence_proxy
#include "attention/hopper.cuh"

#define PLANTED(mistake)                                                                  \
    KERNEL_BOUNDED(HOPPER_THREADS)                                                        \
        attention_##mistake(const __grid_constant__ AttentionHopperArguments args) {      \
        attend_on_hopper<__nv_bfloat16, 64, 64, 128, 4>(args, WholeOutput{});             \
    }                                                                                     \
    REGISTER(attention_##mistake)
PLANTED(faultless)
PLANTED(reads_scores_early)
PLANTED(uses_keys_before_arrival)
PLANTED(leaves_out_proxy_fence)
PLANTED(fills_unread_stages)
PLANTED(releases_stages_early)
