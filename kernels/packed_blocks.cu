// Weights packed as the blocks of a GGUF file (packed.cuh), ggml's types: a row is a list of blocks, each
// with scales of its own.
//
// How the bits of each type lie, src/model/weights/encodings/ggml/ says. A thread computes the scale of its
// value from bytes that its warp has in the cache anyway.
#include "packed_numbers.cuh"

// Parts: the rows. Numbers: bytes of a row; the order of the rows, rows of a head, heads.
template <class Type>
struct Blocks {
    const unsigned char* row;

    static __device__ __forceinline__ int stored(const PackedArguments& p, int line) {
        int head_rows = p.numbers[2], heads = p.numbers[3];
        switch (p.numbers[1]) {
            case ORDER_ROTARY: {
                // Of a head the two halves alternate.
                int inside = line % head_rows, half = head_rows / 2;
                return line - inside + inside % half * 2 + inside / half;
            }
            case ORDER_PARTED: {
                // Queries of all heads, then keys, then values.
                int head = line / (3 * head_rows), inside = line % (3 * head_rows);
                return (inside / head_rows * heads + head) * head_rows + inside % head_rows;
            }
            default: return line;
        }
    }

    __device__ __forceinline__ Blocks(const PackedArguments& p, int line)
        : row(p.parts[0] + (size_t)stored(p, line) * p.numbers[0]) {}

    __device__ __forceinline__ float operator()(int column) const {
        const unsigned char* block = row + (size_t)(column / Type::VALUES) * Type::BYTES;
        return Type::value(block, column % Type::VALUES);
    }
};

__device__ __forceinline__ float float16(const unsigned char* place) {
    return number<NUMBER_FLOAT16>(place, 0);
}

// a q + m, in two roundings.
__device__ __forceinline__ float shifted(float a, int q, float m) {
    return __fadd_rn(__fmul_rn(a, (float)q), m);
}

// Code i of 32 that lie as nibbles in 16 bytes: the low ones are the first half.
__device__ __forceinline__ int nibble(const unsigned char* bytes, int i) {
    return bytes[i % 16] >> (i / 16 * 4) & 15;
}
// Bit i of a list.
__device__ __forceinline__ int bit(const unsigned char* bytes, int i) {
    return bytes[i / 8] >> (i % 8) & 1;
}
// Code i of 256 of two bits: byte b of 32 has those of the values b, 32 + b, 64 + b and 96 + b.
__device__ __forceinline__ int two_bits(const unsigned char* bytes, int i) {
    return bytes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
}
// Byte `code` of 16 signed ones.
__device__ __forceinline__ float looked_up(unsigned long long low, unsigned long long high, int code) {
    return (float)(signed char)((code & 8 ? high : low) >> (8 * (code & 7)));
}
// What the codes of IQ4_NL and IQ4_XS stand for: -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38,
// 53, 69, 89, 113.
__device__ __forceinline__ float uneven(int code) {
    return looked_up(0xf6eaddcfbfad9881, 0x7159453526190d01, code);
}

// A type: values and bytes of a block, and value i of a block.
#define TYPE(name, values, bytes)                                        \
    struct name {                                                        \
        static constexpr int VALUES = values, BYTES = bytes;             \
        static __device__ float value(const unsigned char* block, int i); \
    };                                                                   \
    __device__ __forceinline__ float name::value(const unsigned char* block, int i)

// ---- Floats. `i` is 0.
TYPE(F32, 1, 4) { return number<NUMBER_FLOAT32>(block, i); }
TYPE(F16, 1, 2) { return number<NUMBER_FLOAT16>(block, i); }
TYPE(BF16, 1, 2) { return number<NUMBER_BFLOAT16>(block, i); }

// ---- 32 values with a scale, in some a smallest value
TYPE(Q4_0, 32, 18) { return float16(block) * (nibble(block + 2, i) - 8); }
TYPE(Q4_1, 32, 20) { return shifted(float16(block), nibble(block + 4, i), float16(block + 2)); }
TYPE(Q5_0, 32, 22) {
    int code = nibble(block + 6, i) | bit(block + 2, i) << 4;
    return float16(block) * (code - 16);
}
TYPE(Q5_1, 32, 24) {
    int code = nibble(block + 8, i) | bit(block + 4, i) << 4;
    return shifted(float16(block), code, float16(block + 2));
}
TYPE(Q8_0, 32, 34) { return float16(block) * (signed char)block[2 + i]; }
TYPE(IQ4_NL, 32, 18) { return float16(block) * uneven(nibble(block + 2, i)); }
// E2M1, doubled, without a negative zero; the scale is half of E8M0's, its two smallest subnormal.
TYPE(Mxfp4, 32, 17) {
    int exponent = block[0];
    unsigned bits = exponent < 2 ? 0x00200000u << exponent : (unsigned)(exponent - 1) << 23;
    float code = looked_up(0x0c08060403020100, 0xf4f8fafcfdfeff00, nibble(block + 1, i));
    return __uint_as_float(bits) * code;
}

