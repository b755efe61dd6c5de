// The kernels that look at attention's probabilities again; see the headers for what each does.
#include "attention/maps.cuh"
#include "attention/sink.cuh"
#include "attention/subset.cuh"

// The least number of blocks a multiprocessor should hold is given so that the compiler does not save
// registers for more of them by spilling a few.
#define DEFINE_CAPTURE(type, name)                                                               \
    KERNEL __launch_bounds__(MAP_THREADS, 2)                                                     \
        attention_maps_##name(ATTENTION_PARAMETERS, int start, int length, float* probs_mean,    \
                              float* logits_mean, float* probs, float* logits) {                 \
        attention_maps<type>(                                                                    \
            {ATTENTION_ARGUMENTS, start, length, probs_mean, logits_mean, probs, logits});       \
    }                                                                                            \
    REGISTER(attention_maps_##name)                                                              \
    KERNEL __launch_bounds__(SINK_THREADS, 3)                                                    \
        attention_sink_##name(ATTENTION_PARAMETERS, float* mass, float* peak, float* extra_mass, \
                              float* extra_peak, int sequences) {                                \
        attention_sink<type>(                                                                    \
            {ATTENTION_ARGUMENTS, mass, peak, extra_mass, extra_peak, sequences});               \
    }                                                                                            \
    REGISTER(attention_sink_##name)                                                              \
    KERNEL __launch_bounds__(SUBSET_THREADS)                                                     \
        attention_subset_##name(ATTENTION_PARAMETERS, const int* keys, const int* offsets) {     \
        attention_subset<type>({ATTENTION_ARGUMENTS, keys, offsets});                            \
    }                                                                                            \
    REGISTER(attention_subset_##name)

FOR_EACH_FLOAT(DEFINE_CAPTURE)
