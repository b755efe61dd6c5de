// Mamba's selective scan (Gu and Dao 2023, arXiv 2312.00752): of each sequence and channel, from S = 0,
// S [state]:
//
//   dt = softplus(dt + dt_bias);  S = exp(-exp(a_log) dt) S + dt x b;  y = S . c + d x
//
// x, dt, out  [rows, inner]; dt as the projection made it
// b, c        [rows, state]
// a_log       float32 [inner, state]; dt_bias, d  float32 [inner]
// sequences   a tile for each, the longest first, so that the last blocks are short
//
// LANES lanes share a channel, SCAN_NUMBERS numbers of its state each, in registers; warps read x and dt of
// neighbouring channels, the next tile's before this one's tokens are at work. b and c, which all channels
// need, come in tiles through shared memory. Grid: (blocks of channels, sequences), token after token.
//
// A token of a channel: 5 state FLOP and `state` exponentials, each an instruction of its own; bound by issue
// where a scheduler has two warps or more (16,384 channels of 16 numbers, all sequences together, on 132
// multiprocessors), else by the latency of a token. Memory carries x, dt and out once.
#include "activation.cuh"
#include "attention/arguments.cuh"
#include "numeric.cuh"

template <class T, int LANES>
__device__ __forceinline__ void selective_scan(const T* x, const T* dt, const T* b, const T* c,
                                               const float* a_log, const float* dt_bias,
                                               const float* d, T* out, const AttentionTile* sequences,
                                               int inner, int state) {
    constexpr int WIDTH = LANES * SCAN_NUMBERS, TOKENS = 8;
    constexpr int SHARE = (TOKENS * WIDTH + SCAN_THREADS - 1) / SCAN_THREADS;
    SHARED(float, inputs, [TOKENS][WIDTH]);
    SHARED(float, outputs, [TOKENS][WIDTH]);
    const size_t start = sequences[blockIdx.y].start;
    const int length = sequences[blockIdx.y].length;
    b += start * state, c += start * state;

    const int own = threadIdx.x % LANES * SCAN_NUMBERS;
    const int channel = (int)(global_thread() / LANES);
    const bool exists = channel < inner;
    const size_t place = start * inner + (exists ? channel : 0);
    x += place, dt += place, out += place;

    // exp(-exp(a_log) dt) = 2^(rate dt)
    float rates[SCAN_NUMBERS], kept[SCAN_NUMBERS];
#pragma unroll
    for (int i = 0; i < SCAN_NUMBERS; i++) {
        const bool has = exists && own + i < state;
        const float log = has ? a_log[(size_t)channel * state + own + i] : 0.0f;
        rates[i] = has ? -1.44269504f * expf(log) : 0.0f;
        kept[i] = 0.0f;
    }
    const float bias = exists ? dt_bias[channel] : 0.0f, factor = exists ? d[channel] : 0.0f;

    T next_x[TOKENS], next_dt[TOKENS], next_b[SHARE], next_c[SHARE];
    const auto read = [&](int first) {
#pragma unroll
        for (int i = 0; i < TOKENS; i++) {
            const bool there = exists && first + i < length;
            const size_t row = (size_t)(first + i) * inner;
            next_x[i] = there ? x[row] : T(0.0f);
            next_dt[i] = there ? dt[row] : T(0.0f);
        }
#pragma unroll
        for (int i = 0; i < SHARE; i++) {
            const int index = threadIdx.x + i * SCAN_THREADS;
            const int token = first + index / WIDTH, number = index % WIDTH;
            const bool there = index < TOKENS * WIDTH && token < length && number < state;
            const size_t row = (size_t)token * state + number;
            next_b[i] = there ? b[row] : T(0.0f);
            next_c[i] = there ? c[row] : T(0.0f);
        }
    };
    read(0);
    for (int first = 0; first < length; first += TOKENS) {
        float values[TOKENS], steps[TOKENS];
#pragma unroll
        for (int i = 0; i < TOKENS; i++) {
            values[i] = float(next_x[i]);
            steps[i] = softplus(float(next_dt[i]) + bias);
        }
#pragma unroll
        for (int i = 0; i < SHARE; i++) {
            const int index = threadIdx.x + i * SCAN_THREADS;
            if (index < TOKENS * WIDTH) {
                inputs[index / WIDTH][index % WIDTH] = float(next_b[i]);
                outputs[index / WIDTH][index % WIDTH] = float(next_c[i]);
            }
        }
        __syncthreads();
        read(first + TOKENS);
#pragma unroll
        for (int token = 0; token < TOKENS; token++) {
            if (first + token >= length) break;
            const float step = steps[token], input = step * values[token];
            float sum = 0.0f;
#pragma unroll
            for (int i = 0; i < SCAN_NUMBERS; i += 4) {
                const float4 in = four(&inputs[token][own + i]);
                const float4 to = four(&outputs[token][own + i]);
                const float ins[4] = {in.x, in.y, in.z, in.w}, tos[4] = {to.x, to.y, to.z, to.w};
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const float decay = exp2_approximate(rates[i + j] * step);
                    kept[i + j] = decay * kept[i + j] + input * ins[j];
                    sum += kept[i + j] * tos[j];
                }
            }
#pragma unroll
            for (int distance = LANES / 2; distance > 0; distance /= 2) {
                sum += __shfl_xor_sync(FULL_WARP, sum, distance);
            }
            if (exists && own == 0) {
                out[(size_t)(first + token) * inner] = T(sum + factor * values[token]);
            }
        }
        __syncthreads();  // before the next tile takes this one's place
    }
}

#define DEFINE_LANES(T, suffix, lanes, width)                                                      \
    KERNEL_BOUNDED(SCAN_THREADS, 1)                                                                 \
    selective_scan_##width##_##suffix(const T* x, const T* dt, const T* b, const T* c,             \
                                      const float* a_log, const float* dt_bias, const float* d,    \
                                      T* out, const AttentionTile* sequences, int inner, int state) {        \
        static_assert(lanes * SCAN_NUMBERS == width);                                              \
        selective_scan<T, lanes>(x, dt, b, c, a_log, dt_bias, d, out, sequences, inner, state);    \
    }                                                                                              \
    REGISTER(selective_scan_##width##_##suffix)
#define DEFINE(T, suffix)              \
    DEFINE_LANES(T, suffix, 2, 16)     \
    DEFINE_LANES(T, suffix, 8, 64)
FOR_EACH_FLOAT(DEFINE)
#undef DEFINE
#undef DEFINE_LANES
