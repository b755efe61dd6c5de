// The squared errors of eight bits, in units of their scale.
//
// ranks    [sequences, slots, 2]: the magnitudes at the ranks (profile_ranks.cu); the two of the clip are
//          the slots `low` and `low + 1`, the largest is in the last slot
// ways     float64 [sequences]: how far the clip is from the lower of its two to the higher
// sums     float64 [sequences, blocks, 2]: with the largest / 127 as scale, and with the clip / 127
//
// Grid (blocks per sequence, sequences). Moves size(x) bytes; bound by memory.
#include "reduce.cuh"
#include "statistics.cuh"

// A float32 near this has no fraction: adding and subtracting it rounds, ties to even.
__device__ __forceinline__ float squared_error(float value, float scale) {
    const float rounder = 12582912.0f;
    const float scaled = value * scale;
    const float kept = fminf(fmaxf(scaled, -127.0f), 127.0f);  // rounding may lead beyond
    const float error = scaled - ((kept + rounder) - rounder);
    return error * error;
}

template <class T>
__device__ __forceinline__ void errors(const T* x, const unsigned long long* starts,
                                       const unsigned* counts, const unsigned* ranks,
                                       const double* ways, double* sums, int slots, int low) {
    SHARED(double, scratch, [32]);
    const Sequence sequence = sequence_of(starts, counts);
    const unsigned* own = ranks + 2 * (size_t)blockIdx.y * slots;
    const double first = magnitude_value<T>(own[2 * low]);
    const double distance = double(magnitude_value<T>(own[2 * low + 2])) - first;
    const double way = ways[blockIdx.y];
    const double clip = way >= 0.5 ? first + distance - distance * (1.0 - way)
                                   : first + distance * way;
    const float whole = 127.0f / magnitude_value<T>(own[2 * slots - 2]);
    const float edge = float(clip), clipped = 127.0f / edge;
    // Without a scale there are no errors.
    const float scales[2] = {whole < 3.4e38f ? whole : 0.0f, clipped < 3.4e38f ? clipped : 0.0f};
    double found[2] = {0.0, 0.0};
    for_each_vector(x, sequence, [&](const MagnitudeVector<T>& magnitudes, long long,
                                     unsigned inside) {
        float vector[2] = {0.0f, 0.0f};
        for (int i = 0; i < MagnitudeVector<T>::SIZE; i++) {
            if (!(inside >> i & 1)) continue;
            const float value = magnitudes.value(i);
            vector[0] += squared_error(value, scales[0]);
            if (fabsf(value) <= edge) {
                vector[1] += squared_error(value, scales[1]);
            } else if (scales[1] > 0.0f) {
                // What is clipped is most of the error.
                const double over = fabs(double(value)) * (127.0 / clip) - 127.0;
                found[1] += over * over;
            }
        }
        found[0] += vector[0];
        found[1] += vector[1];
    });
    const size_t place = (size_t)blockIdx.y * gridDim.x + blockIdx.x;
    for (int which = 0; which < 2; which++) {
        const double sum = block_sum(found[which], scratch);
        if (threadIdx.x == 0) sums[2 * place + which] = sum;
    }
}

#define DEFINE(T, suffix)                                                                     \
    KERNEL_BOUNDED(STATISTICS_THREADS) profile_errors_##suffix(                               \
        const T* x, const unsigned long long* starts, const unsigned* counts,                 \
        const unsigned* ranks, const double* ways, double* sums, int slots, int low) {        \
        errors(x, starts, counts, ranks, ways, sums, slots, low);                             \
    }                                                                                         \
    REGISTER(profile_errors_##suffix)
FOR_EACH_FLOAT(DEFINE)
#undef DEFINE
