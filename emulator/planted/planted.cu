// Kernels with one mistake each, to see that the emulator reports it, and the same without.
#include "device.cuh"

// Reverses 64 values. Between writing and reading other threads' values stands a barrier.
template <bool barrier>
__device__ void reverse(const float* x, float* out) {
    SHARED(float, row, [64]);
    row[threadIdx.x] = x[threadIdx.x];
    if (barrier) __syncthreads();
    out[threadIdx.x] = row[63 - threadIdx.x];
}
KERNEL reverse_right(const float* x, float* out) { reverse<true>(x, out); }
REGISTER(reverse_right)
KERNEL reverse_without_barrier(const float* x, float* out) { reverse<false>(x, out); }
REGISTER(reverse_without_barrier)

// Shifts values by one lane. Lanes of a warp need a barrier, too.
template <bool barrier>
__device__ void rotate_lanes(const float* x, float* out) {
    SHARED(float, row, [32]);
    row[threadIdx.x] = x[threadIdx.x];
    if (barrier) __syncwarp();
    out[threadIdx.x] = row[(threadIdx.x + 1) % 32];
}
KERNEL rotate_lanes_right(const float* x, float* out) { rotate_lanes<true>(x, out); }
REGISTER(rotate_lanes_right)
KERNEL rotate_lanes_without_barrier(const float* x, float* out) { rotate_lanes<false>(x, out); }
REGISTER(rotate_lanes_without_barrier)

// Reuses shared memory; the second barrier keeps a fast thread from overwriting what a slow one
// has not read.
template <bool barrier>
__device__ void accumulate(const float* x, float* out) {
    SHARED(float, row, [64]);
    float sum = 0.0f;
    for (int round = 0; round < 3; round++) {
        row[threadIdx.x] = x[threadIdx.x] * (round + 1);
        __syncthreads();
        sum += row[63 - threadIdx.x];
        if (barrier) __syncthreads();
    }
    out[threadIdx.x] = sum;
}
KERNEL accumulate_right(const float* x, float* out) { accumulate<true>(x, out); }
REGISTER(accumulate_right)
KERNEL accumulate_without_barrier(const float* x, float* out) { accumulate<false>(x, out); }
REGISTER(accumulate_without_barrier)

// Copies `count` values; the mistake writes one more.
KERNEL copy_right(const float* x, float* out, int count) {
    for (int i = threadIdx.x; i < count; i += blockDim.x) out[i] = x[i];
}
REGISTER(copy_right)
KERNEL copy_off_by_one_store(const float* x, float* out, int count) {
    for (int i = threadIdx.x; i <= count; i += blockDim.x) out[i] = x[min(i, count - 1)];
}
REGISTER(copy_off_by_one_store)
KERNEL copy_off_by_one_load(const float* x, float* out, int count) {
    for (int i = threadIdx.x; i < count; i += blockDim.x) out[i] = x[i + 1];
}
REGISTER(copy_off_by_one_load)

// Copies 128 values through shared memory with cp.async.
template <bool await>
__device__ void copy_async(const float* x, float* out) {
    SHARED(float, row, [128]);
    cp_async_16(row + 4 * threadIdx.x, x + 4 * threadIdx.x);
    cp_async_commit();
    if (await) cp_async_wait<0>();
    __syncthreads();
    for (int i = threadIdx.x; i < 128; i += 32) out[i] = row[i];
}
KERNEL copy_async_right(const float* x, float* out) { copy_async<true>(x, out); }
REGISTER(copy_async_right)
KERNEL copy_async_unawaited(const float* x, float* out) { copy_async<false>(x, out); }
REGISTER(copy_async_unawaited)

// Every block counts its threads; the mistake counts without an atomic.
KERNEL count_right(unsigned* count) { atomicAdd(count, 1u); }
REGISTER(count_right)
KERNEL count_without_atomic(unsigned* count) { *count += 1; }
REGISTER(count_without_atomic)

KERNEL divergent_barrier(float* out) {
    if (threadIdx.x < 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    out[threadIdx.x] = 0.0f;
}
REGISTER(divergent_barrier)

KERNEL early_return(float* out) {
    if (threadIdx.x == 5) return;
    __syncthreads();
    out[threadIdx.x] = 0.0f;
}
REGISTER(early_return)

KERNEL shuffle_from_absent(float* out) {
    float value = float(threadIdx.x);
    if (threadIdx.x < 16) value = __shfl_sync(0xffffu, value, 20);
    out[threadIdx.x] = value;
}
REGISTER(shuffle_from_absent)

KERNEL uninitialised_shared(float* out) {
    SHARED(float, row, [64]);
    if (threadIdx.x > 0) row[threadIdx.x] = 1.0f;
    __syncthreads();
    out[threadIdx.x] = row[threadIdx.x];
}
REGISTER(uninitialised_shared)

// Blocks of at most 64 threads.
KERNEL_BOUNDED(64) bounded(float* out) { out[threadIdx.x] = 1.0f; }
REGISTER(bounded)

// A tile of dynamic shared memory, of which one value more is written than the host says there is.
KERNEL past_dynamic_shared(float* out, int count) {
    SHARED_DYNAMIC(float, row);
    SHARED(float, other, [32]);
    for (int i = threadIdx.x; i < count; i += blockDim.x) row[i] = 1.0f;
    other[threadIdx.x % 32] = 2.0f;
    __syncthreads();
    if (threadIdx.x == 0) out[0] = row[0];
}
REGISTER(past_dynamic_shared)

KERNEL misaligned_vector(const float* x, float* out) {
    uint4 four = load_16(x + 1);
    out[threadIdx.x] = __uint_as_float(four.x);
}
REGISTER(misaligned_vector)
