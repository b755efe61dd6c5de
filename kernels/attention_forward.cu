// Fused attention (attention/forward.cuh) for the widths of heads that models have. A head of any
// width up to 512 takes the next one.
//
// Wide heads have a second kernel in 16 bits, for cards that give a block 163 KiB of shared memory (8.0) or
// more. It is bound by shared memory, not yet by the tensor cores, and longer tiles or more rows read less of it
// for a product: on 8.0, of 412 clocks of a multiprocessor for 32 queries x 32 keys 230 are left at width 192, 640
// of 704 at 256, 1,160 of 1,368 at 512 (128 x 2 columns of the tensor cores take 320, 512 and 768). All of these have
// one block a multiprocessor anyway, for its registers or its queries; at 512 it has six warps instead of three.
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
