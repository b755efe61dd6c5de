// What each key receives, in 16 bits for compute capability 9.0 (attention/hopper_sink.cuh);
// attention_capture.cu is for all other cards and types.
#include "attention/hopper_sink.cuh"

#define DEFINE_HOPPER_SINK(type, name, width, stages)                                  \
    KERNEL_BOUNDED(HOPPER_THREADS, 1)                                                  \
        attention_sink_hopper_##width##_##name(                                        \
            const __grid_constant__ AttentionSinkHopperArguments args) {               \
        attention_sink_on_hopper<type, width, stages>(args);                           \
    }                                                                                  \
    REGISTER(attention_sink_hopper_##width##_##name)

HOPPER_SINK_KERNELS(DEFINE_HOPPER_SINK, __nv_bfloat16, bf16)
HOPPER_SINK_KERNELS(DEFINE_HOPPER_SINK, __half, f16)
