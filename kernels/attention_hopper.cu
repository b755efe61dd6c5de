// Fused attention in 16 bits for compute capability 9.0 (attention/hopper.cuh); attention_forward.cu is for
// all other cards and types.
#include "attention/hopper.cuh"

#define DEFINE_HOPPER(type, name, width, value_width, keys, stages)                    \
    KERNEL_BOUNDED(HOPPER_THREADS, 1)                                                  \
        attention_hopper_##width##_##name(                                             \
            const __grid_constant__ AttentionHopperArguments args) {                   \
        attend_on_hopper<type, width, value_width, keys, stages>(args, WholeOutput{}); \
    }                                                                                  \
    REGISTER(attention_hopper_##width##_##name)

HOPPER_KERNELS(DEFINE_HOPPER, __nv_bfloat16, bf16)
HOPPER_KERNELS(DEFINE_HOPPER, __half, f16)
