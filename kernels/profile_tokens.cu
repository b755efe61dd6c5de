// What a profile says of tokens: the sums of the powers of their values, the largest ratio of a token, and
// how often a dimension is large.
//
// x          [rows of all sequences, columns]
// starts     [sequences]: first element
// rows       [sequences]: tokens
// sums       float64 [sequences, blocks, 4]: of x and its powers up to the fourth
// ratios     float64 [sequences, blocks]: largest |x| over the lower median of |x|, the largest over the
//            block's tokens; 0 if none has a median above 0
// positions  [sequences, blocks]: the first token that has it
// large      [sequences, columns]: tokens in which |x| of the dimension is above `factor` times the root
//            mean square of the token's values; zero at the start
//
// Grid (blocks per sequence, sequences), a token a block at a time. Moves size(x) bytes and reads a row
// twice more from the caches; bound by memory, on cards with little float64 by its eight operations a
// value. A token's median is selected (in two or four reads of its row) only if half of its values are
// below what the largest ratio so far allows, which happens some ln(tokens) times.
#include "magnitude.cuh"
#include "reduce.cuh"

template <class T>
__device__ __forceinline__ unsigned magnitude_of(T value) {
    typename Magnitude<T>::Raw raw;
    memcpy(&raw, &value, sizeof raw);
    return raw & ((1u << Magnitude<T>::BITS) - 1u);
}

// The largest over all threads of a block, for every thread.
__device__ __forceinline__ unsigned block_largest(unsigned value, unsigned* scratch) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int distance = 16; distance > 0; distance /= 2) {
        value = max(value, __shfl_xor_sync(FULL_WARP, value, distance));
    }
    if (lane == 0) scratch[warp] = value;
    __syncthreads();
    value = scratch[0];
    for (int other = 1; other < (int)blockDim.x / 32; other++) value = max(value, scratch[other]);
    __syncthreads();
    return value;
}

// The magnitude of this rank in a row, eight bits at a time; the same in all threads.
template <class T>
__device__ __forceinline__ unsigned row_select(const T* row, int columns, unsigned rank,
                                               unsigned* bins) {
    unsigned prefix = 0;
    for (int shift = (Magnitude<T>::BITS - 1) / 8 * 8; shift >= 0; shift -= 8) {
        for (int bin = threadIdx.x; bin < 256; bin += blockDim.x) bins[bin] = 0;
        __syncthreads();
        for (int i = threadIdx.x; i < columns; i += blockDim.x) {
            const unsigned magnitude = magnitude_of(row[i]);
            const unsigned long long above = (unsigned long long)(magnitude ^ prefix);
            if (above >> (shift + 8) == 0) atomicAdd(&bins[magnitude >> shift & 255], 1u);
        }
        __syncthreads();
        unsigned bin = 0;
        while (rank >= bins[bin]) rank -= bins[bin++];
        prefix |= bin << shift;
        __syncthreads();
    }
    return prefix;
}

template <class T>
__device__ __forceinline__ void tokens(const T* x, const unsigned long long* starts,
                                       const unsigned* rows, double* sums, double* ratios,
                                       unsigned* positions, unsigned* large, int columns,
                                       float factor) {
    SHARED(double, scratch, [32]);
    SHARED(unsigned, counts, [32]);
    SHARED(unsigned, bins, [256]);
    const int sequence = blockIdx.y;
    const unsigned middle = (columns - 1) / 2;
    double total[4] = {0.0, 0.0, 0.0, 0.0};
    double best = 0.0;
    unsigned best_row = 0;
    for (unsigned row = blockIdx.x; row < rows[sequence]; row += gridDim.x) {
        const T* own = x + starts[sequence] + (size_t)row * columns;
        unsigned largest = 0, zeros = 0;
        double squares = 0.0;
        for (int i = threadIdx.x; i < columns; i += blockDim.x) {
            const double value = double(float(own[i])), square = value * value;
            const unsigned magnitude = magnitude_of(own[i]);
            squares += square;
            total[0] += value;
            total[1] += square;
            total[2] += square * value;
            total[3] += square * square;
            largest = max(largest, magnitude);
            zeros += magnitude == 0;
        }
        largest = block_largest(largest, counts);
        squares = block_sum(squares, scratch);
        zeros = block_sum(zeros, counts);
        const double most = double(magnitude_value<T>(largest));

        const double threshold = double(factor) * sqrt(squares / columns);
        if (most > threshold) {
            for (int i = threadIdx.x; i < columns; i += blockDim.x) {
                if (double(magnitude_value<T>(magnitude_of(own[i]))) > threshold) {
                    atomicAdd(&large[(size_t)sequence * columns + i], 1u);
                }
            }
        }

        if (zeros > middle || largest >= Magnitude<T>::INFINITE) continue;
        if (best > 0.0) {
            // Rounding must not hide an equal ratio.
            const double allowed = most / best * (1.0 + 1e-6);
            unsigned below = 0;
            for (int i = threadIdx.x; i < columns; i += blockDim.x) {
                below += double(magnitude_value<T>(magnitude_of(own[i]))) <= allowed;
            }
            if (block_sum(below, counts) <= middle) continue;
        }
        const unsigned median = row_select(own, columns, middle, bins);
        const double ratio = most / double(magnitude_value<T>(median));
        if (ratio > best) {
            best = ratio;
            best_row = row;
        }
    }
    const size_t place = (size_t)sequence * gridDim.x + blockIdx.x;
    for (int power = 0; power < 4; power++) {
        const double sum = block_sum(total[power], scratch);
        if (threadIdx.x == 0) sums[4 * place + power] = sum;
    }
    if (threadIdx.x == 0) {
        ratios[place] = best;
        positions[place] = best_row;
    }
}

#define DEFINE(T, suffix)                                                                       \
    KERNEL_BOUNDED(PROFILE_THREADS) profile_tokens_##suffix(                                    \
        const T* x, const unsigned long long* starts, const unsigned* rows, double* sums,       \
        double* ratios, unsigned* positions, unsigned* large, int columns, float factor) {      \
        tokens(x, starts, rows, sums, ratios, positions, large, columns, factor);               \
    }                                                                                           \
    REGISTER(profile_tokens_##suffix)
FOR_EACH_FLOAT(DEFINE)
#undef DEFINE
