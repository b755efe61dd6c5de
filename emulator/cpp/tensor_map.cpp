#include "tensor_map.h"

#include <algorithm>
#include <cstring>

#include "engine.h"

namespace emulator {

size_t box_bytes(const EncodedTensorMap& map) {
    size_t bytes = map.element_bytes;
    for (int axis = 0; axis < map.rank; axis++) bytes *= map.box[axis];
    return bytes;
}

std::vector<unsigned char> box_image(const EncodedTensorMap& map, const int* coordinates,
                                     size_t offset) {
    Engine& e = engine();
    std::vector<unsigned char> image(box_bytes(map), 0);
    const size_t row_bytes = size_t(map.box[0]) * map.element_bytes;
    // What of a row is inside the tensor.
    const int64_t first = std::max<int64_t>(0, -int64_t(coordinates[0]));
    const int64_t last = std::min<int64_t>(map.box[0], int64_t(map.sizes[0]) - coordinates[0]);
    for (size_t row = 0; row * row_bytes < image.size(); row++) {
        bool inside = first < last;
        uintptr_t from = map.address;
        size_t rest = row;
        for (int axis = 1; axis < map.rank; axis++) {
            int64_t index = coordinates[axis] + int64_t(rest % map.box[axis]);
            rest /= map.box[axis];
            inside = inside && index >= 0 && index < int64_t(map.sizes[axis]);
            from += uintptr_t(index * int64_t(map.strides[axis - 1]));
        }
        if (!inside) continue;
        from += uintptr_t((coordinates[0] + first) * map.element_bytes);
        size_t bytes = size_t(last - first) * map.element_bytes;
        if (!e.memory.contains(from, bytes)) {
            e.fail("tensor copy of %zu bytes out of bounds of device memory, %s", bytes,
                   e.memory.nearest(from).c_str());
        }
        auto source = reinterpret_cast<const unsigned char*>(from);
        size_t start = row * row_bytes + size_t(first) * map.element_bytes;
        for (size_t i = 0; i < bytes; i++) {
            image[swizzled(offset + start + i, map.swizzle) - offset] = source[i];
        }
    }
    return image;
}

}  // namespace emulator