// ---- Super-blocks of 256 values, whose parts have scales in few bits
TYPE(Q2_K, 256, 84) {
    int scales = block[i / 16];
    float scale = float16(block + 80) * (scales & 15), minimum = float16(block + 82) * (scales >> 4);
    return shifted(scale, two_bits(block + 16, i), -minimum);
}
TYPE(Q3_K, 256, 110) {
    const unsigned char* scales = block + 96;
    int part = i / 16;
    int low = scales[part % 8] >> (part / 8 * 4) & 15;
    int high = scales[8 + part % 4] >> (part / 4 * 2) & 3;
    int code = two_bits(block + 32, i) | (block[i % 32] >> (i / 32) & 1) << 2;
    return float16(block + 108) * ((low | high << 4) - 32) * (code - 4);
}
// d times the scale of a part of 32, and dmin times its minimum, six bits each in the 12 bytes after the
// two: of the first four parts the lower six bits of bytes part and 4 + part; of the others the nibbles of
// byte 4 + part, and above them the upper two bits of bytes part - 4 and part.
__device__ __forceinline__ float2 scale_and_minimum(const unsigned char* block, int part) {
    const unsigned char* bytes = block + 4;
    int scale, minimum;
    if (part < 4) {
        scale = bytes[part] & 63;
        minimum = bytes[part + 4] & 63;
    } else {
        scale = (bytes[part + 4] & 15) | bytes[part - 4] >> 6 << 4;
        minimum = bytes[part + 4] >> 4 | bytes[part] >> 6 << 4;
    }
    return make_float2(float16(block) * scale, float16(block + 2) * minimum);
}
TYPE(Q4_K, 256, 144) {
    float2 scale = scale_and_minimum(block, i / 32);
    int code = block[16 + i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15;
    return shifted(scale.x, code, -scale.y);
}
TYPE(Q5_K, 256, 176) {
    float2 scale = scale_and_minimum(block, i / 32);
    int code = block[48 + i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15;
    code |= (block[16 + i % 32] >> (i / 32) & 1) << 4;
    return shifted(scale.x, code, -scale.y);
}
TYPE(Q6_K, 256, 210) {
    int code = block[i / 128 * 64 + i % 64] >> (i % 128 / 64 * 4) & 15;
    code |= two_bits(block + 128, i) << 4;
    return float16(block + 208) * (signed char)block[192 + i / 16] * (code - 32);
}
TYPE(IQ4_XS, 256, 136) {
    int part = i / 32;
    int low = block[4 + part / 2] >> (part % 2 * 4) & 15;
    int high = block[2 + part / 4] >> (part % 4 * 2) & 3;
    return float16(block) * ((low | high << 4) - 32) * uneven(nibble(block + 8 + part * 16, i % 32));
}
// A byte is a fraction of 256 whose ternary digits are codes.
TYPE(TQ1_0, 256, 54) {
    int byte, digit;
    if (i < 160) {
        byte = i % 32;
        digit = i / 32;
    } else if (i < 240) {
        byte = 32 + i % 16;
        digit = (i - 160) / 16;
    } else {
        byte = 48 + i % 4;
        digit = (i - 240) / 4;
    }
    int rest = block[byte];
    for (int n = 0; n < digit; n++) rest = rest * 3 & 255;
    return float16(block + 52) * ((rest * 3 >> 8) - 1);
}
TYPE(TQ2_0, 256, 66) { return float16(block + 64) * (two_bits(block, i) - 1); }
#undef TYPE

#define DEFINE(name, Type) DEFINE_DECODES(name, Blocks<Type>, decode_by_output)
DEFINE(ggml_f32, F32)
DEFINE(ggml_f16, F16)
DEFINE(ggml_bf16, BF16)
DEFINE(ggml_q4_0, Q4_0)
DEFINE(ggml_q4_1, Q4_1)
DEFINE(ggml_q5_0, Q5_0)
DEFINE(ggml_q5_1, Q5_1)
DEFINE(ggml_q8_0, Q8_0)
DEFINE(ggml_q2_k, Q2_K)
DEFINE(ggml_q3_k, Q3_K)
DEFINE(ggml_q4_k, Q4_K)
DEFINE(ggml_q5_k, Q5_K)
DEFINE(ggml_q6_k, Q6_K)
DEFINE(ggml_iq4_nl, IQ4_NL)
DEFINE(ggml_iq4_xs, IQ4_XS)
DEFINE(ggml_mxfp4, Mxfp4)
DEFINE(ggml_tq1_0, TQ1_0)
DEFINE(ggml_tq2_0, TQ2_0)
#undef DEFINE
