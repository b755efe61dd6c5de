#include "warpgroup.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "engine.h"
#include "tensor_map.h"

namespace emulator {

#include "numbers.h"

namespace {

constexpr int ROWS = 16;   // of a warp
constexpr int DEPTH = 16;  // terms of a sum

float value_of(uint16_t bits, bool half) {
    return half ? float(std::bit_cast<__half>(bits)) : float(std::bit_cast<__nv_bfloat16>(bits));
}

// An operand in shared memory, as the matrix descriptor says (PTX ISA, "Matrix Descriptor Format").
struct Operand {
    size_t start, leading, stride;
    unsigned units;  // 16-byte units of a row that trade places: 1 (no swizzle), 2, 4, 8
    bool transposed;

    Operand(uint64_t descriptor, bool transposed)
        : start((descriptor & 0x3fff) << 4),
          leading((descriptor >> 16 & 0x3fff) << 4),
          stride((descriptor >> 32 & 0x3fff) << 4),
          transposed(transposed) {
        constexpr unsigned UNITS[4] = {1, 8, 4, 2};
        units = UNITS[descriptor >> 62];
        if (descriptor >> 49 & 7) engine().fail("wgmma: a base offset is not emulated");
    }

    // Of element k of row (or column) i.
    size_t address(int i, int k) const {
        size_t place;
        if (!transposed && units == 1) {
            place = i % 8 * 16 + i / 8 * stride + k / 8 * leading + k % 8 * 2;
        } else if (!transposed) {
            place = i % 8 * (units * 16) + i / 8 * stride + k * 2;
        } else if (units == 1) {
            place = i / 8 * stride + k % 8 * 16 + k / 8 * leading + i % 8 * 2;
        } else {
            const unsigned unit = i / 8;
            place = unit % units * 16 + unit / units * leading + k % 8 * (units * 16) +
                    k / 8 * stride + i % 8 * 2;
        }
        return swizzled(start + place, units);
    }

    // Announces the reading of rows (columns) first.. to the checker, 16 bytes at a time.
    void announce(int first, int count) const {
        Engine& e = engine();
        for (int i = first; i < first + count; i += transposed ? 8 : 1) {
            for (int k = 0; k < DEPTH; k += transposed ? 1 : 8) {
                const size_t place = address(i, k);
                if (!e.shared_has(place, 16)) {
                    e.fail("wgmma reads out of bounds of shared memory, at byte %zu; %zu are dynamic",
                           place, e.dynamic_shared);
                }
                if (e.barriers.undelivered(place, 16)) {
                    e.fail("wgmma reads shared memory at byte %zu, which a tensor copy has not "
                           "delivered",
                           place);
                }
                checker().async_read(place, 16, units);
            }
        }
    }

