// The kernels that look at attention's probabilities again; see the headers for what each does.
#include "attention/maps.cuh"
#include "attention/sink.cuh"
#include "attention/subset.cuh"

// The least number of blocks a multiprocessor should hold is given so that the compiler does not save
// registers for more of them by spilling a few.
#define DEFINE_CAPTURE(type, name)                                                         \
    KERNEL_BOUNDED(CAPTURE_THREADS, 2)                                           \
        attention_maps_##name(const __grid_constant__ AttentionMapArguments args) {        \
        attention_maps<type>(args);                                                        \
    }                                                                                      \
    REGISTER(attention_maps_##name)                                                        \
    KERNEL_BOUNDED(CAPTURE_THREADS, 3)                                           \
        attention_sink_##name(const __grid_constant__ AttentionSinkArguments args) {       \
        attention_sink<type>(args);                                                        \
    }                                                                                      \
    REGISTER(attention_sink_##name)                                                        \
    KERNEL_BOUNDED(CAPTURE_THREADS, 3)                                           \
        attention_subset_##name(const __grid_constant__ AttentionSubsetArguments args) {   \
        attention_subset<type>(args);                                                      \
    }                                                                                      \
    REGISTER(attention_subset_##name)

FOR_EACH_FLOAT(DEFINE_CAPTURE)
