// Warpgroup products: wgmma.mma_async.m64nNk16 with float32 accumulation, and their groups.
//
// A product is computed when its group is waited for. Until then its accumulators hold poison, and what
// it reads of shared memory must stay. Each warp computes its own 16 rows: the accumulator's layout is that
// of m16n8 tiles beside each other (matrix.h).
#pragma once
#include <cstdint>
#include <vector>

namespace emulator {

struct Fiber;

// One lane's part of a product.
struct ProductArgument {
    float* d;
    unsigned tiles;         // N / 8
    const uint32_t* left;   // its registers of the left operand; null: in shared memory
    uint64_t a, b;          // descriptors
    bool a_transposed, b_transposed, accumulate, half;
};

// One warp's part of a product under way.
struct WarpProduct {
    int group;
    ProductArgument told;
    float* d[32];
    uint32_t left[32][4];
    // What the accumulators held, [lanes][tiles][4]; empty while an earlier product on them is under way.
    std::vector<float> sums;
};

struct WarpProducts {
    std::vector<WarpProduct> pending;
    int group = 0;
    unsigned started = 0;
    bool fenced = false;
};

// Collectives of a warp; the argument of the first is a ProductArgument, of the last the groups that may
// stay under way.
void start_product(Fiber** lanes, unsigned mask);
void fence_registers(Fiber** lanes, unsigned mask);
void commit_products(Fiber** lanes, unsigned mask);
void await_products(Fiber** lanes, unsigned mask);

}  // namespace emulator
