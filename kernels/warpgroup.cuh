// Tiles in shared memory as tensor copies leave them and warpgroup products read them (ptx_hopper.cuh).
//
// A row's 16-byte units trade places within SPAN bytes (32, 64 or 128), so that eight rows below each other
// lie in different banks. A matrix wider than that is cut into chunks of SPAN bytes a row, one after the
// other; each starts at a multiple of 8 * SPAN bytes.
#pragma once
#include "device.cuh"

#if HOPPER

// What the hardware calls a matrix descriptor: start, two strides in bytes, and the swizzle.
template <int SPAN>
__device__ __forceinline__ uint64_t wgmma_descriptor(const void* start, int leading, int stride) {
    static_assert(SPAN == 16 || SPAN == 32 || SPAN == 64 || SPAN == 128);
    constexpr uint64_t SWIZZLE = SPAN == 128 ? 1 : SPAN == 64 ? 2 : SPAN == 32 ? 3 : 0;
    return (shared_address(start) & 0x3ffff) >> 4 | uint64_t(leading >> 4) << 16 |
           uint64_t(stride >> 4) << 32 | SWIZZLE << 62;
}

// `ROWS` rows of `WIDTH` values of 16 bits.
template <class T, int ROWS, int WIDTH>
struct SwizzledTile {
    // The longest rows that the chunks can have.
    static constexpr int SPAN = WIDTH % 64 == 0 ? 128 : WIDTH % 32 == 0 ? 64 : 32;
    static constexpr int COLUMNS = SPAN / 2;  // of a chunk
    static constexpr int CHUNKS = WIDTH / COLUMNS;
    static constexpr int CHUNK = ROWS * COLUMNS;  // values of a chunk
    static constexpr int BYTES = ROWS * WIDTH * 2;
    static_assert(WIDTH % COLUMNS == 0 && ROWS % 8 == 0 && sizeof(T) == 2);

    T* values;

    // Eight values from a multiple of eight on lie together.
    __device__ __forceinline__ T* at(int row, int column) const {
        const int unit = column % COLUMNS / 8 ^ (row * SPAN / 128 & (SPAN / 16 - 1));
        return values + column / COLUMNS * CHUNK + row * COLUMNS + unit * 8 + column % 8;
    }

    // An operand whose sums run along the rows, from `row` on: the columns 16 * step and following.
    __device__ __forceinline__ uint64_t along_rows(int row, int step) const {
        const int column = step * 16;
        return wgmma_descriptor<SPAN>(
            values + column / COLUMNS * CHUNK + row * COLUMNS + column % COLUMNS, 16, 8 * SPAN);
    }

    // A transposed operand, whose sums run along the columns: the rows 16 * step and following.
    __device__ __forceinline__ uint64_t along_columns(int step) const {
        return wgmma_descriptor<SPAN>(values + step * 16 * COLUMNS, CHUNK * 2, 8 * SPAN);
    }

    // Starts copying the box from these coordinates on, a chunk at a time; `more` are the coordinates
    // beyond the columns.
    template <class... Coordinates>
    __device__ __forceinline__ void copy(const TensorMap* map, SharedBarrier* barrier,
                                         Coordinates... more) const {
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            tensor_copy(values + chunk * CHUNK, map, barrier, chunk * COLUMNS, more...);
        }
    }
};

#endif