    float read(int i, int k, bool half) const {
        uint16_t bits;
        memcpy(&bits, engine().shared + address(i, k), 2);
        return value_of(bits, half);
    }
};

void announce(const ProductArgument& told, unsigned warp) {
    if (!told.left) Operand(told.a, told.a_transposed).announce(int(warp % 4) * ROWS, ROWS);
    Operand(told.b, told.b_transposed).announce(0, int(told.tiles) * 8);
}

// Which of the warp's 16 rows, and which column of a tile, the lane's value i of a tile is.
int row_of(int lane, int i) { return lane / 4 + i / 2 * 8; }
int column_of(int lane, int i) { return lane % 4 * 2 + i % 2; }

void compute(WarpProduct& product, unsigned warp) {
    const ProductArgument& told = product.told;
    const int columns = int(told.tiles) * 8;
    float a[ROWS][DEPTH];
    if (told.left) {
        // Register r: rows g (even r) or g + 8, columns t.. (r < 2) or t + 8...
        for (int lane = 0; lane < 32; lane++) {
            for (int r = 0; r < 4; r++) {
                for (int i = 0; i < 2; i++) {
                    const auto bits = uint16_t(product.left[lane][r] >> (16 * i));
                    a[row_of(lane, r % 2 * 2)][column_of(lane, i) + r / 2 * 8] =
                        value_of(bits, told.half);
                }
            }
        }
    } else {
        const Operand left(told.a, told.a_transposed);
        for (int row = 0; row < ROWS; row++) {
            for (int k = 0; k < DEPTH; k++) {
                a[row][k] = left.read(int(warp % 4) * ROWS + row, k, told.half);
            }
        }
    }
    const Operand right(told.b, told.b_transposed);
    std::vector<float> b(size_t(DEPTH * columns)), d(size_t(ROWS * columns), 0.0f);
    for (int k = 0; k < DEPTH; k++) {
        for (int column = 0; column < columns; column++) {
            b[size_t(k * columns + column)] = right.read(column, k, told.half);
        }
    }
    const auto each = [&](auto use) {
        for (int lane = 0; lane < 32; lane++) {
            for (int i = 0; i < int(told.tiles) * 4; i++) {
                const int column = i / 4 * 8 + column_of(lane, i % 4);
                use(product.sums[size_t(lane * int(told.tiles) * 4 + i)],
                    d[size_t(row_of(lane, i % 4) * columns + column)]);
            }
        }
    };
    if (told.accumulate) each([](float& sum, float& own) { own = sum; });
    for (int row = 0; row < ROWS; row++) {
        for (int k = 0; k < DEPTH; k++) {
            const float left = a[row][k];
            float* out = &d[size_t(row * columns)];
            const float* in = &b[size_t(k * columns)];
            for (int column = 0; column < columns; column++) out[column] += left * in[column];
        }
    }
    each([](float& sum, float& own) { sum = own; });
}

}  // namespace

void start_product(Fiber** lanes, unsigned mask) {
    Engine& e = engine();
    WarpProducts& own = e.products(lanes[0]->warp);
    const auto& told = *static_cast<ProductArgument*>(lanes[0]->argument);
    if (mask != ~0u || e.block.x * e.block.y * e.block.z % 128 != 0) {
        e.fail("wgmma by less than a whole warpgroup");
    }
    if (!own.fenced) {
        e.fail("wgmma with registers that were written after the last wgmma.fence");
    }
    WarpProduct product{own.group, told, {}, {}, {}};
    const size_t count = told.tiles * 4;
    bool chained = false;
    for (const WarpProduct& other : own.pending) chained |= other.d[0] == told.d;
    if (!chained) product.sums.resize(32 * count);
    for (int lane = 0; lane < 32; lane++) {
        const auto& part = *static_cast<ProductArgument*>(lanes[lane]->argument);
        if (part.a != told.a || part.b != told.b || part.accumulate != told.accumulate) {
            e.fail("wgmma: lane %d has other descriptors than lane 0", lane);
        }
        product.d[lane] = part.d;
        if (part.left) memcpy(product.left[lane], part.left, sizeof product.left[lane]);
        if (!chained) memcpy(&product.sums[size_t(lane) * count], part.d, count * sizeof(float));
        memset(part.d, 0xff, count * sizeof(float));
    }
    announce(told, lanes[0]->warp);
    // It is the warp that reads, until its wait, where the reading is announced once more.
    checker().share();
    own.pending.push_back(std::move(product));
    own.started++;
}

void fence_registers(Fiber** lanes, unsigned) { engine().products(lanes[0]->warp).fenced = true; }

void commit_products(Fiber** lanes, unsigned) { engine().products(lanes[0]->warp).group++; }

void await_products(Fiber** lanes, unsigned) {
    Engine& e = engine();
    const unsigned warp = lanes[0]->warp;
    WarpProducts& own = e.products(warp);
    const int left = *static_cast<int*>(lanes[0]->argument);
    // From here on registers may be written again.
    own.fenced = false;
    size_t done = 0;
    for (; done < own.pending.size(); done++) {
        WarpProduct& product = own.pending[done];
        if (product.group >= own.group - left) break;
        announce(product.told, warp);
        compute(product, warp);
        WarpProduct* next = nullptr;
        for (size_t i = own.pending.size() - 1; i > done; i--) {
            if (own.pending[i].d[0] == product.d[0]) next = &own.pending[i];
        }
        if (next) {
            next->sums = std::move(product.sums);
            continue;
        }
        const size_t count = product.told.tiles * 4;
        for (size_t lane = 0; lane < 32; lane++) {
            memcpy(product.d[lane], &product.sums[lane * count], count * sizeof(float));
        }
    }
    // The whole warp has waited: whatever lane goes on, the reading is over.
    checker().share();
    own.pending.erase(own.pending.begin(), own.pending.begin() + std::ptrdiff_t(done));
}

}  // namespace emulator
