// Target variance rescaling (TVR) of stored weights: the moments of their values, and
// x = (x - mean) / std * target + mean, rounded once to the stored type, in place.
//
// x    `count` values as the checkpoint stores them, from a 16-byte boundary
// out  [chunks, 4] float64: mean, sum of squared deviations from it, smallest and largest value
//
// Everything is in float64 and, bit for bit, what src/backend/cpu/stored.rs computes: a block
// takes the moments of a chunk of 65,536 values, each of its threads every 16th value of a run of
// 2,048, in the order of the CPU's lanes; the partial sums join in the CPU's order too. Products are
// not contracted into fused multiply-adds. The host joins the chunks.
//
// moments reads its chunk three times, the second and third time from the cache; rescale
// moves 2 size(x) bytes. On cards with few units for float64 both are bound by these (some ten
// operations a value), else by memory.
#include "numeric.cuh"

constexpr int CHUNK = MOMENTS_CHUNK;
constexpr int LANES = 16;
constexpr int RUN = 128 * LANES;
constexpr int RUNS = CHUNK / RUN;
constexpr int THREADS = RUNS * LANES;
static_assert(THREADS == MOMENTS_THREADS);

// Shared memory of a block.
struct Partial {
    double lanes[THREADS];
    double runs[RUNS];
    float low[THREADS], high[THREADS];
};

// The sum of the threads' values, for every thread: lanes of a run in order, then runs in order.
__device__ __forceinline__ double chunk_sum(double value, Partial& partial) {
    partial.lanes[threadIdx.x] = value;
    __syncthreads();
    if (threadIdx.x < RUNS) {
        double total = 0.0;
        for (int lane = 0; lane < LANES; lane++) {
            total = __dadd_rn(total, partial.lanes[threadIdx.x * LANES + lane]);
        }
        partial.runs[threadIdx.x] = total;
    }
    __syncthreads();
    double total = 0.0;
    for (int run = 0; run < RUNS; run++) total = __dadd_rn(total, partial.runs[run]);
    // Before either array is written again.
    __syncthreads();
    return total;
}

template <class T>
__device__ __forceinline__ void moments(const T* x, double* out, unsigned long long count) {
    SHARED(Partial, partial, [1]);
    unsigned long long start = (unsigned long long)blockIdx.x * CHUNK;
    const T* values = x + start;
    int length = count - start < CHUNK ? int(count - start) : CHUNK;
    int run = threadIdx.x / LANES;
    int first = run * RUN + threadIdx.x % LANES;
    int end = min(length, (run + 1) * RUN);

    double sum = 0.0;
    float low = INFINITY, high = -INFINITY;
    for (int i = first; i < end; i += LANES) {
        float value = float(values[i]);
        sum = __dadd_rn(sum, double(value));
        low = value < low ? value : low;
        high = value > high ? value : high;
    }
    partial->low[threadIdx.x] = low;
    partial->high[threadIdx.x] = high;
    double about = chunk_sum(sum, *partial) / length;

    double rest = 0.0, squares = 0.0;
    for (int i = first; i < end; i += LANES) {
        double apart = __dadd_rn(double(float(values[i])), -about);
        rest = __dadd_rn(rest, apart);
        squares = __dadd_rn(squares, __dmul_rn(apart, apart));
    }
    rest = chunk_sum(rest, *partial);
    squares = chunk_sum(squares, *partial);

    if (threadIdx.x == 0) {
        for (int thread = 1; thread < THREADS; thread++) {
            low = partial->low[thread] < low ? partial->low[thread] : low;
            high = partial->high[thread] > high ? partial->high[thread] : high;
        }
        double corrected = __dadd_rn(squares, -(__dmul_rn(rest, rest) / length));
        double* mine = out + 4 * (size_t)blockIdx.x;
        mine[0] = __dadd_rn(about, rest / length);
        mine[1] = corrected > 0.0 ? corrected : 0.0;
        mine[2] = low;
        mine[3] = high;
    }
}

// A float64 as float32, rounded to odd: rounding that to 16 bits rounds once
// (Boldo and Melquiond, "When double rounding is odd", 2005).
__device__ __forceinline__ float to_odd(double value) {
    float nearest = __double2float_rn(value);
    double back = nearest;
    unsigned beyond = fabs(back) > fabs(value), inexact = back != value;
    return __uint_as_float((__float_as_uint(nearest) - beyond) | inexact);
}

// A float32 that becomes the nearest T.
template <class T>
__device__ __forceinline__ float once_rounded(double value) {
    return sizeof(T) == sizeof(float) ? __double2float_rn(value) : to_odd(value);
}

template <class T>
__device__ __forceinline__ void rescale(T* x, unsigned long long count, double mean, double std,
                                        double target) {
    auto rescaled = [&](float value) {
        double unit = __dadd_rn(double(value), -mean) / std;
        return once_rounded<T>(__dadd_rn(__dmul_rn(unit, target), mean));
    };
    constexpr int SIZE = Vector<T>::SIZE;
    unsigned long long whole = count / SIZE;
    for (unsigned long long v = global_thread(); v < whole; v += global_threads()) {
        Vector<T> vector = load_vector(x + v * SIZE);
#pragma unroll
        for (int i = 0; i < SIZE; i++) vector.set(i, rescaled(vector[i]));
        store_vector(x + v * SIZE, vector);
    }
    unsigned long long rest = whole * SIZE + global_thread();
    if (rest < count) x[rest] = T(rescaled(float(x[rest])));
}

// A float64 travels as its bits: kernels have no such parameters.
__device__ __forceinline__ double float64(unsigned long long bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#define DEFINE(T, suffix)                                                                   \
    KERNEL_BOUNDED(MOMENTS_THREADS)                                                           \
        moments_##suffix(const T* x, double* out, unsigned long long count) {           \
        moments(x, out, count);                                                             \
    }                                                                                       \
    REGISTER(moments_##suffix)                                                          \
    KERNEL rescale_##suffix(T* x, unsigned long long count, unsigned long long mean,    \
                                unsigned long long std, unsigned long long target) {        \
        rescale(x, count, float64(mean), float64(std), float64(target));                    \
    }                                                                                       \
    REGISTER(rescale_##suffix)
FOR_EACH_FLOAT(DEFINE)
#undef DEFINE
