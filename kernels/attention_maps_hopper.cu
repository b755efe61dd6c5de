// Attention maps in 16 bits for compute capability 9.0 (attention/hopper_maps.cuh); attention_capture.cu is for
// all other cards and types.
#include "attention/hopper_maps.cuh"

#define DEFINE_HOPPER_MAPS(type, name, width, keys, stages)                           \
    KERNEL_BOUNDED(HOPPER_THREADS, 1)                                                 \
        attention_maps_hopper_##width##_##name(                                       \
            const __grid_constant__ AttentionMapHopperArguments args) {               \
        attention_maps_on_hopper<type, width, keys, stages>(args);                    \
    }                                                                                 \
    REGISTER(attention_maps_hopper_##width##_##name)

HOPPER_MAP_KERNELS(DEFINE_HOPPER_MAPS, __nv_bfloat16, bf16)
HOPPER_MAP_KERNELS(DEFINE_HOPPER_MAPS, __half, f16)
