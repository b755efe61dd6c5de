// Vector types and 16-bit floats.
#pragma once

namespace {

#define EMULATOR_VECTOR(type, name)                                              \
    struct alignas(2 * sizeof(type)) name##2 { type x, y; };                     \
    struct alignas(4 * sizeof(type)) name##4 { type x, y, z, w; };               \
    inline name##2 make_##name##2(type x, type y) { return {x, y}; }             \
    inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
EMULATOR_VECTOR(float, float)
EMULATOR_VECTOR(int, int)
EMULATOR_VECTOR(unsigned, uint)
#undef EMULATOR_VECTOR

// Conversions are explicit: on the device a product of two bfloat16 is rounded to bfloat16, here
// it would silently be a float.
struct __nv_bfloat16 {
    uint16_t bits;
    __nv_bfloat16() = default;
    explicit __nv_bfloat16(float value) {
        uint32_t wide = std::bit_cast<uint32_t>(value);
        bool nan = (wide & 0x7fffffffu) > 0x7f800000u;
        // To nearest, ties to even.
        bits = nan ? 0x7fff : uint16_t((wide + 0x7fffu + (wide >> 16 & 1)) >> 16);
    }
    explicit operator float() const { return std::bit_cast<float>(uint32_t(bits) << 16); }
};
struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};

struct __half {
    uint16_t bits;
    __half() = default;
    explicit __half(float value) {
        uint32_t wide = std::bit_cast<uint32_t>(value);
        uint16_t sign = wide >> 16 & 0x8000;
        float magnitude = std::fabs(value);
        if (!(magnitude < 65520.0f)) {  // rounds to infinity, or is NaN
            bits = sign | (std::isnan(value) ? 0x7fff : 0x7c00);
        } else if (magnitude < 0x1p-14f) {
            // Subnormal: adding 1/2 leaves the last bit at 2^-24, so the sum is rounded there.
            bits = sign | uint16_t(std::bit_cast<uint32_t>(magnitude + 0.5f) - 0x3f000000u);
        } else {
            uint32_t exact = std::bit_cast<uint32_t>(magnitude) - (112u << 23);
            bits = sign | uint16_t((exact + 0xfffu + (exact >> 13 & 1)) >> 13);
        }
    }
    explicit operator float() const {
        uint32_t magnitude = bits & 0x7fffu, sign = uint32_t(bits & 0x8000u) << 16;
        float value;
        if (magnitude >= 0x7c00u) value = std::bit_cast<float>(0x7f800000u | (magnitude & 0x3ffu) << 13);
        else if (magnitude < 0x400u) value = float(magnitude) * 0x1p-24f;
        else value = std::bit_cast<float>((magnitude << 13) + (112u << 23));
        return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | sign);
    }
};
struct alignas(4) __half2 {
    __half x, y;
};

inline float __bfloat162float(__nv_bfloat16 a) { return float(a); }
inline __nv_bfloat16 __float2bfloat16(float a) { return __nv_bfloat16(a); }
inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b) {
    return {__nv_bfloat16(a), __nv_bfloat16(b)};
}
inline float2 __bfloat1622float2(__nv_bfloat162 a) { return {float(a.x), float(a.y)}; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 a) { return a.bits; }

inline float __half2float(__half a) { return float(a); }
inline __half __float2half(float a) { return __half(a); }
inline __half2 __floats2half2_rn(float a, float b) { return {__half(a), __half(b)}; }
inline float2 __half22float2(__half2 a) { return {float(a.x), float(a.y)}; }
inline unsigned short __half_as_ushort(__half a) { return a.bits; }

}  // namespace
