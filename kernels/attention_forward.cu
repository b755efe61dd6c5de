// Fused attention (attention/forward.cuh) for the widths of heads that models have. A head of any
// width up to 512 takes the next one.
#include "attention/forward.cuh"

// One block a multiprocessor is enough: asked for no number, the compiler spills at width 192 to fit two.
#define DEFINE_FORWARD(type, name, width, value_width, ...)                  \
    KERNEL_BOUNDED(ForwardPlan<type, width>::WARPS * 32, 1)        \
        attention_##width##_##name(const __grid_constant__ AttentionArguments args) { \
        attend<type, width, value_width>(args);                              \
    }                                                                        \
    REGISTER(attention_##width##_##name)

#define DEFINE_WIDTHS(type, name) FORWARD_KERNELS(DEFINE_FORWARD, type, name)
FOR_EACH_FLOAT(DEFINE_WIDTHS)
