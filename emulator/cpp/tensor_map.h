// What the emulator makes of a tensor map (src/tensor_map.rs), in the 128 bytes that a card's has.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace emulator {

constexpr uint8_t TENSOR_MAP_MAGIC = 0x7a;

struct EncodedTensorMap {
    uint64_t address;
    uint32_t sizes[4];    // elements of each axis, the innermost first
    uint64_t strides[3];  // bytes from one index to the next, of the outer axes
    uint16_t box[4];
    uint8_t rank, element_bytes;
    uint8_t swizzle;  // 16-byte units of a row that trade places: 1 (none), 2, 4, 8
    uint8_t magic;
};

// Bytes of a box in shared memory.
size_t box_bytes(const EncodedTensorMap& map);

// The box from these coordinates on as it will lie at `offset` of shared memory.
std::vector<unsigned char> box_image(const EncodedTensorMap& map, const int* coordinates,
                                     size_t offset);

// Where the 16 bytes that follow `address` lie instead: the unit's number within its row of `units`
// units is changed by that of the row of 128 bytes, of which the pattern has `units`.
inline size_t swizzled(size_t address, unsigned units) {
    return address ^ ((address >> 7 & (units - 1)) << 4);
}

}  // namespace emulator
