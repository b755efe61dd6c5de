// Hopper's asynchronous instructions, used rightly and with one mistake each.
#include "warpgroup.cuh"

enum class Mistake {
    None,
    InitFence,      // barriers are not shown to copies
    ProxyFence,     // nor what threads wrote to products
    Arrival,        // the tile is read before it is there
    Phase,          // the wrong parity
    Announcement,   // no bytes are announced
    Swizzle,        // the descriptor names another one
    Wait,           // accumulators are read before the group has ended
    Group,          // the group is never waited for
    RegisterFence,  // no wgmma.fence
    Release,        // the stage is given back before it was read
    Barrier,        // no named barrier
};

// Writes an accumulator of 64 x 64.
__device__ void store_product(const float (&d)[8][4], float* out) {
    const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4;
    for (int n = 0; n < 8; n++) {
        for (int i = 0; i < 4; i++) {
            out[(row + i / 2 * 8) * 64 + n * 8 + lane % 4 * 2 + i % 2] = d[n][i];
        }
    }
}

// out = A B for 64 x 64 matrices that tensor copies bring; A is stored transposed, or B.
struct ProductMaps {
    TensorMap a, b;
};

template <int SPAN, int A_TRANSPOSED, int B_TRANSPOSED, Mistake mistake>
__device__ void product(const ProductMaps& maps, float* out) {
    // 64 values of a row are one chunk of 128 bytes, or several narrower ones.
    constexpr int COLUMNS = SPAN / 2, CHUNK = 64 * SPAN, BYTES = 64 * 128;
    SHARED_DYNAMIC(unsigned char, memory);
    auto full = reinterpret_cast<SharedBarrier*>(memory + 2 * BYTES);
    if (threadIdx.x == 0) {
        barrier_init(full, 1);
        if (mistake != Mistake::InitFence) barrier_init_fence();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        if (mistake == Mistake::Announcement) {
            barrier_arrive(full);
        } else {
            barrier_arrive_expecting(full, 2 * BYTES);
        }
        for (int chunk = 0; chunk < BYTES / CHUNK; chunk++) {
            tensor_copy(memory + chunk * CHUNK, &maps.a, full, chunk * COLUMNS, 0);
            tensor_copy(memory + BYTES + chunk * CHUNK, &maps.b, full, chunk * COLUMNS, 0);
        }
    }
    if (mistake != Mistake::Arrival) barrier_wait(full, mistake == Mistake::Phase ? 1 : 0);
    const auto operand = [&](unsigned char* start, int step, bool transposed) {
        constexpr int CALLED = mistake == Mistake::Swizzle ? SPAN / 2 : SPAN;
        const int column = step * 16;
        start += transposed ? column * SPAN
                            : column / COLUMNS * CHUNK + column % COLUMNS * 2;
        return wgmma_descriptor<CALLED>(start, CHUNK, 8 * SPAN);
    };
    float d[8][4];
    if (mistake != Mistake::RegisterFence) wgmma_fence();
    for (int step = 0; step < 4; step++) {
        wgmma_bf16<A_TRANSPOSED, B_TRANSPOSED>(d, operand(memory, step, A_TRANSPOSED),
                                               operand(memory + BYTES, step, B_TRANSPOSED), step > 0);
    }
    wgmma_commit();
    if (mistake == Mistake::Wait) store_product(d, out);
    if (mistake != Mistake::Group) wgmma_wait<0>(d);
    if (mistake != Mistake::Wait) store_product(d, out);
    // Whoever has not waited for the tile waits now, so that only the early reading is wrong.
    if (mistake == Mistake::Arrival) barrier_wait(full, 0);
}
#define PRODUCT(name, ...)                                                              \
    KERNEL name(const __grid_constant__ ProductMaps maps, float* out) { product<__VA_ARGS__>(maps, out); } \
    REGISTER(name)
PRODUCT(product_right_128, 128, 0, 0, Mistake::None)
PRODUCT(product_right_64, 64, 0, 0, Mistake::None)
PRODUCT(product_right_32, 32, 0, 0, Mistake::None)
PRODUCT(product_transposed_128, 128, 1, 1, Mistake::None)
PRODUCT(product_transposed_64, 64, 1, 1, Mistake::None)
PRODUCT(product_transposed_32, 32, 1, 1, Mistake::None)
PRODUCT(product_mixed_128, 128, 0, 1, Mistake::None)
PRODUCT(product_without_init_fence, 128, 0, 0, Mistake::InitFence)
PRODUCT(product_before_arrival, 128, 0, 0, Mistake::Arrival)
PRODUCT(product_in_wrong_phase, 128, 0, 0, Mistake::Phase)
PRODUCT(product_unannounced, 128, 0, 0, Mistake::Announcement)
PRODUCT(product_of_wrong_swizzle, 128, 0, 0, Mistake::Swizzle)
PRODUCT(product_read_early, 128, 0, 0, Mistake::Wait)
PRODUCT(product_never_awaited, 128, 0, 0, Mistake::Group)
PRODUCT(product_without_register_fence, 128, 0, 0, Mistake::RegisterFence)

