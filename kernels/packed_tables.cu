// Weights packed as codes of a table in blocks that run over the flattened matrix (packed.cuh):
// bitsandbytes' four bits.
#include "packed_numbers.cuh"

// Parts: codes, the high half of a byte first; the table; the scale of every block, in float32, or as a
// byte that is the code of a second table; that table; the scales of its blocks. Numbers: values of a line;
// of a block; scales of a block of scales. The factor is added to a scale that comes from the second table.
struct Table {
    const unsigned char *codes, *scales;
    const float *table, *scales_table, *scales_scales;
    size_t first, first_block;
    unsigned inside, block, scales_block;
    float offset;

    __device__ __forceinline__ Table(const PackedArguments& p, int line)
        : codes(p.parts[0]), scales(p.parts[2]), table(reinterpret_cast<const float*>(p.parts[1])),
          scales_table(reinterpret_cast<const float*>(p.parts[3])),
          scales_scales(reinterpret_cast<const float*>(p.parts[4])),
          first((size_t)line * p.numbers[0]), block(p.numbers[1]), scales_block(p.numbers[2]),
          offset(p.factor) {
        first_block = first / block;
        inside = first % block;
    }

    __device__ __forceinline__ float scale(size_t index) const {
        if (!scales_table) return number<NUMBER_FLOAT32>(scales, index);
        // The host sees to it that there are fewer than 2^31 blocks.
        float scale = __fmul_rn(scales_table[scales[index]],
                                scales_scales[(unsigned)index / scales_block]);
        return __fadd_rn(scale, offset);
    }

    __device__ __forceinline__ float operator()(int column) const {
        size_t place = first + column;
        int code = codes[place / 2] >> (4 * (1 - place % 2)) & 15;
        return table[code] * scale(first_block + (inside + column) / block);
    }
};
DEFINE_DECODES(table, Table, decode_by_output)
