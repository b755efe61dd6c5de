// Causal convolution over the tokens of a sequence, each channel with its own few taps.
//
// x, out  [rows, columns]
// weight  float32 [columns, width], the last tap at the token itself
// bias    float32 [columns] or null
// tiles   CONVOLUTION_ROWS rows of a sequence, or fewer
// out[t, c] = activation(bias[c] + sum_j weight[c, j] x[t - width + 1 + j, c]), x being 0 before the
// sequence's first row; `activation` is one of ACTIVATION_*, or -1 for none.
//
// Grid: (groups of channels, tiles). A thread walks down its channels, 16 bytes of neighbours where every row
// starts at a boundary, else one; taps and the last rows stay in registers for the widths that models have.
// Moves size(x) + size(out) bytes, and a tile's first rows twice; 2 width FLOPs a value; bound by memory.
#include "activation.cuh"
#include "attention/arguments.cuh"
#include "numeric.cuh"

struct Convolution {
    const float *weight, *bias;
    int columns, width, activation;
    float parameter;
};

// `SIZE` neighbouring values of a row in float32.
template <int SIZE, class T>
__device__ __forceinline__ void load(float (&values)[SIZE], const T* place) {
    if constexpr (SIZE == 1) {
        values[0] = float(*place);
    } else {
        const Vector<T> vector = load_vector(place);
#pragma unroll
        for (int i = 0; i < SIZE; i++) values[i] = vector[i];
    }
}

template <int SIZE, class T>
__device__ __forceinline__ void store(T* place, const float (&values)[SIZE]) {
    if constexpr (SIZE == 1) {
        *place = T(values[0]);
    } else {
        Vector<T> vector;
#pragma unroll
        for (int i = 0; i < SIZE; i++) vector.set(i, values[i]);
        store_vector(place, vector);
    }
}

// Rows first..end of a sequence, whose row 0 `x` and `out` point to, at `SIZE` channels from `column` on.
template <int SIZE, int WIDTH, class T>
__device__ __forceinline__ void walk(const T* x, T* out, const Convolution& filter, int column,
                                     int first, int end) {
    float taps[WIDTH][SIZE], window[WIDTH][SIZE], offsets[SIZE];
#pragma unroll
    for (int i = 0; i < SIZE; i++) {
        offsets[i] = filter.bias ? filter.bias[column + i] : 0.0f;
#pragma unroll
        for (int tap = 0; tap < WIDTH; tap++) {
            taps[tap][i] = filter.weight[(column + i) * WIDTH + tap];
        }
    }
    x += column, out += column;
    // window[1..] are the rows before the next one.
#pragma unroll
    for (int tap = 1; tap < WIDTH; tap++) {
        const int row = first - WIDTH + tap;
        if (row >= 0) {
            load(window[tap], x + (size_t)row * filter.columns);
        } else {
#pragma unroll
            for (int i = 0; i < SIZE; i++) window[tap][i] = 0.0f;
        }
    }
#pragma unroll 4
    for (int row = first; row < end; row++) {
#pragma unroll
        for (int tap = 1; tap < WIDTH; tap++) {
#pragma unroll
            for (int i = 0; i < SIZE; i++) window[tap - 1][i] = window[tap][i];
        }
        load(window[WIDTH - 1], x + (size_t)row * filter.columns);
        float sums[SIZE];
#pragma unroll
        for (int i = 0; i < SIZE; i++) {
            sums[i] = offsets[i];
#pragma unroll
            for (int tap = 0; tap < WIDTH; tap++) sums[i] += taps[tap][i] * window[tap][i];
            if (filter.activation >= 0) {
                sums[i] = activate(sums[i], filter.activation, filter.parameter);
            }
        }
        store(out + (size_t)row * filter.columns, sums);
    }
}

// The same with any width: what rows have in common comes from cache.
template <class T>
__device__ __forceinline__ void walk_any(const T* x, T* out, const Convolution& filter, int column,
                                         int first, int end) {
    const float* taps = filter.weight + (size_t)column * filter.width;
    for (int row = first; row < end; row++) {
        const size_t place = (size_t)row * filter.columns + column;
        float sum = filter.bias ? filter.bias[column] : 0.0f;
        for (int before = min(filter.width - 1, row); before >= 0; before--) {
            sum += taps[filter.width - 1 - before] * float(x[place - (size_t)before * filter.columns]);
        }
        out[place] = T(filter.activation < 0 ? sum
                                             : activate(sum, filter.activation, filter.parameter));
    }
}

template <class T>
__device__ __forceinline__ void convolve(const T* x, T* out, const AttentionTile& tile,
                                         const Convolution& filter) {
    constexpr int SIZE = Vector<T>::SIZE;
    const int group = blockIdx.x * blockDim.x + threadIdx.x;
    const int end = min(tile.length, tile.first + CONVOLUTION_ROWS);
    const size_t start = (size_t)tile.start * filter.columns;
    x += start, out += start;
    const bool vectors = filter.columns % SIZE == 0;
    const int column = group * (vectors ? SIZE : 1);
    if (column >= filter.columns) return;
    if (filter.width == 4 && vectors) {
        walk<SIZE, 4>(x, out, filter, column, tile.first, end);
    } else if (filter.width == 3 && vectors) {
        walk<SIZE, 3>(x, out, filter, column, tile.first, end);
    } else {
        for (int i = 0; i < (vectors ? SIZE : 1); i++) {
            walk_any(x, out, filter, column + i, tile.first, end);
        }
    }
}

#define DEFINE(T, suffix)                                                                     \
    KERNEL_BOUNDED(CONVOLUTION_THREADS, 1)                                                    \
    convolve_##suffix(const T* x, T* out, const float* weight, const float* bias,             \
                      const AttentionTile* tiles, int columns, int width, int activation,     \
                      float parameter) {                                                      \
        const Convolution filter{weight, bias, columns, width, activation, parameter};        \
        convolve(x, out, tiles[blockIdx.y], filter);                                          \
    }                                                                                         \
    REGISTER(convolve_##suffix)
FOR_EACH_FLOAT(DEFINE)
#undef DEFINE
