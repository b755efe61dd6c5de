// Fused attention (attention/forward.cuh) for the widths of heads that models have. A head of any
// width up to 512 takes the next one.
//
// Wide heads have a second kernel in 16 bits, for cards that give a block more shared memory: 163 KiB on
// capability 8.0. There they are bound by shared memory, not by the tensor cores, and more rows of a warp, longer
// tiles or more queries read less of it for a product: by the machine code for 8.0, 245 clocks of a multiprocessor
// for 32 queries x 32 keys instead of 412 at width 192 (the tensor cores need 320), 640 instead of 704 at 256 (512),
// 1,160 instead of 1,368 at 512 (768), which has six warps a multiprocessor instead of three. None loses a
// second block, for which there are no registers or no room either way. Narrower heads gain nothing: at width 128
// 64 keys fit two blocks of a multiprocessor already, and 128 keys would not fit the registers.
#include "attention/forward.cuh"

// One block a multiprocessor is enough: asked for no number, the compiler spills at width 192 to fit two.
#define DEFINE_FORWARD(type, name, width, ...)                                                  \
    KERNEL_BOUNDED(ForwardPlan<width, __VA_ARGS__>::THREADS, 1)                                 \
        attention_##width##_##name(const __grid_constant__ AttentionArguments args) {           \
        attend<type, ForwardPlan<width, __VA_ARGS__>>(args);                                    \
    }                                                                                           \
    REGISTER(attention_##width##_##name)
#define DEFINE_16(type, name, width, value_width, warps, rows, keys, ...) \
    DEFINE_FORWARD(type, name, width, value_width, warps, rows, keys)
#define DEFINE_32(type, name, width, value_width, warps16, rows16, keys16, warps, rows, keys) \
    DEFINE_FORWARD(type, name, width, value_width, warps, rows, keys)
FORWARD_KERNELS(DEFINE_32, float, f32)
FORWARD_KERNELS(DEFINE_16, __nv_bfloat16, bf16)
FORWARD_KERNELS(DEFINE_16, __half, f16)

#define DEFINE_ROOMY(type, name, width, ...) DEFINE_FORWARD(type, roomy_##name, width, __VA_ARGS__)
FORWARD_ROOMY_KERNELS(DEFINE_ROOMY, __nv_bfloat16, bf16)
FORWARD_ROOMY_KERNELS(DEFINE_ROOMY, __half, f16)
