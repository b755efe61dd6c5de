// Negative log-likelihood of the next token, fused with scale and soft cap, a piece of the
// vocabulary at a time: a running log-sum-exp for every row, and the target's logit.
//
// logits   float32 [rows, columns]: the vocabulary's entries first..first + columns
// targets  [rows]: the token whose likelihood counts; negative: none, and the row is skipped
// state    float32 [rows, 3]: largest logit, sum of exp(logit - largest), the target's logit; the
//          first piece (`first` = 0) initialises it. NLL = largest + log(sum) - target.
//
// A block of 256 threads per row. Each thread keeps a running maximum and sum of its own, so the
// logits are read once: moves rows * columns * 4 bytes; bound by memory, or by issue where that is fast
// (31 instructions a logit: docs/cuda-bounds.md).
#include "activation.cuh"
#include "device.cuh"

struct LogSumExp {
    float largest, sum;

    __device__ __forceinline__ void add(LogSumExp other) {
        float joint = fmaxf(largest, other.largest);
        // Nothing seen on either side: the difference of infinities would be NaN.
        if (joint == -INFINITY) return;
        sum = sum * expf(largest - joint) + other.sum * expf(other.largest - joint);
        largest = joint;
    }
};

KERNEL_BOUNDED(TOKEN_NLL_THREADS) token_nll(const float* logits, const int* targets, float* state,
                                        int rows, int columns, int first, float scale, float cap) {
    SHARED(LogSumExp, parts, [TOKEN_NLL_THREADS / 32]);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int row = blockIdx.x; row < rows; row += gridDim.x) {
        int target = targets[row] - first;
        if (targets[row] < 0) continue;  // the same for all threads of the block
        const float* values = logits + (size_t)row * columns;
        LogSumExp own = {-INFINITY, 0.0f};
        for (int column = threadIdx.x; column < columns; column += blockDim.x) {
            float logit = values[column] * scale;
            if (cap > 0.0f) logit = soft_cap(logit, cap);
            if (column == target) state[3 * row + 2] = logit;
            // NaN must survive: it compares false with everything.
            if (logit <= own.largest) {
                own.sum += expf(logit - own.largest);
            } else {
                own.sum = own.sum * expf(own.largest - logit) + 1.0f;
                own.largest = logit;
            }
        }
        for (int distance = 16; distance > 0; distance /= 2) {
            LogSumExp other = {__shfl_xor_sync(FULL_WARP, own.largest, distance),
                               __shfl_xor_sync(FULL_WARP, own.sum, distance)};
            own.add(other);
        }
        if (lane == 0) parts[warp] = own;
        __syncthreads();
        if (threadIdx.x == 0) {
            for (int other = 1; other < (int)blockDim.x / 32; other++) own.add(parts[other]);
            if (first > 0) own.add({state[3 * row], state[3 * row + 1]});
            state[3 * row] = own.largest;
            state[3 * row + 1] = own.sum;
        }
        __syncthreads();
    }
}
REGISTER(token_nll)
