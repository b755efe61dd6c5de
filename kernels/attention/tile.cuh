// Tiles of a tensor in shared memory.
#pragma once

#include "elements.cuh"

// `WIDTH` values a row, and 16 bytes that nobody reads: with a row length that is an odd multiple
// of 16 bytes, eight rows at the same column lie in different banks, as ldmatrix and the float32
// kernels read them.
template <class T, int WIDTH>
struct SharedTile {
    static constexpr int CHUNK = 16 / sizeof(T);  // values in 16 bytes
    static constexpr int STRIDE = WIDTH + SHARED_ROW_PADDING / sizeof(T);
    static_assert(WIDTH % CHUNK == 0 && STRIDE / CHUNK % 2 == 1);

    T* values;

    __device__ T* at(int row, int column) const { return values + row * STRIDE + column; }
};

// A head's rows of a tensor in global memory.
template <class T>
struct HeadRows {
    const T* values;  // the head's first value in the sequence's first row
    int stride;       // values between rows
    int count;        // positions
    int width;        // values of the head
    bool aligned;     // rows start at multiples of 16 bytes and end there

    __device__ HeadRows(const void* tensor, int start, int length, int heads, int head, int width,
                        bool aligned)
        : values(static_cast<const T*>(tensor) + size_t(start) * heads * width +
                 size_t(head) * width),
          stride(heads * width),
          count(length),
          width(width),
          aligned(aligned) {}
};

// Starts copying the positions first.. and the columns column.. of a head into `ROWS` rows of the
// tile; what lies outside the head or the sequence becomes 0. All threads of the block take part.
//
// A thread stays in its column and goes down by as many rows as the block copies side by side, so that
// an address is the one before and a constant. Threads that are left over below a whole row are idle.
template <int ROWS, int THREADS, class T, int WIDTH>
__device__ __forceinline__ void load_rows(SharedTile<T, WIDTH> tile, const HeadRows<T>& head,
                                          int first, int column = 0) {
    constexpr int CHUNK = SharedTile<T, WIDTH>::CHUNK;
    constexpr int CHUNKS = WIDTH / CHUNK;
    constexpr int ACROSS = CHUNKS < THREADS ? CHUNKS : THREADS;
    constexpr int STEP = THREADS / ACROSS;
    static_assert(CHUNKS % ACROSS == 0);
    const int thread = anew(threadIdx.x);
    const int row = thread / ACROSS;
    if (THREADS % ACROSS != 0 && row >= STEP) return;
    const int rows = head.count - first - row;
#pragma unroll
    for (int part = 0; part < CHUNKS; part += ACROSS) {
        const int offset = (part + thread % ACROSS) * CHUNK;
        const int left = head.width - column - offset;
        // Below this thread's first row, those that have something in its column.
        const int below = left > 0 ? rows : 0;
        const T* source = head.values;
        if (below > 0) source += size_t(first + row) * head.stride + column + offset;
        T* target = tile.at(row, offset);
        if (head.aligned) {
#pragma unroll
            for (int down = 0; down < ROWS; down += STEP) {
                if (ROWS % STEP != 0 && row + down >= ROWS) break;
                cp_async_16_or_zero(target + down * tile.STRIDE, source, down < below);
                // An address that is not read must still be one.
                if (down + STEP < below) source += size_t(STEP) * head.stride;
            }
        } else {
#pragma unroll 1
            for (int down = 0; down < ROWS - row; down += STEP) {
#pragma unroll
                for (int j = 0; j < CHUNK; j++) {
                    const bool there = down < below && j < left;
                    target[down * tile.STRIDE + j] =
                        there ? source[size_t(down) * head.stride + j] : Element<T>::narrow(0.0f);
                }
            }
        }
    }
}

// Writes `ROWS` rows of the tile, from row `from` on, to the positions first.. of a head. One warp.
template <int ROWS, class T, int WIDTH>
__device__ __forceinline__ void store_rows(SharedTile<T, WIDTH> tile, int from, T* head,
                                           size_t stride, int first, int count, int width,
                                           bool aligned) {
    constexpr int CHUNK = SharedTile<T, WIDTH>::CHUNK;
    const int chunks = (width + CHUNK - 1) / CHUNK;
    for (int i = lane_id(); i < ROWS * chunks; i += 32) {
        const int row = i / chunks;
        const int column = i % chunks * CHUNK;
        if (first + row >= count) break;
        const T* source = tile.at(from + row, column);
        T* target = head + (first + row) * stride + column;
        if (aligned) {
            *reinterpret_cast<uint4*>(target) = *reinterpret_cast<const uint4*>(source);
        } else {
            for (int j = 0; j < CHUNK && column + j < width; j++) target[j] = source[j];
        }
    }
}
