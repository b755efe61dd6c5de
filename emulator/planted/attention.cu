// Attention with one mistake each: the kernel's own source, over instructions of which some do something else
// in the kernel of that name.
#include "attention/elements.cuh"

// Whether this is the kernel that makes the mistake.
static bool makes(const char* mistake) {
    return strcmp(emulator::engine().kernel + strlen("attention_"), mistake) == 0;
}
// Leaves a group under way, the keys or the values that are read next.
template <int groups_left>
static void await_copies() {
    if (makes("waits_for_wrong_group")) return cp_async_wait<groups_left + 1>();
    cp_async_wait<groups_left>();
}
// Every second barrier of a tile is that before the values, after which the next keys are copied.
static void await_block() {
    static thread_local int barriers[1024];
    if (makes("copies_keys_early") && barriers[threadIdx.x]++ % 2 == 1) return;
    __syncthreads();
}
#define cp_async_wait await_copies
#define __syncthreads await_block
#include "attention/forward.cuh"
#undef cp_async_wait
#undef __syncthreads

#define PLANTED(mistake)                                                       \
    KERNEL_BOUNDED(128, 1)                                                     \
        attention_##mistake(const __grid_constant__ AttentionArguments args) { \
        attend<__nv_bfloat16, ForwardPlan<64, 64, 4, 32, 64>>(args);           \
    }                                                                          \
    REGISTER(attention_##mistake)
PLANTED(right)
PLANTED(waits_for_wrong_group)
PLANTED(copies_keys_early)
