// Instructions of compute capability 9.0a (Hopper) that CUDA C++ has no portable word for: barriers in
// shared memory, tensor copies (TMA), warpgroup products (wgmma). The emulator has a twin of each in
// emulator/cpp/hopper.h. For other cards there are none of them: a kernel that uses them puts its body
// between #if HOPPER and #endif.
#pragma once

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HOPPER 1

// ---- barriers in shared memory (mbarrier): a phase ends when all arrivals and all announced bytes are
// there. They lie at multiples of 8 bytes.

using SharedBarrier = unsigned long long;

__device__ __forceinline__ void barrier_init(SharedBarrier* barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
                 "r"(arrivals)
                 : "memory");
}
// What was initialised becomes visible to tensor copies; to other threads by a __syncthreads after it.
__device__ __forceinline__ void barrier_init_fence() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void barrier_arrive(SharedBarrier* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
                 : "memory");
}
// Arrives, and announces bytes that copies will bring in this phase.
__device__ __forceinline__ void barrier_arrive_expecting(SharedBarrier* barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(
                     shared_address(barrier)),
                 "r"(bytes)
                 : "memory");
}
// Waits for the end of the phase of this parity: phases count from 0. For the phase before the first,
// parity 1, it does not wait.
__device__ __forceinline__ void barrier_wait(SharedBarrier* barrier, unsigned parity) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n"
        "}" ::"r"(shared_address(barrier)),
        "r"(parity)
        : "memory");
}

// ---- named barriers: numbers 1 to 15 (0 is __syncthreads), for so many threads, whole warps

__device__ __forceinline__ void named_barrier_sync(int number, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}
// Counts without waiting.
__device__ __forceinline__ void named_barrier_arrive(int number, int threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

// ---- one thread of a warp, registers of a warpgroup

// True for one lane of a whole warp.
__device__ __forceinline__ bool elect_one() {
    uint32_t elected;
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        "elect.sync _|p, 0xffffffff;\n"
        "selp.u32 %0, 1, 0, p;\n"
        "}"
        : "=r"(elected));
    return elected != 0;
}
template <int registers>
__device__ __forceinline__ void keep_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}
template <int registers>
__device__ __forceinline__ void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}

// ---- tensor copies (TMA)

// What the driver encodes (Device::tensor_map).
struct alignas(64) TensorMap {
    unsigned long long opaque[16];
};

// What threads wrote to shared memory becomes visible to tensor copies and warpgroup products.
__device__ __forceinline__ void async_proxy_fence() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
// Before the first use of a map that lies in global memory.
__device__ __forceinline__ void tensor_map_acquire(const TensorMap* map) {
    asm volatile("fence.proxy.tensormap::generic.acquire.sys [%0], 128;" ::"l"(map) : "memory");
}
// A box from global to shared memory, from these coordinates on, zeros outside the tensor. The barrier
// gets all of the box's bytes.
__device__ __forceinline__ void tensor_copy(void* shared, const TensorMap* map,
                                            SharedBarrier* barrier, int x, int y) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%3, %4}], [%2];" ::"r"(shared_address(shared)),
        "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y)
        : "memory");
}
__device__ __forceinline__ void tensor_copy(void* shared, const TensorMap* map,
                                            SharedBarrier* barrier, int x, int y, int z) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(shared_address(shared)),
        "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z)
        : "memory");
}
__device__ __forceinline__ void tensor_copy(void* shared, const TensorMap* map,
                                            SharedBarrier* barrier, int x, int y, int z, int w) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(shared_address(shared)),
        "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z), "r"(w)
        : "memory");
}

// ---- warpgroup products (wgmma.m64nNk16): d += a b, d [64, N] in float32, N / 8 tiles of m64n8

// Before the first product, and whenever registers that one reads were written.
__device__ __forceinline__ void wgmma_fence() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits until at most `groups_left` groups are under way. Only then may their accumulators be looked at,
// which are named so that the compiler knows.
template <int groups_left, int N>
__device__ __forceinline__ void wgmma_wait(float (&d)[N][4]) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(groups_left) : "memory");
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) asm volatile("" : "+f"(d[n][i])::"memory");
    }
}

// The names of accumulators in the order of the operands, and the operands.
#define WGMMA_DECADE(t)                                                                        \
    ", %" #t "0, %" #t "1, %" #t "2, %" #t "3, %" #t "4, %" #t "5, %" #t "6, %" #t "7, %" #t \
    "8, %" #t "9"
#define WGMMA_NAMES_30 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9" WGMMA_DECADE(1) WGMMA_DECADE(2)
#define WGMMA_NAMES_40 WGMMA_NAMES_30 WGMMA_DECADE(3)
#define WGMMA_NAMES_90                                                                \
    WGMMA_NAMES_40 WGMMA_DECADE(4) WGMMA_DECADE(5) WGMMA_DECADE(6) WGMMA_DECADE(7) \
        WGMMA_DECADE(8)
