// Products of rows with each other, part by part: norms and angles of what heads give.
//
// a, b      [rows, parts * width]
// products  float64 [rows, parts]: the sum of a * b over a part of a row
//
// A warp a part (grid-stride), sums in float64 in an order that depends on nothing. Moves size(a) + size(b)
// bytes; bound by memory, on cards with little float64 by its one operation a value.
#include "numeric.cuh"
#include "reduce.cuh"

template <class T>
__device__ __forceinline__ void inner_products(const T* a, const T* b, double* products, int count,
                                               int width) {
    const int warps = blockDim.x / 32, lane = threadIdx.x % 32;
    for (size_t part = (size_t)blockIdx.x * warps + threadIdx.x / 32; part < (size_t)count;
         part += (size_t)gridDim.x * warps) {
        const T *first = a + part * width, *second = b + part * width;
        double sum = 0.0;
        for (int i = lane; i < width; i += 32) sum += double(float(first[i])) * double(float(second[i]));
        sum = warp_sum(sum);
        if (lane == 0) products[part] = sum;
    }
}

#define DEFINE(T, suffix)                                                                       \
    KERNEL inner_products_##suffix(const T* a, const T* b, double* products, int count,         \
                                   int width) {                                                 \
        inner_products(a, b, products, count, width);                                           \
    }                                                                                           \
    REGISTER(inner_products_##suffix)
FOR_EACH_FLOAT(DEFINE)
#undef DEFINE
