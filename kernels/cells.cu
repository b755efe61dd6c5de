// Single values of a tensor: the interventions of the experiments, and reading a few values.
//
// x         a tensor; indices count its elements. No index is written twice in one call.
// operands  what an element becomes or, where scaled, what it is multiplied by: zero, a value and
//           a mean are written, noise is a factor.
//
// Grid-stride over the list; a few bytes, bound by latency.
#include "numeric.cuh"

#define DEFINE(T, suffix)                                                                      \
    KERNEL overwrite_##suffix(T* x, const unsigned long long* indices, const float* operands,  \
                              const unsigned char* scaled, int count) {                        \
        for (unsigned long long i = global_thread(); i < count; i += global_threads()) {       \
            T* value = x + indices[i];                                                         \
            *value = T(scaled[i] ? float(*value) * operands[i] : operands[i]);                 \
        }                                                                                      \
    }                                                                                          \
    REGISTER(overwrite_##suffix)                                                               \
    KERNEL values_at_##suffix(const T* x, const unsigned long long* indices, float* values,    \
                              int count) {                                                     \
        for (unsigned long long i = global_thread(); i < count; i += global_threads()) {       \
            values[i] = float(x[indices[i]]);                                                  \
        }                                                                                      \
    }                                                                                          \
    REGISTER(values_at_##suffix)
FOR_EACH_FLOAT(DEFINE)
#undef DEFINE
