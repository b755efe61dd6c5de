// Fused attention (attention/forward.cuh) for the widths of heads that models have. A head of any
// width up to 256 takes the next one; 192 with values of 128 is multi-head latent attention.
#include "attention/forward.cuh"

// One block a multiprocessor is enough: asked for no number, the compiler spills at width 192 to fit two.
#define DEFINE_FORWARD(type, name, width, value_width)                \
    KERNEL __launch_bounds__(ForwardPlan<type, width>::WARPS * 32, 1) \
        attention_##width##_##name(ATTENTION_PARAMETERS) {            \
        attend<type, width, value_width>(ATTENTION_ARGUMENTS);        \
    }                                                                 \
    REGISTER(attention_##width##_##name)

#define DEFINE_WIDTHS(type, name)                                     \
    DEFINE_FORWARD(type, name, 32, 32)                                \
    DEFINE_FORWARD(type, name, 64, 64)                                \
    DEFINE_FORWARD(type, name, 80, 80)                                \
    DEFINE_FORWARD(type, name, 96, 96)                                \
    DEFINE_FORWARD(type, name, 128, 128)                              \
    DEFINE_FORWARD(type, name, 192, 128)                              \
    DEFINE_FORWARD(type, name, 256, 256)

FOR_EACH_FLOAT(DEFINE_WIDTHS)