#define WGMMA_NAMES_64 WGMMA_NAMES_30 ", %30, %31"
#define WGMMA_NAMES_80 WGMMA_NAMES_40
#define WGMMA_NAMES_96 WGMMA_NAMES_40 ", %40, %41, %42, %43, %44, %45, %46, %47"
#define WGMMA_NAMES_128 \
    WGMMA_NAMES_40 WGMMA_DECADE(4) WGMMA_DECADE(5) ", %60, %61, %62, %63"
#define WGMMA_NAMES_192 WGMMA_NAMES_90 ", %90, %91, %92, %93, %94, %95"
#define WGMMA_NAMES_256                                                   \
    WGMMA_NAMES_90 WGMMA_DECADE(9) WGMMA_DECADE(10) WGMMA_DECADE(11) \
        ", %120, %121, %122, %123, %124, %125, %126, %127"
#define WGMMA_TILE(n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define WGMMA_TILES_4(n) \
    WGMMA_TILE(n), WGMMA_TILE(n + 1), WGMMA_TILE(n + 2), WGMMA_TILE(n + 3)
#define WGMMA_TILES_64 WGMMA_TILES_4(0), WGMMA_TILES_4(4)
#define WGMMA_TILES_80 WGMMA_TILES_64, WGMMA_TILE(8), WGMMA_TILE(9)
#define WGMMA_TILES_96 WGMMA_TILES_64, WGMMA_TILES_4(8)
#define WGMMA_TILES_128 WGMMA_TILES_96, WGMMA_TILES_4(12)
#define WGMMA_TILES_192 WGMMA_TILES_128, WGMMA_TILES_4(16), WGMMA_TILES_4(20)
#define WGMMA_TILES_256 WGMMA_TILES_192, WGMMA_TILES_4(24), WGMMA_TILES_4(28)

// `a` [64, 16] and `b` [16, columns] in shared memory, by their descriptors (wgmma_descriptor): K-major, or
// with the other axis in a row where they are said to be transposed. Without `accumulate` the sum starts at 0. Or `a`
// in registers: as the accumulators' tiles are, two beside each other, rounded and packed in pairs.
// %(columns / 2) is the first operand after the accumulators, and so on.
#define WGMMA(type, columns, first, second, third, fourth, fifth, sixth)                         \
    template <int a_transposed, int b_transposed>                                                \
    __device__ __forceinline__ void wgmma_##type(float (&d)[columns / 8][4], uint64_t a,         \
                                                 uint64_t b, int accumulate) {                   \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " third ", 0;\n"                          \
                     "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." #type "." #type     \
                     " {" WGMMA_NAMES_##columns "}, " first ", " second ", p, 1, 1, " fourth     \
                     ", " fifth ";\n}"                                                           \
                     : WGMMA_TILES_##columns                                                     \
                     : "l"(a), "l"(b), "r"(accumulate), "n"(a_transposed), "n"(b_transposed));   \
    }                                                                                            \
    template <int b_transposed>                                                                  \
    __device__ __forceinline__ void wgmma_##type(                                                \
        float (&d)[columns / 8][4], const uint32_t (&a)[4], uint64_t b, int accumulate) {        \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " sixth ", 0;\n"                          \
                     "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." #type "." #type     \
                     " {" WGMMA_NAMES_##columns "}, {" first ", " second ", " third ", " fourth  \
                     "}, " fifth ", p, 1, 1, %" WGMMA_LAST_##columns ";\n}"                      \
                     : WGMMA_TILES_##columns                                                     \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate),      \
                       "n"(b_transposed));                                                       \
    }
#define WGMMA_LAST_64 "38"
#define WGMMA_LAST_80 "46"
#define WGMMA_LAST_96 "54"
#define WGMMA_LAST_128 "70"
#define WGMMA_LAST_192 "102"
#define WGMMA_LAST_256 "134"
#define WGMMA_TYPES(columns, ...)    \
    WGMMA(bf16, columns, __VA_ARGS__) \
    WGMMA(f16, columns, __VA_ARGS__)
WGMMA_TYPES(64, "%32", "%33", "%34", "%35", "%36", "%37")
WGMMA_TYPES(80, "%40", "%41", "%42", "%43", "%44", "%45")
WGMMA_TYPES(96, "%48", "%49", "%50", "%51", "%52", "%53")
WGMMA_TYPES(128, "%64", "%65", "%66", "%67", "%68", "%69")
WGMMA_TYPES(192, "%96", "%97", "%98", "%99", "%100", "%101")
WGMMA_TYPES(256, "%128", "%129", "%130", "%131", "%132", "%133")

#endif
