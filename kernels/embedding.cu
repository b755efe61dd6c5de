// Rows of an embedding table, times a factor, as the residual stream.
//
// table  [listed, columns]: the rows that occur, each once, in the type they are stored in
// rows   [count]: which of them a token takes
// out    [count, columns]
//
// A block per token (grid-stride). Moves the result once and, from the caches for tokens that occur
// often, the table's rows; bound by memory. `rows` is the same for all threads of a block.
#include "device.cuh"

template <class From, class To>
__device__ __forceinline__ void embed(const From* table, To* out, const unsigned* rows, int count,
                                      int columns, float factor) {
    for (int i = blockIdx.x; i < count; i += gridDim.x) {
        const From* from = table + (size_t)rows[i] * columns;
        for (int column = threadIdx.x; column < columns; column += blockDim.x) {
            out[(size_t)i * columns + column] = To(float(from[column]) * factor);
        }
    }
}

#define DEFINE(From, from, To, to)                                                              \
    KERNEL embed_##from##_##to(const From* table, To* out, const unsigned* rows, int count,     \
                               int columns, float factor) {                                     \
        embed(table, out, rows, count, columns, factor);                                        \
    }                                                                                           \
    REGISTER(embed_##from##_##to)
#define DEFINE_STREAMS(From, from)         \
    DEFINE(From, from, float, f32)         \
    DEFINE(From, from, __nv_bfloat16, bf16) \
    DEFINE(From, from, __half, f16)
FOR_EACH_FLOAT(DEFINE_STREAMS)
#undef DEFINE_STREAMS
#undef DEFINE
