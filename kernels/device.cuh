// What every kernel file starts from. The same sources compile with nvcc for the GPU and with g++
// for the emulator (emulator/cpp/cuda_on_cpu.h), so they write
//
//   KERNEL name(...)            instead of  extern "C" __global__ void name(...)
//   KERNEL_BOUNDED(n) name(...) instead of  the same with __launch_bounds__(n)
//   REGISTER(name)              after a kernel, so that the emulator finds it
//   SHARED(float, sums, [32])   instead of  __shared__ float sums[32]
//   SHARED_DYNAMIC(float, row)  instead of  extern __shared__ float row[]; and SHARED_DYNAMIC_ALIGNED
//                               where 128 bytes of alignment are too few, in files of such kernels alone
//
// and reach PTX only through ptx.cuh and ptx_hopper.cuh. A kernel's parameters are pointers, int, unsigned, float and
// unsigned long long, or one struct by value (__grid_constant__, so that it is not copied); the host
// passes them by the same types (src/backend/cuda/device.rs).
#pragma once

#include "constants.cuh"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stddef.h>
#include <stdint.h>

#define KERNEL extern "C" __global__ void
#define KERNEL_BOUNDED(...) extern "C" __global__ void __launch_bounds__(__VA_ARGS__)
#define REGISTER(kernel)
#define SHARED(type, name, dims) __shared__ __align__(16) type name dims
#define SHARED_DYNAMIC(type, name) SHARED_DYNAMIC_ALIGNED(type, name, 128)
#define SHARED_DYNAMIC_ALIGNED(type, name, bytes)                             \
    extern __shared__ __align__(bytes) unsigned char dynamic_shared_memory[]; \
    type* name = reinterpret_cast<type*>(dynamic_shared_memory)

#include "ptx.cuh"
#include "ptx_hopper.cuh"
#else
#include "cuda_on_cpu.h"
#endif

#define FULL_WARP 0xffffffffu

// Instantiates DEFINE(type, suffix) for every element type; kernels are named `<what>_<suffix>`.
#define FOR_EACH_FLOAT(DEFINE)  \
    DEFINE(float, f32)          \
    DEFINE(__nv_bfloat16, bf16) \
    DEFINE(__half, f16)
