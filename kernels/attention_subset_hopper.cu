// The part of the output that some keys give, or that the others give, in 16 bits for compute capability 9.0
// (attention/hopper_subset.cuh); attention_capture.cu is for all other cards and types.
#include "attention/hopper_subset.cuh"

#define DEFINE_HOPPER_SUBSET(type, name, width, value_width, keys, stages)             \
    KERNEL_BOUNDED(HOPPER_THREADS, 1)                                                  \
        attention_subset_hopper_##width##_##name(                                      \
            const __grid_constant__ AttentionSubsetHopperArguments args) {             \
        attend_on_hopper<type, width, value_width, keys, stages>(                      \
            args.attention, PartOfOutput{args.listed, args.others, args.log_sums});    \
    }                                                                                  \
    REGISTER(attention_subset_hopper_##width##_##name)

HOPPER_KERNELS(DEFINE_HOPPER_SUBSET, __nv_bfloat16, bf16)
HOPPER_KERNELS(DEFINE_HOPPER_SUBSET, __half, f16)