// The same from what threads write, without swizzle: 8 rows of 16 bytes each lie together. The left operand
// comes from registers.
template <Mistake mistake>
__device__ void written_product(const __nv_bfloat16* a, const __nv_bfloat16* b, float* out) {
    SHARED_DYNAMIC(__nv_bfloat16, right);
    for (int i = threadIdx.x; i < 64 * 64; i += 128) {
        const int column = i / 64, k = i % 64;  // b is [columns, k]
        right[column / 8 * 64 + k / 8 * 512 + column % 8 * 8 + k % 8] = b[i];
    }
    if (mistake != Mistake::ProxyFence) async_proxy_fence();
    __syncthreads();
    const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4;
    uint32_t left[4][4];
    for (int step = 0; step < 4; step++) {
        for (int r = 0; r < 4; r++) {
            const int column = step * 16 + r / 2 * 8 + lane % 4 * 2;
            memcpy(&left[step][r], a + (row + r % 2 * 8) * 64 + column, 4);
        }
    }
    float d[8][4];
    wgmma_fence();
    for (int step = 0; step < 4; step++) {
        wgmma_bf16<0>(d, left[step], wgmma_descriptor<16>(right + step * 1024, 1024, 128), step > 0);
        // Two groups, of which the first may end before the second.
        if (step == 1) wgmma_commit();
    }
    wgmma_commit();
    wgmma_wait<1>(d);
    wgmma_wait<0>(d);
    store_product(d, out);
}
#define WRITTEN_PRODUCT(name, mistake)                                                        \
    KERNEL name(const __nv_bfloat16* a, const __nv_bfloat16* b, float* out) { written_product<mistake>(a, b, out); } \
    REGISTER(name)
WRITTEN_PRODUCT(written_product_right, Mistake::None)
WRITTEN_PRODUCT(written_product_without_fence, Mistake::ProxyFence)

// Sums eight tiles of 8 rows of 64 values, which a warp of its own brings through a ring of two stages. The
// tensor ends within the last tile. 160 threads.
template <Mistake mistake>
__device__ void ring(const TensorMap* map, float* out) {
    constexpr int TILES = 8, BYTES = 8 * 64 * 2;
    SHARED_DYNAMIC(__nv_bfloat16, tiles);
    SHARED(SharedBarrier, full, [2]);
    SHARED(SharedBarrier, empty, [2]);
    if (threadIdx.x < 2) {
        barrier_init(&full[threadIdx.x], 1);
        barrier_init(&empty[threadIdx.x], 128);
        barrier_init_fence();
    }
    __syncthreads();
    if (threadIdx.x >= 128) {
        if (elect_one()) {
            tensor_map_acquire(map);
            for (int tile = 0; tile < TILES; tile++) {
                const int stage = tile % 2, round = tile / 2;
                barrier_wait(&empty[stage], (round & 1) ^ 1);
                barrier_arrive_expecting(&full[stage], BYTES);
                tensor_copy(tiles + stage * 512, map, &full[stage], 0, 0, tile * 8);
            }
        }
        return;
    }
    float sum = 0.0f;
    for (int tile = 0; tile < TILES; tile++) {
        const int stage = tile % 2, round = tile / 2;
        barrier_wait(&full[stage], round & 1);
        if (mistake == Mistake::Release) barrier_arrive(&empty[stage]);
        for (int i = threadIdx.x; i < 512; i += 128) sum += float(tiles[stage * 512 + i]);
        if (mistake != Mistake::Release) barrier_arrive(&empty[stage]);
    }
    out[threadIdx.x] = sum;
}
KERNEL ring_right(const TensorMap* map, float* out) { ring<Mistake::None>(map, out); }
REGISTER(ring_right)
KERNEL ring_released_early(const TensorMap* map, float* out) { ring<Mistake::Release>(map, out); }
REGISTER(ring_released_early)

// The second warp reads what the first wrote, which does not wait for it.
template <Mistake mistake>
__device__ void hand_over(float* out) {
    SHARED(float, row, [32]);
    if (threadIdx.x < 32) {
        row[threadIdx.x] = float(threadIdx.x);
        named_barrier_arrive(3, 64);
    } else {
        if (mistake != Mistake::Barrier) named_barrier_sync(3, 64);
        out[threadIdx.x] = row[63 - threadIdx.x];
        if (mistake == Mistake::Barrier) named_barrier_sync(3, 64);
    }
}
KERNEL hand_over_right(float* out) { hand_over<Mistake::None>(out); }
REGISTER(hand_over_right)
KERNEL hand_over_without_barrier(float* out) { hand_over<Mistake::Barrier>(out); }
REGISTER(hand_over_without_barrier)

// A warpgroup gives registers to two others; 40 are too many to keep.
KERNEL registers_right(float* out) {
    if (threadIdx.x < 128) keep_registers<24>();
    else take_registers<240>();
}
REGISTER(registers_right)
KERNEL registers_beyond(float* out) {
    if (threadIdx.x < 128) keep_registers<40>();
    else take_registers<240>();
}
REGISTER(registers_beyond)
