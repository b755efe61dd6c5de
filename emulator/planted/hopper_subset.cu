// The parts of the output that some keys give and the others, on Hopper, with one mistake each: the kernel's own
// source, with a part that does something else in the kernel of that name. What it shares with the forward pass is in
// hopper_attention.cu.
#include "attention/hopper_subset.cuh"

// Whether this is the kernel that makes the mistake.
static bool makes(const char* mistake) {
    return strcmp(emulator::engine().kernel + strlen("subset_"), mistake) == 0;
}

struct PlantedPart : PartOfOutput {
    template <int N>
    void hide(float (&scores)[N][4], int first_row) const {
        if (makes("hides_nothing")) return;
        PartOfOutput::hide(scores, first_row + makes("hides_the_next_keys"));
    }
    template <int I>
    float finish(RunningSoftmax<1, I>& softmax, int half, bool stored, size_t place) const {
        if (makes("divides_by_its_own_weights")) return softmax.finish(0, half);
        return PartOfOutput::finish(softmax, half, stored, place);
    }
};

#define PLANTED(mistake)                                                                \
    KERNEL_BOUNDED(HOPPER_THREADS)                                                      \
        subset_##mistake(const __grid_constant__ AttentionSubsetHopperArguments args) { \
        attend_on_hopper<__nv_bfloat16, 64, 64, 128, 4>(                                \
            args.attention, PlantedPart{args.listed, args.others, args.log_sums});      \
    }                                                                                   \
    REGISTER(subset_##mistake)
PLANTED(faultless)
PLANTED(hides_nothing)
PLANTED(hides_the_next_keys)
PLANTED(divides_by_its_own_weights)
