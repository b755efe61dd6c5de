// Weights packed as integers with scales and zero points (packed.cuh).
//
// Where lines are inputs', neighbouring threads read neighbouring words.
#include "packed_bytes.cuh"

DEFINE_DECODES(int8, Bytes<int8>, decode_by_output)

__device__ __forceinline__ const unsigned* words_of(const unsigned char* part) {
    return reinterpret_cast<const unsigned*>(part);
}

// compressed-tensors. Parts: words, a row a dense stream; scales; zero points; the groups of the inputs
// where they do not follow each other. Numbers: the scales' grid; bits of a code; words of a row; what the
// zero points are: none, the middle code being zero; a dense stream down the outputs for each column of
// the grid; or an int8 a block, on top of the middle.
struct IntegerRow {
    const unsigned* words;
    GridLine scales;
    const unsigned char* zeros;
    const int* groups;
    int line, columns, bits, kind;

    __device__ __forceinline__ IntegerRow(const PackedArguments& p, int line)
        : words(words_of(p.parts[0]) + (size_t)line * p.numbers[5]), scales(p, p.parts[1], line),
          zeros(p.parts[2]), groups(reinterpret_cast<const int*>(p.parts[3])), line(line),
          columns(p.numbers[3]), bits(p.numbers[4]), kind(p.numbers[6]) {}

    __device__ __forceinline__ float zero(int group) const {
        if (kind == ZEROS_PACKED) {
            return (float)packed_code(words_of(zeros) + group, columns, line, bits);
        }
        float middle = (float)(1 << (bits - 1));
        return kind == ZEROS_INT8
                   ? middle + int8(zeros[scales.first + group])
                   : middle;
    }

    __device__ __forceinline__ float operator()(int column) const {
        int group = groups ? groups[column] : scales.block(column);
        return ((float)packed_code(words, 1, column, bits) - zero(group)) * scales(group);
    }
};
DEFINE_DECODES(integer_rows, IntegerRow, decode_by_output)

// GPTQ. Parts: words [.., outputs], a dense stream down each column; zero points [groups, ..], a dense
// stream along each row; scales [groups, outputs]; the groups of the inputs where they do not follow each
// other. Numbers: bits of a code; inputs of a group; what is added to a stored zero point, which wraps
// around; outputs of a line; the type of the scales.
struct Gptq {
    const unsigned *words, *zeros;
    const unsigned char* scales;
    size_t first;
    int input, bits, outputs, type;
    unsigned offset;

    __device__ __forceinline__ Gptq(const PackedArguments& p, int input)
        : words(words_of(p.parts[0])), scales(p.parts[2]), input(input), bits(p.numbers[0]),
          outputs(p.numbers[3]), type(p.numbers[4]), offset(p.numbers[2]) {
        const int* groups = reinterpret_cast<const int*>(p.parts[3]);
        int group = groups ? groups[input] : input / p.numbers[1];
        first = (size_t)group * outputs;
        zeros = words_of(p.parts[1]) + first * bits / 32;
    }

    __device__ __forceinline__ float operator()(int output) const {
        unsigned code = packed_code(words + output, outputs, input, bits);
        unsigned zero = (packed_code(zeros, 1, output, bits) + offset) & ((1u << bits) - 1);
        return ((float)code - (float)zero) * number(type, scales, first + output);
    }
};
DEFINE_DECODES(gptq, Gptq, decode_by_input)

// AWQ. Parts: words [inputs, outputs / 8]; zero points [groups, outputs / 8], or 8 is zero; scales
// [groups, outputs]. Numbers: inputs of a group; outputs of a line; the type of the scales.
struct Awq {
    const unsigned *words, *zeros;
    const unsigned char* scales;
    size_t first;
    int type;

    __device__ __forceinline__ Awq(const PackedArguments& p, int input)
        : words(words_of(p.parts[0]) + (size_t)input * (p.numbers[1] / 8)), scales(p.parts[2]),
          first((size_t)(input / p.numbers[0]) * p.numbers[1]), type(p.numbers[2]) {
        zeros = p.parts[1] ? words_of(p.parts[1]) + first / 8 : nullptr;
    }

    // Nibble i of a word holds output [0, 2, 4, 6, 1, 3, 5, 7][i].
    static __device__ __forceinline__ float code(const unsigned* row, int output) {
        int nibble = output % 2 * 4 + output % 8 / 2;
        return (float)(row[output / 8] >> (4 * nibble) & 15);
    }

    __device__ __forceinline__ float operator()(int output) const {
        float zero = zeros ? code(zeros, output) : 8.0f;
        return (code(words, output) - zero) * number(type, scales, first + output);
    }
};
DEFINE_DECODES(awq, Awq, decode_by_input)
