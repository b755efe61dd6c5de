// Causal convolution over the tokens of a sequence, each channel with its own few taps.
//
// x, out  [rows, columns], one sequence
// weight  float32 [columns, width], the last tap at the token itself
// bias    float32 [columns] or null
// out[t, c] = activation(bias[c] + sum_j weight[c, j] x[t - width + 1 + j, c]), x being 0 before row 0;
// `activation` is one of ACTIVATION_*, or -1 for none.
//
// Grid-stride, a thread a value; neighbours are channels of a token, so that loads are coalesced. Moves
// size(x) + size(out) bytes, the other taps' rows and the weights from cache; 2 width FLOPs a value; bound by
// memory.
#include "activation.cuh"
#include "numeric.cuh"

template <class T>
__device__ __forceinline__ void convolve(const T* x, T* out, const float* weight, const float* bias,
                                         int rows, int columns, int width, int activation,
                                         float parameter) {
    unsigned long long count = (unsigned long long)rows * columns;
    for (unsigned long long index = global_thread(); index < count; index += global_threads()) {
        int row = (int)(index / columns), column = (int)(index % columns);
        float sum = bias ? bias[column] : 0.0f;
        for (int before = min(width - 1, row); before >= 0; before--) {
            sum += weight[(size_t)column * width + width - 1 - before] *
                   float(x[index - (size_t)before * columns]);
        }
        out[index] = T(activation < 0 ? sum : activate(sum, activation, parameter));
    }
}

#define DEFINE(T, suffix)                                                                     \
    KERNEL convolve_##suffix(const T* x, T* out, const float* weight, const float* bias,      \
                             int rows, int columns, int width, int activation,                \
                             float parameter) {                                               \
        convolve(x, out, weight, bias, rows, columns, width, activation, parameter);          \
    }                                                                                         \
    REGISTER(convolve_##suffix)
FOR_EACH_FLOAT(DEFINE)
#undef DEFINE
