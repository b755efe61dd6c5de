// Accesses and instructions that CUDA C++ has no portable word for. The emulator has a twin of each
// in emulator/cpp/: intrinsics.h, atomics.h, async_copy.h and matrix.h.
#pragma once

// Vectors of 16 bytes, 16-byte aligned: one instruction a lane, 512 bytes a warp.
__device__ __forceinline__ uint4 load_16(const void* place) {
    return *static_cast<const uint4*>(place);
}
__device__ __forceinline__ void store_16(void* place, uint4 value) {
    *static_cast<uint4*>(place) = value;
}

// A read that may meet a concurrent atomic: the value is some value that was written.
template <class T>
__device__ __forceinline__ T load_relaxed(const T* place) {
    return *const_cast<const volatile T*>(place);
}

__device__ __forceinline__ uint32_t shared_address(const void* p) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// 2^x to 2 ulp, with 0 for subnormal results: one instruction, where exp2f takes four.
__device__ __forceinline__ float exp2_approximate(float x) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
}

// Keeps apart what is computed of these values and what follows: the compiler would make the terms of many
// tiles before it adds the first, for which there are no registers.
__device__ __forceinline__ void one_by_one(float (&tile)[4]) {
    asm volatile("" : "+f"(tile[0]), "+f"(tile[1]), "+f"(tile[2]), "+f"(tile[3]));
}

// The same number, from which the compiler cannot compute before it is asked for: it would keep what follows from
// it in registers throughout a loop.
__device__ __forceinline__ int anew(int x) {
    asm volatile("" : "+r"(x));
    return x;
}

// ---- cp.async: 16 bytes from global to shared memory, both 16-byte aligned, past the registers

__device__ __forceinline__ void cp_async_16(void* shared, const void* global) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)),
                 "l"(global)
                 : "memory");
}
// Zeros where `copy` is false; `global` is then not read, but must be a valid pointer.
__device__ __forceinline__ void cp_async_16_or_zero(void* shared, const void* global, bool copy) {
    int bytes = copy ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
                 "l"(global), "r"(bytes)
                 : "memory");
}
__device__ __forceinline__ void cp_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until at most `groups_left` of this thread's groups are under way. Other threads' copies
// need a __syncthreads after it.
template <int groups_left>
__device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(groups_left) : "memory");
}

// ---- ldmatrix: 8 x 8 matrices of 16-bit values from shared memory, a row of 16 bytes each

__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
__device__ __forceinline__ void ldmatrix_x2(uint32_t (&r)[2], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(shared_address(row))
                 : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(shared_address(row))
                 : "memory");
}

// ---- mma: d += a b with a [16, 16] row-major, b [16, 8] column-major, d float32

#define MMA_M16N8K16(type)                                                                \
    __device__ __forceinline__ void mma_m16n8k16_##type(                                  \
        float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {                  \
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." #type "." #type ".f32 "     \
                     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"    \
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                     \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1])); \
    }
MMA_M16N8K16(bf16)
MMA_M16N8K16(f16)
#undef MMA_M16N8K16
