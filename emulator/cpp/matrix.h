// Tensor-core fragments: mma.m16n8k16 with float32 accumulation, and ldmatrix.
//
// Layouts as in the PTX manual. With g = lane / 4 and t = 2 * (lane % 4), a lane holds of
//   A (16 x 16): a[0] = (g, t..t+1), a[1] = (g+8, t..), a[2] = (g, t+8..), a[3] = (g+8, t+8..)
//   B (16 x 8):  b[0] = (t..t+1, g), b[1] = (t+8.., g)
//   D (16 x 8):  d[0..1] = (g, t..t+1), d[2..3] = (g+8, t..t+1)
#pragma once

namespace {
namespace dialect {

struct MmaArgument {
    float* d;
    const uint32_t *a, *b;
};

template <class T>
inline float half_of(uint32_t pair, int which) {
    return float(std::bit_cast<T>(uint16_t(pair >> (16 * which))));
}

template <class T>
__attribute__((no_sanitize("thread"))) void multiply_fragments(Fiber** lanes, unsigned) {
    float a[16][16], b[16][8], d[16][8];
    for (int lane = 0; lane < 32; lane++) {
        auto& part = *static_cast<MmaArgument*>(lanes[lane]->argument);
        int g = lane / 4, t = lane % 4 * 2;
        for (int right = 0; right < 2; right++) {
            for (int i = 0; i < 2; i++) {
                a[g][t + 8 * right + i] = half_of<T>(part.a[2 * right], i);
                a[g + 8][t + 8 * right + i] = half_of<T>(part.a[2 * right + 1], i);
                b[t + 8 * right + i][g] = half_of<T>(part.b[right], i);
                d[g + 8 * right][t + i] = part.d[2 * right + i];
            }
        }
    }
    for (int row = 0; row < 16; row++) {
        for (int k = 0; k < 16; k++) {
            for (int column = 0; column < 8; column++) d[row][column] += a[row][k] * b[k][column];
        }
    }
    for (int lane = 0; lane < 32; lane++) {
        auto& part = *static_cast<MmaArgument*>(lanes[lane]->argument);
        int g = lane / 4, t = lane % 4 * 2;
        for (int i = 0; i < 4; i++) part.d[i] = d[g + i / 2 * 8][t + i % 2];
    }
}

struct LoadArgument {
    const void* row;
    uint32_t* registers;
};

// Matrix m of 8 x 8 values of 16 bits: its rows are at the addresses of lanes 8m..8m+7.
template <int matrices, bool transposed>
__attribute__((no_sanitize("thread"))) void load_fragments(Fiber** lanes, unsigned) {
    for (int m = 0; m < matrices; m++) {
        const uint16_t* rows[8];
        for (int i = 0; i < 8; i++) {
            rows[i] = static_cast<const uint16_t*>(
                static_cast<LoadArgument*>(lanes[m * 8 + i]->argument)->row);
        }
        for (int lane = 0; lane < 32; lane++) {
            int g = lane / 4, t = lane % 4 * 2;
            uint32_t low = transposed ? rows[t][g] : rows[g][t];
            uint32_t high = transposed ? rows[t + 1][g] : rows[g][t + 1];
            static_cast<LoadArgument*>(lanes[lane]->argument)->registers[m] = low | high << 16;
        }
    }
}

template <int matrices, bool transposed>
inline void load_matrices(uint32_t* registers, const void* row, emulator::Place place) {
    emulator::Engine& e = emulator::engine();
    // Of fewer than four matrices only the first lanes' addresses count.
    if (e.current->lane < matrices * 8) {
        auto address = reinterpret_cast<uintptr_t>(row);
        if (address % 16 != 0) e.fail("ldmatrix of a row not 16-byte aligned");
        if (!e.in_shared(address)) e.fail("ldmatrix from other than shared memory");
        emulator::checker().access(row, 16, false, false);
    }
    LoadArgument argument{row, registers};
    e.collective(~0u, load_fragments<matrices, transposed>, &argument, place);
}

}  // namespace dialect

inline void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                              emulator::Place place = emulator::Place::here()) {
    dialect::MmaArgument argument{d, a, b};
    emulator::engine().collective(~0u, dialect::multiply_fragments<__nv_bfloat16>, &argument, place);
}
inline void mma_m16n8k16_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                             emulator::Place place = emulator::Place::here()) {
    dialect::MmaArgument argument{d, a, b};
    emulator::engine().collective(~0u, dialect::multiply_fragments<__half>, &argument, place);
}

inline void ldmatrix_x4(uint32_t (&r)[4], const void* row,
                        emulator::Place place = emulator::Place::here()) {
    dialect::load_matrices<4, false>(r, row, place);
}
inline void ldmatrix_x2(uint32_t (&r)[2], const void* row,
                        emulator::Place place = emulator::Place::here()) {
    dialect::load_matrices<2, false>(r, row, place);
}
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row,
                              emulator::Place place = emulator::Place::here()) {
    dialect::load_matrices<4, true>(r, row, place);
}
inline void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row,
                              emulator::Place place = emulator::Place::here()) {
    dialect::load_matrices<2, true>(r, row, place);
}

}  // namespace
